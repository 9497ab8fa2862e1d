"""The server inside another program: its engine, and a front end without a listener of its own.

The program accepts connections; this process is the one front end behind it, and keeps the workers. So it
needs no supervisor: `uvicorn lossd.api.embedded:app` is enough. What the listener of ``lossd serve`` does is
up to the program: TLS, slow callers, limits of connections and of heads.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from lossd.api.app import create_app
from lossd.api.services import Service, open_service
from lossd.api.small_requests.asgi_lane import AsgiLane
from lossd.core.catalog import register
from lossd.engine.supervisor.children import Children
from lossd.engine.supervisor.devices import resolve
from lossd.engine.supervisor.keeper import Keeper
from lossd.engine.supervisor.teams_watcher import TeamsWatcher
from lossd.settings import Settings
from lossd.start_checks import Resources, check_services, check_variables, explain_all, fit, tell_limits
from lossd.teams import BadTeams

logger = logging.getLogger(__name__)

_ONE_FRONT_END: Final[dict[str, Any]] = {
    "front_ends": 1,
    "host": "127.0.0.1",
    "port": 0,
    "unix_socket": None,
    "admin_port": None,
    "handover": None,
    "tls_certificate": None,
    "tls_key": None,
}
"""Settings that are fixed, because the other program listens."""
_END_SECONDS: Final = 5.0  # for what has nothing left to do
_LOOK_SECONDS: Final = 0.02


class StartError(Exception):
    """The server cannot start. The message says why, and what to do."""


def embedded_settings(**given: object) -> Settings:
    """Return the settings of an embedded server: those given, all others from the environment.

    Raises:
        StartError: A setting is wrong, or the server would be open to all, which nobody asked for.
    """
    variables = check_variables(os.environ)
    options = {**_ONE_FRONT_END, **given}
    try:
        settings = Settings(**options)
    except ValidationError as error:
        raise StartError("\n".join(explain_all(error) + variables.errors)) from None
    if variables.errors:
        raise StartError("\n".join(variables.errors))
    if settings.teams is None and not settings.allow_open:
        msg = (
            "without teams anyone who can connect may use this server, which cannot see the address that it "
            "is bound to; name a teams file that each machine has (LOSSD_TEAMS), or set LOSSD_ALLOW_OPEN=1 "
            "to mean that"
        )
        raise StartError(msg)
    if wrong := check_services(settings):
        raise StartError("\n".join(wrong))
    for warning in variables.warnings:
        logger.warning("%s", warning)
    tell_limits(settings)
    return fit(settings, Resources.find())


@asynccontextmanager
async def run_embedded(settings: Settings) -> AsyncIterator[Service]:
    """Run the engine with a front end in this process, as long as the context lasts.

    At its end, requests that are in flight are answered first; new ones are refused.

    Args:
        settings: From `embedded_settings`.

    Yields:
        The parts of the front end, ready for requests.

    Raises:
        StartError: Teams, losses or a device cannot be used.
    """
    async with AsyncExitStack() as stack:
        children, keeper = await _keep(settings)
        stack.callback(keeper.close)
        try:
            service = open_service(children.embed(), settings)
        except (OSError, OverflowError):
            msg = f"there is no memory for an arena of {settings.arena_bytes} bytes; lower LOSSD_ARENA_BYTES"
            raise StartError(msg) from None
        stack.push_async_callback(_end, service, keeper)
        tasks = [asyncio.create_task(watch) for watch in keeper.watches()]
        if service.inplace is not None:
            tasks.append(asyncio.create_task(service.inplace.keep_checking(settings.check_seconds)))
        stack.callback(_cancel, tasks)
        await _wait_until_ready(service, keeper.start_workers(), settings.start_seconds)
        yield service


async def _keep(settings: Settings) -> tuple[Children, Keeper]:
    """Return the memory that the processes share, and what keeps them.

    Raises:
        StartError: The losses or the teams cannot be used.
    """
    try:
        for place in settings.losses:
            register(place)
    except ValueError as error:
        raise StartError(f"LOSSD_LOSSES: {error}") from None
    try:
        teams = TeamsWatcher(settings.teams) if settings.teams is not None else None
    except BadTeams as error:
        raise StartError(f"{settings.teams} cannot be used: {error}") from None
    children = Children(settings, await asyncio.to_thread(resolve, settings.device))
    return children, Keeper(settings, children, teams, asyncio.Event())


async def _wait_until_ready(service: Service, workers: list[asyncio.Task[None]], seconds: float) -> None:
    """Wait until the teams are loaded and the workers are ready.

    Raises:
        StartError: A worker cannot run, or takes too long.
    """
    try:
        async with asyncio.timeout(seconds):
            await service.gate.known.wait()
            while service.unready:
                if any(worker.done() for worker in workers):
                    raise StartError("a worker cannot run; the log says why")
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        reasons = "; ".join(service.unready)
        raise StartError(
            f"not ready after {seconds:g} s: {reasons}; LOSSD_START_SECONDS allows more"
        ) from None


async def _end(service: Service, keeper: Keeper) -> None:
    """Answer what is in flight, then end the workers."""
    service.pool.leaving.set()
    await service.accounting.drain(service.settings.drain_seconds)
    await service.helpers.close()
    service.pool.close()
    await keeper.end(_END_SECONDS)
    if service.tracing is not None:
        service.tracing.close()


def _cancel(tasks: list[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()


def _make_app(service: Service) -> ASGIApp:
    """Return the application, behind a lane for small requests unless that is off or tracing is on."""
    app = create_app(service)
    if service.inplace is None or service.tracing is not None:
        return app
    return AsgiLane(app, service, service.inplace)


class EmbeddedApp:
    """The ASGI application of an embedded server, which its lifespan starts and stops."""

    def __init__(self, settings: Callable[[], Settings] = embedded_settings) -> None:
        self._settings = settings
        self._app: ASGIApp | None = None
        self._service: Service | None = None

    @property
    def unready(self) -> list[str]:
        """What keeps new requests from being answered, if anything."""
        return ["it has not started"] if self._service is None else self._service.unready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is None:
            msg = "lossd has not started: run the application with its lifespan (uvicorn --lifespan on)"
            raise RuntimeError(msg)
        else:
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start and stop when the ASGI server asks."""
        await receive()
        async with AsyncExitStack() as stack:
            try:
                self._service = await stack.enter_async_context(run_embedded(self._settings()))
            except StartError as error:
                logger.error("%s", error)
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            self._app = _make_app(self._service)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


app = EmbeddedApp()
