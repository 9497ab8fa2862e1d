"""A partial report: the figures of some rows, as a kernel writes them to memory.

Sums and counts are (index, number) pairs, so that what is zero takes no room; `lossd.core.report.layout` says
which figure has which index. The numbers of one index add up to its sum exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

import numpy as np
import numpy.typing as npt

from lossd.core.report.layout import ENTRY_BYTES, HEADER_NUMBERS, LISTS
from lossd.types import Float64Array

Int64Array = npt.NDArray[np.int64]
Entries = npt.NDArray[np.void]
"""Entries of a list, of dtype `ENTRY`."""

ENTRY: Final = np.dtype(
    [
        ("key", "f8"),  # orders the list, greatest first: the loss, or how much worse or better it is
        ("loss", "f8"),
        ("baseline", "f8"),  # the baseline's loss, in the lists of pairs
        ("input", "f8"),  # the logit or probability, or a row of classes' confidence; 0 for a row
        ("baseline_input", "f8"),  # in lists of pairs; else the class that is predicted of a row of classes
        ("target", "f8"),  # or the class of the target, where a row of classes has a loss
        ("row", "i8"),  # counted from the first row of the request or batch
        ("position", "i8"),  # within the row, in C order; 0 for a row
        ("id", "i8"),  # the row's id; the bits of an unsigned one; 0 without ids
    ]
)
"""An entry of a list."""
assert ENTRY.itemsize == ENTRY_BYTES

_HEADER: Final = Struct(f"={HEADER_NUMBERS}q")


def _ints() -> Int64Array:
    return np.empty(0, np.int64)


@dataclass(slots=True)
class Partial:
    """The figures of some rows.

    Attributes:
        sum_index: The index of each number in `sums`, [n].
        sums: Numbers to add up, [n].
        count_index: The index of each count, [m].
        counts: The counts, [m].
        groups: The ids of each group, [groups, columns], in the order in which the indices count groups.
        lists: The entries of each list, by its name in `LISTS`, in no particular order.
    """

    sum_index: Int64Array = field(default_factory=_ints)
    sums: Float64Array = field(default_factory=lambda: np.empty(0))
    count_index: Int64Array = field(default_factory=_ints)
    counts: Int64Array = field(default_factory=_ints)
    groups: Int64Array = field(default_factory=lambda: np.empty((0, 0), np.int64))
    lists: dict[str, Entries] = field(default_factory=dict)

    def write(self, memory: memoryview) -> int:
        """Write it to memory, as the native kernel does; return the number of bytes."""
        data = self.to_bytes()
        memory[: len(data)] = data
        return len(data)

    def to_bytes(self) -> bytes:
        """Return it as `write` writes it."""
        lists = [self.lists.get(name, np.empty(0, ENTRY)) for name in LISTS]
        header = np.array([len(self.sums), len(self.counts), *self.groups.shape, *map(len, lists)], np.int64)
        arrays = (header, self.sum_index, self.sums, self.count_index, self.counts, self.groups, *lists)
        return b"".join(array.tobytes() for array in arrays)

    @classmethod
    def read(cls, memory: memoryview) -> Partial:
        """Read a partial report. Its arrays are views of the memory."""
        at = 0

        def take(dtype: npt.DTypeLike, count: int) -> npt.NDArray[np.generic]:
            nonlocal at
            array = np.frombuffer(memory, dtype, count, at)
            at += array.nbytes
            return array

        sums, counts, groups, columns, *listed = map(int, take(np.int64, HEADER_NUMBERS))
        return cls(
            sum_index=take(np.int64, sums),  # type: ignore[arg-type] # take() knows no dtype
            sums=take(np.float64, sums),  # type: ignore[arg-type]
            count_index=take(np.int64, counts),  # type: ignore[arg-type]
            counts=take(np.int64, counts),  # type: ignore[arg-type]
            groups=take(np.int64, groups * columns).reshape(groups, columns),  # type: ignore[arg-type]
            lists={name: take(ENTRY, count) for name, count in zip(LISTS, listed, strict=True)},  # type: ignore[misc]
        )

    @classmethod
    def join(cls, parts: Sequence[tuple[bytes, int]]) -> Partial:
        """Read several partial reports without groups as one, whose rows count from 0.

        It costs little more than to read one of them.

        Args:
            parts: The bytes of each, and the number of the row that its rows are counted from.
        """
        pieces: list[list[bytes]] = [[] for _ in range(4 + len(LISTS))]
        lengths: list[tuple[int, ...]] = []
        for data, _ in parts:
            sums, counts, _, _, *listed = _HEADER.unpack_from(data)
            lengths.append(tuple(listed))
            at = _HEADER.size
            sizes = [8 * sums, 8 * sums, 8 * counts, 8 * counts, *(ENTRY_BYTES * count for count in listed)]
            for its, size in zip(pieces, sizes, strict=True):
                its.append(data[at : at + size])
                at += size
        whole = [b"".join(its) for its in pieces]
        lists = {}
        for name, text, counts_of in zip(LISTS, whole[4:], zip(*lengths, strict=True), strict=True):
            if text:
                lists[name] = np.frombuffer(text, ENTRY).copy()
                lists[name]["row"] += np.repeat([first for _, first in parts], counts_of)
        return cls(
            sum_index=np.frombuffer(whole[0], np.int64),
            sums=np.frombuffer(whole[1]),
            count_index=np.frombuffer(whole[2], np.int64),
            counts=np.frombuffer(whole[3], np.int64),
            lists=lists,
        )
