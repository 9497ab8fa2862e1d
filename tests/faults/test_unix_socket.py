"""A Unix socket beside the port: who may connect, its file from the start to the end, and its callers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from faults.asked import pair_body
from faults.observe import ended, roles, wait_until
from live_server import LiveServer, live_server
from lossd_client import (
    AsyncLossClient,
    ConnectionFailed,
    HttpxTransport,
    LossClient,
    Retry,
    Throttled,
    Unauthorized,
)
from lossd_client.local import free_port
from teams_file import make_key, team_table, write_teams

X, Y = np.linspace(-3, 3, 240).reshape(24, 10), np.eye(24, 10)
KEY, SLOW = make_key(), make_key()
NPY = {"content-type": "application/x-npy"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short path: a Unix socket's has at most 107 bytes."""
    path = Path("/tmp") / f"lossd-{os.getpid()}"
    path.mkdir()
    yield path
    for each in path.iterdir():
        each.unlink()
    path.rmdir()


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    own = tmp_path_factory.mktemp("unix")
    limits = {"requests_per_second": 0.01}
    write_teams(own / "teams.toml", team_table("vision", KEY), team_table("slow", SLOW, limits=limits))
    more: dict[str, Any] = {"teams": own / "teams.toml", "log_requests": "all", "trusted_proxies": "unix:"}
    with live_server(own, unix_socket=folder / "lossd.sock", **more) as running:
        yield running
    assert not (folder / "lossd.sock").exists()


@pytest.fixture
def url(server: LiveServer, folder: Path) -> str:
    return f"unix://{folder}/lossd.sock"


@contextmanager
def asking(path: Path, **headers: str) -> Iterator[httpx.Client]:
    """A caller that is not lossd's client."""
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(
        transport=transport, base_url="http://localhost", timeout=30, headers=headers
    ) as client:
        yield client


def test_the_servers_user_and_group_may_connect(server: LiveServer, folder: Path) -> None:
    found = (folder / "lossd.sock").stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_uid == os.geteuid()
    assert f"listening on unix://{folder}/lossd.sock" in server.log.read_text()


def test_both_ways_give_the_same(server: LiveServer, url: str) -> None:
    with (
        LossClient(server.url, api_key=KEY) as there,
        LossClient(url, api_key=KEY, request_bytes=800) as here,
    ):
        assert here.ready()
        assert repr(here) == f"LossClient({url!r})"
        for one in (here, here.with_options(request_bytes=1 << 20)):
            assert one.focal(X, Y, gamma=2.0).sum_terms == there.focal(X, Y, gamma=2.0).sum_terms
        assert here.score_stream("bce", [(X, Y)]).sum_terms == there.bce(X, Y).sum_terms
        large = np.zeros((40_000, 80), dtype=np.float32)  # past the parser
        assert here.with_options(request_bytes=1 << 30).bce(large, large).count == 3_200_000

    async def ask() -> float:
        async with AsyncLossClient(url, api_key=KEY, request_bytes=800) as client:
            return float(await client.bce(X, Y))

    with LossClient(url, api_key=KEY) as here:
        assert asyncio.run(ask()) == float(here.bce(X, Y))


def test_a_key_is_needed_as_at_the_port(url: str) -> None:
    with LossClient(url) as client, pytest.raises(Unauthorized):
        client.bce(X, Y)


def test_limits_hold_and_are_said(url: str) -> None:
    with LossClient(url, api_key=SLOW, retry=None) as client:
        first = client.bce(X, Y)
        with pytest.raises(Throttled) as caught:
            client.bce(X, Y)
    assert first.rate_limit is not None
    assert first.rate_limit.requests is not None
    assert (first.rate_limit.requests.limit, first.rate_limit.requests.remaining) == (1, 0)
    assert caught.value.rate_limit is not None
    assert caught.value.rate_limit.requests is not None
    assert 0 < (caught.value.rate_limit.requests.reset or 0) <= 101


def test_the_log_names_the_caller(server: LiveServer, folder: Path) -> None:
    small, large = pair_body(2), pair_body(4000)
    with asking(folder / "lossd.sock", **NPY, **{"x-api-key": KEY}) as client:
        for number, body in enumerate((small, large)):
            assert (
                client.post("/bce", content=body, headers={"x-request-id": f"own-{number}"}).status_code
                == 200
            )
            more = {"x-request-id": f"forwarded-{number}", "x-forwarded-for": "203.0.113.9"}
            assert client.post("/bce", content=body, headers=more).status_code == 200
        assert client.post("/bce?gama=1", content=small, headers={"x-request-id": "wrong"}).status_code == 422

    def callers() -> dict[str, str]:
        lines = re.findall(
            r" client=(\S+).* request_id=(\S+)|request_id=(\S+).* client=(\S+)", server.log.read_text()
        )
        return {one or three: two or four for two, one, three, four in lines}

    wait_until(lambda: "wrong" in callers(), 10, "there are no lines")
    found = callers()
    assert [found[name] for name in ("own-0", "own-1", "wrong")] == ["unix:"] * 3
    assert [found[name] for name in ("forwarded-0", "forwarded-1")] == ["203.0.113.9"] * 2


