"""The result of a request: the loss, computed from exact sums, and the sums beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.exact_sum import ExactSum
from lossd.core.kernel import Sums
from lossd.core.native.arrays import exact_array
from lossd.types import ROWS, ErrorCode, Float64Array, LossRequest, LossResult, RequestError

_NEAR: Final = 2.0**-8
"""What targets may be off by, each row's, that are probabilities in a 16-bit float."""
Planes: TypeAlias = Sequence[Float64Array]
"""Sums of several outputs, as arrays, [outputs] each, that add up to them exactly, in canonical form: the
sums rounded once, then what that left, rounded once, and so on."""


class RunningTotals:
    """The totals of a request's slices, added up exactly, in any order."""

    def __init__(self) -> None:
        self._first: Sums | None = None
        self._sums: tuple[ExactSum, ExactSum, ExactSum] | None = None  # from the second slice on
        self._count = 0

    def add(self, sums: Sums) -> None:
        """Add a slice's sums."""
        self._count += sums.count
        if self._first is None:
            self._first = sums
            return
        if self._sums is None:
            first = self._first
            self._sums = ExactSum(first.loss), ExactSum(first.weights or ()), ExactSum(first.positives)
        for sum_of, terms in zip(self._sums, (sums.loss, sums.weights, sums.positives), strict=True):
            sum_of.add_all(terms or ())

    def totals(self, *, weighted: bool) -> Sums:
        """Return the totals so far, ``weighted`` if the request has weights."""
        if self._sums is None:
            return self._first or Sums([0.0], [0.0] if weighted else None, [0.0], 0)
        loss, weights, positives = self._sums
        return Sums(loss.terms, weights.terms if weighted else None, positives.terms, self._count)


def result_of(
    request: LossRequest,
    cut: Cut,
    totals: Sums,
    channels: Sequence[Planes],
    kernel: str,
    device: str,
) -> LossResult:
    """Return the result of a request.

    Args:
        request: The request.
        cut: How it was cut.
        totals: Its sums.
        channels: For several outputs: their sums and, if each has its own divisor, the divisors' sums. Losses
            may be written over the first array.
        kernel: The kernel that computed the elements.
        device: Where it did.

    Raises:
        RequestError: ``empty_mean``: a mean over nothing.
    """
    weights = (float(totals.count),) if totals.weights is None else tuple(totals.weights)
    loss: float | Float64Array
    loss_terms = divisor_terms = None
    if channels:
        loss, losses, divisors = _array(request, cut, channels)
        if 0 in cut.axes:
            loss_terms, divisor_terms = losses, divisors
    else:
        loss = _number(request, totals, weights[0])
    return LossResult(
        loss=loss,
        reduction=str(request.params["reduction"]),
        count=totals.count,
        shape=_inputs_shape(request, cut),
        row_size=request.row_size,
        loss_name=request.loss,
        params=request.own,
        kernel=kernel,
        device=device,
        options=request.options,
        notes=(*request.notes, *_mean_notes(request), *_target_notes(request, totals)),
        sum_terms=tuple(totals.loss),
        weight_sum_terms=weights,
        positives_terms=tuple(totals.positives),
        loss_terms=loss_terms,
        divisor_terms=divisor_terms,
    )


def _mean_notes(request: LossRequest) -> tuple[str, ...]:
    """Return a note on weights of classes that a mean does not divide by, as torch's does for class ids."""
    params = request.params
    has_mean = params["reduction"] == "mean" or "report" in params
    by_count = has_mean and params["normalizer"] == "count"
    if not by_count or params["targets_format"] != "index" or "class_weight" not in request.tensors:
        return ()
    return (
        "the mean divides by the number of losses; torch's CrossEntropyLoss with weights of classes divides "
        "by these: normalizer=weight",
    )


def _target_notes(request: LossRequest, totals: Sums) -> tuple[str, ...]:
    """Return a note on probabilities of classes that cannot all add up to 1, as those of a row do."""
    if request.params["targets_format"] != "dense" or LOSSES[request.loss].row != "classes":
        return ()
    if not abs(totals.positives[0] - totals.count) > _NEAR * totals.count:
        return ()
    return (
        "targets do not add up to the number of rows; those of a row are probabilities of its classes, which "
        "add up to 1; several labels a row are for bce",
    )


