"""Element losses against mpmath, within the bounds that docs/numerics.md promises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
from core.scoring import elements

LOGITS = st.one_of(
    st.floats(-1e4, 1e4),
    st.floats(-40, 40),
    st.floats(-1, 1),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, 5e-324, 745.2, -745.2, 708.4, -37.5, 36.9]),
)
TARGETS = st.one_of(
    st.sampled_from([0.0, 1.0]),
    st.floats(0, 1),
    st.floats(0, 1e-6),
    st.sampled_from([5e-324, 1.0 - 2.0**-53]),
)
PAIRS = st.lists(st.tuples(LOGITS, TARGETS), min_size=1, max_size=24)
GAMMAS = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0]), st.floats(0, 10))
ALPHAS = st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.25]))
POS_WEIGHTS = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(1e-3, 1e3))


@given(PAIRS)
def test_bce(pairs: list[tuple[float, float]]) -> None:
    x, y = zip(*pairs, strict=True)
    for case, got in zip(pairs, elements("bce", x, y), strict=True):
        assert reference.is_within(float(got), reference.bce(*case), 8), case


@given(PAIRS, POS_WEIGHTS)
def test_bce_with_pos_weight(pairs: list[tuple[float, float]], k: float) -> None:
    x, y = zip(*pairs, strict=True)
    for case, got in zip(pairs, elements("bce", x, y, pos_weight=k), strict=True):
        true = reference.bce(*case, pos_weight=k)
        assert reference.is_within(float(got), true, 8, *factors(*case, k)), case


@given(PAIRS, GAMMAS, ALPHAS, POS_WEIGHTS)
def test_focal(pairs: list[tuple[float, float]], gamma: float, alpha: float | None, k: float) -> None:
    x, y = zip(*pairs, strict=True)
    losses = elements("focal", x, y, pos_weight=k, gamma=gamma, alpha=alpha)
    for case, got in zip(pairs, losses, strict=True):
        true = reference.focal(*case, gamma=gamma, alpha=alpha, pos_weight=k)
        small, scale = factors(*case, k)
        small += [reference.focal(*case, gamma, None) / reference.bce(*case)] if _finite(*case) else []
        assert reference.is_within(float(got), true, 8 + 4 * gamma, small, scale), (case, gamma, alpha, k)


@given(st.lists(st.tuples(LOGITS, TARGETS, st.floats(0, 1e3)), min_size=1, max_size=24))
def test_weights_multiply(cases: list[tuple[float, float, float]]) -> None:
    x, y, w = zip(*cases, strict=True)
    for (logit, target, weight), got in zip(cases, elements("bce", x, y, weight=w), strict=True):
        true = reference.bce(logit, target) * weight if weight else reference.mpf(0)
        small, scale = factors(logit, target)
        assert reference.is_within(float(got), true, 8, [*small, weight], scale * max(1.0, weight))


def factors(x: float, y: float, k: float = 1.0) -> tuple[list[Any], float]:
    """What a loss is computed from, and what each is multiplied by at most."""
    return [k * y, reference.exp(-abs(x)), reference.bce(x, y)], max(1.0, k) * max(1.0, min(abs(x), 1e5))


def _finite(x: float, y: float) -> bool:
    return bool(0 < reference.bce(x, y) < reference.inf)


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
    assert elements(loss, [x], [y])[0] == pytest.approx(true, rel=1e-5, abs=0)


def test_infinite_logits_take_the_limit() -> None:
    x = [math.inf, math.inf, -math.inf, -math.inf, math.inf, -math.inf]
    y = [1.0, 0.0, 1.0, 0.0, 0.5, 0.5]
    expected = [0.0, math.inf, math.inf, 0.0, math.inf, math.inf]
    assert elements("bce", x, y).tolist() == expected
    assert elements("focal", x, y).tolist() == expected


def test_a_zero_coefficient_beats_infinity() -> None:
    assert elements("bce", [-math.inf], [1.0], weight=[0.0])[0] == 0.0
    assert elements("bce", [-math.inf], [1.0], pos_weight=0.0)[0] == 0.0
    assert elements("focal", [-math.inf], [1.0], alpha=0.0)[0] == 0.0
    assert elements("focal", [math.inf], [0.0], alpha=1.0)[0] == 0.0


PUBLISHED: list[tuple[str, str, dict[str, Any], Any, float]] = [
    (
        "Keras, keras/src/losses/losses.py, BinaryCrossentropy docstring",
        "bce",
        {"logits": [[-18.6, 0.51], [2.94, -12.8]], "targets": [[0, 1], [0, 0]]},
        [[0.235 * 2, 1.496 * 2]],
        1e-3,
    ),
    ("PyTorch, BCEWithLogitsLoss docs", "bce", {"logits": [1.5], "targets": [1]}, [0.2014133], 1e-6),
    (
        "TensorFlow, tf.nn.sigmoid_cross_entropy_with_logits docs",
        "bce",
        {"logits": [1.0, -1, 0, 1, -1, 0, 0], "targets": [0, 0, 0, 1, 1, 1, 0.5]},
        [1.3132617, 0.3132617, 0.6931472, 0.3132617, 1.3132617, 0.6931472, 0.6931472],
        1e-6,
    ),
]


@pytest.mark.parametrize(("source", "loss", "tensors", "expected", "rtol"), PUBLISHED)
def test_published_numbers(
    source: str, loss: str, tensors: dict[str, Any], expected: list[Any], rtol: float
) -> None:
    got = elements(loss, np.array(tensors["logits"]), np.array(tensors["targets"]))
    if got.ndim == 2:
        got = got.sum(axis=1, keepdims=True).T  # Keras prints the means of rows of two
    np.testing.assert_allclose(got, expected, rtol=rtol, err_msg=source)


def test_published_means() -> None:
    paddle = elements("bce", [5.0, 1.0, 3.0], [1, 0, 1])  # Paddle, BCEWithLogitsLoss docs
    assert paddle.mean() == pytest.approx(0.45618808, rel=1e-6)
    weighted = elements("bce", [0.40005136, -0.19986265, -0.19986265], [1, 0, 0], weight=[3.0, 1.0, 1.0])
    assert weighted.mean() == pytest.approx(
        0.9118, rel=1e-4
    )  # https://github.com/pytorch/pytorch/issues/54843
    mmcv = elements("focal", [[1.0, 0.0], [0.0, 1.0]], [[1, 0], [0, 1]], gamma=2)  # MMCV, test_focal_loss.py
    assert mmcv.sum() / 2 == pytest.approx(0.13562961, rel=1e-6)
    keras = elements("focal", [[-18.6, 0.51], [2.94, -12.8]], [[0, 1], [0, 0]], gamma=4, alpha=None)
    assert keras.sum() / 2 == pytest.approx(1.222, rel=1e-3)  # Keras, BinaryFocalCrossentropy docstring


def test_soft_targets_as_in_yolov5() -> None:
    # The same number as TF-addons', torchvision's and optax's; others extend focal loss differently.
    assert elements("focal", [2.0], [0.7], gamma=2, alpha=None)[0] == pytest.approx(0.0878727, rel=1e-6)
