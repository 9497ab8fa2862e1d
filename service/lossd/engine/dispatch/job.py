"""A request while workers score it: hands out its slices, and adds up their answers."""

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
from lossd.core.document.accumulator import NamesOf
from lossd.core.document.document import document_of
from lossd.core.kernel import Sums
from lossd.core.parameters import is_weighted
from lossd.engine.admission.arena import Region
from lossd.engine.dispatch.array_outputs import ArrayOutputs, channels
from lossd.engine.dispatch.report_outputs import ReportOutputs, ReportPlan, reserved_bytes
from lossd.engine.dispatch.result import Planes, RunningTotals, crashed, result_of, too_late
from lossd.engine.dispatch.worker_slot import WorkerSlot
from lossd.engine.ipc.memory import Memory
from lossd.engine.ipc.messages import Answer, BatchSpec, Cancelled, Failed, Scored, Slice, encode
from lossd.types import LossRequest, LossResult, Requester, RequestError, Tensor

_slice_ids: Final = itertools.count(1 + secrets.randbits(40))  # other ids than the process before this one's
_job_ids: Final = itertools.count(1)
_MANY_OUTPUTS: Final = 1 << 14
"""With more outputs than this, sums are merged in a thread, if they are not in the arena."""


class Dispatcher(Protocol):
    """Sends the slices of jobs to workers."""

    def feed(self, job: Job) -> None:
        """Send a job's next slices, as many as may be out at a time."""

    def cancel(self, job: Job) -> None:
        """Have the slices that are out answered at once."""


@dataclass(slots=True)
class Batch:
    """The tensors of a whole request, or of some rows of a stream, and how they are cut into slices.

    Attributes:
        tensors: The tensors, in the arena.
        cut: Its slices, as parts of the cut.
        arrived: Number of slices whose inputs have arrived.
        row: The number of the first row, in a stream.
        first_output: The number of the first output.
        handed: Number of slices handed out.
        answered: How many of these have been answered.
        names_of: Returns the ids of rows, counted from the first, where ids are strings.
        base: The arena offset that the spec's offsets are counted from.
        spec: The encoded `BatchSpec`, once a slice has been handed out.
    """

    tensors: Mapping[str, Tensor]
    cut: Cut
    arrived: int = 0
    row: int = 0
    first_output: int = 0
    handed: int = 0
    answered: int = 0
    names_of: NamesOf | None = None
    base: int = 0
    spec: bytes = b""

    @property
    def done(self) -> bool:
        """Whether all slices are answered, so that no worker reads the inputs any more."""
        return self.answered == self.cut.parts


@dataclass(slots=True)
class _Sent:
    """A slice that is out.

    Attributes:
        slice: The slice.
        batch: Its batch.
        ended_worker: A worker has ended while it scored this slice.
    """

    slice: Slice
    batch: Batch
    ended_worker: bool = False


