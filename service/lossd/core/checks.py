"""What values must hold of tensors, and the faults that name the first element of which it does not."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lossd.core.operand import Operand
from lossd.types import ErrorCode, RequestError

_EXACT: Final = 2.0**53
"""Beyond it float64 has no room for every whole number."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Values from 0 to ``largest`` are allowed, both included.

    Attributes:
        largest: The largest value.
        code: The fault's code.
        wrong: What another value is.
        remedy: What to do about a value: each thing that it may mean, and what says so.
    """

    largest: float
    code: ErrorCode
    wrong: str
    remedy: Callable[[float], str]


def _target_remedy(value: float) -> str:
    if value == -1.0:
        return (
            "if -1 means unlabelled, ignore_index=-1 drops the element; if the labels are -1 and 1, send "
            "(y + 1) / 2"
        )
    if value > 1.0 and value.is_integer():
        return (
            "if these are class ids, send them with targets_format=index, in the inputs' shape less the "
            f"class axis; if {value:g} means unlabelled, ignore_index={value:g} drops the element"
        )
    return "a target is a 0/1 label or a probability"


def _id_remedy(classes: int) -> Callable[[float], str]:
    def remedy(value: float) -> str:
        if not abs(value) < _EXACT:
            return "ids count from 0; where one was -1 before a cast to unsigned integers, send signed ones"
        shown = f"{value:.17g}"
        labels = f"; if the labels are 1 to {classes}, subtract 1" if value == classes else ""
        return (
            f"ids count from 0{labels}; if {shown} is a background, of no class, background_index={shown} "
            f"counts it with targets of 0; if it means unlabelled, ignore_index={shown} leaves it out of sum "
            "and count"
        )

    return remedy


TARGET: Final = Rule(1.0, ErrorCode.TARGET_OUT_OF_RANGE, "outside [0, 1]", _target_remedy)
PROBABILITY: Final = Rule(
    1.0,
    ErrorCode.PROBABILITY_OUT_OF_RANGE,
    "outside [0, 1]",
    lambda _: "send what the sigmoid gives, or a model's raw outputs as logits",
)
WEIGHT: Final = Rule(
    sys.float_info.max,
    ErrorCode.WEIGHT_OUT_OF_RANGE,
    "not a finite number >= 0",
    lambda _: "a weight of 0 adds nothing to the sum but counts; a mask leaves the element out of both",
)
POS_WEIGHT: Final = Rule(
    sys.float_info.max,
    ErrorCode.WEIGHT_OUT_OF_RANGE,
    "not a finite number >= 0",
    lambda _: "send a finite number; negatives / positives is none for a class without positives",
)
LOGIT: Final = Rule(math.inf, ErrorCode.NON_FINITE_INPUT, "no number", lambda _: "send a number")
MASK: Final = Rule(
    1.0,
    ErrorCode.WEIGHT_OUT_OF_RANGE,
    "neither 0 nor 1",
    lambda _: (
        "a mask holds 1 where an element counts and 0 where it is dropped; for other marks send a "
        "comparison, such as mask != 0 or mask == 255"
    ),
)
WHOLE: Final = Rule(
    0.0,
    ErrorCode.DTYPE_NOT_ALLOWED,
    "no class id",
    lambda _: "send whole numbers, or probabilities of every class with targets_format=dense",
)
"""Of what an id has beyond a whole number."""


def class_id(classes: int) -> Rule:
    """The rule for ids of so many classes."""
    return Rule(classes - 1.0, ErrorCode.TARGET_OUT_OF_RANGE, f"outside [0, {classes})", _id_remedy(classes))


def fault_of(rule: Rule, operand: Operand, position: int, value: float) -> RequestError:
    """The fault of a value that a rule does not allow.

    Args:
        rule: The rule.
        operand: The tensor that it is of.
        position: Where it is in the request's shape, in C order.
        value: The value; a NaN has a fault of its own.
    """
    if math.isnan(value):
        remedy = "a mask drops the element, allow_nan=true lets the NaN propagate into the loss"
        if operand.name == "targets":
            remedy = f'ignore_index="nan" drops elements whose target is missing; {remedy}'
        return _fault(ErrorCode.NON_FINITE_INPUT, operand, position, "NaN", remedy)
    what = f"{value:.17g} is {rule.wrong}"
    return _fault(rule.code, operand, position, what, rule.remedy(value))


def _fault(code: ErrorCode, operand: Operand, position: int, what: str, remedy: str) -> RequestError:
    place = operand.pointer(position)
    return RequestError(code, f"{operand.name}: {what} at {place}; {remedy}", [(place, what)])
