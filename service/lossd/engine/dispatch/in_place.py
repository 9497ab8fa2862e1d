"""Small requests, scored by the front end itself.

What costs a core a fraction of a millisecond is scored where its bytes lie, in the event loop: to ask a
worker for it would take longer. The loop's turns stay short all the same: when it has scored for two
milliseconds the rest waits for later turns, fairly by team.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

import numpy as np

from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.kernel import Kernel
from lossd.core.prepare import Work, prepare
from lossd.core.self_test import check_known_answers
from lossd.engine.dispatch.result import Planes, Totals, planes_of, result_of, too_late
from lossd.engine.scheduler import Scheduler
from lossd.teams import Team
from lossd.types import LossRequest, LossResult

T = TypeVar("T")

TURN_SECONDS: Final = 2e-3
"""For so long small requests are scored within one turn of the event loop; one more may have begun."""
MOST_OUTPUTS: Final = 1 << 13
"""Numbers of an array answer, at most: what is written at once."""
_MOST_MERGED: Final = 1 << 9
"""The same where each may need many terms."""
_SIMPLE_GAMMAS: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
_COSTLY: Final = 4.0
"""How many times as much an element costs with another gamma, which needs a logarithm, or as part of one of
several sums that may need many terms."""
_MOST_WAITING: Final = 16 << 20
"""Bytes of bodies that wait for a turn of the loop, at most."""


class LoopTurns:
    """Shares the event loop's time among small requests: fairly by team, when a turn has no room for all.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: Scheduler[tuple[int, Callable[[], None]]] = Scheduler()
        self._nbytes = 0  # of the bodies that wait
        self._until = 0.0  # till when there is time in this turn
        self._arranged = False  # a later turn

    def has_time(self, now: float) -> bool:
        """Whether there is time in this turn, by the clock, and nobody else waits."""
        return now < self._until and not self._waiting

    def add(self, team: Team, nbytes: int, work: Callable[[], None]) -> bool:
        """Do something in a later turn.

        Args:
            team: Whose it is.
            nbytes: Of memory that is kept for it, and has not been reserved.
            work: Does it, and raises nothing.

        Returns:
            False where too much waits already.
        """
        if nbytes and self._nbytes and self._nbytes + nbytes > _MOST_WAITING:
            return False
        self._nbytes += nbytes
        self._waiting.add(team.name, team.weight, object(), (nbytes, work))
        self._arrange()
        return True

    async def run(self, team: Team, work: Callable[[], T]) -> T:
        """Do something now, or in a later turn, and return what it comes to."""
        if self.has_time(self._clock()):
            return work()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def late() -> None:
            if done.done():  # nobody waits any more
                return
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        self.add(team, 0, late)
        return await done

    def _arrange(self) -> None:
        if not self._arranged:
            self._arranged = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._arranged = False
        now = self._clock()
        self._until = now + TURN_SECONDS
        try:
            while now < self._until and (item := self._waiting.next()) is not None:
                nbytes, work = item
                self._nbytes -= nbytes
                try:
                    work()
                finally:
                    then = self._clock()
                    self._waiting.charge(then - now)
                    now = then
        finally:
            if self._waiting:
                self._arrange()


class Prepared(NamedTuple):
    """A request of one part, made ready to score.

    Attributes:
        request: The request.
        cut: Its one part.
        work: What the kernel is asked.
    """

    request: LossRequest
    cut: Cut
    work: Work


class InPlace:
    """Scores small requests.

    Args:
        kernel: With what, on one core.
        milliseconds: What a request may cost at most, as foretold.
    """

    def __init__(self, kernel: Kernel, milliseconds: float) -> None:
        self._kernel: Final = kernel
        self._most: Final = 1e6 * milliseconds
        self.turns: Final = LoopTurns()

    def check(self) -> None:
        """Score known answers.

        Raises:
            WrongAnswerError: Something else came of one.
        """
        check_known_answers(self._kernel)

    def takes(self, request: LossRequest, cut: Cut) -> bool:
        """Whether a request is small enough."""
        loss = LOSSES[request.loss]
        if not loss.is_native or cut.parts != 1:
            return False
        merged = bool(cut.output_shape) and not cut.complete
        if cut.output_shape and cut.outputs > (_MOST_MERGED if merged else MOST_OUTPUTS):
            return False
        costly = merged or request.params.get("gamma", 1.5) not in _SIMPLE_GAMMAS
        return cut.size * loss.nanoseconds * (_COSTLY if costly else 1.0) <= self._most

    async def score(
        self,
        request: LossRequest,
        cut: Cut,
        memory: bytes | memoryview,
        offset: int,
        deadline: float,
        team: Team,
    ) -> tuple[LossResult, float]:
        """Score a request when it is its team's turn.

        Args:
            request: The request.
            cut: Its one part.
            memory: Where its tensors lie.
            offset: Where in that memory its offsets are counted from.
            deadline: Compute nothing after this, by time.monotonic().
            team: Whose it is.

        Returns:
            The result, whose array is its own, and the seconds of computing.

        Raises:
            RequestError: As `compute`, or the deadline has passed.
        """

        def work() -> tuple[LossResult, float]:
            began = time.monotonic()
            if began >= deadline:
                raise too_late()
            result = self.compute(prepare_request(request, cut), memory, offset)
            return result, time.monotonic() - began

        return await self.turns.run(team, work)

    def compute(self, ready: Prepared, memory: bytes | memoryview, offset: int) -> LossResult:
        """Score a request at once.

        Args:
            ready: The request.
            memory: Where its tensors lie.
            offset: Where in that memory its offsets are counted from.

        Raises:
            RequestError: A value in a tensor stands against it, or it is a mean over nothing.
        """
        (request, cut, work), kernel = ready, self._kernel
        channels: Sequence[Planes] = ()
        if cut.output_shape:
            memories = [np.empty(cut.room(0)) for _ in range(work.channels)]
            sums = kernel.score(work, memory, offset, 0, memories)
            channels = [planes_of(cut, *each) for each in zip(memories, sums.planes, strict=True)]
        else:
            sums = kernel.score(work, memory, offset, 0)
        totals = Totals(sums.loss, sums.weights, sums.positives, sums.count)
        return result_of(request, cut, totals, channels, kernel.name, kernel.device)


def prepare_request(request: LossRequest, cut: Cut, base: int = 0) -> Prepared:
    """Make a request of one part ready to score.

    Args:
        request: The request.
        cut: Its part.
        base: Where its offsets are to be counted from.
    """
    tensors = {name: replace(tensor, offset=tensor.offset - base) for name, tensor in request.tensors.items()}
    work = prepare(request.loss, request.params, cut.shape, cut.axes, cut.elements, tensors)
    return Prepared(request, cut, work)
