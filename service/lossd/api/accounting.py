"""How requests for a loss end: in the counters, in the log, and in what is said to who is refused."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from lossd.api.auth import Gate, rate_headers
from lossd.api.metrics import Metrics
from lossd.api.problems import Problem
from lossd.api.request_log import RequestLine, RequestLog
from lossd.teams import Team
from lossd.types import ErrorCode, LossResult, RequestError, Timings

WriteProblem: TypeAlias = Callable[..., Problem]
"""Writes a fault, as `lossd.api.problems.problem` does."""


class Accounted:
    """A request for a loss, as far as it is counted and logged. Subclasses hold its parts.

    Attributes:
        loss: The loss's name.
        format: The format of its body.
        gate: Where it is found out who asks.
        team: Whose it is; nobody's until its key has been looked at.
        began: When its head was there, by time.monotonic().
        received_bytes: Of its body.
        elements: How many its inputs have, as far as they have been announced.
        deadline: When its caller stops waiting, by time.monotonic(); None if the caller does not say.
        outcome: What it came to: ``ok``, ``disconnected``, or a fault's code.
        status: The answer's, once there is one.
        seconds: Of reading, waiting and computing, if it was answered with a loss.
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
    seconds: Timings | None

    @property
    @abstractmethod
    def identity(self) -> str:
        """Its id."""

    @property
    @abstractmethod
    def client_address(self) -> str:
        """Where it came from."""

    def count_answer(self, metrics: Metrics, result: LossResult, seconds: Timings) -> None:
        """Count it as answered, after seconds of reading, waiting and computing."""
        self.seconds = seconds
        metrics.answered(
            self.loss,
            self.format,
            self.team.name,
            result.device,
            result.count,
            self.received_bytes,
            (*seconds, time.monotonic() - self.began),
            result.elsewhere,
        )

    def count_refusal(self, metrics: Metrics, code: str) -> None:
        """Count it as refused, or (``disconnected``) as not answered at all."""
        self.outcome = code
        metrics.refused(self.loss, self.format, self.team.name, code, time.monotonic() - self.began)

    def refusal(self, fault: RequestError, write_problem: WriteProblem, *, close: bool) -> Problem:
        """What is answered to it with a fault."""
        own_deadline = fault.code == ErrorCode.DEADLINE_EXCEEDED and self.deadline is None
        retryable = True if own_deadline else None
        answer = write_problem(fault, self.identity, retryable=retryable, close=close)
        answer.headers.extend(rate_headers(self.gate, self.team))
        self.status = answer.status
        return answer

    def log(self, requests: RequestLog) -> None:
        """Write its line, if it is to have one."""
        if not requests.wants(self.outcome):
            return
        requests.write(
            RequestLine(
                request_id=self.identity,
                team=self.team.name,
                client=self.client_address,
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
