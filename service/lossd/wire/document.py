"""``application/json``: one object, the tensors as nested arrays and the parameters beside them.

simdjson parses the document and hands out each tensor's numbers flat; `nesting` reckons the shape from the
text. Where each value's text lies is found by walking the top level of a document that the parser has already
found well formed. All of this is quick and says yes or no; only a document at fault is searched for where.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
import simdjson

from lossd.names import pointer, shown
from lossd.request import MAX_DIMENSIONS, TENSOR_DTYPES, Body, Fault
from lossd.wire.nesting import element_pointer, ragged, regular_shape
from lossd.wire.reader import Piece
from lossd.wire.values import MAX_PARAMETER_BYTES, parse_value

_Array: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.bool_]
_Text: TypeAlias = bytes | memoryview

MAX_NAMES: Final = 100
"""The most names that the document's object may have."""

_EXPLAINED_BYTES: Final = 1 << 20  # a longer document is not parsed a second time to tell where it is wrong

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_NULLABLE: Final = frozenset({"pos_weight"})  # also a parameter, and null is what leaves that out

_SPACES: Final = b" \t\r\n"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TEXT: Final = re.compile(_STRING, re.DOTALL)
_NOT_SPACE: Final = re.compile(rb"[^ \t\r\n]")
_QUOTE: Final = re.compile(rb'"')
_KEY: Final = re.compile(rb"[\s,{]*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
_LITERAL: Final = re.compile(rb"[^\s,}\]]++")
_NESTED: Final = re.compile(rb"[\[{]|[\]}]|" + _STRING, re.DOTALL)
_NUMBER_BYTES: Final = b"-0123456789"

# simdjson knows integers of 64 bits; longer ones are given an exponent for it, and strings left alone.
_NUMBER_ERRORS: Final = ("NUMBER_ERROR", "BIGINT_ERROR")
_LONG_INTEGER: Final = re.compile(_STRING + rb"|(?<![0-9.eE+-])-?[0-9]{19,}+(?![0-9.eE])", re.DOTALL)
# What goes before is looked at last, so that the search can skip to the first letters.
_CONSTANT: Final = re.compile(rb"NaN(?<=[\[,:\s-]NaN)|Infinity(?<=[\[,:\s-]Infinity)")
_LONG_EXPONENT: Final = re.compile(rb"(?<![0-9.])-?+[0-9]++(?:\.[0-9]++)?+[eE]\+?[0-9]{3,}+")

_NOT_A_NUMBER: Final = re.compile(rb'["{ntf]')
_NOT_A_NUMBER_OR_BOOL: Final = re.compile(rb'["{n]')
_KINDS: Final = {'"': "a string", "{": "an object", "n": "null", "t": "a boolean", "f": "a boolean"}


class JsonReader:
    """Reads a JSON document."""

    def __init__(self, *, options: Mapping[str, str], names: Sequence[str]) -> None:
        """Expect a document.

        Args:
            options: A charset, if given, must be UTF-8.
            names: Not needed; the document names its tensors.

        Raises:
            Fault: ``unsupported_media_type``: another charset.
        """
        del names
        charset = options.get("charset", "utf-8")
        if charset.lower() not in _CHARSETS:
            raise Fault("unsupported_media_type", f"JSON in {shown(charset)} is not read; send UTF-8")
        self._begun = False
        self._length = 0

    @property
    def needed(self) -> int:
        """What has come: a document does not announce its length."""
        return self._length

    def feed(self, chunk: bytes) -> Iterable[Piece]:
        """Take the body's next bytes, which are laid down as they are.

        Raises:
            Fault: ``malformed_json``: the document cannot be an object.
        """
        self._length += len(chunk)
        if not self._begun and (first := _NOT_SPACE.search(chunk)):
            self._begun = True
            if first[0] not in (b"{", _BYTE_ORDER_MARK[:1]):
                raise _not_an_object(f"it begins with {shown(first[0])}")
        return (chunk,)

    def outline(self, length: int | None) -> None:
        """Nothing: what a document holds is certain at its end."""

    def finish(self, laid: memoryview) -> Body:
        """Parse the document.

        Returns:
            The tensors as arrays: float64, or bool where all of a tensor that may hold booleans are such.

        Raises:
            Fault: ``malformed_json``, ``bad_shape`` or ``dtype_not_allowed``, with the place.
        """
        document, text = _parse(laid)
        if not isinstance(document, simdjson.Object):
            raise _not_an_object("it is another value")
        found = Body()
        seen: set[str] = set()
        for name, start, end in _members(text):
            if name in seen:
                detail = f"the object has {shown(name)} twice; send it once"
                raise Fault("malformed_json", detail, [(pointer(name), "given twice")])
            seen.add(name)
            value = bytes(text[start:end])
            if name not in TENSOR_DTYPES or (name in _NULLABLE and value == b"null"):
                found.params[name] = _parameter(name, value)
            elif value.startswith(b"["):
                array = document[name]
                assert isinstance(array, simdjson.Array)
                found.arrays[name] = _tensor(name, value, array)
            else:
                found.arrays[name] = _scalar(name, value)
        return found


def read_numbers(name: str, text: bytes) -> _Array:
    """The numbers of one JSON value: of nested arrays, or a single one.

    Args:
        name: The tensor's, which says whether it may hold booleans; for faults, too.
        text: Of the value alone.

    Returns:
        The tensor: C-contiguous float64, or bool where all of a tensor that may hold booleans are such.

    Raises:
        Fault: ``malformed_json``, ``bad_shape`` or ``dtype_not_allowed``, with the place.
    """
    parsed, read = _parse(text.strip(_SPACES))
    value = bytes(read)
    return _tensor(name, value, parsed) if isinstance(parsed, simdjson.Array) else _scalar(name, value)


def arena_bytes(content_length: int) -> int:
    """The memory that a body and the arrays built from it need.

    A number takes two bytes of text at least ("0,") and eight as a float64; each array begins at a multiple
    of eight.
    """
    return content_length + 8 * (content_length // 2 + 1 + len(TENSOR_DTYPES))


def _parse(body: _Text) -> tuple[object, _Text]:
    """The parsed document, and the text that was parsed."""
    text: _Text = body
    try:
        try:
            document = simdjson.Parser().parse(body)
        except (ValueError, RuntimeError) as error:
            if not str(error).startswith(_NUMBER_ERRORS):
                raise
            text = _LONG_INTEGER.sub(_with_exponent, body)
            document = simdjson.Parser().parse(text)
    except (ValueError, RuntimeError) as error:
        raise _malformed(body, error) from None
    return document, text


def _with_exponent(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0].startswith(b'"') else found[0] + b"e0"


def _members(text: _Text) -> Iterator[tuple[str, int, int]]:
    """Each name of the document's object, and where its value begins and ends.

    Raises:
        Fault: ``malformed_json``: there are too many names. ``dtype_not_allowed``: an array that must hold
            numbers holds a string or an object. ``invalid_parameter``: a parameter is too long.
    """
    at = len(_BYTE_ORDER_MARK) if bytes(text[:3]) == _BYTE_ORDER_MARK else 0
    names = 0
    while key := _KEY.match(text, at):
        names += 1
        if names > MAX_NAMES:
            detail = f"the object has more than {MAX_NAMES} names; send tensors and parameters only"
            raise Fault("malformed_json", detail)
        name: str = orjson.loads(key[1])
        start = key.end()
        opening = bytes(text[start : start + 1])
        if name in TENSOR_DTYPES and opening == b"[":
            at = _array_end(name, text, start)
        elif opening in (b"[", b"{"):
            at = _nested_end(name, text, start)
        else:
            literal = (_TEXT if opening == b'"' else _LITERAL).match(text, start)
            assert literal is not None  # the document is well formed
            at = literal.end()
        yield name, start, at


def _array_end(name: str, text: _Text, start: int) -> int:
    """Where a tensor's array ends: before the next name, or the end of the document."""
    quote = _QUOTE.search(text, start)
    value = bytes(text[start : quote.start() if quote else len(text)])
    if value.count(b"[") != value.count(b"]") or b"{" in value:
        raise _wrong_element(name, value + b'"')
    return start + value.rindex(b"]") + 1


def _nested_end(name: str, text: _Text, start: int) -> int:
    """Where a parameter's array or object ends."""
    depth = 0
    for token in _NESTED.finditer(text, start, start + MAX_PARAMETER_BYTES):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise _too_long(name)


def _tensor(name: str, text: bytes, array: simdjson.Array) -> _Array:
    """A tensor of one dimension or more."""
    bools = 0
    try:
        flat = np.frombuffer(array.as_buffer(of_type="d"), dtype=np.float64)
    except TypeError:
        if "bool" not in TENSOR_DTYPES[name] or _NOT_A_NUMBER_OR_BOOL.search(text):
            raise _wrong_element(name, text) from None
        bools = text.count(b"true") + text.count(b"false")
        numbers = simdjson.Parser().parse(text.replace(b"true", b"1").replace(b"false", b"0"))
        assert isinstance(numbers, simdjson.Array)
        flat = np.frombuffer(numbers.as_buffer(of_type="d"), dtype=np.float64)
    shape = regular_shape(text, flat.size)
    if shape is None:
        raise ragged(name, text)
    shaped = flat.reshape(shape)
    return shaped.astype(np.bool_) if bools and bools == flat.size else shaped


def _scalar(name: str, text: bytes) -> _Array:
    """A tensor of no dimensions. Whether a tensor may be one is settled where all formats meet."""
    if text in (b"true", b"false") and "bool" in TENSOR_DTYPES[name]:
        return np.array(text == b"true")
    if text[0] not in _NUMBER_BYTES:
        raise _wrong_element(name, text)
    return np.array(float(text), dtype=np.float64)


def _wrong_element(name: str, text: bytes) -> Fault:
    """The fault of a value that holds something else than numbers (or booleans, where they may be)."""
    bools = "bool" in TENSOR_DTYPES[name]
    found = (_NOT_A_NUMBER_OR_BOOL if bools else _NOT_A_NUMBER).search(text)
    assert found is not None  # or there would be no fault
    before = text[: found.start()]
    where = element_pointer(name, before) if before else pointer(name)
    seen = f"{_KINDS[found[0].decode()]} where a number{' or a boolean' if bools else ''} is due"
    detail = f"{where} is {seen}; send {name} as nested arrays of numbers, or leave it out"
    return Fault("dtype_not_allowed", detail, [(where, seen)])


def _parameter(name: str, text: bytes) -> object:
    if len(text) > MAX_PARAMETER_BYTES:
        raise _too_long(name)
    try:
        return parse_value(text.decode())
    except ValueError as error:
        detail = f"{shown(name)} cannot be read: {error}"
        raise Fault("malformed_json", detail, [(pointer(name), str(error))]) from None


def _too_long(name: str) -> Fault:
    detail = (
        f"the parameter {shown(name)} has more than {MAX_PARAMETER_BYTES} bytes; "
        f"the tensors are {', '.join(TENSOR_DTYPES)}"
    )
    return Fault("invalid_parameter", detail, [(pointer(name), "too long")])


def _not_an_object(seen: str) -> Fault:
    detail = f'the document is not a JSON object: {seen}; send {{"logits": [...], "targets": [...]}}'
    return Fault("malformed_json", detail)


def _malformed(body: _Text, error: Exception) -> Fault:
    """The fault of a document that the parser refuses, with the place where it can be told."""
    if not _NOT_SPACE.search(body):
        return _not_an_object("it is empty")
    if isinstance(error, UnicodeDecodeError):
        return Fault("malformed_json", f"the document is not UTF-8{_where_not_utf8(body)}; send UTF-8")
    constant = _CONSTANT.search(body)
    if constant is not None:
        seen = f"{constant[0].decode()} at byte {constant.start()} is not a JSON number"
        return Fault("malformed_json", f"{seen}; send such values in .npy files, which can hold them")
    if str(error).startswith(_NUMBER_ERRORS):
        for number in _LONG_EXPONENT.finditer(body):
            if np.isinf(float(number[0])):
                seen = f"{shown(number[0])} at byte {number.start()} overflows a float64"
                return Fault("malformed_json", f"{seen}; send numbers below 1.8e308")
    if str(error).startswith("DEPTH_ERROR"):
        return Fault(
            "malformed_json", f"the document is nested too deeply; send {MAX_DIMENSIONS} dimensions at most"
        )
    reason = str(error).partition(": ")[2] or str(error)
    if len(body) <= _EXPLAINED_BYTES:
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError as located:
            reason = str(located)
    return Fault("malformed_json", f"the document is not JSON: {reason}")


def _where_not_utf8(body: _Text) -> str:
    try:
        str(body, "utf-8")
    except UnicodeDecodeError as error:
        return f" at byte {error.start}"
    return ""
