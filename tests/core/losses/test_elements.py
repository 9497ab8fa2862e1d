"""Element losses against mpmath, within the bounds that docs/explanations/numerics.md promises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import reference
from core.scoring import elements

LOGITS = st.one_of(
    st.floats(-1e4, 1e4),
    st.floats(-40, 40),
    st.floats(-1, 1),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, 5e-324, 745.2, -745.2, 708.4, -37.5, 36.9, 20.5]),
)
PROBABILITIES = st.one_of(
    st.floats(0, 1),
    st.floats(0, 1e-6),
    st.floats(1 - 1e-6, 1),
    st.floats(0, 2.0**-1022),
    st.sampled_from([0.0, 1.0, 5e-324, 2.0**-1022, 2.0**-54, 2.0**-53, 0.5, 1 - 2.0**-53]),
)
TARGETS = st.one_of(
    st.sampled_from([0.0, 1.0]),
    st.floats(0, 1),
    st.floats(0, 1e-6),
    st.sampled_from([5e-324, 1.0 - 2.0**-53]),
)
GAMMAS = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0]), st.floats(0, 10))
BALANCES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.25, 5e-324]))
ALPHAS = st.one_of(st.none(), BALANCES)
POS_WEIGHTS = st.one_of(st.sampled_from([0.0, 1.0, 1e-300, 1e300]), st.floats(1e-3, 1e3))
WEIGHTS = st.one_of(st.sampled_from([0.0, 1.0, 5e-324]), st.floats(0, 1e3))
SMOOTHING = st.one_of(
    st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 5e-324, 1 - 2.0**-53]), st.floats(0, 1, exclude_max=True)
)
VARIANTS = ("sigmoid", "exp", "quality")
KINDS = ("logits", "probabilities")


def cases(kind: str, *more: st.SearchStrategy[Any]) -> st.SearchStrategy[list[tuple[float, ...]]]:
    values = LOGITS if kind == "logits" else PROBABILITIES
    return st.lists(st.tuples(values, TARGETS, *more), min_size=1, max_size=16)


def scored(loss: str, kind: str, values: Any, y: Any, **given: Any) -> list[float]:  # noqa: ANN401 -- as elements
    tensors: dict[str, Any] = {kind: np.array(values, dtype=np.float64)}
    found: list[float] = elements(loss, targets=y, **tensors, **given).tolist()
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_bce(kind: str, data: st.DataObject) -> None:
    drawn = data.draw(cases(kind))
    values, y = zip(*drawn, strict=True)
    for case, got in zip(drawn, scored("bce", kind, values, y), strict=True):
        assert reference.keeps_the_promise(got, "bce", *case, probabilities=kind == "probabilities"), case


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_bce_with_every_parameter(kind: str, data: st.DataObject) -> None:
    drawn = data.draw(cases(kind, WEIGHTS, POS_WEIGHTS))
    smoothing = data.draw(SMOOTHING)
    values, y, w, k = zip(*drawn, strict=True)
    # pos_weight lies along the class axis, so that each element has its own
    losses = scored("bce", kind, values, y, weight=w, pos_weight=k, label_smoothing=smoothing)
    for (value, target, weight, pos_weight), got in zip(drawn, losses, strict=True):
        params = {
            "probabilities": kind == "probabilities",
            "weight": weight,
            "pos_weight": pos_weight,
            "label_smoothing": smoothing,
        }
        assert reference.keeps_the_promise(got, "bce", value, target, **params), (value, target, params)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_focal(kind: str, variant: str, data: st.DataObject) -> None:
    drawn = data.draw(cases(kind))
    gamma, alpha = data.draw(GAMMAS), data.draw(ALPHAS)
    values, y = zip(*drawn, strict=True)
    losses = scored("focal", kind, values, y, gamma=gamma, alpha=alpha, variant=variant)
    for case, got in zip(drawn, losses, strict=True):
        params: dict[str, Any] = {"gamma": gamma, "alpha": alpha, "variant": variant}
        assert reference.keeps_the_promise(
            got, "focal", *case, probabilities=kind == "probabilities", **params
        ), (case, params)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_focal_with_every_parameter(kind: str, variant: str, data: st.DataObject) -> None:
    drawn = data.draw(cases(kind, WEIGHTS, POS_WEIGHTS, BALANCES))
    gamma, smoothing = data.draw(GAMMAS), data.draw(SMOOTHING)
    values, y, w, k, a = zip(*drawn, strict=True)
    shared = {"gamma": gamma, "label_smoothing": smoothing, "variant": variant}
    losses = scored("focal", kind, values, y, weight=w, pos_weight=k, alpha=np.array(a), **shared)
    for (value, target, weight, pos_weight, alpha), got in zip(drawn, losses, strict=True):
        params = {
            "probabilities": kind == "probabilities",
            "weight": weight,
            "pos_weight": pos_weight,
            "alpha": alpha,
            **shared,
        }
        assert reference.keeps_the_promise(got, "focal", value, target, **params), (value, target, params)


@pytest.mark.parametrize("variant", VARIANTS)
@given(
    x=st.one_of(st.floats(-40, 40), st.just(20.0)),
    y=TARGETS,
    e=st.one_of(st.sampled_from([1e-6, 1e-3]), st.floats(1e-15, 1e-5)),
)
@example(x=20.0, y=1.0, e=1e-6)  # a complement taken from the smoothed target keeps almost no digit
@example(x=3.0, y=1.0, e=1e-3)  # and here it loses 25 units of the last place
def test_slight_smoothing_keeps_its_digits(variant: str, x: float, y: float, e: float) -> None:
    got = elements("bce", [x], [y], label_smoothing=e)[0]
    assert reference.keeps_the_promise(float(got), "bce", x, y, label_smoothing=e)
    got = elements("focal", [x], [y], label_smoothing=e, variant=variant)[0]
    assert reference.keeps_the_promise(float(got), "focal", x, y, label_smoothing=e, variant=variant)


@given(x=st.floats(-30, 30), off=st.floats(-1e-6, 1e-6), gamma=st.floats(1, 10), k=st.floats(0, 1e3))
def test_quality_where_the_target_is_nearly_the_probability(
    x: float, off: float, gamma: float, k: float
) -> None:
    y = min(max(1 / (1 + math.exp(-x)) * (1 + off), 0.0), 1.0)
    for given_off in (y, 1 / (1 + math.exp(-x))):
        params: dict[str, Any] = {"gamma": gamma, "variant": "quality", "pos_weight": k, "alpha": None}
        got = float(elements("focal", [x], [given_off], **params)[0])
        true = reference.element("focal", x, given_off, **params)
        relative = reference.units("focal", gamma) * math.ulp(float(true))
        assert abs(reference.mpf(got) - true) <= max(1e-15 * max(1.0, k), relative)


@given(x=st.floats(-30, 30), gamma=st.floats(0, 1, exclude_min=True))
def test_quality_below_gamma_1_is_a_number_at_least(x: float, gamma: float) -> None:
    got = elements("focal", [x], [1 / (1 + math.exp(-x))], gamma=gamma, variant="quality")[0]
    assert 0.0 <= got < 0.7


@settings(max_examples=30)
@given(gamma=st.floats(10, 1000), x=st.floats(-40, 40), y=TARGETS, variant=st.sampled_from(VARIANTS))
def test_the_largest_gammas(gamma: float, x: float, y: float, variant: str) -> None:
    got = float(elements("focal", [x], [y], gamma=gamma, variant=variant)[0])
    assert reference.keeps_the_promise(got, "focal", x, y, gamma=gamma, variant=variant)


@pytest.mark.parametrize("kind", KINDS)
def test_gamma_0_is_the_balanced_cross_entropy(kind: str) -> None:
    values = [0.0, 1.0, 0.3, 0.7, 5e-324]
    y = [0.0, 1.0, 0.3, 1.0, 0.0]
    plain = scored("bce", kind, values, y, pos_weight=3.0)
    for variant in VARIANTS:
        got = scored("focal", kind, values, y, pos_weight=3.0, gamma=0, alpha=None, variant=variant)
        assert got == plain
        assert scored("focal", kind, values, y, gamma=0, alpha=1, variant="sigmoid") == [
            target * loss for target, loss in zip(y, scored("bce", kind, values, y), strict=True)
        ]


TRAPS = [
    ("bce", -10.0, 0.0, 4.53989e-5),
    ("bce", -15.0, 0.0, 3.05902e-7),
    ("bce", -40.0, 0.0, 4.24835e-18),
    ("bce", -20.0, 1e-6, 2.00021e-5),
    ("bce", math.inf, 1.0, 0.0),
    ("focal", 15.0, 1.0, 1.29389e-17),
    ("focal", 17.0, 1.0, 8.71815e-20),
    ("focal", -15.0, 0.0, 3.88166e-17),
]
"""Where the frameworks' own formulas lose the tail or return NaN; six digits of the true values."""


