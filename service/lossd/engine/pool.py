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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from structlog.contextvars import bound_contextvars

from lossd.core.grid import Grid
from lossd.engine.arena import Memory, Region
from lossd.engine.frames import (
    MAX_FRAME,
    Answers,
    Cancel,
    Degraded,
    Failed,
    Listening,
    Ready,
    Scored,
    TeamsChanged,
    WorkerGone,
    WorkerStarted,
    decode_from_supervisor,
    decode_from_worker,
    encode,
)
from lossd.engine.job import Job, Span
from lossd.engine.outbox import Outbox
from lossd.request import Fault, LossRequest, LossResult

logger = logging.getLogger(__name__)

FAILURES: Final = 3
"""So many workers that end one after the other without having answered anything are a crash loop."""
_STEADY_SECONDS: Final = 10.0
"""One that is ready for so long has come out of it."""


@dataclass(slots=True)
class WorkerSeat:
    """A worker's place: it outlives the processes that take it.

    Attributes:
        index: Its number.
        device: What it computes on.
        pid: The process that has it now, or had it last.
        state: ``starting`` until its known-answer check has passed, ``ready``, then ``lost`` until it is
            reaped and replaced.
        restarts: How many processes had it before.
        failures: How many of these, without a break up to the last, answered nothing.
        ready: What the process said of itself when it became ready.
        ready_since: When that was, by time.monotonic().
        link: The socket to it.
        outbox: What sends over that.
        runs: By the id of each outstanding slice.
    """

    index: int
    device: str
    pid: int
    state: Literal["starting", "ready", "lost"] = "starting"
    restarts: int = 0
    failures: int = 0
    ready: Ready | None = None
    ready_since: float = 0.0
    link: socket.socket | None = None
    outbox: Outbox | None = None
    runs: dict[int, Run] = field(default_factory=dict)

    @property
    def steady(self) -> bool:
        """It is ready, and is not about to end like those before it."""
        if self.state != "ready":
            return False
        return self.failures < FAILURES or time.monotonic() - self.ready_since > _STEADY_SECONDS


