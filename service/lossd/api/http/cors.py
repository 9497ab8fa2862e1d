"""Cross-origin requests: browsers let pages of the allowed origins call the server and read its answers.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lossd.api.http.request import header

Headers = list[tuple[bytes, bytes]]

_EXPOSED: Final = (
    "Lossd-Sum, Lossd-Count, Lossd-Weight-Sum, Lossd-Positives, Lossd-Sum-Terms, Lossd-Weight-Sum-Terms, "
    "Lossd-Positives-Terms, Lossd-Params, Lossd-Kernel, Lossd-Version, Lossd-Notes, Lossd-Code, "
    "X-Request-Id, Server-Timing, RateLimit, RateLimit-Policy, Retry-After, Inference-Header-Content-Length"
)
_PREFLIGHT: Final = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"Authorization, X-API-Key, Content-Type, Content-Encoding, X-Timeout-Ms, X-Request-Id, "
        b"Inference-Header-Content-Length",
    ),
    (b"access-control-max-age", b"7200"),
]


class Origins:
    """The origins whose pages may call the server.

    Args:
        origins: The origins as browsers write them, or ``*`` for all.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, origin: bytes | None) -> Headers:
        """Return the headers of an answer."""
        exposed = (b"access-control-expose-headers", _EXPOSED.encode())
        if b"*" in self._origins:
            return [(b"access-control-allow-origin", b"*"), exposed]
        if origin is None or origin not in self._origins:
            return [(b"vary", b"Origin")]
        return [(b"access-control-allow-origin", origin), exposed, (b"vary", b"Origin")]

    def allows(self, origin: bytes) -> bool:
        """Return whether pages of an origin may call."""
        return origin in self._origins or b"*" in self._origins


class Cors:
    """Answers preflights, and adds the headers of `Origins` to all other answers."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, as ASGI has it."""
        origin = header(scope, b"origin")
        added = self._origins.headers(origin)
        method = header(scope, b"access-control-request-method")
        is_preflight = scope["method"] == "OPTIONS" and method is not None
        if is_preflight and origin is not None and self._origins.allows(origin):
            await send({"type": "http.response.start", "status": 204, "headers": [*added, *_PREFLIGHT]})
            await send({"type": "http.response.body"})
            return

        async def send_with_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self._app(scope, receive, send_with_origin)
