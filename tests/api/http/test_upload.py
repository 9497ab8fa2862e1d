"""Long bodies, which are read past the HTTP parser: the same answers, and what comes behind them is heard."""

from __future__ import annotations

import gzip
import json
import socket
import time
from contextlib import suppress
from random import Random
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pytest

from arrow_stream import stream
from faults.observe import is_free, wait_until
from live_server import LiveServer
from wire.feeding import form, npy

ROWS = 12_500
Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def arrays() -> Pair:
    random = np.random.default_rng(3)
    x = random.normal(0, 3, (ROWS, 80)).astype(np.float32)
    return x, (random.random((ROWS, 80)) < 0.05).astype(np.float32)


class Line:
    """A connection to the server."""

    def __init__(self, server: LiveServer) -> None:
        parts = urlsplit(server.url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        self._held = b""

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes, seed: int = 0) -> None:
        """Send bytes in pieces of random lengths, a few of which come alone."""
        random, view = Random(seed), memoryview(data)
        while view:
            step = random.choice([1, 1000, 70_000, 300_000, 3_000_000])
            self.socket.sendall(view[:step])
            view = view[step:]
            if random.random() < 0.1:
                time.sleep(0.002)

    def answer(self) -> tuple[int, dict[str, Any]]:
        """The next answer."""
        while b"\r\n\r\n" not in self._held:
            self._held += self._receive()
        head, _, rest = self._held.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(rest) < length:
            rest += self._receive()
        self._held = rest[length:]
        return int(head.split(b" ")[1]), json.loads(rest[:length])

    def _receive(self) -> bytes:
        data = self.socket.recv(65536)
        assert data, self._held
        return data


def request(body: bytes, media: str = "application/x-npy", *headers: str, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    lines = ["POST /bce HTTP/1.1", "Host: x", f"Content-Type: {media}", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("seed", range(4))
def test_every_format_gives_the_bits_that_it_gives_in_small(
    server: LiveServer, arrays: Pair, seed: int
) -> None:
    x, y = arrays
    body = npy(x) + npy(y)
    text = json.dumps({"logits": x[:2000].tolist(), "targets": y[:2000].tolist()}).encode()
    arrow = stream({"logits": x, "targets": y}, 1000)
    sent = {
        "npy": request(body),
        "gzip": request(gzip.compress(body, 1), "application/x-npy", "Content-Encoding: gzip"),
        "multipart": request(
            form([("logits", npy(x)), ("targets", npy(y))]), "multipart/form-data; boundary=bound"
        ),
        "arrow": request(arrow, "application/vnd.apache.arrow.stream"),
        "json": request(text, "application/json"),
    }
    found = {}
    with Line(server) as line:
        for name, data in sent.items():
            line.send(data, seed)
            status, answer = line.answer()
            assert status == 200, answer
            found[name] = answer["loss"]
        line.send(request(npy(x[:2000]) + npy(y[:2000])))
        few = line.answer()[1]["loss"]
    assert found == dict.fromkeys(("npy", "gzip", "multipart", "arrow"), found["npy"]) | {"json": few}


def test_requests_behind_a_long_body_are_answered_in_turn(server: LiveServer, arrays: Pair) -> None:
    x, y = arrays
    small, large = npy(x[:3]) + npy(y[:3]), npy(x) + npy(y)
    with Line(server) as line:
        line.send(request(large) + request(small) + request(large) + request(small), seed=5)
        counts = [line.answer()[1]["count"] for _ in range(4)]
    assert counts == [x.size, 240, x.size, 240]


def test_a_body_that_is_found_wrong_on_the_way_is_refused_and_the_connection_closed(
    server: LiveServer, arrays: Pair
) -> None:
    x, y = arrays
    wrong = npy(x) + b"not an array" + npy(y)
    with Line(server) as line:
        line.send(request(wrong)[:5_000_000], seed=6)
        status, answer = line.answer()
        assert (status, answer["code"]) == (400, "malformed_npy")
        with suppress(ConnectionResetError):
            assert line.socket.recv(1) == b""
    wait_until(lambda: is_free(server), 10, "its memory is free")


@pytest.mark.parametrize("cut", [1000, 300_000, 4_000_000, 7_900_000])
def test_a_caller_who_hangs_up_within_a_body_leaves_nothing_behind(
    server: LiveServer, arrays: Pair, cut: int
) -> None:
    x, y = arrays
    with Line(server) as line:
        line.send(request(npy(x) + npy(y))[:cut], seed=cut)
    wait_until(lambda: is_free(server), 10, "its memory is free")


def test_a_deadline_that_passes_within_a_body_is_told(server: LiveServer, arrays: Pair) -> None:
    x, y = arrays
    data = request(npy(x) + npy(y), "application/x-npy", "X-Timeout-Ms: 300")
    with Line(server) as line:
        line.socket.sendall(data[:2_000_000])
        status, answer = line.answer()
    assert (status, answer["code"]) == (504, "deadline_exceeded")
    wait_until(lambda: is_free(server), 10, "its memory is free")
