"""The Open Inference Protocol, version 2, under ``/v2``: every loss is a model with one version, 1.

An inference is scored like any other body, to the same bits. The protocol differs in this: Content-Type and
Accept are ignored, since its clients send arbitrary ones; an error is ``{"error": ...}``, with its code in
the header ``Lossd-Code``; an answer may be compressed.

The caller's deadline is the earlier of X-Timeout-Ms and the parameter ``timeout``, in microseconds. Both run
from the request's headers, but the parameter is known only once the JSON object has arrived.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, Literal, TypeAlias

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from lossd import __version__
from lossd.api.auth import require_team
from lossd.api.http.request import arrival, joined_header
from lossd.api.problems import Problem, problem
from lossd.api.routes.schemas import InferenceError, InferenceReadiness, RepositoryModel
from lossd.api.scoring.body import read_timeout, whole_body_limit
from lossd.api.scoring.exchange import Exchange
from lossd.api.scoring.negotiation import Coding, choose_coding
from lossd.api.scoring.request_spec import LossSpec
from lossd.api.scoring.whole_body import Answer, WholeBody
from lossd.api.services import Service
from lossd.core.catalog import LOSSES, Loss
from lossd.core.parameters import check_params
from lossd.core.report.parameters import report_parameters
from lossd.requests.loss_checks import BOX
from lossd.teams import conceal_keys
from lossd.types import ErrorCode, RequestError
from lossd.wire import (
    MODEL_VERSION,
    InferenceReader,
    ModelInput,
    inference_arena_bytes,
    join_pieces,
    make_decoder,
    model_config,
    model_metadata,
    model_stats,
    parse_query,
    read_index_request,
    server_metadata,
    write_inference,
    write_report,
)

PREFIX: Final = "/v2"
"""Path prefix of the protocol's routes."""
TAG: Final = "Open Inference Protocol"
"""Tag of the protocol's routes in the OpenAPI document."""

_CHUNK_BYTES: Final = 1 << 20
_SAMPLE_BYTES: Final = 1 << 12  # the beginning of an answer shows whether it compresses well
_SHORT_BYTES: Final = 1 << 11  # a shorter answer fits two packets without compression
_WORTH: Final = 0.8  # compress if at most this share of the bytes is left
_CODED_BYTES: Final = 1 << 16  # take a millisecond or two to compress
_LEVEL: Final = 1  # the fastest; a higher level hardly shortens numbers
_WINDOW_BITS: Final[dict[Coding, int]] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

_MOST_INDEX_BYTES: Final = 1 << 10
"""Limit on the body of a request for the list of models, whose only field is ``ready``."""
_INDEX: Final[dict[str, Any]] = {
    "requestBody": {
        "description": "With `ready`, list only models that are ready now.",
        "required": False,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"ready": {"type": ["boolean", "null"]}}},
                "examples": {"ready": {"summary": "Only models that are ready", "value": {"ready": True}}},
            }
        },
    }
}
_NO_INDEX: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": InferenceError, "description": description}
    for status, description in (
        (400, "The body is not a JSON object."),
        (413, "The body is too long."),
        (422, "The body has unknown fields."),
    )
}

_NOT_READY: Final[dict[int | str, dict[str, object]]] = {
    503: {"model": InferenceReadiness, "description": "Not every worker is ready."}
}

Document: TypeAlias = dict[str, object]


