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
from lossd.wire.inference.objects import MODEL_VERSION, OUTPUTS
from lossd.wire.inference.request import RequestedOutput

_CHUNK_NUMBERS: Final = 1 << 12  # at most 100 KiB of text
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
    result: LossResult, *, model: str, request_id: str | None, outputs: Sequence[RequestedOutput]
) -> InferenceAnswer:
    """Write the body of an answer.

    Args:
        result: The result. Numbers that are not finite are strings in JSON, as in `write_json`.
        model: The loss's name.
        request_id: The caller's id of the request.
        outputs: The outputs to write, in order.
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
        # ascontiguousarray makes one dimension of none, as the protocol needs.
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
    """Return an output whose numbers are finite, in text."""
    value = getattr(result, name)
    data = value if isinstance(value, tuple) else (value,)
    return {"name": name, "datatype": OUTPUTS[name][0], "shape": (len(data),), "data": data}


def _write_text(
    answer: Mapping[str, object], outputs: Iterable[tuple[Mapping[str, object], Float64Array | None]]
) -> Iterator[bytes]:
    """Write the JSON object of an answer, in chunks.

    Args:
        answer: The members before the outputs.
        outputs: Each output's entry, and its numbers if they are to be added as ``data``.
    """
    text = orjson.dumps(answer)[:-1] + b',"outputs":['
    between = b""
    for entry, numbers in outputs:
        text += between + orjson.dumps(entry)
        between = b","
        if numbers is not None:
            text = text[:-1] + b',"data":['
            for start in range(0, numbers.size, _CHUNK_NUMBERS):
                if start:
                    yield text
                    text = b","
                text += write_array(numbers[start : start + _CHUNK_NUMBERS])[1:-1]
            text += b"]}"
    yield text + b"]}"
