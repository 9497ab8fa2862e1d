"""Weighted-fair admission to a budget of bytes: a request that finds none left waits, or is refused.

Subclasses say what the bytes are: memory of the arena, or bodies that are received and scored at a time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from lossd.types import ErrorCode, RequestError

T = TypeVar("T")

logger = logging.getLogger(__name__)

FULL_SECONDS: Final = 60.0
"""A team that has filled its share for so long is reported."""
_FULL: Final = 0.9
"""The part of its share that a team holds when it has filled it, or when its next request does not fit."""
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

    @property
    def measuring(self) -> bool:
        """Whether a request waits."""
        return self._since is not None

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
        released: The rate at which it gives bytes back while it has filled its share.
        weight: Its weight against other teams'.
        held: Bytes held.
        asked: Bytes that its requests wait for.
        waiting: These requests, first come first.
        timer: Runs while it fills its share; reports it when it ends.
        reported: Whether it has filled its share for long.
    """

    released: ReleaseRate
    weight: float = 1.0
    held: int = 0
    asked: int = 0
    waiting: deque[_Waiter[T]] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None
    reported: bool = False


class Observer(Protocol):
    """Is told of a queue's changes, such as gauges."""

    def held(self, nbytes: int) -> None:
        """Add to the bytes that are held; a negative number when they are given back."""

    def waits(self, team: str, requests: int, nbytes: int) -> None:
        """Add to a team's requests that wait, and to the bytes that they wait for."""

    def full(self, teams: int) -> None:
        """Add to the number of teams that have filled their share for a minute."""


class Unobserved:
    """An observer that ignores what it is told."""

    def held(self, nbytes: int) -> None:
        """Ignore it."""

    def waits(self, team: str, requests: int, nbytes: int) -> None:
        """Ignore it."""

    def full(self, teams: int) -> None:
        """Ignore it."""


