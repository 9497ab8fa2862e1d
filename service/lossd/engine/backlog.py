"""How long a request would wait for the workers that came now: for admission. Pure bookkeeping.

What a team waits for is what its own requests have left to compute, at the rate at which the team was served
lately: other teams, their weights and the machine's other work are all in that rate. It is only measured,
and only believed, while requests queue up; a few callers one after the other keep no worker busy, and say
nothing of how fast it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lossd.core.grid import BLOCK
from lossd.engine.drain import DrainRate

QUEUE: Final = 4
"""So many requests of a team with something left to compute are a queue."""
_MEMORY_SECONDS: Final = 3.0


class _TeamBacklog:
    """What a team has left to compute.

    Attributes:
        elements: In all.
        requests: How many of its requests have something left.
        rate: How fast it is served, in elements.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.elements = 0
        self.requests = 0
        self.rate: Final = DrainRate(clock, _MEMORY_SECONDS)


class Backlog:
    """What all teams have left to compute.

    What is known of a team's rate is kept: the next queue begins with it.

    Args:
        clock: Seconds, as time.monotonic() gives them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._teams: dict[str, _TeamBacklog] = {}

    @property
    def elements(self) -> int:
        """Elements that have arrived and are not answered."""
        return sum(team.elements for team in self._teams.values())

    def change(self, team: str, before: int, after: int, *, served: bool = False) -> None:
        """Take note of what a request has left.

        Args:
            team: Whose it is.
            before: How many elements it had left.
            after: How many it has.
            served: The difference has been computed; else it has arrived, or nobody wants it any more.
        """
        backlog = self._teams.get(team)
        if backlog is None:
            backlog = self._teams[team] = _TeamBacklog(self._clock)
        backlog.elements += after - before
        backlog.requests += (after > 0) - (before > 0)
        if served:
            backlog.rate.count(before - after)
        if backlog.requests >= QUEUE:
            backlog.rate.begin()
        else:
            backlog.rate.end()

    def expected_wait(self, team: str, elements: int) -> float:
        """About how many seconds a request of a team would take that came now; 0 where there is no queue.

        Args:
            team: Whose it is.
            elements: About how many it has.
        """
        backlog = self._teams.get(team)
        if backlog is None or backlog.requests < QUEUE:
            return 0.0
        # Requests take turns: of each other no more comes first than the request has itself, and a block.
        ahead = min(backlog.elements, backlog.requests * (elements + BLOCK))
        return backlog.rate.seconds(ahead + min(elements, ahead))
