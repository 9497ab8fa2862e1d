"""A request while it is being scored: hands out its slices, and adds up what comes back."""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np

from lossd.core.exact_sum import ExactSum
from lossd.core.grid import Grid
from lossd.engine.arena import Memory, Region
from lossd.engine.figures import Totals, crashed, empty_mean, loss_of, result_of
from lossd.engine.frames import Failed, Recipe, Scored, Slice, encode_recipe
from lossd.engine.outputs import WINDOW, Outputs, channel_bytes, channels, slice_blocks
from lossd.request import Fault, Float64Array, LossRequest, LossResult, Tensor

slice_ids: Final = itertools.count(
    1 + secrets.randbits(40)
)  # not those of the process before in this one's place
request_ids: Final = itertools.count(1)


@dataclass(slots=True)
class Span:
    """Blocks that follow each other and whose inputs lie in the same places.

    Attributes:
        tensors: Where their inputs lie.
        grid: The request's blocks as far as they are known.
        first: The first block.
        last: The block after the last whose inputs have all arrived.
        rows: For a stream: the number of the tensors' first row, and how many rows they have.
        base: Where in the arena the tensors' offsets are counted from.
        recipe: What workers are asked with it, encoded, if that is known already.
        done: How many of the blocks have been answered.
        closed: No further block will be added.
    """

    tensors: Mapping[str, Tensor]
    grid: Grid
    first: int = 0
    last: int = 0
    rows: tuple[int, int] | None = None
    base: int = 0
    recipe: bytes | None = None
    done: int = 0
    closed: bool = False

    @property
    def answered(self) -> bool:
        """All of it has been scored, and nobody reads its inputs any more."""
        return self.closed and self.done == self.last - self.first


