from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeVar

import pytest

from lossd.engine.scheduler import NEW_WEIGHT, Scheduler

T = TypeVar("T")
SEEDS = 4000
CHUNK = 500


@dataclass
class Item:
    team: str
    request: int
    cost: float


@dataclass
class Team:
    """A team, and what has been seen of it.

    Attributes:
        longest: The most that an item of it may take, in seconds.
        weight: The last one given.
        new: Its requests of which nothing has run since they came, and their items.
        begun: The others.
        limits: How much service the team may have had before each request's next item, in seconds.
        seconds: Of service.
        served: The same, by weight.
        step: The most of them that an item was.
        waits: Since when it has work and is not served.
    """

    longest: float
    weight: float = 1.0
    new: dict[int, deque[Item]] = field(default_factory=dict)
    begun: dict[int, deque[Item]] = field(default_factory=dict)
    limits: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    served: float = 0.0
    step: float = 0.0
    waits: float = 0.0

    @property
    def busy(self) -> bool:
        return bool(self.new or self.begun)

    def items(self, request: int) -> deque[Item]:
        return (self.begun if request in self.begun else self.new)[request]

    def take_out(self, request: int) -> deque[Item]:
        del self.limits[request]
        return (self.begun if request in self.begun else self.new).pop(request)


class Simulation:
    """A worker with random teams, arrivals, weights, cancellations and costs, which checks what must hold."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.scheduler: Scheduler[Item] = Scheduler()
        self.teams = {
            f"team {i}": Team(longest=self.random.choice([0.001, 0.005, 0.1]))
            for i in range(self.random.randint(2, 5))
        }
        self.weights = {team: self.random.choice([0.1, 0.5, 1.0, 1.0, 2.0, 4.0]) for team in self.teams}
        self.fickle = self.random.random() < 0.2  # weights change
        self.now = 0.0
        self.arrivals = sorted(self._draw_arrivals(), key=lambda arrival: arrival[0])
        self.gaps: dict[tuple[str, str], tuple[float, float]] = {}  # least and most, while both have work

    def run(self) -> None:
        while True:
            self._receive()
            self._check_gaps()
            item = self.scheduler.next()
            if item is None:
                self._check_idle()
                if not self.arrivals:
                    return
                self.now = self.arrivals[0][0]
            else:
                self._serve(item)

    def _draw_arrivals(self) -> list[tuple[float, Item]]:
        """Requests of a few items, or many; teams are busy, seldom there, or come in bursts."""
        arrivals = []
        request = 0
        for name, team in self.teams.items():
            pause = team.longest * self.random.choice([0.0, 0.5, 4.0, 40.0])
            time = 0.0
            for _ in range(self.random.randint(1, 8)):
                request += 1
                if self.random.random() < 0.7:
                    time += self.random.expovariate(1.0) * pause
                for _ in range(self.random.choice([1, 1, 2, 3, 4, 8, 16])):
                    cost = team.longest * self.random.uniform(0.05, 1.0)
                    arrivals.append((time, Item(name, request, cost)))
                    if self.random.random() < 0.3:
                        time += pause * self.random.random()
        return arrivals

    def _receive(self) -> None:
        while self.arrivals and self.arrivals[0][0] <= self.now:
            arrived, item = self.arrivals.pop(0)
            team = self.teams[item.team]
            if not team.busy:
                team.waits = max(arrived, team.waits)
            team.weight = self.weights[item.team] * (self.random.uniform(0.5, 2.0) if self.fickle else 1.0)
            if item.request in team.limits:
                team.items(item.request).append(item)
            else:
                # Each new request before it, and what the others may then have before the next new one.
                turns = len(team.new) + 1
                team.limits[item.request] = team.seconds + turns * (2.0 + 1.0 / NEW_WEIGHT) * team.longest
                team.new[item.request] = deque([item])
            self.scheduler.add(item.team, team.weight, item.request, item)
        if self.random.random() < 0.02:
            self._cancel(self.random.randint(1, 40))

    def _cancel(self, request: int) -> None:
        owners = [team for team in self.teams.values() if request in team.limits]
        expected = list(owners[0].take_out(request)) if owners else []
        assert self.scheduler.drop(request) == expected

    def _serve(self, item: Item) -> None:
        team = self.teams[item.team]
        assert item is team.items(item.request)[0], "items of a request keep their order"
        self._check_waits(team, item)
        cost = item.cost
        self.now += cost
        team.seconds += cost
        team.served += cost / team.weight
        team.step = max(team.step, cost / team.weight)
        team.waits = self.now
        items = team.take_out(item.request)
        items.popleft()
        if items:
            # An item of each of the others that have begun, and beside each what new ones may have.
            others = len(team.begun)
            turns = others + (others + 1) * (NEW_WEIGHT + 1.0)
            team.limits[item.request] = team.seconds + turns * team.longest
            team.begun[item.request] = items
        self.scheduler.charge(cost)

    def _check_idle(self) -> None:
        """Work is conserved: only if there is none has the scheduler none; and it forgets everyone."""
        assert not any(team.busy for team in self.teams.values())
        assert not self.scheduler._flows
        assert len(self.scheduler) == 0

    def _check_waits(self, team: Team, item: Item) -> None:
        """Nobody starves: a request in its team, a team for more than others' share and an item of each."""
        assert team.seconds <= team.limits[item.request] + 1e-9, "a request waits too long"
        if self.fickle:
            return
        others = [other for other in self.teams.values() if other is not team]
        most = sum(other.weight * team.longest / team.weight + other.longest for other in others)
        running = max(other.longest for other in others)  # as the team came
        assert self.now - team.waits <= most + running + 1e-9, "a team waits too long"

    def _check_gaps(self) -> None:
        """Of two teams that have work, neither gets ahead of its share by more than an item of each."""
        busy = [name for name, team in self.teams.items() if team.busy]
        gaps = {}
        for pair in combinations(busy, 2):
            one, other = self.teams[pair[0]], self.teams[pair[1]]
            gap = one.served - other.served
            least, most = self.gaps.get(pair, (gap, gap))
            gaps[pair] = least, most = min(least, gap), max(most, gap)
            assert most - least <= one.step + other.step + 1e-9, "a team gets ahead of another"
        self.gaps = gaps


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_what_holds_in_every_simulation(first: int) -> None:
    for seed in range(first, first + CHUNK):
        try:
            Simulation(seed).run()
        except AssertionError as error:
            msg = f"seed {seed}: {error}"
            raise AssertionError(msg) from error


