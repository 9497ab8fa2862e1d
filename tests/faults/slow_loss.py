"""A loss that takes its time, whatever the machine: each block waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lossd.core.catalog import Loss, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from lossd.core.losses.elements import Element, Inputs


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not value > 0:
        msg = "must be a positive number"
        raise ValueError(msg)
    return float(value)


def slow(x: Inputs, y: Tensor, z: Tensor, pos_weight: Tensor | None, *, seconds: float) -> Element:
    from lossd.core.losses.elements import Element  # leads to torch, which the front end does without

    del x, z, pos_weight
    time.sleep(seconds)
    return Element(y)


SLOW = Loss(
    name="slow",
    title="Slow",
    summary="`y`",
    function="slow_loss:slow",
    parameters=(
        Parameter("seconds", 0.05, {"type": "number", "exclusiveMinimum": 0}, "Of a block.", _seconds),
    ),
)
