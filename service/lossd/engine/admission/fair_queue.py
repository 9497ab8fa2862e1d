"""Weighted-fair admission to a budget of bytes: a request that finds none left waits, or is refused.

Subclasses say what the bytes are: memory of the arena, or bodies that are received and scored at a time.
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from lossd.types import ErrorCode, RequestError

T = TypeVar("T")

LONGEST_GAP_SECONDS: Final = 0.25
_MEMORY_SECONDS: Final = 10.0
"""After this a released byte counts for a third in the rate of release."""


class ReleaseRate:
    """Predicts how long a wait takes, from the recent rate at which bytes were released.

    Only the time in which requests wait is measured. A gap over 0.25 s (a worker being replaced) counts as
    0.25 s.

    Args:
        clock: Seconds.
        least: Bytes that must have been released lately for the rate to be known.
    """

    def __init__(self, clock: Callable[[], float], least: float) -> None:
        self._clock = clock
        self._least: Final = least
        self._since: float | None = None  # the last measurement; None while nobody waits
        self._units = 0.0
        self._seconds = 0.0

    def begin(self) -> None:
        """Start measuring: a request waits."""
        if self._since is None:
            self._since = self._clock()

    def end(self) -> None:
        """Stop measuring: no request waits."""
        self.count(0)
        self._since = None

    def count(self, units: int) -> None:
        """Count bytes that were released."""
        if self._since is None:
            return
        now = self._clock()
        passed, self._since = min(now - self._since, LONGEST_GAP_SECONDS), now
        fading = math.exp(-passed / _MEMORY_SECONDS)
        self._units = self._units * fading + units
        self._seconds = self._seconds * fading + passed

    def seconds(self, units: float) -> float:
        """Return the seconds until so many bytes are released; 0 if the rate is not known."""
        return units * self._seconds / self._units if self._units >= self._least else 0.0


@dataclass(slots=True, eq=False)
class _Waiter(Generic[T]):
    """A request that waits.

    Attributes:
        nbytes: The bytes it needs.
        given: Done when they are given.
    """

    nbytes: int
    given: asyncio.Future[T]


@dataclass(slots=True)
class _Team(Generic[T]):
    """The bytes that a team holds and waits for.

    Attributes:
        weight: Its share, in proportion to other teams' weights.
        held: Bytes held.
        asked: Bytes that its requests wait for.
        waiting: These requests, first come first.
    """

    weight: float = 1.0
    held: int = 0
    asked: int = 0
    waiting: deque[_Waiter[T]] = field(default_factory=deque)


class Observer(Protocol):
    """Is told of a queue's changes, such as gauges."""

    def held(self, nbytes: int) -> None:
        """Add to the bytes that are held; a negative number when they are given back."""

    def waits(self, requests: int) -> None:
        """Add to the requests that wait."""


class Unobserved:
    """An observer that ignores what it is told."""

    def held(self, nbytes: int) -> None:
        """Ignore it."""

    def waits(self, requests: int) -> None:
        """Ignore it."""


