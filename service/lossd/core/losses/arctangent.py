"""The arctangent of a ratio, from + - * / alone: the same bits on all devices."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from lossd.core.losses.exp_log import hexadecimal, polynomial

# scripts/coefficients.py derives and checks these.
_ATAN_TAIL: Final = hexadecimal(
    "-0x1.5555555555555p-2", "0x1.9999999999957p-3", "-0x1.249249248dbadp-3", "0x1.c71c71c32f1ecp-4",
    "-0x1.745d1665a821ap-4", "0x1.3b1393ab09c83p-4", "-0x1.110e95def55e7p-4", "0x1.e19b408123e6cp-5",
    "-0x1.ac82c8da7fff9p-5", "0x1.7501707bf73ebp-5", "-0x1.1b8b0a038cb08p-5", "0x1.0b8c54963762fp-6",
)  # fmt: skip
_TAN_EIGHTH: Final = float.fromhex("0x1.a827999fcef32p-2")
"""tan(pi / 8)."""
_TAN_3_EIGHTHS: Final = float.fromhex("0x1.3504f333f9de6p+1")


def arctangent(over: Tensor, under: Tensor) -> Tensor:
    """Return ``atan(over / under)`` for numbers >= 0, whose sum is finite; 0 where both are 0.

    An angle beyond pi / 8 is computed from what it has more than pi / 4, and one beyond 3 pi / 8 from what it
    lacks to pi / 2: a polynomial is then left for tangents up to tan(pi / 8).
    """
    near, far = over <= _TAN_EIGHTH * under, over > _TAN_3_EIGHTHS * under
    top = torch.where(near, over, torch.where(far, -under, over - under))
    bottom = torch.where(near, under, torch.where(far, over, over + under))
    z = top / torch.where(over == 0.0, 1.0, bottom)
    w = z * z
    base = torch.where(far, math.pi / 2.0, torch.full_like(over, math.pi / 4.0))
    return torch.where(near, 0.0, base) + (z + z * (w * polynomial(_ATAN_TAIL, w)))
