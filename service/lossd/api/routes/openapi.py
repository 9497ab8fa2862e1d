"""The OpenAPI document: FastAPI describes the other routes, the catalog the losses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from lossd.api.auth import SECURITY
from lossd.api.problems import KINDS, MEDIA_TYPE
from lossd.api.routes.examples import (
    answer_example,
    problem_example,
    report_example,
    request_example,
    tensors_example,
)
from lossd.api.routes.inference import TAG, model_id, model_paths
from lossd.api.routes.plain_schemas import plain_schema, query_schema
from lossd.api.routes.request_bodies import description, request_bodies, request_schemas
from lossd.api.routes.schemas import InferenceAnswer, InferenceError, InferenceRequest, LossAnswer, Problem
from lossd.core.catalog import LOSSES, Loss, Parameter
from lossd.core.report.parameters import report_parameters
from lossd.types import ErrorCode
from lossd.wire import report_schema

Document = dict[str, Any]

_DESCRIPTION: Final = """\
The losses of classifiers, detectors and segmentation, from binary cross entropy with logits and focal loss \
as YOLOv5 defines it to overlaps of boxes: computed in float64 from the numbers as they are received, the \
same bits under any load.

Send `logits` and `targets` as JSON, as .npy files one after the other, as an .npz, as multipart parts or as \
an Arrow stream, which may have any length; of boxes, `boxes` and `targets`:

    curl -F logits=@x.npy -F targets=@y.npy 'localhost:8000/focal?gamma=2'

Every error is a problem document (RFC 9457): its `code` says what is wrong, its `detail` what to do.
"""


def describe_api(app: FastAPI) -> Document:
    """Return the document, which takes a tenth of a second to make."""
    document = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
    components = document.setdefault("components", {})
    components["schemas"] = _schemas(components.get("schemas", {}))
    losses = {f"/{loss.name}": {"post": _operation(loss)} for loss in LOSSES.values()}
    inferences = {
        f"{path}/infer": {"post": _inference(loss, path)}
        for loss in LOSSES.values()
        for path in model_paths(loss)
    }
    document["servers"] = [{"url": ".", "description": "Where this document is, also behind a prefix."}]
    document["paths"] = {**losses, **inferences, **_with_plain_answers(document["paths"])}
    return document


def _with_plain_answers(paths: Document) -> Document:
    """Return FastAPI's paths, with the schemas of what is sent as generators take them."""
    for operation in (operation for item in paths.values() for operation in item.values()):
        for response in operation["responses"].values():
            for media in response.get("content", {}).values():
                media["schema"] = plain_schema(media["schema"], sent=True)
    return paths


_RECEIVED: Final = ("InferenceRequest", "InferenceInput", "RequestedOutput")
_UNUSED: Final = ("HTTPValidationError", "ValidationError")  # FastAPI's; no route answers with them


def _schemas(of_other_routes: Document) -> Document:
    """Return the schemas that have a name."""
    described = {**of_other_routes, **_models(), **_report_schemas()}
    return {
        **{
            name: plain_schema(schema, sent=name not in _RECEIVED)
            for name, schema in described.items()
            if name not in _UNUSED
        },
        **request_schemas(),
    }


def _models() -> Document:
    """Return the schemas of the documents that are described as pydantic models."""
    _, made = models_json_schema(
        [
            (LossAnswer, "serialization"),
            (Problem, "serialization"),
            (InferenceRequest, "validation"),
            (InferenceAnswer, "serialization"),
            (InferenceError, "serialization"),
        ],
        ref_template="#/components/schemas/{model}",
    )
    report = made["$defs"]["LossAnswer"]["properties"]["report"]
    report |= {"$ref": "#/components/schemas/Report"}
    for key in ("additionalProperties", "type"):
        report.pop(key, None)
    found: Document = made["$defs"]
    return found


def _report_schemas() -> Document:
    """Return the JSON Schema of a report, and of its parts under names of their own in this document."""

    def part_name(name: str) -> str:
        return "Figure" if name == "number" else f"Report{name[0].upper()}{name[1:]}"

    text = json.dumps(report_schema())
    placed = re.sub(r"#/\$defs/(\w+)", lambda ref: f"#/components/schemas/{part_name(ref[1])}", text)
    schema = json.loads(placed)
    parts = {part_name(name): part for name, part in schema.pop("$defs").items()}
    whole = {key: item for key, item in schema.items() if key not in ("$schema", "$id")}
    parts["ReportTerms"] = {"description": parts["ReportTerms"]["description"], **_TERMS}
    return {"Report": whole, **parts}


