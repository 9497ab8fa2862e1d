"""The pieces that every loss on logits is built of, in float64, without overflow, cancellation or lost tails.

For a logit x, with a = |x| and e = exp(-a), both classes' terms follow from the *far* class, the one that the
logit speaks against (negative for x >= 0), and the *near* one:

    softplus(a)  = a + s    what an element of the far class costs
    softplus(-a) =     s    what one of the near class costs,           s = log1p(e)
    sigmoid(a)   = 1 / (1 + e),   sigmoid(-a) = e / (1 + e)             never 1 - p

(Stable softplus and log-sigmoid: Mächler, "Accurately Computing log(1 - exp(-|a|))", 2012.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

Product: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""How a coefficient multiplies a value: `fast` or `careful`."""

_LOG1P_IS_IDENTITY: Final = 2.0**-54
"""Below this log1p(e) rounds to e; torch's log1p flushes the smallest of them to 0."""
_TAIL_BEGINS: Final = 37.0
"""exp(-37) is still above `_LOG1P_IS_IDENTITY`."""


class Logits(NamedTuple):
    """A block of logits, taken apart. Each is float64, [n].

    Attributes:
        positive: x >= 0, so that the negative class is the far one.
        magnitude: a = |x|.
        decay: e = exp(-a).
        near_cost: s = log1p(e).
    """

    positive: Tensor
    magnitude: Tensor
    decay: Tensor
    near_cost: Tensor


def take_apart(x: Tensor) -> Logits:
    """Compute what every loss needs of its logits, float64, [n]."""
    magnitude = x.abs()
    decay = torch.exp(-magnitude)
    near_cost = torch.log1p(decay)
    if not magnitude.amax() <= _TAIL_BEGINS:  # also when it is NaN
        near_cost = torch.where(decay < _LOG1P_IS_IDENTITY, decay, near_cost)
    return Logits(x >= 0, magnitude, decay, near_cost)


def fast(coefficient: Tensor, value: Tensor) -> Tensor:
    """The plain product, right unless the value is infinite."""
    return coefficient * value


def careful(coefficient: Tensor, value: Tensor) -> Tensor:
    """The product in which a coefficient of zero gives 0 even against infinity; NaN stays NaN."""
    vanishes = (coefficient == 0) & ~torch.isnan(value)
    return torch.where(vanishes, torch.zeros_like(value), coefficient * value)


def power(base: Tensor, exponent: float) -> Tensor:
    """``base ** exponent`` for base in [0, 1] and exponent >= 0, with 0 ** 0 = 1.

    The common exponents by products and square roots: faster, and the same bits wherever an element stands
    in a block. The others by torch.pow, whose vector and scalar code differ in the last bit: hence blocks
    are padded to whole vectors.
    """
    if exponent == 0.0:
        return torch.ones_like(base)
    if exponent == 0.5:
        return base.sqrt()
    if exponent == 1.0:
        return base
    if exponent == 1.5:
        return base * base.sqrt()
    if exponent == 2.0:
        return base * base
    if exponent == 3.0:
        return base * base * base
    return torch.pow(base, exponent)
