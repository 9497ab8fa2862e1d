"""The losses of the known-answer check by mpmath, from their definitions, with default parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpmath import log, log1p  # type: ignore[import-untyped] # it has none

from reference import bce, exp, focal, mpf

Row = Sequence[float]


def _probability(x: float) -> Any:  # noqa: ANN401 -- an mpf, without types
    return 1 / (1 + exp(-mpf(x)))


def asymmetric(x: float, y: float) -> Any:  # noqa: ANN401
    m = max(_probability(x) - mpf(0.05), mpf(0))
    return mpf(y) * _probability(-x) * bce(x, 1.0) + (1 - mpf(y)) * m**4 * -log(1 - m)


def varifocal(x: float, y: float) -> Any:  # noqa: ANN401
    return mpf(y) * bce(x, y) if y > 0 else mpf(0.75) * _probability(x) ** 2 * bce(x, 0.0)


def squared(x: float, y: float) -> Any:  # noqa: ANN401
    return (mpf(x) - mpf(y)) ** 2


def hinge(x: float, y: float) -> Any:  # noqa: ANN401
    return max(mpf(0), 1 - (2 * mpf(y) - 1) * mpf(x))


def cross_entropy(row: Row, target: float) -> Any:  # noqa: ANN401
    return log1p(_odds(row, target))


def softmax_focal(row: Row, target: float) -> Any:  # noqa: ANN401
    odds = _odds(row, target)
    return (odds / (1 + odds)) ** 2 * log1p(odds)


def _odds(row: Row, target: float) -> Any:  # noqa: ANN401
    """The odds against a row's class."""
    return sum(exp(mpf(x) - mpf(row[int(target)])) for at, x in enumerate(row) if at != int(target))


def overlap(row: Row, targets: Row) -> Any:  # noqa: ANN401
    terms = [(_probability(x), _probability(-x), mpf(y)) for x, y in zip(row, targets, strict=True)]
    false = sum(p * (1 - y) + q * y for p, q, y in terms) / 2
    return false / (sum(p * y for p, _, y in terms) + false + 1)


def box(one: Row, other: Row) -> Any:  # noqa: ANN401
    a, b = [mpf(x) for x in one], [mpf(x) for x in other]
    width = max(min(a[2], b[2]) - max(a[0], b[0]), mpf(0))
    height = max(min(a[3], b[3]) - max(a[1], b[1]), mpf(0))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return 1 - width * height / union


TRUE: Mapping[str, Callable[..., Any]] = {
    "bce": bce,
    "focal": focal,
    "asymmetric": asymmetric,
    "varifocal": varifocal,
    "squared": squared,
    "hinge": hinge,
    "cross_entropy": cross_entropy,
    "softmax_focal": softmax_focal,
    "dice": overlap,
    "tversky": overlap,
    "box": box,
}
