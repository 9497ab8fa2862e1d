"""A request while it is being scored: hands out its slices, and adds up what comes back."""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.exact_sum import ExactSum
from lossd.engine.admission.arena import Region
from lossd.engine.dispatch.array_outputs import Outputs, channels
from lossd.engine.dispatch.result import Planes, Totals, crashed, result_of, too_late
from lossd.engine.dispatch.worker_slot import WorkerSeat
from lossd.engine.ipc.memory import Memory
from lossd.engine.ipc.messages import Failed, Recipe, Scored, Slice, encode_recipe
from lossd.types import ErrorCode, LossRequest, LossResult, Requester, RequestError, Tensor

_slice_ids: Final = itertools.count(
    1 + secrets.randbits(40)
)  # not those of the process before in this one's place
_request_ids: Final = itertools.count(1)
_MANY_OUTPUTS: Final = 1 << 14
"""The sums of more outputs are put together beside the event loop, if they are not in the arena."""


class Hands(Protocol):
    """What hands slices out."""

    def feed(self, job: Job) -> None:
        """Hand out as many as may be out at a time."""

    def cancel(self, job: Job) -> None:
        """Have those that are out answered at once."""


@dataclass(slots=True)
class Span:
    """A request's inputs, or those of some rows of a stream: where they lie, and how they are cut.

    Attributes:
        tensors: Where they lie.
        cut: How they are cut.
        arrived: How many of the parts have all of their inputs.
        row: The number of the first row, of a stream.
        output: The number of the first output.
        handed: How many parts have been handed out.
        answered: How many of these have been answered.
        base: Where in the arena the recipe's offsets are counted from.
        recipe: What workers are asked with it, encoded, once it is known.
    """

    tensors: Mapping[str, Tensor]
    cut: Cut
    arrived: int = 0
    row: int = 0
    output: int = 0
    handed: int = 0
    answered: int = 0
    base: int = 0
    recipe: bytes = b""

    @property
    def done(self) -> bool:
        """All of it has been scored, and nobody reads its inputs any more."""
        return self.answered == self.cut.parts


@dataclass(slots=True)
class _Out:
    """A slice that has been handed out.

    Attributes:
        piece: The slice.
        span: What it is a part of.
        ended: It was running when a worker ended.
    """

    piece: Slice
    span: Span
    ended: bool = False


