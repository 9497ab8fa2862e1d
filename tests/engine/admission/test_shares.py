"""A team's share of memory, in simulated time."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Iterator

import pytest

from engine.admission.test_concurrency import simulate
from lossd.engine.admission.arena import Arena, Region
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.types import RequestError

SIZE = 1 << 20
TENTH = SIZE // 10 // 64 * 64


@pytest.fixture
def memory() -> Iterator[Memory]:
    fd = create_memory(SIZE)
    yield Memory(fd, SIZE)
    os.close(fd)


class Observed:
    """What a queue has told."""

    def __init__(self) -> None:
        self.teams = 0

    def held(self, nbytes: int) -> None:
        pass

    def waits(self, team: str, requests: int, nbytes: int) -> None:
        pass

    def full(self, teams: int) -> None:
        self.teams += teams


def shared(memory: Memory, observer: Observed | None = None) -> Arena:
    """An arena of which a team may hold half."""
    clock = asyncio.get_running_loop().time
    return Arena(memory, 0, SIZE, "tests", clock, observer or Observed(), share=0.5)


def waiting(arena: Arena, nbytes: int, team: str, seconds: float = 1000.0) -> asyncio.Task[Region]:
    return asyncio.create_task(arena.reserve(nbytes, seconds, team))


def test_others_do_not_wait_for_a_team_that_has_filled_its_share(memory: Memory) -> None:
    async def main() -> None:
        arena = shared(memory)
        held = [await arena.reserve(TENTH, 1, "greedy") for _ in range(5)]
        backlog = [waiting(arena, TENTH, "greedy") for _ in range(50)]
        await asyncio.sleep(1)
        assert arena.waiting == 50
        assert arena.expected_wait(TENTH, "modest") == 0.0
        others = [arena.take(TENTH, "modest"), await arena.reserve(3 * TENTH, 0.001, "another")]
        assert arena.take(64, "greedy") is None  # none of its own overtakes, either
        for region in held:
            region.release()
            await asyncio.sleep(0)
        assert sum(task.done() for task in backlog) == 5
        for task in backlog:
            (await task).release()
        for other in others:
            assert other is not None
            other.release()
        assert (arena.reserved, arena.waiting, arena._teams) == (0, 0, {})

    simulate(main())


def test_one_larger_than_the_share_is_served_when_its_team_holds_nothing(memory: Memory) -> None:
    async def main() -> None:
        arena = shared(memory)
        first = await arena.reserve(TENTH, 1, "a")
        large = waiting(arena, arena.capacity, "a")
        await asyncio.sleep(1)
        other = await arena.reserve(TENTH, 0.001, "b")
        first.release()
        await asyncio.sleep(1)
        assert not large.done()
        other.release()
        (await large).release()
        assert (arena.reserved, arena.waiting) == (0, 0)

    simulate(main())


def test_memory_that_is_full_is_still_given_to_who_holds_least(memory: Memory) -> None:
    """While a team has filled its share, and others wait for memory."""

    async def main() -> None:
        arena = shared(memory)
        greedy = [await arena.reserve(TENTH, 1, "greedy") for _ in range(5)]
        others = [await arena.reserve(TENTH, 1, "other") for _ in range(4)]
        stuck = waiting(arena, TENTH, "greedy")
        first, second = waiting(arena, 2 * TENTH, "new"), waiting(arena, TENTH, "other")
        await asyncio.sleep(1)
        assert arena.take(TENTH, "late") is None  # a large one is not starved by small ones
        greedy.pop().release()
        await asyncio.sleep(0)
        assert (stuck.done(), first.done(), second.done()) == (False, False, False)
        others.pop().release()
        await asyncio.sleep(0)
        assert (stuck.done(), first.done(), second.done()) == (False, True, True)
        for region in (*greedy, *others, await first, await second):
            region.release()
        (await stuck).release()
        assert (arena.reserved, arena.waiting, arena._teams) == (0, 0, {})

    simulate(main())


def test_a_refusal_says_what_its_team_holds(memory: Memory) -> None:
    async def main() -> None:
        arena = shared(memory)
        held = [await arena.reserve(TENTH, 1, "greedy") for _ in range(5)]
        with pytest.raises(
            RequestError, match=f"team greedy holds {5 * TENTH} bytes of the memory for tests"
        ):
            await arena.reserve(TENTH, 1, "greedy")
        filler = [await arena.reserve(SIZE // 2 - 64, 1, "b")]
        with pytest.raises(RequestError, match="the memory for tests is full"):
            await arena.reserve(4 * TENTH, 1, "c")
        for region in held + filler:
            region.release()
        assert (arena.reserved, arena.waiting) == (0, 0)

    simulate(main())


def test_a_wait_for_its_own_team_is_predicted_from_that_team(memory: Memory) -> None:
    async def main() -> None:
        arena, rng, loop = shared(memory), random.Random(1), asyncio.get_running_loop()
        piece = SIZE // 64

        async def serve() -> None:
            region = await arena.reserve(piece, 1000, "greedy")
            await asyncio.sleep(rng.uniform(1.6, 4.8))  # 32 at a time: ten a second
            region.release()

        tasks = [asyncio.create_task(serve()) for _ in range(640)]
        await asyncio.sleep(20.0)
        assert arena.expected_wait(piece, "greedy") == pytest.approx(40.0, rel=0.2)
        assert arena.expected_wait(piece, "modest") == 0.0
        began = loop.time()
        with pytest.raises(RequestError, match="team greedy holds") as caught:
            await arena.reserve(piece, 5.0, "greedy")
        assert loop.time() == began  # at once
        assert caught.value.retry_after == pytest.approx(40.0, rel=0.2)
        await asyncio.gather(*tasks)
        assert (arena.reserved, arena.waiting) == (0, 0)

    simulate(main())


@pytest.mark.parametrize("waits", [True, False], ids=["others of it wait", "it holds all"])
def test_a_full_share_is_told_after_a_minute(
    memory: Memory, caplog: pytest.LogCaptureFixture, *, waits: bool
) -> None:
    async def main() -> None:
        observed = Observed()
        arena = shared(memory, observed)
        held = [await arena.reserve(4 * TENTH, 1, "greedy")] if waits else []
        if not waits:
            held = [await arena.reserve(SIZE // 2, 1, "greedy")]
        late = waiting(arena, 2 * TENTH, "greedy") if waits else None
        await asyncio.sleep(59)
        assert observed.teams == 0
        await asyncio.sleep(2)
        assert observed.teams == 1
        await asyncio.sleep(500)
        assert observed.teams == 1
        held[0].release()
        assert observed.teams == 0
        if late is not None:
            (await late).release()
        assert arena.reserved == 0

    with caplog.at_level(logging.INFO):
        simulate(main())
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "team greedy has filled its share of the memory for tests for a minute",
        "team greedy no longer fills its share of the memory for tests",
    ]


@pytest.mark.parametrize("seed", range(100))
def test_whatever_comes_no_team_holds_more_and_nothing_is_left(memory: Memory, seed: int) -> None:
    """At random: requests of three teams, some of which give up, some of which are larger than the share."""

    async def main() -> None:
        rng, observed = random.Random(seed), Observed()
        arena = shared(memory, observed)
        held: dict[str, list[int]] = {"a": [], "b": [], "c": []}
        served: dict[str, int] = dict.fromkeys(held, 0)

        async def one(team: str) -> None:
            nbytes = rng.choice([64, TENTH, 3 * TENTH, 8 * TENTH])
            try:
                region = await arena.reserve(nbytes, rng.choice([0.5, 1e4]), team)
            except RequestError:
                return
            held[team].append(nbytes)
            served[team] += 1
            assert len(held[team]) == 1 or sum(held[team]) <= SIZE // 2
            try:
                await asyncio.sleep(rng.expovariate(rng.choice([0.01, 10.0])))
            finally:
                held[team].remove(nbytes)
                region.release()

        tasks = []
        for _ in range(100):
            tasks.append(asyncio.create_task(one(rng.choice(list(held)))))
            await asyncio.sleep(rng.expovariate(5.0))
            if rng.random() < 0.1:
                rng.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        assert all(served.values())
        assert (arena.reserved, arena.waiting, observed.teams, arena._teams) == (0, 0, 0, {})

    simulate(main())
