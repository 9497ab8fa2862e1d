"""Results of batches merged as they come, in memory that does not grow with their number."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.parameters import LOSSES, OPTIONS
from lossd_client._exact_sum import ExactSum
from lossd_client._http.problems import empty_mean
from lossd_client.rate_limit import RateLimit
from lossd_client.report import Report, ReportMerger
from lossd_client.report._merging.difference import difference

_COMMON = ("loss_name", "reduction", "params", "options")  # equal in results that are merged
_SUMS = ("sum", "weight_sum", "positives")
_KEPT = ("request_id", "kernel", "device", "version")  # kept if equal in all results


@dataclass(frozen=True, eq=False, slots=True)
class Figures:
    """The fields of a `LossResult`, which describes them."""

    loss: float | NDArray[np.float64]
    sum: float
    count: int
    weight_sum: float
    positives: float
    reduction: str
    params: Mapping[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    timing: Mapping[str, float] = field(default_factory=dict)
    loss_name: str = ""
    shape: tuple[int, ...] = ()
    kernel: str | None = None
    device: str | None = None
    version: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sum_terms: tuple[float, ...] = ()
    weight_sum_terms: tuple[float, ...] = ()
    positives_terms: tuple[float, ...] = ()
    loss_terms: tuple[NDArray[np.float64], ...] | None = None
    divisor_terms: tuple[NDArray[np.float64], ...] | None = None
    report: Report | None = None
    rate_limit: RateLimit | None = None

    @property
    def normalizer(self) -> Any:  # noqa: ANN401 - a word or a number
        """What a mean divides by."""
        return self.options.get("normalizer", "count")

    @property
    def losses_shape(self) -> tuple[int, ...]:
        """The shape of the losses before any were reduced; `axis` counts its axes."""
        loss = LOSSES.get(self.loss_name)
        return self.shape if loss is None else loss.losses_shape({**self.params, **self.options}, self.shape)


FiguresT = TypeVar("FiguresT", bound=Figures)


class _ExactArray:
    """An array of exact sums."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._sums = [ExactSum() for _ in range(math.prod(shape))]

    def add(self, planes: Sequence[NDArray[np.float64]]) -> None:
        """Add arrays."""
        for plane in planes:
            if plane.shape != self._shape:
                raise ValueError(f"losses of shapes {self._shape} and {plane.shape} cannot be added")
            for each, number in zip(self._sums, plane.reshape(-1).tolist(), strict=True):
                each.add([number])

    @property
    def terms(self) -> tuple[NDArray[np.float64], ...]:
        """Arrays that add up to the sums exactly."""
        terms = [each.terms for each in self._sums]
        planes = np.zeros((max(map(len, terms), default=1), len(terms)))
        for place, numbers in enumerate(terms):
            planes[: len(numbers), place] = numbers
        return tuple(planes.reshape(-1, *self._shape))


