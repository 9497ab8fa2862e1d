"""Binary cross entropy that does to its worker what it is told to."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from lossd.core.catalog import Loss, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from lossd.core.losses.elements import Element, Inputs

FAULTS = ("none", "error", "memory", "device", "exit", "kill")


def _fault(value: object) -> str:
    if value not in FAULTS:
        msg = f"must be one of {', '.join(FAULTS)}"
        raise ValueError(msg)
    return str(value)


def _elements(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        msg = "must be a number of elements"
        raise ValueError(msg)
    return value


def fragile(x: Inputs, y: Tensor, z: Tensor, pos_weight: Tensor | None, *, fault: str, fits: int) -> Element:
    import torch  # which the front end does without

    from lossd.core.losses.elements import Element

    if y.numel() > fits:
        if fault == "error":
            msg = "injected: a fault of the code"
            raise ArithmeticError(msg)
        if fault == "memory":
            msg = "injected: out of memory"
            raise torch.OutOfMemoryError(msg)
        if fault == "device":
            msg = "injected: CUDA error: device-side assert triggered"
            raise torch.AcceleratorError(msg)
        if fault == "exit":
            os._exit(7)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
    return Element(x.cross_entropy(y, z, pos_weight))


FRAGILE = Loss(
    name="fragile",
    title="Fragile",
    summary="`bce`",
    function="fragile_loss:fragile",
    parameters=(
        Parameter("fault", "none", {"type": "string", "enum": list(FAULTS)}, "What happens.", _fault),
        Parameter("fits", 0, {"type": "integer", "minimum": 0}, "To more elements than so many.", _elements),
    ),
)
