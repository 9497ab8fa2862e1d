"""The application, put together in one place."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from lossd import __version__
from lossd.api.http.cors import Cors, Origins
from lossd.api.http.request_context import RequestContext, client_host, request_id
from lossd.api.problems import BY_STATUS, problem
from lossd.api.request_log import RequestLine, RequestLog
from lossd.api.routes.asking import TEAM
from lossd.api.routes.inference import infer_endpoints, inference_problem, is_inference, model_routes
from lossd.api.routes.losses import LossEndpoint
from lossd.api.routes.openapi import describe_api
from lossd.api.routes.status import status_routes
from lossd.api.routes.usage import usage_routes
from lossd.api.services import Service
from lossd.api.shortcut import Shortcut
from lossd.core.catalog import LOSSES
from lossd.types import ErrorCode, RequestError
from lossd.wire import MODEL_VERSION

_ASSETS = "docs/assets"


def create_app(service: Service) -> ASGIApp:
    """The ASGI application over a service."""
    app = FastAPI(
        title="lossd",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False},
    )
    endpoints: dict[str, ASGIApp] = {f"/{loss.name}": LossEndpoint(loss, service) for loss in LOSSES.values()}
    endpoints |= infer_endpoints(service)
    for path, endpoint in endpoints.items():
        app.router.routes.append(Route(path, endpoint, methods=["POST"]))
    app.include_router(model_routes(service))
    app.include_router(status_routes(service))
    app.include_router(usage_routes(service.settings.usage_file))
    _add_docs(app)
    app.state.gate = service.gate
    app.state.requests = service.requests
    app.add_exception_handler(HTTPException, _framework_problem)
    app.add_exception_handler(RequestError, _fault_problem)
    app.add_exception_handler(Exception, _internal_problem)
    app.openapi = lambda: describe_api(app)  # type: ignore[method-assign] # FastAPI's own way to extend it
    routes: ASGIApp = Shortcut(app, endpoints)
    if service.settings.cors_origins:
        routes = Cors(routes, Origins(service.settings.cors_origins))
    return RequestContext(routes)


def _add_docs(app: FastAPI) -> None:
    """``/docs``, from files on this machine: it works with no internet.

    Everything is found relative to the page, wherever a proxy has it.
    """
    files = Path(fastapi_offline.__file__).parent / "static"
    app.mount(f"/{_ASSETS}", StaticFiles(directory=files), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="lossd",
            swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{_ASSETS}/favicon.png",
        )


async def _framework_problem(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: unknown routes, wrong methods."""
    assert isinstance(error, HTTPException)
    code = BY_STATUS.get(error.status_code, ErrorCode.BAD_REQUEST)
    headers = dict(error.headers or {})
    if (request.method, request.scope["path"]) == ("OPTIONS", "*"):  # those of the server as a whole
        return Response(status_code=204, headers={"Allow": "GET, HEAD, POST, OPTIONS"})
    if code == ErrorCode.METHOD_NOT_ALLOWED:
        methods = [method.strip() for method in headers.get("Allow", "GET").split(",")]
        methods += ["HEAD"] * ("GET" in methods and "HEAD" not in methods)
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


async def _fault_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _respond(request, error)


async def _internal_problem(request: Request, _error: Exception) -> Response:
    detail = "the server failed; report this with the request id, under which its log has more"
    return _respond(request, RequestError(ErrorCode.INTERNAL_ERROR, detail))


def _respond(request: Request, fault: RequestError) -> Response:
    write = inference_problem if is_inference(request.scope) else problem
    answer = write(fault, request_id(request.scope))
    requests: RequestLog = request.app.state.requests
    if requests.wants(fault.code):
        line = RequestLine(
            request_id(request.scope),
            request.scope.get(TEAM, ""),
            client_host(request.scope),
            fault.code,
            answer.status,
        )
        requests.write(line)
    response = Response(answer.body, answer.status)
    for name, value in answer.headers:
        response.headers[name.decode()] = value.decode()
    return response
