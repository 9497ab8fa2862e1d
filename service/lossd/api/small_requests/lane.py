"""The fast lane: small requests for one number, answered past ASGI.

Most requests are small, and like earlier ones. ASGI costs such a request a task, an event, and a dict for
each message, and parsing its head costs as much again (docs/explanations/performance.md). Here the meaning of
head and body is known by their bytes (`lossd.api.small_requests.heads`,
`lossd.api.small_requests.layouts`), and the body is scored where it lies in the bytes read from the
connection (`lossd.engine.dispatch.in_place`).

A request leaves the lane, unread bytes intact, if

- its head or body is not of a usual kind;
- its body arrives slowly, an earlier answer is unread, or the server is stopping;
- it has an error other than a value out of range or a passed deadline.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from mmap import mmap
from typing import Final

from lossd.api.accounting import FAILED, RequestLog, RequestRecord, choose_id, server_timing
from lossd.api.auth import Gate, rate_headers
from lossd.api.http.protocol import LossdProtocol, header_lines
from lossd.api.scoring.whole_body import PARAMETER_BYTES
from lossd.api.services import Service
from lossd.api.small_requests.heads import BEGINNING, LONGEST_HEAD, Head, read_head
from lossd.engine.admission.quotas import Entry
from lossd.engine.dispatch.in_place import InPlace
from lossd.engine.dispatch.result import too_late
from lossd.requests.validation import OwnMemory
from lossd.teams import Team
from lossd.types import RequestError, Timings
from lossd.wire import inference_arena_bytes

LONGEST: Final = 1 << 17
"""Bytes of a body, at most: what JSON of thousands of numbers takes."""
PATIENCE: Final = 0.02
"""Seconds for a body to arrive. The ordinary way takes slower ones, and refuses those that are too slow."""

_scratch: Final = OwnMemory(memoryview(mmap(-1, inference_arena_bytes(LONGEST, None) + PARAMETER_BYTES)))
"""Memory for a body and the tensors built from it, used for one request after another."""


@dataclass(slots=True, eq=False)
class SmallRequest(RequestRecord):
    """One request on a lane.

    Attributes:
        head: Its head.
        start: Where its body starts, in its bytes.
        nbytes: Bytes of head and body.
        peer: The address at the other end of the connection.
        log: The log, which knows the caller's address behind proxies.
        chosen_id: Its id, once chosen.
        arrived: When all of it had arrived, by time.monotonic().
        entry: Its entry in its team's quotas, while it is in flight.
    """

    gate: Gate
    team: Team
    loss: str
    format: str
    began: float
    received_bytes: int
    deadline: float | None
    head: Head
    start: int
    nbytes: int
    peer: str
    log: RequestLog
    chosen_id: bytes = b""
    arrived: float = 0.0
    entry: Entry | None = None
    elements: int = 0
    outcome: str = "ok"
    status: int | None = None
    timings: Timings | None = None

    @property
    def id_bytes(self) -> bytes:
        """Its id, as bytes."""
        if not self.chosen_id:
            self.chosen_id = choose_id(self.head.request_id)
        return self.chosen_id

    @property
    def request_id(self) -> str:
        """Its id."""
        return self.id_bytes.decode()

    @property
    def client_address(self) -> str:
        """The caller's address."""
        return self.log.client(self.peer, self.head.common.forwarded)


