"""The process of the admin listener: health and metrics, on a port of its own.

It has no requests of callers, so it answers whatever the service's port suffers. The supervisor and the
workers treat it as one more front end, which sends no slices, so it sees what front ends see.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

import msgspec
import uvicorn
import uvloop
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from lossd import logs
from lossd.api.accounting import RequestLog
from lossd.api.app import Router
from lossd.api.http.connections import allow_descriptors
from lossd.api.http.disconnects import DisconnectWatcher
from lossd.api.http.linger import Lingerers
from lossd.api.http.protocol import LossdProtocol
from lossd.api.http.request import request_id
from lossd.api.metrics import Metrics
from lossd.api.problems import problem
from lossd.api.routes.status import readiness
from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.counters import Counters
from lossd.engine.ipc.heartbeats import BEAT_SECONDS, Heartbeats, Pulse
from lossd.engine.ipc.memory import Memory
from lossd.engine.ipc.options import FrontEndOptions
from lossd.settings import PAGE, Settings
from lossd.types import ErrorCode, RequestError

logger = logging.getLogger(__name__)

_MOST_CONNECTIONS: Final = 16
_LIMITS: Final = {"header_seconds": 2.0, "stall_seconds": 5.0, "linger_seconds": 1.0, "linger_connections": 8}
"""Settings with which nobody holds a connection for long."""
_FAREWELL_SECONDS: Final = 0.5
"""Time in which those who connected just before another server took the port over are still answered."""
_REPLACED_SECONDS: Final = 1.0
"""The time in which the supervisor replaces a front end that it finds hung."""


class Overview:
    """All processes, as the admin listener sees them.

    Args:
        heartbeats: Their heartbeats.
        pool: The workers and the supervisor, as a front end sees them.
        front_ends: Number of front ends.
        hang_seconds: How long a process may stand still.
    """

    def __init__(
        self, heartbeats: Heartbeats, pool: WorkerPool, front_ends: int, hang_seconds: float
    ) -> None:
        self._supervisor = heartbeats.supervisor
        self._front_ends = [Pulse(row) for row in heartbeats.front_ends[:front_ends]]
        self._pool = pool
        self._hang_seconds = hang_seconds + _REPLACED_SECONDS

    async def follow(self) -> None:
        """Look at the front ends' heartbeats again and again."""
        while True:
            for front_end in self._front_ends:
                front_end.look()
            await asyncio.sleep(BEAT_SECONDS)

    @property
    def hung(self) -> list[str]:
        """Which of the supervisor and the front ends stand still."""
        hung = [
            f"front end {index} stands still"
            for index, front_end in enumerate(self._front_ends)
            if front_end.hangs(self._hang_seconds)
        ]
        return hung + ["the supervisor stands still"] * self._pool.supervisor_hung

    @property
    def unready(self) -> list[str]:
        """What keeps some of the new requests from being answered, if anything."""
        if not self._supervisor.read().serving:
            return ["the server is being stopped"]
        if self._pool.handed_over.is_set():
            return []  # another server is ready
        silent = [
            f"front end {index} takes no requests"
            for index, front_end in enumerate(self._front_ends)
            if not front_end.row.read().serving or front_end.hangs(self._hang_seconds)
        ]
        return silent + self._pool.unready


class AdminApp:
    """The ASGI application."""

    def __init__(self, overview: Overview, pool: WorkerPool, metrics: Metrics) -> None:
        self._overview = overview
        self._pool = pool
        self._metrics = metrics
        self._routes: dict[str, Callable[[], Response]] = {
            "/livez": self._livez,
            "/readyz": lambda: readiness(overview.unready, [*pool.degraded, *metrics.full_shares()]),
            "/metrics": self._expose,
        }
        self._exposed = b""
        self._exposed_at = -BEAT_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        route = self._routes.get(scope["path"])
        if route is None:
            there_are = f"this port has {', '.join(self._routes)}, the server's other port the rest"
            error = RequestError(ErrorCode.NOT_FOUND, f"there is no {scope['path'][:100]}; {there_are}")
        elif scope["method"] != "GET":
            error = RequestError(ErrorCode.METHOD_NOT_ALLOWED, "use GET or HEAD")
        else:
            await route()(scope, receive, send)
            return
        answer = problem(error, request_id(scope))
        response = Response(answer.body, answer.status)
        response.raw_headers = [*answer.headers, *[(b"allow", b"GET, HEAD")] * (answer.status == 405)]
        await response(scope, receive, send)

    def _livez(self) -> Response:
        hung = self._overview.hung
        if hung:
            return JSONResponse({"status": "not alive", "reasons": hung}, 503)
        return JSONResponse({"status": "alive"})

    def _expose(self) -> Response:
        """Return the metrics; if asked again at once, those of a moment ago, so that probes need not wait."""
        now = asyncio.get_running_loop().time()
        if now - self._exposed_at >= BEAT_SECONDS:
            self._exposed, self._exposed_at = self._metrics.expose(self._pool), now
        return Response(self._exposed, headers={"content-type": self._metrics.content_type})


