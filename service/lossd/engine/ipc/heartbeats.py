"""Heartbeats of all processes, in shared memory: last sign of life, and what a process is doing.

The memory outlives a process, so others can tell a hung process from an idle one, and know which slice a dead
worker was scoring. Each process writes its own row; the supervisor clears it once the process is reaped.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple

BEAT_SECONDS: Final = 0.25
"""How often a process writes its heartbeat, and looks at others'. Workers write it by themselves."""
_LONGEST_LOOK: Final = 1.0
"""So much of the time between two looks counts, at most: after more, the machine stood still as a whole."""
_ROW: Final = struct.Struct("=dQQQ")
_SLICE_ID_BITS: Final = 48  # of the third number; the bits above are the front end's number


class Heartbeat(NamedTuple):
    """A process's row.

    Attributes:
        beat: Time of the last sign of life, by time.monotonic(); 0 before the first.
        serving: Whether it takes work.
        answered: Number of slices answered, for a worker.
        running: The slice that a worker is scoring, as (front end, slice id); ids are never 0.
    """

    beat: float
    serving: bool = True
    answered: int = 0
    running: tuple[int, int] | None = None


NO_HEARTBEAT: Final = Heartbeat(0.0, serving=False)
"""The row of a process that has not begun to beat."""


class Row:
    """One process's row."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self._memory = memory
        self._offset = number * _ROW.size

    def write(self, heartbeat: Heartbeat) -> None:
        """Write a heartbeat."""
        beat, serving, answered, running = heartbeat
        front_end, slice_id = running or (0, 0)
        numbers = beat, serving, answered, front_end << _SLICE_ID_BITS | slice_id
        _ROW.pack_into(self._memory, self._offset, *numbers)

    def read(self) -> Heartbeat:
        """Read the last heartbeat."""
        beat, serving, answered, running = _ROW.unpack_from(self._memory, self._offset)
        slice_of = divmod(running, 1 << _SLICE_ID_BITS) if running else None
        return Heartbeat(beat, bool(serving), answered, slice_of)

    async def beat(self, serving: Callable[[], bool]) -> None:
        """Write a heartbeat again and again; ``serving`` returns whether the process takes work."""
        while True:
            self.write(Heartbeat(time.monotonic(), serving()))
            await asyncio.sleep(BEAT_SECONDS)


class Heartbeats:
    """The rows of all processes, mapped into this one.

    Args:
        fd: The memory, `heartbeats_bytes` long, from `create_memory`.
        front_ends: Number of front ends.
        workers: Number of workers.

    Attributes:
        supervisor: The supervisor's row.
        front_ends: The front ends' rows, then the admin listener's.
        workers: The workers' rows.
    """

    def __init__(self, fd: int, front_ends: int, workers: int) -> None:
        memory = mmap.mmap(fd, heartbeats_bytes(front_ends, workers))
        first_worker = front_ends + 2
        self.supervisor: Final = Row(memory, 0)
        self.front_ends: Final = [Row(memory, number) for number in range(1, first_worker)]
        self.workers: Final = [Row(memory, first_worker + number) for number in range(workers)]


def heartbeats_bytes(front_ends: int, workers: int) -> int:
    """Return the bytes of memory that all rows need."""
    return (1 + front_ends + 1 + workers) * _ROW.size


class Pulse:
    """A process's heartbeat, as another sees it that looks a few times a second.

    If the whole machine stands still for a while, that counts for a second at most.

    Args:
        row: The process's row.
        clock: Seconds.

    Attributes:
        row: The process's row.
        still_seconds: How long the heartbeat has not changed, or how long the first has been awaited.
    """

    def __init__(self, row: Row, clock: Callable[[], float] = time.monotonic) -> None:
        self.row: Final = row
        self._clock = clock
        self.still_seconds = 0.0
        self._beat = row.read().beat
        self._looked = clock()

    def look(self) -> Heartbeat:
        """Look again; return the last heartbeat."""
        last, now = self.row.read(), self._clock()
        seconds = min(now - self._looked, _LONGEST_LOOK)
        self.still_seconds = self.still_seconds + seconds if last.beat == self._beat else 0.0
        self._beat, self._looked = last.beat, now
        return last

    def hangs(self, seconds: float) -> bool:
        """Return whether the process had begun to beat and has stood still for longer than some seconds."""
        return bool(self._beat) and self.still_seconds > seconds
