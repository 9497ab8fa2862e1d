"""Callers without a key who ask for the documentation, and do not read it."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.memory import find, own
from certificates import make_certificate
from faults.observe import port_of
from live_server import live_server

MANY = 300
ASKED = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
"""1.5 MB."""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_unread_documents_take_little_memory(tmp_path: Path, scheme: str, say: Callable[[str], None]) -> None:
    settings: dict[str, Any] = {}
    context = None
    if scheme == "https":
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl command")
        chain, key = make_certificate(tmp_path, "server")
        settings = {"tls_certificate": chain, "tls_key": key}
        context = ssl.create_default_context(cafile=str(chain))
    with live_server(tmp_path, **settings) as server, ExitStack() as stack:
        front_end = find(server.process.pid, "lossd.api.main")

        def ask() -> socket.socket:
            caller = stack.enter_context(socket.socket())
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.settimeout(20)
            caller.connect(("127.0.0.1", port_of(server)))
            if context is not None:
                caller = stack.enter_context(context.wrap_socket(caller, server_hostname="127.0.0.1"))
            caller.sendall(ASKED)
            return caller

        for _ in range(10):
            ask()
        before = own(front_end)
        callers = [ask() for _ in range(MANY)]
        for caller in callers:
            assert caller.recv(15) == b"HTTP/1.1 200 OK"
        each = (own(front_end) - before) / MANY
        say(f"{scheme}: {each / 1024:.0f} KiB for each connection")
        assert each < (32 << 10 if scheme == "http" else 320 << 10)
        assert httpx.get(f"{server.url}/livez", verify=server.verify).status_code == 200
        assert "Traceback" not in server.log.read_text()
