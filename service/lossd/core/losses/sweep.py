"""The summands of a sweep: losses taken apart, so that other parameters' losses can be put together.

With A = softplus(-x) and B = softplus(x), y and z smoothed, focal loss (`sigmoid`, `quality`) is

    alpha k [w m^g y y A] + alpha [w m^g y z B] + (1 - alpha) k [w m^g z y A] + (1 - alpha) [w m^g z z B]

and binary cross entropy ``k [w y A] + [w z B]``: linear in alpha and in k, pos_weight. For `exp` m depends on
k, so that its summand is the element's loss itself, without alpha. See `lossd.core.losses.focal` and `bce`
for the formulas.

Each product here is rounded in the order in which it is written, from the left. To that end y, z, A, B and
m^g are one number each: ``hi + lo`` of their pairs, all of which are computed with care (``careful=True``),
and with a fine exp for m alone, where m^g needs a logarithm. core/native/report_sweep.h has the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lossd.core.losses.elements import Formula, Smoothed, elements, smoothed
from lossd.core.losses.exp_log import SIMPLE_GAMMAS, power
from lossd.core.losses.focal import gap, miss, product_or_zero
from lossd.core.losses.likelihood import Likelihood
from lossd.core.losses.pairs import Pair


def summands(
    how: Formula, gammas: tuple[float, ...], x: Tensor, y: Tensor, k: Tensor | None, weight: Tensor | None
) -> Iterator[list[Tensor]]:
    """Return the summands of a sweep, for each gamma, [n] each.

    Args:
        how: The loss; its gamma and alpha do not count.
        gammas: The exponents; none for binary cross entropy, which has one list of summands.
        x: Logits or probabilities, float64, [n].
        y: The targets before smoothing, [n].
        k: pos_weight, which counts for `exp` alone; None for 1.
        weight: The weights; None for 1.
    """
    target = smoothed(y, how.label_smoothing)
    if how.loss == "bce":
        yield _bce(how, x, target, weight)
        return
    for gamma in gammas:
        if how.variant == "exp":
            own = how._replace(gamma=gamma, alpha=None)
            yield [weighted(weight, elements(own, x, y, k))]
        else:
            yield _focal(how, gamma, x, target, weight)


def weighted(weight: Tensor | None, losses: Tensor) -> Tensor:
    """Return weight times loss, where a weight of 0 makes 0 of infinity."""
    return losses if weight is None else product_or_zero(weight, losses)


def _bce(how: Formula, x: Tensor, target: Smoothed, weight: Tensor | None) -> list[Tensor]:
    """Return ``w y A`` and ``w z B``."""
    costs = _costs(Likelihood(x, probabilities=how.probabilities))
    shares = (weighted(weight, _number(part)) for part in target)
    return [product_or_zero(share, cost) for share, cost in zip(shares, costs, strict=True)]


def _focal(how: Formula, gamma: float, x: Tensor, target: Smoothed, weight: Tensor | None) -> list[Tensor]:
    """Return ``w m^g y y A``, ``w m^g y z B``, ``w m^g z y A``, ``w m^g z z B``."""
    positive, negative = _costs(Likelihood(x, probabilities=how.probabilities))
    damping = weighted(weight, _power(how, gamma, x, target))
    y, z = _number(target.target), _number(target.complement)
    return [
        product_or_zero(damping * balance * share, cost)
        for balance in (y, z)
        for share, cost in ((y, positive), (z, negative))
    ]


def _power(how: Formula, gamma: float, x: Tensor, target: Smoothed) -> Tensor:
    """Return ``m^g``, which is 1 for gamma 0."""
    if gamma == 0.0:
        return torch.ones_like(x)
    inputs = Likelihood(x, probabilities=how.probabilities, fine=gamma not in SIMPLE_GAMMAS)
    m = gap(inputs, *target) if how.variant == "quality" else miss(inputs, *target)
    return power(m, gamma)


def _costs(inputs: Likelihood) -> tuple[Tensor, Tensor]:
    """Return A and B, the costs of the two classes: infinite for the one that a certain input excludes.

    Both are NaN where the input is: `unlikely` alone may be any number there.
    """
    likely = _number(inputs.likely)
    unlikely = torch.where(inputs.certain, math.inf, _number(inputs.unlikely))
    unlikely = torch.where(torch.isnan(likely), likely, unlikely)
    positive = inputs.positive
    return torch.where(positive, likely, unlikely), torch.where(positive, unlikely, likely)


def _number(value: Pair) -> Tensor:
    return value.hi + value.lo
