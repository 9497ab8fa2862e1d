"""The groups of a report, numbered: arrays alone, so that many groups do not hold the interpreter.

New ids are numbered on. Ids in several columns are numbered column by column, then the pairs of
the numbers so far and those of the next column, which fit into 64 bits.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lossd.core.report.partial import Int64Array

_HALF: Final = 32


class _Numbers:
    """Whole numbers, each with a number of its own, from 0."""

    def __init__(self) -> None:
        self._keys = np.empty(0, np.int64)  # sorted
        self._numbers = np.empty(0, np.int64)  # of each key

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, keys: Int64Array) -> Int64Array:
        """Return the number of each key; new keys follow those that are known."""
        distinct, which = np.unique(keys, return_inverse=True)
        at = np.searchsorted(self._keys, distinct)
        is_new = np.append(self._keys, 0)[at] != distinct
        is_new |= at == len(self)
        new = np.flatnonzero(is_new)
        if len(new):
            self._numbers = np.insert(self._numbers, at[new], len(self) + np.arange(len(new)))
            self._keys = np.insert(self._keys, at[new], distinct[new])
            at += np.cumsum(is_new) - is_new
        return self._numbers[at[which]]

    @property
    def keys(self) -> Int64Array:
        """The key of each number."""
        keys = np.empty_like(self._keys)
        keys[self._numbers] = self._keys
        return keys


class GroupNumbers:
    """The number of each group, by its ids."""

    def __init__(self, columns: int) -> None:
        self._columns = [_Numbers() for _ in range(columns)]
        self._pairs = [_Numbers() for _ in range(1, columns)]

    def __len__(self) -> int:
        """Return the number of groups."""
        return len((self._pairs or self._columns)[-1]) if self._columns else 0

    def of(self, ids: Int64Array) -> Int64Array:
        """Return the number of each group, given its ids, [groups, columns]; new ones follow."""
        found = np.zeros(len(ids), np.int64)
        for column, numbers in enumerate(self._columns):
            own = numbers.of(ids[:, column])
            found = self._pairs[column - 1].of(found << _HALF | own) if column else own
        return found

    @property
    def ids(self) -> list[Int64Array]:
        """The ids of all groups by their numbers, column by column."""
        found: list[Int64Array] = []
        left = np.arange(len(self))
        for pairs, numbers in zip(self._pairs[::-1], self._columns[:0:-1], strict=True):
            keys = pairs.keys[left]
            found.append(numbers.keys[keys & ((1 << _HALF) - 1)])
            left = keys >> _HALF
        return [*(numbers.keys[left] for numbers in self._columns[:1]), *found[::-1]]