class FairQueue(ABC, Generic[T]):
    """Gives out a budget of bytes.

    A request that finds too little left waits. When bytes are given back, the team that holds least for its
    weight is served first, and within a team the request that came first. While that one cannot be served,
    nobody else is either, so that small requests do not starve a large one, nor one team another.

    A team that has filled its share waits for bytes of its own, and others do not wait for it. A request
    larger than the share is served when its team holds nothing.

    Args:
        name: What the bytes are, for details and the log.
        full: The detail of the refusal when there are none left.
        least: Bytes that must have been given back lately to predict a wait.
        clock: Seconds, as time.monotonic() returns them.
        observer: Is told of changes; by default nobody.
        share: The most bytes that a team may hold; by default all.
    """

    def __init__(
        self,
        name: str,
        full: str,
        least: int,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
        share: float = math.inf,
    ) -> None:
        self._observer: Observer = observer or Unobserved()
        self.waiting = 0
        """Number of requests that wait."""
        self._name: Final = name
        self._full_detail: Final = full
        self._share: Final = share
        self._teams: dict[str, _Team[T]] = {}  # those that hold or wait for bytes
        self._rate: Final = partial(ReleaseRate, clock, least)
        self._released = self._rate()  # while a request waits for anyone's bytes

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
        return asked

    def fills_share(self, nbytes: int, team: str = "default") -> bool:
        """Return whether a new request would wait for bytes of its own team."""
        account = self._teams.get(team)
        return account is not None and self._fills_share(account, account.asked + nbytes)

    def _fills_share(self, account: _Team[T], nbytes: int) -> bool:
        return account.held > 0 and account.held + nbytes > self._share

    def expected_wait(self, nbytes: int, team: str = "default") -> float:
        """Predict the seconds that a new request would wait, from the recent rate of release.

        Args:
            nbytes: The bytes it needs.
            team: Its team. Other teams' requests are counted only up to their fair share.
        """
        account = self._teams.get(team) or _Team(self._rate())
        own_wait = 0.0
        if self._fills_share(account, account.asked + nbytes):
            before = account.held + account.asked - max(0.0, self._share - nbytes)
            own_wait = account.released.seconds(before)
            if not self._released.measuring:
                return own_wait
        own = self._before(account.held, account.asked) + nbytes
        others = sum(
            min(self._before(other.held, other.asked), own * other.weight / account.weight)
            for name, other in self._teams.items()
            if name != team and not self._is_stuck(other)
        )
        return max(own_wait, self._released.seconds(own + others))

    def take(self, nbytes: int, team: str = "default", weight: float = 1.0) -> T | None:
        """Return what `ask` returns, or None if the request would have to wait."""
        if self._released.measuring:
            return None
        nbytes = max(nbytes, 1)  # a team that holds nothing is forgotten
        account = self._account(team, weight)
        given = None
        if not account.waiting and not self._fills_share(account, nbytes):
            given = self._try(team, nbytes)
        if given is not None:
            account.held += nbytes
            self._observer.held(nbytes)
        self._review(team, account)
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
            raise self._full(nbytes, team)
        account = self._account(team, weight)
        waiter: _Waiter[T] = _Waiter(nbytes, asyncio.get_running_loop().create_future())
        account.waiting.append(waiter)
        self._count_waiter(team, account, waiter, 1)
        self._serve()  # this team may be the one to serve next
        self._review(team, account)
        try:
            async with asyncio.timeout(timeout):
                return await waiter.given
        except BaseException as error:
            if waiter.given.done() and not waiter.given.cancelled():  # served just as it gave up
                self._undo(waiter.given.result())
            elif waiter in account.waiting:
                account.waiting.remove(waiter)
                self._count_waiter(team, account, waiter, -1)
            refusal = self._full(nbytes, team)
            self._review(team, account)
            self._serve()
            if isinstance(error, TimeoutError):
                raise refusal from None
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
        if served:
            self._released.count(nbytes)
            account.released.count(nbytes)
        self._observer.held(-nbytes)
        if self.waiting:
            self._serve()
        self._review(team, account)

    def _serve(self) -> None:
        while ready := [
            item for item in self._teams.items() if item[1].waiting and not self._is_stuck(item[1])
        ]:
            name, team = min(ready, key=lambda item: item[1].held / item[1].weight)
            waiter = team.waiting[0]
            if not waiter.given.done():  # else it gave up, and leaves the queue soon
                given = self._try(name, waiter.nbytes)
                if given is None:
                    self._released.begin()
                    return  # smaller ones behind it wait, too
                team.held += waiter.nbytes
                self._observer.held(waiter.nbytes)
                waiter.given.set_result(given)
            team.waiting.popleft()
            self._count_waiter(name, team, waiter, -1)
            self._review(name, team)
        self._released.end()

    def _is_stuck(self, account: _Team[T]) -> bool:
        """Return whether a team's next request waits for bytes of its own team."""
        return bool(account.waiting) and self._fills_share(account, account.waiting[0].nbytes)

    def _count_waiter(self, team: str, account: _Team[T], waiter: _Waiter[T], by: int) -> None:
        account.asked += by * waiter.nbytes
        self.waiting += by
        self._observer.waits(team, by, by * waiter.nbytes)

    def _account(self, team: str, weight: float) -> _Team[T]:
        account = self._teams.get(team)
        if account is None:
            account = self._teams[team] = _Team(self._rate())
        account.weight = weight
        return account

    def _review(self, team: str, account: _Team[T]) -> None:
        """Note whether a team fills its share, after a change; forget a team that has become idle."""
        if not account.held and not account.waiting:
            self._teams.pop(team, None)
        if self._is_stuck(account):
            account.released.begin()
        else:
            account.released.end()
        full = self._is_stuck(account) or account.held >= _FULL * self._share
        if full and account.timer is None:
            loop = asyncio.get_running_loop()
            account.timer = loop.call_later(FULL_SECONDS, self._report, team, account)
        elif not full and account.timer is not None:
            account.timer.cancel()
            account.timer = None
            if account.reported:
                account.reported = False
                self._observer.full(-1)
                logger.info("team %s no longer fills its share of %s", team, self._name)

    def _report(self, team: str, account: _Team[T]) -> None:
        account.reported = True
        self._observer.full(1)
        logger.warning(
            "team %s has filled its share of %s for a minute: it holds %d bytes, and its further requests "
            "wait; look for slow uploads and unread answers of its own",
            team,
            self._name,
            account.held,
        )

    def _full(self, nbytes: int, team: str) -> RequestError:
        account, detail = self._teams.get(team), self._full_detail
        if account is not None and (self._is_stuck(account) or self._fills_share(account, nbytes)):
            detail = (
                f"team {team} holds {account.held} bytes of {self._name}, and a team may hold "
                f"{self._share:.0f}; wait for its other requests, send and read them faster, or send smaller "
                "batches"
            )
        return RequestError(ErrorCode.OVERLOADED, detail, retry_after=self.expected_wait(nbytes, team))
