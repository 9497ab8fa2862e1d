"""The Open Inference Protocol, version 2, with Triton's extension for binary tensors.

A body is a JSON object that describes the inputs. An input's numbers stand in it as ``data``, flat or nested
in row-major order; or they lie behind it, little-endian, in the order of the inputs, and the header
``Inference-Header-Content-Length`` says where the object ends. An answer is built the same way.

The object is small but for its ``data``. These arrays are cut out of the text before the rest is parsed as
plain JSON, and each is then read by itself, once what it must hold is known.

The protocol: https://github.com/kserve/open-inference-protocol. The extensions (binary tensors, parameters,
statistics, model configuration): docs/protocol in https://github.com/triton-inference-server/server.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from lossd.error_text import SHOWN, pointer, shown, suggestion, unknown_tensor
from lossd.types import (
    INTEGERS,
    ITEMSIZE,
    MAX_DIMENSIONS,
    TENSOR_DTYPES,
    Body,
    ErrorCode,
    Float64Array,
    LossResult,
    RequestError,
    Tensor,
)
from lossd.wire.answer import SUMS, are_finite, write_array
from lossd.wire.json.document import read_numbers
from lossd.wire.json.values import ForbiddenValueError, NotJsonError, parse_value
from lossd.wire.json.words import TAKEN, find_other_quote
from lossd.wire.query import parse_text
from lossd.wire.reader import Piece

_Array: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.bool_]
_Shape: TypeAlias = tuple[int, ...]

MODEL_VERSION: Final = "1"
"""The version that every model has."""

DATATYPES: Final[Mapping[str, str]] = {
    "FP16": "float16",
    "BF16": "bfloat16",
    "FP32": "float32",
    "FP64": "float64",
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
}
"""The protocol's names of the dtypes that a tensor may have."""

OUTPUTS: Final[Mapping[str, tuple[str, int]]] = {
    "loss": ("FP64", -1),
    "sum": ("FP64", 1),
    "weight_sum": ("FP64", 1),
    "positives": ("FP64", 1),
    "count": ("INT64", 1),
    **{f"{name}_terms": ("FP64", -1) for name in SUMS},
}
"""The outputs with their datatypes and lengths; -1 where that depends on the request."""

MAX_DESCRIPTION_BYTES: Final = 1 << 20
"""The most bytes that the JSON object may have beside its ``data``."""
MAX_KEPT_BYTES: Final = 1 << 16
"""The longest JSON object before binary tensors that is read as soon as it is there.

A longer one is read when the whole body is, where the caller may choose a thread to do it.
"""

_EXPLAINED_BYTES: Final = 1 << 20  # a longer object is not parsed a second time to tell where it is wrong
_LIMIT: Final = 1 << 63
_EXACT: Final = 2.0**53
_PIECE_NUMBERS: Final = 1 << 12  # which are written at once, as 100 KiB of text at most

# A string is closed, or goes on to the end. The group after it is set where it is the name of an array.
_STRING: Final = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"?+(?:\s*+:\s*+(\[))?+', re.DOTALL)

_LITTLE_ENDIAN: Final[Mapping[str, str]] = {"FP64": "<f8", "INT64": "<i8"}

