"""Requests: by wrk, or by a small client of its own for large bodies."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.peers.payloads import Payload

_SCRIPT: Final = """
wrk.method = "POST"
local headers = io.open(os.getenv("HEADERS"), "r")
for line in headers:lines() do
  local name, value = line:match("^(.-): (.*)$")
  wrk.headers[name] = value
end
wrk.body = io.open(os.getenv("BODY"), "rb"):read("*a")
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nresult {"requests": %d, "seconds": %f, "failed": %d, "p50": %f, "p99": %f}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.status + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes, and what it is."""

    port: int
    path: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load.

    Attributes:
        requests: How many were answered.
        seconds: In how long.
        failed: How many were not, or with another status than 200.
        p50: Milliseconds.
        p99: Likewise; the longest where there are few.
    """

    requests: int
    seconds: float
    failed: int
    p50: float
    p99: float


def _head(target: Target) -> bytes:
    headers = {"Host": "127.0.0.1", "Content-Length": str(len(target.payload.data)), **target.payload.headers}
    lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _read(connection: socket.socket) -> Answer:
    data = b""
    while (ends := data.find(b"\r\n\r\n")) < 0:
        data += _some(connection)
    head, body = data[:ends].lower(), data[ends + 4 :]
    status = int(head.split()[1])
    if b"transfer-encoding: chunked" in head:
        while not body.endswith(b"0\r\n\r\n"):
            body += _some(connection)
        text = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            text, body = text + body[: int(size, 16)], body[int(size, 16) + 2 :]
        return Answer(status, text)
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += _some(connection)
    return Answer(status, body)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 16)
    if not data:
        raise ConnectionError("the connection was closed before the answer")
    return data


def exchange(connection: socket.socket, target: Target) -> Answer:
    """One request on a connection that is kept."""
    connection.sendall(_head(target))
    connection.sendall(memoryview(target.payload.data))
    return _read(connection)


@contextmanager
def _connected(port: int, timeout: float) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def post(target: Target, timeout: float = 120.0) -> Answer:
    """One request on a connection of its own."""
    with _connected(target.port, timeout) as connection:
        return exchange(connection, target)


def by_wrk(target: Target, connections: int, seconds: int) -> Load:
    """Requests for so long, each connection's next as soon as it is answered."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "body").write_bytes(target.payload.data)
        headers = "".join(f"{name}: {value}\n" for name, value in target.payload.headers.items())
        (folder / "headers").write_text(headers)
        (folder / "post.lua").write_text(_SCRIPT)
        url = f"http://127.0.0.1:{target.port}{target.path}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "120s"]
        done = subprocess.run(  # noqa: S603 -- our own command
            [*command, "-s", str(folder / "post.lua"), url],
            env={**os.environ, "BODY": str(folder / "body"), "HEADERS": str(folder / "headers")},
            capture_output=True,
            text=True,
            check=True,
        )
    return Load(**json.loads(done.stdout.rpartition("result ")[2]))


def by_hand(target: Target, connections: int, times: int) -> Load:
    """So many requests on each connection, a thread each; none shorter than its answer."""
    taken: list[float] = []
    failed: list[object] = []

    def send() -> None:
        try:
            with _connected(target.port, 300.0) as connection:
                for _ in range(times):
                    began = time.perf_counter()
                    answer = exchange(connection, target)
                    (taken if answer.status == 200 else failed).append(time.perf_counter() - began)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=send) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    middle = 1e3 * statistics.median(taken) if taken else 0.0
    return Load(len(taken), seconds, len(failed), middle, 1e3 * max(taken, default=0.0))
