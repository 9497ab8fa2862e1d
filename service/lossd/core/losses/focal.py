"""Focal loss: ``a m^gamma`` times the cross entropy, where m is small for an element that is already right.

========= ==================== =================== ==========================================================
variant   m                    a                   where
========= ==================== =================== ==========================================================
sigmoid   y q + z p            y alpha +           FocalLoss of YOLOv5's utils/loss.py
                               z (1 - alpha)
exp       1 + 1e-6 - exp(-BCE) alpha               the line that YOLOv5's FocalLoss comments out
quality   abs(y q - z p)       y alpha +           QFocalLoss of YOLOv5; Li et al., "Generalized Focal Loss",
                               z (1 - alpha)       https://arxiv.org/abs/2006.04388
========= ==================== =================== ==========================================================

https://github.com/ultralytics/yolov5/blob/master/utils/loss.py. m of ``sigmoid`` is 1 - p_t of Lin et al.,
"Focal Loss for Dense Object Detection" (https://arxiv.org/abs/1708.02002), extended to soft targets.

An error of m counts gamma times in m^gamma, so m is a pair. Where m^gamma needs a logarithm, and in variant
``exp``, even exp is computed to the digits of a pair.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from lossd.core.losses.exp_log import exp_minus, fine_log, fine_log1p, power
from lossd.core.losses.likelihood import Likelihood
from lossd.core.losses.pairs import (
    Pair,
    choice,
    float_of,
    minus,
    pair,
    plus,
    product_of,
    sum_of,
    sum_of_ordered,
    times,
)

_MARGIN: Final = (float.fromhex("0x1.0c6f7a0b5ed8dp-20"), float.fromhex("0x1.b5a63f9a49c2cp-75"))
"""1e-6, the decimal number, as a pair: YOLOv5's, in ``1.000001 - p_t``."""


def focal(
    inputs: Likelihood,
    y: Pair,
    z: Pair,
    pos_weight: Tensor | None,
    losses: Tensor,
    *,
    gamma: float,
    alpha: Tensor | float | None,
    variant: str,
) -> Tensor:
    """Return the focal losses, [n].

    Args:
        inputs: The inputs.
        y: The targets.
        z: 1 - y.
        pos_weight: k of the cross entropy; None for 1.
        losses: The cross entropy.
        gamma: The exponent, at least 0; 0 gives the alpha-balanced cross entropy.
        alpha: The balance, in [0, 1], one number or one for each element; None for none.
        variant: The formula of m.
    """
    value = losses
    if gamma != 0.0:
        if variant == "exp":
            m = exp_miss(inputs, y, z, pos_weight)
        elif variant == "quality":
            m = gap(inputs, y, z)
        else:
            m = miss(inputs, y, z)
        value = product_or_zero(power(m, gamma), losses)
    if alpha is None:
        return inputs.limit(losses, value)
    even = variant == "exp"
    balance = torch.zeros_like(y.hi) + alpha if even else y.hi * alpha + z.hi * (1.0 - alpha)
    return inputs.limit(torch.where(balance > 0.0, losses, 0.0), product_or_zero(balance, value))


def miss(inputs: Likelihood, y: Pair, z: Pair) -> Pair:
    """Return m of ``sigmoid``: ``y q + z p``."""
    return _unlikely_share(inputs, choice(inputs.positive, y, z), choice(inputs.positive, z, y))


def gap(inputs: Likelihood, y: Pair, z: Pair) -> Pair:
    """Return m of ``quality``: ``|y q - z p|``."""
    right, wrong = choice(inputs.positive, y, z), choice(inputs.positive, z, y)
    difference = sum_of(*_unlikely_share(inputs, minus(right), wrong))
    return choice(difference.hi < 0.0, minus(difference), difference)


def exp_miss(inputs: Likelihood, y: Pair, z: Pair, pos_weight: Tensor | None) -> Pair:
    """Return m of ``exp``: ``1 + 1e-6 - exp(-BCE)``."""
    if inputs.probabilities:
        likely = minus(fine_log1p(minus(inputs.small)))
        unlikely = minus(fine_log(inputs.small))
    else:
        likely = fine_log1p(inputs.small)
        unlikely = plus(pair(inputs.size), likely)
    share = times(y, pair(torch.ones_like(y.hi) if pos_weight is None else pos_weight))
    right, wrong = choice(inputs.positive, share, z), choice(inputs.positive, z, share)
    loss = plus(times(right, likely), times(wrong, unlikely))
    # 60 is beyond where exp(-BCE) counts
    near = (loss.hi < 60.0) & ~(inputs.certain & (loss.hi > 0.0))
    exp = exp_minus(torch.where(near, loss.hi, 60.0), torch.where(near, loss.lo, 0.0), fine=True)
    scale = float_of((1023 - exp.n) << 52)
    part = Pair(-scale * exp.q.hi, -scale * exp.q.lo)
    gone = plus(sum_of_ordered(1.0, -scale), part)  # 1 - scale (1 + q)
    high, low = _MARGIN
    return plus(gone, Pair(torch.full_like(scale, high), torch.full_like(scale, low)))


def product_or_zero(coefficient: Tensor, value: Tensor) -> Tensor:
    """Return the product, where 0 times infinity is 0."""
    return torch.where((coefficient == 0.0) & (value == math.inf), 0.0, coefficient * value)


def _unlikely_share(inputs: Likelihood, right: Pair, wrong: Pair) -> Pair:
    """Return ``right`` times the less likely class's probability plus ``wrong`` times the likelier one's."""
    if inputs.probabilities:
        return plus(times(wrong, sum_of_ordered(1.0, -inputs.small.hi)), times(right, inputs.small))
    if inputs.careful is False:  # the targets are 0 and 1, for which the steps below give the same
        return pair((wrong.hi + right.hi * inputs.small.hi) / (1.0 + inputs.small.hi))
    over = plus(wrong, times(right, inputs.small))
    under = sum_of_ordered(1.0, inputs.small.hi)
    miss = over.hi / under.hi
    back = product_of(miss, under.hi)
    rest = ((over.hi - back.hi) - back.lo) + (over.lo - miss * (under.lo + inputs.small.lo))
    # The division's rest, over 1 + e. Unless fine, a reciprocal to within a tenth is enough.
    low = rest / under.hi if inputs.fine else rest * (1.457 - 0.5 * under.hi)
    return inputs.if_careful(Pair(miss, low))
