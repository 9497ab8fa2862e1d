"""Checks of a block's values, and the faults that name the first element that fails one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from lossd.core.grid import Block
from lossd.core.operand import Operand
from lossd.request import Fault


@dataclass(frozen=True, slots=True)
class Rule:
    """Values from 0 to ``largest`` are allowed, both included.

    Attributes:
        largest: The largest value.
        code: The fault's code.
        wrong: What another value is.
        remedy: What to do about it.
    """

    largest: float
    code: str
    wrong: str
    remedy: str


TARGET: Final = Rule(
    1.0, "target_out_of_range", "outside [0, 1]", "targets are probabilities or 0/1 labels; rescale them"
)
PROBABILITY: Final = Rule(
    1.0, "probability_out_of_range", "outside [0, 1]", "rescale them, or send logits as logits"
)
WEIGHT: Final = Rule(
    sys.float_info.max, "weight_out_of_range", "not a finite number >= 0", "replace it before sending"
)


def class_id(classes: int) -> Rule:
    """The rule for ids of so many classes."""
    return Rule(
        classes - 1.0,
        "target_out_of_range",
        f"outside [0, {classes})",
        "ids count from 0; name the one that means nothing as ignore_index",
    )


def check(rule: Rule, operand: Operand, block: Block, values: Tensor, *, allow_nan: bool) -> None:
    """Refuse values that a rule does not allow.

    Args:
        rule: The rule.
        operand: The tensor that they are of.
        block: Where they belong.
        values: The block's values, float64, [n or more]; what is behind the n-th must be allowed.
        allow_nan: Whether NaN is allowed.

    Raises:
        Fault: The rule's, or ``non_finite_input`` for a NaN.
    """
    low, high = torch.aminmax(values)
    if low.item() >= 0.0 and high.item() <= rule.largest:
        return
    if not allow_nan:
        refuse_nan(operand, block, values)
    bad = torch.nonzero((values < 0.0) | (values > rule.largest))
    if len(bad):
        first = int(bad[0])
        raise _fault(
            rule.code, operand, block, first, f"{values[first].item():.17g} is {rule.wrong}", rule.remedy
        )


def refuse_nan(operand: Operand, block: Block, values: Tensor) -> None:
    """Refuse a NaN.

    Raises:
        Fault: ``non_finite_input``.
    """
    bad = torch.nonzero(torch.isnan(values))
    if len(bad):
        remedy = "replace it, drop it with a mask, or set allow_nan=true to let it propagate"
        raise _fault("non_finite_input", operand, block, int(bad[0]), "NaN", remedy)


def _fault(code: str, operand: Operand, block: Block, position: int, what: str, remedy: str) -> Fault:
    place = operand.pointer(block.start + position)
    return Fault(code, f"{operand.name}: {what} at {place}; {remedy}", [(place, what)])
