"""Dice loss and Tversky loss: how little the predicted and the true positives of a row overlap.

Milletari and others, "V-Net", https://arxiv.org/abs/1606.04797, here without squares, as most define it now;
Salehi and others, "Tversky loss function for image segmentation", https://arxiv.org/abs/1706.05721::

    (alpha FP + beta FN) / (TP + alpha FP + beta FN + smooth)

with TP = sum p y, FP = sum p (1 - y), FN = sum (1 - p) y over the row's numbers, p = sigmoid(x). Dice loss
has alpha = beta = 1/2. That is 1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth), computed without the
difference, of which little is left where the loss is small. 0 of 0 is 0.

p and 1 - p are computed each for itself, so neither tail is lost. The three sums are exact, each rounded
once. Every step adds numbers that are at least 0, and the error stays below 8 units of the last place.
"""

from __future__ import annotations

from typing import Final, cast

import torch
from torch import Tensor

from lossd.core.losses.elements import Formula
from lossd.core.losses.exp_log import exp_minus, scaled
from lossd.core.losses.rows import RowLosses, Rows, exact_row_sums

_HALF: Final = 0.5


def dice(how: Formula, rows: Rows) -> RowLosses:
    """Return the dice losses of rows."""
    return _overlap(how, rows, _HALF, _HALF)


def tversky(how: Formula, rows: Rows) -> RowLosses:
    """Return the Tversky losses of rows."""
    return _overlap(how, rows, cast(float, how.own["alpha"]), cast(float, how.own["beta"]))


def _overlap(how: Formula, rows: Rows, alpha: float, beta: float) -> RowLosses:
    y = rows.y
    assert y is not None
    p, q = (rows.x, 1.0 - rows.x) if how.probabilities else _probabilities(rows.x)
    if rows.kept is not None:
        p = torch.where(rows.kept, p, 0.0)  # and the target is 0, so that it adds nothing
    tp, fp, fn = exact_row_sums(p * y), exact_row_sums(p * (1.0 - y)), exact_row_sums(q * y)
    errors = alpha * fp + beta * fn
    ratio = errors / ((tp + errors) + cast(float, how.own["smooth"]))
    return RowLosses(torch.where(errors == 0.0, 0.0, ratio), exact_row_sums(y))


def _probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probabilities of the positive class and of the other one."""
    exp = exp_minus(logits.abs())
    odds = scaled(1.0 + exp.q.hi, exp.n)
    likely = 1.0 / (1.0 + odds)
    unlikely, positive = odds * likely, logits >= 0.0
    return torch.where(positive, likely, unlikely), torch.where(positive, unlikely, likely)
