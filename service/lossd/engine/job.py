"""A request while it is being scored: hands out its slices, and adds up what comes back."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np

from lossd.core.catalog import LOSSES, own_params
from lossd.core.exact import ExactArray, ExactSum
from lossd.core.grid import Grid
from lossd.engine.arena import Memory, Region
from lossd.engine.frames import Failed, Scored, Slice
from lossd.request import Fault, Float64Array, LossRequest, LossResult

WINDOW: Final = 2
"""Slices of one request that a worker holds at a time: one to run, and the next, so that it need not wait."""

_slice_ids = itertools.count(1)
_request_ids = itertools.count(1)


class Job:
    """One request.

    Args:
        request: What to score.
        grid: Its blocks.
        memory: The arena.
        output: Where array answers go, at least `output_bytes` long; None where there is no array.
        deadline: By time.monotonic().
        slice_elements: About how many elements a slice has.
    """

    def __init__(
        self,
        request: LossRequest,
        grid: Grid,
        memory: Memory,
        output: Region | None,
        deadline: float,
        slice_elements: int,
    ) -> None:
        self.id: Final = next(_request_ids)
        self.request: Final = request
        self.deadline: Final = deadline
        self.seconds = 0.0  # of computing
        self.deaths = 0  # of workers that were running one of its slices
        self.done: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self.outstanding: Final[dict[int, Slice]] = {}
        self._when_idle: Callable[[], None] | None = None
        self._grid = grid
        self._memory = memory
        self._step = slice_blocks(grid, slice_elements)
        self._next = 0
        self._answered = 0
        self._sum, self._weight_sum, self._positives = ExactSum(), ExactSum(), ExactSum()
        self._weighted = "weight" in request.tensors
        self._array = bool(grid.output_shape) or request.params["reduction"] == "none"
        self._output = output
        self._sums: dict[int, ExactArray] = {}  # of outputs that several blocks add to, by first output
        self._free: deque[int] = deque()
        if output is not None and not grid.disjoint:
            room = 8 * partials_room(grid, slice_elements)
            self._free.extend(output.offset + 8 * grid.outputs + i * room for i in range(WINDOW))
        if not grid.blocks:
            self.done.set_result(None)

    def next_slice(self) -> Slice | None:
        """The next slice to hand out; None if there is none, or enough of them are out already."""
        if self.done.done() or self._next == self._grid.blocks or len(self.outstanding) == WINDOW:
            return None
        first, last = self._next, min(self._next + self._step, self._grid.blocks)
        self._next = last
        partials = None
        if self._output is not None:
            count = self._grid.partials(first, last)
            if self._grid.disjoint:
                partials = (self._output.offset + 8 * self._grid.block(first).output, count)
            else:
                partials = (self._free.popleft(), count)
        piece = Slice(
            id=next(_slice_ids),
            request=self.id,
            loss=self.request.loss,
            params=dict(self.request.params),
            shape=self._grid.shape,
            axes=self._grid.axes,
            tensors=dict(self.request.tensors),
            first=first,
            last=last,
            partials=partials,
            deadline=self.deadline,
        )
        self.outstanding[piece.id] = piece
        return piece

    def take(self, answer: Scored | Failed) -> None:
        """Take in the answer to one of its slices."""
        piece = self.outstanding[answer.id]
        self.forget(answer.id)
        if self.done.done():
            return
        if isinstance(answer, Failed):
            self.fail(Fault(answer.code, answer.detail, answer.errors))
            return
        self._sum.add_all(answer.sum)
        self._positives.add_all(answer.positives)
        if answer.weight_sum is not None:
            self._weight_sum.add_all(answer.weight_sum)
        self.seconds += answer.seconds
        self._answered += piece.last - piece.first
        if piece.partials is not None and not self._grid.disjoint:
            self._merge(answer.pieces, piece.partials[0])
        if self._answered == self._grid.blocks:
            self.done.set_result(None)

    def forget(self, slice_id: int) -> None:
        """Strike a slice that has been answered, or whose worker has been reaped."""
        del self.outstanding[slice_id]
        if not self.outstanding and self._when_idle is not None:
            self._when_idle()

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once no worker can read or write this request's memory. For one that is done."""
        if self.outstanding:
            self._when_idle = callback
        else:
            callback()

    def fail(self, fault: Fault) -> None:
        """End it. Its memory is still in use until no slice is outstanding."""
        if not self.done.done():
            self.done.set_exception(fault)

    def result(self, kernel: str, device: str) -> LossResult:
        """What it came to, once it is done.

        Raises:
            Fault: ``empty_mean``: a mean over no elements.
        """
        size, outputs = self._grid.size, self._grid.outputs
        mean = self.request.params["reduction"] == "mean"
        if mean and outputs and not size:
            where = " of output 0" if self._array else ""
            detail = f"the mean{where} is over no elements; use reduction=sum, or leave empty batches out"
            raise Fault("empty_mean", detail)
        divisor = size // outputs if mean and outputs else 1
        loss: float | Float64Array
        if self._array:
            loss = self._outputs()
            loss /= divisor
            loss = loss.reshape(self._grid.output_shape)
        else:
            loss = self._sum.value / divisor
        return LossResult(
            loss=loss,
            reduction=str(self.request.params["reduction"]),
            sum=self._sum.value,
            count=size,
            weight_sum=self._weight_sum.value if self._weighted else float(size),
            positives=self._positives.value,
            shape=self._grid.shape,
            loss_name=self.request.loss,
            params=own_params(LOSSES[self.request.loss], self.request.params),
            kernel=kernel,
            device=device,
        )

    def _outputs(self) -> Float64Array:
        """The sums of an array answer, in the arena, [outputs]."""
        if self._output is None:
            return np.zeros(0)
        loss = np.frombuffer(
            self._memory.view, dtype=np.float64, count=self._grid.outputs, offset=self._output.offset
        )
        if not self._grid.blocks:
            loss[:] = 0.0
        for output, sums in self._sums.items():
            value = sums.value
            loss[output : output + len(value)] = value
        return loss

    def _merge(self, pieces: list[tuple[int, int, int]], offset: int) -> None:
        """Add a slice's partial sums to the running ones, and free their memory for the next slice."""
        self._free.append(offset)
        for output, planes, length in pieces:
            sums = self._sums.setdefault(output, ExactArray())
            for _ in range(planes):
                sums.add(np.frombuffer(self._memory.view, dtype=np.float64, count=length, offset=offset))
                offset += 8 * length


def slice_blocks(grid: Grid, slice_elements: int) -> int:
    """How many blocks a slice has."""
    return max(1, slice_elements * grid.blocks // max(1, grid.size))


def partials_room(grid: Grid, slice_elements: int) -> int:
    """How many partial sums a slice has at most."""
    return max(1, slice_blocks(grid, slice_elements)) * max(1, grid.block(0).outputs if grid.blocks else 1)


def output_bytes(grid: Grid, slice_elements: int) -> int:
    """How much memory an array answer needs while it is being computed."""
    scratch = 0 if grid.disjoint else WINDOW * partials_room(grid, slice_elements)
    return 8 * (grid.outputs + scratch)
