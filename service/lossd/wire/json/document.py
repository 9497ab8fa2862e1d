"""``application/json``: one object that holds the tensors as nested arrays, and the parameters beside them.

The document is read in three steps. A walk along its top level finds where each value begins and ends.
(A tensor's array holds no strings but those for special numbers, so it ends before the next name.) Then the
document with ``[]`` in the place of each array, which is short, is parsed whole. Then each array is parsed
(see `arrays`). The walk assumes that the document is JSON; it is if and only if the later steps succeed.

Only a document that is wrong is searched for the place, more slowly (see `syntax`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import simdjson

from lossd.error_text import pointer, shown
from lossd.types import TENSOR_DTYPES, Body, ErrorCode, RequestError, Tensor
from lossd.wire.json.arrays import (
    Allocate,
    ArrayText,
    array_bytes,
    not_closed,
    read_array,
    read_scalar,
    walk_array,
)
from lossd.wire.json.small_document import LONGEST, read_small
from lossd.wire.json.syntax import NOT_SPACE, STRING, check_whole, malformed, not_an_object, parse
from lossd.wire.json.values import MAX_PARAMETER_BYTES, MAX_PARAMETER_ITEMS, NotJsonError, parse_value
from lossd.wire.reader import Chunk

MAX_NAMES: Final = 100
"""The most names in the document's object."""

_MAX_BESIDE_BYTES: Final = 4 * MAX_PARAMETER_BYTES
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_OPTIONAL: Final = frozenset({"pos_weight", "class_weight"})  # also parameters, for which null means: none

_TEXT: Final = re.compile(STRING, re.DOTALL)
_KEY: Final = re.compile(rb"[\s,{]*+(" + STRING + rb")\s*+:\s*+", re.DOTALL)
_LITERAL: Final = re.compile(rb"[^\s,}\]]++")
_NESTED: Final = re.compile(rb"[\[{]|[\]}]|" + STRING, re.DOTALL)


