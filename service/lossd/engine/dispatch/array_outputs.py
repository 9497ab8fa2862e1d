"""Array answers: where workers write the outputs' sums in the arena, and how sums of parts are added up."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from lossd.core.cut import Cut, cut_of
from lossd.core.native.arrays import RunningSums, exact_array
from lossd.core.parameters import divisor
from lossd.engine.dispatch.result import Planes
from lossd.engine.ipc.memory import Memory
from lossd.types import Float64Array, LossRequest

_PLACES: Final = 8
"""Most slices of a request out at a time, if each needs memory for sums that are added up here."""
MOST_NUMBERS: Final = 1 << 17
"""Most numbers that a slice writes for sums that are added up here, since that blocks the event loop: slices
are shortened to stay below."""
_MOST_PLANES: Final = 3
"""Arrays that such sums take in this process while they are added up and answered; more are rare."""


class ArrayOutputs:
    """The sums of several outputs: of the losses, and of the divisors if each output has its own.

    An output that lies within one part is final: the worker writes it to its place in the answer. Otherwise
    workers write planes, arrays that add up to the sums of a part, to memory that later slices use again.

    Args:
        cut: How the request is cut; for a stream, the cut for the most rows that it may have.
        channels: 1, or 2 with divisors.
        memory: The arena.
        offset: Offset in it of `output_bytes` of reserved memory.
    """

    def __init__(self, cut: Cut, channels: int, memory: Memory, offset: int) -> None:
        self._complete = cut.complete
        self._memory = memory
        self._offsets = [offset + 8 * cut.outputs * channel for channel in range(channels)]
        self._numbers = 0 if cut.complete else _most_numbers(cut)
        each = 8 * self._numbers * channels
        self._free = deque(offset + each * i for i in range(0 if cut.complete else _PLACES))
        self._sums: list[dict[int, RunningSums]] = [{} for _ in range(channels)]  # by the first output

    def memories_for(self, cut: Cut, index: int, output: int) -> list[tuple[int, int]] | None:
        """Return where a part's sums go, as (offset, count of float64), or None if no memory is free now.

        Args:
            cut: The part's batch.
            index: The part's index.
            output: The batch's first output.
        """
        part = cut.part(index)
        if self._complete:
            return [(offset + 8 * (output + part.output), part.outputs) for offset in self._offsets]
        if not self._free:
            return None
        free = self._free.popleft()
        return [(free + 8 * self._numbers * channel, self._numbers) for channel in range(len(self._sums))]

    def add(
        self, cut: Cut, index: int, output: int, memories: Sequence[tuple[int, int]], planes: Sequence[int]
    ) -> None:
        """Add the sums of a part that has been scored.

        Args:
            cut: The part's batch.
            index: The part's index.
            output: The batch's first output.
            memories: What `memories_for` returned.
            planes: Number of planes written to each.
        """
        if self._complete:
            return  # they are in the answer already
        part = cut.part(index)
        for sums, (offset, _), count in zip(self._sums, memories, planes, strict=True):
            first = output + part.output
            running = sums[first] = sums.get(first) or exact_array()
            for i in range(count):
                running.add(self._floats(offset + 8 * part.outputs * i, part.outputs))
        self._free.append(memories[0][0])

    def finish(self, cut: Cut) -> list[Planes]:
        """Return the sums of all outputs, by channel, given the cut of the whole request."""
        if self._complete or not cut.size:
            sums = [self._floats(offset, cut.outputs) for offset in self._offsets]
            if not cut.size:
                for array in sums:
                    array[:] = 0.0  # no worker writes sums over nothing
            return [[array] for array in sums]
        return [_joined(sums, cut.outputs) for sums in self._sums]

    def _floats(self, offset: int, count: int) -> Float64Array:
        return np.frombuffer(self._memory.view, dtype=np.float64, count=count, offset=offset)


def _joined(sums: dict[int, RunningSums], outputs: int) -> Planes:
    """Join the planes of runs of outputs, side by side."""
    runs = {output: running.canonical() for output, running in sums.items()}
    if len(runs) == 1:
        return next(iter(runs.values()))
    planes = [np.zeros(outputs) for _ in range(max(map(len, runs.values()), default=1))]
    for output, run in runs.items():
        for plane, its in zip(planes, run, strict=False):
            plane[output : output + len(its)] = its
    return planes


@lru_cache(maxsize=256)
def cut_for(shape: tuple[int, ...], axes: tuple[int, ...], elements: int, *, whole_rows: bool = False) -> Cut:
    """Return how a request is cut into slices.

    Args:
        shape: The losses' shape.
        axes: The axes reduced.
        elements: Most losses of a slice.
        whole_rows: Cut no row, however long.
    """
    cut = cut_of(shape, axes, elements, whole_rows=whole_rows)
    while not cut.complete and _most_numbers(cut) > MOST_NUMBERS and elements > 1:
        elements //= 2
        cut = cut_of(shape, axes, elements, whole_rows=whole_rows)
    return cut


def _most_numbers(cut: Cut) -> int:
    return cut.most_numbers(0) if cut.parts else 0


def channels(request: LossRequest, cut: Cut) -> int:
    """Return the number of arrays of sums: 2 if each output has its own divisor, else 1."""
    return 1 if divisor(request.params, cut, request.tensors) is None else 2


def arrays(request: LossRequest, cut: Cut) -> int:
    """Return the number of arrays of the answer's length that computing it takes."""
    return channels(request, cut) * (1 if cut.complete else _MOST_PLANES)


def output_bytes(request: LossRequest, cut: Cut) -> int:
    """Return the bytes of memory that computing an array answer takes.

    They include sums that are added up in this process, not in the arena.
    """
    scratch = 0 if cut.complete else _PLACES * _most_numbers(cut) * channels(request, cut)
    return 8 * (arrays(request, cut) * cut.outputs + scratch)