class Run:
    """A request on a worker.

    Args:
        pool: The workers.
        job: The request.
        seat: The worker's place; another one's, should that worker end while others are ready.
    """

    def __init__(self, pool: Pool, job: Job, seat: WorkerSeat) -> None:
        self.job: Final = job
        self.seat = seat
        self._pool = pool

    @property
    def failed(self) -> bool:
        """It has come to a fault, whatever may still arrive; `result` raises it."""
        return self.job.done.done()

    def append(self, span: Span) -> None:
        """Go on with a span: further blocks, whose inputs lie elsewhere than the last one's."""
        self.job.append(span)
        self.advance()

    def advance(self) -> None:
        """Hand out what has newly arrived: the last span has grown, or none will."""
        self._pool.feed(self)

    def close(self, grid: Grid) -> None:
        """Take note that all inputs have arrived, and these are the blocks."""
        self.job.close(grid)
        self.advance()

    def when_answered(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` each time that some blocks have been answered, and when the request has ended."""
        self.job.when_answered(callback)

    def set_deadline(self, deadline: float) -> None:
        """Compute nothing of it that is handed out after this, by time.monotonic()."""
        self.job.deadline = deadline

    async def result(self) -> tuple[LossResult, float]:
        """The result, whose array lies in the output's memory, and the seconds of computing.

        Raises:
            Fault: A value in a tensor, the deadline, or the device stood against it.
        """
        job, loop = self.job, asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(loop.time() + job.deadline - time.monotonic()):
                await job.done
        except TimeoutError:
            raise _too_late() from None
        ready = self.seat.ready
        return job.result(ready.kernel if ready else "", ready.device if ready else ""), job.seconds

    def end(self, release: Callable[[], None]) -> None:
        """End it if it has not ended, and call ``release`` as soon as nobody reads or writes its memory."""
        self.job.done.cancel()
        self._pool.cancel(self)
        self.job.when_idle(release)

    def submit(self, span: Span, grid: Grid) -> None:
        """`append` the only span, and `close`."""
        self.job.append(span)
        self.job.close(grid)
        self.advance()

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when `outcome` has something to say but that the deadline has passed."""
        self.job.when_done(callback)

    def outcome(self) -> tuple[LossResult, float]:
        """What `result` gives, of a request that is done; else its deadline has passed.

        Raises:
            Fault: As by `result`.
        """
        job, ready = self.job, self.seat.ready
        if not job.done.done():
            raise _too_late()
        return job.result(ready.kernel if ready else "", ready.device if ready else ""), job.seconds


class Pool:
    """Scores requests on the workers.

    Args:
        memory: The arena.
        control: The socket to the supervisor, which sends new workers over it.
        workers: How many workers there will be.
        block_elements: How many elements a block has at most.
        slice_elements: About how many elements a slice has.
    """

    def __init__(
        self,
        memory: Memory,
        control: socket.socket,
        workers: int,
        block_elements: int,
        slice_elements: int,
    ) -> None:
        self.block_elements: Final = block_elements
        self.seats: Final[dict[int, WorkerSeat]] = {}
        self.supervisor_gone: Final = asyncio.Event()
        self.slice_elements: Final = slice_elements
        self.workers: Final = workers
        self.when_scored: Callable[[int], None] = lambda _: None
        """Called with each slice that a worker has answered: how many were scored together, if it speaks for
        them, else 0."""
        self.when_teams_changed: Callable[[TeamsChanged, int], None] = lambda _, fd: os.close(fd)
        """Called with the supervisor's word that there are other teams, and what they stand in."""
        self.degraded: Sequence[str] = ()
        """What is amiss, by the supervisor's word, although requests are answered."""
        self._memory = memory
        self._control = control
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

    async def start(
        self,
        request: LossRequest,
        grid: Grid,
        output: Region | None,
        seconds: float,
        team: str = "default",
        weight: float = 1.0,
        identity: str = "",
        trace: str = "",
    ) -> Run:
        """Start a request, which is handed out as its inputs arrive.

        Args:
            request: What to score, with offsets counted from the start of the arena.
            grid: Its blocks; of a stream, those of the most rows that it may have.
            output: Memory for an array answer, if it is one.
            seconds: How long to wait for the first worker to be there.
            team: Whose it is.
            weight: The team's share of a worker's time, in proportion to others'; over 0.
            identity: The id that the caller knows it by, for the log.
            trace: Its span's context, for traces.

        Raises:
            Fault: ``overloaded``: none came.
        """
        if not self.seats:
            try:
                async with asyncio.timeout(seconds):
                    await self._arrived.wait()
            except TimeoutError:
                raise Fault("overloaded", "no worker has started yet; try again later") from None
        run = self.try_start(request, grid, output, team, weight, identity, trace)
        assert run is not None
        return run

    def try_start(
        self,
        request: LossRequest,
        grid: Grid,
        output: Region | None,
        team: str = "default",
        weight: float = 1.0,
        identity: str = "",
        trace: str = "",
    ) -> Run | None:
        """Start a request, if any worker is there; see `start`."""
        if not self.seats:
            return None
        ready = [seat for seat in self.seats.values() if seat.state == "ready"]
        seat = min(ready or self.seats.values(), key=lambda seat: len(seat.runs))
        step = self.slice_elements
        job = Job(request, grid, self._memory, output, step, team, weight, identity, trace)
        return Run(self, job, seat)

    def feed(self, run: Run) -> None:
        """Send a request's next slices, as many as may be out at a time."""
        while piece := run.job.next_slice():
            run.seat.runs[piece.id] = run
            if run.seat.state == "ready":
                self._send(run.seat, encode(piece))

    def cancel(self, run: Run) -> None:
        """Have a request that has ended answered at once, if slices of it are outstanding."""
        if run.job.outstanding and run.seat.state == "ready":
            self._send(run.seat, encode(Cancel(run.job.id)))
        elif run.seat.state == "starting":  # they are with nobody
            self._forget_ended(run.seat)

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
                self._send_again(seat)
            elif isinstance(frame, Answers):
                for answer in frame.answers:
                    self._take(seat, answer)
            else:
                self._take(seat, frame)

    def _take(self, seat: WorkerSeat, answer: Scored | Failed) -> None:
        self.when_scored(answer.together)
        run = seat.runs.pop(answer.id)
        run.job.take(answer)
        self.feed(run)

    def _send_again(self, seat: WorkerSeat) -> None:
        for slice_id, run in seat.runs.items():
            self._send(seat, encode(run.job.outstanding[slice_id][0]))

    def _send(self, seat: WorkerSeat, frame: bytes) -> None:
        # Without a link it will be sent to the successor.
        if seat.link is not None and seat.outbox is not None and not seat.outbox.send(frame):
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
            try:
                data, fds, _, _ = socket.recv_fds(self._control, MAX_FRAME, 1)
            except BlockingIOError:
                return
            except ConnectionError:
                data, fds = b"", []
            if not data:
                self._loop.remove_reader(self._control)
                self.supervisor_gone.set()
                return
            frame = decode_from_supervisor(data)
            if isinstance(frame, WorkerStarted):
                self._welcome(frame, fds[0])
            elif isinstance(frame, WorkerGone):
                self._bury(frame)
            elif isinstance(frame, TeamsChanged):
                self.when_teams_changed(frame, fds[0])
            elif isinstance(frame, Degraded):
                self.degraded = frame.reasons

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
        for slice_id in gone.running:
            run = seat.runs.get(slice_id)
            if run is not None:
                with bound_contextvars(request_id=run.job.identity, team=run.job.team):
                    logger.warning("worker %d ended while it had this request", gone.worker)
                run.job.ended_worker(slice_id)
        self._forget_ended(seat)
        self._move(seat)

    def _move(self, seat: WorkerSeat) -> None:
        """Have others that are ready go on with a seat's requests, if they compute alike."""
        alike = [
            other
            for other in self.seats.values()
            if other.state == "ready" and seat.ready and other.ready and _same_bits(other.ready, seat.ready)
        ]
        if not alike:
            return  # the successor will
        for slice_id, run in seat.runs.items():
            if run.seat is seat:
                run.seat = min(alike, key=lambda other: len(other.runs))
            run.seat.runs[slice_id] = run
            self._send(run.seat, encode(run.job.outstanding[slice_id][0]))
        seat.runs.clear()

    def _forget_ended(self, seat: WorkerSeat) -> None:
        """Strike the slices of requests that nobody waits for any more, which no worker has."""
        for slice_id, run in list(seat.runs.items()):
            if run.job.done.done():
                del seat.runs[slice_id]
                run.job.forget(slice_id)


def _same_bits(one: Ready, other: Ready) -> bool:
    """Two workers compute the same bits, whichever of a request's slices each has."""
    kinds = [ready.device.partition(":")[0] for ready in (one, other)]
    return kinds[0] == kinds[1] and one.kernel == other.kernel


def _too_late() -> Fault:
    detail = "the deadline passed before the answer was there; allow more time or send smaller batches"
    return Fault("deadline_exceeded", detail)
