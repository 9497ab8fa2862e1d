"""An evaluation script outlasts a killed worker and a restarted server, and prints the right mean."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pytest
from mpmath import mp, mpf  # type: ignore[import-untyped]

import reference
from faults.asked import scaled
from faults.observe import total, wait_until, workers
from live_server import LiveServer, live_server
from lossd_client.local import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
BYTES: Final = scaled(256_000_000, 2_000_000_000)
"""Of both files together."""
ELEMENTS: Final = BYTES // 8
DISTINCT: Final = 4096
KILLED_AT, STOPPED_AT = scaled((0.05, 0.25), (0.3, 0.6))
MOST_BYTES: Final = 300_000_000
BLOCK: Final = 1 << 20

SCRIPT: Final = """
import runpy, sys
sys.modules["torch"] = None  # whoever imports it fails
runpy.run_module("examples.evaluate", run_name="__main__", alter_sys=True)
status = dict(line.split(":") for line in open("/proc/self/status"))
print(int(status["VmHWM"].removesuffix("kB\\n")) << 10)
"""


def write_pair(folder: Path) -> mpf:
    """Write logits and targets drawn from distinct pairs; their mean loss, weighed by their counts."""
    random = np.random.default_rng(7)
    logits = random.normal(0, 12, DISTINCT).astype(np.float32)
    logits[:8] = [0, -0.0, 1e-30, -1e-30, 88, -104, 3e4, -3e4]
    targets = np.where(random.random(DISTINCT) < 0.5, random.random(DISTINCT), random.random(DISTINCT) < 0.1)
    targets = targets.astype(np.float32)
    counts = np.zeros(DISTINCT, dtype=np.int64)
    files = [
        np.lib.format.open_memmap(folder / name, mode="w+", dtype=np.float32, shape=(ELEMENTS,))
        for name in ("logits.npy", "targets.npy")
    ]
    for start in range(0, ELEMENTS, BLOCK):
        drawn = random.integers(0, DISTINCT, min(BLOCK, ELEMENTS - start))
        counts += np.bincount(drawn, minlength=DISTINCT)
        for file, values in zip(files, (logits, targets), strict=True):
            file[start : start + len(drawn)] = values[drawn]
    with mp.workdps(60):
        losses = [reference.bce(float(x), float(y)) for x, y in zip(logits, targets, strict=True)]
        return mp.fsum(loss * int(count) for loss, count in zip(losses, counts, strict=True)) / ELEMENTS


class Evaluation:
    """The script, on a terminal of its own for its bar, while a ``with`` block lasts.

    Attributes:
        rows: How many its bar says are done.
        total: Of how many.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.rows = self.total = 0
        self._terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder / "logits.npy"), str(folder / "targets.npy")],
            cwd=ROOT,
            env={**os.environ, "LOSSD_BASE_URL": url, "TERM": "xterm", "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        )
        os.close(theirs)
        self._shown = b""
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._thread.join()
        os.close(self._terminal)

    def finish(self, seconds: float) -> list[str]:
        """The lines that it printed."""
        out, _ = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, self._shown.decode(errors="replace")[-2000:]
        return out.splitlines()

    def _watch(self) -> None:
        while True:
            try:
                self._shown = self._shown[-4000:] + os.read(self._terminal, 4096)
            except OSError:  # how a terminal says that nobody writes to it any more
                return
            for rows, rows_in_all in re.findall(rb"(\d+)/(\d+)", self._shown)[-1:]:
                self.rows, self.total = int(rows), int(rows_in_all)


def done(server: LiveServer) -> float:
    """The share of the elements that the server has scored."""
    return total(server, "lossd_elements_total") / ELEMENTS


@pytest.mark.timeout(scaled(240, 1800))
def test_an_evaluation_outlasts_a_killed_worker_and_a_restarted_server(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    truth, port = write_pair(tmp_path), free_port()
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with live_server(first, port=port) as server, Evaluation(tmp_path, server.url) as script:
        wait_until(lambda: done(server) > KILLED_AT, scaled(60, 600), "it did not come so far")
        pid = workers(server)[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: done(server) > STOPPED_AT, scaled(60, 600), "it did not go on")
        assert server.stop() == 0
        assert script.process.poll() is None
        shown = script.rows, script.total
        with live_server(second, port=port):
            mean, peak = script.finish(scaled(120, 900))
    say(
        f"{BYTES / 1e9:g} GB, the worker killed after {KILLED_AT:.0%}, the server restarted after "
        f"{shown[0] / ELEMENTS:.0%}: {mean}, off by {float(abs(mpf(float(mean)) / truth - 1)):.1e}; "
        f"{int(peak) / 1e6:.0f} MB at most"
    )
    assert 0 < shown[0] < shown[1] == ELEMENTS
    assert np.float32(float(mean)) == np.float32(float(truth))
    assert float(mean) == pytest.approx(float(truth), rel=1e-14)
    assert int(peak) < MOST_BYTES
