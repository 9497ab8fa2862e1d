"""lossd on Ray Serve: `serve run lossd.ray_serve:app`, `serve build lossd.ray_serve:app`.

Each replica embeds the server's own engine and answers as ``lossd serve`` does. Serve places replicas, adds
and removes them by the number of requests under way, replaces those that are not ready, and drains those that
it stops.

Serve must have its HAProxy ingress on. HAProxy sends each request straight to a replica, whose own HTTP
server is uvicorn. `middlewares` wraps the application in it.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any, Final

from lossd.extras import needs

with needs("lossd.ray_serve", "server,ray"):
    import ray
    from click import ClickException
    from pydantic import (
        Field,
        NonNegativeFloat,
        NonNegativeInt,
        PositiveFloat,
        PositiveInt,
        ValidationError,
        model_validator,
    )
    from pydantic_settings import BaseSettings, SettingsConfigDict
    from ray import serve
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import LoggingConfig
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from lossd.api.embedded import EmbeddedApp, StartError, embedded_settings
    from lossd.logs import make_handler
    from lossd.settings import Settings
    from lossd.start_checks import SECRET, check_variables, explain_all

logger = logging.getLogger(__name__)

_HAPROXY: Final = "RAY_SERVE_ENABLE_HA_PROXY"
_OWN_THREAD: Final = "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD"
_PREFIX: Final = "LOSSD_RAY_"
_SLOW_PROXY: Final = f"{_PREFIX}SLOW_PROXY"
_OF_NODE: Final = f"{_PREFIX}OF_NODE"
"""The variable that tells a replica which settings its node must have."""
_VARIABLES: Final = {
    # The application runs in the loop of uvicorn, which then hands it the body as it arrives.
    _OWN_THREAD: "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}:middlewares",
}
"""Variables of a replica's process, which Serve reads as it starts."""
_MOST_ONGOING: Final = 4096
"""Requests of a replica at a time, as many as HAProxy has connections: the engine decides who waits."""
_SURGE_PERCENT: Final = 100
"""A new version's replicas are there before the old ones' stop."""
_HEALTH_SECONDS: Final = 5.0
_FROM_INGRESS: Final = "lossd.ray_serve.ingress"
"""The scope's key of a request that came through `Ingress`."""
_REQUEST_ID: Final = b"x-request-id"
_DISCONNECT_DISABLED: Final = b"x-request-disconnect-disabled"


class RayOptions(BaseSettings):
    """How Serve runs the replicas: environment variables ``LOSSD_RAY_…`` of `serve run` and `serve build`.

    Attributes:
        cores: Cores of a replica, on whose threads it computes.
        gpus: GPUs of a replica, in all of which it computes.
        min_replicas: Replicas there always are.
        max_replicas: Replicas there may be.
        target_requests: Requests under way per replica that autoscaling aims for.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, allow_inf_nan=False)

    cores: PositiveFloat = 1.0
    gpus: NonNegativeFloat = 0.0
    min_replicas: NonNegativeInt = 1
    max_replicas: PositiveInt = Field(default_factory=lambda given: max(1, given["min_replicas"]))
    target_requests: PositiveFloat = 8.0

    @model_validator(mode="after")
    def _check_together(self) -> RayOptions:
        if self.max_replicas < self.min_replicas:
            msg = (
                f"{_PREFIX}MIN_REPLICAS is {self.min_replicas}, more than {_PREFIX}MAX_REPLICAS, "
                f"{self.max_replicas}; lower one or raise the other"
            )
            raise ValueError(msg)
        return self


def read_options() -> RayOptions:
    """Return the options, from the environment, whose names of settings are checked, too.

    Raises:
        StartError: An option is wrong, or a name is misspelt.
    """
    names = [f"{_PREFIX}{name.upper()}" for name in RayOptions.model_fields]
    variables = check_variables(os.environ, of_ray=[*names, _SLOW_PROXY])
    try:
        options = RayOptions()
    except ValidationError as error:
        raise StartError("\n".join(explain_all(error, prefix=_PREFIX) + variables.errors)) from None
    if variables.errors:
        raise StartError("\n".join(variables.errors))
    for warning in variables.warnings:
        logger.warning("%s", warning)
    return options


class Ingress:
    """The outermost layer of a replica's HTTP server.

    Serve would read any body as fast as it arrives, however long it is. This layer adds
    the header that turns that off. So the application reads, no more than it has memory for, and notices a
    caller who hangs up. Serve also adds a second X-Request-Id, which is left out.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[_FROM_INGRESS] = True
        headers = [header for header in scope["headers"] if header[0] != _DISCONNECT_DISABLED]
        if not _has_own_thread():
            headers.append((_DISCONNECT_DISABLED, b"?1"))
        scope["headers"] = headers

        async def send_one_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _without_repeated_id(message.get("headers", ()))
            await send(message)

        await self._app(scope, receive, send_one_id)


def middlewares() -> list[Middleware]:
    """Return the layers of a replica's HTTP server, for Serve."""
    return [Middleware(Ingress)]


def _has_own_thread() -> bool:
    """Return whether the application runs in another loop than the HTTP server."""
    return os.environ.get(_OWN_THREAD, "1") != "0"


