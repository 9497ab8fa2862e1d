"""``application/json``: one object, the tensors as nested arrays and the parameters beside them.

The document is read in parts. A walk along its top level finds where each value's text lies: of strings a
tensor holds but those that stand for numbers (`lossd.wire.json.words`), so its array ends before the next
name. With ``[]`` in the place of each array the rest is a small document of its own, and parsed as such. The
arrays are parsed a piece at a time: the text is cut at commas, the brackets that are open there are closed
and opened again behind it, and the numbers that simdjson finds in a piece are laid where they are wanted. So
little memory is needed beside the document and its numbers, and that stays in the processor's caches. Until
then the document is taken to be well formed, which it is if and only if all these parts are.

The shape of an array is reckoned from its text by `nesting`. All of this is quick and says yes or no; only a
document at fault is searched for where.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import orjson
import simdjson

from lossd.error_text import pointer, shown
from lossd.types import MAX_DIMENSIONS, TENSOR_DTYPES, Body, ErrorCode, RequestError, Tensor
from lossd.wire.json.nesting import element_pointer, ragged, regular_shape, without_elements
from lossd.wire.json.small_document import LONGEST, kept, read_small
from lossd.wire.json.values import MAX_PARAMETER_BYTES, parse_value
from lossd.wire.json.words import (
    TAKEN,
    WORDLESS,
    WORDS,
    blank_words,
    cut_behind_element,
    find_other_quote,
    set_words,
)
from lossd.wire.reader import Piece

_Numbers: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.bool_]
_Text: TypeAlias = bytes | memoryview
_Lay: TypeAlias = Callable[[str, tuple[int, ...], str], npt.NDArray[Any]]
"""Memory for a tensor of a name, a shape and a dtype: an array to write to."""

MAX_NAMES: Final = 100
"""The most names that the document's object may have."""

_PIECE_BYTES: Final = 1 << 16  # what a parser builds from it fits the processor's second cache
_MAX_BESIDE_BYTES: Final = 4 * MAX_PARAMETER_BYTES
_EXPLAINED_BYTES: Final = 1 << 20  # a longer document is not parsed a second time to tell where it is wrong

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_OPTIONAL: Final = frozenset({"pos_weight"})  # also a parameter, and null is what leaves that out

