"""Accounting of requests: their ids, those in flight, and how each ends in the counters and in the log.

Shared by the lane, the ASGI way, and the code that refuses other requests.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import time
from abc import abstractmethod
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final, Literal, NamedTuple, Protocol

from structlog.contextvars import bound_contextvars
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from lossd.api.auth import Gate, rate_headers
from lossd.api.metrics import Metrics
from lossd.api.problems import Problem
from lossd.setting_types import UNIX
from lossd.teams import KEY_IN_BYTES, Team
from lossd.types import ErrorCode, LossResult, RequestError, Timings

LoggedRequests = Literal["none", "failed", "all"]

logger = logging.getLogger(__name__)

NO_TIMING: Final = b"read;dur=0, queue;dur=0, compute;dur=0"
"""The Server-Timing header of an answer without a loss."""
EXPECTED_OUTCOMES: Final = frozenset(
    {"ok", "overloaded", "draining", "rate_limited", "too_many_in_flight", "disconnected"}
)
"""Outcomes expected under load. Not logged by default."""
_STRANGERS: Final = "callers without a key"
STOPPED: Final = RequestError(
    ErrorCode.DRAINING,
    "the server shut down before the answer was ready; retry, on another server if there is one",
)
FAILED: Final = RequestError(
    ErrorCode.INTERNAL_ERROR, "the server failed; report this with the request id, which is in its log"
)
_WELL_FORMED_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
_PROCESS: Final = os.urandom(8).hex().encode()  # so that no two processes make the same id
_numbers: Final = itertools.count()


def choose_id(given: bytes | None) -> bytes:
    """Return a request's id: the one it gives if that is well-formed and holds no key, else a new one."""
    if given is not None and _WELL_FORMED_ID.fullmatch(given) and not KEY_IN_BYTES.search(given):
        return given
    return b"%b%016x" % (_PROCESS, next(_numbers))


def server_timing(timings: Timings) -> bytes:
    """Return the value of the Server-Timing header, in milliseconds."""
    read, queue, compute = timings
    return b"read;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f" % (1e3 * read, 1e3 * queue, 1e3 * compute)


def address_of(text: str) -> str:
    """Return an IP address in its usual form, or ``unknown``: proxies may pass on anything."""
    try:
        return text if text == UNIX else str(ip_address(text))
    except ValueError:
        return "unknown"


class WriteProblem(Protocol):
    """A writer of errors."""

    def __call__(
        self, error: RequestError, request_id: str, *, retryable: bool | None = None, close: bool = False
    ) -> Problem:
        """Return an error as an answer, as `lossd.api.problems.problem` does."""


class RequestLine(NamedTuple):
    """A line of the log about a request. It repeats no text of the caller's.

    Attributes:
        request_id: Its id.
        team: The team's name; empty if not known.
        client: The caller's address.
        outcome: ``ok``, ``disconnected``, or an error code.
        status: The answer's status; None if there was no answer.
        loss: The loss's name; empty if not known.
        format: The body's format.
        elements: Elements of the inputs known so far.
        nbytes: Bytes of the body that were received.
        timings: Time by stage; None if it was not answered with a loss.
        total: Seconds from its head to its answer.
    """

    request_id: str
    team: str
    client: str
    outcome: str
    status: int | None
    loss: str = ""
    format: str = ""
    elements: int = 0
    nbytes: int = 0
    timings: Timings | None = None
    total: float = 0.0


class RequestLog:
    """The log of requests. `lossd.log_limits` limits the rate of its lines, by their teams.

    Args:
        which: The requests that have a line.
        proxies: The addresses of proxies whose X-Forwarded-For is trusted.
    """

    def __init__(self, which: LoggedRequests, proxies: Sequence[str] = ()) -> None:
        self._which = which
        self._proxies = ProxyHeadersMiddleware(_no_app, list(proxies)).trusted_hosts

    def client(self, peer: str, forwarded: bytes | None) -> str:
        """Return the caller's address for a request that bypassed uvicorn's own middleware.

        Args:
            peer: The address at the other end of the connection.
            forwarded: The request's whole X-Forwarded-For.
        """
        if not forwarded or peer not in self._proxies:
            return peer
        return address_of(self._proxies.get_trusted_client_address(forwarded.decode("latin-1"))[0])

    def wants(self, outcome: str) -> bool:
        """Return whether requests with this outcome have lines."""
        return self._which == "all" or (self._which == "failed" and outcome not in EXPECTED_OUTCOMES)

    def write(self, line: RequestLine) -> None:
        """Write a line, if the limits allow it."""
        level = logging.INFO if line.outcome in EXPECTED_OUTCOMES else logging.WARNING
        logger.log(level, "request", extra={"fields": _fields(line), "owner": self._owner(line)})

    def _owner(self, line: RequestLine) -> str | None:
        """Return the owner of a line: strangers, or a team, apart by who is to blame.

        None: the line is not limited.
        """
        if not line.team:
            return _STRANGERS
        if self._which == "all":
            return None
        failed = line.status is not None and line.status >= 500
        return f"team {line.team}, {'failed' if failed else 'refused'}"

    def write_refusal(
        self, error: RequestError, status: int, request_id: str, client: str, team: str = ""
    ) -> None:
        """Write the line of a request that was refused before it had a loss, if its outcome has one."""
        if self.wants(error.code):
            self.write(RequestLine(request_id, team, client, error.code, status))


