"""A request whose rows arrive in batches, scored in memory that does not grow with the number of rows.

Two windows of memory are used by turns: rows are written to one while those in the other are scored. Within a
window each tensor has a range of its own, so that its rows are contiguous however they were batched. Rows are
scored as soon as there are enough for a slice.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Final

from lossd.core.cut import Cut
from lossd.engine.admission.arena import Region
from lossd.engine.dispatch.job import Batch, Job
from lossd.types import Tensor

_ALIGN: Final = 64
_WINDOW_ELEMENTS: Final = 1 << 20
"""A window has room for at least so many, unless there are fewer: short batches are scored together."""


@dataclass(slots=True)
class _Window:
    """One of the two windows.

    Attributes:
        starts: Offset in the region of each tensor's range.
        batches: The batches handed out from it.
    """

    starts: list[int]
    batches: list[Batch] = field(default_factory=list)

    @property
    def free(self) -> bool:
        return all(batch.done for batch in self.batches)


class RowStream:
    """The rows of a request, written to memory and handed to its job.

    Memory is reserved when the first batch begins, for two of its size, and again when a larger batch begins.

    Args:
        job: The request's job.
        rows: For each tensor that arrives in rows, a tensor of one row's shape.
        others: The tensors that every row needs, in the arena already.
        widest: The request's cut for the most rows that it may have.
        most_rows: Most rows that there may be.
        reserve: Reserves memory.
    """

    def __init__(
        self,
        job: Job,
        rows: Mapping[str, Tensor],
        others: Mapping[str, Tensor],
        widest: Cut,
        most_rows: int,
        reserve: Callable[[int], Awaitable[Region]],
    ) -> None:
        self._job = job
        self._rows = dict(rows)
        self._others = others
        self._axes = widest.axes
        self._elements = widest.elements
        self._most_rows = most_rows
        self._reserve = reserve
        self._row_bytes = [row.nbytes for row in rows.values()]
        self._inner = widest.shape[1:]
        self._row_elements = math.prod(self._inner)
        self._row_outputs = _row_outputs(self._inner, self._axes)
        self._region: Region | None = None
        self._capacity = -1  # rows that a window has room for
        self._window, self._other = _Window([]), _Window([])
        self._announced = 0  # rows
        self._begun = 0  # the first row in the window
        self._handed = 0  # rows
        self._written = [0] * len(self._row_bytes)  # bytes in the window
        self._answered = asyncio.Event()
        job.when_answered(self._answered.set)

    @property
    def rows(self) -> int:
        """Number of rows announced."""
        return self._announced

    @property
    def region(self) -> Region | None:
        """The memory that it holds, if any."""
        return self._region

    async def begin(self, rows: int) -> None:
        """Announce a batch of rows and make room for it, which may wait until earlier rows have been scored.

        All rows announced before must have been written. Returns at once if the job has failed.

        Raises:
            RequestError: As ``reserve`` does.
        """
        used = self._announced - self._begun
        if used + rows > self._capacity:
            self._hand_out()
            if rows > self._capacity:
                await self._grow(rows)
            else:
                await self._wait_for(self._other)
                self._window, self._other = self._other, self._window
            self._window.batches.clear()
            self._written = [0] * len(self._row_bytes)
            self._begun = self._announced
        self._announced += rows

    def write(self, tensor: int, data: bytes | memoryview) -> None:
        """Write the next bytes of a tensor's rows.

        Args:
            tensor: The tensor's index in `rows`.
            data: The bytes.
        """
        assert self._region is not None
        start = self._region.offset + self._window.starts[tensor] + self._written[tensor]
        self._region.memory[start : start + len(data)] = data
        self._written[tensor] += len(data)

    def advance(self) -> None:
        """Hand out the rows written so far, if they are enough for a slice."""
        if (self._arrived() - self._handed) * self._row_elements >= self._elements:
            self._hand_out()

    def close(self) -> Cut:
        """End the stream: all rows have been written. Return the cut of the whole request."""
        self._hand_out()
        cut = self._cut(self._announced)
        self._job.close(cut)
        return cut

    def _arrived(self) -> int:
        """Return the number of rows that have arrived of every tensor."""
        complete = [
            self._begun + written // nbytes if nbytes else self._announced
            for written, nbytes in zip(self._written, self._row_bytes, strict=True)
        ]
        return min(complete)

    def _hand_out(self) -> None:
        first, arrived = self._handed, self._arrived()
        if arrived == first or self._region is None:
            return
        tensors = {
            name: replace(
                row,
                shape=(arrived - first, *row.shape),
                offset=self._region.offset + start + (first - self._begun) * row.nbytes,
            )
            for (name, row), start in zip(self._rows.items(), self._window.starts, strict=True)
        }
        cut = self._cut(arrived - first)
        batch = Batch(tensors | dict(self._others), cut, cut.parts, first, first * self._row_outputs)
        self._handed = arrived
        self._window.batches.append(batch)
        self._job.append(batch)

    async def _grow(self, rows: int) -> None:
        """Replace the memory by some whose windows have room for a batch of so many rows."""
        if self._region is not None:
            # Released first: requests that hold memory while they wait for more could block each other.
            for window in (self._window, self._other):
                await self._wait_for(window)
            if self._job.ended:
                return
            self._region.release()
            self._region = None
        least = _WINDOW_ELEMENTS // max(1, self._row_elements)
        self._capacity = max(rows, min(least, self._most_rows))
        ranges = [_aligned(nbytes * self._capacity) for nbytes in self._row_bytes]
        self._region = await self._reserve(2 * sum(ranges))
        starts = [0, *accumulate(2 * ranges)]
        self._window = _Window(starts[: len(ranges)])
        self._other = _Window(starts[len(ranges) : 2 * len(ranges)])

    async def _wait_for(self, window: _Window) -> None:
        while not window.free and not self._job.ended:
            self._answered.clear()
            await self._answered.wait()

    def _cut(self, rows: int) -> Cut:
        return Cut((rows, *self._inner), self._axes, self._elements)


def _row_outputs(inner: Sequence[int], axes: Sequence[int]) -> int:
    """Return the number of outputs that a row has of its own."""
    if 0 in axes:
        return 0
    return math.prod(n for axis, n in enumerate(inner, 1) if axis not in axes)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN
