"""``POST /bce``, ``POST /focal`` and every other loss: body in, loss out.

These are plain ASGI endpoints: the body's chunks go from the server's protocol into the arena, and nowhere
else. docs/api.md says in which order a request is checked; the methods here follow it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

import numpy as np
from starlette.types import Receive, Scope, Send

from lossd import __version__
from lossd.api.context import joined_header, request_id
from lossd.api.exchange import Exchange, read_timeout
from lossd.api.limits import room_expanded, room_of
from lossd.api.negotiation import AnswerForm, choose_answer, parse_media_type
from lossd.api.problems import problem
from lossd.api.scoring import BodyScoring, Outcome, Task
from lossd.api.service import Service
from lossd.api.streaming import StreamScoring
from lossd.core.catalog import Loss, check_params
from lossd.request import Fault, Float64Array, LossResult
from lossd.wire import (
    FORMATS,
    STREAMS,
    Format,
    StreamFormat,
    make_decoder,
    parse_query,
    write_json_pieces,
    write_npy_header,
)

_PIECE_NUMBERS: Final = 1 << 17


class LossEndpoint:
    """The ASGI endpoint of one loss."""

    def __init__(self, loss: Loss, service: Service) -> None:
        self._loss = loss
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        exchange = Exchange(scope, receive, send, self._loss.name, time.monotonic())
        await exchange.serve(self._answer, problem, self._service.metrics, self._service.door)

    async def _answer(self, exchange: Exchange) -> None:
        form, options = _choose_format(exchange)
        decoder = make_decoder(exchange.header(b"content-encoding"))
        accept = joined_header(exchange.scope, b"accept")
        answer = choose_answer(None if accept is None else accept.decode("latin-1"))
        query = parse_query(exchange.scope["query_string"])
        names = _tensor_names(query) if form.name == "npy" else []
        check_params(self._loss, query)
        exchange.set_timeout(read_timeout(exchange.header(b"x-timeout-ms")))
        task = Task(self._loss, query, "accept application/x-npy" if answer.format == "json" else None)
        scoring: BodyScoring | StreamScoring
        if isinstance(form, StreamFormat):
            limit = self._service.settings.max_batch_bytes
            stream_reader = form.reader(options=options, max_batch_bytes=limit)
            room = room_expanded(self._service.settings.max_expanded_bytes, self._service.settings)
            scoring = StreamScoring(self._service, exchange, task, stream_reader, decoder, room)
        else:
            json = form.name == "json"
            limit = self._service.settings.max_json_bytes if json else self._service.settings.max_body_bytes
            room = room_of(exchange.declared, limit, decoder, self._service.settings, expands=form.expands)
            reader = form.reader(options=options, names=names)
            scoring = BodyScoring(
                self._service,
                exchange,
                lambda: task,
                reader,
                decoder,
                room,
                form.arena_bytes(room.nbytes),
                json_bytes=room.nbytes if json else 0,
            )
        outcome = await scoring.score()
        try:
            exchange.count(self._service.metrics, outcome.result, outcome.seconds)
            await _send(exchange, outcome, answer)
        finally:
            outcome.release()


def _choose_format(exchange: Exchange) -> tuple[Format | StreamFormat, Mapping[str, str]]:
    """The format of the body, and its media type's options.

    Raises:
        Fault: ``unsupported_media_type``.
    """
    given = exchange.header(b"content-type")
    media = parse_media_type(given) if given is not None else None
    form = (FORMATS.get(media.name) or STREAMS.get(media.name)) if media is not None else None
    if media is None or form is None:
        shown = "no Content-Type" if given is None else f"Content-Type {given[:100]!r}"
        raise Fault(
            "unsupported_media_type", f"the request has {shown}; send {', '.join([*FORMATS, *STREAMS])}"
        )
    exchange.format = form.name
    return form, media.options


def _tensor_names(query: dict[str, object]) -> list[str]:
    """Take the names of the tensors to come out of the query, for the format that needs them."""
    names = query.pop("tensors", ["logits", "targets"])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        detail = (
            "tensors lists the tensors in the order of their arrays, such as tensors=logits,targets,weight"
        )
        raise Fault("invalid_parameter", detail, [("/tensors", detail)])
    return names


async def _send(exchange: Exchange, outcome: Outcome, form: AnswerForm) -> None:
    result, headers = outcome.result, [outcome.timing]
    if form.format == "npy":
        headers += _figures(result)
        header = write_npy_header(np.shape(result.loss), form.dtype)
        length = len(header) + np.size(result.loss) * np.dtype(form.dtype).itemsize
        headers += [(b"content-type", b"application/x-npy"), (b"content-length", b"%d" % length)]
        await exchange.send_answer(headers, _npy_pieces(header, np.asarray(result.loss), form.dtype))
        return
    headers.append((b"content-type", b"application/json"))
    pieces = write_json_pieces(result, request_id=request_id(exchange.scope), version=__version__)
    first = next(pieces)
    second = next(pieces, None)
    if second is None:
        headers.append((b"content-length", b"%d" % len(first)))
    await exchange.send_answer(headers, chain((first,) if second is None else (first, second), pieces))


def _figures(result: LossResult) -> list[tuple[bytes, bytes]]:
    """The headers by which an answer that is the loss alone merges with others."""
    return [
        (b"lossd-sum", _number(result.sum)),
        (b"lossd-count", b"%d" % result.count),
        (b"lossd-weight-sum", _number(result.weight_sum)),
        (b"lossd-positives", _number(result.positives)),
    ]


def _npy_pieces(header: bytes, loss: Float64Array, dtype: str) -> Iterator[bytes]:
    """An answer in pieces: an array as large as the arena's part costs the front end no second one."""
    flat = loss.reshape(-1)
    yield header + _rounded(flat[:_PIECE_NUMBERS], dtype)
    for start in range(_PIECE_NUMBERS, flat.size, _PIECE_NUMBERS):
        yield _rounded(flat[start : start + _PIECE_NUMBERS], dtype)


def _rounded(numbers: Float64Array, dtype: str) -> bytes:
    with np.errstate(over="ignore"):
        return numbers.astype(dtype).tobytes()


def _number(value: float) -> bytes:
    """A float64 as text that reads back to the same bits; Infinity and NaN by these names."""
    text = repr(float(value))
    return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(text, text).encode()
