"""Requests for a loss, each with its span if there are to be traces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lossd.api.accounting import WriteProblem
from lossd.api.scoring.exchange import Exchange
from lossd.api.services import Service


async def serve(
    exchange: Exchange,
    answer: Callable[[Exchange], Awaitable[None]],
    write_problem: WriteProblem,
    service: Service,
) -> None:
    """Answer a request, as `Exchange.serve` does, with all that a service has."""
    tracing = service.tracing
    if tracing is None:
        await exchange.serve(answer, write_problem, service.accounting)
        return
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in exchange.scope["headers"]}
    span, exchange.trace = tracing.begin_request(f"/{exchange.loss}", headers)
    try:
        await exchange.serve(answer, write_problem, service.accounting)
    finally:
        attributes: dict[str, str | int] = {
            "lossd.loss": exchange.loss,
            "lossd.format": exchange.format,
            "lossd.elements": exchange.elements,
            "lossd.team": exchange.team.name,
            "lossd.outcome": exchange.outcome,
            "lossd.request_id": exchange.request_id,
            "http.request.method": "POST",
        }
        if exchange.status is not None:
            attributes["http.response.status_code"] = exchange.status
        failed = exchange.status is not None and exchange.status >= 500
        tracing.end_request(span, attributes, exchange.seconds, failed=failed)
