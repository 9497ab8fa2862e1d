"""A request whose rows come one batch after the other, in memory that does not grow with their number.

Two windows of memory are filled in turn: rows are written to one while those in the other are scored. Within
a window each tensor has a stretch of its own, so that its rows lie one behind the other however they were
batched. A block that has begun in one window must not end in the next: at the turn the rows of an unfinished
block are carried over, less than a block of each tensor. Nothing else is ever copied.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from lossd.core.grid import Grid
from lossd.engine.arena import Region
from lossd.engine.job import Span
from lossd.engine.run import Run
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

    Memory is reserved when the first batch has announced itself, for two of its size, and anew when one comes
    that does not fit.

    Args:
        run: The request.
        inner: The shape of the inputs' rows.
        rows: A row of each tensor that comes in rows, whose shape is that of the row.
        others: The tensors that every row needs, which lie in the arena already.
        axes: The request's reduced axes.
        block: How many elements a block has at most.
        most_rows: How many rows there can be at most.
        reserve: Reserves memory.
    """

    def __init__(
        self,
        run: Run,
        inner: Sequence[int],
        rows: Mapping[str, Tensor],
        others: Mapping[str, Tensor],
        axes: Sequence[int],
        block: int,
        most_rows: int,
        reserve: Callable[[int], Awaitable[Region]],
    ) -> None:
        self._run = run
        self._rows = dict(rows)
        self._others = others
        self._axes = axes
        self._block = block
        self._most_rows = most_rows
        self._reserve = reserve
        self._row_bytes = [row.nbytes for row in rows.values()]
        self._inner = tuple(inner)
        self._row_elements = math.prod(inner)
        self._region: Region | None = None
        self._capacity = -1  # rows that a window has room for
        self._window, self._other = _Window([]), _Window([])
        self._first = 0  # the number of the window's first row
        self._announced = 0  # rows
        self._written = [0] * len(self._row_bytes)  # bytes in the window
        self._grid = self._grid_of(0)
        self._answered = asyncio.Event()
        run.when_answered(self._answered.set)
        self._begin_span(0)

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

        All rows begun before must have been written. Returns at once if the run has failed.

        Raises:
            Fault: As ``reserve`` does.
        """
        used = self._announced - self._first
        if rows + self._carried_at_most > self._capacity:
            await self._move(rows)
        elif used + rows > self._capacity or used * self._row_elements >= _TURN_ELEMENTS:
            await self._turn()
        self._announced += rows

    def write(self, tensor: int, data: bytes | memoryview) -> None:
        """Take the next bytes of a tensor's rows, the tensors counted in order."""
        assert self._region is not None
        start = self._region.offset + self._window.places[tensor] + self._written[tensor]
        self._region.memory[start : start + len(data)] = data
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
        offset = 0 if self._region is None else self._region.offset
        self._span.grid = self._grid
        self._span.last = self._grid.settled
        self._span.rows = self._first, count
        self._span.tensors = {
            name: replace(row, shape=(count, *row.shape), offset=offset + place)
            for (name, row), place in zip(self._rows.items(), self._window.places, strict=False)
        } | dict(self._others)
        self._run.advance()

    @property
    def _carried_at_most(self) -> int:
        """How many rows an unfinished block can have."""
        return self._block // max(1, self._row_elements) + 2

    async def _turn(self) -> None:
        """Go on in the other window, with the rows of the block that is not complete."""
        self._hand_out()
        await self._wait_for(self._other)
        if self._run.over:
            return
        assert self._region is not None
        first, carried = self._unfinished()
        view = self._region.view
        for place, (start, nbytes) in zip(self._other.places, carried, strict=True):
            view[place : place + nbytes] = view[start : start + nbytes]
        self._window, self._other = self._other, self._window
        self._go_on(first, carried)

    async def _move(self, rows: int) -> None:
        """Go on in other memory, in which a window has room for a batch of so many rows."""
        self._hand_out()
        first, carried = self._unfinished()
        held: list[bytes] = []
        if self._region is not None:
            # What is given back is given back first: who holds memory must not wait for more.
            held = [bytes(self._region.view[start : start + nbytes]) for start, nbytes in carried]
            used, self._window = (self._window, self._other), _Window([])
            self._begin_span(self._grid.settled)  # which ends the one before
            for window in used:
                await self._wait_for(window)
            if self._run.over:
                return
            self._region.release()
            self._region = None
        turn = _TURN_ELEMENTS // max(1, self._row_elements)
        self._capacity = min(max(rows, turn), max(rows, self._most_rows)) + self._carried_at_most
        stretches = [_aligned(nbytes * self._capacity) for nbytes in self._row_bytes]
        self._region = await self._reserve(2 * sum(stretches))
        places = [0, *accumulate(2 * stretches)]
        self._window, self._other = (
            _Window(places[: len(stretches)]),
            _Window(places[len(stretches) : 2 * len(stretches)]),
        )
        for place, data in zip(self._window.places, held, strict=False):
            self._region.view[place : place + len(data)] = data
        self._go_on(first, carried)

    async def _wait_for(self, window: _Window) -> None:
        while not window.free and not self._run.over:
            self._answered.clear()
            await self._answered.wait()

    def _unfinished(self) -> tuple[int, list[tuple[int, int]]]:
        """The first row of the block that is not complete, and where its bytes lie: place and length."""
        settled = self._grid.settled
        stop = self._grid.block(settled - 1).stop if settled else 0
        first = stop // self._row_elements if self._row_elements else self._announced
        skipped = first - self._first
        return first, [
            (place + skipped * nbytes, (self._announced - first) * nbytes)
            for place, nbytes in zip(self._window.places, self._row_bytes, strict=False)
        ]

    def _go_on(self, first: int, carried: Sequence[tuple[int, int]]) -> None:
        self._first = first
        self._written = [nbytes for _, nbytes in carried] or [0] * len(self._row_bytes)
        self._begin_span(self._grid.settled)

    def _begin_span(self, block: int) -> None:
        self._window.span = Span({}, self._grid, first=block, last=block, rows=(self._first, 0))
        self._run.append(self._window.span)

    def _grid_of(self, rows: int) -> Grid:
        return Grid((rows, *self._inner), self._axes, self._block, growing=True)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN
