"""Leaky buckets (ITU-T I.371) in memory that several processes share, none of which waits for another.

Each process adds up the units it uses in a number of its own. A bucket holds a level, the time when that was
its level, and how much of each process's number the level includes; units used beyond that count on top. So
units are counted without a lock, from the moment they are used.

The level is brought up to date after each use, by the process that gets the bucket's lock at once; if none
does, the next use will do it. The new level is written beside the last one, and then the number that says
which of the two is current, so that readers never see half of it. The kernel releases a dead process's lock.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_TRIES: Final = 20
"""Attempts to get the lock, which is held for microseconds."""


class RateBuckets:
    """The buckets, as one process sees them.

    The level follows a change of the rate, since it is kept in units, not in seconds.

    Args:
        fd: The memory, of which `numbers` are the first; it stays open, for the locks.
        numbers: float64, `numbers_needed` of them.
        buckets: Number of buckets.
        processes: Number of processes.
        index: This process's number.
        clock: Seconds, the same for all processes.
        locked: Whether other processes call `update`, too.
    """

    def __init__(
        self,
        fd: int,
        numbers: memoryview[float],
        buckets: int,
        processes: int,
        index: int,
        clock: Callable[[], float],
        *,
        locked: bool,
    ) -> None:
        self._fd = fd
        self._numbers = numbers
        self._locked = locked
        self._copy = 2 + processes  # the level, its time, and what it includes of each process's number
        self._length = 1 + 2 * self._copy
        first = buckets * self._length
        self._used = [range(first + i * buckets, first + (i + 1) * buckets) for i in range(processes)]
        self._own = self._used[index]
        self._clock = clock

    @staticmethod
    def numbers_needed(buckets: int, processes: int) -> int:
        """Return the length of the memory, in float64 numbers."""
        return buckets * (1 + 2 * (2 + processes) + processes)

    def level(self, bucket: int, rate: float) -> float:
        """Return a bucket's level now.

        Args:
            bucket: Its number.
            rate: The units that leak out in a second.
        """
        level, then, *included = self._current(bucket)
        return self._level(level, then, rate, sum(self._uses(bucket)) - sum(included))

    def use(self, bucket: int, units: float) -> None:
        """Add units to a bucket; `update` should follow. Negative units undo a use."""
        self._numbers[self._own[bucket]] += units

    def used(self, bucket: int) -> float:
        """Return the units that all processes have ever added to a bucket."""
        return sum(self._uses(bucket))

    def update(self, bucket: int, rate: float) -> None:
        """Bring the level up to date, unless another process is doing so."""
        if not self._lock(bucket):
            return
        try:
            level, then, *included = self._current(bucket)
            uses = self._uses(bucket)
            level = self._level(level, then, rate, sum(uses) - sum(included))
            start = bucket * self._length
            sequence = self._numbers[start] + 1.0
            copy = start + 1 + int(sequence) % 2 * self._copy
            for i, number in enumerate((level, self._clock(), *uses), copy):
                self._numbers[i] = number
            self._numbers[start] = sequence
        finally:
            self._unlock(bucket)

    def _current(self, bucket: int) -> list[float]:
        """Return the current level, its time, and what it includes of each process's number."""
        start = bucket * self._length
        while True:
            sequence = self._numbers[start]
            copy = start + 1 + int(sequence) % 2 * self._copy
            found = list(self._numbers[copy : copy + self._copy])
            if self._numbers[start] == sequence:
                return found

    def _uses(self, bucket: int) -> list[float]:
        return [self._numbers[used[bucket]] for used in self._used]

    def _level(self, level: float, then: float, rate: float, since: float) -> float:
        return max(0.0, max(0.0, level - (self._clock() - then) * rate) + since)

    def _lock(self, bucket: int) -> bool:
        if not self._locked:
            return True
        for _ in range(_TRIES):
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, bucket)
                return True
        return False

    def _unlock(self, bucket: int) -> None:
        if self._locked:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, bucket)