class FastLane:
    """The lane of one connection. It has at most one request, which is arriving."""

    def __init__(self, service: Service, inplace: InPlace, connection: LossdProtocol) -> None:
        self._gate = service.gate
        self._accounting = service.accounting
        self._leaving = service.pool.leaving
        self._metrics = service.metrics
        self._turns = service.turns
        self._inplace = inplace
        self._connection = connection
        settings = service.settings
        self._longest = min(LONGEST, settings.max_body_bytes, settings.max_json_bytes)
        self._longest_head = min(LONGEST_HEAD, settings.max_header_bytes)
        self._most_headers = settings.max_headers
        self._patience = settings.timeout_seconds
        self._last_raw = b""  # the last head
        self._last_head: Head | None = None
        self._request: SmallRequest | None = None  # the one on the lane
        self._chunks: list[bytes] = []  # of a request that is arriving
        self._missing = 0  # bytes of it that have not arrived
        self._impatient: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """A request is on it."""
        return bool(self._chunks)

    def receive(self, data: bytes) -> bytes:
        """Take bytes, between two requests or while there is one on this lane.

        Returns:
            The bytes that are to go the ordinary way: all of a request so far, or none.
        """
        while data:
            if not self._chunks:
                self._request = self._begin(data)
            request = self._request
            if request is None:
                return data
            self._missing -= len(data)
            if self._missing > 0:
                self._chunks.append(data)
                if self._impatient is None:
                    self._impatient = self._connection.loop.call_later(PATIENCE, self._give_way)
                return b""
            if self._chunks:
                self._chunks.append(data)
                data = self._take_chunks()
            request.arrived = self._connection.received_at
            if self._leaving.is_set() or self._connection.flow.write_paused:
                return data
            if not self._answer(request, data):
                return data
            if len(data) == request.nbytes or self._connection.transport.is_closing():
                return b""
            data = data[request.nbytes :]
            if not self._turns.has_time(time.monotonic()):
                self._connection.take_later(data)
                return b""
        return b""

    def lost(self) -> None:
        """End: the caller has hung up."""
        request = self._request
        if request is not None and self.busy:
            request.received_bytes -= self._missing
            request.count_failure(self._metrics, "disconnected")
            request.write_line(self._accounting.log)
            self._leave(request)
        self._take_chunks()

    def stop(self) -> None:
        """Answer at once: the time for draining is up."""
        self._give_way()

    def _begin(self, data: bytes) -> SmallRequest | None:
        """Return the request that begins so, if it may take this lane."""
        end = data.find(b"\r\n\r\n", 0, self._longest_head) + 4
        if end < 4 or not data.startswith(BEGINNING):
            return None
        raw = data[:end]
        head = self._last_head if raw == self._last_raw else read_head(raw)
        if head is None or head.length > self._longest or head.headers > self._most_headers:
            return None
        common = head.common
        try:
            team = self._gate.admit(common.credentials)
        except RequestError:
            return None
        if not self._connection.claim(team):
            return None
        self._last_raw, self._last_head = raw, head
        self._missing = nbytes = end + head.length
        began, deadline = self._connection.received_at, None
        if head.timeout is not None:
            deadline = began + head.timeout
            if nbytes > len(data):  # the deadline holds for the upload, too
                return None
        client, layouts = self._connection.client, common.layouts
        return SmallRequest(
            gate=self._gate,
            team=team,
            loss=layouts.loss.name,
            format=layouts.format,
            began=began,
            received_bytes=head.length,
            deadline=deadline,
            head=head,
            start=end,
            nbytes=nbytes,
            peer=client[0] if client else "",
            log=self._accounting.log,
        )

    def _take_chunks(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        if self._impatient is not None:
            self._impatient.cancel()
            self._impatient = None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _give_way(self) -> None:
        if self._connection.waits:  # some of the body has arrived, and waits for its turn
            self._impatient = self._connection.loop.call_later(PATIENCE, self._give_way)
        else:
            self._connection.parse(self._take_chunks())

    def _answer(self, request: SmallRequest, data: bytes) -> bool:
        """Score and answer a request; return False if it must go the ordinary way."""
        inplace, head, start = self._inplace, request.head, request.start
        layouts, quotas, team = head.common.layouts, self._gate.quotas, request.team.name
        memory: bytes | memoryview = data
        layout = layouts.find(data, start, head.length)
        if layout is None:
            memory = _scratch.view
            found = layouts.read(memoryview(data)[start : start + head.length], _scratch, inplace)
            if found is None:
                return False
            layout, start = found
        try:
            # It is answered before this process does anything else: who has no limits need not be counted.
            request.entry = quotas.enter(team, head.length) if quotas.is_limited(team) else None
        except RequestError:
            return False
        request.elements = layout.request.cut.size * layout.request.request.row_size
        quotas.charge(team, request.elements)
        deadline = request.deadline or request.arrived + self._patience
        started = time.monotonic()
        try:
            if started >= deadline:
                raise too_late()
            result = inplace.compute(layout.request, memory, start)
            ended = time.monotonic()
            headers, body = layout.write(result, request.request_id)
        except RequestError as error:
            self._refuse(request, error)
            return True
        except Exception:
            request.log_exception()
            self._refuse(request, FAILED)
            return True
        rates = header_lines(rate_headers(self._gate, request.team)) if request.entry else b""
        self._leave(request)
        request.status = 200
        timings = Timings(request.arrived - request.began, started - request.arrived, ended - started)
        request.count_answer(self._metrics, result, timings)
        request.write_line(self._accounting.log)
        self._connection.respond(
            200,
            b"server-timing: %b\r\n%bcontent-length: %d\r\nx-request-id: %b\r\n%b"
            % (server_timing(timings), headers, len(body), request.chosen_id, rates),
            body,
        )
        self._connection.when_answered()
        return True

    def _refuse(self, request: SmallRequest, error: RequestError) -> None:
        """End a request with a problem."""
        self._leave(request)
        answer = request.refuse(self._metrics, error, request.head.common.layouts.problem, close=False)
        request.write_line(self._accounting.log)
        self._connection.respond_problem(answer, request.id_bytes)
        self._connection.when_answered()

    def _leave(self, request: SmallRequest) -> None:
        """Count a request as no longer in flight."""
        self._gate.quotas.leave(request.entry)
        request.entry = None
