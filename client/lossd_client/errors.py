"""Everything that the client raises once a request is under way.

    LossdError
    ├── ConnectionFailed        nothing, or not all of it, came back
    ├── TimedOut                one of the client's timeouts passed, or a deadline
    ├── BadAnswer               a success that cannot be read as one
    └── StatusError             the server, or something before it, said no
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

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from lossd_client.transport import PROBLEM, Response, without_password


@dataclass(frozen=True, slots=True)
class ErrorItem:
    """One fault in a request.

    Attributes:
        pointer: Where it is, as a JSON pointer such as "/targets/17/3".
        detail: What is wrong there.
    """

    pointer: str
    detail: str


class LossdError(Exception):
    """Any failure of a request: the one class to catch.

    Attributes:
        code: A name for the fault that programs can go by: the server's, such as "target_out_of_range", or
            the client's own "connection_failed", "timed_out" and "bad_answer". None when the answer was
            not a lossd server's (a proxy's page, say).
        request_id: The request's identity in the server's logs, where one was sent or came back.
        retryable: Whether the same request may succeed later. The client has tried again already, as its
            `Retry` says.
        errors: The single faults and where they are, if the server lists them.
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
        retry_after: Seconds to wait before trying again, if the server said so.
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
    ) -> None:
        # All of them as args, so that the error survives pickling between processes.
        super().__init__(status, code, detail, request_id, retryable, errors, retry_after)
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.retryable = retryable
        self.errors = errors
        self.retry_after = retry_after

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
    """Too many requests, or too many at once (429); see `retry_after`."""


class DeadlineExceeded(StatusError, TimedOut):
    """The server gave the request up: its deadline passed, or the upload was too slow (408, 504)."""


class Unavailable(StatusError):
    """The server is overloaded or shutting down (503); see `retry_after`."""


class ServerError(StatusError):
    """The server failed (500, 507 and other 5xx), or a proxy found none (502)."""


_KINDS: dict[int, type[StatusError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    405: NotFound,
    408: DeadlineExceeded,
    413: TooLarge,
    429: Throttled,
    431: TooLarge,
    503: Unavailable,
    504: DeadlineExceeded,
}


def _kind(status: int) -> type[StatusError]:
    if status in _KINDS:
        return _KINDS[status]
    if 400 <= status < 500:
        return InvalidRequest
    return ServerError if 500 <= status < 600 else StatusError


def status_error(response: Response) -> StatusError:
    """Makes the error for a response whose status is not 200."""
    problem = _problem(response)
    code, retryable = problem.get("code"), problem.get("retryable")
    detail = problem.get("detail") or problem.get("title") or _unexplained(response)
    below = _BELOW_ROUTE.match(str(detail)) if code == "not_found" else None
    if below:
        detail = f"{detail}; base_url ends before /{below[1]}"
    request_id = problem.get("request_id") or response.headers.get("x-request-id")
    return _kind(response.status)(
        response.status,
        code if isinstance(code, str) else None,
        str(detail),
        None if request_id is None else str(request_id),
        retryable if isinstance(retryable, bool) else response.status == 502,  # a proxy found no server
        _items(problem.get("errors")),
        _seconds(response.headers.get("retry-after")),
    )


def _problem(response: Response) -> dict[str, Any]:
    if response.media_type != PROBLEM:
        return {}
    try:
        problem = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


# What servers say, by what they are, to a caller without TLS at their port for it.
_PLAIN_HTTP: Final = (
    b"plain HTTP request was sent to HTTPS port",  # nginx
    b"speaking plain HTTP to an SSL-enabled server port",  # Apache
    b"sent an HTTP request to an HTTPS server",  # Go: Caddy, Traefik
)
_BELOW_ROUTE: Final = re.compile(r"there is no \S*?/(bce|focal|info|readyz|livez|usage|docs)/[a-z]+;")
_ROUTE: Final = re.compile(r"/(bce|focal|info|readyz|livez|usage)$")


def _unexplained(response: Response) -> str:
    """Explain an answer that is not the server's own."""
    location = response.headers.get("location")
    if 300 <= response.status < 400 and location:
        address = without_password(location.partition("?")[0])
        if address.startswith(("http://", "https://")) and _ROUTE.search(address):
            base = _ROUTE.sub("", address)
            return f"it leads on to {address}, which the client does not follow: set base_url to {base}"
        return (
            f"it leads on to {address}, which the client does not follow: is base_url the server's, or is "
            "there a login before it?"
        )
    if response.status == 413:
        return (
            "a proxy before the server refuses bodies of this size: raise its limit (client_max_body_size in "
            "nginx), or have the client send less at a time, with a lower request_bytes"
        )
    if response.status == 400 and any(text in response.body for text in _PLAIN_HTTP):
        return "that port speaks https: base_url begins with https:// there"
    if response.status == 407:
        return "the proxy on the way asks who you are: put name and password into HTTP_PROXY or HTTPS_PROXY"
    kind = response.media_type or "no content type"
    return f"the answer ({kind}) does not explain itself; is there a proxy before the server, or another one?"


def _items(errors: object) -> tuple[ErrorItem, ...]:
    if not isinstance(errors, list):
        return ()
    found = (item for item in errors if isinstance(item, dict))
    return tuple(ErrorItem(str(item.get("pointer", "")), str(item.get("detail", ""))) for item in found)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:  # the header's other form, a date, which proxies send
        return _seconds_until(text)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _seconds_until(date: str) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


def empty_mean(what: str, request_id: str | None = None) -> InvalidRequest:
    """Makes the error that a server gives for a mean over nothing, for a mean that is divided out here."""
    detail = f"{what} is over nothing; use reduction='sum', or leave it out"
    return InvalidRequest(422, "empty_mean", detail, request_id)


def moved(error: StatusError, rows: int, names: frozenset[str]) -> StatusError:
    """Makes the error for a part of an input say where in the whole the faults are.

    Args:
        error: What the server said of the part.
        rows: How many rows stand before the part.
        names: The tensors of which only a part was sent.
    """
    detail, items = error.detail, []
    for item in error.errors:
        head, name, *rest = item.pointer.split("/") if item.pointer.count("/") > 1 else ("", "", "")
        pointer = item.pointer
        if name in names and rest[0].isdecimal():
            pointer = "/".join((head, name, str(int(rest[0]) + rows), *rest[1:]))
            detail = re.sub(re.escape(item.pointer) + r"(?![\d/])", pointer, detail)
        items.append(ErrorItem(pointer, item.detail))
    return anew(error, detail, tuple(items))


def anew(error: StatusError, detail: str, items: tuple[ErrorItem, ...]) -> StatusError:
    """Make the same error with another detail and other places."""
    status, code, _, request_id, retryable, _, retry_after = error.args
    return type(error)(status, code, detail, request_id, retryable, items, retry_after)
