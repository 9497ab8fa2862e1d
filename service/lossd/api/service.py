"""What the routes work with."""

from __future__ import annotations

from dataclasses import dataclass

from lossd.api.door import Door
from lossd.api.metrics import Metrics
from lossd.api.parsing import Parser
from lossd.engine.arena import MARKS_BYTES, Arena, Memory
from lossd.engine.pool import Pool
from lossd.settings import Settings


@dataclass(frozen=True, slots=True)
class Service:
    """One front end's parts.

    Attributes:
        settings: The server's settings.
        pool: The workers.
        bodies: The arena's part for bodies.
        outputs: The arena's part for array answers.
        parser: Parses large JSON documents.
        metrics: The counters.
        door: What requests for a loss come in by.
    """

    settings: Settings
    pool: Pool
    bodies: Arena
    outputs: Arena
    parser: Parser
    metrics: Metrics
    door: Door

    @property
    def ready(self) -> bool:
        """It takes requests, and every worker computes rightly."""
        return self.pool.ready and not self.door.closed

    @classmethod
    def over(cls, settings: Settings, memory: Memory, pool: Pool, parser: Parser) -> Service:
        """The service over an arena, its workers and its parser."""
        border = settings.arena_bytes - settings.output_bytes
        bodies = Arena(memory, MARKS_BYTES, border, "request bodies")
        outputs = Arena(memory, border, settings.arena_bytes, "array answers")
        return cls(settings, pool, bodies, outputs, parser, Metrics((bodies, outputs), pool), Door())
