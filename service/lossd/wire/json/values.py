"""Plain JSON values, parsed strictly.

Python's json accepts more than RFC 8259. Refused here are NaN and Infinity tokens (RFC 8259, 6), numbers that
overflow a double (6), names given twice in an object (4), lone surrogates (8.2) and nesting deeper than
`MAX_DEPTH` (9 allows limits).
"""

from __future__ import annotations

import json
import math
from typing import Final

import orjson

from lossd.error_text import pointer, shown
from lossd.types import ErrorCode, RequestError

MAX_PARAMETER_BYTES: Final = 1 << 20
"""The most bytes of a JSON value beside the tensors."""
MAX_PARAMETER_ITEMS: Final = 1 << 15
"""The most items of such a value, in all. They are Python objects, which take the event loop's time."""
_MAX_NAMES: Final = 1 << 10
_LONG: Final = 1 << 10
MAX_DEPTH: Final = 64
"""The deepest nesting of lists and objects in such a value."""


class NotJsonError(ValueError):
    """A text that is not one JSON value. The message says why."""


class ForbiddenValueError(ValueError):
    """A JSON value with a number or a name that is refused. The message says which."""


def parse_value(text: str) -> object:
    """Return the plain value of a JSON text, whose length the caller has bounded.

    It is None, a bool, an int, a finite float or a str, or lists and dicts of these.

    Raises:
        NotJsonError: The text is not JSON.
        ForbiddenValueError: A NaN or Infinity token, a number that overflows, a name given twice, too many
            items.
    """
    if has_many_items(text):
        raise ForbiddenValueError(
            f"it has more than {MAX_PARAMETER_ITEMS} items or {_MAX_NAMES} names; send arrays as tensors"
        )
    try:
        value = _load_long(text) if len(text) > _LONG else _load(text)
        if text.count("[") + text.count("{") > MAX_DEPTH:
            _check_depth(value, MAX_DEPTH)
    except ForbiddenValueError:
        raise
    except RecursionError:
        raise NotJsonError(f"it is nested more than {MAX_DEPTH} deep") from None
    except UnicodeEncodeError:
        raise NotJsonError("it holds half of a surrogate pair") from None
    except ValueError as error:
        raise NotJsonError(str(error)) from None
    return value


def has_many_items(text: str) -> bool:
    """Return whether a JSON text may have more items, or names, than are taken."""
    return text.count(",") >= MAX_PARAMETER_ITEMS or text.count(":") >= _MAX_NAMES


def _load(text: str) -> object:
    value: object = json.loads(
        text,
        parse_constant=_refuse_constant,
        parse_float=_parse_float,
        parse_int=_parse_int,
        object_pairs_hook=_unique_names,
    )
    json.dumps(value, ensure_ascii=False).encode()  # json.loads accepts lone surrogates
    return value


def _load_long(text: str) -> object:
    """Load a value as `_load` does, without a call for each number: a million of them would take a second."""
    try:
        value: object = orjson.loads(text)  # refuses NaN, Infinity, half pairs, and what overflows
    except orjson.JSONDecodeError as error:
        if "," not in text:
            return _load(text)  # one number, or none
        raise NotJsonError(str(error)) from None
    names = len(value) if isinstance(value, dict) else 0
    if text.count("{") == (names > 0) and text.count(":") == names:
        return value  # no object but the whole, and no name twice
    return json.loads(text, object_pairs_hook=_unique_names)


def _check_depth(value: object, left: int) -> None:
    """Refuse a value that is nested more than ``left`` deep, which recursive functions may not manage."""
    if not isinstance(value, list | dict):
        return
    if not left:
        raise NotJsonError(f"it is nested more than {MAX_DEPTH} deep")
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, list | dict):
            _check_depth(item, left - 1)


def parse_params(data: bytes, where: str) -> dict[str, object]:
    """Return the parameters of a body.

    Args:
        data: A JSON object in UTF-8, of at most `MAX_PARAMETER_BYTES`.
        where: Its place, for the error's detail, such as ``the part params``.

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
    # int() refuses more than 4,300 digits with an unhelpful message; a double overflows long before.
    _parse_float(token)
    return int(token)


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for name, item in pairs:
        if name in value:
            raise ForbiddenValueError(f"{shown(name)} is given twice")
        value[name] = item
    return value
