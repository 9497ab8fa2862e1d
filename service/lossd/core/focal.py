"""Focal loss, as YOLOv5 defines it."""

from __future__ import annotations

import torch
from torch import Tensor

from lossd.core.bce import bce
from lossd.core.stable import Logits, Product, power


def focal(
    x: Logits,
    y: Tensor,
    z: Tensor,
    pos_weight: Tensor | None,
    times: Product,
    *,
    gamma: float,
    alpha: float | None,
) -> Tensor:
    """Element losses: ``a_t m^gamma BCE``, with ``m = y q + z p`` and ``a_t = y alpha + z (1 - alpha)``.

    p = sigmoid(x) and q = sigmoid(-x). m is 1 - p_t of Lin et al., "Focal Loss for Dense Object Detection"
    (https://arxiv.org/abs/1708.02002), extended to soft targets as YOLOv5 does
    (https://github.com/ultralytics/yolov5/blob/master/utils/loss.py, FocalLoss). pos_weight enters the BCE
    only.

    Args:
        x: The logits, taken apart, [n].
        y: The targets, in [0, 1], float64, [n].
        z: What stands for 1 - y, [n].
        pos_weight: As for `bce`.
        times: How coefficients multiply.
        gamma: At least 0; 0 gives the alpha-balanced cross entropy.
        alpha: In [0, 1]; None turns the balance off.

    Returns:
        Losses, at least 0, float64, [n].
    """
    losses = bce(x, y, z, pos_weight, times)
    if gamma:
        far, near = torch.where(x.positive, z, y), torch.where(x.positive, y, z)
        modulator = power((far + near * x.decay) / (1.0 + x.decay), gamma)
        # Where the loss is infinite so is the limit, even if the modulator has underflowed.
        losses = torch.where(torch.isinf(losses), losses, modulator * losses)
    if alpha is not None:
        losses = times(y * alpha + z * (1.0 - alpha), losses)
    return losses
