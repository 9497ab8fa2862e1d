"""The way to the endpoints that are asked most, past the framework.

Middleware, routing and exit stacks take about a tenth of a small request's time in the front end
(docs/performance.md), and do nothing for an endpoint that is plain ASGI and answers all its faults itself.
Whatever is not one of these paths, or not a POST, goes through the framework, which has the same routes. A
HEAD goes there as a GET: the connection leaves the body out.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send


class Shortcut:
    """Hands requests to endpoints by their exact path.

    Args:
        app: Where all other requests go.
        endpoints: What answers a POST to each path.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        app = self._app
        if scope["type"] == "http" and scope["method"] == "POST":
            app = self._endpoints.get(scope["path"], app)
        elif scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await app(scope, receive, send)
