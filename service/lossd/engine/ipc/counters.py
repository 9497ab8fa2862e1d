"""Counters in shared memory. Front ends write them; the metrics and the usage recorder read them.

Each front end has counters of its own, which its successor continues, so that no total ever falls when a
process dies. A key is a counter's name and its labels' values, as a JSON array of strings.
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

logger = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, ...]

LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": ("loss", "format", "outcome", "team"),
    "elements": ("loss", "team"),
    "bytes": ("team",),
    "device_seconds": ("team", "device"),
}
"""Labels of the counters by team. All but ``requests`` count answered requests only."""
ANSWERED: Final = "ok"
"""The outcome of a request that was answered with a loss."""
COUNTERS_BYTES: Final = 8 << 20
"""Room for 32,767 keys; a page takes memory only when one of its keys is used."""
_CELL_BYTES: Final = 256
_CELL_NUMBERS: Final = _CELL_BYTES // 8
_MAX_KEY_BYTES: Final = _CELL_BYTES - 16

encode_key: Final[Callable[[Key], bytes]] = msgspec.json.Encoder().encode
decode_key: Final[Callable[[bytes], Key]] = msgspec.json.Decoder(Key).decode


class Counters:
    """Named float64 numbers in memory that outlives the process.

    The memory is a row of cells of 256 bytes: the number, its key's length, the key. The first cell holds the
    number of the others. One process writes, and a key never changes once it is there, so readers need no
    lock: they see each number before or after an addition.

    Args:
        fd: The memory, `COUNTERS_BYTES` long, from `create_memory`.
    """

    def __init__(self, fd: int) -> None:
        self._bytes = memoryview(mmap.mmap(fd, COUNTERS_BYTES))
        self.numbers: Final = self._bytes.cast("d")
        """All numbers; `cell` returns a key's index."""
        self._counts = self._bytes.cast("Q")
        self._cells = dict(self._find())

    def cell(self, key: bytes) -> int:
        """Return the index in `numbers` of a key of at most 240 bytes; a new key starts at 0.

        When the memory is full, further keys share an index that is never read.
        """
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._add(key)
        return cell

    def get(self, key: bytes) -> float:
        """Return a key's number; 0 if there is no such key. Any process may call it."""
        if key not in self._cells:
            self._cells = dict(self._find())  # with those that its writer has added since
        return self.numbers[self._cells[key]] if key in self._cells else 0.0

    def items(self) -> Iterator[tuple[bytes, float]]:
        """Yield the keys and their current numbers."""
        for key, cell in self._find():
            yield key, self.numbers[cell]

    def _find(self) -> Iterator[tuple[bytes, int]]:
        for i in range(1, self._counts[0] + 1):
            start = i * _CELL_BYTES
            length = self._counts[i * _CELL_NUMBERS + 1]
            yield bytes(self._bytes[start + 16 : start + 16 + length]), i * _CELL_NUMBERS

    def _add(self, key: bytes) -> int:
        assert len(key) <= _MAX_KEY_BYTES
        i = self._counts[0] + 1
        if (i + 1) * _CELL_BYTES > COUNTERS_BYTES:
            logger.error("the counters' memory is full; %r is not counted", key)
            return 1  # in the first cell, behind its count
        start = i * _CELL_BYTES
        self._bytes[start + 16 : start + 16 + len(key)] = key
        self._counts[i * _CELL_NUMBERS + 1] = len(key)
        self._counts[0] = i
        return i * _CELL_NUMBERS


def totals(counters: list[Counters]) -> dict[bytes, float]:
    """Return the sums over several processes' counters, by key."""
    found: dict[bytes, float] = {}
    for own in counters:
        for key, number in own.items():
            found[key] = found.get(key, 0.0) + number
    return found


def used_by(key: Key, counter: str) -> str | None:
    """Return the team whose usage a number belongs to.

    Args:
        key: The number's key.
        counter: The wanted counter, such as ``requests``.

    Returns:
        None if it is another counter, or counts requests that were not answered.
    """
    if key[0] != counter:
        return None
    labels = dict(zip(LABELS[counter], key[1:], strict=True))
    return labels["team"] if labels.get("outcome", ANSWERED) == ANSWERED else None
