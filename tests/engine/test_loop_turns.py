"""How the time of an event loop is shared between requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from lossd.engine.scheduler import TURN_SECONDS, LoopTurns


class Loop:
    """An event loop, by a clock of its own, in which all work is a request's.

    Attributes:
        turns: Its turns.
        done: Whose work has been done, in order, by turn.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.turns = LoopTurns(self._call_soon, lambda: self.now)
        self.done: list[list[str]] = [[]]
        self._next: list[Callable[[], None]] = []

    def _call_soon(self, callback: Callable[[], None]) -> None:
        self._next.append(callback)

    def add(self, owner: str, seconds: float, weight: float = 1.0, team: str | None = None) -> None:
        def work() -> None:
            self.now += seconds
            self.done[-1].append(owner)

        self.turns.add(owner if team is None else team, weight, owner, work)

    def turn(self) -> bool:
        """Run a turn; return whether there was something to do."""
        callbacks, self._next = self._next, []
        self.done.append([])
        for callback in callbacks:
            callback()
        return bool(callbacks)

    def run(self) -> None:
        while self.turn():
            pass


def test_what_a_turn_has_no_time_for_is_for_later_ones() -> None:
    loop = Loop()
    assert loop.turns.has_time(loop.now)
    for _ in range(100):
        loop.add("one", 0.3e-3)
    assert not loop.turns.has_time(loop.now)  # others wait already
    loop.run()
    assert [len(turn) for turn in loop.done if turn] == [7] * 14 + [2]


def test_a_turn_ends_when_its_time_is_spent_and_the_next_begins_anew() -> None:
    loop = Loop()
    assert loop.turns.has_time(loop.now)
    loop.now += TURN_SECONDS / 2
    assert loop.turns.has_time(loop.now)
    loop.turns.spend(TURN_SECONDS / 2)  # by a task that has been started
    assert not loop.turns.has_time(loop.now)
    assert loop.turn()
    assert loop.turns.has_time(loop.now)
    loop.now += TURN_SECONDS
    assert not loop.turns.has_time(loop.now)


def test_where_nothing_happens_the_loop_sleeps() -> None:
    loop = Loop()
    assert loop.turns.has_time(loop.now)
    assert loop.turn()
    assert not loop.turn()


def test_owners_have_their_shares_of_the_turns() -> None:
    """Whoever sends most: a hundred of one team's are no reason for the other's few to wait for long."""
    loop = Loop()
    for _ in range(100):
        loop.add("one", 0.1e-3)
    for _ in range(60):
        loop.add("other", 0.1e-3, weight=3.0)
    loop.run()
    order = [owner for turn in loop.done for owner in turn]
    for end in range(8, 80):
        assert abs(Counter(order[:end])["other"] - 0.75 * end) <= 3.0
    assert Counter(order) == {"one": 100, "other": 60}


def test_strangers_are_one_team_however_many_addresses_they_have() -> None:
    loop = Loop()
    for number in range(2000):
        loop.add(f"address {number % 200}", 0.1e-3, team="")
    for _ in range(100):
        loop.add("team", 0.1e-3)
    loop.run()
    order = [owner for turn in loop.done for owner in turn]
    assert order[:202].count("team") == 100
    assert len(set(order[:400])) == 201  # each address has had a turn, when no one has had its last


def test_what_is_spent_is_charged() -> None:
    loop = Loop()

    def start_tasks() -> None:
        loop.done[-1].append("tasks")
        loop.turns.spend(1e-3)

    for _ in range(10):
        loop.turns.add("tasks", 1.0, "tasks", start_tasks)
        loop.add("other", 0.5e-3)
    loop.run()
    order = [owner for turn in loop.done for owner in turn]
    assert order[:6].count("other") == 4
    assert max(map(len, loop.done)) <= 4


def test_one_who_comes_back_does_not_wait_for_all_others() -> None:
    loop = Loop()
    for _ in range(1000):
        loop.add("many", 0.1e-3)
    waits = []
    for _ in range(20):
        loop.add("single", 0.1e-3)
        began = loop.now
        loop.done.clear()
        while not any("single" in turn for turn in loop.done):
            loop.turn()
        waits.append(loop.now - began)
    assert max(waits) <= 2 * TURN_SECONDS + 0.2e-3


def test_others_have_their_turn_though_one_fails() -> None:
    loop = Loop()

    def fail() -> None:
        raise ValueError("odd")

    for _ in range(2):
        loop.turns.add("one", 1.0, "one", fail)
        loop.add("one", 0.0)
    for _ in range(2):
        with pytest.raises(ValueError, match="odd"):
            loop.turn()
    loop.run()
    assert sum(map(len, loop.done)) == 2
