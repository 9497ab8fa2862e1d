"""The losses: an entry each, from which the routes, the documentation and the kernels follow.

Without torch, so that the front end can import it. A loss is an entry here, a function in torch, and a
function of the same name in the native kernel (`losses.h`). An operator's loss has no function there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from lossd.core import parameter_checks as checks
from lossd.types import TENSOR_DTYPES


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a loss.

    Attributes:
        name: As callers write it.
        default: Its value when it is not given.
        schema: The values allowed, as JSON Schema.
        summary: Its meaning, in a sentence.
        check: Returns the value to use for a given one, or raises ValueError with what is allowed.
    """

    name: str
    default: object
    schema: Mapping[str, object]
    summary: str
    check: Callable[[object], object]


Row: TypeAlias = Literal["", "classes", "sample", "box"]
"""What one loss belongs to. Empty: an element. ``classes``: the classes of a sample or pixel, along
class_axis; ``sample``: an index of axis 0, or what the parameter ``per`` says; ``box``: the last axis's four
numbers."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss.

    Attributes:
        name: Its name, as in its route.
        title: Its title.
        summary: Its formula, for the documentation.
        parameters: Its own parameters, besides those in `SHARED`, or in place of the one of the same name.
        shared: The names of those in `SHARED` that it has; empty for all.
        inputs: The names that its inputs may have.
        row: What one loss belongs to: an element, or a row of them.
        targets: The values that a target may have: a number in [0, 1]; any finite number; a box.
        without: The sections of a report that it does not have.
        function: Its function in torch, ``module:name``; see `lossd.core.losses.elements`, and `added` there
            for a loss that an operator adds.
        nanoseconds: About the time that a core takes for an element in the native kernel; infinite if torch
            computes the loss.
        is_native: Whether the native kernel has it.
        all_parameters: The shared parameters that it has, then its own.
        tensors: The names of the tensors that a request for it may have.
    """

    name: str
    title: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    shared: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ("logits", "probabilities")
    row: Row = ""
    targets: Literal["probability", "number", "box"] = "probability"
    without: tuple[str, ...] = ("sweep",)
    function: str = ""
    nanoseconds: float = math.inf
    is_native: bool = field(init=False)
    all_parameters: tuple[Parameter, ...] = field(init=False)
    tensors: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        own = {parameter.name for parameter in self.parameters}
        shared = self.shared or tuple(parameter.name for parameter in SHARED)
        others = (one for one in SHARED if one.name in shared and one.name not in own)
        parameters = (*others, *self.parameters)
        lists = {parameter.name for parameter in parameters} & {"pos_weight", "class_weight"}
        used = {*self.inputs, *lists, "targets", "weight", "mask", "groups", "ids", "baseline"}
        object.__setattr__(self, "is_native", math.isfinite(self.nanoseconds))
        object.__setattr__(self, "all_parameters", parameters)
        object.__setattr__(self, "tensors", tuple(name for name in TENSOR_DTYPES if name in used))


SHARED: Final = (
    Parameter(
        "reduction",
        "mean",
        {"type": "string", "enum": ["none", "sum", "mean"], "default": "mean"},
        "What is returned: the `mean` or the `sum` of the elements' losses, or with `none` each of them.",
        checks.one_of("none", "sum", "mean"),
    ),
    Parameter(
        "axis",
        None,
        {"oneOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]},
        "With sum or mean: reduce over these axes only. `axis=1` of [N, C] gives one loss a sample, "
        "`axis=0` one a class.",
        checks.axes,
    ),
    Parameter(
        "normalizer",
        "count",
        {
            "oneOf": [
                {"type": "string", "enum": ["count", "weight", "positives"]},
                {"type": "number", "exclusiveMinimum": 0},
            ],
            "default": "count",
        },
        "What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights; "
        "`positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each "
        "output has its own divisor.",
        checks.normalizer("count", "weight", "positives"),
    ),
    Parameter(
        "class_axis",
        -1,
        {"type": "integer", "default": -1},
        "The axis of the classes: 1 for [N, C, H, W]. Softmax is over it; a list of `pos_weight`, `alpha` or "
        "`class_weight` lies along it.",
        checks.axis,
    ),
    Parameter(
        "targets_format",
        "dense",
        {"type": "string", "enum": ["dense", "index"], "default": "dense"},
        "`index`: targets holds integer class ids in the inputs' shape less `class_axis`, scored as one-hot.",
        checks.one_of("dense", "index"),
    ),
    Parameter(
        "label_smoothing",
        0.0,
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0},
        "Moves targets towards 1/2, by e: each target y becomes y (1 - e) + e / 2.",
        checks.smoothing,
    ),
    Parameter(
        "ignore_index",
        None,
        {"oneOf": [{"type": ["number", "null"]}, {"type": "string", "enum": [checks.NAN]}], "default": None},
        "A target equal to this drops its element, or with index targets all of its classes: it counts in "
        "nothing. `nan`: a NaN or null target does.",
        checks.ignored_target,
    ),
    Parameter(
        "background_index",
        None,
        {"type": ["integer", "null"], "default": None},
        "With index targets: an id equal to this is of no class. The targets of all its classes are 0, and "
        "count (a detector's background; `ignore_index` would drop them, which is another loss).",
        checks.background_id,
    ),
    Parameter(
        "allow_nan",
        False,
        {"type": "boolean", "default": False},
        "Whether a NaN propagates, instead of being an error that names its place.",
        checks.flag,
    ),
    Parameter(
        "pos_weight",
        None,
        {
            "oneOf": [
                {"type": "number", "minimum": 0},
                {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 1},
            ]
        },
        "What the loss of positives is multiplied by: one number, or one for every class; by default 1. Over "
        "1 a missed positive costs more than a false alarm; a common choice is negatives / positives.",
        checks.weights,
    ),
)
"""Parameters that losses have in common. A loss has them all, unless its `Loss.shared` names some."""

