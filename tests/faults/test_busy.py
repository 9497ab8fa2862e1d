"""New callers beside hundreds of busy connections: none of them waits as long as those."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.asked import pair, pair_body
from faults.observe import port_of
from faults.raw import talk
from live_server import LiveServer, live_server
from lossd_client import LossClient

pytestmark = pytest.mark.alone

BUSY = 900
SAMPLES = 15


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server for this file alone: nothing else has connections to it."""
    with live_server(tmp_path_factory.mktemp("busy")) as running:
        yield running


# A caller with many connections, each of which sends the next request once it has had an answer. Each second
# it prints how long the median request took.
_CALLER = """
import selectors, socket, statistics, sys, time
port, connections, request = int(sys.argv[1]), int(sys.argv[2]), open(sys.argv[3], "rb").read()
selector, sent = selectors.DefaultSelector(), {}
for _ in range(connections):
    one = socket.create_connection(("127.0.0.1", port))
    selector.register(one, selectors.EVENT_READ)
    one.sendall(request)
    sent[one] = time.monotonic()
taken, last = [], time.monotonic()
while True:
    for key, _ in selector.select():
        received = key.fileobj.recv(1 << 16)
        assert received and (received[:9] != b"HTTP/1.1 " or received[9:12] == b"200"), received
        if not received.endswith(b"}"):
            continue  # there is more to come
        now = time.monotonic()
        taken.append(now - sent[key.fileobj])
        sent[key.fileobj] = now
        key.fileobj.sendall(request)
    if now - last > 1:
        print(statistics.median(taken), flush=True)
        taken, last = [], now
"""


def request(path: str) -> bytes:
    body = pair_body(32)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-npy\r\nContent-Length: {len(body)}"
    )
    return f"{head}\r\n\r\n".encode() + body


@contextmanager
def busy(server: LiveServer, folder: Path, path: str) -> Iterator[subprocess.Popen[str]]:
    """Keep many connections busy; the process says each second how long their requests take."""
    (folder / "request").write_bytes(request(path))
    arguments = [str(port_of(server)), str(BUSY), str(folder / "request")]
    caller = subprocess.Popen([sys.executable, "-c", _CALLER, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield caller
        assert caller.poll() is None
    finally:
        caller.kill()
        caller.wait()
        assert caller.stdout is not None
        caller.stdout.close()


def seconds(server: LiveServer, asked: bytes) -> float:
    """How long the first answer on a new connection takes."""
    began = time.monotonic()
    assert talk(server, asked, answers=1).statuses == [200]
    return time.monotonic() - began


@pytest.mark.parametrize("path", ["/bce", "/bce?reduction=none"], ids=["small requests", "the ordinary way"])
def test_a_new_caller_does_not_wait_for_the_busy_ones(server: LiveServer, tmp_path: Path, path: str) -> None:
    probe = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
    with busy(server, tmp_path, path) as caller:
        assert caller.stdout is not None
        caller.stdout.readline()
        theirs = float(caller.stdout.readline())
        for asked in (request("/bce"), probe):
            mine = [seconds(server, asked) for _ in range(SAMPLES)]
            assert statistics.median(mine) < max(0.05, theirs / 4), (theirs, sorted(mine))


def test_long_bodies_arrive_whole_beside_busy_connections(server: LiveServer, tmp_path: Path) -> None:
    """Though their pieces wait for their turns, and most are read past the parser."""
    x, y = pair(10_000)
    body = pair_body(10_000)
    head = f"POST /bce HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-npy\r\nContent-Length: {len(body)}"
    with LossClient(server.url) as client:
        right = client.bce(x, y)
    with busy(server, tmp_path, "/bce?reduction=none"):
        for cut in (1000, 100_000, 300_000, 1_000_000, len(body) - 1):
            pieces = [
                f"{head}\r\n\r\n".encode() + body[:cut],
                body[cut : cut + 70_000],
                body[cut + 70_000 :],
            ]
            received = talk(server, *pieces, pause=0.02, answers=1)
            assert received.statuses == [200]
            assert json.loads(received.raw.partition(b"\r\n\r\n")[2])["sum"] == right.sum