class InferenceEndpoint:
    """ASGI endpoint of one loss's inferences."""

    def __init__(self, loss: Loss, service: Service) -> None:
        self._loss = loss
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as an ASGI app."""
        exchange = Exchange(
            scope=scope,
            receive=receive,
            send=send,
            service=self._service,
            loss=self._loss.name,
            began=arrival(scope),
            format="v2",
        )
        await exchange.serve(self._answer, inference_problem)

    async def _answer(self, exchange: Exchange) -> None:
        settings = self._service.settings
        decoder = make_decoder(exchange.header(b"content-encoding"))
        header_length = _read_header_length(exchange)
        query = parse_query(exchange.scope["query_string"])
        check_params(self._loss, query)
        exchange.set_timeout(read_timeout(exchange.header(b"x-timeout-ms")))
        limit = settings.max_json_bytes if header_length is None else settings.max_body_bytes
        size = whole_body_limit(exchange.content_length, limit, decoder, settings)
        exchange.admit_body(size.nbytes, certain=size.is_content_length)
        reader = InferenceReader(header_length=header_length, max_json_bytes=settings.max_json_bytes)

        def spec() -> LossSpec:
            if reader.timeout_us is not None:
                exchange.set_timeout(1e-6 * reader.timeout_us)
            in_text = any(output.name == "loss" and not output.binary for output in reader.outputs)
            hint = "ask for the loss as binary data" if in_text else None
            params = {"report": "totals", **query} if reader.needs_report else query
            return LossSpec(self._loss, params, hint)

        scoring = WholeBody(
            exchange,
            spec,
            reader,
            decoder,
            size,
            inference_arena_bytes(size.nbytes, header_length),
            json_bytes=size.nbytes if header_length is None else header_length,
        )
        answer = await scoring.score()
        try:
            exchange.count_answer(self._service.metrics, answer.result, answer.timings)
            await self._send(exchange, answer, reader)
        finally:
            answer.release()

    async def _send(self, exchange: Exchange, answer: Answer, reader: InferenceReader) -> None:
        written = write_inference(
            answer.result,
            model=self._loss.name,
            request_id=reader.request_id,
            outputs=reader.outputs,
            report=await _written_report(exchange, answer),
        )
        if not written.binary:
            headers = [answer.timing_header, (b"content-type", b"application/json")]
            await _send_body(exchange, headers, written.text, None)
            return
        text = bytearray()
        for chunk in written.text:  # the header below gives its length
            text += chunk
            await asyncio.sleep(0)
        headers = [
            answer.timing_header,
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % len(text)),
        ]
        length = len(text) + sum(array.nbytes for array in written.binary)
        chunks = chain((bytes(text),), *map(_copies, written.binary))
        await _send_body(exchange, headers, chunks, length)


async def _written_report(exchange: Exchange, answer: Answer) -> str | None:
    """Return the document of a report, whose length is sent before it; None if there is no report."""
    if answer.result.report is None:
        return None
    text = bytearray()
    for chunk in join_pieces(
        write_report(answer.result, request_id=exchange.request_id, version=__version__)
    ):
        text += chunk
        await asyncio.sleep(0)
    return text.decode()


def model_paths(loss: Loss) -> tuple[str, str]:
    """Return the paths of a loss's model, without and with its version."""
    path = f"{PREFIX}/models/{loss.name}"
    return path, f"{path}/versions/{MODEL_VERSION}"


def model_id(path: str) -> str:
    """Return a model's part of the ids of its operations, such as ``bce_version_1``."""
    return path.removeprefix(f"{PREFIX}/models/").replace("/versions/", "_version_")


def infer_endpoints(service: Service) -> dict[str, InferenceEndpoint]:
    """Return the inference endpoints by path."""
    return {
        f"{path}/infer": InferenceEndpoint(loss, service)
        for loss in LOSSES.values()
        for path in model_paths(loss)
    }


def model_routes(service: Service) -> APIRouter:
    """Return the routes that describe the server and its models."""
    router, keyed = APIRouter(tags=[TAG]), APIRouter(dependencies=[Depends(require_team)])

    @keyed.get(PREFIX, operation_id="server_metadata", summary="Server metadata")
    async def server() -> Document:
        return server_metadata(__version__)

    @router.get(f"{PREFIX}/health/live", operation_id="server_live", summary="Server liveness")
    async def live() -> Document:
        return {"live": True}

    @router.get(
        f"{PREFIX}/health/ready",
        operation_id="server_ready",
        summary="Server readiness",
        response_model=InferenceReadiness,
        responses=_NOT_READY,
    )
    async def ready() -> JSONResponse:
        return _readiness(service)

    @keyed.get(f"{PREFIX}/models/stats", operation_id="statistics", summary="Statistics of all models")
    async def stats() -> Document:
        return model_stats(map(service.metrics.figures, LOSSES))

    @keyed.post(
        f"{PREFIX}/repository/index",
        operation_id="repository_index",
        summary="List of models",
        openapi_extra=_INDEX,
        responses=_NO_INDEX,
    )
    async def index(request: Request) -> list[RepositoryModel]:
        return await _list_models(request, service)

    for loss in LOSSES.values():
        for path in model_paths(loss):
            _add_model(keyed, path, loss, service)
    router.include_router(keyed)
    return router


async def _list_models(request: Request, service: Service) -> list[RepositoryModel]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_INDEX_BYTES:
            detail = f"the body has more than {_MOST_INDEX_BYTES} bytes; send none, or {{}}"
            raise RequestError(ErrorCode.BODY_TOO_LARGE, detail)
    reason = "no worker is ready" if service.unready else ""
    if read_index_request(bytes(body)) and reason:
        return []
    state: Literal["READY", "UNAVAILABLE"] = "UNAVAILABLE" if reason else "READY"
    return [RepositoryModel(name=name, version=MODEL_VERSION, state=state, reason=reason) for name in LOSSES]


def _model_inputs(loss: Loss) -> list[ModelInput]:
    """Return a model's inputs with their usual datatypes and shapes."""
    each = (-1,) if loss.row else (-1, -1)  # with a number for each loss
    inputs = (-1, BOX) if loss.row == "box" else (-1, -1)
    shapes = {
        "weight": each,
        "mask": each,
        "pos_weight": (-1,),
        "class_weight": (-1,),
        "groups": (-1,),
        "ids": (-1,),
    }
    datatypes = {"mask": "BOOL", "groups": "INT64", "ids": "INT64"}
    if loss.row == "classes":
        shapes["targets"], datatypes["targets"] = (-1,), "INT64"
    needed = {"targets"} if len(loss.inputs) > 1 else {*loss.inputs, "targets"}
    return [
        ModelInput(name, datatypes.get(name, "FP32"), shapes.get(name, inputs), optional=name not in needed)
        for name in loss.tensors
    ]


