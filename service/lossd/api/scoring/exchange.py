"""One request for a loss and its answer: letting it in, answering or refusing it, counting it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Send
from structlog.contextvars import bind_contextvars

from lossd.api.accounting import FAILED, STOPPED, Accounting, RequestRecord, WriteProblem
from lossd.api.auth import Gate, check_team, rate_headers
from lossd.api.http.interfaces import CONNECTION, Connection
from lossd.api.http.request_context import client_host, request_id
from lossd.api.metrics import Metrics
from lossd.api.scoring.body import Incoming
from lossd.engine.admission.quotas import Entry
from lossd.teams import NOBODY, Team
from lossd.types import ErrorCode, RequestError, Timings


@dataclass(slots=True, kw_only=True)
class Exchange(Incoming, RequestRecord):
    """A request and its answer.

    Attributes:
        send: ASGI's.
        answering: Its answer has begun.
        entry: How it is counted among what its team may have in flight.
        trace: What its slices are given, if there are traces.
    """

    send: Send
    loss: str
    gate: Gate
    format: str = "none"
    answering: bool = False
    team: Team = NOBODY
    entry: Entry | None = None
    elements: int = 0
    trace: str = ""
    outcome: str = "ok"
    status: int | None = None
    seconds: Timings | None = None

    @property
    def request_id(self) -> str:
        """The request's id."""
        return request_id(self.scope)

    @property
    def client_address(self) -> str:
        """Where the request came from."""
        return client_host(self.scope)

    async def send_answer(self, headers: list[tuple[bytes, bytes]], pieces: Iterator[bytes]) -> None:
        """Send the answer, status 200.

        Args:
            headers: All of them. Without Content-Length the body goes in chunks.
            pieces: The body, at least one; each is made when it is its turn.
        """
        held = next(pieces)
        self.answering, self.status = True, 200
        headers += rate_headers(self.gate, self.team)
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces:
            await self.send({"type": "http.response.body", "body": held, "more_body": True})
            await asyncio.sleep(0)  # each piece took its time, and others want theirs
            held = piece
        await self.send({"type": "http.response.body", "body": held})

    async def serve(
        self,
        answer: Callable[[Exchange], Awaitable[None]],
        write_problem: WriteProblem,
        accounting: Accounting,
    ) -> None:
        """Answer it, or say why not.

        Args:
            answer: Sends the answer, or raises a RequestError.
            write_problem: Writes a fault, as `lossd.api.problems.problem` does.
            accounting: Where it is counted and logged.
        """
        try:
            accounting.enter()
        except RequestError as fault:
            await self._refuse(accounting.metrics, fault, write_problem, close=True)
            self.log(accounting.log)
            return
        try:
            await self._serve(answer, write_problem, accounting.metrics)
        finally:
            self.gate.quotas.leave(self.entry)
            accounting.leave()
            self.log(accounting.log)

    async def _serve(
        self, answer: Callable[[Exchange], Awaitable[None]], write_problem: WriteProblem, metrics: Metrics
    ) -> None:
        try:
            self.team = self.gate.identify(self.scope)
            bind_contextvars(team=self.team.name)  # for the log
            check_team(self.team)
            await self._while_connected(answer)
        except RequestError as fault:
            await self._refuse(metrics, fault, write_problem)
        except ClientDisconnect:
            self.count_failure(metrics, "disconnected")
        except asyncio.CancelledError:  # the time for draining is up, and this task is about to end anyway
            await self._refuse(metrics, STOPPED, write_problem)
        except Exception:
            self.log_exception()
            if self.answering:
                self.count_failure(metrics, ErrorCode.INTERNAL_ERROR)
                raise  # the connection is closed, so that the caller sees that the answer is cut short
            await self._refuse(metrics, FAILED, write_problem)

    def enter(self, nbytes: int, *, certain: bool) -> None:
        """Have its team's quotas let it in.

        Args:
            nbytes: The memory for bodies that it takes.
            certain: It does take that much. Else that is the most that it may, and a team whose limit is
                lower has it alone under way.

        Raises:
            RequestError: They do not.
        """
        limit = self.team.limits.bytes_in_flight
        if not certain and limit is not None:
            nbytes = min(nbytes, limit)
        self.entry = self.gate.quotas.enter(self.team.name, nbytes)

    def charge(self, elements: int) -> None:
        """Charge its team with elements.

        Raises:
            RequestError: ``rate_limited``, unless it has been charged before: others were faster.
        """
        if not self.elements:
            self.gate.quotas.check_elements(self.team.name)
        self.elements += elements
        self.gate.quotas.charge(self.team.name, elements)

    async def _while_connected(self, answer: Callable[[Exchange], Awaitable[None]]) -> None:
        """Answer, but let everything go as soon as there is no use in it, whatever is being waited for.

        Raises:
            ClientDisconnect: The caller has hung up.
            RequestError: The body cannot be read on.
        """
        connection: Connection | None = self.scope.get(CONNECTION)
        task, lost, fault = asyncio.current_task(), False, None
        if connection is None or task is None:
            await answer(self)
            return

        def let_go(why: RequestError | None = None) -> None:
            nonlocal lost, fault
            if not lost and fault is None:
                lost, fault = why is None, why
                task.cancel()

        forget = connection.when_interrupted(let_go)
        try:
            await answer(self)
        except asyncio.CancelledError:
            if fault is None and not lost:
                raise
            task.uncancel()
            raise (ClientDisconnect() if fault is None else fault.copy()) from None
        finally:
            forget()
            self.end_upload()

    async def _refuse(
        self, metrics: Metrics, fault: RequestError, write_problem: WriteProblem, *, close: bool = False
    ) -> None:
        """Answer with a problem. What the caller is still sending is the connection's to drop."""
        answer = self.refuse(metrics, fault, write_problem, close=close or self.is_unread)
        start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": answer.body})
