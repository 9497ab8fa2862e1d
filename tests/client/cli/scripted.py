"""A real HTTP server in a thread that gives each path the answer that a test has written for it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Answers = Mapping[str, tuple[int, Mapping[str, Any]] | tuple[int, Mapping[str, Any], Mapping[str, str]]]
"""A status, a JSON object and further headers, by path."""

ALIVE: Answers = {
    "/livez": (200, {"status": "alive"}),
    "/readyz": (200, {"status": "ready"}),
    "/info": (200, {"version": "0.0.1", "workers": [], "limits": {}}),
}


@contextmanager
def scripted(answers: Answers, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Gives its URL; errors in the answers are problem+json."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, value, *more = answers.get(urlsplit(self.path).path, (404, {"code": "not_found"}))
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header(
                "Content-Type", "application/json" if status == 200 else "application/problem+json"
            )
            self.send_header("Content-Length", str(len(body)))
            for name, header in (more[0] if more else {}).items():
                self.send_header(name, header)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _serve  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # callers who hang up, or do not like the certificate

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
