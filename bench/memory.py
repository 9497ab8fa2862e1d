"""What processes hold in memory and use of the CPU, by Linux's account."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def find(pid: int, module: str) -> int:
    """The one process among another's descendants that runs a module."""
    (found,) = [one for one in family(pid) if module in Path(f"/proc/{one}/cmdline").read_text().split("\0")]
    return found


def cpu_seconds(*pids: int) -> float:
    """What processes have used so far: utime and stime of proc(5)."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def pss(pid: int, part: str = "Pss") -> int:
    """Bytes that a process holds, its share of what it shares with others; 0 if it is gone.

    Args:
        pid: The process.
        part: ``Pss_Anon``, what is its own; ``Pss_File``, mapped files; ``Pss_Shmem``, which is the arena; or
            ``Pss``, all of them.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(f"{part}:"))


def own(pid: int) -> int:
    """Bytes that a process holds besides the arena."""
    return pss(pid) - pss(pid, "Pss_Shmem")


class Peak:
    """The most that a process and its descendants hold together while a ``with`` block lasts.

    Args:
        pid: The process.
        interval: Seconds between two looks.
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
        """The most, beyond what it was before."""
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
