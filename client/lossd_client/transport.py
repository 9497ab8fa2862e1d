"""The one file that knows the HTTP library: a request in, a response or an error of our own out."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, cast
from urllib.parse import urlsplit

import httpx

from lossd_client.errors import BadAnswer, ConnectionFailed, LossdError, TimedOut
from lossd_client.message import Request, Response

# One large bytes object is sent about ten times slower than the same bytes in pieces of this size: the
# library slices off the rest after every partial write.
CHUNK = 1 << 20

# The first match counts: subclasses stand before their bases.
_OWN: tuple[tuple[type[Exception], type[LossdError], str], ...] = (
    (httpx.TimeoutException, TimedOut, "timed out"),
    (httpx.DecodingError, BadAnswer, "the answer cannot be decoded"),
    (httpx.TooManyRedirects, BadAnswer, "too many redirects"),
    (httpx.HTTPStatusError, BadAnswer, "unexpected status"),
    (httpx.CookieConflict, BadAnswer, "conflicting cookies"),
    (httpx.UnsupportedProtocol, ConnectionFailed, "not an HTTP address"),
    (httpx.InvalidURL, ConnectionFailed, "not an HTTP address"),
    (httpx.ProtocolError, ConnectionFailed, "HTTP went wrong"),
    (httpx.ConnectError, ConnectionFailed, "cannot connect"),
    (httpx.HTTPError, ConnectionFailed, "the connection broke"),
    (httpx.StreamError, ConnectionFailed, "the connection broke"),
)


def own_error(error: Exception, url: str) -> LossdError:
    """Turns the HTTP library's exception into ours; any other becomes ConnectionFailed."""
    kind, what = next(
        ((own, what) for foreign, own, what in _OWN if isinstance(error, foreign)),
        (ConnectionFailed, "the connection broke"),
    )
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return kind(f"{url}: {what} ({reason})")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _own_errors(url: str) -> Iterator[None]:
    try:
        yield
    except tuple(foreign for foreign, _, _ in _OWN) as error:
        raise own_error(error, url) from error


def _chunks(body: tuple[bytes | memoryview, ...]) -> Iterator[bytes]:
    # Views, though the library's types say bytes: its writer takes them, and bytes() here would copy
    # every array once more (a third of the time that a large one takes to send).
    for piece in body:
        for start in range(0, len(piece), CHUNK):
            yield cast("bytes", piece[start : start + CHUNK])


async def _async_chunks(body: tuple[bytes | memoryview, ...]) -> AsyncIterator[bytes]:
    for chunk in _chunks(body):
        yield chunk


class _Common:
    """What the two transports share: everything but the sending itself."""

    def __init__(self, base_url: str, headers: Mapping[str, str], timeout: float | None) -> None:
        self._base_url = base_url
        # A proxy named in the environment is for what lies beyond this machine.
        place = urlsplit(base_url)
        proxies = not _is_loopback(place.hostname or "")
        self._options: dict[str, Any] = {"headers": dict(headers), "timeout": timeout, "trust_env": proxies}
        if place.scheme == "https" and not proxies:
            self._options["verify"] = httpx.create_ssl_context()  # SSL_CERT_FILE is for here, too

    def _arguments(self, request: Request) -> dict[str, Any]:
        headers = dict(request.headers)
        if request.body:
            headers["Content-Length"] = str(request.length)
        return {
            "method": request.method,
            "url": self._base_url + request.path,
            "params": request.query or None,
            "headers": headers,
        }

    @staticmethod
    def _response(answer: httpx.Response) -> Response:
        return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content)


class Transport(_Common):
    """Sends requests to one server over a pool of connections; safe to share between threads."""

    def __init__(self, base_url: str, headers: Mapping[str, str], timeout: float | None) -> None:
        super().__init__(base_url, headers, timeout)
        self._http = httpx.Client(**self._options)

    def send(self, request: Request) -> Response:
        """Sends one request and reads its answer whole, whatever its status."""
        content = _chunks(request.body) if request.body else None
        with _own_errors(self._base_url):
            return self._response(self._http.request(**self._arguments(request), content=content))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


class AsyncTransport(_Common):
    """Sends requests to one server over a pool of connections, within one event loop."""

    def __init__(self, base_url: str, headers: Mapping[str, str], timeout: float | None) -> None:
        super().__init__(base_url, headers, timeout)
        self._http = httpx.AsyncClient(**self._options)

    async def send(self, request: Request) -> Response:
        """Sends one request and reads its answer whole, whatever its status."""
        content = _async_chunks(request.body) if request.body else None
        with _own_errors(self._base_url):
            return self._response(await self._http.request(**self._arguments(request), content=content))

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()
