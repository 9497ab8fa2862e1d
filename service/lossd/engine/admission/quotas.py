"""What teams may use at most, held over all front ends: rates, and what is in flight.

The numbers stand in memory that all front ends map, so that to ask them takes microseconds and no message. A
rate is kept as a leaky bucket (ITU-T I.371): how much has been used and not leaked out yet, and when that was
so; what is left thus follows a change of the rate. Elements are known only when a request has been let
in; they are charged then, and may put the team into debt, which the requests after it wait out.

What is in flight is counted by each front end in numbers of its own, which its successor begins anew. A lock
on a team's row, which the kernel takes from who dies, makes looking and taking one thing.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from lossd.teams import MOST_TEAMS, Limits, Team
from lossd.types import ErrorCode, RequestError

_BUCKET: Final = 2  # numbers of a bucket: what is in it, and when that was so
_SHARED: Final = 2 * _BUCKET  # numbers of a row that are all front ends': the requests' bucket, the elements'
_TRIES: Final = 1000
_WINDOW: Final = 1.0  # seconds whose worth of a rate may be used at once


def quotas_bytes(front_ends: int) -> int:
    """How much memory it takes; of most of it no page is ever touched."""
    return 8 * MOST_TEAMS * _row(front_ends)


def _row(front_ends: int) -> int:
    return _SHARED + 2 * front_ends


class Entry(NamedTuple):
    """A request that has been let in.

    Attributes:
        place: Where among the numbers its team's row begins.
        nbytes: What it is counted with.
    """

    place: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a rate.

    Attributes:
        policy: What the rate is: ``"requests";q=50;w=1``.
        state: What is left, and in how many seconds all of it will be there again: ``"requests";r=49;t=1``.
    """

    policy: str
    state: str