def _without_repeated_id(headers: Any) -> list[tuple[bytes, bytes]]:  # noqa: ANN401 -- ASGI's
    """Return headers with the first X-Request-Id alone, which is the application's."""
    kept, found = [], False
    for name, value in headers:
        if name.lower() == _REQUEST_ID:
            if found:
                continue
            found = True
        kept.append((name, value))
    return kept


class _ProxiedApp:
    """The application, also for requests through Serve's Python proxy, which adds X-Request-Id itself.

    Such requests come while HAProxy knows no replica.
    """

    def __init__(self, app: EmbeddedApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan, as ASGI has it."""
        if scope["type"] != "http" or _FROM_INGRESS in scope:
            await self._app(scope, receive, send)
            return

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message.get("headers", ()) if pair[0] != _REQUEST_ID]
            await send(message)

        await self._app(scope, receive, send_without_id)


class Replica:
    """One replica: the engine, on the cores and GPUs that Ray assigned.

    Raises:
        StartError: The ingress is slow, the server would be open to all, or a setting is wrong or missing.
    """

    def __init__(self) -> None:
        check_ingress(os.environ)
        check_node(os.environ)
        settings = replica_settings(ray.get_runtime_context().get_assigned_resources())
        package = logging.getLogger("lossd")
        package.setLevel(settings.log_level.upper())
        package.addHandler(make_handler("replica", None, settings.log_format))
        package.propagate = False
        self._embedded = EmbeddedApp(lambda: settings)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the application, which Serve starts and stops by its lifespan."""
        return _ProxiedApp(self._embedded)

    async def check_health(self) -> None:
        """Say whether requests are answered. Serve replaces a replica that is not ready three times in a row.

        Raises:
            RuntimeError: They are not.
        """
        if unready := self._embedded.unready:
            raise RuntimeError("; ".join(unready))


def replica_settings(resources: Mapping[str, float]) -> Settings:
    """Return a replica's settings: as in the environment, on the device and threads that Ray assigned to it.

    Args:
        resources: What is assigned, by Ray's names.

    Raises:
        StartError: As of `embedded_settings`.
    """
    given: dict[str, object] = {}
    if "LOSSD_DEVICE" not in os.environ:
        given["device"] = "auto" if resources.get("GPU") else "cpu"
    if "LOSSD_THREADS" not in os.environ:
        given["threads"] = max(1, math.floor(resources.get("CPU", 1.0)))
    return embedded_settings(**given)


def check_ingress(variables: Mapping[str, str]) -> None:
    """Refuse Serve's own proxy, which is slow, unless a variable says that it is meant.

    Args:
        variables: The environment.

    Raises:
        StartError: The slow proxy is on, and LOSSD_RAY_SLOW_PROXY is not.
    """
    if variables.get(_HAPROXY) == "1" or variables.get(_SLOW_PROXY) == "1":
        return
    msg = (
        "requests would go through Serve's Python proxy, which is about ten times as slow as its HAProxy "
        f"ingress. Set {_HAPROXY}=1 for `ray start` on every node and for `serve run`, and start Ray again; "
        f"or set {_SLOW_PROXY}=1 to use the proxy as it is"
    )
    raise StartError(msg)


def check_node(variables: Mapping[str, str]) -> None:
    """Refuse to start without the settings that have passwords, which a replica has from its node alone.

    Args:
        variables: The environment.

    Raises:
        StartError: One was set for `serve run` or `serve build`, and is not set here.
    """
    missing = [name for name in variables.get(_OF_NODE, "").split() if name not in variables]
    if missing:
        msg = (
            f"{' and '.join(missing)} must be set for `ray start` on every node, and this one lacks it: what "
            "has a password is not passed on"
        )
        raise StartError(msg)


def deployment(options: RayOptions) -> serve.Deployment:
    """Return the deployment of the replicas."""
    names = {_SLOW_PROXY, *(f"LOSSD_{name.upper()}" for name in Settings.model_fields)}  # no caller's key
    given = {name: os.environ[name] for name in sorted(names & os.environ.keys())}
    secret = [name for name in (f"LOSSD_{each.upper()}" for each in SECRET) if "://" in given.get(name, "")]
    variables = {name: value for name, value in given.items() if name not in secret}
    if secret:
        variables[_OF_NODE] = " ".join(secret)
        logger.warning(
            "%s must be set for `ray start` on every node: passwords are not passed on", " and ".join(secret)
        )
    return serve.deployment(
        name="lossd",
        ray_actor_options={
            "num_cpus": options.cores,
            "num_gpus": options.gpus,
            "runtime_env": {"env_vars": variables | _VARIABLES},
        },
        autoscaling_config=AutoscalingConfig(
            min_replicas=options.min_replicas,
            max_replicas=options.max_replicas,
            target_ongoing_requests=options.target_requests,
        ),
        max_ongoing_requests=_MOST_ONGOING,
        max_surge_percent=_SURGE_PERCENT,
        health_check_period_s=_HEALTH_SECONDS,
        logging_config=LoggingConfig(enable_access_log=False),  # LOSSD_LOG_REQUESTS says which are logged
    )(serve.ingress()(Replica))


def __getattr__(name: str) -> serve.Application:
    """Return ``app``, made when it is asked for: a replica imports this module, too, and needs none.

    Raises:
        ClickException: The environment is wrong; `serve` shows it as a line.
    """
    if name != "app":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    try:
        return deployment(read_options()).bind()
    except StartError as error:
        raise ClickException(str(error)) from None
