"""The process of a front end: it receives and answers requests. It never imports torch."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

import msgspec
import uvicorn

from lossd import logs
from lossd.api.accounting import Accounting
from lossd.api.app import create_app
from lossd.api.auth import Gate
from lossd.api.http.connections import Connections, allow_descriptors
from lossd.api.http.cors import Origins
from lossd.api.http.disconnects import DisconnectWatcher
from lossd.api.http.linger import Lingerers
from lossd.api.http.protocol import LossdProtocol
from lossd.api.http.tls import Certificate, open_certificate
from lossd.api.json_helper.parser import Parser
from lossd.api.metrics import Metrics
from lossd.api.services import Service
from lossd.api.small_requests.lane import FastLane
from lossd.core.catalog import register
from lossd.core.kernel import WrongAnswerError
from lossd.engine.admission.quotas import Quotas
from lossd.engine.dispatch.in_place import InPlace
from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.counters import Counters
from lossd.engine.ipc.memory import Memory
from lossd.engine.ipc.messages import UNUSABLE, WRONG
from lossd.engine.ipc.options import FrontEndOptions
from lossd.settings import Settings

logger = logging.getLogger(__name__)

_ACCEPTS: Final = 8
"""Connections accepted in one turn of the event loop: libuv accepts one for each listening descriptor, so the
socket has this many. With one, the last of 64 callers would wait for 64 turns."""
_COLLECT: Final = (50_000, 10, 100)
_FAREWELL_SECONDS: Final = 0.3
"""Time in which callers that connected just before the socket closed are still answered."""
_LAST_SECONDS: Final = 1
"""Time to refuse the requests that are left when the time for draining is up."""


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which on a signal refuses new requests and keeps listening until none is in flight.

    Args:
        config: uvicorn's.
        accounting: The requests in flight.
        listener: The socket it listens on.
        drain_seconds: How long requests in flight may take.
    """

    def __init__(
        self, config: uvicorn.Config, accounting: Accounting, listener: socket.socket, drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._accounting = accounting
        self._listener = listener
        self._drain_seconds = drain_seconds
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, on a signal."""
        self._loop.call_soon_threadsafe(self.stop, sig, frame)

    def stop(self, sig: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Begin to stop."""
        if self._draining is None:
            self._draining = self._loop.create_task(self._drain(sig, frame))

    async def _drain(self, sig: int, frame: FrameType | None) -> None:
        logger.info("stopping: accepted requests are answered first")
        await self._accounting.drain(self._drain_seconds)
        await asyncio.sleep(0)  # accept the callers that have connected so far
        for server in self.servers:
            server.close()
        self._listener.close()
        await asyncio.sleep(_FAREWELL_SECONDS)
        super().handle_exit(sig, frame)


async def serve(
    settings: Settings, listener: socket.socket, service: Service, certificate: Certificate | None
) -> None:
    """Serve until SIGTERM, then until the accepted requests have been answered."""
    connections = Connections(settings, allow_descriptors(settings.max_connections), service.metrics)
    config = _uvicorn_config(settings, service, connections, certificate)
    server = DrainingServer(config, service.accounting, listener, settings.drain_seconds)
    host, port = listener.getsockname()[:2]
    scheme = "http" if certificate is None else "https"
    logger.info("listening on %s://%s:%d", scheme, f"[{host}]" if ":" in host else host, port)
    tasks = [
        asyncio.create_task(_end_with_supervisor(service.pool, server)),
        asyncio.create_task(connections.watch(server.server_state.connections)),  # type: ignore[arg-type] # ours
    ]
    if certificate is not None:
        tasks.append(asyncio.create_task(certificate.follow()))
    if service.inplace is not None:
        tasks.append(asyncio.create_task(_check_kernel(service.inplace, settings.check_seconds)))
    # uvicorn handles SIGTERM, and once stopped raises it again for the handler that was there before.
    signal.signal(signal.SIGTERM, server.handle_exit)
    _tune_garbage_collector()
    service.pool.announce()
    doubles = [listener.dup() for _ in range(_ACCEPTS - 1)]
    await server.serve(sockets=[listener, *doubles])
    for double in doubles:
        double.close()
    for task in tasks:
        task.cancel()
    await service.parser.close()
    service.pool.close()
    service.accounting.log.close()
    if service.tracing is not None:
        service.tracing.close()


def _uvicorn_config(
    settings: Settings, service: Service, connections: Connections, certificate: Certificate | None
) -> uvicorn.Config:
    """Return uvicorn's configuration, with the project's own protocol and application."""
    protocol = partial(
        LossdProtocol,
        settings=settings,
        lane=_choose_lane(service),
        counted=connections,
        log=service.accounting.log,
        disconnects=DisconnectWatcher(),
        lingerers=Lingerers(settings),
        origins=Origins(settings.cors_origins) if settings.cors_origins else None,
    )
    return uvicorn.Config(
        create_app(service),
        http=protocol,  # type: ignore[arg-type] # called alone
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        reset_contextvars=True,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=_LAST_SECONDS,
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


async def _check_kernel(inplace: InPlace, seconds: float) -> None:
    """Check the kernel that scores small requests here, again and again, and end the process if it fails."""
    while True:
        await asyncio.sleep(seconds)
        try:
            inplace.check()
        except WrongAnswerError as error:
            logger.critical("known-answer check failed; exiting: %s", error)
            logging.shutdown()
            os._exit(WRONG)  # without another answer


async def _prepare(settings: Settings, gate: Gate) -> Certificate | None:
    """Wait until the teams are loaded, and the certificate if there is one."""
    await gate.known.wait()
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return await open_certificate(settings.tls_certificate, settings.tls_key)


async def _run(options: FrontEndOptions, settings: Settings) -> None:
    memory = Memory(options.arena_fd, settings.arena_bytes_each)
    parser = Parser(options.arena_fd, settings.arena_bytes_each, settings.timeout_seconds, options.index)
    counters = [Counters(fd) for fd in options.counters_fds]
    for fd in (options.arena_fd, *options.counters_fds):
        os.close(fd)  # the mappings keep the memory
    control = socket.socket(fileno=options.control_fd)
    quotas = Quotas(options.quotas_fd, settings.front_ends, options.index)
    gate = Gate(quotas, teams=settings.teams is not None)
    metrics = Metrics(counters, options.index)
    metrics.restarted(options.restarts)
    pool = WorkerPool(
        memory,
        control,
        options.workers,
        options.elements,
        settings.slice_elements,
        when_scored=metrics.slice_scored,
        when_teams_changed=gate.change,
    )
    service = Service.create(settings, memory, pool, gate, parser, metrics, options.index)
    listener = socket.socket(fileno=options.listen_fd)
    preparing = asyncio.ensure_future(_prepare(settings, gate))
    supervisor_gone = asyncio.ensure_future(pool.supervisor_gone.wait())
    await asyncio.wait((preparing, supervisor_gone), return_when=asyncio.FIRST_COMPLETED)
    supervisor_gone.cancel()
    if not preparing.done():  # without a supervisor nothing else would end this process
        preparing.cancel()
        return
    await serve(settings, listener, service, preparing.result())


def main(arguments: str) -> None:
    """Run a front end, given its options as a JSON object. Its settings are in the environment."""
    settings = Settings()
    options = msgspec.json.decode(arguments, type=FrontEndOptions)
    logs.configure("front-end", options.index, settings.log_level, settings.log_format)
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

    from lossd.api.http.event_loop import FrontEndLoop

    uvloop.run(_run(options, settings), loop_factory=partial(FrontEndLoop, settings.header_seconds))


if __name__ == "__main__":
    main(sys.argv[1])
