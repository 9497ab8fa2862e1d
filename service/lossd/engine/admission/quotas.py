"""Quotas of the teams, held over all front ends: rates, and what is in flight.

The numbers are in memory that all front ends map, so a look at them takes microseconds and no message.

Each front end counts a request in its own numbers, then checks the sum over all, and uncounts it if refused.
So two front ends never both take the last place, and neither waits for the other. Elements are known only
after a request has been admitted. They are charged then and may put the team into debt, which the next
requests wait out.

Of several servers each may use a share of a limit (`quota_shares`), and has a bucket of that size. However
small the share, a team that uses nothing on a server may begin: its next request is let in alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from lossd.engine.admission.quota_memory import KINDS, QuotaMemory
from lossd.teams import Limits, Team
from lossd.types import ErrorCode, RequestError

WINDOW_SECONDS: Final = 1.0
"""A rate's worth of this may be used at once."""
_FOLLOW_SECONDS: Final = 1.0  # in which a leased share grows to what a team needs here
_LEAST_SHARE: Final = 1e-9


class Entry(NamedTuple):
    """A request that has been admitted.

    Attributes:
        row: Its team's row of the quotas.
        nbytes: The bytes it is counted with.
    """

    row: int
    nbytes: int


class Left(NamedTuple):
    """What is left of a rate, as RateLimit header fields.

    Attributes:
        policy: The rate: ``"requests";q=50;w=1``, or ``"elements";q=1000000;qu="elements";w=1``.
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
        leased: Whether the shares follow what the team asks of each server.
    """

    def __init__(
        self,
        fd: int,
        front_ends: int,
        index: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        leased: bool = False,
    ) -> None:
        memory = QuotaMemory(fd, front_ends, index, leased=leased, clock=clock)
        self._rates, self._withheld, self._in_flight = memory.rates, memory.withheld, memory.in_flight
        self._own, self._refused = memory.in_flight[index], memory.refused[index]
        self._leased = leased
        self._rows: Mapping[str, int] = {}
        self._limited: dict[str, tuple[int, Limits]] = {}
        self._rates_of: dict[str, list[tuple[int, str, float, str]]] = {}  # kind, name, rate, policy
        self._last_charge: dict[int, int] = {}  # elements, by row
        for i, number in enumerate(self._own):
            if number:  # in flight in the process before this one
                self._own[i] = 0.0

    def change(self, teams: Mapping[str, Team], rows: Mapping[str, int]) -> None:
        """Take over other teams or limits.

        Args:
            teams: By name.
            rows: The row of each team, which never changes.
        """
        self._rows = rows
        self._limited = {
            name: (rows[name], team.limits) for name, team in teams.items() if team.limits != Limits()
        }
        self._rates_of = {name: _rates(limits) for name, (_, limits) in self._limited.items()}

    def is_limited(self, team: str) -> bool:
        """Return whether a team has limits."""
        return team in self._limited

    def enter(self, team: str, nbytes: int) -> Entry | None:
        """Admit a request, and count it until `leave`.

        Args:
            team: Its team.
            nbytes: The bytes of memory that its body takes.

        Returns:
            None if there is no such team.

        Raises:
            RequestError: ``rate_limited``, ``too_many_in_flight``; ``body_too_large`` if the body alone is
            over the limit.
        """
        found = self._limited.get(team)
        if found is None:
            return self._enter_unlimited(team, nbytes)
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

    def _enter_unlimited(self, team: str, nbytes: int) -> Entry | None:
        row = self._rows.get(team)
        if row is None:
            return None
        entry = Entry(row, nbytes)
        self._count(entry, 1)
        return entry

    def leave(self, entry: Entry | None) -> None:
        """Stop counting a request."""
        if entry is not None:
            self._count(entry, -1)

    def charge(self, team: str, elements: int) -> None:
        """Charge a team for elements, once their number is known."""
        found = self._limited.get(team)
        if found is not None and found[1].elements_per_second is not None:
            row, rate = found[0], found[1].elements_per_second
            self._last_charge[row] = elements
            self._rates.use(2 * row + 1, elements)
            self._rates.update(2 * row + 1, rate * self._share(row, 1))

    def check_elements(self, team: str) -> None:
        """Refuse an admitted request if others of its team have used up the elements since.

        Raises:
            RequestError: ``rate_limited``.
        """
        found = self._limited.get(team)
        if found is not None:
            self._check_elements(*found, team)

    def in_flight(self, team: str) -> tuple[int, int]:
        """Return the requests of a team that are in flight over all front ends, and their bytes."""
        row = self._rows.get(team)
        if row is None:
            return 0, 0
        requests, nbytes = (sum(own[2 * row + i] for own in self._in_flight) for i in (0, 1))
        return int(requests), int(nbytes)

    def left(self, team: str) -> list[Left]:
        """Return what is left of a team's rates; empty if it has none."""
        found = self._limited.get(team)
        if found is None:
            return []
        row, found_left = found[0], []
        for kind, name, rate, policy in self._rates_of[team]:
            share = self._share(row, kind)
            level = self._rates.level(2 * row + kind, rate * share)
            found_left.append(Left(policy, _state(name, rate * share, level, self._wait(level, rate, share))))
        return found_left

    def _share(self, row: int, kind: int) -> float:
        """Return the part of a limit that this server may use."""
        return max(_LEAST_SHARE, 1.0 - self._withheld[KINDS * row + kind])

    def _wait(self, level: float, rate: float, share: float) -> float:
        """Return the seconds until so many units have leaked out; a leased share grows if it is too small."""
        seconds = level / (rate * share)
        return min(seconds, level / rate + _FOLLOW_SECONDS) if self._leased else seconds

    def _count(self, entry: Entry, by: int) -> None:
        self._own[2 * entry.row] += by
        self._own[2 * entry.row + 1] += by * entry.nbytes

    def _refuse(self, row: int, kind: int, units: float) -> None:
        """Count what is refused: the share of a limit follows it."""
        self._refused[KINDS * row + kind] += units

    def _check_in_flight(self, entry: Entry, limits: Limits, team: str) -> None:
        row, most, most_bytes = entry.row, limits.requests_in_flight, limits.bytes_in_flight
        if most is not None:
            allowed = max(1.0, most * self._share(row, 2))
            if sum(own[2 * row] for own in self._in_flight) > allowed + 1e-9:
                self._refuse(row, 2, 1.0)
                what = f"{most} requests in flight; wait for one of them"
                if most == 1:
                    what = "1 request in flight; wait for it"
                detail = f"team {team} may have {what} to be answered"
                raise RequestError(ErrorCode.TOO_MANY_IN_FLIGHT, detail)
        if most_bytes is None:
            return
        others = sum(own[2 * row + 1] for own in self._in_flight) - entry.nbytes
        if others > 0 and others + entry.nbytes > most_bytes * self._share(row, 3):
            self._refuse(row, 3, entry.nbytes)
            detail = (
                f"team {team} may have {most_bytes} bytes in flight, and has {others:.0f}; wait for an answer"
            )
            raise RequestError(ErrorCode.TOO_MANY_IN_FLIGHT, detail)

    def _check_elements(self, row: int, limits: Limits, team: str) -> None:
        rate = limits.elements_per_second
        if rate is None:
            return
        share = self._share(row, 1)
        over = self._rates.level(2 * row + 1, rate * share) - rate * share * WINDOW_SECONDS
        if over >= 0.0:
            self._refuse(row, 1, self._last_charge.get(row, 1))
            late = self._wait(over, rate, share)
            detail = (
                f"team {team} may have {_counted(rate, 'element')} a second scored, and is {late:.1f} s "
                "ahead of that; send less, or wait"
            )
            raise RequestError(ErrorCode.RATE_LIMITED, detail, retry_after=late)

    def _take_rate(self, row: int, limits: Limits, team: str) -> None:
        full = limits.requests_per_second
        if full is None:
            return
        share = self._share(row, 0)
        rate = full * share
        self._rates.use(2 * row, 1.0)
        over = self._rates.level(2 * row, rate) - max(WINDOW_SECONDS * rate, 1.0)
        if over > 1e-9 * rate:
            self._rates.use(2 * row, -1.0)
            self._refuse(row, 0, 1.0)
            most = f"{_counted(full, 'request')} a second"
            detail = f"team {team} may send {most}; send fewer and larger ones, or wait"
            raise RequestError(ErrorCode.RATE_LIMITED, detail, retry_after=self._wait(over, full, share))
        self._rates.update(2 * row, rate)


def _counted(number: float, unit: str) -> str:
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def _rates(limits: Limits) -> list[tuple[int, str, float, str]]:
    """Return the rates of a team: the kind, the name and the units a second of each, and its policy.

    The policy is a field of RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10), in which requests are
    the unit unless another is named.
    """
    given = (
        ("requests", limits.requests_per_second, ""),
        ("elements", limits.elements_per_second, ';qu="elements"'),
    )
    found = []
    for kind, (name, rate, unit) in enumerate(given):
        if rate is not None:
            window = max(WINDOW_SECONDS, 1.0 / rate)
            quota = math.floor(window * rate + 1e-6)
            found.append((kind, name, rate, f'"{name}";q={quota}{unit};w={math.ceil(window)}'))
    return found


def _state(name: str, rate: float, level: float, wait: float) -> str:
    """Return what is left of a rate, as a field of RateLimit (of the same draft).

    Args:
        name: The policy's name.
        rate: Units a second that this server may give.
        level: Units that the team has used in advance here.
        wait: Seconds until they have leaked out.
    """
    left = max(0.0, max(rate * WINDOW_SECONDS, 1.0) - level)
    return f'"{name}";r={math.floor(left + 1e-6)};t={math.ceil(wait)}'
