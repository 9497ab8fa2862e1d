"""A request whose rows come one batch after the other, in memory that does not grow with their number.

Two windows of memory are filled in turn: rows are written to one while those in the other are scored. Within
a window each tensor has a stretch of its own, so that its rows lie one behind the other however they were
batched. What has arrived is scored as soon as it is worth a slice.
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
from lossd.engine.dispatch.job import Job, Span
from lossd.types import Tensor

_ALIGN: Final = 64
_WINDOW_ELEMENTS: Final = 1 << 20
"""A window has room for so many, if there are so many: short batches are scored together."""


@dataclass(slots=True)
class _Window:
    """One of the two.

    Attributes:
        places: Where each tensor's stretch begins in the region.
        spans: What was handed out of it.
    """

    places: list[int]
    spans: list[Span] = field(default_factory=list)

    @property
    def free(self) -> bool:
        return all(span.done for span in self.spans)


class Stream:
    """The rows of one request, on their way to its job.

    Memory is reserved when the first batch has announced itself, for two of its size, and anew when one comes
    that does not fit.

    Args:
        job: The request.
        rows: A row of each tensor that comes in rows, whose shape is that of the row.
        others: The tensors that every row needs, which lie in the arena already.
        widest: How the request would be cut if it had the most rows that it may have.
        most_rows: How many rows there can be at most.
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
        self._handed = 0  # rows that have been handed out
        self._written = [0] * len(self._row_bytes)  # bytes in the window
        self._answered = asyncio.Event()
        job.when_answered(self._answered.set)

    @property
    def rows(self) -> int:
        """How many rows have been announced."""
        return self._announced

    @property
    def region(self) -> Region | None:
        """The memory that it holds."""
        return self._region

    async def begin(self, rows: int) -> None:
        """Make room for a batch of rows, which may take until earlier ones have been scored.

        All rows begun before must have been written. Returns at once if the job has failed.

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
            self._window.spans.clear()
            self._written = [0] * len(self._row_bytes)
            self._begun = self._announced
        self._announced += rows

    def write(self, tensor: int, data: bytes | memoryview) -> None:
        """Take the next bytes of a tensor's rows, the tensors counted in order."""
        assert self._region is not None
        start = self._region.offset + self._window.places[tensor] + self._written[tensor]
        self._region.memory[start : start + len(data)] = data
        self._written[tensor] += len(data)

    def advance(self) -> None:
        """Let what has been written be scored, if it is worth a slice."""
        if (self._arrived() - self._handed) * self._row_elements >= self._elements:
            self._hand_out()

    def close(self) -> Cut:
        """Take note that all rows have been written; the whole request."""
        self._hand_out()
        cut = self._cut(self._announced)
        self._job.close(cut)
        return cut

    def _arrived(self) -> int:
        """How many rows have come of every tensor."""
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
                offset=self._region.offset + place + (first - self._begun) * row.nbytes,
            )
            for (name, row), place in zip(self._rows.items(), self._window.places, strict=True)
        }
        cut = self._cut(arrived - first)
        span = Span(tensors | dict(self._others), cut, cut.parts, first, first * self._row_outputs)
        self._handed = arrived
        self._window.spans.append(span)
        self._job.append(span)

    async def _grow(self, rows: int) -> None:
        """Go on in other memory, in which a window has room for a batch of so many rows."""
        if self._region is not None:
            # What is given back is given back first: who holds memory must not wait for more.
            for window in (self._window, self._other):
                await self._wait_for(window)
            if self._job.over:
                return
            self._region.release()
            self._region = None
        least = _WINDOW_ELEMENTS // max(1, self._row_elements)
        self._capacity = max(rows, min(least, self._most_rows))
        stretches = [_aligned(nbytes * self._capacity) for nbytes in self._row_bytes]
        self._region = await self._reserve(2 * sum(stretches))
        places = [0, *accumulate(2 * stretches)]
        self._window, self._other = (
            _Window(places[: len(stretches)]),
            _Window(places[len(stretches) : 2 * len(stretches)]),
        )

    async def _wait_for(self, window: _Window) -> None:
        while not window.free and not self._job.over:
            self._answered.clear()
            await self._answered.wait()

    def _cut(self, rows: int) -> Cut:
        return Cut((rows, *self._inner), self._axes, self._elements)


def _row_outputs(inner: Sequence[int], axes: Sequence[int]) -> int:
    """How many outputs a row has of its own."""
    if 0 in axes:
        return 0
    return math.prod(n for axis, n in enumerate(inner, 1) if axis not in axes)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN
