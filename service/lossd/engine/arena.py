"""The memory that front end and workers share: an unnamed file in memory, mapped by both, reused for ever.

The front end owns the allocation; a worker only maps. The first page is not allocated: there each worker
marks the slice that it is running (`mark`), so that the front end can tell what a dead worker was busy with.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import sys
import tempfile
from bisect import bisect_left, insort
from collections import deque
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

    __slots__ = ("_arena", "_holders", "nbytes", "offset")

    def __init__(self, arena: Arena, offset: int, nbytes: int) -> None:
        self._arena = arena
        self._holders = 1
        self.offset: Final = offset
        self.nbytes: Final = nbytes

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


class Arena:
    """Reserves regions of a part of the memory; who finds it full waits, first come, first served.

    Args:
        memory: The memory.
        start: The first byte of the part.
        stop: The byte after its last.
        use: What it is for, for faults.
    """

    def __init__(self, memory: Memory, start: int, stop: int, use: str) -> None:
        self.memory: Final = memory
        self._use = use
        self._allocator = Allocator(-(-start // _ALIGN) * _ALIGN, stop // _ALIGN * _ALIGN)
        self._waiting: deque[tuple[int, asyncio.Future[Region]]] = deque()

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
        return len(self._waiting)

    async def reserve(self, nbytes: int, timeout: float) -> Region:  # noqa: ASYNC109 -- becomes a Fault
        """Reserve ``nbytes``, at most `capacity`, waiting until they are free.

        Raises:
            Fault: ``overloaded``: they were not free within ``timeout`` seconds.
        """
        nbytes = -(-max(nbytes, 1) // _ALIGN) * _ALIGN
        if not self._waiting and (region := self._take(nbytes)):
            return region
        waiter: asyncio.Future[Region] = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, waiter))
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # served in the very moment that it gave up
                waiter.result().release()
            self._serve()
            if isinstance(error, TimeoutError):
                detail = f"the memory for {self._use} is full; try again later or send smaller batches"
                raise Fault("overloaded", detail) from None
            raise

    def release(self, region: Region) -> None:
        """Take a region back and serve who waits."""
        self._allocator.give(region.offset, region.nbytes)
        self._serve()

    def _take(self, nbytes: int) -> Region | None:
        offset = self._allocator.take(nbytes)
        return None if offset is None else Region(self, offset, nbytes)

    def _serve(self) -> None:
        while self._waiting:
            nbytes, waiter = self._waiting[0]
            if not waiter.done():
                region = self._take(nbytes)
                if region is None:
                    return  # it is its turn, however small those behind it are
                waiter.set_result(region)
            self._waiting.popleft()