# The model's name and version stand in the request's target; some clients repeat them here.
_MEMBERS: Final = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
_INPUT_MEMBERS: Final = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT_MEMBERS: Final = ("name", "parameters")
_SEQUENCE: Final = ("sequence_id", "sequence_start", "sequence_end")
_SHARED_MEMORY: Final = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
_WHERE_PARAMETERS: Final = "; parameters of the loss stand in the body's parameters"


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the answer is to have.

    Attributes:
        name: One of `OUTPUTS`.
        binary: It lies behind the JSON object, not in it.
    """

    name: str
    binary: bool


class InferenceReader:
    """Reads the body of an inference request.

    Attributes:
        request_id: The caller's name for the request, which the answer repeats; known when `finish` returns,
            as the others are.
        outputs: What the answer is to have, in order.
        timeout_us: The microseconds that the caller allows, 1 to 2**63 - 1, or None.
    """

    def __init__(self, *, header_length: int | None, max_json_bytes: int) -> None:
        """Expect a body.

        Args:
            header_length: Of the JSON object at its beginning, in bytes; None where that is all of the body.
            max_json_bytes: The longest JSON object, in bytes.

        Raises:
            RequestError: ``body_too_large``.
        """
        self.request_id: str | None = None
        self.outputs: tuple[RequestedOutput, ...] = ()
        self.timeout_us: int | None = None
        self._header_length = header_length
        self._max_json_bytes = max_json_bytes
        self._received = 0
        self._head = bytearray()
        self._request: _Request | None = None
        self._check_json_bytes(header_length or 0)

    as_is: Final = True
    skipped: Final = 0

    @property
    def needed(self) -> int:
        """Up to the end of the last tensor, or of the JSON object while that is not known."""
        if self._request is not None:
            return self._request.length
        return max(self._received, self._header_length or 0)

    def feed(self, chunk: Piece) -> Iterable[Piece]:
        """Take the body's next bytes, which are laid down as they are.

        Raises:
            RequestError: ``body_too_large``, ``trailing_bytes``, or as `finish` does.
        """
        start = self._received
        self._received += len(chunk)
        if self._header_length is None:
            self._check_json_bytes(self._received)
        elif start < self._header_length <= MAX_KEPT_BYTES:
            self._head += chunk[: self._header_length - start]
            if len(self._head) == self._header_length:
                self._take(bytes(self._head))
                self._head.clear()
        if self._request is not None:
            self._check_end(self._request)
        return (chunk,)

    def outline(self, length: int | None) -> Body | None:
        """The tensors, once the last one's bytes are all that is missing."""
        request = self._request
        if request is None or self._received < request.last or length not in (None, request.length):
            return None
        return request.body

    def finish(self, laid: memoryview) -> Body:
        """The tensors that came.

        Returns:
            Binary tensors as they lie; numbers that stood in the JSON object as arrays, rounded to their
            datatype. The parameters are those that are not the protocol's own.

        Raises:
            RequestError: ``truncated_body`` or ``trailing_bytes``: the body's length is not what it
            announced.
                ``malformed_json``, ``bad_request``: the JSON object is not the protocol's, or asks for an
                output that there is not. ``unknown_tensor``, ``missing_tensor``, ``dtype_not_allowed``,
                ``bad_shape``, ``shape_mismatch``: an input is wrong. ``invalid_parameter``: a parameter is.
        """
        if self._request is None:
            end = self._header_length
            if end is not None and len(laid) < end:
                detail = f"{len(laid)} bytes came, less than the {end} of Inference-Header-Content-Length"
                raise RequestError(ErrorCode.TRUNCATED_BODY, f"{detail}; send all of the body")
            self._take(bytes(laid[:end]))
        request = self._request
        assert request is not None
        self._check_end(request)
        if self._received < request.length:
            raise _truncated(request, self._received)
        return request.body

    def _take(self, text: bytes) -> None:
        """Take note of what the JSON object says."""
        request = _read(text)
        if request.length > len(text) and self._header_length is None:
            detail = "binary_data_size is given, but not where the binary data begins"
            raise RequestError(
                ErrorCode.BAD_REQUEST, f"{detail}; send the header Inference-Header-Content-Length"
            )
        self._request = request
        self.request_id = request.name
        self.outputs = request.outputs
        self.timeout_us = request.timeout_us

    def _check_end(self, request: _Request) -> None:
        if self._received > request.length:
            seen = f"bytes follow the last input, from byte {request.length} on"
            remedy = "send as many as the binary_data_size of the inputs says"
            raise RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; {remedy}")

    def _check_json_bytes(self, length: int) -> None:
        if length > self._max_json_bytes:
            detail = f"the JSON object has {length} bytes or more, at most {self._max_json_bytes} are taken"
            raise RequestError(ErrorCode.BODY_TOO_LARGE, f"{detail}; send the inputs as binary data")


def read_index_request(body: bytes) -> bool:
    """Whether a request for the list of models is for those alone that are ready.

    Args:
        body: Empty, or a JSON object that may say ``ready``.

    Raises:
        RequestError: ``malformed_json``, ``bad_request`` or ``invalid_parameter``.
    """
    if not body.strip():
        return False
    given = _members(_parse_description(body, body), "", ("ready",), "")
    return _flag(given.get("ready"), False, pointer("ready"))


def arena_bytes(content_length: int, header_length: int | None) -> int:
    """The memory that a body and the arrays built from it need.

    A number takes two bytes of the JSON object at least ("0,") and eight as a float64; each array begins at a
    multiple of eight.
    """
    json_bytes = content_length if header_length is None else min(header_length, content_length)
    return content_length + 8 * (json_bytes // 2 + 1 + len(TENSOR_DTYPES))


@dataclass(frozen=True, slots=True)
class InferenceAnswer:
    """The body of an answer.

    Attributes:
        text: The JSON object in pieces, each written when it is asked for: one, or more where it is long.
        binary: The arrays behind it, where they lie; if there are any, Inference-Header-Content-Length is to
            say how long the object is.
    """

    text: Iterator[bytes]
    binary: tuple[memoryview, ...]


def write_inference(
    result: LossResult, *, model: str, request_id: str | None, outputs: Sequence[RequestedOutput]
) -> InferenceAnswer:
    """The answer's body.

    Args:
        result: What to write. Numbers that are not finite are strings in JSON, as in `write_json`.
        model: The loss's name.
        request_id: The caller's name for the request.
        outputs: What to write of it, in order.
    """
    answer: dict[str, object] = {"model_name": model, "model_version": MODEL_VERSION}
    if request_id is not None:
        answer["id"] = request_id
    if result.notes:
        answer["parameters"] = {"notes": "; ".join(result.notes)}
    if isinstance(result.loss, float) and are_finite(result) and not any(each.binary for each in outputs):
        answer["outputs"] = [_number_output(output.name, result) for output in outputs]
        return InferenceAnswer(iter((orjson.dumps(answer),)), ())
    described: list[tuple[dict[str, object], Float64Array | None]] = []
    binary: list[memoryview] = []
    for output in outputs:
        datatype, _ = OUTPUTS[output.name]
        # Never of no dimensions: a number becomes an array of one.
        array = np.ascontiguousarray(getattr(result, output.name), dtype=_LITTLE_ENDIAN[datatype])
        flat = array.reshape(-1)
        entry: dict[str, object] = {
            "name": output.name,
            "datatype": datatype,
            "shape": list(array.shape),
        }
        if output.binary:
            entry["parameters"] = {"binary_data_size": array.nbytes}
            binary.append(flat.view(np.uint8).data)
        elif datatype == "INT64":
            entry["data"] = flat.tolist()
        in_text = not output.binary and datatype == "FP64"
        described.append((entry, flat if in_text else None))
    return InferenceAnswer(_write_text(answer, described), tuple(binary))


def _number_output(name: str, result: LossResult) -> dict[str, object]:
    """An output of numbers that are finite, in text."""
    value = getattr(result, name)
    data = value if isinstance(value, tuple) else (value,)
    return {"name": name, "datatype": OUTPUTS[name][0], "shape": (len(data),), "data": data}


def _write_text(
    answer: Mapping[str, object], outputs: Iterable[tuple[Mapping[str, object], Float64Array | None]]
) -> Iterator[bytes]:
    """The JSON object of an answer.

    Args:
        answer: Its first members.
        outputs: What each output's entry says, and the numbers that come to it as its last member, if any do.
    """
    text = orjson.dumps(answer)[:-1] + b',"outputs":['
    between = b""
    for entry, numbers in outputs:
        text += between + orjson.dumps(entry)
        between = b","
        if numbers is not None:
            text = text[:-1] + b',"data":['
            for start in range(0, numbers.size, _PIECE_NUMBERS):
                if start:
                    yield text
                    text = b","
                text += write_array(numbers[start : start + _PIECE_NUMBERS])[1:-1]
            text += b"]}"
    yield text + b"]}"


@dataclass(frozen=True, slots=True)
class _Request:
    """What a JSON object says.

    Attributes:
        body: The tensors and parameters.
        length: Of the body, in bytes.
        last: Where the tensor begins that is laid down last.
        name: The caller's name for the request.
        outputs: What the answer is to have.
        timeout_us: The microseconds that the caller allows.
    """

    body: Body
    length: int
    last: int
    name: str | None
    outputs: tuple[RequestedOutput, ...]
    timeout_us: int | None


class _Data(NamedTuple):
    """Where the array of an input's numbers begins and ends in the body."""

    start: int
    end: int


class _Input(NamedTuple):
    """An input: its place among the others, its name, the protocol's name of its dtype, and its shape."""

    place: int
    name: str
    datatype: str
    shape: _Shape


def _read(text: bytes) -> _Request:
    """Read the JSON object."""
    description, arrays = _cut(text)
    request = _members(_parse_description(text, description), "", _MEMBERS)
    name = request.get("id")
    if name is not None and not isinstance(name, str):
        raise _bad(pointer("id"), "not a string", "send one, or leave it out")
    params, binary, timeout_us = _read_parameters(request.get("parameters", {}))
    outputs = _read_outputs(request.get("outputs", []), binary)
    if "inputs" not in request:
        raise _bad(pointer("inputs"), "missing", "send the list of the tensors, such as logits and targets")
    body = Body(params=params)
    end = last = len(text)
    for place, value in enumerate(_items(request["inputs"], pointer("inputs"))):
        given = _members(value, pointer("inputs", place), _INPUT_MEMBERS)
        described = _describe(place, given)
        if described.name in body.tensors or described.name in body.arrays:
            detail = f"there are two inputs {described.name}; send one"
            raise RequestError(
                ErrorCode.MALFORMED_JSON, detail, [(pointer("inputs", place, "name"), "given twice")]
            )
        size = _binary_size(described, given)
        if size is None:
            body.arrays[described.name] = _read_array(described, given, text, arrays)
        else:
            dtype = DATATYPES[described.datatype]
            body.tensors[described.name] = Tensor(dtype, described.shape, end)
            last, end = end, end + size
    if len(arrays) > len(body.arrays):
        detail = "there is an array named data that is not an input's; leave it out"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail + _WHERE_PARAMETERS)
    return _Request(body, end, last, name, outputs, timeout_us)


