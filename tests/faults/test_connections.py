"""More connections than a front end holds: who is idle makes room, and where nobody is there is none."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults.observe import connections, roles, wait_until
from faults.raw import SECONDS, connect, receive, talk
from live_server import LiveServer, live_server

MOST = 12
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
JSON = b'{"logits": [1], "targets": [1]}'
POST = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
    JSON
)
"""Each on connections of its own: /readyz and /metrics would take one as well."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("narrow"), max_connections=MOST, header_seconds=60) as running:
        yield running


def asked(connection: socket.socket, request: bytes = LIVEZ) -> list[int]:
    """What the server answers on a connection that stays."""
    connection.sendall(request)
    return receive(connection, answers=1).statuses


def is_open(connection: socket.socket) -> bool:
    return receive(connection, 0.01).ended == "open"


def test_who_has_been_idle_longest_makes_room(narrow: LiveServer) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(connect(narrow)) for _ in range(MOST)]
        order = [*held[5:], *held[:5]]  # in which they were last answered
        for connection in order:
            assert asked(connection) == [200]
            time.sleep(0.005)  # the server's clock has milliseconds
        for number in range(3):
            assert asked(stack.enter_context(connect(narrow))) == [200]
            assert [is_open(connection) for connection in order[:6]] == [n > number for n in range(6)]
        assert all(map(is_open, order[3:]))


def test_who_is_busy_stays_and_who_comes_is_told(narrow: LiveServer) -> None:
    halves = [POST[:20], POST, POST + JSON[:-1], LIVEZ + POST[:20]]
    behind = [0, 0, 0, 1]
    with ExitStack() as stack:
        held = [stack.enter_context(connect(narrow)) for _ in range(MOST)]
        for number, connection in enumerate(held):
            connection.sendall(halves[number % 4])
            assert (
                receive(connection, 0.05 if not behind[number % 4] else SECONDS, 1).statuses
                == [200] * behind[number % 4]
            )
        received = talk(narrow, LIVEZ)
        assert received.statuses == [503]
        assert received.code == "overloaded"
        assert b"retry-after: " in received.raw
        rests = [POST[20:] + JSON, JSON, JSON[-1:], POST[20:] + JSON]
        for number, connection in enumerate(held):
            assert asked(connection, rests[number % 4]) == [200]
        assert talk(narrow, LIVEZ, answers=1).statuses == [200]


def test_silent_connections_make_room(narrow: LiveServer) -> None:
    """A thousand of them keep nobody out."""
    with ExitStack() as stack:
        for _ in range(4 * MOST):
            stack.enter_context(connect(narrow))
        assert talk(narrow, LIVEZ, answers=1).statuses == [200]
        [front_end] = roles(narrow).front_ends
        wait_until(lambda: connections(narrow, front_end) <= MOST, 2, "there are too many connections")


def test_a_front_end_takes_the_descriptors_that_it_needs(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with live_server(tmp_path, max_connections=400) as server, ExitStack() as stack:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            held = [stack.enter_context(connect(server)) for _ in range(390)]
            assert asked(held[0]) == asked(held[-1]) == [200]
            assert all(map(is_open, held[::20]))
            assert "descriptors" not in server.log.read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_it_may_not_it_says_so(tmp_path: Path) -> None:
    code = (
        "import logging, resource\n"
        "from lossd.api.http.connections import allow_descriptors\n"
        "logging.basicConfig()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))\n"
        "print(allow_descriptors(50), allow_descriptors(100), allow_descriptors(1000))\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["50", "100", "172", "300", "300"]
    assert done.stderr.count("LOSSD_MAX_CONNECTIONS") == 1
    assert "holds 172 connections, not 1000" in done.stderr