async def _no_app(*_: Any) -> None:  # noqa: ANN401
    """Do nothing. Only the middleware's trusted-host list is used."""


def _fields(line: RequestLine) -> dict[str, object]:
    fields: dict[str, object] = {
        "outcome": line.outcome,
        "status": line.status,
        "loss": line.loss,
        "format": line.format,
        "elements": line.elements,
        "bytes": line.nbytes,
    }
    if line.timings is not None:
        names = ("read_seconds", "queue_seconds", "compute_seconds")
        fields |= {name: round(seconds, 6) for name, seconds in zip(names, line.timings, strict=True)}
    fields |= {"total_seconds": round(line.total, 6), "client": line.client}
    known = {name: value for name, value in fields.items() if value not in (None, "")}
    return {**known, "team": line.team, "request_id": line.request_id}


class Accounting:
    """The loss requests of one front end: those in flight now, and where each is counted and logged.

    Attributes:
        draining: New requests are refused, since the server is being stopped.
    """

    def __init__(self, metrics: Metrics, log: RequestLog) -> None:
        self.metrics: Final = metrics
        self.log: Final = log
        self.draining = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> None:
        """Count a request as in flight.

        Raises:
            RequestError: ``draining``.
        """
        if self.draining:
            raise RequestError(
                ErrorCode.DRAINING, "the server is being stopped; send this to another, or again later"
            )
        self._in_flight += 1
        self._idle.clear()
        self.metrics.began()

    def leave(self) -> None:
        """Count a request as no longer in flight."""
        self.metrics.ended()
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Refuse new requests, and wait up to some seconds until none is in flight."""
        self.draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return


class RequestRecord:
    """A loss request as it is counted, logged and refused. Subclasses hold the fields.

    Attributes:
        loss: The loss's name.
        format: The body's format.
        gate: The keys and limits of teams.
        team: The request's team; `NOBODY` until the key is checked.
        began: When its head had arrived, by time.monotonic().
        received_bytes: Bytes of its body that were received.
        elements: Elements of its inputs known so far.
        deadline: The caller's own deadline, by time.monotonic(); None if it gave none.
        outcome: ``ok``, ``disconnected``, or an error code.
        status: The answer's status, once there is one.
        timings: Time by stage, once it was answered with a loss.
    """

    loss: str
    format: str
    gate: Gate
    team: Team
    began: float
    received_bytes: int
    elements: int
    deadline: float | None
    outcome: str
    status: int | None
    timings: Timings | None

    @property
    @abstractmethod
    def request_id(self) -> str:
        """Its id."""

    @property
    @abstractmethod
    def client_address(self) -> str:
        """The caller's address."""

    def count_answer(self, metrics: Metrics, result: LossResult, timings: Timings) -> None:
        """Count it as answered with a loss."""
        self.timings = timings
        metrics.answered(
            self.loss,
            self.format,
            self.team.name,
            result,
            self.received_bytes,
            timings,
            total=time.monotonic() - self.began,
        )

    def count_failure(self, metrics: Metrics, outcome: str) -> None:
        """Count it as not answered with a loss: an error code, or ``disconnected``."""
        self.outcome = outcome
        metrics.refused(self.loss, self.format, self.team.name, outcome, time.monotonic() - self.began)

    def refuse(
        self, metrics: Metrics, error: RequestError, write_problem: WriteProblem, *, close: bool
    ) -> Problem:
        """Count it as refused, and return the answer."""
        self.count_failure(metrics, error.code)
        own_deadline = error.code == ErrorCode.DEADLINE_EXCEEDED and self.deadline is None
        retryable = True if own_deadline else None
        answer = write_problem(error, self.request_id, retryable=retryable, close=close)
        answer.headers.extend(rate_headers(self.gate, self.team))
        self.status = answer.status
        return answer

    def log_exception(self) -> None:
        """Log the exception that is being handled, which is the server's own failure."""
        with bound_contextvars(request_id=self.request_id, team=self.team.name):
            logger.exception("request %s failed", self.request_id)

    def write_line(self, log: RequestLog) -> None:
        """Write its line, if its outcome has one."""
        if not log.wants(self.outcome):
            return
        log.write(
            RequestLine(
                request_id=self.request_id,
                team=self.team.name,
                client=self.client_address,
                outcome=self.outcome,
                status=self.status,
                loss=self.loss,
                format=self.format,
                elements=self.elements,
                nbytes=self.received_bytes,
                timings=self.timings,
                total=time.monotonic() - self.began,
            )
        )
