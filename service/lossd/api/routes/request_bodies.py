"""Request bodies of a loss in the OpenAPI document, by media type."""

from __future__ import annotations

import json
from typing import Any, Final

from lossd.api.routes.examples import report_example, request_example, tensors_example, weighted_example
from lossd.api.routes.plain_schemas import plain_schema
from lossd.core.catalog import LOSSES, Loss, Parameter
from lossd.core.report.parameters import report_parameters

Document = dict[str, Any]

_SCHEMAS: Final = "#/components/schemas"
_TENSORS: Final = {
    "logits": "The logits, 1 to 8 dimensions; infinities are allowed.",
    "probabilities": "Probabilities in [0, 1], instead of logits.",
    "boxes": "The boxes, [N, 4], as `format` says.",
    "targets": "The targets in [0, 1], in the shape of the inputs; or class ids, with targets_format=index.",
    "weight": "The elements' weights, finite and at least 0; broadcast to the inputs' shape.",
    "mask": "Which elements count: bools, or integers of 0 and 1; broadcast to the inputs' shape.",
    "pos_weight": "The parameter pos_weight as a tensor; one of 2 or more dimensions, such as torch's "
    "[C, 1, 1], broadcasts to the inputs' shape.",
    "class_weight": "The parameter class_weight as a tensor, [C].",
    "groups": "For a report: integer ids of groups, [N], or several, [N, G].",
    "ids": "For a report: an integer id for each row, [N].",
    "baseline": "For a report: another model's numbers in place of the inputs, as the first's.",
}
_OF_ROWS: Final = {
    "weight": "The losses' weights, finite and at least 0; broadcast to the losses' shape: one for each "
    "{row}.",
    "mask": "Which losses count: bools, or integers of 0 and 1; broadcast to the losses' shape: one for each "
    "{row}.",
}
_ROWS: Final = {"classes": "row of classes", "sample": "sample (or what `per` says)", "box": "box"}


def _meanings(loss: Loss) -> dict[str, str]:
    """Return what each tensor of a loss means."""
    meanings = {name: _TENSORS[name] for name in loss.tensors}
    if loss.row:
        meanings |= {name: text.format(row=_ROWS[loss.row]) for name, text in _OF_ROWS.items()}
    if loss.row == "classes":
        meanings["logits"] = "The logits, [N, C], or of more dimensions, with their classes along class_axis."
        meanings["targets"] = (
            "The class id of each row, in the inputs' shape less class_axis; or a probability of every "
            "class, in the inputs' shape."
        )
    elif loss.targets == "box":
        meanings["targets"] = "The true box of each, as the boxes are written."
    elif loss.targets == "number":
        meanings["targets"] = (
            "The targets, any finite numbers, in the shape of the inputs; or class ids, with "
            "targets_format=index."
        )
    return meanings


_NESTED: Final = {"type": "array"}


def _inputs_rule(loss: Loss) -> Document:
    """Return the rule that a request has the inputs, in one of the forms that the loss takes, and targets."""
    if len(loss.inputs) == 1:
        return {"required": [*loss.inputs, "targets"]}
    first, second = loss.inputs
    return {
        "required": ["targets"],
        "if": {"required": [first]},
        "then": {"not": {"required": [second]}},
        "else": {"required": [second]},
    }


def request_schemas() -> Document:
    """Return the schemas of requests in JSON, and of their tensors.

    A schema that refers to itself stands behind `if`, which generators of clients skip: for them a tensor is
    a list of anything.
    """
    words = {"type": ["number", "string"], "pattern": "^(?:-?Infinity|NaN)$"}
    labels = {"type": ["number", "boolean", "string", "null"], "minimum": 0, "maximum": 1, "pattern": "^NaN$"}
    row = {"type": "array", "items": {"type": "integer"}}
    return {
        **{request_name(loss): _request(loss) for loss in LOSSES.values()},
        "Numbers": {
            "type": "array",
            "description": "A tensor as nested arrays of numbers, all rows of one length.",
            "items": {"if": _NESTED, "then": {"$ref": f"{_SCHEMAS}/Numbers"}, "else": words},
        },
        "WholeNumbers": {
            "type": "array",
            "description": "A tensor as a list of whole numbers below 2^53, or a list of such lists.",
            "items": {"if": _NESTED, "then": row, "else": {"type": "integer"}},
        },
        "Labels": {
            "type": "array",
            "description": "A tensor as nested arrays of numbers in [0, 1] or booleans; in targets NaN and "
            "null say that there is none, which `ignore_index` may drop.",
            "items": {"if": _NESTED, "then": {"$ref": f"{_SCHEMAS}/Labels"}, "else": labels},
        },
    }


