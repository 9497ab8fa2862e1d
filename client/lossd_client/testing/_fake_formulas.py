"""The losses in plain numpy, for the fake: formulas in float64 over whole arrays, for the sake of few lines.

Arrays have the losses' axes first, and behind them those of a row; a loss of elements has no axes behind.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from lossd_client.testing._fake_tensors import Flags, Floats, by_class


class Probabilities(NamedTuple):
    """Inputs as probabilities.

    Attributes:
        towards_one: -log of the probability.
        towards_zero: -log of one minus the probability.
        p: The probability.
        q: One minus it.
    """

    towards_one: Floats
    towards_zero: Floats
    p: Floats
    q: Floats

    @classmethod
    def of(cls, x: Floats, *, is_logits: bool) -> Self:
        """Return those of logits or of probabilities."""
        if not is_logits:
            return cls(-np.log(x), -np.log1p(-x), x, 1 - x)
        e = np.exp(-np.abs(x))
        s, large, small = np.log1p(e), 1 / (1 + e), e / (1 + e)
        p, q = np.where(x >= 0, large, small), np.where(x >= 0, small, large)
        return cls(np.maximum(-x, 0) + s, np.maximum(x, 0) + s, p, q)


class Tensors(NamedTuple):
    """What a formula takes.

    Attributes:
        x: The inputs.
        y: The targets.
        within: Which elements are not dropped.
        probabilities: The inputs as these.
        pos_weight: The positive term's factors; None for a loss without.
        class_factors: `class_weight` or `alpha` of each class of the rows; None without.
    """

    x: Floats
    y: Floats
    within: Flags
    probabilities: Probabilities
    pos_weight: Floats | None
    class_factors: Floats | None


class Scores(NamedTuple):
    """What a formula gives, in the losses' shape.

    Attributes:
        losses: The losses, without weights.
        targets: What each adds to the positives.
        weights: What each loss's weight is multiplied by; None for 1.
    """

    losses: Floats
    targets: Floats
    weights: Floats | None = None


def bce(tensors: Tensors, params: Mapping[str, Any]) -> Scores:
    """Return binary cross entropy."""
    return Scores(_cross_entropy(tensors, *smoothed(tensors, params)), tensors.y)


def focal(tensors: Tensors, params: Mapping[str, Any]) -> Scores:
    """Return focal loss."""
    y, z = smoothed(tensors, params)
    losses = _cross_entropy(tensors, y, z)
    losses = _miss(tensors, losses, y, z, params) ** params["gamma"] * losses
    alpha = params["alpha"]
    if alpha is None:
        return Scores(losses, tensors.y)
    share = by_class("alpha", alpha, tensors.x, params)
    balance = share if params["variant"] == "exp" else y * share + z * (1 - share)
    return Scores(times(balance, losses), tensors.y)


def asymmetric(tensors: Tensors, params: Mapping[str, Any]) -> Scores:
    """Return asymmetric loss."""
    y, z = smoothed(tensors, params)
    chances, clip = tensors.probabilities, params["clip"]
    positive = times(chances.q ** params["gamma_pos"], chances.towards_one)
    m = np.maximum(chances.p - clip, 0.0)
    towards_zero = chances.towards_zero if clip == 0 else -np.log1p(-m)
    negative = times(m ** params["gamma_neg"], towards_zero)
    return Scores(times(y, positive) + times(z, negative), tensors.y)


def varifocal(tensors: Tensors, params: Mapping[str, Any]) -> Scores:
    """Return varifocal loss."""
    y, chances = tensors.y, tensors.probabilities
    positive = times(y, times(y, chances.towards_one) + times(1 - y, chances.towards_zero))
    negative = times(params["alpha"] * chances.p ** params["gamma"], chances.towards_zero)
    return Scores(np.where(np.isnan(y) | (y > 0), positive, negative), y)


class Softmax(NamedTuple):
    """What is predicted of rows of classes.

    Attributes:
        p: The probabilities.
        costs: -log of each.
        misses: One minus each.
    """

    p: Floats
    costs: Floats
    misses: Floats


def softmax(x: Floats) -> Softmax:
    """Return the probabilities of logits [..., C]."""
    greatest = x.max(axis=-1, keepdims=True)
    behind = np.where(x == greatest, 0.0, greatest - x)
    e = np.exp(-behind)
    first = np.arange(x.shape[-1]) == x.argmax(axis=-1)[..., None]
    others = np.where(first, 0.0, e).sum(axis=-1, keepdims=True)
    misses = np.where(first, others, 1 + (others - e)) / (1 + others)
    return Softmax(e / (1 + others), behind + np.log1p(others), misses)


def _of_classes(tensors: Tensors, params: Mapping[str, Any], losses: Floats) -> Floats:
    """Return the sum over a row's classes of their shares of its loss."""
    smoothing, classes = params["label_smoothing"], tensors.x.shape[-1]
    y = tensors.y * (1 - smoothing) + smoothing / classes
    factors = 1.0 if tensors.class_factors is None else tensors.class_factors
    found: Floats = times(factors * y, losses).sum(axis=-1)
    return found


