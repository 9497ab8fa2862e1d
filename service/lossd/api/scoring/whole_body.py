"""Scoring of a body that is kept in the arena as a whole, begun while its last tensor still arrives."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lossd.api.accounting import server_timing
from lossd.api.helpers.json_parser import LARGE_BYTES
from lossd.api.scoring.array_answer import check_answer, reserve_output
from lossd.api.scoring.body import SizeLimit, decoded
from lossd.api.scoring.exchange import Exchange
from lossd.api.scoring.request_spec import LossSpec, no_report
from lossd.api.services import SMALL_BYTES, Service
from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.parameters import class_axis, row_axes
from lossd.engine.admission.arena import Arena, Region
from lossd.engine.admission.concurrency import Permit
from lossd.engine.dispatch.in_place import InPlace, prepare_request
from lossd.engine.dispatch.job import Batch, Job
from lossd.engine.dispatch.report_outputs import ReportPlan
from lossd.engine.dispatch.result import too_late
from lossd.requests.loss_checks import check_length
from lossd.requests.report_checks import plan_for, show_weights
from lossd.requests.validation import assemble
from lossd.types import ITEMSIZE, Body, LossRequest, LossResult, Timings
from lossd.wire import Decoder, Reader, merge_params

PARAMETER_BYTES: Final = 1 << 16
"""Memory behind a body for lists among the parameters, such as a pos_weight."""
_EARLY_BYTES: Final = 1 << 20  # a shorter body arrives before an early start would help
_JSON_SHARE: Final = 4
"""A JSON body counts as this many times shorter in the queue: numbers are about that much longer as text, and
parsing leaves the event loop to others."""


@dataclass(slots=True)
class Answer:
    """A result, its memory, and how long it took.

    Attributes:
        result: The loss and the figures beside it.
        output: The memory of an array result, to be released after it is sent; None for a number.
        timings: The seconds of each stage.
    """

    result: LossResult
    output: Region | None
    timings: Timings

    @property
    def timing_header(self) -> tuple[bytes, bytes]:
        """The Server-Timing header."""
        return b"server-timing", server_timing(self.timings)

    def release(self) -> None:
        """Give the result's memory back."""
        if self.output is not None:
            self.output.release()


@dataclass(frozen=True, slots=True)
class _Started:
    """A job that has started.

    Attributes:
        job: The job.
        request: The job's request.
        batch: The job's only batch.
        last: The name of the tensor that arrives last.
    """

    job: Job
    request: LossRequest
    batch: Batch
    last: str


