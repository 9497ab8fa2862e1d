from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from starlette.types import Message

from lossd.api.auth import Gate
from lossd.api.metrics import Metrics
from lossd.api.problems import problem
from lossd.api.scoring.exchange import Exchange
from lossd.api.services import Helpers, Service
from lossd.engine.admission.quota_memory import quotas_bytes
from lossd.engine.admission.quotas import Quotas
from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.channel import socket_pair
from lossd.engine.ipc.counters import COUNTERS_BYTES, Counters
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.settings import Settings

Answer = Callable[[Exchange], Awaitable[None]]


async def serve(answer: Answer, sent: list[Message]) -> str:
    """Serve one request and keep the messages that it sends; return the metrics."""

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    settings = Settings(inline_ms=0, log_requests="failed")
    memory_fd, tally_fd = create_memory(settings.arena_bytes), create_memory(COUNTERS_BYTES)
    memory, quotas_fd = Memory(memory_fd, settings.arena_bytes), create_memory(quotas_bytes(1))
    ours, theirs = socket_pair()
    pool = WorkerPool(memory, ours, 0, 1 << 17)
    gate = Gate(Quotas(quotas_fd, 1, 0), teams=False)
    helpers = cast(Helpers, None)  # no request has a long document
    metrics = Metrics([Counters(tally_fd)], 0)
    service = Service.create(settings, memory, pool, gate, helpers, metrics, 0)
    scope = {"type": "http", "headers": [], "lossd.request_id": "r1"}
    try:
        exchange = Exchange(scope=scope, receive=receive, send=send, loss="bce", began=0.0, service=service)
        await exchange.serve(answer, problem)
    finally:
        pool.close()
        theirs.close()
        for fd in (memory_fd, tally_fd, quotas_fd):
            os.close(fd)
    return service.metrics.expose(pool).decode()


def test_a_failure_of_the_server_is_a_problem_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(exchange: Exchange) -> None:
        raise ZeroDivisionError

    sent: list[Message] = []
    with caplog.at_level(logging.ERROR):
        metrics = asyncio.run(serve(fail, sent))
    start, body = sent
    assert start["status"] == 500
    assert json.loads(body["body"])["code"] == "internal_error"
    assert "r1" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert 'lossd_requests_total{format="none",loss="bce",outcome="internal_error"' in metrics


def test_a_failure_within_the_answer_cuts_it_short() -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.send_answer([], iter([b"a", b"b"]))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(serve(fail, []))
