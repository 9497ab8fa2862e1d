"""Limits the bytes of bodies that are received and scored at a time. Other requests wait unread.

An admitted body is done soon, so nearly all waiting happens here, where it can be predicted, where teams are
served fairly, and where a request that would wait too long costs nothing but its refusal. If all bodies were
read at once, each would take as long as all of them together.

A slow sender must not make others wait: a body that has not arrived as a whole within a quarter of a second
is no longer counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from lossd.engine.admission.fair_queue import FairQueue, Observer

PATIENCE_SECONDS: Final = 0.25
"""How long a body that is still arriving counts."""
_CAUTION: Final = 1.5
"""Safety factor: a request may queue only if its deadline allows this multiple of the predicted wait."""


class Permit:
    """Permission to receive and score a body."""

    __slots__ = ("_limiter", "nbytes", "team")

    def __init__(self, limiter: ConcurrencyLimiter, team: str, nbytes: int) -> None:
        self._limiter = limiter
        self.team: Final = team
        self.nbytes: Final = nbytes

    def arrived(self) -> None:
        """Mark the body as received: from now on it counts until it is scored."""
        self._limiter.forget_arrival(self)

    def end(self) -> None:
        """Give the permission back: the body has been scored, or is no longer wanted."""
        self._limiter.leave(self, served=True)

    def give_up(self) -> None:
        """Let others go first: the body will not arrive soon."""
        self._limiter.leave(self, served=False)


class ConcurrencyLimiter(FairQueue[Permit]):
    """Gives out permits.

    Args:
        capacity: Most bytes of bodies at a time; a longer body is admitted alone.
        clock: Seconds, as time.monotonic() returns them.
        observer: Is told of changes.
    """

    def __init__(
        self,
        capacity: int,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        detail = "the queue is too long for this request's deadline; try again later, or allow more time"
        super().__init__("the turns", detail, capacity, clock, observer)
        self._capacity = capacity
        self._clock = clock
        self._counted: set[Permit] = set()
        self._arriving: dict[Permit, float] = {}  # in order, with the time until which each is counted
        self._timer: asyncio.TimerHandle | None = None
        self.nbytes = 0
        """Bytes of the counted bodies."""

    async def ask(
        self,
        nbytes: int,
        timeout: float,  # noqa: ASYNC109 -- becomes a RequestError
        team: str = "default",
        weight: float = 1.0,
    ) -> Permit:
        """Get a permit; see `FairQueue.ask`.

        A permit that comes too late to score the body within ``timeout`` seconds is ``overloaded``, too.
        """
        self._expire()
        began = self._clock()
        permit = await super().ask(nbytes, timeout, team, weight)
        if self.waiting and self._clock() - began + self._released.seconds(self.nbytes) > timeout:
            permit.give_up()
            raise self._full(nbytes, team)
        return permit

    def forget_arrival(self, permit: Permit) -> None:
        """Count a body until its permit is given back: it has arrived."""
        self._arriving.pop(permit, None)

    def leave(self, permit: Permit, *, served: bool) -> None:
        """Take a permit back; `served` if its body has been scored, or is no longer wanted."""
        if permit in self._counted:
            self._counted.remove(permit)
            self._arriving.pop(permit, None)
            self.nbytes -= permit.nbytes
            self._give_back(permit.team, permit.nbytes, served=served)

    def _try(self, team: str, nbytes: int) -> Permit | None:
        if self.nbytes and self.nbytes + nbytes > self._capacity:
            self._watch()
            return None
        permit = Permit(self, team, nbytes)
        self._counted.add(permit)
        self._arriving[permit] = self._clock() + PATIENCE_SECONDS
        self.nbytes += nbytes
        return permit

    def _time_for(self, nbytes: int, team: str) -> float:
        return _CAUTION * self.expected_wait(nbytes, team)

    def _undo(self, given: Permit) -> None:
        given.give_up()

    def _before(self, held: int, asked: int) -> int:
        return held + asked  # permits end when bodies are scored: admitted ones come first, too

    def _watch(self) -> None:
        """Set a timer for when the next arriving body is no longer counted."""
        if self._timer is None and self._arriving:
            until = next(iter(self._arriving.values()))
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, until - self._clock()), self._look)

    def _look(self) -> None:
        self._timer = None
        self._expire()
        if self.waiting:
            self._watch()

    def _expire(self) -> None:
        now = self._clock()
        for permit in [permit for permit, until in self._arriving.items() if until <= now]:
            permit.give_up()
