"""The sums of an array answer: where workers write them in the arena, and how parts of them are added up."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from lossd.core.catalog import divisor
from lossd.core.cut import Cut, cut_of
from lossd.core.native.arrays import RunningSums, exact_array
from lossd.engine.dispatch.result import Planes
from lossd.engine.ipc.memory import Memory
from lossd.types import Float64Array, LossRequest

_SLOTS: Final = 8
"""Slices of one request that may be out at a time where each needs memory for its parts of sums."""
MOST_ROOM: Final = 1 << 17
"""So many numbers a slice writes at most where they are added up here, which keeps the event loop from all
else: its slices are shorter if need be."""
_MOST_PLANES: Final = 3
"""Arrays that such sums take in this process, as they are added up and answered: more are rare."""


class Outputs:
    """The sums of several outputs: of the losses, and of the divisors where each output has its own.

    Where each output lies in one part a worker writes it where it is answered from. Elsewhere workers write
    planes, arrays of parts of sums, to memory that is then used anew.

    Args:
        cut: How the request is cut; of a stream, if it had the most rows that it may have.
        channels: 1, or 2 with divisors.
        memory: The arena.
        offset: Where in it there is room, `output_bytes` long.
    """

    def __init__(self, cut: Cut, channels: int, memory: Memory, offset: int) -> None:
        self._complete = cut.complete
        self._memory = memory
        self._places = [offset + 8 * cut.outputs * channel for channel in range(channels)]
        self._room = 0 if cut.complete else _room(cut)
        slot = 8 * self._room * channels
        self._free = deque(offset + slot * i for i in range(0 if cut.complete else _SLOTS))
        self._sums: list[dict[int, RunningSums]] = [{} for _ in range(channels)]  # by the first output

    def place(self, cut: Cut, index: int, output: int) -> list[tuple[int, int]] | None:
        """Where the sums of a part go, as (offset, count of float64); None if there is no room now.

        Args:
            cut: What it is a part of.
            index: Which.
            output: The number of that cut's first output.
        """
        part = cut.part(index)
        if self._complete:
            return [(place + 8 * (output + part.output), part.outputs) for place in self._places]
        if not self._free:
            return None
        slot = self._free.popleft()
        return [(slot + 8 * self._room * channel, self._room) for channel in range(len(self._sums))]

    def take(
        self, cut: Cut, index: int, output: int, memories: Sequence[tuple[int, int]], planes: Sequence[int]
    ) -> None:
        """Add the sums of a part that has been scored.

        Args:
            cut: As for `place`, like the next two.
            index: As there.
            output: As there.
            memories: What `place` gave.
            planes: How many planes were written to each.
        """
        if self._complete:
            return  # they are where they belong
        part = cut.part(index)
        for sums, (offset, _), count in zip(self._sums, memories, planes, strict=True):
            first = output + part.output
            running = sums[first] = sums.get(first) or exact_array()
            for i in range(count):
                running.add(self._floats(offset + 8 * part.outputs * i, part.outputs))
        self._free.append(memories[0][0])

    def finish(self, cut: Cut) -> list[Planes]:
        """The sums of all of a request's outputs, of each channel.

        Args:
            cut: The whole request.
        """
        if not cut.size:
            return [[np.zeros(cut.outputs)] for _ in self._places]
        if self._complete:
            return [[self._floats(place, cut.outputs)] for place in self._places]
        return [_joined(sums, cut.outputs) for sums in self._sums]

    def _floats(self, offset: int, count: int) -> Float64Array:
        return np.frombuffer(self._memory.view, dtype=np.float64, count=count, offset=offset)


def _joined(sums: dict[int, RunningSums], outputs: int) -> Planes:
    """The planes of runs of outputs, side by side."""
    runs = {output: running.canonical() for output, running in sums.items()}
    if len(runs) == 1:
        return next(iter(runs.values()))
    planes = [np.zeros(outputs) for _ in range(max(map(len, runs.values()), default=1))]
    for output, run in runs.items():
        for plane, its in zip(planes, run, strict=False):
            plane[output : output + len(its)] = its
    return planes


def cut_for(shape: tuple[int, ...], axes: tuple[int, ...], elements: int) -> Cut:
    """How a request is cut into slices.

    Args:
        shape: The inputs' shape.
        axes: The axes reduced.
        elements: How many elements a slice has at most.
    """
    cut = cut_of(shape, axes, elements)
    while not cut.complete and _room(cut) > MOST_ROOM and elements > 1:
        elements //= 2
        cut = cut_of(shape, axes, elements)
    return cut


def _room(cut: Cut) -> int:
    return cut.room(0) if cut.parts else 0


def channels(request: LossRequest, cut: Cut) -> int:
    """How many arrays of sums an answer needs: 2 where each output has a divisor of its own."""
    return 1 if divisor(request.params, cut, request.tensors) is None else 2


def arrays(request: LossRequest, cut: Cut) -> int:
    """How many arrays as long as the answer it takes to compute it."""
    return channels(request, cut) * (1 if cut.complete else _MOST_PLANES)


def output_bytes(request: LossRequest, cut: Cut) -> int:
    """How much memory an array answer needs while it is being computed.

    What is added up in this process is not in the arena, but counts.
    """
    scratch = 0 if cut.complete else _SLOTS * _room(cut) * channels(request, cut)
    return 8 * (arrays(request, cut) * cut.outputs + scratch)
