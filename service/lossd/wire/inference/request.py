"""The JSON object of an inference request: its inputs, parameters and outputs.

An input's numbers stand in the object as ``data`` (see `data`), or behind it as binary data, little-endian,
in the order of the inputs (see `body`).

The object: "Inference Request JSON Object" of the protocol, with Triton's extensions for binary tensors and
for parameters. The links are in `objects`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lossd.error_text import SHOWN, pointer, shown, suggestion, unknown_tensor
from lossd.types import (
    ITEMSIZE,
    MAX_DIMENSIONS,
    TENSOR_DTYPES,
    Body,
    ErrorCode,
    RequestError,
    Tensor,
    is_addressable,
)
from lossd.wire.inference.data import Input, cut_data, read_data
from lossd.wire.inference.objects import (
    DATATYPES,
    OUTPUTS,
    REPORT,
    WHERE_PARAMETERS,
    bad_request,
    parse_object,
    read_flag,
    read_list,
    read_members,
    read_object,
    read_string,
)
from lossd.wire.query import parse_text

_TIMEOUT_LIMIT: Final = 1 << 63

# The model's name and version are in the request's target. Some clients repeat them in the object.
_MEMBERS: Final = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
_INPUT_MEMBERS: Final = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT_MEMBERS: Final = ("name", "parameters")
_OUTPUT_NAMES: Final = (*OUTPUTS, REPORT)
_SEQUENCE: Final = ("sequence_id", "sequence_start", "sequence_end")
_SHARED_MEMORY: Final = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the answer must have.

    Attributes:
        name: One of `OUTPUTS`, or `REPORT`.
        binary: Whether it lies behind the JSON object, not in it.
    """

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A parsed JSON object.

    Attributes:
        body: The tensors and parameters.
        length: The length of the whole body, in bytes.
        last: The start of the last binary tensor.
        request_id: The caller's id of the request.
        outputs: The outputs that the answer must have, in order; a report only if there is one.
        needs_report: Whether a report is asked for among the outputs, but not by the parameters.
        timeout_us: The caller's time limit in microseconds, 1 to 2**63 - 1.
    """

    body: Body
    length: int
    last: int
    request_id: str | None
    outputs: tuple[RequestedOutput, ...]
    needs_report: bool
    timeout_us: int | None


def read_request(text: bytes) -> InferenceRequest:
    """Read the JSON object of a request.

    Raises:
        RequestError: As `lossd.wire.inference.body.InferenceReader.finish` does.
    """
    rest, arrays = cut_data(text)
    request = read_members(parse_object(text, rest), "", _MEMBERS)
    request_id = request.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise bad_request(pointer("id"), "not a string", "send one, or leave it out")
    params, binary, timeout_us = _read_parameters(request.get("parameters", {}))
    named = request.get("outputs", [])
    outputs = _read_outputs(named, binary)
    asks_report = bool(named) and any(output.name == REPORT for output in outputs)
    if "inputs" not in request:
        remedy = "send the list of the tensors, such as logits and targets"
        raise bad_request(pointer("inputs"), "missing", remedy)
    body = Body(params=params)
    end = last = len(text)
    for index, value in enumerate(read_list(request["inputs"], pointer("inputs"))):
        given = read_members(value, pointer("inputs", index), _INPUT_MEMBERS)
        described = _describe(index, given)
        if described.name in body.tensors or described.name in body.arrays:
            detail = f"there are two inputs {described.name}; send one"
            raise RequestError(
                ErrorCode.MALFORMED_JSON, detail, [(pointer("inputs", index, "name"), "given twice")]
            )
        size = _binary_size(described, given)
        if size is None:
            body.arrays[described.name] = read_data(described, given, text, arrays)
        else:
            dtype = DATATYPES[described.datatype]
            body.tensors[described.name] = Tensor(dtype, described.shape, end)
            last, end = end, end + size
    if len(arrays) > len(body.arrays):
        detail = "there is an array named data that is not an input's; leave it out"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail + WHERE_PARAMETERS)
    return InferenceRequest(
        body, end, last, request_id, outputs, asks_report and REPORT not in params, timeout_us
    )


def read_index_request(body: bytes) -> bool:
    """Return whether a request for the list of models asks only for ready ones.

    Args:
        body: Empty, or a JSON object that may have ``ready``.

    Raises:
        RequestError: ``malformed_json``, ``bad_request`` or ``invalid_parameter``.
    """
    if not body.strip():
        return False
    given = read_members(parse_object(body, body), "", ("ready",), "")
    return read_flag(given.get("ready"), False, pointer("ready"))


def _read_parameters(value: object) -> tuple[dict[str, object], bool, int | None]:
    """Read the parameters of a request.

    Returns:
        The loss's parameters, whether outputs are binary by default, and the time limit in microseconds.
    """
    place = pointer("parameters")
    params = read_object(value, place)
    for name in _SEQUENCE:
        if params.pop(name, None):
            detail = f"{name} is given, but no request is part of a sequence here; leave it out"
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(place + pointer(name), "not offered")])
    params.pop("priority", None)
    _check_content_type(params.pop("content_type", None), place)
    binary = read_flag(params.pop("binary_data_output", None), False, place + pointer("binary_data_output"))
    timeout = params.pop("timeout", None)
    if timeout is not None and not (type(timeout) is int and 0 <= timeout < _TIMEOUT_LIMIT):
        detail = "timeout is not a number of microseconds; send a positive integer, or leave it out"
        raise RequestError(
            ErrorCode.INVALID_PARAMETER, detail, [(place + pointer("timeout"), "not a positive integer")]
        )
    # The protocol has no null and no lists, so strings are read as in a query.
    texts = {
        name: parse_text(item, f"the parameter {shown(name)}", place + pointer(name[:SHOWN]))
        for name, item in params.items()
        if isinstance(item, str)
    }
    return params | texts, binary, timeout or None


def _check_content_type(value: object, place: str) -> None:
    """Refuse a content_type other than plain arrays of numbers. MLServer's clients send one.

    Args:
        value: The parameter; None where there is none.
        place: The JSON pointer to the parameters.
    """
    if value not in (None, "np"):
        seen = f"{place}/content_type is {shown(str(value))}, but arrays of numbers alone are taken"
        remedy = "send data that are, and np (or nothing) for content_type"
        raise RequestError(
            ErrorCode.INVALID_PARAMETER, f"{seen}; {remedy}", [(f"{place}/content_type", "not np")]
        )


def _read_outputs(value: object, binary: bool) -> tuple[RequestedOutput, ...]:
    """Return the requested outputs; all where none is named.

    Args:
        value: The value that was sent.
        binary: Whether they are binary by default.
    """
    outputs: dict[str, RequestedOutput] = {}
    for index, item in enumerate(read_list(value, pointer("outputs"))):
        place = pointer("outputs", index)
        given = read_members(item, place, _OUTPUT_MEMBERS)
        name = read_string(given, "name", place)
        if name not in _OUTPUT_NAMES:
            hint = suggestion(name, _OUTPUT_NAMES)
            detail = f"there is no output {shown(name)}{hint or ';'} there are {', '.join(_OUTPUT_NAMES)}"
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
        flag = read_flag(parameters.get("binary_data"), binary, place + pointer("parameters", "binary_data"))
        outputs[name] = RequestedOutput(name, flag)
    return tuple(outputs.values()) or tuple(RequestedOutput(name, binary) for name in _OUTPUT_NAMES)


def _describe(index: int, given: Mapping[str, object]) -> Input:
    """Return an input's description."""
    place = pointer("inputs", index)
    name = read_string(given, "name", place)
    if name not in TENSOR_DTYPES:
        raise unknown_tensor(name, WHERE_PARAMETERS)
    datatype = read_string(given, "datatype", place)
    allowed = [known for known, dtype in DATATYPES.items() if dtype in TENSOR_DTYPES[name]]
    if datatype not in allowed:
        detail = f"{name} has the datatype {shown(datatype)}; send {', '.join(allowed)}"
        if datatype == "BYTES" and name in ("groups", "ids"):
            detail += ", or strings in an Arrow stream"
        raise RequestError(
            ErrorCode.DTYPE_NOT_ALLOWED, detail, [(place + pointer("datatype"), "not allowed")]
        )
    place += pointer("shape")
    lengths = read_list(given.get("shape"), place)
    shape = tuple(length for length in lengths if type(length) is int and length >= 0)
    if len(shape) < len(lengths):
        raise _bad_shape(name, place, "a shape of other things than lengths")
    if len(shape) > MAX_DIMENSIONS:
        raise _bad_shape(name, place, f"{len(shape)} dimensions")
    if not is_addressable(shape, DATATYPES[datatype]):
        raise _bad_shape(name, place, "a shape whose bytes pass 2^63")
    return Input(index, name, datatype, shape)


