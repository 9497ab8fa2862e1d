"""Checks of a block's values, and the faults that name the first element that fails one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final, NamedTuple

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


class Check(NamedTuple):
    """That a block's values are what a rule allows.

    Attributes:
        rule: The rule.
        operand: The tensor that they are of.
        values: float64, [n or more]; what is behind the n-th must be allowed.
        allow_nan: Whether NaN is allowed.
    """

    rule: Rule
    operand: Operand
    values: Tensor
    allow_nan: bool

    def holds(self, least: float, greatest: float) -> bool:
        """Whether nothing is wrong, given the least and the greatest value; a NaN makes both NaN."""
        return least >= 0.0 and greatest <= self.rule.largest

    def refuse(self, block: Block) -> None:
        """Refuse what is wrong, if anything is.

        Args:
            block: Where the values belong.

        Raises:
            Fault: The rule's, or ``non_finite_input`` for a NaN.
        """
        if not self.allow_nan:
            refuse_nan(self.operand, block, self.values)
        bad = torch.nonzero((self.values < 0.0) | (self.values > self.rule.largest))
        if len(bad):
            first = int(bad[0])
            what = f"{self.values[first].item():.17g} is {self.rule.wrong}"
            raise _fault(self.rule.code, self.operand, block, first, what, self.rule.remedy)


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
