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
from typing import Final

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
    Slice,
    TeamsChanged,
    WorkerGone,
    WorkerStarted,
    bundle,
    decode_from_supervisor,
    decode_from_worker,
    encode,
)
from lossd.engine.job import Job, request_ids, slice_ids
from lossd.engine.outbox import Outbox
from lossd.engine.run import Run
from lossd.engine.seat import Held, WorkerSeat
from lossd.engine.single import Single
from lossd.engine.spares import Spares
from lossd.request import Fault, LossRequest

_BUNDLE: Final = 4
"""So many frames go to a worker without waiting for others: it may begin with them meanwhile."""

logger = logging.getLogger(__name__)


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
        seat, step = self._least_busy(), self.slice_elements
        workers = max(1, len(self._alike(seat)))
        job = Job(request, grid, self._memory, output, step, workers, team, weight, identity, trace)
        return Run(self, job, seat)

    def start_single(
        self,
        request: LossRequest,
        grid: Grid,
        recipe: bytes,
        base: int,
        deadline: float,
        team: str,
        weight: float,
        identity: str,
        then: Callable[[], None],
    ) -> Single:
        """Start a request of one block, all of whose inputs have arrived, and which comes to one number.

        Some worker must have come.

        Args:
            request: What to score.
            grid: Its block.
            recipe: What a worker is asked, from `recipe_of`.
            base: Where in the arena the recipe's offsets are counted from.
            deadline: Compute nothing of it after this, by time.monotonic().
            team: As `start`, like the next two.
            weight: As there.
            identity: As there.
            then: As `Single` has it.
        """
        seat = self._least_busy()
        piece = Slice(
            id=next(slice_ids),
            request=next(request_ids),
            recipe=recipe,
            base=base,
            first=0,
            last=1,
            partials=[],
            deadline=deadline,
            team=team,
            weight=weight,
            identity=identity,
        )
        single = Single(request, grid, piece, seat, then)
        seat.runs[piece.id] = single
        if seat.state == "ready":
            self._send(seat, encode(piece))
        return single

    def _least_busy(self) -> WorkerSeat:
        if len(self.seats) == 1:
            return next(iter(self.seats.values()))
        ready = [seat for seat in self.seats.values() if seat.state == "ready"]
        return min(ready or self.seats.values(), key=lambda seat: len(seat.runs))

    def feed(self, run: Held) -> None:
        """Send a request's next slices, as many as may be out at a time, to whoever has least to do."""
        while piece := run.next_slice():
            seat = run.seat
            if run.shared:
                seat = min(self._alike(seat), key=lambda seat: len(seat.runs), default=seat)
            seat.runs[piece.id] = run
            if seat.state == "ready":
                self._send(seat, encode(piece))

    def cancel(self, run: Held) -> None:
        """Have a request that has ended answered at once, if slices of it are outstanding."""
        if not run.outstanding:
            return
        for seat in self.seats.values() if run.shared else (run.seat,):
            if seat.state == "ready" and (not run.shared or run in seat.runs.values()):
                self._send(seat, encode(Cancel(run.request)))
            elif seat.state == "starting":  # they are with nobody
                self._forget_ended(seat)

    def _alike(self, seat: WorkerSeat) -> list[WorkerSeat]:
        """The places whose workers are ready, and compute the same bits as one's does, or did."""
        if seat.ready is None:
            return []
        return [
            other
            for other in self.seats.values()
            if other.state == "ready" and other.ready and _same_bits(other.ready, seat.ready)
        ]

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
        run.take(answer, seat.computes_on)
        self.feed(run)

    def _send_again(self, seat: WorkerSeat) -> None:
        for slice_id, run in seat.runs.items():
            self._send(seat, encode(run.piece(slice_id)))

    def _send(self, seat: WorkerSeat, frame: bytes) -> None:
        """Send a frame, in one message with a few others of this turn: they may be scored together.

        A worker that has nothing to do gets it at once.
        """
        if len(seat.runs) == 1:
            seat.bundle.append(frame)
            self._send_bundle(seat)
            return
        if not seat.bundle:
            self._loop.call_soon(self._send_bundle, seat)
        seat.bundle.append(frame)
        if len(seat.bundle) == _BUNDLE:
            self._send_bundle(seat)

    def _send_bundle(self, seat: WorkerSeat) -> None:
        frames, seat.bundle = seat.bundle, []
        if not frames or seat.link is None or seat.outbox is None:
            return  # they will be sent to the successor
        for message in bundle(frames):
            if not seat.outbox.send(message):
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
            seat.bundle.clear()

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
        for slice_id in gone.running:
            run = seat.runs.get(slice_id)
            if run is not None:
                with bound_contextvars(request_id=run.identity, team=run.team):
                    logger.warning("worker %d ended while it had this request", gone.worker)
                run.ended_worker(slice_id)
        self._forget_ended(seat)
        self._move(seat)

    def _move(self, seat: WorkerSeat) -> None:
        """Have others that are ready go on with a seat's requests, if they compute alike."""
        alike = self._alike(seat)
        if not alike:
            return  # the successor will
        for slice_id, run in seat.runs.items():
            other = run.seat
            if run.shared or other not in alike:
                other = min(alike, key=lambda other: len(other.runs))
            if run.seat is seat:
                run.seat = other
            other.runs[slice_id] = run
            self._send(other, encode(run.piece(slice_id)))
        seat.runs.clear()

    def _forget_ended(self, seat: WorkerSeat) -> None:
        """Strike the slices of requests that nobody waits for any more, which no worker has."""
        for slice_id, run in list(seat.runs.items()):
            if run.over:
                del seat.runs[slice_id]
                run.forget(slice_id)


def _same_bits(one: Ready, other: Ready) -> bool:
    """Two workers compute the same bits, whichever of a request's slices each has."""
    kinds = [ready.device.partition(":")[0] for ready in (one, other)]
    return kinds[0] == kinds[1] and one.kernel == other.kernel
