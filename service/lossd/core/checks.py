"""The values allowed in each tensor, and the errors that name the first element with another value."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from lossd.core.catalog import Loss, Row
from lossd.core.operand import Operand
from lossd.types import ErrorCode, RequestError

_EXACT: Final = 2.0**53
"""From here on float64 cannot hold every whole number."""
_TORCH_IGNORED: Final = -100.0
"""torch.nn.CrossEntropyLoss's default ignore_index, which data sets use for what is unlabelled."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A range of allowed values, from ``least`` to ``largest``, both included.

    Attributes:
        largest: The largest value.
        code: The error's code.
        wrong: What a detail calls another value, such as "outside [0, 1]".
        remedy: Returns the remedy for a value: what it may have been meant for, and how to send that.
        least: The least value.
        nan: The remedy for NaN; if there is none, it is that of any wrong value.
        has_missing: Whether ``ignore_index="nan"`` drops what is NaN.
    """

    largest: float
    code: ErrorCode
    wrong: str
    remedy: Callable[[float], str]
    least: float = 0.0
    nan: str = "a mask drops the element, allow_nan=true lets the NaN propagate into the loss"
    has_missing: bool = False

    def by(self, row: Row) -> Rule:
        """Return the rule where a mask drops such rows."""
        return replace(self, nan=self.nan.replace("the element", _MASKED[row]))


_MASKED: Final[Mapping[Row, str]] = {
    "": "the element",
    "classes": "its row",
    "sample": "its sample",
    "box": "the box",
}
"""What a mask drops: what has one loss."""


def _target_remedy(value: float) -> str:
    if value == -1.0:
        return (
            "if the labels are -1 and 1, send (y + 1) / 2; only if -1 means unlabelled, ignore_index=-1 "
            "drops the element"
        )
    if value > 1.0 and value.is_integer():
        return (
            "if these are class ids, send them with targets_format=index, in the inputs' shape less the "
            f"class axis; if {value:g} means unlabelled, ignore_index={value:g} drops the element"
        )
    return "a target is a 0/1 label or a probability"


def _distribution_remedy(value: float) -> str:
    if value.is_integer():
        return (
            "send a probability of every class, or class ids in the inputs' shape less class_axis; a mask "
            "drops rows that have no label"
        )
    return "send a probability of every class"


def _id_remedy(classes: int, *, by_row: bool) -> Callable[[float], str]:
    def remedy(value: float) -> str:
        if not abs(value) < _EXACT:
            return "ids count from 0; where one was -1 before a cast to unsigned integers, send signed ones"
        if not value.is_integer():
            return WHOLE.remedy(value)
        shown = f"{value:.17g}"
        if classes == 1:
            # "Subtract 1" and a background are no remedies for labels: they make others of them.
            begin = (
                "there is one class, and id 0 means it; if these are 0/1 labels, leave targets_format out "
                "and send them in the inputs' shape, targets[:, None]"
            )
        elif value == classes:
            begin = f"ids count from 0; if the labels are 1 to {classes}, subtract 1"
        else:
            begin = "ids count from 0"
        means = "means unlabelled, as by default in torch" if value == _TORCH_IGNORED else "means unlabelled"
        if by_row:
            return f"{begin}; if {shown} {means}, ignore_index={shown} drops its row"
        return (
            f"{begin}; if {shown} is a background, of no class, background_index={shown} "
            f"counts it with targets of 0; if it {means}, ignore_index={shown} leaves it out of sum "
            "and count"
        )

    return remedy


TARGET: Final = Rule(1.0, ErrorCode.TARGET_OUT_OF_RANGE, "outside [0, 1]", _target_remedy, has_missing=True)
DISTRIBUTION: Final = Rule(1.0, ErrorCode.TARGET_OUT_OF_RANGE, "outside [0, 1]", _distribution_remedy)
"""The rule for a target of a row of classes, beside which there is no ignore_index."""
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
CLASS_WEIGHT: Final = Rule(
    sys.float_info.max,
    ErrorCode.WEIGHT_OUT_OF_RANGE,
    "not a finite number >= 0",
    lambda _: "send a finite number for every class; a weight of 0 leaves its rows out of a weighted mean",
    nan="",
)
LOGIT: Final = Rule(math.inf, ErrorCode.NON_FINITE_INPUT, "no number", lambda _: "send a number", -math.inf)
NUMBER: Final = Rule(
    sys.float_info.max,
    ErrorCode.TARGET_OUT_OF_RANGE,
    "not finite",
    lambda _: "send a finite number; a mask drops elements whose target is none",
    -sys.float_info.max,
    has_missing=True,
)
"""The rule for a target of a regression."""
TARGET_BOX: Final = Rule(
    sys.float_info.max,
    ErrorCode.TARGET_OUT_OF_RANGE,
    "not finite",
    lambda _: "send finite coordinates; a mask drops boxes that have no match",
    -sys.float_info.max,
)
BOX: Final = Rule(
    sys.float_info.max,
    ErrorCode.NON_FINITE_INPUT,
    "not finite",
    lambda _: "send finite coordinates; a mask drops boxes that do not count",
    -sys.float_info.max,
)
"""The rule for a coordinate of a box."""
MASK: Final = Rule(
    1.0,
    ErrorCode.WEIGHT_OUT_OF_RANGE,
    "neither 0 nor 1",
    lambda _: (
        "a mask holds 1 where an element counts and 0 where it is dropped; for other marks send a "
        "comparison, such as mask != 0 or mask == 255"
    ),
    nan="",
)
WHOLE: Final = Rule(
    0.0,
    ErrorCode.DTYPE_NOT_ALLOWED,
    "no class id",
    lambda _: "send whole numbers, or probabilities of every class with targets_format=dense",
)
"""The rule for an id's fraction."""