_TERMS: Final[Document] = {
    "type": "array",
    "items": {"$ref": "#/components/schemas/Figure"},
    "minItems": 1,
    "if": {"minItems": 2},
    "then": {"items": {"type": "number", "not": {"const": 0}}},
}
"""Of an exact sum: one number, or one word; or several numbers, none of which is 0."""


def _operation(loss: Loss) -> Document:
    parameters = (*loss.all_parameters, *report_parameters(loss))
    return {
        "operationId": loss.name,
        "tags": ["losses"],
        "summary": loss.title,
        "description": loss.summary,
        "security": SECURITY,
        "parameters": [*_query(parameters), _tensor_names(loss), *_HEADERS],
        "requestBody": {"required": True, "content": request_bodies(loss)},
        "responses": {"200": _answer(loss), **_problems()},
    }


def _inference(loss: Loss, path: str) -> Document:
    binary = {"schema": {"type": "string", "format": "binary"}}
    example = {
        "inputs": [
            {"name": name, "shape": list(np.shape(data)), "datatype": _datatype(data), "data": data}
            for name, data in tensors_example(loss).items()
        ],
        "parameters": {
            parameter.name: parameter.default
            for parameter in loss.parameters
            if parameter.default is not None
        },
    }
    with_report = {**example, "parameters": {"report": "totals,top"}}
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "description": "The length of the JSON object in bytes, if binary tensors follow it.",
        "schema": {"type": "integer", "format": "int64", "minimum": 0},
    }
    schemas = "#/components/schemas"
    answered = {"application/json": {"schema": {"$ref": f"{schemas}/InferenceAnswer"}}}
    return {
        "operationId": f"infer_{model_id(path)}",
        "tags": [TAG],
        "summary": f"{loss.title}, as an inference",
        "description": "For Triton's clients: the inputs are the tensors, the outputs the loss and the sums "
        f"that merge with others, the parameters those of `/{loss.name}`. With the parameter `report` its "
        "document is an output, too. Inputs and outputs are in the JSON object, or follow it as binary data.",
        "security": SECURITY,
        "parameters": [*_query((*loss.all_parameters, *report_parameters(loss))), length, *_HEADERS],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"{schemas}/InferenceRequest"},
                    "examples": {
                        "text": {"summary": "Numbers in JSON", "value": example},
                        "report": {"summary": "With a report", "value": with_report},
                    },
                },
                "application/octet-stream": binary,
            },
        },
        "responses": {
            "200": {
                "description": "The outputs.",
                "headers": _answer_headers(),
                "content": {**answered, "application/octet-stream": binary},
            },
            **_inference_errors(),
        },
    }


def _datatype(data: list[Any]) -> str:
    """Return the usual datatype of an example's numbers: of ids, [N], or of others."""
    return "INT64" if np.ndim(data) == 1 else "FP32"


def _inference_errors() -> Document:
    """Return the errors that an inference can answer with, by status."""
    schema = {"$ref": "#/components/schemas/InferenceError"}
    code = {"description": "The problem's code.", "schema": {"type": "string"}}
    return {
        status: {
            "description": response["description"],
            "headers": {**response["headers"], "Lossd-Code": code},
            "content": {"application/json": {"schema": schema}},
        }
        for status, response in _problems().items()
        if status != str(KINDS[ErrorCode.NOT_ACCEPTABLE].status)  # Accept is not looked at
    }


def _query(parameters: Iterable[Parameter]) -> list[Document]:
    """Return the query's parameters.

    Defaults are in the descriptions: as defaults of the schema, pages that try requests out would send them
    in the query beside those in the body.
    """
    return [
        {
            "name": parameter.name,
            "in": "query",
            "required": False,
            "description": description(parameter),
            "schema": query_schema(parameter.schema, parameter.default),
        }
        for parameter in parameters
    ]


def _tensor_names(loss: Loss) -> Document:
    """Return the query's parameter that names the arrays of application/x-npy."""
    tensor = f"(?:{'|'.join(loss.tensors)})"
    return {
        "name": "tensors",
        "in": "query",
        "required": False,
        "description": "Only for application/x-npy: the tensors in the order of their files. Default: "
        f"{loss.inputs[0]},targets.",
        "schema": {"type": "string", "pattern": f"^{tensor}(?:,{tensor})*$"},
    }