@pytest.mark.parametrize(("loss", "x", "y", "true"), TRAPS)
def test_traps(loss: str, x: float, y: float, true: float) -> None:
    got = float(elements(loss, logits=[x], targets=[y])[0])
    assert got == pytest.approx(true, rel=1e-5, abs=0)
    assert reference.keeps_the_promise(got, loss, x, y)


@pytest.mark.parametrize("x", [20.5, -20.5, 36.9, 37.5, 700.0])
def test_softplus_has_no_threshold(x: float) -> None:
    got = elements("bce", logits=[x, x], targets=[0.0, 1.0]).tolist()
    assert [reference.keeps_the_promise(got[y], "bce", x, float(y)) for y in (0, 1)] == [True, True]
    assert got[int(x > 0)] > 0.0


def test_the_smallest_tail_is_not_flushed() -> None:
    assert elements("bce", logits=[-745.0, 745.0], targets=[0.0, 1.0]).tolist() == [5e-324, 5e-324]
    got = scored("bce", "probabilities", [5e-324, 5e-324, 1e-310], [0.0, 1.0, 0.0])
    assert got == [5e-324, -math.log(5e-324), 1e-310]


def test_no_logarithm_is_clamped() -> None:
    got = scored("bce", "probabilities", [1e-300], [1.0])
    assert got == [pytest.approx(690.7755278982137, rel=1e-15)]  # torch's binary_cross_entropy says 100


