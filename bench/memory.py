"""Memory and CPU time of processes, from Linux's /proc."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def find(pid: int, module: str) -> int:
    """Return the descendant of a process that runs a module."""
    (found,) = [one for one in family(pid) if module in Path(f"/proc/{one}/cmdline").read_text().split("\0")]
    return found


def cpu_seconds(*pids: int) -> float:
    """Return the CPU seconds of processes so far: utime and stime of proc(5)."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def pss(pid: int, part: str = "Pss") -> int:
    """Return the memory of a process in bytes, with its share of shared memory; 0 if it has ended.

    Args:
        pid: The process.
        part: ``Pss_Anon``, private memory; ``Pss_File``, mapped files; ``Pss_Shmem``, the arena; or ``Pss``,
            all of them.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(f"{part}:"))


def own(pid: int) -> int:
    """Return the memory of a process without the arena, in bytes."""
    return pss(pid) - pss(pid, "Pss_Shmem")


class Peak:
    """Peak memory of a process and its descendants during a ``with`` block.

    Args:
        pid: The process.
        interval: Seconds between two measurements.
    """

    def __init__(self, pid: int, interval: float = 0.05) -> None:
        self._pids = family(pid)
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self._look()
        self.most = self.before

    @property
    def growth(self) -> int:
        """The peak beyond the memory held before."""
        return self.most - self.before

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.most = max(self.most, self._look())

    def _look(self) -> int:
        return sum(map(pss, self._pids))

    def _watch(self) -> None:
        while not self._ended.is_set():
            self.most = max(self.most, self._look())
            time.sleep(self._interval)
