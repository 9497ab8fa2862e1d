"""A request whose rows arrive in batches, scored in memory that does not grow with the number of rows.

Two windows of memory are used by turns: rows are written to one while those in the other are scored. Within a
window each tensor has a range of its own, so that its rows are contiguous however they were batched. Rows are
scored as soon as there are enough for a slice. String ids of rows are kept until these have been scored.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Final

from lossd.core.cut import Cut
from lossd.core.document.accumulator import NamesOf
from lossd.core.report.partial import Int64Array
from lossd.engine.admission.arena import Region, aligned
from lossd.engine.dispatch.job import Batch, Job
from lossd.types import Tensor

_WINDOW_ELEMENTS: Final = 1 << 20
"""A window has room for at least so many numbers of the inputs, unless there are fewer: short batches are
scored together."""
_NAME_BYTES: Final = 1 << 23
"""A window whose rows have so many bytes of string ids is full."""


@dataclass(frozen=True, slots=True)
class _Names:
    """The string ids of consecutive rows. Their codes may be compared within these rows only.

    Attributes:
        first: The first row.
        stop: The row after the last.
        name_of: Returns the id of a row, counted from the first.
    """

    first: int
    stop: int
    name_of: Callable[[int], str]

    def within(self, row: int) -> NamesOf:
        """Return what returns the ids of rows, counted from ``row``."""

        def names_of(rows: Int64Array) -> list[str]:
            return [self.name_of(row - self.first + each) for each in rows.tolist()]

        return names_of


@dataclass(slots=True)
class _Window:
    """One of the two windows.

    Attributes:
        starts: Offset in the region of each tensor's range.
        batches: The batches handed out from it.
        name_bytes: The bytes of its rows' string ids.
    """

    starts: list[int]
    batches: list[Batch] = field(default_factory=list)
    name_bytes: int = 0

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
        named: Whether rows have string ids, which `name` takes.
    """

    def __init__(
        self,
        job: Job,
        rows: Mapping[str, Tensor],
        others: Mapping[str, Tensor],
        widest: Cut,
        most_rows: int,
        reserve: Callable[[int], Awaitable[Region]],
        *,
        named: bool = False,
    ) -> None:
        self._job = job
        self._rows = dict(rows)
        self._others = others
        self._axes = widest.axes
        self._elements = widest.elements
        self._whole_rows = widest.whole_rows
        self._most_rows = most_rows
        self._reserve = reserve
        self._row_bytes = [row.nbytes for row in rows.values()]
        self._inner = widest.shape[1:]  # of the losses
        self._row_losses = math.prod(self._inner)
        self._row_numbers = max(row.size for row in rows.values())
        self._row_outputs = _row_outputs(self._inner, self._axes)
        self._region: Region | None = None
        self._capacity = -1  # rows that a window has room for
        self._window, self._other = _Window([]), _Window([])
        self._announced = 0  # rows
        self._begun = 0  # the first row in the window
        self._handed = 0  # rows
        self._written = [0] * len(self._row_bytes)  # bytes in the window
        self._named = named
        self._names: deque[_Names] = deque()  # of rows not handed out
        self._names_stop = 0  # rows that have names
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
        if used + rows > self._capacity or self._window.name_bytes >= _NAME_BYTES:
            self._hand_out()
            if rows > self._capacity:
                await self._grow(rows)
            else:
                await self._wait_for(self._other)
                self._window, self._other = self._other, self._window
            self._window.batches.clear()
            self._window.name_bytes = 0
            self._written = [0] * len(self._row_bytes)
            self._begun = self._announced
        self._announced += rows

    def name(self, rows: int, name_of: Callable[[int], str], nbytes: int) -> None:
        """Take the string ids of the next rows, before the codes in their place.

        Args:
            rows: The number of these rows, among which codes are in the ids' order.
            name_of: Returns the id of a row, counted from the first of these.
            nbytes: The memory that they take.
        """
        self._names.append(_Names(self._names_stop, self._names_stop + rows, name_of))
        self._names_stop += rows
        self._window.name_bytes += nbytes

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
        if (self._arrived() - self._handed) * self._row_losses >= self._elements:
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
        """Hand out all rows that have arrived, apart where their ids may not be compared."""
        arrived = self._arrived()
        while self._handed < arrived and self._region is not None:
            names = self._names[0] if self._names else None
            self._hand_out_rows(self._region, arrived if names is None else min(arrived, names.stop), names)
            if names is not None and self._handed == names.stop:
                self._names.popleft()

    def _hand_out_rows(self, region: Region, stop: int, names: _Names | None) -> None:
        first = self._handed
        tensors = {
            name: replace(
                row,
                shape=(stop - first, *row.shape),
                offset=region.offset + start + (first - self._begun) * row.nbytes,
            )
            for (name, row), start in zip(self._rows.items(), self._window.starts, strict=True)
        }
        cut = self._cut(stop - first)
        names_of = None if names is None else names.within(first)
        output = first * self._row_outputs
        batch = Batch(tensors | dict(self._others), cut, cut.parts, first, output, names_of=names_of)
        self._handed = stop
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
        least = _WINDOW_ELEMENTS // max(1, self._row_numbers)
        self._capacity = max(rows, min(least, self._most_rows))
        ranges = [aligned(nbytes * self._capacity) for nbytes in self._row_bytes]
        self._region = await self._reserve(2 * (sum(ranges) + (_NAME_BYTES if self._named else 0)))
        starts = [0, *accumulate(2 * ranges)]
        self._window = _Window(starts[: len(ranges)])
        self._other = _Window(starts[len(ranges) : 2 * len(ranges)])

    async def _wait_for(self, window: _Window) -> None:
        while not window.free and not self._job.ended:
            self._answered.clear()
            await self._answered.wait()

    def _cut(self, rows: int) -> Cut:
        return Cut((rows, *self._inner), self._axes, self._elements, whole_rows=self._whole_rows)


def _row_outputs(inner: Sequence[int], axes: Sequence[int]) -> int:
    """Return the number of outputs that a row has of its own."""
    if 0 in axes:
        return 0
    return math.prod(n for axis, n in enumerate(inner, 1) if axis not in axes)
