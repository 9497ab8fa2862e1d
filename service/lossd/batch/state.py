"""The exact figures of some rows, in a form that is sent between machines and added up there.

A report's figures are in the form in which a kernel writes them for some rows
(`lossd.core.report.partial`): numbers with the index of the sum that they belong to. So figures of a million
rows are added the way slices are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

import msgspec
import numpy as np

from lossd.core.document.accumulator import ReportSums
from lossd.core.report.layout import LISTS, Block
from lossd.core.report.parameters import EXACT
from lossd.core.report.partial import Int64Array, Partial
from lossd.types import GROUP_PREFIX, Float64Array

_FORMAT: Final = "lossd.partial/2"


class ColumnOf(msgspec.Struct, frozen=True, array_like=True):
    """A column, as far as figures of other rows must have the same.

    Attributes:
        name: The tensor's name.
        dtype: Its dtype; float64 where it does not matter which one it is.
        width: Elements a row; None where a row is a plain number.
        strings: Whether rows are strings.
    """

    name: str
    dtype: str
    width: int | None
    strings: bool


class Question(msgspec.Struct, frozen=True):
    """What is asked of rows: figures of one question add up.

    Attributes:
        loss: The loss's name.
        params: The request's parameters that were given, of the reduction ``sum``.
        is_mean: Whether a mean is asked for.
        columns: The columns.
    """

    loss: str
    params: dict[str, object]
    is_mean: bool
    columns: tuple[ColumnOf, ...] = ()

    def of_sums(self) -> Question:
        """Return the question of the sums, where most dtypes of the rows do not matter any more."""
        exact = self.params.get("calibration_bins") == EXACT
        columns = tuple(
            ColumnOf(its.name, _kept(its, exact=exact), its.width, its.strings) for its in self.columns
        )
        return Question(self.loss, self.params, self.is_mean, columns)


def _kept(column: ColumnOf, *, exact: bool) -> str:
    """Return a dtype that stands for all that may be in its place."""
    name, dtype = column.name, column.dtype
    if name == "pos_weight" or (exact and name in ("logits", "probabilities")):
        return dtype  # the answer names it
    if name == "mask":
        return "bool"
    if name == "ids" or name.startswith(GROUP_PREFIX):
        return dtype if dtype == "uint64" else "int64"
    return "float64"


class State(msgspec.Struct, frozen=True, tag_field="format", tag=_FORMAT):
    """The figures of some rows. Equal rows have equal ones, however they were split.

    Attributes:
        question: What was asked.
        rows: The number of rows.
        count: The number of elements that are not dropped.
        loss: Terms of the losses' sum.
        weights: Terms of the weights' sum; None if there are none.
        positives: Terms of the targets' sum.
        outputs: For several outputs the planes of their sums, and of their divisors if each has its own.
        report: The report's figures; empty without one.
        groups: For each column of groups the strings that its ids are the numbers of; None where ids are
            integers.
        ids: Where ids are strings, those of the entries of all lists, one list after the other.
    """

    question: Question
    rows: int
    count: int
    loss: list[float]
    weights: list[float] | None
    positives: list[float]
    outputs: list[list[bytes]]
    report: memoryview = memoryview(b"")
    groups: list[list[str] | None] = []
    ids: list[str] | None = None


def state_of_nothing(question: Question) -> State:
    """Return the figures of no rows, whose columns nobody knows."""
    return State(question, rows=0, count=0, loss=[0.0], weights=None, positives=[0.0], outputs=[])


def report_state(sums: ReportSums) -> tuple[memoryview, list[list[str] | None], list[str] | None]:
    """Return the figures of a report, to which nothing can be added then.

    Returns:
        `State.report`, `State.groups` and `State.ids`.
    """
    layout, by_group = sums.layout, sums.layout.by_group
    found = [_numbers(sums.terms(name), field.start) for name, field in layout.sums.fields.items()]
    counted = [_counts(sums.counts(name), field.start) for name, field in layout.counts.fields.items()]
    ids, names = _group_ids(sums) if by_group else (np.empty((0, 0), np.int64), [])
    if by_group:
        groups, width = np.arange(len(ids)), layout.sums.width
        for name, field in layout.group_sums.fields.items():
            places = _places(groups, layout.group_sums, field.start, field.size) + width
            found.append(_numbers(sums.group_terms(name), places))
        for name, field in layout.group_counts.fields.items():
            places = _places(groups, layout.group_counts, field.start, field.size) + layout.counts.width
            counted.append(_counts(sums.group_counts(name), places))
    lists, strings = {name: entries.copy() for name, entries in sums.lists.items()}, None
    if sums.ids is not None:
        for entries in lists.values():
            entries["row"] = 0  # they are named by their ids
        if sums.ids.kind == "string":
            strings = [str(each) for name in LISTS for each in sums.list_ids(name)]
            for entries in lists.values():
                entries["id"] = 0
    partial = Partial(
        sum_index=np.concatenate([index for index, _ in found]),
        sums=np.concatenate([numbers for _, numbers in found]),
        count_index=np.concatenate([index for index, _ in counted]),
        counts=np.concatenate([numbers for _, numbers in counted]),
        groups=ids,
        lists=lists,
    )
    return memoryview(partial.to_bytes()), names, strings


class Numbering:
    """The strings of a column of groups, numbered as they come; new ones are added to ``names``."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._numbers = {name: number for number, name in enumerate(names)}

    def of(self, names: Sequence[str]) -> Int64Array:
        """Return the numbers of strings."""
        numbers = self._numbers
        found = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
        self._names.extend(islice(numbers, len(self._names), None))
        return found


