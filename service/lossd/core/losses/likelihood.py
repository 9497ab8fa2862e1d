"""The probabilities of the two classes, and their logarithms, from logits or probabilities.

With e = exp(-|x|) for a logit x, the likelier class costs log(1 + e), and the other |x| + log(1 + e): no
overflow, and neither tail is lost (Mächler, "Accurately Computing log(1 - exp(-|a|))", 2012).
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from lossd.core.losses.exp_log import FAR, exp_minus, log1p, minus_log, scaled
from lossd.core.losses.pairs import Pair, minus, pair, plus, sum_of_ordered


class Likelihood:
    """Inputs as the probabilities of the two classes, seen from the likelier class of each.

    Args:
        values: Logits or probabilities, float64, [n].
        probabilities: Whether they are probabilities.
        fine: Whether exp is computed to the digits of a pair.
        careful: Where the second numbers of pairs are wanted; elsewhere they are 0.

    Attributes:
        positive: Whether the positive class is the likelier one, bool, [n].
        certain: Whether an input is certain: an infinite logit, a probability of 0 or 1; bool, [n].
        size: abs(logit), `FAR` where certain; not for probabilities.
        small: The odds exp(-abs(logit)) of the less likely class; for probabilities, its probability.
        likely: -log of the likelier class's probability.
        unlikely: -log of the other's.
    """

    def __init__(
        self,
        values: Tensor,
        *,
        probabilities: bool,
        fine: bool = False,
        careful: Tensor | bool = True,
    ) -> None:
        self.probabilities: Final = probabilities
        self.fine: Final = fine
        self.careful: Final = careful
        if probabilities:
            self.positive = values > 0.5
            # p, or 1 - p where that is exact
            small = pair(torch.where(self.positive, 1.0 - values, values.abs()))
            self.certain = (values == 0.0) | (values == 1.0)
            self.likely = self.if_careful(minus(log1p(-small.hi)))
            self.unlikely = self.if_careful(minus_log(small.hi))
        else:
            self.positive = values > 0.0
            size = values.abs()
            self.certain = size == math.inf
            self.size = torch.where(self.certain, FAR, size)
            exp = exp_minus(self.size, fine=fine)
            one = sum_of_ordered(1.0, exp.q.hi)
            small = Pair(scaled(one.hi, exp.n), scaled(one.lo + exp.q.lo, exp.n))
            small = self.if_careful(small)
            self.likely = self.if_careful(log1p(*small))
            self.unlikely = self.if_careful(plus(pair(self.size), self.likely))
        self.small = small

    def limit(self, against: Tensor, losses: Tensor) -> Tensor:
        """Return the losses, but infinity where a certain input is wrong.

        Args:
            against: Above 0 where an input is wrong to some degree.
            losses: The losses.
        """
        return torch.where(self.certain & (against > 0.0), math.inf, losses)

    def if_careful(self, a: Pair) -> Pair:
        """Return a pair, its second number 0 where that is not wanted."""
        if isinstance(self.careful, bool):
            return a if self.careful else pair(a.hi)
        return Pair(a.hi, torch.where(self.careful, a.lo, 0.0))


def probability(logits: Tensor) -> Tensor:
    """Return the probability of the positive class: 1 / (1 + e) or e / (1 + e), with e = exp(-abs(logit)).

    Either way no tail is lost; an infinite logit gives exactly 0 or 1. It has the bits of `small`, rounded.
    """
    e = Likelihood(logits, probabilities=False, careful=False).small.hi
    return torch.where(logits >= 0.0, 1.0, e) / (1.0 + e)
