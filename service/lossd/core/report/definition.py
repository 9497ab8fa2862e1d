"""What every figure of a report is: the definition, in numpy, for any kernel's losses.

The native kernel has the same steps in C, for speed; tests compare the two. All are additions of float64
numbers without rounding, counts, and lists in a total order. A summand is a value as the kernel computed it,
or a few rounded operations on such values, written out here.

Dropped elements count nowhere. A row without kept elements is dropped: it is counted, and in no other figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lossd.core.report.figures import BoolArray, Figures
from lossd.core.report.layout import HISTOGRAM_BINS, Layout
from lossd.core.report.partial import ENTRY, Entries, Int64Array, Partial
from lossd.core.report.sums import rounded_sums
from lossd.core.report.top_list import TopList
from lossd.types import Divisor, Float64Array

Ids = npt.NDArray[np.int64] | npt.NDArray[np.uint64]


@dataclass(slots=True)
class Rows:
    """Some whole rows of a request: its tensors, and what was computed of them.

    An element is what has a loss. Arrays of elements are [rows, elements of a row], float64. Where an element
    is dropped they hold what adds nothing: 0 for losses, weights and targets.

    Attributes:
        first: The number of rows of the request or batch before these.
        losses: The weighted losses.
        inputs: The logits or probabilities; of rows of classes the confidence, 0 of other rows.
        targets: The targets, before smoothing; of a loss of a row their sum.
        weight: The weights, if any.
        kept: Whether each element counts, bool; None if all do.
        baseline_losses: The losses of the baseline's inputs, if any.
        baseline_inputs: These.
        probability: The inputs as probabilities of the positive class, for the calibration; of rows of
            classes that of each class, [rows, elements, classes].
        shares: Then the targets, before smoothing, [rows, elements, classes].
        cross_entropy: The cross entropy, without weights, pos_weight and smoothing, for the calibration.
        classes: The class of each element's target, whole numbers, where losses are of rows of classes.
        predicted: The class of the greatest probability, likewise.
        correct: The target of that class.
        patterns: The inputs' 16 bits, for the calibration by value; 0 for both zeros.
        sweep: For each gamma (once where there are none) the summands of its sums, in their order.
        groups: The group ids, [rows, columns], int64 or the bits of an unsigned one.
        ids: The rows' ids, [rows], if any: uint64 only if theirs are.
    """

    first: int
    losses: Float64Array
    inputs: Float64Array
    targets: Float64Array
    weight: Float64Array | None = None
    kept: BoolArray | None = None
    baseline_losses: Float64Array | None = None
    baseline_inputs: Float64Array | None = None
    probability: Float64Array | None = None
    shares: Float64Array | None = None
    cross_entropy: Float64Array | None = None
    classes: Int64Array | None = None
    predicted: Float64Array | None = None
    correct: Float64Array | None = None
    patterns: Int64Array | None = None
    sweep: Iterable[Sequence[Float64Array]] = ()
    groups: Int64Array | None = None
    ids: Ids | None = None


def reduce_part(layout: Layout, share: Divisor | None, rows: Rows) -> Partial:
    """Return the figures of some rows.

    Args:
        layout: The figures.
        share: What a row's share of the divisor is; None for 1.
        rows: The rows, at least one.
    """
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        return _Reduction(layout, share, rows).partial()


class _Reduction:
    """The figures of some rows, section by section."""

    def __init__(self, layout: Layout, share: Divisor | None, rows: Rows) -> None:
        self._layout: Final = layout
        self._rows: Final = rows
        count, size = rows.losses.shape
        self._kept: Final = np.ones((count, size), bool) if rows.kept is None else rows.kept
        self._kept_rows: Final[BoolArray] = np.asarray(self._kept.any(1))
        self._classes: Final = _classes(layout, size) if rows.classes is None else rows.classes
        self._figures: Final = Figures(layout, rows.groups)
        self._lists: dict[str, Entries] = {}
        self._counts: Final = self._kept.sum(1).astype(np.float64)
        self._divisors: Final = self._shares(share)

    def partial(self) -> Partial:
        """Return the figures."""
        sections, rows = self._layout.spec.sections, self._rows
        sums, losses = rounded_sums(rows.losses), rows.losses
        self._totals(sums)
        if "top" in sections:
            self._top(self._row_losses(sums))
        if "histogram" in sections:
            self._histogram(self._row_losses(sums))
        if "calibration" in sections:
            self._row_calibration() if self._layout.inputs.by_target else self._calibration()
        if "sweep" in sections:
            self._sweep()
        if "paired" in sections and rows.baseline_losses is not None:
            self._paired(sums, losses, rows.baseline_losses)
        return self._figures.partial(self._lists)

    def _shares(self, share: Divisor | None) -> Float64Array:
        """Return D, each row's share of the divisor."""
        if share == "positives":
            return rounded_sums(self._rows.targets)
        if share == "weight" and self._rows.weight is not None:
            return rounded_sums(self._rows.weight)
        return np.ones_like(self._counts) if share is None else self._counts

    def _row_losses(self, sums: Float64Array) -> Float64Array:
        """Return each row's loss, by which rows are listed and counted."""
        return sums / np.maximum(self._counts, 1.0) if self._layout.spec.row_mean else sums

    def _totals(self, sums: Float64Array) -> None:
        """Add what totals, classes and groups have: a name that one of them lacks is left out there."""
        add, count, rows = self._figures.add, self._figures.count, self._rows
        kept, kept_rows, losses = self._kept, self._kept_rows, self._rows.losses
        add("sum", losses, kept)
        add("positives", rows.targets, kept)
        add("element_squares", losses * losses, kept)
        add("row_squares", sums * sums, kept_rows)
        add("row_products", sums * self._divisors, kept_rows)
        add("divisor_squares", self._divisors * self._divisors, kept_rows)
        add("class_sum", losses, kept, self._classes)
        add("class_positives", rows.targets, kept, self._classes)
        if rows.weight is not None:
            add("weight", rows.weight, kept)
            add("class_weight", rows.weight, kept, self._classes)
        count("rows", np.ones_like(kept_rows))
        count("rows_dropped", ~kept_rows)
        count("count", kept)
        count("nan", kept & np.isnan(losses))
        count("infinite", kept & np.isinf(losses))
        count("class_count", kept, self._classes)

    def _top(self, losses: Float64Array) -> None:
        """List the rows and the elements with the greatest losses."""
        self._list("rows", losses, self._kept_rows, loss=losses)
        its = self._rows
        columns = {"loss": its.losses, "input": its.inputs, "target": self._listed_targets}
        if its.predicted is not None:
            columns["baseline_input"] = its.predicted
        self._list("elements", its.losses, self._kept, **columns)

    @property
    def _listed_targets(self) -> Float64Array:
        """The target of each element as lists have it: the class, of a row of classes."""
        rows = self._rows
        return rows.targets if rows.classes is None else rows.classes.astype(np.float64)

    def _histogram(self, losses: Float64Array) -> None:
        cells = cells_of(self._rows.losses)
        self._figures.count("histogram_elements", self._kept, cells)
        self._figures.count("histogram_rows", self._kept_rows, cells_of(losses))
        if self._rows.weight is not None:
            self._figures.add("histogram_weight", self._rows.weight, self._kept, cells)

    def _calibration(self) -> None:
        rows, spec, add = self._rows, self._layout.spec, self._figures.add
        p, y = rows.probability, rows.targets
        assert p is not None
        assert rows.cross_entropy is not None
        undefined = np.isnan(rows.inputs) | np.isnan(y)
        defined = self._kept & ~undefined
        miss = p - y
        add("brier", miss * miss, defined)
        add("cross_entropy", rows.cross_entropy, defined)
        self._figures.count("undefined", self._kept & undefined)
        self._figures.count("soft", defined & (y != 0.0) & (y != 1.0))
        if spec.bins:
            bins = np.minimum(np.where(defined, p * spec.bins, 0.0).astype(np.int64), spec.bins - 1)
            place = (self._classes if self._layout.calibration_classes > 1 else 0) * spec.bins + bins
            add("bin_probability", p, defined, place)
        else:
            assert rows.patterns is not None
            place = rows.patterns
        add("bin_positives", y, defined, place)
        self._figures.count("bin_count", defined, place)

    def _row_calibration(self) -> None:
        """Add what is predicted of rows of classes: of each class, and of the one that is most probable."""
        rows, bins, add = self._rows, self._layout.spec.bins, self._figures.add
        p, y, top = rows.probability, rows.shares, self._layout.calibration_classes - 1
        assert p is not None
        assert y is not None
        assert rows.cross_entropy is not None
        assert rows.correct is not None
        undefined = np.isnan(p).any(-1) | np.isnan(y).any(-1)
        defined = self._kept & ~undefined
        miss = p - y
        each = np.broadcast_to(defined[..., np.newaxis], p.shape)
        add("brier", miss * miss, each)
        add("cross_entropy", rows.cross_entropy, defined)
        self._figures.count("undefined", self._kept & undefined)
        self._figures.count("soft", defined & ((y != 0.0) & (y != 1.0)).any(-1))
        cells: list[tuple[Float64Array, Float64Array, BoolArray, Int64Array]] = []
        if top:
            cells.append((p, y, each, np.arange(top)))
        cells.append((rows.inputs, rows.correct, defined, np.array(top)))
        for scores, targets, where, classes in cells:
            bin_of = np.minimum(np.where(where, scores * bins, 0.0).astype(np.int64), bins - 1)
            place = classes * bins + bin_of
            add("bin_probability", scores, where, place)
            add("bin_positives", targets, where, place)
            self._figures.count("bin_count", where, place)

    def _sweep(self) -> None:
        field = self._layout.sums["sweep"]
        _, gammas, classes = field.shape
        for gamma, summands in enumerate(self._rows.sweep):
            for number, values in enumerate(summands):
                first = (number * gammas + gamma) * classes
                self._figures.add("sweep", values, self._kept, first + (self._classes if classes > 1 else 0))

    def _paired(self, sums: Float64Array, losses: Float64Array, baseline: Float64Array) -> None:
        add, count, kept, kept_rows = self._figures.add, self._figures.count, self._kept, self._kept_rows
        difference = losses - baseline
        outcome = _outcomes(difference)
        add("baseline", baseline, kept)
        add("pair_squares", difference * difference, kept)
        count("pair_elements", kept, outcome)
        add("class_baseline", baseline, kept, self._classes)
        add("class_pair_squares", difference * difference, kept, self._classes)
        count("class_pairs", kept, outcome * self._layout.classes + self._classes)
        baseline_sums = rounded_sums(baseline)
        by_row = sums - baseline_sums
        add("pair_row_squares", by_row * by_row, kept_rows)
        add("pair_row_products", by_row * self._divisors, kept_rows)
        add("baseline_row_squares", baseline_sums * baseline_sums, kept_rows)
        add("baseline_row_products", by_row * baseline_sums, kept_rows)
        row_losses, baseline_rows = self._row_losses(sums), self._row_losses(baseline_sums)
        row_difference = row_losses - baseline_rows
        count("pair_rows", kept_rows, _outcomes(row_difference))
        if self._layout.spec.top:
            self._paired_top("rows", row_difference, kept_rows, loss=row_losses, baseline=baseline_rows)
            inputs = self._rows.baseline_inputs
            assert inputs is not None
            self._paired_top(
                "elements",
                difference,
                kept,
                loss=losses,
                baseline=baseline,
                input=self._rows.inputs,
                baseline_input=inputs,
                target=self._listed_targets,
            )

    def _paired_top(
        self, what: str, difference: Float64Array, kept: BoolArray, **columns: Float64Array
    ) -> None:
        """List what is worst and what is best against the baseline."""
        self._list(f"worse_{what}", difference, kept & (difference > 0.0), **columns)
        self._list(f"better_{what}", -difference, kept & (difference < 0.0), **columns)

    def _list(self, name: str, key: Float64Array, kept: BoolArray, **columns: Float64Array) -> None:
        """List the rows ([rows]) or elements ([rows, n]) with the greatest keys."""
        where = np.nonzero(kept)
        entries = np.zeros(len(where[0]), ENTRY)
        for column, values in {"key": key, **columns}.items():
            entries[column] = canonical(values[where])
        entries["row"] = self._rows.first + where[0]
        if len(where) > 1:
            entries["position"] = where[1]
        ids = self._rows.ids
        if ids is not None:
            entries["id"] = ids[where[0]].view(np.int64)
        unsigned = ids is not None and ids.dtype == np.uint64
        top = TopList(self._layout.spec.top, by_id=ids is not None, unsigned=unsigned)
        top.keep(entries)
        self._lists[name] = top.entries


