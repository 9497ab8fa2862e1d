"""A request whose rows come one batch after the other, in memory that does not grow with their number.

Two windows of memory are filled in turn: rows are written to one while those in the other are scored. Within
a window each tensor has a stretch of its own, so that its rows lie one behind the other however they were
batched. A block that has begun in one window must not end in the next: at the turn the rows of an unfinished
block are carried over, less than a block of each tensor. Nothing else is ever copied.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from lossd.core.grid import Grid
from lossd.engine.arena import Region
from lossd.engine.job import Span
from lossd.engine.pool import Run
from lossd.request import Tensor

_ALIGN: Final = 64
_TURN_ELEMENTS: Final = 1 << 20
"""So many elements of a window are filled, if they fit, before the other is taken: what is carried over at
the turn is then little beside them."""


@dataclass(slots=True)
class _Window:
    """One of the two.

    Attributes:
        places: Where each tensor's stretch begins in the region.
        span: What was last scored of it, if anything.
    """

    places: list[int]
    span: Span | None = None

    @property
    def free(self) -> bool:
        return self.span is None or self.span.answered


class Stream:
    """The rows of one request, on their way to its run.

    Args:
        run: The request.
        inner: The shape of the inputs' rows.
        rows: A row of each tensor that comes in rows, whose shape is that of the row.
        others: The tensors that every row needs, which lie in the arena already.
        axes: The request's reduced axes.
        block: How many elements a block has at most.
        region: Of `window_bytes`.
        capacity: How many rows a window has room for, those carried over included.
    """

    def __init__(
        self,
        run: Run,
        inner: Sequence[int],
        rows: Mapping[str, Tensor],
        others: Mapping[str, Tensor],
        axes: Sequence[int],
        block: int,
        region: Region,
        capacity: int,
    ) -> None:
        self._run = run
        self._rows = dict(rows)
        self._others = others
        self._axes = axes
        self._block = block
        self._view = region.view
        self._offset = region.offset
        self._capacity = capacity
        self._row_bytes = [row.nbytes for row in rows.values()]
        self._inner = tuple(inner)
        self._row_elements = math.prod(inner)
        stretches = [_aligned(nbytes * capacity) for nbytes in self._row_bytes]
        places = [0, *accumulate(2 * stretches)]
        tensors = len(stretches)
        self._window, self._other = _Window(places[:tensors]), _Window(places[tensors : 2 * tensors])
        self._first = 0  # the number of the window's first row
        self._announced = 0  # rows
        self._written = [0] * tensors  # bytes in the window
        self._grid = self._grid_of(0)
        self._answered = asyncio.Event()
        run.when_answered(self._answered.set)
        self._begin_span(0)

    @property
    def rows(self) -> int:
        """How many rows have been announced."""
        return self._announced

    async def begin(self, rows: int) -> None:
        """Make room for a batch of rows, which may take until earlier ones have been scored.

        All rows begun before must have been written. Returns at once if the run has failed.

        Args:
            rows: How many, at most what `capacity_of` was asked for.
        """
        used = self._announced - self._first
        fits = used + rows <= self._capacity
        full = used * self._row_elements >= _TURN_ELEMENTS
        if full or not fits:
            self._hand_out()
            while not self._other.free and not self._run.failed:
                self._answered.clear()
                await self._answered.wait()
            if self._run.failed:
                return
            self._turn()
        self._announced += rows

    def write(self, tensor: int, data: bytes | memoryview) -> None:
        """Take the next bytes of a tensor's rows, the tensors counted in order."""
        start = self._window.places[tensor] + self._written[tensor]
        self._view[start : start + len(data)] = data
        self._written[tensor] += len(data)

    def advance(self) -> None:
        """Let what has been written be scored."""
        arrived = self._arrived()
        if (arrived - self._grid.shape[0]) * self._row_elements >= self._block:
            self._hand_out()

    def close(self) -> Grid:
        """Take note that all rows have been written; the request's blocks."""
        self._hand_out()
        self._span.last = self._grid.blocks
        self._run.close(self._grid)
        return self._grid

    @property
    def _span(self) -> Span:
        assert self._window.span is not None
        return self._window.span

    def _arrived(self) -> int:
        """How many rows have come of every tensor."""
        complete = [
            self._first + written // nbytes if nbytes else self._announced
            for written, nbytes in zip(self._written, self._row_bytes, strict=True)
        ]
        return min(complete)

    def _hand_out(self) -> None:
        arrived = self._arrived()
        self._grid = self._grid_of(arrived)
        count = arrived - self._first
        self._span.grid = self._grid
        self._span.last = self._grid.settled
        self._span.rows = self._first, count
        self._span.tensors = {
            name: replace(row, shape=(count, *row.shape), offset=self._offset + place)
            for (name, row), place in zip(self._rows.items(), self._window.places, strict=True)
        } | dict(self._others)
        self._run.advance()

    def _turn(self) -> None:
        """Go on in the other window, with the rows of the block that is not complete."""
        settled = self._grid.settled
        stop = self._grid.block(settled - 1).stop if settled else 0
        first = stop // self._row_elements if self._row_elements else self._announced
        for tensor, nbytes in enumerate(self._row_bytes):
            carried = (self._announced - first) * nbytes
            source = self._window.places[tensor] + (first - self._first) * nbytes
            target = self._other.places[tensor]
            self._view[target : target + carried] = self._view[source : source + carried]
            self._written[tensor] = carried
        self._window, self._other = self._other, self._window
        self._first = first
        self._begin_span(settled)

    def _begin_span(self, block: int) -> None:
        self._window.span = Span({}, self._grid, first=block, last=block, rows=(self._first, 0))
        self._run.append(self._window.span)

    def _grid_of(self, rows: int) -> Grid:
        return Grid((rows, *self._inner), self._axes, self._block, growing=True)


def capacity_of(rows: int, inner: int, block: int) -> int:
    """How many rows a window must have room for.

    Args:
        rows: The most rows of a batch.
        inner: The elements of a row.
        block: How many elements a block has at most.
    """
    return rows + block // max(1, inner) + 2


def window_bytes(rows: Mapping[str, Tensor], capacity: int) -> int:
    """How much memory a stream needs.

    Args:
        rows: A row of each tensor.
        capacity: How many rows a window has room for.
    """
    return 2 * sum(_aligned(row.nbytes * capacity) for row in rows.values())


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN
