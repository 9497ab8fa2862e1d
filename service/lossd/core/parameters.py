"""The parameters of a request: checked, and read for its shape."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Final

from lossd.core.catalog import LOSSES, SHARED, Loss, Parameter
from lossd.core.cut import Cut
from lossd.core.report.parameters import REPORT_BY_NAME, report_parameters
from lossd.error_text import SHOWN, pointer, shown, suggestion
from lossd.types import Divisor, ErrorCode, RequestError

LISTS: Final = ("pos_weight", "alpha", "class_weight")
"""The parameters that may be a list with a number for every class, which becomes a tensor."""
LIKE: Final[Mapping[str, tuple[str, ...]]] = {
    "pos_weight": ("class_weight", "alpha"),
    "class_weight": ("pos_weight", "alpha"),
    "gamma": ("gamma_pos", "gamma_neg"),
    "gamma_pos": ("gamma",),
    "gamma_neg": ("gamma",),
}
"""For a parameter that a loss does not have: those to take in its place, of which it may have some."""

_SHARED_NAMES: Final = tuple(parameter.name for parameter in SHARED)
_MOST_LOSSES: Final = 3
"""The most losses that an error names."""


def check_params(loss: Loss, given: Mapping[str, object]) -> dict[str, object]:
    """Return every parameter, as given or its default; those of a report only if given.

    Shared ones that the loss does not have are there, too, with the default that changes nothing.

    Args:
        loss: The loss.
        given: The caller's parameters, as plain JSON values.

    Raises:
        RequestError: ``invalid_parameter``: a name that the loss does not have, or a value that is not
        allowed.
    """
    known = {parameter.name: parameter for parameter in loss.all_parameters}
    params = {parameter.name: parameter.default for parameter in (*SHARED, *loss.all_parameters)}
    for name, value in given.items():
        parameter = known.get(name) or REPORT_BY_NAME.get(name)
        if parameter is None:
            raise _unknown(loss, name, known)
        if value is None and (parameter.default is None or name not in known):
            continue  # as if it were left out
        try:
            params[name] = parameter.check(value)
        except ValueError as error:
            raise _invalid(name, f"{name} {error}, not {shown(_beginning(value))}") from None
        except OverflowError:
            raise _invalid(name, f"{name} is beyond float64's range; send a smaller number") from None
    if params["reduction"] == "none":
        for name in ("axis", "normalizer"):
            if given.get(name) is not None:
                detail = f"{name} goes with reduction sum or mean, not with none; leave one of them out"
                raise _invalid(name, detail)
    return params


def reduced_axes(params: Mapping[str, object], shape: tuple[int, ...], of: str = "inputs") -> tuple[int, ...]:
    """Return the axes over which a request is reduced, each in [0, len(shape)), ascending.

    Args:
        params: Checked parameters.
        shape: The losses' shape; the inputs' if each element has a loss.
        of: What an error calls them.

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
            raise _invalid("axis", _out_of_range("axis", axis, len(shape), of))
        if axis % len(shape) in seen:
            raise _invalid("axis", f"axis {axis} is named twice; name each axis once")
        seen.add(axis % len(shape))
    return tuple(sorted(seen))


def class_axis(params: Mapping[str, object], shape: tuple[int, ...]) -> int:
    """Return the axis along which the classes lie, in [0, len(shape)).

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


def row_axes(loss: Loss, params: Mapping[str, object], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of a row, which has one loss, ascending; none if each element has one.

    Args:
        loss: The loss.
        params: Checked parameters.
        shape: The inputs' shape, which suits the loss.
    """
    axes = range(len(shape))
    match params["per"] if loss.row == "sample" else loss.row:
        case "classes":
            return (class_axis(params, shape),)
        case "box":
            return tuple(axes[-1:])
        case "sample":
            return tuple(axes[1:])
        case "class":
            axis = class_axis(params, shape)
            return tuple(other for other in axes if other != axis)
        case "all":
            return tuple(axes)
        case _:
            return ()


