"""The HTTP protocol of a connection: uvicorn's, but what it refuses by itself is a problem document, too."""

from __future__ import annotations

import uuid

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from lossd.api.context import NO_TIMING
from lossd.api.problems import problem
from lossd.request import Fault


class LossdProtocol(HttpToolsProtocol):
    """A connection whose every answer is one that the contract knows."""

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be parsed, and close."""
        identity = uuid.uuid4().hex
        answer = problem(
            Fault("bad_request", f"{msg} Send a well-formed HTTP/1.1 request."), identity, close=True
        )
        headers = [*answer.headers, (b"x-request-id", identity.encode()), (b"server-timing", NO_TIMING)]
        lines = [STATUS_LINE[answer.status], *(name + b": " + value + b"\r\n" for name, value in headers)]
        self.transport.write(b"".join([*lines, b"\r\n", answer.body]))
        self.transport.close()
