"""One HTTP request: its parser, which is uvicorn's with bounds; the rules for its head; its ASGI scope.

Heads that another parser could read differently are refused (request smuggling).

The parser refuses most malformed heads by itself: wrong line ends and folded lines, control characters in
names and values, lengths and chunk sizes that are no plain numbers, Content-Length beside Transfer-Encoding.
`check_head` refuses the rest. A target has the origin form, or the absolute form, which a server must accept
and whose authority replaces Host (RFC 9112, 3.2.2); lossd checks that both are well-formed, and uses neither.
"""

from __future__ import annotations

import re
import time
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Final

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from lossd.api.accounting import address_of
from lossd.api.auth import CONNECTION
from lossd.api.http.interfaces import SHORT_BYTES, Connection
from lossd.setting_types import UNIX
from lossd.settings import Settings
from lossd.types import ErrorCode, RequestError

UNIX_CLIENT: Final = (UNIX, 0)
"""The address and port of every caller at the Unix socket, which has neither."""
REQUEST_ID: Final = "lossd.request_id"
"""The scope's key of the request id, a str."""
_HOST: Final = rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
_HEAD_BYTES: Final = 1 << 10
"""Bytes of heads that are parsed at once, since each of them becomes objects many times its size."""
PIECE_BYTES: Final = 1 << 13
"""Bytes that are parsed at once: chunks and heads of a few bytes each take a millisecond or two."""
_MOST_FRAMING: Final = 1 << 16
"""Bytes of chunk framing that any body may have."""
_FRAMING_SHARE: Final = 2
"""Further framing may be this many times the body. The smallest honest chunks are tokens of a JSON encoder,
such as ``, 1``: five bytes of framing for three. A byte a chunk has five times its data, or more."""
_host: Final = re.compile(_HOST)
_target: Final = re.compile(rb"(?i:https?)://(?![/:])" + _HOST + rb"/[!\"$-~]*|/[!\"$-~]*")
_upgrade: Final = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_partial: Final = re.compile(rb"\r(?:\n(?:u|up|upg|upgr|upgra|upgrad|upgrade)?)?\Z", re.IGNORECASE)
_length: Final = re.compile(rb"[0-9]{1,19}[ \t]*")


