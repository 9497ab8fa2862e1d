"""The arena: shared memory for bodies and array answers, allocated fairly by team.

Each front end has its own arena and allocates it; workers only map it.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Final

from lossd.engine.admission.fair_queue import FairQueue, Observer
from lossd.engine.ipc.memory import Memory

_ALIGN: Final = 64


class Allocator:
    """Allocates ranges of a range of bytes: best fit, free neighbours joined. Touches no memory.

    Args:
        start: The first byte.
        stop: The byte after the last.
    """

    def __init__(self, start: int, stop: int) -> None:
        self.capacity: Final = stop - start
        self.free_bytes = self.capacity
        self._starts = [start]  # the free ranges, ascending
        self._sizes = {start: stop - start}

    def take(self, nbytes: int) -> int | None:
        """Return the offset of a range of ``nbytes``, or None if no free range is large enough."""
        fitting = [start for start in self._starts if self._sizes[start] >= nbytes]
        if not fitting:
            return None
        start = min(fitting, key=self._sizes.__getitem__)
        self._remove(start, left := self._sizes[start])
        if left > nbytes:
            self._insert(start + nbytes, left - nbytes)
        return start

    def give(self, start: int, nbytes: int) -> None:
        """Free a range that `take` returned."""
        index = bisect_left(self._starts, start)
        if index < len(self._starts) and self._starts[index] == start + nbytes:
            after = self._starts[index]
            nbytes += self._sizes[after]
            self._remove(after, self._sizes[after])
        if index and (before := self._starts[index - 1]) + self._sizes[before] == start:
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
        """All bytes of the arena's memory."""
        return self._arena.memory.view

    @property
    def view(self) -> memoryview:
        """Its bytes."""
        return self._arena.memory.view[self.offset : self.offset + self.nbytes]

    def take_more(self, nbytes: int, weight: float) -> Region | None:
        """Reserve further memory for the same team if it is free and nobody waits, else return None."""
        return self._arena.take(nbytes, self.team, weight)

    def share(self) -> None:
        """Add a holder: it is freed when each has called `release`."""
        self._holders += 1

    def release(self) -> None:
        """Free it, if this was its last holder. Nothing may use it any more, no worker's slice either."""
        self._holders -= 1
        if not self._holders:
            self._arena.release(self)


class Arena(FairQueue[Region]):
    """Reserves regions of a part of the memory, fairly by team.

    Args:
        memory: The memory.
        start: The first byte of the part.
        stop: The byte after its last.
        use: Its purpose, for error details.
        clock: Seconds, as time.monotonic() returns them.
        observer: Is told of changes.
        share: The most that a team may hold, as a part of 1.
    """

    def __init__(
        self,
        memory: Memory,
        start: int,
        stop: int,
        use: str,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
        share: float = 1.0,
    ) -> None:
        self.memory: Final = memory
        self._allocator = Allocator(aligned(start), stop // _ALIGN * _ALIGN)
        name = f"the memory for {use}"
        full = f"{name} is full; try again later or send smaller batches"
        most = math.inf if share == 1.0 else share * self.capacity
        super().__init__(name, full, (stop - start) // 8, clock, observer, most)

    @property
    def capacity(self) -> int:
        """All bytes of the part."""
        return self._allocator.capacity

    @property
    def reserved(self) -> int:
        """Bytes reserved now."""
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
        """Reserve ``nbytes`` if they are free and nobody waits, else return None."""
        return super().take(aligned(max(nbytes, 1)), team, weight)

    def release(self, region: Region) -> None:
        """Free a region, and serve requests that wait."""
        self._allocator.give(region.offset, region.nbytes)
        self._give_back(region.team, region.nbytes)

    def _try(self, team: str, nbytes: int) -> Region | None:
        offset = self._allocator.take(nbytes)
        return None if offset is None else Region(self, team, offset, nbytes)

    def _undo(self, given: Region) -> None:
        given.release()


def aligned(nbytes: int) -> int:
    """Return ``nbytes`` rounded up to the alignment of regions."""
    return -(-nbytes // _ALIGN) * _ALIGN
