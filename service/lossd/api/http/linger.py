"""The end of a connection whose caller still sends: what it sends is read and dropped, for a bounded time.

Closing with unread bytes makes the kernel reset the connection. Ordinary callers (urllib, requests, Java's)
read the answer only after they have sent everything, and would never see why they were refused
(RFC 9112, 9.6).

A proxy cannot wait for its caller like this: over HTTP/2 it passes an early answer on and resets the stream,
and some callers (curl, httpx) then lose the answer. A body that comes by a trusted proxy is therefore read
first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

from lossd.settings import Settings

_SHORT_SECONDS: Final = 1.0
"""The time of a connection when as many as allowed have a long time."""
_BRIEF_SECONDS: Final = 0.5
"""The time of a connection for which there is no room: most callers have sent all, and need none."""
_MOST_BRIEF: Final = 64
"""Connections that there is no room for and that linger; further ones are closed at once."""
_HURRIED_SECONDS: Final = 0.4
"""The time of a connection when the server is about to end."""
_QUIET_SECONDS: Final = 1.0
"""After this silence, closing cannot cause a reset, and an answer does not wait any longer."""
_LATE_SECONDS: Final = 5.0
"""The longest that an answer waits for the end of a body that comes by a proxy."""


class Lingerers:
    """The lingering connections of a server: how many have a long time, and whose turn it is to be read.

    Attributes:
        settings: The server's settings.
        long: The connections that have a long time.
        brief: Those that linger though there is no room for them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings: Final = settings
        self.long = self.brief = 0
        self._waiting: deque[Linger] = deque()  # one is read in each turn of the event loop

    @property
    def have_room(self) -> bool:
        """Whether one more may linger that there is no room for otherwise."""
        return self.brief < _MOST_BRIEF

    def read_later(self, linger: Linger, loop: asyncio.AbstractEventLoop) -> None:
        """Read a connection on after the others, and after everything else in the event loop."""
        self._waiting.append(linger)
        if len(self._waiting) == 1:
            loop.call_soon(self._read_next, loop)

    def _read_next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting.popleft().read_on()
        if self._waiting:
            loop.call_soon(self._read_next, loop)


class Linger:
    """The end of one connection.

    The sending half is closed, after a late answer if there is one. TLS may not be able to close it; then a
    quiet caller is not waited for.

    Args:
        others: The server's lingering connections.
        loop: The event loop.
        flow: The flow of the connection.
        transport: The transport of the connection.
        left_bytes: The most bytes that are still to be received.
        late_answer: What is sent once they have been received; empty if the answer was sent.
        brief: There is no room for it among the connections.
    """

    def __init__(
        self,
        others: Lingerers,
        loop: asyncio.AbstractEventLoop,
        flow: FlowControl,
        transport: asyncio.Transport,
        left_bytes: int,
        late_answer: bytes = b"",
        *,
        brief: bool = False,
    ) -> None:
        settings = others.settings
        self._others = others
        self._loop = loop
        self._flow = flow
        self._transport = transport
        self._left_bytes = min(left_bytes, settings.linger_bytes)
        self._is_brief = brief
        self._is_long = not brief and others.long < settings.linger_connections
        others.long += self._is_long
        others.brief += brief
        unless_long = _BRIEF_SECONDS if brief else _SHORT_SECONDS
        self._left_seconds = settings.linger_seconds if self._is_long else unless_long
        self._quiet_seconds = 0.0
        self._half_closed = False
        self._late_answer = late_answer
        self._late_seconds = min(_LATE_SECONDS, self._left_seconds / 2)
        if not late_answer:
            self._end_sending()
        flow.resume_reading()

    def drop(self, nbytes: int) -> None:
        """Count bytes that were received, and let everything else run before the next are read."""
        self._left_bytes -= nbytes
        self._quiet_seconds = 0.0
        if self._left_bytes <= 0:
            self._end_sending()
            self._transport.close()
            return
        self._flow.pause_reading()
        self._others.read_later(self, self._loop)

    def read_on(self) -> None:
        """Read more, if the connection still exists."""
        if not self._transport.is_closing():
            self._flow.resume_reading()

    def look(self, seconds: float) -> None:
        """Close the connection if its time is up, some seconds after the last look."""
        self._left_seconds -= seconds
        self._quiet_seconds += seconds
        self._late_seconds -= seconds
        if self._late_answer and (self._late_seconds < 0 or self._quiet_seconds > _QUIET_SECONDS):
            self._end_sending()
        if self._left_seconds < 0 or (not self._half_closed and self._quiet_seconds > _QUIET_SECONDS):
            self._transport.close()

    def hurry(self) -> None:
        """Shorten the time: the server is about to end."""
        self._end_sending()
        self._left_seconds = min(self._left_seconds, _HURRIED_SECONDS)

    def _end_sending(self) -> None:
        """Send a late answer, and close the sending half."""
        if self._half_closed or self._transport.is_closing():
            return
        if self._late_answer:
            self._transport.write(self._late_answer)
            self._late_answer = b""
        self._half_closed = self._transport.can_write_eof()
        if self._half_closed:
            self._transport.write_eof()

    def end(self) -> None:
        """Let another connection have its time: this one is lost."""
        self._others.long -= self._is_long
        self._others.brief -= self._is_brief
        self._is_long = self._is_brief = False
