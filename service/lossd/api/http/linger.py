"""The end of a connection whose caller still sends: what comes is read, and dropped, for a bounded time.

Closing with unread bytes makes the kernel reset the connection. Ordinary callers (urllib, requests, Java's)
look for an answer only when they have sent everything, and would never see why they were refused
(RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import ClassVar, Final

from uvicorn.protocols.http.flow_control import FlowControl

from lossd.settings import Settings

_SHORT_SECONDS: Final = 1.0
"""For a connection, where there are as many already as may take longer."""
_HURRIED_SECONDS: Final = 0.4
"""For a connection, where the server is about to end."""
_QUIET_SECONDS: Final = 1.0
"""When nothing has come for so long, nothing is on its way that could cause a reset."""


class Linger:
    """What is left to be read of a connection. Nothing of it is kept.

    Args:
        loop: The event loop.
        flow: By which the connection is read.
        transport: The connection. Its sending half is closed, which not every TLS can; there, a caller that
            is quiet is not waited for.
        left_bytes: What is still to come at most.
        settings: The server's.
    """

    _long: ClassVar[int] = 0  # how many there are that may take all of the time
    _waiting: ClassVar[deque[Linger]] = (
        deque()
    )  # to be read on: one a turn of the event loop, others come first

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        flow: FlowControl,
        transport: asyncio.Transport,
        left_bytes: int,
        settings: Settings,
    ) -> None:
        self._loop = loop
        self._flow = flow
        self._transport = transport
        self._left_bytes = min(left_bytes, settings.linger_bytes)
        self._is_long = Linger._long < settings.linger_connections
        Linger._long += self._is_long
        self._left_seconds = settings.linger_seconds if self._is_long else _SHORT_SECONDS
        self._quiet_seconds = 0.0
        self._half_closed = transport.can_write_eof()
        if self._half_closed:
            transport.write_eof()
        flow.resume_reading()

    def drop(self, nbytes: int) -> None:
        """Take note that so many bytes have come; everybody else is served before the next are read."""
        self._left_bytes -= nbytes
        self._quiet_seconds = 0.0
        if self._left_bytes <= 0:
            self._transport.close()
            return
        self._flow.pause_reading()
        Linger._waiting.append(self)
        if len(Linger._waiting) == 1:
            self._loop.call_soon(self._read_on)

    def look(self, seconds: float) -> None:
        """Close, if it has taken too long.

        Args:
            seconds: How long it is since the last look.
        """
        self._left_seconds -= seconds
        self._quiet_seconds += seconds
        if self._left_seconds < 0 or (not self._half_closed and self._quiet_seconds > _QUIET_SECONDS):
            self._transport.close()

    def hurry(self) -> None:
        """Take little longer: the server is about to end."""
        self._left_seconds = min(self._left_seconds, _HURRIED_SECONDS)

    def end(self) -> None:
        """Make room for another: the connection is lost."""
        Linger._long -= self._is_long
        self._is_long = False

    @classmethod
    def _read_on(cls) -> None:
        linger = cls._waiting.popleft()
        if not linger._transport.is_closing():
            linger._flow.resume_reading()
        if cls._waiting:
            linger._loop.call_soon(cls._read_on)
