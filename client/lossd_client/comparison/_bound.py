"""By how much the mean loss may grow."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Final, Self

_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)? *(%?)", re.IGNORECASE)


@dataclass(frozen=True)
class Bound:
    """The greatest growth of the mean that is no regression.

    Attributes:
        given: The number or text that it was given as.
        value: It, in units of the loss, or as a part of the baseline's mean.
        is_relative: Whether it is such a part.
    """

    given: float | str
    value: float
    is_relative: bool

    @classmethod
    def of(cls, given: float | str) -> Self:
        """Return the bound that a number or a text stands for.

        Raises:
            ValueError: It stands for none.
        """
        is_relative, value = False, math.nan
        if isinstance(given, str):
            found = _NUMBER.fullmatch(given.strip(" "))
            if found is not None:
                is_relative, value = bool(found[3]), float(found[0].rstrip("% "))
        elif _is_number(given):
            value = float(given)
        if not math.isfinite(value):
            raise ValueError(
                f"max_regression is {given!r}, and must be a number in units of the loss, such as 0.002, or "
                'a share of the baseline\'s mean, such as "0.5%"'
            )
        return cls(given, value / 100 if is_relative else value, is_relative)


def _is_number(given: object) -> bool:
    return isinstance(given, Real | Decimal) and not isinstance(given, bool)
