"""The order of work: which item runs next, by team, and within a team by request.

Workers score in this order, and `LoopTurns` shares the event loop of a front end by it.

Teams are scheduled by start-time fair queueing (Goyal, Vin and Cheng, 1996). Each team has a tag: the start
of its next item in virtual time, in seconds of service by weight. The least tag runs, and virtual time is
the tag of the running item. A new team starts at virtual time, so idling earns nothing. A team that returns
before virtual time has reached its tag keeps the tag, so coming and going earns nothing either. An item's
cost is charged after it has run, and need not be predicted. Of two teams with work, neither gets ahead of
its share by more than an item.

Within a team, requests that have begun are served in rotation. New ones go first, so that a small request
need not wait for an item of each large one. While others wait, new ones get at most three quarters of the
team's time, so that an endless flow of small requests does not stop a large one.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
_Requests: TypeAlias = OrderedDict[Hashable, deque[Item]]

NEW_WEIGHT: Final = 3.0
"""The weight of a team's new requests together, against 1 for those that have begun."""
TURN_SECONDS: Final = 2e-3
"""The time for requests in one turn of an event loop. The last one may exceed it."""


class _Flow(Generic[Item]):
    """A team's work, which may be empty."""

    def __init__(self, team: str) -> None:
        self.team: Final = team
        self.weight = 1.0
        self._new: _Requests[Item] = OrderedDict()
        self._begun: _Requests[Item] = OrderedDict()
        self._serving = self._new
        self._lead = 0.0  # of new requests over begun ones, in seconds of service by weight

    def __bool__(self) -> bool:
        return bool(self._new or self._begun)

    def add(self, request: Hashable, item: Item) -> None:
        requests = self._begun if request in self._begun else self._new
        requests.setdefault(request, deque()).append(item)

    def next(self) -> Item:
        new = self._new and (self._lead <= 0.0 or not self._begun)
        self._serving = self._new if new else self._begun
        return next(iter(self._serving.values()))[0]

    def charge(self, seconds: float) -> None:
        request, items = self._serving.popitem(last=False)
        items.popleft()
        if items:
            self._begun[request] = items
        if self._serving is self._new:
            self._lead = min(self._lead, 0.0) + seconds / NEW_WEIGHT
        else:
            self._lead = max(self._lead, 0.0) - seconds

    def drop(self, request: Hashable) -> deque[Item]:
        return self._new.pop(request, None) or self._begun.pop(request, deque())


class Scheduler(Generic[Item]):
    """The waiting work, one item of which runs at a time.

    A team without work is forgotten when virtual time has reached its tag.
    """

    def __init__(self) -> None:
        self._flows: dict[str, _Flow[Item]] = {}
        self._heap: list[tuple[float, int, _Flow[Item]]] = []  # every flow but the running one, by tag
        self._order: Final = itertools.count()  # of flows with the same tag: first come, first served
        self._running: tuple[float, int, _Flow[Item]] | None = None
        self._virtual = 0.0
        self._items = 0

    def __len__(self) -> int:
        """Return the number of items that wait or run."""
        return self._items

    def add(self, team: str, weight: float, request: Hashable, item: Item) -> None:
        """Add an item behind the others of its request.

        Args:
            team: Its team.
            weight: The team's share, over 0, in proportion to others'; the last one given counts.
            request: Its request.
            item: The item.
        """
        flow = self._flows.get(team)
        if flow is None:
            flow = self._flows[team] = _Flow(team)
            self._push(self._virtual, flow)
        flow.weight = weight
        flow.add(request, item)
        self._items += 1

    def next(self) -> Item | None:
        """Return the item to run, which must then be charged; None if there is none."""
        while self._heap:
            tag, order, flow = heapq.heappop(self._heap)
            self._virtual = max(self._virtual, tag)
            if flow:
                self._running = tag, order, flow
                return flow.next()
            del self._flows[flow.team]
        self._virtual = 0.0  # nobody has a tag: start again, before it grows beyond float64's precision
        return None

    def charge(self, seconds: float) -> None:
        """Charge the cost of the item from `next`, which has run."""
        assert self._running is not None
        (tag, _, flow), self._running = self._running, None
        flow.charge(seconds)
        self._items -= 1
        self._push(tag + seconds / flow.weight, flow)

    def drop(self, request: Hashable) -> list[Item]:
        """Remove and return all items of a request. Not between `next` and `charge`."""
        assert self._running is None
        dropped = [item for flow in self._flows.values() for item in flow.drop(request)]
        self._items -= len(dropped)
        return dropped

    def _push(self, tag: float, flow: _Flow[Item]) -> None:
        heapq.heappush(self._heap, (tag, next(self._order), flow))


class LoopTurns:
    """Shares the time of an event loop between the requests of its connections, fairly by team.

    All who have shown no key are one team, and within it addresses are served in rotation: however many
    addresses somebody has, teams do not wait for them.

    A turn of the loop reads from every connection that has sent something, however many there are, and only
    then accepts new ones and lets others run. So each turn has little time for requests, and those for which
    there is none left wait for later turns.

    Args:
        call_soon: Calls a function in the loop's next turn.
        clock: The time in seconds.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], clock: Callable[[], float]) -> None:
        self._call_soon = call_soon
        self._clock = clock
        self._waiting: Scheduler[Callable[[], None]] = Scheduler()
        self._until = 0.0
        self._begun = False  # the next turn will be told that this one is over
        self._running = False  # what has waited runs

    def has_time(self, now: float) -> bool:
        """Return whether this turn has time left, by the clock, and no other request waits."""
        if not self._begun:
            self._begin(now)
        return now < self._until and (self._running or not self._waiting)

    def spend(self, seconds: float) -> None:
        """Charge this turn for a task that was started or woken, and runs later."""
        self._until -= seconds

    def add(self, team: str, weight: float, owner: str, work: Callable[[], None]) -> None:
        """Call a function in a later turn.

        Args:
            team: The team that is charged for it; empty for all who have shown no key, together.
            weight: The team's share, in proportion to others'.
            owner: Whose it is within the team, such as an address; owners are served in rotation.
            work: The function, which raises nothing.
        """
        self._waiting.add(team, weight, owner, work)
        if not self._begun:
            self._begin(self._clock())

    def _begin(self, now: float) -> None:
        self._begun, self._until = True, now + TURN_SECONDS
        self._call_soon(self._turn)

    def _turn(self) -> None:
        """End the last turn, and begin this one with what has waited."""
        self._begun = False
        if not self._waiting:
            return
        now = self._clock()
        self._begin(now)
        self._running = True
        try:
            while now < self._until and (work := self._waiting.next()) is not None:
                until = self._until
                try:
                    work()
                finally:
                    then = self._clock()
                    self._waiting.charge(then - now + until - self._until)
                    now = then
        finally:
            self._running = False
