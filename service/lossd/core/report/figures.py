"""Sums and counts of a partial report, collected by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lossd.core.report.layout import LISTS, Block, Layout
from lossd.core.report.partial import Entries, Int64Array, Partial
from lossd.core.report.sums import exact_sums
from lossd.core.report.top_list import TopList
from lossd.types import Float64Array

BoolArray = npt.NDArray[np.bool_]


class Figures:
    """The sums and counts of some rows.

    A value goes to the figure of a name over all rows and to that of its row's group, wherever the layout has
    that name.

    Args:
        layout: The figures.
        ids: The group ids of the rows, [rows, columns]; None if there are no groups.
    """

    def __init__(self, layout: Layout, ids: Int64Array | None) -> None:
        self._layout = layout
        self._sums: list[tuple[Int64Array, Float64Array]] = []
        self._counts: list[Int64Array] = []
        self._groups = np.empty((0, layout.inputs.group_columns), np.int64)
        self._group_of = np.empty(0, np.int64)
        if layout.by_group and ids is not None:
            self._groups, group_of = np.unique(ids, axis=0, return_inverse=True)
            self._group_of = group_of.reshape(-1)

    def add(self, name: str, values: Float64Array, where: BoolArray, place: Int64Array | int = 0) -> None:
        """Add values to sums.

        Args:
            name: The name.
            values: The summands, [rows] or [rows, elements].
            where: Which of them count.
            place: Which of the name's figures each belongs to; one number for all, or of their shape.
        """
        for index in self._indices(name, self._layout.sums, self._layout.group_sums, where, place):
            self._sums.append(exact_sums(index, values[where]))

    def count(self, name: str, where: BoolArray, place: Int64Array | int = 0) -> None:
        """Count rows or elements, likewise."""
        self._counts += self._indices(name, self._layout.counts, self._layout.group_counts, where, place)

    def partial(self, lists: Mapping[str, Entries]) -> Partial:
        """Return the figures, with lists."""
        count_index, counts = np.unique(np.concatenate(self._counts), return_counts=True)
        return Partial(
            sum_index=np.concatenate([index for index, _ in self._sums]),
            sums=np.concatenate([numbers for _, numbers in self._sums]),
            count_index=count_index,
            counts=counts,
            groups=self._groups,
            lists=dict(lists),
        )

    def _indices(
        self, name: str, whole: Block, by_group: Block, where: BoolArray, place: Int64Array | int
    ) -> list[Int64Array]:
        places, indices = np.broadcast_to(place, where.shape)[where], []
        if name in whole:
            indices.append(whole[name].start + places)
        if name in by_group:
            groups = self._group_of[np.nonzero(where)[0]]
            indices.append(whole.width + by_group.width * groups + by_group[name].start + places)
        return indices


def merged(layout: Layout, partials: Sequence[Partial], *, by_id: bool, unsigned: bool) -> Partial:
    """Return the figures of the rows of several partial reports together.

    Args:
        layout: The figures of each.
        partials: At least one.
        by_id: Whether rows have ids.
        unsigned: Whether ids are the bits of unsigned numbers.
    """
    groups, numbers = _merged_groups(layout, [partial.groups for partial in partials])
    sum_index = [
        _renumbered(partial.sum_index, layout.sums, layout.group_sums, its)
        for partial, its in zip(partials, numbers, strict=True)
    ]
    count_index = [
        _renumbered(partial.count_index, layout.counts, layout.group_counts, its)
        for partial, its in zip(partials, numbers, strict=True)
    ]
    sums = exact_sums(np.concatenate(sum_index), np.concatenate([partial.sums for partial in partials]))
    figures, which = np.unique(np.concatenate(count_index), return_inverse=True)
    counts = np.zeros(len(figures), np.int64)
    np.add.at(counts, which.reshape(-1), np.concatenate([partial.counts for partial in partials]))
    lists = {}
    for name in LISTS:
        top = TopList(layout.spec.top, by_id=by_id, unsigned=unsigned)
        for partial in partials:
            if name in partial.lists:
                top.keep(partial.lists[name])
        lists[name] = top.entries
    return Partial(*sums, figures, counts, groups, lists)


def _merged_groups(layout: Layout, groups: Sequence[Int64Array]) -> tuple[Int64Array, list[Int64Array]]:
    """Return the groups that occur in any of several lists, and the number there of each list's own."""
    if not layout.by_group:
        return groups[0], [np.empty(0, np.int64)] * len(groups)
    together, numbers = np.unique(np.concatenate(groups), axis=0, return_inverse=True)
    return together, np.split(numbers.reshape(-1), np.cumsum(list(map(len, groups)))[:-1])


def _renumbered(index: Int64Array, whole: Block, by_group: Block, numbers: Int64Array) -> Int64Array:
    """Return indices with other numbers for the groups."""
    if not by_group.width:
        return index
    group, figure = np.divmod(np.maximum(index - whole.width, 0), by_group.width)
    return np.where(index < whole.width, index, whole.width + numbers[group] * by_group.width + figure)