class AdminProtocol(LossdProtocol):
    """A connection to the admin listener. It takes one request at a time; hundreds would delay others.

    Args:
        arrived: The connections so far, in the order of their arrival. The oldest gives way to a new one: so
            a probe's is young for long enough to be answered, however busy a stranger keeps many others.
        options: What every connection has.
    """

    def __init__(self, *, arrived: list[AdminProtocol], **options: Any) -> None:  # noqa: ANN401 -- passed on
        super().__init__(**options)
        self._arrived = arrived

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin, and abort the oldest connection if there are too many."""
        super().connection_made(transport)
        self._arrived.append(self)
        if len(self._arrived) > _MOST_CONNECTIONS:
            self._arrived.pop(0).hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection: it is lost."""
        if self in self._arrived:
            self._arrived.remove(self)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a request, once the one before has been answered."""
        if not self._between_requests:
            raise RequestError(ErrorCode.BAD_REQUEST, "wait for the answer before you send the next request")
        super().on_message_begin()


async def _watch(connections: Collection[AdminProtocol]) -> None:
    """Let each connection check its caller, again and again."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        for connection in tuple(connections):
            connection.look(loop.time(), BEAT_SECONDS)


def _uvicorn_config(
    app: AdminApp, settings: Settings, arrived: list[AdminProtocol], leaving: asyncio.Event
) -> uvicorn.Config:
    protocol = partial(
        AdminProtocol,
        settings=settings,
        disconnects=DisconnectWatcher(),
        lingerers=Lingerers(settings),
        arrived=arrived,
        log=RequestLog(settings.log_requests, ()),
        leaving=leaving,
    )
    return uvicorn.Config(
        Router(app, {}, None),
        http=protocol,  # type: ignore[arg-type] # called alone
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        reset_contextvars=True,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=1,
    )


async def _run(options: FrontEndOptions, settings: Settings) -> None:
    counters = [Counters(fd) for fd in options.counters_fds]
    heartbeats = Heartbeats(options.heartbeats_fd, settings.front_ends, options.workers)
    control = socket.socket(fileno=options.control_fd)
    memory = Memory(options.arena_fd, PAGE)
    pool = WorkerPool(memory, control, options.workers, options.elements)
    for fd in (options.arena_fd, options.heartbeats_fd, options.quotas_fd, *options.counters_fds):
        os.close(fd)
    overview = Overview(heartbeats, pool, settings.front_ends, settings.hang_seconds)
    [listen_fd] = options.listen_fds
    listener = socket.socket(fileno=listen_fd)
    allow_descriptors(_MOST_CONNECTIONS)
    app = AdminApp(overview, pool, Metrics(counters, options.index))
    connections: list[AdminProtocol] = []
    limited = settings.model_copy(update=_LIMITS)
    server = uvicorn.Server(_uvicorn_config(app, limited, connections, pool.handed_over))
    watches = (
        heartbeats.front_ends[options.index].beat(lambda: True),
        pool.watch_supervisor(Pulse(heartbeats.supervisor), settings.hang_seconds),
        overview.follow(),
        _watch(connections),
        _end_with_supervisor(pool, server),
    )
    tasks = [asyncio.create_task(each) for each in watches]
    if options.holds_back:  # until this server is ready, the one before it answers
        while overview.unready and not pool.supervisor_gone.is_set():  # noqa: ASYNC110 -- many things change
            await asyncio.sleep(BEAT_SECONDS)
        if pool.supervisor_gone.is_set():  # this server never became ready; the other one goes on
            return
    host, port = listener.getsockname()[:2]
    logger.info("admin listener on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    pool.announce()
    await server.serve(sockets=[listener])
    for task in tasks:
        task.cancel()
    pool.close()


async def _end_with_supervisor(pool: WorkerPool, server: uvicorn.Server) -> None:
    """End with the supervisor, or when it says that another server accepts from the socket."""
    await pool.supervisor_gone.wait()
    if pool.handed_over.is_set():
        for listening in getattr(server, "servers", ()):  # there are none before it listens
            listening.close()
        await asyncio.sleep(_FAREWELL_SECONDS)
    server.should_exit = True


def main(arguments: str) -> None:
    """Run the admin listener, given its options as a JSON object. Its settings are in the environment."""
    settings = Settings()
    options = msgspec.json.decode(arguments, type=FrontEndOptions)
    logs.configure("admin", None, settings.log_level, settings.log_format)
    uvloop.run(_run(options, settings))


if __name__ == "__main__":
    main(sys.argv[1])
