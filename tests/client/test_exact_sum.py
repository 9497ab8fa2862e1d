"""Sums are exact, against fractions."""

import math
import struct
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd_client._exact_sum import DIGITS, ExactSum

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LISTS = st.lists(FLOATS | st.floats(-1e-300, 1e-300), max_size=40)


def canonical(numbers: list[float]) -> tuple[float, ...]:
    """The sum rounded, the rest rounded, and so on until nothing is left."""
    rest = sum(map(Fraction, numbers), Fraction(0))
    terms: list[float] = []
    while rest or not terms:
        try:
            terms.append(float(rest))
        except OverflowError:
            return (math.inf if rest > 0 else -math.inf,)
        rest -= Fraction(terms[-1])
    return tuple(terms)


def parted(numbers: list[float], random: Random) -> list[list[float]]:
    random.shuffle(numbers)
    cuts = sorted(random.randint(0, len(numbers)) for _ in range(random.randint(0, 5)))
    return [numbers[a:b] for a, b in zip([0, *cuts], [*cuts, len(numbers)], strict=True)]


@given(LISTS, st.randoms())
def test_terms_are_those_of_the_fraction(numbers: list[float], random: Random) -> None:
    terms = canonical(numbers)
    assert ExactSum(numbers).terms == terms
    assert ExactSum(numbers).value == terms[0]
    if math.isfinite(sum(map(abs, numbers))):
        merged = ExactSum()
        for part in parted(numbers, random):
            merged.add(ExactSum(part).terms)
        assert merged.terms == terms
        assert math.fsum(terms) == math.fsum(numbers)


@given(LISTS, st.randoms())
def test_rows_of_digits_are_added_up(numbers: list[float], random: Random) -> None:
    rows = [ExactSum(part).digits for part in parted(numbers, random)]
    assert all(len(row) == DIGITS + 3 and 0 <= min(row) <= max(row) < 1 << 32 for row in rows)
    assert ExactSum.of_digits([sum(column) for column in zip(*rows, strict=True)]).terms == canonical(numbers)


def test_digits_have_room_for_more_numbers_than_there_are() -> None:
    for number in (1.7976931348623157e308, -1.7976931348623157e308, -5e-324):
        row = ExactSum([number]).digits
        many = ExactSum.of_digits([digit * (1 << 30) for digit in row])
        assert many.units == ExactSum([number]).units << 30


@pytest.mark.parametrize(
    ("numbers", "terms"),
    [
        ([], (0.0,)),
        ([-0.0], (0.0,)),
        ([math.inf, 1.0], (math.inf,)),
        ([-math.inf, 1e308], (-math.inf,)),
        ([math.inf, -math.inf], (math.nan,)),
        ([-math.nan, math.inf], (math.nan,)),
        ([1.7e308, 1.7e308], (math.inf,)),
        ([1.7e308, 1.7e308, -1.7e308], (1.7e308,)),
        ([2**53, 1], (2.0**53, 1.0)),
    ],
)
def test_what_is_at_the_edges(numbers: list[float], terms: tuple[float, ...]) -> None:
    def bits(values: tuple[float, ...]) -> bytes:
        return struct.pack(f"{len(values)}d", *values)

    assert bits(ExactSum(numbers).terms) == bits(terms)
    rows = [ExactSum([number]).digits for number in numbers] or [ExactSum().digits]
    total = [sum(column) for column in zip(*rows, strict=True)]
    assert bits(ExactSum.of_digits(total).terms) == bits(terms)