def losses_shape(loss: Loss, params: Mapping[str, object], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a request's losses: the inputs' less the axes of a row, which has one loss.

    Masks, weights, groups and ids belong to losses, and axes are counted in their shape.

    Args:
        loss: The loss.
        params: Checked parameters.
        shape: The inputs' shape, which suits the loss.
    """
    rows = row_axes(loss, params, shape)
    return tuple(n for axis, n in enumerate(shape) if axis not in rows) or (1,)


def row_size(loss: Loss, params: Mapping[str, object], shape: tuple[int, ...]) -> int:
    """Return the number of the inputs' numbers that have one loss."""
    return math.prod(shape[axis] for axis in row_axes(loss, params, shape))


def spans_samples(loss: Loss, params: Mapping[str, object]) -> bool:
    """Return whether one loss spans several samples, so that a part of them does not give it."""
    return loss.row == "sample" and params["per"] != "sample"


def is_weighted(tensors: Collection[str]) -> bool:
    """Return whether a loss may count with another weight than 1, by the names of a request's tensors."""
    return "weight" in tensors or "class_weight" in tensors


def divisor(params: Mapping[str, object], cut: Cut, tensors: Mapping[str, object]) -> Divisor | None:
    """Return what each of several outputs is divided by, if it must be summed for each output; else None.

    Sums over rows have divisors, too: a mean may be wanted once the sums of other rows are added.

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
        case "weight" if is_weighted(tensors):
            return "weight"
        case "weight" if "mask" in tensors or params["ignore_index"] is not None:
            return "count"
        case "positives":
            return "positives"
        case _:
            return None


def _beginning(value: object) -> str:
    """Return as much of a value's JSON as a detail shows, and a little more."""
    return "".join(islice(json.JSONEncoder().iterencode(value), SHOWN + 1))


def _out_of_range(name: str, axis: int, dimensions: int, of: str = "inputs") -> str:
    last = dimensions - 1
    return f"{name} {axis} is out of range for {of} of {dimensions} dimensions; use {-dimensions} to {last}"


def _unknown(loss: Loss, name: str, known: Mapping[str, Parameter]) -> RequestError:
    """Return the error of a parameter that the loss does not have."""
    names = [*known, *(one.name for one in report_parameters(loss))]
    others = [other.name for other in LOSSES.values() if _has(other, name)]
    instead = [like for like in LIKE.get(name, ()) if like in known]
    if name in loss.tensors and name not in known:
        remedy = f"{name} is a tensor; send it in the body"
    elif name == "tensors":
        remedy = "tensors goes with application/x-npy, whose arrays have no names"
    elif others and instead:
        remedy = f"{_listed(others)} it; here take {' or '.join(instead)}"
    elif others:
        remedy = f"{_listed(others)} it; {loss.name} takes {', '.join(sorted(names))}"
    elif near := suggestion(name, [*names, *loss.tensors]):
        remedy = near.removeprefix("; ")
    else:
        remedy = f"it takes {', '.join(sorted(names))}"
    detail = f"{loss.name} has no parameter {shown(name)}; {remedy}"
    return RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name[:SHOWN]), "unknown parameter")])


def _has(loss: Loss, name: str) -> bool:
    return any(parameter.name == name for parameter in loss.all_parameters)


def _listed(losses: Sequence[str]) -> str:
    """Return some losses as the beginning of a sentence about what they have."""
    if len(losses) > _MOST_LOSSES:
        return "other losses have"
    *others, last = losses
    return f"{', '.join(others)} and {last} have" if others else f"{last} has"


def _invalid(name: str, detail: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name), detail)])


def own_params(loss: Loss, params: Mapping[str, object]) -> dict[str, object]:
    """Return the parameters that have a name of the loss's own, such as gamma and alpha."""
    names = (parameter.name for parameter in loss.parameters)
    return {name: params[name] for name in names if name not in _SHARED_NAMES}


def options_of(loss: Loss, params: Mapping[str, object]) -> dict[str, object]:
    """Return the shared parameters that the loss has, without the reduction, as an answer repeats them.

    Those that it has in a form of its own are among them: callers read the normalizer of any loss here.
    """
    names = {parameter.name for parameter in loss.all_parameters} - {"reduction"}
    options = {name: params[name] for name in _SHARED_NAMES if name in names}
    for name in ("axis", "pos_weight"):
        value = options.get(name)
        if isinstance(value, tuple):
            options[name] = value[0] if len(value) == 1 else list(value)
    return options


def check_targets(params: Mapping[str, object]) -> None:
    """Check that the parameters about targets go together.

    Args:
        params: Checked parameters, of query and body together.

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
