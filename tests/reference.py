"""The losses by mpmath at 50 digits: what every test compares with. It shares nothing with the core."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mpmath import exp, inf, log1p, mp, mpf  # type: ignore[import-untyped] # it has none

__all__ = ["bce", "exp", "focal", "inf", "is_within", "mpf"]

mp.dps = 50


def _softplus(x: mpf) -> mpf:
    return max(x, mpf(0)) + log1p(exp(-abs(x)))


def _times(coefficient: mpf, value: mpf) -> mpf:
    return mpf(0) if coefficient == 0 else coefficient * value


def bce(x: float, y: float, pos_weight: float = 1.0) -> mpf:
    """One element of binary cross entropy with logits."""
    logit, target, k = mpf(x), mpf(y), mpf(pos_weight)
    return _times(k * target, _softplus(-logit)) + _times(1 - target, _softplus(logit))


def focal(x: float, y: float, gamma: float = 1.5, alpha: float | None = 0.25, pos_weight: float = 1.0) -> mpf:
    """One element of YOLOv5's focal loss."""
    logit, target = mpf(x), mpf(y)
    p = 1 / (1 + exp(-logit)) if logit != -inf else mpf(0)
    q = 1 / (1 + exp(logit)) if logit != inf else mpf(0)
    m = target * q + (1 - target) * p
    modulator = mpf(1) if gamma == 0 else m ** mpf(gamma)
    cross_entropy = bce(x, y, pos_weight)
    loss = mpf(0) if modulator == 0 else modulator * cross_entropy
    if alpha is None:
        return loss
    return _times(target * mpf(alpha) + (1 - target) * (1 - mpf(alpha)), loss)


def is_within(got: float, true: mpf, ulps: float, factors: Iterable[mpf] = (), scale: float = 1.0) -> bool:
    """Whether a float64 is close enough to the truth.

    Args:
        got: The float64.
        true: The truth.
        ulps: How many units of the truth's last place are allowed.
        factors: What the result is computed from. Where one is subnormal, or the result is, one spacing of
            float64 is allowed besides.
        scale: What such a factor is multiplied by at most.
    """
    if mp.isinf(true) or math.isinf(got):
        return float(true) == got
    bound = ulps * mpf(math.ulp(float(true)))
    if any(0 < factor < 2.0**-1022 for factor in (true, *factors)):
        bound += mpf(math.ulp(0.0)) * max(1.0, scale)
    return bool(abs(mpf(got) - true) <= bound)
