"""The workers, as the front end sees them: it sends them slices, and keeps every unanswered one.

A worker that dies is replaced by the supervisor. Its slices are sent again to its successor, once the
supervisor has reaped it: until then it might still write to their memory.
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
from lossd.engine.admission.arena import Region
from lossd.engine.dispatch.job import Job
from lossd.engine.dispatch.worker_slot import WorkerSeat
from lossd.engine.ipc.memory import Memory
from lossd.engine.ipc.messages import (
    MAX_FRAME,
    Cancel,
    Degraded,
    Listening,
    Ready,
    TeamsChanged,
    WorkerGone,
    WorkerStarted,
    decode_from_supervisor,
    decode_from_worker,
    encode,
)
from lossd.engine.ipc.outbox import Outbox
from lossd.engine.ipc.spares import Spares
from lossd.types import ErrorCode, LossRequest, Requester, RequestError

_TORCH_SHARE: Final = 16
"""By how much slices are shorter that torch scores on a CPU, where it takes so many times as long."""
_SLICES: Final = 4
"""Slices of one request that a worker has at a time: so that it need not wait for the next."""

logger = logging.getLogger(__name__)


class Pool:
    """Scores requests on the workers.

    Args:
        memory: The arena.
        control: The socket to the supervisor, which sends new workers over it.
        workers: How many workers there will be.
        elements: How many elements a slice has at most.
        each: How many of these each of a CPU worker's threads has; by default all of them.
    """

    def __init__(
        self, memory: Memory, control: socket.socket, workers: int, elements: int, each: int | None = None
    ) -> None:
        self.seats: Final[dict[int, WorkerSeat]] = {}
        self.supervisor_gone: Final = asyncio.Event()
        self.elements: Final = elements
        self._each = elements if each is None else each
        self.workers: Final = workers
        self.when_scored: Callable[[], None] = lambda: None
        """Called for each slice that a worker has answered."""
        self.when_teams_changed: Callable[[TeamsChanged, int], None] = lambda _, fd: os.close(fd)
        """Called with the supervisor's word that there are other teams, and what they stand in."""
        self.degraded: Sequence[str] = ()
        """What is amiss, by the supervisor's word, although requests are answered."""
        self._memory = memory
        self._control = control
        self._spares = Spares()
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        control.setblocking(False)
        self._loop.add_reader(control, self._hear_supervisor)

    @property
    def ready(self) -> bool:
        """Every worker is there, has passed its known-answer check, and is not in a crash loop."""
        return len(self.seats) == self.workers and all(seat.steady for seat in self.seats.values())

    def announce(self) -> None:
        """Tell the supervisor that requests are taken."""
        with suppress(ConnectionError):  # the reader hears of it
            self._control.send(encode(Listening()))

    def close(self) -> None:
        """Let go of the workers, which then end."""
        for seat in self.seats.values():
            self._unlink(seat)
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
    ) -> Job:
        """Start a request, which is handed out as its inputs arrive.

        Args:
            request: What to score, with offsets counted from the start of the arena.
            cut: How it is cut; of a stream, if it had the most rows that it may have.
            output: Memory for an array answer, if it is one.
            seconds: How long to wait for the first worker to be there.
            requester: Who sent it.

        Raises:
            RequestError: ``overloaded``: none came.
        """
        if not self.seats:
            try:
                async with asyncio.timeout(seconds):
                    await self._arrived.wait()
            except TimeoutError:
                raise RequestError(
                    ErrorCode.OVERLOADED, "no worker has started yet; try again later"
                ) from None
        seat = _least_busy(self._ready_seats or self.seats.values())
        return Job(self, seat, request, cut, self._memory, output, requester)

    def elements_for(self, loss: Loss) -> int:
        """How many elements a slice has at most: fewer where torch scores it on one core of a CPU."""
        by_torch = any(
            seat.device.startswith("cpu") and (not loss.is_native or seat.kernel == "torch")
            for seat in self.seats.values()
        )
        return max(1, min(self._each // _TORCH_SHARE, self.elements)) if by_torch else self.elements

    def feed(self, job: Job) -> None:
        """Send a request's next slices, as many as may be out at a time, to whoever has least to do."""
        ready = self._ready_seats
        if ready and not job.outstanding and job.seat.state != "ready":
            job.seat = _least_busy(ready)
        seats = ready if ready and job.tried else [job.seat]
        while piece := job.next_slice(_SLICES * len(seats)):
            seat = _least_busy(seats)
            seat.jobs[piece.id] = job
            if seat.state == "ready":
                self._send(seat, encode(piece))

    def cancel(self, job: Job) -> None:
        """Have a request that has ended answered at once, if slices of it are out."""
        if not job.outstanding:
            return
        for seat in self.seats.values():
            if seat.state == "starting":  # they are with nobody
                self._forget_ended(seat)
            elif seat.state == "ready" and job in seat.jobs.values():
                self._send(seat, encode(Cancel(job.id)))

    @property
    def _ready_seats(self) -> list[WorkerSeat]:
        return [seat for seat in self.seats.values() if seat.state == "ready"]

    # What workers say

    def _hear_worker(self, seat: WorkerSeat) -> None:
        assert seat.link is not None
        while True:
            try:
                data = seat.link.recv(MAX_FRAME)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self._unlink(seat)
                seat.state = "lost"
                return
            frame = decode_from_worker(data)
            if isinstance(frame, Ready):
                seat.ready, seat.ready_since = frame, time.monotonic()
                seat.state = "ready"
                logger.info("worker %d (pid %d) is ready on %s", seat.index, seat.pid, frame.device)
                for slice_id, job in seat.jobs.items():
                    self._send(seat, encode(job.piece(slice_id)))
            else:
                self.when_scored()
                job = seat.jobs.pop(frame.id)
                job.take(frame, seat)
                self.feed(job)

    def _send(self, seat: WorkerSeat, frame: bytes) -> None:
        if seat.link is None or seat.outbox is None:
            return  # it is sent to the successor, if there is to be one
        if not seat.outbox.send(frame):
            self._loop.add_writer(seat.link, self._send_rest, seat)

    def _send_rest(self, seat: WorkerSeat) -> None:
        assert seat.link is not None
        assert seat.outbox is not None
        if seat.outbox.flush():
            self._loop.remove_writer(seat.link)

    def _unlink(self, seat: WorkerSeat) -> None:
        if seat.link is not None:
            self._loop.remove_reader(seat.link)
            self._loop.remove_writer(seat.link)
            seat.link.close()
            seat.link = seat.outbox = None

    # What the supervisor says

    def _hear_supervisor(self) -> None:
        while True:
            self._spares.give()
            try:
                data, fds, _, _ = socket.recv_fds(self._control, MAX_FRAME, 1)
            except BlockingIOError:
                self._spares.refill()
                return
            except ConnectionError:
                data, fds = b"", []
            if not data:
                self._loop.remove_reader(self._control)
                self.supervisor_gone.set()
                return
            frame = decode_from_supervisor(data)
            if isinstance(frame, WorkerStarted | TeamsChanged) and not fds:
                logger.error("this process has too many descriptors to go on; another takes its place")
                self.supervisor_gone.set()
                return
            if isinstance(frame, WorkerStarted):
                self._welcome(frame, fds[0])
            elif isinstance(frame, WorkerGone):
                self._bury(frame)
            elif isinstance(frame, TeamsChanged):
                self.when_teams_changed(frame, fds[0])
            elif isinstance(frame, Degraded):
                self.degraded = frame.reasons
            self._spares.refill()

    def _welcome(self, started: WorkerStarted, fd: int) -> None:
        seat = self.seats.setdefault(
            started.worker, WorkerSeat(index=started.worker, device=started.device, pid=started.pid)
        )
        seat.pid, seat.restarts, seat.failures = started.pid, started.restarts, started.failures
        seat.state = "starting"
        os.set_inheritable(fd, False)
        seat.link = socket.socket(fileno=fd)
        seat.link.setblocking(False)
        seat.outbox = Outbox(seat.link)
        self._loop.add_reader(seat.link, self._hear_worker, seat)
        self._arrived.set()

    def _bury(self, gone: WorkerGone) -> None:
        seat = self.seats[gone.worker]
        if seat.link is not None:
            self._hear_worker(seat)  # what it still said before it died
            self._unlink(seat)
        seat.state = "lost"
        logger.warning("worker %d (pid %d) ended with status %d", gone.worker, gone.pid, gone.status)
        job = None if gone.running is None else seat.jobs.get(gone.running)
        if job is not None and gone.running is not None:
            with bound_contextvars(request_id=job.requester.request_id, team=job.requester.team):
                logger.warning("worker %d ended while it had this request", gone.worker)
            job.ended_worker(gone.running)
        self._forget_ended(seat)
        self._move(seat)

    def _move(self, seat: WorkerSeat) -> None:
        """Have others that are ready go on with a seat's requests."""
        others = self._ready_seats
        if not others:
            return  # the successor will
        for slice_id, job in seat.jobs.items():
            if job.seat is seat:
                job.seat = _least_busy(others)
            other = _least_busy(others) if job.tried else job.seat
            other.jobs[slice_id] = job
            self._send(other, encode(job.piece(slice_id)))
        seat.jobs.clear()

    def _forget_ended(self, seat: WorkerSeat) -> None:
        """Strike the slices of requests that nobody waits for any more, which no worker has."""
        for slice_id, job in list(seat.jobs.items()):
            if job.over:
                del seat.jobs[slice_id]
                job.forget(slice_id)


def _least_busy(seats: Iterable[WorkerSeat]) -> WorkerSeat:
    return min(seats, key=lambda seat: len(seat.jobs))