class Merger(Generic[FiguresT]):
    """Merges results one by one; see `LossResult.merge`."""

    def __init__(self) -> None:
        self._first: FiguresT | None = None
        self._join = ""  # "scalar", "rows" or "places"
        self._sums = {name: ExactSum() for name in _SUMS}
        self._places: dict[str, _ExactArray] = {}
        self._count = 0
        self._rows = 0
        self._same_rows = True
        self._number = 0
        self._timing: dict[str, float] = {}
        self._kept: dict[str, Any] = {}
        self._notes: dict[str, None] = {}
        self._losses: list[NDArray[np.float64]] = []
        self._reports: ReportMerger | None = None
        self._empty_report: Report | None = None
        self._rate_limit: RateLimit | None = None

    def add(self, result: FiguresT) -> None:
        """Add one result.

        Raises:
            ValueError: It is unlike those before it, or cannot be merged with any.
        """
        if self._first is None:
            self._join = _how_to_join(result)
            self._first = result
            self._kept = {name: getattr(result, name) for name in _KEPT}
            if self._join == "places":
                self._places = {name: _ExactArray(np.shape(result.loss)) for name in _planes(result)}
        else:
            _refuse_unlike(self._first, result)
            _refuse_joining(result)
        for name, kept in self._kept.items():
            if getattr(result, name) != kept:
                self._kept[name] = None
        if result.report is not None:
            self._add_report(result.report, is_empty=result.shape[:1] == (0,))
        for stage, milliseconds in result.timing.items():
            self._timing[stage] = self._timing.get(stage, 0.0) + milliseconds
        self._notes |= dict.fromkeys(result.notes)
        self._rate_limit = result.rate_limit
        self._number += 1
        self._count += result.count
        for name, exact in self._sums.items():
            exact.add(getattr(result, f"{name}_terms") or [getattr(result, name)])
        self._rows += result.shape[0] if result.shape else 0
        self._same_rows &= bool(result.shape) and result.shape[1:] == self._first.shape[1:]
        if self._join == "rows":
            self._add_rows(np.asarray(result.loss, dtype=np.float64))
        elif self._join == "places":
            planes = _planes(result)
            self._places = {name: places for name, places in self._places.items() if name in planes}
            for name, places in self._places.items():
                places.add(planes[name])

    def _add_report(self, report: Report, *, is_empty: bool) -> None:
        if is_empty:  # an empty list of groups or ids does not show whether they are strings
            self._empty_report = report
            return
        if self._reports is None:
            self._reports = ReportMerger()
        self._reports.add(report)

    def _add_rows(self, losses: NDArray[np.float64]) -> None:
        if self._losses and self._losses[0].shape[1:] != losses.shape[1:]:
            raise ValueError(
                f"losses of shapes {self._losses[0].shape} and {losses.shape} cannot be joined row after row"
            )
        self._losses.append(losses)

    def result(self) -> FiguresT:
        """Return the result of all that was added.

        Raises:
            ValueError: That is nothing.
            InvalidRequest: It is a mean over nothing.
        """
        first = self._first
        if first is None:
            raise ValueError("there are no results to merge")
        if self._number == 1:
            return first
        sums: dict[str, Any] = {f"{name}_terms": exact.terms for name, exact in self._sums.items()}
        places: dict[str, Any] = {name: exact.terms for name, exact in self._places.items()}
        if not _divides_by_number(first):
            places.setdefault("divisor_terms", None)  # not all gave them
        merged = replace(
            first,
            **{name: sums[f"{name}_terms"][0] for name in _SUMS},
            **sums,
            **places,
            count=self._count,
            timing=self._timing,
            notes=(*self._notes, *(() if self._reports is None else self._reports.notes)),
            shape=(self._rows, *first.shape[1:]) if self._same_rows else (),
            report=self._empty_report if self._reports is None else self._reports.result(),
            rate_limit=self._rate_limit,
            **self._kept,
        )
        return replace(merged, loss=np.concatenate(self._losses) if self._losses else reduced(merged))


def reduced(figures: Figures) -> float | NDArray[np.float64]:
    """Return the loss that figures make: the sum, the mean, or the losses of rows as they are.

    Raises:
        ValueError: What a mean is divided by is not known.
        InvalidRequest: It is zero.
    """
    loss = figures.loss
    if not isinstance(loss, np.ndarray):
        return _mean_of(figures) if figures.reduction == "mean" else figures.sum
    if _how_to_join(figures) == "rows":
        return loss
    sums = loss if figures.loss_terms is None else figures.loss_terms[0]
    if figures.reduction != "mean":
        return sums
    if _divides_by_number(figures):
        return np.asarray(sums / figures.normalizer)
    if figures.divisor_terms is None:
        raise _without_terms(figures)
    divisors = figures.divisor_terms[0]
    if figures.normalizer == "positives":
        divisors = np.maximum(divisors, 1.0)
    if (divisors == 0).any():
        place = np.argwhere(divisors == 0)[0].tolist()
        raise empty_mean(f"the mean of output {place}", figures.request_id)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(sums / divisors)


def as_mean(sums: FiguresT) -> FiguresT:
    """Return the mean that sums over rows make.

    Raises:
        ValueError: They are not over rows, or the divisors are not known.
        InvalidRequest: It is a mean over nothing, code "empty_mean".
    """
    if _how_to_join(sums) == "rows":
        raise ValueError("these are losses of rows; a mean needs sums over rows, as of reduction='sum'")
    mean = replace(sums, reduction="mean")
    return replace(mean, loss=reduced(mean))