def test_commands(url: str) -> None:
    def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "LOSSD_API_KEY": KEY, **environment}
        command = [sys.executable, "-m", "lossd", *args]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)

    assert run("ping", "--url", url).stdout.startswith(f"{url} is ready: lossd ")
    assert run("ping", LOSSD_BASE_URL=url).returncode == 0
    found = json.loads(run("doctor", "--json", LOSSD_BASE_URL=url).stdout)
    checks = {each["name"]: each for each in found["checks"]}
    assert found["ok"]
    assert checks["connection"]["detail"] == f"to {url.removeprefix('unix://')}"
    assert run("usage", "--url", url, "--json").returncode == 0
    missing = run("ping", "--url", url + ".not")
    assert (missing.returncode, "No such file" in missing.stderr) == (3, True)
    found = json.loads(run("doctor", "--json", "--url", url + ".not").stdout)
    assert "is the server running" in found["checks"][-1]["remedy"]


def test_a_live_servers_socket_is_refused(server: LiveServer, folder: Path) -> None:
    before = (folder / "lossd.sock").stat()
    given = {"LOSSD_UNIX_SOCKET": str(folder / "lossd.sock"), "LOSSD_DEVICE": "cpu", "LOSSD_USAGE_FILE": ""}
    command = [sys.executable, "-m", "lossd", "serve", "--port", "0"]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "another program listens there; end it, or name another path" in done.stderr
    assert (folder / "lossd.sock").stat().st_ino == before.st_ino
    with asking(folder / "lossd.sock") as client:
        assert client.get("/readyz").status_code == 200


@pytest.mark.waits
def test_a_dead_servers_file_is_replaced_and_a_stop_removes_it(folder: Path, tmp_path: Path) -> None:
    path, body = folder / "dies.sock", pair_body(64)
    head = "POST /bce HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-npy\r\n"
    head = f"{head}Content-Length: {len(body)}\r\n\r\n"
    with live_server(tmp_path, unix_socket=path) as server:
        processes = roles(server)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: all(map(ended, processes.front_ends)), 20, "the front ends live on")
    with LossClient(f"unix://{path}", retry=None) as client, pytest.raises(ConnectionFailed, match="refused"):
        client.info()
    with live_server(tmp_path, unix_socket=path) as server:
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(str(path))
            slow.settimeout(20)
            slow.sendall(head.encode() + body[:1000])
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with asking(path, **NPY) as other:
                answer = other.post("/bce", content=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "draining")
            slow.sendall(body[1000:])
            assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")  # accepted before the stop
        assert server.process.wait(30) == 0
    assert not path.exists()
    quick = Retry(first_wait=0.01, longest_wait=0.02, first_refusal=4, first_contact=2)
    with LossClient(f"unix://{path}", retry=quick) as client, pytest.raises(ConnectionFailed) as caught:
        client.info()
    assert caught.value.__notes__ == ["This was attempt 4."]  # as of a port where nobody listens


@pytest.mark.waits
def test_a_new_server_takes_it_over(folder: Path, tmp_path: Path) -> None:
    path, port = folder / "handed.sock", free_port()
    more: dict[str, Any] = {"handover": tmp_path / "handover", "unix_socket": path, "lame_duck_seconds": 0.5}
    stop, failed, asked = threading.Event(), list[str](), [0]

    def ask() -> None:
        while not stop.is_set():
            try:
                with asking(path, **NPY) as client:
                    answer = client.post("/bce", content=pair_body(2))
                asked[0] += 1
                if answer.status_code != 200:
                    failed.append(answer.text)
            except httpx.HTTPError as error:
                failed.append(repr(error))

    def ready(server: LiveServer) -> bool:
        return " ready after " in server.log.read_text()

    with ExitStack() as stack:
        (tmp_path / "1").mkdir()
        (tmp_path / "2").mkdir()
        first = stack.enter_context(live_server(tmp_path / "1", port=port, **more))
        wait_until(lambda: ready(first), 30, "not ready")
        inode = path.stat().st_ino
        caller = threading.Thread(target=ask)
        caller.start()
        stack.callback(stop.set)
        second = stack.enter_context(live_server(tmp_path / "2", port=port, **more))
        wait_until(lambda: ready(second), 30, "not ready")
        assert first.process.wait(30) == 0, first.log.read_text()
        time.sleep(0.3)
        assert path.stat().st_ino == inode
        stop.set()
        caller.join()
        assert failed == []
        assert asked[0] > 10
        with LossClient(f"unix://{path}") as client:
            assert client.ready()
    assert not path.exists()


def test_a_transport_of_ones_own_must_be_for_the_same_socket(url: str) -> None:
    what = r"make it for this socket, HttpxTransport\(unix_socket="
    with LossClient(url, transport=HttpxTransport) as client, pytest.raises(ConnectionFailed, match=what):
        client.bce(X, Y)
    own = url.removeprefix("unix://")
    with LossClient(url, api_key=KEY, transport=lambda: HttpxTransport(unix_socket=own)) as client:
        assert client.bce(X, Y).count == 240


def test_a_socket_in_the_transport_alone_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOSSD_BASE_URL", raising=False)
    what = (
        r"base_url is http://127.0.0.1:8000, and its transport connects to /run/a b.sock: give the client "
        r"base_url='unix:///run/a%20b.sock', or leave unix_socket out"
    )
    with (
        LossClient(transport=lambda: HttpxTransport(unix_socket="/run/a b.sock")) as client,
        pytest.raises(ConnectionFailed, match=what),
    ):
        client.bce(X, Y)
