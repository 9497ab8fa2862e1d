"""Lets a few bodies at a time be received and scored, while the others wait unread.

What has been let in is soon done, so that almost all of the waiting is done here, where it can be foretold,
where teams take turns, and where a request that would wait too long costs nothing but its refusal. Were all
of them read at once, each would take as long as all of them together.

A caller who sends slowly is no reason for others to wait: a body that has not come as a whole within a
quarter of a second counts no longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from lossd.engine.admission.fair_queue import Admission, Observer

PATIENCE: Final = 0.25
"""Seconds for which a body that is still coming counts."""
_CAUTION: Final = 1.5
"""A body waits if it can be scored in time though that takes so many times as long as foretold: what has been
read in vain is worse than a refusal."""


class Turn:
    """A body's turn.

    Args:
        turnstile: Where it was let in.
        team: Whose it is.
        nbytes: How long it is.
    """

    __slots__ = ("_turnstile", "nbytes", "team")

    def __init__(self, turnstile: Turnstile, team: str, nbytes: int) -> None:
        self._turnstile = turnstile
        self.team: Final = team
        self.nbytes: Final = nbytes

    def arrived(self) -> None:
        """All of it has been received: from now on it counts until it is scored."""
        self._turnstile.arrived(self)

    def end(self) -> None:
        """It has been scored, or nobody wants it any more."""
        self._turnstile.end(self)


class Turnstile(Admission[Turn]):
    """Hands out turns.

    Args:
        capacity: How many bytes of bodies are let in at a time; a longer one is when it is the only one.
        clock: Seconds, as time.monotonic() gives them.
        observer: Is told of changes.
    """

    def __init__(
        self,
        capacity: int,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        detail = "more is waiting than can be scored in time; try again later, or allow more time"
        super().__init__(detail, capacity, clock, observer)
        self._capacity = capacity
        self._clock = clock
        self._inside: set[Turn] = set()  # those that count
        self._coming: dict[Turn, float] = {}  # of these, in order, who has not arrived, and until when it may
        self._timer: asyncio.TimerHandle | None = None
        self.nbytes = 0
        """Of the bodies that are let in, and count."""

    async def ask(
        self,
        nbytes: int,
        timeout: float,  # noqa: ASYNC109 -- becomes a RequestError
        team: str = "default",
        weight: float = 1.0,
    ) -> Turn:
        """Get a turn; see `Admission.ask`.

        One that comes too late for the body to be scored within ``timeout`` seconds is not used: then it is
        ``overloaded``, too.
        """
        self._expire()
        began = self._clock()
        turn = await super().ask(nbytes, timeout, team, weight)
        if self.waiting and self._clock() - began + self._drain.seconds(self.nbytes) > timeout:
            self._leave(turn, served=False)
            raise self._full(self.expected_wait(nbytes, team))
        return turn

    def arrived(self, turn: Turn) -> None:
        """See `Turn.arrived`."""
        self._coming.pop(turn, None)

    def end(self, turn: Turn) -> None:
        """See `Turn.end`."""
        self._leave(turn, served=True)

    def _try(self, team: str, nbytes: int) -> Turn | None:
        if self.nbytes and self.nbytes + nbytes > self._capacity:
            self._watch()
            return None
        turn = Turn(self, team, nbytes)
        self._inside.add(turn)
        self._coming[turn] = self._clock() + PATIENCE
        self.nbytes += nbytes
        return turn

    def _time_for(self, nbytes: int, team: str) -> float:
        return _CAUTION * self.expected_wait(nbytes, team)

    def _undo(self, given: Turn) -> None:
        self._leave(given, served=False)

    def _before(self, held: int, asked: int) -> int:
        return held + asked  # turns end when bodies are scored: those inside come first, too

    def _leave(self, turn: Turn, *, served: bool) -> None:
        if turn in self._inside:
            self._inside.remove(turn)
            self._coming.pop(turn, None)
            self.nbytes -= turn.nbytes
            self._give_back(turn.team, turn.nbytes, served=served)

    def _watch(self) -> None:
        """Look again when the next of those that are still coming counts no longer."""
        if self._timer is None and self._coming:
            until = next(iter(self._coming.values()))
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, until - self._clock()), self._look)

    def _look(self) -> None:
        self._timer = None
        self._expire()
        if self.waiting:
            self._watch()

    def _expire(self) -> None:
        now = self._clock()
        for turn in [turn for turn, until in self._coming.items() if until <= now]:
            self._leave(turn, served=False)
