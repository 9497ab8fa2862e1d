"""Something limited, in bytes, that is handed out fairly by team: who finds none left waits, or is refused.

What it is that is handed out, say the memory of the arena or turns to be read, is a subclass's.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from lossd.engine.admission.drain import DrainRate
from lossd.types import ErrorCode, RequestError

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Waiter(Generic[T]):
    """Who waits.

    Attributes:
        nbytes: For how much.
        given: What it is told of by.
    """

    nbytes: int
    given: asyncio.Future[T]


@dataclass(slots=True)
class _Team(Generic[T]):
    """What a team holds and waits for.

    Attributes:
        weight: Its share of what there is, is to the others' as their weights.
        held: Bytes.
        asked: Bytes that its requests wait for.
        waiting: These, in the order of their coming.
    """

    weight: float = 1.0
    held: int = 0
    asked: int = 0
    waiting: deque[_Waiter[T]] = field(default_factory=deque)


class Observer(Protocol):
    """What is told of a queue's changes, such as gauges."""

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


class Admission(ABC, Generic[T]):
    """Hands something out.

    Who finds too little left waits. When something is given back the team that holds least, by its weight, is
    served first, and within a team who came first. Where that request cannot be served yet nobody else is
    either, so that small requests do not starve a large one, nor many requests of one team another's.

    Args:
        full: What to say to who is refused.
        least: How many bytes must have been given back lately to foretell anything from.
        clock: Seconds, as time.monotonic() gives them.
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
        """Requests that wait."""
        self._full_detail = full
        self._teams: dict[str, _Team[T]] = {}  # those that hold or wait for something
        self._drain = DrainRate(clock, least)

    @abstractmethod
    def _try(self, team: str, nbytes: int) -> T | None:
        """Take something, if it is there."""

    @abstractmethod
    def _undo(self, given: T) -> None:
        """Give back what nobody has come for."""

    def _time_for(self, nbytes: int, team: str) -> float:
        """How much time a request must have to be let wait, in seconds."""
        return self.expected_wait(nbytes, team)

    def _before(self, held: int, asked: int) -> int:
        """Of the bytes that a team holds and has asked for, how many come before its next request."""
        del held
        return asked

    def expected_wait(self, nbytes: int, team: str = "default") -> float:
        """About how many seconds a request would wait that has to, by how fast things were given back lately.

        Args:
            nbytes: For how much.
            team: Whose it is. Of what other teams want no more comes before it than what is fair.
        """
        account = self._teams.get(team) or _Team()
        own = self._before(account.held, account.asked) + nbytes
        others = sum(
            min(self._before(other.held, other.asked), own * other.weight / account.weight)
            for name, other in self._teams.items()
            if name != team
        )
        return self._drain.seconds(own + others)

    def take(self, nbytes: int, team: str = "default", weight: float = 1.0) -> T | None:
        """What `ask` gives, if it need not wait; else None."""
        if self.waiting:
            return None
        nbytes = max(nbytes, 1)  # whoever holds something can be told from who holds nothing
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
        """Take something, waiting until it is there.

        Args:
            nbytes: How much.
            timeout: How many seconds to wait at most.
            team: For whom.
            weight: The team's.

        Raises:
            RequestError: ``overloaded``: it was not there within ``timeout`` seconds, or would not be, as
            things go.
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
        self._drain.begin()
        self._serve()  # this team may be the one whose turn it is
        try:
            async with asyncio.timeout(timeout):
                return await waiter.given
        except BaseException as error:
            if waiter.given.done() and not waiter.given.cancelled():  # served as it gave up
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
        """Take note that a team holds so much less, and serve who waits.

        Args:
            team: Which team.
            nbytes: How much less.
            served: It was done with, which says how fast things go.
        """
        account = self._teams[team]
        account.held -= nbytes
        if not account.held and not account.waiting:
            del self._teams[team]
        if self.waiting and served:
            self._drain.count(nbytes)
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
            if not waiter.given.done():  # else it gave up, and is about to say so
                given = self._try(name, waiter.nbytes)
                if given is None:
                    return  # it is its turn, however small those behind it are
                team.held += waiter.nbytes
                self._observer.held(waiter.nbytes)
                waiter.given.set_result(given)
            team.waiting.popleft()
            self._count_waiter(team, waiter, -1)
        self._drain.end()

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