RESERVED: Final = frozenset(
    (
        *(parameter.name for parameter in SHARED),
        *("report", "top", "row", "first_row", "calibration_bins", "sweep", "group_names"),
    )
)
"""Names that no loss's own parameter may have: those of the shared parameters, and of reports."""
VARIANTS: Final = ("sigmoid", "exp", "quality")


def _number(name: str, default: float, low: float, high: float, summary: str) -> Parameter:
    """Return a parameter that is a number in [low, high]."""
    schema = {"type": "number", "minimum": low, "maximum": high, "default": default}
    return Parameter(name, default, schema, summary, checks.number_between(low, high))


def _choice(name: str, choices: tuple[str, ...], summary: str) -> Parameter:
    """Return a parameter that is one of some words, by default the first."""
    schema = {"type": "string", "enum": list(choices), "default": choices[0]}
    return Parameter(name, choices[0], schema, summary, checks.one_of(*choices))


def _class_factors(name: str, summary: str) -> Parameter:
    """Return a parameter that has a number for each class of a row, by default none."""
    numbers = {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 1}
    schema = {"oneOf": [numbers, {"type": "null"}], "default": None}
    return Parameter(name, None, schema, summary, checks.class_factors)


_REDUCED: Final = ("reduction", "axis", "normalizer", "allow_nan")
_TARGETS: Final = ("class_axis", "targets_format", "background_index", "ignore_index")
_NORMALIZER: Final = Parameter(
    "normalizer",
    "count",
    {
        "oneOf": [{"type": "string", "enum": ["count", "weight"]}, {"type": "number", "exclusiveMinimum": 0}],
        "default": "count",
    },
    "What a mean divides by. `count`: the number of losses; `weight`: the sum of their weights; or a number. "
    "Under `axis` each output has its own divisor.",
    checks.normalizer("count", "weight"),
)
"""For targets that are not 0, 1 or between."""
_BY_SHAPE: Final = Parameter(
    "targets_format",
    None,
    {"oneOf": [{"type": "string", "enum": ["dense", "index"]}, {"type": "null"}], "default": None},
    "`index`: targets holds the class id of each row, in the inputs' shape less `class_axis`. `dense`: a "
    "probability of every class, in the inputs' shape. By default whichever of the two shapes targets has.",
    checks.format_or_none,
)
_CLASS_SMOOTHING: Final = Parameter(
    "label_smoothing",
    0.0,
    {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0},
    "Moves targets towards 1/C, by e: each target y becomes y (1 - e) + e / C, with C classes.",
    checks.smoothing,
)
_CLASS_ALPHA: Final = _class_factors(
    "alpha",
    "A factor for each class, by which the loss of its rows is multiplied; by default none. It is no weight: "
    "a mean with `normalizer=weight` does not divide by it.",
)
_CLASS_WEIGHT: Final = _class_factors(
    "class_weight",
    "A weight for each class: a row counts with the weight of its target's class. With `normalizer=weight` "
    "the mean of class ids is torch's weighted mean.",
)
_CLASSES: Final = (*_REDUCED, "class_axis", "ignore_index")
_OVERLAP: Final = (
    _number(
        "smooth",
        1.0,
        0.0,
        1e6,
        "Added to the divisor: the larger it is, the smaller are losses of small objects. With 0 a sample "
        "without targets costs 1, unless every p is 0.",
    ),
    _choice(
        "per",
        ("sample", "class", "all"),
        "One loss for each `sample`, an index of axis 0; for each `class`, over all samples; or for `all` "
        "together.",
    ),
)

