"""Parameters in a query string: each value is JSON, a bare word is a string, and ``a,b`` is a list.

A query is parsed as a form's (application/x-www-form-urlencoded, https://url.spec.whatwg.org/#urlencoded-parsing),
with limits on its length and its number of names. A name given twice is refused: which value wins is not
agreed between servers. Parameters as text in other formats are parsed by the same `parse_text`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from lossd.error_text import pointer, shown
from lossd.types import ErrorCode, RequestError
from lossd.wire.json.values import ForbiddenValueError, NotJsonError, parse_value

MAX_QUERY_BYTES: Final = 1 << 15
MAX_QUERY_NAMES: Final = 100

# In a form's encoding + is a space. But gamma=1e+3 means no space, and numbers have none.
_EXPONENT_PLUS: Final = re.compile(rb"(?<=[0-9.][eE])\+(?=[0-9])")

_MOST_WITH_WORDS: Final = 1024
"""Characters of the longest list that may have words in it, which are short."""
_CONSTANTS: Final = frozenset({"NaN", "Infinity", "-Infinity"})
_QUOTED: Final = ("[", "{", '"')


def parse_query(query_string: bytes) -> dict[str, object]:
    """Return the parameters of a percent-encoded query: plain JSON values by name, unchecked.

    Raises:
        RequestError: ``invalid_parameter``: a name is given twice, a number is not finite, a value is neither
            JSON nor a word, or the query is too long.
    """
    if len(query_string) > MAX_QUERY_BYTES:
        length = len(query_string)
        detail = f"the query has {length} bytes, at most {MAX_QUERY_BYTES} are read; send lists in the body"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail)
    fields = [field for field in query_string.split(b"&") if field]
    if len(fields) > MAX_QUERY_NAMES:
        raise RequestError(
            ErrorCode.INVALID_PARAMETER, f"the query has {len(fields)} parameters; name each once"
        )
    params: dict[str, object] = {}
    for field in fields:
        quoted_name, _, quoted_value = field.partition(b"=")
        name = _unquote(quoted_name, "a name in the query")
        if name in params:
            detail = f"the query gives {shown(name)} twice; for a list write {shown(name)[1:-1]}=a,b"
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name), "given twice")])
        text = _unquote(quoted_value, f"the value of {shown(name)}")
        params[name] = parse_text(text, f"{shown(name)} in the query", pointer(name))
    return params


def merge_params(query: Mapping[str, object], body: Mapping[str, object]) -> dict[str, object]:
    """Return the parameters of a query and of a body together.

    Raises:
        RequestError: ``invalid_parameter``: a name is in both.
    """
    both = [name for name in query if name in body]
    if both:
        detail = f"{', '.join(map(shown, both))} is given both in the query and in the body; leave one out"
        raise RequestError(
            ErrorCode.INVALID_PARAMETER, detail, [(pointer(name), "given twice") for name in both]
        )
    return {**query, **body}


def _unquote(quoted: bytes, what: str) -> str:
    spaced = _EXPONENT_PLUS.sub(b"%2B", quoted).replace(b"+", b" ")
    try:
        return unquote_to_bytes(spaced).decode()
    except UnicodeDecodeError:
        raise RequestError(ErrorCode.INVALID_PARAMETER, f"{what} is not UTF-8: {shown(quoted)}") from None


def parse_text(text: str, what: str, place: str) -> object:
    """Return the value of a parameter that was sent as text: a plain JSON value, unchecked.

    Args:
        text: JSON, a bare word, or a list of these separated by commas.
        what: The parameter, for the error's detail.
        place: The JSON pointer to it.

    Raises:
        RequestError: ``invalid_parameter``: it is none of these, or holds a number that is not finite.
    """
    try:
        try:
            return parse_value(text)
        except NotJsonError:
            if text.startswith(_QUOTED) or "," not in text:
                return _parse_word(text)
            return _parse_list(text)
    except (NotJsonError, ForbiddenValueError) as error:
        reason = f"{error}, but nan is a word" if text.strip() == "NaN" else str(error)
        detail = f"{what} cannot be read: {reason}; send JSON, a word, or a list a,b"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(place, reason)]) from None


def _parse_list(text: str) -> list[object]:
    """Return a list ``a,b``. A long one may have no words: to look at each item takes too long."""
    if len(text) > _MOST_WITH_WORDS:
        value = parse_value(f"[{text}]")
        assert isinstance(value, list)
        return value
    return [_parse_item(item) for item in text.split(",")]


def _parse_item(text: str) -> object:
    try:
        return parse_value(text)
    except NotJsonError:
        return _parse_word(text)


def _parse_word(text: str) -> str:
    """Return a bare word: a text that does not begin like JSON."""
    word = text.strip()
    if not word:
        raise NotJsonError("it is empty")
    if word.startswith(_QUOTED) or word in _CONSTANTS:
        raise NotJsonError(f"{shown(word)} is not JSON")
    return word
