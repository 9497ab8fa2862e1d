"""Heartbeats of the workers, in shared memory: last sign of life, slice being scored, slices answered.

The memory outlives a worker, so the supervisor can tell a hung worker from an idle one, and knows which slice
a dead one was scoring. Each worker writes its own row; the supervisor clears it once the worker is reaped.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final, NamedTuple

_ROW: Final = struct.Struct("=dQQ")
_SLICE_ID_BITS: Final = 48  # of the third number; the bits above are the front end's number


class Heartbeat(NamedTuple):
    """A worker's row.

    Attributes:
        beat: Time of the last sign of life, by time.monotonic(); 0 before the worker is ready.
        answered: Number of slices answered.
        running: The slice being scored, as (front end, slice id); ids are never 0.
    """

    beat: float
    answered: int
    running: tuple[int, int] | None


NO_HEARTBEAT: Final = Heartbeat(0.0, 0, None)
"""The row of a worker that is not ready yet."""


class Heartbeats:
    """The rows of all workers, mapped into this process.

    Args:
        fd: The memory, `heartbeats_bytes` long, from `create_memory`.
        workers: Number of rows.
    """

    def __init__(self, fd: int, workers: int) -> None:
        self._map = mmap.mmap(fd, heartbeats_bytes(workers))

    def write(self, worker: int, heartbeat: Heartbeat) -> None:
        """Write a worker's row."""
        beat, answered, running = heartbeat
        front_end, slice_id = running or (0, 0)
        _ROW.pack_into(self._map, worker * _ROW.size, beat, answered, front_end << _SLICE_ID_BITS | slice_id)

    def read(self, worker: int) -> Heartbeat:
        """Read a worker's row."""
        beat, answered, running = _ROW.unpack_from(self._map, worker * _ROW.size)
        return Heartbeat(beat, answered, divmod(running, 1 << _SLICE_ID_BITS) if running else None)


def heartbeats_bytes(workers: int) -> int:
    """Return the bytes of memory that the rows of some workers need."""
    return workers * _ROW.size
