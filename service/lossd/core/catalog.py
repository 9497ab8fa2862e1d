"""The losses that there are: one entry each, from which its route, its documentation and its kernel follow.

Torch-free, so that the front end can read it; a worker imports an entry's function when it starts. A new loss
is a function and an entry in `LOSSES`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, TypeGuard

from lossd.core.cut import Cut
from lossd.error_text import SHOWN, pointer, shown, suggestion
from lossd.types import TENSOR_DTYPES, ErrorCode, RequestError


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a loss.

    Attributes:
        name: As callers write it.
        default: What it is when it is not given.
        schema: What it may be, as JSON Schema.
        summary: What it means, in a sentence.
        check: Gives the value to use for one that was given, or raises ValueError with what is allowed.
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
        name: As in its route.
        title: What it is called.
        summary: What it computes, for the documentation.
        parameters: Its own parameters; those of `SHARED` come to them.
        function: Of a loss that an operator adds, where its function is, ``module:name``; it takes the loss's
            own parameters by name (see `lossd.core.losses.elements.added`).
        nanoseconds: About what an element costs a core where the native kernel has the loss; infinite where
            torch computes it.
    """

    name: str
    title: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    function: str = ""
    nanoseconds: float = math.inf

    @property
    def is_native(self) -> bool:
        """Whether the native kernel has it."""
        return math.isfinite(self.nanoseconds)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(low: float, high: float) -> Callable[[object], float]:
    def check(value: object) -> float:
        if not _is_number(value) or not low <= value <= high:
            msg = f"must be a number from {low:g} to {high:g}"
            raise ValueError(msg)
        return float(value)

    return check


def _alpha(value: object) -> float | tuple[float, ...] | None:
    if value is None:
        return None
    given = value if isinstance(value, list) else [value]
    numbers = tuple(float(one) for one in given if _is_number(one) and 0 <= one <= 1)
    if not numbers or len(numbers) < len(given):
        msg = "must be a number from 0 to 1, a list with one for every class, or null"
        raise ValueError(msg)
    return numbers if isinstance(value, list) else numbers[0]


