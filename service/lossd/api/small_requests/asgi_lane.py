"""The fast lane where another program's server has the connections, and calls an ASGI application.

Such a server has parsed the head already. The lane writes it as bytes again, which takes some microseconds.
So one cache of heads serves both, and the rest is as on a connection of lossd's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Final, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lossd.api.accounting import NO_TIMING
from lossd.api.http.protocol import LossdProtocol
from lossd.api.problems import Problem
from lossd.api.services import Service
from lossd.api.small_requests.lane import LONGEST, PATIENCE, FastLane
from lossd.engine.dispatch.in_place import InPlace
from lossd.teams import Team

_Headers = list[tuple[bytes, bytes]]


class _Call:
    """The connection that a lane sees: one request, whole, whose answer is kept.

    Attributes:
        client: The caller's address and port.
        received_at: When the head had arrived, by time.monotonic().
        answer: The status, the headers and the body of the answer.
    """

    flow: Final = SimpleNamespace(write_paused=False)
    transport: Final = SimpleNamespace(is_closing=lambda: False)

    def __init__(self) -> None:
        self.client: tuple[str, int] | None = None
        self.received_at = 0.0
        self.answer: tuple[int, _Headers, bytes] | None = None

    def claim(self, _team: Team) -> bool:
        """Return whether the team may have the connection, which is not lossd's to refuse."""
        return True

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Keep an answer."""
        lines = (line.split(b": ", 1) for line in headers.split(b"\r\n") if line)
        self.answer = status, [(name, value) for name, value in lines], body

    def respond_problem(
        self, answer: Problem, request_id: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Keep a problem, with what every answer has."""
        lines = [*answer.headers, (b"x-request-id", request_id), (b"server-timing", NO_TIMING), *headers]
        self.answer = answer.status, lines, answer.body

    def when_answered(self) -> None:
        """Do nothing: the server in front counts its answers."""


class AsgiLane:
    """Answers small requests at once, and has the application answer all others."""

    def __init__(self, app: ASGIApp, service: Service, inplace: InPlace) -> None:
        self._app = app
        self._call = _Call()
        self._lane = FastLane(service, inplace, cast(LossdProtocol, self._call))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        began = time.monotonic()
        head = _head_of(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if head is None:
            await self._app(scope, receive, send)
            return
        messages = await _receive_whole(receive)
        answer = None
        if not messages[-1].get("more_body", False) and messages[-1]["type"] == "http.request":
            body = b"".join(message.get("body", b"") for message in messages)
            answer = self._ask(scope, began, head + body)
        if answer is None:
            await self._app(scope, _Replay(messages, receive), send)
            return
        status, headers, body = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _ask(self, scope: Scope, began: float, data: bytes) -> tuple[int, _Headers, bytes] | None:
        """Return the lane's answer; None if it does not take the request. Nothing else runs meanwhile."""
        call = self._call
        call.client, call.received_at, call.answer = scope.get("client"), began, None
        self._lane.receive(data)
        return call.answer


class _Replay:
    """A receive function that begins with messages that have been received."""

    def __init__(self, messages: list[Message], receive: Receive) -> None:
        self._messages = messages[::-1]
        self._receive = receive

    async def __call__(self) -> Message:
        """Return the next message."""
        return self._messages.pop() if self._messages else await self._receive()


async def _receive_whole(receive: Receive) -> list[Message]:
    """Receive a short body, or what of it arrives soon."""
    messages = [await receive()]
    if not messages[0].get("more_body", False):
        return messages
    try:
        async with asyncio.timeout(PATIENCE):
            while messages[-1].get("more_body", False):
                messages.append(await receive())
    except TimeoutError:
        pass  # the application waits for the rest, and knows for how long
    return messages


def _head_of(scope: Scope) -> bytes | None:
    """Return the head of a request; None if its body is not known to be short, or the head is unusual."""
    headers: _Headers = scope["headers"]
    length = next((value for name, value in headers if name == b"content-length"), b"")
    if not length.isdigit() or len(length) > 6 or int(length) > LONGEST:
        return None
    path = scope.get("raw_path") or scope["path"].encode()
    target = path + b"?" + scope["query_string"] if scope["query_string"] else path
    lines = [b"POST " + target + b" HTTP/1.1", *(name + b": " + value for name, value in headers)]
    head = b"\r\n".join([*lines, b"", b""])
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
        return None  # a server let a line's end pass
    return head
