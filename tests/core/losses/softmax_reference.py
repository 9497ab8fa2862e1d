"""Losses of rows of classes by mpmath at 50 digits, from their definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mpmath import exp, fsum, inf, log1p, mpf  # type: ignore[import-untyped] # it has none

import reference

__all__ = ["costs", "loss", "reference"]


def costs(x: Sequence[float]) -> list[tuple[mpf, mpf]]:
    """-log p, infinite where float64 cannot hold it, and 1 - p of each class of a row of logits."""
    greatest = max(x)
    first = x.index(greatest)
    t = [
        mpf(0) if value == greatest else inf if math.isinf(greatest) else mpf(greatest) - mpf(value)
        for value in x
    ]
    e = [mpf(0) if each == inf else exp(-each) for each in t]
    others = fsum(e[:first] + e[first + 1 :])
    found = []
    for place, each in enumerate(t):
        rest = others if place == first else 1 + (others - e[place])
        cost = each + log1p(others)
        found.append((inf if math.isinf(float(cost)) else cost, rest / (1 + others)))
    return found


def loss(
    x: Sequence[float],
    y: Sequence[float],
    factors: Sequence[float] | None = None,
    smoothing: float = 0.0,
    gamma: float = 0.0,
) -> mpf:
    """The loss of a row: ``-sum_c w_c y_c (1 - p_c)^gamma log p_c``, y after smoothing."""
    total, e = mpf(0), mpf(smoothing)
    for place, (cost, miss) in enumerate(costs(x)):
        share = mpf(y[place]) * (1 - e) + e / len(x)
        share *= 1 if factors is None else mpf(factors[place])
        if share:
            total += share * (cost if gamma == 0 else mpf(0) if miss == 0 else miss ** mpf(gamma) * cost)
    return total