def _one_of(*choices: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in choices:
            msg = f"must be one of {', '.join(choices)}"
            raise ValueError(msg)
        return str(value)

    return check


def _axes(value: object) -> tuple[int, ...]:
    given = value if isinstance(value, list) else [value]
    axes = tuple(axis for axis in given if _is_integer(axis))
    if not axes or len(axes) < len(given):
        msg = "must be an axis or a list of axes, such as 1 or [0, -1]"
        raise ValueError(msg)
    return axes


def _axis(value: object) -> int:
    if not _is_integer(value):
        msg = "must be an axis, such as 1 or -1"
        raise ValueError(msg)
    return value


def _normalizer(value: object) -> str | float:
    if value in NORMALIZERS:
        return str(value)
    if not _is_number(value) or not value > 0 or float(value) == float("inf"):
        msg = f"must be one of {', '.join(NORMALIZERS)}, or a positive number"
        raise ValueError(msg)
    return float(value)


def _weights(value: object) -> tuple[float, ...]:
    given = value if isinstance(value, list) else [value]
    weights = tuple(float(weight) for weight in given if _is_number(weight))
    if not weights or len(weights) < len(given):
        msg = "must be a number, or a list with one number for every class"
        raise ValueError(msg)
    return weights  # that they are finite and at least 0 is checked with the other tensors' values


def _smoothing(value: object) -> float:
    if not _is_number(value) or not 0 <= value < 1:
        msg = "must be a number from 0 to below 1"
        raise ValueError(msg)
    return float(value)


def _ignored(value: object) -> float | str:
    if value == NAN:
        return NAN
    if not (_is_number(value) and abs(value) < _EXACT):
        msg = f'must be a number below 2**53 in magnitude, "{NAN}", or null'
        raise ValueError(msg)
    return float(value)


def _background(value: object) -> int:
    if not (_is_number(value) and abs(value) < _EXACT and value == int(value)):
        msg = "must be an integer below 2**53 in magnitude, or null"
        raise ValueError(msg)
    return int(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        msg = "must be true or false"
        raise ValueError(msg)
    return value


NAN: Final = "nan"
"""The ignore_index that drops the elements whose target is NaN."""
_EXACT: Final = 2**53
"""Beyond it float64 cannot tell integers apart."""

Divisor: TypeAlias = Literal["count", "weight", "positives"]
NORMALIZERS: Final = ("count", "weight", "positives")
"""What a mean may be divided by, besides a number."""

SHARED: Final = (
    Parameter(
        "reduction",
        "mean",
        {"type": "string", "enum": ["none", "sum", "mean"], "default": "mean"},
        "What becomes of the element losses.",
        _one_of("none", "sum", "mean"),
    ),
    Parameter(
        "axis",
        None,
        {"oneOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]},
        "With sum or mean: reduce over these axes only. `axis=1` of [N, C] gives one loss a sample, "
        "`axis=0` one a class.",
        _axes,
    ),
    Parameter(
        "normalizer",
        "count",
        {
            "oneOf": [
                {"type": "string", "enum": list(NORMALIZERS)},
                {"type": "number", "exclusiveMinimum": 0},
            ],
            "default": "count",
        },
        "What a mean divides by: the count of the elements, the sum of their weights, the sum of their "
        "targets (at least 1), or a number. Under `axis` each output has its own divisor.",
        _normalizer,
    ),
    Parameter(
        "class_axis",
        -1,
        {"type": "integer", "default": -1},
        "The axis along which a list of `pos_weight` or `alpha` lies, and where index targets open out.",
        _axis,
    ),
    Parameter(
        "targets_format",
        "dense",
        {"type": "string", "enum": ["dense", "index"], "default": "dense"},
        "`index`: targets holds integer class ids in the inputs' shape less `class_axis`, scored as one-hot.",
        _one_of("dense", "index"),
    ),
    Parameter(
        "label_smoothing",
        0.0,
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0},
        "e: each target y becomes y (1 - e) + e / 2.",
        _smoothing,
    ),
    Parameter(
        "ignore_index",
        None,
        {"oneOf": [{"type": ["number", "null"]}, {"type": "string", "enum": [NAN]}], "default": None},
        "A target equal to this drops its element, or with index targets all of its classes: it counts in "
        "nothing. `nan`: a NaN or null target does.",
        _ignored,
    ),
    Parameter(
        "background_index",
        None,
        {"type": ["integer", "null"], "default": None},
        "With index targets: an id equal to this is of no class. The targets of all its classes are 0, and "
        "count (a detector's background; `ignore_index` would drop them, which is another loss).",
        _background,
    ),
    Parameter(
        "allow_nan",
        False,
        {"type": "boolean", "default": False},
        "Whether a NaN propagates, instead of being an error that names its place.",
        _flag,
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
        "What the positive class weighs in the cross entropy: one number, or one for every class. May be "
        "sent as a tensor instead.",
        _weights,
    ),
)
"""Parameters that every loss has."""

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
                "How much easy elements are damped; 0 not at all.",
                _number(0.0, 1000.0),
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
                "What the positive class weighs against the negative's 1 - alpha: one number, or one for "
                "every class; null turns it off.",
                _alpha,
            ),
            Parameter(
                "variant",
                "sigmoid",
                {"type": "string", "enum": list(VARIANTS), "default": "sigmoid"},
                "What damps easy elements: `sigmoid` 1 - p_t, `exp` 1 - exp(-BCE) as in the line that YOLOv5 "
                "comments out, `quality` |y - p| as in its QFocalLoss.",
                _one_of(*VARIANTS),
            ),
        ),
    ),
)

_losses: Final = {loss.name: loss for loss in _LISTED}
LOSSES: Final[Mapping[str, Loss]] = MappingProxyType(_losses)
"""The losses by name."""


def register(place: str) -> None:
    """Add a loss of somebody else's.

    Args:
        place: Where its entry is, ``module:name``. The module must not import torch: the front end reads it,
            too. The function that the entry names may be in another that does.

    Raises:
        ValueError: There is no such entry, or its name is taken.
    """
    module, _, name = place.partition(":")
    try:
        loss = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"there is no loss at {place!r}, which should be module:name: {error}"
        raise ValueError(msg) from error
    if not isinstance(loss, Loss) or loss.name in _losses:
        msg = f"what is at {place!r} is no lossd.core.catalog.Loss with a name of its own"
        raise ValueError(msg)
    _losses[loss.name] = loss


def check_params(loss: Loss, given: Mapping[str, object]) -> dict[str, object]:
    """Every parameter of a loss, as given or by default.

    Args:
        loss: The loss.
        given: The parameters that the caller gave, as plain JSON values.

    Raises:
        RequestError: ``invalid_parameter``: a name that this loss does not have, or a value that is not
        allowed.
    """
    known = {parameter.name: parameter for parameter in (*SHARED, *loss.parameters)}
    params = {name: parameter.default for name, parameter in known.items()}
    for name, value in given.items():
        if name not in known:
            raise _unknown(loss, name, known)
        if value is None and known[name].default is None:
            continue  # null says what leaving it out says
        try:
            params[name] = known[name].check(value)
        except ValueError as error:
            raise _invalid(name, f"{name} {error}, not {shown(json.dumps(value))}") from None
        except OverflowError:
            raise _invalid(name, f"{name} is beyond float64's range; send a smaller number") from None
    if params["reduction"] == "none":
        for name in ("axis", "normalizer"):
            if given.get(name) is not None:
                detail = f"{name} goes with reduction sum or mean, not with none; leave one of them out"
                raise _invalid(name, detail)
    return params


