"""``POST /bce``, ``POST /focal`` and every other loss: a body in, a loss out.

These are plain ASGI endpoints: a body's chunks go straight from the connection to the arena.
docs/reference/api.md says in which order a request is checked; the methods here follow it.
"""

from __future__ import annotations

import json
from itertools import chain

from starlette.types import Receive, Scope, Send

from lossd import __version__
from lossd.api.http.request import arrival, request_id
from lossd.api.problems import problem
from lossd.api.scoring.body import expanded_limit, whole_body_limit
from lossd.api.scoring.exchange import Exchange
from lossd.api.scoring.negotiation import AnswerForm
from lossd.api.scoring.request_spec import LossSpec, RequestSpec, format_name, read_spec, spec_fields
from lossd.api.scoring.streamed_body import StreamedBody
from lossd.api.scoring.whole_body import Answer, WholeBody
from lossd.api.services import Service
from lossd.core.catalog import Loss
from lossd.types import LossResult, RequestError
from lossd.wire import (
    Decoder,
    Format,
    StreamFormat,
    make_decoder,
    write_figures,
    write_json_chunks,
    write_npy,
    write_params,
)


class LossEndpoint:
    """ASGI endpoint of one loss."""

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
        )
        await exchange.serve(self._answer, problem)

    async def _answer(self, exchange: Exchange) -> None:
        fields = spec_fields(exchange.scope)
        try:
            spec = read_spec(self._loss.name, fields)
        except RequestError:
            exchange.format = format_name(fields.content_type)
            raise
        exchange.format = spec.form.name
        exchange.set_timeout(spec.timeout)
        decoder = None if spec.coding is None else make_decoder(spec.coding)
        scoring: WholeBody | StreamedBody
        if isinstance(spec.form, StreamFormat):
            scoring = self._admit_stream(exchange, spec, spec.form, decoder)
        else:
            scoring = self._admit_whole(exchange, spec, spec.form, decoder)
        answer = await scoring.score()
        try:
            exchange.count_answer(self._service.metrics, answer.result, answer.timings)
            await _send(exchange, answer, spec.answer)
        finally:
            answer.release()

    def _admit_whole(
        self, exchange: Exchange, spec: RequestSpec, form: Format, decoder: Decoder | None
    ) -> WholeBody:
        """Admit a body that is kept in memory as a whole."""
        settings = self._service.settings
        is_json = form.name == "json"
        most = settings.max_json_bytes if is_json else settings.max_body_bytes
        limit = whole_body_limit(exchange.content_length, most, decoder, settings, expands=form.expands)
        exchange.admit_body(limit.nbytes, certain=limit.is_content_length)
        loss_spec = _loss_spec(spec)
        return WholeBody(
            exchange,
            lambda: loss_spec,
            form.reader(options=spec.options, names=spec.names),
            decoder,
            limit,
            form.arena_bytes(limit.nbytes),
            json_bytes=limit.nbytes if is_json else 0,
        )

    def _admit_stream(
        self, exchange: Exchange, spec: RequestSpec, form: StreamFormat, decoder: Decoder | None
    ) -> StreamedBody:
        """Admit a body of any length."""
        settings, length = self._service.settings, exchange.content_length
        reader = form.reader(
            options=spec.options,
            max_batch_bytes=settings.max_batch_bytes,
            max_strings=settings.max_report_cells,
        )
        window_bytes = 4 * settings.max_batch_bytes
        exchange.admit_body(window_bytes if length is None else min(length, window_bytes), certain=False)
        limit = expanded_limit(settings.max_expanded_bytes)
        return StreamedBody(exchange, _loss_spec(spec), reader, decoder, limit)


def _loss_spec(spec: RequestSpec) -> LossSpec:
    is_json = spec.answer.format == "json"
    hint = "accept application/x-npy" if is_json else None
    return LossSpec(spec.loss, spec.query_params, hint, has_report=is_json)


async def _send(exchange: Exchange, answer: Answer, form: AnswerForm) -> None:
    result, headers = answer.result, [answer.timing_header]
    if form.format == "npy":
        headers += _figures(result)
        length, chunks = write_npy(result.loss, form.dtype)
        headers += [(b"content-type", b"application/x-npy"), (b"content-length", b"%d" % length)]
        await exchange.send_answer(headers, chunks)
        return
    headers.append((b"content-type", b"application/json"))
    chunks = write_json_chunks(result, request_id=request_id(exchange.scope), version=__version__)
    first = next(chunks)
    second = next(chunks, None)
    if second is None:
        headers.append((b"content-length", b"%d" % len(first)))
    await exchange.send_answer(headers, chain((first,) if second is None else (first, second), chunks))


def _figures(result: LossResult) -> list[tuple[bytes, bytes]]:
    """Return the headers of a .npy answer: what the JSON answer has beside the loss."""
    notes = [(b"lossd-notes", json.dumps(result.notes).encode("ascii"))] if result.notes else []
    return [
        *notes,
        *write_figures(result),
        (b"lossd-params", write_params(result)),
        (b"lossd-kernel", result.kernel.encode()),
        (b"lossd-version", __version__.encode()),
    ]
