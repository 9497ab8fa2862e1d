"""The admin listener: what it answers, and that it does whatever happens elsewhere."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from bench.memory import family
from certificates import make_certificate
from faults.asked import SMALL, pair_body
from faults.load import Load, Plan, Request, post
from faults.observe import ended, fetch, port_of, wait_until
from faults.probes import Admin, stopped, watched_server
from live_server import live_server
from teams_file import make_key, team_table, write_teams

MOST_CONNECTIONS = 16
HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: local"
METRICS = Request("metrics", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")


def taken(admin: Admin) -> int:
    """How many connections it holds."""
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    local = f":{admin.port:04X}"
    return sum(field[1].endswith(local) and field[3] == "01" for field in fields)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with watched_server(tmp_path_factory.mktemp("watched"), max_connections=600) as running:
        yield running


@pytest.fixture
def admin(watched: Admin) -> Admin:
    """The listener of a server for this file alone, of which nothing has been asked yet."""
    wait_until(watched.is_ready, 15, "it is not ready again")
    watched.seconds.clear()
    return watched


def test_it_answers_probes_and_nothing_else(admin: Admin) -> None:
    assert admin.document("/livez") == {"status": "alive"}
    assert admin.document("/readyz") == {"status": "ready"}
    for path in ("/livez", "/readyz", "/metrics"):
        status, headers, body = admin.ask(path, "HEAD")
        assert (status, body) == (200, b"")
        assert headers["x-request-id"]
    ours, theirs = admin.ask("/metrics"), fetch(admin.server, "/metrics")
    names = [
        {line for line in text.decode().splitlines() if line.startswith("#")} for text in (ours[2], theirs[1])
    ]
    assert names[0] == names[1]
    for path, method, wanted in (
        ("/", "GET", 404),
        ("/info", "GET", 404),
        ("/livez/", "GET", 404),
        ("/bce", "POST", 404),
        ("/livez", "POST", 405),
    ):
        status, headers, body = admin.ask(path, method)
        assert status == wanted
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(body)["request_id"] == headers["x-request-id"]
        assert (headers["allow"] == "GET, HEAD") == (wanted == 405)


def test_a_taken_port_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = rf"127.0.0.1 port {port} \(LOSSD_ADMIN_HOST and LOSSD_ADMIN_PORT\): .*; end what listens there"
        with pytest.raises(AssertionError, match=said):
            live_server(tmp_path, admin_port=port).__enter__()


def test_it_needs_no_key_and_no_tls(tmp_path: Path) -> None:
    write_teams(tmp_path / "teams.toml", team_table("vision", make_key()))
    chain, key = make_certificate(tmp_path, "lossd")
    with watched_server(tmp_path, teams=tmp_path / "teams.toml", tls_certificate=chain, tls_key=key) as admin:
        server = admin.server
        assert admin.status("/metrics") == 200
        assert httpx.get(f"{server.url}/metrics", verify=server.verify).status_code == 401


def test_an_ended_one_is_replaced(admin: Admin) -> None:
    before = admin.pid
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: admin.is_ready() and admin.pid != before, 15, "none came")


def test_a_stopped_server_is_not_ready_at_once_and_the_admin_listener_leaves_last(tmp_path: Path) -> None:
    with watched_server(tmp_path, drain_seconds=3) as admin:
        server, front_end, processes = admin.server, admin.front_end, family(admin.server.process.pid)
        request = post("/focal", pair_body(20_000))
        with socket.create_connection(("127.0.0.1", port_of(server))) as caller:
            caller.sendall(request.head + request.body[: len(request.body) // 2])
            wait_until(lambda: admin.metrics()["lossd_requests_in_flight"] == 1.0, 5, "it has not begun")
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not admin.is_ready(), 2, "still ready")
            assert admin.document("/readyz")["reasons"] == ["the server is being stopped"]
            assert not ended(front_end)
            while not ended(front_end):
                assert admin.status("/livez") == 200
                time.sleep(0.05)
        assert server.process.wait(30) == 0
        assert all(ended(pid) for pid in processes)


@pytest.mark.alone
def test_it_answers_while_the_other_port_is_flooded(admin: Admin, say: Callable[[str], None]) -> None:
    with Load() as load, ExitStack() as stack:
        address = ("127.0.0.1", port_of(admin.server))
        load.start(Plan(port_of(admin.server), SMALL, at_once=300))
        for _ in range(400):  # with the others more than it holds
            stack.enter_context(socket.create_connection(address)).sendall(HALF_A_HEAD)
        admin.seconds.clear()
        for _ in range(60):
            assert (admin.status("/livez"), admin.status("/readyz")) == (200, 200)
            time.sleep(0.02)
        load.finish(stop=True)
        admin.status("/metrics")
    median, longest = statistics.median(admin.seconds), max(admin.seconds)
    say(f"probes in a flood of the other port: median {1e3 * median:.1f} ms, {1e3 * longest:.0f} ms at most")
    assert median < 0.05
    assert longest < 1.0


@pytest.mark.alone
def test_it_answers_while_the_front_end_stands_still(admin: Admin) -> None:
    with stopped(admin.front_end):
        for _ in range(20):
            assert admin.status("/livez") == 200  # it has not stood still for long
            time.sleep(0.05)
        assert max(admin.seconds) < 1.0


def test_a_stranger_cannot_lock_probes_out(admin: Admin) -> None:
    with ExitStack() as stack:
        for i in range(6 * MOST_CONNECTIONS):
            stranger = stack.enter_context(socket.create_connection(("127.0.0.1", admin.port)))
            stranger.sendall(HALF_A_HEAD)
            if i % 16 == 0:
                assert admin.status("/livez") == 200
        assert admin.status("/readyz") == 200
        wait_until(lambda: taken(admin) <= MOST_CONNECTIONS, 5, "it holds more")
        wait_until(lambda: taken(admin) == 0, 5, "slow heads are waited for")


def test_requests_are_taken_one_at_a_time(admin: Admin) -> None:
    with socket.create_connection(("127.0.0.1", admin.port), timeout=10) as stranger:
        stranger.sendall(500 * METRICS.head)
        received = b""
        while more := stranger.recv(1 << 16):
            received += more
    assert received.count(b"HTTP/1.1 200 OK") == 1
    with httpx.Client(base_url=f"http://127.0.0.1:{admin.port}") as prober:  # which keeps its connection
        assert [prober.get("/livez").status_code for _ in range(3)] == [200, 200, 200]


@pytest.mark.alone
def test_a_stranger_who_asks_all_the_time_keeps_no_probe_waiting(
    admin: Admin, say: Callable[[str], None]
) -> None:
    with Load() as load:
        load.start(Plan(admin.port, [METRICS], at_once=2 * MOST_CONNECTIONS))
        time.sleep(0.5)
        admin.seconds.clear()
        for _ in range(40):
            assert admin.status("/livez") == 200
            time.sleep(0.02)
        shots = load.finish(stop=True)
    median, longest = statistics.median(admin.seconds), max(admin.seconds)
    say(
        f"probes beside {2 * MOST_CONNECTIONS} strangers who ask for the metrics, {len(shots)} times: median "
        f"{1e3 * median:.1f} ms, {1e3 * longest:.0f} ms at most"
    )
    assert median < 0.2
    assert longest < 2.0
