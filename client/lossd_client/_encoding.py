"""What goes over the wire for a call, and how the answers about the server are read."""

import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client._arrays import dtype_name, npy_pieces
from lossd_client._calls import Checked
from lossd_client._compact import as_bools, as_ids, narrowed
from lossd_client._foreign import widened
from lossd_client.errors import BadAnswer, status_error
from lossd_client.result import Asked
from lossd_client.transport import JSON, NPY, Request, Response

_LISTED: Final = 16  # numbers; longer lists are shortened, as the server does
_BLOCK: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Form:
    """In what form tensors are sent; see `LossClient`."""

    shrink_targets: bool = True
    one_hot_as_ids: bool = False
    narrow_floats: bool = False


def encode(call: Checked, form: Form) -> Request:
    """Turns the call into the request to send."""
    tensors, params = _formed(call, form)
    query = [("tensors", ",".join(tensors)), *query_text({**call.own, **params})]
    return Request(
        method="POST",
        path=f"/{call.loss_name}",
        query=tuple(query),
        headers={"Content-Type": NPY, "Accept": NPY if call.joins_rows else JSON},
        body=tuple(piece for array in tensors.values() for piece in npy_pieces(array)),
    )


def asked(call: Checked) -> Asked:
    """Note what is needed to read the answer, and what it may leave out."""
    options = {name: value for name, value in call.params.items() if name != "reduction"}
    pos_weight = call.tensors.get("pos_weight")
    if pos_weight is not None:
        options["pos_weight"] = _described(pos_weight)
    return Asked(call.loss_name, call.inputs.shape, call.reduction, call.own, options)


def _described(array: NDArray[Any]) -> object:
    """Describe a tensor among the parameters: a small one as a list, a large one so that it is told apart."""
    if array.size <= _LISTED:
        return widened(array).astype(np.float64).tolist()
    numbers = np.ascontiguousarray(widened(array)).reshape(-1)
    digest = sha256()
    for start in range(0, numbers.size, _BLOCK):  # a copy of it all may be large
        digest.update(numbers[start : start + _BLOCK].astype("<f8").data)
    return {"dtype": dtype_name(array.dtype), "shape": list(array.shape), "sha256": digest.hexdigest()}


def _formed(call: Checked, form: Form) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    tensors, params = dict(call.tensors), dict(call.params)
    compares = call.by_index or "ignore_index" in params  # the targets with other values than 0 and 1
    if form.narrow_floats:
        kept = "targets" if compares else None  # rounded, they might equal nothing any more
        tensors = {name: array if name == kept else narrowed(name, array) for name, array in tensors.items()}
    if compares:
        return tensors, params
    targets = tensors["targets"]
    ids = (
        as_ids(targets, call.class_axis)
        if form.one_hot_as_ids and targets.shape == call.inputs.shape
        else None
    )
    if ids is not None:
        tensors["targets"] = ids
        params |= {"targets_format": "index", "class_axis": call.class_axis}  # named, it is no guess to note
    elif form.shrink_targets:
        bools = as_bools(targets)
        tensors["targets"] = targets if bools is None else bools
    return tensors, params


def query_text(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Gives parameters as a query has them: JSON, but for bare words."""
    return [
        (name, value if isinstance(value, str) else json.dumps(value, allow_nan=False, separators=(",", ":")))
        for name, value in params.items()
    ]


INFO: Final = Request("GET", "/info", headers={"Accept": JSON})
READY: Final = Request("GET", "/readyz", headers={"Accept": JSON})
USAGE: Final = Request("GET", "/usage", headers={"Accept": JSON})


def usage_of(days: int | None) -> Request:
    """Make the request for the usage of so many days, or as many as the server likes."""
    return USAGE if days is None else replace(USAGE, query=(("days", str(operator.index(days))),))


def read_object(response: Response, path: str) -> dict[str, Any]:
    """Reads the answer to INFO or USAGE.

    Raises:
        StatusError: The status is not 200.
        BadAnswer: It is 200, and yet not a JSON object.
    """
    if response.status != 200:
        raise status_error(response)
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadAnswer(f"the answer to {path} is not a JSON object; is base_url a lossd server?")
    return found


def read_ready(response: Response) -> bool:
    """Reads the answer to READY: 200 is yes, 503 is no.

    Raises:
        StatusError: The status is neither.
    """
    if response.status not in (200, 503):
        raise status_error(response)
    return response.status == 200
