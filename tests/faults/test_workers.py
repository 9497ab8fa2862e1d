"""A killed worker is latency, not an error; and nothing is left behind."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
import time
import urllib.parse
from pathlib import Path

import httpx
import numpy as np
import pytest

import reference
from live_server import LiveServer, live_server
from lossd_client import LossClient

X = np.random.default_rng(3).normal(0, 4, (32, 80)).astype(np.float32)
Y = (X > 3).astype(np.float32)


def expected() -> float:
    each = (reference.focal(float(x), float(y)) for x, y in zip(X.ravel(), Y.ravel(), strict=True))
    return float(sum(each) / X.size)


def test_kills_under_load(server: LiveServer) -> None:
    answers: list[float] = []
    slowest = [0.0]
    problems: list[Exception] = []
    stop = threading.Event()

    def ask() -> None:
        with LossClient(server.url, timeout=30) as client:
            while not stop.is_set():
                began = time.monotonic()
                try:
                    answers.append(float(client.focal(X, Y)))
                except Exception as error:
                    problems.append(error)
                slowest[0] = max(slowest[0], time.monotonic() - began)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    killed = set()
    for _ in range(3):
        time.sleep(0.3)
        pid = server.worker_pid()
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while server.worker_pid() == pid or httpx.get(f"{server.url}/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(killed) == 3
    assert len(set(answers)) == 1
    assert answers[0] == pytest.approx(expected(), rel=1e-14)
    assert slowest[0] < 15


def test_a_large_request_survives_the_death_of_its_worker(server: LiveServer) -> None:
    x = np.tile(X, (2000, 1))  # 5 million elements: tens of slices
    y = np.tile(Y, (2000, 1))
    with LossClient(server.url, timeout=60) as client:
        undisturbed = client.bce(x, y)
        by_class = client.bce(x, y, axis=0)
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(client.bce(x, y))),
            threading.Thread(target=lambda: results.append(client.bce(x, y, axis=0))),
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.12)
        os.kill(server.worker_pid(), signal.SIGKILL)
        for thread in threads:
            thread.join()
    assert len(results) == 2
    for result in results:
        before = by_class if isinstance(result.loss, np.ndarray) else undisturbed
        assert np.asarray(result.loss).tobytes() == np.asarray(before.loss).tobytes()
        assert result.sum == before.sum
    server.wait_until_ready()


def test_memory_comes_back(server: LiveServer) -> None:
    _await_memory(server, seconds=5.0)


def test_a_caller_who_hangs_up_frees_its_memory(server: LiveServer) -> None:
    def cut_short() -> object:
        yield b"\x93NUMPY\x01\x00"
        msg = "gone"
        raise RuntimeError(msg)

    headers = {"content-type": "application/x-npy", "content-length": "100000000"}
    for _ in range(5):
        with pytest.raises(RuntimeError, match="gone"):
            httpx.post(f"{server.url}/bce", content=cut_short(), headers=headers)  # type: ignore[arg-type] # it does yield bytes
    _await_memory(server, seconds=5.0)


def test_callers_who_hang_up_while_they_are_scored_free_their_memory(tmp_path: Path) -> None:
    """Slices of these take 0.2 s, and two of each request are with the worker: 4 s to the last one's end."""
    elements = np.zeros(16 * 32768, np.float32)
    file = io.BytesIO()
    np.save(file, elements)
    body = 2 * file.getvalue()
    with live_server(tmp_path, modules=Path(__file__).parent, losses="slow_loss:SLOW") as server:
        address = urllib.parse.urlsplit(server.url)
        callers = [socket.create_connection((address.hostname, address.port)) for _ in range(10)]
        for caller in callers:
            caller.sendall(
                b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
        while "lossd_requests_in_flight 10.0" not in httpx.get(f"{server.url}/metrics").text:
            time.sleep(0.02)
        for caller in callers:
            caller.close()
        _await_memory(server, seconds=1.0)
        assert httpx.post(f"{server.url}/bce", json={"logits": [1], "targets": [1]}).status_code == 200


def test_nothing_outlives_the_server(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        children = [int(pid) for pid in _children(server.process.pid)]
        assert len(children) == 2  # a front end and a worker
        assert server.stop() == 0
        assert not any(_alive(pid) for pid in children)


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        children = [int(pid) for pid in _children(server.process.pid)]
        server.process.kill()
        server.process.wait()
        ends = time.monotonic() + 10
        while any(_alive(pid) for pid in children):
            assert time.monotonic() < ends
            time.sleep(0.05)


def test_an_ended_front_end_ends_the_server(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        worker = server.worker_pid()
        (front_end,) = (pid for pid in map(int, _children(server.process.pid)) if pid != worker)
        os.kill(front_end, signal.SIGKILL)
        assert server.process.wait(30) == 1
        assert not _alive(worker)


def _await_memory(server: LiveServer, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while "lossd_bytes_in_flight 0.0" not in httpx.get(f"{server.url}/metrics").text:
        assert time.monotonic() < ends
        time.sleep(0.05)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
