"""The checks of a call before it is sent, by which its tensors become arrays."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import FLOATS, IDS, MASK, TARGETS, WEIGHTS, as_array, dtype_name, widened
from lossd_client._calls.calls import CheckedCall, LossCall, ReportCall
from lossd_client._calls.conversion import checked_report, converted, own_converted, shared_converted
from lossd_client._calls.labels import Labels


def check(call: LossCall) -> CheckedCall:
    """Convert the arguments to arrays and JSON values.

    Raises:
        TypeError: A tensor is missing, or logits and probabilities are both there; a tensor's dtype is not
            allowed, or a parameter has the wrong type.
        ValueError: A tensor is ragged, a parameter is no number or not finite, a group or id is missing, or
            an id occurs twice.
    """
    params, own = shared_converted(call.loss, call.params), own_converted(call.loss, call.params)
    tensors = _tensors(call, gaps=params.get("ignore_index") == "nan" or "allow_nan" in params)
    pos_weight = call.tensors["pos_weight"]
    if isinstance(pos_weight, int | float | Decimal | np.number):
        params["pos_weight"] = converted("pos_weight", pos_weight)
    elif pos_weight is not None:
        tensors["pos_weight"] = as_array("pos_weight", pos_weight, WEIGHTS)
    report = _report(call)
    if report is not None:
        given = {"groups": report.groups, "ids": report.ids}
        tensors |= {name: labels.numbers for name, labels in given.items() if labels is not None}
        report = replace(report, row_weights=_row_weights(tensors))
    return CheckedCall(call.loss_name, tensors, params, own, report)


def checked_params(call: LossCall) -> dict[str, Any]:
    """Return all parameters to send, `pos_weight` included, without looking at the other tensors.

    Raises:
        TypeError: One has the wrong type.
        ValueError: One is no number or not finite.
    """
    params = {**own_converted(call.loss, call.params), **shared_converted(call.loss, call.params)}
    if call.tensors["pos_weight"] is not None:
        weights = widened(as_array("pos_weight", call.tensors["pos_weight"], WEIGHTS))
        if weights.ndim > 1:
            raise ValueError(
                f"pos_weight: a stream takes a number, or one a class, and not shape {weights.shape}; score "
                "the arrays by one call of the loss, which sends it along with its rows"
            )
        params["pos_weight"] = converted("pos_weight", weights.tolist())
    return params | checked_report(call.report)


def _report(call: LossCall) -> ReportCall | None:
    """Return what the call asks of a report.

    Raises:
        TypeError: Groups or ids are neither integers nor strings, or a parameter has the wrong type.
        ValueError: They are given although no report is asked for, or one is not as it should be, or an id
            occurs twice.
    """
    groups, ids, baseline = (call.tensors.get(name) for name in ("groups", "ids", "baseline"))
    params = checked_report(call.report)
    if not params:
        for name, given in {"groups": groups, "ids": ids, "baseline": baseline}.items():
            if given is not None:
                raise ValueError(f"{name} is for a report: ask for one, by sections='all'")
        return None
    id_labels = None if ids is None else Labels.of_ids(ids)
    if id_labels is not None:
        id_labels.refuse_repeated()
    return ReportCall(params, None if groups is None else Labels.of_groups(groups), id_labels)


def _row_weights(tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, Any] | None:
    weights = tensors.get("pos_weight")
    inputs = next(iter(tensors.values()))
    if weights is None or not weights.ndim == inputs.ndim > 0 or len(weights) < 2:
        return None
    return {"dtype": dtype_name(weights.dtype), "shape": list(weights.shape[1:])}


def _tensors(call: LossCall, *, gaps: bool) -> dict[str, NDArray[Any]]:
    """Return the tensors by name, without `pos_weight`: the inputs first."""
    method, given, inputs = f"{call.loss_name}()", call.tensors, call.loss.inputs
    there = [name for name in inputs if given[name] is not None]
    if len(there) > 1:
        raise TypeError(
            f"{method} takes {' or '.join(inputs)}, not both; beside {inputs[1]}, targets are given by "
            f"name: {call.loss_name}({inputs[1]}=..., targets=...)"
        )
    if not there:
        raise TypeError(f"{method} needs {' or '.join(inputs)}")
    if given["targets"] is None:
        raise TypeError(f"{method} needs targets")
    by_index = call.params.get("targets_format") == "index"
    numbers = WEIGHTS if call.loss.targets == "box" else FLOATS  # pixels may be whole
    possible = {
        there[0]: numbers,
        "targets": IDS if by_index else TARGETS,
        "weight": WEIGHTS,
        "mask": MASK,
        "baseline": numbers,
    }
    try:
        tensors = {
            name: as_array(name, given[name], allowed, gaps=gaps and name == "targets")
            for name, allowed in possible.items()
            if given.get(name) is not None
        }
    except TypeError as error:
        raise TypeError(f"{error}{_swapped(call, there[0])}") from error
    for name in {there[0], "baseline"} & tensors.keys():
        if tensors[name].dtype.kind in "iu":
            tensors[name] = tensors[name].astype(np.float64)
    return tensors


def _swapped(call: LossCall, name: str) -> str:
    """Return a hint that inputs and targets are swapped, or ""."""
    try:
        inputs = as_array(name, call.tensors[name], TARGETS)
        targets = as_array("targets", call.tensors["targets"], TARGETS)
    except (TypeError, ValueError):
        return ""
    if inputs.dtype.kind not in "biu":
        return ""
    order = f"{name}, targets" if name == call.loss.inputs[0] else f"{name}=..., targets=..."
    swapped = f"; swapped? the order is {call.loss_name}({order})"
    if ((inputs == 0) | (inputs == 1)).all():
        return f"{swapped}; of predictions rounded to 0 and 1, give what they were before"
    asked = swapped if dtype_name(targets.dtype) in FLOATS else ""
    return f"{asked}; if these are {name}, convert them by array.astype(np.float64)"
