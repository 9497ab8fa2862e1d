"""The losses: an entry each, from which the routes, the documentation and the kernels follow.

Without torch, so that the front end can import it. An operator's loss is a `Loss` and its function, which a
worker imports when it starts. A built-in loss has no function, but a formula in `lossd.core.losses.elements`,
and a number and a formula in the native kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Final

from lossd.core import parameter_checks as checks


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


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss.

    Attributes:
        name: Its name, as in its route.
        title: Its title.
        summary: Its formula, for the documentation.
        parameters: Its own parameters, besides those in `SHARED`.
        function: For a loss that an operator adds, its function, ``module:name``, which takes the loss's own
            parameters by name (see `lossd.core.losses.elements.added`).
        nanoseconds: About the time that a core takes for an element in the native kernel; infinite if torch
            computes the loss.
        is_native: Whether the native kernel has it.
    """

    name: str
    title: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    function: str = ""
    nanoseconds: float = math.inf
    is_native: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_native", math.isfinite(self.nanoseconds))


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
                {"type": "string", "enum": list(checks.NORMALIZERS)},
                {"type": "number", "exclusiveMinimum": 0},
            ],
            "default": "count",
        },
        "What a mean divides by. `count`: the number of elements; `weight`: the sum of their weights; "
        "`positives`: the sum of their targets (at least 1), as detectors do; or a number. Under `axis` each "
        "output has its own divisor.",
        checks.normalizer,
    ),
    Parameter(
        "class_axis",
        -1,
        {"type": "integer", "default": -1},
        "The axis along which a list of `pos_weight` or `alpha` lies, and where index targets open out.",
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
        "1 a missed positive costs more than a false alarm; a common choice is negatives / positives. May be "
        "sent as a tensor instead.",
        checks.weights,
    ),
)
"""Parameters that every loss has."""

RESERVED: Final = frozenset(
    (
        *(parameter.name for parameter in SHARED),
        *("report", "top", "row", "first_row", "calibration_bins", "sweep", "group_names"),
    )
)
"""Names that no loss's own parameter may have: those of the shared parameters, and of reports."""
VARIANTS: Final = ("sigmoid", "exp", "quality")

_LISTED: Final = (
    Loss(
        name="bce",
        title="Binary cross entropy with logits",
        summary="`w [k y softplus(-x) + (1 - y) softplus(x)]` for logits x, targets y, weight w and "
        "pos_weight k, in float64 with both tails kept; or `w [k y (-log p) + (1 - y) (-log1p(-p))]` for "
        "probabilities p.",
        nanoseconds=8.0,
    ),
    Loss(
        name="focal",
        title="Focal loss",
        summary="`w a_t m^gamma BCE`, with `m = y sigmoid(-x) + (1 - y) sigmoid(x)` and "
        "`a_t = y alpha + (1 - y) (1 - alpha)`: focal loss as YOLOv5 defines it.",
        nanoseconds=10.0,
        parameters=(
            Parameter(
                "gamma",
                1.5,
                {"type": "number", "minimum": 0, "maximum": 1000, "default": 1.5},
                "How much less easy elements count, those that the model gets right: each loss is multiplied "
                "by (1 - p_t)^gamma, where p_t is the probability that it gives the truth. With 0 all count "
                "alike.",
                checks.number_between(0.0, 1000.0),
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
                "of a negative by 1 - alpha. One number, or one for every class; null: neither is.",
                checks.balance,
            ),
            Parameter(
                "variant",
                "sigmoid",
                {"type": "string", "enum": list(VARIANTS), "default": "sigmoid"},
                "What is raised to the power gamma. `sigmoid`: 1 - p_t, the usual focal loss; `quality`: "
                "|y - p|, for targets that are scores from 0 to 1 (QFocalLoss); `exp`: 1 + 1e-6 - exp(-BCE), "
                "YOLOv5's other form, in which alpha multiplies negatives too.",
                checks.one_of(*VARIANTS),
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
    if not loss.function or loss.is_native:
        msg = f"the loss at {entry!r} must have a function, and no nanoseconds"
        raise ValueError(msg)
    taken = [parameter.name for parameter in loss.parameters if parameter.name in RESERVED]
    if taken:
        msg = f"the loss at {entry!r} has a parameter {taken[0]}, as all losses do; give its own another name"
        raise ValueError(msg)
    _losses[loss.name] = loss
