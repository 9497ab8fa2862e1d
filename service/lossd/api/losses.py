"""``POST /bce``, ``POST /focal`` and every other loss: body in, loss out.

These are plain ASGI endpoints: the body's chunks go from the server's protocol into the arena, and nowhere
else. docs/api.md says in which order a request is checked; the methods here follow it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from lossd import __version__
from lossd.api.context import header, joined_header, request_id
from lossd.api.intake import assemble
from lossd.api.negotiation import AnswerForm, choose_answer, parse_media_type
from lossd.api.problems import problem
from lossd.api.service import Service
from lossd.core.catalog import Loss, check_params
from lossd.core.grid import Grid
from lossd.engine.arena import Region
from lossd.engine.job import output_bytes
from lossd.request import Body, Fault, LossRequest, LossResult
from lossd.wire import FORMATS, Format, Reader, merge_params, parse_query, write_json, write_npy_header

_PARAMETER_ROOM: Final = 1 << 16  # for a pos_weight that is given as a parameter
_THREAD_BYTES: Final = 1 << 16  # a JSON body over this is parsed beside the event loop
_DISCARD_BYTES: Final = 1 << 20
_DISCARD_SECONDS: Final = 1.0
_ANSWER_CHUNK: Final = 1 << 20
_JSON_BYTES_PER_NUMBER: Final = 24  # "-1.7976931348623157e+308" is the longest that there is


@dataclass(slots=True)
class _Exchange:
    """One request on its way."""

    scope: Scope
    receive: Receive
    send: Send
    began: float
    format: Format | None = None
    body_read: bool = False
    read_seconds: float = 0.0


class LossEndpoint:
    """The ASGI endpoint of one loss."""

    def __init__(self, loss: Loss, service: Service) -> None:
        self._loss = loss
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        exchange = _Exchange(scope, receive, send, began=time.monotonic())
        metrics = self._service.metrics
        metrics.began()
        try:
            await self._answer(exchange)
        except Fault as fault:
            metrics.refused(self._loss.name, _label(exchange), fault.code)
            await self._refuse(exchange, fault)
        except ClientDisconnect:
            metrics.refused(self._loss.name, _label(exchange), "disconnected")
        except asyncio.CancelledError:  # the time for draining is up, and this task is about to end anyway
            metrics.refused(self._loss.name, _label(exchange), "draining")
            detail = "the server was stopped before this was done; send it to another, or again later"
            await self._refuse(exchange, Fault("draining", detail))
        except Exception:
            metrics.refused(self._loss.name, _label(exchange), "internal_error")
            raise
        finally:
            metrics.ended()

    async def _answer(self, exchange: _Exchange) -> None:
        scope = exchange.scope
        exchange.format, options = _choose_format(scope)
        accept = joined_header(scope, b"accept")
        form = choose_answer(None if accept is None else accept.decode("latin-1"))
        query = parse_query(scope["query_string"])
        names = _tensor_names(query, exchange.format)
        check_params(self._loss, query)
        allowed = _timeout(scope)
        length = self._length(exchange)
        reader = exchange.format.reader(options=options, names=names)

        deadline = None if allowed is None else exchange.began + allowed
        patience = self._service.settings.timeout_seconds
        region = await self._service.bodies.reserve(
            exchange.format.arena_bytes(length) + _PARAMETER_ROOM, _left(deadline, patience)
        )
        try:
            received, body = await self._receive(exchange, reader, region, length, deadline)
            params = merge_params(query, body.params)
            block = self._service.pool.block_elements
            request, grid = assemble(self._loss, body, received, region, params, block)
            output = await self._reserve_output(request, grid, form, _left(deadline, patience))
        except BaseException:
            region.release()
            raise
        deadline = time.monotonic() + patience if deadline is None else deadline
        await self._score(exchange, request, grid, region, output, deadline, form)

    def _length(self, exchange: _Exchange) -> int:
        """The body's length, or the most it may have where it does not say.

        Raises:
            Fault: ``body_too_large``.
        """
        assert exchange.format is not None
        settings = self._service.settings
        limit = settings.max_json_bytes if exchange.format.name == "json" else settings.max_body_bytes
        declared = header(exchange.scope, b"content-length")
        if declared is None:
            return min(limit, settings.max_chunked_bytes)
        length = int(declared)  # digits only: the protocol has seen to that
        if length > limit:
            detail = f"the body has {length} bytes, at most {limit} are taken; send it in several requests"
            raise Fault("body_too_large", detail)
        return length

    async def _receive(
        self, exchange: _Exchange, reader: Reader, region: Region, limit: int, deadline: float | None
    ) -> tuple[int, Body]:
        """Receive the body into the arena; its length, and what it held."""
        view = region.view
        received = 0
        try:
            async with asyncio.timeout(None if deadline is None else _left(deadline, math.inf)):
                more = True
                while more:
                    message = await exchange.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk = message.get("body", b"")
                    more = message.get("more_body", False)
                    if received + len(chunk) > limit:
                        detail = (
                            f"a body without Content-Length may have {limit} bytes; say how long it is, or "
                            "send less"
                        )
                        raise Fault("body_too_large", detail)
                    for piece in reader.feed(chunk):
                        view[received : received + len(piece)] = piece
                        received += len(piece)
        except TimeoutError:
            detail = f"the deadline passed when {received} bytes of the body had come; allow more time"
            raise Fault("deadline_exceeded", detail) from None
        exchange.body_read = True
        exchange.read_seconds = time.monotonic() - exchange.began
        assert exchange.format is not None
        if exchange.format.name == "json" and received > _THREAD_BYTES:
            return received, await asyncio.to_thread(reader.finish, view[:received])
        return received, reader.finish(view[:received])

    async def _reserve_output(
        self, request: LossRequest, grid: Grid, form: AnswerForm, seconds: float
    ) -> Region | None:
        """Memory for an array answer; None where the answer is one number.

        Raises:
            Fault: ``output_too_large``.
        """
        if len(grid.axes) == len(grid.shape):
            return None
        settings = self._service.settings
        written = grid.outputs * (_JSON_BYTES_PER_NUMBER if form.format == "json" else 8)
        if written > settings.max_output_bytes:
            remedy = "reduce over more axes, or send less"
            if form.format == "json":
                remedy = "accept application/x-npy, " + remedy
            detail = (
                f"the answer's {grid.outputs} numbers may take {written} bytes, at most "
                f"{settings.max_output_bytes} are sent; {remedy}"
            )
            raise Fault("output_too_large", detail)
        nbytes = output_bytes(request, grid, self._service.pool.slice_elements)
        return await self._service.outputs.reserve(nbytes, seconds)

    async def _score(
        self,
        exchange: _Exchange,
        request: LossRequest,
        grid: Grid,
        region: Region,
        output: Region | None,
        deadline: float,
        form: AnswerForm,
    ) -> None:
        submitted = time.monotonic()
        result, compute = await self._service.pool.score(request, grid, region, output, deadline)
        try:
            now = time.monotonic()
            seconds = (exchange.read_seconds, max(0.0, now - submitted - compute), compute)
            assert exchange.format is not None
            self._service.metrics.answered(
                self._loss.name,
                exchange.format.name,
                result.count,
                result.device,
                (*seconds, now - exchange.began),
            )
            await _send_result(exchange, result, form, seconds)
        finally:
            if output is not None:
                output.release()

    async def _refuse(self, exchange: _Exchange, fault: Fault) -> None:
        """Answer with a problem, then read away a little of what the caller is still sending.

        Closing with unread bytes makes the kernel reset the connection, and the caller may never see why.
        """
        own_deadline = fault.code == "deadline_exceeded" and header(exchange.scope, b"x-timeout-ms") is None
        unread = not exchange.body_read and _has_body(exchange.scope)
        answer = problem(
            fault, request_id(exchange.scope), retryable=True if own_deadline else None, close=unread
        )
        await exchange.send(
            {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        )
        await exchange.send({"type": "http.response.body", "body": answer.body, "more_body": unread})
        if unread:
            await _discard(exchange.receive)
            await exchange.send({"type": "http.response.body", "body": b""})


def _left(deadline: float | None, patience: float) -> float:
    """Seconds to wait at most: until the deadline, by time.monotonic(), and no longer than ``patience``."""
    return patience if deadline is None else min(patience, max(0.0, deadline - time.monotonic()))


def _choose_format(scope: Scope) -> tuple[Format, Mapping[str, str]]:
    """The format of the body, and its media type's options.

    Raises:
        Fault: ``unsupported_media_type`` or ``unsupported_encoding``.
    """
    given = _text(scope, b"content-type")
    media = parse_media_type(given) if given is not None else None
    if media is None or media.name not in FORMATS:
        shown = "no Content-Type" if given is None else f"Content-Type {given[:100]!r}"
        raise Fault("unsupported_media_type", f"the request has {shown}; send {', '.join(FORMATS)}")
    encoding = _text(scope, b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise Fault("unsupported_encoding", f"Content-Encoding {encoding[:100]!r} is not read; send identity")
    return FORMATS[media.name], media.options


def _tensor_names(query: dict[str, object], form: Format) -> list[str]:
    """Take the names of the tensors to come out of the query, for the format that needs them."""
    if form.name != "npy":
        return []
    names = query.pop("tensors", ["logits", "targets"])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        detail = (
            "tensors lists the tensors in the order of their arrays, such as tensors=logits,targets,weight"
        )
        raise Fault("invalid_parameter", detail, [("/tensors", detail)])
    return names


def _timeout(scope: Scope) -> float | None:
    """The seconds that the caller allows, or None."""
    given = _text(scope, b"x-timeout-ms")
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= 12 and int(given)):
        detail = f"X-Timeout-Ms is {given[:50]!r}; send a positive whole number of milliseconds"
        raise Fault("invalid_parameter", detail)
    return int(given) / 1000.0


async def _send_result(
    exchange: _Exchange, result: LossResult, form: AnswerForm, seconds: tuple[float, float, float]
) -> None:
    timing = ", ".join(
        f"{name};dur={1000.0 * value:.3f}"
        for name, value in zip(("read", "queue", "compute"), seconds, strict=True)
    )
    headers = [(b"server-timing", timing.encode())]
    if form.format == "json":
        body = write_json(result, request_id=request_id(exchange.scope), version=__version__)
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body})
        return
    dtype = np.dtype(form.dtype)
    loss = np.asarray(result.loss)
    body = write_npy_header(loss.shape, form.dtype)
    headers += [
        (b"content-type", b"application/x-npy"),
        (b"content-length", b"%d" % (len(body) + loss.size * dtype.itemsize)),
        (b"lossd-sum", _number(result.sum)),
        (b"lossd-count", b"%d" % result.count),
        (b"lossd-weight-sum", _number(result.weight_sum)),
        (b"lossd-positives", _number(result.positives)),
    ]
    await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
    # In pieces, so that an array as large as the arena's part costs the front end no second one.
    flat = loss.reshape(-1)
    step = _ANSWER_CHUNK // dtype.itemsize
    with np.errstate(over="ignore"):
        for start in range(0, flat.size, step):
            body += flat[start : start + step].astype(dtype).tobytes()
            await exchange.send(
                {"type": "http.response.body", "body": body, "more_body": start + step < flat.size}
            )
            body = b""
    if body:
        await exchange.send({"type": "http.response.body", "body": body})


async def _discard(receive: Receive) -> None:
    """Read a body away, for a bounded time and up to a bounded length."""
    left = _DISCARD_BYTES
    try:
        async with asyncio.timeout(_DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _has_body(scope: Scope) -> bool:
    length = header(scope, b"content-length")
    return header(scope, b"transfer-encoding") is not None or (length is not None and length != b"0")


def _label(exchange: _Exchange) -> str:
    return exchange.format.name if exchange.format else "none"


def _number(value: float) -> bytes:
    """A float64 as text that reads back to the same bits; Infinity and NaN by these names."""
    text = repr(float(value))
    return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(text, text).encode()


def _text(scope: Scope, name: bytes) -> str | None:
    value = header(scope, name)
    return None if value is None else value.decode("latin-1")
