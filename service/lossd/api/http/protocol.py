"""uvicorn's protocol with limits, problem documents and the small-request lane.

Beyond uvicorn, a connection

- answers its own refusals with problem documents, and lets the caller finish sending (`linger`);
- bounds and checks heads (`request`), and ends slow callers' connections (`slow_clients`);
- notices at once that a caller has hung up (`disconnects`);
- reads long bodies past the parser (`upload`);
- takes what it receives when it is its owner's turn (`lossd.engine.scheduler.LoopTurns`);
- offers each request first to a lane, which may answer it before it is parsed (`small_requests`).

It overrides parts of uvicorn that are not its public interface: pyproject.toml allows the versions that were
tested, and tests/api/http/test_uvicorn.py lists these parts.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import httptools
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from lossd.api.accounting import NO_TIMING, STOPPED, RequestLog, choose_id
from lossd.api.http.connections import Connections
from lossd.api.http.cors import Origins
from lossd.api.http.disconnects import DisconnectWatcher
from lossd.api.http.interfaces import Lane
from lossd.api.http.linger import Linger, Lingerers
from lossd.api.http.request import RequestParser, header
from lossd.api.http.slow_clients import SlowClientGuard, Stage
from lossd.api.http.upload import Upload
from lossd.api.problems import Problem, problem
from lossd.engine.scheduler import LoopTurns
from lossd.settings import Settings
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


class _Flow(FlowControl):
    """uvicorn's flow control of a connection, which notices a hang-up also while reading is paused.

    Args:
        transport: The transport of the connection.
        disconnects: The event loop's watcher.
        wanted: Returns whether a hang-up matters now.
        hang_up: Called once the peer has hung up.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        disconnects: DisconnectWatcher,
        wanted: Callable[[], bool],
        hang_up: Callable[[], None],
    ) -> None:
        super().__init__(transport)
        self._wanted = wanted
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._disconnects = disconnects
        self._hang_up = hang_up
        self._paused = False  # others than `hold` have paused it
        self._held = False

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._paused = True
        self._pause()

    def hold(self) -> None:
        """Read no more until `release`, even after `resume_reading`: received bytes wait to be taken."""
        self._held = True
        self._pause()

    def _pause(self) -> None:
        super().pause_reading()
        if self._wanted():
            self.watch()

    def watch(self) -> None:
        """Watch for a hang-up, if reading is paused. Otherwise the event loop notices it."""
        if self.read_paused and not self._transport.is_closing():
            self._disconnects.watch(self._fd, self._hang_up)

    def resume_reading(self) -> None:
        """Read again."""
        self._paused = False
        self._resume()

    def release(self) -> None:
        """Read again unless others have paused it: nothing waits."""
        self._held = False
        self._resume()

    def _resume(self) -> None:
        if self._paused or self._held:
            return
        if self.read_paused:
            self._disconnects.forget(self._fd, self._hang_up)
        super().resume_reading()

    def close(self) -> None:
        """Watch no more: the connection is lost."""
        self._disconnects.forget(self._fd, self._hang_up)