_HEADERS: Final[list[Document]] = [
    {
        "name": "Content-Encoding",
        "in": "header",
        "required": False,
        "description": "The body's compression.",
        "schema": {"type": "string", "enum": ["identity", "gzip", "deflate", "zstd"]},
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "required": False,
        "description": "The caller's id for the request: up to 128 letters, digits and `._:/+=-`.",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Timeout-Ms",
        "in": "header",
        "required": False,
        "description": "The caller's timeout in milliseconds, counted from the headers, upload included.",
        "schema": {"type": "integer", "format": "int64", "minimum": 1, "maximum": 999_999_999_999},
    },
]


def _answer(loss: Loss) -> Document:
    figures = {
        "Lossd-Sum": "The sum of all weighted losses.",
        "Lossd-Count": "The number of losses.",
        "Lossd-Weight-Sum": "The sum of the weights.",
        "Lossd-Positives": "The sum of the targets.",
        "Lossd-Sum-Terms": "Numbers, separated by commas, that add up to the sum exactly.",
        "Lossd-Weight-Sum-Terms": "Numbers that add up to the sum of the weights exactly.",
        "Lossd-Positives-Terms": "Numbers that add up to the sum of the targets exactly.",
        "Lossd-Params": "Reduction and parameters, as a JSON object; a long list as its length and SHA-256.",
        "Lossd-Kernel": "The kernel that computed the losses.",
        "Lossd-Version": "The server's version.",
        "Lossd-Notes": "Notes on the answer, as a JSON list of sentences; absent if there are none.",
    }
    answered = {
        "mean": (
            f"The mean over all {'losses' if loss.row else 'elements'}",
            answer_example(loss, request_example(loss)),
        ),
        "report": ("With a report", answer_example(loss, report_example(loss))),
    }
    examples = {
        name: {"summary": summary, "value": answer}
        for name, (summary, answer) in answered.items()
        if answer is not None
    }
    return {
        "description": "The loss.",
        "headers": {
            **_answer_headers(),
            **{
                name: {"description": f"With application/x-npy: {text}", "schema": {"type": "string"}}
                for name, text in figures.items()
            },
        },
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/LossAnswer"},
                "examples": examples,
            },
            "application/x-npy": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "The loss alone as a .npy file, float64, or float32 with "
                    "`Accept: application/x-npy;dtype=float32`; 0-dimensional for one number.",
                }
            },
        },
    }


def _answer_headers() -> Document:
    return {
        "X-Request-Id": {"description": "The request's id.", "schema": {"type": "string"}},
        "Server-Timing": {
            "description": "Milliseconds of reading the body, with waiting unread for a permit and "
            "memory (`read`), of waiting for a worker (`queue`), and of computing (`compute`).",
            "schema": {"type": "string"},
        },
        "RateLimit-Policy": {
            "description": "The team's rates, if it has any: how much in how many seconds.",
            "schema": {"type": "string"},
        },
        "RateLimit": {
            "description": "What is left of these rates, and in how many seconds they are full again.",
            "schema": {"type": "string"},
        },
    }


def _problems() -> Document:
    """Return the problems that a loss can answer with, by status."""
    by_status: dict[int, list[ErrorCode]] = {}
    for code, kind in KINDS.items():
        if code not in (ErrorCode.NOT_FOUND, ErrorCode.METHOD_NOT_ALLOWED):
            by_status.setdefault(kind.status, []).append(code)
    return {str(status): problem_response(codes) for status, codes in sorted(by_status.items())}


def problem_response(codes: list[ErrorCode]) -> Document:
    """Return the response with one of several problems, all of one status."""
    response: Document = {
        "description": "; ".join(f"`{code}`: {KINDS[code].title}" for code in codes),
        "headers": _answer_headers(),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {
                    code: {"summary": KINDS[code].title, "value": problem_example(code)} for code in codes
                },
            }
        },
    }
    if any(KINDS[code].retry_after is not None for code in codes):
        response["headers"]["Retry-After"] = {
            "description": "Seconds after which to try again.",
            "schema": {"type": "integer", "format": "int64"},
        }
    return response
