from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator

import pytest

from lossd.engine.arena import MARKS_BYTES, Allocator, Arena, Memory, create_memory
from lossd.request import Fault

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
    arena = Arena(memory, MARKS_BYTES, SIZE, "tests")
    first = await arena.reserve(arena.capacity - 128, 1)
    assert first.offset >= MARKS_BYTES
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
    with pytest.raises(Fault) as caught:
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


def test_marks(memory: Memory) -> None:
    assert memory.marked(3) == 0
    memory.mark(3, 2**63)
    assert (memory.marked(3), memory.marked(2)) == (2**63, 0)
