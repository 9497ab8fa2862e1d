"""Everything that the client raises for a request.

    LossdError
    ├── ConnectionFailed        nothing, or not all of it, came back
    ├── TimedOut                one of the client's timeouts passed, or a deadline
    ├── BadAnswer               a success that cannot be read as one
    └── StatusError             the server or a proxy answered with an error status
        ├── InvalidRequest      400, 406, 415, 422 and other 4xx
        ├── Unauthorized        401, 403
        ├── NotFound            404, 405
        ├── TooLarge            413, 431
        ├── Throttled           429
        ├── DeadlineExceeded    408, 504 (a TimedOut too)
        ├── Unavailable         503
        └── ServerError         500, 502, 507 and other 5xx

Each has `code`, `request_id`, `retryable` and `errors`. What is wrong with the arguments themselves is a
TypeError or a ValueError, raised before anything is sent.
"""
# What happened is the name (TimedOut, TooLarge); the base classes say that it is an error.
# ruff: noqa: N818

from collections.abc import Mapping
from dataclasses import dataclass

from lossd_client.rate_limit import RateLimit


@dataclass(frozen=True, slots=True)
class ErrorItem:
    """One error in a request.

    Attributes:
        pointer: A JSON pointer to it, such as "/targets/17/3".
        detail: What is wrong.
    """

    pointer: str
    detail: str


class LossdError(Exception):
    """Any failure of a request: the one class to catch.

    Attributes:
        code: The error's code: the server's, such as "target_out_of_range", or
            the client's own "connection_failed", "timed_out" and "bad_answer". None when the answer was
            not a lossd server's (a proxy's page, say).
        request_id: The request id in the server's logs, where one was sent or came back.
        retryable: Whether the same request may succeed later. The client has tried again already, as its
            `Retry` says.
        errors: The single errors and their positions, if the server lists them.
    """

    code: str | None = None
    request_id: str | None = None
    retryable: bool = False
    errors: tuple[ErrorItem, ...] = ()


class ConnectionFailed(LossdError):
    """The server could not be reached, or the connection broke before the answer was whole.

    Attributes:
        connected: Whether there was a connection, which then broke.
    """

    code = "connection_failed"
    connected: bool = False


class TimedOut(LossdError):
    """A timeout passed while connecting, sending or waiting for the answer, or the call's deadline did."""

    code = "timed_out"


class BadAnswer(LossdError):
    """The answer says success but is not one that a lossd server gives."""

    code = "bad_answer"


class StatusError(LossdError):
    """An answer whose status is not 200.

    Attributes:
        status: The HTTP status.
        detail: What is wrong and what to do about it.
        retry_after: Seconds to wait before trying again, if the server named them.
        headers: The answer's headers, by names in lower case.
    """

    def __init__(
        self,
        status: int,
        code: str | None = None,
        detail: str = "",
        request_id: str | None = None,
        retryable: bool = False,
        errors: tuple[ErrorItem, ...] = (),
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # All of them as args, so that the error survives pickling between processes.
        super().__init__(status, code, detail, request_id, retryable, errors, retry_after, headers)
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.retryable = retryable
        self.errors = errors
        self.retry_after = retry_after
        self.headers: Mapping[str, str] = headers or {}

    @property
    def rate_limit(self) -> RateLimit | None:
        """What is left of the team's rates; None if the answer does not say it."""
        return RateLimit.of(self.headers)

    def __str__(self) -> str:
        head = f"{self.status} {self.code}" if self.code else str(self.status)
        lines = [f"{head}: {self.detail}" if self.detail else head]
        lines += [f"  {item.pointer}: {item.detail}" for item in self.errors]
        if self.request_id:
            lines.append(f"  request id {self.request_id}")
        return "\n".join(lines)


class InvalidRequest(StatusError):
    """The request is at fault (400, 406, 415, 422 and other 4xx): sending it again will not help."""


class Unauthorized(StatusError):
    """The API key is missing, unknown or disabled (401, 403)."""


class NotFound(StatusError):
    """The server has no such route or method (404, 405): most often a wrong base_url."""


class TooLarge(StatusError):
    """The body, the answer or the headers would exceed a limit of the server (413, 431)."""


class Throttled(StatusError):
    """Too many requests, or too many at once (429); see `retry_after` and `rate_limit`."""


class DeadlineExceeded(StatusError, TimedOut):
    """The server gave the request up: its deadline passed, or the upload was too slow (408, 504)."""


class Unavailable(StatusError):
    """The server is overloaded or shutting down (503); see `retry_after`."""


class ServerError(StatusError):
    """The server failed (500, 507 and other 5xx), or a proxy found none (502)."""
