"""The Open Inference Protocol, version 2, under ``/v2``: every loss is a model, of the one version 1.

An inference is scored as any other body is, and gives the same bits. What is this protocol's own: neither
Content-Type nor Accept matters, as its clients send neither or anything; an error is ``{"error": ...}``, its
code in the header ``Lossd-Code``; and an answer may come compressed.

The caller's deadline is the sooner one of X-Timeout-Ms and the parameter ``timeout``, in microseconds. Both
run from the request's headers on, but the parameter is known only when the JSON object that holds it has
come.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, TypeAlias

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from lossd import __version__
from lossd.api.auth import asking_team
from lossd.api.http.request_context import joined_header
from lossd.api.problems import Problem, problem
from lossd.api.routes.schemas import InferenceError, InferenceReadiness, RepositoryModel
from lossd.api.scoring.body import read_timeout
from lossd.api.scoring.body_limits import room_of
from lossd.api.scoring.exchange import Exchange
from lossd.api.scoring.negotiation import Coding, choose_coding
from lossd.api.scoring.traced import serve
from lossd.api.scoring.whole_body import BodyScoring, Outcome, Task
from lossd.api.services import Service
from lossd.core.catalog import LOSSES, SHARED, Loss
from lossd.core.parameters import check_params
from lossd.teams import conceal_keys
from lossd.types import ErrorCode, RequestError
from lossd.wire import (
    MODEL_VERSION,
    InferenceReader,
    inference_arena_bytes,
    make_decoder,
    model_config,
    model_metadata,
    model_stats,
    parse_query,
    read_index_request,
    server_metadata,
    write_inference,
)

PREFIX: Final = "/v2"
"""What the path of every route of the protocol begins with."""
TAG: Final = "Open Inference Protocol"
"""What its routes are listed under."""

_PIECE_BYTES: Final = 1 << 20
_SAMPLE_BYTES: Final = 1 << 12  # so much of an answer shows whether compressing it is worth the time
_SHORT_BYTES: Final = 1 << 11  # an answer below that fits two packets as it is
_WORTH: Final = 0.8  # of the bytes, at most, are to be left
_CODED_BYTES: Final = 1 << 16  # which take a millisecond or two to compress
_LEVEL: Final = 1  # the fastest; numbers hardly get shorter by more effort
_WINDOW_BITS: Final[dict[Coding, int]] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

_MOST_ASKED_BYTES: Final = 1 << 10
"""Bytes of a request for the list of models, of which one is known: ready."""
_INDEX: Final[dict[str, Any]] = {
    "requestBody": {
        "description": "Which of them: with `ready`, those alone that can be asked now.",
        "required": False,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"ready": {"type": ["boolean", "null"]}}},
                "examples": {"ready": {"summary": "Those that are ready", "value": {"ready": True}}},
            }
        },
    }
}
_NO_INDEX: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": InferenceError, "description": description}
    for status, description in (
        (400, "The body is no JSON object."),
        (413, "The body is too long."),
        (422, "There is something else in it."),
    )
}

_NOT_READY: Final[dict[int | str, dict[str, object]]] = {
    503: {"model": InferenceReadiness, "description": "Not every worker is ready."}
}

Document: TypeAlias = dict[str, object]


class InferenceEndpoint:
    """The ASGI endpoint of one loss's inferences."""

    def __init__(self, loss: Loss, service: Service) -> None:
        self._loss = loss
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        exchange = Exchange(
            scope=scope,
            receive=receive,
            send=send,
            loss=self._loss.name,
            began=time.monotonic(),
            gate=self._service.gate,
            format="v2",
        )
        await serve(exchange, self._answer, inference_problem, self._service)

    async def _answer(self, exchange: Exchange) -> None:
        settings = self._service.settings
        decoder = make_decoder(exchange.header(b"content-encoding"))
        header_length = _read_header_length(exchange)
        query = parse_query(exchange.scope["query_string"])
        check_params(self._loss, query)
        exchange.set_timeout(read_timeout(exchange.header(b"x-timeout-ms")))
        limit = settings.max_json_bytes if header_length is None else settings.max_body_bytes
        room = room_of(exchange.declared, limit, decoder, settings)
        exchange.enter(room.nbytes, certain=room.as_declared)
        reader = InferenceReader(header_length=header_length, max_json_bytes=settings.max_json_bytes)

        def task() -> Task:
            if reader.timeout_us is not None:
                exchange.set_timeout(1e-6 * reader.timeout_us)
            in_text = any(output.name == "loss" and not output.binary for output in reader.outputs)
            return Task(self._loss, query, "ask for the loss as binary data" if in_text else None)

        scoring = BodyScoring(
            self._service,
            exchange,
            task,
            reader,
            decoder,
            room,
            inference_arena_bytes(room.nbytes, header_length),
            json_bytes=room.nbytes if header_length is None else header_length,
        )
        outcome = await scoring.score()
        try:
            exchange.count_answer(self._service.metrics, outcome.result, outcome.seconds)
            await self._send(exchange, outcome, reader)
        finally:
            outcome.release()

    async def _send(self, exchange: Exchange, outcome: Outcome, reader: InferenceReader) -> None:
        answer = write_inference(
            outcome.result, model=self._loss.name, request_id=reader.request_id, outputs=reader.outputs
        )
        if not answer.binary:
            headers = [outcome.timing, (b"content-type", b"application/json")]
            await _send_body(exchange, headers, answer.text, None)
            return
        text = bytearray()
        for piece in answer.text:  # of which all is needed, to say how long it is
            text += piece
            await asyncio.sleep(0)
        headers = [
            outcome.timing,
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % len(text)),
        ]
        length = len(text) + sum(array.nbytes for array in answer.binary)
        pieces = chain((bytes(text),), *map(_copies, answer.binary))
        await _send_body(exchange, headers, pieces, length)


