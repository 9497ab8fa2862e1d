"""Where each figure of a report stands among the numbers of a partial report.

A partial report holds sums and counts, both as (index, number) pairs. The index of a figure follows from the
request alone. Figures over all rows come first, those of groups behind them: sum i of group g has the index
``sums.width + g * group_sums.width + i``, and so have the counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from lossd.core.report.spec import ReportSpec

HISTOGRAM_BINS: Final = 1 << 16
"""A bin for each sign, exponent and first four bits of fraction of a float64."""
HISTOGRAM_CELLS: Final = HISTOGRAM_BINS + 3
"""Behind the bins: zero, infinite, NaN."""
EXACT_BINS: Final = 1 << 16
"""A bin for each value of 16 bits."""
MOST_CLASS_BINS: Final = 1 << 18
"""The most bins, of all classes, in which the calibration of rows of classes is kept by class. With more, the
top class's is kept alone, whatever a server allows: where a figure stands follows from the request."""
MOST_TERMS: Final = 41
"""Float64 numbers that hold any sum exactly."""

PAIR_COUNTS: Final = ("better", "worse", "equal", "undefined")
"""How an element or a row compares with the baseline's, in the order of their counts."""
PAIR_SUMS: Final = (
    *("baseline", "pair_squares", "pair_row_squares", "pair_row_products"),
    *("baseline_row_squares", "baseline_row_products"),
)
"""The sums of pairs, over all rows or those of a group."""
LISTS: Final = (
    "rows",
    "elements",
    "worse_rows",
    "worse_elements",
    "better_rows",
    "better_elements",
)
"""The lists of a report, in the order in which a partial report holds them."""


