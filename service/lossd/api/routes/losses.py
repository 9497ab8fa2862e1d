"""``POST /bce``, ``POST /focal`` and every other loss: body in, loss out.

These are plain ASGI endpoints: the body's chunks go from the server's protocol into the arena, and nowhere
else. docs/api.md says in which order a request is checked; the methods here follow it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import chain
from typing import Final

import numpy as np
from starlette.types import Receive, Scope, Send

from lossd import __version__
from lossd.api.http.request_context import request_id
from lossd.api.problems import problem
from lossd.api.scoring.body_limits import room_expanded, room_of
from lossd.api.scoring.exchange import Exchange
from lossd.api.scoring.negotiation import AnswerForm
from lossd.api.scoring.request_spec import format_name, make_plan, said_by
from lossd.api.scoring.streamed_body import StreamScoring
from lossd.api.scoring.traced import serve
from lossd.api.scoring.whole_body import BodyScoring, Outcome, Task
from lossd.api.services import Service
from lossd.core.catalog import Loss
from lossd.types import Float64Array, LossResult, RequestError
from lossd.wire import (
    StreamFormat,
    make_decoder,
    write_figures,
    write_json_chunks,
    write_npy_header,
    write_params,
)

_PIECE_NUMBERS: Final = 1 << 17


class LossEndpoint:
    """The ASGI endpoint of one loss."""

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
        )
        await serve(exchange, self._answer, problem, self._service)

    async def _answer(self, exchange: Exchange) -> None:
        said = said_by(exchange.scope)
        try:
            plan = make_plan(self._loss.name, said)
        except RequestError:
            exchange.format = format_name(said.content_type)
            raise
        exchange.format = plan.form.name
        exchange.set_timeout(plan.timeout)
        decoder, settings = make_decoder(plan.coding), self._service.settings
        task = Task(
            plan.loss, plan.given, "accept application/x-npy" if plan.answer.format == "json" else None
        )
        scoring: BodyScoring | StreamScoring
        if isinstance(plan.form, StreamFormat):
            limit = settings.max_batch_bytes
            stream_reader = plan.form.reader(options=plan.options, max_batch_bytes=limit)
            room = room_expanded(settings.max_expanded_bytes, settings)
            most = 4 * limit if exchange.declared is None else min(exchange.declared, 4 * limit)
            exchange.enter(most, certain=False)
            scoring = StreamScoring(self._service, exchange, task, stream_reader, decoder, room)
        else:
            json = plan.form.name == "json"
            limit = settings.max_json_bytes if json else settings.max_body_bytes
            room = room_of(exchange.declared, limit, decoder, settings, expands=plan.form.expands)
            exchange.enter(room.nbytes, certain=room.as_declared)
            reader = plan.form.reader(options=plan.options, names=plan.names)
            scoring = BodyScoring(
                self._service,
                exchange,
                lambda: task,
                reader,
                decoder,
                room,
                plan.form.arena_bytes(room.nbytes),
                json_bytes=room.nbytes if json else 0,
            )
        outcome = await scoring.score()
        try:
            exchange.count_answer(self._service.metrics, outcome.result, outcome.seconds)
            await _send(exchange, outcome, plan.answer)
        finally:
            outcome.release()


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
    pieces = write_json_chunks(result, request_id=request_id(exchange.scope), version=__version__)
    first = next(pieces)
    second = next(pieces, None)
    if second is None:
        headers.append((b"content-length", b"%d" % len(first)))
    await exchange.send_answer(headers, chain((first,) if second is None else (first, second), pieces))


def _figures(result: LossResult) -> list[tuple[bytes, bytes]]:
    """The headers by which an answer that is the loss alone merges with others, and says what it is of."""
    notes = [(b"lossd-notes", json.dumps(result.notes).encode("ascii"))] if result.notes else []
    return [
        *notes,
        *write_figures(result),
        (b"lossd-params", write_params(result)),
        (b"lossd-kernel", result.kernel.encode()),
        (b"lossd-version", __version__.encode()),
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
