"""The OpenAPI document: FastAPI's own for the routes around the losses, and the losses' from the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from lossd import __version__
from lossd.api.auth import SECURITY
from lossd.api.problems import KINDS, MEDIA_TYPE
from lossd.api.routes.inference import TAG, model_paths
from lossd.api.routes.schemas import InferenceAnswer, InferenceError, InferenceRequest, LossAnswer, Problem
from lossd.core.catalog import LOSSES, SHARED, Loss, Parameter
from lossd.core.parameters import options_of
from lossd.types import TENSOR_DTYPES, ErrorCode

Document = dict[str, Any]

_DESCRIPTION: Final = """\
Binary cross entropy with logits and focal loss as YOLOv5 defines it: computed in float64 from the \
numbers as they are received, the same bits whoever else is being served.

Send `logits` and `targets` as JSON, as .npy files one after the other, as an .npz, as multipart parts or as \
an Arrow stream, which may have any length:

    curl -F logits=@x.npy -F targets=@y.npy 'localhost:8000/focal?gamma=2'

Every error is a problem document (RFC 9457): its `code` says what is wrong, its `detail` what to do.
"""

_TENSORS: Final = {
    "logits": "The logits, 1 to 8 dimensions; infinities are allowed.",
    "probabilities": "Probabilities in [0, 1], instead of logits.",
    "targets": "The targets, each in [0, 1], in the shape of the inputs; or class ids (targets_format).",
    "weight": "Weights of the elements, finite and at least 0; broadcast to the inputs' shape.",
    "mask": "Which elements count: bools, or integers of 0 and 1; broadcast to the inputs' shape.",
    "pos_weight": "As the parameter pos_weight; of 2 or more dimensions, as torch's [C, 1, 1], it broadcasts "
    "to the inputs' shape.",
}

_LOGITS: Final = [[2.0, -1.5, 0.25], [-3.0, 4.0, 0.0]]
_TARGETS: Final = [[1, 0, 0.5], [0, 1, 1]]
_TERMS: Final = {
    "bce": [1.7891651689560655, 7.28583859910259e-17],
    "focal": [0.19863918605687808, 3.130633773051894e-18],
}

_PROBLEMS: Final = {
    ErrorCode.UNAUTHORIZED: ("this server asks for a key; send one as Authorization: Bearer KEY", None),
    ErrorCode.FORBIDDEN: ("team vision is disabled; ask who runs this server", None),
    ErrorCode.UPLOAD_TOO_SLOW: ("the body comes too slowly: 100 bytes in 5 s; send it again, faster", None),
    ErrorCode.RATE_LIMITED: ("team vision may send 50 requests a second; send fewer and larger ones", None),
    ErrorCode.TOO_MANY_IN_FLIGHT: ("team vision may have 64 requests under way; wait for one of them", None),
    ErrorCode.HEADERS_TOO_LARGE: ("the request has more than 100 headers; send fewer", None),
    ErrorCode.BAD_REQUEST: ("Invalid HTTP request received. Send a well-formed HTTP/1.1 request.", None),
    ErrorCode.MALFORMED_JSON: (
        "NaN is not JSON; leave such elements out or mark them otherwise",
        "/logits/3",
    ),
    ErrorCode.MALFORMED_NPY: ("targets does not begin with \\x93NUMPY; send what np.save writes", "/targets"),
    ErrorCode.MALFORMED_NPZ: ("the .npz is malformed: logits.npy twice; write it with np.savez", "/logits"),
    ErrorCode.MALFORMED_ARROW: ("no continuation marker at byte 0; write it with pa.ipc.new_stream", None),
    ErrorCode.MALFORMED_MULTIPART: ("the Content-Type has no boundary; let your HTTP library write it", None),
    ErrorCode.TRUNCATED_BODY: ("targets: 512 of 10240 bytes came; send the whole array", "/targets"),
    ErrorCode.TRAILING_BYTES: ("16 bytes follow the last array; name every array in tensors=", None),
    ErrorCode.NOT_ACCEPTABLE: (
        "cannot answer as 'text/html'; accept application/json or application/x-npy",
        None,
    ),
    ErrorCode.BODY_TOO_LARGE: (
        "the body has 2147483648 bytes, at most 1073741824 are taken; send several",
        None,
    ),
    ErrorCode.EXPANDED_TOO_LARGE: ("the body expands to more than 67108864 bytes; send it as it is", None),
    ErrorCode.OUTPUT_TOO_LARGE: (
        "the answer's numbers may take 800000000 bytes; accept application/x-npy",
        None,
    ),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (
        "the request has Content-Type 'text/csv'; send application/json",
        None,
    ),
    ErrorCode.DTYPE_NOT_ALLOWED: ("logits is int64; send float16, bfloat16, float32, float64", "/logits"),
    ErrorCode.UNSUPPORTED_ENCODING: (
        "Content-Encoding 'br' is not read; send identity, gzip, deflate or zstd",
        None,
    ),
    ErrorCode.SHAPE_MISMATCH: ("targets has shape [32, 81], logits [32, 80]; they must be equal", "/targets"),
    ErrorCode.BAD_SHAPE: (
        "row 3 of logits has 79 numbers, the others 80; pad or split the rows",
        "/logits/3",
    ),
    ErrorCode.TARGET_OUT_OF_RANGE: (
        "targets: 1.7 is outside [0, 1] at /targets/17/3; rescale them",
        "/targets/17/3",
    ),
    ErrorCode.PROBABILITY_OUT_OF_RANGE: (
        "probabilities: 1.2 is outside [0, 1] at /probabilities/0",
        "/probabilities/0",
    ),
    ErrorCode.WEIGHT_OUT_OF_RANGE: ("weight: -1.0 is not a finite number >= 0 at /weight/0", "/weight/0"),
    ErrorCode.NON_FINITE_INPUT: (
        "logits: NaN at /logits/2/5; remove or replace it before sending",
        "/logits/2/5",
    ),
    ErrorCode.INVALID_PARAMETER: ("focal has no parameter 'gama'; did you mean gamma?", "/gama"),
    ErrorCode.MISSING_TENSOR: ("send targets; got logits", "/targets"),
    ErrorCode.UNKNOWN_TENSOR: ("there is no tensor 'logit'; did you mean logits?", "/logit"),
    ErrorCode.EMPTY_MEAN: (
        "the mean is over no elements; use reduction=sum, or leave empty batches out",
        None,
    ),
    ErrorCode.INTERNAL_ERROR: ("the server failed; report this with the request id", None),
    ErrorCode.WORKER_CRASHED: ("this request ended a worker twice; it is not tried again", None),
    ErrorCode.DRAINING: (
        "the server stopped before the answer was ready; send this to another, or again later",
        None,
    ),
    ErrorCode.OVERLOADED: ("the memory for request bodies is full; try again later", None),
    ErrorCode.DEADLINE_EXCEEDED: ("the deadline passed before the answer was there; allow more time", None),
    ErrorCode.OUT_OF_MEMORY: ("cuda:0 has no memory left for this request; send a smaller one", None),
}


def describe_api(app: FastAPI) -> Document:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own; no route answers with them
            schemas.pop(name, None)
        schemas.update(_schemas())
        losses = {f"/{loss.name}": {"post": _operation(loss)} for loss in LOSSES.values()}
        inferences = {
            f"{path}/infer": {"post": _inference(loss, path)}
            for loss in LOSSES.values()
            for path in model_paths(loss)
        }
        document["servers"] = [{"url": ".", "description": "Where this document is, also behind a prefix."}]
        document["paths"] = {**losses, **inferences, **document["paths"]}
        app.openapi_schema = document
    return app.openapi_schema


_WORDS: Final = ["Infinity", "-Infinity", "NaN"]


def _schemas() -> Document:
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
    return {
        **made["$defs"],
        "Numbers": {
            "type": "array",
            "description": "A tensor as nested arrays of numbers, all rows of one length.",
            "items": {
                "oneOf": [{"type": "number"}, {"enum": _WORDS}, {"$ref": "#/components/schemas/Numbers"}]
            },
        },
        "Labels": {
            "type": "array",
            "description": "A tensor as nested arrays of numbers in [0, 1] or booleans; in targets NaN and "
            "null say that there is none, which `ignore_index` may drop.",
            "items": {
                "oneOf": [
                    {"type": "number", "minimum": 0, "maximum": 1},
                    {"type": "boolean"},
                    {"enum": ["NaN", None]},
                    {"$ref": "#/components/schemas/Labels"},
                ]
            },
        },
    }


def _operation(loss: Loss) -> Document:
    parameters = (*SHARED, *loss.parameters)
    return {
        "operationId": loss.name,
        "tags": ["losses"],
        "summary": loss.title,
        "description": loss.summary,
        "security": SECURITY,
        "parameters": [*_query(parameters), _TENSOR_NAMES, *_HEADERS],
        "requestBody": {"required": True, "content": _bodies(loss, parameters)},
        "responses": {"200": _answer(loss), **_problems()},
    }


def _inference(loss: Loss, path: str) -> Document:
    binary = {"schema": {"type": "string", "format": "binary"}}
    example = {
        "inputs": [
            {"name": name, "shape": [2, 3], "datatype": "FP32", "data": data}
            for name, data in (("logits", _LOGITS), ("targets", _TARGETS))
        ],
        "parameters": {parameter.name: parameter.default for parameter in loss.parameters},
    }
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "description": "The bytes of the JSON object, where binary tensors follow it.",
        "schema": {"type": "integer", "minimum": 0},
    }
    schemas = "#/components/schemas"
    answered = {"application/json": {"schema": {"$ref": f"{schemas}/InferenceAnswer"}}}
    refused = {"application/json": {"schema": {"$ref": f"{schemas}/InferenceError"}}}
    code = {"description": "The problem's code.", "schema": {"type": "string"}}
    return {
        "operationId": "_".join(("infer", *path.split("/")[3:])),
        "tags": [TAG],
        "summary": f"{loss.title}, asked for as an inference",
        "description": "As Triton's clients ask for it: the inputs are the tensors, the outputs the loss and "
        f"the figures by which it merges with others, the parameters those of `/{loss.name}`. Inputs and "
        "outputs stand in the JSON object, or lie behind it as binary data.",
        "security": SECURITY,
        "parameters": [*_query((*SHARED, *loss.parameters)), length, *_HEADERS],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"{schemas}/InferenceRequest"},
                    "examples": {"text": {"summary": "Numbers in JSON", "value": example}},
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
            **{
                status: {
                    "description": response["description"],
                    "headers": {**response["headers"], "Lossd-Code": code},
                    "content": refused,
                }
                for status, response in _problems().items()
                if status != str(KINDS[ErrorCode.NOT_ACCEPTABLE].status)  # Accept is not looked at
            },
        },
    }


def _query(parameters: Iterable[Parameter]) -> list[Document]:
    """A query holds each value as JSON text; a bare word is a string, ``a,b`` a list.

    Defaults are said in words: pages that try requests out would send them along with those of the body.
    """
    return [
        {
            "name": parameter.name,
            "in": "query",
            "required": False,
            "description": f"{parameter.summary} Default: {json.dumps(parameter.default)}.",
            "style": "form",
            "explode": False,
            "schema": {key: value for key, value in parameter.schema.items() if key != "default"},
        }
        for parameter in parameters
    ]


_TENSOR_NAMES: Final[Document] = {
    "name": "tensors",
    "in": "query",
    "required": False,
    "description": "For application/x-npy alone: the tensors in the order of their files. Default: "
    "logits,targets.",
    "style": "form",
    "explode": False,
    "schema": {
        "type": "array",
        "items": {"type": "string", "enum": list(TENSOR_DTYPES)},
    },
}

_HEADERS: Final[list[Document]] = [
    {
        "name": "Content-Encoding",
        "in": "header",
        "required": False,
        "description": "How the body is compressed, if it is.",
        "schema": {"type": "string", "enum": ["identity", "gzip", "deflate", "zstd"]},
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "required": False,
        "description": "An id of the caller's own, up to 128 letters, digits and `._:/+=-`; it comes back.",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Timeout-Ms",
        "in": "header",
        "required": False,
        "description": "Milliseconds that the caller allows, counted from the headers, upload included.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999_999},
    },
]


def _bodies(loss: Loss, parameters: Iterable[Parameter]) -> Document:
    labels = {"$ref": "#/components/schemas/Labels"}
    numbers = {"$ref": "#/components/schemas/Numbers"}
    shapes = {
        name: labels if name in ("targets", "mask") else numbers for name in _TENSORS if name != "pos_weight"
    }
    beside = {parameter.name: dict(parameter.schema) for parameter in parameters}
    files = {
        name: {"type": "string", "format": "binary", "description": f"A .npy file. {meaning}"}
        for name, meaning in _TENSORS.items()
    }
    own = {parameter.name: parameter.default for parameter in loss.parameters}
    return {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["targets"],
                "oneOf": [{"required": ["logits"]}, {"required": ["probabilities"]}],
                "properties": {**shapes, **beside},
                "additionalProperties": False,
            },
            "examples": {
                "mean": {
                    "summary": "The mean over all elements",
                    "value": {"logits": _LOGITS, "targets": _TARGETS, **own},
                },
                "per_sample": {
                    "summary": "One loss a sample",
                    "value": {"logits": _LOGITS, "targets": _TARGETS, "axis": 1},
                },
                "weighted": {
                    "summary": "With weights, and one pos_weight for every class",
                    "value": {
                        "logits": _LOGITS,
                        "targets": _TARGETS,
                        "weight": [[1.0], [0.5]],
                        "pos_weight": [1.0, 2.0, 0.5],
                    },
                },
            },
        },
        "application/x-npy": {
            "schema": {"type": "string", "format": "binary"},
            "examples": {
                "concatenated": {
                    "summary": "What np.save writes, one file after the other",
                    "description": f"`cat x.npy y.npy | curl --data-binary @- -H 'Content-Type: "
                    f"application/x-npy' localhost:8000/{loss.name}`",
                    "value": "(the bytes of logits.npy, then those of targets.npy)",
                }
            },
        },
        "application/x-npz": {
            "schema": {"type": "string", "format": "binary"},
            "examples": {
                "savez": {
                    "summary": "What np.savez and np.savez_compressed write, members named after the tensors",
                    "description": f"`curl --data-binary @batch.npz -H 'Content-Type: application/x-npz' "
                    f"localhost:8000/{loss.name}`",
                    "value": "(the bytes of the .npz)",
                }
            },
        },
        "application/vnd.apache.arrow.stream": {
            "schema": {"type": "string", "format": "binary"},
            "examples": {
                "stream": {
                    "summary": "An Arrow IPC stream, columns named after the tensors, scored as it arrives",
                    "description": "A column of numbers or bools has an element a row; one of fixed-size "
                    "lists has as many as a list. Record batches are limited, their number is not.",
                    "value": "(the bytes of the stream)",
                }
            },
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["targets"],
                "properties": {
                    **files,
                    "params": {
                        "type": "string",
                        "description": "Parameters, as a JSON object. Any of them may be a part of text of "
                        "its own instead, which says what it does in a query: `-F gamma=2`.",
                        "default": "{}",
                    },
                },
            },
            "examples": {
                "files": {
                    "summary": "Two .npy files",
                    "description": f"`curl -F logits=@x.npy -F targets=@y.npy localhost:8000/{loss.name}`",
                    "value": {"logits": "(x.npy)", "targets": "(y.npy)", "params": '{"reduction": "sum"}'},
                }
            },
        },
    }


def _answer(loss: Loss) -> Document:
    figures = {
        "Lossd-Sum": "The weighted element losses of the whole request, summed.",
        "Lossd-Count": "The elements of the whole request.",
        "Lossd-Weight-Sum": "Their weights, summed.",
        "Lossd-Positives": "Their targets, summed.",
        "Lossd-Sum-Terms": "Numbers, separated by commas, that add up to the sum exactly.",
        "Lossd-Weight-Sum-Terms": "Numbers that add up to the sum of the weights exactly.",
        "Lossd-Positives-Terms": "Numbers that add up to the sum of the targets exactly.",
        "Lossd-Params": "Reduction and parameters, as a JSON object; of longer lists the length and SHA-256.",
        "Lossd-Kernel": "What computed the elements.",
        "Lossd-Version": "The server's version.",
        "Lossd-Notes": "What to know of the answer, as a JSON list of sentences; absent where there is none.",
    }
    npy_only = "With application/x-npy: "
    terms = _TERMS.get(loss.name, [0.0])
    return {
        "description": "The loss.",
        "headers": {
            **_answer_headers(),
            **{
                name: {"description": npy_only + text, "schema": {"type": "string"}}
                for name, text in figures.items()
            },
        },
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/LossAnswer"},
                "examples": {
                    "mean": {
                        "summary": "The mean over all elements",
                        "value": {
                            "loss": terms[0] / 6.0,
                            "reduction": "mean",
                            "sum": terms[0],
                            "count": 6,
                            "weight_sum": 6.0,
                            "positives": 3.5,
                            "shape": [2, 3],
                            "loss_name": loss.name,
                            "params": {parameter.name: parameter.default for parameter in loss.parameters},
                            "sum_terms": terms,
                            "weight_sum_terms": [6.0],
                            "positives_terms": [3.5],
                            "options": options_of(
                                {parameter.name: parameter.default for parameter in SHARED}
                            ),
                            "notes": [],
                            "kernel": "native",
                            "device": "cpu",
                            "request_id": "5f0c2f5e3b7d4d0f9f3f9be1a6a4c1d2",
                            "version": __version__,
                        },
                    }
                },
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
            "description": "Milliseconds of reading the body (`read`), waiting (`queue`) and computing "
            "(`compute`).",
            "schema": {"type": "string"},
        },
        "RateLimit-Policy": {
            "description": "The rates of the team, if it has any: how much in how many seconds.",
            "schema": {"type": "string"},
        },
        "RateLimit": {
            "description": "What is left of them, and in how many seconds all of it will be there again.",
            "schema": {"type": "string"},
        },
    }


def _problems() -> Document:
    """The problems that a loss can answer with, by status."""
    by_status: dict[int, list[ErrorCode]] = {}
    for code, kind in KINDS.items():
        if code not in (ErrorCode.NOT_FOUND, ErrorCode.METHOD_NOT_ALLOWED):
            by_status.setdefault(kind.status, []).append(code)
    return {str(status): problem_response(codes) for status, codes in sorted(by_status.items())}


def problem_response(codes: list[ErrorCode]) -> Document:
    """What the document says of a response with one of several problems, which are of one status."""
    response: Document = {
        "description": "; ".join(f"`{code}`: {KINDS[code].title}" for code in codes),
        "headers": _answer_headers(),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {code: {"summary": KINDS[code].title, "value": _example(code)} for code in codes},
            }
        },
    }
    if any(KINDS[code].retry_after is not None for code in codes):
        response["headers"]["Retry-After"] = {
            "description": "Seconds after which to try again.",
            "schema": {"type": "integer"},
        }
    return response


def _example(code: ErrorCode) -> Document:
    kind = KINDS[code]
    detail, pointer = _PROBLEMS[code]
    document: Document = {
        "type": f"urn:lossd:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
        "request_id": "5f0c2f5e3b7d4d0f9f3f9be1a6a4c1d2",
        "retryable": kind.retryable,
    }
    if pointer is not None:
        document["errors"] = [{"pointer": pointer, "detail": detail}]
    return document
