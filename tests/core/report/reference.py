"""The figures of a report written down anew, element by element, in Python's own numbers."""

from __future__ import annotations

import math
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from core.report.cases import Case
from core.scoring import Array
from lossd.core.report.layout import Block, Layout
from lossd.core.report.partial import Partial
from lossd.types import Float64Array

Key = tuple[Any, ...]
"""A name, a group's ids or None for all rows, and the place within the name's figures."""


class Total:
    """An exact sum, as a fraction, or as what infinite and NaN summands make of it."""

    def __init__(self) -> None:
        self.units = 0  # of 2^-1074
        self.special = 0.0

    def add(self, value: float) -> None:
        if math.isfinite(value):
            numerator, denominator = float(value).as_integer_ratio()
            self.units += numerator * ((1 << 1074) // denominator)
        else:
            self.special += value

    @property
    def rounded(self) -> float:
        if self.special != 0.0:
            return self.special
        try:
            return float(Fraction(self.units, 1 << 1074))
        except OverflowError:
            return math.copysign(math.inf, self.units)

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Total)
        if math.isfinite(self.rounded):
            return self.units == other.units and other.special == 0.0
        return repr(self.rounded) == repr(other.rounded)

    def __hash__(self) -> int:
        return hash(self.units)

    def __repr__(self) -> str:
        return f"Total({self.rounded!r})"


class Entry(NamedTuple):
    """An entry of a list."""

    key: float
    loss: float
    baseline: float
    input: float
    baseline_input: float
    target: float
    row: int
    position: int
    id: int


@dataclass
class Figures:
    """Sums and counts that are not zero, and lists in order."""

    sums: dict[Key, Total] = field(default_factory=lambda: defaultdict(Total))
    counts: Counter[Key] = field(default_factory=Counter)
    lists: dict[str, list[Entry]] = field(default_factory=dict)

    def tidy(self) -> Figures:
        """Without zeros."""
        zero = Total()
        sums = {key: total for key, total in self.sums.items() if total != zero}
        return Figures(sums, Counter({key: n for key, n in self.counts.items() if n}), self.lists)


class Summands(NamedTuple):
    """What is computed of each element, of the request's shape."""

    losses: Float64Array
    baseline: Float64Array | None
    probability: Float64Array
    cross_entropy: Float64Array
    sweep: list[list[Float64Array]]


