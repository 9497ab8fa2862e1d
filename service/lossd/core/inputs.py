"""A block of inputs, prepared: the terms that every loss is made of, with no overflow and no lost tail.

A loss needs both classes' probabilities, p and q, and what each class costs, -log p and -log q. Neither p nor
q may be computed as one minus the other, nor a cost as the logarithm of a rounded probability: for a logit of
-40, 1 - p rounds to 1, and the negative class's cost, 4.2e-18, to 0.

All tensors are float64, [n]. Infinite logits and probabilities of exactly 0 or 1 are not this module's: the
kernel takes them out beforehand (`stand_in`), and puts the limit in their place (`certainty`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import torch
from torch import Tensor

_LOG1P_IS_IDENTITY: Final = 2.0**-54
"""Below this log1p(e) rounds to e; torch's log1p flushes the smallest of them to 0."""
_TAIL: Final = -37.0
"""exp(-37) is still above `_LOG1P_IS_IDENTITY`."""


class Inputs(ABC):
    """What a loss may ask of a block of inputs, for targets y and their complements z, [n].

    z is what stands for 1 - y, and is given beside it, since smoothed targets know it more exactly.
    """

    @abstractmethod
    def __init__(self, values: Tensor) -> None: ...

    @abstractmethod
    def cross_entropy(self, y: Tensor, z: Tensor, pos_weight: Tensor | None) -> Tensor:
        """``k y (-log p) + z (-log q)``, k being pos_weight, 1 where it is None."""

    @abstractmethod
    def miss(self, y: Tensor, z: Tensor) -> Tensor:
        """``y q + z p``: the probability given to the other class, 1 - p_t for a hard target."""

    @abstractmethod
    def gap(self, y: Tensor, z: Tensor) -> Tensor:
        """``|y q - z p|``, which is |y - p|."""


class Logits(Inputs):
    """Logits x: p = sigmoid(x), q = sigmoid(-x).

    With e = exp(-|x|): -log p = max(-x, 0) + log1p(e), -log q = max(x, 0) + log1p(e), and each of p and q is
    1 / (1 + e) or e / (1 + e) (Mächler, "Accurately Computing log(1 - exp(-|a|))", 2012).
    """

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._above = torch.relu(x)
        decay = torch.sub(x, self._above, alpha=2.0)  # -|x|
        # A look at the block saves a pass over it, unless all passes are one, or looking is waiting for a
        # device. (A NaN counts as a tail.)
        tail = torch.compiler.is_compiling() or not x.is_cpu or not decay.amin() >= _TAIL
        self._decay = decay.exp_()
        self._log1p = torch.log1p(self._decay)
        if tail:
            self._log1p = torch.where(self._decay < _LOG1P_IS_IDENTITY, self._decay, self._log1p)

    def cross_entropy(self, y: Tensor, z: Tensor, pos_weight: Tensor | None) -> Tensor:
        """``k y softplus(-x) + z softplus(x)``."""
        below = self._above - self._x
        if pos_weight is None:
            # y + z = 1, so that log1p(e), which both classes' costs share, counts once.
            return torch.addcmul(self._log1p, self._above, z).addcmul_(below, y)
        y = pos_weight * y
        return torch.mul(self._log1p, y + z).addcmul_(self._above, z).addcmul_(below, y)

    def miss(self, y: Tensor, z: Tensor) -> Tensor:
        """``y sigmoid(-x) + z sigmoid(x)``."""
        q, p = self._numerators()
        return torch.mul(y, q).addcmul_(z, p).div_(1.0 + self._decay)

    def gap(self, y: Tensor, z: Tensor) -> Tensor:
        """``|y sigmoid(-x) - z sigmoid(x)|``."""
        q, p = self._numerators()
        return torch.mul(y, q).addcmul_(z, p, value=-1.0).abs_().div_(1.0 + self._decay)

    def _numerators(self) -> tuple[Tensor, Tensor]:
        """What stands over 1 + e in q and in p: e for the class that x speaks against, 1 for the other."""
        positive = _is_positive(self._x)
        return torch.maximum(self._decay, 1.0 - positive), torch.maximum(self._decay, positive)


class Probabilities(Inputs):
    """Probabilities p: q = 1 - p, one subtraction, within half a unit of the last place.

    -log q is log1p(-p), which keeps what 1 - p has lost for small p. Nothing is clamped.
    """

    def __init__(self, p: Tensor) -> None:
        self._p = p
        self._q = 1.0 - p

    def cross_entropy(self, y: Tensor, z: Tensor, pos_weight: Tensor | None) -> Tensor:
        """``k y (-log p) + z (-log1p(-p))``."""
        if pos_weight is not None:
            y = pos_weight * y
        return torch.mul(y, -torch.log(self._p)).addcmul_(z, -log1p(-self._p))

    def miss(self, y: Tensor, z: Tensor) -> Tensor:
        """``y (1 - p) + z p``."""
        return torch.mul(y, self._q).addcmul_(z, self._p)

    def gap(self, y: Tensor, z: Tensor) -> Tensor:
        """``|y (1 - p) - z p|``."""
        return torch.mul(y, self._q).addcmul_(z, self._p, value=-1.0).abs_()


def _is_positive(x: Tensor) -> Tensor:
    """1.0 where x >= 0, else 0.0."""
    if torch.compiler.is_compiling():
        return (x >= 0.0).double()
    return torch.ge(x, 0.0, out=torch.empty_like(x))  # half the time of a bool tensor and its conversion


def log1p(x: Tensor) -> Tensor:
    """log(1 + x), also where torch flushes it to 0."""
    return torch.where(x.abs() < _LOG1P_IS_IDENTITY, x, torch.log1p(x))


def certainty(kind: type[Inputs], values: Tensor) -> Tensor:
    """Which inputs are certain, [n]: 1 of the positive class, -1 of the negative, 0 of neither."""
    if kind is Logits:
        return torch.isposinf(values).double() - torch.isneginf(values).double()
    return (values == 1.0).double() - (values == 0.0).double()


def stand_in(kind: type[Inputs]) -> float:
    """An input that is certain of nothing, to compute with in the place of one that is."""
    return 0.0 if kind is Logits else 0.5


def power(base: Tensor, exponent: float) -> Tensor:
    """``base ** exponent`` for base >= 0 and exponent >= 0, with 0 ** 0 = 1.

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