def _cut(text: bytes) -> tuple[bytes, list[_Data]]:
    """Cut the arrays of the inputs' numbers out of the object.

    Whatever array is named ``data`` is cut out, wherever it stands; a list that holds its number takes its
    place. What is left is JSON if the whole is, and the whole is if what is left and every array are.

    Raises:
        RequestError: ``bad_request``: what is left is too long. Or as `_array_end` does.
    """
    kept: list[bytes] = []
    arrays: list[_Data] = []
    at = cut = position = 0
    while found := _STRING.search(text, position):
        position = found.end()
        if found[2] and _is_data(found[1]):
            start = found.start(2)
            position = _array_end(text, start)
            kept += (text[at:start], b"[%d]" % len(arrays))
            arrays.append(_Data(start, position))
            at = position
            cut += position - start
        if position - cut > MAX_DESCRIPTION_BYTES:
            break
    if len(text) - cut > MAX_DESCRIPTION_BYTES:
        detail = f"the JSON object has more than {MAX_DESCRIPTION_BYTES} bytes beside the arrays named data"
        raise RequestError(ErrorCode.BAD_REQUEST, f"{detail}; send inputs, and parameters that are short")
    return b"".join((*kept, text[at:])), arrays


def _is_data(literal: bytes) -> bool:
    """Whether a string is ``data``, between its quotes."""
    if b"\\" not in literal:
        return literal == b"data"
    try:
        return bool(orjson.loads(b'"' + literal + b'"') == "data")
    except orjson.JSONDecodeError:  # as will be found when the rest is parsed
        return False