def class_id(loss: Loss, classes: int) -> Rule:
    """Return the rule for a loss's class ids."""
    remedy = _id_remedy(classes, by_row=loss.row == "classes")
    wrong = f"outside [0, {classes})"
    nan = "a mask drops the element"
    rule = Rule(classes - 1.0, ErrorCode.TARGET_OUT_OF_RANGE, wrong, remedy, nan=nan, has_missing=True)
    return rule.by(loss.row)


def target_rule(loss: Loss) -> Rule:
    """Return the rule for a loss's targets, unless they are class ids."""
    rules = {"probability": TARGET, "number": NUMBER, "box": TARGET_BOX}
    return (DISTRIBUTION if loss.row == "classes" else rules[loss.targets]).by(loss.row)


def input_rule(loss: Loss, name: str) -> Rule:
    """Return the rule for a loss's inputs of a name."""
    return {"probabilities": PROBABILITY, "boxes": BOX}.get(name, LOGIT).by(loss.row)


def box_size(form: str, position: int) -> Rule:
    """Return the rule of a box's size, for what is wrong with the number at a position.

    Args:
        form: How boxes are written, ``xyxy`` or ``cxcywh``.
        position: The number's place among those of all boxes, four each; the third and fourth say the size.
    """
    if form == "cxcywh":
        wrong = ("a negative width", "a negative height")[position % 2]
        remedy = "a box is its centre, width and height; of two corners, x1, y1, x2, y2, leave format out"
    else:
        wrong = ("less than the box's x1", "less than the box's y1")[position % 2]
        remedy = (
            "a box is two corners, x1, y1, x2, y2; of centres, widths and heights, send format=cxcywh; of a "
            "corner, width and height, as COCO has them, send x, y, x + width, y + height"
        )
    return Rule(math.inf, ErrorCode.INVERTED_BOX, wrong, lambda _: remedy)


def value_error(rule: Rule, operand: Operand, position: int, value: float) -> RequestError:
    """Return the error of a value that a rule does not allow.

    Args:
        rule: The rule.
        operand: The value's tensor.
        position: Its position in the request's shape, in C order.
        value: The value; NaN has an error of its own.
    """
    if math.isnan(value):
        remedy = rule.nan or rule.remedy(value)
        if rule.has_missing:
            remedy = f'ignore_index="nan" drops what has no target; {remedy}'
        return _error(ErrorCode.NON_FINITE_INPUT, operand, position, "NaN", remedy)
    what = f"{value:.17g} is {rule.wrong}"
    return _error(rule.code, operand, position, what, rule.remedy(value))


def _error(code: ErrorCode, operand: Operand, position: int, what: str, remedy: str) -> RequestError:
    pointer = operand.pointer(position)
    return RequestError(code, f"{operand.name}: {what} at {pointer}; {remedy}", [(pointer, what)])
