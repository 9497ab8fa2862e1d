"""Sums side by side by the native code, against fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.core.exact_sum import ExactSum
from lossd.core.native.arrays import NativeArray
from lossd.core.native.library import why_missing

pytestmark = pytest.mark.skipif(why_missing() is not None, reason="the native kernel was not compiled")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, max_value=1e300, min_value=-1e300)


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=60))
def test_sums_are_exact_and_canonical(rows: list[list[float]]) -> None:
    sums = NativeArray([np.array(row) for row in rows])
    for planes in (sums.planes, sums.canonical(), sums.canonical()):
        for place in range(3):
            exact = sum(Fraction(row[place]) for row in rows)
            assert sum(Fraction(float(plane[place])) for plane in planes) == exact
    for place in range(3):
        terms = ExactSum(row[place] for row in rows).terms
        got = [float(plane[place]) for plane in sums.canonical()]
        assert got == terms + [0.0] * (len(got) - len(terms))
        assert math.copysign(1.0, got[0]) == 1.0 or got[0] < 0.0


def test_sums_over_all_of_float64() -> None:
    rng = np.random.default_rng(0)
    rows = np.ldexp(rng.random((3000, 5)) + 0.5, rng.integers(-1074, 1000, (3000, 5)))
    sums = NativeArray(list(rows))
    planes = sums.canonical()
    assert len(planes) <= 41
    for place in range(5):
        terms = ExactSum(rows[:, place].tolist()).terms
        assert [float(plane[place]) for plane in planes][: len(terms)] == terms


@pytest.mark.parametrize(
    ("numbers", "value"),
    [([math.inf, 1.0], math.inf), ([-math.inf, 1.0, 2.0], -math.inf), ([math.nan, 1.0], math.nan)],
)
def test_what_is_not_finite_stays_so(numbers: list[float], value: float) -> None:
    sums = NativeArray([np.array([number, 1.0]) for number in numbers])
    found = sums.value
    assert found[0] == value or (math.isnan(found[0]) and math.isnan(value))
    assert found[0:1].tobytes() == np.array([value]).tobytes()
    assert found[1] == len(numbers)
    assert [plane[0] for plane in sums.canonical()[1:]] == [0.0] * (len(sums.canonical()) - 1)
