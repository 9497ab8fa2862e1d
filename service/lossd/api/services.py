"""What the routes work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lossd.api.auth import Gate
from lossd.api.drain import Door
from lossd.api.json_helper.parser import Parser
from lossd.api.metrics import Metrics
from lossd.api.request_log import RequestLog
from lossd.core.native import native_kernel
from lossd.engine.admission.arena import Arena
from lossd.engine.admission.concurrency import Turnstile
from lossd.engine.dispatch.in_place import InPlace
from lossd.engine.dispatch.worker_pool import Pool
from lossd.engine.ipc.memory import Memory
from lossd.engine.ipc.tally import Tally
from lossd.settings import Settings
from lossd.tracing import Tracing

SMALL_BYTES: Final = 1 << 18
"""A body that is not longer takes no time to speak of."""
_SMALL_PART: Final = 32 << 20
"""Bytes of the arena for small bodies, at most."""


@dataclass(frozen=True, slots=True)
class Service:
    """One front end's parts.

    Attributes:
        settings: The server's settings.
        pool: The workers.
        gate: Where it is found out who asks, and what they may use.
        bodies: The arena's part for bodies, but for small ones.
        small_bodies: Its part for those, so that there is room for them whoever fills the other.
        outputs: The arena's part for array answers.
        large_turns: Where large bodies wait for their turn to be received and scored.
        small_turns: Where small ones do, so that they need not wait for large ones.
        parser: Parses large JSON documents.
        metrics: The counters.
        door: What requests for a loss come in by.
        requests: Where they have their lines.
        tracing: Where they have their spans, if there are to be any.
        inplace: What scores small ones in this process, if it may and can.
    """

    settings: Settings
    pool: Pool
    gate: Gate
    bodies: Arena
    small_bodies: Arena
    outputs: Arena
    large_turns: Turnstile
    small_turns: Turnstile
    parser: Parser
    metrics: Metrics
    door: Door
    requests: RequestLog
    tracing: Tracing | None
    inplace: InPlace | None

    @property
    def ready(self) -> bool:
        """It takes requests, and every worker computes rightly."""
        return self.pool.ready and not self.door.closed

    @classmethod
    def over(
        cls,
        settings: Settings,
        memory: Memory,
        pool: Pool,
        gate: Gate,
        parser: Parser,
        tallies: Sequence[Tally],
        index: int,
    ) -> Service:
        """The service over an arena, its workers and its parser.

        Args:
            settings: The server's settings.
            memory: The arena.
            pool: The workers.
            gate: Where it is found out who asks.
            parser: Parses large JSON documents.
            tallies: The counters of all front ends.
            index: Which of these are this one's.
        """
        border = settings.arena_bytes_each - settings.output_bytes
        small_bytes = min(_SMALL_PART, border // 16)
        small_bodies = Arena(memory, 0, small_bytes, "request bodies")
        bodies = Arena(memory, small_bytes, border, "request bodies")
        outputs = Arena(memory, border, settings.arena_bytes_each, "array answers")
        inside = settings.turn_bytes * pool.workers
        large, small = Turnstile(inside), Turnstile(max(SMALL_BYTES, inside // 8))
        arenas = {"small_bodies": small_bodies, "bodies": bodies, "answers": outputs}
        metrics = Metrics(tallies, index, arenas, (large, small), pool)
        tracing = Tracing("front-end", index) if settings.traces else None
        requests = RequestLog(settings.log_requests, settings.trusted_proxies)
        parts = (bodies, small_bodies, outputs, large, small)
        inplace = _score_in_place(settings)
        return cls(settings, pool, gate, *parts, parser, metrics, Door(), requests, tracing, inplace)


def _score_in_place(settings: Settings) -> InPlace | None:
    if not settings.inline_ms or settings.kernel == "torch":
        return None
    kernel = native_kernel(threads=1)
    if kernel is None:
        return None
    inplace = InPlace(kernel, settings.inline_ms)
    inplace.check()
    return inplace
