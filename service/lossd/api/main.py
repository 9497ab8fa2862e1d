"""The process of a front end: it receives and answers requests. It never imports torch."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported stays: to look through it again and again takes a sixth of the start

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Final, cast

import msgspec
import uvicorn

from lossd import logs
from lossd.api.app import create_app
from lossd.api.auth import Gate
from lossd.api.http.connections import Connections, allow_descriptors
from lossd.api.http.cors import Origins
from lossd.api.http.disconnects import DisconnectWatcher
from lossd.api.http.linger import Lingerers
from lossd.api.http.listener import Listener
from lossd.api.http.protocol import LossdProtocol
from lossd.api.http.tls import Certificate, open_certificate
from lossd.api.services import Service, open_service
from lossd.api.small_requests.lane import FastLane
from lossd.core.catalog import register
from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.heartbeats import Heartbeats, Pulse
from lossd.engine.ipc.messages import UNUSABLE
from lossd.engine.ipc.options import FrontEndOptions
from lossd.log_limits import RATE
from lossd.settings import Settings

logger = logging.getLogger(__name__)

_COLLECT: Final = (25_000, 4, 500)
"""How often the garbage collector looks at new objects, at those that it has seen once, and at all. A look at
half a million, which thousands of new connections have, stops every request for half a second."""
_FAREWELL_SECONDS: Final = 0.3
"""Time in which callers that connected just before the socket closed are still answered."""
_LOOK_SECONDS: Final = 0.02
_LAST_SECONDS: Final = (0.6, 0.9)
"""Time for those who are left when the time for draining is up, until requests are refused, and until the
last connections are aborted."""
_END_SECONDS: Final = 1
"""Time until the process ends, whatever is left."""


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which on a signal refuses new requests and keeps listening until none is in flight.

    If the listening socket has been handed over, it refuses nothing: it waits until its connections have
    ended.

    Args:
        config: uvicorn's.
        service: The front end's parts.
        listeners: The sockets it listens on.
        certificate: The certificate, for HTTPS; a Unix socket is for plain HTTP.
        most: The most connections there may be.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        listeners: Sequence[socket.socket],
        certificate: Certificate | None,
        most: int,
    ) -> None:
        super().__init__(config)
        self._accounting = service.accounting
        self._pool = service.pool
        self._drain_seconds = service.settings.drain_seconds
        self._listeners = [
            Listener(
                listener,
                self._make_protocol,
                None if listener.family == socket.AF_UNIX else certificate,
                service.settings.header_seconds,
                lambda: most - len(self.server_state.connections),
                service.turns,
            )
            for listener in listeners
        ]
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None

    def _make_protocol(self) -> asyncio.Protocol:
        make = cast(Callable[..., asyncio.Protocol], self.config.http)
        return make(config=self.config, server_state=self.server_state, app_state={})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, on a signal."""
        self._loop.call_soon_threadsafe(self.stop, sig, frame)

    def stop(self, sig: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Begin to stop."""
        if self._draining is None:
            self._draining = self._loop.create_task(self._drain(sig, frame))

    async def _drain(self, sig: int, frame: FrameType | None) -> None:
        self._pool.leaving.set()
        await asyncio.sleep(_LOOK_SECONDS)  # a signal may overtake the supervisor's last message
        logger.info("stopping: accepted requests are answered first")
        if self._pool.handed_over.is_set():
            await self._wait_for_connections()
        else:
            await self._accounting.drain(self._drain_seconds)
        self._close_listeners()
        await asyncio.sleep(_FAREWELL_SECONDS)
        super().handle_exit(sig, frame)

    async def _wait_for_connections(self) -> None:
        """Close the idle connections, and wait until the others have had their answers."""
        ends = self._loop.time() + self._drain_seconds
        await asyncio.sleep(_FAREWELL_SECONDS)
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections and self._loop.time() < ends:  # noqa: ASYNC110 -- it is uvicorn's
            await asyncio.sleep(_LOOK_SECONDS)

    async def follow_handover(self) -> None:
        """Stop listening once another server does."""
        await self._pool.handed_over.wait()
        self._close_listeners()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: accept nobody any more, and end all connections."""
        self._close_listeners()
        for seconds in _LAST_SECONDS:
            self._loop.call_later(seconds, self._end_now)
        await super().shutdown(sockets)

    def _end_now(self) -> None:
        for connection in tuple(self.server_state.connections):
            cast(LossdProtocol, connection).end_now()


async def serve(
    settings: Settings,
    listeners: Sequence[socket.socket],
    service: Service,
    certificate: Certificate | None,
) -> None:
    """Serve until SIGTERM, then until the accepted requests have been answered."""
    most = allow_descriptors(settings.max_connections)
    service.metrics.set_max_connections(most)
    connections = Connections(settings, most, service.metrics)
    config = _uvicorn_config(settings, service, connections)
    server = DrainingServer(config, service, listeners, certificate, most)
    for listener in listeners:
        logger.info("listening on %s", _address(listener, "http" if certificate is None else "https"))
    tasks = [
        asyncio.create_task(_end_with_supervisor(service.pool, server)),
        asyncio.create_task(server.follow_handover()),
        asyncio.create_task(connections.watch(server.server_state.connections)),  # type: ignore[arg-type] # ours
    ]
    if certificate is not None:
        tasks.append(asyncio.create_task(certificate.follow()))
        tasks.append(asyncio.create_task(_read_again(certificate, service.pool.read_again)))
    if service.inplace is not None:
        tasks.append(asyncio.create_task(service.inplace.keep_checking(settings.check_seconds)))
    # uvicorn handles SIGTERM, and once stopped raises it again for the handler that was there before.
    signal.signal(signal.SIGTERM, server.handle_exit)
    _tune_garbage_collector()
    service.pool.announce()
    await server.serve(sockets=[])
    for task in tasks:
        task.cancel()
    await service.helpers.close()
    service.pool.close()
    if service.tracing is not None:
        service.tracing.close()


def _address(listener: socket.socket, scheme: str) -> str:
    """Return the address of a listening socket, as callers write it."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix://{os.path.abspath(name)}"  # noqa: PTH100 -- of the path as it is, links and all
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _uvicorn_config(settings: Settings, service: Service, connections: Connections) -> uvicorn.Config:
    """Return uvicorn's configuration, with the project's own protocol and application."""
    protocol = partial(
        LossdProtocol,
        settings=settings,
        turns=service.turns,
        lane=_choose_lane(service),
        counted=connections,
        log=service.accounting.log,
        disconnects=DisconnectWatcher(),
        lingerers=Lingerers(settings),
        origins=Origins(settings.cors_origins) if settings.cors_origins else None,
        leaving=service.pool.leaving,
    )
    return uvicorn.Config(
        create_app(service),
        http=protocol,  # type: ignore[arg-type] # called alone
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        reset_contextvars=True,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=_END_SECONDS,
    )


def _choose_lane(service: Service) -> Callable[[LossdProtocol], FastLane] | None:
    """Return a lane factory, or None if the lane is off or tracing is on."""
    if service.inplace is None or service.tracing is not None:
        return None
    return partial(FastLane, service, service.inplace)


def _tune_garbage_collector() -> None:
    """Make the garbage collector run less often, and skip the objects that exist now.

    A full collection stops every request: by default for over 100 ms, when there are many.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)


