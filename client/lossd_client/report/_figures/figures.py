"""The figures of all rows, of a group and of a class."""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from lossd_client._exact_sum import ExactSum
from lossd_client.report._figures.block import Block, Part
from lossd_client.report._figures.stderr import ONE, UNSCALED, of_integer, ratio_stderr
from lossd_client.report._figures.student import t_quantile


def normalizer_of(params: Mapping[str, Any]) -> str | float:
    """Return what a mean divides by: "count", "weight", "positives" or a number."""
    found: str | float = params.get("normalizer", "count")
    return found


def mean_of(total: float, part: Part, params: Mapping[str, Any]) -> float:
    """Return a rounded sum divided by the part's divisor, as the server divides; NaN over nothing."""
    divisor = _divisor(part, normalizer_of(params))
    return total / divisor if divisor else math.nan


def _divisor(part: Part, normalizer: str | float) -> float:
    if normalizer == "count":
        return float(part.count("count"))
    if normalizer == "weight":
        return part.value("weight_sum")
    if normalizer == "positives":
        return max(part.value("positives"), 1.0)
    return float(normalizer)


def ranks(
    block: Block, params: Mapping[str, Any], added: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray
) -> NDArray[np.float64]:
    """Return a number for each place of a block, by which the worst are found fast: its mean, nearly.

    It is infinite where the mean is NaN, and minus infinite where there is nothing.

    Args:
        block: The block.
        params: The parameters of the loss.
        added: Adds up the numbers of places that are one here.
    """
    normalizer = normalizer_of(params)
    with np.errstate(all="ignore"):
        sums = added(block.terms("sum")[0])
        if normalizer == "count":
            divisors = added(block.counts("count")).astype(np.float64)
        elif normalizer == "weight":
            divisors = added(block.terms("weight_sum")[0])
        elif normalizer == "positives":
            divisors = np.maximum(added(block.terms("positives")[0]), 1.0)
        else:
            divisors = np.full(sums.shape, float(normalizer))
        means = np.where(divisors == 0, -np.inf, sums / divisors)
    return np.where(np.isnan(means), np.inf, means)


def worst_first(ranks: NDArray[np.float64], most: int) -> list[int]:
    """Return the places of the greatest, in flat order; of equal ones the first comes first."""
    found: list[int] = np.argsort(-ranks.ravel(), kind="stable")[:most].tolist()
    return found


def shares(part: Part, normalizer: str | float) -> ExactSum:
    """Return the sum of the rows' shares of the divisor: for a number, 1 a row that is not dropped."""
    if normalizer == "count":
        return of_integer(part.count("count"))
    if normalizer == "weight":
        return part.sum("weight_sum")
    if normalizer == "positives":
        return part.sum("positives")
    return of_integer(kept_rows(part))


def whole_divisor(part: Part, normalizer: str | float) -> ExactSum:
    """Return the same for the part that a mean is of: positives are at least 1."""
    found = shares(part, normalizer)
    return of_integer(1) if normalizer == "positives" and found.units < ONE else found


def kept_rows(part: Part) -> int:
    """Return the number of rows that are not dropped."""
    return part.count("rows") - part.count("rows_dropped")


def scale(part: Part, normalizer: str | float) -> Fraction:
    """Return what the ratio of the rows' sums is multiplied with: a number divides the sum, not the rows."""
    return UNSCALED if isinstance(normalizer, str) else kept_rows(part) / Fraction(normalizer)


