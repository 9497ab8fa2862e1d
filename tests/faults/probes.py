"""The admin listener of a running server, as a prober sees it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.memory import find
from live_server import LiveServer, live_server
from lossd_client.local import free_port


class Admin:
    """The admin listener.

    Attributes:
        server: The server.
        port: Its port.
        seconds: How long each of its answers took.
    """

    def __init__(self, server: LiveServer, port: int) -> None:
        self.server = server
        self.port = port
        self.seconds: list[float] = []

    def ask(self, path: str, method: str = "GET") -> tuple[int, http.client.HTTPMessage, bytes]:
        """The status, the headers and the body of a path, on a connection of its own."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            self.seconds.append(time.monotonic() - began)
            return answer.status, answer.headers, body
        finally:
            connection.close()

    def status(self, path: str) -> int:
        return self.ask(path)[0]

    def document(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask(path)[2])
        return found

    def metrics(self) -> dict[str, float]:
        """Every series' value, by its name and labels as they are written."""
        lines = self.ask("/metrics")[2].decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def hangs(self) -> dict[str, float]:
        """How many processes were found hung, by kind, without the kinds of which none was."""
        prefix, suffix = 'lossd_process_hangs_total{process="', '"}'
        return {
            name.removeprefix(prefix).removesuffix(suffix): value
            for name, value in self.metrics().items()
            if name.startswith(prefix) and value
        }

    def is_ready(self) -> bool:
        try:
            return self.status("/readyz") == 200
        except OSError:  # it is being replaced
            return False

    @property
    def front_end(self) -> int:
        """The process of the only front end."""
        return find(self.server.process.pid, "lossd.api.main")

    @property
    def pid(self) -> int:
        """The process of the admin listener."""
        return find(self.server.process.pid, "lossd.api.admin")


@contextmanager
def watched_server(folder: Path, **settings: Any) -> Iterator[Admin]:  # noqa: ANN401 -- passed on
    """A server with an admin listener, which is ready."""
    port = free_port()
    with live_server(folder, admin_port=port, **settings) as server:
        admin = Admin(server, port)
        ends = time.monotonic() + 30
        while not admin.is_ready():
            assert time.monotonic() < ends, server.log.read_text()
            time.sleep(0.05)
        admin.seconds.clear()
        yield admin


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that stand still for as long as a ``with`` block lasts, unless they are killed."""
    fds = [os.pidfd_open(pid) for pid in pids]
    try:
        for fd in fds:
            signal.pidfd_send_signal(fd, signal.SIGSTOP)
        yield
    finally:
        for fd in fds:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGCONT)
            os.close(fd)
