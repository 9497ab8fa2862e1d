"""Rows of numbers that have one loss together: what the functions of such losses get, and return."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossd.core.losses.sums import planes_of
from lossd.core.native.arrays import exact_array


class Rows(NamedTuple):
    """Rows as a loss's function gets them, float64.

    Attributes:
        x: The inputs, [n, size].
        y: The targets before smoothing, [n, size]; None where a row has a class id.
        ids: The class of each row, [n]; None where there are targets.
        kept: Which numbers count, bool, [n, size]; x and y are 0 at the others. None if all do.
        class_weight: The weight of each class, [size]; None for none.
        alpha: A factor for each class, [size]; None for none.
    """

    x: Tensor
    y: Tensor | None
    ids: Tensor | None = None
    kept: Tensor | None = None
    class_weight: Tensor | None = None
    alpha: Tensor | None = None


class RowLosses(NamedTuple):
    """What is found of rows, float64, [n] each.

    Attributes:
        loss: The losses, without weights other than those of classes.
        targets: The sum of each row's targets, which `positives` adds up.
        weight: What each row's weight is multiplied by; None for 1.
        confidence: The greatest probability, if rows are of classes; None if they are not, as the following.
        correct: The target's probability of the predicted class.
        classes: The target's class.
        predicted: The class that has the greatest probability.
    """

    loss: Tensor
    targets: Tensor
    weight: Tensor | None = None
    confidence: Tensor | None = None
    correct: Tensor | None = None
    classes: Tensor | None = None
    predicted: Tensor | None = None


def exact_row_sums(values: Tensor) -> Tensor:
    """Return the exact sum of each row, rounded once, [n], on the device of the values.

    Args:
        values: float64, [n, size].
    """
    if not values.numel():
        return values.new_zeros(len(values))
    running = exact_array()
    for plane in planes_of(values, (1,)):
        running.add(plane)
    return torch.from_numpy(running.value.copy()).to(values.device)