def add_report_state(
    sums: ReportSums, state: State, first_row: int, numberings: Sequence[Numbering | None]
) -> None:
    """Add the figures of other rows to a report's.

    Args:
        sums: The report's figures.
        state: The others, of the same question.
        first_row: The number of rows before them.
        numberings: For each column of groups the numbers of its strings; None where ids are integers.

    Raises:
        RequestError: ``output_too_large``: there are too many groups.
    """
    partial = Partial.read(state.report)
    partial.groups = partial.groups.copy()
    for column, (names, numbering) in enumerate(zip(state.groups, numberings, strict=True)):
        if names is not None and numbering is not None:
            partial.groups[:, column] = numbering.of(names)[partial.groups[:, column]]
    strings = state.ids
    if strings is None:
        sums.add(partial, first_row)
        return
    start = 0
    for name in LISTS:
        entries = partial.lists[name] = partial.lists[name].copy()
        entries["row"] = np.arange(start, start + len(entries))
        start += len(entries)
    sums.add(partial, 0, lambda rows: [strings[row] for row in rows.tolist()])


def _numbers(terms: Float64Array, places: Int64Array | int) -> tuple[Int64Array, Float64Array]:
    """Return the numbers of sums that are not 0, and their indices.

    Args:
        terms: The sums' terms, [k, *shape].
        places: The indices of the sums, [shape's size], or the first of them.
    """
    planes = terms.reshape(len(terms), -1)
    plane, at = np.nonzero(planes)
    return (places[at] if isinstance(places, np.ndarray) else places + at), planes[plane, at]


def _counts(counts: Int64Array, places: Int64Array | int) -> tuple[Int64Array, Int64Array]:
    """Return the counts that are not 0, and their indices."""
    flat = counts.reshape(-1)
    (at,) = np.nonzero(flat)
    return (places[at] if isinstance(places, np.ndarray) else places + at), flat[at]


def _places(groups: Int64Array, block: Block, start: int, size: int) -> Int64Array:
    """Return the indices of a field's figures for all groups, within those of groups."""
    return (groups[:, np.newaxis] * block.width + np.arange(start, start + size)).reshape(-1)


def _group_ids(sums: ReportSums) -> tuple[Int64Array, list[list[str] | None]]:
    """Return the ids of groups in their order, [groups, columns], and the strings that are numbered."""
    columns, names = [], list[list[str] | None]()
    for ids in sums.group_ids:
        if isinstance(ids, list):
            listed = sorted(set(ids))
            names.append(listed)
            numbers = {name: number for number, name in enumerate(listed)}
            columns.append(np.array([numbers[each] for each in ids], np.int64))
        else:
            names.append(None)
            columns.append(ids.view(np.int64))
    return np.stack(columns, axis=1), names
