"""From a body to its loss: whole bodies, which are laid down in the arena and scored as they arrive."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lossd.api.accounting import server_timing
from lossd.api.json_helper.parser import LARGE_BYTES
from lossd.api.scoring.body_limits import Room
from lossd.api.scoring.exchange import Exchange
from lossd.api.scoring.validation import assemble
from lossd.api.services import SMALL_BYTES, Service
from lossd.core.catalog import Loss
from lossd.core.cut import Cut
from lossd.core.parameters import class_axis
from lossd.engine.admission.arena import Region
from lossd.engine.admission.concurrency import Permit
from lossd.engine.dispatch.array_outputs import arrays, output_bytes
from lossd.engine.dispatch.in_place import InPlace
from lossd.engine.dispatch.job import Batch, Job
from lossd.types import ITEMSIZE, Body, ErrorCode, LossRequest, LossResult, RequestError, Timings
from lossd.wire import Chunk, Decoder, Reader, merge_params

PARAMETER_ROOM: Final = 1 << 16
"""Bytes for lists among the parameters, such as a pos_weight."""
_EARLY_BYTES: Final = 1 << 20  # a shorter body has arrived before scoring its beginning would be of use
_TEXT_SHARE: Final = 4
"""How much longer numbers are as text, about: a document that is parsed keeps no others from their turn."""
_TEXT_BYTES: Final = 24  # "-1.7976931348623157e+308" is the longest that there is


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked for, but for what the body says.

    Attributes:
        loss: The loss.
        params: The parameters given outside of the body.
        shorter: Where arrays are answered as text: what to do to have them in binary.
    """

    loss: Loss
    params: Mapping[str, object]
    shorter: str | None


@dataclass(slots=True)
class Outcome:
    """A result, and what must be done with it.

    Attributes:
        result: The loss.
        output: The memory that its array lies in, to be released when that has been sent.
        seconds: Of reading, waiting and computing.
    """

    result: LossResult
    output: Region | None
    seconds: Timings

    @property
    def timing(self) -> tuple[bytes, bytes]:
        """The Server-Timing header."""
        return b"server-timing", server_timing(self.seconds)

    def release(self) -> None:
        """Give its memory back."""
        if self.output is not None:
            self.output.release()


