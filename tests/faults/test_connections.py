"""More connections than a front end holds: who is idle makes room, and where nobody is there is none."""

from __future__ import annotations

import resource
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from certificates import make_certificate
from faults.observe import children, connections, descriptors, fetch, roles, total, wait_until
from faults.raw import SECONDS, connect, receive, talk
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams

MOST = 12
SHARE = 9
"""Of those: a quarter is reserved."""
REFUSED = "lossd_connections_refused_total"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
JSON = b'{"logits": [1], "targets": [1]}'
POST = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
    JSON
)
BOUND = 2.0
"""Seconds for an answer at once, on a busy machine."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("narrow"), max_connections=MOST, header_seconds=60) as running:
        yield running


def asked(connection: socket.socket, request: bytes = LIVEZ) -> list[int]:
    """What the server answers on a connection that stays."""
    connection.sendall(request)
    return receive(connection, answers=1).statuses


def probes(server: LiveServer) -> list[int]:
    """What is answered at once to whoever looks after the server."""
    began = time.monotonic()
    found = [fetch(server, path)[0] for path in ("/livez", "/readyz", "/metrics")]
    assert time.monotonic() - began < BOUND
    return found


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
    halves = [POST, POST + JSON[:-1], LIVEZ + POST]
    behind = [0, 0, 1]
    with ExitStack() as stack:
        held = [stack.enter_context(connect(narrow)) for _ in range(SHARE)]
        for number, connection in enumerate(held):
            connection.sendall(halves[number % 3])
            seconds = SECONDS if behind[number % 3] else 0.05
            assert receive(connection, seconds, 1).statuses == [200] * behind[number % 3]
        wait_until(lambda: total(narrow, "lossd_requests_in_flight") == SHARE, 5, "they have begun")
        received = talk(narrow, POST + JSON)
        assert received.statuses == [503]
        assert received.code == "overloaded"
        assert b"retry-after: " in received.raw
        assert f"{SHARE} at a time".encode() in received.raw
        assert probes(narrow) == [200, 200, 200]
        for number, connection in enumerate(held):
            assert asked(connection, [JSON, JSON[-1:], JSON][number % 3]) == [200]
        assert talk(narrow, POST + JSON, answers=1).statuses == [200]


def test_who_is_refused_at_once_is_told_though_it_has_sent_all(tmp_path: Path) -> None:
    body = bytes(50_000)
    head = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\nContent-Length: %d\r\n\r\n"
    with live_server(tmp_path, max_connections=1) as server:
        (pid,) = roles(server).front_ends
        held = connect(server)
        held.sendall(POST + JSON[:-1])
        time.sleep(0.2)
        for _ in range(40):
            received = talk(server, head % len(body) + body)
            assert (received.code, received.ended) == ("overloaded", "closed")
        before = descriptors(pid)
        with ExitStack() as stack:
            staying = [stack.enter_context(connect(server)) for _ in range(200)]
            assert all(receive(one).statuses == [503] for one in staying)
            assert descriptors(pid) < before + 100
            wait_until(lambda: descriptors(pid) <= before, 5, "they are still there")
        assert asked(held, JSON[-1:]) == [200]
        held.close()


def test_heads_that_do_not_end_make_room(narrow: LiveServer) -> None:
    """First those that have taken longest, which are told why."""
    with ExitStack() as stack:
        held = []
        for _ in range(MOST):
            held.append(stack.enter_context(connect(narrow)))
            held[-1].sendall(POST[:20])
            time.sleep(0.005)  # the server's clock has milliseconds
        for connection in held[:4]:
            assert is_open(connection)
            assert asked(stack.enter_context(connect(narrow)), POST + JSON) == [200]
            received = receive(connection)
            assert (received.code, received.ended) == ("overloaded", "closed")
        assert asked(held[-1], POST[20:] + JSON) == [200]
        assert total(narrow, REFUSED, reason="displaced") >= 4


def test_silent_connections_make_room(narrow: LiveServer) -> None:
    """A thousand of them keep nobody out."""
    with ExitStack() as stack:
        for _ in range(4 * MOST):
            stack.enter_context(connect(narrow))
        assert talk(narrow, LIVEZ, answers=1).statuses == [200]
        [front_end] = roles(narrow).front_ends
        wait_until(lambda: connections(narrow, front_end) <= MOST, 5, "there are too many connections")


class Shared:
    """A server of two teams, each of which may hold half of its connections."""

    most = 24
    share = 12

    def __init__(self, server: LiveServer, noisy: str, quiet: str) -> None:
        self.server = server
        self.noisy = noisy
        self.quiet = quiet

    def connect(self, stack: ExitStack, source: str = "") -> socket.socket:
        return stack.enter_context(connect(self.server, source=source))

    def wait_for_requests(self, number: int) -> None:
        flight = "lossd_requests_in_flight"
        wait_until(lambda: total(self.server, flight) == number, 5, f"{number} requests have begun")

    def is_served(self) -> bool:
        """The quiet team and the probes are answered at once."""
        began = time.monotonic()
        answered = talk(self.server, request(self.quiet, JSON), answers=1).statuses == [200]
        return answered and time.monotonic() - began < BOUND and probes(self.server) == [200, 200, 200]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder, noisy, quiet = tmp_path_factory.mktemp("shared"), make_key(), make_key()
    write_teams(folder / "teams.toml", team_table("noisy", noisy), team_table("quiet", quiet))
    patient = {"header_seconds": 60, "upload_grace_seconds": 60}
    with live_server(folder, teams=folder / "teams.toml", max_connections=Shared.most, **patient) as server:
        server.key = noisy
        yield Shared(server, noisy, quiet)


def request(key: str, body: bytes, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    media = "application/json" if body else "application/x-npy"
    head = f"POST /bce HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: {media}\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode() + body


def test_a_team_whose_requests_wait_for_memory_locks_nobody_out(shared: Shared) -> None:
    """Two uploads fill the memory, and more connections than there are wait behind them."""
    upload = request(shared.noisy, b"", 800 << 20)
    with ExitStack() as stack:
        held = []
        for number in range(shared.share):
            held.append(shared.connect(stack))
            held[-1].sendall(upload)
            shared.wait_for_requests(number + 1)
        for _ in range(shared.most):
            shared.connect(stack).sendall(upload)
        received = talk(shared.server, upload)
        assert received.code == "overloaded"
        assert b"team noisy uses its share of the connections, 12 at a time" in received.raw
        assert all(map(is_open, held))
        for _ in range(shared.most):
            shared.connect(stack).sendall(upload)
            assert shared.is_served()
        assert total(shared.server, "lossd_connections") <= shared.most
        assert total(shared.server, REFUSED, reason="team_share") > shared.most
        log = shared.server.log
        wait_until(lambda: " team_share" in log.read_text(), 5, "the log says how many were refused")
    assert log.read_text().count("connections in the last second") < 10


@pytest.mark.parametrize("source", ["127.0.0.2", "127.0.0.1"])
def test_who_sends_heads_slowly_locks_nobody_out(shared: Shared, source: str) -> None:
    """Neither callers from elsewhere, nor those from the same address."""
    with ExitStack() as stack:
        kept = shared.connect(stack)
        for number in range(3 * shared.most):
            shared.connect(stack, source).sendall(POST[:20])
            if number % 4 == 0:
                assert asked(kept, request(shared.quiet, JSON)) == [200]
                assert shared.is_served()
        assert total(shared.server, REFUSED, reason="address_share") > shared.most


def test_a_connection_is_the_team_s_whose_key_came_last(shared: Shared) -> None:
    with ExitStack() as stack:
        held = []
        for _ in range(shared.share + 1):  # an idle one gives its team's place to another, and stays
            held.append(shared.connect(stack))
            assert asked(held[-1], request(shared.noisy, JSON)) == [200]
        held[0].sendall(request(shared.quiet, JSON)[:-1])
        for connection in held[1:]:
            connection.sendall(request(shared.noisy, JSON)[:-1])
            assert is_open(connection)
        assert talk(shared.server, request(shared.noisy, JSON)).code == "overloaded"
        assert talk(shared.server, request(shared.quiet, JSON), answers=1).statuses == [200]
        for connection in held:
            assert asked(connection, JSON[-1:]) == [200]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")
def test_heads_that_do_not_end_make_room_with_https(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path, "tls")
    with ExitStack() as stack:
        server = stack.enter_context(
            live_server(tmp_path, tls_certificate=chain, tls_key=key, max_connections=MOST, header_seconds=60)
        )
        assert isinstance(server.verify, ssl.SSLContext)
        for _ in range(3 * MOST):
            secured = server.verify.wrap_socket(connect(server), server_hostname="127.0.0.1")
            stack.enter_context(secured).sendall(POST[:20])
        assert httpx.get(f"{server.url}/livez", verify=server.verify).status_code == 200
        found = children(server.process.pid)  # the front end, and a worker that has none
        wait_until(
            lambda: sum(connections(server, pid) for pid in found) <= MOST,
            2,
            "there are too many connections",
        )


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