def _array_end(text: bytes, start: int) -> int:
    """Where the array ends that begins at a place: at its last bracket before anything that is no element.

    Raises:
        RequestError: ``dtype_not_allowed``: it holds an object, or a string that stands for no number.
            ``malformed_json``: it is not closed.
    """
    stop = find_other_quote(text, start)
    stop = len(text) if stop < 0 else stop
    for brace in (b"{", b"}"):
        place = text.find(brace, start, stop)
        stop = stop if place < 0 else place
    if text.count(b"[", start, stop) <= text.count(b"]", start, stop):
        return text.rindex(b"]", start, stop) + 1
    kind = {b'"': "a string", b"{": "an object"}.get(text[stop : stop + 1])
    if kind is None or not text[start:stop].rstrip().endswith((b"[", b",")):
        raise _malformed(text, f"the array that begins at byte {start} is not closed")
    remedy = f"send numbers, or booleans where the datatype is BOOL; {TAKEN}"
    detail = f"data holds {kind} at byte {stop}; {remedy}"
    raise RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail)


def _parse_description(text: bytes, description: bytes) -> object:
    """The object without its arrays.

    Args:
        text: All of it, to say where it is wrong.
        description: What is left of it.
    """
    try:
        return parse_value(description.decode())
    except UnicodeDecodeError:
        raise _malformed(text, "it is not UTF-8") from None
    except ForbiddenValueError as error:
        raise _malformed(text, str(error)) from None
    except NotJsonError as error:
        raise _malformed(text, _locate(text) or str(error)) from None


def _locate(text: bytes) -> str | None:
    """What is wrong with the object, and where; None where that would take too long to tell."""
    if len(text) <= _EXPLAINED_BYTES:
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return str(error)
    return None


def _malformed(text: bytes, reason: str) -> RequestError:
    seen = f"the first {len(text)} bytes are not a JSON object: {reason}"
    return RequestError(
        ErrorCode.MALFORMED_JSON, f"{seen}; send one, with binary data behind it if there is any"
    )


def _read_parameters(value: object) -> tuple[dict[str, object], bool, int | None]:
    """The parameters of a request.

    Returns:
        Those of the loss, whether outputs are binary if nothing else is said, and the microseconds allowed.
    """
    place = pointer("parameters")
    params = _object(value, place)
    for name in _SEQUENCE:
        if params.pop(name, None):
            detail = f"{name} is given, but no request is part of a sequence here; leave it out"
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(place + pointer(name), "not offered")])
    params.pop("priority", None)
    _check_content_type(params.pop("content_type", None), place)
    binary = _flag(params.pop("binary_data_output", None), False, place + pointer("binary_data_output"))
    timeout = params.pop("timeout", None)
    if timeout is not None and not (type(timeout) is int and 0 <= timeout < _LIMIT):
        detail = "timeout is not a number of microseconds; send a positive integer, or leave it out"
        raise RequestError(
            ErrorCode.INVALID_PARAMETER, detail, [(place + pointer("timeout"), "not a positive integer")]
        )
    texts = {name: _read_text(name, item) for name, item in params.items() if isinstance(item, str)}
    return params | texts, binary, timeout or None