_LISTED: Final = (
    Loss(
        name="bce",
        title="Binary cross entropy with logits",
        summary="`w [k y softplus(-x) + (1 - y) softplus(x)]` for logits x, targets y, weight w and "
        "pos_weight k, in float64 with both tails kept; or `w [k y (-log p) + (1 - y) (-log1p(-p))]` for "
        "probabilities p.",
        without=(),
        function="lossd.core.losses.elements:bce",
        nanoseconds=8.0,
    ),
    Loss(
        name="focal",
        title="Focal loss",
        summary="`w a_t m^gamma BCE`, with `m = y sigmoid(-x) + (1 - y) sigmoid(x)` and "
        "`a_t = y alpha + (1 - y) (1 - alpha)`: focal loss as YOLOv5 defines it.",
        without=(),
        function="lossd.core.losses.elements:focal",
        nanoseconds=10.0,
        parameters=(
            _number(
                "gamma",
                1.5,
                0.0,
                1000.0,
                "How much less easy elements count, those that the model gets right: each loss is multiplied "
                "by (1 - p_t)^gamma, where p_t is the probability that it gives the truth. With 0 all count "
                "alike.",
            ),
            Parameter(
                "alpha",
                0.25,
                {
                    "oneOf": [
                        {"type": "number", "minimum": 0, "maximum": 1},
                        {
                            "type": "array",
                            "items": {"type": "number", "minimum": 0, "maximum": 1},
                            "minItems": 1,
                        },
                        {"type": "null"},
                    ],
                    "default": 0.25,
                },
                "The balance of positives and negatives: the loss of a positive is multiplied by alpha, that "
                "of a negative by 1 - alpha. One number, or one for every class; null: neither is"
                " multiplied.",
                checks.balance,
            ),
            _choice(
                "variant",
                VARIANTS,
                "What is raised to the power gamma. `sigmoid`: 1 - p_t, the usual focal loss; `quality`: "
                "|y - p|, for targets that are scores from 0 to 1 (QFocalLoss); `exp`: 1 + 1e-6 - exp(-BCE), "
                "YOLOv5's other form, in which alpha multiplies negatives too.",
            ),
        ),
    ),
    Loss(
        name="asymmetric",
        title="Asymmetric loss",
        summary="`y L+ + (1 - y) L-`, with `L+ = (1 - p)^gamma_pos (-log p)`, "
        "`L- = m^gamma_neg (-log(1 - m))` and `m = max(p - clip, 0)`, for p = sigmoid(x): for labels of "
        "which few are positive.",
        shared=(*_REDUCED, *_TARGETS, "label_smoothing"),
        function="lossd.core.losses.asymmetric:asymmetric",
        nanoseconds=20.0,
        parameters=(
            _number("gamma_pos", 1.0, 0.0, 1000.0, "How much less easy positives count: (1 - p)^gamma_pos."),
            _number("gamma_neg", 4.0, 0.0, 1000.0, "How much less easy negatives count: m^gamma_neg."),
            _number("clip", 0.05, 0.0, 1.0, "Negatives with a probability up to this cost nothing."),
        ),
    ),
    Loss(
        name="varifocal",
        title="Varifocal loss",
        summary="`q BCE(x, q)` for a target q over 0, else `alpha p^gamma BCE(x, 0)`, with p = sigmoid(x): "
        "for targets that are scores, such as the overlap of a box with its object.",
        shared=(*_REDUCED, *_TARGETS),
        function="lossd.core.losses.varifocal:varifocal",
        nanoseconds=15.0,
        parameters=(
            _number("alpha", 0.75, 0.0, 1.0, "What the loss of negatives is multiplied by."),
            _number("gamma", 2.0, 0.0, 1000.0, "How much less easy negatives count: p^gamma."),
        ),
    ),
    Loss(
        name="cross_entropy",
        title="Cross entropy of classes",
        summary="`-sum_c w_c y_c log p_c` for each row of C logits, with p = softmax(x) and class_weight w.",
        shared=_CLASSES,
        inputs=("logits",),
        row="classes",
        function="lossd.core.losses.softmax:cross_entropy",
        nanoseconds=12.0,
        parameters=(_BY_SHAPE, _CLASS_SMOOTHING, _CLASS_WEIGHT),
    ),
    Loss(
        name="softmax_focal",
        title="Focal loss of classes",
        summary="`-sum_c a_c y_c (1 - p_c)^gamma log p_c` for each row of C logits, with p = softmax(x): "
        "cross entropy in which rows that the model gets right count less.",
        shared=_CLASSES,
        inputs=("logits",),
        row="classes",
        function="lossd.core.losses.softmax:softmax_focal",
        nanoseconds=20.0,
        parameters=(
            _BY_SHAPE,
            _CLASS_SMOOTHING,
            _number("gamma", 2.0, 0.0, 1000.0, "How much less easy rows count: (1 - p_c)^gamma."),
            _CLASS_ALPHA,
        ),
    ),
    Loss(
        name="dice",
        title="Dice loss",
        summary="`(alpha FP + beta FN) / (TP + alpha FP + beta FN + smooth)`, with the exact sums "
        "`TP = sum p y`, `FP = sum p (1 - y)` and `FN = sum (1 - p) y`, p = sigmoid(x), alpha = beta = 1/2.",
        shared=(*_REDUCED, *_TARGETS),
        row="sample",
        without=("classes", "calibration", "sweep"),
        function="lossd.core.losses.overlap:dice",
        nanoseconds=8.0,
        parameters=_OVERLAP,
    ),
    Loss(
        name="tversky",
        title="Tversky loss",
        summary="`(alpha FP + beta FN) / (TP + alpha FP + beta FN + smooth)`, with the exact sums "
        "`TP = sum p y`, `FP = sum p (1 - y)` and `FN = sum (1 - p) y`, p = sigmoid(x): dice loss whose "
        "errors weigh differently.",
        shared=(*_REDUCED, *_TARGETS),
        row="sample",
        without=("classes", "calibration", "sweep"),
        function="lossd.core.losses.overlap:tversky",
        nanoseconds=8.0,
        parameters=(
            *_OVERLAP,
            _number("alpha", 0.5, 0.0, 1e6, "What false positives are multiplied by."),
            _number("beta", 0.5, 0.0, 1e6, "What false negatives are multiplied by."),
        ),
    ),
    Loss(
        name="squared",
        title="Squared error",
        summary="`(x - y)^2`, for any finite targets.",
        shared=(*_REDUCED, *_TARGETS),
        inputs=("logits",),
        targets="number",
        without=("calibration", "sweep"),
        function="lossd.core.losses.margins:squared",
        nanoseconds=3.0,
        parameters=(_NORMALIZER,),
    ),
    Loss(
        name="hinge",
        title="Hinge loss",
        summary="`max(0, 1 - (2 y - 1) x)`: nothing for an input that is right by a margin of 1.",
        shared=(*_REDUCED, *_TARGETS),
        inputs=("logits",),
        without=("calibration", "sweep"),
        function="lossd.core.losses.margins:hinge",
        nanoseconds=3.0,
    ),
    Loss(
        name="box",
        title="Loss of boxes",
        summary="`1 - v` of each box and its target, v being their overlap (IoU) or what `variant` makes of "
        "it.",
        shared=_REDUCED,
        inputs=("boxes",),
        row="box",
        targets="box",
        without=("classes", "calibration", "sweep"),
        function="lossd.core.losses.box:box",
        nanoseconds=8.0,
        parameters=(
            _NORMALIZER,
            _choice(
                "variant",
                ("iou", "giou", "diou", "ciou"),
                "`iou`: the boxes' overlap over their union; `giou`: IoU, less the part of the smallest "
                "enclosing box that neither box covers; `diou`: IoU, less the distance of their centres; "
                "`ciou`: less that and the difference of their shapes.",
            ),
            _choice(
                "format",
                ("xyxy", "cxcywh"),
                "How a box is written: two corners, or its centre, width and height.",
            ),
        ),
    ),
)

