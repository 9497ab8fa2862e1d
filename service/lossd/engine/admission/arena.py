"""The memory that front end and workers share: an unnamed file in memory, mapped by both, reused for ever.

Each front end has one of its own, and owns its allocation; workers only map it.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Final

from lossd.engine.admission.fair_queue import Admission, Observer
from lossd.engine.ipc.memory import Memory

_ALIGN: Final = 64


class Allocator:
    """Divides a range of bytes: best fit, freed neighbours joined. Pure bookkeeping."""

    def __init__(self, start: int, stop: int) -> None:
        self.capacity: Final = stop - start
        self.free_bytes = self.capacity
        self._starts = [start]  # the free ranges, ascending
        self._sizes = {start: stop - start}

    @property
    def largest(self) -> int:
        """The most bytes that could be taken at once."""
        return max(self._sizes.values(), default=0)

    def take(self, nbytes: int) -> int | None:
        """The offset of a range of ``nbytes``, or None if there is none so large."""
        fitting = [start for start in self._starts if self._sizes[start] >= nbytes]
        if not fitting:
            return None
        start = min(fitting, key=self._sizes.__getitem__)
        self._remove(start, left := self._sizes[start])
        if left > nbytes:
            self._insert(start + nbytes, left - nbytes)
        return start

    def give(self, start: int, nbytes: int) -> None:
        """Take back a range that `take` gave."""
        place = bisect_left(self._starts, start)
        if place < len(self._starts) and self._starts[place] == start + nbytes:
            after = self._starts[place]
            nbytes += self._sizes[after]
            self._remove(after, self._sizes[after])
        if place and (before := self._starts[place - 1]) + self._sizes[before] == start:
            nbytes += self._sizes[before]
            self._remove(before, self._sizes[before])
            start = before
        self._insert(start, nbytes)

    def _insert(self, start: int, nbytes: int) -> None:
        insort(self._starts, start)
        self._sizes[start] = nbytes
        self.free_bytes += nbytes

    def _remove(self, start: int, nbytes: int) -> None:
        del self._starts[bisect_left(self._starts, start)]
        del self._sizes[start]
        self.free_bytes -= nbytes


class Region:
    """A reserved range of the arena."""

    __slots__ = ("_arena", "_holders", "nbytes", "offset", "team")

    def __init__(self, arena: Arena, team: str, offset: int, nbytes: int) -> None:
        self._arena = arena
        self._holders = 1
        self.team: Final = team
        self.offset: Final = offset
        self.nbytes: Final = nbytes

    @property
    def memory(self) -> memoryview:
        """The bytes of all of the memory that it is a range of."""
        return self._arena.memory.view

    @property
    def view(self) -> memoryview:
        """Its bytes."""
        return self._arena.memory.view[self.offset : self.offset + self.nbytes]

    def share(self) -> None:
        """Hold it for one more: it is given back when `release` has been called that much more often."""
        self._holders += 1

    def release(self) -> None:
        """Give it back. Nothing may read or write it any more; a worker's slices count."""
        self._holders -= 1
        if not self._holders:
            self._arena.release(self)


class Arena(Admission[Region]):
    """Reserves regions of a part of the memory.

    Args:
        memory: The memory.
        start: The first byte of the part.
        stop: The byte after its last.
        use: What it is for, for faults.
        clock: Seconds, as time.monotonic() gives them.
        observer: Is told of changes.
    """

    def __init__(
        self,
        memory: Memory,
        start: int,
        stop: int,
        use: str,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        detail = f"the memory for {use} is full; try again later or send smaller batches"
        super().__init__(detail, (stop - start) // 8, clock, observer)
        self.memory: Final = memory
        self._allocator = Allocator(aligned(start), stop // _ALIGN * _ALIGN)

    @property
    def capacity(self) -> int:
        """Bytes that can be reserved in all."""
        return self._allocator.capacity

    @property
    def reserved(self) -> int:
        """Bytes that are reserved."""
        return self._allocator.capacity - self._allocator.free_bytes

    async def reserve(
        self,
        nbytes: int,
        timeout: float,  # noqa: ASYNC109 -- becomes a RequestError
        team: str = "default",
        weight: float = 1.0,
    ) -> Region:
        """Reserve ``nbytes``, at most `capacity`, waiting until they are free; see `ask`."""
        return await self.ask(aligned(max(nbytes, 1)), timeout, team, weight)

    def take(self, nbytes: int, team: str = "default", weight: float = 1.0) -> Region | None:
        """Reserve ``nbytes``, if they are free and nobody waits; else None."""
        return super().take(aligned(max(nbytes, 1)), team, weight)

    def release(self, region: Region) -> None:
        """Take a region back and serve who waits."""
        self._allocator.give(region.offset, region.nbytes)
        self._give_back(region.team, region.nbytes)

    def _try(self, team: str, nbytes: int) -> Region | None:
        offset = self._allocator.take(nbytes)
        return None if offset is None else Region(self, team, offset, nbytes)

    def _undo(self, given: Region) -> None:
        given.release()


def aligned(nbytes: int) -> int:
    """The least multiple of the alignment of regions that is not less."""
    return -(-nbytes // _ALIGN) * _ALIGN
