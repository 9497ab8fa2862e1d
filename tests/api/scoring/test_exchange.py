from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message

from lossd.api.accounting import Accounting, RequestLog
from lossd.api.auth import Gate
from lossd.api.metrics import Metrics
from lossd.api.problems import problem
from lossd.api.scoring.exchange import Exchange
from lossd.engine.admission.quotas import Quotas, quotas_bytes
from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.channel import socket_pair
from lossd.engine.ipc.counters import COUNTERS_BYTES, Counters
from lossd.engine.ipc.memory import Memory, create_memory

Answer = Callable[[Exchange], Awaitable[None]]


async def serve(answer: Answer, sent: list[Message]) -> str:
    """Serve one request, with what is sent kept; the metrics afterwards."""

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    fd, tally_fd = create_memory(4096), create_memory(COUNTERS_BYTES)
    ours, theirs = socket_pair()
    pool = WorkerPool(Memory(fd, 4096), ours, 0, 1 << 17)
    metrics = Metrics([Counters(tally_fd)], 0)
    quotas_fd = create_memory(quotas_bytes(1))
    gate = Gate(Quotas(quotas_fd, 1, 0), teams=False)
    scope = {"type": "http", "headers": [], "lossd.request_id": "r1"}
    try:
        exchange = Exchange(scope=scope, receive=receive, send=send, loss="bce", began=0.0, gate=gate)
        await exchange.serve(answer, problem, Accounting(metrics, RequestLog("failed")))
    finally:
        pool.close()
        theirs.close()
        os.close(quotas_fd)
        os.close(fd)
        os.close(tally_fd)
    return metrics.expose(pool).decode()


def test_a_failure_of_the_servers_own_is_a_problem_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_failure_within_the_answer_breaks_it_off() -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.send_answer([], iter([b"a", b"b"]))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(serve(fail, []))