def _check_content_type(value: object, place: str) -> None:
    """See to it that what MLServer's clients say of how the data are to be read is how they are read.

    Args:
        value: Of the parameter content_type; None where there is none.
        place: The JSON pointer to the parameters that it is among.
    """
    if value not in (None, "np"):
        seen = f"{place}/content_type is {shown(str(value))}, but arrays of numbers alone are taken"
        remedy = "send data that are, and np (or nothing) for content_type"
        raise RequestError(
            ErrorCode.INVALID_PARAMETER, f"{seen}; {remedy}", [(f"{place}/content_type", "not np")]
        )


def _read_text(name: str, text: str) -> object:
    """What a string stands for: the same as in a query, since the protocol has no null and no lists."""
    try:
        return parse_text(name, text)
    except RequestError as fault:
        [(_, reason)] = fault.errors
        detail = f"the parameter {shown(name)} cannot be read: {reason}; send a number, a word, or a list a,b"
        raise RequestError(fault.code, detail, [(pointer("parameters", name[:SHOWN]), reason)]) from None


def _read_outputs(value: object, binary: bool) -> tuple[RequestedOutput, ...]:
    """The outputs that are asked for; all where none is.

    Args:
        value: What was sent.
        binary: Whether they are binary if nothing else is said.
    """
    outputs: dict[str, RequestedOutput] = {}
    for number, item in enumerate(_items(value, pointer("outputs"))):
        place = pointer("outputs", number)
        given = _members(item, place, _OUTPUT_MEMBERS)
        name = _string(given, "name", place)
        if name not in OUTPUTS:
            hint = suggestion(name, OUTPUTS)
            detail = f"there is no output {shown(name)}{hint or ';'} there are {', '.join(OUTPUTS)}"
            raise RequestError(
                ErrorCode.BAD_REQUEST, detail, [(place + pointer("name"), f"unknown output{hint}")]
            )
        if name in outputs:
            detail = f"the output {name} is asked for twice; ask once"
            raise RequestError(ErrorCode.BAD_REQUEST, detail, [(place + pointer("name"), "asked for twice")])
        parameters = _tensor_parameters(given, place)
        if parameters.get("classification"):
            detail = f"{name} holds no classes; leave classification (class_count) out"
            raise RequestError(
                ErrorCode.BAD_REQUEST, detail, [(place + pointer("parameters"), "classification")]
            )
        flag = _flag(parameters.get("binary_data"), binary, place + pointer("parameters", "binary_data"))
        outputs[name] = RequestedOutput(name, flag)
    return tuple(outputs.values()) or tuple(RequestedOutput(name, binary) for name in OUTPUTS)


def _describe(number: int, given: Mapping[str, object]) -> _Input:
    """What an input claims to be."""
    place = pointer("inputs", number)
    name = _string(given, "name", place)
    if name not in TENSOR_DTYPES:
        raise unknown_tensor(name, _WHERE_PARAMETERS)
    datatype = _string(given, "datatype", place)
    allowed = [known for known, dtype in DATATYPES.items() if dtype in TENSOR_DTYPES[name]]
    if datatype not in allowed:
        detail = f"{name} has the datatype {shown(datatype)}; send {', '.join(allowed)}"
        raise RequestError(
            ErrorCode.DTYPE_NOT_ALLOWED, detail, [(place + pointer("datatype"), "not allowed")]
        )
    place += pointer("shape")
    lengths = _items(given.get("shape"), place)
    shape = tuple(length for length in lengths if type(length) is int and length >= 0)
    if len(shape) < len(lengths):
        raise _bad_shape(name, place, "a shape of other things than lengths")
    if len(shape) > MAX_DIMENSIONS:
        raise _bad_shape(name, place, f"{len(shape)} dimensions")
    # Zeros do not save the others: whoever reckons strides multiplies them all.
    if math.prod(length for length in shape if length) * ITEMSIZE[DATATYPES[datatype]] >= _LIMIT:
        raise _bad_shape(name, place, "a shape whose bytes pass 2^63")
    return _Input(number, name, datatype, shape)