class Quotas:
    """The quotas, as one front end sees them.

    Args:
        fd: The memory, `quotas_bytes` long, from `create_memory`. It is kept, for the locks.
        front_ends: How many front ends there are.
        index: Which of them this is.
        clock: Seconds, the same for all front ends.
    """

    def __init__(
        self, fd: int, front_ends: int, index: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fd = fd
        self._numbers = memoryview(mmap.mmap(fd, quotas_bytes(front_ends))).cast("d")
        self._row = _row(front_ends)
        self._own = _SHARED + 2 * index
        self._shared = front_ends > 1
        self._clock = clock
        self._limited: dict[str, tuple[int, Limits]] = {}
        used = range(self._own, len(self._numbers), self._row)
        for place in used:  # what one before it had in flight went with it
            if self._numbers[place] or self._numbers[place + 1]:
                self._numbers[place] = self._numbers[place + 1] = 0.0

    def change(self, teams: Mapping[str, Team], slots: Mapping[str, int]) -> None:
        """Go on with other teams, or limits.

        Args:
            teams: By name.
            slots: The row of each team, the same for ever.
        """
        self._limited = {
            name: (slots[name] * self._row, team.limits)
            for name, team in teams.items()
            if team.limits != Limits()
        }

    def enter(self, team: str, nbytes: int) -> Entry | None:
        """Let a request in, and count it until `leave`.

        Args:
            team: Whose it is.
            nbytes: How much of the memory for bodies it takes.

        Returns:
            None where the team has no limits.

        Raises:
            RequestError: ``rate_limited``, ``too_many_in_flight``; ``body_too_large`` if it is over the limit
            alone.
        """
        found = self._limited.get(team)
        if found is None:
            return None
        place, limits = found
        if limits.bytes_in_flight is not None and nbytes > limits.bytes_in_flight:
            detail = (
                f"the body takes {nbytes} bytes, and team {team} may have {limits.bytes_in_flight} under "
                "way; send it in several requests"
            )
            raise RequestError(ErrorCode.BODY_TOO_LARGE, detail)
        with self._locked(place):
            self._check_in_flight(place, limits, nbytes, team)
            self._take_rate(place, limits, team)
            own = place + self._own
            self._numbers[own] += 1.0
            self._numbers[own + 1] += nbytes
        return Entry(place, nbytes)

    def leave(self, entry: Entry | None) -> None:
        """Count a request no longer."""
        if entry is not None:
            own = entry.place + self._own
            self._numbers[own] -= 1.0
            self._numbers[own + 1] -= entry.nbytes

    def withdraw(self, team: str, entry: Entry | None) -> None:
        """Forget a request that has been let in, as if it had not asked: it is going to ask once more."""
        self.leave(entry)
        found = self._limited.get(team)
        if found is None or found[1].requests_per_second is None:
            return
        place, rate = found[0], found[1].requests_per_second
        with self._locked(place):
            self._fill(place, self._level(place, rate) - 1.0)

    def charge(self, team: str, elements: int) -> None:
        """Charge a team with elements, now that it is known how many there are."""
        found = self._limited.get(team)
        if found is None or found[1].elements_per_second is None:
            return
        place, rate = found[0] + _BUCKET, found[1].elements_per_second
        with self._locked(found[0]):
            self._fill(place, self._level(place, rate) + elements)

    def check_elements(self, team: str) -> None:
        """Refuse a request that has been let in, if others of its team have used up the elements since.

        Raises:
            RequestError: ``rate_limited``.
        """
        found = self._limited.get(team)
        if found is not None:
            self._check_elements(found[0], found[1], team)

    def left(self, team: str) -> list[Left]:
        """What is left of a team's rates; empty where it has none."""
        found = self._limited.get(team)
        if found is None:
            return []
        place, limits = found
        rates = (("requests", limits.requests_per_second), ("elements", limits.elements_per_second))
        return [
            _describe(name, rate, self._level(place + i * _BUCKET, rate) / rate)
            for i, (name, rate) in enumerate(rates)
            if rate is not None
        ]

    def _level(self, place: int, rate: float) -> float:
        """What is in a bucket now."""
        used, then = self._numbers[place : place + _BUCKET]
        return max(0.0, used - (self._clock() - then) * rate)

    def _fill(self, place: int, level: float) -> None:
        self._numbers[place], self._numbers[place + 1] = level, self._clock()

    def _check_in_flight(self, place: int, limits: Limits, nbytes: int, team: str) -> None:
        row = self._numbers[place + _SHARED : place + self._row]
        most, most_bytes = limits.requests_in_flight, limits.bytes_in_flight
        if most is not None and sum(row[::2]) >= most:
            detail = f"team {team} may have {most} requests under way; wait for one of them to be answered"
            raise RequestError(ErrorCode.TOO_MANY_IN_FLIGHT, detail)
        if most_bytes is not None and (held := sum(row[1::2])) + nbytes > most_bytes:
            detail = (
                f"team {team} may have {most_bytes} bytes under way, and has {held:.0f}; wait for an answer"
            )
            raise RequestError(ErrorCode.TOO_MANY_IN_FLIGHT, detail)

    def _check_elements(self, place: int, limits: Limits, team: str) -> None:
        rate = limits.elements_per_second
        if rate is not None and (late := self._level(place + _BUCKET, rate) / rate - _WINDOW) >= 0.0:
            detail = (
                f"team {team} may have {rate:g} elements a second scored, and is {late:.1f} s ahead of that"
            )
            raise RequestError(ErrorCode.RATE_LIMITED, f"{detail}; send less, or wait", retry_after=late)

    def _take_rate(self, place: int, limits: Limits, team: str) -> None:
        self._check_elements(place, limits, team)
        rate = limits.requests_per_second
        if rate is None:
            return
        level = self._level(place, rate) + 1.0
        late = level / rate - max(_WINDOW, 1.0 / rate)
        if late > 1e-9:
            detail = f"team {team} may send {rate:g} requests a second; send fewer and larger ones, or wait"
            raise RequestError(ErrorCode.RATE_LIMITED, detail, retry_after=late)
        self._fill(place, level)

    @contextmanager
    def _locked(self, place: int) -> Iterator[None]:
        """Have a row to oneself.

        Who cannot get it soon goes on without, and counts a little wrongly at worst: a front end that has
        been stopped in between must not stop the others.
        """
        if not self._shared:
            yield
            return
        for _ in range(_TRIES):
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 8 * place)
                break
            os.sched_yield()
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, 8 * place)


def _describe(name: str, rate: float, ahead: float) -> Left:
    """A rate's fields of the RateLimit headers (draft-ietf-httpapi-ratelimit-headers-10).

    Args:
        name: The policy's.
        rate: A second.
        ahead: For how many seconds' worth of the rate the team has used more.
    """
    window = max(_WINDOW, 1.0 / rate)
    left = max(0.0, window - max(0.0, ahead)) * rate
    policy = f'"{name}";q={math.floor(window * rate + 1e-6)};w={math.ceil(window)}'
    return Left(policy, f'"{name}";r={math.floor(left + 1e-6)};t={math.ceil(max(0.0, ahead))}')
