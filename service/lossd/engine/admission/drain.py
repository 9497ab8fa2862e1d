"""How fast something is emptied, by which it is foretold how long that will take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

LONGEST_GAP: Final = 0.25


class DrainRate:
    """How fast something full is emptied: units a second, while anybody waits for it.

    When nothing is taken out for long, something has stood still, such as a worker that was replaced, and
    that says nothing of how things go when it has come back: such a gap counts as a quarter of a second.

    Args:
        clock: Seconds.
        least: How many units must have been taken out lately for the rate to be known.
        memory: Seconds after which what was counted counts for a third.
    """

    def __init__(self, clock: Callable[[], float], least: float, memory: float = 10.0) -> None:
        self._clock = clock
        self._least: Final = least
        self._memory: Final = memory
        self._since: float | None = None  # when it was last counted; None while nobody waits
        self._units = 0.0
        self._seconds = 0.0

    def begin(self) -> None:
        """Somebody waits."""
        if self._since is None:
            self._since = self._clock()

    def end(self) -> None:
        """Nobody waits any more."""
        self.count(0)
        self._since = None

    def count(self, units: int) -> None:
        """So many units were taken out."""
        if self._since is None:
            return
        now = self._clock()
        passed, self._since = min(now - self._since, LONGEST_GAP), now
        fading = math.exp(-passed / self._memory)
        self._units = self._units * fading + units
        self._seconds = self._seconds * fading + passed

    def seconds(self, units: float) -> float:
        """How long it takes to empty so many units; 0 where that is not known."""
        return units * self._seconds / self._units if self._units >= self._least else 0.0
