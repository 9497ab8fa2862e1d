"""The ends of a connection, which come in many ways.

- A refusal is the last answer; the caller can finish sending (`linger`).
- A slow caller is refused or hung up on (`slow_clients`).
- The caller hangs up, which ends what answers its request.
- Another connection needs the place (`connections`).
- The server stops.
"""

from __future__ import annotations

import select
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from lossd.api.accounting import STOPPED, RequestLog, choose_id
from lossd.api.http.cors import Origins
from lossd.api.http.interfaces import Lane
from lossd.api.http.linger import Linger, Lingerers
from lossd.api.http.request import RequestParser, header
from lossd.api.http.slow_clients import SlowClientGuard, Stage
from lossd.api.problems import Problem, problem
from lossd.settings import Settings
from lossd.types import RequestError


class ConnectionEnds(RequestParser):
    """A connection that ends as it should. How it takes requests and answers them is `LossdProtocol`.

    Args:
        settings: The server's settings.
        lingerers: The server's lingering connections.
        log: The log of requests, for those that the connection refuses by itself.
        origins: The origins that may call the server, if any.
        uvicorns: uvicorn's own arguments.

    Attributes:
        team: The name of its team; empty if it has none.
        served: Whether a request was answered on it.
        idle_since: When it was made, or last had answered a request, by the loop's clock.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        lingerers: Lingerers,
        log: RequestLog | None = None,
        origins: Origins | None = None,
        **uvicorns: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(settings, **uvicorns)
        self._lingerers = lingerers
        self._log = log
        self._origins = origins
        self._guard = SlowClientGuard(settings)
        self._linger: Linger | None = None
        self._lane: Lane | None = None
        self._interrupt: Callable[[RequestError | None], None] | None = None
        self._late_answer = b""  # what waits for the rest of a body
        self._waiting: list[bytes] = []  # received, but not taken yet
        self._reading = False  # an endpoint awaits more of a body
        self.team = ""
        self.served = False
        self.idle_since = self.loop.time()

    @property
    @abstractmethod
    def _between_requests(self) -> bool:
        """Whether every received request has been parsed and answered."""

    @abstractmethod
    def respond_problem(
        self, answer: Problem, request_id: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Write a problem document."""

    # Refusals

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

    def linger(self, *, brief: bool = False) -> None:
        """Close the sending half, and drop what is still received, for a bounded time.

        Args:
            brief: There is no room for it.
        """
        if self._linger is not None or self.transport.is_closing():
            return
        self._ignoring, self.idle_since = True, self.loop.time()
        left = self._settings.linger_bytes
        if self._within_body and self._declared is not None:
            left = self._declared - self.body_bytes
        self._linger = Linger(
            self._lingerers, self.loop, self.flow, self.transport, left, self._late_answer, brief=brief
        )

    # What it waits for

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

    # Ends without a refusal

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

    def shutdown(self) -> None:
        """End, after the answer to a request in flight or arriving: the server is about to end."""
        if self._linger is not None:
            self._linger.hurry()
            return
        if self._is_arriving():
            return  # it is answered, as the connection's last
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