def _mean_of(figures: Figures) -> float:
    """Return the sum divided by the normalizer's divisor.

    Raises:
        InvalidRequest: That is zero.
    """
    divisor = {
        "count": float(figures.count),
        "weight": figures.weight_sum,
        "positives": max(figures.positives, 1.0),
    }.get(figures.normalizer, figures.normalizer)
    if divisor == 0:
        raise empty_mean("the mean", figures.request_id)
    return float(figures.sum / divisor)


def _axes(result: Figures) -> Sequence[int] | None:
    axis = result.options.get("axis")
    if axis is None:
        return None
    axes = axis if isinstance(axis, list | tuple) else [axis]
    dimensions = len(result.losses_shape)
    return [one % dimensions if dimensions else one for one in axes]


def _divides_by_number(result: Figures) -> bool:
    return isinstance(result.normalizer, int | float)


def _how_to_join(result: Figures) -> str:
    axes = _axes(result)
    if not isinstance(result.loss, np.ndarray):
        return "scalar"
    if result.loss_terms is not None:
        return "places"
    return "rows" if result.reduction == "none" or (axes is not None and 0 not in axes) else "places"


def _planes(result: Figures) -> dict[str, Sequence[NDArray[np.float64]]]:
    """Return the terms of the sums over rows, and of their divisors.

    Raises:
        ValueError: The result is a mean and does not hold them.
    """
    losses, divisors = result.loss_terms, result.divisor_terms
    if _divides_by_number(result):
        divisors = None
    elif result.reduction == "mean" and divisors is None:
        raise _without_terms(result)
    if losses is None:
        if result.reduction == "mean":
            raise _without_terms(result)
        losses = (np.asarray(result.loss, dtype=np.float64),)  # of an older server
    return {"loss_terms": losses, **({} if divisors is None else {"divisor_terms": divisors})}


def _without_terms(result: Figures) -> ValueError:
    return ValueError(
        f"means over axis={result.options.get('axis')} of batches need the terms of their sums and divisors, "
        "which this server does not give; score_stream gives such means"
    )


def _refuse_joining(result: Figures) -> None:
    if result.loss_name in LOSSES:
        LOSSES[result.loss_name].refuse_joining(result.params, "results")


def _refuse_unlike(first: Figures, other: Figures) -> None:
    for name in _COMMON:
        mine, its = getattr(first, name), getattr(other, name)
        dimensions = len(first.shape) or len(other.shape)  # a merged result may know none
        others = len(other.shape) or dimensions
        form = _same_form(name, mine, first, dimensions)
        if form == _same_form(name, its, first, others):
            continue
        if form == _same_form(name, its, first, dimensions):
            raise ValueError(f"results of inputs of {dimensions} and of {others} dimensions cannot be merged")
        raise ValueError(f"results of different {name} cannot be merged: {difference(mine, its)}")
    if isinstance(first.loss, np.ndarray) != isinstance(other.loss, np.ndarray):
        raise ValueError("a number and an array cannot be merged")
    if (first.report is None) != (other.report is None):
        raise ValueError(
            "a result with a report and one without cannot be merged: ask for one of all, or none"
        )


def _same_form(name: str, value: Any, result: Figures, dimensions: int) -> Any:  # noqa: ANN401 - any JSON value
    """Return one form for values that mean the same: 0 and [0], -1 and the last axis.

    Args:
        name: The field.
        value: Its value.
        result: A result of the loss.
        dimensions: Those of the inputs; 0 if they are not known.
    """
    if name == "options":
        value = {**OPTIONS, **value}
    if not isinstance(value, Mapping):
        return value
    plain = {each: _plain_form(item) for each, item in value.items()}
    if name == "options" and dimensions:
        plain["class_axis"] %= dimensions
        if plain["axis"] is not None:
            axes = plain["axis"] if isinstance(plain["axis"], tuple) else (plain["axis"],)
            losses = len(replace(result, shape=(1,) * dimensions).losses_shape) or 1
            reduced = frozenset(axis % losses for axis in axes)
            plain["axis"] = reduced if len(reduced) < losses else None
    return plain


def _plain_form(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, one that compares out
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        items = tuple(_plain_form(item) for item in value)
        return items[0] if len(items) == 1 else items
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return value
