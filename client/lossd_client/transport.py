"""Requests, responses, and the transports that carry them: where another HTTP library fits in.

A transport turns one `Request` into one `Response`. It knows nothing of losses, keys or retries; the
client knows nothing of what carries its requests.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lossd_client.timeout import Timeout


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, as a transport gets it.

    Attributes:
        method: "GET" or "POST".
        path: The path, from "/".
        query: Names and values, in order, neither of them escaped yet.
        headers: All that are to be sent but Host, Content-Length and Transfer-Encoding.
        body: Pieces to be sent one after the other, without being joined first. The same request may be
            sent again.
        stream: Instead of `body`, returns a body of unknown length, from its start at each call; for an
            asynchronous transport perhaps an asynchronous iterator.
        base_url: The address before the path.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: tuple[bytes | memoryview, ...] = ()
    stream: Callable[[], Iterator[bytes] | AsyncIterator[bytes]] | None = None
    base_url: str = ""

    @property
    def url(self) -> str:
        """The whole address but for the query."""
        return self.base_url + self.path

    @property
    def length(self) -> int:
        """The size of `body` in bytes."""
        return sum(len(piece) for piece in self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response, read whole. The names in `headers` are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case; "" where there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Transport(Protocol):
    """A transport of a `LossClient`. Several threads use it at a time."""

    def send(self, request: Request, timeout: Timeout) -> Response:
        """Send one request and read its whole answer, whatever its status; follows no redirects.

        Args:
            request: The request.
            timeout: The limits of the steps; `deadline` is the time left for all of them.

        Raises:
            ConnectionFailed: No whole answer came; `retryable` says whether another try may help.
            TimedOut: A timeout passed.
            BadAnswer: The answer is not valid HTTP.
        """
        ...

    def close(self) -> None:
        """Close the connections. Called once, and no `send` after it."""
        ...


class AsyncTransport(Protocol):
    """A transport of an `AsyncLossClient`, within one event loop."""

    async def send(self, request: Request, timeout: Timeout) -> Response:  # noqa: ASYNC109 - as the other
        """Send one request, as `Transport.send` does."""
        ...

    async def aclose(self) -> None:
        """Close the connections. Called once, and no `send` after it."""
        ...
