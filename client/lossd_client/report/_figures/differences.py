"""The differences of losses from those of another model, the baseline."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, overload

from lossd_client._exact_sum import ExactSum
from lossd_client.report._figures.block import Part
from lossd_client.report._figures.figures import (
    class_place,
    interval,
    kept_rows,
    mean_of,
    normalizer_of,
    scale,
    whole_divisor,
)
from lossd_client.report._figures.stderr import difference, quotient, ratio_stderr


class Signs:
    """How often the loss is less than the baseline's, more, equal, and how often one of them is NaN."""

    def __init__(self, part: Part) -> None:
        self._part = part

    @property
    def better(self) -> int:
        """How often the loss is less."""
        return self._part.count("better")

    @property
    def worse(self) -> int:
        """How often the loss is greater."""
        return self._part.count("worse")

    @property
    def equal(self) -> int:
        """How often both are equal."""
        return self._part.count("equal")

    @property
    def undefined(self) -> int:
        """How often the difference is NaN."""
        return self._part.count("undefined")


class Difference(Signs):
    """The differences of losses, the baseline's subtracted; `better` and the like count elements.

    Args:
        part: The differences.
        whole: The losses, with their counts and weights.
        params: The parameters.
    """

    def __init__(self, part: Part, whole: Part, params: Mapping[str, Any]) -> None:
        super().__init__(part)
        self._whole = whole
        self._params = params

    @property
    def sum(self) -> float:
        """The differences summed."""
        return self.exact_sum.value

    @property
    def exact_sum(self) -> ExactSum:
        """The same, exactly."""
        return difference(self._whole.sum("sum"), self._part.sum("baseline_sum"))

    @property
    def baseline_sum(self) -> float:
        """The baseline's losses summed."""
        return self._part.value("baseline_sum")

    @property
    def mean(self) -> float:
        """The mean of loss minus baseline: below 0 where the model is better. NaN over nothing."""
        return mean_of(self.sum, self._whole, self._params)

    @property
    def new_mean(self) -> float:
        """The mean that is compared with the baseline's. NaN over nothing."""
        return mean_of(self._whole.value("sum"), self._whole, self._params)

    @property
    def baseline_mean(self) -> float:
        """The baseline's mean. NaN over nothing."""
        return mean_of(self.baseline_sum, self._whole, self._params)

    @property
    def relative(self) -> float:
        """The mean difference as a part of the baseline's mean: 0.01 is a loss that is 1 % greater."""
        return relative_change(self.exact_sum, self._part.sum("baseline_sum"))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} mean={self.mean!r}, better={self.better}, worse={self.worse}>"


class RowDifference(Difference):
    """The same, and how sure the mean is."""

    @property
    def rows(self) -> Signs:
        """How many rows are better, worse and equal."""
        return Signs(self._part.within("rows", "in paired"))

    @property
    def stderr(self) -> float:
        """The standard error of the mean difference, by rows; NaN for fewer than two."""
        rows, normalizer = self._part.within("rows", "in paired"), normalizer_of(self._params)
        return ratio_stderr(
            rows.sum("squares"),
            rows.sum("products"),
            self._whole.sum("divisor_squares"),
            self.exact_sum,
            whole_divisor(self._whole, normalizer),
            kept_rows(self._whole),
            scale(self._whole, normalizer),
        )

    @property
    def _has_baseline_squares(self) -> bool:
        """Whether the report says how the baseline's own losses vary; those of older versions do not."""
        return "baseline_squares_terms" in self._part.within("rows", "in paired").block

    @property
    def relative_stderr(self) -> float:
        """The standard error of the relative change, by rows.

        It is that of a ratio of two sums over rows, as the baseline's mean varies too. Without the squares of
        the baseline's losses, its mean is taken as known.
        """
        rows = self._part.within("rows", "in paired")
        if not self._has_baseline_squares:
            return self.stderr / self.baseline_mean if self.baseline_mean > 0 else math.nan
        return ratio_stderr(
            rows.sum("squares"),
            rows.sum("baseline_products"),
            rows.sum("baseline_squares"),
            self.exact_sum,
            self._part.sum("baseline_sum"),
            kept_rows(self._whole),
        )

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean difference, by rows and Student's t.

        Raises:
            ValueError: The level is not between 0 and 1.
        """
        return interval(self.mean, self.stderr, kept_rows(self._whole), level)


def relative_change(changed: ExactSum, baseline: ExactSum) -> float:
    """Return a difference of sums as a part of the baseline's, rounded once.

    NaN where one is not finite, or the baseline's is 0 and the difference too; infinite where it is 0 alone.
    """
    if changed.special != 0 or baseline.special != 0:
        return math.nan
    if baseline.units == 0:
        return math.nan if changed.units == 0 else math.inf if changed.units > 0 else -math.inf
    return quotient(changed.units, baseline.units)


class ClassDifferences(Sequence[Difference]):
    """The differences of every class, by its place along the class axis."""

    def __init__(self, part: Part, whole: Part, params: Mapping[str, Any]) -> None:
        self._part = part
        self._whole = whole
        self._params = params

    def __len__(self) -> int:
        return int(self._part.block.counts("better").shape[-1])

    @overload
    def __getitem__(self, index: int) -> Difference: ...
    @overload
    def __getitem__(self, index: slice) -> list[Difference]: ...
    def __getitem__(self, index: int | slice) -> Difference | list[Difference]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        place = class_place(index, len(self))
        return Difference(self._part.at(place), self._whole.at(place), self._params)
