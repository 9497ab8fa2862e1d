"""A loss that is not lossd's: the squared distance of target and probability, scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossd.core.catalog import Loss, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from lossd.core.losses.elements import Element, Inputs


def _positive(value: object) -> float:
    if not isinstance(value, int | float) or not value > 0:
        msg = "must be a positive number"
        raise ValueError(msg)
    return float(value)


def brier(x: Inputs, y: Tensor, z: Tensor, pos_weight: Tensor | None, *, scale: float) -> Element:
    from lossd.core.losses.elements import Element  # leads to torch, which the front end does without

    del pos_weight
    return Element(scale * x.gap(y, z) ** 2)


BRIER = Loss(
    name="brier",
    title="Brier score",
    summary="`scale (y - p)^2`",
    function="extra_loss:brier",
    parameters=(Parameter("scale", 1.0, {"type": "number", "exclusiveMinimum": 0}, "A factor.", _positive),),
)