_SPACES: Final = b" \t\r\n"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TEXT: Final = re.compile(_STRING, re.DOTALL)
_NOT_SPACE: Final = re.compile(rb"[^ \t\r\n]")
_KEY: Final = re.compile(rb"[\s,{]*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
_LITERAL: Final = re.compile(rb"[^\s,}\]]++")
_NESTED: Final = re.compile(rb"[\[{]|[\]}]|" + _STRING, re.DOTALL)
_NUMBER_BYTES: Final = b"-0123456789"
_ELEMENT: Final = re.compile(rb"[0-9tfnNI]")
_NOT_INITIALS: Final = bytes(set(range(256)) - set(b"tf"))  # of true and false

# simdjson knows integers of 64 bits; longer ones are given an exponent for it, and strings left alone.
_NUMBER_ERRORS: Final = ("NUMBER_ERROR", "BIGINT_ERROR")
_LONG_INTEGER: Final = re.compile(_STRING + rb"|(?<![0-9.eE+-])-?[0-9]{19,}+(?![0-9.eE])", re.DOTALL)
# What goes before is looked at last, so that the search can skip to the first letters.
_CONSTANT: Final = re.compile(rb"NaN(?<=[\[,:\s-]NaN)|Infinity(?<=[\[,:\s-]Infinity)")
_LONG_EXPONENT: Final = re.compile(rb"(?<![0-9.])-?+[0-9]++(?:\.[0-9]++)?+[eE]\+?[0-9]{3,}+")

_NOT_A_NUMBER: Final = re.compile(rb'["{ntf]')
_NOT_A_NUMBER_OR_BOOL: Final = re.compile(rb'["{n]')
_FOR_NULL: Final = dict.fromkeys(
    ("logits", "probabilities"),
    "to leave the element out of the loss, send 0 there and a mask that is false there; to have the loss "
    'show that it is missing, send "NaN" with allow_nan=true',
) | {
    "weight": "send 0 where an element counts but weighs nothing; to leave it out of the count too, a mask",
    "pos_weight": "send a number for each class, 1 where positives weigh no more than negatives",
    "mask": "send true where an element counts, false where it is left out",
}
"""What to send for a null, which could mean several things."""
_KINDS: Final = {'"': "a string", "{": "an object", "n": "null", "t": "a boolean", "f": "a boolean"}


class JsonReader:
    """Reads a JSON document."""

    def __init__(self, *, options: Mapping[str, str], names: Sequence[str]) -> None:
        """Expect a document.

        Args:
            options: A charset, if given, must be UTF-8.
            names: Not needed; the document names its tensors.

        Raises:
            RequestError: ``unsupported_media_type``: another charset.
        """
        del names
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
        """What has come: a document does not announce its length."""
        return self._length

    def feed(self, chunk: Piece) -> Iterable[Piece]:
        """Take the body's next bytes, which are laid down as they are.

        Raises:
            RequestError: ``malformed_json``: the document cannot be an object.
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
            RequestError: ``malformed_json``, ``bad_shape`` or ``dtype_not_allowed``, with the place.
        """
        found = Body()

        def lay(name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
            return found.arrays.setdefault(name, np.empty(shape, dtype=dtype))

        found.params = _read(laid, lay)
        return found


def read_in_place(region: memoryview, length: int) -> Body:
    """Parse a document, and lay its tensors behind it.

    Args:
        region: Where the document lies, with room behind it as `arena_bytes` says.
        length: Of the document.

    Returns:
        The tensors as the losses take them: a mask as booleans, others float64, or bool where all of a tensor
        that may hold booleans are such.

    Raises:
        RequestError: As `JsonReader.finish` does.
    """
    found = Body()
    end = length

    def lay(name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        nonlocal end
        tensor = Tensor("bool" if name == "mask" else dtype, shape, offset=-(-end // 8) * 8)
        found.tensors[name] = tensor
        end = tensor.offset + tensor.nbytes
        return _view(region, tensor)

    usual = read_small(region[:length]) if length <= LONGEST else None
    if usual is None:
        found.params = _read(region[:length], lay)
    else:
        arrays, found.params = usual
        for name, array in arrays.items():
            lay(name, array.shape, "float64")[...] = array
    return found


def read_numbers(name: str, text: bytes) -> _Numbers:
    """The numbers of one JSON value: of nested arrays, or a single one.

    Args:
        name: The tensor's, which says whether it may hold booleans; for faults, too.
        text: Of the value alone.

    Returns:
        The tensor: C-contiguous float64, or bool where all of a tensor that may hold booleans are such.

    Raises:
        RequestError: ``malformed_json``, ``bad_shape`` or ``dtype_not_allowed``, with the place.
    """
    text = text.strip(_SPACES)
    found: list[_Numbers] = []

    def lay(_: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        found.append(np.empty(shape, dtype=dtype))
        return found[0]

    try:
        if text.startswith(b"["):
            view = memoryview(text)
            _read_array(name, view, _walk_array(name, view, 0), lay)
        else:
            _parse(text)
            _read_scalar(name, text, lay)
    except _NotJsonError as error:
        raise _malformed(memoryview(text), error) from None
    except RequestError:
        _check_whole(memoryview(text))
        raise
    return found[0]


def arena_bytes(content_length: int) -> int:
    """The memory that a body and the arrays built from it need.

    A number takes two bytes of text at least ("0,") and eight as a float64; each array begins at a multiple
    of eight.
    """
    return content_length + 8 * (content_length // 2 + 1 + len(TENSOR_DTYPES))


class _NotJsonError(Exception):
    """A text is not JSON; the message is the parser's."""


@dataclass(frozen=True, slots=True)
class _Array:
    """A tensor's array in the document.

    Attributes:
        end: Where it ends.
        shape: Its shape, by its brackets and commas; None where it is ragged or has more than 8 dimensions.
        structural: How many brackets and commas it has.
        bools: The first letters of its booleans, where those may be; none where it holds strings.
    """

    end: int
    shape: tuple[int, ...] | None
    structural: int
    bools: bytes


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of the document's object.

    Attributes:
        name: Its name.
        start: Where its value begins.
        end: Where that ends.
        array: The value, where it is a tensor's array.
    """

    name: str
    start: int
    end: int
    array: _Array | None


def _view(region: memoryview, tensor: Tensor) -> npt.NDArray[Any]:
    flat = np.frombuffer(region, dtype=tensor.dtype, count=tensor.size, offset=tensor.offset)
    return flat.reshape(tensor.shape)


def _read(text: memoryview, lay: _Lay) -> dict[str, object]:
    """Read a document: lay its tensors, and return its parameters."""
    try:
        return _read_members(text, lay)
    except _NotJsonError as error:
        raise _malformed(text, error) from None
    except RequestError:
        _check_whole(text)
        raise


def _check_whole(text: memoryview) -> None:
    """Refuse a text at fault because it is not JSON, rather than because of what was made of its parts."""
    if len(text) <= _EXPLAINED_BYTES:
        try:
            _parse(text)
        except _NotJsonError as error:
            raise _malformed(text, error) from None


def _read_members(text: memoryview, lay: _Lay) -> dict[str, object]:
    members = list(_members(text))
    if not isinstance(_parse(_without_arrays(text, members)), simdjson.Object):
        raise _not_an_object("it is another value")
    params: dict[str, object] = {}
    seen: set[str] = set()
    for member in members:
        name = member.name
        if name in seen:
            detail = f"the object has {shown(name)} twice; send it once"
            raise RequestError(ErrorCode.MALFORMED_JSON, detail, [(pointer(name), "given twice")])
        seen.add(name)
        part = text[member.start : member.end]
        if member.array is not None:
            _read_array(name, part, member.array, lay)
            continue
        value = bytes(part)
        if name not in TENSOR_DTYPES or (name in _OPTIONAL and value == b"null"):
            params[name] = _parameter(name, value)
        else:
            _read_scalar(name, value, lay)
    return params


def _members(text: memoryview) -> Iterator[_Member]:
    """Each member of the document's object, as far as it looks like one.

    Raises:
        RequestError: ``malformed_json``: there are too many names. ``dtype_not_allowed``: an array that must
        hold
            numbers holds another string or an object. ``invalid_parameter``: a parameter is too long.
    """
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
            raise _NotJsonError(str(error)) from None
        start = key.end()
        opening = bytes(text[start : start + 1])
        array = None
        if opening == b"[" and name in TENSOR_DTYPES:
            array = _walk_array(name, text, start)
            end = array.end
        elif opening in (b"[", b"{"):
            end = _nested_end(name, text, start)
        else:
            literal = (_TEXT if opening == b'"' else _LITERAL).match(text, start)
            if literal is None:
                raise _NotJsonError(f"there is no value at byte {start}")
            end = literal.end()
        yield _Member(name, start, end, array)
        at = end


def _walk_array(name: str, text: memoryview, start: int) -> _Array:
    """A tensor's array: it ends before the next name, or the end of the document."""
    bools_allowed = "bool" in TENSOR_DTYPES[name]
    outline: list[bytes] = []
    initials: list[bytes] = []
    at = end = start
    quote = -1
    words = False
    while at < len(text) and quote < 0:
        piece = bytes(text[at : at + _PIECE_BYTES])
        quote = piece.find(b'"')
        if quote >= 0 and name not in WORDLESS:
            piece = cut_behind_element(text, at, _PIECE_BYTES)
            quote = find_other_quote(piece)
        if quote >= 0:
            piece = piece[:quote]
        words = words or b'"' in piece
        outline.append(without_elements(piece))
        if bools_allowed and (b"t" in piece or b"f" in piece):
            initials.append(piece.translate(None, _NOT_INITIALS))
        if (close := piece.rfind(b"]")) >= 0:
            end = at + close + 1
        at += len(piece)
    structure = b"".join(outline)
    skeleton = structure[: structure.rfind(b"]") + 1]
    shape = regular_shape(skeleton, empty=not _ELEMENT.search(text, start, end))
    if shape is None and structure.count(b"[") != structure.count(b"]"):
        if quote < 0:
            raise _not_closed(start)
        raise _wrong_element(name, bytes(text[start:at]) + b'"')
    return _Array(end, shape, len(skeleton), b"" if words else b"".join(initials))


def _nested_end(name: str, text: memoryview, start: int) -> int:
    """Where a parameter's array or object ends."""
    depth = 0
    for token in _NESTED.finditer(text, start, start + MAX_PARAMETER_BYTES):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    if len(text) > start + MAX_PARAMETER_BYTES:
        raise _too_long(name)
    raise _not_closed(start)


def _without_arrays(text: memoryview, members: Iterable[_Member]) -> bytes:
    """The document with ``[]`` for each tensor's array.

    Raises:
        RequestError: ``malformed_json``: it is too long.
    """
    parts: list[_Text] = []
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


def _read_array(name: str, text: memoryview, array: _Array, lay: _Lay) -> None:
    """Lay a tensor of one dimension or more."""
    shape = array.shape
    count = 0 if shape is None else math.prod(shape)
    only_bools = 0 < len(array.bools) == count
    # A byte for each, and none is missing, as it may be from [[12],[]].
    only_digits = len(text) - array.structural == count and shape is not None and shape[-1] > 1
    elements: Iterator[npt.NDArray[Any]]
    if only_bools:
        elements = _bools(text, array.bools)
    elif only_digits:
        elements = _digits(text)
    else:
        elements = _floats(name, text)
    # So short a text holds no array of so many elements, nor is there memory for them: it is not JSON.
    if shape is None or 2 * count >= len(text):
        for _ in elements:
            pass
        raise ragged(name, bytes(text))
    into = lay(name, shape, "bool" if only_bools else "float64").reshape(-1)
    laid = 0
    for some in elements:
        if name == "mask" and not only_bools:
            _check_mask(some, laid, shape)
        into[laid : laid + some.size] = some
        laid += some.size
    if laid < count:
        raise ragged(name, bytes(text))


def _check_mask(numbers: npt.NDArray[Any], first: int, shape: tuple[int, ...]) -> None:
    """Refuse numbers that say neither that an element counts nor that it does not.

    Args:
        numbers: A run of the mask's elements.
        first: How many are before them.
        shape: The mask's.

    Raises:
        RequestError: ``weight_out_of_range``.
    """
    wrong = np.flatnonzero((numbers != 0) & (numbers != 1))
    if len(wrong):
        index = np.unravel_index(first + int(wrong[0]), shape) if shape else ()
        place = pointer("mask", *map(int, index))
        seen = f"{numbers[wrong[0]]:.17g} is neither 0 nor 1"
        detail = (
            f"mask: {seen} at {place}; a mask holds true or 1 where an element counts and false or 0 where "
            "it is dropped; numbers that weigh go into weight"
        )
        raise RequestError(ErrorCode.WEIGHT_OUT_OF_RANGE, detail, [(place, seen)])


def _floats(name: str, text: memoryview) -> Iterator[npt.NDArray[np.float64]]:
    """An array's numbers, piece by piece; booleans are 0 and 1 where they may be."""
    bools_allowed = "bool" in TENSOR_DTYPES[name]
    for piece, inside in _pieces(text):
        plain = blank_words(name, piece)
        if bools_allowed and (b"t" in plain or b"f" in plain):
            # Spaces keep what is beside them apart: 1true is not to become 11.
            plain = plain.replace(b"true", b" 1  ").replace(b"false", b"  0  ")
        try:
            flat = cast("simdjson.Array", _parse(plain)).as_buffer(of_type="d")
        except TypeError:
            raise _wrong_element(name, bytes(text)) from None
        numbers = np.frombuffer(flat, dtype=np.float64)
        if plain is not piece and (b'"' in piece or b"n" in piece):
            numbers = set_words(piece, numbers)
        yield numbers[inside]


def _digits(text: memoryview) -> Iterator[npt.NDArray[np.uint8]]:
    """An array's numbers, piece by piece, where each is a single digit and nothing stands between them."""
    for piece, inside in _pieces(text):
        _parse(piece)
        yield np.frombuffer(piece.translate(None, b"[],"), dtype=np.uint8)[inside] - ord("0")


def _bools(text: memoryview, initials: bytes) -> Iterator[npt.NDArray[np.bool_]]:
    """An array's elements, where all of them are booleans."""
    for piece, _ in _pieces(text):
        _parse(piece)
    yield np.frombuffer(initials, dtype=np.uint8) == ord("t")


def _pieces(text: memoryview) -> Iterator[tuple[bytes, slice]]:
    """An array in pieces, each an array as well; all of them are well formed, or the array is not.

    A piece ends behind a comma. There it gets a 0 for the value that must follow, and the next piece gets one
    for the values before, each inside as many brackets as are open.

    Yields:
        A piece's text, and which of its numbers are the array's own.
    """
    start, depth = 0, 0
    while start < len(text):
        size, comma = _PIECE_BYTES, -1
        while comma < 0 and start + size < len(text):
            comma = bytes(text[start : start + size]).rfind(b",")
            size *= 2
        end = len(text) if comma < 0 else start + comma + 1
        piece = bytes(text[start:end])
        if end - start == len(text):
            yield piece, slice(None)
            return
        before = b"[" * depth + b"0," if start else b""
        depth += piece.count(b"[") - piece.count(b"]")
        after = b"0" + b"]" * depth if end < len(text) else b""
        yield before + piece + after, slice(1 if before else 0, -1 if after else None)
        start = end


def _parse(text: _Text) -> object:
    """What simdjson makes of a text.

    Bind it to no name: the next text cannot be parsed before it is gone, and a name lives on in tracebacks.

    Raises:
        _NotJsonError: The text is not JSON.
    """
    parser = kept.parser if len(text) <= 2 * _PIECE_BYTES else simdjson.Parser()
    try:
        try:
            return parser.parse(text)
        except (ValueError, RuntimeError) as error:
            if not str(error).startswith(_NUMBER_ERRORS):
                raise
        return parser.parse(_LONG_INTEGER.sub(_with_exponent, text))
    except (ValueError, RuntimeError) as error:
        raise _NotJsonError(str(error)) from None


def _with_exponent(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0].startswith(b'"') else found[0] + b"e0"


def _read_scalar(name: str, text: bytes, lay: _Lay) -> None:
    """Lay a tensor of no dimensions. Whether a tensor may be one is settled where all formats meet."""
    if text in (b"true", b"false") and "bool" in TENSOR_DTYPES[name]:
        lay(name, (), "bool")[...] = text == b"true"
    elif text[0] in _NUMBER_BYTES:
        number = np.array([float(text)])
        if name == "mask":
            _check_mask(number, 0, ())
        lay(name, (), "float64")[...] = number[0]
    elif text in WORDS and name not in WORDLESS:
        lay(name, (), "float64")[...] = WORDS[text]
    else:
        raise _wrong_element(name, text)


def _wrong_element(name: str, text: bytes) -> RequestError:
    """The fault of a value that holds something else than numbers (or booleans, where they may be)."""
    bools = "bool" in TENSOR_DTYPES[name]
    plain = text if text[:1] == b"n" else blank_words(name, text)  # null alone is an element nowhere
    found = (_NOT_A_NUMBER_OR_BOOL if bools else _NOT_A_NUMBER).search(plain)
    assert found is not None  # or there would be no fault
    before = plain[: found.start()]
    where = element_pointer(name, before) if before else pointer(name)
    initial = found[0].decode()
    seen = f"{_KINDS[initial]} where a number{' or a boolean' if bools else ''} is due"
    detail = f"{where} is {seen}; {_remedy(name, initial, whole=not before)}"
    return RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail, [(where, seen)])


def _remedy(name: str, initial: str, *, whole: bool) -> str:
    """What to send in the place of something that is no element.

    Args:
        name: The tensor's.
        initial: What that begins with.
        whole: It is all of the tensor's value.
    """
    numbers = "booleans, or of 0 and 1" if name == "mask" else "numbers"
    if initial == '"' and name not in WORDLESS:
        return f"send {name} as nested arrays of {numbers}; {TAKEN}"
    if initial in "tf":
        swapped = "; are logits and targets swapped?" if name in ("logits", "probabilities") else ""
        return f"send {name} as nested arrays of numbers{swapped}"
    if initial != "n" or whole:
        return f"send {name} as nested arrays of {numbers}"
    return _FOR_NULL.get(name, f"send {numbers}")


def _parameter(name: str, text: bytes) -> object:
    if len(text) > MAX_PARAMETER_BYTES:
        raise _too_long(name)
    try:
        return parse_value(text.decode())
    except ValueError as error:
        detail = f"{shown(name)} cannot be read: {error}"
        raise RequestError(ErrorCode.MALFORMED_JSON, detail, [(pointer(name), str(error))]) from None


def _too_long(name: str) -> RequestError:
    detail = (
        f"the parameter {shown(name)} has more than {MAX_PARAMETER_BYTES} bytes; "
        f"the tensors are {', '.join(TENSOR_DTYPES)}"
    )
    return RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name), "too long")])


def _not_an_object(seen: str) -> RequestError:
    detail = f'the document is not a JSON object: {seen}; send {{"logits": [...], "targets": [...]}}'
    return RequestError(ErrorCode.MALFORMED_JSON, detail)


def _not_closed(start: int) -> _NotJsonError:
    return _NotJsonError(f"what begins at byte {start} is not closed")


def _malformed(body: memoryview, error: _NotJsonError) -> RequestError:
    """The fault of a document that is not JSON, with the place where it can be told."""
    if not _NOT_SPACE.search(body):
        return _not_an_object("it is empty")
    try:
        str(body, "utf-8")
    except UnicodeDecodeError as undecodable:
        seen = f"the document is not UTF-8 at byte {undecodable.start}"
        return RequestError(ErrorCode.MALFORMED_JSON, f"{seen}; send UTF-8")
    constant = _CONSTANT.search(body)
    if constant is not None:
        seen = f"{constant[0].decode()} at byte {constant.start()} is not a JSON number"
        return RequestError(
            ErrorCode.MALFORMED_JSON, f'{seen}; in tensors send the strings "NaN", "Infinity" and "-Infinity"'
        )
    if str(error).startswith(_NUMBER_ERRORS):
        for number in _LONG_EXPONENT.finditer(body):
            if np.isinf(float(number[0])):
                seen = f"{shown(number[0])} at byte {number.start()} overflows a float64"
                return RequestError(
                    ErrorCode.MALFORMED_JSON, f'{seen}; send numbers below 1.8e308, or in tensors "Infinity"'
                )
    if str(error).startswith("DEPTH_ERROR"):
        return RequestError(
            ErrorCode.MALFORMED_JSON,
            f"the document is nested too deeply; send {MAX_DIMENSIONS} dimensions at most",
        )
    reason = str(error).partition(": ")[2] or str(error)  # the parser begins with a name
    if len(body) <= _EXPLAINED_BYTES:
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError as located:
            reason = str(located)
    return RequestError(ErrorCode.MALFORMED_JSON, f"the document is not JSON: {reason}")