class FairQueue(ABC, Generic[T]):
    """Gives out a budget of bytes.

    A request that finds too little left waits. When bytes are given back, the team that holds least for its
    weight is served first, and within a team the request that came first. While that one cannot be served,
    nobody else is either, so that small requests do not starve a large one, nor one team another.

    Args:
        full: The detail of the refusal.
        least: Bytes that must have been given back lately to predict a wait.
        clock: Seconds, as time.monotonic() returns them.
        observer: Is told of changes; by default nobody.
    """

    def __init__(
        self,
        full: str,
        least: int,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        self._observer: Observer = observer or Unobserved()
        self.waiting = 0
        """Number of requests that wait."""
        self._full_detail = full
        self._teams: dict[str, _Team[T]] = {}  # those that hold or wait for bytes
        self._released = ReleaseRate(clock, least)

    @abstractmethod
    def _try(self, team: str, nbytes: int) -> T | None:
        """Take bytes if they are there."""

    @abstractmethod
    def _undo(self, given: T) -> None:
        """Give back bytes whose request is gone."""

    def _time_for(self, nbytes: int, team: str) -> float:
        """Return the seconds that a request must have left to be allowed to wait."""
        return self.expected_wait(nbytes, team)

    def _before(self, held: int, asked: int) -> int:
        """Return how many of a team's held and asked bytes must be served before its next request."""
        del held
        return asked

    def expected_wait(self, nbytes: int, team: str = "default") -> float:
        """Predict the seconds that a new request would wait, from the recent rate of release.

        Args:
            nbytes: The bytes it needs.
            team: Its team. Other teams' requests are counted only up to their fair share.
        """
        account = self._teams.get(team) or _Team()
        own = self._before(account.held, account.asked) + nbytes
        others = sum(
            min(self._before(other.held, other.asked), own * other.weight / account.weight)
            for name, other in self._teams.items()
            if name != team
        )
        return self._released.seconds(own + others)

    def take(self, nbytes: int, team: str = "default", weight: float = 1.0) -> T | None:
        """Return what `ask` returns, or None if the request would have to wait."""
        if self.waiting:
            return None
        nbytes = max(nbytes, 1)  # a team that holds nothing is forgotten
        account = self._teams.get(team)
        if account is None:
            account = self._teams[team] = _Team()
        account.weight = weight
        given = self._try(team, nbytes)
        if given is None:
            self._forget_idle(team)
            return None
        account.held += nbytes
        self._observer.held(nbytes)
        return given

    async def ask(
        self,
        nbytes: int,
        timeout: float,  # noqa: ASYNC109 -- becomes a RequestError
        team: str = "default",
        weight: float = 1.0,
    ) -> T:
        """Take bytes, waiting until there are enough.

        Args:
            nbytes: The bytes needed.
            timeout: Most seconds to wait.
            team: The request's team.
            weight: The team's weight.

        Raises:
            RequestError: ``overloaded``: the wait took, or is expected to take, more than ``timeout``.
        """
        nbytes = max(nbytes, 1)
        given = self.take(nbytes, team, weight)
        if given is not None:
            return given
        if self._time_for(nbytes, team) > timeout:
            raise self._full(self.expected_wait(nbytes, team))
        account = self._teams.setdefault(team, _Team())
        account.weight = weight
        waiter: _Waiter[T] = _Waiter(nbytes, asyncio.get_running_loop().create_future())
        account.waiting.append(waiter)
        self._count_waiter(account, waiter, 1)
        self._released.begin()
        self._serve()  # this team may be the one to serve next
        try:
            async with asyncio.timeout(timeout):
                return await waiter.given
        except BaseException as error:
            if waiter.given.done() and not waiter.given.cancelled():  # served just as it gave up
                self._undo(waiter.given.result())
            elif waiter in account.waiting:
                account.waiting.remove(waiter)
                self._count_waiter(account, waiter, -1)
            self._forget_idle(team)
            self._serve()
            if isinstance(error, TimeoutError):
                raise self._full(self.expected_wait(nbytes, team)) from None
            raise

    def _give_back(self, team: str, nbytes: int, *, served: bool = True) -> None:
        """Give back some of a team's bytes, and serve requests that wait.

        Args:
            team: The team.
            nbytes: The bytes.
            served: Their request was finished, so that they count in the rate of release.
        """
        account = self._teams[team]
        account.held -= nbytes
        if not account.held and not account.waiting:
            del self._teams[team]
        if self.waiting and served:
            self._released.count(nbytes)
        self._observer.held(-nbytes)
        if self.waiting:
            self._serve()

    def _serve(self) -> None:
        while self.waiting:
            name, team = min(
                ((name, team) for name, team in self._teams.items() if team.waiting),
                key=lambda item: item[1].held / item[1].weight,
            )
            waiter = team.waiting[0]
            if not waiter.given.done():  # else it gave up, and leaves the queue soon
                given = self._try(name, waiter.nbytes)
                if given is None:
                    return  # smaller ones behind it wait, too
                team.held += waiter.nbytes
                self._observer.held(waiter.nbytes)
                waiter.given.set_result(given)
            team.waiting.popleft()
            self._count_waiter(team, waiter, -1)
        self._released.end()

    def _count_waiter(self, team: _Team[T], waiter: _Waiter[T], by: int) -> None:
        team.asked += by * waiter.nbytes
        self.waiting += by
        self._observer.waits(by)

    def _forget_idle(self, team: str) -> None:
        account = self._teams.get(team)
        if account is not None and not account.held and not account.waiting:
            del self._teams[team]

    def _full(self, expected: float) -> RequestError:
        return RequestError(ErrorCode.OVERLOADED, self._full_detail, retry_after=expected)
