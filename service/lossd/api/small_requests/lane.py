"""The fast lane: small requests for one number, answered past ASGI.

Most requests are small, and like those before them. ASGI costs such a request a task, an event, and a dict
for each of its messages, and to parse its head anew costs as much again (docs/performance.md). Here what head
and layout mean is known by their bytes (`lossd.api.small_requests.heads`,
`lossd.api.small_requests.layouts`), and the body is scored where it lies in what was read from the connection
(`lossd.engine.dispatch.in_place`).

A request takes this lane as a whole or not at all. Whatever is unusual about it, or about the moment (a body
that is slow in coming, an answer that the caller has not read, the server stopping), sends its bytes, as they
came, the ordinary way; so does whatever is wrong with it, but for values and the deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from structlog.contextvars import bound_contextvars

from lossd.api.accounting import Accounted
from lossd.api.auth import rate_headers
from lossd.api.http.protocol import LossdProtocol, header_lines
from lossd.api.http.request_context import choose_id, server_timing
from lossd.api.scoring.exchange import FAILED, STOPPED
from lossd.api.services import Service
from lossd.api.small_requests.heads import BEGINNING, LONGEST_HEAD, Head, read_head
from lossd.api.small_requests.layouts import Scratch
from lossd.engine.admission.quotas import Entry
from lossd.engine.dispatch.in_place import InPlace
from lossd.engine.dispatch.result import too_late
from lossd.types import RequestError, Timings

logger = logging.getLogger(__name__)

LONGEST: Final = 1 << 17
"""Bytes of a body, at most: what JSON of thousands of numbers takes."""
PATIENCE: Final = 0.02
"""Seconds for a body to be there. Slower ones go the ordinary way, which knows how slow is too slow."""

_scratch: Final = Scratch(LONGEST)


class FastLane(Accounted):
    """The lane of one connection. There is a request on it that is arriving, or one that waits, or none.

    Args:
        service: Where requests are counted.
        inplace: What scores them.
        connection: Whose it is.
    """

    def __init__(self, service: Service, inplace: InPlace, connection: LossdProtocol) -> None:
        self._service = service
        self._inplace = inplace
        self._connection = connection
        settings = service.settings
        self._longest = min(LONGEST, settings.max_body_bytes, settings.max_json_bytes)
        self._longest_head = min(LONGEST_HEAD, settings.max_header_bytes)
        self._most_headers = settings.max_headers
        self._patience = settings.timeout_seconds
        # Of the request that is on it, or was (and as `Accounted` has it):
        self.gate = service.gate
        self._raw = b""
        self._head: Head | None = None
        self._body_start = 0
        self._identity = b""
        self._arrived = 0.0  # when all of it was there
        # While it is arriving:
        self._pieces: list[bytes] = []
        self._missing = 0
        self._impatient: asyncio.TimerHandle | None = None
        # While it waits for a later turn of the event loop:
        self._waiting = b""
        self._entry: Entry | None = None  # among what its team may have in flight
        self._behind = b""  # what has come behind it
        self._forget: Callable[[], None] | None = None

    @property
    def identity(self) -> str:
        """The request's id."""
        if not self._identity:
            assert self._head is not None
            self._identity = choose_id(self._head.identity)
        return self._identity.decode()

    @property
    def client_address(self) -> str:
        """Where the request came from."""
        assert self._head is not None
        client = self._connection.client
        return self._service.requests.client(client[0] if client else "", self._head.shape.forwarded)

    @property
    def busy(self) -> bool:
        """A request is on it."""
        return bool(self._waiting or self._pieces)

    def receive(self, data: bytes) -> bytes:
        """Take what has come, between two requests or while there is one on this lane.

        Returns:
            What is to go the ordinary way: all that has come of a request, or nothing.
        """
        if self._waiting:
            self._keep(data)
            return b""
        service = self._service
        while data:
            if not self._pieces and not self._enter(data):
                return data
            self._missing -= len(data)
            if self._missing > 0:
                self._pieces.append(data)
                if self._impatient is None:
                    self._impatient = self._connection.loop.call_later(PATIENCE, self._give_way)
                return b""
            if self._pieces:
                self._pieces.append(data)
                data = self._take_pieces()
                self._arrived = time.monotonic()
            else:
                self._arrived = self.began
            if service.door.closed or self._connection.flow.write_paused:
                return data
            if not self._inplace.turns.has_time(self._arrived):
                return b"" if self._wait(data) else data
            if not self._answer(data):
                return data
            if not self._missing or self._connection.transport.is_closing():
                return b""
            data = data[self._missing :]
        return b""

    def lost(self) -> None:
        """The caller has hung up."""
        if self.busy:
            self.received_bytes -= max(0, self._missing)
            self.count_refusal(self._service.metrics, "disconnected")
            self.log(self._service.requests)
        if self._waiting:
            self._end()
        self._take_pieces()
        if self._forget is not None:
            self._forget()

    def stop(self) -> None:
        """The time for draining is up."""
        if self._waiting:
            self._end()
            self._refuse(STOPPED, close=True)
        else:
            self._give_way()

    def _enter(self, data: bytes) -> bool:
        """Whether a request that begins so may take this lane."""
        end = data.find(b"\r\n\r\n", 0, self._longest_head) + 4
        if end < 4 or not data.startswith(BEGINNING):
            return False
        raw = data[:end]
        head = self._head if raw == self._raw else read_head(raw)
        if head is None or head.length > self._longest or head.headers > self._most_headers:
            return False
        shape = head.shape
        try:
            self.team = self.gate.admit(shape.credentials)
        except RequestError:
            return False
        self._raw, self._head, self._body_start, self._missing = raw, head, end, end + head.length
        self.began = now = time.monotonic()
        self.loss, self.format = shape.form.loss.name, shape.form.name
        self._identity, self.elements, self.received_bytes = b"", 0, head.length
        self.outcome, self.status, self.seconds = "ok", None, None
        if head.timeout is None:
            self.deadline = None
            return True
        self.deadline = now + head.timeout
        return self._missing <= len(data)  # it bounds the upload, too

    def _take_pieces(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        if self._impatient is not None:
            self._impatient.cancel()
            self._impatient = None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _give_way(self) -> None:
        self._connection.receive_ordinarily(self._take_pieces())

    def _answer(self, whole: bytes) -> bool:
        """Score a request that has arrived, and answer; False if it must go the ordinary way."""
        service, inplace, head = self._service, self._inplace, self._head
        assert head is not None
        form, start, team = head.shape.form, self._body_start, self.team.name
        memory: bytes | memoryview = whole
        layout = form.find(whole, start, head.length)
        if layout is None:
            memory = _scratch.view
            found = form.read(memoryview(whole)[start : start + head.length], _scratch, inplace)
            if found is None:
                return False
            layout, start = found
        try:
            if self._waiting:  # others may have used up the rate meanwhile
                self.gate.quotas.check_elements(team)
            else:
                self._entry = self.gate.quotas.enter(team, head.length)
        except RequestError:
            return False
        self.elements = layout.request.cut.size
        self.gate.quotas.charge(team, self.elements)
        if not self._identity:
            self._identity = choose_id(head.identity)
        deadline = self.deadline or self._arrived + self._patience
        began = time.monotonic()
        try:
            if began >= deadline:
                raise too_late()
            result = inplace.compute(layout.request, memory, start)
            ended = time.monotonic()
            headers, body = layout.write(result, self._identity.decode())
        except RequestError as fault:
            self._end()
            self._refuse(fault)
            return True
        except Exception:
            with bound_contextvars(request_id=self.identity, team=team):
                logger.exception("request %s failed", self.identity)
            self._end()
            self._refuse(FAILED)
            return True
        rates = header_lines(rate_headers(self.gate, self.team)) if self._entry else b""
        self._end()
        self.status = 200
        seconds = Timings(self._arrived - self.began, began - self._arrived, ended - began)
        self.count_answer(service.metrics, result, seconds)
        self.log(service.requests)
        self._connection.respond(
            200,
            b"server-timing: %b\r\n%bcontent-length: %d\r\nx-request-id: %b\r\n%b"
            % (server_timing(seconds), headers, len(body), self._identity, rates),
            body,
        )
        self._connection.when_answered()
        return True

    def _refuse(self, fault: RequestError, *, close: bool = False) -> None:
        """Answer with a problem."""
        assert self._head is not None
        self.count_refusal(self._service.metrics, fault.code)
        answer = self.refusal(fault, self._head.shape.form.problem, close=close)
        self.log(self._service.requests)
        self._connection.respond_problem(answer, self._identity)
        self._connection.when_answered()

    def _wait(self, whole: bytes) -> bool:
        """Let a request that has arrived wait for a later turn of the event loop; False if it may not."""
        assert self._head is not None
        service, quotas, nbytes = self._service, self.gate.quotas, self._head.length
        try:
            self._entry = quotas.enter(self.team.name, nbytes)
        except RequestError:
            return False
        if not self._inplace.turns.add(self.team, nbytes, self._resume):
            quotas.withdraw(self.team.name, self._entry)
            return False
        service.door.enter()
        service.metrics.began()
        self._waiting = whole
        if self._missing:
            self._keep(b"")
        return True

    def _resume(self) -> None:
        """Answer the request that has waited."""
        whole = self._waiting
        if not whole:
            return  # the caller has hung up
        entry = self._entry
        if self._answer(whole):
            rest = whole[self._missing :] + self._behind if self._missing else self._behind
        else:
            self._entry = None
            self._end()
            self.gate.quotas.withdraw(self.team.name, entry)
            self._connection.receive_ordinarily(whole)
            rest = self._behind
        self._behind = b""
        if self._forget is not None:
            self._forget()
            self._forget = None
        if not self._connection.transport.is_closing():
            self._connection.flow.resume_reading()
            if rest:
                self._connection.data_received(rest)

    def _end(self) -> None:
        """Count the request no longer among those under way."""
        self.gate.quotas.leave(self._entry)
        self._entry = None
        if self._waiting:
            self._waiting = b""
            self._service.metrics.ended()
            self._service.door.leave()

    def _keep(self, data: bytes) -> None:
        """Keep what comes behind the request that waits, and read no more of it until then."""
        self._behind += data
        self._connection.flow.pause_reading()
        if self._forget is None:  # nothing is read that would tell
            self._forget = self._connection.when_lost(lambda: None)
