"""The fast lane: small requests for one number, answered past ASGI.

Most requests are small, and like those before them. ASGI costs such a request a task, an event, and a dict
for each of its messages, and to parse its head anew costs as much again (docs/performance.md). Here what head
and layout mean is known by their bytes (`lossd.api.heads`, `lossd.api.forms`); the body is laid in the arena,
its one slice sent to a worker, and the answer written, in two turns of the event loop and with no task.

A request takes this lane as a whole or not at all. Whatever is unusual about it, or about the moment (no
turn or memory at once, no worker, a body that is slow in coming, the server stopping), sends its bytes, as
they came, the ordinary way; so does whatever is wrong with it, but for what only a worker finds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from structlog.contextvars import bound_contextvars

from lossd.api.context import choose_id
from lossd.api.exchange import FAILED, STOPPED
from lossd.api.forms import Layout
from lossd.api.gate import rate_headers
from lossd.api.heads import BEGINNING, LONGEST_HEAD, Head, read_head
from lossd.api.problems import KINDS
from lossd.api.protocol import LossdProtocol, header_lines
from lossd.api.requestlog import RequestLine
from lossd.api.scoring import server_timing
from lossd.api.service import Service
from lossd.engine.arena import Region
from lossd.engine.quotas import Entry
from lossd.engine.single import Single
from lossd.engine.turnstile import Turn
from lossd.request import Fault
from lossd.teams import EVERYONE

logger = logging.getLogger(__name__)

LONGEST: Final = 1 << 17
"""Bytes of a body, at most: what JSON of thousands of numbers takes."""
PATIENCE: Final = 0.02
"""Seconds for a body to be there. Slower ones go the ordinary way, which knows how slow is too slow."""


class FastLane:
    """The lane of one connection. There is a request on it that is arriving, or one being scored, or none.

    Args:
        service: The workers and the memory.
        connection: Whose it is.
    """

    def __init__(self, service: Service, connection: LossdProtocol) -> None:
        self._service = service
        self._connection = connection
        settings = service.settings
        self._longest = min(LONGEST, settings.max_body_bytes, settings.max_json_bytes)
        self._longest_head, self._most_headers = (
            min(LONGEST_HEAD, settings.max_header_bytes),
            settings.max_headers,
        )
        # Of the request that is on it, or was:
        self._head: Head | None = None
        self._layout: Layout | None = None
        self._body_start = 0
        self._identity = b""
        self._elements = 0
        self._team = EVERYONE
        self._entry: Entry | None = None  # among what its team may have in flight
        self._began = 0.0  # when its head was there, by time.monotonic(),
        self._arrived = 0.0  # and when all of it was
        self._deadline = 0.0
        # While it is arriving:
        self._pieces: list[bytes] = []
        self._missing = 0
        self._impatient: asyncio.TimerHandle | None = None
        # While it is being scored:
        self._run: Single | None = None
        self._region: Region | None = None
        self._turn: Turn | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0  # its deadline, or before
        self._behind = b""  # what has come behind it
        self._forget: Callable[[], None] | None = None

    @property
    def busy(self) -> bool:
        """A request is on it."""
        return self._run is not None or bool(self._pieces)

    def receive(self, data: bytes) -> bytes:
        """Take what has come, between two requests or while there is one on this lane.

        Returns:
            What is to go the ordinary way: all that has come of a request, or nothing.
        """
        if self._run is not None:
            self._keep(data)
            return b""
        if not self._pieces and not self._enter(data):
            return data
        self._pieces.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            if self._impatient is None:
                self._impatient = self._connection.loop.call_later(PATIENCE, self._give_way)
            return b""
        whole = self._take_pieces()
        if not self._depart(whole):
            return whole
        if self._missing:
            self._keep(whole[self._missing :])
        return b""

    def lost(self) -> None:
        """The caller has hung up."""
        if self.busy:
            self._count_refused("disconnected")
        if self._run is not None:
            self._leave()
        self._take_pieces()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._forget is not None:
            self._forget()

    def stop(self) -> None:
        """The time for draining is up."""
        if self._run is not None:
            self._refuse(STOPPED, close=True)
        else:
            self._give_way()

    def _enter(self, data: bytes) -> bool:
        """Whether a request that begins so may take this lane."""
        end = data.find(b"\r\n\r\n", 0, self._longest_head) + 4
        if end < 4 or not data.startswith(BEGINNING):
            return False
        head = read_head(data[:end])
        if head is None or head.length > self._longest or head.headers > self._most_headers:
            return False
        try:
            self._team = self._service.gate.admit(head.credentials)
        except Fault:
            return False
        self._head, self._body_start, self._began = head, end, time.monotonic()
        self._identity, self._elements = b"", 0
        self._missing = end + head.length
        return head.timeout is None or self._missing <= len(data)  # else it bounds the upload, too

    def _take_pieces(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        if self._impatient is not None:
            self._impatient.cancel()
            self._impatient = None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _give_way(self) -> None:
        self._connection.receive_ordinarily(self._take_pieces())

    def _depart(self, whole: bytes) -> bool:
        """Hand a request that has arrived to a worker; False if it must go the ordinary way."""
        service, head = self._service, self._head
        assert head is not None
        self._arrived = time.monotonic()
        if service.door.closed or self._connection.flow.write_paused:
            return False
        team = self._team
        turn = service.turns(head.length).take(head.length, team.name, team.weight)
        if turn is None:
            return False
        turn.arrived()
        needed = head.form.nbytes
        region = service.memory(needed).take(needed, team.name, team.weight)
        try:
            if region is not None:
                self._run = self._start(head, whole, region)
        finally:
            if self._run is None:
                turn.end()
                if region is not None:
                    region.release()
        if self._run is None:
            return False
        self._region, self._turn = region, turn
        service.door.enter()
        service.metrics.began()
        self._watch_deadline()
        return True

    def _start(self, head: Head, whole: bytes, region: Region) -> Single | None:
        """Lay a body in its region, and start its request, all of it in one slice."""
        start, pool = self._body_start, self._service.pool
        region.view[: head.length] = memoryview(whole)[start : start + head.length]
        layout = head.form.find(whole, start)
        if layout is None:
            layout = head.form.read(whole[start : start + head.length], region, pool.block_elements)
            if layout is None:
                return None
        team, quotas = self._team, self._service.gate.quotas
        self._layout = layout
        self._identity, self._elements = choose_id(head.identity), layout.grid.size
        if not pool.seats:
            return None
        try:
            self._entry = quotas.enter(team.name, head.length)
        except Fault:
            return None
        quotas.charge(team.name, layout.grid.size)
        timeout, patience = head.timeout, self._service.settings.timeout_seconds
        self._deadline = self._arrived + patience if timeout is None else self._began + timeout
        return pool.start_single(
            layout.request,
            layout.grid,
            layout.recipe,
            region.offset + head.form.base,
            self._deadline,
            team.name,
            team.weight,
            self._identity.decode(),
            self._answer,
        )

    def _watch_deadline(self) -> None:
        """See to it that there is an answer at the deadline.

        An alarm that an earlier request left behind will do, if it is no later: when it rings it is set anew.
        """
        if self._alarm is not None:
            if self._alarm_at <= self._deadline:
                return
            self._alarm.cancel()
        self._alarm_at = self._deadline
        self._alarm = self._connection.loop.call_later(self._deadline - time.monotonic(), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._run is None:
            return
        if time.monotonic() < self._deadline:
            self._watch_deadline()
        else:
            self._answer()

    def _answer(self) -> None:
        """The request has been scored, or has come to a fault, or its deadline has passed."""
        assert self._run is not None
        assert self._head is not None
        assert self._layout is not None
        identity = self._identity
        try:
            result, compute = self._run.outcome()
            headers, body = self._layout.answers.write(result, identity)
        except Fault as fault:
            self._refuse(fault)
            return
        except Exception:
            with bound_contextvars(request_id=identity.decode(), team=self._team.name):
                logger.exception("request %s failed", identity.decode())
            self._refuse(FAILED)
            return
        now = time.monotonic()
        waited = max(0.0, now - self._arrived - compute)
        seconds = (self._arrived - self._began, waited, compute)
        self._service.metrics.answered(
            result.loss_name,
            self._head.form.name,
            self._team.name,
            result.device,
            result.count,
            self._head.length,
            (*seconds, now - self._began),
        )
        if self._service.requests.wants("ok"):
            self._log("ok", 200, seconds)
        self._leave()
        timing = server_timing(seconds)
        self._connection.respond(
            200,
            b"server-timing: %b\r\n%bcontent-length: %d\r\nx-request-id: %b\r\n%b"
            % (timing, headers, len(body), identity, self._rates()),
            body,
        )
        self._go_on()

    def _refuse(self, fault: Fault, *, close: bool = False) -> None:
        """Answer with a problem."""
        assert self._head is not None
        self._count_refused(fault.code)
        self._leave()
        own_deadline = fault.code == "deadline_exceeded" and self._head.timeout is None
        identity = self._identity
        answer = self._head.form.problem(
            fault, identity.decode(), retryable=True if own_deadline else None, close=close
        )
        answer.headers.extend(rate_headers(self._service.gate, self._team))
        self._connection.respond_problem(answer, identity)
        self._go_on()

    def _count_refused(self, code: str) -> None:
        assert self._head is not None
        form, seconds = self._head.form, time.monotonic() - self._began
        self._service.metrics.refused(form.loss.name, form.name, self._team.name, code, seconds)
        if self._service.requests.wants(code):
            self._log(code, None if code == "disconnected" else KINDS[code].status)

    def _log(
        self, outcome: str, status: int | None, seconds: tuple[float, float, float] | None = None
    ) -> None:
        """Write the request's line."""
        assert self._head is not None
        requests, client = self._service.requests, self._connection.client
        line = RequestLine(
            request_id=(self._identity or choose_id(self._head.identity)).decode(),
            team=self._team.name,
            client=requests.client(client[0] if client else "", self._head.forwarded),
            outcome=outcome,
            status=status,
            loss=self._head.form.loss.name,
            format=self._head.form.name,
            elements=self._elements,
            nbytes=min(self._head.length, self._head.length - self._missing),
            seconds=seconds,
            total=time.monotonic() - self._began,
        )
        requests.write(line)

    def _rates(self) -> bytes:
        """The lines of the headers that say what is left of the team's rates."""
        return header_lines(rate_headers(self._service.gate, self._team))

    def _leave(self) -> None:
        """End the request, whose memory is free as soon as no worker reads it."""
        assert self._run is not None
        assert self._region is not None
        assert self._turn is not None
        if self._run.end(self._region.release):
            self._service.pool.cancel(self._run)
        self._turn.end()
        self._service.gate.quotas.leave(self._entry)
        self._run = self._region = self._turn = self._entry = None
        self._service.metrics.ended()
        self._service.door.leave()

    def _keep(self, data: bytes) -> None:
        """Keep what comes behind the request that is being scored, and read no more of it until then."""
        self._behind += data
        self._connection.flow.pause_reading()
        if self._forget is None:  # nothing is read that would tell
            self._forget = self._connection.when_lost(lambda: None)

    def _go_on(self) -> None:
        """Go on with what has come behind the request that has been answered."""
        self._connection.when_answered()
        if self._forget is not None:
            self._forget()
            self._forget = None
        if self._connection.transport.is_closing():
            return
        self._connection.flow.resume_reading()
        behind, self._behind = self._behind, b""
        if behind:
            self._connection.data_received(behind)
