"""The ASGI application: every route of a front end, put together in one place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from lossd import __version__
from lossd.api.accounting import FAILED, NO_TIMING, RequestLog, choose_id
from lossd.api.auth import TEAM
from lossd.api.http.cors import Cors, Origins
from lossd.api.http.request import REQUEST_ID, client_host, header, request_id
from lossd.api.problems import BY_STATUS, problem
from lossd.api.routes.documentation import Document, documents
from lossd.api.routes.inference import infer_endpoints, inference_problem, is_inference, model_routes
from lossd.api.routes.losses import LossEndpoint
from lossd.api.routes.openapi import describe_api
from lossd.api.routes.saved_report import saved_report_routes
from lossd.api.routes.status import status_routes
from lossd.api.routes.ui import Redirect, lacking_routes, page_files
from lossd.api.routes.usage import usage_routes
from lossd.api.routes.view import ViewEndpoint
from lossd.api.services import Service
from lossd.core.catalog import LOSSES
from lossd.settings import Settings
from lossd.types import ErrorCode, RequestError
from lossd.wire import MODEL_VERSION

logger = logging.getLogger(__name__)


class Router:
    """The outermost layer: gives each request an id, and its path an endpoint.

    A loss and a document have their requests directly. The framework has the same routes, but its
    middleware, routing and exit stacks take about a tenth of a small request's time
    (docs/explanations/performance.md), and these endpoints do not need them. A HEAD is served as a GET, whose
    body the connection leaves out.

    Args:
        app: The framework's application, for all other requests.
        endpoints: Endpoints that need no framework, by method and exact path.
        origins: The origins that may call the server, if any.
    """

    def __init__(
        self, app: ASGIApp, endpoints: Mapping[tuple[str, str], ASGIApp], origins: Origins | None
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._cors = None if origins is None else Cors(self._route, origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        chosen = choose_id(header(scope, b"x-request-id"))
        scope[REQUEST_ID] = chosen.decode("ascii")
        bind_contextvars(request_id=scope[REQUEST_ID], team="")  # for the log

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                headers.append((b"x-request-id", chosen))
                if not any(name == b"server-timing" for name, _ in headers):
                    headers.append((b"server-timing", NO_TIMING))
            await send(message)

        await (self._cors or self._route)(scope, receive, send_with_id)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        app = self._endpoints.get((scope["method"], scope["path"]), self._app)
        await app(scope, receive, send)


def create_app(service: Service) -> ASGIApp:
    """Return the application of a front end."""
    app = _described(service)
    scored: dict[str, ASGIApp] = {f"/{loss.name}": LossEndpoint(loss, service) for loss in LOSSES.values()}
    scored |= infer_endpoints(service)
    endpoints = {("POST", path): endpoint for path, endpoint in scored.items()}
    endpoints["POST", "/ui/view"] = ViewEndpoint(service)
    endpoints |= {("GET", path): file for path, file in {**documents(app), **_page_files(app)}.items()}
    for (method, path), endpoint in endpoints.items():
        app.router.routes.append(Route(path, endpoint, methods=[method]))
    app.state.gate = service.gate
    app.state.log = service.accounting.log
    app.add_exception_handler(HTTPException, _framework_problem)
    app.add_exception_handler(RequestError, _error_problem)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _internal_problem)
    allowed = service.settings.cors_origins
    return Router(app, endpoints, Origins(allowed) if allowed else None)


def _page_files(app: FastAPI) -> dict[str, Document | Redirect]:
    """Return the page's files. Without them the server works, and says so where the page would be."""
    try:
        return page_files()
    except OSError as error:
        logger.error("the page /ui is left out, since its files cannot be read: %s", error)
        app.include_router(lacking_routes())
        return {}


def openapi_document(settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI document of a server with these settings, which need not run."""
    asked_only_when_called = cast(Service, SimpleNamespace(settings=settings))
    return describe_api(_described(asked_only_when_called))


def _described(service: Service) -> FastAPI:
    """Return the framework's application with the routes that it describes by itself."""
    app = FastAPI(
        title="lossd",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=attrgetter("name"),
        telemetry={"tracing": False, "metrics": False},
    )
    app.include_router(model_routes(service))
    app.include_router(status_routes(service))
    app.include_router(saved_report_routes(service.settings.ui_report, service.settings.max_json_bytes))
    app.include_router(usage_routes(service))
    return app


async def _framework_problem(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses by itself: unknown routes, wrong methods."""
    assert isinstance(error, HTTPException)
    code = BY_STATUS.get(error.status_code, ErrorCode.BAD_REQUEST)
    headers = dict(error.headers or {})
    if (request.method, request.scope["path"]) == ("OPTIONS", "*"):  # the options of the whole server
        return Response(status_code=204, headers={"Allow": "GET, HEAD, POST, OPTIONS"})
    if code == ErrorCode.METHOD_NOT_ALLOWED:
        found = {method.strip() for method in headers.get("Allow", "GET").split(",")}
        methods = sorted({*found, "HEAD"} if "GET" in found else found)
        headers["Allow"] = ", ".join(methods)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": ", ".join([*methods, "OPTIONS"])})
    there_are = "the losses are " + ", ".join(f"POST /{name}" for name in LOSSES)
    if is_inference(request.scope):
        there_are = f"the models are {', '.join(LOSSES)}, of version {MODEL_VERSION} alone"
    details = {
        ErrorCode.NOT_FOUND: f"there is no {request.url.path[:100]}; {there_are}, the rest is in /docs",
        ErrorCode.METHOD_NOT_ALLOWED: f"{request.url.path[:100]} does not take {request.method[:20]}; "
        f"use {headers.get('Allow')}",
        ErrorCode.BAD_REQUEST: str(error.detail),
    }
    response = _respond(request, RequestError(code, details[code]))
    response.headers.update(headers)
    return response


async def _error_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _respond(request, error)


async def _gone(_request: Request, _error: Exception) -> Response:
    """Answer nothing: the caller has hung up, or was told that its body is broken."""
    return Response(status_code=400)


async def _internal_problem(request: Request, _error: Exception) -> Response:
    return _respond(request, FAILED)


def _respond(request: Request, error: RequestError) -> Response:
    write = inference_problem if is_inference(request.scope) else problem
    answer = write(error, request_id(request.scope))
    log: RequestLog = request.app.state.log
    team, client = request.scope.get(TEAM, ""), client_host(request.scope)
    log.write_refusal(error, answer.status, request_id(request.scope), client, team)
    response = Response(answer.body, answer.status)
    for name, value in answer.headers:
        response.headers[name.decode()] = value.decode()
    return response