def interval(mean: float, stderr: float, n: int, level: float) -> tuple[float, float]:
    """Return the interval of Student's t about a mean.

    Raises:
        ValueError: The level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval is between 0 and 1, such as 0.95, and is {level}")
    if n < 2 or math.isnan(stderr):
        return math.nan, math.nan
    quantile = min((1 + level) / 2, math.nextafter(1.0, 0.0))  # rounded, a level near 1 would be 1
    half = t_quantile(quantile, n - 1) * stderr
    return mean - half, mean + half


class Figures:
    """The sums of a part of the elements, and their mean."""

    def __init__(self, part: Part, params: Mapping[str, Any]) -> None:
        self._part = part
        self._params = params

    @property
    def count(self) -> int:
        """The number of elements scored."""
        return self._part.count("count")

    @property
    def sum(self) -> float:
        """The weighted losses summed."""
        return self._part.value("sum")

    @property
    def weight_sum(self) -> float:
        """The weights summed; the count where there are none."""
        return self._part.value("weight_sum")

    @property
    def positives(self) -> float:
        """The targets summed, unweighted."""
        return self._part.value("positives")

    @property
    def mean(self) -> float:
        """The sum divided as the parameter `normalizer` says; NaN over nothing."""
        return mean_of(self.sum, self._part, self._params)

    @property
    def exact_sum(self) -> ExactSum:
        """The weighted losses summed, exactly."""
        return self._part.sum("sum")

    def _divided(self, total: float) -> float:
        """Return another sum divided as the mean is; NaN over nothing."""
        return mean_of(total, self._part, self._params)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} mean={self.mean!r}, sum={self.sum!r}, count={self.count}>"


class RowFigures(Figures):
    """The sums of a part of the rows, their mean, and how sure it is.

    The standard error takes rows to be independent, and their elements not. The mean is a ratio of two
    sums over rows; its standard error is the ratio estimator's, which is a little too small for fewer than
    some 100 rows.
    """

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self._part.count("rows")

    @property
    def rows_dropped(self) -> int:
        """The number of rows of which every element was dropped."""
        return self._part.count("rows_dropped")

    @property
    def rows_kept(self) -> int:
        """The number of the others."""
        return kept_rows(self._part)

    @property
    def elements(self) -> int:
        """The number of elements, dropped ones included."""
        return self._part.count("elements")

    @property
    def dropped(self) -> int:
        """The number of elements that a mask, an ignore_index or a gap left out."""
        return self._part.count("dropped")

    @property
    def nan(self) -> int:
        """The number of elements scored whose loss is NaN."""
        return self._part.count("nan")

    @property
    def infinite(self) -> int:
        """The number of elements scored whose loss is infinite."""
        return self._part.count("infinite")

    @property
    def stderr(self) -> float:
        """The standard error of the mean, by rows; NaN for fewer than two."""
        part, normalizer = self._part, normalizer_of(self._params)
        return ratio_stderr(
            part.sum("row_squares"),
            part.sum("row_products"),
            part.sum("divisor_squares"),
            part.sum("sum"),
            whole_divisor(part, normalizer),
            kept_rows(part),
            scale(part, normalizer),
        )

    @property
    def stderr_by_element(self) -> float:
        """The standard error of the mean if all elements were independent, also those of one row.

        Raises:
            ValueError: The normalizer is not "count".
        """
        part, normalizer = self._part, normalizer_of(self._params)
        if normalizer != "count":
            raise ValueError(
                "by element there is a standard error under normalizer='count' alone, and this report has "
                f"{normalizer!r}; use stderr, which is by row"
            )
        count, total = part.count("count"), part.sum("sum")
        n = of_integer(count)
        return ratio_stderr(part.sum("element_squares"), total, n, total, n, count)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean, by rows and Student's t.

        Raises:
            ValueError: The level is not between 0 and 1.
        """
        return interval(self.mean, self.stderr, kept_rows(self._part), level)


class ClassFigures(Figures):
    """The figures of one class.

    Attributes:
        index: The class, from 0.
    """

    def __init__(self, part: Part, params: Mapping[str, Any], index: int) -> None:
        super().__init__(part, params)
        self.index = index


def worse_first(figures: Figures) -> tuple[bool, float]:
    """Return a key that sorts by the mean, the greatest first: NaN before all, nothing after all."""
    mean = figures.mean
    if math.isnan(mean):
        return (True, 0.0) if math.isnan(figures._divided(0.0)) else (False, -math.inf)
    return False, -mean


class Classes(Sequence[ClassFigures]):
    """The figures of every class, by its place along the class axis."""

    def __init__(self, part: Part, params: Mapping[str, Any]) -> None:
        self._part = part
        self._params = params

    def __len__(self) -> int:
        return int(self._part.block.counts("count").shape[-1])

    def worst(self, most: int) -> list[ClassFigures]:
        """Return the classes of the greatest means, the greatest first; those without elements are last."""
        found = [self[place] for place in worst_first(ranks(self._part.block, self._params), most)]
        return sorted(found, key=worse_first)

    @overload
    def __getitem__(self, index: int) -> ClassFigures: ...
    @overload
    def __getitem__(self, index: slice) -> list[ClassFigures]: ...
    def __getitem__(self, index: int | slice) -> ClassFigures | list[ClassFigures]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        place = class_place(index, len(self))
        return ClassFigures(self._part.at(place), self._params, place)


def class_place(index: int, classes: int) -> int:
    """Return the place of a class; negative ones count from the last.

    Raises:
        IndexError: There is no such class.
    """
    if not -classes <= index < classes:
        raise IndexError(f"there is no class {index}; there are {classes}, from 0")
    return index % classes
