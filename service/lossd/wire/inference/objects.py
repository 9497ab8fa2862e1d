"""Names of the Open Inference Protocol, and checks of its JSON objects.

The protocol: https://github.com/kserve/open-inference-protocol. The extensions (binary tensors, parameters,
statistics, model configuration): docs/protocol in https://github.com/triton-inference-server/server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lossd.error_text import SHOWN, pointer, shown, suggestion
from lossd.types import ITEMSIZE, ErrorCode, RequestError
from lossd.wire.answer import SUMS
from lossd.wire.json.syntax import locate
from lossd.wire.json.values import ForbiddenValueError, NotJsonError, parse_value

MODEL_VERSION: Final = "1"
"""The version of every model."""

DATATYPES: Final[Mapping[str, str]] = {
    dtype.replace("bfloat", "BF").replace("float", "FP").upper(): dtype for dtype in ITEMSIZE
}
"""The dtypes by the protocol's names ("Tensor Data Types"), such as FP32, BF16, BOOL and UINT8."""

OUTPUTS: Final[Mapping[str, tuple[str, int]]] = {
    "loss": ("FP64", -1),
    "sum": ("FP64", 1),
    "weight_sum": ("FP64", 1),
    "positives": ("FP64", 1),
    "count": ("INT64", 1),
    **{f"{name}_terms": ("FP64", -1) for name in SUMS},
}
"""The outputs with their datatypes and lengths; -1 where the length depends on the request."""
REPORT: Final = "report"
"""A further output, [1] of BYTES, if it is named or the parameter of that name is given."""

WHERE_PARAMETERS: Final = "; parameters of the loss stand in the body's parameters"
"""The remedy where something unknown may be meant as a parameter."""


def parse_object(text: bytes, rest: bytes) -> object:
    """Parse the JSON object of a body.

    Args:
        text: All of it, to report where it is wrong.
        rest: The text without the arrays of numbers.

    Raises:
        RequestError: ``malformed_json``.
    """
    try:
        return parse_value(rest.decode())
    except UnicodeDecodeError:
        raise malformed(text, "it is not UTF-8") from None
    except ForbiddenValueError as error:
        raise malformed(text, str(error)) from None
    except NotJsonError as error:
        raise malformed(text, locate(text) or str(error)) from None


def malformed(text: bytes, reason: str) -> RequestError:
    """Return the error of a text that is not JSON."""
    seen = f"the first {len(text)} bytes are not a JSON object: {reason}"
    return RequestError(
        ErrorCode.MALFORMED_JSON, f"{seen}; send one, with binary data behind it if there is any"
    )


def read_object(value: object, place: str) -> dict[str, object]:
    """Return a copy of an object, or raise ``bad_request``."""
    if not isinstance(value, dict):
        raise bad_request(place, "not an object", "send {...}")
    return dict(value)


def read_members(
    value: object, place: str, known: Sequence[str], remedy: str = WHERE_PARAMETERS
) -> dict[str, object]:
    """Return the members of an object, without those that are null: null means absent.

    Args:
        value: The value that should be an object.
        place: The JSON pointer to it.
        known: The names that it may have.
        remedy: Further remedy for an unknown name, as a sentence's end.

    Raises:
        RequestError: ``bad_request``: it is no object. ``invalid_parameter``: it has another name.
    """
    members = read_object(value, place)
    for name in members:
        if name not in known:
            hint = suggestion(name, known)
            detail = f"{place or 'the body'} has {shown(name)}{hint or ';'} there are {', '.join(known)}"
            raise RequestError(
                ErrorCode.INVALID_PARAMETER, detail + remedy, [(place + pointer(name[:SHOWN]), "unknown")]
            )
    return {name: item for name, item in members.items() if item is not None}


def read_list(value: object, place: str) -> list[object]:
    """Return a list, or raise ``bad_request``."""
    if not isinstance(value, list):
        raise bad_request(place, "not a list", "send [...]")
    return value


def read_string(members: Mapping[str, object], name: str, place: str) -> str:
    """Return a member that is a string, or raise ``bad_request``."""
    value = members.get(name)
    if not isinstance(value, str):
        raise bad_request(place + pointer(name), "missing, or not a string", "send one")
    return value


def read_flag(value: object, default: bool, place: str) -> bool:
    """Return a boolean, or the default for None, or raise ``bad_request``."""
    if value is not None and not isinstance(value, bool):
        raise bad_request(place, "neither true nor false", "send one of these")
    return default if value is None else value


def bad_request(place: str, seen: str, remedy: str) -> RequestError:
    """Return the error of a JSON value that the protocol does not allow."""
    detail = f"{place or 'the body'} is {seen}; {remedy}"
    return RequestError(ErrorCode.BAD_REQUEST, detail, [(place, seen)] if place else [])
