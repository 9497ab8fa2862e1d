"""What every answer bears, whoever gives it: a request id and timings."""

from __future__ import annotations

import itertools
import os
import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from lossd.api.request_log import address_of
from lossd.teams import holds_key
from lossd.types import Timings

_WELL_FORMED: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
_KEY: Final = "lossd.request_id"
_PROCESS: Final = os.urandom(8).hex().encode()  # so that no two processes give the same id
_numbers: Final = itertools.count()
NO_TIMING: Final = b"read;dur=0, queue;dur=0, compute;dur=0"


def server_timing(timings: Timings) -> bytes:
    """Return the value of a Server-Timing header, in milliseconds."""
    read, queue, compute = timings
    return b"read;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f" % (1e3 * read, 1e3 * queue, 1e3 * compute)


def request_id(scope: Scope) -> str:
    """The id of the request that a scope belongs to."""
    return str(scope[_KEY])


def client_host(scope: Scope) -> str:
    """The address that a request came from; empty if that is not known."""
    client = scope.get("client")
    return address_of(str(client[0])) if client else ""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of a name, given in lower case, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def joined_header(scope: Scope, name: bytes) -> bytes | None:
    """All headers of a name as one, joined by commas (RFC 9110, 5.3), or None."""
    values = [value for key, value in scope["headers"] if key == name]
    return b", ".join(values) if values else None


def header_text(scope: Scope, name: bytes) -> str | None:
    """The value of a header, its name given in lower case, or None; of several, joined by commas."""
    value = joined_header(scope, name)
    return None if value is None else value.decode("latin-1").strip(" \t")


def choose_id(given: bytes | None) -> bytes:
    """The id of a request that gives one, or none: its own if that is well-formed, else a new one."""
    if given is not None and _WELL_FORMED.fullmatch(given) and not holds_key(given):
        return given
    return b"%b%016x" % (_PROCESS, next(_numbers))


class RequestContext:
    """The outermost layer: gives every request an id, the caller's own if it sent a well-formed one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = choose_id(header(scope, b"x-request-id"))
        scope[_KEY] = identity.decode("ascii")
        bind_contextvars(request_id=scope[_KEY], team="")  # for the log

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                headers.append((b"x-request-id", identity))
                if not any(name == b"server-timing" for name, _ in headers):
                    headers.append((b"server-timing", NO_TIMING))
            await send(message)

        await self._app(scope, receive, send_with_id)
