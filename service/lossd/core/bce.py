"""Binary cross entropy with logits."""

from __future__ import annotations

import torch
from torch import Tensor

from lossd.core.stable import Logits, Product


def bce(x: Logits, y: Tensor, z: Tensor, pos_weight: Tensor | None, times: Product) -> Tensor:
    """Element losses: ``k y softplus(-x) + z softplus(x)``.

    As in torch's BCEWithLogitsLoss (https://docs.pytorch.org/docs/stable/generated/
    torch.nn.BCEWithLogitsLoss.html), but with both tails kept: torch computes the second term from
    ``(1 - y) x``, and loses it to cancellation for y = 0 and x far below 0.

    Args:
        x: The logits, taken apart, [n].
        y: The targets, in [0, 1], float64, [n].
        z: What stands for 1 - y, [n].
        pos_weight: k, at least 0, [n]; None for 1.
        times: How coefficients multiply.

    Returns:
        Losses, at least 0, float64, [n].
    """
    if pos_weight is None:
        # y + z = 1, so s is common to both terms.
        return times(torch.where(x.positive, z, y), x.magnitude) + x.near_cost
    y = pos_weight * y
    far, near = torch.where(x.positive, z, y), torch.where(x.positive, y, z)
    return times(far, x.magnitude + x.near_cost) + times(near, x.near_cost)
