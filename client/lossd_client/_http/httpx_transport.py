"""Transports by httpx. No other file imports it."""

import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, Self, cast
from urllib.parse import quote
from urllib.request import getproxies

import httpx

from lossd_client._http.addresses import is_loopback, socket_path, without_password
from lossd_client._http.network import Backend
from lossd_client.errors import BadAnswer, ConnectionFailed, LossdError, TimedOut
from lossd_client.timeout import Timeout
from lossd_client.transport import Request, Response

_SOCKETS_HOST: Final = "http://localhost"
"""The address, for the Host header, of a server at a Unix socket."""

# One large bytes object is sent about ten times slower than the same bytes in pieces of this size: the
# library slices off the rest after every partial write.
CHUNK = 1 << 20

# The first match counts: subclasses stand before their bases. The last column: may the same request succeed
# if it is sent again?
_OWN: tuple[tuple[type[Exception], type[LossdError], str, bool], ...] = (
    (httpx.ConnectTimeout, TimedOut, "timed out while connecting", True),
    (httpx.TimeoutException, TimedOut, "timed out", False),
    (httpx.DecodingError, BadAnswer, "the answer cannot be decoded", False),
    (httpx.TooManyRedirects, BadAnswer, "too many redirects", False),
    (httpx.HTTPStatusError, BadAnswer, "unexpected status", False),
    (httpx.CookieConflict, BadAnswer, "conflicting cookies", False),
    (httpx.UnsupportedProtocol, ConnectionFailed, "not an HTTP address", False),
    (httpx.InvalidURL, ConnectionFailed, "not an HTTP address", False),
    (httpx.LocalProtocolError, ConnectionFailed, "HTTP went wrong", False),
    (httpx.ProtocolError, ConnectionFailed, "HTTP went wrong", True),
    (httpx.ConnectError, ConnectionFailed, "cannot connect", True),
    (httpx.HTTPError, ConnectionFailed, "the connection broke", True),
    (httpx.StreamError, ConnectionFailed, "the connection broke", False),
    (UnicodeError, ConnectionFailed, "not an HTTP address", False),
)
_FOREIGN: tuple[type[Exception], ...] = tuple(foreign for foreign, *_ in _OWN)
_CAUGHT: tuple[type[Exception], ...] = (RuntimeError, *_FOREIGN)  # httpx says so if its client is closed


def own_error(error: Exception, url: str) -> LossdError:
    """Return httpx's exception as one of the client's."""
    kind, what, retryable = next(
        ((own, what, again) for foreign, own, what, again in _OWN if isinstance(error, foreign)),
        (ConnectionFailed, "the connection broke", False),
    )
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    tls = _of_tls(error)
    own = kind(f"{url}: {what} ({reason}){_scheme(tls, url)}")
    own.retryable = retryable and tls is None and not _is_forbidden(error, url)
    if isinstance(own, ConnectionFailed):
        own.connected = (
            isinstance(error, httpx.NetworkError | httpx.ProtocolError) and what != "cannot connect"
        )
    return own


def _of_tls(error: BaseException | None) -> ssl.SSLError | None:
    # A certificate that is not trusted now will not be in a second.
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _is_forbidden(error: BaseException | None, url: str) -> bool:
    """Return whether this user may not connect to a Unix socket."""
    while error is not None and not isinstance(error, PermissionError):
        error = error.__cause__ or error.__context__
    return error is not None and socket_path(url) is not None


_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")


def _scheme(tls: ssl.SSLError | None, url: str) -> str:
    """Return a hint that the server does not speak TLS, or ""."""
    if getattr(tls, "reason", None) not in _NOT_TLS:
        return ""
    return (
        f": no TLS is spoken there; if the server speaks http, base_url is http://{url.partition('://')[2]}"
    )


class _Left(dict[str, float | None]):
    """The timeouts of httpx, which reads them before each step: none exceeds the time left."""

    def __init__(self, timeout: Timeout) -> None:
        super().__init__(connect=timeout.connect, read=timeout.read, write=timeout.write, pool=timeout.pool)
        self.raised: Exception | None = None  # by the iterator of the body
        self._ends = None if timeout.deadline is None else time.monotonic() + timeout.deadline

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - dict's signature
        own = super().get(name, default)
        if self._ends is None:
            return own
        left = max(self._ends - time.monotonic(), 0.001)  # 0 would mean not to wait at all
        return left if own is None else min(own, left)

    def check(self) -> None:
        """Raise TimedOut if no time is left, for steps that move and together take too long."""
        if self._ends is not None and time.monotonic() > self._ends:
            raise TimedOut("the deadline passed")


