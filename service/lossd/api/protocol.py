"""The HTTP protocol of a connection: uvicorn's, but what it refuses by itself is a problem document, too."""

from __future__ import annotations

import re
import uuid
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from lossd.api.context import NO_TIMING
from lossd.api.problems import problem
from lossd.request import Fault

_UPGRADE: Final = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)


class LossdProtocol(HttpToolsProtocol):
    """A connection whose every answer is one that the contract knows."""

    _within_message = False

    def data_received(self, data: bytes) -> None:
        """Take bytes from the connection.

        An offer to upgrade (curl's and Java's of HTTP/2) may be ignored, says RFC 9110, 7.8. The parser takes
        it up by itself, and with that loses the body; so it does not get to see the offer.
        """
        if not self._within_message:
            head, blank, rest = data.partition(b"\r\n\r\n")
            if _UPGRADE.search(head):
                data = _UPGRADE.sub(b"\r\nx-ignored-upgrade:", head) + blank + rest
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._within_message = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """End a request."""
        self._within_message = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be parsed, and close.

        Where the request before it is still being answered, that answer comes first, and is the last.
        """
        before: RequestResponseCycle | None = self.cycle  # None, whatever uvicorn declares, until the first
        if before is not None and not before.response_complete and not before.more_body:
            before.keep_alive = False
            self.flow.pause_reading()
            return
        identity = uuid.uuid4().hex
        answer = problem(
            Fault("bad_request", f"{msg} Send a well-formed HTTP/1.1 request."), identity, close=True
        )
        headers = [*answer.headers, (b"x-request-id", identity.encode()), (b"server-timing", NO_TIMING)]
        lines = [STATUS_LINE[answer.status], *(name + b": " + value + b"\r\n" for name, value in headers)]
        self.transport.write(b"".join([*lines, b"\r\n", answer.body]))
        self.transport.close()
