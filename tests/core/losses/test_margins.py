"""Squared error and hinge loss against exact fractions, scikit-learn and torch."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sklearn.metrics import hinge_loss, mean_squared_error  # type: ignore[import-untyped] # it has no types

from core.scoring import elements, figures, work

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SOME = st.one_of(st.floats(-1e3, 1e3), st.floats(-1, 1), FINITE)
TARGETS = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 5e-324, 1 - 2.0**-53, 0.5 + 2.0**-53]),
    st.floats(0, 1),
    st.floats(0, 1e-6),
)
LARGEST = Fraction(np.finfo(np.float64).max)
BEYOND = Fraction(2) ** 1024 - Fraction(2) ** 970  # from here on numbers round to infinity


def squared(x: float, y: float) -> float:
    return float(elements("squared", [x], [y])[0])


def hinge(x: float, y: float) -> float:
    return float(elements("hinge", [x], [y])[0])


def units_off(got: float, true: Fraction) -> float:
    """How far a float64 is off, in units of the last place, or in spacings where it is subnormal."""
    if true >= BEYOND:
        return 0.0 if got == math.inf else math.inf
    return float(abs(Fraction(got) - true) / Fraction(math.ulp(float(true))))


@given(x=SOME, y=SOME)
@example(x=1.5e308, y=-1.5e308)
@example(x=1e200, y=-3.0)
@example(x=3e-162, y=1e-162)
def test_squared(x: float, y: float) -> None:
    true = (Fraction(x) - Fraction(y)) ** 2
    assume(not LARGEST < true < LARGEST * (1 + Fraction(1, 2**50)))
    # where the square is subnormal its rounding has two steps
    assert units_off(squared(x, y), true) <= (1.0 if true > 2.0**-960 else 2.0)


@given(y=st.floats(-1e6, 1e6), off=st.floats(-1e-9, 1e-9), scale=st.floats(0, 1))
def test_squared_keeps_its_digits_where_the_numbers_are_nearly_equal(
    y: float, off: float, scale: float
) -> None:
    x = y * (1 + off * scale)
    assert units_off(squared(x, y), (Fraction(x) - Fraction(y)) ** 2) <= 1.0


def test_squared_of_what_is_not_finite() -> None:
    logits = [math.inf, -math.inf, math.nan, 1e308]
    found = elements("squared", logits, [1.0, -1e308, 1.0, -1e308], allow_nan=True)
    assert found.tolist() == [math.inf, math.inf, pytest.approx(math.nan, nan_ok=True), math.inf]


@given(x=SOME, y=TARGETS)
@example(x=-1.0, y=5e-324)  # 1 - s x is 1e-323
@example(x=1.0, y=1 - 2.0**-53)
@example(x=1e308, y=0.5)
def test_hinge(x: float, y: float) -> None:
    true = max(Fraction(0), 1 - (2 * Fraction(y) - 1) * Fraction(x))
    assert units_off(hinge(x, y), true) <= 1.0 or _is_at_the_margin(true, hinge(x, y))


def _is_at_the_margin(true: Fraction, got: float) -> bool:
    """Whether a loss is next to nothing: it is the difference of two numbers near 1."""
    return true < Fraction(1, 2**44) and abs(Fraction(got) - true) <= Fraction(1, 2**100)


@given(y=st.floats(0, 1), off=st.floats(-1e-9, 1e-9), scale=st.floats(0, 1))
def test_hinge_at_its_margin(y: float, off: float, scale: float) -> None:
    assume(y != 0.5)
    x = (1 + off * scale) / (2 * y - 1)
    true = max(Fraction(0), 1 - (2 * Fraction(y) - 1) * Fraction(x))
    got = hinge(x, y)
    assert units_off(got, true) <= 1.0 or _is_at_the_margin(true, got)


@given(x=SOME)
def test_a_hard_hinge_is_rounded_once(x: float) -> None:
    assert hinge(x, 1.0) == max(0.0, 1.0 - x)
    assert hinge(x, 0.0) == max(0.0, 1.0 + x)


def test_hinge_of_infinite_inputs_takes_the_limit() -> None:
    y = np.array([0.0, 5e-324, 0.5 - 2.0**-54, 0.5, 0.5 + 2.0**-53, 1.0])
    assert elements("hinge", np.full(6, math.inf), y).tolist() == [math.inf] * 3 + [1.0, 0.0, 0.0]
    assert elements("hinge", np.full(6, -math.inf), y).tolist() == [0.0] * 3 + [1.0] + [math.inf] * 2


def test_nan_propagates() -> None:
    logits, targets = [math.nan, math.nan, 2.0, math.inf], [0.5, 1.0, math.nan, math.nan]
    for loss in ("squared", "hinge"):
        y = targets if loss == "hinge" else [0.5, 1.0, 0.0, 0.0]
        found = elements(loss, logits, y, allow_nan=True)
        assert np.isnan(found).tolist() == [True, True, loss == "hinge", loss == "hinge"]


def test_against_scikit_learn_and_torch() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(0, 2, 4096), draw.integers(0, 2, 4096).astype(float)
    mean = figures(work("hinge", {"logits": x, "targets": y})).sum.value / 4096
    assert mean == pytest.approx(hinge_loss(y, x), rel=1e-13)
    numbers = draw.normal(0, 1e3, 4096)
    mean = figures(work("squared", {"logits": x, "targets": numbers})).sum.value / 4096
    assert mean == pytest.approx(mean_squared_error(numbers, x), rel=1e-13)
    expected = torch.nn.functional.mse_loss(torch.from_numpy(x), torch.from_numpy(numbers))
    assert mean == pytest.approx(float(expected), rel=1e-13)