def _inputs_shape(request: LossRequest, cut: Cut) -> tuple[int, ...]:
    """Return the inputs' shape, with a stream's number of rows."""
    if not request.shape:
        return cut.shape
    first, *others = request.shape
    return (cut.shape[0] if first == ROWS else first, *others)


def planes_of(cut: Cut, memory: Float64Array, planes: int) -> Planes:
    """Return the sums of several outputs that a kernel wrote to memory, for a request of one part."""
    count = cut.outputs
    written = [memory[count * i : count * (i + 1)] for i in range(planes)]
    return written if len(written) == 1 else exact_array(written).canonical()


def _number(request: LossRequest, totals: Sums, weights: float) -> float:
    """Return the loss of a request that is reduced to a number."""
    params, total = request.params, totals.loss[0]
    if params["reduction"] != "mean":
        return total
    normalizer = params["normalizer"]
    if normalizer == "positives":
        return _quotient(total, max(1.0, totals.positives[0]))
    if isinstance(normalizer, float):
        return _quotient(total, normalizer)
    divisor = weights if normalizer == "weight" else float(totals.count)
    if divisor == 0.0:
        raise empty_mean(())
    return _quotient(total, divisor)


def _quotient(total: float, divisor: float) -> float:
    """Return a quotient; infinity by infinity is the NaN that all are, whose sign differs by machine."""
    quotient = total / divisor
    return math.nan if math.isnan(quotient) else quotient


def _array(
    request: LossRequest, cut: Cut, channels: Sequence[Planes]
) -> tuple[Float64Array, tuple[Float64Array, ...], tuple[Float64Array, ...] | None]:
    """Return the losses of several outputs, and the exact sums of these and of their divisors."""
    shape = cut.output_shape
    losses = tuple(plane.reshape(shape) for plane in channels[0])
    is_mean = request.params["reduction"] == "mean"
    if not is_mean and 0 not in cut.axes:
        return losses[0], losses, None
    divisors: tuple[Float64Array, ...]
    if len(channels) == 1:
        divisors = (np.broadcast_to(np.float64(_even_divisor(request, cut)), shape),)
    else:
        divisors = tuple(plane.reshape(shape) for plane in channels[1])
    if not is_mean:
        return losses[0], losses, divisors
    divisor = np.maximum(divisors[0], 1.0) if request.params["normalizer"] == "positives" else divisors[0]
    if not divisor.all():
        raise empty_mean(tuple(np.argwhere(divisor == 0.0)[0]))
    into = None if 0 in cut.axes else losses[0]
    with np.errstate(invalid="ignore", over="ignore"):
        means = np.divide(losses[0], divisor, out=into)
    means[np.isnan(means)] = np.nan  # as in `_quotient`
    return means, losses, divisors


def _even_divisor(request: LossRequest, cut: Cut) -> float:
    """Return the divisor that all outputs have in common."""
    normalizer = request.params["normalizer"]
    if isinstance(normalizer, float):
        return normalizer
    return float(cut.size // cut.outputs) if cut.outputs else 1.0


def empty_mean(output: tuple[np.intp | int, ...]) -> RequestError:
    """Return the error of a mean over nothing: of an output of an array answer, or of the one number."""
    pointer = "".join(f"/{int(i)}" for i in output)
    of_output = f" of output {list(map(int, output))}" if output else ""
    detail = f"the mean{of_output} is over nothing; use reduction=sum, or leave such batches out"
    return RequestError(
        ErrorCode.EMPTY_MEAN, detail, [(f"/loss{pointer}", "a divisor of zero")] if output else []
    )


def crashed() -> RequestError:
    """Return the error of a request that ended two workers, one after the other."""
    return RequestError(ErrorCode.WORKER_CRASHED, "this request ended a worker twice; it is not tried again")


def too_late() -> RequestError:
    """Return the error of a request whose deadline has passed."""
    detail = "the deadline passed before the answer was there; allow more time or send smaller batches"
    return RequestError(ErrorCode.DEADLINE_EXCEEDED, detail)
