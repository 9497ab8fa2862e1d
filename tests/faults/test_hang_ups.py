"""Callers who hang up, wherever they are: their memory and their place are free within a second."""

from __future__ import annotations

import io
import os
import random
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest

from arrow_stream import stream
from bench.memory import family
from faults.observe import descriptors, is_free, metrics, port_of, wait_until
from live_server import LiveServer, live_server

pytestmark = pytest.mark.waits

MIB = 1 << 20
ABORTS = int(os.environ.get("LOSSD_ABORTS", "600"))
SEED = int(os.environ.get("LOSSD_SEED", "1"))
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with room for one body of 40 MiB, not for two."""
    settings = {
        "arena_bytes": 72 * MIB,
        "inline_ms": 0,  # small requests are to wait for the worker, too
        "max_body_bytes": 40 * MIB,
        "max_json_bytes": MIB,
        "max_chunked_bytes": 8 * MIB,
        "max_expanded_bytes": 8 * MIB,
        "max_batch_bytes": 2 * MIB,
        "max_output_bytes": 4 * MIB,
    }
    with live_server(tmp_path_factory.mktemp("small"), **settings) as running:
        yield running


def gauge(server: LiveServer, name: str) -> float:
    return metrics(server)[name]


def connect(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(server)), timeout=10)


def request(body: bytes, media: str = "application/x-npy", target: str = "/focal") -> bytes:
    head = (
        f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def npy(rows: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((rows, 80), dtype=np.float32))
    np.save(file, np.zeros((rows, 80), dtype=bool))
    return file.getvalue()


def hang_up(connection: socket.socket, *, reset: bool) -> None:
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_while_it_waits_for_memory_with_its_upload_paused(small: LiveServer, reset: bool) -> None:
    whole = request(npy(100_000))
    holder = connect(small)
    holder.sendall(whole[: 20 * MIB])
    wait_until(lambda: gauge(small, "lossd_bytes_in_flight") > 0, 5, "the first got no memory")
    waiter = connect(small)
    if reset:
        waiter.settimeout(0.5)
        with pytest.raises(TimeoutError):  # until the buffers between are full
            waiter.sendall(whole)
    else:  # TCP tells of a close behind the last byte: where those have no room it cannot be told
        waiter.sendall(whole[:200_000])
    wait_until(lambda: gauge(small, "lossd_requests_waiting") == 1, 5, "the second does not wait")
    hang_up(waiter, reset=reset)
    wait_until(lambda: gauge(small, "lossd_requests_waiting") == 0, 5, "the place is still taken")
    wait_until(lambda: gauge(small, "lossd_requests_in_flight") == 1, 5, "the request is still there")
    hang_up(holder, reset=reset)
    wait_until(lambda: is_free(small), 5, "the memory is still taken")


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_while_it_is_computed(small: LiveServer, reset: bool) -> None:
    connection = connect(small)
    connection.sendall(request(npy(80_000)))
    hang_up(connection, reset=reset)
    wait_until(lambda: is_free(small), 5, "the memory is still taken")


def test_with_a_request_behind_the_one_that_is_computed(small: LiveServer) -> None:
    """It is the older one whose caller is gone, too: nobody tries to answer it."""
    one = request(b'{"logits": [1], "targets": [1]}', "application/json", "/bce")
    worker = small.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    try:
        for _ in range(5):
            connection = connect(small)
            connection.sendall(one + one)
            wait_until(lambda: gauge(small, "lossd_requests_in_flight") > 0, 5, "it has not come")
            time.sleep(0.05)  # for the one behind it
            hang_up(connection, reset=True)
            wait_until(lambda: gauge(small, "lossd_requests_in_flight") == 0, 5, "it is still there")
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_until(lambda: is_free(small), 5, "the memory is still taken")
    log = small.log.read_text()
    assert "Traceback" not in log
    assert "ASGI callable" not in log


def test_many_at_random_places(small: LiveServer, say: Callable[[str], None]) -> None:
    """What is sent, how far, and how it ends is drawn; LOSSD_ABORTS and LOSSD_SEED say how many and which."""
    draw = random.Random(SEED)
    tensors = {"logits": np.zeros((4000, 80), dtype=np.float32), "targets": np.zeros((4000, 80), dtype=bool)}
    requests = [
        request(npy(32)),
        request(npy(4000)),
        request(stream(tensors, 500), "application/vnd.apache.arrow.stream", "/bce"),
        request(b'{"logits": [[1.5, 2]], "targets": [[0, 1]]}', "application/json", "/bce"),
        request(npy(300), target="/focal?reduction=none"),
    ]
    httpx.post(f"{small.url}/bce", content=npy(32), headers={"content-type": "application/x-npy"}, timeout=10)
    httpx.post(f"{small.url}/bce", json={"logits": [1], "targets": [1]}, timeout=10)  # not by the fast lane
    time.sleep(0.5)  # until the server has seen the end of these connections
    processes = family(small.process.pid)
    before = [descriptors(pid) for pid in processes]
    for _ in range(ABORTS):
        whole = draw.choice(requests)
        connection = connect(small)
        connection.sendall(whole[: draw.randrange(len(whole) + 1)])
        if draw.random() < 0.2:
            time.sleep(draw.random() * 0.01)
        hang_up(connection, reset=draw.random() < 0.5)
    wait_until(lambda: is_free(small), 5, f"something is held (LOSSD_SEED={SEED})")

    def now() -> list[int]:
        return [descriptors(pid) for pid in processes]

    wait_until(lambda: now() == before, 5, f"descriptors: {now()}, before {before}")
    say(f"{ABORTS} aborts: reserved bytes 0, descriptors {now()} as before")
    answer = httpx.post(
        f"{small.url}/bce", content=npy(32), headers={"content-type": "application/x-npy"}, timeout=10
    )
    assert answer.status_code == 200
