"""The HTTP exchange of one loss request: admission, answer or refusal, accounting and its trace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.types import Send
from structlog.contextvars import bind_contextvars

from lossd.api.accounting import FAILED, RequestRecord, WriteProblem
from lossd.api.auth import CONNECTION, Gate, check_team, rate_headers
from lossd.api.http.interfaces import Connection
from lossd.api.http.request import client_host, request_id
from lossd.api.scoring.body import IncomingRequest
from lossd.api.services import Service
from lossd.engine.admission.arena import Arena, Region
from lossd.engine.admission.quotas import Entry
from lossd.teams import NOBODY, Team
from lossd.tracing import RequestSpan, Tracing
from lossd.types import ErrorCode, Requester, RequestError, Timings


@dataclass(slots=True, kw_only=True)
class Exchange(IncomingRequest, RequestRecord):
    """The HTTP exchange of one loss request: head, body and answer.

    Attributes:
        send: The ASGI send function.
        service: The front end's parts, which count, log and trace the request.
        answering: Whether the answer has begun.
        entry: The request's entry in its team's quotas, once it is admitted.
        span: The request's span; None without traces, or while its key is not known.
    """

    send: Send
    service: Service
    loss: str
    gate: Gate = field(init=False)
    format: str = "none"
    answering: bool = False
    team: Team = NOBODY
    entry: Entry | None = None
    elements: int = 0
    span: RequestSpan | None = None
    outcome: str = "ok"
    status: int | None = None
    timings: Timings | None = None

    def __post_init__(self) -> None:
        self.gate = self.service.gate

    @property
    def request_id(self) -> str:
        """The request's id."""
        return request_id(self.scope)

    @property
    def client_address(self) -> str:
        """The address that the request came from."""
        return client_host(self.scope)

    @property
    def requester(self) -> Requester:
        """Who sent the request."""
        trace = "" if self.span is None else self.span.slices
        return Requester(self.team.name, self.team.weight, self.request_id, trace)

    async def send_answer(self, headers: list[tuple[bytes, bytes]], chunks: Iterator[bytes]) -> None:
        """Send the answer, with status 200.

        Args:
            headers: All headers. Without Content-Length the body is chunked.
            chunks: The body, at least one chunk; each is made when it is about to be sent.
        """
        chunk = next(chunks)
        self.answering, self.status = True, 200
        headers += rate_headers(self.gate, self.team)
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        for following in chunks:
            await self.send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)  # a chunk takes time to make, and other requests wait
            chunk = following
        await self.send({"type": "http.response.body", "body": chunk})

    @property
    def patience(self) -> float:
        """The seconds that the request may wait for what it needs next."""
        return self.seconds_left(self.service.settings.timeout_seconds)

    @property
    def answer_deadline(self) -> float:
        """The deadline of the answer, by time.monotonic(), once the body has arrived."""
        default = time.monotonic() + self.service.settings.timeout_seconds
        return default if self.deadline is None else self.deadline

    async def reserve(self, arena: Arena, nbytes: int) -> Region:
        """Reserve memory for the request's team; see `Arena.reserve`."""
        return await arena.reserve(nbytes, self.patience, self.team.name, self.team.weight)

    async def serve(self, answer: Callable[[Exchange], Awaitable[None]], write_problem: WriteProblem) -> None:
        """Answer or refuse the request.

        Args:
            answer: Sends the answer, or raises a RequestError.
            write_problem: Writes an error, as `lossd.api.problems.problem` does.
        """
        try:
            await self._serve(answer, write_problem)
        finally:
            if self.span is not None:
                error = self.outcome if self.status is None or self.status >= 500 else None
                self.span.end(self._trace_attributes(), self.stages, error=error)

    def _begin_span(self, tracing: Tracing) -> None:
        """Begin the span, now that the key is known: nobody else may have requests sampled."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.scope["headers"]}
        self.span = RequestSpan(tracing.tracer, self.scope["path"], self.began, headers)

    def _trace_attributes(self) -> dict[str, str | int]:
        attributes: dict[str, str | int] = {
            "lossd.loss": self.loss,
            "lossd.format": self.format,
            "lossd.elements": self.elements,
            "lossd.team": self.team.name,
            "lossd.outcome": self.outcome,
            "lossd.request_id": self.request_id,
            "http.request.method": "POST",
            "http.route": self.scope["path"],
            "url.path": self.scope["path"],
            "url.scheme": self.scope["scheme"],
        }
        if self.status is not None:
            attributes["http.response.status_code"] = self.status
        return attributes

    async def _serve(
        self, answer: Callable[[Exchange], Awaitable[None]], write_problem: WriteProblem
    ) -> None:
        """Count the request in and out, unless the server is draining, and log it."""
        accounting = self.service.accounting
        try:
            accounting.enter()
        except RequestError as error:
            await self._refuse(error, write_problem, close=True)
            self.write_line(accounting.log)
            return
        try:
            await self._answer_or_refuse(answer, write_problem)
        finally:
            self.gate.quotas.leave(self.entry)
            accounting.leave()
            self.write_line(accounting.log)

    async def _answer_or_refuse(
        self, answer: Callable[[Exchange], Awaitable[None]], write_problem: WriteProblem
    ) -> None:
        metrics, tracing = self.service.metrics, self.service.tracing
        try:
            self.team = self.gate.identify(self.scope)
            if tracing is not None:
                self._begin_span(tracing)
            bind_contextvars(team=self.team.name)  # for the log
            check_team(self.team)
            await self._while_connected(answer)
        except RequestError as error:
            await self._refuse(error, write_problem)
        except ClientDisconnect:
            self.count_failure(metrics, "disconnected")
        except asyncio.CancelledError:  # by the program that serves this, for a caller who has hung up
            self.count_failure(metrics, "disconnected")
            raise
        except Exception:
            self.log_exception()
            if self.answering:
                self.count_failure(metrics, ErrorCode.INTERNAL_ERROR)
                raise  # closes the connection, so that the caller sees that the answer is cut short
            await self._refuse(FAILED, write_problem)

    def admit_body(self, nbytes: int, *, certain: bool) -> None:
        """Admit the request by its team's quotas.

        Args:
            nbytes: The bytes of memory that its body takes.
            certain: Whether it takes exactly that many. If not, a team with a lower limit may still send it,
                as its only request in flight.

        Raises:
            RequestError: ``rate_limited`` or ``too_many_in_flight``.
        """
        limit = self.team.limits.bytes_in_flight
        if not certain and limit is not None:
            nbytes = min(nbytes, limit)
        self.entry = self.gate.quotas.enter(self.team.name, nbytes)

    def charge(self, elements: int) -> None:
        """Charge elements to the team.

        Raises:
            RequestError: ``rate_limited``: other requests have used up the rate. Only the first charge of a
                request can fail.
        """
        if not self.elements:
            self.gate.quotas.check_elements(self.team.name)
        self.elements += elements
        self.gate.quotas.charge(self.team.name, elements)

    async def _while_connected(self, answer: Callable[[Exchange], Awaitable[None]]) -> None:
        """Answer, but stop as soon as the caller hangs up or the connection cannot be read on.

        Raises:
            ClientDisconnect: The caller has hung up.
            RequestError: The body cannot be read on.
        """
        connection: Connection | None = self.scope.get(CONNECTION)
        task, lost, error = asyncio.current_task(), False, None
        assert task is not None

        def interrupt(reason: RequestError | None = None) -> None:
            nonlocal lost, error
            if not lost and error is None:
                lost, error = reason is None, reason
                task.cancel()

        when_interrupted = self.watch_for_disconnect if connection is None else connection.when_interrupted
        forget = when_interrupted(interrupt)
        try:
            await answer(self)
        except asyncio.CancelledError:
            if error is None and not lost:
                raise
            task.uncancel()
            raise (ClientDisconnect() if error is None else error.copy()) from None
        finally:
            forget()
            self.end_upload()

    async def _refuse(self, error: RequestError, write_problem: WriteProblem, *, close: bool = False) -> None:
        """Answer with a problem. The connection drops what the caller still sends."""
        answer = self.refuse(self.service.metrics, error, write_problem, close=close or self.is_unread)
        start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": answer.body})
