"""What the Open Inference Protocol tells of the server and its models, each a loss, as plain JSON values.

The protocol has no word for several datatypes of an input, nor for any number of dimensions: those listed
are the most usual, and others are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from lossd.wire.inference.body import MODEL_VERSION, OUTPUTS

_INPUTS: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "logits": ("FP32", (-1, -1)),
    "probabilities": ("FP32", (-1, -1)),
    "targets": ("FP32", (-1, -1)),
    "weight": ("FP32", (-1, -1)),
    "pos_weight": ("FP32", (-1,)),
    "mask": ("BOOL", (-1, -1)),
}
_NEEDED: Final = frozenset({"targets"})


@dataclass(frozen=True, slots=True)
class Duration:
    """How often something was done, and the nanoseconds that it took together."""

    count: int
    ns: int


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What has been done for a model since the server started.

    Attributes:
        model: The loss's name.
        last_inference_ms: When the last request came, in milliseconds since 1970; 0 where none has.
        success: Requests that were answered with a loss, from their headers to their result.
        fail: Requests that were not.
        queue: Waiting for a worker.
        compute: Computing.
    """

    model: str
    last_inference_ms: int
    success: Duration
    fail: Duration
    queue: Duration
    compute: Duration


def server_metadata(version: str) -> dict[str, object]:
    """What ``GET /v2`` answers.

    Args:
        version: The service's.
    """
    extensions = ["binary_tensor_data", "parameters", "statistics", "model_configuration"]
    return {"name": "lossd", "version": version, "extensions": extensions}


def model_metadata(model: str) -> dict[str, object]:
    """What ``GET /v2/models/{model}`` answers: the inputs, those that may be left out too, and the outputs.

    Args:
        model: The loss's name.
    """
    return {
        "name": model,
        "versions": [MODEL_VERSION],
        "platform": "lossd",
        "inputs": [
            {"name": name, "datatype": datatype, "shape": list(shape)}
            for name, (datatype, shape) in _INPUTS.items()
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [length]}
            for name, (datatype, length) in OUTPUTS.items()
        ],
    }


def model_config(model: str, defaults: Mapping[str, object]) -> dict[str, object]:
    """What ``GET /v2/models/{model}/config`` answers, in the form of Triton's ModelConfig.

    Args:
        model: The loss's name.
        defaults: The value of each of its parameters where it is not given.
    """
    return {
        "name": model,
        "platform": "lossd",
        "backend": "lossd",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,  # which means: the shapes are whole, no batch dimension goes before them
        "input": [
            {
                "name": name,
                "data_type": f"TYPE_{datatype}",
                "dims": list(shape),
                "optional": name not in _NEEDED,
            }
            for name, (datatype, shape) in _INPUTS.items()
        ],
        "output": [
            {"name": name, "data_type": f"TYPE_{datatype}", "dims": [length]}
            for name, (datatype, length) in OUTPUTS.items()
        ],
        "parameters": {
            name: {"string_value": value if isinstance(value, str) else orjson.dumps(value).decode()}
            for name, value in defaults.items()
        },
    }


def model_stats(figures: Iterable[ModelFigures]) -> dict[str, object]:
    """What ``GET /v2/models/{model}/stats`` answers, for one model or several."""
    nothing = Duration(0, 0)
    return {
        "model_stats": [
            {
                "name": of.model,
                "version": MODEL_VERSION,
                "last_inference": of.last_inference_ms,
                "inference_count": of.success.count,
                "execution_count": of.success.count,
                "inference_stats": {
                    name: {"count": duration.count, "ns": duration.ns}
                    for name, duration in (
                        ("success", of.success),
                        ("fail", of.fail),
                        ("queue", of.queue),
                        ("compute_input", nothing),
                        ("compute_infer", of.compute),
                        ("compute_output", nothing),
                        ("cache_hit", nothing),
                        ("cache_miss", nothing),
                    )
                },
                "batch_stats": [],
            }
            for of in figures
        ]
    }
