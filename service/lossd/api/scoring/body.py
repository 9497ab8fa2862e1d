"""A request whose body is still arriving, and the limits on how long its body may be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from lossd.api.auth import CONNECTION
from lossd.api.http.interfaces import SHORT_BYTES, Connection
from lossd.api.http.request import header, header_text
from lossd.api.http.upload import LEAST_BYTES, Upload
from lossd.settings import Settings
from lossd.types import ErrorCode, RequestError
from lossd.wire import MOST_INFLATED, Chunk, Decoder

_BUSY_SECONDS: Final = 0.002
"""A request that has kept the event loop for longer lets others run."""


@dataclass(slots=True, kw_only=True)
class IncomingRequest:
    """A request whose body is still arriving.

    Attributes:
        scope: The ASGI scope.
        receive: The ASGI receive function.
        began: When the headers had arrived, by time.monotonic().
        deadline: When the caller stops waiting, by time.monotonic(); None if the caller sets no timeout.
        body_read: Whether the whole body has arrived.
        read_seconds: Seconds from the headers to the end of the body.
        received_bytes: Bytes of the body that have arrived.
        busy_since: When it last got the event loop, by time.monotonic().
        upload: The reader of a long body's rest, which bypasses the HTTP parser; None while the parser reads.
        when_lost: Called if the caller hangs up once the body has arrived, where another program's server is
            in front, which says so only to those who ask. None where a connection of this server says it.
        stages: When each stage that is over began and ended, by time.monotonic().
    """

    scope: Scope
    receive: Receive
    began: float
    deadline: float | None = None
    body_read: bool = False
    read_seconds: float = 0.0
    received_bytes: int = 0
    busy_since: float = 0.0
    upload: Upload | None = None
    when_lost: Callable[[], None] | None = None
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    _disconnect: asyncio.Task[None] | None = None

    def header(self, name: bytes) -> str | None:
        """Return the value of a header, or None; several are joined by commas. The name is in lower case."""
        return header_text(self.scope, name)

    @property
    def content_length(self) -> int | None:
        """The Content-Length, or None for a chunked body."""
        value = header(self.scope, b"content-length")
        return None if value is None else int(value)  # the protocol lets only digits pass

    def set_timeout(self, seconds: float | None) -> None:
        """Set a timeout, counted from the headers; of several, the shortest counts."""
        if seconds is not None:
            deadline = self.began + seconds
            self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    def seconds_left(self, limit: float) -> float:
        """Return the seconds until the caller's deadline, at most ``limit``."""
        if self.deadline is None:
            return limit
        return min(limit, max(0.0, self.deadline - time.monotonic()))

    async def next_chunk(self) -> bytes | memoryview | None:
        """Return the body's next bytes, valid until the next call; None at the end of the body.

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
                raise _upload_too_late() from None
        self.busy_since = time.monotonic()
        self.received_bytes += len(chunk)
        return chunk

    async def _receive(self) -> bytes | memoryview:
        """Receive the next bytes while the connection watches the upload rate."""
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

    async def _receive_upload(self, upload: Upload) -> memoryview:
        chunk = await upload.chunk()
        if not chunk:
            raise ClientDisconnect
        if upload.ended:
            self._end_body()
        return chunk

    def _end_body(self) -> None:
        now, (_, began) = time.monotonic(), self.stages.get("wait", (0.0, self.began))
        self.body_read = True
        self.read_seconds = now - self.began
        self.stages["read"] = began, now
        if self.when_lost is not None:
            self._disconnect = asyncio.create_task(self._wait_for_disconnect(self.when_lost))

    def watch_for_disconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` if the caller hangs up once the body has arrived.

        Returns:
            A function that ends this.
        """
        self.when_lost = callback

        def end() -> None:
            self.when_lost = None
            if self._disconnect is not None:
                self._disconnect.cancel()

        return end

    async def _wait_for_disconnect(self, callback: Callable[[], None]) -> None:
        """Ask the server in front for what comes behind the body: only that the caller has hung up."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        callback()

    def _begin_upload(self, received: int) -> None:
        """Read the rest without the HTTP parser if its length is known and it is long."""
        connection: Connection | None = self.scope.get(CONNECTION)
        length = self.content_length
        if connection is None or length is None:
            return
        missing = length - self.received_bytes - received
        if missing >= LEAST_BYTES:
            self.upload = connection.begin_upload(self.scope, missing)

    def read_into(self, view: memoryview) -> bool:
        """Have the rest of the body read straight into memory; return whether that is possible."""
        if self.upload is None:
            return False
        self.upload.aim(view)
        return True

    def end_upload(self) -> None:
        """Let the HTTP parser read again."""
        if self.upload is not None:
            connection: Connection = self.scope[CONNECTION]
            connection.end_upload(self.upload)
            self.upload.close()
            self.upload = None

    async def let_others_run(self) -> None:
        """Yield to the event loop if this request has kept it for long.

        To be called between the decoded chunks of a chunk, which may cost more than receiving it.

        Raises:
            RequestError: ``deadline_exceeded``: the caller's deadline has passed.
        """
        now = time.monotonic()
        if now - self.busy_since < _BUSY_SECONDS:
            return
        if self.deadline is not None and now >= self.deadline:
            raise _upload_too_late()
        await asyncio.sleep(0)
        self.busy_since = time.monotonic()

    @property
    def is_unread(self) -> bool:
        """Whether there is a body that has not arrived, and is not short."""
        length = self.content_length
        chunked = header(self.scope, b"transfer-encoding") is not None
        long = chunked if length is None else length > SHORT_BYTES
        return long and not self.body_read


def _upload_too_late() -> RequestError:
    detail = "the deadline passed before the whole body had arrived; allow more time"
    return RequestError(ErrorCode.DEADLINE_EXCEEDED, detail)


def read_timeout(value: str | None) -> float | None:
    """Return the seconds that X-Timeout-Ms allows, or None without that header.

    Raises:
        RequestError: ``invalid_parameter``.
    """
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) <= 12 and int(value)):
        detail = f"X-Timeout-Ms is {value[:50]!r}; send a positive whole number of milliseconds"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail)
    return int(value) / 1000.0


def decoded(chunk: Chunk, decoder: Decoder | None) -> Iterable[Chunk]:
    """Return a chunk's bytes without their content coding, in chunks."""
    return (chunk,) if decoder is None else decoder.feed(chunk)


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """The most bytes that a body may have, decoded, and the error for a longer one.

    Attributes:
        nbytes: The limit in bytes.
        code: The error's code.
        detail: The error's detail.
        is_content_length: Whether the limit is the Content-Length of a body without coding.
    """

    nbytes: int
    code: ErrorCode
    detail: str
    is_content_length: bool = False

    def check(self, nbytes: int) -> None:
        """Refuse a body that has more bytes.

        Raises:
            RequestError: With the code.
        """
        if nbytes > self.nbytes:
            raise RequestError(self.code, self.detail)

    def check_announced(self, nbytes: int) -> None:
        """Refuse a body that announces more bytes than the limit.

        One that announces more than its Content-Length is left to its reader, which says where it ends.

        Raises:
            RequestError: With the code.
        """
        if not self.is_content_length:
            self.check(nbytes)


