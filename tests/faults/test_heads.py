"""Heads, trailers and bodies larger than they may be: refused, and the memory shows nothing of them."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from bench.memory import Peak
from faults.raw import Received, connect, talk
from live_server import LiveServer, live_server

pytestmark = pytest.mark.alone

MIB = 1 << 20
ENOUGH = 8 * MIB
"""What a head of this size may not cost: it is far more than a connection's buffers."""
POST = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
JSON = b'{"logits": [1], "targets": [1]}'
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("bounded")) as running:
        for _ in range(2):  # what is allocated once is not the heads'
            talk(running, POST + b"X-A: " + b"a" * ENOUGH)
            talk(running, LONG["many trailers"])
            talk(running, POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(JSON) + JSON)
        yield running


def refused(server: LiveServer, whole: bytes, status: int, code: str) -> Received:
    with Peak(server.process.pid, 0.01) as memory:
        received = talk(server, whole)
    assert received.statuses == [status], received
    assert received.code == code
    assert memory.growth < ENOUGH // 2, f"{memory.growth / MIB:.1f} MiB"
    return received


LONG = {
    "a value": POST + b"X-A: " + b"a" * ENOUGH + b"\r\n\r\n",
    "a name": POST + b"a" * ENOUGH + b": b\r\n\r\n",
    "a path": b"GET /" + b"a" * ENOUGH + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a query": b"POST /bce?a=" + b"a" * ENOUGH + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "spaces": POST + b"X-A: " + b" " * ENOUGH + b"a\r\n\r\n",
    "spaces before the target": b"GET " + b" " * ENOUGH + b"/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path and a value together": b"GET /"
    + b"a" * 40_000
    + b" HTTP/1.1\r\nHost: x\r\nX-A: "
    + b"a" * 40_000
    + b"\r\n\r\n",
    "many headers": POST + b"a:\r\n" * (ENOUGH // 4) + b"\r\n",
    "many lines of a name": POST + b"X-A: b\r\n" * (ENOUGH // 8) + b"\r\n",
    "empty lines before it": b"\r\n" * (ENOUGH // 2),
    "a trailer": CHUNKED + b"1\r\n{\r\n0\r\nX-A: " + b"a" * ENOUGH + b"\r\n\r\n",
    "many trailers": CHUNKED + b"1\r\n{\r\n0\r\n" + b"a:\r\n" * (ENOUGH // 4) + b"\r\n",
    "a chunk's extension": CHUNKED + b"1;" + b"a" * ENOUGH + b"\r\n{\r\n0\r\n\r\n",
    "zeros before a chunk's size": CHUNKED + b"0" * ENOUGH + b"1\r\n{\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("whole", LONG.values(), ids=LONG)
def test_what_is_too_long(bounded: LiveServer, whole: bytes) -> None:
    refused(bounded, whole, 431, "headers_too_large")


def test_the_most_that_there_may_be(bounded: LiveServer) -> None:
    last = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(JSON) + JSON
    fillers = b"".join(b"X-%d: y\r\n" % n for n in range(96))
    assert talk(bounded, POST + fillers + last).statuses == [200]
    refused(bounded, POST + fillers + b"X-A: b\r\n" + last, 431, "headers_too_large")
    assert talk(bounded, POST + b"X-A: %b\r\n" % (b"a" * 32_000) + last).statuses == [200]
    refused(bounded, POST + b"X-A: %b\r\n" % (b"a" * 33_000) + last, 431, "headers_too_large")


def test_trailers_change_nothing(bounded: LiveServer) -> None:
    trailers = (
        b"X-Timeout-Ms: none\r\nX-Request-Id: behind\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    )
    chunks = b"%x\r\n" % len(JSON) + JSON + b"\r\n0\r\n" + trailers + b"\r\n"
    request = CHUNKED.replace(b"\r\n\r\n", b"\r\nX-Request-Id: before\r\nConnection: close\r\n\r\n")
    for pieces in ([request + chunks], [request, chunks]):
        received = talk(bounded, *pieces, pause=0.05)
        assert received.statuses == [200]
        assert b"x-request-id: before\r\n" in received.raw


@pytest.mark.parametrize("media", [b"application/json", b"application/x-npy", b"application/x-npz"])
def test_a_terabyte_is_refused_before_any_of_it(
    bounded: LiveServer, media: bytes, say: Callable[[str], None]
) -> None:
    head = (
        b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: 1099511627776\r\n\r\n" % media
    )
    took = []
    for _ in range(5):
        with Peak(bounded.process.pid, 0.01) as memory, connect(bounded) as connection:
            began = time.monotonic()
            connection.sendall(head)
            first = connection.recv(1 << 16)
            took.append(time.monotonic() - began)
        assert first.startswith(b"HTTP/1.1 413 "), first
        assert b"\r\nconnection: close\r\n" in first
        assert memory.growth < MIB
    say(f"a terabyte of {media.decode()} refused within {min(took) * 1e3:.1f} to {max(took) * 1e3:.1f} ms")
    assert min(took) < 0.05


def hostile_npy() -> Iterator[bytes]:
    """A hundred .npy heads: huge shapes, objects, deep nesting, code, lengths that lie."""
    for shape in (
        "(2**63,)",
        f"({2**63},)",
        f"({2**32},{2**32})",
        "(-1,)",
        f"({'1,' * 9})",
        "(1e9,)",
        "()" * 50,
    ):
        for descr in (
            "'<f4'",
            "'|O'",
            "'<f4\\x00'",
            "'<U1000000000'",
            "[('a','<f4')]",
            "'<m8'",
            "'<f16'",
            "None",
        ):
            yield f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    for text in (
        "__import__('os').system('true')",
        "[" * 60_000,
        "{" * 1000 + "}" * 1000,
        "9" * 60_000,
        "",
        "\x00",
    ):
        yield text.encode()
        yield b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + text.encode() + b",), }"
    for n in range(32):
        yield b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }" + b"'" * n + b" " * (n * 1000)


def test_hostile_heads_of_arrays(bounded: LiveServer) -> None:
    heads = list(hostile_npy())
    assert len(heads) >= 100
    good = io.BytesIO()
    np.save(good, np.zeros(1, np.float32))
    with Peak(bounded.process.pid, 0.01) as memory:
        for number, text in enumerate(heads):
            length = len(text) if number % 3 else 0xFFFF  # or one that lies
            for magic in (b"\x93NUMPY\x01\x00%b", b"\x93NUMPY\x02\x00%b\x00\x00"):
                body = magic % length.to_bytes(2, "little") + text + good.getvalue()
                request = POST.replace(b"json", b"x-npy") + b"Content-Length: %d\r\n" % len(body)
                received = talk(bounded, request + b"Connection: close\r\n\r\n" + body)
                [status] = received.statuses
                assert 400 <= status < 500, (text[:100], received)
                assert json.loads(received.raw.partition(b"\r\n\r\n")[2])["code"], received
    assert memory.growth < ENOUGH // 2, f"{memory.growth / MIB:.1f} MiB"