async def _end_with_supervisor(pool: WorkerPool, server: uvicorn.Server) -> None:
    await pool.supervisor_gone.wait()
    logger.error("the supervisor is gone; stopping")
    server.should_exit = True


async def _read_again(certificate: Certificate, asked: asyncio.Event) -> None:
    """Read the certificate again whenever the supervisor asks for it."""
    while await asked.wait():
        asked.clear()
        certificate.read()


async def _prepare(settings: Settings, gate: Gate, pool: WorkerPool | None) -> Certificate | None:
    """Wait until the teams are loaded, the pool's workers are ready, and the certificate can be used."""
    await gate.known.wait()
    while pool is not None and pool.unready:  # noqa: ASYNC110 -- it is many things that change
        await asyncio.sleep(_LOOK_SECONDS)
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return await open_certificate(settings.tls_certificate, settings.tls_key)


async def _run(options: FrontEndOptions, settings: Settings) -> None:
    service = open_service(options, settings)
    pool = service.pool
    heartbeats = Heartbeats(options.heartbeats_fd, settings.front_ends, options.workers)
    os.close(options.heartbeats_fd)
    own, supervisor = heartbeats.front_ends[options.index], Pulse(heartbeats.supervisor)
    tasks = [
        asyncio.create_task(own.beat(lambda: pool.listening and not service.accounting.draining)),
        asyncio.create_task(pool.watch_supervisor(supervisor, settings.hang_seconds)),
    ]
    listeners = [socket.socket(fileno=fd) for fd in options.listen_fds]
    preparing = asyncio.ensure_future(_prepare(settings, service.gate, pool if options.holds_back else None))
    supervisor_gone = asyncio.ensure_future(pool.supervisor_gone.wait())
    await asyncio.wait((preparing, supervisor_gone), return_when=asyncio.FIRST_COMPLETED)
    supervisor_gone.cancel()
    if not preparing.done():  # without a supervisor nothing else would end this process
        preparing.cancel()
    else:
        await serve(settings, listeners, service, preparing.result())
    for task in tasks:
        task.cancel()


def main(arguments: str) -> None:
    """Run a front end, given its options as a JSON object. Its settings are in the environment."""
    settings = Settings()
    options = msgspec.json.decode(arguments, type=FrontEndOptions)
    rate = RATE / settings.front_ends
    logs.configure("front-end", options.index, settings.log_level, settings.log_format, rate)
    try:
        for place in settings.losses:
            register(place)
    except ValueError as error:
        logger.error("LOSSD_LOSSES: %s", error)
        sys.exit(UNUSABLE)
    if sys.platform == "win32":
        asyncio.run(_run(options, settings))
        return
    import uvloop

    uvloop.run(_run(options, settings))


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    main(sys.argv[1])