class Field(NamedTuple):
    """A figure, or an array of them.

    Attributes:
        start: The index of the first.
        shape: Its shape; () for one figure.
    """

    start: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of figures."""
        return math.prod(self.shape)


class Block:
    """Fields one behind the other, by name."""

    def __init__(self) -> None:
        self.fields: Final[dict[str, Field]] = {}
        self.width = 0

    def add(self, name: str, *shape: int) -> None:
        """Add a field."""
        field = Field(self.width, shape)
        self.fields[name] = field
        self.width += field.size

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def __getitem__(self, name: str) -> Field:
        return self.fields[name]

    def start(self, name: str) -> int:
        """Return the index of a field's first figure; -1 if it is not there."""
        return self.fields[name].start if name in self.fields else -1


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a layout needs to know of a request besides its report.

    Attributes:
        variant: The variant of focal loss; empty for other losses.
        shape: The losses' shape.
        class_axis: Their axis along which the classes lie; None if there is none, or if it is axis 0.
        classes: The number of classes; 0 if losses are of none.
        by_target: Whether a loss is of a row of classes, and of its target's class.
        weighted: Whether there are weights.
        by_count: Whether a mean divides by the count of elements.
        group_columns: The number of columns of group ids.
    """

    variant: str
    shape: tuple[int, ...]
    class_axis: int | None
    classes: int
    by_target: bool
    weighted: bool
    by_count: bool
    group_columns: int

    @property
    def has_classes(self) -> bool:
        """Whether each loss is of a class."""
        return self.by_target or self.class_axis is not None


def keeps_classes(classes: int, bins: int) -> bool:
    """Return whether the calibration of rows of so many classes is kept for each class, too."""
    return (classes + 1) * bins <= MOST_CLASS_BINS


class Layout:
    """The figures of a partial report.

    Attributes:
        spec: What is asked.
        inputs: What is known of the request.
        sums: The sums over all rows. Single ones stand before arrays: the first `single_sums`.
        counts: The counts over all rows.
        group_sums: The sums of a group.
        group_counts: The counts of a group.
        by_class: Whether there are figures by class.
        classes: The number of classes if there are figures by class, else 0.
        calibration_classes: The number of classes whose calibration is kept apart; 1 for all together. Where
            losses are of rows of classes, the top class's is one more, the last; or the only one, where
            there are too many for all.

    Args:
        spec: What is asked.
        inputs: What is known of the request.
    """

    def __init__(self, spec: ReportSpec, inputs: Inputs) -> None:
        self.spec: Final = spec
        self.inputs: Final = inputs
        self.by_class: Final = inputs.has_classes and "classes" in spec.sections
        self.classes: Final = inputs.classes if self.by_class else 0
        by_class = inputs.has_classes and spec.bins > 0
        if inputs.by_target:
            by_class = keeps_classes(inputs.classes, spec.bins)
        self.calibration_classes: Final = inputs.classes + inputs.by_target if by_class else 1
        self.sums, self.counts = Block(), Block()
        self._add_single_sums()
        self.single_sums: Final = self.sums.width
        self._add_arrays()
        self._add_counts()
        self.group_sums, self.group_counts = Block(), Block()
        if "groups" in spec.sections:
            self._add_groups()

    @property
    def by_group(self) -> bool:
        """Whether there are figures by group."""
        return self.group_sums.width > 0

    @property
    def brackets(self) -> int:
        """The number of sums of the sweep for each gamma; see docs/explanations/numerics.md."""
        if not self.spec.gammas:
            return 2
        return 1 if self.inputs.variant == "exp" else 4

    @property
    def cells(self) -> dict[str, int]:
        """How many cells each section has whose number depends on the classes, by section; groups apart."""
        spec, found = self.spec, {}
        if self.by_class:
            found["classes"] = self.classes
        if "calibration" in spec.sections and spec.bins:
            found["calibration"] = self.calibration_classes * spec.bins
        if "sweep" in spec.sections:
            found["sweep"] = max(1, self.classes) * max(1, len(spec.gammas)) * self.brackets
        return found

    def most_bytes(self, rows: int, elements: int) -> int:
        """Return the most bytes that a partial report over so many whole rows takes."""
        sums = MOST_TERMS * self.single_sums
        for name, field in self.sums.fields.items():
            if field.start >= self.single_sums:
                sums += min(MOST_TERMS * field.size, elements * self._by_element(name, field) + field.size)
        groups = min(rows, elements) if self.by_group else 0
        for field in self.group_sums.fields.values():
            sums += min(MOST_TERMS * groups * field.size, elements + groups * field.size)
        counts = sum(
            min(field.size, elements * self._by_element(name, field) + 1)
            for name, field in self.counts.fields.items()
        )
        counts += groups * self.group_counts.width
        columns = self.inputs.group_columns
        listed = 2 * min(self.spec.top, elements) * (3 if "paired" in self.spec.sections else 1)
        return 8 * HEADER_NUMBERS + 16 * (sums + counts) + 8 * columns * groups + ENTRY_BYTES * listed

    def _by_element(self, name: str, field: Field) -> int:
        """Return the most figures of a name that a loss adds to."""
        if name == "sweep":
            return field.size // max(1, self.classes)
        return self.calibration_classes if self.inputs.by_target and name.startswith("bin_") else 1

    def _add_single_sums(self) -> None:
        spec, sums = self.spec, self.sums
        for name in ("row_squares", "row_products", "divisor_squares"):
            sums.add(name)
        if self.inputs.by_count:
            sums.add("element_squares")
        if "calibration" in spec.sections:
            sums.add("brier")
            sums.add("cross_entropy")
        if "paired" in spec.sections:
            for name in PAIR_SUMS:
                sums.add(name)
        if "sweep" in spec.sections and not self.by_class:
            sums.add("sweep", self.brackets, max(1, len(spec.gammas)), 1)

    def _add_arrays(self) -> None:
        spec, sums, classes = self.spec, self.sums, self.classes
        if "sweep" in spec.sections and self.by_class:
            sums.add("sweep", self.brackets, max(1, len(spec.gammas)), classes)
        if self.by_class:
            self._add_class_sums(sums)
        if "histogram" in spec.sections and self.inputs.weighted:
            sums.add("histogram_weight", HISTOGRAM_CELLS)
        if "calibration" in spec.sections:
            sums.add("bin_positives", *self._bins)
            if spec.bins:
                sums.add("bin_probability", *self._bins)

    def _add_counts(self) -> None:
        spec, counts = self.spec, self.counts
        for name in ("rows_dropped", "nan", "infinite"):
            counts.add(name)
        if self.by_class:
            self._add_class_counts(counts)
        if "histogram" in spec.sections:
            counts.add("histogram_elements", HISTOGRAM_CELLS)
            counts.add("histogram_rows", HISTOGRAM_CELLS)
        if "calibration" in spec.sections:
            counts.add("soft")
            counts.add("undefined")
            counts.add("bin_count", *self._bins)
        if "paired" in spec.sections:
            counts.add("pair_elements", len(PAIR_COUNTS))
            counts.add("pair_rows", len(PAIR_COUNTS))

    @property
    def _bins(self) -> tuple[int, int]:
        return self.calibration_classes, self.spec.bins or EXACT_BINS

    def _add_groups(self) -> None:
        sums, counts, paired = self.group_sums, self.group_counts, "paired" in self.spec.sections
        for name in ("sum", "positives", "row_squares", "row_products", "divisor_squares"):
            sums.add(name)
        if self.inputs.weighted:
            sums.add("weight")
        if self.inputs.by_count:
            sums.add("element_squares")
        if paired:
            for name in PAIR_SUMS:
                sums.add(name)
        for name in ("rows", "rows_dropped", "count", "nan", "infinite"):
            counts.add(name)
        if paired:
            counts.add("pair_elements", len(PAIR_COUNTS))
            counts.add("pair_rows", len(PAIR_COUNTS))
        if self.by_class:
            self._add_class_sums(sums, paired=False)
            self._add_class_counts(counts, paired=False)

    def _add_class_sums(self, sums: Block, *, paired: bool = True) -> None:
        sums.add("class_sum", self.classes)
        sums.add("class_positives", self.classes)
        if self.inputs.weighted:
            sums.add("class_weight", self.classes)
        if paired and "paired" in self.spec.sections:
            sums.add("class_baseline", self.classes)
            sums.add("class_pair_squares", self.classes)

    def _add_class_counts(self, counts: Block, *, paired: bool = True) -> None:
        counts.add("class_count", self.classes)
        if paired and "paired" in self.spec.sections:
            counts.add("class_pairs", len(PAIR_COUNTS), self.classes)


HEADER_NUMBERS: Final = 4 + len(LISTS)
"""Whole numbers at a partial report's beginning: how many sums, counts, groups, group columns, and entries of
each list there are."""
ENTRY_BYTES: Final = 72
"""Bytes of an entry of a list; see `lossd.core.report.partial.ENTRY`."""
