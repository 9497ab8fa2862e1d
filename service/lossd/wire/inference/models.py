"""Metadata of the server and its models in the Open Inference Protocol, as plain JSON values.

A model is a loss. The protocol cannot say that an input may have several datatypes or numbers of dimensions.
Listed are the usual ones; others are accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from lossd.wire.inference.objects import MODEL_VERSION, OUTPUTS, REPORT

_OUTPUTS: Final = {**OUTPUTS, REPORT: ("BYTES", 1)}
_TYPES: Final = {"BYTES": "TYPE_STRING"}
"""Triton's names of datatypes, where they are not TYPE_ and the datatype."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """An input of a model.

    Attributes:
        name: The tensor's name.
        datatype: Its usual datatype.
        shape: Its usual shape, -1 for any length.
        optional: Whether a request may leave it out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool


@dataclass(frozen=True, slots=True)
class Duration:
    """A number of events, and the nanoseconds that they took in total."""

    count: int
    ns: int


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """The counts and times of a model since the server started.

    Attributes:
        model: The loss's name.
        last_inference_ms: The time of the last request, in milliseconds since 1970; 0 before the first.
        success: Requests that were answered with a loss, from their headers to their result.
        fail: Requests that were refused or failed.
        queue: Waits for a worker.
        compute: Computations.
    """

    model: str
    last_inference_ms: int
    success: Duration
    fail: Duration
    queue: Duration
    compute: Duration


def server_metadata(version: str) -> dict[str, object]:
    """Return the answer to ``GET /v2``."""
    extensions = ["binary_tensor_data", "parameters", "statistics", "model_configuration"]
    return {"name": "lossd", "version": version, "extensions": extensions}


def model_metadata(model: str, inputs: Sequence[ModelInput]) -> dict[str, object]:
    """Return the answer to ``GET /v2/models/{model}``: all inputs, optional ones too, and the outputs."""
    return {
        "name": model,
        "versions": [MODEL_VERSION],
        "platform": "lossd",
        "inputs": [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in inputs],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [length]}
            for name, (datatype, length) in _OUTPUTS.items()
        ],
    }


def model_config(
    model: str, inputs: Sequence[ModelInput], defaults: Mapping[str, object]
) -> dict[str, object]:
    """Return the answer to ``GET /v2/models/{model}/config``, as Triton's ModelConfig.

    Args:
        model: The loss's name.
        inputs: Its inputs.
        defaults: The default of each of its parameters.
    """
    return {
        "name": model,
        "platform": "lossd",
        "backend": "lossd",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,  # the shapes are complete: no batch dimension precedes them
        "input": [
            {
                "name": one.name,
                "data_type": f"TYPE_{one.datatype}",
                "dims": list(one.shape),
                "optional": one.optional,
            }
            for one in inputs
        ],
        "output": [
            {"name": name, "data_type": _TYPES.get(datatype, f"TYPE_{datatype}"), "dims": [length]}
            for name, (datatype, length) in _OUTPUTS.items()
        ],
        "parameters": {
            name: {"string_value": value if isinstance(value, str) else orjson.dumps(value).decode()}
            for name, value in defaults.items()
        },
    }


def model_stats(figures: Iterable[ModelFigures]) -> dict[str, object]:
    """Return the answer to ``GET /v2/models/{model}/stats``, for one model or several."""
    nothing = Duration(0, 0)
    return {
        "model_stats": [
            {
                "name": model.model,
                "version": MODEL_VERSION,
                "last_inference": model.last_inference_ms,
                "inference_count": model.success.count,
                "execution_count": model.success.count,
                "inference_stats": {
                    name: {"count": duration.count, "ns": duration.ns}
                    for name, duration in (
                        ("success", model.success),
                        ("fail", model.fail),
                        ("queue", model.queue),
                        ("compute_input", nothing),
                        ("compute_infer", model.compute),
                        ("compute_output", nothing),
                        ("cache_hit", nothing),
                        ("cache_miss", nothing),
                    )
                },
                "batch_stats": [],
            }
            for model in figures
        ]
    }