class WholeBody:
    """Receives and scores one body that is kept in the arena as a whole.

    Args:
        exchange: The exchange of the request.
        spec: Returns the loss and the parameters known before the body; called once the reader knows the
            tensors, as some of that may stand in the body.
        reader: The body's reader.
        decoder: The decoder of its content coding, if it has one.
        limit: The most bytes that the body may have, decoded.
        arena_bytes: The memory that a body of that length needs.
        json_bytes: The bytes at the body's beginning that are JSON, which the reader parses at the end.
    """

    def __init__(
        self,
        exchange: Exchange,
        spec: Callable[[], LossSpec],
        reader: Reader,
        decoder: Decoder | None,
        limit: SizeLimit,
        arena_bytes: int,
        *,
        json_bytes: int = 0,
    ) -> None:
        self._service = exchange.service
        self._exchange = exchange
        self._spec = spec
        self._reader = reader
        self._decoder = decoder
        self._limit = limit
        self._arena_bytes = arena_bytes + PARAMETER_BYTES
        self._json_bytes = json_bytes
        self._received = 0  # bytes in the arena
        self._started: _Started | None = None
        self._output: Region | None = None
        self._report: ReportPlan | None = None

    async def score(self) -> Answer:
        """Receive the body and score it.

        Raises:
            RequestError: The body is wrong, or cannot be scored now.
            ClientDisconnect: The caller has hung up.
        """
        began = time.monotonic()
        permit = await self._wait_for_permit()
        try:
            region = await self._reserve_memory(permit)
            self._exchange.stages["wait"] = began, time.monotonic()
            answer = None
            try:
                answer = await self._score(region, permit)
                return answer
            finally:
                job = None if self._started is None else self._started.job
                release_after(self._exchange, job, [region], self._output if answer is None else None)
        finally:
            if permit is not None:
                permit.end()

    async def _wait_for_permit(self) -> Permit | None:
        """Wait until a large body may be received. A small one waits for memory alone, and has no permit."""
        service, team = self._service, self._exchange.team
        length = self._exchange.content_length
        nbytes = SMALL_BYTES if length is None else length  # most chunked bodies are small
        if self._exchange.format == "json":
            nbytes //= _JSON_SHARE
        if nbytes <= SMALL_BYTES:
            return None
        return await service.permits.ask(nbytes, self._exchange.patience, team.name, team.weight)

    async def _reserve_memory(self, permit: Permit | None) -> Region:
        nbytes, exchange = self._arena_bytes, self._exchange
        arena = arena_for(self._service, nbytes)
        if permit is not None and arena.fills_share(nbytes, exchange.team.name):
            permit.give_up()
        return await exchange.reserve(arena, nbytes)

    async def _score(self, region: Region, permit: Permit | None) -> Answer:
        await self._receive(region)
        if permit is not None:
            permit.arrived()
        body = await self._finish(region)
        started = self._started
        if started is None:
            request, cut = self._assemble(body, region)
            inplace = self._service.inplace
            if inplace is not None and inplace.takes(request, cut):
                return self._score_in_place(inplace, request, cut, region)
            started = await self._start(request, cut)
        job, batch = started.job, started.batch
        if self._report is not None:
            show_weights(started.request, batch.cut.shape, region.memory)
        job.deadline = self._exchange.answer_deadline
        _hand_out(started, batch.cut.parts)
        job.close(batch.cut)
        return await await_answer(job, self._exchange, self._output)

    async def _receive(self, region: Region) -> None:
        """Write the body to the region as it arrives; a long rest is read straight into it."""
        view, direct = region.view, False
        while (chunk := await self._exchange.next_chunk()) is not None:
            for plain in decoded(chunk, self._decoder):
                await self._exchange.let_others_run()
                for stored in self._reader.feed(plain):
                    end = self._received + len(stored)
                    self._limit.check(end + self._reader.skipped)
                    if not direct:
                        view[self._received : end] = stored
                    self._received = end
                    await self._exchange.let_others_run()
                self._limit.check_announced(self._reader.needed)
            await self._score_early(region)
            if not direct and self._decoder is None and self._reader.as_is:
                direct = self._exchange.read_into(view[self._received :])
        if self._decoder is not None:
            self._decoder.finish()

    async def _finish(self, region: Region) -> Body:
        """Return the body's tensors and parameters. Long JSON is parsed off the event loop."""
        received = region.view[: self._received]
        if min(self._received, self._json_bytes) <= LARGE_BYTES:
            return self._reader.finish(received)
        if self._exchange.format == "json":
            deadline, team = self._exchange.answer_deadline, self._exchange.team
            return await self._service.helpers.parser.parse_document(
                region, self._received, deadline=deadline, team=team.name, weight=team.weight
            )
        loop = asyncio.get_running_loop()
        region.share()

        def finish() -> Body:
            try:
                return self._reader.finish(received)
            finally:
                loop.call_soon_threadsafe(region.release)

        return await loop.run_in_executor(None, finish)

    async def _score_early(self, region: Region) -> None:
        """Have the elements that have arrived scored, once only the last tensor is incomplete."""
        started = self._started
        if started is None:
            if self._received < _EARLY_BYTES or self._exchange.body_read:
                return
            if self._reader.needed > self._limit.nbytes:
                return  # the body will end within a tensor
            length = None if self._decoder is not None else self._exchange.content_length
            outline = self._reader.outline(length)
            if outline is None or not outline.tensors:
                return
            last = max(outline.tensors, key=lambda name: outline.tensors[name].offset)
            started = await self._start(*self._assemble(outline, region), last)
        if started.job.ended:
            await started.job.result()
        cut = started.batch.cut
        arrived = arrived_losses(started.last, started.request, cut, region.offset + self._received)
        _hand_out(started, cut.parts_within(arrived))

    def _assemble(self, body: Body, region: Region) -> tuple[LossRequest, Cut]:
        """Return the body's request, and charge its elements to the team."""
        spec = self._spec()
        params = merge_params(spec.params, body.params) if body.params else spec.params
        ends = (tensor.offset + tensor.nbytes for tensor in body.tensors.values())
        free = max(self._limit.nbytes, *ends, 0)
        slice_elements = self._service.pool.elements_for(spec.loss, report="report" in params)
        request, cut = assemble(spec.loss, body, free, region, params, slice_elements)
        check_length(request, self._service.settings)
        if cut.whole_rows:
            if not spec.has_report:
                raise no_report()
            self._report = plan_for(request, cut, self._service.settings)
        self._exchange.charge(cut.size * request.row_size)
        return request, cut

    def _score_in_place(self, inplace: InPlace, request: LossRequest, cut: Cut, region: Region) -> Answer:
        began, exchange = time.monotonic(), self._exchange
        if cut.output_shape:
            check_answer(self._service, request, cut, self._spec())
        started = time.monotonic()
        if started >= exchange.answer_deadline:
            raise too_late()
        result = inplace.compute(prepare_request(request, cut), region.memory, 0)
        compute = time.monotonic() - started
        timings = _timings(exchange, began, compute)
        begins = began + timings.queue
        exchange.stages |= {"queue": (began, begins), "compute": (begins, begins + compute)}
        return Answer(result, None, timings)

    async def _start(self, request: LossRequest, cut: Cut, last: str = "") -> _Started:
        exchange, report = self._exchange, self._report
        if cut.output_shape or report is not None:
            self._output = await reserve_output(request, cut, self._spec(), exchange, report)
        job = await self._service.pool.start(
            request, cut, self._output, exchange.patience, exchange.requester, report
        )
        job.deadline = math.inf if exchange.deadline is None else exchange.deadline
        batch = Batch(request.tensors, cut)
        self._started = _Started(job, request, batch, last)
        job.append(batch)
        return self._started