def request_name(loss: Loss) -> str:
    """Return the name of the schema of a loss's requests in JSON."""
    return "".join(word.capitalize() for word in loss.name.split("_")) + "Request"


def _request(loss: Loss) -> Document:
    kinds = dict.fromkeys(("groups", "ids"), "WholeNumbers") | {"mask": "Labels"}
    if loss.targets == "probability" and loss.row != "classes":
        kinds["targets"] = "Labels"
    tensors = {
        name: {"description": meaning, "$ref": f"{_SCHEMAS}/{kinds.get(name, 'Numbers')}"}
        for name, meaning in _meanings(loss).items()
        if name not in ("pos_weight", "class_weight")
    }
    parameters = (*loss.all_parameters, *report_parameters(loss))
    rule = _inputs_rule(loss)
    return {
        "type": "object",
        "required": rule.pop("required"),
        "properties": {
            **tensors,
            **{one.name: {"description": description(one), **plain_schema(one.schema)} for one in parameters},
        },
        "additionalProperties": False,
        **rule,
    }


def description(parameter: Parameter) -> str:
    """Return the description of a parameter, with its default."""
    return f"{parameter.summary} Default: {json.dumps(parameter.default)}."


def request_bodies(loss: Loss) -> Document:
    """Return the request bodies that a loss takes.

    Of several, some generators of clients know only the first, and some the last that is a file.
    """
    return {
        "application/json": _json(loss),
        "application/x-npy": _file(
            "concatenated",
            "What np.save writes, one file after the other",
            f"`cat x.npy y.npy | curl --data-binary @- -H 'Content-Type: application/x-npy' "
            f"localhost:8000/{loss.name}`",
            f"(the bytes of {loss.inputs[0]}.npy, then those of targets.npy)",
        ),
        "application/vnd.apache.arrow.stream": _file(
            "stream",
            "An Arrow IPC stream, columns named after the tensors, scored as it arrives",
            "A column of numbers or bools has one element a row, one of fixed-size lists one list a row. The "
            "size of a record batch is limited, their number is not.",
            "(the bytes of the stream)",
        ),
        "application/x-npz": _file(
            "savez",
            "What np.savez and np.savez_compressed write, members named after the tensors",
            "`curl --data-binary @batch.npz -H 'Content-Type: application/x-npz' "
            f"localhost:8000/{loss.name}`",
            "(the bytes of the .npz)",
        ),
        "multipart/form-data": _form(loss),
    }


def _json(loss: Loss) -> Document:
    tensors, weighted = tensors_example(loss), weighted_example(loss)
    by_class = [name for name in ("pos_weight", "class_weight") if name in weighted]
    also = f", and one {by_class[0]} per class" if by_class else ""
    each: tuple[str, str, Document] = ("per_sample", "One loss per sample", {"axis": 1})
    if loss.row:
        each = ("each", "Each loss", {"reduction": "none"})
    name, summary, params = each
    examples = {
        "mean": (f"The mean over all {'losses' if loss.row else 'elements'}", request_example(loss)),
        name: (summary, {**tensors, **params}),
        "weighted": (f"With weights{also}", weighted),
        "report": ("With a report", report_example(loss)),
    }
    return {
        "schema": {"$ref": f"{_SCHEMAS}/{request_name(loss)}"},
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
        for name, meaning in _meanings(loss).items()
    }
    inputs = loss.inputs[0]
    params = {
        "type": "string",
        "description": "Parameters, as a JSON object. Each may instead be a text part of its own, written as "
        "in a query: `-F gamma=2`.",
        "default": "{}",
    }
    example = {
        "summary": "Two .npy files",
        "description": f"`curl -F {inputs}=@x.npy -F targets=@y.npy localhost:8000/{loss.name}`",
        "value": {inputs: "(x.npy)", "targets": "(y.npy)", "params": '{"reduction": "sum"}'},
    }
    return {
        "schema": {
            "type": "object",
            "required": _inputs_rule(loss)["required"],
            "properties": {**files, "params": params},
        },
        "examples": {"files": example},
    }
