"""Varifocal loss against mpmath, and against the formula of VarifocalNet's own code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import exp, inf, log, log1p, mpf  # type: ignore[import-untyped] # it has none

import reference
from core.scoring import elements

KINDS = ("logits", "probabilities")
LOGITS = st.one_of(
    st.floats(-1e3, 1e3),
    st.floats(-40, 40),
    st.floats(-4, 4),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, 5e-324, 745.2, -745.2, 708.4, -37.5, 36.9]),
)
PROBABILITIES = st.one_of(
    st.floats(0, 1),
    st.floats(0, 1e-6),
    st.floats(1 - 1e-6, 1),
    st.sampled_from([0.0, 1.0, 5e-324, 2.0**-1022, 2.0**-54, 0.5, 1 - 2.0**-53]),
)
SCORES = st.one_of(
    st.sampled_from([0.0, 1.0]),
    st.floats(0, 1),
    st.floats(0, 1e-6),
    st.sampled_from([5e-324, 1e-310, 1e-160, 1.0 - 2.0**-53]),
)
GAMMAS = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 10.0]), st.floats(0, 10))
ALPHAS = st.one_of(st.sampled_from([0.75, 0.0, 1.0]), st.floats(1e-3, 1))


def times(coefficient: mpf, value: mpf) -> mpf:
    return mpf(0) if coefficient == 0 else coefficient * value


def loss_of(value: float, q: float, kind: str, alpha: float, gamma: float) -> mpf:
    """The loss by its formula."""
    if kind == "probabilities":
        p = mpf(value)
        positive, negative = -log(p) if p else inf, -log1p(-p) if p < 1 else inf
    else:
        x = mpf(value)
        p = mpf(value > 0) if math.isinf(value) else 1 / (1 + exp(-x))
        positive, negative = (max(side, mpf(0)) + log1p(exp(-abs(x))) for side in (-x, x))
    if q > 0:
        return mpf(q) * (mpf(q) * positive + times(1 - mpf(q), negative))
    return times(mpf(alpha) * (mpf(1) if gamma == 0 else p ** mpf(gamma)), negative)


def scored(kind: str, values: Any, q: Any, **params: Any) -> list[float]:  # noqa: ANN401 -- as elements
    tensors = {kind: np.array(values, dtype=np.float64)}
    found: list[float] = elements("varifocal", targets=np.array(q), **tensors, **params).tolist()
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_against_the_formula(kind: str, data: st.DataObject) -> None:
    inputs = LOGITS if kind == "logits" else PROBABILITIES
    drawn = data.draw(st.lists(st.tuples(inputs, SCORES), min_size=1, max_size=16))
    alpha, gamma = data.draw(ALPHAS), data.draw(GAMMAS)
    values, scores = zip(*drawn, strict=True)
    losses = scored(kind, values, scores, alpha=alpha, gamma=gamma)
    for (value, q), got in zip(drawn, losses, strict=True):
        true = loss_of(value, q, kind, alpha, gamma)
        # q times a subnormal q is 0, but with q over 0 a certain error costs all the same
        assert reference.is_within(got, true, 8.0, [mpf(q) ** 2], scale=1e3), (value, q, alpha, gamma)


@given(value=st.floats(-40, 40), gamma=st.floats(10, 1000))
def test_the_largest_gammas(value: float, gamma: float) -> None:
    [got] = scored("logits", [value], [0.0], gamma=gamma)
    assert reference.is_within(got, loss_of(value, 0.0, "logits", 0.75, gamma), 8.0 + gamma, scale=1e3)


LIMITS: list[tuple[str, float, float, dict[str, float], float]] = [
    ("logits", math.inf, 1.0, {}, 0.0),
    ("logits", math.inf, 0.9, {}, math.inf),
    ("logits", math.inf, 0.0, {}, math.inf),
    ("logits", math.inf, 0.0, {"alpha": 0.0}, 0.0),
    ("logits", math.inf, 0.0, {"gamma": 0.0}, math.inf),
    ("logits", -math.inf, 0.0, {}, 0.0),
    ("logits", -math.inf, 0.0, {"gamma": 0.0}, 0.0),
    ("logits", -math.inf, 5e-324, {}, math.inf),
    ("logits", -math.inf, 1.0, {}, math.inf),
    ("probabilities", 1.0, 1.0, {}, 0.0),
    ("probabilities", 1.0, 0.0, {}, math.inf),
    ("probabilities", 1.0, 0.0, {"alpha": 0.0}, 0.0),
    ("probabilities", 0.0, 0.0, {}, 0.0),
    ("probabilities", 0.0, 0.2, {}, math.inf),
]


@pytest.mark.parametrize(("kind", "value", "q", "params", "limit"), LIMITS)
def test_certainty_takes_the_limit(
    kind: str, value: float, q: float, params: dict[str, float], limit: float
) -> None:
    assert scored(kind, [value], [q], **params) == [limit]


@pytest.mark.parametrize(
    ("x", "q"), [(math.nan, 0.0), (math.nan, 1.0), (-3.0, math.nan), (math.inf, math.nan)]
)
def test_nan_propagates(x: float, q: float) -> None:
    for gamma in (0.0, 2.0, 2.5):
        assert np.isnan(scored("logits", [x], [q], gamma=gamma, allow_nan=True)).all()


def test_no_tail_is_lost() -> None:
    found = scored("logits", [40.0, -40.0, -40.0], [1.0, 0.0, 0.0], gamma=0.0, alpha=1.0)
    tail = log1p(exp(mpf(-40)))
    assert [reference.is_within(got, tail, 8.0) for got in found] == [True, True, True]


def test_positives_count_alpha_and_gamma_in_nothing() -> None:
    x, q = np.linspace(-5, 5, 101), np.linspace(0.01, 1, 101)
    plain = scored("logits", x, q)
    assert scored("logits", x, q, alpha=0.1, gamma=7.0) == plain
    np.testing.assert_allclose(plain, q * elements("bce", x, q), rtol=1e-15)


def test_against_varifocalnet() -> None:
    """The formula of its code (mmdet's varifocal_loss.py), with torch's stable cross entropy in float64."""
    draw = np.random.default_rng(0)
    x, q = draw.normal(0, 3, 4096), draw.uniform(0, 1, 4096) * (draw.uniform(0, 1, 4096) < 0.3)
    for alpha, gamma in ((0.75, 2.0), (0.25, 1.5), (1.0, 2.5)):
        p = 1 / (1 + np.exp(-x))
        weight = q * (q > 0.0) + alpha * np.abs(p - q) ** gamma * (q <= 0.0)
        expected = weight * (np.maximum(x, 0) - x * q + np.log1p(np.exp(-np.abs(x))))
        np.testing.assert_allclose(scored("logits", x, q, alpha=alpha, gamma=gamma), expected, rtol=1e-12)
