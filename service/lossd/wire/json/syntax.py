"""JSON texts parsed by simdjson, and the reason where a text is not JSON (RFC 8259).

simdjson is fast and says yes or no. Only a text that is wrong is searched for the place, more slowly.
"""

from __future__ import annotations

import re
import threading
from typing import Final

import numpy as np
import orjson
import simdjson

from lossd.error_text import shown
from lossd.types import MAX_DIMENSIONS, ErrorCode, RequestError
from lossd.wire.json.values import NotJsonError

STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
NOT_SPACE: Final = re.compile(rb"[^ \t\r\n]")

_KEPT_BYTES: Final = 1 << 17  # the texts for which a thread's own parser is used
_EXPLAINED_BYTES: Final = 1 << 20  # a longer text is not parsed a second time to find the place

# simdjson refuses integers over 64 bits, which JSON allows. They get an exponent; strings stay as they are.
_NUMBER_ERRORS: Final = ("NUMBER_ERROR", "BIGINT_ERROR")
_LONG_INTEGER: Final = re.compile(STRING + rb"|(?<![0-9.eE+-])-?[0-9]{19,}+(?![0-9.eE])", re.DOTALL)
# The lookbehind comes last, so that the search can skip to the first letters.
_CONSTANT: Final = re.compile(rb"NaN(?<=[\[,:\s-]NaN)|Infinity(?<=[\[,:\s-]Infinity)")
_LONG_EXPONENT: Final = re.compile(rb"(?<![0-9.])-?+[0-9]++(?:\.[0-9]++)?+[eE]\+?[0-9]{3,}+")


class _ThreadParser(threading.local):
    """The parser of a thread. Touching a new one's memory takes longer than parsing a short text."""

    def __init__(self) -> None:
        self.parser = simdjson.Parser()


thread: Final = _ThreadParser()


def parse(text: bytes | memoryview) -> object:
    """Parse a text with simdjson.

    Do not keep the result in a variable: the next text cannot be parsed while it lives, and a traceback keeps
    variables alive.

    Raises:
        NotJsonError: The text is not JSON. The message is simdjson's.
    """
    parser = thread.parser if len(text) <= _KEPT_BYTES else simdjson.Parser()
    try:
        try:
            return parser.parse(text)
        except (ValueError, RuntimeError) as error:
            if not str(error).startswith(_NUMBER_ERRORS):
                raise
        return parser.parse(_LONG_INTEGER.sub(_with_exponent, text))
    except (ValueError, RuntimeError) as error:
        raise NotJsonError(str(error)) from None


def _with_exponent(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0].startswith(b'"') else found[0] + b"e0"


def check_whole(text: memoryview) -> None:
    """Refuse a text that is not JSON, so that this is reported rather than an error in one of its parts.

    A long text is not checked.

    Raises:
        RequestError: ``malformed_json``.
    """
    if len(text) <= _EXPLAINED_BYTES:
        try:
            parse(text)
        except NotJsonError as error:
            raise malformed(text, error) from None


def locate(text: bytes | memoryview) -> str | None:
    """Return what is wrong with a text, and where; None where it is too long to search."""
    if len(text) <= _EXPLAINED_BYTES:
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return str(error)
    return None


def not_an_object(seen: str) -> RequestError:
    """Return the error of a document that is another value."""
    detail = f'the document is not a JSON object: {seen}; send {{"logits": [...], "targets": [...]}}'
    return RequestError(ErrorCode.MALFORMED_JSON, detail)


def malformed(text: memoryview, error: NotJsonError) -> RequestError:
    """Return the error of a document that is not JSON, with the place if it can be found.

    Args:
        text: The document.
        error: The reason why it was refused.
    """
    if not NOT_SPACE.search(text):
        return not_an_object("it is empty")
    detail = _not_utf8(text) or _constant(text) or _overflow(text, error)
    if detail is None and str(error).startswith("DEPTH_ERROR"):
        detail = f"the document is nested too deeply; send {MAX_DIMENSIONS} dimensions at most"
    if detail is None:
        reason = locate(text) or str(error).partition(": ")[2] or str(error)  # simdjson begins with a code
        detail = f"the document is not JSON: {reason}"
    return RequestError(ErrorCode.MALFORMED_JSON, detail)


def _not_utf8(text: memoryview) -> str | None:
    """Find a byte that is not UTF-8, which RFC 8259, 8.1, requires."""
    try:
        str(text, "utf-8")
    except UnicodeDecodeError as error:
        return f"the document is not UTF-8 at byte {error.start}; send UTF-8"
    return None


def _constant(text: memoryview) -> str | None:
    """Find NaN or Infinity, which RFC 8259, 6, does not permit."""
    constant = _CONSTANT.search(text)
    if constant is None:
        return None
    seen = f"{constant[0].decode()} at byte {constant.start()} is not a JSON number"
    return f'{seen}; in tensors send the strings "NaN", "Infinity" and "-Infinity"'


def _overflow(text: memoryview, error: NotJsonError) -> str | None:
    """Find a number that overflows, if simdjson refused a number."""
    if str(error).startswith(_NUMBER_ERRORS):
        for number in _LONG_EXPONENT.finditer(text):
            if np.isinf(float(number[0])):
                seen = f"{shown(number[0])} at byte {number.start()} overflows a float64"
                return f'{seen}; send numbers below 1.8e308, or in tensors "Infinity"'
    return None
