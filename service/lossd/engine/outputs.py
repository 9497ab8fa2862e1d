"""The sums of an array answer: where they lie in the arena, and how slices' parts of them are added up."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from lossd.core.catalog import divisor
from lossd.core.exact_sum import ExactArray
from lossd.core.grid import Grid
from lossd.engine.arena import Memory
from lossd.request import Float64Array, LossRequest

WINDOW: Final = 2
"""Slices of one request that a worker holds at a time: one to run, and the next, so that it need not wait. Of
one whose blocks share outputs there are no more out at all: each needs memory for its partial sums."""


class Outputs:
    """Sums of an array answer, in the arena: float64, [grid.outputs].

    Args:
        grid: The request's blocks; of a stream, those of the most rows that it may have.
        memory: The arena.
        offset: Where they lie; behind them is the room for the slices' partial sums.
        slice_elements: About how many elements a slice has.
    """

    def __init__(self, grid: Grid, memory: Memory, offset: int, slice_elements: int) -> None:
        self._disjoint = grid.disjoint
        self._memory = memory
        self._offset = offset
        self._sums: dict[int, ExactArray] = {}  # of outputs that several blocks add to, by the first output
        scratch, room = offset + 8 * grid.outputs, _partials_room(grid, slice_elements)
        self._free = deque(scratch + 8 * room * i for i in range(WINDOW)) if not grid.disjoint else deque()

    def place(self, grid: Grid, first: int, last: int) -> tuple[int, int]:
        """Where the partial sums of a grid's blocks [first, last) go, and how many there are."""
        count = grid.partials(first, last)
        if self._disjoint:
            return self._offset + 8 * grid.block(first).output, count
        return self._free.popleft(), count

    def take(self, pieces: list[tuple[int, int, int]], offset: int) -> None:
        """Add a slice's partial sums to the running ones, and free their memory for another slice."""
        if self._disjoint:
            return  # they are in their place
        self._free.append(offset)
        for output, planes, length in pieces:
            sums = self._sums.setdefault(output, ExactArray())
            for _ in range(planes):
                sums.add(self._floats(offset, length))
                offset += 8 * length

    def finish(self, grid: Grid) -> Float64Array:
        """The sums of all of the grid's outputs."""
        outputs = self._floats(self._offset, grid.outputs)
        if not grid.blocks:
            outputs[:] = 0.0
        for output, sums in self._sums.items():
            value = sums.value
            outputs[output : output + len(value)] = value
        return outputs

    def _floats(self, offset: int, count: int) -> Float64Array:
        return np.frombuffer(self._memory.view, dtype=np.float64, count=count, offset=offset)


def channels(request: LossRequest, grid: Grid) -> int:
    """How many arrays of sums an answer needs: 2 where each output has a divisor of its own."""
    return 1 if divisor(request.params, grid, request.tensors) is None else 2


def slice_blocks(grid: Grid, slice_elements: int) -> int:
    """How many blocks a slice has."""
    return max(1, slice_elements * grid.blocks // max(1, grid.size))


def _partials_room(grid: Grid, slice_elements: int) -> int:
    """How many partial sums a slice has at most."""
    return slice_blocks(grid, slice_elements) * (grid.block(0).outputs if grid.blocks else 0)


def output_bytes(request: LossRequest, grid: Grid, slice_elements: int) -> int:
    """How much memory an array answer needs while it is being computed."""
    return channels(request, grid) * channel_bytes(grid, slice_elements)


def channel_bytes(grid: Grid, slice_elements: int) -> int:
    """How much of that one of its arrays of sums takes."""
    scratch = 0 if grid.disjoint else WINDOW * _partials_room(grid, slice_elements)
    return 8 * (grid.outputs + scratch)
