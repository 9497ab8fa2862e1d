"""10,000 mutants of each kind of body are read or refused: quickly, in little memory, the same however cut.

`LOSSD_FUZZ_MUTANTS` is the number of each kind that is sent to a server, and to the readers if it is over
10,000. `LOSSD_FUZZ_SEED` is their seed. The figures are shown at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import quote

import httpx
import pytest

from fuzz.corpus import Sample, corpus
from fuzz.mutants import IN_PROCESS, MOST_BYTES, MOST_SECONDS, Report, held, load, mutant, save
from fuzz.mutate import mutate
from fuzz.reading import MEDIA
from live_server import LiveServer
from lossd.api.problems import KINDS
from wire.feeding import BOUNDARY, split_at

SENT: Final = int(os.environ.get("LOSSD_FUZZ_MUTANTS", "150"))
READ: Final = max(10_000, SENT)
SEED: Final = int(os.environ.get("LOSSD_FUZZ_SEED", "1"))
SECONDS: Final = 60 + max(READ / 50, SENT / 10)
AT_ONCE: Final = 4

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory"),
    pytest.mark.timeout(SECONDS + 10),
]


def kept(sample: Sample, folder: Path) -> str:
    """Save a mutant, and return the command that reads it again."""
    file = folder / "mutant"
    save(sample, file)
    return f"LOSSD_FUZZ_SEED={SEED}; PYTHONPATH=tests python -m fuzz.mutants --replay {file}"


def test_the_same_seed_gives_the_same_mutants() -> None:
    body, other = bytes(range(256)), b"other" * 50
    made = [mutate(body, other, Random(seed)) for seed in range(300)]
    assert made == [mutate(body, other, Random(seed)) for seed in range(300)]
    assert len(set(made)) > 250
    assert mutate(b"", other, Random(1)) == b""


def test_a_mutant_that_was_kept_is_the_same(tmp_path: Path) -> None:
    for kind in corpus():
        made = mutant(kind, SEED, 1)
        save(made, tmp_path / kind)
        assert load(tmp_path / kind) == made


Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, tuple[Future[Done], Path]]]:
    """Run a process for each kind that reads its mutants, as many at a time as there are processors."""

    def read(kind: str, progress: Path) -> Done:
        command = [sys.executable, "-m", "fuzz.mutants", kind, f"--count={READ}", f"--seed={SEED}"]
        return subprocess.run(
            [*command, f"--progress={progress}"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    folder = tmp_path_factory.mktemp("progress")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {kind: (pool.submit(read, kind, folder / kind), folder / kind) for kind in IN_PROCESS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("kind", IN_PROCESS)
def test_mutants_are_read_or_refused(
    kind: str, readings: Mapping[str, tuple[Future[Done], Path]], tmp_path: Path, say: Callable[[str], None]
) -> None:
    running, progress = readings[kind]
    try:
        done = running.result()
    except subprocess.TimeoutExpired as error:
        error.add_note(kept(mutant(kind, SEED, int(progress.read_text())), tmp_path))
        raise
    if done.returncode:
        last = kept(mutant(kind, SEED, int(progress.read_text())), tmp_path)
        pytest.fail(f"{last}\nended with {done.returncode}: {done.stderr[-3000:]}")
    report = Report(**json.loads(done.stdout))
    assert sum(report.outcomes.values()) == report.mutants == READ
    assert report.outcomes["ok"] > 0
    say(f"{kind}, read: {report}")


class Sending:
    """Sender of bodies to a server, which checks the answers.

    Attributes:
        outcomes: The number of each code, or of ``ok``; of each status where there are no codes.
        slowest: The seconds of the slowest.
        memory: The peak of the server's memory, in bytes.
    """

    def __init__(self, server: LiveServer, folder: Path) -> None:
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self.memory = 0
        self._server = server
        self._folder = folder

    async def send(self, samples: Iterable[Sample]) -> None:
        """Send bodies, some at once and some in chunks."""
        waiting = enumerate(samples)
        async with (
            httpx.AsyncClient(base_url=self._server.url, timeout=30) as client,
            asyncio.TaskGroup() as tasks,
        ):

            async def send_some() -> None:
                for number, sample in waiting:
                    try:
                        self.outcomes[await self._send(client, sample, in_chunks=number % 4 == 0)] += 1
                    except Exception as error:
                        error.add_note(kept(sample, self._folder))
                        raise
                    if number % 50 == 0:
                        self.memory = max(self.memory, memory(self._server))

            for _ in range(AT_ONCE):
                tasks.create_task(send_some())

    async def _send(self, client: httpx.AsyncClient, sample: Sample, *, in_chunks: bool) -> str:
        for attempt in range(2):  # a second one in case the machine was busy
            began = time.perf_counter()
            body = _chunks(sample.body) if in_chunks else sample.body
            answer = await client.post(_target(sample), headers=_headers(sample), content=body)
            seconds = time.perf_counter() - began
            if seconds < MOST_SECONDS:
                break
            assert attempt == 0, f"took {seconds:.2f} s"
        self.slowest = max(self.slowest, seconds)
        return _check(sample, answer)


def _check(sample: Sample, answer: httpx.Response) -> str:
    """Check that an answer is a loss or an error of the request."""
    said = answer.json() if "json" in answer.headers["content-type"] else {}
    if answer.status_code == 200:
        return "ok"
    assert 400 <= answer.status_code < 500, answer.text
    if sample.format == "v2":
        assert isinstance(said["error"], str)
        return str(answer.status_code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert KINDS[said["code"]].status == answer.status_code
    return str(said["code"])


def _target(sample: Sample) -> str:
    if sample.format == "v2":
        return f"/v2/models/{sample.loss}/infer"
    return f"/{sample.loss}?{quote(sample.query, safe='=&,+%')}"


def _headers(sample: Sample) -> dict[str, str]:
    headers = {"content-type": MEDIA.get(sample.format, "application/octet-stream")}
    if sample.format == "multipart":
        headers["content-type"] += f"; boundary={BOUNDARY}"
    if sample.coding is not None:
        headers["content-encoding"] = sample.coding
    if sample.header_length is not None:
        headers["inference-header-content-length"] = str(sample.header_length)
    return headers


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for chunk in split_at(body, (len(body) // 3, len(body) // 2)):
        yield chunk


def memory(server: LiveServer) -> int:
    """Return the private memory of a server's processes, in bytes."""
    return sum(held("RssAnon", pid) for pid in _family(server.process.pid))


def _family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def figure(server: LiveServer, name: str) -> float:
    """Return one of the server's metrics."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


@pytest.fixture(scope="module")
def warm(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[LiveServer, int]:
    """Return a server that has seen every kind of mutant, and its memory then."""
    folder = tmp_path_factory.mktemp("warm")
    for kind, samples in corpus().items():
        good = Sending(server, folder)
        asyncio.run(good.send(samples))
        assert good.outcomes == ({"ok": len(samples)}), kind
        asyncio.run(Sending(server, folder).send(mutant(kind, SEED + 1, number) for number in range(50)))
    return server, memory(server)


@pytest.mark.parametrize("kind", corpus())
def test_a_server_answers_mutants(
    kind: str, warm: tuple[LiveServer, int], tmp_path: Path, say: Callable[[str], None]
) -> None:
    server, before = warm
    sending = Sending(server, tmp_path)
    asyncio.run(sending.send(mutant(kind, SEED, number) for number in range(SENT)))
    grown = max(sending.memory, memory(server)) - before
    assert sending.outcomes.total() == SENT
    assert grown < MOST_BYTES
    ends = time.monotonic() + 5
    while figure(server, "lossd_bytes_in_flight"):
        assert time.monotonic() < ends, "memory is still held for bodies that have been answered"
    say(f"{kind}, sent: {Report(SENT, dict(sending.outcomes.most_common()), sending.slowest, grown)}")
