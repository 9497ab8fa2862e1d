"""The memory that front end and workers share: an unnamed file in memory, mapped by both, reused for ever.

The front end owns the allocation; a worker only maps. The first page is not allocated: there each worker
marks the slice that it is running (`mark`), so that the front end can tell what a dead worker was busy with.
"""

from __future__ import annotations

import asyncio
import math
import mmap
import os
import struct
import sys
import tempfile
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from lossd.request import Fault

MARKS_BYTES: Final = 4096
"""The first bytes of the memory, where workers mark what they run."""
_ALIGN: Final = 64
_MARK: Final = struct.Struct("=Q")


def create_memory(nbytes: int) -> int:
    """A descriptor of ``nbytes`` of unnamed memory; pages come into being when they are first touched."""
    if sys.platform == "linux":
        fd = os.memfd_create("lossd-arena", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:  # unlinked: it ends with its last descriptor
            fd = os.dup(file.fileno())
    os.ftruncate(fd, nbytes)
    return fd


class Memory:
    """The arena's bytes, mapped into this process."""

    def __init__(self, fd: int, nbytes: int) -> None:
        self._map = mmap.mmap(fd, nbytes)
        self.view: Final = memoryview(self._map)

    def mark(self, worker: int, slice_id: int) -> None:
        """Say which slice a worker is running; 0 for none."""
        _MARK.pack_into(self._map, worker * _MARK.size, slice_id)

    def marked(self, worker: int) -> int:
        """The slice that a worker was running when it last said so; 0 for none."""
        (slice_id,) = _MARK.unpack_from(self._map, worker * _MARK.size)
        return int(slice_id)


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


@dataclass(slots=True, eq=False)
class _Waiter:
    """Who waits for a region.

    Attributes:
        nbytes: Of what size.
        region: What it is told of by.
    """

    nbytes: int
    region: asyncio.Future[Region]


@dataclass(slots=True)
class _Team:
    """What a team holds and waits for.

    Attributes:
        weight: Its share of a full arena is to the others' as their weights.
        held: Bytes.
        waiting: Its requests, in the order of their coming.
    """

    weight: float = 1.0
    held: int = 0
    waiting: deque[_Waiter] = field(default_factory=deque)


class Arena:
    """Reserves regions of a part of the memory.

    Who finds it full waits. When memory is given back the team that holds least, by its weight, is served
    first, and within a team who came first. Where that request's memory is not free yet nobody else is
    served either, so that small requests do not starve a large one, nor many requests of one team another's.

    Args:
        memory: The memory.
        start: The first byte of the part.
        stop: The byte after its last.
        use: What it is for, for faults.
        clock: Seconds, as time.monotonic() gives them.
    """

    def __init__(
        self, memory: Memory, start: int, stop: int, use: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.memory: Final = memory
        self._use = use
        self._clock = clock
        self._allocator = Allocator(-(-start // _ALIGN) * _ALIGN, stop // _ALIGN * _ALIGN)
        self._teams: dict[str, _Team] = {}  # those that hold or wait for something
        self._drain = DrainRate(clock)

    @property
    def capacity(self) -> int:
        """Bytes that can be reserved in all."""
        return self._allocator.capacity

    @property
    def reserved(self) -> int:
        """Bytes that are reserved."""
        return self._allocator.capacity - self._allocator.free_bytes

    @property
    def waiting(self) -> int:
        """Requests that wait for a region."""
        return sum(len(team.waiting) for team in self._teams.values())

    def expected_wait(self, nbytes: int) -> float:
        """About how many seconds a request for ``nbytes`` would wait, by how fast memory was given back."""
        ahead = sum(waiter.nbytes for team in self._teams.values() for waiter in team.waiting)
        if not ahead and nbytes <= self._allocator.free_bytes:
            return 0.0
        return self._drain.seconds(ahead + nbytes)

    async def reserve(
        self,
        nbytes: int,
        timeout: float,  # noqa: ASYNC109 -- becomes a Fault
        team: str = "default",
        weight: float = 1.0,
    ) -> Region:
        """Reserve ``nbytes``, at most `capacity`, waiting until they are free.

        Args:
            nbytes: How many.
            timeout: How many seconds to wait at most.
            team: For whom.
            weight: The team's.

        Raises:
            Fault: ``overloaded``: they were not free within ``timeout`` seconds, or would not be, as things
                go.
        """
        nbytes = -(-max(nbytes, 1) // _ALIGN) * _ALIGN
        account = self._teams.setdefault(team, _Team())
        account.weight = weight
        if not self.waiting and (region := self._take(team, nbytes)):
            return region
        expected = self.expected_wait(nbytes)
        if expected > timeout:
            self._forget_idle(team)
            raise self._full(expected)
        waiter = _Waiter(nbytes, asyncio.get_running_loop().create_future())
        account.waiting.append(waiter)
        self._drain.begin()
        self._serve()  # this team may be the one whose turn it is
        try:
            async with asyncio.timeout(timeout):
                return await waiter.region
        except BaseException as error:
            if waiter.region.done() and not waiter.region.cancelled():  # served as it gave up
                waiter.region.result().release()
            elif waiter in account.waiting:
                account.waiting.remove(waiter)
            self._forget_idle(team)
            self._serve()
            if isinstance(error, TimeoutError):
                raise self._full(self.expected_wait(nbytes)) from None
            raise

    def take(self, nbytes: int, team: str = "default", weight: float = 1.0) -> Region | None:
        """`reserve` them, if they are free at once and nobody waits; else None."""
        if self.waiting:
            return None
        nbytes = -(-max(nbytes, 1) // _ALIGN) * _ALIGN
        account = self._teams.get(team)
        if account is None:
            account = self._teams[team] = _Team()
        account.weight = weight
        region = self._take(team, nbytes)
        if region is None:
            self._forget_idle(team)
        return region

    def release(self, region: Region) -> None:
        """Take a region back and serve who waits."""
        self._allocator.give(region.offset, region.nbytes)
        self._drain.count(region.nbytes)
        self._teams[region.team].held -= region.nbytes
        self._forget_idle(region.team)
        self._serve()

    def _take(self, team: str, nbytes: int) -> Region | None:
        offset = self._allocator.take(nbytes)
        if offset is None:
            return None
        self._teams[team].held += nbytes
        return Region(self, team, offset, nbytes)

    def _serve(self) -> None:
        while waiting := [name for name, team in self._teams.items() if team.waiting]:
            name = min(waiting, key=lambda name: self._teams[name].held / self._teams[name].weight)
            waiter = self._teams[name].waiting[0]
            if not waiter.region.done():  # else it gave up, and is about to say so
                region = self._take(name, waiter.nbytes)
                if region is None:
                    return  # it is its turn, however small those behind it are
                waiter.region.set_result(region)
            self._teams[name].waiting.popleft()
        self._drain.end()

    def _forget_idle(self, team: str) -> None:
        account = self._teams.get(team)
        if account is not None and not account.held and not account.waiting:
            del self._teams[team]

    def _full(self, expected: float) -> Fault:
        detail = f"the memory for {self._use} is full; try again later or send smaller batches"
        return Fault("overloaded", detail, retry_after=expected)


class DrainRate:
    """How fast something full is emptied: bytes a second, while anybody waits for it.

    Args:
        clock: Seconds.
    """

    _MEMORY: Final = 10.0
    """Seconds after which what was counted counts for a third."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: float | None = None  # when it was last counted; None while nobody waits
        self._bytes = 0.0
        self._seconds = 0.0

    def begin(self) -> None:
        """Somebody waits."""
        if self._since is None:
            self._since = self._clock()

    def end(self) -> None:
        """Nobody waits any more."""
        self.count(0)
        self._since = None

    def count(self, nbytes: int) -> None:
        """So many bytes were given back."""
        if self._since is None:
            return
        now = self._clock()
        passed, self._since = now - self._since, now
        fading = math.exp(-passed / self._MEMORY)
        self._bytes = self._bytes * fading + nbytes
        self._seconds = self._seconds * fading + passed

    def seconds(self, nbytes: int) -> float:
        """How long it takes to empty so many bytes; 0 where that is not known."""
        self.count(0)
        return nbytes * self._seconds / self._bytes if self._bytes else 0.0
