"""Error answers as the client's exceptions."""

import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from lossd_client._calls.parameters import LOSSES
from lossd_client._http.addresses import without_password
from lossd_client._http.media_types import PROBLEM
from lossd_client.errors import (
    DeadlineExceeded,
    ErrorItem,
    InvalidRequest,
    NotFound,
    ServerError,
    StatusError,
    Throttled,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from lossd_client.transport import Response

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
    """Return the error of a response whose status is not 200."""
    problem = _problem(response)
    code, retryable = problem.get("code"), problem.get("retryable")
    detail = problem.get("detail") or problem.get("title") or _unexplained(response)
    below = _BELOW_ROUTE.match(str(detail)) if code == "not_found" else None
    if below:
        detail = f"{detail}; base_url ends before /{below[1]}"
    items = _items(problem.get("errors"))
    if code == "invalid_parameter" and any(item.detail.startswith(_UNKNOWN) for item in items):
        detail = f"{str(detail).partition(';')[0]}: {_TOO_OLD}"
    request_id = problem.get("request_id") or response.headers.get("x-request-id")
    return _kind(response.status)(
        response.status,
        code if isinstance(code, str) else None,
        str(detail),
        None if request_id is None else str(request_id),
        retryable if isinstance(retryable, bool) else _found_no_server(response),
        items,
        _seconds(response.headers.get("retry-after")),
        response.headers,
    )


def _found_no_server(response: Response) -> bool:
    """Return whether a proxy answers, having found no server. Ray Serve's says 500 instead of 502."""
    if response.status == 502:
        return True
    plain = response.media_type == "text/plain" and response.body == b"Internal Server Error"
    return response.status == 500 and plain and "x-request-id" not in response.headers


def _problem(response: Response) -> dict[str, Any]:
    if response.media_type != PROBLEM:
        return {}
    try:
        problem = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


# The answers of servers to plain HTTP at their TLS port.
_PLAIN_HTTP: Final = (
    b"plain HTTP request was sent to HTTPS port",  # nginx
    b"speaking plain HTTP to an SSL-enabled server port",  # Apache
    b"sent an HTTP request to an HTTPS server",  # Go: Caddy, Traefik
)
_UNKNOWN: Final = "unknown parameter"  # in the server's words; names are checked before they are sent
_TOO_OLD: Final = (
    "the server is too old for it; upgrade it to this client's version of lossd (`lossd doctor` shows both)"
)
_ROUTES: Final = "|".join([*LOSSES, "info", "readyz", "livez", "usage"])
_BELOW_ROUTE: Final = re.compile(rf"there is no \S*?/({_ROUTES}|docs)/[a-z_]+;")
_ROUTE: Final = re.compile(rf"/({_ROUTES})$")


def _unexplained(response: Response) -> str:
    """Return the likely reason of an answer that is not lossd's."""
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
    except ValueError:  # a date, which proxies send
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
    """Return the server's error for a mean over nothing, for means that the client divides."""
    detail = f"{what} is over nothing; use reduction='sum', or leave it out"
    return InvalidRequest(422, "empty_mean", detail, request_id)


def relocated(
    error: StatusError, names: Iterable[str], place_of: Callable[[str, int], tuple[int, str]]
) -> StatusError:
    """Return the error of a request with some rows of an input, naming the rows of the whole input.

    Args:
        error: The server's error.
        names: The tensors of which only some rows were sent.
        place_of: Takes a tensor's name and a row of it in the request, and returns the row in the whole
            input and text to put after the pointer.
    """

    def moved(match: re.Match[str]) -> str:
        row, after = place_of(match["name"], int(match["row"]))
        return f"/{match['name']}/{row}{match['rest']}{after}"

    any_name = "|".join(map(re.escape, sorted(names)))
    pointer = re.compile(rf"/(?P<name>{any_name})/(?P<row>\d+)(?P<rest>(?:/\d+)*)")
    items = tuple(ErrorItem(pointer.sub(moved, item.pointer), item.detail) for item in error.errors)
    return with_detail(error, pointer.sub(moved, error.detail), items)


def with_detail(error: StatusError, detail: str, items: tuple[ErrorItem, ...]) -> StatusError:
    """Return an error with another detail and other items."""
    status, code, _, request_id, retryable, _, *others = error.args
    return type(error)(status, code, detail, request_id, retryable, items, *others)
