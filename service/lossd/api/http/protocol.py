"""uvicorn's protocol with limits, problem documents and the small-request lane.

Beyond uvicorn, a connection

- bounds and checks heads (`request`);
- answers its own refusals with problem documents, and ends slow callers' connections (`ends`);
- notices at once that a caller has hung up, also while it is not read (`backpressure`);
- reads long bodies past the parser (`upload`);
- takes what it receives when it is its owner's turn (`lossd.engine.scheduler.LoopTurns`);
- offers each request first to a lane, which may answer it before it is parsed (`small_requests`).

It overrides parts of uvicorn that are not its public interface: pyproject.toml allows the versions that were
tested, and tests/api/http/test_uvicorn.py lists these parts.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import httptools
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from lossd.api.accounting import NO_TIMING
from lossd.api.http.backpressure import Backpressure
from lossd.api.http.connections import Connections
from lossd.api.http.disconnects import DisconnectWatcher
from lossd.api.http.ends import ConnectionEnds
from lossd.api.http.interfaces import Lane
from lossd.api.http.request import UNIX_CLIENT
from lossd.api.http.upload import Upload
from lossd.api.problems import Problem
from lossd.engine.scheduler import LoopTurns
from lossd.teams import Team
from lossd.types import RequestError

_MOST_LATE: Final = 8 << 10
"""Bytes of the longest answer that waits for a body: refusals are shorter."""
_START_SECONDS: Final = 0.05e-3
"""About the time that the task of a request for a loss takes before it waits for anything."""
_OTHER_SECONDS: Final = 0.5e-3
"""About the time that any other request takes."""
_WAKE_SECONDS: Final = 0.02e-3
"""About the time that it takes for some more of a body."""
_WRITE_BYTES: Final = 1 << 16
"""Unsent bytes of an answer from which on its endpoint waits. By default TLS has eight times as many."""


class LossdProtocol(ConnectionEnds):
    """One HTTP connection. Every error it answers is a problem document.

    Args:
        disconnects: The event loop's watcher.
        turns: Shares the event loop's time; None for a connection alone in its loop.
        lane: Makes the connection's lane; None without lanes.
        counted: Counts all connections, and whose they are; None if nobody does.
        leaving: Set once callers are to move to other connections.
        options: Those of `ConnectionEnds`, and uvicorn's own.

    Attributes:
        owner: Whose it is: ``team vision`` once a request has shown a key, before that ``address 10.0.0.7``.
        received_at: When what it takes now had arrived, by time.monotonic().
    """

    def __init__(
        self,
        *,
        disconnects: DisconnectWatcher,
        turns: LoopTurns | None = None,
        lane: Callable[[LossdProtocol], Lane] | None = None,
        counted: Connections | None = None,
        leaving: asyncio.Event | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**options)
        self._disconnects = disconnects
        self._turns = turns or LoopTurns(self.loop.call_soon, time.monotonic)
        self._lane = lane(self) if lane is not None else None
        self._counted = counted
        self._leaving = leaving
        self._lines_of: Sequence[tuple[bytes, bytes]] | None = None  # the source of `_default_lines`
        self._default_lines = b""
        self._weight = 1.0  # the team's share of the loop's time
        self.owner = ""
        self.received_at = 0.0

    # From the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin, if there is room."""
        super().connection_made(transport)
        if transport.get_extra_info("socket").family == socket.AF_UNIX:
            self.client = UNIX_CLIENT
        transport.set_write_buffer_limits(_WRITE_BYTES)
        self._backpressure = Backpressure(transport, self._disconnects, self._is_awaited, self.hang_up)
        self.flow = FlowControl(self._backpressure)  # type: ignore[arg-type] # it only pauses and resumes
        if self._counted is not None and (error := self._counted.begin(self)) is not None:
            self._refuse_at_once(error)

    def data_received(self, data: bytes) -> None:
        """Take bytes, or let them wait if this turn of the loop has no time left."""
        if self._waiting:
            self._waiting.append(data)
            self._backpressure.hold()
            return
        now = self.received_at = time.monotonic()
        if self._turns.has_time(now):
            self._take(data)
        else:
            self.take_later(data)

    def take_later(self, data: bytes) -> None:
        """Take bytes in a later turn of the loop. Nothing that was received before them waits."""
        self._waiting.append(data)
        self.wait_for_turn(self._take_waiting)

    def wait_for_turn(self, work: Callable[[], None]) -> None:
        """Call a function when it is its owner's turn."""
        self._turns.add(self.team, self._weight if self.team else 1.0, self.owner, work)

    def _take_waiting(self) -> None:
        """Take what has waited: it is its turn."""
        data, self._waiting = b"".join(self._waiting), []
        if data:
            self._take(data)
        if not self._waiting:
            self._backpressure.release()

    def _take(self, data: bytes) -> None:
        """Take bytes: first the lane, then the parser, in pieces while this turn has time.

        Nothing is taken ahead: at most one request is known beside the one being answered, and none while
        answers are unread. What was received behind them waits, and nothing more is read.
        """
        lane = self._lane
        if lane is not None and not self._ignoring and (lane.busy or self._between_requests):
            data = lane.receive(data)
        start = 0
        while start < len(data):
            if self._ignoring:
                if self._linger is not None:
                    self._linger.drop(len(data) - start)
                return
            if self.pipeline or (self.flow.write_paused and self._between_requests):
                self._waiting.append(data[start:])  # until `on_response_complete` or `resume_writing`
                self._backpressure.hold()
                return
            end = start + self.next_piece()
            self.parse(data[start:end])
            start = end
            if start < len(data) and not self._turns.has_time(time.monotonic()):
                self.take_later(data[start:])
                self._backpressure.hold()
                return

    @property
    def _between_requests(self) -> bool:
        """Whether every received request has been parsed and answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first, though uvicorn declares it
        return not self._within_message and (cycle is None or cycle.response_complete)

    def on_message_complete(self) -> None:
        """End a request; its answer is the connection's last if the server is being stopped."""
        if self._leaving is not None and self._leaving.is_set():
            self._keep_alive = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End: the connection is lost."""
        self._waiting.clear()
        if self._counted is not None:
            self._counted.end(self)
        if self._lane is not None:
            self._lane.lost()
        if self._linger is not None:
            self._linger.end()
        for cycle in self._cycles:
            cycle.disconnected = not cycle.response_complete
        super().connection_lost(exc)
        self._backpressure.close()
        if self._interrupt is not None:
            self._interrupt(None)
        # These refer back to the connection. Without this it would stay in memory, with what was received of
        # the last body, until the garbage collector found it.
        self._lane = None
        self._cycles.clear()
        self.cycle = self.scope = None  # type: ignore[assignment] # as uvicorn begins itself

    def resume_writing(self) -> None:
        """Go on writing: the caller has read."""
        self._guard.client_read()
        super().resume_writing()
        if self._waiting:
            self.wait_for_turn(self._take_waiting)

    # For what answers a request (`lossd.api.http.interfaces.Connection`)

    def when_interrupted(self, callback: Callable[[RequestError | None], None]) -> Callable[[], None]:
        """See `Connection.when_interrupted`."""
        self._interrupt = callback
        if self.transport.is_closing():
            self.hang_up()
        if self.flow.read_paused or self._waiting:
            self._backpressure.watch()

        def end() -> None:
            self._interrupt = None

        return end

    def set_reading(self, reading: bool) -> None:
        """See `Connection.set_reading`."""
        self._reading = reading

    def claim(self, team: Team) -> bool:
        """Count it as a team's from now on; return False if the team may not have it."""
        self._weight = team.weight
        return team.name == self.team or self._counted is None or self._counted.claim(self, team.name)

    def claim_or_refuse(self, team: Team) -> None:
        """See `lossd.api.auth.Connection`."""
        if self.claim(team) or self._counted is None:
            return
        self._keep_alive = False  # the refusal is the last answer
        for cycle in self._cycles:
            cycle.keep_alive = False
        raise self._counted.refuse(team.name)

    def begin_upload(self, scope: Scope, missing: int) -> Upload | None:
        """See `Connection.begin_upload`."""
        cycle: RequestResponseCycle | None = self.cycle
        if self.scheme != "http" or cycle is None or cycle.scope is not scope or cycle.body:
            return None
        if not self._within_body or self._waiting or self.transport.is_closing():
            return None
        self.flow.pause_reading()  # a transport chooses how to read when it begins to
        upload = Upload(self, self.flow, missing)
        self.transport.set_protocol(upload)
        return upload

    def end_upload(self, upload: Upload) -> None:
        """See `Connection.end_upload`."""
        if self.transport.is_closing():
            return
        self.flow.pause_reading()
        self.transport.set_protocol(self)
        self.flow.resume_reading()
        if not upload.missing:
            self.parser = httptools.HttpRequestParser(self)  # the one before still expects the body
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.on_message_complete()

    def count_upload(self, nbytes: int) -> None:
        """Count bytes of a body that were read past the parser."""
        self.body_bytes += nbytes

    def on_body(self, body: bytes) -> None:
        """Take some of a body."""
        if not self.cycle.body:  # what awaits it is woken once, for however many chunks
            self._turns.spend(_WAKE_SECONDS)
        super().on_body(body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._turns.spend(_START_SECONDS if cycle.scope["method"] == "POST" else _OTHER_SECONDS)
        super()._start_asgi_task(cycle, app)

    # Answers

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Write an answer, given the lines of its headers without those that every answer has."""
        defaults = self.server_state.default_headers
        if defaults is not self._lines_of:  # uvicorn makes new ones each second, with the date
            self._lines_of, self._default_lines = defaults, header_lines(defaults)
        self.transport.write(b"".join((STATUS_LINE[status], self._default_lines, headers, b"\r\n", body)))

    def respond_problem(
        self, answer: Problem, request_id: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Write a problem document."""
        lines = [*answer.headers, (b"x-request-id", request_id), (b"server-timing", NO_TIMING), *headers]
        self.respond(answer.status, header_lines(lines), answer.body)

    def when_answered(self) -> None:
        """Count a request as answered, as uvicorn does."""
        self.server_state.total_requests += 1
        self.idle_since = self.loop.time()
        self.served = True

    def on_response_complete(self) -> None:
        """Go on with the next request.

        Unlike uvicorn, it sets no timer to close an idle connection.
        """
        self.when_answered()
        if self.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline or self._waiting:
            self.wait_for_turn(self._start_next)

    def _start_next(self) -> None:
        """Start the next request, and take what has arrived behind it."""
        if self.pipeline and not self.is_closing():
            self._start_asgi_task(*self.pipeline.pop())
        self._take_waiting()

    def write(self, data: bytes) -> None:
        """Write some of an answer from uvicorn's cycle."""
        if self._linger is not None:
            return
        if self._waits_for_body(data):
            self._late_answer += data  # `close` comes next
            return
        if self._late_answer:
            self.transport.write(self._late_answer)
            self._late_answer = b""
        self.transport.write(data)

    def _waits_for_body(self, data: bytes) -> bool:
        """Return whether some of an answer is a refusal's, and its caller is a proxy that still sends."""
        cycle = self.cycle
        if (
            not self._within_body
            or not cycle.response_started
            or cycle.keep_alive
            or self.expect_100_continue
        ):
            return False
        held = self._late_answer + data
        refused = held.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
        short = len(held) <= _MOST_LATE
        return refused and short and self._counted is not None and self._counted.is_proxy(self)

    def is_closing(self) -> bool:
        """Return whether nothing can be written any more."""
        return self._linger is not None or self.transport.is_closing()

    def close(self) -> None:
        """Close after an answer, once the caller has sent all of its request."""
        if self._within_body or self._ignoring or self._waiting:
            self.linger()
        else:
            self.transport.close()


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they are sent, each with its line's end."""
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers)
