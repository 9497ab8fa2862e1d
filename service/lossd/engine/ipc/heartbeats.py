"""What each worker says of itself without being asked: that it is alive, what it runs, how much it has done.

It stands in memory that outlives the worker, so that the supervisor can tell a worker that hangs from one
that idles, and what a dead one was busy with. Each worker writes its own row, and nobody else does but the
supervisor, when it has reaped that worker.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final, NamedTuple

_ROW: Final = struct.Struct("=dQQ")
_NUMBERS: Final = 48  # bits of a slice's id; above them is the front end's number


class Row(NamedTuple):
    """A worker's row.

    Attributes:
        beat: When it was last seen to go on, by time.monotonic(); 0 before it can compute.
        answered: How many slices it has answered.
        running: The slice that it is running, as (front end, slice id); ids are never 0.
    """

    beat: float
    answered: int
    running: tuple[int, int] | None


BLANK: Final = Row(0.0, 0, None)
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
        """Write a worker's row."""
        front_end, slice_id = row.running or (0, 0)
        _ROW.pack_into(
            self._map, worker * _ROW.size, row.beat, row.answered, front_end << _NUMBERS | slice_id
        )

    def read(self, worker: int) -> Row:
        """Read a worker's row."""
        beat, answered, running = _ROW.unpack_from(self._map, worker * _ROW.size)
        return Row(beat, answered, divmod(running, 1 << _NUMBERS) if running else None)


def nbytes(workers: int) -> int:
    """How much memory the rows of so many workers need."""
    return workers * _ROW.size
