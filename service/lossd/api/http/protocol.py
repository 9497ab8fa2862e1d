"""The HTTP protocol of a connection: uvicorn's, but for what a server on a network needs.

What it refuses by itself is a problem document, too. A request can be told at once that its caller has hung
up, also while nothing is being read from the connection. Heads are bounded, and looked at
(`lossd.api.http.head_rules`). No caller keeps the server waiting for as long as it likes: each connection
looks at its own a few times a second (`lossd.api.http.connections`), so that no request costs a timer. Long
bodies are read past it (`lossd.api.http.upload`). And a lane beside it may take requests as they come, before
anything is parsed (`lossd.api.small_requests.lane`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from lossd.api.http.cors import Origins
from lossd.api.http.disconnects import HangUps
from lossd.api.http.head_rules import check_head, without_upgrade
from lossd.api.http.linger import Linger
from lossd.api.http.request_context import NO_TIMING, choose_id, header
from lossd.api.http.upload import Upload
from lossd.api.problems import KINDS, Problem, problem
from lossd.api.request_log import RequestLine, RequestLog
from lossd.settings import Settings
from lossd.types import ErrorCode, RequestError

SHORT_BYTES: Final = 1 << 16
"""A body that is not longer is soon over: the connection can be used again although it was not wanted."""
_SHORT_SECONDS: Final = 1.0
"""How long that may take."""
_LEAST_READ: Final = 1 << 16
"""Bytes of an answer that a caller reads now and then, if it does not just keep the connection."""
_MOST_BEHIND: Final = 1000
"""Requests behind the one that is being answered: a chunk of bytes has room for ten thousand."""

CONNECTION: Final = "lossd.connection"
"""Where a request's scope has its connection."""


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
        settings: The server's settings.
        lane: Makes the lane beside it, if there is to be one.
        room: Called when it has been made; returns whether there is room for it.
        requests: Where what it refuses by itself has its line.
        origins: Whose pages may call it, if it is to say so.
        uvicorns: What uvicorn gives its protocols.

    Attributes:
        reading: Whoever answers its request is waiting for more of the body.
        interrupt: What to tell whoever answers its request if the body cannot be read on.
        idle_since: When it was last answered, or made, by the loop's clock.
    """

    _within_message = False
    _within_body = False
    _held = b""  # the beginning of a line that may be an offer to upgrade
    _deaf = False  # what comes is not looked at any more
    _linger: Linger | None = None  # its last answer has been written, and what still comes is dropped
    _hang_ups: HangUps | None = None  # the event loop's
    _defaults: tuple[object, bytes] = None, b""  # headers that every answer has, and their lines
    _lost: Callable[[], None] | None = None  # what the running request wants to be told of that
    # Of what is awaited from the caller:
    _served = False  # it has been answered before
    _fruitless = 0  # bytes since the last that ended a head or were of a body
    _late_seconds = 0.0  # since the head began
    _stuck_seconds = 0.0  # since it last read enough of what is written
    _unread_bytes = 0  # how much was unread then
    _announced: int | None = None  # the body's bytes, if the request tells
    _keep_alive = False  # what uvicorn makes of the request's head
    _credit = 0.0  # bytes that the upload is ahead of what it must be at least
    _body_bytes = _counted_bytes = 0  # of the body; those of them that are in the credit
    reading = False
    interrupt: Callable[[RequestError], None] | None = None

    def __init__(
        self,
        *,
        settings: Settings,
        lane: Callable[[LossdProtocol], Lane] | None = None,
        room: Callable[[LossdProtocol], bool] | None = None,
        requests: RequestLog | None = None,
        origins: Origins | None = None,
        **uvicorns: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**uvicorns)
        self._settings = settings
        self._lane = lane(self) if lane is not None else None
        self._room = room
        self._requests = requests
        self._origins = origins
        self.idle_since = self.loop.time()
        self._cycles: list[
            RequestResponseCycle
        ] = []  # requests that are not answered, and maybe the last one

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin, if there is room."""
        super().connection_made(transport)
        if self._room is not None and not self._room(self):
            self._deaf = True
            detail = "the server has as many connections as it may; send this to another, or again later"
            self._respond_fault(RequestError(ErrorCode.OVERLOADED, detail))
            transport.close()

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

        def forget() -> None:
            self._lost = None
            watched.forget(fd, lost)

        if fd < 0:
            lost()
            return lambda: None
        self._lost = lost
        watched.watch(fd, lost)
        return forget

    def data_received(self, data: bytes) -> None:
        """Take bytes from the connection."""
        if self._deaf:
            if self._linger is not None:
                self._linger.drop(len(data))
            return
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
        self._body_bytes += nbytes

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
        if not self._within_body:
            data, self._held = without_upgrade(self._held + data, begun=self._within_message)
        if data:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._fruitless += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # There was an offer all the same: it stood in a head behind a body, in one chunk with that. What
            # follows is not understood, and the answer is the last.
            self.cycle.keep_alive = False
            self._deaf = True
            return
        except httptools.HttpParserError as error:
            found = error.__context__  # what was raised while it told what it had found
            malformed = RequestError(
                ErrorCode.BAD_REQUEST, "this is no HTTP request; send a well-formed one, HTTP/1.1"
            )
            self.refuse(found if isinstance(found, RequestError) else malformed)
            return
        if self._fruitless > self._settings.max_header_bytes:
            self.refuse(self._too_long())

    @property
    def _between_requests(self) -> bool:
        """All that has come before has been parsed, and answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None, whatever uvicorn declares, until the first
        return not self._within_message and (cycle is None or cycle.response_complete)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the connection is lost."""
        if self._lane is not None:
            self._lane.lost()
        if self._linger is not None:
            self._linger.end()
        for cycle in self._cycles:
            cycle.disconnected = not cycle.response_complete
        super().connection_lost(exc)
        # These refer to the connection in turn: it would stay, with all that came of the last body, until the
        # garbage collector found it, who would have much to do when many are refused.
        self._lane = None
        self._cycles.clear()
        self.cycle = self.scope = None  # type: ignore[assignment] # as uvicorn begins itself

    def resume_writing(self) -> None:
        """Go on writing: the caller has read."""
        self._stuck_seconds = 0.0
        super().resume_writing()

    def shutdown(self) -> None:
        """End what is being answered, as the server ends."""
        if self._linger is not None:
            self._linger.hurry()
            return
        self._keep_alive = False
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
        self.idle_since = self.loop.time()
        self._served = True

    def on_response_complete(self) -> None:
        """Go on with what has come behind a request that has been answered.

        As uvicorn does, but that it sets a timer each time to close the connection if nothing comes.
        """
        self.when_answered()
        if self.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

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

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Those behind a chunked body are passed over (RFC 9112, 7.1.2)."""
        if self._within_body:
            return
        super().on_header(name, value)
        if len(self.headers) > self._settings.max_headers:
            detail = f"the head has more than {self._settings.max_headers} headers; send fewer"
            raise RequestError(ErrorCode.HEADERS_TOO_LARGE, detail)

    def on_headers_complete(self) -> None:
        """End a request's head."""
        check_head(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        headers = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.url) + headers > self._settings.max_header_bytes:
            raise self._too_long()
        if len(self.pipeline) == _MOST_BEHIND:
            detail = f"over {_MOST_BEHIND} requests came before an answer was awaited; wait for some"
            raise RequestError(ErrorCode.BAD_REQUEST, detail)
        super().on_headers_complete()
        self.cycle.transport = self  # type: ignore[assignment] # it is written to, and closed, by way of this
        self._await_body()
        self._fruitless = self._body_bytes = self._counted_bytes = 0
        self._late_seconds = 0.0
        self._credit = self._settings.upload_grace_seconds * self._settings.upload_bytes_per_second
        self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete]
        self._cycles.append(self.cycle)

    def _await_body(self) -> None:
        """Have the answer be the last, unless all of the body has come before it, or is sure to come soon."""
        self._within_body = True
        lengths = [int(value) for name, value in self.headers if name == b"content-length"]
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._announced = None if chunked else sum(lengths)
        self._keep_alive = self.cycle.keep_alive
        if self.expect_100_continue or self._announced is None or self._announced > SHORT_BYTES:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take some of a body."""
        self._fruitless = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._within_message = self._within_body = False
        self._fruitless = 0
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive
        super().on_message_complete()

    def _too_long(self) -> RequestError:
        most = self._settings.max_header_bytes
        detail = (
            f"a head, or what stands between the bytes of a chunked body, has over {most} bytes; send less"
        )
        return RequestError(ErrorCode.HEADERS_TOO_LARGE, detail)

    def refuse(self, fault: RequestError) -> None:
        """Read no further, and say why, in the last answer of this connection.

        Requests before what is at fault are answered first; then there is no saying why. One whose body is at
        fault has but one answer, too.
        """
        self._deaf = True
        waiting = [cycle for cycle in self._cycles if not cycle.response_complete]
        broken = self.cycle if self._within_body else None
        if broken is not None and broken in waiting:
            waiting.remove(broken)
        if waiting:
            if broken is not None:
                self.pipeline.popleft()
            waiting[-1].keep_alive = False
            self.flow.pause_reading()
        elif broken is None:
            self._respond_fault(fault)
            self._part()
        elif self.interrupt is not None:
            self.interrupt(fault)
        else:
            if not broken.response_started:
                self._respond_fault(fault)
            broken.disconnected = True
            broken.message_event.set()
            self._part()

    def _respond_fault(self, fault: RequestError) -> None:
        identity = choose_id(None)
        if self._requests is not None and self._requests.wants(fault.code):
            host, status = self.client[0] if self.client else "", KINDS[fault.code].status
            self._requests.write(RequestLine(identity.decode(), "", host, fault.code, status))
        answer = problem(fault, identity.decode(), close=True)
        headers = [*answer.headers, (b"x-request-id", identity), (b"server-timing", NO_TIMING)]
        if self._origins is not None:
            headers += self._origins.headers(header({"headers": self.headers or ()}, b"origin"))
        self.respond(answer.status, header_lines(headers), answer.body)

    def write(self, data: bytes) -> None:
        """Write some of an answer that uvicorn's way gives."""
        if self._linger is None:
            self.transport.write(data)

    def is_closing(self) -> bool:
        """Nothing can be written any more."""
        return self._linger is not None or self.transport.is_closing()

    def close(self) -> None:
        """Close behind an answer; but if there is still something to come, read that first."""
        if self._within_body or self._deaf:
            self._part()
        else:
            self.transport.close()

    def _part(self) -> None:
        """Close the sending half, and drop what is still coming, for a bounded time."""
        if self.is_closing():
            return
        self._deaf, self.idle_since = True, self.loop.time()
        left = self._settings.linger_bytes
        if self._within_body and self._announced is not None:
            left = self._announced - self._body_bytes
        self._linger = Linger(self.loop, self.flow, self.transport, left, self._settings)

    @property
    def dispensable(self) -> bool:
        """It can make room for another."""
        return self.idle or self._linger is not None

    @property
    def idle(self) -> bool:
        """Nothing of a request has come that is not answered."""
        busy = self._lane is not None and self._lane.busy
        return self._between_requests and not (self._fruitless or busy or self._deaf)

    def look(self, now: float, seconds: float) -> None:
        """See whether the caller keeps the server waiting for too long.

        Args:
            now: The loop's clock.
            seconds: How long it is since the last look.
        """
        settings = self._settings
        if self.flow.write_paused or self.transport.is_closing():
            unread = self.transport.get_write_buffer_size()
            if not self._stuck_seconds or unread <= self._unread_bytes - _LEAST_READ:
                self._stuck_seconds, self._unread_bytes = 0.0, unread
            self._stuck_seconds += seconds
            if self._stuck_seconds > settings.stall_seconds:
                (self._lost or self.transport.abort)()
            return
        self._stuck_seconds = 0.0
        if self.idle:
            if now - self.idle_since > (self.timeout_keep_alive if self._served else settings.header_seconds):
                self.transport.close()
        elif self._linger is not None:
            self._linger.look(seconds)
        elif self._within_body and self.cycle.response_complete:
            self._late_seconds += seconds
            if self._late_seconds > _SHORT_SECONDS:
                self._part()
        elif self._deaf or self.flow.read_paused:
            return
        elif self._within_body:
            if self.reading:
                self._charge(seconds)
        elif self._within_message or self._fruitless:
            self._late_seconds += seconds
            if self._late_seconds > settings.header_seconds:
                detail = f"the head took over {settings.header_seconds:g} s to come; send it in one piece"
                self.refuse(RequestError(ErrorCode.UPLOAD_TOO_SLOW, detail))

    def _charge(self, seconds: float) -> None:
        """Have an upload pay for the time in which the server was reading it."""
        settings, came = self._settings, self._body_bytes
        rate, pause = settings.upload_bytes_per_second, settings.upload_pause_seconds
        ahead = min(self._credit + came - self._counted_bytes, rate * pause)
        self._counted_bytes, self._credit = came, ahead - rate * seconds
        if self._credit < 0.0:
            detail = (
                f"the body comes too slowly: {came} bytes of it have come, and {rate} a second must, but for "
                f"pauses of up to {pause:g} s; send it faster, or in smaller requests"
            )
            self.refuse(RequestError(ErrorCode.UPLOAD_TOO_SLOW, detail))


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are sent, each with its line's end."""
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers)
