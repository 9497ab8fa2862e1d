"""Focal loss, as YOLOv5 defines it, and its two relatives there."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from lossd.core.element import Element
from lossd.core.inputs import Inputs, power

_MARGIN: Final = 1e-6
"""YOLOv5's, in ``1.000001 - p_t``, against a gradient that is not finite."""


def focal(
    x: Inputs,
    y: Tensor,
    z: Tensor,
    pos_weight: Tensor | None,
    *,
    gamma: float,
    alpha: float | Tensor | None,
    variant: Literal["sigmoid", "exp", "quality"],
) -> Element:
    """``a_t m^gamma BCE``, where m is small for an element that is already right.

    ========= ==================== ================== =====================================================
    variant   m                    a_t                where
    ========= ==================== ================== =====================================================
    sigmoid   y q + z p            y alpha + z        YOLOv5's FocalLoss
                                   (1 - alpha)
    exp       1 + 1e-6 - exp(-BCE) alpha              the line that YOLOv5's FocalLoss comments out
    quality   abs(y q - z p)       y alpha + z        YOLOv5's QFocalLoss; Li et al., "Generalized Focal
                                   (1 - alpha)        Loss", https://arxiv.org/abs/2006.04388
    ========= ==================== ================== =====================================================

    https://github.com/ultralytics/yolov5/blob/master/utils/loss.py. m of ``sigmoid`` is 1 - p_t of Lin et
    al., "Focal Loss for Dense Object Detection" (https://arxiv.org/abs/1708.02002), extended to soft targets.
    pos_weight enters the BCE only.

    Args:
        x: The inputs.
        y: The targets, in [0, 1], float64, [n].
        z: What stands for 1 - y, [n].
        pos_weight: As for `bce`.
        gamma: At least 0; 0 gives the alpha-balanced cross entropy.
        alpha: In [0, 1], one for all or one an element, [n]; None turns the balance off.
        variant: Which m.
    """
    losses = x.cross_entropy(y, z, pos_weight)
    if gamma:
        if variant == "exp":
            miss = _MARGIN - torch.expm1(-losses)
        else:
            miss = x.miss(y, z) if variant == "sigmoid" else x.gap(y, z)
        losses = power(miss, gamma) * losses
    if alpha is None:
        return Element(losses)
    if variant == "exp":
        return Element(losses, alpha * torch.ones_like(y))
    return Element(losses, y * alpha + z * (1.0 - alpha))
