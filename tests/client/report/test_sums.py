"""Arrays of exact sums against fractions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from client.report.arrays import Array, planes
from lossd_client.report._json import floats_as_json
from lossd_client.report._merging.sums import SumArray

ANY = arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.integers(1, 4)),
    elements=st.floats(allow_nan=False, min_value=-1e307, max_value=1e307)
    | st.floats(-1e-300, 1e-300)
    | st.sampled_from([2.0**k for k in (-1074, -1, 0, 52, 53, 54, 969)]),
)


@given(ANY)
def test_terms_are_those_of_fractions(numbers: Array) -> None:
    sums = SumArray(numbers.shape[1:])
    for row in numbers:
        sums.add(row[None])
    assert floats_as_json(sums.terms().tolist()) == planes(list(numbers.T), numbers.shape[1])
    again = SumArray(numbers.shape[1:])
    again.add(sums.terms())
    again.add(np.zeros((1, numbers.shape[1])))
    np.testing.assert_array_equal(again.terms(), sums.terms())


@pytest.mark.parametrize(
    ("numbers", "terms"),
    [
        ([1.0, math.inf], ["Infinity", 0.0]),
        ([math.inf, -math.inf], ["NaN", 0.0]),
        ([math.nan, 1e300], ["NaN", 0.0]),
        ([1.7e308, 1.7e308], ["Infinity", 0.0]),
        ([1.7e308, 1.7e308, -1.7e308], [1.7e308, 0.0]),
        ([1e308, 1.0, -1e308], [1.0, 0.0]),
        ([-0.0], [0.0, 0.0]),
    ],
)
def test_what_is_at_the_edges(numbers: list[float], terms: list[float]) -> None:
    sums = SumArray((1, 2))
    for number in numbers:
        sums.add(np.array([[[number, 0.0]]]))
    found = floats_as_json(sums.terms().tolist())
    assert found == [[terms]]
    assert str(found) == str([[terms]])  # no -0.0


def test_the_first_axis_grows() -> None:
    sums, numbers = SumArray((0, 2)), np.random.default_rng(0).normal(size=(50, 2))
    kept: list[list[list[float]]] = [[[], []] for _ in range(50)]
    for step in range(1, 51):
        places = np.random.default_rng(step).permutation(step)[: 1 + step // 2]
        sums.grow(step)
        sums.add(numbers[None, : len(places)], places)
        for row, place in enumerate(places):
            for column in (0, 1):
                kept[place][column].append(numbers[row, column])
    order = np.arange(50)[::-1]
    expected = planes([cell for row in kept[::-1] for cell in row], 50, 2)
    assert sums.terms(order).tolist() == expected
