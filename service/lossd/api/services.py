"""The parts of one front end, which its routes and connections share."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import dataclass
from typing import Final

from lossd.api.accounting import Accounting, RequestLog
from lossd.api.auth import Gate
from lossd.api.helpers.drawer import MEMORY, SECONDS, Drawer
from lossd.api.helpers.json_parser import Parser
from lossd.api.metrics import Metrics
from lossd.core.native.kernel import native_kernel
from lossd.engine.admission.arena import Arena
from lossd.engine.admission.concurrency import ConcurrencyLimiter
from lossd.engine.admission.quotas import Quotas
from lossd.engine.dispatch.in_place import InPlace
from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.counters import Counters
from lossd.engine.ipc.memory import Memory
from lossd.engine.ipc.options import FrontEndOptions
from lossd.engine.scheduler import LoopTurns
from lossd.settings import Settings
from lossd.tracing import Tracing

SMALL_BYTES: Final = 1 << 18
"""The longest body that is received and scored in next to no time, and so needs no permit."""
_SMALL_PART: Final = 32 << 20
"""Bytes of the arena for small bodies, at most."""


@dataclass(frozen=True, slots=True)
class Helpers:
    """The helper processes of one front end.

    Attributes:
        parser: Parses large JSON documents.
        drawer: Draws reports.
    """

    parser: Parser
    drawer: Drawer

    async def close(self) -> None:
        """End the processes."""
        await self.parser.close()
        await self.drawer.close()


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one front end.

    Attributes:
        settings: The server's settings.
        pool: The workers.
        gate: The keys and limits of teams.
        bodies: The arena's part for bodies, except small ones.
        small_bodies: The arena's part for small bodies, so that large ones cannot fill it.
        outputs: The arena's part for array answers.
        permits: Permits to receive and score large bodies.
        helpers: The helper processes.
        metrics: The counters.
        accounting: The requests in flight, and the log of requests.
        tracing: The spans of requests; None without tracing.
        turns: Shares the event loop's time between requests.
        inplace: Scores small requests in this process; None if workers score them all.
    """

    settings: Settings
    pool: WorkerPool
    gate: Gate
    bodies: Arena
    small_bodies: Arena
    outputs: Arena
    permits: ConcurrencyLimiter
    helpers: Helpers
    metrics: Metrics
    accounting: Accounting
    tracing: Tracing | None
    turns: LoopTurns
    inplace: InPlace | None

    @property
    def unready(self) -> list[str]:
        """What keeps new requests from being answered, if anything."""
        stopping = self.accounting.draining or self.pool.leaving.is_set()
        return self.pool.unready + ["the server is being stopped"] * stopping

    @property
    def degraded(self) -> list[str]:
        """What is wrong although requests are answered."""
        return [*self.pool.degraded, *self.metrics.full_shares()]

    @classmethod
    def create(
        cls,
        settings: Settings,
        memory: Memory,
        pool: WorkerPool,
        gate: Gate,
        helpers: Helpers,
        metrics: Metrics,
        index: int,
    ) -> Service:
        """Build the service of a front end."""
        end = settings.arena_bytes_each
        border = end - settings.answers_bytes
        small_bytes = min(_SMALL_PART, border // 16)

        def arena(part: str, start: int, stop: int, use: str) -> Arena:
            gauges = metrics.memory_gauges(part)
            made = Arena(memory, start, stop, use, observer=gauges, share=settings.share)
            metrics.set_capacity(part, made.capacity)
            return made

        log = RequestLog(settings.log_requests, settings.trusted_proxies)
        return cls(
            settings=settings,
            pool=pool,
            gate=gate,
            bodies=arena("bodies", small_bytes, border, "request bodies"),
            small_bodies=arena("small_bodies", 0, small_bytes, "small request bodies"),
            outputs=arena("answers", border, end, "array answers"),
            permits=ConcurrencyLimiter(settings.turn_bytes * pool.workers, observer=metrics.queue_gauges()),
            helpers=helpers,
            metrics=metrics,
            accounting=Accounting(metrics, log),
            tracing=Tracing("front-end", index) if settings.traces else None,
            turns=LoopTurns(asyncio.get_running_loop().call_soon, time.monotonic),
            inplace=_score_in_place(settings),
        )


def open_service(options: FrontEndOptions, settings: Settings) -> Service:
    """Return the service of this process, which is a front end.

    It takes the descriptors of the arena, the quotas, the counters and the socket to the supervisor.
    """
    memory = Memory(options.arena_fd, settings.arena_bytes_each)
    counters = [Counters(fd) for fd in options.counters_fds]
    metrics = Metrics(counters, options.index)
    metrics.restarted(options.restarts)
    helpers = Helpers(
        Parser(
            options.arena_fd,
            settings.arena_bytes_each,
            settings.timeout_seconds,
            settings.hang_seconds,
            options.index,
            metrics.helper_hung,
        ),
        Drawer(
            options.arena_fd,
            settings.arena_bytes_each,
            SECONDS,
            settings.hang_seconds,
            options.index,
            metrics.drawer_hung,
            most_bytes=MEMORY * settings.max_json_bytes,
        ),
    )
    for fd in (options.arena_fd, *options.counters_fds):
        os.close(fd)  # the mappings keep the memory
    control = socket.socket(fileno=options.control_fd)
    leased = settings.quota_store is not None
    quotas = Quotas(options.quotas_fd, settings.front_ends, options.index, leased=leased)
    gate = Gate(quotas, teams=settings.teams is not None)
    pool = WorkerPool(
        memory,
        control,
        options.workers,
        options.elements,
        settings.slice_elements,
        when_scored=metrics.slice_scored,
        when_teams_changed=gate.change,
    )
    return Service.create(settings, memory, pool, gate, helpers, metrics, options.index)


def _score_in_place(settings: Settings) -> InPlace | None:
    if not settings.inline_ms or settings.kernel == "torch":
        return None
    kernel = native_kernel(threads=1)
    if kernel is None:
        return None
    inplace = InPlace(kernel, settings.inline_ms)
    inplace.check()
    return inplace
