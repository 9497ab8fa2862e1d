"""Binary cross entropy, as torch's BCEWithLogitsLoss defines it.

https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossd.core.losses.likelihood import Likelihood
from lossd.core.losses.pairs import Pair, choice, product_of, sum_of


def cross_entropy(inputs: Likelihood, y: Pair, z: Pair, pos_weight: Tensor | None) -> Tensor:
    """Return ``k y (-log p) + z (-log q)``, [n].

    Where an input is certain it is some number above 0 in the place of infinity.

    Args:
        inputs: The inputs, with p = sigmoid(x) and q = sigmoid(-x) for logits x.
        y: The targets.
        z: 1 - y.
        pos_weight: k; None for 1.
    """
    share = y
    if pos_weight is not None:
        product = product_of(pos_weight, y.hi)
        share = Pair(product.hi, product.lo + pos_weight * y.lo)
    right, wrong = choice(inputs.positive, share, z), choice(inputs.positive, z, share)
    likely, unlikely = inputs.likely, inputs.unlikely
    cost = sum_of(right.hi * likely.hi, wrong.hi * unlikely.hi)
    if inputs.careful is False:
        return cost.hi
    lost = right.lo * likely.hi + wrong.lo * unlikely.hi
    lost = cost.lo + (lost + (right.hi * likely.lo + wrong.hi * unlikely.lo))
    lost = torch.where(cost.hi < math.inf, lost, 0.0)  # an infinite cost has no second number
    return cost.hi + inputs.if_careful(Pair(cost.hi, lost)).lo