def model_paths(loss: Loss) -> tuple[str, str]:
    """Where a loss's model is: by its name alone, and by its version too."""
    path = f"{PREFIX}/models/{loss.name}"
    return path, f"{path}/versions/{MODEL_VERSION}"


def infer_endpoints(service: Service) -> dict[str, InferenceEndpoint]:
    """The endpoints of the inferences, by path."""
    return {
        f"{path}/infer": InferenceEndpoint(loss, service)
        for loss in LOSSES.values()
        for path in model_paths(loss)
    }


def model_routes(service: Service) -> APIRouter:
    """The routes by which the server and its models describe themselves."""
    router, keyed = APIRouter(tags=[TAG]), APIRouter(tags=[TAG], dependencies=[Depends(asking_team)])

    @keyed.get(PREFIX, summary="What is it?")
    async def server() -> Document:
        return server_metadata(__version__)

    @router.get(f"{PREFIX}/health/live", summary="Is the server there?")
    async def live() -> Document:
        return {"live": True}

    @router.get(
        f"{PREFIX}/health/ready",
        summary="Can it compute?",
        response_model=InferenceReadiness,
        responses=_NOT_READY,
    )
    async def ready() -> JSONResponse:
        return _readiness(service)

    @keyed.get(f"{PREFIX}/models/stats", summary="What have all the models done?")
    async def stats() -> Document:
        return model_stats(map(service.metrics.figures, LOSSES))

    @keyed.post(
        f"{PREFIX}/repository/index",
        summary="Which models are there?",
        openapi_extra=_INDEX,
        responses=_NO_INDEX,
    )
    async def index(request: Request) -> list[RepositoryModel]:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_ASKED_BYTES:
                detail = f"the body has more than {_MOST_ASKED_BYTES} bytes; send none, or {{}}"
                raise RequestError(ErrorCode.BODY_TOO_LARGE, detail)
        if read_index_request(bytes(body)) and not service.ready:
            return []
        reason = "" if service.ready else "no worker is ready"
        return [
            RepositoryModel(
                name=name,
                version=MODEL_VERSION,
                state="UNAVAILABLE" if reason else "READY",
                reason=reason,
            )
            for name in LOSSES
        ]

    for loss in LOSSES.values():
        for path in model_paths(loss):
            _add_model(keyed, path, loss, service)
    router.include_router(keyed)
    return router


