"""What a request would wait for workers, in simulated time."""

from __future__ import annotations

import random

import pytest

from lossd.core.grid import BLOCK
from lossd.engine.backlog import QUEUE, Backlog

SIZE = 10 * BLOCK


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def serve(backlog: Backlog, clock: Clock, requests: list[int], *, team: str, rate: float) -> None:
    """Serve requests one after the other, a block at a time, so many elements a second."""
    for size in requests:
        for left in range(size, 0, -BLOCK):
            clock.now += BLOCK / rate
            backlog.change(team, left, left - BLOCK, served=True)


@pytest.mark.parametrize("rate", [1e6, 1e8])
def test_a_queue_is_waited_for_as_long_as_it_took_lately(rate: float) -> None:
    clock = Clock()
    backlog = Backlog(clock)
    for _ in range(30):
        backlog.change("a", 0, SIZE)
    assert backlog.expected_wait("a", SIZE) == 0.0  # nothing is known yet
    serve(backlog, clock, [SIZE] * 10, team="a", rate=rate)
    assert backlog.elements == 20 * SIZE
    assert backlog.expected_wait("a", SIZE) == pytest.approx(21 * SIZE / rate, rel=0.01)
    assert backlog.expected_wait("b", SIZE) == 0.0


def test_a_small_request_waits_for_turns_only() -> None:
    clock = Clock()
    backlog = Backlog(clock)
    for _ in range(10):
        backlog.change("a", 0, 100 * SIZE)
    serve(backlog, clock, [100 * SIZE], team="a", rate=1e8)
    assert backlog.expected_wait("a", 2560) <= 9 * (BLOCK + 2 * 2560) / 1e8
    assert backlog.expected_wait("a", 100 * SIZE) == pytest.approx(10 * 100 * SIZE / 1e8, rel=0.01)


def test_few_requests_are_no_queue_and_say_nothing_of_the_rate() -> None:
    clock = Clock()
    backlog = Backlog(clock)
    for _ in range(QUEUE - 1):
        backlog.change("a", 0, SIZE)
    serve(backlog, clock, [SIZE], team="a", rate=1e3)
    assert backlog.expected_wait("a", SIZE) == 0.0
    for _ in range(QUEUE):
        backlog.change("a", 0, SIZE)
    assert backlog.expected_wait("a", SIZE) == 0.0


def test_the_rate_follows_what_the_team_gets_now() -> None:
    clock = Clock()
    backlog = Backlog(clock)
    for _ in range(1000):
        backlog.change("a", 0, SIZE)
    serve(backlog, clock, [SIZE] * 100, team="a", rate=1e8)
    serve(backlog, clock, [SIZE] * 400, team="a", rate=1e7)  # others came, for ten seconds
    assert backlog.expected_wait("a", SIZE) == pytest.approx(501 * SIZE / 1e7, rel=0.1)


@pytest.mark.parametrize("seed", range(200))
def test_what_came_and_went_leaves_nothing(seed: int) -> None:
    rng = random.Random(seed)
    clock = Clock()
    backlog = Backlog(clock)
    held: dict[int, tuple[str, int]] = {}
    for number in range(300):
        clock.now += rng.random()
        team = rng.choice("abc")
        if rng.random() < 0.6:
            left = rng.randrange(1, SIZE)
            backlog.change(team, 0, left)
            held[number] = team, left
        elif held:
            chosen = rng.choice(list(held))
            team, left = held.pop(chosen)
            after = rng.choice([0, left // 2])
            backlog.change(team, left, after, served=rng.random() < 0.5)
            if after:
                held[chosen] = team, after
        assert backlog.elements == sum(left for _, left in held.values())
        assert backlog.expected_wait(team, SIZE) >= 0.0
    for team, left in held.values():
        backlog.change(team, left, 0)
    assert backlog.elements == 0
    assert all(backlog.expected_wait(team, SIZE) == 0.0 for team in "abc")
