"""Partial reports added up, against fractions and plain sorting."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lossd.core.document import accumulator
from lossd.core.document.accumulator import Labels, ReportSums
from lossd.core.document.group_numbers import GroupNumbers
from lossd.core.document.indexed_sums import IndexedSums, NativeIndexedSums, PlainIndexedSums
from lossd.core.exact_sum import ExactSum
from lossd.core.report.layout import LISTS, Inputs, Layout
from lossd.core.report.partial import ENTRY, Entries, Partial
from lossd.core.report.spec import SECTIONS, ReportSpec
from lossd.types import ErrorCode, RequestError

KINDS = (NativeIndexedSums, PlainIndexedSums)
CLASSES = 3
ROWS = 50


def layout_of(sections: Iterable[str] = SECTIONS, *, top: int = 5, columns: int = 1) -> Layout:
    spec = ReportSpec(frozenset(sections), top=top, gammas=(0.0, 2.0), bins=8)
    return Layout(spec, Inputs("sigmoid", (ROWS, CLASSES), 1, CLASSES, False, True, True, columns))


def wide(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.ldexp(rng.random(count) + 0.5, rng.integers(-300, 300, count))


def partials(layout: Layout, rng: np.random.Generator, count: int, columns: int = 1) -> list[Partial]:
    """Return partial reports with random figures, each sum of up to 3 numbers, in no order."""
    found = []
    for _ in range(count):
        groups = np.unique(rng.integers(-3, 3, (int(rng.integers(1, 5)), columns)), axis=0)
        rng.shuffle(groups)
        sums = layout.sums.width + layout.group_sums.width * len(groups)
        counts = layout.counts.width + layout.group_counts.width * len(groups)
        index = rng.integers(0, sums, 200)
        count_index = rng.permutation(counts)[:100]
        found.append(
            Partial(
                sum_index=index,
                sums=wide(rng, len(index)),
                count_index=count_index,
                counts=rng.integers(0, 1 << 40, len(count_index)),
                groups=groups,
                lists={name: entries(rng, int(rng.integers(0, 12))) for name in LISTS},
            )
        )
    return found


def entries(rng: np.random.Generator, count: int) -> Entries:
    found = np.zeros(count, ENTRY)
    found["key"] = rng.choice([0.25, 0.5, 3.0, math.inf, math.nan], count)
    places = rng.permutation(ROWS * CLASSES)[:count]  # no two alike
    found["row"], found["position"] = places // CLASSES, places % CLASSES
    found["id"] = -(found["row"] * 7919 % 101)
    return found


def read_back(partial: Partial) -> Partial:
    memory = memoryview(bytearray(1 << 20))
    partial.write(memory)
    return Partial.read(memory.toreadonly())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [1, 2])
def test_sums_and_counts_are_exact(
    kind: type[IndexedSums], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accumulator, "indexed_sums", kind)
    rng = np.random.default_rng(columns)
    layout = layout_of(columns=columns)
    sums = ReportSums(layout, 1000)
    wanted: dict[tuple[Any, ...], Fraction] = defaultdict(Fraction)
    counted: dict[tuple[Any, ...], int] = defaultdict(int)
    for partial in partials(layout, rng, 30, columns):
        ids = [tuple(row) for row in partial.groups.tolist()]
        for block, of_groups, index, numbers in (
            (layout.sums, layout.group_sums, partial.sum_index, partial.sums),
            (layout.counts, layout.group_counts, partial.count_index, partial.counts),
        ):
            for place, number in zip(index.tolist(), numbers.tolist(), strict=True):
                key: tuple[object, ...] = (place,)
                if place >= block.width:
                    group, figure = divmod(place - block.width, of_groups.width)
                    key = ids[group], figure
                if block is layout.sums:
                    wanted[key] += Fraction(number)
                else:
                    counted[key] += number
        sums.add(read_back(partial), 0)

    for name, field in layout.sums.fields.items():
        planes = sums.terms(name)
        assert planes.shape[1:] == field.shape
        check_terms(planes, [wanted[field.start + i,] for i in range(field.size)])
    for name, field in layout.counts.fields.items():
        assert sums.counts(name).shape == field.shape
        assert sums.counts(name).ravel().tolist() == [counted[field.start + i,] for i in range(field.size)]
    groups = ids_of(sums)
    assert groups == sorted({key[0] for key in (*wanted, *counted) if len(key) == 2} | set(groups))
    for name, field in layout.group_sums.fields.items():
        planes = sums.group_terms(name)
        assert planes.shape[1:] == (len(groups), *field.shape)
        check_terms(planes, [wanted[g, field.start + i] for g in groups for i in range(field.size)])
    for name, field in layout.group_counts.fields.items():
        found = sums.group_counts(name)
        assert found.shape == (len(groups), *field.shape)
        assert found.ravel().tolist() == [
            counted[g, field.start + i] for g in groups for i in range(field.size)
        ]


def ids_of(sums: ReportSums) -> list[tuple[int | str, ...]]:
    """The ids of each group, in order."""
    return [*zip(*map(list, sums.group_ids), strict=True)]


def check_terms(planes: np.ndarray, wanted: list[Fraction]) -> None:
    """Check that planes are the canonical terms of sums, and no more planes than the longest needs."""
    terms = planes.reshape(len(planes), -1).T.tolist()
    longest = 1
    for its, exact in zip(terms, wanted, strict=True):
        rest = exact
        for term in its:
            assert term == float(rest)  # which rounds once, to nearest even
            assert math.copysign(1.0, term) == 1.0 or term < 0.0
            rest -= Fraction(term)
        assert rest == 0
        longest = max(longest, len(ExactSum(its).terms))
    assert len(planes) == longest


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_stays_so(kind: type[IndexedSums]) -> None:
    sums = kind(4)
    for index, number in ((0, math.inf), (1, math.nan), (2, 1e308), (3, 1.0), (0, 2.0), (2, 1e308), (3, 2.0)):
        sums.add(np.array([index]), np.array([number]))
    assert sums.canonical()[0].tobytes() == np.array([math.inf, math.nan, math.inf, 3.0]).tobytes()
    assert not sums.canonical()[1:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_many_terms_of_one_sum_at_once(kind: type[IndexedSums]) -> None:
    rng = np.random.default_rng(0)
    numbers = np.ldexp(rng.random(3000) + 0.5, rng.integers(-1074, 1000, 3000))
    sums = kind(2)
    sums.add(np.zeros(3000, np.int64), numbers)
    sums.lengthen(5)
    sums.add(np.array([4]), np.array([-1.5]))
    planes = sums.canonical()
    check_terms(planes[:, :1], [sum(map(Fraction, numbers.tolist()), Fraction())])
    assert planes[:, 1:].sum(0).tolist() == [0.0, 0.0, 0.0, -1.5]


@pytest.mark.parametrize("ids", [None, Labels(), Labels(unsigned=True), Labels(is_string=True)])
@pytest.mark.parametrize("top", [1, 7, 400])
def test_lists_are_the_first_of_all_entries(ids: Labels | None, top: int) -> None:
    rng = np.random.default_rng(top)
    layout = layout_of(top=top)
    sums = ReportSums(layout, 1000, ids=ids)
    given: dict[str, list[tuple[object, ...]]] = {name: [] for name in LISTS}

    def name_of(row: int) -> str:
        return f"{row * 37 % 1000}é" if row % 2 else f"{row}"

    for first, partial in zip(range(0, 60 * ROWS, ROWS), partials(layout, rng, 60), strict=True):
        names_of = (
            None
            if ids is None or not ids.is_string
            else lambda rows, first=first: [name_of(first + row) for row in rows.tolist()]
        )
        sums.add(read_back(partial), first, names_of)
        for name, its in partial.lists.items():
            for entry in its.tolist():
                key, *_, row, position, code = entry
                row += first
                order: tuple[object, ...] = row, position
                shown: int | str = code
                if ids is not None and ids.is_string:
                    shown = name_of(row)
                elif ids is not None and ids.unsigned:
                    shown = code % (1 << 64)
                if ids is not None:
                    order = shown, position, row
                given[name].append(
                    (not math.isnan(key), 0.0 if math.isnan(key) else -key, order, row, position, shown)
                )
    for name, all_of in given.items():
        wanted = sorted(all_of)[:top]
        found = sums.lists[name]
        assert [(row, position) for *_, row, position, _ in wanted] == list(
            zip(found["row"].tolist(), found["position"].tolist(), strict=True)
        )
        assert [0.0 if math.isnan(key) else -key for key in found["key"].tolist()] == [
            its[1] for its in wanted
        ]
        if ids is not None:
            assert sums.list_ids(name) == [its[-1] for its in wanted]


def test_group_ids_are_what_they_stand_for() -> None:
    layout = layout_of({"totals", "groups"}, columns=2)
    sums = ReportSums(layout, 100, [Labels(names=["night", "day"]), Labels(unsigned=True)])
    assert sums.group_kinds == ["string", "integer"]
    groups = np.array([[0, -1], [1, 5], [0, 2]])
    width = layout.group_counts.width
    start = layout.group_counts.start("rows") + layout.counts.width
    sums.add(Partial(count_index=start + width * np.arange(3), counts=np.array([7, 8, 9]), groups=groups), 0)
    assert ids_of(sums) == [("day", 5), ("night", 2), ("night", 2**64 - 1)]
    assert sums.group_counts("rows").tolist() == [8, 9, 7]


@pytest.mark.parametrize("columns", [1, 2, 3, 8])
def test_groups_keep_their_numbers(columns: int) -> None:
    rng = np.random.default_rng(columns)
    values = [-(2**63), -1, 0, 1, 2**32, 2**63 - 1, *range(5, 30)]
    groups, known = GroupNumbers(columns), dict[tuple[int, ...], int]()
    for count in (0, 1, 40, 7, 500, 500):
        ids = rng.choice(np.array(values), (count, columns))
        ids[:, 1:] %= 3  # so that many groups come again
        found = groups.of(ids).tolist()
        for key, number in zip(map(tuple, ids.tolist()), found, strict=True):
            assert known.setdefault(key, number) == number
        assert sorted(known.values()) == list(range(len(groups)))
    assert [*zip(*map(np.ndarray.tolist, groups.ids), strict=True)] == sorted(known, key=known.__getitem__)


def test_many_strings_are_sorted_as_they_read() -> None:
    rng = np.random.default_rng(3)
    names = [
        f"{number % 97}é/{number:06}" if number % 5 else f"\U0001f600{number}" for number in range(20_000)
    ]
    rng.shuffle(names)
    ranks = Labels(names=names).ranks(np.arange(len(names)))
    assert [names[code] for code in np.argsort(ranks).tolist()] == sorted(names)


@pytest.mark.parametrize(("sections", "most"), [(("groups", "classes"), 33), (("groups",), 100)])
def test_too_many_groups_are_refused(sections: tuple[str, ...], most: int) -> None:
    sums = ReportSums(layout_of({"totals", *sections}), 100)
    sums.add(Partial(groups=np.arange(most)[:, None]), 0)
    sums.add(Partial(groups=np.arange(most)[:, None]), 0)
    with pytest.raises(RequestError, match=f"`groups`: there are more than {most} groups") as caught:
        sums.add(Partial(groups=np.array([[-1]])), 0)
    assert caught.value.code is ErrorCode.OUTPUT_TOO_LARGE
    assert ("leave `classes` out" in caught.value.detail) == ("classes" in sections)


def test_a_report_of_nothing() -> None:
    sums = ReportSums(layout_of(), 100)
    assert sums.terms("row_squares").tolist() == [0.0]
    assert sums.terms("class_sum").tolist() == [[0.0] * CLASSES]
    assert ids_of(sums) == []
    assert sums.group_terms("class_sum").shape == (1, 0, CLASSES)
    assert sums.group_counts("pair_rows").shape == (0, 4)
    assert all(not len(entries) for entries in sums.lists.values())