def cells_of(losses: Float64Array) -> Int64Array:
    """Return each loss's cell of a histogram: its upper 16 bits; zero, infinite and NaN apart."""
    bits = np.ascontiguousarray(losses).view(np.uint64) >> np.uint64(48)
    special = [losses == 0.0, np.isinf(losses), np.isnan(losses)]
    return np.select(special, [HISTOGRAM_BINS + i for i in range(3)], bits.astype(np.int64))


def canonical(values: Float64Array) -> Float64Array:
    """Return the numbers with one NaN, and no -0."""
    return np.where(np.isnan(values), np.nan, values + 0.0)


def _classes(layout: Layout, size: int) -> Int64Array:
    """Return the class of each element of a row, [size]; 0 without classes."""
    axis, shape = layout.inputs.class_axis, layout.inputs.shape
    if axis is None:
        return np.zeros(size, np.int64)
    inner = int(np.prod(shape[axis + 1 :], dtype=np.int64))
    return np.arange(size) // max(1, inner) % shape[axis]


def _outcomes(difference: Float64Array) -> Int64Array:
    """Return 0 for better, 1 for worse, 2 for equal, 3 for undefined: the order of `PAIR_COUNTS`."""
    return np.select([difference < 0.0, difference > 0.0, difference == 0.0], [0, 1, 2], 3).astype(np.int64)
