"""The HTTP protocol of a connection: uvicorn's, but for three things.

What it refuses by itself is a problem document, too. A request can be told at once that its caller has hung
up, also while nothing is being read from the connection. And a lane beside it may take requests as they come,
before anything is parsed (`lossd.api.fastlane`).
"""

from __future__ import annotations

import asyncio
import re
import select
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from lossd.api.context import NO_TIMING, choose_id
from lossd.api.problems import Problem, problem
from lossd.api.upload import Upload
from lossd.request import Fault

_UPGRADE: Final = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
_PARTIAL: Final = re.compile(
    rb"\r(?:\n(?:u|up|upg|upgr|upgra|upgrad|upgrade[ \t]*)?)?\Z",
    re.IGNORECASE,
)


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


class Lane(Protocol):
    """What may take requests of one connection before they are parsed."""

    @property
    def busy(self) -> bool:
        """It has taken one that is not answered."""

    def receive(self, data: bytes) -> bytes:
        """Take what has come while it is busy, or between two requests; what it does not want is returned."""

    def lost(self) -> None:
        """Take note that the caller has hung up."""

    def stop(self) -> None:
        """Answer at once."""


class LossdProtocol(HttpToolsProtocol):
    """A connection whose every answer is one that the contract knows.

    Args:
        lane: Makes the lane beside it, if there is to be one.
        uvicorns: What uvicorn gives its protocols.
    """

    _within_message = False
    _within_body = False
    _held = b""  # the beginning of a line that may be an offer to upgrade
    _deaf = False  # what comes is not understood any more
    _hang_ups: HangUps | None = None  # the event loop's
    _defaults: tuple[object, bytes] = None, b""  # headers that every answer has, and their lines

    def __init__(self, *, lane: Callable[[LossdProtocol], Lane] | None = None, **uvicorns: Any) -> None:  # noqa: ANN401
        super().__init__(**uvicorns)
        self._lane = lane(self) if lane is not None else None
        self._idle_since = 0.0  # by the loop's clock: when the lane last answered
        self._cycles: list[
            RequestResponseCycle
        ] = []  # requests that are not answered, and maybe the last one

    def when_lost(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` once the caller has hung up.

        Returns:
            What to call when that does not matter any more.
        """
        if LossdProtocol._hang_ups is None:
            LossdProtocol._hang_ups = HangUps()
        watched, fd = LossdProtocol._hang_ups, self.transport.get_extra_info("socket").fileno()

        def lost() -> None:
            for cycle in self._cycles:
                cycle.disconnected = True  # uvicorn may not have read as far as to know
            self.transport.abort()
            callback()

        if fd < 0:
            lost()
            return lambda: None
        watched.watch(fd, lost)
        return lambda: watched.forget(fd, lost)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the connection."""
        lane = self._lane
        if lane is not None and (lane.busy or self._between_requests):
            data = lane.receive(data)
        if data:
            self.receive_ordinarily(data)

    def begin_upload(self, scope: Scope, missing: int) -> Upload | None:
        """Have the rest of a body read past the parser.

        Args:
            scope: Of the request.
            missing: How many bytes of its body have not been received.

        Returns:
            None where that cannot be.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if self.scheme != "http" or cycle is None or cycle.scope is not scope or cycle.body:
            return None
        if not self._within_body or self.transport.is_closing():
            return None
        upload = Upload(self, missing)
        self._change_protocol(upload)
        return upload

    def end_upload(self, upload: Upload) -> None:
        """Read by itself again what comes behind an upload, or is left of one that nobody wants."""
        if self.transport.is_closing():
            return
        self._change_protocol(self)
        if not upload.missing:
            self.parser = httptools.HttpRequestParser(self)  # that before waits for the body
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.on_message_complete()

    def pause_upload(self) -> None:
        """Read no more for now."""
        self.flow.pause_reading()

    def resume_upload(self) -> None:
        """Read on."""
        self.flow.resume_reading()

    def count_upload(self, nbytes: int) -> None:
        """Take note that so many bytes have come."""

    def _change_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.flow.pause_reading()  # how a transport reads is chosen when it begins to
        self.transport.set_protocol(protocol)
        self.flow.resume_reading()

    def receive_ordinarily(self, data: bytes) -> None:
        """Take bytes from the connection that are for no lane.

        An offer to upgrade (curl's and Java's of HTTP/2) may be ignored, says RFC 9110, 7.8. The parser takes
        it up by itself, and with that loses the body, or takes it for a request; so it does not get to see
        the offer.
        """
        if self._deaf:
            return
        if not self._within_body:
            data, self._held = self._without_upgrade(self._held + data)
        if data:
            super().data_received(data)

    def _without_upgrade(self, data: bytes) -> tuple[bytes, bytes]:
        """A head's next bytes without an offer, and what of their end may be the beginning of one."""
        end = data.find(b"\r\n\r\n")
        stop = len(data) if end < 0 else end
        if _UPGRADE.search(data, 0, stop):
            data = _UPGRADE.sub(b"\r\nx-ignored-upgrade:", data[:stop]) + data[stop:]
        if end < 0 and (cut := _PARTIAL.search(data)) and (cut.start() or self._within_message):
            return data[: cut.start()], data[cut.start() :]
        return data, b""

    def _unsupported_upgrade_warning(self) -> None:
        """Make the answer the last: there was an offer all the same, and what follows is not understood.

        It stood in a head behind a body, in one chunk with that.
        """
        self.cycle.keep_alive = False
        self._deaf = True

    @property
    def _between_requests(self) -> bool:
        """All that has come before has been parsed, and answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None, whatever uvicorn declares, until the first
        return not self._within_message and (cycle is None or cycle.response_complete)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the connection is lost."""
        if self._lane is not None:
            self._lane.lost()
        for cycle in self._cycles:
            cycle.disconnected = not cycle.response_complete
        super().connection_lost(exc)
        # These refer to the connection in turn: it would stay, with all that came of the last body, until the
        # garbage collector found it, who would have much to do when many are refused.
        self._lane = None
        self._cycles.clear()
        self.cycle = self.scope = None  # type: ignore[assignment] # as uvicorn begins itself

    def shutdown(self) -> None:
        """End what is being answered, as the server ends."""
        if self._lane is not None and self._lane.busy:
            self._lane.stop()
        super().shutdown()

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Write an answer.

        Args:
            status: Its status.
            headers: Its headers, but for those that every answer has, each with its line's end.
            body: Its body.
        """
        self.transport.write(b"".join((STATUS_LINE[status], self._default_lines(), headers, b"\r\n", body)))

    def respond_problem(self, answer: Problem, identity: bytes) -> None:
        """Write a problem, and close if that is what it says."""
        headers = [*answer.headers, (b"x-request-id", identity), (b"server-timing", NO_TIMING)]
        self.respond(answer.status, header_lines(headers), answer.body)
        if (b"connection", b"close") in answer.headers:
            self.transport.close()

    def when_answered(self) -> None:
        """Do what uvicorn does when a request has been answered, for one that it has not seen."""
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self._wait_for_more(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close, unless the lane has been in use: it does not set the clock anew for each request."""
        self.timeout_keep_alive_task = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self._lane is not None and self._lane.busy:
            return  # the clock is set when that has been answered
        if left > 0.0:
            self._wait_for_more(left)
        else:
            super().timeout_keep_alive_handler()

    def _wait_for_more(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _default_lines(self) -> bytes:
        headers = self.server_state.default_headers
        if headers is not LossdProtocol._defaults[0]:  # uvicorn makes them anew each second, with the date
            LossdProtocol._defaults = headers, header_lines(headers)
        return LossdProtocol._defaults[1]

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._within_message = True
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        """End a request's head."""
        self._within_body = True
        super().on_headers_complete()
        self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete]
        self._cycles.append(self.cycle)

    def on_message_complete(self) -> None:
        """End a request."""
        self._within_message = self._within_body = False
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
        fault = Fault("bad_request", f"{msg} Send a well-formed HTTP/1.1 request.")
        identity = choose_id(None)
        self.respond_problem(problem(fault, identity.decode(), close=True), identity)


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are sent, each with its line's end."""
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers)