class Reference:
    """The figures of a request, computed from its elements' losses."""

    def __init__(self, case: Case, layout: Layout, summands: Summands) -> None:
        self.case, self.layout, self.spec, self.of = case, layout, layout.spec, summands
        self.found = Figures()
        shape = case.inputs.shape
        self.rows, self.size = shape[0], math.prod(shape[1:])
        place = np.arange(self.size).reshape(shape[1:] or (1,))
        self.classes = [
            0 if case.class_axis is None else int(np.argwhere(place == i)[0][case.class_axis - 1])
            for i in range(self.size)
        ]

    def figures(self) -> Figures:
        entries: dict[str, list[Entry]] = defaultdict(list)
        for row in range(self.rows):
            self._row(row, entries)
        if self.spec.top:
            for name, listed in entries.items():
                self.found.lists[name] = ranked(listed, self.spec.top, with_ids=self.case.ids is not None)
        return self.found.tidy()

    def _sum(self, name: str, row: int, value: float, place: int = 0) -> None:
        for group, block in self._scopes(row, self.layout.sums, self.layout.group_sums):
            if name in block:
                self.found.sums[name, group, place].add(value)

    def _count(self, name: str, row: int, place: int = 0) -> None:
        for group, block in self._scopes(row, self.layout.counts, self.layout.group_counts):
            if name in block:
                self.found.counts[name, group, place] += 1

    def _scopes(self, row: int, whole: Block, by_group: Block) -> Iterator[tuple[Any, Block]]:
        yield None, whole
        if self.case.groups is not None and "groups" in self.spec.sections:
            yield self.case.groups[row], by_group

    def _of_row(self, values: Array, row: int) -> list[float]:
        return values.reshape(self.rows, self.size)[row].tolist()  # type: ignore[no-any-return]

    def _row(self, row: int, entries: dict[str, list[Entry]]) -> None:
        case, of = self.case, self.of
        kept = [i for i, counts in enumerate(self._of_row(case.kept, row)) if counts]
        self._count("rows", row)
        if not kept:
            self._count("rows_dropped", row)
            return
        v = self._of_row(of.losses, row)
        x = self._of_row(case.inputs, row)
        y = self._of_row(case.targets, row)
        w = None if case.weight is None else self._of_row(case.weight, row)
        s = _rounded(v, kept)
        normalizer = case.params["normalizer"]
        if normalizer == "count":
            d = float(len(kept))
        elif normalizer == "positives":
            d = _rounded(y, kept)
        elif normalizer == "weight":
            assert w is not None
            d = _rounded(w, kept)
        else:
            d = 1.0
        r = s / len(kept) if self.spec.row_mean else s
        self._sum("row_squares", row, s * s)
        self._sum("row_products", row, s * d)
        self._sum("divisor_squares", row, d * d)
        id_ = case.ids[row] if case.ids else 0
        entries["rows"].append(Entry(r, r, 0.0, 0.0, 0.0, 0.0, row, 0, id_))
        self._cell("histogram_rows", row, r)
        for i in kept:
            loss, c = v[i], self.classes[i]
            self._count("count", row)
            self._count("class_count", row, c)
            self._sum("sum", row, loss)
            self._sum("positives", row, y[i])
            self._sum("element_squares", row, loss * loss)
            self._sum("class_sum", row, loss, c)
            self._sum("class_positives", row, y[i], c)
            if w is not None:
                self._sum("weight", row, w[i])
                self._sum("class_weight", row, w[i], c)
            if math.isnan(loss):
                self._count("nan", row)
            if math.isinf(loss):
                self._count("infinite", row)
            entries["elements"].append(Entry(loss, loss, 0.0, x[i] + 0.0, 0.0, y[i] + 0.0, row, i, id_))
            self._cell("histogram_elements", row, loss, None if w is None else w[i])
            if "calibration" in self.spec.sections:
                self._calibrate(row, i, x[i], y[i])
        if "sweep" in self.spec.sections:
            for gamma, arrays in enumerate(of.sweep):
                for bracket, values in enumerate(arrays):
                    its = self._of_row(values, row)
                    for i in kept:
                        c = self.classes[i] if self.layout.classes else 0
                        place = (bracket * len(of.sweep) + gamma) * max(1, self.layout.classes) + c
                        self._sum("sweep", row, its[i], place)
        if of.baseline is not None and "paired" in self.spec.sections:
            self._pair(row, kept, v, s, d, entries)

    def _cell(self, name: str, row: int, loss: float, weight: float | None = None) -> None:
        if loss == 0.0:
            cell = 65536
        elif math.isinf(loss):
            cell = 65537
        elif math.isnan(loss):
            cell = 65538
        else:
            cell = int.from_bytes(struct.pack(">d", loss)[:2], "big")
        self._count(name, row, cell)
        if weight is not None:
            self._sum("histogram_weight", row, weight, cell)

    def _calibrate(self, row: int, i: int, x: float, y: float) -> None:
        if math.isnan(x) or math.isnan(y):
            self._count("undefined", row)
            return
        p = float(self.of.probability.reshape(self.rows, self.size)[row, i])
        if y not in (0.0, 1.0):
            self._count("soft", row)
        self._sum("brier", row, (p - y) * (p - y))
        self._sum("cross_entropy", row, float(self.of.cross_entropy.reshape(self.rows, self.size)[row, i]))
        if self.spec.bins:
            place = min(int(p * self.spec.bins), self.spec.bins - 1)
            if self.case.class_axis is not None:
                place += self.classes[i] * self.spec.bins
            self._sum("bin_probability", row, p, place)
        else:
            name = "probabilities" if self.case.probabilities else "logits"
            if name in self.case.bfloat16:
                place = int.from_bytes(struct.pack(">f", x + 0.0)[:2], "big")
            else:
                place = int.from_bytes(struct.pack(">e", x + 0.0), "big")
        self._count("bin_count", row, place)
        self._sum("bin_positives", row, y, place)

    def _pair(
        self, row: int, kept: list[int], v: list[float], s: float, d: float, entries: dict[str, list[Entry]]
    ) -> None:
        assert self.of.baseline is not None
        assert self.case.baseline is not None
        b = self._of_row(self.of.baseline, row)
        x, y = self._of_row(self.case.inputs, row), self._of_row(self.case.targets, row)
        xb = self._of_row(self.case.baseline, row)
        id_ = self.case.ids[row] if self.case.ids else 0
        sb = _rounded(b, kept)
        self._sum("pair_row_squares", row, (s - sb) * (s - sb))
        self._sum("pair_row_products", row, (s - sb) * d)
        self._sum("baseline_row_squares", row, sb * sb)
        self._sum("baseline_row_products", row, (s - sb) * sb)
        n = len(kept) if self.spec.row_mean else 1
        r, rb = s / n, sb / n
        self._outcome("pair_rows", row, r - rb)
        _list(entries, "rows", r - rb, lambda key: Entry(key, r, rb, 0.0, 0.0, 0.0, row, 0, id_))
        for i in kept:
            loss, other, c = v[i], b[i], self.classes[i]
            difference = loss - other
            self._sum("baseline", row, other)
            self._sum("pair_squares", row, difference * difference)
            self._sum("class_baseline", row, other, c)
            self._sum("class_pair_squares", row, difference * difference, c)
            self._outcome("pair_elements", row, difference)
            self._outcome("class_pairs", row, difference, c)
            given = (loss, other, x[i] + 0.0, xb[i] + 0.0, y[i] + 0.0, row, i, id_)
            _list(entries, "elements", difference, lambda key, given=given: Entry(key, *given))  # type: ignore[misc]

    def _outcome(self, name: str, row: int, difference: float, place: int | None = None) -> None:
        number = 0 if difference < 0 else 1 if difference > 0 else 2 if difference == 0 else 3
        if place is not None:
            number = number * self.layout.classes + place
        self._count(name, row, number)


