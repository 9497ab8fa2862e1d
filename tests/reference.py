"""The losses by mpmath at 50 digits: what every test compares with. It shares nothing with the core."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from mpmath import exp, expm1, inf, log, log1p, mp, mpf  # type: ignore[import-untyped] # it has none

__all__ = ["bce", "element", "exp", "focal", "inf", "is_within", "keeps_the_promise", "mpf"]

mp.dps = 50

_NORMAL: Final = mpf(2) ** -1022
_SPACING: Final = mpf(2) ** -1074


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


def element(
    loss: str,
    value: float,
    y: float,
    *,
    probabilities: bool = False,
    weight: float = 1.0,
    pos_weight: float = 1.0,
    label_smoothing: float = 0.0,
    gamma: float = 1.5,
    alpha: float | None = 0.25,
    variant: str = "sigmoid",
    nudge: int = 0,
) -> mpf:
    """One element of any loss with any of its parameters, straight from the formulas.

    Args:
        loss: ``bce`` or ``focal``.
        value: The logit, or the probability.
        y: The target.
        probabilities: What value is.
        weight: Multiplies the element.
        pos_weight: Multiplies the positive class's cost.
        label_smoothing: Moves the target towards one half.
        gamma: Focal loss's exponent.
        alpha: Focal loss's balance.
        variant: Focal loss's modulator.
        nudge: 1 or -1 to move everything of which the result is made, and which is subnormal, by one spacing
            of float64 up or down: the most and the least that one spacing can do.
    """

    def near(v: mpf) -> mpf:
        return max(v + nudge * _SPACING, mpf(0)) if nudge and 0 < v < _NORMAL else v

    def times(*coefficients: mpf) -> mpf:
        product = coefficients[-1]
        for coefficient in reversed(coefficients[:-1]):
            product = near(_times(coefficient, product)) if product else mpf(0)
        return product

    v, e, k = mpf(value), mpf(label_smoothing), mpf(pos_weight)
    y_, z_ = mpf(y), 1 - mpf(y)
    if e:
        y_, z_ = near(near(y_ * (1 - e)) + near(e / 2)), near(near(z_ * (1 - e)) + near(e / 2))
    if probabilities:
        p, q = v, near(1 - v)
        cost, other = -log(v) if v else inf, -log1p(-v) if v < 1 else inf
    else:
        p = 1 / (1 + exp(-v)) if v != -inf else mpf(0)
        q = 1 / (1 + exp(v)) if v != inf else mpf(0)
        cost, other = _softplus(-v), _softplus(v)
    p, q, cost, other = near(p), near(q), near(cost), near(other)
    cross_entropy = near(times(near(times(k, y_)), cost) + times(z_, other))
    if loss == "bce":
        return times(mpf(weight), cross_entropy)

    if variant == "exp":
        m = near(mpf("1e-6") - (expm1(-cross_entropy) if cross_entropy != inf else mpf(-1)))
    else:
        right, wrong = times(y_, q), times(z_, p)
        m = right + wrong if variant == "sigmoid" else abs(right - wrong)
        if nudge and any(0 < term < _NORMAL for term in (right, wrong, m)):
            m = max(m + nudge * _SPACING, mpf(0))
    modulator = mpf(1) if gamma == 0 else near(m ** mpf(gamma))
    balance = mpf(1)
    if alpha is not None:
        a = mpf(alpha)
        balance = a if variant == "exp" else near(times(y_, a) + times(z_, 1 - a))
    if modulator == 0:
        return mpf(0)
    return times(mpf(weight), balance, modulator, cross_entropy)


def keeps_the_promise(
    got: float,
    loss: str,
    value: float,
    y: float,
    **params: Any,  # noqa: ANN401 -- those of `element`
) -> bool:
    """Whether an element loss is within the promise: 4 units of the last place for BCE, 8 for focal with
    gamma up to 10, and 8 + gamma beyond.

    Where the result or a factor is subnormal, one spacing of float64 is allowed for each; for ``quality``
    near y = p, 1e-15 w max(1, k) if gamma is at least 1, and anything below.
    """
    true = element(loss, value, y, **params)
    least, most = (element(loss, value, y, **params, nudge=nudge) for nudge in (-1, 1))
    if math.isinf(float(true)):
        return got >= float(least)  # which is infinite too, but where a subnormal coefficient may round to 0
    gamma = params.get("gamma", 1.5)
    bound = units(loss, gamma) * mpf(math.ulp(float(true)))
    if any(0 < part < _NORMAL for part in (true, most)):
        bound += _SPACING
    if loss == "focal" and params.get("variant") == "quality" and _cancels(value, y, **params):
        if 0 < gamma < 1:
            return 0 <= got < math.inf
        bound = max(bound, mpf("1e-15") * params.get("weight", 1.0) * max(1.0, params.get("pos_weight", 1.0)))
    return bool(least - bound <= mpf(got) <= most + bound)


def units(loss: str, gamma: float) -> float:
    """How many units of the last place the promise allows."""
    if loss == "bce":
        return 4.0
    return 8.0 if gamma <= 10.0 else 8.0 + gamma


def _cancels(value: float, y: float, **params: Any) -> bool:  # noqa: ANN401 -- element's
    """Whether y q and z p agree in their first bits, so that their difference has fewer exact ones."""
    e = mpf(params.get("label_smoothing", 0.0))
    y_, z_ = mpf(y) * (1 - e) + e / 2, (1 - mpf(y)) * (1 - e) + e / 2
    v = mpf(value)
    p, q = (v, 1 - v) if params.get("probabilities") else (1 / (1 + exp(-v)), 1 / (1 + exp(v)))
    return bool(abs(y_ * q - z_ * p) < max(y_ * q, z_ * p) / 2)