class BodyScoring:
    """Scores one body that is laid down as a whole.

    Args:
        service: The workers and the memory.
        exchange: The request.
        task: What is asked for; called when the reader has said what the body holds, which may say that too.
        reader: Reads the body.
        decoder: Undoes the body's coding, if it has one.
        room: How long the body may be as it is laid down.
        arena_bytes: The memory that it needs then.
        json_bytes: How many bytes, from the body's first on, are JSON that the reader parses at the end.
    """

    def __init__(
        self,
        service: Service,
        exchange: Exchange,
        task: Callable[[], Task],
        reader: Reader,
        decoder: Decoder | None,
        room: Room,
        arena_bytes: int,
        *,
        json_bytes: int = 0,
    ) -> None:
        self._service = service
        self._exchange = exchange
        self._task = task
        self._reader = reader
        self._decoder = decoder
        self._room = room
        self._arena_bytes = arena_bytes
        self._json_bytes = json_bytes
        self._laid = 0
        self._request: LossRequest | None = None
        self._span: Batch | None = None
        self._last = ""  # the tensor that arrives last
        self._job: Job | None = None
        self._output: Region | None = None

    async def score(self) -> Outcome:
        """Receive the body and score it.

        Raises:
            RequestError: Whatever is wrong with it.
            ClientDisconnect: The caller has hung up.
        """
        patience = self._service.settings.timeout_seconds
        declared = self._exchange.declared
        nbytes = SMALL_BYTES if declared is None else declared  # as it turns out, most are short
        if self._exchange.format == "json":
            nbytes //= _TEXT_SHARE
        team, needed = self._exchange.team, self._arena_bytes + PARAMETER_ROOM
        turn = await self._service.turns(nbytes).ask(
            nbytes, self._exchange.left(patience), team.name, team.weight
        )
        try:
            region = await self._service.memory(needed).reserve(
                needed, self._exchange.left(patience), team.name, team.weight
            )
            return await self._score(region, turn)
        finally:
            turn.end()

    async def _score(self, region: Region, turn: Permit) -> Outcome:
        answered = False
        try:
            await self._receive(region)
            turn.arrived()
            body = await self._finish(region)
            if self._job is None:
                request, cut = self._assemble(body, region)
                inplace = self._service.inplace
                if inplace is not None and inplace.takes(request, cut):
                    return await self._score_in_place(inplace, request, cut, region)
                await self._start(request, cut)
            assert self._job is not None
            assert self._span is not None
            self._job.deadline = self._deadline()
            self._let_go(self._span.cut.parts)
            self._job.close(self._span.cut)
            outcome = await await_outcome(self._job, self._exchange, self._output)
            answered = True
            return outcome
        finally:
            release_after(self._job, [region], None if answered else self._output)

    async def _receive(self, region: Region) -> None:
        view, aimed = region.view, False
        while (chunk := await self._exchange.chunk()) is not None:
            for plain in self._decoded(chunk):
                await self._exchange.breathe()
                for piece in self._reader.feed(plain):
                    end = self._laid + len(piece)
                    self._room.check(end + self._reader.skipped)
                    if not aimed:
                        view[self._laid : end] = piece
                    self._laid = end
                    await self._exchange.breathe()
                self._room.check_announced(self._reader.needed)
            await self._score_early(region)
            if not aimed and self._decoder is None and self._reader.as_is:
                aimed = self._exchange.aim_upload(view[self._laid :])
        if self._decoder is not None:
            self._decoder.finish()

    def _decoded(self, chunk: Chunk) -> Iterable[Chunk]:
        return (chunk,) if self._decoder is None else self._decoder.feed(chunk)

    async def _finish(self, region: Region) -> Body:
        """What the body held. What would take long is done beside the event loop."""
        laid = region.view[: self._laid]
        if min(self._laid, self._json_bytes) <= LARGE_BYTES:
            return self._reader.finish(laid)
        if self._exchange.format == "json":
            deadline = self._exchange.deadline
            return await self._service.parser.parse_document(region, self._laid, deadline=deadline)
        loop = asyncio.get_running_loop()
        region.share()

        def finish() -> Body:
            try:
                return self._reader.finish(laid)
            finally:
                loop.call_soon_threadsafe(region.release)

        return await loop.run_in_executor(None, finish)

    async def _score_early(self, region: Region) -> None:
        """Let what has arrived be scored, once nothing but the end of the last tensor is to come."""
        if self._job is None:
            if self._laid < _EARLY_BYTES or self._exchange.body_read:
                return
            if self._reader.needed > self._room.nbytes:
                return  # it is going to end within a tensor
            length = None if self._decoder is not None else self._exchange.declared
            outline = self._reader.outline(length)
            if outline is None or not outline.tensors:
                return
            self._last = max(outline.tensors, key=lambda name: outline.tensors[name].offset)
            await self._start(*self._assemble(outline, region))
        assert self._job is not None
        assert self._request is not None
        assert self._span is not None
        if self._job.over:
            await self._job.result()
        cut = self._span.cut
        arrived = arrived_elements(self._last, self._request, cut, region.offset + self._laid)
        self._let_go(cut.parts_within(arrived))

    def _assemble(self, body: Body, region: Region) -> tuple[LossRequest, Cut]:
        """The request that a body is, charged to its team."""
        task = self._task()
        params = merge_params(task.params, body.params)
        ends = (tensor.offset + tensor.nbytes for tensor in body.tensors.values())
        free = max(self._room.nbytes, *ends, 0)
        elements = self._service.pool.elements_for(task.loss)
        request, cut = assemble(task.loss, body, free, region, params, elements)
        self._exchange.charge(cut.size)
        return request, cut

    async def _score_in_place(
        self, inplace: InPlace, request: LossRequest, cut: Cut, region: Region
    ) -> Outcome:
        began, exchange = time.monotonic(), self._exchange
        if cut.output_shape:
            check_answer(self._service, request, cut, self._task())
        scored = inplace.score(request, cut, region.memory, 0, self._deadline(), exchange.team)
        result, compute = await scored
        waited = max(0.0, time.monotonic() - began - compute)
        return Outcome(result, None, Timings(exchange.read_seconds, waited, compute))

    async def _start(self, request: LossRequest, cut: Cut) -> None:
        exchange, patience = self._exchange, self._service.settings.timeout_seconds
        self._output = await reserve_output(self._service, request, cut, self._task(), exchange)
        self._job = await self._service.pool.start(
            request,
            cut,
            self._output,
            exchange.left(patience),
            exchange.team.name,
            exchange.team.weight,
            exchange.request_id,
            exchange.trace,
        )
        self._job.deadline = math.inf if exchange.deadline is None else exchange.deadline
        self._request, self._span = request, Batch(request.tensors, cut)
        self._job.append(self._span)

    def _deadline(self) -> float:
        """When the answer is of no use any more, all of the body being there."""
        deadline = self._exchange.deadline
        return time.monotonic() + self._service.settings.timeout_seconds if deadline is None else deadline

    def _let_go(self, parts: int) -> None:
        assert self._job is not None
        assert self._span is not None
        self._span.arrived = parts
        self._job.advance()


