"""Squared error and hinge loss, in which no digit is lost to cancellation.

The squared error is ``(x - y)^2``. The hinge loss is ``max(0, 1 - s x)`` with the side ``s = 2 y - 1``, which
is 1 for a positive and -1 for a negative: nothing for an input that is right by a margin of 1 (Vapnik, "The
Nature of Statistical Learning Theory", 1995). A soft target has a side between.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from lossd.core.losses.pairs import Pair, pair, product_of, sum_of, times

if TYPE_CHECKING:
    from lossd.core.losses.elements import Formula, Smoothed

_FAR: Final = 2.0**1000
"""Stands for an infinite input: over 1 even where it is multiplied by the least side, 2^-53."""


def squared(
    _how: Formula, x: Tensor, y: Smoothed, _k: Tensor | None, _alpha: Tensor | None, *, hard: bool
) -> Tensor:
    """Return the squared errors, [n]. See `lossd.core.losses.elements.elements`."""
    del hard
    off = sum_of(x, -y.target.hi)
    square = product_of(off.hi, off.hi)
    square = Pair(square.hi, square.lo + 2.0 * off.hi * _finite_low(off))
    # where x - y is exact, which is usual, its square is rounded once
    return torch.where(off.lo == 0.0, square.hi, square.hi + _finite_low(square))


def hinge(
    _how: Formula, x: Tensor, y: Smoothed, _k: Tensor | None, _alpha: Tensor | None, *, hard: bool
) -> Tensor:
    """Return the hinge losses, [n]. See `lossd.core.losses.elements.elements`.

    An infinite input takes the limit: 0 or infinite, and 1 for a target of exactly 1/2.
    """
    del hard
    infinite = x.abs() == math.inf
    side = sum_of(2.0 * y.target.hi, -torch.ones_like(x))
    margin = times(side, pair(torch.where(infinite, torch.copysign(torch.full_like(x, _FAR), x), x)))
    short = sum_of(torch.ones_like(x), -margin.hi)
    losses = short.hi + (short.lo - margin.lo)
    losses = torch.where(losses <= 0.0, 0.0, losses)
    return torch.where(infinite & (losses > 1.0), math.inf, losses)


def _finite_low(a: Pair) -> Tensor:
    """Return a pair's second number, 0 where the first is infinite or NaN."""
    return torch.where(a.hi.abs() < math.inf, a.lo, 0.0)
