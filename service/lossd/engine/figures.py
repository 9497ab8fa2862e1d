"""What a request's sums come to: the loss, where that is one number, and the figures beside it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lossd.core.grid import Grid
from lossd.request import Fault, Float64Array, LossRequest, LossResult


class Totals(NamedTuple):
    """The sums over a whole request, each rounded once.

    Attributes:
        loss: Of the weighted losses.
        weights: Of the weights; the elements where there are none.
        positives: Of the targets.
        elements: How many elements count.
    """

    loss: float
    weights: float
    positives: float
    elements: int


def loss_of(request: LossRequest, totals: Totals) -> float:
    """The loss of a request where everything is reduced.

    Raises:
        Fault: ``empty_mean``: it is a mean over nothing.
    """
    params = request.params
    if params["reduction"] != "mean":
        return totals.loss
    normalizer = params["normalizer"]
    if normalizer == "positives":
        return totals.loss / max(1.0, totals.positives)
    if isinstance(normalizer, float):
        return totals.loss / normalizer
    divisor = totals.weights if normalizer == "weight" else float(totals.elements)
    if divisor == 0.0:
        raise empty_mean(())
    return totals.loss / divisor


def result_of(
    request: LossRequest,
    grid: Grid,
    loss: float | Float64Array,
    totals: Totals,
    kernel: str,
    device: str,
) -> LossResult:
    """The result of a request.

    Args:
        request: The request.
        grid: Its blocks.
        loss: What it is asked for.
        totals: Its sums.
        kernel: Which kernel computed the elements.
        device: Where.
    """
    return LossResult(
        loss=loss,
        reduction=str(request.params["reduction"]),
        sum=totals.loss,
        count=totals.elements,
        weight_sum=totals.weights,
        positives=totals.positives,
        shape=grid.shape,
        loss_name=request.loss,
        params=request.own,
        kernel=kernel,
        device=device,
        options=request.options,
        notes=request.notes,
    )


def empty_mean(output: tuple[np.intp | int, ...]) -> Fault:
    """The fault of a mean over nothing: of an output of an array answer, or of the one number."""
    place = "".join(f"/{int(i)}" for i in output)
    of_output = f" of output {list(map(int, output))}" if output else ""
    detail = f"the mean{of_output} is over nothing; use reduction=sum, or leave such batches out"
    return Fault("empty_mean", detail, [(f"/loss{place}", "a divisor of zero")] if output else [])


def crashed() -> Fault:
    """The fault of a request that ended a worker, was tried once more, and ended that one, too."""
    return Fault("worker_crashed", "this request ended a worker twice; it is not tried again")


def too_late() -> Fault:
    """The fault of a request that is not scored when its deadline comes."""
    detail = "the deadline passed before the answer was there; allow more time or send smaller batches"
    return Fault("deadline_exceeded", detail)
