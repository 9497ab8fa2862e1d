"""The figures of a whole report: partial reports, added up exactly in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import merge
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from lossd.core.document.group_numbers import GroupNumbers
from lossd.core.document.indexed_sums import indexed_sums, trimmed
from lossd.core.report.layout import LISTS, Block, Layout
from lossd.core.report.partial import Entries, Int64Array, Partial
from lossd.core.report.top_list import TopList
from lossd.types import ErrorCode, Float64Array, RequestError

Ids: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.uint64]
GROUP_BYTES: Final = 250
"""What a group takes besides its figures, about: its ids and its number."""
_RUN: Final = 1 << 12
"""Strings that are sorted at once: to sort many holds the interpreter for a tenth of a second."""
NamesOf: TypeAlias = Callable[[Int64Array], Sequence[str]]
"""Returns the string ids of some rows of a batch."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What the 64 bits of an id stand for.

    Attributes:
        unsigned: An unsigned number.
        names: The string of each code, where ids are codes of strings; it may grow until the report is read.
        is_string: Whether ids are strings.
    """

    unsigned: bool = False
    names: Sequence[str] | None = None
    is_string: bool = False

    @property
    def kind(self) -> str:
        """The kind of ids, as documents say it."""
        return "string" if self.is_string or self.names is not None else "integer"

    def of(self, ids: Int64Array) -> Ids | list[str]:
        """Return what ids stand for."""
        if self.names is not None:
            return [self.names[code] for code in ids.tolist()]
        return ids.view(np.uint64) if self.unsigned else ids

    def ranks(self, ids: Int64Array) -> Ids:
        """Return numbers that sort as what ids stand for."""
        if self.names is None:
            return ids.view(np.uint64) if self.unsigned else ids
        name, count = self.names.__getitem__, len(self.names)
        runs = (sorted(range(i, min(i + _RUN, count)), key=name) for i in range(0, count, _RUN))
        found = np.empty(count, np.int64)
        found[np.fromiter(merge(*runs, key=name), np.int64, count)] = np.arange(count)
        return found[ids]


class ReportSums:
    """The figures of a report, added up from partial ones.

    Args:
        layout: Which figures there are.
        most_cells: The most groups, times classes where groups have figures by class.
        groups: What each column of group ids stands for.
        ids: What the ids of rows stand for; None if there are none.
    """

    def __init__(
        self,
        layout: Layout,
        most_cells: int,
        groups: Sequence[Labels] = (),
        ids: Labels | None = None,
    ) -> None:
        self.layout: Final = layout
        self.ids: Final = ids
        self._most_cells = most_cells
        self._labels = tuple(groups) or (Labels(),) * layout.inputs.group_columns
        # Apart, so that single sums of many terms do not open planes for all others.
        self._single = indexed_sums(layout.single_sums)
        self._arrays = indexed_sums(layout.sums.width - layout.single_sums)
        self._by_group = indexed_sums(0)
        self._counts = np.zeros(layout.counts.width, np.int64)
        self._group_counts = np.zeros(0, np.int64)
        self._groups = GroupNumbers(len(self._labels))
        self._room = 0  # groups that there is room for
        self._lists = {
            name: TopList(layout.spec.top, by_id=ids is not None, unsigned=ids is not None and ids.unsigned)
            for name in LISTS
        }

    def add(self, partial: Partial, first_row: int, names_of: NamesOf | None = None) -> None:
        """Add a partial report. Nothing of it is kept.

        Args:
            partial: The report of some rows.
            first_row: The number of the row that its rows are counted from.
            names_of: Returns the ids of rows, counted like its own, where ids are strings.

        Raises:
            RequestError: ``output_too_large``: there are too many groups.
        """
        numbers = self._groups.of(partial.groups)
        if len(self._groups) > self._room:
            self._make_room()
        layout, index, sums = self.layout, partial.sum_index, partial.sums
        is_single, by_group = index < layout.single_sums, index >= layout.sums.width
        is_array = ~(is_single | by_group)
        self._single.add(index[is_single], sums[is_single])
        self._arrays.add(index[is_array] - layout.single_sums, sums[is_array])
        moved = _moved(index[by_group] - layout.sums.width, layout.group_sums, numbers)
        self._by_group.add(moved, sums[by_group])
        over_all = partial.count_index < layout.counts.width
        np.add.at(self._counts, partial.count_index[over_all], partial.counts[over_all])
        of_groups = partial.count_index[~over_all] - layout.counts.width
        self._group_counts[_moved(of_groups, layout.group_counts, numbers)] += partial.counts[~over_all]
        for name, entries in partial.lists.items():
            self._add_entries(self._lists[name], entries, first_row, names_of)

    def _add_entries(self, top: TopList, entries: Entries, first_row: int, names_of: NamesOf | None) -> None:
        entries = top.likely(entries)
        if not len(entries):
            return
        names = None if names_of is None else names_of(entries["row"])
        entries["row"] += first_row
        top.keep(entries, names)

    def _make_room(self) -> None:
        layout, classes = self.layout, max(1, self.layout.classes)
        if len(self._groups) * classes > self._most_cells:
            raise too_many_groups(self._most_cells, layout.classes)
        self._room = min(self._most_cells // classes, max(64, 2 * len(self._groups)))
        self._by_group.lengthen(self._room * layout.group_sums.width)
        counts = np.zeros(self._room * layout.group_counts.width, np.int64)
        counts[: len(self._group_counts)] = self._group_counts
        self._group_counts = counts

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the figures take, without those of lists."""
        counts = self._counts.nbytes + self._group_counts.nbytes
        return self._arrays.nbytes + self._by_group.nbytes + counts + GROUP_BYTES * len(self._groups)

    # The figures, once all partial reports are added

    def terms(self, name: str) -> Float64Array:
        """Return the terms of a sum or of an array of sums over all rows, [k, *shape]."""
        field, planes, start = self.layout.sums[name], self._single_terms, self.layout.single_sums
        at = field.start
        if at >= start:
            planes, at = self._array_terms, at - start
        terms = trimmed(planes[:, at : at + field.size])
        return terms.reshape(len(terms), *field.shape)

    def counts(self, name: str) -> Int64Array:
        """Return a count, or an array of counts, over all rows."""
        field = self.layout.counts[name]
        return self._counts[field.start : field.start + field.size].reshape(field.shape)

    @property
    def group_ids(self) -> list[Ids | list[str]]:
        """The ids of all groups, column by column; groups are in the order of their ids."""
        return [
            labels.of(ids[self._order]) for labels, ids in zip(self._labels, self._groups.ids, strict=True)
        ]

    @property
    def group_kinds(self) -> list[str]:
        """The kind of each column of group ids: ``integer`` or ``string``."""
        return [labels.kind for labels in self._labels]

    def group_terms(self, name: str) -> Float64Array:
        """Return the terms of a sum by group, [k, groups, *shape]."""
        field = self.layout.group_sums[name]
        planes = trimmed(self._group_planes[:, :, field.start : field.start + field.size])[:, self._order]
        return planes.reshape(len(planes), len(self._order), *field.shape)

    def group_counts(self, name: str) -> Int64Array:
        """Return a count by group, [groups, *shape]."""
        field, width = self.layout.group_counts[name], self.layout.group_counts.width
        counts = self._group_counts.reshape(-1, width)[self._order, field.start : field.start + field.size]
        return counts.reshape(len(self._order), *field.shape)

    @property
    def lists(self) -> dict[str, Entries]:
        """The entries of each list, by its name in `LISTS`, in order. Rows count from the request's first."""
        return {name: top.entries for name, top in self._lists.items()}

    def entries(self, name: str) -> Entries:
        """Return the entries of one list."""
        return self._lists[name].entries

    def list_ids(self, name: str) -> list[int] | list[str]:
        """Return the id of each entry of a list, where rows have ids."""
        return self._lists[name].ids

    @cached_property
    def _order(self) -> Int64Array:
        """The numbers of the groups, by id."""
        columns = zip(self._labels, self._groups.ids, strict=True)
        keys = [labels.ranks(ids) for labels, ids in columns]
        return np.lexsort(keys[::-1]) if keys else np.arange(0)

    @cached_property
    def _single_terms(self) -> Float64Array:
        return self._single.canonical()

    @cached_property
    def _array_terms(self) -> Float64Array:
        return self._arrays.canonical()

    @cached_property
    def _group_planes(self) -> Float64Array:
        """The terms of all sums by group, [k, room, width]."""
        planes = self._by_group.canonical()
        return planes.reshape(len(planes), -1, self.layout.group_sums.width)


def too_many_groups(most_cells: int, classes: int) -> RequestError:
    """Return the error of a report with too many groups.

    Args:
        most_cells: The most groups, times classes.
        classes: The number of classes; 0 if groups have no figures by class.
    """
    by, remedy = "", "send coarser group ids"
    if classes:
        by, remedy = f" of {classes} classes each", f"{remedy}, or leave `classes` out of the report"
    detail = (
        f"`groups`: there are more than {most_cells // max(1, classes)} groups{by}, the most that a report "
        f"may have; {remedy}"
    )
    return RequestError(ErrorCode.OUTPUT_TOO_LARGE, detail, [("/groups", "too many groups")])


def _moved(index: Int64Array, block: Block, numbers: Int64Array) -> Int64Array:
    """Return the indices here of figures by group, given those in a partial report."""
    if not len(index):
        return index
    group, figure = np.divmod(index, block.width)
    return numbers[group] * block.width + figure