def _bad_shape(name: str, place: str, seen: str) -> RequestError:
    detail = f"{name} has {seen}; send the lengths of its 1 to {MAX_DIMENSIONS} dimensions"
    return RequestError(ErrorCode.BAD_SHAPE, detail, [(place, seen)])


def _binary_size(described: _Input, given: Mapping[str, object]) -> int | None:
    """The bytes that an input has behind the object; None where its numbers stand in it."""
    place = pointer("inputs", described.place)
    size = _tensor_parameters(given, place).get("binary_data_size")
    if size is None:
        return None
    place += pointer("parameters", "binary_data_size")
    if "data" in given:
        raise _bad(place, "given beside data", "send one of the two")
    expected = math.prod(described.shape) * ITEMSIZE[DATATYPES[described.datatype]]
    if type(size) is not int or size != expected:
        what = f"{described.name} is {described.datatype} {list(described.shape)}"
        detail = f"{what}, which takes {expected} bytes, but binary_data_size is {shown(str(size))}"
        raise RequestError(
            ErrorCode.SHAPE_MISMATCH, f"{detail}; make them agree", [(place, f"not {expected}")]
        )
    return expected


def _tensor_parameters(given: Mapping[str, object], place: str) -> dict[str, object]:
    """The parameters of an input or an output."""
    place += pointer("parameters")
    parameters = _object(given.get("parameters", {}), place)
    for name in _SHARED_MEMORY:
        if name in parameters:
            raise _bad(place + pointer(name), "given, but there is no shared memory here", "send the bytes")
    _check_content_type(parameters.get("content_type"), place)
    return parameters


def _read_array(
    described: _Input, given: Mapping[str, object], text: bytes, arrays: Sequence[_Data]
) -> _Array:
    """The numbers of an input that stand in the object."""
    name, datatype, shape = described.name, described.datatype, described.shape
    place = pointer("inputs", described.place, "data")
    number = given.get("data")
    if number is None:
        detail = f"the input {name} has neither data nor binary_data_size; send one of the two"
        raise RequestError(ErrorCode.MISSING_TENSOR, detail, [(place, "missing")])
    if not isinstance(number, list):
        detail = f"the data of {name} is not an array; send [...]"
        raise RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail, [(place, "not an array")])
    start, end = arrays[number[0]]
    try:
        array = read_numbers(name, text[start:end])
    except RequestError as fault:
        if fault.code != "malformed_json":
            raise
        detail = f"the data of {name}, from byte {start} on, cannot be read: {fault.detail}"
        raise RequestError(fault.code, f"{detail} (or as binary data)", [(place, "malformed")]) from None
    nested = shape if array.size else shape[: array.ndim]  # within an empty list there is nothing to see
    if array.size != math.prod(shape) or (array.ndim != 1 and array.shape != nested):
        detail = f"{name} has the shape {list(shape)}, but its data has {list(array.shape)}"
        remedy = f"send {math.prod(shape)} numbers, flat or nested in that shape"
        raise RequestError(
            ErrorCode.SHAPE_MISMATCH, f"{detail}; {remedy}", [(place, f"shape {list(array.shape)}")]
        )
    flat = array.reshape(-1)
    fitted, fits = _fit(flat, DATATYPES[datatype])
    if not fits.all():
        raise _misfit(described, flat, int(np.argmin(fits)))
    return fitted.reshape(shape)