class LossdProtocol(RequestParser):
    """One HTTP connection. Every error it answers is a problem document.

    Args:
        settings: The server's settings.
        disconnects: The event loop's watcher.
        lingerers: The server's lingering connections.
        turns: Shares the event loop's time; None for a connection alone in its loop.
        lane: Makes the connection's lane; None without lanes.
        counted: Counts all connections, and whose they are; None if nobody does.
        log: The log of requests, for those that the connection refuses by itself.
        origins: The origins that may call the server, if any.
        leaving: Set once callers are to move to other connections.
        uvicorns: uvicorn's own arguments.

    Attributes:
        owner: Whose it is: ``team vision`` once a request has shown a key, before that ``address 10.0.0.7``.
        team: The name of its team; empty if it has none.
        served: Whether a request was answered on it.
        idle_since: When it was made, or last had answered a request, by the loop's clock.
        received_at: When what it takes now had arrived, by time.monotonic().
    """

    def __init__(
        self,
        *,
        settings: Settings,
        disconnects: DisconnectWatcher,
        lingerers: Lingerers,
        turns: LoopTurns | None = None,
        lane: Callable[[LossdProtocol], Lane] | None = None,
        counted: Connections | None = None,
        log: RequestLog | None = None,
        origins: Origins | None = None,
        leaving: asyncio.Event | None = None,
        **uvicorns: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(settings, **uvicorns)
        self._disconnects = disconnects
        self._lingerers = lingerers
        self._turns = turns or LoopTurns(self.loop.call_soon, time.monotonic)
        self._lane = lane(self) if lane is not None else None
        self._counted = counted
        self._log = log
        self._origins = origins
        self._leaving = leaving
        self._guard = SlowClientGuard(settings)
        self._linger: Linger | None = None
        self._late_answer = b""
        self._interrupt: Callable[[RequestError | None], None] | None = None
        self._reading = False  # an endpoint awaits more of a body
        self._lines_of: Sequence[tuple[bytes, bytes]] | None = None  # the source of `_default_lines`
        self._default_lines = b""
        self._waiting: list[bytes] = []  # received, but not taken yet
        self.owner = self.team = ""
        self._weight = 1.0  # the team's share of the loop's time
        self.served = False
        self.idle_since = self.loop.time()
        self.received_at = 0.0

    # From the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin, if there is room."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(_WRITE_BYTES)
        self._flow = _Flow(transport, self._disconnects, self._is_awaited, self.hang_up)
        self.flow = self._flow
        if self._counted is not None and (error := self._counted.begin(self)) is not None:
            self._refuse_at_once(error)

    def data_received(self, data: bytes) -> None:
        """Take bytes, or let them wait if this turn of the loop has no time left."""
        if self._waiting:
            self._waiting.append(data)
            self._flow.hold()
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
            self._flow.release()

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
                self._flow.hold()
                return
            end = start + self.next_piece()
            self.parse(data[start:end])
            start = end
            if start < len(data) and not self._turns.has_time(time.monotonic()):
                self.take_later(data[start:])
                self._flow.hold()
                return

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
        self._flow.close()
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
        self._flow.watch()

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
        """Write an answer.

        Args:
            status: Its status.
            headers: The lines of its headers, without those that every answer has.
            body: Its body.
        """
        defaults = self.server_state.default_headers
        if defaults is not self._lines_of:  # uvicorn makes new ones each second, with the date
            self._lines_of, self._default_lines = defaults, header_lines(defaults)
        self.transport.write(b"".join((STATUS_LINE[status], self._default_lines, headers, b"\r\n", body)))

    def respond_problem(
        self, answer: Problem, request_id: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Write a problem document.

        Args:
            answer: The problem.
            request_id: The request's id.
            headers: Further headers.
        """
        lines = [*answer.headers, (b"x-request-id", request_id), (b"server-timing", NO_TIMING), *headers]
        self.respond(answer.status, header_lines(lines), answer.body)

    def refuse(self, error: RequestError) -> None:
        """Read no further, and answer with an error, the last answer of the connection.

        Requests before the faulty one are answered first, and the error is then dropped. A request whose body
        is at fault has only one answer.
        """
        self._ignoring = True
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
            self._respond_error(error)
            self.linger()
        elif self._interrupt is not None:
            self._interrupt(error)
        else:
            if not broken.response_started:
                self._respond_error(error)
            broken.disconnected = True
            broken.message_event.set()
            self.linger()

    def _refuse_at_once(self, error: RequestError) -> None:
        """Answer with an error before any request, and close: there is no room for it."""
        self._respond_error(error)
        if self._lingerers.have_room:
            self.linger(brief=True)
        else:
            self._ignoring = True
            self.transport.close()

    def _respond_error(self, error: RequestError) -> None:
        request_id = choose_id(None)
        answer = problem(error, request_id.decode(), close=True)
        if self._log is not None:
            host = self.client[0] if self.client else ""
            self._log.write_refusal(error, answer.status, request_id.decode(), host)
        origin = header({"headers": self.headers or ()}, b"origin")
        self.respond_problem(answer, request_id, self._origins.headers(origin) if self._origins else ())

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

    # Ends

    @property
    def _between_requests(self) -> bool:
        """Whether every received request has been parsed and answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first, though uvicorn declares it
        return not self._within_message and (cycle is None or cycle.response_complete)

    @property
    def waits(self) -> bool:
        """Whether something has been received that waits for its turn."""
        return bool(self._waiting)

    @property
    def stage(self) -> Stage:
        """The stage that it is in, by what it waits for."""
        if self.flow.write_paused or self.transport.is_closing():
            return Stage.ANSWER
        if self.idle:
            return Stage.REQUEST
        if self._linger is not None:
            return Stage.NOTHING
        if self._within_body and self.cycle.response_complete:
            return Stage.REST
        if self._ignoring or self._waiting or self.flow.read_paused:
            return Stage.NOTHING
        if self._within_body:
            return Stage.BODY if self._reading else Stage.NOTHING
        return Stage.HEAD if self._within_message or self._overhead else Stage.NOTHING

    @property
    def idle(self) -> bool:
        """Whether no part of an unanswered request has been received."""
        busy = self._lane is not None and self._lane.busy
        return self._between_requests and not (self._overhead or busy or self._waiting or self._ignoring)

    @property
    def dispensable(self) -> bool:
        """Whether it may lose its place to another connection."""
        return not self.team or self.idle or self._linger is not None

    def idle_too_long(self, now: float) -> bool:
        """Return whether it has waited too long for a request, by the loop's clock."""
        most = self.timeout_keep_alive if self.served else self._settings.header_seconds
        return now - self.idle_since > most

    def look(self, now: float, seconds: float) -> None:
        """End the connection if its caller is too slow.

        Args:
            now: The loop's clock.
            seconds: The time since the last look.
        """
        if self._linger is not None and self.stage is not Stage.ANSWER:
            self._linger.look(seconds)
        else:
            self._guard.look(self, now, seconds)

    def _is_arriving(self) -> bool:
        """Return whether some of the next request, or the caller's hang-up, has been received."""
        if not self.idle:
            return bool(self._waiting) or (self._within_message and not self._within_body)
        found = select.poll()  # the event loop may not have read it yet
        found.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(found.poll(0))

    def _is_awaited(self) -> bool:
        """Return whether a loss is being computed for the caller."""
        return self._interrupt is not None or (self._lane is not None and self._lane.busy)

    def hang_up(self) -> None:
        """Abort the connection, and what answers its request."""
        for cycle in self._cycles:
            cycle.disconnected = True  # uvicorn may not have read far enough to know
        self.transport.abort()
        if self._interrupt is not None:
            self._interrupt(None)

    def give_way(self, error: RequestError) -> None:
        """Close, so that another connection fits; with an error if a head has begun to arrive."""
        waits = not any(not cycle.response_complete for cycle in self._cycles)
        if self.scheme == "https":
            self.transport.abort()  # TLS has a farewell, which would keep the descriptor for a while
        elif waits and self.stage is Stage.HEAD:
            self._refuse_at_once(error)
        elif waits:
            self.transport.close()
        else:
            self.hang_up()

    def linger(self, *, brief: bool = False) -> None:
        """Close the sending half, and drop what is still received, for a bounded time.

        Args:
            brief: There is no room for it.
        """
        if self.is_closing():
            return
        self._ignoring, self.idle_since = True, self.loop.time()
        left = self._settings.linger_bytes
        if self._within_body and self._declared is not None:
            left = self._declared - self.body_bytes
        self._linger = Linger(
            self._lingerers, self.loop, self.flow, self.transport, left, self._late_answer, brief=brief
        )

    def is_closing(self) -> bool:
        """Return whether nothing can be written any more."""
        return self._linger is not None or self.transport.is_closing()

    def close(self) -> None:
        """Close after an answer, once the caller has sent all of its request."""
        if self._within_body or self._ignoring or self._waiting:
            self.linger()
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """End, after the answer to a request in flight or arriving: the server is about to end."""
        if self._linger is not None:
            self._linger.hurry()
            return
        if self._is_arriving():
            return  # it is answered, as the connection's last
        self._take_waiting()
        self._keep_alive = False
        if self._lane is not None and self._lane.busy:
            self._lane.stop()
        super().shutdown()

    def end_now(self) -> None:
        """End, with an error if a loss is asked for and its caller can read it: the server ends."""
        if self._interrupt is None or self.flow.write_paused:
            self.hang_up()
        else:
            self._interrupt(STOPPED)


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they are sent, each with its line's end."""
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers)