class Job:
    """One request.

    It is handed out span by span, as its inputs arrive: a request that lies in memory as a whole is one span,
    a stream one for each stretch of memory that its rows are written to.

    Args:
        request: What to score.
        grid: Its blocks; of a stream, those of the most rows that it may have.
        memory: The arena.
        output: Where array answers go, at least `output_bytes` long; None where there is no array.
        slice_elements: About how many elements a slice has.
        workers: How many may have slices of it at a time.
        team: Whose it is.
        weight: The team's share of a worker's time, in proportion to others'.
        identity: The id that the caller knows it by.
        trace: Its span's context, for traces.
    """

    def __init__(
        self,
        request: LossRequest,
        grid: Grid,
        memory: Memory,
        output: Region | None,
        slice_elements: int,
        workers: int,
        team: str,
        weight: float,
        identity: str = "",
        trace: str = "",
    ) -> None:
        self.id: Final = next(request_ids)
        self.request: Final = request
        self.deadline = math.inf  # by time.monotonic()
        self.seconds = 0.0  # of computing
        self.done: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self.outstanding: Final[dict[int, tuple[Slice, Span]]] = {}
        self._fault: Fault | None = None
        self._failed: tuple[int, Fault] | None = (
            None  # the first block of the first slice that failed, and why
        )
        self._when_idle: Callable[[], None] | None = None
        self._when_answered: Callable[[], None] | None = None
        self.team: Final = team
        self.identity: Final = identity
        self._trace = trace
        self._weight = weight
        self._grid = grid
        self._closed = False
        self._spans: deque[Span] = deque()  # those of which a block is still to be handed out or to arrive
        self._window = WINDOW if output is not None and not grid.disjoint else WINDOW * workers
        self._step = slice_blocks(grid, slice_elements)
        self._next = 0
        self._answered = 0
        self._sum, self._weight_sum, self._positives = ExactSum(), ExactSum(), ExactSum()
        self._count = 0
        self._busy: dict[str, float] = {}  # seconds of computing, by device
        self._outputs: list[Outputs] = []  # the losses', and the divisors' where each output has its own
        if output is not None:
            size = channel_bytes(grid, slice_elements)
            self._outputs = [
                Outputs(grid, memory, output.offset + channel * size, slice_elements)
                for channel in range(channels(request, grid))
            ]

    @property
    def tried(self) -> bool:
        """Something of it has been scored: until then it is one worker's, lest it end all of them at once."""
        return self._answered > 0

    def append(self, span: Span) -> None:
        """Go on with a span, which begins behind the last one's last block. That one is closed by this."""
        if self._spans:
            self._spans[-1].closed = True
        self._spans.append(span)

    def close(self, grid: Grid) -> None:
        """Take note that all inputs have arrived.

        Args:
            grid: The request's blocks, all of which are in the spans.
        """
        self._grid = grid
        self._closed = True
        self._spans[-1].closed = True
        self._end_if_complete()

    def next_slice(self) -> Slice | None:
        """The next slice to hand out; None if there is none, or enough of them are out already."""
        window = self._window if self.tried else WINDOW
        if self.done.done() or self._failed is not None or len(self.outstanding) >= window:
            return None
        while self._spans and self._spans[0].closed and self._spans[0].last == self._next:
            self._spans.popleft()
        if not self._spans:
            return None
        span = self._spans[0]
        first, last = self._next, min(self._next + self._step, span.last)
        if last - first < (1 if span.closed else self._step):
            return None  # a slice is worth its while when it is whole
        self._next = last
        recipe = self._recipe(span)
        piece = Slice(
            id=next(slice_ids),
            request=self.id,
            recipe=recipe,
            base=span.base,
            first=first,
            last=last,
            partials=[outputs.place(span.grid, first, last) for outputs in self._outputs],
            deadline=self.deadline,
            rows=span.rows,
            team=self.team,
            weight=self._weight,
            identity=self.identity,
            trace=self._trace,
        )
        self.outstanding[piece.id] = piece, span
        return piece

    def _recipe(self, span: Span) -> bytes:
        """What workers are asked with a span."""
        if span.rows is not None:  # a stream's grows
            return recipe_of(self.request, span.tensors, span.grid)
        if span.recipe is None:
            # Counted from where they begin, so that alike requests are alike to the byte, wherever they lie.
            span.base = min(tensor.offset for tensor in span.tensors.values())
            tensors = {
                name: replace(tensor, offset=tensor.offset - span.base)
                for name, tensor in span.tensors.items()
            }
            span.recipe = recipe_of(self.request, tensors, span.grid)
        return span.recipe

    def take(self, answer: Scored | Failed, device: str) -> None:
        """Take in the answer to one of its slices, from a device."""
        piece, span = self.outstanding[answer.id]
        span.done += piece.last - piece.first
        self.forget(answer.id)
        if self.done.done():
            return
        if isinstance(answer, Failed) and (self._failed is None or piece.first < self._failed[0]):
            self._failed = piece.first, Fault(answer.code, answer.detail, answer.errors)
        if self._failed is not None:
            first, fault = self._failed
            if all(piece.first > first for piece, _ in self.outstanding.values()):
                self.fail(fault)  # else an earlier one may have one, too: the first is told
            return
        assert isinstance(answer, Scored)
        self._sum.add_all(answer.sum)
        self._positives.add_all(answer.positives)
        if answer.weight_sum is not None:
            self._weight_sum.add_all(answer.weight_sum)
        self._count += answer.count
        self.seconds += answer.seconds
        self._busy[device] = self._busy.get(device, 0.0) + answer.seconds
        self._answered += piece.last - piece.first
        for outputs, pieces, (offset, _) in zip(self._outputs, answer.pieces, piece.partials, strict=True):
            outputs.take(pieces, offset)
        if self._when_answered is not None:
            self._when_answered()
        self._end_if_complete()

    def ended_worker(self, slice_id: int) -> None:
        """Take note that a worker ended while it ran a slice, which is alone from then on.

        The second time it is the slice's fault.
        """
        piece, span = self.outstanding[slice_id]
        self.outstanding[slice_id] = msgspec.structs.replace(piece, alone=True), span
        if piece.alone:
            self.fail(crashed())

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

    def when_answered(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` each time that a slice has been answered, and when the request has ended."""
        self._when_answered = callback
        self.done.add_done_callback(lambda _: callback())

    def fail(self, fault: Fault) -> None:
        """End it. Its memory is still in use until no slice is outstanding."""
        if not self.done.done():
            self._fault = fault
            self.done.set_result(None)

    def result(self, kernel: str, device: str) -> LossResult:
        """What it came to, once it is done.

        Raises:
            Fault: What it was ended for, or ``empty_mean``: a mean over nothing.
        """
        if self._fault is not None:
            raise self._fault.anew()
        totals = Totals(self._sum.value, self._weights(), self._positives.value, self._count)
        loss: float | Float64Array
        if self._outputs:
            loss = self._array().reshape(self._grid.output_shape)
        else:
            loss = loss_of(self.request, totals)
        result = result_of(self.request, self._grid, loss, totals, kernel, device)
        if self._busy.keys() - {device}:
            result.elsewhere = {name: seconds for name, seconds in self._busy.items() if name != device}
        return result

    def _end_if_complete(self) -> None:
        if self._closed and self._answered == self._grid.blocks and not self.done.done():
            self.done.set_result(None)

    def _array(self) -> Float64Array:
        """An array answer, [outputs], in the arena."""
        losses = self._outputs[0].finish(self._grid)
        if self.request.params["reduction"] != "mean":
            return losses
        if len(self._outputs) == 1:
            losses /= self._even_divisor()
            return losses
        divisors = self._outputs[1].finish(self._grid)
        if self.request.params["normalizer"] == "positives":
            np.maximum(divisors, 1.0, out=divisors)
        empty = np.flatnonzero(divisors == 0.0)
        if len(empty):
            raise empty_mean(np.unravel_index(int(empty[0]), self._grid.output_shape))
        losses /= divisors
        return losses

    def _even_divisor(self) -> float:
        """What every output is divided by, where that is the same for all."""
        normalizer = self.request.params["normalizer"]
        if isinstance(normalizer, float):
            return normalizer
        outputs = self._grid.outputs
        if outputs and not self._grid.size:
            if normalizer == "positives":
                return 1.0
            raise empty_mean((0,) * len(self._grid.output_shape))
        return float(self._grid.size // outputs) if outputs else 1.0

    def _weights(self) -> float:
        return self._weight_sum.value if "weight" in self.request.tensors else float(self._count)


def recipe_of(request: LossRequest, tensors: Mapping[str, Tensor], grid: Grid) -> bytes:
    """What workers are asked with a request, encoded.

    Args:
        request: The request.
        tensors: Where its inputs lie.
        grid: Its blocks.
    """
    recipe = Recipe(
        loss=request.loss,
        params=dict(request.params),
        shape=grid.shape,
        axes=grid.axes,
        block=grid.block_elements,
        tensors=dict(tensors),
    )
    return encode_recipe(recipe)
