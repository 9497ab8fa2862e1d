"""Request bodies of a loss in the OpenAPI document, by media type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from lossd.api.routes.examples import LOGITS, TARGETS, report_example, request_example
from lossd.core.catalog import Loss, Parameter

Document = dict[str, Any]

_TENSORS: Final = {
    "logits": "The logits, 1 to 8 dimensions; infinities are allowed.",
    "probabilities": "Probabilities in [0, 1], instead of logits.",
    "targets": "The targets in [0, 1], in the shape of the inputs; or class ids, with targets_format=index.",
    "weight": "The elements' weights, finite and at least 0; broadcast to the inputs' shape.",
    "mask": "Which elements count: bools, or integers of 0 and 1; broadcast to the inputs' shape.",
    "pos_weight": "The parameter pos_weight as a tensor; one of 2 or more dimensions, such as torch's "
    "[C, 1, 1], broadcasts to the inputs' shape.",
    "groups": "For a report: integer ids of groups, [N], or several, [N, G].",
    "ids": "For a report: an integer id for each row, [N].",
    "baseline": "For a report: another model's logits or probabilities, as the first's.",
}


def request_bodies(loss: Loss, parameters: Iterable[Parameter]) -> Document:
    """Return the request bodies that a loss takes."""
    return {
        "application/json": _json(loss, parameters),
        "application/x-npy": _file(
            "concatenated",
            "What np.save writes, one file after the other",
            f"`cat x.npy y.npy | curl --data-binary @- -H 'Content-Type: application/x-npy' "
            f"localhost:8000/{loss.name}`",
            "(the bytes of logits.npy, then those of targets.npy)",
        ),
        "application/x-npz": _file(
            "savez",
            "What np.savez and np.savez_compressed write, members named after the tensors",
            "`curl --data-binary @batch.npz -H 'Content-Type: application/x-npz' "
            f"localhost:8000/{loss.name}`",
            "(the bytes of the .npz)",
        ),
        "application/vnd.apache.arrow.stream": _file(
            "stream",
            "An Arrow IPC stream, columns named after the tensors, scored as it arrives",
            "A column of numbers or bools has one element a row, one of fixed-size lists one list a row. The "
            "size of a record batch is limited, their number is not.",
            "(the bytes of the stream)",
        ),
        "multipart/form-data": _form(loss),
    }


def _json(loss: Loss, parameters: Iterable[Parameter]) -> Document:
    labels = {"$ref": "#/components/schemas/Labels"}
    numbers = {"$ref": "#/components/schemas/Numbers"}
    whole = {"$ref": "#/components/schemas/WholeNumbers"}
    shapes = {
        name: labels if name in ("targets", "mask") else numbers for name in _TENSORS if name != "pos_weight"
    }
    shapes |= {"groups": whole, "ids": whole}
    pair = {"logits": LOGITS, "targets": TARGETS}
    examples = {
        "mean": ("The mean over all elements", request_example(loss)),
        "per_sample": ("One loss per sample", {**pair, "axis": 1}),
        "weighted": (
            "With weights, and one pos_weight per class",
            {**pair, "weight": [[1.0], [0.5]], "pos_weight": [1.0, 2.0, 0.5]},
        ),
        "report": ("With a report", report_example(loss)),
    }
    return {
        "schema": {
            "type": "object",
            "required": ["targets"],
            "oneOf": [{"required": ["logits"]}, {"required": ["probabilities"]}],
            "properties": {**shapes, **{parameter.name: dict(parameter.schema) for parameter in parameters}},
            "additionalProperties": False,
        },
        "examples": {
            name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()
        },
    }


def _file(name: str, summary: str, description: str, value: str) -> Document:
    """Return the description of a body that is one file."""
    return {
        "schema": {"type": "string", "format": "binary"},
        "examples": {name: {"summary": summary, "description": description, "value": value}},
    }


def _form(loss: Loss) -> Document:
    files = {
        name: {"type": "string", "format": "binary", "description": f"A .npy file. {meaning}"}
        for name, meaning in _TENSORS.items()
    }
    params = {
        "type": "string",
        "description": "Parameters, as a JSON object. Each may instead be a text part of its own, written as "
        "in a query: `-F gamma=2`.",
        "default": "{}",
    }
    example = {
        "summary": "Two .npy files",
        "description": f"`curl -F logits=@x.npy -F targets=@y.npy localhost:8000/{loss.name}`",
        "value": {"logits": "(x.npy)", "targets": "(y.npy)", "params": '{"reduction": "sum"}'},
    }
    return {
        "schema": {"type": "object", "required": ["targets"], "properties": {**files, "params": params}},
        "examples": {"files": example},
    }
