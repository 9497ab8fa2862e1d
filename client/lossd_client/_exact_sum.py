"""Sums without rounding error: their bits do not depend on the order or grouping of the numbers."""

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Final, Self

DIGITS: Final = 68
"""32-bit digits that hold the sum of 2**60 float64 numbers, and its sign."""

_BITS: Final = 1074  # every float64 is a multiple of 2**-1074
_ONE: Final = 1 << _BITS
_SPECIAL: Final = (math.inf, -math.inf, math.nan)


class ExactSum:
    """A running sum, as a multiple of the smallest float64.

    Attributes:
        units: That multiple, without infinities and NaN.
        special: The sum of infinities and NaN; 0 without any.
    """

    __slots__ = ("special", "units")

    def __init__(self, numbers: Iterable[float] = ()) -> None:
        self.units = 0
        self.special = 0.0
        self.add(numbers)

    def add(self, numbers: Iterable[float]) -> None:
        """Add numbers."""
        for number in numbers:
            if math.isfinite(number):
                numerator, denominator = number.as_integer_ratio()
                self.units += numerator << (_BITS + 1 - denominator.bit_length())
            else:
                self.special += number

    @classmethod
    def of_digits(cls, digits: Sequence[int]) -> Self:
        """Return the sum that `digits` describes, or several such rows added up."""
        made = cls()
        units = sum(digit << 32 * place for place, digit in enumerate(digits[:DIGITS]))
        size = 1 << 32 * DIGITS
        made.units = (units + size // 2) % size - size // 2  # the sign, as in two's complement
        made.add(number for number, count in zip(_SPECIAL, digits[DIGITS:], strict=True) if count)
        return made

    @property
    def digits(self) -> list[int]:
        """The sum as integers of fixed width: rows of them may be added up in any order.

        32-bit digits, lowest first, then counts of inf, -inf and NaN.
        """
        units = self.units.to_bytes(4 * DIGITS, "little", signed=True)
        special = [repr(number) == repr(self.special) for number in _SPECIAL]
        return [*struct.unpack(f"<{DIGITS}I", units), *map(int, special)]

    @property
    def value(self) -> float:
        """The sum, rounded once."""
        return self.terms[0]

    @property
    def terms(self) -> tuple[float, ...]:
        """Numbers that add up to the sum exactly: the sum rounded, the rest rounded, and so on."""
        if self.special != 0.0:
            return (math.nan if math.isnan(self.special) else self.special,)
        terms: list[float] = []
        rest = ExactSum()
        rest.units = self.units
        while rest.units or not terms:
            try:
                terms.append(rest.units / _ONE)  # Python rounds it once
            except OverflowError:
                return (math.inf if self.units > 0 else -math.inf,)
            rest.add([-terms[-1]])
        return tuple(terms)
