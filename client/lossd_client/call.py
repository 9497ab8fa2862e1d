"""What each method sends and how its answer is read; knows neither sync from async nor the network."""

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from lossd_client.arrays import FLOATS, TARGETS, as_array, npy_pieces
from lossd_client.errors import BadAnswer, status_error
from lossd_client.message import JSON, NPY, Request, Response
from lossd_client.result import Asked

Reduction: TypeAlias = Literal["none", "sum", "mean"]
Axis: TypeAlias = int | Sequence[int] | None


class Default(Enum):
    """The type of `DEFAULT`."""

    DEFAULT = "the server's default"

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = Default.DEFAULT
"""Stands for a parameter that is not sent, where None has a meaning of its own."""


@dataclass(frozen=True, slots=True)
class LossCall:
    """One scoring request as the caller gave it: nothing is converted or checked yet."""

    loss_name: str
    logits: ArrayLike
    targets: ArrayLike
    weight: ArrayLike | None
    pos_weight: ArrayLike | None
    reduction: Reduction
    axis: Axis
    options: Mapping[str, Any]  # the loss's own parameters; DEFAULT for those not given


def prepare(call: LossCall) -> tuple[Request, Asked]:
    """Turns the call into the request to send and what is needed to read its answer.

    Raises:
        TypeError: A tensor's dtype is not allowed, or a parameter is no number.
        ValueError: A tensor is ragged, or a parameter is not finite.
    """
    tensors = {
        "logits": as_array("logits", call.logits, FLOATS),
        "targets": as_array("targets", call.targets, TARGETS),
    }
    params: dict[str, Any] = {}
    if call.weight is not None:
        tensors["weight"] = as_array("weight", call.weight, FLOATS)
    if isinstance(call.pos_weight, int | float | np.number):
        params["pos_weight"] = _number(call.pos_weight)
    elif call.pos_weight is not None:
        tensors["pos_weight"] = as_array("pos_weight", call.pos_weight, FLOATS)
    params |= {name: _number(value) for name, value in call.options.items() if value is not DEFAULT}

    shaping: dict[str, Any] = {}
    if call.reduction != "mean":
        shaping["reduction"] = call.reduction
    if call.axis is not None:
        shaping["axis"] = _integers(call.axis)
    scalar = call.reduction != "none" and call.axis is None

    query = [("tensors", ",".join(tensors))]
    query += [(name, _text(name, value)) for name, value in (params | shaping).items()]
    request = Request(
        method="POST",
        path=f"/{call.loss_name}",
        query=tuple(query),
        headers={"Content-Type": NPY, "Accept": JSON if scalar else NPY},
        body=tuple(piece for array in tensors.values() for piece in npy_pieces(array)),
    )
    return request, Asked(call.loss_name, tensors["logits"].shape, call.reduction, params)


def _number(value: Any) -> float | list[float] | None:  # noqa: ANN401 - checked by float()
    if value is None:
        return None
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return [float(item) for item in value]
    return float(value)


def _integers(axis: int | Sequence[int]) -> int | list[int]:
    if isinstance(axis, Sequence):
        return [operator.index(item) for item in axis]
    return operator.index(axis)


def _text(name: str, value: Any) -> str:  # noqa: ANN401 - checked by json.dumps()
    if isinstance(value, str):
        return value  # a bare word is a string
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError(f"{name} must be finite, and is {value}") from error


INFO: Final = Request("GET", "/info", headers={"Accept": JSON})
READY: Final = Request("GET", "/readyz", headers={"Accept": JSON})


def read_info(response: Response) -> dict[str, Any]:
    """Reads the answer to INFO.

    Raises:
        StatusError: The status is not 200.
        BadAnswer: It is 200, and yet not a JSON object.
    """
    if response.status != 200:
        raise status_error(response)
    try:
        info = json.loads(response.body)
    except ValueError:
        info = None
    if not isinstance(info, dict):
        raise BadAnswer("the answer to /info is not a JSON object; is base_url a lossd server?")
    return info


def read_ready(response: Response) -> bool:
    """Reads the answer to READY: 200 is yes, 503 is no.

    Raises:
        StatusError: The status is neither.
    """
    if response.status not in (200, 503):
        raise status_error(response)
    return response.status == 200
