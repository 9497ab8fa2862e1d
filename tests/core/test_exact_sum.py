from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.core.exact_sum import ExactArray, ExactSum

FINITE = st.floats(min_value=-1e300, max_value=1e300)
LISTS = st.lists(FINITE | st.floats(min_value=-1e-300, max_value=1e-300), max_size=40)


def rounded(terms: list[float]) -> float:
    return float(sum(map(Fraction, terms), Fraction(0)))


def canonical(terms: list[float]) -> list[float]:
    """The sum rounded, the rest rounded, and so on until nothing is left."""
    rest = sum(map(Fraction, terms), Fraction(0))
    form = [float(rest)]
    while rest := rest - Fraction(form[-1]):
        form.append(float(rest))
    return form


@given(LISTS, st.randoms())
def test_a_sum_has_one_form(terms: list[float], random: Random) -> None:
    form = ExactSum(terms).terms
    assert form == canonical(terms)
    assert math.copysign(1.0, form[0]) > 0 or form[0] < 0
    random.shuffle(terms)
    cut = random.randint(0, len(terms))
    assert ExactSum(ExactSum(terms[:cut]).terms + ExactSum(terms[cut:]).terms).terms == form


@given(st.lists(st.tuples(FINITE, FINITE, FINITE), min_size=1, max_size=40))
def test_sums_side_by_side_have_one_form(rows: list[tuple[float, float, float]]) -> None:
    planes = ExactArray([np.array(row) for row in rows]).canonical()
    forms = [canonical([row[i] for row in rows]) for i in range(3)]
    longest = max(map(len, forms))
    assert len(planes) == longest
    assert np.stack(planes).T.tolist() == [form + [0.0] * (longest - len(form)) for form in forms]


@pytest.mark.parametrize(
    ("terms", "form"),
    [
        ([], [0.0]),
        ([-0.0, -0.0], [0.0]),
        ([1.0, -1.0], [0.0]),
        ([5e-324, -1e-323], [-5e-324]),
        ([1.7e308, 1.7e308, -1.7e308], [1.7e308]),
        ([1.7e308, 1.7e308], [math.inf]),
        ([-1.7e308, -1.7e308, 1.0], [-math.inf]),
        ([math.inf, -1.0], [math.inf]),
        ([math.inf, -math.inf], [math.nan]),
        ([-math.nan, math.inf], [math.nan]),
    ],
)
def test_forms_of_what_is_at_the_edges(terms: list[float], form: list[float]) -> None:
    def bits(numbers: list[float]) -> bytes:
        return np.array(numbers).tobytes()

    assert bits(ExactSum(terms).terms) == bits(form)
    if terms and terms[0] != 1.7e308:  # an array's sums may not pass beyond float64 and come back
        planes = ExactArray([np.array([term, 0.25]) for term in terms]).canonical()
        assert bits([float(plane[0]) for plane in planes]) == bits(form)
        assert planes[0][1] == 0.25 * len(terms)


@given(LISTS)
def test_a_sum_is_rounded_once(terms: list[float]) -> None:
    assert ExactSum(terms).value == rounded(terms)


@given(LISTS, LISTS)
def test_sums_merge_without_loss(left: list[float], right: list[float]) -> None:
    merged = ExactSum(left)
    merged.add_all(ExactSum(right).terms)
    assert merged.value == rounded(left + right)


@given(st.lists(st.tuples(FINITE, FINITE, FINITE), max_size=40))
def test_sums_side_by_side(rows: list[tuple[float, float, float]]) -> None:
    sums = ExactArray([np.array([0.0, 0.0, 0.0])])
    for row in rows:
        sums.add(np.array(row))
    assert sums.value.tolist() == [rounded([row[i] for row in rows]) for i in range(3)]
    assert ExactArray(sums.planes).value.tolist() == sums.value.tolist()


TIES = [
    [1.0, 2.0**-53, 2.0**-200],
    [1.0, 2.0**-53, -(2.0**-200)],
    [1.0, 2.0**-53, 2.0**-200, 2.0**-400],
    [1.0 + 2.0**-52, 2.0**-53, -(2.0**-300)],
    [1e16, 1.0, 1e-16],
]


@pytest.mark.parametrize("terms", TIES)
def test_ties_are_decided_by_what_is_left(terms: list[float]) -> None:
    sums = ExactArray([np.array([term]) for term in terms])
    assert ExactSum(terms).value == sums.value[0] == math.fsum(terms)


def test_planes_stay_few() -> None:
    rng = np.random.default_rng(7)
    sums = ExactArray()
    for _ in range(500):
        sums.add(rng.lognormal(sigma=8, size=100))
    assert len(sums.planes) <= 5


@pytest.mark.parametrize("special", [math.inf, math.nan])
def test_what_is_not_finite_stays(special: float) -> None:
    terms = [1.0, special, 2.0]
    total = ExactSum(ExactSum(terms).terms)
    sums = ExactArray([np.array([term, 1.0]) for term in terms])
    for value in (total.value, float(sums.value[0])):
        assert value == special or (math.isnan(value) and math.isnan(special))
    assert sums.value[1] == 3.0


def test_overflow_is_infinite() -> None:
    assert ExactSum([1.7e308, 1.7e308]).value == math.inf
    assert ExactArray([np.array([1.7e308]), np.array([1.7e308])]).value[0] == math.inf


def test_nothing_adds_up_to_zero() -> None:
    assert ExactSum().value == 0.0
