"""A request at workers' places, as whoever answers it sees it: fed while its inputs arrive, then awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from lossd.core.grid import Grid
from lossd.engine.figures import too_late
from lossd.engine.frames import Failed, Scored, Slice
from lossd.engine.job import Job, Span
from lossd.engine.seat import Held, WorkerSeat
from lossd.request import LossResult


class Hands(Protocol):
    """What hands slices out."""

    def feed(self, run: Held) -> None:
        """Hand out as many as may be out at a time."""

    def cancel(self, run: Held) -> None:
        """Have those that are out answered at once."""


class Run:
    """A request of any size.

    Args:
        pool: What hands its slices out.
        job: The request.
        seat: The worker's place; another one's, should that worker end while others are ready.
    """

    def __init__(self, pool: Hands, job: Job, seat: WorkerSeat) -> None:
        self.job: Final = job
        self.seat = seat
        self._pool = pool

    @property
    def request(self) -> int:
        """See `Held`."""
        return self.job.id

    @property
    def team(self) -> str:
        """See `Held`."""
        return self.job.team

    @property
    def identity(self) -> str:
        """See `Held`."""
        return self.job.identity

    @property
    def shared(self) -> bool:
        """See `Held`."""
        return self.job.tried

    @property
    def over(self) -> bool:
        """See `Held`: while inputs are still arriving it has come to a fault, which `result` raises."""
        return self.job.done.done()

    @property
    def outstanding(self) -> bool:
        """See `Held`."""
        return bool(self.job.outstanding)

    def next_slice(self) -> Slice | None:
        """See `Held`."""
        return self.job.next_slice()

    def piece(self, slice_id: int) -> Slice:
        """See `Held`."""
        return self.job.outstanding[slice_id][0]

    def take(self, answer: Scored | Failed, device: str) -> None:
        """See `Held`."""
        self.job.take(answer, device)

    def forget(self, slice_id: int) -> None:
        """See `Held`."""
        self.job.forget(slice_id)

    def ended_worker(self, slice_id: int) -> None:
        """See `Held`."""
        self.job.ended_worker(slice_id)

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
            raise too_late() from None
        return job.result(self.seat.kernel, self.seat.computes_on), job.seconds

    def end(self, release: Callable[[], None]) -> None:
        """End it if it has not ended, and call ``release`` as soon as nobody reads or writes its memory."""
        self.job.done.cancel()
        self._pool.cancel(self)
        self.job.when_idle(release)