def cross_entropy(tensors: Tensors, params: Mapping[str, Any]) -> Scores:
    """Return cross entropy of classes; a row's weight is that of its target."""
    losses = _of_classes(tensors, params, softmax(tensors.x).costs)
    weights = None
    if tensors.class_factors is not None:
        weights = times(tensors.y, tensors.class_factors).sum(axis=-1)
    return Scores(losses, tensors.y.sum(axis=-1), weights)


def softmax_focal(tensors: Tensors, params: Mapping[str, Any]) -> Scores:
    """Return focal loss of classes."""
    predicted = softmax(tensors.x)
    losses = _of_classes(tensors, params, times(predicted.misses ** params["gamma"], predicted.costs))
    return Scores(losses, tensors.y.sum(axis=-1))


def overlap(tensors: Tensors, params: Mapping[str, Any]) -> Scores:
    """Return dice or Tversky loss: dice has neither alpha nor beta, which are 1/2."""
    chances, y = tensors.probabilities, tensors.y
    p, q = (np.where(tensors.within, each, 0.0) for each in (chances.p, chances.q))
    within = tensors.within.astype(np.float64)
    right, alarms, missed = _row_sum(p * y), _row_sum(p * (within - y)), _row_sum(q * y)
    wrong = params.get("alpha", 0.5) * alarms + params.get("beta", 0.5) * missed
    whole = right + wrong + params["smooth"]
    losses = np.where((whole == 0) & (wrong == 0), 0.0, wrong / whole)
    return Scores(losses, _row_sum(y))


def squared(tensors: Tensors, params: Mapping[str, Any]) -> Scores:
    """Return squared error."""
    return Scores((tensors.x - tensors.y) ** 2, tensors.y)


def hinge(tensors: Tensors, params: Mapping[str, Any]) -> Scores:
    """Return hinge loss."""
    return Scores(np.maximum(0.0, 1 - times(2 * tensors.y - 1, tensors.x)), tensors.y)


class _Boxes(NamedTuple):
    """Boxes by their corners and sizes."""

    left: Floats
    top: Floats
    right: Floats
    bottom: Floats
    width: Floats
    height: Floats

    @classmethod
    def of(cls, numbers: Floats, params: Mapping[str, Any]) -> Self:
        """Return those of arrays [..., 4]."""
        one, other, third, fourth = np.moveaxis(numbers, -1, 0)
        if params["format"] == "xyxy":
            return cls(one, other, third, fourth, third - one, fourth - other)
        x, y = third / 2, fourth / 2
        return cls(one - x, other - y, one + x, other + y, third, fourth)


