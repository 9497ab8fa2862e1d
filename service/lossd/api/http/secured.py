"""TLS of a connection, which takes what it receives when it is its owner's turn.

A caller may send records that are costly beside what they carry: empty ones, single bytes, new keys. So what
arrives is read and decrypted in small pieces, and who sends little else is cut off.

It overrides parts of the standard library's TLS that are not its public interface:
tests/api/http/test_secured.py lists these parts.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from asyncio.sslproto import SSLAgainErrors, SSLProtocol, _SSLProtocolTransport
from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

from lossd.engine.scheduler import LoopTurns

_SHUTDOWN_SECONDS: Final = 2.0
"""Time for a caller to end TLS."""
_PIECE: Final = 1 << 11
"""The most bytes that are read at once of a caller whose records carry little. Each of the smallest takes 15
microseconds: together 1 ms."""
_THIN: Final = 20 << 10
"""Bytes beyond twice the data, from which on records carry little. An unfinished one has 16 KiB."""
_RATIO: Final = 16
"""Bytes that may be received for each byte of data,"""
_MOST_BARE: Final = 1 << 15
"""and how many may be received beyond that."""


class Turning(Protocol):
    """A connection as TLS sees it.

    Attributes:
        owner: Whose it is.
    """

    owner: str

    def wait_for_turn(self, work: Callable[[], None]) -> None:
        """Call a function when it is its owner's turn."""


class Secured(SSLProtocol):
    """TLS between a transport and a connection.

    Args:
        connection: The connection, also a protocol.
        context: Has the certificate.
        handshake: Is done once the handshake has ended, in whatever way.
        handshake_seconds: How long it may take.
        turns: Shares the event loop's time.
    """

    max_size = 1 << 14

    # Not all of it is known to type checkers.
    _transport: asyncio.Transport | None
    _app_transport_created: bool
    _sslobj: ssl.SSLObject
    _incoming: ssl.MemoryBIO
    _ssl_buffer_view: memoryview
    _ssl_reading_paused: bool
    _app_reading_paused: bool
    _set_read_buffer_limits: Callable[[int, int], None]
    _control_ssl_reading: Callable[[], None]
    _call_eof_received: Callable[[], None]

    def __init__(
        self,
        connection: Turning,
        context: ssl.SSLContext,
        handshake: asyncio.Future[None],
        handshake_seconds: float,
        turns: LoopTurns,
    ) -> None:
        super().__init__(
            handshake.get_loop(),
            cast(asyncio.Protocol, connection),
            context,
            handshake,
            server_side=True,
            ssl_handshake_timeout=handshake_seconds,  # type: ignore[arg-type]
            ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        self._set_read_buffer_limits(1, 0)  # while the connection does not read, one piece is read at most
        self._turns = turns
        self._waits = False
        self._received = self._data = 0  # bytes since the last look at them
        self._bare, self._thin = 0, _THIN

    def _get_app_transport(self) -> _SSLProtocolTransport:
        if not self._app_transport_created:
            self._app_transport, self._app_transport_created = _Transport(self._loop, self), True
        return self._app_transport

    # What is received

    def get_buffer(self, n: int) -> memoryview:
        """Return where to read to: little if records carry little, or none has come yet."""
        return self._ssl_buffer_view[: self.max_size if self._thin < _THIN else _PIECE]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read, or let it wait if this turn of the loop has no time left."""
        self._incoming.write(self._ssl_buffer_view[:nbytes])
        self._received += nbytes
        self._take_in_turn()

    def _take_in_turn(self) -> None:
        if self._waits or self._transport is None:
            return
        if self._turns.has_time(time.monotonic()):
            self._take()
            return
        self._waits = self._ssl_reading_paused = True
        self._transport.pause_reading()
        cast(Turning, self._app_protocol).wait_for_turn(self._take_waiting)

    def _take_waiting(self) -> None:
        self._waits = False
        if self._transport is not None:
            self._take()

    def _take(self) -> None:
        super().buffer_updated(0)
        if self._app_reading_paused or self._transport is None:
            return
        self._bare = max(0, self._bare + self._received - _RATIO * self._data)
        self._thin = max(0, self._thin + self._received - 2 * self._data)
        self._received = self._data = 0
        if self._bare > _MOST_BARE:
            self._transport.abort()
        elif self._ssl_reading_paused:
            self._control_ssl_reading()

    def _do_read(self) -> None:
        if not self._waits:
            super()._do_read()  # type: ignore[misc]

    def _do_read__copied(self) -> None:
        pieces = []
        try:
            while piece := self._sslobj.read(self.max_size):
                pieces.append(piece)
            ended = True
        except SSLAgainErrors:
            ended = False
        if pieces:
            data = b"".join(pieces)
            self._data += len(data)
            cast(asyncio.Protocol, self._app_protocol).data_received(data)
        if ended:
            self._call_eof_received()
            self._start_shutdown()

    def _resume_reading(self) -> None:
        if self._app_reading_paused:
            self._app_reading_paused = False
            self._loop.call_soon(self._take_in_turn)

    # What is sent

    def _write_appdata(self, list_of_data: Iterable[bytes]) -> None:
        # Each record is cut from the rest, which would be copied each time.
        super()._write_appdata([memoryview(data).cast("B") for data in list_of_data])  # type: ignore[misc]


class _Transport(_SSLProtocolTransport):
    """The connection's transport, which may be closed twice."""

    def close(self) -> None:
        if not self._closed:
            super().close()