@contextmanager
def _own_errors(request: Request, left: _Left, http: httpx.Client | httpx.AsyncClient) -> Iterator[None]:
    try:
        yield
    except _CAUGHT as error:
        if error is left.raised:
            raise
        if isinstance(error, RuntimeError) and http.is_closed:
            raise RuntimeError("the client is closed") from error
        if isinstance(error, _FOREIGN):
            raise own_error(error, without_password(request.base_url)) from error
        raise


def _chunks(body: tuple[bytes | memoryview, ...], left: _Left) -> Iterator[bytes]:
    # Views, though the library's types say bytes: its writer takes them, and bytes() here would copy
    # every array once more (a third of the time that a large one takes to send).
    for piece in body:
        for start in range(0, len(piece), CHUNK):
            left.check()
            yield cast("bytes", piece[start : start + CHUNK])


def _content(request: Request, left: _Left) -> Iterator[bytes] | None:
    if request.stream is None:
        return _chunks(request.body, left) if request.body else None
    chunks = request.stream()
    if isinstance(chunks, AsyncIterator):
        raise TypeError("an asynchronous iterable needs the AsyncLossClient")
    return _checked(chunks, left)


@contextmanager
def _callers_errors(left: _Left) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever the caller's iterable raises stays as it is
        left.raised = error
        raise


def _checked(chunks: Iterator[bytes], left: _Left) -> Iterator[bytes]:
    with _callers_errors(left):
        for chunk in chunks:
            left.check()
            yield chunk


async def _async_content(request: Request, left: _Left) -> AsyncIterator[bytes]:
    chunks = _chunks(request.body, left) if request.stream is None else request.stream()
    if isinstance(chunks, AsyncIterator):
        with _callers_errors(left):
            async for chunk in chunks:
                left.check()
                yield chunk
    else:
        for chunk in _checked(chunks, left):
            yield chunk


def _arguments(request: Request, left: _Left, unix_socket: str | None) -> dict[str, Any]:
    path = socket_path(request.base_url)
    if path != unix_socket:  # a client of its own would ask another server
        address = without_password(request.base_url)
        raise ConnectionFailed(
            f"the client's base_url is {address}, and its transport connects to "
            f"{'hosts' if unix_socket is None else unix_socket}: {_remedy(path, unix_socket)}"
        )
    headers = dict(request.headers)
    if request.body:
        headers["Content-Length"] = str(request.length)
    return {
        "method": request.method,
        "url": request.url if path is None else _SOCKETS_HOST + request.path,
        "params": request.query or None,
        "headers": headers,
        "extensions": {"timeout": left},
    }


def _remedy(path: str | None, unix_socket: str | None) -> str:
    """Return how a client and a transport of its own get one address."""
    if unix_socket is None:
        return f"make it for this socket, HttpxTransport(unix_socket={path!r})"
    other = "leave unix_socket out" if path is None else f"make the transport with unix_socket={path!r}"
    return f"give the client base_url={'unix://' + quote(unix_socket)!r}, or {other}"


def _response(answer: httpx.Response, chunks: list[bytes]) -> Response:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Response(answer.status_code, headers, chunks[0] if len(chunks) == 1 else b"".join(chunks))


def _limits(max_connections: int) -> httpx.Limits:
    return httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)


def _options(max_connections: int, use_environment: bool) -> dict[str, Any]:
    # SSL_CERT_FILE is for this machine's servers too, before which no proxy stands.
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    try:
        verify = _trusted(file, folder)
    except OSError as error:
        raise ConnectionFailed(f"no certificates can be read from {file or folder!r} ({error})") from error
    limits = _limits(max_connections)
    return {"limits": limits, "trust_env": use_environment, "timeout": None, "verify": verify}


