"""When to try again, and how one request is seen through all its attempts.

`attempts` neither sends nor waits: it yields what is to be done next, and whoever runs it, in a thread or
in an event loop, does that and tells it how it went.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

from lossd_client.errors import ConnectionFailed, LossdError, TimedOut, status_error
from lossd_client.timeout import Timeout
from lossd_client.transport import Request, Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a request is sent again, and how soon.

    That is after failures that may pass: the connection failed, a proxy answered 502, or the server's own
    document calls its answer `retryable` (overloaded, shutting down, rate limited). Losses are pure functions
    of the request, so sending one twice does no harm. Nothing else is tried again, an answer that does not
    come in time least of all.

    The n-th wait is a random time between half of and the whole `first_wait` * 2**(n - 1), at most
    `longest_wait`, or what the server's Retry-After says if that is longer: seconds, or a date. A wait that
    would pass the call's deadline is not begun, nor one for a Retry-After beyond `longest_retry_after`: the
    answer is raised then.

    All requests of a client, and of those made from it by `with_options`, draw on one budget: `burst` retries
    at once and `per_second` more each second, so that a thousand callers do not fall upon a server that has
    just come back. A retry waits for its turn, and is not made if that is longer away than `longest_wait`.

    Attributes:
        attempts: How often a request is sent at most. The defaults outlast a server that is away for half a
            minute, and give up after 28 to 56 seconds.
        first_contact: The same while no server has ever answered this client: a name that nobody knows, or
            another program's port, should not take half a minute to show.
        first_refusal: The same where the connection is refused: the machine is there, and the server may be
            starting. That is logged once as a warning, by the logger `lossd_client`.
        first_wait: Seconds before the second attempt.
        longest_wait: Seconds between attempts at most, Retry-After aside.
        longest_retry_after: Seconds that a Retry-After may ask for.
        burst: How many retries the budget holds when it is full.
        per_second: How fast it fills.

    Raises:
        ValueError: A number is out of range.
    """

    attempts: int = 12
    first_contact: int = 3
    first_refusal: int = 12
    first_wait: float = 0.25
    longest_wait: float = 8.0
    longest_retry_after: float = 300.0
    burst: int = 20
    per_second: float = 4.0

    def __post_init__(self) -> None:
        if min(self.attempts, self.first_contact, self.first_refusal) < 1:
            raise ValueError(
                "Retry: attempts, first_contact and first_refusal count the first one too: at least 1"
            )
        seconds = (self.first_wait, self.longest_wait, self.longest_retry_after, self.per_second)
        if not all(0 < each < math.inf for each in seconds):
            raise ValueError(
                "Retry: first_wait, longest_wait, longest_retry_after and per_second must be positive numbers"
            )
        if self.burst < 1:
            raise ValueError("Retry: burst must be at least 1; retry=None turns retries off")

    def wait(self, failures: int) -> float:
        """Gives the seconds to wait after so many failures, by chance."""
        longest = min(self.longest_wait, self.first_wait * 2.0 ** min(failures - 1, 60))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers, keeps no secret


DEFAULT_RETRY: Final = Retry()

logger = logging.getLogger("lossd_client")


class Line:
    """What a client's requests share of their server: whether it has ever answered, and the retry budget."""

    def __init__(self) -> None:
        self.has_answered = False
        self.has_warned = False  # that the server refuses connections
        self._lock = threading.Lock()
        self._spent = 0.0  # tokens that the bucket lacks
        self._seen = time.monotonic()

    def reserve(self, retry: Retry) -> float | None:
        """Takes a retry out of the budget.

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
    """To be done next: send this, and give back the response or throw the LossdError."""

    request: Request
    timeout: Timeout


@dataclass(frozen=True, slots=True)
class Wait:
    """To be done next: let so many seconds pass."""

    seconds: float


ResultT = TypeVar("ResultT")
Steps: TypeAlias = Generator[Send | Wait, Response | None, ResultT]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bother for one call.

    Attributes:
        timeout: For each attempt.
        retry: None tries once.
        ends: When the deadline passes, by time.monotonic(); None if there is none.
    """

    timeout: Timeout
    retry: Retry | None
    ends: float | None

    @classmethod
    def beginning_now(cls, timeout: Timeout, retry: Retry | None) -> "Patience":
        """Makes one whose deadline runs from now."""
        return cls(timeout, retry, None if timeout.deadline is None else time.monotonic() + timeout.deadline)

    @property
    def left(self) -> float:
        """The seconds until the deadline."""
        return math.inf if self.ends is None else self.ends - time.monotonic()


def attempts(request: Request, patience: Patience, line: Line) -> Steps[Response]:
    """Sends the request until its answer is one to keep.

    Returns:
        The answer, of status 200.

    Raises:
        StatusError: The last answer was another.
        LossdError: There was none.
    """
    failures = 0
    while True:
        try:
            response = yield _send(request, patience)
            assert response is not None
            line.has_answered = True
            if response.status == 200:
                return response
            raise status_error(response)
        except LossdError as error:
            failures += 1
            error.request_id = error.request_id or request.headers.get("X-Request-Id")
            wait = _wait(error, failures, patience, line)
            if wait is None:
                if _broke_at_first(error, line) and request.base_url.startswith("http://"):
                    error.args = (f"{error}; if the server speaks https, base_url begins with https://",)
                if failures > 1:
                    error.add_note(f"This was attempt {failures}.")
                raise
        yield Wait(wait)


def _send(request: Request, patience: Patience) -> Send:
    if patience.ends is None:
        return Send(request, patience.timeout)
    left = patience.left
    if left <= 0:
        raise TimedOut("the deadline passed before the request could be sent")
    headers: Mapping[str, str] = {**request.headers, "X-Timeout-Ms": str(max(1, int(left * 1000)))}
    return Send(replace(request, headers=headers), replace(patience.timeout, deadline=left))


def _wait(error: LossdError, failures: int, patience: Patience, line: Line) -> float | None:
    """The seconds until the next attempt; None if there is to be none."""
    retry = patience.retry
    if retry is None or not error.retryable:
        return None
    if failures >= min(retry.attempts, _most(error, retry, line)):
        return None
    asked_for = getattr(error, "retry_after", None) or 0.0
    wait = max(retry.wait(failures), asked_for)
    if wait >= patience.left or asked_for > retry.longest_retry_after:
        return None
    turn = line.reserve(retry)
    if turn is None or turn >= patience.left:
        return None
    if is_refused(error) and not (line.has_answered or line.has_warned):
        line.has_warned = True
        logger.warning(
            "%s; trying again, %d times at most (Retry.first_refusal)", error, retry.first_refusal - failures
        )
    return max(wait, turn)


def _most(error: LossdError, retry: Retry, line: Line) -> int:
    """The attempts at most, by what is known of the server."""
    if line.has_answered:
        return retry.attempts
    return retry.first_refusal if is_refused(error) else retry.first_contact


def _broke_at_first(error: LossdError, line: Line) -> bool:
    """Tell whether a connection broke to where nothing has ever answered, as of a server that awaits TLS."""
    return isinstance(error, ConnectionFailed) and error.connected and not line.has_answered


def is_refused(error: BaseException | None) -> bool:
    """Tell whether a connection was refused: the machine is there, and nothing listens at the port."""
    while error is not None and not isinstance(error, ConnectionRefusedError):
        if isinstance(error, BaseExceptionGroup):  # one for each of the name's addresses
            return all(map(is_refused, error.exceptions))
        error = error.__cause__ or error.__context__
    return error is not None