def reduced_axes(params: Mapping[str, object], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes over which a request of ``shape`` is reduced, each in [0, len(shape)), ascending.

    Args:
        params: Checked parameters.
        shape: The inputs' shape.

    Raises:
        RequestError: ``invalid_parameter``: an axis that is out of range or named twice.
    """
    if params["reduction"] == "none":
        return ()
    axes = params["axis"]
    if axes is None:
        return tuple(range(len(shape)))
    assert isinstance(axes, tuple)
    seen: set[int] = set()
    for axis in axes:
        if not -len(shape) <= axis < len(shape):
            raise _invalid("axis", _out_of_range("axis", axis, len(shape)))
        if axis % len(shape) in seen:
            raise _invalid("axis", f"axis {axis} is named twice; name each axis once")
        seen.add(axis % len(shape))
    return tuple(sorted(seen))


def class_axis(params: Mapping[str, object], shape: tuple[int, ...]) -> int:
    """The axis along which the classes lie, in [0, len(shape)).

    Args:
        params: Checked parameters.
        shape: The inputs' shape, of at least one dimension.

    Raises:
        RequestError: ``invalid_parameter``: it is out of range.
    """
    axis = params["class_axis"]
    assert isinstance(axis, int)
    if not -len(shape) <= axis < len(shape):
        raise _invalid("class_axis", _out_of_range("class_axis", axis, len(shape)))
    return axis % len(shape)


def divisor(params: Mapping[str, object], cut: Cut, tensors: Mapping[str, object]) -> Divisor | None:
    """What each of several outputs is divided by, where that must be summed for each; else None.

    Sums over rows have divisors, too: their mean may be wanted once those of other rows are added.

    Args:
        params: The request's checked parameters.
        cut: Its parts.
        tensors: Its tensors, by name.
    """
    if not cut.output_shape or (params["reduction"] != "mean" and 0 not in cut.axes):
        return None
    match params["normalizer"]:
        case "count" if "mask" in tensors or params["ignore_index"] is not None:
            return "count"
        case "weight" if "weight" in tensors:
            return "weight"
        case "weight" if "mask" in tensors or params["ignore_index"] is not None:
            return "count"
        case "positives":
            return "positives"
        case _:
            return None


def _out_of_range(name: str, axis: int, dimensions: int) -> str:
    last = dimensions - 1
    return f"{name} {axis} is out of range for inputs of {dimensions} dimensions; use {-dimensions} to {last}"


def _unknown(loss: Loss, name: str, known: Mapping[str, Parameter]) -> RequestError:
    """The fault of a parameter that the loss does not have."""
    if name in TENSOR_DTYPES:
        remedy = f"{name} is a tensor; send it in the body"
    elif name == "tensors":
        remedy = "tensors goes with application/x-npy, whose arrays have no names"
    else:
        remedy = f"it takes {', '.join(sorted(known))}"
        if near := suggestion(name, [*known, *TENSOR_DTYPES]):
            remedy = near.removeprefix("; ")
    detail = f"{loss.name} has no parameter {shown(name)}; {remedy}"
    return RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name[:SHOWN]), "unknown parameter")])


def _invalid(name: str, detail: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name), detail)])


def own_params(loss: Loss, params: Mapping[str, object]) -> dict[str, object]:
    """The loss's own parameters alone, such as gamma and alpha."""
    return {parameter.name: params[parameter.name] for parameter in loss.parameters}


def options_of(params: Mapping[str, object]) -> dict[str, object]:
    """The parameters that every loss has, but for the reduction, as an answer repeats them."""
    options = {parameter.name: params[parameter.name] for parameter in SHARED}
    del options["reduction"]
    for name in ("axis", "pos_weight"):
        value = options[name]
        if isinstance(value, tuple):
            options[name] = value[0] if len(value) == 1 else list(value)
    return options


def check_targets(params: Mapping[str, object]) -> None:
    """Check that what is said of targets goes together. Checked parameters, of query and body together.

    Raises:
        RequestError: ``invalid_parameter``.
    """
    background = params["background_index"]
    if background is None:
        return
    if params["targets_format"] != "index":
        detail = "background_index goes with targets_format=index, whose ids it is among; dense targets of a "
        raise _invalid("background_index", detail + "background are 0 for every class")
    if background == params["ignore_index"]:
        detail = f"{background} is both background_index, whose elements count, and ignore_index, whose "
        raise _invalid("background_index", detail + "elements do not; leave out the one that is not meant")
