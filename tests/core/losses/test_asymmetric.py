"""Asymmetric loss against mpmath, and against the formula of timm's AsymmetricLossMultiLabel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
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
    st.sampled_from([0.0, 1.0, 5e-324, 2.0**-1022, 2.0**-54, 0.5, 0.05, 1 - 2.0**-53]),
)
TARGETS = st.one_of(
    st.sampled_from([0.0, 1.0]),
    st.floats(0, 1),
    st.floats(0, 1e-6),
    st.sampled_from([5e-324, 1e-310, 1.0 - 2.0**-53]),
)
GAMMAS = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 10.0]), st.floats(0, 10))
CLIPS = st.one_of(st.sampled_from([0.0, 0.05, 0.5, 1.0, 1e-3, 1e-20, 1e-280]), st.floats(1e-280, 1))
SMOOTHING = st.one_of(st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 1 - 2.0**-53]), st.floats(1e-300, 0.999))
DEFAULTS = {"gamma_pos": 1.0, "gamma_neg": 4.0, "clip": 0.05, "label_smoothing": 0.0}


def chances(value: float, kind: str) -> tuple[mpf, mpf]:
    """p and 1 - p."""
    if kind == "probabilities":
        return mpf(value), 1 - mpf(value)
    if math.isinf(value):
        return mpf(value > 0), mpf(value < 0)
    return 1 / (1 + exp(-mpf(value))), 1 / (1 + exp(mpf(value)))


def minus_log(p: mpf, q: mpf) -> mpf:
    """-log(p), where q is 1 - p."""
    if p == 0:
        return inf
    return -log1p(-q) if q < 0.5 else -log(p)


def times(coefficient: mpf, value: mpf) -> mpf:
    return mpf(0) if coefficient == 0 else coefficient * value


def targets(y: float, smoothing: float) -> tuple[mpf, mpf]:
    e, target = mpf(smoothing), mpf(y)
    return target * (1 - e) + e / 2, (1 - target) * (1 - e) + e / 2


def loss_of(value: float, y: float, kind: str, params: dict[str, float]) -> mpf:
    """The loss by its formula."""
    p, q = chances(value, kind)
    clip = mpf(params["clip"])
    m, left = (p - clip, q + clip) if p > clip else (mpf(0), mpf(1))
    y_, z_ = targets(y, params["label_smoothing"])
    right = times(power(q, params["gamma_pos"]), minus_log(p, q))
    wrong = times(power(m, params["gamma_neg"]), minus_log(left, m))
    return times(y_, right) + times(z_, wrong)


def power(base: mpf, gamma: float) -> mpf:
    return mpf(1) if gamma == 0 else base ** mpf(gamma)


def is_near_clip(value: float, kind: str, clip: float) -> bool:
    return bool(kind == "logits" and abs(chances(value, kind)[0] - mpf(clip)) < mpf(clip) / 16)


def keeps_the_promise(got: float, value: float, y: float, kind: str, params: dict[str, float]) -> bool:
    """Whether a loss is within 8 units of the last place (8 + gamma beyond 10); for a logit whose p is nearly
    clip, 1e-15 will do."""
    true = loss_of(value, y, kind, params)
    gamma = max(params["gamma_pos"], params["gamma_neg"])
    units = 8.0 if gamma <= 10 else 8.0 + gamma
    factors = targets(y, params["label_smoothing"])
    if reference.is_within(got, true, units, factors, scale=1e3):
        return True
    return is_near_clip(value, kind, params["clip"]) and abs(mpf(got) - true) <= mpf("1e-15")


def scored(kind: str, values: Any, y: Any, params: dict[str, Any]) -> list[float]:  # noqa: ANN401 -- as elements
    tensors = {kind: np.array(values, dtype=np.float64)}
    found: list[float] = elements("asymmetric", targets=np.array(y), **tensors, **params).tolist()
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_against_the_formula(kind: str, data: st.DataObject) -> None:
    inputs = LOGITS if kind == "logits" else PROBABILITIES
    drawn = data.draw(st.lists(st.tuples(inputs, TARGETS), min_size=1, max_size=16))
    params = {
        "gamma_pos": data.draw(GAMMAS),
        "gamma_neg": data.draw(GAMMAS),
        "clip": data.draw(CLIPS),
        "label_smoothing": data.draw(SMOOTHING),
    }
    values, y = zip(*drawn, strict=True)
    for case, got in zip(drawn, scored(kind, values, y, params), strict=True):
        assert keeps_the_promise(got, *case, kind, params), (case, params)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_the_defaults(kind: str, data: st.DataObject) -> None:
    inputs = LOGITS if kind == "logits" else PROBABILITIES
    drawn = data.draw(st.lists(st.tuples(inputs, TARGETS), min_size=1, max_size=32))
    values, y = zip(*drawn, strict=True)
    for case, got in zip(drawn, scored(kind, values, y, {}), strict=True):
        assert keeps_the_promise(got, *case, kind, DEFAULTS), case


@given(clip=st.floats(1e-6, 0.99), off=st.floats(-20, -1), gamma=GAMMAS, up=st.booleans())
def test_near_clip(clip: float, off: float, gamma: float, up: bool) -> None:
    p = min(max(clip * (1 + 10**off * (1 if up else -1)), 1e-300), 1 - 1e-9)
    params = {**DEFAULTS, "gamma_neg": gamma, "clip": clip}
    [exact] = scored("probabilities", [p], [0.0], params)
    assert keeps_the_promise(exact, p, 0.0, "probabilities", params)
    x = math.log(p) - math.log1p(-p)
    [got] = scored("logits", [x], [0.0], params)
    assert keeps_the_promise(got, x, 0.0, "logits", params)


@given(value=st.floats(-40, 40), y=TARGETS, gamma_pos=st.floats(10, 1000), gamma_neg=st.floats(10, 1000))
def test_the_largest_gammas(value: float, y: float, gamma_pos: float, gamma_neg: float) -> None:
    params = {**DEFAULTS, "gamma_pos": gamma_pos, "gamma_neg": gamma_neg}
    [got] = scored("logits", [value], [y], params)
    assert keeps_the_promise(got, value, y, "logits", params)


@given(x=st.floats(20, 740), clip=st.sampled_from([0.0, 0.05, 1e-3]))
@example(x=40.0, clip=0.0)
@example(x=740.0, clip=0.0)
def test_no_tail_is_lost(x: float, clip: float) -> None:
    params = {"gamma_pos": 0.0, "gamma_neg": 0.0, "clip": clip}
    found = scored("logits", [x, x, -x, -x], [0.0, 1.0, 0.0, 1.0], params)
    p, q = chances(x, "logits")
    assert found[3] == pytest.approx(x, rel=1e-8)
    assert reference.is_within(found[1], minus_log(p, q), 8.0)
    assert reference.is_within(found[0], -log(q + mpf(clip)), 8.0)
    assert (found[2] == 0.0) if clip else reference.is_within(found[2], minus_log(p, q), 8.0)


LIMITS: list[tuple[str, float, float, dict[str, float], float]] = [
    ("logits", math.inf, 1.0, {}, 0.0),
    ("logits", -math.inf, 0.0, {}, 0.0),
    ("logits", -math.inf, 1.0, {}, math.inf),
    ("logits", -math.inf, 5e-324, {}, math.inf),
    ("logits", -math.inf, 0.0, {"label_smoothing": 1e-9}, math.inf),
    ("logits", math.inf, 0.0, {"clip": 0.0}, math.inf),
    ("logits", math.inf, 0.5, {"clip": 0.0}, math.inf),
    ("logits", math.inf, 1.0, {"clip": 0.0}, 0.0),
    ("logits", math.inf, 0.0, {"clip": 1.0}, 0.0),
    ("logits", math.inf, 0.0, {"clip": 0.5, "gamma_neg": 1.0}, 0.5 * math.log(2)),
    ("logits", 1e3, 0.0, {"clip": 1.0, "gamma_neg": 0.0}, 0.0),
    ("probabilities", 1.0, 1.0, {}, 0.0),
    ("probabilities", 0.0, 0.0, {}, 0.0),
    ("probabilities", 0.0, 1.0, {}, math.inf),
    ("probabilities", 1.0, 0.0, {"clip": 0.0}, math.inf),
    ("probabilities", 1.0, 0.0, {"clip": 0.5, "gamma_neg": 1.0}, 0.5 * math.log(2)),
    ("probabilities", 1.0, 0.0, {"clip": 1.0}, 0.0),
]


@pytest.mark.parametrize(("kind", "value", "y", "params", "limit"), LIMITS)
def test_certainty_takes_the_limit(
    kind: str, value: float, y: float, params: dict[str, float], limit: float
) -> None:
    assert scored(kind, [value], [y], params) == [pytest.approx(limit, rel=1e-15)]


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_a_coefficient_of_zero_makes_zero_of_infinity(clip: float) -> None:
    logits = [-math.inf, math.inf]
    assert scored("logits", logits, [1.0, 0.0], {"clip": clip, "weight": [0.0, 0.0]}) == [0.0, 0.0]


@pytest.mark.parametrize("clip", [0.0, 0.05, 1.0])
@pytest.mark.parametrize(
    ("x", "y"), [(math.nan, 0.0), (math.nan, 1.0), (-3.0, math.nan), (math.inf, math.nan)]
)
def test_nan_propagates(x: float, y: float, clip: float) -> None:
    for gamma in (0.0, 1.0, 4.0, 2.5):
        params = {"clip": clip, "allow_nan": True, "gamma_pos": gamma, "gamma_neg": gamma}
        assert np.isnan(scored("logits", [x], [y], params)).all()


def test_without_exponents_and_clip_it_is_the_cross_entropy() -> None:
    x, y = np.linspace(-30, 30, 601), np.linspace(0, 1, 601)
    plain = {"gamma_pos": 0.0, "gamma_neg": 0.0, "clip": 0.0}
    np.testing.assert_allclose(scored("logits", x, y, plain), elements("bce", x, y), rtol=1e-15)


def test_against_timm() -> None:
    """timm's, written out: it takes logarithms of at least 1e-8, which no logit here is beyond."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(0, 3, 4096), draw.integers(0, 2, 4096).astype(float)
    for gamma_pos, gamma_neg, clip in ((1.0, 4.0, 0.05), (0.0, 2.0, 0.1), (1.5, 3.0, 0.0), (0.0, 2.5, 0.2)):
        positive = 1 / (1 + np.exp(-x))
        negative = np.minimum(1 - positive + clip, 1.0)
        entropy = y * np.log(np.maximum(positive, 1e-8)) + (1 - y) * np.log(np.maximum(negative, 1e-8))
        p_t = positive * y + negative * (1 - y)
        expected = -entropy * (1 - p_t) ** (gamma_pos * y + gamma_neg * (1 - y))
        params = {"gamma_pos": gamma_pos, "gamma_neg": gamma_neg, "clip": clip}
        np.testing.assert_allclose(scored("logits", x, y, params), expected, rtol=1e-9, atol=1e-15)
