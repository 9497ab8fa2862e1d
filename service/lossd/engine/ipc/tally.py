"""Counters in memory that outlives the process that counts, and that others may read at any time.

Each front end has one of its own, which its successor goes on with, so that what was counted before a death
is not lost and no total ever falls. Whoever wants the totals of all front ends adds them up by key.
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Iterator
from typing import Final

logger = logging.getLogger(__name__)

_CELL_BYTES: Final = 256
_CELL_NUMBERS: Final = _CELL_BYTES // 8
_MOST_KEY: Final = _CELL_BYTES - 16
TALLY_BYTES: Final = 8 << 20
"""Room for 32,767 keys; a page costs memory only once one of its keys is used."""


class Tally:
    """Named numbers, float64.

    The memory is a row of cells of 256 bytes: the number, its key's length, the key. The first has how many
    others there are. Only one process writes, and a key never changes once it is counted, so that readers
    need no lock: they see each number as it was before or after an addition.

    Args:
        fd: The memory, `TALLY_BYTES` long, from `create_memory`.
    """

    def __init__(self, fd: int) -> None:
        self._bytes = memoryview(mmap.mmap(fd, TALLY_BYTES))
        self.numbers: Final = self._bytes.cast("d")
        """All numbers; `cell` says where one is."""
        self._counts = self._bytes.cast("Q")
        self._cells = dict(self._find())

    def cell(self, key: bytes) -> int:
        """Where among `numbers` the one of a key is, at most 240 bytes long; a new one is 0.

        When there is no room for another key, numbers go to a place that nobody reads.
        """
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._add(key)
        return cell

    def get(self, key: bytes) -> float:
        """A key's number; 0 if it is not there."""
        return dict(self.items()).get(key, 0.0)

    def items(self) -> Iterator[tuple[bytes, float]]:
        """The keys and their numbers, as they are now."""
        for key, cell in self._find():
            yield key, self.numbers[cell]

    def _find(self) -> Iterator[tuple[bytes, int]]:
        for i in range(1, self._counts[0] + 1):
            start = i * _CELL_BYTES
            length = self._counts[i * _CELL_NUMBERS + 1]
            yield bytes(self._bytes[start + 16 : start + 16 + length]), i * _CELL_NUMBERS

    def _add(self, key: bytes) -> int:
        assert len(key) <= _MOST_KEY
        i = self._counts[0] + 1
        if (i + 1) * _CELL_BYTES > TALLY_BYTES:
            logger.error("there is no room to count %r", key)
            return 1  # in the first cell, behind the count
        start = i * _CELL_BYTES
        self._bytes[start + 16 : start + 16 + len(key)] = key
        self._counts[i * _CELL_NUMBERS + 1] = len(key)
        self._counts[0] = i
        return i * _CELL_NUMBERS


def totals(tallies: list[Tally]) -> dict[bytes, float]:
    """The sums over several, by key."""
    found: dict[bytes, float] = {}
    for tally in tallies:
        for key, number in tally.items():
            found[key] = found.get(key, 0.0) + number
    return found