def fill(scheduler: Scheduler[T], team: str, weight: float, request: Hashable, item: T, count: int) -> None:
    """Give a request so many items."""
    for _ in range(count):
        scheduler.add(team, weight, request, item)


def shares(weights: dict[str, float], costs: dict[str, float], seconds: float) -> dict[str, float]:
    """What part of a worker's time teams get that always have work, in quanta of so many seconds."""
    scheduler: Scheduler[str] = Scheduler()
    for team, weight in weights.items():
        fill(scheduler, team, weight, team, team, int(seconds / costs[team]))
    served = dict.fromkeys(weights, 0.0)
    while sum(served.values()) < seconds:
        item = scheduler.next()
        assert item is not None
        served[item] += costs[item]
        scheduler.charge(costs[item])
    return {team: value / sum(served.values()) for team, value in served.items()}


def test_weights_are_kept_whatever_items_cost() -> None:
    found = shares({"a": 1.0, "b": 2.0, "c": 4.0}, {"a": 0.005, "b": 0.001, "c": 0.0003}, 60.0)
    assert found == pytest.approx({"a": 1 / 7, "b": 2 / 7, "c": 4 / 7}, rel=0.001)


def test_idling_earns_nothing_and_costs_nothing() -> None:
    scheduler: Scheduler[str] = Scheduler()
    fill(scheduler, "busy", 1.0, 1, "busy", 1100)
    for _ in range(1000):
        assert scheduler.next() == "busy"
        scheduler.charge(0.001)
    fill(scheduler, "new", 1.0, 2, "new", 100)
    order = []
    for _ in range(100):
        item = scheduler.next()
        assert item is not None
        order.append(item)
        scheduler.charge(0.001)
    assert order.index("new") <= 1
    assert order.count("new") == 50


def test_coming_back_at_once_earns_nothing() -> None:
    """A team of little weight that has one short request at a time has no more than its share of the time."""
    scheduler: Scheduler[str] = Scheduler()
    fill(scheduler, "busy", 1.0, 0, "busy", 5000)
    scheduler.add("other", 0.01, 1, "other")
    served: Counter[str] = Counter()
    for request in range(2, 5000):
        item = scheduler.next()
        assert item is not None
        served[item] += 1
        scheduler.charge(0.001)
        if item == "other":
            scheduler.add("other", 0.01, request, "other")
    assert served["other"] == pytest.approx(served["busy"] / 100, abs=2)


