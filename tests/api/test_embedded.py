"""The server inside another program: a plain uvicorn, which knows nothing of lossd."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from live_server import STOP_SECONDS, LiveServer
from lossd.api.embedded import EmbeddedApp, StartError, embedded_settings, run_embedded
from lossd.types import ErrorCode, RequestError
from lossd_client import LossClient
from lossd_client.local import free_port

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(20)
X = RNG.normal(size=(4096, 80)).astype(np.float32)
Y = (RNG.random(X.shape) < 0.1).astype(np.float32)


@contextmanager
def embedded_server(folder: Path, loop: str, **settings: object) -> Iterator[LiveServer]:
    """Run `uvicorn lossd.api.embedded:app`, and see to it that it ends, with nothing left behind."""
    port, log = free_port(), folder / "uvicorn.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOSSD_")}
    given = {"usage_file": "", "threads": 1, "allow_open": 1, **settings}
    environment |= {f"LOSSD_{name.upper()}": str(value) for name, value in given.items()}
    environment["LEFT_OF"] = str(folder)
    options = ["--port", str(port), "--loop", loop, "--lifespan", "on", "--log-level", "warning"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "lossd.api.embedded:app", *options],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = LiveServer(process, f"http://127.0.0.1:{port}", log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)


def left_of(folder: Path) -> list[int]:
    """The processes that a server's own environment names; memory without a name ends with the last."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"LEFT_OF={folder}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_gives_the_bits_of_a_server_and_leaves_nothing_behind(
    tmp_path: Path, server: LiveServer, loop: str
) -> None:
    with embedded_server(tmp_path, loop) as embedded:
        with LossClient(server.url) as native, LossClient(embedded.url) as client:
            for rows in (32, 4096):  # in place, and by the worker
                expected, found = native.focal(X[:rows], Y[:rows]), client.focal(X[:rows], Y[:rows])
                assert (found.loss, found.sum_terms) == (expected.loss, expected.sum_terms)
            document = {"logits": X.tolist(), "targets": Y.tolist()}  # parsed by the helper
            answer = httpx.post(f"{embedded.url}/focal", json=document, timeout=60)
            assert answer.json()["loss"] == expected.loss
        pid = embedded.worker_pid()
        assert len(left_of(tmp_path)) == 3  # uvicorn, a worker and the helper
        assert os.getsid(pid) == pid  # signals of the program's terminal are not its
    assert embedded.process.returncode == -signal.SIGTERM, embedded.log.read_text()  # as uvicorn ends
    assert not left_of(tmp_path)


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    with embedded_server(tmp_path, "uvloop", inline_ms=0) as embedded, LossClient(embedded.url) as client:
        expected, losses, ends = client.bce(X, Y).loss, list[float](), time.monotonic() + 3

        def send() -> None:
            with LossClient(embedded.url, retry=None) as one:
                while time.monotonic() < ends:
                    losses.append(float(one.bce(X, Y).loss))

        senders = [threading.Thread(target=send) for _ in range(4)]
        for sender in senders:
            sender.start()
        killed = set()
        while time.monotonic() < ends - 1:
            time.sleep(0.5)
            killed.add(embedded.worker_pid())
            os.kill(embedded.worker_pid(), signal.SIGKILL)
        for sender in senders:
            sender.join()
        assert len(killed) > 1
        assert set(losses) == {expected}
        metrics = httpx.get(f"{embedded.url}/metrics").text
        assert 'outcome="ok"' in metrics
        assert not [line for line in metrics.splitlines() if 'outcome="worker_crashed"' in line]