def _add_model(router: APIRouter, path: str, loss: Loss, service: Service) -> None:
    """Add what is told of one model."""
    defaults = {parameter.name: parameter.default for parameter in (*SHARED, *loss.parameters)}

    @router.get(path, summary="What does it take, and give?")
    async def metadata() -> Document:
        return model_metadata(loss.name)

    @router.get(
        f"{path}/ready", summary="Can it compute?", response_model=InferenceReadiness, responses=_NOT_READY
    )
    async def ready() -> JSONResponse:
        return _readiness(service)

    @router.get(f"{path}/config", summary="How is it set up?")
    async def config() -> Document:
        return model_config(loss.name, defaults)

    @router.get(f"{path}/stats", summary="What has it done?")
    async def stats() -> Document:
        return model_stats([service.metrics.figures(loss.name)])


def _readiness(service: Service) -> JSONResponse:
    ready = service.ready
    return JSONResponse({"ready": ready}, 200 if ready else 503)


def inference_problem(
    fault: RequestError, request_id: str, *, retryable: bool | None = None, close: bool = False
) -> Problem:
    """A fault as this protocol's clients expect it; the arguments are `lossd.api.problems.problem`'s."""
    like = problem(fault, request_id, retryable=retryable, close=close)
    body = json.dumps({"error": conceal_keys(fault.detail)}).encode("ascii")
    others = [(name, value) for name, value in like.headers if not name.startswith(b"content-")]
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"lossd-code", fault.code.encode()),
        *others,
    ]
    return Problem(like.status, headers, body)


def is_inference(scope: Scope) -> bool:
    """Whether a request is for a path of this protocol, be there such a route or not."""
    path: str = scope["path"]
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def _read_header_length(exchange: Exchange) -> int | None:
    """How many bytes of the body are the JSON object; None where all are.

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
    length, declared = int(given), exchange.declared
    if declared is not None and length > declared and exchange.header(b"content-encoding") is None:
        detail = f"{name} is {text}, but the body has {declared} bytes; send how many of them are JSON"
        raise RequestError(ErrorCode.BAD_REQUEST, detail)
    return length


def _copies(array: memoryview) -> Iterator[bytes]:
    """An array's bytes in pieces, which outlive the memory that it lies in."""
    for start in range(0, array.nbytes, _PIECE_BYTES):
        yield bytes(array[start : start + _PIECE_BYTES])


async def _send_body(
    exchange: Exchange,
    headers: list[tuple[bytes, bytes]],
    pieces: Iterator[bytes],
    length: int | None,
) -> None:
    """Send an answer, compressed if the caller wants that and it is worth it.

    Args:
        exchange: The request.
        headers: But for those that the body's form and length need.
        pieces: The body.
        length: Its length in bytes; None where that is not known yet.
    """
    begin = bytearray()
    for piece in pieces:
        begin += piece
        if len(begin) >= _SAMPLE_BYTES:
            break
    else:
        length = len(begin)
    body: Iterator[bytes] = chain((bytes(begin),), pieces)
    coding = choose_coding(exchange.header(b"accept-encoding"))
    if coding is not None and _is_worth_coding(begin):
        headers.append((b"content-encoding", coding.encode()))
        body = _compress(body, coding)
    elif length is not None:
        headers.append((b"content-length", b"%d" % length))
    await exchange.send_answer(headers, body)


def _is_worth_coding(begin: bytearray) -> bool:
    """Whether an answer that begins like this gets notably shorter."""
    sample = begin[:_SAMPLE_BYTES]
    return len(sample) >= _SHORT_BYTES and len(zlib.compress(sample, _LEVEL)) < _WORTH * len(sample)


def _compress(pieces: Iterable[bytes], coding: Coding) -> Iterator[bytes]:
    stream = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[coding])
    for piece in pieces:
        for start in range(0, len(piece), _CODED_BYTES):
            yield stream.compress(piece[start : start + _CODED_BYTES])
    yield stream.flush()
