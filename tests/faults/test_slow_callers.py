"""Callers who keep the server waiting: told so, and let go, with what they held free at once."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from bench.memory import own
from faults.observe import connections, is_free, metrics, port_of, roles, total, wait_until
from faults.raw import connect, drip, receive, talk
from live_server import LiveServer, live_server

pytestmark = pytest.mark.waits

MIB = 1 << 20
RATE = 8192
JSON = b'{"logits": [1], "targets": [1]}'
JSON_HEAD = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WHOLE = JSON_HEAD + b"Content-Length: %d\r\n\r\n" % len(JSON) + JSON
LARGE = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server without patience, and with memory for one body of 40 MiB, not for two."""
    settings = {
        "header_seconds": 0.6,
        "upload_bytes_per_second": RATE,
        "upload_grace_seconds": 0.6,
        "stall_seconds": 1,
        "keep_alive_seconds": 30,
        "linger_seconds": 1,
        "arena_bytes": 112 * MIB,
        "max_body_bytes": 40 * MIB,
        "max_json_bytes": MIB,
        "max_chunked_bytes": 8 * MIB,
        "max_expanded_bytes": 8 * MIB,
        "max_batch_bytes": 2 * MIB,
        "max_output_bytes": 40 * MIB,
    }
    with live_server(tmp_path_factory.mktemp("hasty"), **settings) as running:
        yield running


def npy(rows: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((rows, 80), dtype=np.float32))
    np.save(file, np.zeros((rows, 80), dtype=bool))
    return file.getvalue()


def post(body: bytes, target: str = "/focal") -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def until_broken(connection: socket.socket, data: bytes, pause: float = 0.0) -> float:
    """Send the same again and again, until the connection breaks; the seconds that it took."""
    began = time.monotonic()
    try:
        while True:
            connection.sendall(data)
            time.sleep(pause)
    except ConnectionError:
        return time.monotonic() - began


def slow(server: LiveServer) -> float:
    return total(server, "lossd_requests_total", outcome="upload_too_slow")


def test_who_sends_nothing_is_let_go_without_a_word(hasty: LiveServer) -> None:
    received = talk(hasty)
    assert (received.raw, received.ended) == (b"", "closed")
    assert received.seconds > 0.5


@pytest.mark.parametrize("half", [WHOLE[:30], b"G", b"\r\n", WHOLE[:60] + b"\r\nUpgr"], ids=range(4))
def test_half_a_head(hasty: LiveServer, half: bytes) -> None:
    received = talk(hasty, half)
    assert received.statuses == [408]
    assert received.code == "upload_too_slow"
    assert b'"retryable": true' in received.raw
    assert received.ended == "closed"
    assert received.seconds > 0.5


@pytest.mark.parametrize("data", [WHOLE * 100, b"\r\n" * 1000], ids=["a head", "empty lines"])
def test_a_byte_at_a_time(hasty: LiveServer, data: bytes) -> None:
    with connect(hasty) as connection:
        received = drip(connection, data, 0.1)
    assert received.statuses == [408]
    assert received.seconds < 10