def _bad_shape(name: str, place: str, seen: str) -> RequestError:
    detail = f"{name} has {seen}; send the lengths of its 1 to {MAX_DIMENSIONS} dimensions"
    return RequestError(ErrorCode.BAD_SHAPE, detail, [(place, seen)])


def _binary_size(described: Input, given: Mapping[str, object]) -> int | None:
    """Return the bytes of an input behind the object; None where its numbers are in the object."""
    place = pointer("inputs", described.number)
    size = _tensor_parameters(given, place).get("binary_data_size")
    if size is None:
        return None
    place += pointer("parameters", "binary_data_size")
    if "data" in given:
        raise bad_request(place, "given beside data", "send one of the two")
    expected = math.prod(described.shape) * ITEMSIZE[DATATYPES[described.datatype]]
    if type(size) is not int or size != expected:
        what = f"{described.name} is {described.datatype} {list(described.shape)}"
        detail = f"{what}, which takes {expected} bytes, but binary_data_size is {shown(str(size))}"
        raise RequestError(
            ErrorCode.SHAPE_MISMATCH, f"{detail}; make them agree", [(place, f"not {expected}")]
        )
    return expected


def _tensor_parameters(given: Mapping[str, object], place: str) -> dict[str, object]:
    """Return the parameters of an input or an output."""
    place += pointer("parameters")
    parameters = read_object(given.get("parameters", {}), place)
    for name in _SHARED_MEMORY:
        if name in parameters:
            seen = "given, but there is no shared memory here"
            raise bad_request(place + pointer(name), seen, "send the bytes")
    _check_content_type(parameters.get("content_type"), place)
    return parameters