_losses: Final = {loss.name: loss for loss in _LISTED}
LOSSES: Final[Mapping[str, Loss]] = MappingProxyType(_losses)
"""The losses by name."""


def register(entry: str) -> None:
    """Add an operator's loss.

    Args:
        entry: Where its `Loss` is, ``module:name``. The module must not import torch, since the front end
            imports it, too. The loss's function may be in another module that does.

    Raises:
        ValueError: There is no such loss, its name or that of a parameter is taken, or it has no function.
    """
    module, _, name = entry.partition(":")
    try:
        loss = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"there is no loss at {entry!r}, which should be module:name: {error}"
        raise ValueError(msg) from error
    if not isinstance(loss, Loss) or loss.name in _losses:
        msg = f"what is at {entry!r} is no lossd.core.catalog.Loss with a name of its own"
        raise ValueError(msg)
    if not loss.function or loss.is_native or loss.row:
        msg = f"the loss at {entry!r} must have a function for elements, and no nanoseconds"
        raise ValueError(msg)
    taken = [parameter.name for parameter in loss.parameters if parameter.name in RESERVED]
    if taken:
        msg = f"the loss at {entry!r} has a parameter {taken[0]}, as all losses do; give its own another name"
        raise ValueError(msg)
    _losses[loss.name] = loss
