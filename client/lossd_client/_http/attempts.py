"""One request through all its attempts.

`attempts` neither sends nor waits: it yields the next step, `Send` or `Wait`. Its caller, in a thread or in
an event loop, takes the step and sends back the response or throws the error.
"""

import math
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from lossd_client._http.logs import log_answer, log_failure, log_retry, logger
from lossd_client._http.problems import status_error
from lossd_client.errors import ConnectionFailed, LossdError, StatusError, Throttled, TimedOut
from lossd_client.retry import Retry
from lossd_client.timeout import Timeout
from lossd_client.transport import Request, Response


class RetryState:
    """State that a client's requests share: whether the server has answered, and the retry budget."""

    def __init__(self) -> None:
        self.has_answered = False
        self.has_warned = False  # that the server refuses connections
        self._lock = threading.Lock()
        self._spent = 0.0  # tokens that the bucket lacks
        self._seen = time.monotonic()

    def reserve(self, retry: Retry) -> float | None:
        """Reserve a retry in the budget.

        Returns:
            The seconds until its turn; None if that is too far away, and then nothing is taken.
        """
        with self._lock:
            now = time.monotonic()
            self._spent = max(0.0, self._spent - (now - self._seen) * retry.per_second)
            self._seen = now
            wait = max(0.0, (self._spent + 1.0 - retry.burst) / retry.per_second)
            if wait > retry.longest_wait:
                return None
            self._spent += 1.0
            return wait


@dataclass(frozen=True, slots=True)
class Send:
    """A step: send this request, and send back its response or throw the LossdError."""

    request: Request
    timeout: Timeout


@dataclass(frozen=True, slots=True)
class Wait:
    """A step: wait, before the request is sent again.

    Attributes:
        ends: When it does, by time.monotonic().
        reason: Why, in a few words.
    """

    ends: float
    reason: str

    @property
    def left(self) -> float:
        """The seconds that are left of it."""
        return max(0.0, self.ends - time.monotonic())


ResultT = TypeVar("ResultT")
Steps: TypeAlias = Generator[Send | Wait, Response | None, ResultT]


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The timeout, the retries and the deadline of one call.

    Attributes:
        timeout: For each attempt.
        retry: None tries once.
        ends: When the deadline passes, by time.monotonic(); None if there is none.
    """

    timeout: Timeout
    retry: Retry | None
    ends: float | None

    @classmethod
    def starting_now(cls, timeout: Timeout, retry: Retry | None) -> "CallLimits":
        """Return limits whose deadline runs from now."""
        return cls(timeout, retry, None if timeout.deadline is None else time.monotonic() + timeout.deadline)

    @property
    def left(self) -> float:
        """The seconds until the deadline."""
        return math.inf if self.ends is None else self.ends - time.monotonic()


def attempts(request: Request, limits: CallLimits, state: RetryState) -> Steps[Response]:
    """Send the request until it is answered, or its retries are used up.

    Returns:
        The answer, of status 200.

    Raises:
        StatusError: The last answer was another.
        LossdError: There was none.
    """
    failures = 0
    while True:
        began = time.monotonic()
        try:
            response = yield _send(request, limits)
            assert response is not None
            state.has_answered = True
            log_answer(request, response, time.monotonic() - began)
            if response.status == 200:
                return response
            raise status_error(response)
        except LossdError as error:
            failures += 1
            if not isinstance(error, StatusError):
                log_failure(request, error)
            error.request_id = error.request_id or request.headers.get("X-Request-Id")
            wait = _wait(error, failures, limits, state)
            if wait is None:
                if _broke_at_first(error, state) and request.base_url.startswith("http://"):
                    error.args = (f"{error}; if the server speaks https, base_url begins with https://",)
                if failures > 1:
                    error.add_note(f"This was attempt {failures}.")
                raise
            reason = _reason(error)
            log_retry(request, error, reason, wait)
        yield Wait(time.monotonic() + wait, reason)


def _reason(error: LossdError) -> str:
    """Return why a request is sent again, in a few words."""
    if isinstance(error, Throttled):
        return "throttled"
    if isinstance(error, StatusError) and error.code is not None:
        return {"overloaded": "the server is busy", "draining": "the server is stopping"}.get(
            error.code, error.code
        )
    return "the server cannot be reached"


def _send(request: Request, limits: CallLimits) -> Send:
    if limits.ends is None:
        return Send(request, limits.timeout)
    left = limits.left
    if left <= 0:
        raise TimedOut("the deadline passed before the request could be sent")
    headers: Mapping[str, str] = {**request.headers, "X-Timeout-Ms": str(max(1, int(left * 1000)))}
    return Send(replace(request, headers=headers), replace(limits.timeout, deadline=left))


def _wait(error: LossdError, failures: int, limits: CallLimits, state: RetryState) -> float | None:
    """Return the seconds until the next attempt; None for no further attempt."""
    retry = limits.retry
    if retry is None or not error.retryable:
        return None
    if failures >= min(retry.attempts, _most(error, retry, state)):
        return None
    asked_for = getattr(error, "retry_after", None) or 0.0
    wait = max(retry.wait(failures), asked_for)
    if wait >= limits.left or asked_for > retry.longest_retry_after:
        return None
    turn = state.reserve(retry)
    if turn is None or turn >= limits.left:
        return None
    if is_refused(error) and not (state.has_answered or state.has_warned):
        state.has_warned = True
        logger.warning(
            "%s; trying again, %d times at most (Retry.first_refusal)", error, retry.first_refusal - failures
        )
    return max(wait, turn)


def _most(error: LossdError, retry: Retry, state: RetryState) -> int:
    """Return the largest number of attempts, by what is known of the server."""
    if state.has_answered:
        return retry.attempts
    return retry.first_refusal if is_refused(error) else retry.first_contact


def _broke_at_first(error: LossdError, state: RetryState) -> bool:
    """Return whether the first connection broke, as that of http:// to a server with TLS."""
    return isinstance(error, ConnectionFailed) and error.connected and not state.has_answered


def is_refused(error: BaseException | None) -> bool:
    """Return whether a connection was refused: nothing listens there, or there is no such Unix socket."""
    while error is not None and not isinstance(error, ConnectionRefusedError | FileNotFoundError):
        if isinstance(error, BaseExceptionGroup):  # one for each of the name's addresses
            return all(map(is_refused, error.exceptions))
        error = error.__cause__ or error.__context__
    return error is not None