@cache
def _trusted(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Return the trusted certificates, which are slow to read."""
    return httpx.create_ssl_context()


@contextmanager
def _proxy_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, ImportError, httpx.InvalidURL) as error:  # no such scheme; no socksio
        proxies = getproxies().items()
        named = ", ".join(f"{name} {without_password(url)!r}" for name, url in proxies if name != "no")
        raise ConnectionFailed(
            f"the environment names a proxy that cannot be used: {named} ({error})"
        ) from error


def _opened(max_connections: int, use_environment: bool, unix_socket: str | None) -> httpx.Client:
    if unix_socket is not None:  # neither proxies nor certificates are of use there
        transport = httpx.HTTPTransport(uds=unix_socket, limits=_limits(max_connections), verify=False)
        http = httpx.Client(transport=transport, trust_env=False, timeout=httpx.Timeout(None))
    else:
        with _proxy_errors():
            http = httpx.Client(**_options(max_connections, use_environment))
    # The library has no public place for it. Without it, threads that are called off wait for answers.
    for each in (http._transport, *http._mounts.values()):
        pool: Any = getattr(each, "_pool", None)
        if hasattr(pool, "_network_backend"):
            pool._network_backend = Backend(pool._network_backend)
    return http


def _opened_async(max_connections: int, use_environment: bool, unix_socket: str | None) -> httpx.AsyncClient:
    if unix_socket is not None:
        transport = httpx.AsyncHTTPTransport(uds=unix_socket, limits=_limits(max_connections), verify=False)
        return httpx.AsyncClient(transport=transport, trust_env=False, timeout=httpx.Timeout(None))
    with _proxy_errors():
        return httpx.AsyncClient(**_options(max_connections, use_environment))


def _towards(base_url: str, max_connections: int) -> dict[str, Any]:
    return {
        "max_connections": max_connections,
        "use_environment": not is_loopback(base_url),
        "unix_socket": socket_path(base_url),
    }


class HttpxTransport:
    """A transport with a pool of connections. Threads may share one.

    Args:
        max_connections: How many connections there may be at once.
        use_environment: Obey HTTP_PROXY and its like, and ~/.netrc; SSL_CERT_FILE is obeyed in any case.
        http: An `httpx.Client` of your own to send by, closed with this; the other arguments then go
            unheeded, but `unix_socket`. It must not follow redirects. What it has in flight when a call is
            broken off ends in its own time.
        unix_socket: The path of the Unix socket, if `base_url` is unix://.
    """

    def __init__(
        self,
        *,
        max_connections: int = 32,
        use_environment: bool = True,
        http: httpx.Client | None = None,
        unix_socket: str | None = None,
    ) -> None:
        self._http = http or _opened(max_connections, use_environment, unix_socket)
        self._unix_socket = unix_socket

    @classmethod
    def to(cls, base_url: str, max_connections: int) -> Self:
        """Return a transport to a server. Proxies are not used for those of this machine."""
        return cls(**_towards(base_url, max_connections))

    def send(self, request: Request, timeout: Timeout) -> Response:
        """Send one request and read its whole answer, whatever its status."""
        left = _Left(timeout)
        arguments = _arguments(request, left, self._unix_socket)
        chunks = []
        with (
            _own_errors(request, left, self._http),
            self._http.stream(**arguments, content=_content(request, left)) as answer,
        ):
            for chunk in answer.iter_bytes():
                left.check()
                chunks.append(chunk)
        return _response(answer, chunks)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncHttpxTransport:
    """A transport with a pool of connections, for one event loop.

    Args:
        max_connections: As in `HttpxTransport`.
        use_environment: As in `HttpxTransport`.
        http: As in `HttpxTransport`, an `httpx.AsyncClient`.
        unix_socket: As in `HttpxTransport`.
    """

    def __init__(
        self,
        *,
        max_connections: int = 32,
        use_environment: bool = True,
        http: httpx.AsyncClient | None = None,
        unix_socket: str | None = None,
    ) -> None:
        self._http = http or _opened_async(max_connections, use_environment, unix_socket)
        self._unix_socket = unix_socket

    @classmethod
    def to(cls, base_url: str, max_connections: int) -> Self:
        """Return a transport to a server, as `HttpxTransport.to`."""
        return cls(**_towards(base_url, max_connections))

    async def send(self, request: Request, timeout: Timeout) -> Response:  # noqa: ASYNC109 - as the other
        """Send one request and read its whole answer, whatever its status."""
        left = _Left(timeout)
        arguments = _arguments(request, left, self._unix_socket)
        if request.body or request.stream:
            arguments["content"] = _async_content(request, left)
        chunks = []
        with _own_errors(request, left, self._http):
            async with self._http.stream(**arguments) as answer:
                async for chunk in answer.aiter_bytes():
                    left.check()
                    chunks.append(chunk)
        return _response(answer, chunks)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
