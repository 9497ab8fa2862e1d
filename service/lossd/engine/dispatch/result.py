"""What a request's sums come to: the loss, and the figures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from lossd.core.cut import Cut
from lossd.core.native.arrays import exact_array
from lossd.types import ErrorCode, Float64Array, LossRequest, LossResult, RequestError

Planes: TypeAlias = Sequence[Float64Array]
"""Sums of several outputs, [outputs] each: arrays that add up to them exactly, in canonical form. The first
are the sums, each rounded once."""


class Totals(NamedTuple):
    """The sums over a whole request: floats that add up to them exactly, in canonical form.

    Attributes:
        loss: Of the weighted losses.
        weights: Of the weights; None if there are none.
        positives: Of the targets.
        elements: How many elements count.
    """

    loss: Sequence[float]
    weights: Sequence[float] | None
    positives: Sequence[float]
    elements: int


def result_of(
    request: LossRequest,
    cut: Cut,
    totals: Totals,
    channels: Sequence[Planes],
    kernel: str,
    device: str,
) -> LossResult:
    """The result of a request.

    Args:
        request: The request.
        cut: How it was cut.
        totals: Its sums.
        channels: Where there are several outputs: their sums, and then, if each has its own, their divisors.
            Losses are written over the first one's first plane if nobody needs that.
        kernel: Which kernel computed the elements.
        device: Where.

    Raises:
        RequestError: ``empty_mean``: it is a mean over nothing.
    """
    weights = (float(totals.elements),) if totals.weights is None else tuple(totals.weights)
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
        count=totals.elements,
        shape=cut.shape,
        loss_name=request.loss,
        params=request.own,
        kernel=kernel,
        device=device,
        options=request.options,
        notes=request.notes,
        sum_terms=tuple(totals.loss),
        weight_sum_terms=weights,
        positives_terms=tuple(totals.positives),
        loss_terms=loss_terms,
        divisor_terms=divisor_terms,
    )


def planes_of(cut: Cut, memory: Float64Array, planes: int) -> Planes:
    """The sums of several outputs, of a request that is one part, as a kernel has written them to memory."""
    count = cut.outputs
    written = [memory[count * i : count * (i + 1)] for i in range(planes)]
    return written if len(written) == 1 else exact_array(written).canonical()


def _number(request: LossRequest, totals: Totals, weights: float) -> float:
    """The loss of a request where everything is reduced."""
    params, total = request.params, totals.loss[0]
    if params["reduction"] != "mean":
        return total
    normalizer = params["normalizer"]
    if normalizer == "positives":
        return total / max(1.0, totals.positives[0])
    if isinstance(normalizer, float):
        return total / normalizer
    divisor = weights if normalizer == "weight" else float(totals.elements)
    if divisor == 0.0:
        raise empty_mean(())
    return total / divisor


def _array(
    request: LossRequest, cut: Cut, channels: Sequence[Planes]
) -> tuple[Float64Array, tuple[Float64Array, ...], tuple[Float64Array, ...] | None]:
    """The losses of several outputs, and the exact sums that they and their divisors are of."""
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
        return np.divide(losses[0], divisor, out=into), losses, divisors


def _even_divisor(request: LossRequest, cut: Cut) -> float:
    """What every output is divided by, where that is the same for all."""
    normalizer = request.params["normalizer"]
    if isinstance(normalizer, float):
        return normalizer
    return float(cut.size // cut.outputs) if cut.outputs else 1.0


def empty_mean(output: tuple[np.intp | int, ...]) -> RequestError:
    """The fault of a mean over nothing: of an output of an array answer, or of the one number."""
    place = "".join(f"/{int(i)}" for i in output)
    of_output = f" of output {list(map(int, output))}" if output else ""
    detail = f"the mean{of_output} is over nothing; use reduction=sum, or leave such batches out"
    return RequestError(
        ErrorCode.EMPTY_MEAN, detail, [(f"/loss{place}", "a divisor of zero")] if output else []
    )


def crashed() -> RequestError:
    """The fault of a request that ended a worker, was tried once more, and ended that one, too."""
    return RequestError(ErrorCode.WORKER_CRASHED, "this request ended a worker twice; it is not tried again")


def too_late() -> RequestError:
    """The fault of a request that is not scored when its deadline comes."""
    detail = "the deadline passed before the answer was there; allow more time or send smaller batches"
    return RequestError(ErrorCode.DEADLINE_EXCEEDED, detail)
