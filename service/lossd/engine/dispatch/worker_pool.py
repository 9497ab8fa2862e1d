"""The workers as a front end sees them: it sends them slices, and keeps every slice until it is answered.

The supervisor replaces a worker that dies. Its slices are sent again, to another worker or to its successor,
once the supervisor has reaped it: until then it might still write to their memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from structlog.contextvars import bound_contextvars

from lossd.core.catalog import Loss
from lossd.core.cut import Cut
from lossd.core.native.library import why_missing
from lossd.engine.admission.arena import Region
from lossd.engine.dispatch.job import Job
from lossd.engine.dispatch.report_outputs import ReportPlan
from lossd.engine.dispatch.worker_slot import WorkerSlot
from lossd.engine.ipc.channel import MAX_MESSAGE_BYTES, Sender, SpareDescriptors
from lossd.engine.ipc.heartbeats import BEAT_SECONDS, Pulse
from lossd.engine.ipc.memory import Memory
from lossd.engine.ipc.messages import (
    Answer,
    Cancel,
    Degraded,
    Leaving,
    Listening,
    ReadAgain,
    Ready,
    TeamsChanged,
    WorkerGone,
    WorkerStarted,
    decode_from_supervisor,
    decode_from_worker,
    encode,
)
from lossd.types import ErrorCode, LossRequest, Requester, RequestError

_TORCH_SHARE: Final = 16
"""Slices that torch scores on a CPU are shorter by this, about as much as it is slower."""
_SLICES: Final = 4
"""Slices of a request that a worker has at a time, so that it need not wait for the next."""

logger = logging.getLogger(__name__)


class WorkerPool:
    """Scores requests on the workers.

    Args:
        memory: The arena.
        control: The socket to the supervisor, which sends new workers over it.
        workers: Number of workers there will be.
        elements: Most elements of a slice.
        each: The share of these that each thread of a CPU worker gets; all of them by default.
        when_scored: Called for each slice that a worker has answered.
        when_teams_changed: Called with the supervisor's message about new teams, and the descriptor of the
            memory that holds them.
    """

    def __init__(
        self,
        memory: Memory,
        control: socket.socket,
        workers: int,
        elements: int,
        each: int | None = None,
        *,
        when_scored: Callable[[], None] = lambda: None,
        when_teams_changed: Callable[[TeamsChanged, int], None] = lambda _, fd: os.close(fd),
    ) -> None:
        self.slots: Final[dict[int, WorkerSlot]] = {}
        self.supervisor_gone: Final = asyncio.Event()
        self.supervisor_hung = False
        """Whether the supervisor stands still: nobody replaces what ends, or reads the teams file."""
        self.listening = False
        """Whether requests are accepted."""
        self.leaving: Final = asyncio.Event()
        """Set once the server is being stopped: callers are to move to other connections."""
        self.handed_over: Final = asyncio.Event()
        """Set once another server accepts from the listening socket."""
        self.read_again: Final = asyncio.Event()
        """Set when files are to be read again."""
        self.elements: Final = elements
        self._each = elements if each is None else each
        self.workers: Final = workers
        self._when_scored = when_scored
        self._when_teams_changed = when_teams_changed
        self.degraded: Sequence[str] = ()
        """What is wrong although requests are answered, as the supervisor said last."""
        self._jobs: Final[dict[int, Job]] = {}  # by the id of each slice that is out
        self._memory = memory
        self._control = control
        self._spares = SpareDescriptors()
        self._loop = asyncio.get_running_loop()
        self._first_worker = asyncio.Event()
        control.setblocking(False)
        self._loop.add_reader(control, self._read_supervisor)

    @property
    def unready(self) -> list[str]:
        """What keeps requests from being answered, if anything.

        Every worker must have passed its known-answer check, and none be in a crash loop.
        """
        missing = self.workers - sum(slot.steady for slot in self.slots.values())
        reasons = [f"{missing} of {self.workers} workers not ready"] if missing else []
        if self.supervisor_hung:
            reasons.append("the supervisor stands still")
        return reasons

    async def watch_supervisor(self, supervisor: Pulse, hang_seconds: float) -> None:
        """Look at the supervisor's heartbeat again and again."""
        while True:
            supervisor.look()
            hung = supervisor.hangs(hang_seconds)
            if hung and not self.supervisor_hung:
                logger.error("the supervisor stands still; not ready until it goes on")
            elif self.supervisor_hung and not hung:
                logger.warning("the supervisor goes on")
            self.supervisor_hung = hung
            await asyncio.sleep(BEAT_SECONDS)

    def announce(self) -> None:
        """Tell the supervisor that requests are accepted."""
        self.listening = True
        with suppress(ConnectionError):  # the reader notices it, too
            self._control.send(encode(Listening()))

    def close(self) -> None:
        """Close the sockets to the workers and the supervisor."""
        for slot in self.slots.values():
            self._unlink(slot)
        self._loop.remove_reader(self._control)
        self._control.close()
        self._spares.close()

    async def start(
        self,
        request: LossRequest,
        cut: Cut,
        output: Region | None,
        seconds: float,
        requester: Requester = Requester(),  # noqa: B008 -- it is immutable
        report: ReportPlan | None = None,
    ) -> Job:
        """Start a request, whose slices are sent as its inputs arrive.

        Args:
            request: The request, with offsets counted from the start of the arena.
            cut: How it is cut; for a stream, the cut for the most rows that it may have.
            output: Memory for an array answer and a report; None if there is neither.
            seconds: Most seconds to wait for the first worker to start.
            requester: Who sent the request.
            report: What is planned for the report; None if there is none.

        Raises:
            RequestError: ``overloaded``: no worker has started.
        """
        if not self.slots:
            try:
                async with asyncio.timeout(seconds):
                    await self._first_worker.wait()
            except TimeoutError:
                raise RequestError(
                    ErrorCode.OVERLOADED, "no worker has started yet; try again later"
                ) from None
        slot = _least_busy(self._ready_slots or self.slots.values())
        return Job(self, slot, request, cut, self._memory, output, requester, report)

    def elements_for(self, loss: Loss, *, report: bool = False) -> int:
        """Return the most elements of a slice: fewer where a core of a CPU computes without native code.

        Args:
            loss: The loss.
            report: Whether there is a report, which a core reduces whatever the device.
        """
        slowly = report and why_missing() is not None
        by_torch = any(
            (not loss.is_native or slot.ready.kernel == "torch") if slot.device.startswith("cpu") else slowly
            for slot in self.slots.values()
        )
        return max(1, min(self._each // _TORCH_SHARE, self.elements)) if by_torch else self.elements

    def feed(self, job: Job) -> None:
        """Send a job's next slices, as many as may be out at a time, to the workers with the fewest."""
        ready = self._ready_slots
        if ready and not job.outstanding and job.slot.state != "ready":
            job.slot = _least_busy(ready)
        slots = ready if ready and job.tried else [job.slot]
        while following := job.next_slice(_SLICES * len(slots)):
            slot = _least_busy(slots)
            slot.slices[following.id] = following
            self._jobs[following.id] = job
            if slot.state == "ready":
                self._send(slot, encode(following))

    def cancel(self, job: Job) -> None:
        """Have the slices of an ended job answered at once, if any are out."""
        if not job.outstanding:
            return
        for slot in self.slots.values():
            if slot.state == "starting":  # no process has them
                self._forget_ended(slot)
            elif slot.state == "ready" and any(its.job == job.id for its in slot.slices.values()):
                self._send(slot, encode(Cancel(job.id)))

    @property
    def _ready_slots(self) -> list[WorkerSlot]:
        return [slot for slot in self.slots.values() if slot.state == "ready"]

    # Messages from and to workers

    def _read_worker(self, slot: WorkerSlot) -> None:
        assert slot.link is not None
        while True:
            try:
                data = slot.link.recv(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self._unlink(slot)
                slot.state = "lost"
                return
            message = decode_from_worker(data)
            if isinstance(message, Ready):
                self._make_ready(slot, message)
            else:
                self._take(slot, message)

    def _make_ready(self, slot: WorkerSlot, ready: Ready) -> None:
        slot.ready, slot.ready_since, slot.state = ready, time.monotonic(), "ready"
        logger.info("worker %d (pid %d) is ready on %s", slot.index, slot.pid, ready.device)
        for waiting in slot.slices.values():
            self._send(slot, encode(waiting))

    def _take(self, slot: WorkerSlot, answer: Answer) -> None:
        self._when_scored()
        del slot.slices[answer.id]
        job = self._jobs.pop(answer.id)
        job.take(answer, slot)
        self.feed(job)

    def _send(self, slot: WorkerSlot, message: bytes) -> None:
        if slot.link is None or slot.sender is None:
            return  # the successor gets it
        if not slot.sender.send(message):
            self._loop.add_writer(slot.link, self._send_rest, slot)

    def _send_rest(self, slot: WorkerSlot) -> None:
        assert slot.link is not None
        assert slot.sender is not None
        if slot.sender.flush():
            self._loop.remove_writer(slot.link)

    def _unlink(self, slot: WorkerSlot) -> None:
        if slot.link is not None:
            self._loop.remove_reader(slot.link)
            self._loop.remove_writer(slot.link)
            slot.link.close()
            slot.link = slot.sender = None

    # Messages from the supervisor

    def _read_supervisor(self) -> None:
        while True:
            self._spares.free_one()
            try:
                data, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, 1)
            except BlockingIOError:
                self._spares.refill()
                return
            except ConnectionError:
                data, fds = b"", []
            if not data:
                self._loop.remove_reader(self._control)
                self.supervisor_gone.set()
                return
            message = decode_from_supervisor(data)
            if isinstance(message, WorkerStarted | TeamsChanged) and not fds:
                logger.error("this process has no descriptor left for a new socket; it ends, and is replaced")
                self.supervisor_gone.set()
                return
            if isinstance(message, WorkerStarted):
                self._link(message, fds[0])
            elif isinstance(message, WorkerGone):
                self._release(message)
            elif isinstance(message, TeamsChanged):
                self._when_teams_changed(message, fds[0])
            elif isinstance(message, Degraded):
                self.degraded = message.reasons
            elif isinstance(message, ReadAgain):
                self.read_again.set()
            elif isinstance(message, Leaving):
                self.leaving.set()
                if message.handed_over:
                    self.handed_over.set()
            self._spares.refill()

    def _link(self, started: WorkerStarted, fd: int) -> None:
        """Fill a slot with a new process."""
        slot = self.slots.setdefault(
            started.worker, WorkerSlot(index=started.worker, device=started.device, pid=started.pid)
        )
        slot.pid, slot.restarts, slot.failures = started.pid, started.restarts, started.failures
        slot.state = "starting"
        os.set_inheritable(fd, False)
        slot.link = socket.socket(fileno=fd)
        slot.link.setblocking(False)
        slot.sender = Sender(slot.link)
        self._loop.add_reader(slot.link, self._read_worker, slot)
        self._first_worker.set()

    def _release(self, gone: WorkerGone) -> None:
        """Take back the slices of a worker that has been reaped, and send them to others."""
        slot = self.slots[gone.worker]
        if slot.link is not None:
            self._read_worker(slot)  # the messages it sent before it died
            self._unlink(slot)
        slot.state = "lost"
        logger.warning("worker %d (pid %d) ended with status %d", gone.worker, gone.pid, gone.status)
        if gone.running is not None and gone.running in slot.slices:
            job = self._jobs[gone.running]
            with bound_contextvars(request_id=job.requester.request_id, team=job.requester.team):
                logger.warning("worker %d ended while it had this request", gone.worker)
            job.ended_worker(gone.running)
        self._forget_ended(slot)
        self._move(slot)

    def _move(self, slot: WorkerSlot) -> None:
        """Send a slot's slices to other workers that are ready; without any, they wait for the successor."""
        others = self._ready_slots
        if not others:
            return
        for slice_id, its in slot.slices.items():
            job = self._jobs[slice_id]
            if job.slot is slot:
                job.slot = _least_busy(others)
            other = _least_busy(others) if job.tried else job.slot
            other.slices[slice_id] = its
            self._send(other, encode(its))
        slot.slices.clear()

    def _forget_ended(self, slot: WorkerSlot) -> None:
        """Drop the slices of ended jobs from a slot whose process does not have them."""
        for slice_id in list(slot.slices):
            if self._jobs[slice_id].ended:
                del slot.slices[slice_id]
                self._jobs.pop(slice_id).forget(slice_id)


def _least_busy(slots: Iterable[WorkerSlot]) -> WorkerSlot:
    return min(slots, key=lambda slot: len(slot.slices))