def arena_for(service: Service, nbytes: int) -> Arena:
    """Return the part of the arena that lends a request so many bytes."""
    return service.small_bodies if nbytes <= service.small_bodies.capacity // 8 else service.bodies


def _hand_out(started: _Started, parts: int) -> None:
    """Let the parts whose inputs have arrived be scored."""
    started.batch.arrived = parts
    started.job.advance()


def release_after(exchange: Exchange, job: Job | None, regions: list[Region], output: Region | None) -> None:
    """Note a job's stages, and release its request's memory as soon as no worker reads or writes it.

    Args:
        exchange: The exchange of the request.
        job: The request's job; None if it was not started.
        regions: The memory of the tensors.
        output: The memory of the result, unless it is still to be sent.
    """
    held = [*regions, output] if output is not None else regions

    def release() -> None:
        for region in held:
            region.release()

    if job is None:
        release()
    else:
        exchange.stages |= job.stages()
        job.end(release)


async def await_answer(job: Job, exchange: Exchange, output: Region | None) -> Answer:
    """Wait for the answer to a request whose body has arrived."""
    began = time.monotonic()
    result, compute = await job.result()
    return Answer(result, output, _timings(exchange, began, compute))


def _timings(exchange: Exchange, began: float, compute: float) -> Timings:
    """Return the timings of a request, scored now, whose body had arrived at ``began``."""
    return Timings(exchange.read_seconds, max(0.0, time.monotonic() - began - compute), compute)


def arrived_losses(name: str, request: LossRequest, cut: Cut, end: int) -> int:
    """Return the number of losses, in C order, whose inputs have all arrived.

    Args:
        name: The one tensor that may be incomplete.
        request: The request.
        cut: The request's cut.
        end: The offset in the arena at which the received bytes end.
    """
    tensor, shape = request.tensors[name], request.shape
    if tensor.offset + tensor.nbytes <= end:
        return cut.size
    if tensor.fortran and len(tensor.shape) > 1:
        return 0
    count = max(0, end - tensor.offset) // ITEMSIZE[tensor.dtype]
    loss, params = LOSSES[request.loss], request.params
    rows = row_axes(loss, params, shape)
    if tensor.shape == shape:
        whole = min(rows, default=len(shape))  # the axes before those of a row
        return count // max(1, math.prod(shape[whole:])) * math.prod(cut.shape[whole:]) if whole else 0
    if name == "targets" and params["targets_format"] == "index":
        return _arrived_by_id(count, shape, class_axis(params, shape), rows)
    if tensor.shape == cut.shape:
        return count
    if name in ("groups", "ids"):
        return count // math.prod(tensor.shape[1:]) * cut.row_size
    return 0


def _arrived_by_id(count: int, shape: tuple[int, ...], axis: int, rows: tuple[int, ...]) -> int:
    """Return the number of losses, in C order, of so many class ids.

    Args:
        count: The number of ids.
        shape: The inputs' shape.
        axis: The axis of the classes.
        rows: The axes of a row, which has one loss.
    """
    if rows == (axis,):
        return count
    if not rows:
        return count * shape[axis] if axis == len(shape) - 1 else 0
    if 0 in rows or axis == 0:
        return 0  # a row ends with the ids
    return count // max(1, math.prod(n for place, n in enumerate(shape) if place not in (0, axis)))