class Job:
    """One request.

    It is handed out span by span, as its inputs arrive: a request that lies in memory as a whole is one span,
    a stream many.

    Args:
        pool: What hands its slices out.
        seat: The worker's place that has all of its slices until one has been answered: what ends a worker
            is not to end all of them at once. Another one's, should that worker end while others are ready.
        request: What to score.
        cut: How it is cut; of a stream, if it had the most rows that it may have.
        memory: The arena.
        output: Where array answers go, as long as `output_bytes` says; None where there is no array.
        requester: Who sent it.
    """

    def __init__(
        self,
        pool: Hands,
        seat: WorkerSeat,
        request: LossRequest,
        cut: Cut,
        memory: Memory,
        output: Region | None,
        requester: Requester,
    ) -> None:
        self.id: Final = next(_request_ids)
        self.seat = seat
        self.requester: Final = requester
        self.deadline = math.inf  # by time.monotonic(): nothing is computed that is handed out after it
        self._pool = pool
        self._request = request
        self._cut = cut
        self._done: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._out: Final[dict[int, _Out]] = {}
        self._fault: RequestError | None = None
        self._failed: tuple[int, RequestError] | None = None  # the first slice that failed, and why
        self._when_idle: Callable[[], None] | None = None
        self._when_answered: Callable[[], None] | None = None
        self._closed = False
        self._spans: deque[Span] = deque()  # those of which a part is still to be handed out or to arrive
        self._missing = 0  # parts of spans that have not been answered
        self._sum, self._weight_sum, self._positives = ExactSum(), ExactSum(), ExactSum()
        self._count = 0
        self._kernel = ""
        self._busy: dict[str, float] = {}  # seconds of computing, by device
        self._outputs = None
        if output is not None:
            self._outputs = Outputs(cut, channels(request, cut), memory, output.offset)

    # For who answers it

    @property
    def over(self) -> bool:
        """It has come to its end; while inputs are still arriving that is a fault, which `result` raises."""
        return self._done.done()

    def append(self, span: Span) -> None:
        """Go on with a span."""
        self._spans.append(span)
        self._missing += span.cut.parts
        self.advance()

    def advance(self) -> None:
        """Hand out what has newly arrived."""
        self._pool.feed(self)

    def close(self, cut: Cut) -> None:
        """Take note that all inputs have arrived.

        Args:
            cut: The whole request, all of which is in the spans.
        """
        self._cut = cut
        self._closed = True
        self.advance()
        self._end_if_complete()

    def when_answered(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` each time that a slice has been answered, and when the request has ended."""
        self._when_answered = callback
        self._done.add_done_callback(lambda _: callback())

    async def result(self) -> tuple[LossResult, float]:
        """The result, whose array may lie in the output's memory, and the seconds of computing.

        Raises:
            RequestError: A value in a tensor, the deadline, or the device stood against it, or it is a mean
            over
                nothing.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(loop.time() + self.deadline - time.monotonic()):
                await self._done
        except TimeoutError:
            raise too_late() from None
        if self._fault is not None:
            raise self._fault.copy()
        result = self._result
        if self._outputs is None or self._cut.complete or self._cut.outputs <= _MANY_OUTPUTS:
            return result(), sum(self._busy.values())
        return await loop.run_in_executor(None, result), sum(self._busy.values())

    def end(self, release: Callable[[], None]) -> None:
        """End it if it has not ended, and call ``release`` as soon as nobody reads or writes its memory."""
        self._done.cancel()
        self._pool.cancel(self)
        if self._out:
            self._when_idle = release
        else:
            release()

    # For the pool

    @property
    def tried(self) -> bool:
        """Something of it has been scored: any worker may have slices of it."""
        return bool(self._busy)

    @property
    def outstanding(self) -> bool:
        """Slices of it have been handed out and not been answered."""
        return bool(self._out)

    def next_slice(self, most: int) -> Slice | None:
        """The next slice to hand out; None if there is none now, or so many are out already."""
        if self.over or self._failed is not None or len(self._out) >= most:
            return None
        while self._spans and self._spans[0].handed == self._spans[0].cut.parts:
            self._spans.popleft()
        if not self._spans or self._spans[0].handed == self._spans[0].arrived:
            return None
        span = self._spans[0]
        memories: list[tuple[int, int]] | None = []
        if self._outputs is not None:
            memories = self._outputs.place(span.cut, span.handed, span.output)
        if memories is None:
            return None
        if not span.recipe:
            self._write_recipe(span)
        piece = Slice(
            id=next(_slice_ids),
            request=self.id,
            recipe=span.recipe,
            base=span.base,
            index=span.handed,
            memories=memories,
            deadline=self.deadline,
            row=span.row,
            team=self.requester.team,
            weight=self.requester.weight,
            identity=self.requester.request_id,
            trace=self.requester.trace,
        )
        span.handed += 1
        self._out[piece.id] = _Out(piece, span)
        return piece

    def piece(self, slice_id: int) -> Slice:
        """A slice that is out."""
        return self._out[slice_id].piece

    def take(self, answer: Scored | Failed, seat: WorkerSeat) -> None:
        """Take in the answer to one of its slices, from a worker."""
        out = self._out[answer.id]
        piece, span = out.piece, out.span
        span.answered += 1
        self.forget(answer.id)
        if self.over:
            return
        if isinstance(answer, Failed) and (self._failed is None or answer.id < self._failed[0]):
            self._failed = answer.id, RequestError(ErrorCode(answer.code), answer.detail, answer.errors)
        if self._failed is not None:
            first, fault = self._failed
            if all(other > first for other in self._out):  # ids follow each other as slices do
                self.fail(fault)  # else an earlier one may have one, too: the first is told
            return
        assert isinstance(answer, Scored)
        self._sum.add_all(answer.sum)
        self._positives.add_all(answer.positives)
        if answer.weight_sum is not None:
            self._weight_sum.add_all(answer.weight_sum)
        self._count += answer.count
        self._kernel = seat.kernel if LOSSES[self._request.loss].is_native else "torch"
        self._busy[seat.computes_on] = self._busy.get(seat.computes_on, 0.0) + answer.seconds
        self._missing -= 1
        if self._outputs is not None:
            self._outputs.take(span.cut, piece.index, span.output, piece.memories, answer.planes)
        if self._when_answered is not None:
            self._when_answered()
        self._end_if_complete()

    def ended_worker(self, slice_id: int) -> None:
        """Take note that a worker ended while it ran a slice. The second time it is the slice's fault."""
        out = self._out[slice_id]
        if out.ended:
            self.fail(crashed())
        out.ended = True

    def forget(self, slice_id: int) -> None:
        """Strike a slice that has been answered, or whose worker has been reaped."""
        del self._out[slice_id]
        if not self._out and self._when_idle is not None:
            self._when_idle()

    def fail(self, fault: RequestError) -> None:
        """End it. Its memory is still in use until no slice is out."""
        if not self.over:
            self._fault = fault
            self._done.set_result(None)

    def _write_recipe(self, span: Span) -> None:
        """What workers are asked with a span: the same for others alike, wherever they lie."""
        span.base = min(tensor.offset for tensor in span.tensors.values())
        recipe = Recipe(
            loss=self._request.loss,
            params=dict(self._request.params),
            shape=span.cut.shape,
            axes=span.cut.axes,
            elements=span.cut.elements,
            tensors={
                name: replace(tensor, offset=tensor.offset - span.base)
                for name, tensor in span.tensors.items()
            },
        )
        span.recipe = encode_recipe(recipe)

    def _end_if_complete(self) -> None:
        if self._closed and not self._missing and not self.over:
            self._done.set_result(None)

    def _result(self) -> LossResult:
        weighted = "weight" in self._request.tensors
        totals = Totals(
            self._sum.terms, self._weight_sum.terms if weighted else None, self._positives.terms, self._count
        )
        arrays: Sequence[Planes] = () if self._outputs is None else self._outputs.finish(self._cut)
        busy = self._busy or {self.seat.computes_on: 0.0}
        device = max(busy, key=lambda name: busy[name])
        kernel = self._kernel or self.seat.kernel
        result = result_of(self._request, self._cut, totals, arrays, kernel, device)
        if len(busy) > 1:
            result.elsewhere = {name: seconds for name, seconds in busy.items() if name != device}
        return result
