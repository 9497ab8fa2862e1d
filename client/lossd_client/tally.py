"""Results of batches, added up as they come, in memory that does not grow with their number."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossd_client.call import OPTIONS
from lossd_client.errors import empty_mean
from lossd_client.result import LossResult

_COMMON = ("loss_name", "reduction", "params", "options")  # what results must have in common to be merged
_KEPT = ("request_id", "kernel", "device", "version")  # what stays if it is the same in all


class ExactSum:
    """A running `math.fsum`: what was added, without rounding, as few floats that do not overlap."""

    def __init__(self) -> None:
        self._partials: list[float] = []
        self._special = 0.0  # infinities and NaN, which have no exact parts

    def add(self, number: float) -> None:
        """Adds one number."""
        if not math.isfinite(number):
            self._special += number
            return
        partials, number = self._partials, float(number)
        kept = 0
        for partial in partials:
            if abs(number) < abs(partial):
                number, partial = partial, number
            high = number + partial
            if math.isinf(high):
                self._special += high
                return
            low = partial - (high - number)
            if low:
                partials[kept] = low
                kept += 1
            number = high
        partials[kept:] = [number]

    def value(self) -> float:
        """Gives the sum, rounded once."""
        return self._special if self._special != 0.0 else math.fsum(self._partials)


class Tally:
    """Adds results up; what `LossResult.merge` says of them holds here."""

    def __init__(self) -> None:
        self._first: LossResult | None = None
        self._join = ""  # "scalar", "rows" or "places"
        self._sum, self._weight_sum, self._positives = ExactSum(), ExactSum(), ExactSum()
        self._count = 0
        self._rows = 0
        self._same_rows = True
        self._number = 0
        self._timing: dict[str, float] = {}
        self._kept: dict[str, Any] = {}
        self._notes: dict[str, None] = {}
        self._losses: list[NDArray[np.float64]] = []

    def add(self, result: LossResult) -> None:
        """Adds one result.

        Raises:
            ValueError: It is unlike those before it, or cannot be merged with any.
        """
        if self._first is None:
            self._join = _how_to_join(result)
            self._first = result
            self._kept = {name: getattr(result, name) for name in _KEPT}
        else:
            _refuse_unlike(self._first, result)
        for name, kept in self._kept.items():
            if getattr(result, name) != kept:
                self._kept[name] = None
        for stage, milliseconds in result.timing.items():
            self._timing[stage] = self._timing.get(stage, 0.0) + milliseconds
        self._notes |= dict.fromkeys(result.notes)
        self._number += 1
        self._count += result.count
        self._sum.add(result.sum)
        self._weight_sum.add(result.weight_sum)
        self._positives.add(result.positives)
        self._rows += result.shape[0] if result.shape else 0
        self._same_rows &= bool(result.shape) and result.shape[1:] == self._first.shape[1:]
        if self._join == "rows":
            self._add_rows(np.asarray(result.loss, dtype=np.float64))
        elif self._join == "places":
            self._add_places(np.asarray(result.loss, dtype=np.float64))

    def _add_rows(self, losses: NDArray[np.float64]) -> None:
        if self._losses and self._losses[0].shape[1:] != losses.shape[1:]:
            raise ValueError(
                f"losses of shapes {self._losses[0].shape} and {losses.shape} cannot be joined row after row"
            )
        self._losses.append(losses)

    def _add_places(self, losses: NDArray[np.float64]) -> None:
        """Adds place by place, what is rounded off beside it (Neumaier): two arrays, however many batches."""
        if not self._losses:
            self._losses = [losses.copy(), np.zeros_like(losses)]
            return
        total, lost = self._losses
        if total.shape != losses.shape:
            raise ValueError(f"losses of shapes {total.shape} and {losses.shape} cannot be added")
        new = total + losses
        with np.errstate(invalid="ignore"):  # infinities, whose rounding is NaN
            low = np.where(np.abs(total) >= np.abs(losses), (total - new) + losses, (losses - new) + total)
        self._losses = [new, lost + np.where(np.isfinite(new), low, 0.0)]

    def result(self) -> LossResult:
        """Gives the result of all that was added.

        Raises:
            ValueError: That is nothing.
            InvalidRequest: It is a mean over nothing.
        """
        first = self._first
        if first is None:
            raise ValueError("there are no results to merge")
        if self._number == 1:
            return first
        merged = replace(
            first,
            loss=math.nan,
            sum=self._sum.value(),
            count=self._count,
            weight_sum=self._weight_sum.value(),
            positives=self._positives.value(),
            timing=self._timing,
            notes=tuple(self._notes),
            shape=(self._rows, *first.shape[1:]) if self._same_rows else (),
            **self._kept,
        )
        return replace(merged, loss=self._loss(merged))

    def _loss(self, merged: LossResult) -> float | NDArray[np.float64]:
        if self._join == "rows":
            return np.concatenate(self._losses)
        if self._join == "places":
            return self._losses[0] + self._losses[1]
        return mean_of(merged) if merged.reduction == "mean" else merged.sum


def mean_of(figures: LossResult) -> float:
    """Divides the sum by what the normalizer says.

    Raises:
        InvalidRequest: That is zero.
    """
    normalizer = figures.options.get("normalizer", "count")
    divisor = {
        "count": float(figures.count),
        "weight": figures.weight_sum,
        "positives": max(figures.positives, 1.0),
    }.get(normalizer, normalizer)
    if divisor == 0:
        raise empty_mean("the mean", figures.request_id)
    return float(figures.sum / divisor)


def _axes(result: LossResult) -> Sequence[int] | None:
    axis = result.options.get("axis")
    if axis is None:
        return None
    axes = axis if isinstance(axis, list | tuple) else [axis]
    return [one % len(result.shape) if result.shape else one for one in axes]


def _how_to_join(result: LossResult) -> str:
    axes = _axes(result)
    if not isinstance(result.loss, np.ndarray):
        return "scalar"
    if result.reduction == "none" or (axes is not None and 0 not in axes):
        return "rows"
    if result.reduction == "sum" or isinstance(result.options.get("normalizer"), int | float):
        return "places"
    raise ValueError(
        f"means over axis={result.options.get('axis')} cannot be merged, for want of each one's divisor; "
        "score_stream gives them, or merge results of reduction='sum' and divide each by its own"
    )


def _refuse_unlike(first: LossResult, other: LossResult) -> None:
    for name in _COMMON:
        mine, its = getattr(first, name), getattr(other, name)
        dimensions = len(first.shape) or len(other.shape)  # a merged result may know none
        others = len(other.shape) or dimensions
        if _same_form(name, mine, dimensions) == _same_form(name, its, others):
            continue
        if _same_form(name, mine, dimensions) == _same_form(name, its, dimensions):
            raise ValueError(f"results of inputs of {dimensions} and of {others} dimensions cannot be merged")
        raise ValueError(f"results of different {name} cannot be merged: {_differing(mine, its)}")
    if isinstance(first.loss, np.ndarray) != isinstance(other.loss, np.ndarray):
        raise ValueError("a number and an array cannot be merged")


def _differing(mine: object, its: object) -> str:
    """Name what differs, of mappings nothing else."""
    if isinstance(mine, Mapping) and isinstance(its, Mapping):
        names = [name for name in {**mine, **its} if mine.get(name) != its.get(name)]
        mine, its = ({name: each.get(name) for name in names} for each in (mine, its))
    return f"{mine!r} and {its!r}"


def _same_form(name: str, value: Any, dimensions: int) -> Any:  # noqa: ANN401 - any JSON value in and out
    """Give what means the same one form: a default left out, 0 and [0], -1 and the last axis."""
    if name == "options":
        value = {**OPTIONS, **value}
    if not isinstance(value, Mapping):
        return value
    plain = {each: _plain_form(item) for each, item in value.items()}
    if name == "options" and dimensions:
        plain["class_axis"] %= dimensions
        if plain["axis"] is not None:
            axes = plain["axis"] if isinstance(plain["axis"], tuple) else (plain["axis"],)
            reduced = frozenset(axis % dimensions for axis in axes)
            plain["axis"] = reduced if len(reduced) < dimensions else None
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