def box(tensors: Tensors, params: Mapping[str, Any]) -> Scores:
    """Return one less the overlap of each box and its target, or what `variant` makes of it."""
    a, b = _Boxes.of(tensors.x, params), _Boxes.of(tensors.y, params)
    common = np.maximum(np.minimum(a.right, b.right) - np.maximum(a.left, b.left), 0) * np.maximum(
        np.minimum(a.bottom, b.bottom) - np.maximum(a.top, b.top), 0
    )
    union = a.width * a.height + b.width * b.height - common
    iou = _ratio(common, union)
    width = np.maximum(a.right, b.right) - np.minimum(a.left, b.left)
    height = np.maximum(a.bottom, b.bottom) - np.minimum(a.top, b.top)
    apart = (a.left + a.right - b.left - b.right) ** 2 + (a.top + a.bottom - b.top - b.bottom) ** 2
    losses: Mapping[str, Callable[[], Floats]] = {
        "iou": lambda: 1 - iou,
        "giou": lambda: 1 - iou + _ratio(width * height - union, width * height),
        "diou": lambda: 1 - iou + _ratio(apart / 4, width**2 + height**2),
        "ciou": lambda: 1 - iou + _ratio(apart / 4, width**2 + height**2) + _unlike(a, b, iou),
    }
    return Scores(losses[params["variant"]](), np.ones(iou.shape))


def _unlike(a: _Boxes, b: _Boxes, iou: Floats) -> Floats:
    """Return what boxes of other shapes cost in ciou."""
    v = 4 / math.pi**2 * (np.arctan2(b.width, b.height) - np.arctan2(a.width, a.height)) ** 2
    return _ratio(v * v, 1 - iou + v)


def _ratio(one: Floats, other: Floats) -> Floats:
    """Divide; 0 by 0 is 0."""
    return np.where((one == 0) & (other == 0), 0.0, one / other)


def _row_sum(array: Floats) -> Floats:
    found: Floats = array.sum(axis=tuple(range(1, array.ndim)))
    return found


def plain_losses(tensors: Tensors) -> Floats:
    """Return the binary cross entropy of the targets as they are, without weights."""
    y = tensors.y
    return times(y, tensors.probabilities.towards_one) + times(1 - y, tensors.probabilities.towards_zero)


def brackets_of(
    name: str, tensors: Tensors, weights: Floats, params: Mapping[str, Any], gamma: float | None
) -> dict[str, Floats]:
    """Return what the loss of another gamma, alpha or pos_weight is made of, by the report's names of it."""
    y, z = smoothed(tensors, params)
    factor, one, zero = weights, tensors.probabilities.towards_one, tensors.probabilities.towards_zero
    if name == "bce" or gamma is None:
        return {"y_terms": times(factor * y, one), "z_terms": times(factor * z, zero)}
    losses = _cross_entropy(tensors, y, z)
    factor = factor * _miss(tensors, losses, y, z, params) ** gamma
    if params["variant"] == "exp":
        return {"terms": times(factor, losses)}
    return {
        "yy_terms": times(factor * y * y, one),
        "yz_terms": times(factor * y * z, zero),
        "zy_terms": times(factor * z * y, one),
        "zz_terms": times(factor * z * z, zero),
    }


def smoothed(tensors: Tensors, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """Return the targets, and one minus them, both moved towards 1/2."""
    smoothing = params["label_smoothing"]
    y = tensors.y * (1 - smoothing) + smoothing / 2
    return y, (1 - tensors.y) * (1 - smoothing) + smoothing / 2


def _cross_entropy(tensors: Tensors, y: Floats, z: Floats) -> Floats:
    factors = 1.0 if tensors.pos_weight is None else tensors.pos_weight
    return times(y * factors, tensors.probabilities.towards_one) + times(
        z, tensors.probabilities.towards_zero
    )


def _miss(tensors: Tensors, losses: Floats, y: Floats, z: Floats, params: Mapping[str, Any]) -> Floats:
    """Return what is taken to the power of gamma."""
    if params["variant"] == "exp":
        return 1e-6 - np.expm1(-losses)
    if params["variant"] == "sigmoid":
        return y * tensors.probabilities.q + z * tensors.probabilities.p
    return np.abs(y * tensors.probabilities.q - z * tensors.probabilities.p)


def times(factor: Floats, losses: Floats) -> Floats:
    """Multiply; a factor of zero gives zero, of infinity too."""
    return np.where((factor == 0) & ~np.isnan(losses), 0.0, factor * losses)
