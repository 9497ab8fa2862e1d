"""The answer to an inference request: a JSON object, with binary outputs behind it if any are requested.

The object: "Inference Response JSON Object" of the protocol. The links are in `objects`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson

from lossd.types import Float64Array, LossResult
from lossd.wire.answer import are_finite, write_array
from lossd.wire.inference.objects import MODEL_VERSION, OUTPUTS, REPORT
from lossd.wire.inference.request import RequestedOutput

_CHUNK_NUMBERS: Final = 1 << 12  # at most 100 KiB of text
_CHUNK_LETTERS: Final = 1 << 16
_LITTLE_ENDIAN: Final[Mapping[str, str]] = {"FP64": "<f8", "INT64": "<i8"}


@dataclass(frozen=True, slots=True)
class InferenceAnswer:
    """The body of an answer.

    Attributes:
        text: The JSON object in chunks, each written when it is asked for.
        binary: The arrays behind it. If there are any, Inference-Header-Content-Length must say the object's
            length.
    """

    text: Iterator[bytes]
    binary: tuple[memoryview, ...]


def write_inference(
    result: LossResult,
    *,
    model: str,
    request_id: str | None,
    outputs: Sequence[RequestedOutput],
    report: str | None = None,
) -> InferenceAnswer:
    """Write the body of an answer.

    Args:
        result: The result. Numbers that are not finite are strings in JSON, as in `write_json`.
        model: The loss's name.
        request_id: The caller's id of the request.
        outputs: The outputs to write, in order; a report only if there is one.
        report: The document of the report; None if there is none.
    """
    answer: dict[str, object] = {"model_name": model, "model_version": MODEL_VERSION}
    if request_id is not None:
        answer["id"] = request_id
    if result.notes:
        answer["parameters"] = {"notes": "; ".join(result.notes)}
    if report is None and outputs[-1].name == REPORT:
        outputs = outputs[:-1]
    short = isinstance(result.loss, float) and are_finite(result) and report is None
    if short and not any(each.binary for each in outputs):
        answer["outputs"] = [_number_output(output.name, result) for output in outputs]
        return InferenceAnswer(iter((orjson.dumps(answer),)), ())
    described: list[tuple[dict[str, object], Iterable[bytes]]] = []
    binary: list[memoryview] = []
    for output in outputs:
        if output.name == REPORT:
            entry, data, text = _describe_report(report or "", binary=output.binary)
        else:
            entry, data, text = _describe_numbers(output, result)
        described.append((entry, text))
        if output.binary:
            entry["parameters"] = {"binary_data_size": data.nbytes}
            binary.append(data)
    return InferenceAnswer(_write_text(answer, described), tuple(binary))


def _describe_numbers(
    output: RequestedOutput, result: LossResult
) -> tuple[dict[str, object], memoryview, Iterable[bytes]]:
    """Return an output's entry, its bytes, and the numbers of its ``data`` as text, in chunks."""
    datatype, _ = OUTPUTS[output.name]
    # ascontiguousarray makes one dimension of none, as the protocol needs.
    array = np.ascontiguousarray(getattr(result, output.name), dtype=_LITTLE_ENDIAN[datatype])
    flat = array.reshape(-1)
    entry: dict[str, object] = {"name": output.name, "datatype": datatype, "shape": list(array.shape)}
    text: Iterable[bytes] = ()
    if not output.binary:
        text = _write_numbers(flat) if datatype == "FP64" else (orjson.dumps(flat.tolist())[1:-1],)
    return entry, flat.view(np.uint8).data, text


def _describe_report(report: str, *, binary: bool) -> tuple[dict[str, object], memoryview, Iterable[bytes]]:
    """Return the same of a report: in binary, its length and its bytes ("Tensor Data Types", BYTES)."""
    entry: dict[str, object] = {"name": REPORT, "datatype": "BYTES", "shape": [1]}
    if not binary:
        return entry, memoryview(b""), _write_string(report)
    encoded = report.encode()
    return entry, memoryview(len(encoded).to_bytes(4, "little") + encoded), ()


def _number_output(name: str, result: LossResult) -> dict[str, object]:
    """Return an output whose numbers are finite, in text."""
    value = getattr(result, name)
    data = value if isinstance(value, tuple) else (value,)
    return {"name": name, "datatype": OUTPUTS[name][0], "shape": (len(data),), "data": data}


def _write_text(
    answer: Mapping[str, object], outputs: Iterable[tuple[Mapping[str, object], Iterable[bytes]]]
) -> Iterator[bytes]:
    """Write the JSON object of an answer, in chunks.

    Args:
        answer: The members before the outputs.
        outputs: Each output's entry, and what is to stand in its ``data``, in chunks; none for none.
    """
    text = orjson.dumps(answer)[:-1] + b',"outputs":['
    between = b""
    for entry, data in outputs:
        text += between + orjson.dumps(entry)
        between = b","
        for number, chunk in enumerate(data):
            if number:
                yield text
                text = chunk
            else:
                text = text[:-1] + b',"data":[' + chunk
        if "parameters" not in entry:
            text += b"]}"
    yield text + b"]}"


def _write_numbers(flat: Float64Array) -> Iterator[bytes]:
    """Write numbers, separated by commas; at least one chunk."""
    yield write_array(flat[:_CHUNK_NUMBERS])[1:-1]
    for start in range(_CHUNK_NUMBERS, flat.size, _CHUNK_NUMBERS):
        yield b"," + write_array(flat[start : start + _CHUNK_NUMBERS])[1:-1]


def _write_string(text: str) -> Iterator[bytes]:
    """Write a string."""
    yield b'"'
    for start in range(0, len(text), _CHUNK_LETTERS):
        yield orjson.dumps(text[start : start + _CHUNK_LETTERS])[1:-1]
    yield b'"'
