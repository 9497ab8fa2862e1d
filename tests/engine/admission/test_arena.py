from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator

import pytest

from lossd.engine.admission.arena import Allocator, Arena, Region
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.types import RequestError

SIZE = 1 << 20


@pytest.fixture
def memory() -> Iterator[Memory]:
    fd = create_memory(SIZE)
    yield Memory(fd, SIZE)
    os.close(fd)


@pytest.mark.parametrize("seed", range(200))
def test_what_is_given_back_is_whole_again(seed: int) -> None:
    rng = random.Random(seed)
    allocator = Allocator(100, 100_000)
    held: list[tuple[int, int]] = []
    for _ in range(400):
        if held and rng.random() < 0.5:
            allocator.give(*held.pop(rng.randrange(len(held))))
            continue
        nbytes = rng.choice([1, 64, 640, 6400, 64000])
        start = allocator.take(nbytes)
        if start is None:
            continue
        assert start >= 100
        assert start + nbytes <= 100_000
        assert all(start + nbytes <= other or other + length <= start for other, length in held)
        held.append((start, nbytes))
        assert allocator.free_bytes == allocator.capacity - sum(length for _, length in held)
    for region in held:
        allocator.give(*region)
    assert allocator.take(allocator.capacity) == 100


async def reserve_and_release(memory: Memory) -> None:
    arena = Arena(memory, 0, SIZE, "tests")
    first = await arena.reserve(arena.capacity - 128, 1)
    first.view[:2] = b"ab"
    assert bytes(memory.view[first.offset : first.offset + 2]) == b"ab"

    large = asyncio.create_task(arena.reserve(4096, 5))
    small = asyncio.create_task(arena.reserve(64, 5))
    await asyncio.sleep(0.01)
    assert (large.done(), small.done(), arena.waiting) == (False, False, 2)  # in the order of their coming
    first.release()
    (await large).release()
    (await small).release()
    assert (arena.reserved, arena.waiting) == (0, 0)


def test_who_finds_it_full_waits_its_turn(memory: Memory) -> None:
    asyncio.run(reserve_and_release(memory))


async def give_up(memory: Memory) -> None:
    arena = Arena(memory, 0, SIZE, "tests")
    all_of_it = await arena.reserve(arena.capacity, 1)
    with pytest.raises(RequestError) as caught:
        await arena.reserve(64, 0.01)
    assert caught.value.code == "overloaded"
    cancelled = asyncio.create_task(arena.reserve(64, 5))
    behind = asyncio.create_task(arena.reserve(128, 5))
    await asyncio.sleep(0)
    cancelled.cancel()
    all_of_it.release()
    region = await behind
    assert arena.reserved == region.nbytes
    region.release()
    assert (arena.reserved, arena.waiting) == (0, 0)


def test_who_gives_up_leaves_nothing_behind(memory: Memory) -> None:
    asyncio.run(give_up(memory))


async def serve_teams(memory: Memory) -> list[str]:
    arena = Arena(memory, 0, SIZE, "tests")
    tenth = arena.capacity // 10 // 64 * 64
    held = [await arena.reserve(tenth, 1, "greedy") for _ in range(8)]
    held += [await arena.reserve(tenth, 1, "modest") for _ in range(2)]
    order: list[str] = []

    async def wait(team: str, nbytes: int, weight: float = 1.0) -> Region:
        region = await arena.reserve(nbytes, 5, team, weight)
        order.append(team)
        return region

    waiting = [asyncio.create_task(wait("greedy", tenth)) for _ in range(3)]
    waiting += [asyncio.create_task(wait("modest", tenth)) for _ in range(3)]
    waiting.append(asyncio.create_task(wait("new", 2 * tenth, 4.0)))
    await asyncio.sleep(0)
    while held:
        held.pop(0).release()
        await asyncio.sleep(0.001)
    for task in waiting:
        (await task).release()
    assert (arena.reserved, arena.waiting) == (0, 0)
    return order


def test_who_holds_least_is_served_first(memory: Memory) -> None:
    # greedy held 8 tenths and modest 2, all given back in this order; new, of weight 4, waits for two tenths
    order = asyncio.run(serve_teams(memory))
    assert order == ["new", "modest", "modest", "greedy", "greedy", "greedy", "modest"]


async def refuse_what_would_wait_too_long(memory: Memory) -> None:
    now = 0.0
    arena = Arena(memory, 0, SIZE, "tests", clock=lambda: now)
    everything = arena.capacity
    held = [await arena.reserve(everything // 64, 1) for _ in range(64)]
    first = asyncio.create_task(arena.reserve(everything, 60))
    await asyncio.sleep(0)
    assert arena.expected_wait(everything) == 0.0  # nothing is known yet
    for region in held:
        now += 10.0 / 64  # it takes 10 seconds to give everything back
        region.release()
    everything_held = await first
    second = asyncio.create_task(arena.reserve(everything, 60))
    await asyncio.sleep(0)
    assert arena.expected_wait(everything) == pytest.approx(20.0, rel=0.05)
    with pytest.raises(RequestError) as caught:
        await arena.reserve(everything, 15)
    assert caught.value.code == "overloaded"
    assert caught.value.retry_after == pytest.approx(20.0, rel=0.05)
    everything_held.release()
    (await second).release()
    assert (arena.reserved, arena.waiting) == (0, 0)


def test_what_would_wait_too_long_is_refused_at_once(memory: Memory) -> None:
    asyncio.run(refuse_what_would_wait_too_long(memory))


@pytest.mark.parametrize("seed", range(300))
def test_fragmentation_is_bounded(seed: int) -> None:
    """Bodies of 10 KB to 100 MB come and go in 2 GiB, kept below 60%: there is always room for a long one."""
    rng = random.Random(seed)
    allocator = Allocator(0, 2 << 30)
    held: list[tuple[int, int]] = []
    for _ in range(1000):
        used = allocator.capacity - allocator.free_bytes
        nbytes = round(10 ** rng.uniform(4, 8)) // 64 * 64
        if used + nbytes > 0.6 * allocator.capacity or (held and rng.random() < 0.45):
            allocator.give(*held.pop(rng.randrange(len(held))))
        else:
            start = allocator.take(nbytes)
            assert start is not None
            held.append((start, nbytes))
        assert max(allocator._sizes.values()) >= 0.05 * allocator.capacity