@pytest.mark.parametrize(
    "before", [WHOLE, post(npy(2)), b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"], ids=range(3)
)
def test_half_a_later_head(hasty: LiveServer, before: bytes) -> None:
    """At once, behind what is answered; and after a pause that is as long as it likes."""
    received = talk(hasty, before + WHOLE[:30])
    assert received.statuses == [200, 408]
    with connect(hasty) as connection:
        connection.sendall(before)
        first = receive(connection, 1.0)
        assert (first.statuses, first.ended) == ([200], "open")
        connection.sendall(WHOLE[:30])
        assert receive(connection).statuses == [408]


def test_half_a_body(hasty: LiveServer) -> None:
    whole, before = post(npy(100_000)), slow(hasty)
    with connect(hasty) as connection:
        connection.sendall(whole[:100])  # of which a few are of the body
        received = receive(connection)
    assert received.statuses == [408]
    assert received.code == "upload_too_slow"
    assert f"{RATE} bytes/s" in received.raw.decode()
    assert received.seconds > 0.5
    wait_until(lambda: is_free(hasty), 5, "its memory is still taken")
    assert slow(hasty) == before + 1


@pytest.mark.parametrize(
    "head",
    [post(npy(1000))[:200], CHUNKED, JSON_HEAD + b"Content-Length: 100000\r\n\r\n"],
    ids=["npy", "chunks", "json"],
)
def test_a_body_a_byte_at_a_time(hasty: LiveServer, head: bytes) -> None:
    with connect(hasty) as connection:
        connection.sendall(head)
        piece = b"1\r\n \r\n" if head is CHUNKED else b" "
        received = drip(connection, piece * 1000, 0.03, len(piece))
    assert received.statuses == [408]
    wait_until(lambda: is_free(hasty), 5, "its memory is still taken")


def test_extensions_are_no_body(hasty: LiveServer) -> None:
    with connect(hasty) as connection:
        connection.sendall(CHUNKED + b"1;")
        received = drip(connection, b"a" * 100_000, 0.1, 1000)
    assert received.statuses == [408]


def test_a_body_behind_its_answer_is_not_read_for_long(hasty: LiveServer) -> None:
    """What the server has no use for, at any rate."""
    with connect(hasty) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert until_broken(connection, b" " * 10_000, 0.01) < 10


def test_a_body_at_fault_behind_its_answer_has_no_other(hasty: LiveServer) -> None:
    """While the rest of a body that was refused is being read away."""
    head = CHUNKED.replace(b"application/json", b"text/plain")
    with connect(hasty) as connection:
        connection.sendall(head + b"1\r\n{\r\n")
        received = receive(connection, answers=1)
        connection.sendall(b"zz\r\n" + WHOLE)
        rest = receive(connection)
    assert received.statuses == [415]
    assert (rest.raw, rest.ended) == (b"", "closed")


def test_who_keeps_the_rate_is_heard_out(hasty: LiveServer) -> None:
    whole = post(npy(200))
    with connect(hasty) as connection:
        for start in range(0, len(whole), RATE):
            connection.sendall(whole[start : start + RATE])
            time.sleep(0.25)  # which is four times as fast as must be
        assert receive(connection, answers=1).statuses == [200]


def test_who_was_faster_before_may_pause(hasty: LiveServer) -> None:
    whole = post(npy(1000))
    with connect(hasty) as connection:
        connection.sendall(whole[: 20 * RATE])
        assert receive(connection, 2.0).raw == b""
        connection.sendall(whole[20 * RATE :])
        assert receive(connection, answers=1).statuses == [200]


def test_who_waits_for_memory_is_not_too_slow(hasty: LiveServer) -> None:
    whole = post(npy(100_000))
    with connect(hasty) as holder, connect(hasty) as waiter:
        holder.sendall(whole[: 20 * MIB])
        wait_until(lambda: metrics(hasty)["lossd_bytes_in_flight"] > 0, 5, "the first got no memory")
        waiter.sendall(whole[:200])
        wait_until(lambda: metrics(hasty)["lossd_requests_waiting"] == 1, 5, "the second does not wait")
        assert receive(waiter, 2.0).raw == b""
        holder.close()
        waiter.sendall(whole[200:])
        assert receive(waiter, answers=1).statuses == [200]


def test_who_waits_for_an_answer_is_not_too_slow(hasty: LiveServer) -> None:
    """Nor has its connection been idle meanwhile."""
    with connect(hasty) as connection:
        connection.sendall(b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(JSON))
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
        connection.sendall(JSON)
        assert receive(connection, answers=1).statuses == [200]


def unread(server: LiveServer, last: bytes = b"") -> socket.socket:
    """A connection whose answer, of 32 MB, nobody reads."""
    connection = connect(server, receive_bytes=4096)
    connection.sendall(post(npy(50_000), "/bce?reduction=none").replace(b"x-npy\r\n", b"x-npy\r\n" + last, 1))
    return connection


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"], ids=["kept", "the last"])
def test_who_leaves_an_answer_unread(hasty: LiveServer, last: bytes) -> None:
    accept = b"Accept: application/x-npy\r\n"
    gone = total(hasty, "lossd_requests_total", outcome="disconnected")
    with unread(hasty, last + accept) as connection:
        wait_until(lambda: metrics(hasty)["lossd_bytes_in_flight"] > 30 * MIB, 10, "there is no answer")
        wait_until(lambda: is_free(hasty), 10, "its memory is still taken")
        [front_end] = roles(hasty).front_ends
        wait_until(lambda: not connections(hasty, front_end), 5, "its connection is still there")
        received = receive(connection)
        assert received.ended != "open"
        assert len(received.raw) < 32_000_000
    assert total(hasty, "lossd_requests_total", outcome="disconnected") == gone + 1


def test_the_kernel_keeps_little_of_an_unread_answer(hasty: LiveServer) -> None:
    with unread(hasty, b"Accept: application/x-npy\r\n") as connection:
        fields = (f":{port:04X}" for port in (port_of(hasty), connection.getsockname()[1]))
        ends = tuple(fields)
        wait_until(lambda: queued(*ends) > 0, 20, "there is no answer yet")
        time.sleep(0.5)
        assert queued(*ends) < MIB


def queued(local: str, remote: str) -> int:
    """Bytes of a connection that the kernel has, and its peer has not."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        int(row[4].partition(":")[0], 16)
        for row in rows
        if row[1].endswith(local) and row[2].endswith(remote)
    )


def test_who_leaves_many_small_answers_unread(hasty: LiveServer) -> None:
    """Also where each fits into the buffers between: then it is not read from any more."""
    with connect(hasty, receive_bytes=4096) as connection:
        until_broken(connection, LARGE * 10)
    [front_end] = roles(hasty).front_ends
    wait_until(lambda: not connections(hasty, front_end), 5, "its connection is still there")


def test_requests_behind_unread_answers_cost_what_was_read_of_them(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    many = 40
    probes = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 7000
    with live_server(tmp_path) as server, ExitStack() as stack:
        [front_end] = roles(server).front_ends
        talk(server, probes[:4000], seconds=1)
        before = own(front_end)
        for _ in range(many):
            caller = stack.enter_context(connect(server, receive_bytes=4096))
            caller.setblocking(False)
            caller.send(probes)
        time.sleep(3)
        each = (own(front_end) - before) / many
        say(f"{each / 1024:.0f} KiB for each connection")
        assert each < 700 << 10


def test_who_reads_slowly_but_reads_gets_all(hasty: LiveServer) -> None:
    with unread(hasty, b"Accept: application/x-npy\r\nConnection: close\r\n") as connection:
        began, received = time.monotonic(), 0
        while chunk := connection.recv(1 << 20):
            received += len(chunk)
            time.sleep(max(0.0, began + received / 16e6 - time.monotonic()))  # for two seconds
    assert received > 32_000_000


def test_who_takes_longer_for_a_piece_than_for_an_unread_answer_gets_it(hasty: LiveServer) -> None:
    with unread(hasty, b"Accept: application/x-npy\r\nConnection: close\r\n") as connection:
        began = time.monotonic()
        while time.monotonic() < began + 5.0:  # the longest that nothing may be read is a second
            assert connection.recv(100_000)
            time.sleep(0.2)


def test_nobody_else_notices(hasty: LiveServer) -> None:
    assert is_free(hasty)
    assert talk(hasty, WHOLE, answers=1).statuses == [200]
    assert "Traceback" not in hasty.log.read_text()
