"""Advice added to the server's errors: the likely mistake, found by looking at the arrays.

Advice never names one remedy where two are possible: they give different losses.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import widened
from lossd_client._calls.calls import CheckedCall
from lossd_client._http.problems import with_detail
from lossd_client.errors import StatusError


def explained(error: StatusError, call: CheckedCall) -> StatusError:
    """Add the likely cause to the detail of an error."""
    advise = _ADVICE.get(error.code or "")
    advice = advise(call) if advise is not None else None
    return error if advice is None else with_detail(error, f"{error.detail}; {advice}", error.errors)


def _shapes(call: CheckedCall) -> str | None:
    """Return advice for targets that lack an axis of length 1, or are class ids."""
    inputs, targets = call.inputs, call.tensors["targets"]
    name = next(iter(call.tensors))
    shapes = f"{name} {inputs.shape}, targets {targets.shape}"
    expected = inputs.shape
    if call.by_index:
        if not -inputs.ndim <= call.axes.classes < inputs.ndim:
            return None
        expected = _without(inputs.shape, call.axes.classes)
    if targets.shape == expected:
        return None  # it is another tensor
    if [n for n in targets.shape if n != 1] == [n for n in expected if n != 1]:
        return f"{shapes}: reshape one: {_reshaping(targets.shape, expected)}"
    classes_apart = -inputs.ndim <= call.axes.classes < inputs.ndim and inputs.ndim > 1
    may_be_ids = "targets_format" in call.loss.parameters and not call.by_index
    if may_be_ids and classes_apart and targets.shape == _without(inputs.shape, call.axes.classes):
        return f"{shapes}: if the targets are class ids, give targets_format='index'"
    return None


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(n for place, n in enumerate(shape) if place != axis % len(shape))


def _reshaping(given: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Return the expression that reshapes targets to a shape that differs in axes of length 1."""
    if expected == (*given, 1):
        return f"targets[{':, ' * len(given)}None]"
    if given == (*expected, 1):
        return f"targets[{':, ' * len(expected)}0]"
    return f"targets.reshape({', '.join(map(str, expected))})"


def _targets(call: CheckedCall) -> str | None:
    """Return advice for class ids that count from 1, and for swapped arguments."""
    targets = widened(call.tensors["targets"])
    if not targets.size:
        return None
    if call.by_index:
        return _ids(targets, call)
    if call.loss.targets != "probability":
        return None
    inputs = widened(call.inputs)
    if ((inputs == 0) | (inputs == 1)).all() and (inputs == 1).any():  # zeros are a model's first outputs
        name = next(iter(call.tensors))
        order = "logits, targets" if name == "logits" else "probabilities=..., targets=..."
        return (
            f"all {name} are 0 or 1, and the targets are not: swapped? the order is {call.loss_name}({order})"
        )
    return None


def _ids(ids: NDArray[Any], call: CheckedCall) -> str | None:
    if not -call.inputs.ndim <= call.axes.classes < call.inputs.ndim:
        return None
    classes = call.inputs.shape[call.axes.classes]
    if classes == 1:
        return None  # they may be labels, and the server says so
    kept = ids[~np.isnan(ids)] if ids.dtype.kind == "f" else ids
    for name in ("ignore_index", "background_index"):
        kept = kept[kept != call.params[name]] if isinstance(call.params.get(name), int | float) else kept
    if not kept.size or kept.max() != classes or kept.min() < 0:
        return None
    # The server's detail names other causes; this one it cannot see.
    has_background = "background_index" in call.loss.parameters
    what, param = ("a background", "background_index") if has_background else ("unlabelled", "ignore_index")
    return (
        f"here the ids go from {int(kept.min())} to {classes}: if 0 is {what}, subtract 1 from all and "
        f"give {param}=-1"
    )


_ADVICE: Final[Mapping[str, Callable[[CheckedCall], str | None]]] = {
    "shape_mismatch": _shapes,
    "target_out_of_range": _targets,
}
