"""Callers over raw sockets, who send what no library would."""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import dataclass, replace

from faults.observe import port_of
from live_server import LiveServer

_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\0]*?\r\n\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
SECONDS = 20.0
"""Longer than anything here takes on a busy machine."""


@dataclass(frozen=True, slots=True)
class Received:
    """What was received on a connection.

    Attributes:
        raw: All of it.
        ended: How the connection ended: ``closed``, ``reset``, or ``open``.
        seconds: How long it took.
    """

    raw: bytes
    ended: str
    seconds: float

    @property
    def statuses(self) -> list[int]:
        """Of all answers that are complete, in order."""
        found, rest = [], self.raw
        while head := _HEAD.match(rest):
            length = _LENGTH.search(head[0])
            end = head.end() + (int(length[1]) if length else 0)
            if len(rest) < end:
                break
            found.append(int(head[1]))
            rest = rest[end:]
        return found

    @property
    def code(self) -> str:
        """The problem's, where there is but one answer."""
        assert len(self.statuses) == 1, self.raw
        head, _, body = self.raw.partition(b"\r\n\r\n")
        assert b"\r\nconnection: close" in head, self.raw
        return str(json.loads(body)["code"])


def connect(server: LiveServer, *, receive_bytes: int | None = None, source: str = "") -> socket.socket:
    """Connect, from an address of this machine's if one is given: all of 127.0.0.0/8 are."""
    connection = socket.socket()
    connection.bind((source, 0))
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(SECONDS)
    connection.connect(("127.0.0.1", port_of(server)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket, seconds: float = SECONDS, answers: int | None = None) -> Received:
    """Read what the server sends until it closes the connection, for so long, or until so many answers."""
    began, received = time.monotonic(), Received(b"", "open", 0.0)
    while (left := began + seconds - time.monotonic()) > 0 and len(received.statuses) != answers:
        connection.settimeout(left)
        try:
            chunk = connection.recv(1 << 16)
        except TimeoutError:
            break
        except ConnectionError:
            return replace(received, ended="reset")
        received = Received(received.raw + chunk, "open" if chunk else "closed", time.monotonic() - began)
        if not chunk:
            break
    return received


def talk(
    server: LiveServer,
    *pieces: bytes,
    pause: float = 0.0,
    seconds: float = SECONDS,
    answers: int | None = None,
) -> Received:
    """Send pieces, as far as the server takes them, and read its answers."""
    with connect(server) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        except ConnectionError:
            pass  # it has answered already
        return receive(connection, seconds, answers)


def drip(connection: socket.socket, data: bytes, pause: float, piece: int = 1) -> Received:
    """Send some bytes at a time, until the server answers or closes the connection."""
    began, raw, ended = time.monotonic(), b"", "open"
    for start in range(0, len(data), piece):
        try:
            connection.sendall(data[start : start + piece])
            connection.settimeout(pause)
            raw = connection.recv(1 << 16)
        except TimeoutError:
            continue
        except ConnectionError:
            ended = "reset"
            break
        rest = receive(connection) if raw else Received(b"", "closed", 0.0)
        raw, ended = raw + rest.raw, rest.ended
        break
    return Received(raw, ended, time.monotonic() - began)
