"""Varifocal loss: for targets q that are scores, such as the overlap of a box with its object.

With p = sigmoid(x), it is ``q BCE(x, q)`` for a target q over 0, whose loss counts the more the better the
target, and ``alpha p^gamma BCE(x, 0)`` for one of 0, which counts the less the easier it is.

Zhang et al., "VarifocalNet: An IoU-aware Dense Object Detector" (https://arxiv.org/abs/2008.13367), equation
2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lossd.core.losses.exp_log import SIMPLE_GAMMAS, power
from lossd.core.losses.focal import miss
from lossd.core.losses.likelihood import Likelihood
from lossd.core.losses.pairs import pair

if TYPE_CHECKING:
    from lossd.core.losses.elements import Formula, Smoothed


def varifocal(
    how: Formula, x: Tensor, y: Smoothed, _k: Tensor | None, _alpha: Tensor | None, *, hard: bool
) -> Tensor:
    """Return the varifocal losses, [n]. See `lossd.core.losses.elements.elements`.

    Args:
        how: The loss, with its own parameters ``alpha`` and ``gamma``.
        x: Logits or probabilities.
        y: The targets, without smoothing.
        hard: Whether every target is 0 or 1; the steps for all others give the same then.
    """
    del hard
    alpha, gamma = (float(how.own[name]) for name in ("alpha", "gamma"))  # type: ignore[arg-type] # checked
    fine = gamma != 0.0 and gamma not in SIMPLE_GAMMAS
    inputs = Likelihood(x, probabilities=how.probabilities, fine=fine, careful=fine or gamma > 1.5)
    q, rest = y.target.hi, y.complement.hi
    right, wrong = torch.where(inputs.positive, q, rest), torch.where(inputs.positive, rest, q)
    cost = right * inputs.likely.hi + wrong * inputs.unlikely.hi
    nothing = pair(torch.zeros_like(q))
    p = miss(inputs, nothing, pair(torch.ones_like(q)))
    raised = torch.ones_like(q) if gamma == 0.0 else power(p, gamma)
    coefficient = torch.where(q == 0.0, alpha * raised, q)
    return inputs.limit(torch.where(coefficient > 0.0, cost, 0.0), coefficient * cost)
