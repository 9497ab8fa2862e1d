"""One request for a loss on its way: receiving its body, refusing it, counting it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from lossd.api.context import client_host, header, header_text, request_id
from lossd.api.door import Door
from lossd.api.gate import Gate, rate_headers
from lossd.api.metrics import Metrics
from lossd.api.problems import Problem
from lossd.api.protocol import CONNECTION, LossdProtocol
from lossd.api.requestlog import RequestLine, RequestLog
from lossd.api.upload import LEAST_BYTES, Upload
from lossd.engine.quotas import Entry
from lossd.request import Fault, LossResult
from lossd.teams import NOBODY, Team

logger = logging.getLogger(__name__)

_DISCARD_BYTES: Final = 1 << 20
_DISCARD_SECONDS: Final = 1.0
_TURN_SECONDS: Final = 0.002

STOPPED: Final = Fault(
    "draining", "the server was stopped before this was done; send it to another, or again later"
)
FAILED: Final = Fault(
    "internal_error", "the server failed; report this with the request id, under which its log has more"
)

WriteProblem = Callable[..., Problem]


@dataclass(slots=True)
class Exchange:
    """A request and its answer.

    Attributes:
        scope: ASGI's.
        receive: ASGI's.
        send: ASGI's.
        loss: The loss's name, for the metrics.
        began: When its headers were there, by time.monotonic().
        gate: Where it is found out who asks.
        format: The format of its body, for the metrics.
        deadline: When the caller gives up, by time.monotonic(), if it said so.
        body_read: All of the body has been received.
        read_seconds: How long that took.
        received_bytes: How much of it has been received.
        answering: Its answer has begun.
        turn_began: Since when it has had the processor to itself, by time.monotonic().
        team: Whose it is; nobody's until its key has been looked at.
        upload: What its body comes by, while it does not come by `receive`.
        entry: How it is counted among what its team may have in flight.
        elements: How many its inputs have, as far as they have been announced.
        trace: What its slices are given, if there are traces.
        outcome: What it came to: ``ok``, ``disconnected``, or a fault's code.
        status: The answer's, once there is one.
        seconds: Of reading, waiting and computing, if it was answered with a loss.
    """

    scope: Scope
    receive: Receive
    send: Send
    loss: str
    began: float
    gate: Gate
    format: str = "none"
    deadline: float | None = None
    body_read: bool = False
    read_seconds: float = 0.0
    received_bytes: int = 0
    answering: bool = False
    turn_began: float = 0.0
    team: Team = NOBODY
    entry: Entry | None = None
    upload: Upload | None = None
    elements: int = 0
    trace: str = ""
    outcome: str = "ok"
    status: int | None = None
    seconds: tuple[float, float, float] | None = None

    @property
    def identity(self) -> str:
        """The request's id."""
        return request_id(self.scope)

    def header(self, name: bytes) -> str | None:
        """The value of a header, its name given in lower case, or None; of several, joined by commas."""
        return header_text(self.scope, name)

    @property
    def declared(self) -> int | None:
        """The body's length, if the request tells it."""
        value = header(self.scope, b"content-length")
        return None if value is None else int(value)  # digits only: the protocol has seen to that

    def set_timeout(self, seconds: float | None) -> None:
        """Take note of what the caller allows, from the headers on; of several, the least counts."""
        if seconds is not None:
            deadline = self.began + seconds
            self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    def left(self, patience: float) -> float:
        """Seconds to wait at most: until the caller's deadline, and no longer than ``patience``."""
        if self.deadline is None:
            return patience
        return min(patience, max(0.0, self.deadline - time.monotonic()))

    async def chunk(self) -> bytes | memoryview | None:
        """The body's next bytes, valid until the next call; None at its end.

        Raises:
            ClientDisconnect: The caller has hung up.
            Fault: ``deadline_exceeded``: the caller's deadline has passed.
        """
        if self.body_read:
            self._end_upload()
            return None
        if self.deadline is None:
            chunk = await self._receive()
        else:
            try:
                async with asyncio.timeout(self.deadline - time.monotonic()):
                    chunk = await self._receive()
            except TimeoutError:
                raise _too_late() from None
        self.turn_began = time.monotonic()
        self.received_bytes += len(chunk)
        return chunk

    async def _receive(self) -> bytes | memoryview:
        """What comes next, for which the caller may not take as long as it likes."""
        connection: LossdProtocol | None = self.scope.get(CONNECTION)
        if connection is None:
            return await self._receive_message()
        connection.reading = True
        try:
            if self.upload is not None:
                return await self._receive_upload(self.upload)
            return await self._receive_message()
        finally:
            connection.reading = False

    async def _receive_message(self) -> bytes:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        received: bytes = message.get("body", b"")
        if message.get("more_body", False):
            self._begin_upload(len(received))
        else:
            self._end_body()
        return received

    def _end_body(self) -> None:
        """Take note that all of the body has come."""
        self.body_read = True
        self.read_seconds = time.monotonic() - self.began

    async def _receive_upload(self, upload: Upload) -> memoryview:
        chunk = await upload.chunk()
        if not chunk:
            raise ClientDisconnect
        if not upload.missing:
            self._end_body()
        return chunk

    def _begin_upload(self, received: int) -> None:
        """Read on past the parser, where it is known how long and there is much to come."""
        connection: LossdProtocol | None = self.scope.get(CONNECTION)
        declared = self.declared
        if connection is None or declared is None:
            return
        missing = declared - self.received_bytes - received
        if missing >= LEAST_BYTES:
            self.upload = connection.begin_upload(self.scope, missing)

    def aim_upload(self, view: memoryview) -> bool:
        """Have what is to come of the body read into some memory; whether that can be."""
        if self.upload is None:
            return False
        self.upload.aim(view)
        return True

    def _end_upload(self) -> None:
        """Let the parser read again."""
        if self.upload is not None:
            connection: LossdProtocol = self.scope[CONNECTION]
            connection.end_upload(self.upload)
            self.upload.close()
            self.upload = None

    async def breathe(self) -> None:
        """Let others have their turn, if this request has had the processor for long.

        To be called again and again where a chunk may cost more than it takes to receive.

        Raises:
            Fault: ``deadline_exceeded``: the caller's deadline has passed.
        """
        now = time.monotonic()
        if now - self.turn_began < _TURN_SECONDS:
            return
        if self.deadline is not None and now >= self.deadline:
            raise _too_late()
        await asyncio.sleep(0)
        self.turn_began = time.monotonic()

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
        metrics: Metrics,
        door: Door,
        requests: RequestLog,
    ) -> None:
        """Answer it, or say why not.

        Args:
            answer: Sends the answer, or raises a Fault.
            write_problem: Writes a fault, as `lossd.api.problems.problem` does.
            metrics: Where it is counted.
            door: By which it comes in.
            requests: Where it has its line.
        """
        try:
            door.enter()
        except Fault as fault:
            self._count_refused(metrics, fault.code)
            await self._refuse(fault, write_problem, close=True)
            self._log(requests)
            return
        try:
            await self._serve(answer, write_problem, metrics)
        finally:
            door.leave()
            self._log(requests)

    def _log(self, requests: RequestLog) -> None:
        """Write its line, if it is to have one."""
        if not requests.wants(self.outcome):
            return
        requests.write(
            RequestLine(
                request_id=self.identity,
                team=self.team.name,
                client=client_host(self.scope),
                outcome=self.outcome,
                status=self.status,
                loss=self.loss,
                format=self.format,
                elements=self.elements,
                nbytes=self.received_bytes,
                seconds=self.seconds,
                total=time.monotonic() - self.began,
            )
        )

    async def _serve(
        self, answer: Callable[[Exchange], Awaitable[None]], write_problem: WriteProblem, metrics: Metrics
    ) -> None:
        metrics.began()
        try:
            self.team = self.gate.admit(self.scope)
            bind_contextvars(team=self.team.name)  # for the log
            await self._while_connected(answer)
        except Fault as fault:
            self._count_refused(metrics, fault.code)
            await self._refuse(fault, write_problem)
        except ClientDisconnect:
            self._count_refused(metrics, "disconnected")
        except asyncio.CancelledError:  # the time for draining is up, and this task is about to end anyway
            self._count_refused(metrics, "draining")
            await self._refuse(STOPPED, write_problem)
        except Exception:
            self._count_refused(metrics, "internal_error")
            logger.exception("request %s failed", request_id(self.scope))
            if self.answering:
                raise  # the connection is closed, so that the caller sees that the answer is cut short
            await self._refuse(FAILED, write_problem)
        finally:
            self.gate.quotas.leave(self.entry)
            metrics.ended()

    def enter(self, nbytes: int) -> None:
        """Have its team's quotas let it in.

        Args:
            nbytes: How long its body is, or may be.

        Raises:
            Fault: They do not.
        """
        self.entry = self.gate.quotas.enter(self.team.name, nbytes)

    def charge(self, elements: int) -> None:
        """Charge its team with elements."""
        self.elements += elements
        self.gate.quotas.charge(self.team.name, elements)

    def count(self, metrics: Metrics, result: LossResult, seconds: tuple[float, float, float]) -> None:
        """Count the answer: its seconds of reading, waiting and computing."""
        self.seconds, total = seconds, time.monotonic() - self.began
        metrics.answered(
            self.loss,
            self.format,
            self.team.name,
            result.device,
            result.count,
            self.received_bytes,
            (*seconds, total),
        )

    async def _while_connected(self, answer: Callable[[Exchange], Awaitable[None]]) -> None:
        """Answer, but let everything go as soon as there is no use in it, whatever is being waited for.

        Raises:
            ClientDisconnect: The caller has hung up.
            Fault: The body cannot be read on.
        """
        connection: LossdProtocol | None = self.scope.get(CONNECTION)
        task, lost, fault = asyncio.current_task(), False, None
        if connection is None or task is None:
            await answer(self)
            return

        def let_go(why: Fault | None = None) -> None:
            nonlocal lost, fault
            if not lost and fault is None:
                lost, fault = why is None, why
                task.cancel()

        forget = connection.when_lost(let_go)
        connection.interrupt = let_go
        try:
            await answer(self)
        except asyncio.CancelledError:
            if fault is None and not lost:
                raise
            task.uncancel()
            raise (ClientDisconnect() if fault is None else fault.anew()) from None
        finally:
            connection.interrupt = None
            forget()
            self._end_upload()

    def _count_refused(self, metrics: Metrics, code: str) -> None:
        self.outcome = code
        metrics.refused(self.loss, self.format, self.team.name, code, time.monotonic() - self.began)

    async def _refuse(self, fault: Fault, write_problem: WriteProblem, *, close: bool = False) -> None:
        """Answer with a problem, then read away a little of what the caller is still sending.

        Closing with unread bytes makes the kernel reset the connection, and the caller may never see why.
        """
        own_deadline = fault.code == "deadline_exceeded" and self.deadline is None
        unread = not self.body_read and self._has_body()
        answer = write_problem(
            fault, request_id(self.scope), retryable=True if own_deadline else None, close=close or unread
        )
        self.status = answer.status
        headers = [*answer.headers, *rate_headers(self.gate, self.team)]
        await self.send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": answer.body, "more_body": unread})
        if unread:
            await self._discard()
            await self.send({"type": "http.response.body", "body": b""})

    async def _discard(self) -> None:
        """Read the rest of the body away, for a bounded time, if it is short.

        A longer one is left where it is: who looks for an answer while sending sees it and stops, and for all
        others the time is what counts.
        """
        declared = self.declared
        if declared is not None and declared - self.received_bytes > _DISCARD_BYTES:
            await self._linger()
            return
        left = _DISCARD_BYTES if declared is None else declared - self.received_bytes
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while left > 0:
                    message = await self.receive()
                    left -= len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return

    async def _linger(self) -> None:
        """Wait until the caller has hung up, for a bounded time."""
        connection: LossdProtocol | None = self.scope.get(CONNECTION)
        if connection is None:
            return
        lost = asyncio.Event()
        forget = connection.when_lost(lost.set)
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                await lost.wait()
        except TimeoutError:
            return
        finally:
            forget()

    def _has_body(self) -> bool:
        return header(self.scope, b"transfer-encoding") is not None or self.declared not in (None, 0)


def _too_late() -> Fault:
    detail = "the deadline passed before all of the body had come; allow more time"
    return Fault("deadline_exceeded", detail)


def read_timeout(given: str | None) -> float | None:
    """The seconds that a caller allows by X-Timeout-Ms, or None.

    Raises:
        Fault: ``invalid_parameter``.
    """
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= 12 and int(given)):
        detail = f"X-Timeout-Ms is {given[:50]!r}; send a positive whole number of milliseconds"
        raise Fault("invalid_parameter", detail)
    return int(given) / 1000.0
