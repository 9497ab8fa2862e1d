"""A request as it comes in: its headers, how long it may take, and its body."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from lossd.api.http.interfaces import CONNECTION, SHORT_BYTES, Connection
from lossd.api.http.request_context import header, header_text
from lossd.api.http.upload import LEAST_BYTES, Upload
from lossd.types import ErrorCode, RequestError

_TURN_SECONDS: Final = 0.002


@dataclass(slots=True, kw_only=True)
class Incoming:
    """A request as it comes in.

    Attributes:
        scope: ASGI's.
        receive: ASGI's.
        began: When its headers were there, by time.monotonic().
        deadline: When the caller gives up, by time.monotonic(), if it said so.
        body_read: All of the body has been received.
        read_seconds: How long that took.
        received_bytes: How much of it has been received.
        turn_began: Since when it has had the processor to itself, by time.monotonic().
        upload: What its body comes by, while it does not come by `receive`.
    """

    scope: Scope
    receive: Receive
    began: float
    deadline: float | None = None
    body_read: bool = False
    read_seconds: float = 0.0
    received_bytes: int = 0
    turn_began: float = 0.0
    upload: Upload | None = None

    def header(self, name: bytes) -> str | None:
        """The value of a header, its name given in lower case, or None; of several, joined by commas."""
        return header_text(self.scope, name)

    @property
    def declared(self) -> int | None:
        """The body's length, if the request tells it."""
        value = header(self.scope, b"content-length")
        return None if value is None else int(value)  # digits only: the protocol has seen to that

    def set_timeout(self, seconds: float | None) -> None:
        """Take note of what the caller allows, from the headers on; of several, the least counts."""
        if seconds is not None:
            deadline = self.began + seconds
            self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    def left(self, patience: float) -> float:
        """Seconds to wait at most: until the caller's deadline, and no longer than ``patience``."""
        if self.deadline is None:
            return patience
        return min(patience, max(0.0, self.deadline - time.monotonic()))

    async def chunk(self) -> bytes | memoryview | None:
        """The body's next bytes, valid until the next call; None at its end.

        Raises:
            ClientDisconnect: The caller has hung up.
            RequestError: ``deadline_exceeded``: the caller's deadline has passed.
        """
        if self.body_read:
            self.end_upload()
            return None
        if self.deadline is None:
            chunk = await self._receive()
        else:
            try:
                async with asyncio.timeout(self.deadline - time.monotonic()):
                    chunk = await self._receive()
            except TimeoutError:
                raise _too_late() from None
        self.turn_began = time.monotonic()
        self.received_bytes += len(chunk)
        return chunk

    async def _receive(self) -> bytes | memoryview:
        """What comes next, for which the caller may not take as long as it likes."""
        connection: Connection | None = self.scope.get(CONNECTION)
        if connection is None:
            return await self._receive_message()
        connection.set_reading(True)
        try:
            if self.upload is not None:
                return await self._receive_upload(self.upload)
            return await self._receive_message()
        finally:
            connection.set_reading(False)

    async def _receive_message(self) -> bytes:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        received: bytes = message.get("body", b"")
        if message.get("more_body", False):
            self._begin_upload(len(received))
        else:
            self._end_body()
        return received

    def _end_body(self) -> None:
        """Take note that all of the body has come."""
        self.body_read = True
        self.read_seconds = time.monotonic() - self.began

    async def _receive_upload(self, upload: Upload) -> memoryview:
        chunk = await upload.chunk()
        if not chunk:
            raise ClientDisconnect
        if upload.ended:
            self._end_body()
        return chunk

    def _begin_upload(self, received: int) -> None:
        """Read on past the parser, where it is known how long and there is much to come."""
        connection: Connection | None = self.scope.get(CONNECTION)
        declared = self.declared
        if connection is None or declared is None:
            return
        missing = declared - self.received_bytes - received
        if missing >= LEAST_BYTES:
            self.upload = connection.begin_upload(self.scope, missing)

    def aim_upload(self, view: memoryview) -> bool:
        """Have what is to come of the body read into some memory; whether that can be."""
        if self.upload is None:
            return False
        self.upload.aim(view)
        return True

    def end_upload(self) -> None:
        """Let the parser read again."""
        if self.upload is not None:
            connection: Connection = self.scope[CONNECTION]
            connection.end_upload(self.upload)
            self.upload.close()
            self.upload = None

    async def breathe(self) -> None:
        """Let others have their turn, if this request has had the processor for long.

        To be called again and again where a chunk may cost more than it takes to receive.

        Raises:
            RequestError: ``deadline_exceeded``: the caller's deadline has passed.
        """
        now = time.monotonic()
        if now - self.turn_began < _TURN_SECONDS:
            return
        if self.deadline is not None and now >= self.deadline:
            raise _too_late()
        await asyncio.sleep(0)
        self.turn_began = time.monotonic()

    @property
    def is_unread(self) -> bool:
        """There is a body that has not been received, and is not short."""
        declared = self.declared
        chunked = header(self.scope, b"transfer-encoding") is not None
        long = chunked if declared is None else declared > SHORT_BYTES
        return long and not self.body_read


def _too_late() -> RequestError:
    detail = "the deadline passed before all of the body had come; allow more time"
    return RequestError(ErrorCode.DEADLINE_EXCEEDED, detail)


def read_timeout(given: str | None) -> float | None:
    """The seconds that a caller allows by X-Timeout-Ms, or None.

    Raises:
        RequestError: ``invalid_parameter``.
    """
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= 12 and int(given)):
        detail = f"X-Timeout-Ms is {given[:50]!r}; send a positive whole number of milliseconds"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail)
    return int(given) / 1000.0
