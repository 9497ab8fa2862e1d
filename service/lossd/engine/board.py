"""What each worker says of itself without being asked: that it is alive, what it runs, how much it has done.

It stands in memory that outlives the worker, so that the supervisor can tell a worker that hangs from one
that idles, and what a dead one was busy with. Each worker writes its own row, and nobody else does but the
supervisor, when it has reaped that worker.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

MOST_RUNNING: Final = 32
"""So many slices may be run at a time."""
_ROW: Final = struct.Struct(f"=dQQ{MOST_RUNNING}Q")
_HEAD: Final = struct.Struct("=dQQ")
_NUMBERS: Final = 48  # bits of a slice's id; above them is the front end's number


class Row(NamedTuple):
    """A worker's row.

    Attributes:
        beat: When it was last seen to go on, by time.monotonic(); 0 before it can compute.
        answered: How many slices it has answered.
        running: The slices that it is running, each as (front end, slice id).
    """

    beat: float
    answered: int
    running: Sequence[tuple[int, int]]


BLANK: Final = Row(0.0, 0, ())
"""The row of a worker that has said nothing yet."""


class Board:
    """The rows of all workers, mapped into this process.

    Args:
        fd: The memory, from `create_memory`.
        workers: How many rows it has.
    """

    def __init__(self, fd: int, workers: int) -> None:
        self._map = mmap.mmap(fd, nbytes(workers))

    def write(self, worker: int, row: Row) -> None:
        """Write a worker's row; it runs at most `MOST_RUNNING` slices."""
        start = worker * _ROW.size
        packed = [front_end << _NUMBERS | slice_id for front_end, slice_id in row.running]
        struct.pack_into(f"={len(packed)}Q", self._map, start + _HEAD.size, *packed)
        _HEAD.pack_into(self._map, start, row.beat, row.answered, len(packed))

    def read(self, worker: int) -> Row:
        """Read a worker's row."""
        beat, answered, count, *packed = _ROW.unpack_from(self._map, worker * _ROW.size)
        return Row(beat, answered, [divmod(number, 1 << _NUMBERS) for number in packed[:count]])


def nbytes(workers: int) -> int:
    """How much memory the rows of so many workers need."""
    return workers * _ROW.size
