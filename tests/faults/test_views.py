"""Views of reports: what goes wrong with one costs nobody else anything."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from faults.observe import children, ended, port_of, roles, total, wait_until
from live_server import LiveServer, live_server
from lossd_client import LossClient
from teams_file import make_key, team_table, write_teams

MANY = 10_000
"""Groups, of which a view takes half a second."""
MOST = 8 << 20
PATIENCE = 60.0
"""Seconds for what a drawer does at its low priority, on a busy machine."""
X = np.random.default_rng(0).normal(0, 3, (MANY, 2))
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def vigilant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that soon takes a process that stands still for hung."""
    folder = tmp_path_factory.mktemp("vigilant")
    with live_server(folder, hang_seconds=3, max_json_bytes=MOST) as running:
        yield running


@pytest.fixture(scope="module")
def long(vigilant: LiveServer) -> bytes:
    """The body of a view that takes a while."""
    return view_of(vigilant, groups=np.arange(MANY))


def view_of(server: LiveServer, groups: NDArray[np.int64] | None = None) -> bytes:
    with LossClient(server.url, api_key=server.key) as client:
        report = client.report("bce", X, (X > 0) * 1.0, groups=groups)
    return json.dumps({"reports": [{"name": "A", "document": report.to_dict()}]}).encode()


