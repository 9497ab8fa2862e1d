"""Quotas of the teams, held over all front ends: rates, and what is in flight.

The numbers are in memory that all front ends map, so a look at them takes microseconds and no message.

Each front end counts a request in its own numbers, then checks the sum over all, and uncounts it if refused.
So two front ends never both take the last place, and neither waits for the other. Elements are known only
after a request has been admitted. They are charged then and may put the team into debt, which the next
requests wait out.
"""

from __future__ import annotations

import math
import mmap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from lossd.engine.admission.rate_buckets import RateBuckets
from lossd.teams import MOST_TEAMS, Limits, Team
from lossd.types import ErrorCode, RequestError

_BUCKETS: Final = 2 * MOST_TEAMS  # each team's requests, and its elements
_WINDOW_SECONDS: Final = 1.0  # a rate's worth of this may be used at once


def quotas_bytes(front_ends: int) -> int:
    """Return the bytes of memory that the quotas need; most of its pages are never touched."""
    return 8 * (_rate_numbers(front_ends) + 2 * MOST_TEAMS * front_ends)


def _rate_numbers(front_ends: int) -> int:
    return RateBuckets.numbers_needed(_BUCKETS, front_ends)


class Entry(NamedTuple):
    """A request that has been admitted.

    Attributes:
        row: Its team's row of the quotas.
        nbytes: The bytes it is counted with.
    """

    row: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a rate, as RateLimit header fields.

    Attributes:
        policy: The rate: ``"requests";q=50;w=1``.
        state: What is left, and the seconds until all of it is available: ``"requests";r=49;t=1``.
    """

    policy: str
    state: str


class Quotas:
    """The quotas as one front end sees them.

    Args:
        fd: The memory, `quotas_bytes` long, from `create_memory`. It stays open.
        front_ends: Number of front ends.
        index: This one's number.
        clock: Seconds, the same for all front ends.
    """

    def __init__(
        self, fd: int, front_ends: int, index: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        numbers = memoryview(mmap.mmap(fd, quotas_bytes(front_ends))).cast("d")
        rates = _rate_numbers(front_ends)
        self._rates = RateBuckets(fd, numbers[:rates], _BUCKETS, front_ends, index, clock)
        each = 2 * MOST_TEAMS  # requests and bytes of each team
        self._in_flight = [numbers[rates + i * each : rates + (i + 1) * each] for i in range(front_ends)]
        self._own = self._in_flight[index]
        self._limited: dict[str, tuple[int, Limits]] = {}
        for i, number in enumerate(self._own):
            if number:  # in flight in the process before this one
                self._own[i] = 0.0

    def change(self, teams: Mapping[str, Team], rows: Mapping[str, int]) -> None:
        """Take over other teams or limits.

        Args:
            teams: By name.
            rows: The row of each team, which never changes.
        """
        self._limited = {
            name: (rows[name], team.limits) for name, team in teams.items() if team.limits != Limits()
        }

    def enter(self, team: str, nbytes: int) -> Entry | None:
        """Admit a request, and count it until `leave`.

        Args:
            team: Its team.
            nbytes: The bytes of memory that its body takes.

        Returns:
            None if the team has no limits.

        Raises:
            RequestError: ``rate_limited``, ``too_many_in_flight``; ``body_too_large`` if the body alone is
            over the limit.
        """
        found = self._limited.get(team)
        if found is None:
            return None
        row, limits = found
        if limits.bytes_in_flight is not None and nbytes > limits.bytes_in_flight:
            detail = (
                f"the body takes {nbytes} bytes, and team {team} may have {limits.bytes_in_flight} in "
                "flight; send it in several requests"
            )
            raise RequestError(ErrorCode.BODY_TOO_LARGE, detail)
        entry = Entry(row, nbytes)
        self._count(entry, 1)
        try:
            self._check_in_flight(entry, limits, team)
            self._check_elements(row, limits, team)
            self._take_rate(row, limits, team)
        except RequestError:
            self._count(entry, -1)
            raise
        return entry

    def leave(self, entry: Entry | None) -> None:
        """Stop counting a request."""
        if entry is not None:
            self._count(entry, -1)

    def charge(self, team: str, elements: int) -> None:
        """Charge a team for elements, once their number is known."""
        found = self._limited.get(team)
        if found is not None and found[1].elements_per_second is not None:
            self._rates.use(2 * found[0] + 1, elements)
            self._rates.update(2 * found[0] + 1, found[1].elements_per_second)

    def check_elements(self, team: str) -> None:
        """Refuse an admitted request if others of its team have used up the elements since.

        Raises:
            RequestError: ``rate_limited``.
        """
        found = self._limited.get(team)
        if found is not None:
            self._check_elements(*found, team)

    def left(self, team: str) -> list[Left]:
        """Return what is left of a team's rates; empty if it has none."""
        found = self._limited.get(team)
        if found is None:
            return []
        row, limits = found
        rates = (("requests", limits.requests_per_second), ("elements", limits.elements_per_second))
        return [
            _describe(name, rate, self._rates.level(2 * row + i, rate) / rate)
            for i, (name, rate) in enumerate(rates)
            if rate is not None
        ]

    def _count(self, entry: Entry, by: int) -> None:
        self._own[2 * entry.row] += by
        self._own[2 * entry.row + 1] += by * entry.nbytes

    def _check_in_flight(self, entry: Entry, limits: Limits, team: str) -> None:
        most, most_bytes = limits.requests_in_flight, limits.bytes_in_flight
        if most is not None and sum(own[2 * entry.row] for own in self._in_flight) > most:
            detail = f"team {team} may have {most} requests in flight; wait for one of them to be answered"
            raise RequestError(ErrorCode.TOO_MANY_IN_FLIGHT, detail)
        if most_bytes is None:
            return
        others = sum(own[2 * entry.row + 1] for own in self._in_flight) - entry.nbytes
        if others + entry.nbytes > most_bytes:
            detail = (
                f"team {team} may have {most_bytes} bytes in flight, and has {others:.0f}; wait for an answer"
            )
            raise RequestError(ErrorCode.TOO_MANY_IN_FLIGHT, detail)

    def _check_elements(self, row: int, limits: Limits, team: str) -> None:
        rate = limits.elements_per_second
        if rate is None:
            return
        late = self._rates.level(2 * row + 1, rate) / rate - _WINDOW_SECONDS
        if late >= 0.0:
            detail = (
                f"team {team} may have {rate:g} elements a second scored, and is {late:.1f} s ahead of that"
            )
            raise RequestError(ErrorCode.RATE_LIMITED, f"{detail}; send less, or wait", retry_after=late)

    def _take_rate(self, row: int, limits: Limits, team: str) -> None:
        rate = limits.requests_per_second
        if rate is None:
            return
        self._rates.use(2 * row, 1.0)
        late = self._rates.level(2 * row, rate) / rate - max(_WINDOW_SECONDS, 1.0 / rate)
        if late > 1e-9:
            self._rates.use(2 * row, -1.0)
            detail = f"team {team} may send {rate:g} requests a second; send fewer and larger ones, or wait"
            raise RequestError(ErrorCode.RATE_LIMITED, detail, retry_after=late)
        self._rates.update(2 * row, rate)


def _describe(name: str, rate: float, ahead: float) -> Left:
    """Return a rate's fields of the RateLimit headers (draft-ietf-httpapi-ratelimit-headers-10).

    Args:
        name: The policy's name.
        rate: Units a second.
        ahead: Seconds' worth of the rate that the team has used in advance.
    """
    window = max(_WINDOW_SECONDS, 1.0 / rate)
    left = max(0.0, window - max(0.0, ahead)) * rate
    policy = f'"{name}";q={math.floor(window * rate + 1e-6)};w={math.ceil(window)}'
    return Left(policy, f'"{name}";r={math.floor(left + 1e-6)};t={math.ceil(max(0.0, ahead))}')
