"""Coverage-guided fuzzing of one reader, from the corpus on. libFuzzer's options may follow (`-help=1`).

    PYTHONPATH=tests python -m fuzz.harness arrow -max_total_time=60
    PYTHONPATH=tests python -m fuzz.harness arrow build/fuzz/arrow/crash-...

Inputs that reach new code are kept in the folder, where the next run goes on; so are those that fail.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import struct
import sys
from pathlib import Path
from typing import Final

import atheris  # type: ignore[import-untyped, unused-ignore]

with atheris.instrument_imports(include=["lossd.wire"]):
    from fuzz.corpus import CODINGS, Sample, corpus, query
    from fuzz.mutants import MOST_BYTES
    from fuzz.reading import outcome
    from fuzz.witness import confirm
    from lossd.wire import parse_query

FORMATS: Final = {
    **{kind: kind for kind in ("json", "npy", "npz", "multipart", "arrow", "v2")},
    **dict.fromkeys(CODINGS, "json"),
    "query": "json",
}
"""The kinds of inputs, and the format of their bodies."""

# Instrumented code is slow and leaks memory, so the limits are wide. `check` measures each input's memory.
OPTIONS: Final = ("-timeout=5", "-rss_limit_mb=2048")

# Before the body: the length of the chunks, the number of tensors named, the length of the JSON object.
_HEAD: Final = struct.Struct("<BBH")
_NAMES: Final = ("logits", "targets", "weight", "pos_weight", "mask", "probabilities")
_NO_LENGTH: Final = 0xFFFF


def seeds(kind: str) -> list[bytes]:
    """Return the corpus as inputs."""
    if kind == "query":
        return [bytes(_HEAD.size) + sample.query for sample in corpus()["query"]]
    samples = [*corpus()[kind], *corpus()["v2-binary"]] if kind == "v2" else corpus()[kind]
    return [_pack(sample) for sample in samples if sample.format == FORMATS[kind]]


def _pack(sample: Sample) -> bytes:
    names = parse_query(sample.query).get("tensors", [])
    assert isinstance(names, list)
    length = _NO_LENGTH if sample.header_length is None else sample.header_length
    return _HEAD.pack(0, len(names), length) + sample.body


def check(kind: str, data: bytes) -> None:
    """Read one input in every way.

    Raises:
        Exception: A promise is broken.
    """
    step, count, length = _HEAD.unpack(data[: _HEAD.size].ljust(_HEAD.size))
    body = data[_HEAD.size :]
    names = query({"tensors": ",".join(_NAMES[:count])}) if count else b""
    sample = Sample(
        kind,
        FORMATS[kind],
        b"{}" if kind == "query" else body,
        query=body if kind == "query" else names,
        coding=kind if kind in CODINGS else None,
        header_length=None if kind != "v2" or length == _NO_LENGTH else length,
    )
    before = _peak()
    confirm(sample, outcome(sample, [sample.body]), range(step, len(body), step) if step else ())
    grown = _peak() - before
    assert grown < MOST_BYTES, f"memory grew by {grown} bytes"


def _peak() -> int:
    """Return the peak memory of this process, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.harness", description=__doc__)
    parser.add_argument("kind", choices=FORMATS)
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="where inputs are kept")
    given, options = parser.parse_known_args()
    folder = given.folder / given.kind
    found = folder / "corpus"
    found.mkdir(parents=True, exist_ok=True)
    for seed in seeds(given.kind):
        (found / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    places = [] if any(not option.startswith("-") for option in options) else [str(found)]
    arguments = [sys.argv[0], f"-artifact_prefix={folder}/", *OPTIONS, *options, *places]
    atheris.Setup(arguments, lambda data: check(given.kind, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