class JsonReader:
    """Reader of a JSON document."""

    def __init__(self, *, options: Mapping[str, str], names: Sequence[str]) -> None:
        """Expect a document.

        Args:
            options: A charset, if given, must be UTF-8 (RFC 8259, 8.1).
            names: Ignored: the document names its tensors.

        Raises:
            RequestError: ``unsupported_media_type``: another charset.
        """
        charset = options.get("charset", "utf-8")
        if charset.lower() not in _CHARSETS:
            raise RequestError(
                ErrorCode.UNSUPPORTED_MEDIA_TYPE, f"JSON in {shown(charset)} is not read; send UTF-8"
            )
        self._begun = False
        self._length = 0

    as_is: Final = True
    skipped: Final = 0

    @property
    def needed(self) -> int:
        """The bytes received: a document does not announce its length."""
        return self._length

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        """Take the body's next bytes, and return them.

        Raises:
            RequestError: ``malformed_json``: the document cannot be an object.
        """
        self._length += len(chunk)
        if not self._begun and (first := NOT_SPACE.search(chunk)):
            self._begun = True
            if first[0] not in (b"{", _BYTE_ORDER_MARK[:1]):
                raise not_an_object(f"it begins with {shown(first[0])}")
        return (chunk,)

    def outline(self, length: int | None) -> None:
        """Return None: what a document holds is certain only at its end."""

    def finish(self, stored: memoryview) -> Body:
        """Parse the document.

        Returns:
            The tensors as arrays: float64; int64 for ids; bool where booleans are allowed and there is
            nothing else.

        Raises:
            RequestError: ``malformed_json``, ``bad_shape`` or ``dtype_not_allowed``, with the place.
        """
        found = Body()

        def allocate(name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
            return found.arrays.setdefault(name, np.empty(shape, dtype=dtype))

        found.params = _read(stored, allocate)
        return found


def read_in_place(region: memoryview, length: int) -> Body:
    """Parse a document, and store its tensors behind it.

    Args:
        region: Memory that begins with the document and has the room that `arena_bytes` says.
        length: The document's length.

    Returns:
        The tensors with the dtypes that the losses take: bool for a mask; int64 for ids; for others float64,
        or bool where booleans are allowed and there is nothing else.

    Raises:
        RequestError: As `JsonReader.finish` does.
    """
    found = Body()
    end = length

    def allocate(name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        nonlocal end
        tensor = Tensor("bool" if name == "mask" else dtype, shape, offset=-(-end // 8) * 8)
        found.tensors[name] = tensor
        end = tensor.offset + tensor.nbytes
        flat = np.frombuffer(region, dtype=tensor.dtype, count=tensor.size, offset=tensor.offset)
        return flat.reshape(shape)

    usual = read_small(region[:length]) if length <= LONGEST else None
    if usual is None:
        found.params = _read(region[:length], allocate)
    else:
        arrays, found.params = usual
        for name, array in arrays.items():
            allocate(name, array.shape, "float64")[...] = array
    return found


def arena_bytes(content_length: int) -> int:
    """Return the memory for a document and the arrays built from it."""
    return content_length + array_bytes(content_length)


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of the document's object.

    Attributes:
        name: Its name.
        start: The start of its value.
        end: The end of its value.
        array: The value, if it is a tensor's array.
    """

    name: str
    start: int
    end: int
    array: ArrayText | None


def _read(text: memoryview, allocate: Allocate) -> dict[str, object]:
    """Read a document: fill its tensors, and return its parameters."""
    try:
        return _read_members(text, allocate)
    except NotJsonError as error:
        raise malformed(text, error) from None
    except RequestError:
        check_whole(text)
        raise


def _read_members(text: memoryview, allocate: Allocate) -> dict[str, object]:
    members = list(_members(text))
    if not isinstance(parse(_without_arrays(text, members)), simdjson.Object):
        raise not_an_object("it is another value")
    params: dict[str, object] = {}
    seen: set[str] = set()
    for member in members:
        name = member.name
        if name in seen:  # RFC 8259, 4: which one wins is unpredictable
            detail = f"the object has {shown(name)} twice; send it once"
            raise RequestError(ErrorCode.MALFORMED_JSON, detail, [(pointer(name), "given twice")])
        seen.add(name)
        part = text[member.start : member.end]
        if member.array is not None:
            read_array(name, part, member.array, allocate)
            continue
        value = bytes(part)
        if name not in TENSOR_DTYPES or (name in _OPTIONAL and value == b"null"):
            params[name] = _parameter(name, value)
        else:
            read_scalar(name, value, allocate)
    return params


def _members(text: memoryview) -> Iterator[_Member]:
    """Yield each member of the document's object, up to where the text stops to look like one.

    Raises:
        RequestError: ``malformed_json``: there are too many names. ``dtype_not_allowed``: a tensor's array
            holds another string or an object. ``invalid_parameter``: a parameter is too long.
    """
    # RFC 8259, 8.1, lets a parser ignore a byte order mark.
    at = len(_BYTE_ORDER_MARK) if bytes(text[:3]) == _BYTE_ORDER_MARK else 0
    names = 0
    while key := _KEY.match(text, at):
        names += 1
        if names > MAX_NAMES:
            detail = f"the object has more than {MAX_NAMES} names; send tensors and parameters only"
            raise RequestError(ErrorCode.MALFORMED_JSON, detail)
        try:
            name: str = orjson.loads(key[1])
        except orjson.JSONDecodeError as error:
            raise NotJsonError(str(error)) from None
        start = key.end()
        opening = bytes(text[start : start + 1])
        array = None
        if opening == b"[" and name in TENSOR_DTYPES:
            array = walk_array(name, text, start)
            end = array.end
        elif opening in (b"[", b"{"):
            end = _nested_end(name, text, start)
        else:
            literal = (_TEXT if opening == b'"' else _LITERAL).match(text, start)
            if literal is None:
                raise NotJsonError(f"there is no value at byte {start}")
            end = literal.end()
        yield _Member(name, start, end, array)
        at = end


def _nested_end(name: str, text: memoryview, start: int) -> int:
    """Find the end of a parameter's array or object."""
    depth = 0
    for token in _NESTED.finditer(text, start, start + MAX_PARAMETER_BYTES):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    if len(text) > start + MAX_PARAMETER_BYTES:
        raise _too_long(name)
    raise not_closed(start)


def _without_arrays(text: memoryview, members: Iterable[_Member]) -> bytes:
    """Return the document with ``[]`` for each tensor's array.

    Raises:
        RequestError: ``malformed_json``: it is too long.
    """
    parts: list[bytes | memoryview] = []
    at = 0
    for member in members:
        if member.array is not None:
            parts += (text[at : member.start], b"[]")
            at = member.end
    parts.append(text[at:])
    length = sum(map(len, parts))
    if length > _MAX_BESIDE_BYTES:
        seen = f"the document has {length} bytes beside its tensors, at most {_MAX_BESIDE_BYTES} are taken"
        raise RequestError(ErrorCode.MALFORMED_JSON, f"{seen}; send tensors and parameters only")
    return b"".join(parts)


def _parameter(name: str, text: bytes) -> object:
    if len(text) > MAX_PARAMETER_BYTES or text.count(b",") >= MAX_PARAMETER_ITEMS:
        raise _too_long(name)
    try:
        return parse_value(text.decode())
    except ValueError as error:
        detail = f"{shown(name)} cannot be read: {error}"
        raise RequestError(ErrorCode.MALFORMED_JSON, detail, [(pointer(name), str(error))]) from None


def _too_long(name: str) -> RequestError:
    detail = (
        f"the parameter {shown(name)} has more than {MAX_PARAMETER_BYTES} bytes, or "
        f"{MAX_PARAMETER_ITEMS} items; the tensors are {', '.join(TENSOR_DTYPES)}"
    )
    return RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name), "too long")])
