"""Binary cross entropy."""

from __future__ import annotations

from torch import Tensor

from lossd.core.element import Element
from lossd.core.inputs import Inputs


def bce(x: Inputs, y: Tensor, z: Tensor, pos_weight: Tensor | None) -> Element:
    """``k y (-log p) + z (-log q)``.

    As torch's BCEWithLogitsLoss defines it (https://docs.pytorch.org/docs/stable/generated/
    torch.nn.BCEWithLogitsLoss.html), but with both tails kept: torch computes the second term from
    ``(1 - y) x``, and loses it to cancellation for y = 0 and x far below 0.

    Args:
        x: The inputs.
        y: The targets, in [0, 1], float64, [n].
        z: What stands for 1 - y, [n].
        pos_weight: k, at least 0, [n]; None for 1.
    """
    return Element(x.cross_entropy(y, z, pos_weight))
