from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lossd.core.report.sums import exact_sums, rounded_sums

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(st.integers(0, 3), FLOATS)))
def test_numbers_add_up_to_the_sum_of_each_figure(given_: list[tuple[int, float]]) -> None:
    index = np.array([figure for figure, _ in given_], np.int64)
    values = np.array([value for _, value in given_], np.float64)
    figures, numbers = exact_sums(index, values)
    for figure in range(4):
        expected = sum((Fraction(value) for place, value in given_ if place == figure), Fraction(0))
        terms = numbers[figures == figure].tolist()
        try:
            first = float(expected)
        except OverflowError:
            assert terms == [math.inf if expected > 0 else -math.inf]
            continue
        assert sum(map(Fraction, terms), Fraction(0)) == expected
        assert terms[:1] == [first][: len(terms)]
        assert 0.0 not in terms


def test_infinite_and_nan_values_absorb() -> None:
    index = np.array([0, 0, 1, 1, 2, 2, 3])
    values = np.array([1.0, math.inf, math.inf, -math.inf, math.nan, 1.0, -math.inf])
    figures, numbers = exact_sums(index, values)
    found = dict(zip(figures.tolist(), map(str, numbers.tolist()), strict=True))
    assert found == {0: "inf", 1: "nan", 2: "nan", 3: "-inf"}
    assert len(numbers) == 4


@given(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1))
def test_rows_are_rounded_once(rows: list[list[float]]) -> None:
    found = rounded_sums(np.array(rows))
    for row, total in zip(rows, found.tolist(), strict=True):
        try:
            assert total == float(sum(map(Fraction, row)))
        except OverflowError:
            assert math.isinf(total)


def test_rows_of_nothing_come_to_nothing() -> None:
    assert rounded_sums(np.empty((4, 0))).tolist() == [0.0] * 4