def ask(server: LiveServer, body: bytes, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/ui/view", content=body, headers={**JSON, **headers}, timeout=90)


def drawer_of(server: LiveServer, *others: int) -> int:
    """The process that draws, once there is one that is none of the others."""
    found: list[int] = []

    def is_there() -> bool:
        [front_end] = roles(server).front_ends
        found[:] = [
            pid
            for pid in set(children(front_end)) - {*others}
            if not ended(pid) and b"report_drawer" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return len(found) == 1

    wait_until(is_there, 20, "there is none")
    return found[0]


def reserved(server: LiveServer) -> float:
    parts = ("bodies", "small_bodies", "answers")
    return sum(total(server, "lossd_memory_reserved_bytes", part=part) for part in parts)


def views(server: LiveServer, outcome: str) -> float:
    return total(server, "lossd_views_total", outcome=outcome)


def test_a_drawer_that_dies_is_replaced_and_the_view_drawn(vigilant: LiveServer, long: bytes) -> None:
    before = ask(vigilant, long)
    assert before.status_code == 200, before.text
    with ThreadPoolExecutor(1) as threads:
        drawn, first = views(vigilant, "ok"), drawer_of(vigilant)
        answer = threads.submit(ask, vigilant, long)
        wait_until(lambda: reserved(vigilant) > len(long), 10, "it did not arrive")
        os.kill(first, signal.SIGKILL)
        assert answer.result().text == before.text
    assert drawer_of(vigilant) != first
    assert views(vigilant, "ok") == drawn + 1
    wait_until(lambda: reserved(vigilant) == 0, PATIENCE, "memory is lost")


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [(signal.SIGSTOP, 503, "overloaded"), (signal.SIGKILL, 500, "internal_error")],
)
def test_drawers_that_hang_or_die_twice(
    vigilant: LiveServer, long: bytes, number: int, status: int, code: str
) -> None:
    right = ask(vigilant, long).text
    hangs, refused = total(vigilant, "lossd_process_hangs_total", process="drawer"), views(vigilant, code)
    with ThreadPoolExecutor(1) as threads:
        stopped = [drawer_of(vigilant)]
        os.kill(stopped[0], number)
        if number == signal.SIGKILL:  # that is known before the view is asked for, and costs no try
            wait_until(lambda: not Path(f"/proc/{stopped[0]}").exists(), 10, "its end is not noticed")
        answer = threads.submit(ask, vigilant, long)
        if number == signal.SIGKILL:
            stopped.append(drawer_of(vigilant, *stopped))
            os.kill(stopped[-1], number)
        stopped.append(drawer_of(vigilant, *stopped))
        os.kill(stopped[-1], number)
        problem = answer.result()
    assert (problem.status_code, problem.json()["code"]) == (status, code), problem.text
    assert problem.json()["retryable"] is (status == 503)
    hung = 2 * (number == signal.SIGSTOP)
    assert total(vigilant, "lossd_process_hangs_total", process="drawer") == hangs + hung
    assert views(vigilant, code) == refused + 1
    assert ask(vigilant, long).text == right
    wait_until(lambda: reserved(vigilant) == 0, PATIENCE, "memory is lost")


def test_losses_are_scored_while_one_hangs(vigilant: LiveServer, long: bytes) -> None:
    right = ask(vigilant, long).text
    with ThreadPoolExecutor(1) as threads, LossClient(vigilant.url) as client:
        os.kill(drawer_of(vigilant), signal.SIGSTOP)
        answer = threads.submit(ask, vigilant, long)
        for _ in range(20):
            client.bce(X, X > 0)
        assert not answer.done()
        assert answer.result().text == right


def test_a_deadline(vigilant: LiveServer, long: bytes) -> None:
    answer = ask(vigilant, long, **{"x-timeout-ms": "150"})
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded"), answer.text
    wait_until(lambda: reserved(vigilant) == 0, PATIENCE, "memory is lost")
    assert ask(vigilant, long).status_code == 200


def test_documents_that_would_take_much_memory(vigilant: LiveServer) -> None:
    """`{}` takes 72 bytes of a Python process, and three of a document."""
    plain = ask(vigilant, b'{"reports": []}')
    assert plain.status_code == 422
    pid = drawer_of(vigilant)

    def peak() -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        assert found is not None
        return int(found[1]) << 10

    usual = peak()
    for one in (b"{},", b"[],", b"[[],[]],", b'{"a":{}},'):
        body = b"[" + one * ((MOST - 10) // len(one)) + b"0]"
        answer = ask(vigilant, body)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large"), answer.text
    assert peak() < usual + 12 * MOST  # with the arena's pages that it reads
    assert drawer_of(vigilant) == pid


def test_a_caller_who_hangs_up(vigilant: LiveServer, long: bytes) -> None:
    gone = views(vigilant, "disconnected")
    head = (
        b"POST /ui/view HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    for sent in (long[: len(long) // 2], long):
        with socket.create_connection(("127.0.0.1", port_of(vigilant)), timeout=10) as connection:
            connection.sendall(head % len(long) + sent)
            wait_until(lambda: reserved(vigilant) > 0, 10, "it has no memory")
    wait_until(lambda: views(vigilant, "disconnected") == gone + 2, PATIENCE, "it is not noticed")
    wait_until(lambda: reserved(vigilant) == 0, PATIENCE, "memory is lost")
    assert total(vigilant, "lossd_requests_in_flight") == 0


def test_teams_limits_hold_for_views_and_no_usage_is_counted(tmp_path: Path) -> None:
    keys = {"vision": make_key(), "few": make_key()}
    tables = [
        team_table("vision", keys["vision"]),
        team_table("few", keys["few"], limits={"requests_per_second": 0.1}),
    ]
    write_teams(tmp_path / "teams.toml", *tables)
    with live_server(tmp_path, teams=tmp_path / "teams.toml", log_requests="all") as server:
        server.key = keys["vision"]
        body = view_of(server)
        assert ask(server, body).status_code == 401
        assert ask(server, body, **{"x-api-key": keys["vision"]}).status_code == 200
        found = [ask(server, body, **{"x-api-key": keys["few"]}) for _ in range(3)]
        assert [one.status_code for one in found] == [200, 429, 429]
        assert found[1].json()["code"] == "rate_limited"
        assert "ratelimit" in found[0].headers
        assert total(server, "lossd_views_total", outcome="ok", team="vision") == 1
        assert total(server, "lossd_views_total", outcome="rate_limited", team="few") == 2
        assert total(server, "lossd_requests_total", team="few") == 0
        [line] = [
            one
            for one in server.log.read_text().splitlines()
            if "format=view" in one and "status=200" in one and "team=few" in one
        ]
        assert "loss=" not in line


def test_a_view_in_flight_is_answered_before_the_server_stops(tmp_path: Path) -> None:
    with live_server(tmp_path) as server, ThreadPoolExecutor(1) as threads:
        body = view_of(server, groups=np.arange(MANY))
        right = ask(server, body).text
        pid = drawer_of(server)
        answer = threads.submit(ask, server, body)
        wait_until(lambda: reserved(server) > 0, 10, "it did not arrive")
        began = time.monotonic()
        assert server.stop() == 0
        assert answer.result().text == right
        assert time.monotonic() - began < 20
        assert ended(pid)
