"""The HTTP protocol of a connection: uvicorn's, but for two things.

What it refuses by itself is a problem document, too. And a request can be told at once that its caller has
hung up, also while nothing is being read from the connection.
"""

from __future__ import annotations

import asyncio
import re
import select
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from lossd.api.context import NO_TIMING
from lossd.api.problems import problem
from lossd.request import Fault

_UPGRADE: Final = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)


CONNECTION: Final = "lossd.connection"
"""Where a request's scope has its connection."""


class HangUps:
    """Tells which of some sockets their peers have closed, by an epoll of its own.

    The event loop looks at a socket only while it reads from it, and it does not while a request's upload is
    paused.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._tell)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the peer has hung up, or has closed its half."""
        self._callbacks[fd] = callback
        events = select.EPOLLRDHUP | select.EPOLLONESHOT  # and errors, which always count
        try:
            self._epoll.register(fd, events)
        except FileExistsError:  # for the request before on the same connection
            self._epoll.modify(fd, events)

    def forget(self, fd: int, callback: Callable[[], None]) -> None:
        """Do not call ``callback`` any more."""
        if self._callbacks.get(fd) is not callback:
            return  # the descriptor is another connection's by now
        del self._callbacks[fd]
        with suppress(OSError):  # closed already, which ended the watch
            self._epoll.unregister(fd)

    def _tell(self) -> None:
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback()


class LossdProtocol(HttpToolsProtocol):
    """A connection whose every answer is one that the contract knows."""

    _within_message = False
    _hang_ups: HangUps | None = None  # the event loop's

    def when_lost(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` once the caller has hung up.

        Returns:
            What to call when that does not matter any more.
        """
        if LossdProtocol._hang_ups is None:
            LossdProtocol._hang_ups = HangUps()
        watched, fd = LossdProtocol._hang_ups, self.transport.get_extra_info("socket").fileno()

        def lost() -> None:
            if self.cycle is not None:
                self.cycle.disconnected = True  # uvicorn may not have read as far as to know
            self.transport.abort()
            callback()

        if fd < 0:
            lost()
            return lambda: None
        watched.watch(fd, lost)
        return lambda: watched.forget(fd, lost)

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
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]

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
