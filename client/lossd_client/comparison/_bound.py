"""By how much the mean loss may grow."""

import math
from dataclasses import dataclass
from typing import Self


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
        text = given.strip() if isinstance(given, str) else ""
        is_relative = text.endswith("%")
        try:
            value = float(text.removesuffix("%")) if isinstance(given, str) else float(given)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or isinstance(given, bool):
            raise ValueError(
                f"max_regression is {given!r}, and must be a number in units of the loss, such as 0.002, or "
                'a share of the baseline\'s mean, such as "0.5%"'
            )
        return cls(given, value / 100 if is_relative else value, is_relative)
