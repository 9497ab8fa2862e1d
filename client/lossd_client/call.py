"""What each method sends and how its answer is read; knows neither sync from async nor the network."""

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossd_client.arrays import FLOATS, INTEGERS, MASK, TARGETS, as_array, npy_pieces
from lossd_client.errors import BadAnswer, status_error
from lossd_client.message import JSON, NPY, Request, Response
from lossd_client.result import Asked

Reduction: TypeAlias = Literal["none", "sum", "mean"]
Axis: TypeAlias = int | Sequence[int] | None
Normalizer: TypeAlias = Literal["count", "weight", "positives"] | float
TargetsFormat: TypeAlias = Literal["dense", "index"]
Variant: TypeAlias = Literal["sigmoid", "exp", "quality"]


class Default(Enum):
    """The type of `DEFAULT`."""

    DEFAULT = "the server's default"

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = Default.DEFAULT
"""Stands for a parameter that is not sent, where None has a meaning of its own."""


@dataclass(frozen=True, slots=True)
class Tensors:
    """A call's tensors as the caller gave them, in the order in which they are sent."""

    logits: ArrayLike | None
    probabilities: ArrayLike | None
    targets: ArrayLike | None
    weight: ArrayLike | None
    mask: ArrayLike | None
    pos_weight: ArrayLike | None  # a single number goes as a parameter


@dataclass(frozen=True, slots=True)
class Shared:
    """The parameters that every loss has, with the contract's defaults; what equals its default stays here.

    The clients' methods repeat these defaults, for whoever reads a signature.
    """

    reduction: Reduction = "mean"
    axis: Axis = None
    normalizer: Normalizer = "count"
    class_axis: int = -1
    targets_format: TargetsFormat = "dense"
    label_smoothing: float = 0.0
    ignore_index: float | None = None
    allow_nan: bool = False


@dataclass(frozen=True, slots=True)
class LossCall:
    """One scoring request as the caller gave it: nothing is converted or checked yet."""

    loss_name: str
    tensors: Tensors
    shared: Shared
    own: Mapping[str, Any] = field(default_factory=dict)  # the loss's own; DEFAULT for those not given


def prepare(call: LossCall) -> tuple[Request, Asked]:
    """Turns the call into the request to send and what is needed to read its answer.

    Raises:
        TypeError: A tensor is missing, or logits and probabilities are both there; a tensor's dtype is not
            allowed, or a parameter has the wrong type.
        ValueError: A tensor is ragged, or a parameter is no number or not finite.
    """
    tensors, params = _tensors(call), _shared(call.shared)
    own = {name: _converted(name, value) for name, value in call.own.items() if value is not DEFAULT}
    pos_weight = call.tensors.pos_weight
    if _is_number(pos_weight):
        params["pos_weight"] = _converted("pos_weight", pos_weight)
    elif pos_weight is not None:
        tensors["pos_weight"] = as_array("pos_weight", pos_weight, FLOATS)
    scalar = call.shared.reduction != "none" and call.shared.axis is None

    query = [("tensors", ",".join(tensors))]
    query += [(name, _text(name, value)) for name, value in (own | params).items()]
    request = Request(
        method="POST",
        path=f"/{call.loss_name}",
        query=tuple(query),
        headers={"Content-Type": NPY, "Accept": JSON if scalar else NPY},
        body=tuple(piece for array in tensors.values() for piece in npy_pieces(array)),
    )
    inputs = next(iter(tensors.values()))
    return request, Asked(call.loss_name, inputs.shape, call.shared.reduction, own)


def _tensors(call: LossCall) -> dict[str, NDArray[Any]]:
    """The tensors to send but for pos_weight, by name: the logits or probabilities first."""
    method, given = f"{call.loss_name}()", call.tensors
    if given.logits is not None and given.probabilities is not None:
        raise TypeError(
            f"{method} takes logits or probabilities, not both; beside probabilities, targets are given by "
            f"name: {call.loss_name}(probabilities=..., targets=...)"
        )
    if given.logits is None and given.probabilities is None:
        raise TypeError(f"{method} needs logits or probabilities")
    if given.targets is None:
        raise TypeError(f"{method} needs targets")
    by_index = call.shared.targets_format == "index"
    possible = (
        ("logits", given.logits, FLOATS),
        ("probabilities", given.probabilities, FLOATS),
        ("targets", given.targets, INTEGERS if by_index else TARGETS),
        ("weight", given.weight, FLOATS),
        ("mask", given.mask, MASK),
    )
    return {name: as_array(name, value, allowed) for name, value, allowed in possible if value is not None}


def _shared(shared: Shared) -> dict[str, Any]:
    """The shared parameters to send, as JSON values."""
    given = {f.name: (_converted(f.name, getattr(shared, f.name)), f.default) for f in fields(shared)}
    return {name: value for name, (value, default) in given.items() if value != default}


def _converted(name: str, value: Any) -> Any:  # noqa: ANN401 - any argument in, any JSON value out
    if value is None and name in _NULLABLE:
        return None
    try:
        return _CONVERTERS[name](value)
    except (TypeError, ValueError) as error:  # which do not say which argument is meant
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number)


def _integers(value: int | Sequence[int]) -> int | list[int]:
    if isinstance(value, Sequence):
        return [operator.index(item) for item in value]
    return operator.index(value)


def _numbers(value: Any) -> float | list[float]:  # noqa: ANN401 - checked by float()
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return [float(item) for item in value]
    return float(value)


def _number_or_word(value: str | float) -> str | float:
    return value if isinstance(value, str) else float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool | np.bool_):  # bool() would take "false" for true
        raise TypeError(f"must be True or False, and is {value!r}")
    return bool(value)


_NULLABLE: Final = frozenset({"axis", "ignore_index", "alpha"})
_CONVERTERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "reduction": str,
    "axis": _integers,
    "normalizer": _number_or_word,
    "class_axis": operator.index,
    "targets_format": str,
    "label_smoothing": float,
    "ignore_index": float,
    "allow_nan": _flag,
    "pos_weight": float,
    "gamma": float,
    "alpha": _numbers,
    "variant": str,
}


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