def release_after(job: Job | None, regions: list[Region], output: Region | None) -> None:
    """Release a request's memory as soon as nobody reads or writes it.

    Args:
        job: The request; None if it was never started.
        regions: What its tensors lie in.
        output: What its answer lies in, unless somebody needs that yet.
    """
    held = [*regions, output] if output is not None else regions

    def release() -> None:
        for region in held:
            region.release()

    if job is None:
        release()
    else:
        job.end(release)


async def await_outcome(job: Job, exchange: Exchange, output: Region | None) -> Outcome:
    """What a request comes to, all of whose inputs have arrived."""
    submitted = time.monotonic()
    result, compute = await job.result()
    waited = max(0.0, time.monotonic() - submitted - compute)
    return Outcome(result, output, Timings(exchange.read_seconds, waited, compute))


async def reserve_output(
    service: Service, request: LossRequest, cut: Cut, task: Task, exchange: Exchange
) -> Region | None:
    """Memory for an array answer; None where the answer is one number.

    Raises:
        RequestError: ``output_too_large``, or ``overloaded``.
    """
    if len(cut.axes) == len(cut.shape):
        return None
    check_answer(service, request, cut, task)
    nbytes = output_bytes(request, cut)
    patience, team = exchange.left(service.settings.timeout_seconds), exchange.team
    return await service.outputs.reserve(nbytes, patience, team.name, team.weight)


def check_answer(service: Service, request: LossRequest, cut: Cut, task: Task) -> None:
    """Refuse an array answer that is too large, as it is sent or as it is computed.

    Raises:
        RequestError: ``output_too_large``.
    """
    needed = arrays(request, cut)
    written = 1 + needed if 0 in cut.axes else 1  # text has the terms of sums over the rows, too
    check_output(service, cut.outputs, task, needed, written)


def check_output(service: Service, outputs: int, task: Task, arrays: int, written: int = 1) -> None:
    """Refuse an answer that is too large, as it is sent or as it is computed.

    Args:
        service: Whose limit it is.
        outputs: How many numbers the answer has.
        task: What is asked for.
        arrays: How many arrays of so many float64 it takes to compute it.
        written: How many it has as text.

    Raises:
        RequestError: ``output_too_large``.
    """
    limit, needed = service.settings.max_output_bytes, outputs * number_bytes(task, arrays, written)
    if needed <= limit:
        return
    remedy = "reduce over more axes, or send less"
    if task.shorter is not None:
        remedy = f"{task.shorter}, {remedy}"
    detail = f"the answer's {outputs} numbers may take {needed} bytes, at most {limit} are allowed; {remedy}"
    raise RequestError(ErrorCode.OUTPUT_TOO_LARGE, detail)


def number_bytes(task: Task, arrays: int, written: int = 1) -> int:
    """The bytes that a number of an array answer may take, as it is sent or as it is computed."""
    return max(8 if task.shorter is None else _TEXT_BYTES * written, 8 * arrays)


def arrived_elements(name: str, request: LossRequest, cut: Cut, end: int) -> int:
    """How many elements of a request, in C order, have all of their inputs in memory.

    Args:
        name: The one tensor that may not have arrived as a whole.
        request: The request.
        cut: How it is cut.
        end: Where in the arena the bytes that have arrived end.
    """
    tensor = request.tensors[name]
    if tensor.offset + tensor.nbytes <= end:
        return cut.size
    if tensor.fortran and len(tensor.shape) > 1:
        return 0
    count = max(0, end - tensor.offset) // ITEMSIZE[tensor.dtype]
    if tensor.shape == cut.shape:
        return count
    by_index = name == "targets" and request.params["targets_format"] == "index"
    if by_index and class_axis(request.params, cut.shape) == len(cut.shape) - 1:
        return count * cut.shape[-1]
    return 0
