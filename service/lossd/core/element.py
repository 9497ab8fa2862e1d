"""What an element function returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Element(NamedTuple):
    """Element losses as a product, [n] each, so that a coefficient of 0 can count as 0 against infinity.

    Attributes:
        value: At least 0.
        coefficient: What it is multiplied by; None for 1.
    """

    value: Tensor
    coefficient: Tensor | None = None
