"""The losses that there are: one entry each, from which its route, its documentation and its kernel follow.

Torch-free, so that the front end can read it; a worker imports an entry's function when it starts. A new loss
is a function and an entry in `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final, TypeGuard

from lossd.request import Fault


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
        function: Where the element function is, ``module:name``.
        parameters: Its own parameters; those of `SHARED` come to them.
    """

    name: str
    title: str
    summary: str
    function: str
    parameters: tuple[Parameter, ...] = ()


def _number(low: float, high: float) -> Callable[[object], float]:
    def check(value: object) -> float:
        if not _is_number(value) or not low <= value <= high:
            msg = f"must be a number from {low:g} to {high:g}"
            raise ValueError(msg)
        return float(value)

    return check


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number_or_null(low: float, high: float) -> Callable[[object], float | None]:
    number = _number(low, high)

    def check(value: object) -> float | None:
        if value is None:
            return None
        try:
            return number(value)
        except ValueError as error:
            msg = f"{error}, or null"
            raise ValueError(msg) from None

    return check


def _one_of(*choices: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in choices:
            msg = f"must be one of {', '.join(choices)}"
            raise ValueError(msg)
        return str(value)

    return check


def _axes(value: object) -> tuple[int, ...]:
    axes = value if isinstance(value, list) else [value]
    if not axes or not all(isinstance(axis, int) and not isinstance(axis, bool) for axis in axes):
        msg = "must be an axis or a list of axes, such as 1 or [0, -1]"
        raise ValueError(msg)
    return tuple(axes)


def _weights(value: object) -> tuple[float, ...]:
    given = value if isinstance(value, list) else [value]
    weights = tuple(float(weight) for weight in given if _is_number(weight))
    if not weights or len(weights) < len(given):
        msg = "must be a number, or a list with one number for every class"
        raise ValueError(msg)
    return weights  # that they are finite and at least 0 is checked with the other tensors' values


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
        "pos_weight",
        None,
        {
            "oneOf": [
                {"type": "number", "minimum": 0},
                {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 1},
            ]
        },
        "What the positive class weighs in the cross entropy: one number, or one for every class of the "
        "last axis. May be sent as a tensor instead.",
        _weights,
    ),
)
"""Parameters that every loss has."""

_LISTED: Final = (
    Loss(
        name="bce",
        title="Binary cross entropy with logits",
        summary="`w [k y softplus(-x) + (1 - y) softplus(x)]` for logits x, targets y, weight w and "
        "pos_weight k, in float64 with both tails kept.",
        function="lossd.core.bce:bce",
    ),
    Loss(
        name="focal",
        title="Focal loss",
        summary="`w a_t m^gamma BCE`, with `m = y sigmoid(-x) + (1 - y) sigmoid(x)` and "
        "`a_t = y alpha + (1 - y) (1 - alpha)`: focal loss as YOLOv5 defines it.",
        function="lossd.core.focal:focal",
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
                {"type": ["number", "null"], "minimum": 0, "maximum": 1, "default": 0.25},
                "What the positive class weighs against the negative's 1 - alpha; null turns it off.",
                _number_or_null(0.0, 1.0),
            ),
        ),
    ),
)

LOSSES: Final[Mapping[str, Loss]] = MappingProxyType({loss.name: loss for loss in _LISTED})
"""The losses by name."""


def check_params(loss: Loss, given: Mapping[str, object]) -> dict[str, object]:
    """Every parameter of a loss, as given or by default.

    Args:
        loss: The loss.
        given: The parameters that the caller gave, as plain JSON values.

    Raises:
        Fault: ``invalid_parameter``: a name that this loss does not have, or a value that is not allowed.
    """
    known = {parameter.name: parameter for parameter in (*SHARED, *loss.parameters)}
    params = {name: parameter.default for name, parameter in known.items()}
    for name, value in given.items():
        if name not in known:
            nearest = get_close_matches(name, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else f"; it takes {', '.join(sorted(known))}"
            detail = f"{loss.name} has no parameter {name!r}{hint}"
            raise Fault("invalid_parameter", detail, [(f"/{name}", "unknown parameter")])
        try:
            params[name] = known[name].check(value)
        except ValueError as error:
            raise _invalid(name, f"{name} {error}, not {_shown(value)}") from None
        except OverflowError:
            raise _invalid(name, f"{name} is beyond float64's range") from None
    if params["reduction"] == "none" and params["axis"] is not None:
        raise _invalid("axis", "axis goes with reduction sum or mean, not with none; leave one of them out")
    return params


def reduced_axes(params: Mapping[str, object], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes over which a request of ``shape`` is reduced, each in [0, len(shape)), ascending.

    Args:
        params: Checked parameters.
        shape: The inputs' shape.

    Raises:
        Fault: ``invalid_parameter``: an axis that is out of range or named twice.
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
            detail = f"axis {axis} is out of range for inputs of {len(shape)} dimensions, shape {list(shape)}"
            raise _invalid("axis", detail)
        if axis % len(shape) in seen:
            raise _invalid("axis", f"axis {axis} is named twice; name each axis once")
        seen.add(axis % len(shape))
    return tuple(sorted(seen))


def _invalid(name: str, detail: str) -> Fault:
    return Fault("invalid_parameter", detail, [(f"/{name}", detail)])


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def own_params(loss: Loss, params: Mapping[str, object]) -> dict[str, object]:
    """The loss's own parameters alone, such as gamma and alpha."""
    return {parameter.name: params[parameter.name] for parameter in loss.parameters}
