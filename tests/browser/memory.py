"""The memory of a browser: of all its processes, what is shared counted once, without its program files.

A share of those depends on how many browsers there are: it grows when another one ends.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def browser_bytes() -> dict[int, int]:
    """The memory of the browsers that this process has started, by process."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            after_name = status.read_text().rpartition(")")[2].split()
            parents.setdefault(int(after_name[1]), []).append(int(status.parent.name))
    found, waiting = dict[int, int](), [os.getpid()]
    while waiting:
        process = waiting.pop()
        waiting += parents.get(process, [])
        with suppress(OSError):
            if b"chromium" in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0]:
                found[process] = _share(process)
    return found


def grown(before: dict[int, int], now: dict[int, int]) -> int:
    """By how many bytes processes have grown; a browser starts further ones for reasons of its own."""
    return sum(max(0, now[process] - was) for process, was in before.items() if process in now)


def _share(process: int) -> int:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
