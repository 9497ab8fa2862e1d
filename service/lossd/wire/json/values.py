"""Plain JSON values, read strictly: what Python's json lets through beyond RFC 8259 is refused here.

NaN and Infinity tokens, numbers that overflow a double, names given twice in an object, lone surrogates and
nesting deeper than the interpreter's stack are all the caller's mistakes.
"""

from __future__ import annotations

import json
import math
from typing import Final

from lossd.error_text import pointer, shown
from lossd.types import ErrorCode, RequestError

MAX_PARAMETER_BYTES: Final = 1 << 20
"""The most bytes that a JSON value beside the tensors may have."""


MAX_DEPTH: Final = 64
"""How many lists and objects may lie in each other in such a value."""


class NotJsonError(ValueError):
    """A text that is not one JSON value; the message says why."""


class ForbiddenValueError(ValueError):
    """A JSON value but for a number or a name that must not be; the message says which."""


def parse_value(text: str) -> object:
    """The plain Python value of a JSON text.

    Args:
        text: Of bounded length: the caller has seen to that.

    Returns:
        None, a bool, an int, a finite float, a str, or lists and dicts of these.

    Raises:
        NotJsonError: The text is not JSON.
        ForbiddenValueError: A NaN or Infinity token, a number that overflows, a name given twice.
    """
    try:
        value: object = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            parse_int=_parse_int,
            object_pairs_hook=_unique_names,
        )
        _check_depth(value, MAX_DEPTH)
        # json.loads makes lone surrogates, which no one can send
        json.dumps(value, ensure_ascii=False).encode()
    except ForbiddenValueError:
        raise
    except RecursionError:
        raise NotJsonError(f"it is nested more than {MAX_DEPTH} deep") from None
    except UnicodeEncodeError:
        raise NotJsonError("it holds half of a surrogate pair") from None
    except ValueError as error:
        raise NotJsonError(str(error)) from None
    return value


def _check_depth(value: object, left: int) -> None:
    """Refuse nesting that other parts, whose stacks may be less deep, could not follow.

    Raises:
        NotJsonError: More than ``left`` lists or objects lie in each other.
    """
    if not isinstance(value, list | dict):
        return
    if not left:
        raise NotJsonError(f"it is nested more than {MAX_DEPTH} deep")
    for item in value.values() if isinstance(value, dict) else value:
        _check_depth(item, left - 1)


def parse_params(data: bytes, where: str) -> dict[str, object]:
    """The parameters of a body: a JSON object of at most `MAX_PARAMETER_BYTES`.

    Args:
        data: UTF-8.
        where: What holds it, such as ``the part params``.

    Raises:
        RequestError: ``malformed_json``.
    """
    if len(data) > MAX_PARAMETER_BYTES:
        detail = f"{where} has more than {MAX_PARAMETER_BYTES} bytes; send arrays as tensors"
        raise RequestError(ErrorCode.MALFORMED_JSON, detail, [(pointer("params"), "too long")])
    try:
        value = parse_value(data.decode())
    except ValueError as error:
        detail = f"{where} is not a JSON object: {error}"
        raise RequestError(ErrorCode.MALFORMED_JSON, detail, [(pointer("params"), str(error))]) from None
    if not isinstance(value, dict):
        detail = f'{where} is not a JSON object; send one such as {{"gamma": 2}}'
        raise RequestError(ErrorCode.MALFORMED_JSON, detail, [(pointer("params"), "not an object")])
    return value


def _refuse_constant(token: str) -> object:
    raise ForbiddenValueError(f"{token} is not a JSON number")


def _parse_float(token: str) -> float:
    value = float(token)
    if math.isinf(value):
        raise ForbiddenValueError(f"{shown(token)} overflows a float64")
    return value


def _parse_int(token: str) -> int:
    # int() refuses more than 4,300 digits, with advice about the interpreter; a double overflows long before.
    _parse_float(token)
    return int(token)


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for name, item in pairs:
        if name in value:
            raise ForbiddenValueError(f"{shown(name)} is given twice")
        value[name] = item
    return value