def test_a_small_request_does_not_wait_for_each_large_one() -> None:
    scheduler: Scheduler[int] = Scheduler()
    for request in range(8):
        fill(scheduler, "team", 1.0, request, request, 20)
    for _ in range(20):
        scheduler.next()
        scheduler.charge(0.001)
    scheduler.add("team", 1.0, 8, 8)
    assert scheduler.next() == 8


def test_requests_that_kept_nobody_waiting_owe_nothing() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for request in range(1000):
        scheduler.add("team", 1.0, request, "small")
        scheduler.next()
        scheduler.charge(0.001)
    fill(scheduler, "team", 1.0, "large", "large", 3)
    scheduler.next()
    scheduler.charge(0.001)
    scheduler.add("team", 1.0, "small", "small")
    order = []
    for _ in range(2):
        order.append(scheduler.next())
        scheduler.charge(0.001)
    assert "small" in order


def test_small_requests_without_end_do_not_keep_a_large_one_waiting() -> None:
    scheduler: Scheduler[int] = Scheduler()
    fill(scheduler, "team", 1.0, 0, 0, 10_000)
    assert scheduler.next() == 0
    scheduler.charge(0.001)
    for request in range(1, 10):
        scheduler.add("team", 1.0, request, request)
    seconds = {"large": 0.0, "small": 0.0}
    for request in range(10, 10_010):
        large = scheduler.next() == 0
        cost = 0.0015 if large else 0.0002
        seconds["large" if large else "small"] += cost
        scheduler.charge(cost)
        if not large:
            scheduler.add("team", 1.0, request, request)
    assert seconds["small"] == pytest.approx(NEW_WEIGHT * seconds["large"], rel=0.01)


def test_requests_that_have_begun_take_turns() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for item in ("a", "b", "c"):
        fill(scheduler, "team", 1.0, item, item, 40)
    order = []
    for _ in range(40):
        order.append(scheduler.next())
        scheduler.charge(0.001)
    for first in range(10, 37):
        assert set(order[first : first + 3]) == {"a", "b", "c"}


def test_a_new_weight_holds_from_then_on() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for team in ("a", "b"):
        fill(scheduler, team, 1.0, team, team, 4000)
    scheduler.add("b", 3.0, "b", "b")
    served: Counter[str] = Counter()
    for _ in range(4000):
        item = scheduler.next()
        assert item is not None
        served[item] += 1
        scheduler.charge(0.001)
    assert served["b"] == pytest.approx(3000, abs=2)


def test_teams_that_have_been_served_are_forgotten() -> None:
    scheduler: Scheduler[int] = Scheduler()
    fill(scheduler, "busy", 1.0, -1, -1, 10_000)
    most = 0
    for i in range(10_000):
        if i % 2:
            scheduler.add(f"team {i}", 1.0, i, i)
        scheduler.next()
        scheduler.charge(0.001)
        most = max(most, len(scheduler._flows))
    assert most <= 4


def test_a_dropped_request_is_not_run() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for item in ("a1", "a2", "a3"):
        scheduler.add("team", 1.0, "a", item)
    scheduler.add("team", 1.0, "b", "b1")
    assert scheduler.next() == "a1"
    scheduler.charge(0.001)
    assert scheduler.drop("a") == ["a2", "a3"]
    assert scheduler.drop("a") == []
    assert scheduler.next() == "b1"
    scheduler.charge(0.001)
    assert scheduler.next() is None


def test_virtual_time_does_not_outgrow_its_precision() -> None:
    scheduler: Scheduler[str] = Scheduler()
    scheduler.add("a", 1e-9, "a", "a")
    scheduler.next()
    scheduler.charge(math.pi * 1e9)
    assert scheduler.next() is None
    fill(scheduler, "a", 1.0, "a", "a", 4)
    fill(scheduler, "b", 3.0, "b", "b", 4)
    order = []
    for _ in range(4):
        order.append(scheduler.next())
        scheduler.charge(1e-6)
    assert order == ["a", "b", "b", "b"]
