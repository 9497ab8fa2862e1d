"""Each coverage-guided harness, for some runs. `python -m fuzz.harness` runs one for longer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris is not installed")

KINDS = ("json", "npy", "npz", "multipart", "arrow", "v2", "gzip", "deflate", "zstd", "query")
RUNS = 2000
# A program counts as its own the most memory of the process that started it, here that of many tests, which
# libFuzzer's limit does not allow. A shell that starts it has next to none.
FRESH = ("sh", "-c", '"$@"; exit $?', "sh")

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def harnesses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Done]]]:
    """Run each harness, as many at a time as there are processors."""
    folder = tmp_path_factory.mktemp("fuzz")

    def fuzz(kind: str) -> Done:
        command = [sys.executable, "-m", "fuzz.harness", kind, "--folder", str(folder)]
        return subprocess.run(
            [*FRESH, *command, "-seed=1", f"-runs={RUNS}"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=100,
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {kind: pool.submit(fuzz, kind) for kind in KINDS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_harness_finds_nothing(kind: str, harnesses: Mapping[str, Future[Done]]) -> None:
    done = harnesses[kind].result()
    assert done.returncode == 0, done.stderr[-3000:]
    reached = [int(found[1]) for found in re.finditer(r" cov: (\d+) ", done.stderr)]
    assert reached[0] > 50  # by the corpus
    assert reached[-1] > reached[0]  # by its mutants


def test_every_kind_has_a_harness() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "fuzz.harness", "--help"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "{" + ",".join(KINDS) + "}" in listed.stdout
