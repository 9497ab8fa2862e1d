"""Which slice a worker runs next: by team, and within a team by request. Pure bookkeeping.

Among teams it is start-time fair queueing (Goyal, Vin and Cheng, 1996). Each team has a tag: where its next
slice starts in virtual time, in seconds of service by weight. The least tag runs, and virtual time is the
tag of what runs. A team that comes anew starts at virtual time, so idling earns nothing; one that comes back
before virtual time has reached its tag keeps that tag, so coming and going earns nothing either. Costs are
charged when they are known, after a slice: they need not be foretold. Of two teams that both have work,
neither gets further ahead of its share than by a slice.

Within a team, requests that have begun take turns, and new ones go before them, so that a small one need not
wait for a turn of each large one. For that, new ones have no more than three quarters of the team's time
while others wait: small requests without end do not keep a large one from its end.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Final, Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
_Requests: TypeAlias = OrderedDict[Hashable, deque[Item]]

NEW_WEIGHT: Final = 3.0
"""What new requests weigh together, against 1 for those of the team that have begun."""


class _Flow(Generic[Item]):
    """A team's work, of which there may be none.

    Args:
        team: Its name.
    """

    def __init__(self, team: str) -> None:
        self.team: Final = team
        self.weight = 1.0
        self._new: _Requests[Item] = OrderedDict()
        self._begun: _Requests[Item] = OrderedDict()
        self._turn = self._new
        self._lead = 0.0  # of new requests over begun ones, in seconds of service by weight

    def __bool__(self) -> bool:
        return bool(self._new or self._begun)

    def add(self, request: Hashable, item: Item) -> None:
        requests = self._begun if request in self._begun else self._new
        requests.setdefault(request, deque()).append(item)

    def next(self) -> Item:
        new = self._new and (self._lead <= 0.0 or not self._begun)
        self._turn = self._new if new else self._begun
        return next(iter(self._turn.values()))[0]

    def charge(self, seconds: float) -> None:
        request, items = self._turn.popitem(last=False)
        items.popleft()
        if items:
            self._begun[request] = items
        if self._turn is self._new:
            self._lead = min(self._lead, 0.0) + seconds / NEW_WEIGHT
        else:
            self._lead = max(self._lead, 0.0) - seconds

    def drop(self, request: Hashable) -> deque[Item]:
        return self._new.pop(request, None) or self._begun.pop(request, deque())


class Scheduler(Generic[Item]):
    """The work that waits, of which one item runs at a time.

    What is known of a team is forgotten when virtual time has reached its tag and it has no work.
    """

    def __init__(self) -> None:
        self._flows: dict[str, _Flow[Item]] = {}
        self._heap: list[tuple[float, int, _Flow[Item]]] = []  # every flow but the running one, by tag
        self._order: Final = itertools.count()  # of flows with the same tag: first come, first served
        self._running: tuple[float, int, _Flow[Item]] | None = None
        self._virtual = 0.0
        self._items = 0

    def __len__(self) -> int:
        """How many items wait or run."""
        return self._items

    @property
    def teams(self) -> int:
        """How many teams something is known of."""
        return len(self._flows)

    def add(self, team: str, weight: float, request: Hashable, item: Item) -> None:
        """Put an item behind the others of its request.

        Args:
            team: Whose it is.
            weight: The team's share, over 0, in proportion to others'; the last one given holds.
            request: Of which of the team's requests.
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
        """The item to run, which must then be charged; None if there is none."""
        while self._heap:
            tag, order, flow = heapq.heappop(self._heap)
            self._virtual = max(self._virtual, tag)
            if flow:
                self._running = tag, order, flow
                return flow.next()
            del self._flows[flow.team]
        self._virtual = 0.0  # nobody has a tag: begin anew, so that it never grows beyond float64's precision
        return None

    def charge(self, seconds: float) -> None:
        """Take note of what the item that `next` gave has cost, which is done with."""
        assert self._running is not None
        (tag, _, flow), self._running = self._running, None
        flow.charge(seconds)
        self._items -= 1
        self._push(tag + seconds / flow.weight, flow)

    def drop(self, request: Hashable) -> list[Item]:
        """Take out all items of a request, if there are any. Not between `next` and `charge`."""
        assert self._running is None
        dropped = [item for flow in self._flows.values() for item in flow.drop(request)]
        self._items -= len(dropped)
        return dropped

    def _push(self, tag: float, flow: _Flow[Item]) -> None:
        heapq.heappush(self._heap, (tag, next(self._order), flow))
