"""Read mutants of one kind of body in a process of its own, and print the outcomes as JSON.

PYTHONPATH=tests python -m fuzz.mutants json --count 10000 --seed 1
PYTHONPATH=tests python -m fuzz.mutants --replay FILE
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

from fuzz.corpus import Sample, corpus
from fuzz.mutate import mutate
from fuzz.reading import outcome
from fuzz.witness import confirm
from lossd.types import RequestError
from wire.feeding import split_at

IN_PROCESS: Final = tuple(kind for kind in corpus() if kind != "large")
"""The kinds that are read here. A large document is no different from others here."""
MOST_SECONDS: Final = 1.0
MOST_BYTES: Final = 32 << 20
MOST_QUERY_BYTES: Final = 16 << 10  # percent-encoding makes up to three bytes of one


@dataclass(frozen=True, slots=True)
class Report:
    """The outcomes of mutants.

    Attributes:
        mutants: Their number.
        outcomes: The number of each code, or of ``ok``.
        slowest: The seconds of the slowest.
        grown: The growth of memory beyond that of valid bodies, in bytes.
    """

    mutants: int
    outcomes: Mapping[str, int]
    slowest: float
    grown: int

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {code}" for code, count in self.outcomes.items())
        figures = f"slowest {1000 * self.slowest:.1f} ms, memory {self.grown / (1 << 20):+.1f} MiB"
        return f"{self.mutants} mutants, {figures}: {outcomes}"


def mutant(kind: str, seed: int, number: int) -> Sample:
    """Return a mutant, always the same for the same arguments."""
    random = Random(f"{seed}/{kind}/{number}")
    samples = corpus()[kind]
    sample, other = random.choice(samples), random.choice(samples)
    if kind == "query":
        return replace(sample, query=mutate(sample.query, other.query, random)[:MOST_QUERY_BYTES])
    body = mutate(sample.body, other.body, random)
    header_length = sample.header_length
    if header_length is not None:
        # The length may keep its value, follow the edit, or be wrong.
        moved = header_length + len(body) - len(sample.body)
        header_length = max(
            0, random.choice((header_length, moved, moved, random.choice((0, moved + 1, 1 << 40))))
        )
    return replace(sample, body=body, header_length=header_length)


def save(sample: Sample, file: Path) -> None:
    """Save a mutant: a line of JSON, and its body."""
    said = {**asdict(sample), "body": len(sample.body), "query": sample.query.decode("latin-1")}
    file.write_bytes(json.dumps(said).encode() + b"\n" + sample.body)


def load(file: Path) -> Sample:
    """Load a mutant that was saved."""
    line, _, body = file.read_bytes().partition(b"\n")
    said = json.loads(line)
    return Sample(**{**said, "body": body, "query": said["query"].encode("latin-1")})


def run(kind: str, count: int, seed: int, progress: Path) -> Report:
    """Read mutants, each whole and in chunks.

    Args:
        kind: A kind of the corpus.
        count: The number of mutants.
        seed: The seed of the mutants.
        progress: The file for the current mutant's number, in case it ends the process.

    Raises:
        AssertionError: One of them breaks a promise.
    """
    for sample in corpus()[kind]:
        for chunks in ([sample.body], split_at(sample.body, range(0, len(sample.body), 7))):
            assert not isinstance(outcome(sample, chunks), RequestError)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak to the current memory
    before = held("VmRSS")
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    with progress.open("wb", buffering=0) as file:
        for number in range(count):
            file.seek(0)
            file.write(b"%20d" % number)
            made = mutant(kind, seed, number)
            random = Random(number)
            cuts = [random.randrange(len(made.body) + 1) for _ in range(random.randrange(1, 5))]
            began = time.perf_counter()
            whole = outcome(made, [made.body])
            slowest = max(slowest, time.perf_counter() - began)
            assert slowest < MOST_SECONDS, f"took {slowest:.2f} s"
            confirm(made, whole, cuts)
            outcomes[whole.code if isinstance(whole, RequestError) else "ok"] += 1
    grown = held("VmHWM") - before
    assert grown < MOST_BYTES, f"memory grew by {grown} bytes"
    return Report(count, dict(outcomes.most_common()), slowest, grown)


def held(name: str, pid: int | str = "self") -> int:
    """Return a figure of a process's memory in /proc/<pid>/status, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.mutants")
    parser.add_argument("kind", nargs="?", choices=IN_PROCESS)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--progress", type=Path, default=os.devnull, help="where the number of each is written"
    )
    parser.add_argument("--replay", type=Path, help="read a mutant that was kept")
    given = parser.parse_args()
    if given.replay is not None:
        sample = load(given.replay)
        sys.stdout.write(f"{outcome(sample, [sample.body])!r}\n")
        return
    report = run(given.kind, given.count, given.seed, given.progress)
    sys.stdout.write(json.dumps(asdict(report)) + "\n")


if __name__ == "__main__":
    main()