LIMITS: list[tuple[str, str, float, float, dict[str, Any], float]] = [
    # loss, kind, value, target, parameters, limit
    ("any", "logits", math.inf, 1.0, {}, 0.0),
    ("any", "logits", math.inf, 0.0, {}, math.inf),
    ("any", "logits", -math.inf, 1.0, {}, math.inf),
    ("any", "logits", -math.inf, 0.0, {}, 0.0),
    ("any", "logits", math.inf, 0.5, {}, math.inf),
    ("any", "logits", -math.inf, 0.5, {}, math.inf),
    ("any", "logits", math.inf, 1 - 2.0**-53, {}, math.inf),
    ("any", "logits", -math.inf, 5e-324, {}, math.inf),
    ("any", "probabilities", 1.0, 1.0, {}, 0.0),
    ("any", "probabilities", 1.0, 0.0, {}, math.inf),
    ("any", "probabilities", 0.0, 1.0, {}, math.inf),
    ("any", "probabilities", 0.0, 0.0, {}, 0.0),
    ("any", "probabilities", 0.0, 0.3, {}, math.inf),
    ("any", "logits", math.inf, 1.0, {"label_smoothing": 1e-9}, math.inf),
    ("any", "probabilities", 0.0, 0.0, {"label_smoothing": 1e-9}, math.inf),
    ("any", "logits", -math.inf, 1.0, {"weight": [0.0]}, 0.0),
    ("any", "probabilities", 0.0, 1.0, {"weight": [0.0]}, 0.0),
    ("any", "logits", -math.inf, 1.0, {"pos_weight": 0.0}, 0.0),
    ("any", "logits", -math.inf, 0.5, {"pos_weight": 0.0}, 0.0),
    ("any", "logits", math.inf, 0.5, {"pos_weight": 0.0}, math.inf),
    ("any", "probabilities", 0.0, 1.0, {"pos_weight": 0.0}, 0.0),
    ("focal", "logits", -math.inf, 1.0, {"alpha": 0.0}, 0.0),
    ("focal", "probabilities", 0.0, 1.0, {"alpha": 0.0}, 0.0),
    ("focal", "logits", -math.inf, 1.0, {"alpha": np.array([0.0])}, 0.0),
    ("focal", "logits", math.inf, 1.0, {"gamma": 0.0}, 0.0),
    ("focal", "logits", math.inf, 0.0, {"gamma": 0.0}, math.inf),
]


@pytest.mark.parametrize(("which", "kind", "value", "y", "params", "limit"), LIMITS)
def test_certainty_takes_the_limit(
    which: str, kind: str, value: float, y: float, params: dict[str, Any], limit: float
) -> None:
    if which == "any":
        assert scored("bce", kind, [value], [y], **params) == [limit]
    if "gamma" not in params:
        params = {**params, "gamma": 1.5}
    for variant in VARIANTS:
        assert scored("focal", kind, [value], [y], variant=variant, **params) == [limit]


def test_what_alpha_1_does_to_a_certain_negative() -> None:
    at: dict[str, Any] = {"logits": [math.inf], "targets": [0.0], "alpha": 1.0}
    assert elements("focal", **at).tolist() == [0.0]
    assert elements("focal", **at, variant="quality").tolist() == [0.0]
    assert elements("focal", **at, variant="exp").tolist() == [math.inf]  # it has no 1 - alpha


def test_pos_weight_is_in_the_cross_entropy_alone() -> None:
    # so the modulator of sigmoid and quality is untouched by it, and that of exp is not
    x, y = [0.3], [1.0]
    for variant in ("sigmoid", "quality"):
        one = elements("focal", x, y, variant=variant)[0]
        assert elements("focal", x, y, variant=variant, pos_weight=4.0)[0] == 4 * one
    one = elements("focal", x, y, variant="exp")[0]
    assert elements("focal", x, y, variant="exp", pos_weight=4.0)[0] > 4 * one