def _in_flight(url: str) -> int:
    found = re.search(r"^lossd_requests_in_flight (\d+)", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_a_stop_answers_what_is_under_way(tmp_path: Path) -> None:
    with embedded_server(tmp_path, "uvloop") as embedded:
        answers: list[httpx.Response] = []
        body = b"".join(_npy(np.tile(array, (64, 1))) for array in (X, Y))

        def send() -> None:
            answers.append(httpx.post(f"{embedded.url}/bce", content=body, headers=NPY, timeout=60))

        senders = [threading.Thread(target=send) for _ in range(3)]
        for sender in senders:
            sender.start()
        while len(answers) + _in_flight(embedded.url) < len(senders):
            time.sleep(0.005)
        embedded.process.send_signal(signal.SIGTERM)
        for sender in senders:
            sender.join()
        assert embedded.process.wait(STOP_SECONDS) == -signal.SIGTERM
        assert [answer.status_code for answer in answers] == [200] * 3


def test_a_caller_who_hangs_up_is_noticed_while_it_waits(tmp_path: Path) -> None:
    with embedded_server(tmp_path, "uvloop", threads=1) as embedded:
        body = b"".join(_npy(np.tile(array, (64, 1))) for array in (X, Y))
        pid = embedded.worker_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            with socket.create_connection(("127.0.0.1", int(embedded.url.rpartition(":")[2]))) as caller:
                head = f"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                caller.sendall(head.encode() + b"Content-Type: application/x-npy\r\n\r\n" + body)
                _wait_for(embedded, "lossd_requests_in_flight 1")
            _wait_for(embedded, "lossd_requests_in_flight 0")
        finally:
            os.kill(pid, signal.SIGCONT)
        found = httpx.get(f"{embedded.url}/metrics").text
        assert 'outcome="disconnected"' in found


def test_it_needs_its_lifespan_and_says_so() -> None:
    async def call() -> None:
        await EmbeddedApp()({"type": "http"}, None, None)  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="lifespan"):
        asyncio.run(call())


def test_without_teams_it_wants_to_be_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOSSD_ALLOW_OPEN", raising=False)
    with pytest.raises(StartError, match=r"LOSSD_TEAMS\), or set LOSSD_ALLOW_OPEN=1"):
        embedded_settings()
    assert embedded_settings(teams=tmp_path / "teams.toml").host == "127.0.0.1"
    monkeypatch.setenv("LOSSD_ALLOW_OPEN", "1")
    assert embedded_settings().teams is None


def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSD_ALLOW_OPEN", "1")
    monkeypatch.setenv("LOSSD_TURN_BYTES", "none")
    with pytest.raises(StartError, match="LOSSD_TURN_BYTES=none"):
        embedded_settings()
    monkeypatch.delenv("LOSSD_TURN_BYTES")
    monkeypatch.setenv("LOSSD_HOST", "0.0.0.0")  # the program listens, wherever it does
    monkeypatch.setenv("LOSSD_FRONT_ENDS", "4")
    assert embedded_settings().front_ends == 1


def test_a_teams_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def start() -> None:
        async with run_embedded(embedded_settings(teams=tmp_path / "none.toml")):
            pass

    with pytest.raises(StartError, match=r"none\.toml cannot be used"):
        asyncio.run(start())


def test_a_worker_that_cannot_run_ends_the_start_with_a_reason(tmp_path: Path) -> None:
    port = free_port()
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "lossd.api.embedded:app", "--port", str(port)],
        env={**os.environ, "LOSSD_DEVICE": "cuda:7", "LOSSD_USAGE_FILE": "", "LOSSD_ALLOW_OPEN": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "a worker cannot run" in done.stderr


def test_errors_cross_processes() -> None:
    error = RequestError(ErrorCode.BAD_SHAPE, "no", [("/targets", "why")], retry_after=2.0)
    copy = pickle.loads(pickle.dumps(error))
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


NPY = {"content-type": "application/x-npy"}


def _npy(array: np.ndarray) -> bytes:
    from io import BytesIO

    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def _wait_for(server: LiveServer, line: str) -> None:
    ends = time.monotonic() + 20
    while line not in httpx.get(f"{server.url}/metrics", timeout=20).text:
        assert time.monotonic() < ends, line
        time.sleep(0.02)