class RequestParser(HttpToolsProtocol):
    """The reading half of a connection.

    Args:
        settings: The server's settings.
        uvicorns: uvicorn's own arguments.

    Attributes:
        requests: Heads that have been received.
        body_bytes: Bytes of the last request's body that have been received.
    """

    def __init__(self, settings: Settings, **uvicorns: Any) -> None:  # noqa: ANN401
        super().__init__(**uvicorns)
        self._settings = settings
        self.requests = 0
        self.body_bytes = 0
        self._within_message = False
        self._within_body = False
        self._ignoring = False  # received bytes are dropped
        self._held = b""  # the beginning of a line that may offer an upgrade
        self._overhead = 0  # bytes since the end of a head, or since bytes of a body
        self._parsed = 0  # bytes since the end of a head
        self._declared: int | None = None  # the length of the last body, if known
        self._keep_alive = False  # the last head lets the connection be kept
        self._cycles: list[RequestResponseCycle] = []  # unanswered requests, and maybe the last one

    @abstractmethod
    def refuse(self, error: RequestError) -> None:
        """Read no further, and answer with an error."""

    def parse(self, data: bytes) -> None:
        """Parse bytes that no lane takes.

        A server may ignore an offer to upgrade (RFC 9110, 7.8), which curl and Java send for HTTP/2. The
        parser would accept it and lose the body, or take it for a request; so it never sees the offer.
        """
        if not self._within_body:
            data, self._held = without_upgrade(self._held + data, begun=self._within_message)
        if not data:
            return
        self._overhead += len(data)
        self._parsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The offer was in a head behind a body, in one chunk with it. What follows cannot be parsed, so
            # this answer is the last.
            self.cycle.keep_alive = False
            self._ignoring = True
            return
        except httptools.HttpParserError as error:
            found = error.__context__  # what one of the callbacks below raised
            malformed = RequestError(ErrorCode.BAD_REQUEST, "malformed HTTP request; send HTTP/1.1")
            self.refuse(found if isinstance(found, RequestError) else malformed)
            return
        if self._overhead > self._settings.max_header_bytes:
            self.refuse(self._too_long())
        elif self._within_body and self._declared is None:
            framing = self._parsed - self.body_bytes
            if framing > max(_MOST_FRAMING, _FRAMING_SHARE * self.body_bytes):
                detail = (
                    f"chunk framing takes {framing} bytes for {self.body_bytes} of the body; send larger "
                    "chunks, or Content-Length"
                )
                self.refuse(RequestError(ErrorCode.BAD_REQUEST, detail))

    def next_piece(self) -> int:
        """Return how many bytes to parse at once: few, but all of a body whose length is known."""
        if not self._within_body:
            return _HEAD_BYTES
        return max(PIECE_BYTES, (self._declared or 0) - self.body_bytes)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._within_message = True
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Those behind a chunked body are ignored (RFC 9112, 7.1.2)."""
        if self._within_body:
            return
        super().on_header(name, value)
        if len(self.headers) > self._settings.max_headers:
            detail = f"the head has more than {self._settings.max_headers} headers; send fewer"
            raise RequestError(ErrorCode.HEADERS_TOO_LARGE, detail)

    def on_headers_complete(self) -> None:
        """Check a request's head, and have the request answered."""
        check_head(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        headers = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.url) + headers > self._settings.max_header_bytes:
            raise self._too_long()
        super().on_headers_complete()
        self.cycle.transport = self  # type: ignore[assignment] # the answer goes through `write` and `close`
        self._within_body = True
        self.requests += 1
        self._overhead = self._parsed = self.body_bytes = 0
        self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete]
        self._cycles.append(self.cycle)
        lengths = [int(value) for name, value in self.headers if name == b"content-length"]
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._declared = None if chunked else sum(lengths)
        # An answer before the end of a long body is the connection's last one.
        self._keep_alive = self.cycle.keep_alive
        if self.expect_100_continue or self._declared is None or self._declared > SHORT_BYTES:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take some of a body."""
        self._overhead = 0
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._within_message = self._within_body = False
        self._overhead = 0
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive
        super().on_message_complete()

    def _too_long(self) -> RequestError:
        most = self._settings.max_header_bytes
        detail = f"the head, or the chunk framing, exceeds {most} bytes; send less"
        return RequestError(ErrorCode.HEADERS_TOO_LARGE, detail)


def check_head(method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a head that could be read in two ways.

    Args:
        method: The method.
        target: The request target.
        version: The HTTP version.
        headers: Names in lower case, and values.

    Raises:
        RequestError: ``bad_request``.
    """
    if version not in ("1.1", "1.0"):
        raise RequestError(ErrorCode.BAD_REQUEST, "this HTTP version is not supported; send HTTP/1.1")
    if method == b"CONNECT" or not (_target.fullmatch(target) or (method, target) == (b"OPTIONS", b"*")):
        detail = "the request target must be a path, optionally with a query, as in GET /info"
        raise RequestError(ErrorCode.BAD_REQUEST, detail)
    hosts = lengths = codings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _host.fullmatch(value.rstrip(b" \t")):
                raise RequestError(
                    ErrorCode.BAD_REQUEST,
                    "Host has characters that are not allowed; send a host and its port",
                )
        elif name == b"content-length":
            lengths += 1
            if not _length.fullmatch(value):
                raise RequestError(
                    ErrorCode.BAD_REQUEST,
                    "Content-Length is not a number; send the body's length in bytes, in decimal",
                )
        elif name == b"transfer-encoding":
            codings += 1
            if value.rstrip(b" \t").lower() != b"chunked":
                raise RequestError(ErrorCode.BAD_REQUEST, "Transfer-Encoding must be chunked")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise RequestError(ErrorCode.BAD_REQUEST, f"the request has {hosts} Host headers; send exactly one")
    if lengths + codings > 1:
        detail = "the body's length is given more than once; send one Content-Length, or chunked alone"
        raise RequestError(ErrorCode.BAD_REQUEST, detail)
    if codings and version == "1.0":
        raise RequestError(
            ErrorCode.BAD_REQUEST,
            "HTTP/1.0 does not support Transfer-Encoding; send Content-Length, or HTTP/1.1",
        )


def without_upgrade(data: bytes, *, begun: bool) -> tuple[bytes, bytes]:
    """Return a head without an offer to upgrade.

    Args:
        data: The head's next bytes.
        begun: They are not its first bytes.

    Returns:
        The bytes without an offer, and those of their end that may be the beginning of one.
    """
    end = data.find(b"\r\n\r\n")
    stop = len(data) if end < 0 else end
    if _upgrade.search(data, 0, stop):
        data = _upgrade.sub(b"\r\nx-ignored-upgrade:", data[:stop]) + data[stop:]
    if end < 0 and (cut := _partial.search(data)) and (cut.start() or begun):
        return data[: cut.start()], data[cut.start() :]
    return data, b""


def arrival(scope: Scope) -> float:
    """Return when a request's head had arrived, by time.monotonic(). It may have waited for its turn."""
    connection: Connection | None = scope.get(CONNECTION)
    return time.monotonic() if connection is None else connection.received_at


def request_id(scope: Scope) -> str:
    """Return the id of a request."""
    return str(scope[REQUEST_ID])


def client_host(scope: Scope) -> str:
    """Return the caller's address; empty if it is not known."""
    client = scope.get("client")
    return address_of(str(client[0])) if client else ""


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of a name in lower case, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def joined_header(scope: Scope, name: bytes) -> bytes | None:
    """Return all headers of a name as one, joined by commas (RFC 9110, 5.3), or None."""
    values = [value for key, value in scope["headers"] if key == name]
    return b", ".join(values) if values else None


def header_text(scope: Scope, name: bytes) -> str | None:
    """Return the text of a header, of several joined by commas, or None."""
    value = joined_header(scope, name)
    return None if value is None else value.decode("latin-1").strip(" \t")