class Job:
    """One request.

    Its inputs come in batches: a request that lies in memory as a whole is one batch, a stream is many.

    Args:
        pool: Sends its slices.
        slot: The worker that gets all slices until one has been answered, so that a request that ends its
            worker does not end all of them. If that worker ends while others are ready, one of them instead.
        request: The request.
        cut: How it is cut; for a stream, the cut for the most rows that it may have.
        memory: The arena.
        output: Memory for an array answer and a report, `reserved_bytes` long; None if there is neither.
        requester: Who sent the request.
        report: What is planned for the report; None if there is none.
    """

    def __init__(
        self,
        pool: Dispatcher,
        slot: WorkerSlot,
        request: LossRequest,
        cut: Cut,
        memory: Memory,
        output: Region | None,
        requester: Requester,
        report: ReportPlan | None = None,
    ) -> None:
        self.id: Final = next(_job_ids)
        self.slot = slot
        self.requester: Final = requester
        self.deadline = math.inf  # by time.monotonic(); slices handed out from now on are not scored after it
        self._pool = pool
        self._request = request
        self._cut = cut
        self._done: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._sent: Final[dict[int, _Sent]] = {}
        self._error: RequestError | None = None
        self._failed: tuple[int, RequestError] | None = None  # the first slice that failed, and why
        self._when_idle: Callable[[], None] | None = None
        self._when_answered: Callable[[], None] | None = None
        self._closed = False
        self._batches: deque[Batch] = deque()  # those with slices still to hand out
        self._missing = 0  # slices that have not been answered
        self._totals: Final = RunningTotals()
        self._kernel = ""
        self._busy: dict[str, float] = {}  # seconds of computing, by device
        self._handed_out = math.inf  # when the first slice was, by time.monotonic()
        self._computing = math.inf, -math.inf  # when the first slice began, and when the last ended
        self._output = output
        self._further: list[Region] = []  # memory that the report turned out to need
        self._outputs = None
        if output is not None and cut.output_shape:
            self._outputs = ArrayOutputs(cut, channels(request, cut), memory, output.offset)
        self._report = None
        if output is not None and report is not None:
            start = output.offset + reserved_bytes(request, cut, None)
            self._report = ReportOutputs(report, memory, start, self._reserve, self._report_added)

    # For the request's owner

    @property
    def ended(self) -> bool:
        """Whether it has ended; before `close` only an error ends it, which `result` raises."""
        return self._done.done()

    def append(self, batch: Batch) -> None:
        """Add a batch."""
        self._batches.append(batch)
        self._missing += batch.cut.parts
        self.advance()

    def advance(self) -> None:
        """Hand out the slices that have newly arrived."""
        self._pool.feed(self)

    def close(self, cut: Cut) -> None:
        """End the inputs: all of them are in the batches, and have arrived.

        Args:
            cut: The cut of the whole request.
        """
        self._cut = cut
        self._closed = True
        self.advance()
        self._end_if_complete()

    def when_answered(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever a slice has been answered, and when the job ends."""
        self._when_answered = callback
        self._done.add_done_callback(lambda _: callback())

    async def result(self) -> tuple[LossResult, float]:
        """Wait for the result and the seconds of computing. Its array may lie in the output's memory.

        Raises:
            RequestError: A value in a tensor is not allowed, the deadline has passed, the device failed, or
            it is a mean over nothing.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(loop.time() + self.deadline - time.monotonic()):
                await self._done
        except TimeoutError:
            raise too_late() from None
        if self._error is not None:
            raise self._error.copy()
        result = self._result
        few = self._outputs is None or self._cut.complete or self._cut.outputs <= _MANY_OUTPUTS
        if few and (self._report is None or self._report.is_short):
            return result(), sum(self._busy.values())
        return await loop.run_in_executor(None, result), sum(self._busy.values())

    def stages(self) -> dict[str, tuple[float, float]]:
        """Return when it waited for a worker, and when it was computed, by time.monotonic()."""
        if self._handed_out == math.inf:
            return {}
        began, ended = self._computing
        if began > ended:
            return {"queue": (self._handed_out, time.monotonic())}
        return {"queue": (self._handed_out, began), "compute": (began, ended)}

    def end(self, release: Callable[[], None]) -> None:
        """End the job, and call ``release`` as soon as no worker uses its memory."""
        self._done.cancel()
        self._pool.cancel(self)
        if self._report is not None:
            self._report.stop()
        self._when_idle = release
        self._release_if_idle()

    # For the pool

    @property
    def tried(self) -> bool:
        """Whether a slice has been scored; from then on any worker may get slices."""
        return bool(self._busy)

    @property
    def outstanding(self) -> bool:
        """Whether slices are out."""
        return bool(self._sent)

    def next_slice(self, most: int) -> Slice | None:
        """Return the next slice to send, or None: there is none now, or ``most`` are out already."""
        if self.ended or self._failed is not None or len(self._sent) >= most:
            return None
        while self._batches and self._batches[0].handed == self._batches[0].cut.parts:
            self._batches.popleft()
        if not self._batches or self._batches[0].handed == self._batches[0].arrived:
            return None
        batch, place = self._batches[0], None
        if self._report is not None and (place := self._report.place()) is None:
            return None
        memories: list[tuple[int, int]] | None = []
        if self._outputs is not None:
            memories = self._outputs.memories_for(batch.cut, batch.handed, batch.first_output)
        if memories is None:
            if self._report is not None and place is not None:
                self._report.give_back(place)
            return None
        if not batch.spec:
            self._write_spec(batch)
        following = Slice(
            id=next(_slice_ids),
            job=self.id,
            batch=batch.spec,
            base=batch.base,
            index=batch.handed,
            memories=memories,
            deadline=self.deadline,
            report=place,
            row=batch.row,
            team=self.requester.team,
            weight=self.requester.weight,
            request_id=self.requester.request_id,
            trace=self.requester.trace,
        )
        batch.handed += 1
        self._handed_out = min(self._handed_out, time.monotonic())
        self._sent[following.id] = _Sent(following, batch)
        return following

    def take(self, answer: Answer, slot: WorkerSlot) -> None:
        """Take a worker's answer to one of the slices."""
        sent = self._sent[answer.id]
        sent.batch.answered += 1
        self.forget(answer.id)
        if self.ended:
            return
        if not isinstance(answer, Cancelled):
            first, last = self._computing
            self._computing = min(first, answer.began), max(last, answer.began + answer.seconds)
        if isinstance(answer, Failed) and (self._failed is None or answer.id < self._failed[0]):
            self._failed = answer.id, RequestError(answer.code, answer.detail, answer.errors)
        if self._failed is not None:
            least, error = self._failed
            if all(other > least for other in self._sent):  # ids are in the order of the slices
                self.fail(error)  # else an earlier slice may fail, too: the first error is reported
            return
        assert isinstance(answer, Scored)
        self._add(answer, sent, slot)
        if self._when_answered is not None:
            self._when_answered()
        self._end_if_complete()

    def ended_worker(self, slice_id: int) -> None:
        """Note that a worker ended while it scored a slice. The second time the slice is to blame."""
        sent = self._sent[slice_id]
        if sent.ended_worker:
            self.fail(crashed())
        sent.ended_worker = True

    def forget(self, slice_id: int) -> None:
        """Drop a slice that has been answered, or whose worker has been reaped."""
        del self._sent[slice_id]
        self._release_if_idle()

    def fail(self, error: RequestError) -> None:
        """End the job with an error. Its memory stays in use while slices are out."""
        if not self.ended:
            self._error = error
            self._done.set_result(None)

    def _release_if_idle(self) -> None:
        """Give the memory back, once the request's owner has ended the job and nothing uses the memory."""
        if self._when_idle is None or self._sent or (self._report is not None and self._report.busy):
            return
        release, self._when_idle = self._when_idle, None
        self._report = None  # which refers to this job: else its figures would wait for the garbage collector
        release()
        for region in self._further:
            region.release()

    def _add(self, answer: Scored, sent: _Sent, slot: WorkerSlot) -> None:
        self._totals.add(Sums(answer.sum, answer.weight_sum, answer.positives, answer.count))
        self._kernel = slot.ready.kernel if LOSSES[self._request.loss].is_native else "torch"
        device = slot.ready.device
        self._busy[device] = self._busy.get(device, 0.0) + answer.seconds
        scored, batch = sent.slice, sent.batch
        if self._outputs is not None:
            self._outputs.add(batch.cut, scored.index, batch.first_output, scored.memories, answer.planes)
        if self._report is not None and scored.report is not None:
            self._report.add(scored.report, answer.report, batch.row, batch.names_of)
        else:
            self._missing -= 1

    def _report_added(self, error: RequestError | None) -> None:
        """Go on after a slice's partial report has been added, maybe in a thread, or could not be."""
        if error is not None:
            self.fail(error)
        self._missing -= 1
        self._end_if_complete()
        self._pool.feed(self)
        self._release_if_idle()

    def _reserve(self, nbytes: int) -> bool:
        """Reserve further memory for the report; return whether there was any."""
        assert self._output is not None
        region = self._output.take_more(nbytes, self.requester.weight)
        if region is not None:
            self._further.append(region)
        return region is not None

    def _write_spec(self, batch: Batch) -> None:
        """Encode a batch's spec: the same bytes for like batches, wherever they lie."""
        batch.base = min(tensor.offset for tensor in batch.tensors.values())
        spec = BatchSpec(
            loss=self._request.loss,
            params=dict(self._request.params),
            shape=batch.cut.shape,
            axes=batch.cut.axes,
            elements=batch.cut.elements,
            tensors={
                name: replace(tensor, offset=tensor.offset - batch.base)
                for name, tensor in batch.tensors.items()
            },
        )
        batch.spec = encode(spec)

    def _end_if_complete(self) -> None:
        if self._closed and not self._missing and not self.ended:
            self._done.set_result(None)

    def _result(self) -> LossResult:
        totals = self._totals.totals(weighted=is_weighted(self._request.tensors))
        arrays: Sequence[Planes] = () if self._outputs is None else self._outputs.finish(self._cut)
        busy = self._busy or {self.slot.ready.device: 0.0}
        device = max(busy, key=lambda name: busy[name])
        kernel = self._kernel or self.slot.ready.kernel
        result = result_of(self._request, self._cut, totals, arrays, kernel, device)
        if self._report is not None:
            result.report = document_of(self._report.finish(), result, self._request)
        if len(busy) > 1:
            result.elsewhere = {name: seconds for name, seconds in busy.items() if name != device}
        return result