def whole_body_limit(
    content_length: int | None,
    limit: int,
    decoder: Decoder | None,
    settings: Settings,
    *,
    expands: bool = False,
) -> SizeLimit:
    """Return the limit on a body that is kept in memory as a whole.

    Args:
        content_length: The Content-Length; None for a chunked body.
        limit: The most bytes for bodies of its format.
        decoder: The decoder of its content coding, if it has one.
        settings: The server's settings.
        expands: Whether the format itself expands, as .npz does.

    Raises:
        RequestError: ``body_too_large``, by the Content-Length.
    """
    sent = _sent_limit(content_length, limit, settings)
    expanded = min(limit, settings.max_expanded_bytes)
    if decoder is not None:
        most = None if content_length is None or expands else decoder.most(content_length)
        return expanded_limit(expanded if most is None else min(expanded, most))
    if expands:  # its members that are not compressed may have as many bytes as any body
        return expanded_limit(max(min(expanded, MOST_INFLATED * sent.nbytes), sent.nbytes))
    return sent


def expanded_limit(nbytes: int) -> SizeLimit:
    """Return a limit on a body's decoded bytes."""
    detail = (
        f"the body expands to more than {nbytes} bytes; send it in several requests, or in a binary format "
        "without compression"
    )
    return SizeLimit(nbytes, ErrorCode.EXPANDED_TOO_LARGE, detail)


def _sent_limit(content_length: int | None, limit: int, settings: Settings) -> SizeLimit:
    """Return the limit on a body as it is sent, after a check of its Content-Length."""
    if content_length is None:
        limit = min(limit, settings.max_chunked_bytes)
        detail = (
            f"a body without Content-Length is limited to {limit} bytes; send a Content-Length, or a shorter "
            "body"
        )
        return SizeLimit(limit, ErrorCode.BODY_TOO_LARGE, detail)
    if content_length > limit:
        detail = f"the body is {content_length} bytes; the limit is {limit}; send it in several requests"
        raise RequestError(ErrorCode.BODY_TOO_LARGE, detail)
    detail = f"the body goes on behind the {content_length} bytes of Content-Length"
    return SizeLimit(content_length, ErrorCode.TRUNCATED_BODY, detail, is_content_length=True)
