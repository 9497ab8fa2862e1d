"""The first entries of a list in a total order, of all that are seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lossd.core.report.partial import ENTRY, Entries

_SLACK: Final = 256
"""Entries that are kept beyond need, so that short lists are not sorted with every slice."""


class TopList:
    """The first entries in the order of their keys, greatest first, NaN before all.

    Entries of equal keys are ordered by id, if there are ids, then by position within the row; without ids by
    row, then by position.

    Args:
        most: How many entries to keep.
        by_id: Whether there are ids.
        unsigned: Whether ids are the bits of unsigned numbers.
    """

    def __init__(self, most: int, *, by_id: bool, unsigned: bool) -> None:
        self._most = most
        self._by_id = by_id
        self._unsigned = unsigned
        self._entries: list[Entries] = []
        self._names: list[npt.NDArray[np.object_]] = []
        self._held = 0
        self._least = -math.inf  # the key that an entry must reach to be among the first

    def likely(self, entries: Entries) -> Entries:
        """Return a copy of those entries that may be among the first."""
        return entries[~(entries["key"] < self._least)]

    def keep(self, entries: Entries, names: Sequence[str] | None = None) -> None:
        """Add entries.

        Args:
            entries: The entries, which are kept.
            names: The id of each, where ids are strings.
        """
        self._entries.append(entries)
        if names is not None:
            array = np.empty(len(names), object)
            array[:] = names
            self._names.append(array)
        self._held += len(entries)
        if self._held >= 2 * self._most + _SLACK:
            self._drop()

    @property
    def entries(self) -> Entries:
        """The first entries, in order."""
        self._sort()
        return self._entries[0]

    @property
    def ids(self) -> list[int] | list[str]:
        """Their ids."""
        self._sort()
        if self._names:
            return self._names[0].tolist()  # type: ignore[no-any-return] # tolist() knows no type
        return _numbers(self._entries[0], unsigned=self._unsigned).tolist()  # type: ignore[no-any-return]

    def _drop(self) -> None:
        """Drop entries that are certainly not among the first, all but a few."""
        keys = np.concatenate([entries["key"] for entries in self._entries])
        last = len(keys) - self._most
        self._least = float(np.partition(np.where(np.isnan(keys), np.inf, keys), last)[last])
        self._choose(np.flatnonzero(~(keys < self._least)))
        if self._held >= 2 * self._most + _SLACK // 2:  # equal keys
            self._sort()

    def _sort(self) -> None:
        entries = np.concatenate(self._entries) if self._entries else np.empty(0, ENTRY)
        is_nan = np.isnan(entries["key"])
        order = [entries["position"], entries["row"]]
        if self._by_id:
            ids = _numbers(entries, unsigned=self._unsigned)
            if self._names:
                ids = np.unique(np.concatenate(self._names), return_inverse=True)[1]
            order = [entries["row"], entries["position"], ids]
        self._choose(np.lexsort((*order, np.where(is_nan, 0.0, -entries["key"]), ~is_nan))[: self._most])

    def _choose(self, chosen: npt.NDArray[np.intp]) -> None:
        """Keep the chosen entries alone, in the order given."""
        self._entries = [(np.concatenate(self._entries) if self._entries else np.empty(0, ENTRY))[chosen]]
        self._names = [np.concatenate(self._names)[chosen]] if self._names else []
        self._held = len(chosen)


def _numbers(entries: Entries, *, unsigned: bool) -> npt.NDArray[np.int64] | npt.NDArray[np.uint64]:
    return entries["id"].astype(np.uint64) if unsigned else entries["id"]