def _fit(flat: _Array, dtype: str) -> tuple[_Array, npt.NDArray[np.bool_]]:
    """Numbers as their dtype has them: the same that the binary form would bring.

    Returns:
        The numbers, and which of them the dtype can hold.
    """
    if dtype == "bool":
        return flat.astype(np.bool_), (flat == 0) | (flat == 1)
    if flat.dtype == np.bool_:
        return flat, np.zeros(flat.shape, dtype=np.bool_)
    if dtype in INTEGERS:
        range_of = np.iinfo(dtype)
        fits = (flat == np.trunc(flat)) & (flat >= range_of.min) & (flat <= range_of.max)
        return flat, fits & (np.abs(flat) < _EXACT)
    rounded = nearest(flat.astype(np.float64, copy=False), dtype)
    return rounded, np.isfinite(rounded) | ~np.isfinite(flat)


def _misfit(described: _Input, flat: _Array, index: int) -> RequestError:
    """The fault of a number that an input's datatype cannot hold."""
    datatype = described.datatype
    if not np.isfinite(flat[index]):
        remedy = "declare FP32 or FP64, which do"
    elif datatype == "BOOL":
        remedy = "declare one that does, or send true or false"
    elif flat.dtype == np.bool_:
        remedy = "send numbers, or declare BOOL"
    elif DATATYPES[datatype] in INTEGERS:
        remedy = "declare one that does, and send integers past 2^53 as binary data"
    else:
        remedy = "declare a wider one"
    place = pointer(described.name, *map(int, np.unravel_index(index, described.shape)))
    value = json.dumps(flat[index].item())  # which has words for what is not finite
    detail = f"{place} is {value}, which the datatype {datatype} does not hold; {remedy}"
    return RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail, [(place, f"{value} is not {datatype}")])


def nearest(flat: Float64Array, dtype: str) -> Float64Array:
    """The nearest numbers that a floating-point dtype has; infinite beyond the largest."""
    if dtype == "float64":
        return flat
    with np.errstate(over="ignore"):
        if dtype != "bfloat16":
            return flat.astype(dtype).astype(np.float64)
        bits = flat.astype(np.float32).view(np.uint32)
    # The upper half of a float32, rounded to even: half a unit is added, less one bit unless it is odd.
    halves = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return halves.view(np.float32).astype(np.float64)


def _truncated(request: _Request, received: int) -> RequestError:
    """The fault of a body that ends early, with the tensor that is cut short."""
    tensors = request.body.tensors.items()
    name, tensor = next(pair for pair in tensors if received < pair[1].offset + pair[1].nbytes)
    came = f"{max(0, received - tensor.offset)} of {tensor.nbytes} bytes"
    detail = f"{name} is {tensor.dtype} {list(tensor.shape)}, but only {came} came; send all of the body"
    return RequestError(ErrorCode.TRUNCATED_BODY, detail, [(pointer(name), came)])


def _object(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _bad(place, "not an object", "send {...}")
    return dict(value)


def _members(
    value: object, place: str, known: Sequence[str], remedy: str = _WHERE_PARAMETERS
) -> dict[str, object]:
    """The members of one of the protocol's objects, but for those that are null, which says nothing."""
    members = _object(value, place)
    for name in members:
        if name not in known:
            hint = suggestion(name, known)
            detail = f"{place or 'the body'} has {shown(name)}{hint or ';'} there are {', '.join(known)}"
            detail += remedy
            raise RequestError(
                ErrorCode.INVALID_PARAMETER, detail, [(place + pointer(name[:SHOWN]), "unknown")]
            )
    return {name: item for name, item in members.items() if item is not None}


def _items(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise _bad(place, "not a list", "send [...]")
    return value


def _string(given: Mapping[str, object], name: str, place: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise _bad(place + pointer(name), "missing, or not a string", "send one")
    return value


def _flag(value: object, default: bool, place: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise _bad(place, "neither true nor false", "send one of these")
    return default if value is None else value


def _bad(place: str, seen: str, remedy: str) -> RequestError:
    """The fault of a JSON document that is not what the protocol says."""
    detail = f"{place or 'the body'} is {seen}; {remedy}"
    return RequestError(ErrorCode.BAD_REQUEST, detail, [(place, seen)] if place else [])
