"""``POST /ui/view``: reports as a fragment of HTML for the page, drawn by a helper process.

A view is received, limited and accounted like a JSON body of a loss, but it is no loss: it has a counter of
its own, and none of a team's usage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Scope, Send

from lossd.api.helpers.drawer import view_bytes
from lossd.api.http.request import arrival
from lossd.api.metrics import Metrics
from lossd.api.problems import problem
from lossd.api.routes.ui import HEADERS
from lossd.api.scoring.body import SizeLimit, read_timeout, whole_body_limit
from lossd.api.scoring.exchange import Exchange
from lossd.api.scoring.request_spec import format_name
from lossd.api.scoring.whole_body import arena_for
from lossd.api.services import Service
from lossd.engine.admission.arena import Region
from lossd.settings import Settings
from lossd.types import ErrorCode, RequestError

_CHUNK_BYTES: Final = 1 << 16


@dataclass(slots=True, kw_only=True)
class ViewExchange(Exchange):
    """The HTTP exchange of one view."""

    loss: str = ""
    format: str = "view"  # in the log

    def count_failure(self, metrics: Metrics, outcome: str) -> None:
        """Count it as not drawn."""
        self.outcome = outcome
        metrics.viewed(self.team.name, outcome)


class ViewEndpoint:
    """ASGI endpoint of the views."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as an ASGI app."""
        exchange = ViewExchange(
            scope=scope, receive=receive, send=send, service=self._service, began=arrival(scope)
        )
        await exchange.serve(self._answer, problem)

    async def _answer(self, exchange: Exchange) -> None:
        _check_head(exchange)
        limit = _limit(exchange.content_length, self._service.settings)
        exchange.admit_body(limit.nbytes, certain=limit.is_content_length)
        nbytes = view_bytes(limit.nbytes)
        arena = arena_for(self._service, nbytes)
        region = await exchange.reserve(arena, min(nbytes, arena.capacity))
        try:
            length = await _receive(exchange, region, limit)
            view = await self._service.helpers.drawer.draw(
                region,
                length,
                deadline=exchange.answer_deadline,
                team=exchange.team.name,
                weight=exchange.team.weight,
            )
            self._service.metrics.viewed(exchange.team.name, exchange.outcome)
            await _send(exchange, view)
        finally:
            region.release()


def _check_head(exchange: Exchange) -> None:
    """Check the body's type and coding, and set the caller's timeout.

    Raises:
        RequestError: ``unsupported_media_type``, ``unsupported_encoding``, ``invalid_parameter``.
    """
    content_type, coding = exchange.header(b"content-type"), exchange.header(b"content-encoding")
    if format_name(content_type) != "json":
        detail = "a view is asked for with JSON; send Content-Type: application/json"
        raise RequestError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, detail)
    if (coding or "identity").lower() != "identity":
        detail = "a view is asked for with JSON that is not compressed; send no Content-Encoding"
        raise RequestError(ErrorCode.UNSUPPORTED_ENCODING, detail)
    exchange.set_timeout(read_timeout(exchange.header(b"x-timeout-ms")))


def _limit(content_length: int | None, settings: Settings) -> SizeLimit:
    """Return the limit on a body.

    Raises:
        RequestError: ``body_too_large``, by the Content-Length.
    """
    most = settings.max_json_bytes
    if content_length is not None and content_length > most:
        detail = (
            f"the reports are {content_length} bytes; the limit is {most}; show ones with fewer groups or "
            "rows, or draw a saved one with `lossd merge FILE --html PAGE.html`"
        )
        raise RequestError(ErrorCode.BODY_TOO_LARGE, detail)
    return whole_body_limit(content_length, most, None, settings)


async def _receive(exchange: Exchange, region: Region, limit: SizeLimit) -> int:
    """Write the body to a region as it arrives; return its length."""
    view, received = region.view, 0
    while (chunk := await exchange.next_chunk()) is not None:
        end = received + len(chunk)
        limit.check(end)
        view[received:end] = chunk
        received = end
        await exchange.let_others_run()
    return received


async def _send(exchange: Exchange, view: memoryview) -> None:
    headers = [
        *HEADERS,
        (b"cache-control", b"no-store"),
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(view)),
    ]
    await exchange.send_answer(headers, _chunks(view))


def _chunks(view: memoryview) -> Iterator[bytes]:
    for start in range(0, max(len(view), 1), _CHUNK_BYTES):
        yield bytes(view[start : start + _CHUNK_BYTES])