def _list(
    entries: dict[str, list[Entry]], what: str, difference: float, entry: Callable[[float], Entry]
) -> None:
    if difference > 0:
        entries[f"worse_{what}"].append(entry(difference))
    elif difference < 0:
        entries[f"better_{what}"].append(entry(-difference))


def _rounded(values: list[float], kept: list[int]) -> float:
    total = Total()
    for i in kept:
        total.add(values[i])
    return total.rounded


def figures_of(case: Case, layout: Layout, partials: list[Partial]) -> Figures:
    """What the partial reports of a request's parts come to together."""
    found = Figures()
    entries: dict[str, list[Entry]] = defaultdict(list)
    unsigned = {name for name, tensor in case.tensors.items() if tensor.dtype.newbyteorder("=") == np.uint64}
    for partial in partials:
        groups = [tuple(_id(each, unsigned, "group") for each in row) for row in partial.groups.tolist()]
        for index, number in zip(partial.sum_index.tolist(), partial.sums.tolist(), strict=True):
            found.sums[_key(index, layout.sums, layout.group_sums, groups)].add(number)
        assert len(set(partial.count_index.tolist())) == len(partial.count_index)
        for index, count in zip(partial.count_index.tolist(), partial.counts.tolist(), strict=True):
            found.counts[_key(index, layout.counts, layout.group_counts, groups)] += count
        for name, listed in partial.lists.items():
            assert len(listed) <= layout.spec.top
            for each in map(Entry._make, listed.tolist()):
                entries[name].append(each._replace(id=_id(each.id, unsigned, "ids")))
    found.lists = {
        name: ranked(listed, layout.spec.top, with_ids=case.ids is not None)
        for name, listed in entries.items()
        if listed
    }
    return found.tidy()


def ranked(entries: list[Entry], count: int, *, with_ids: bool) -> list[Entry]:
    """The first entries: NaN, then the greatest key; equal ones by id, or else by index."""

    def order(entry: Entry) -> Key:
        unknown = math.isnan(entry.key)
        place = (entry.position, entry.row) if with_ids else (entry.row, entry.position)
        return (not unknown, 0.0 if unknown else -entry.key, entry.id, *place)

    return sorted(entries, key=order)[:count]


def _id(bits: int, unsigned: set[str], name: str) -> int:
    return bits % (1 << 64) if any(each.startswith(name) for each in unsigned) else bits


def _key(index: int, whole: Block, by_group: Block, groups: list[tuple[int, ...]]) -> Key:
    block, group = whole, None
    if index >= whole.width:
        number, index = divmod(index - whole.width, by_group.width)
        block, group = by_group, groups[number]
    for name, (start, _) in block.fields.items():
        if start <= index < start + block[name].size:
            return name, group, index - start
    raise AssertionError(index)