def _add_model(router: APIRouter, path: str, loss: Loss, service: Service) -> None:
    """Add the routes that describe one model."""
    defaults = {parameter.name: parameter.default for parameter in loss.all_parameters}
    defaults |= dict.fromkeys(one.name for one in report_parameters(loss))  # there is none by default

    model, inputs = model_id(path), _model_inputs(loss)

    @router.get(path, operation_id=f"metadata_{model}", summary="Model metadata")
    async def metadata() -> Document:
        return model_metadata(loss.name, inputs)

    @router.get(
        f"{path}/ready",
        operation_id=f"ready_{model}",
        summary="Model readiness",
        response_model=InferenceReadiness,
        responses=_NOT_READY,
    )
    async def ready() -> JSONResponse:
        return _readiness(service)

    @router.get(f"{path}/config", operation_id=f"config_{model}", summary="Model configuration")
    async def config() -> Document:
        return model_config(loss.name, inputs, defaults)

    @router.get(f"{path}/stats", operation_id=f"statistics_{model}", summary="Model statistics")
    async def stats() -> Document:
        return model_stats([service.metrics.figures(loss.name)])


def _readiness(service: Service) -> JSONResponse:
    ready = not service.unready
    return JSONResponse({"ready": ready}, 200 if ready else 503)


def inference_problem(
    error: RequestError, request_id: str, *, retryable: bool | None = None, close: bool = False
) -> Problem:
    """Write an error as this protocol has it; the arguments are those of `lossd.api.problems.problem`."""
    plain = problem(error, request_id, retryable=retryable, close=close)
    body = json.dumps({"error": conceal_keys(error.detail)}).encode("ascii")
    others = [(name, value) for name, value in plain.headers if not name.startswith(b"content-")]
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"lossd-code", error.code.encode()),
        *others,
    ]
    return Problem(plain.status, headers, body)


def is_inference(scope: Scope) -> bool:
    """Return whether a request's path is under this protocol's prefix."""
    path: str = scope["path"]
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def _read_header_length(exchange: Exchange) -> int | None:
    """Return the length in bytes of the JSON object; None if it is the whole body.

    Raises:
        RequestError: ``bad_request``.
    """
    given = joined_header(exchange.scope, b"inference-header-content-length")
    if given is None:
        return None
    name, text = "Inference-Header-Content-Length", given[:50].decode("latin-1")
    if not (given.isdigit() and len(given) <= 15):
        detail = f"{name} is {text!r}; send the number of bytes of the JSON object, or leave it out"
        raise RequestError(ErrorCode.BAD_REQUEST, detail)
    length, body_length = int(given), exchange.content_length
    if body_length is not None and length > body_length and exchange.header(b"content-encoding") is None:
        detail = f"{name} is {text}, but the body has {body_length} bytes; send how many of them are JSON"
        raise RequestError(ErrorCode.BAD_REQUEST, detail)
    return length


def _copies(array: memoryview) -> Iterator[bytes]:
    """Yield copies of an array's bytes, so that its memory may be released before they are sent."""
    for start in range(0, array.nbytes, _CHUNK_BYTES):
        yield bytes(array[start : start + _CHUNK_BYTES])


async def _send_body(
    exchange: Exchange,
    headers: list[tuple[bytes, bytes]],
    chunks: Iterator[bytes],
    length: int | None,
) -> None:
    """Send an answer, compressed if the caller accepts that and the answer compresses well.

    Args:
        exchange: The exchange of the request.
        headers: The headers, without the body's coding and length.
        chunks: The body.
        length: The body's length in bytes, if it is known.
    """
    beginning = bytearray()
    for chunk in chunks:
        beginning += chunk
        if len(beginning) >= _SAMPLE_BYTES:
            break
    else:
        length = len(beginning)
    body: Iterator[bytes] = chain((bytes(beginning),), chunks)
    coding = choose_coding(exchange.header(b"accept-encoding"))
    if coding is not None and _compresses_well(beginning):
        headers.append((b"content-encoding", coding.encode()))
        body = _compress(body, coding)
    elif length is not None:
        headers.append((b"content-length", b"%d" % length))
    await exchange.send_answer(headers, body)


def _compresses_well(beginning: bytearray) -> bool:
    """Return whether an answer that begins like this compresses well."""
    sample = beginning[:_SAMPLE_BYTES]
    return len(sample) >= _SHORT_BYTES and len(zlib.compress(sample, _LEVEL)) < _WORTH * len(sample)


def _compress(chunks: Iterable[bytes], coding: Coding) -> Iterator[bytes]:
    stream = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[coding])
    for chunk in chunks:
        for start in range(0, len(chunk), _CODED_BYTES):
            yield stream.compress(chunk[start : start + _CODED_BYTES])
    yield stream.flush()
