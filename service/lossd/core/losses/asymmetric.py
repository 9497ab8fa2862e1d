"""Asymmetric loss: positives and negatives each have an exponent, and easy negatives cost nothing.

With p = sigmoid(x), it is ``y L+ + z L-``, where z is 1 - y and

- ``L+ = (1 - p)^gamma_pos (-log p)``;
- ``L- = m^gamma_neg (-log(1 - m))`` with ``m = max(p - clip, 0)``.

Ridnik et al., "Asymmetric Loss For Multi-Label Classification" (https://arxiv.org/abs/2009.14119), equations
4 to 6, where L+ and L- have the other sign and m is written p_m.

p - clip has fewer right digits than p, and their error counts gamma times in a power. Hence exp, p and m are
computed to the digits of a pair. 1 - m is 1 - p + clip, so that no digit is lost where p is nearly 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lossd.core.losses.exp_log import log1p, minus_log, power
from lossd.core.losses.likelihood import Likelihood
from lossd.core.losses.pairs import Pair, choice, pair, plus, product_of, sum_of, sum_of_ordered, times

if TYPE_CHECKING:
    from lossd.core.losses.elements import Formula, Smoothed


def asymmetric(
    how: Formula, x: Tensor, y: Smoothed, _k: Tensor | None, _alpha: Tensor | None, *, hard: bool
) -> Tensor:
    """Return the asymmetric losses, [n]. See `lossd.core.losses.elements.elements`.

    Args:
        how: The loss, with its own parameters ``gamma_pos``, ``gamma_neg`` and ``clip``.
        x: Logits or probabilities.
        y: The targets.
        hard: Whether every target is 0 or 1; the steps for all others give the same then.
    """
    del hard
    gamma_pos, gamma_neg, clip = (float(how.own[name]) for name in ("gamma_pos", "gamma_neg", "clip"))  # type: ignore[arg-type] # checked
    inputs = Likelihood(x, probabilities=how.probabilities, fine=True)
    positive, (likely, unlikely) = inputs.positive, _chances(inputs)
    q, m = choice(positive, unlikely, likely), choice(positive, likely, unlikely)
    cost = torch.where(positive, inputs.likely.hi, inputs.unlikely.hi)
    other_cost = torch.where(positive, inputs.unlikely.hi, inputs.likely.hi)
    if clip:
        m = _over(m, clip)
        other_cost = _cost_without(m, unlikely, clip)
    right, wrong = _power(q, gamma_pos) * cost, _power(m, gamma_neg) * other_cost
    total = sum_of(y.target.hi * right, y.complement.hi * wrong)
    losses = total.hi + (total.lo + (y.target.lo * right + y.complement.lo * wrong))
    # with clip, 1 - m is at least that
    against = torch.where(positive, 0.0 if clip else y.complement.hi, y.target.hi)
    return inputs.limit(against, losses)


def _chances(inputs: Likelihood) -> tuple[Pair, Pair]:
    """Return the probabilities of the likelier class and of the other."""
    if inputs.probabilities:
        return sum_of_ordered(1.0, -inputs.small.hi), inputs.small
    e = inputs.small
    under = sum_of_ordered(1.0, e.hi)
    likely = 1.0 / under.hi
    back = product_of(likely, under.hi)
    rest = ((1.0 - back.hi) - back.lo) - likely * (under.lo + e.lo)
    chance = Pair(likely, rest * likely)
    return chance, times(e, chance)


def _over(p: Pair, clip: float) -> Pair:
    """Return ``max(p - clip, 0)``."""
    over = sum_of(p.hi, torch.full_like(p.hi, -clip))
    over = sum_of(over.hi, over.lo + p.lo)
    return choice(over.hi <= 0.0, pair(torch.zeros_like(p.hi)), over)


def _cost_without(m: Pair, unlikely: Pair, clip: float) -> Tensor:
    """Return ``-log(1 - m)`` for a clipped m; where that is over 1/2, 1 - m is ``unlikely + clip``."""
    left = plus(pair(torch.full_like(m.hi, clip)), unlikely)
    return torch.where(m.hi <= 0.5, -log1p(-m.hi, -m.lo).hi, minus_log(*left).hi)


def _power(value: Pair, gamma: float) -> Tensor:
    """Return ``value ** gamma`` for a value >= 0 and gamma >= 0, where 0 ** 0 is 1."""
    if gamma == 0.0:
        return torch.ones_like(value.hi)
    if gamma != 4.0:
        return power(value, gamma)
    square = product_of(value.hi, value.hi)
    low = square.lo + 2.0 * value.hi * value.lo
    return square.hi * (square.hi + 2.0 * low)
