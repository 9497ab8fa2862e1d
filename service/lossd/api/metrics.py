"""What Prometheus is told. Labels come from fixed sets, so the number of series is bounded."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from lossd.engine.arena import Arena
from lossd.engine.pool import Pool
from lossd.wire import Duration, ModelFigures

TEAM: Final = "default"
"""Who everyone is, as long as there are no teams."""

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """The counters of one front end.

    Args:
        arenas: The arena's parts.
        pool: The workers.
    """

    content_type: Final = CONTENT_TYPE_LATEST

    def __init__(self, arenas: Iterable[Arena], pool: Pool) -> None:
        self._registry = CollectorRegistry()
        self._totals: defaultdict[str, _Totals] = defaultdict(_Totals)
        parts = tuple(arenas)
        self._requests = Counter(
            "lossd_requests",
            "Requests for a loss. The outcome is ok, disconnected, or the problem's code.",
            ("loss", "format", "outcome", "team"),
            registry=self._registry,
        )
        self._elements = Counter(
            "lossd_elements", "Elements scored.", ("loss", "team"), registry=self._registry
        )
        self._device_seconds = Counter(
            "lossd_device_seconds", "Seconds of computing.", ("team", "device"), registry=self._registry
        )
        seconds = Histogram(
            "lossd_request_seconds",
            "Seconds of requests that were answered with a loss: reading the body, waiting for a worker, "
            "computing, and from the headers to the result in total.",
            ("stage",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._stages = [seconds.labels(stage) for stage in ("read", "queue", "compute", "total")]
        self._in_flight = Gauge(
            "lossd_requests_in_flight", "Requests for a loss being worked on.", registry=self._registry
        )
        waiting = Gauge("lossd_requests_waiting", "Requests that wait for memory.", registry=self._registry)
        waiting.set_function(lambda: sum(part.waiting for part in parts))
        reserved = Gauge(
            "lossd_bytes_in_flight", "Bytes reserved for bodies and answers.", registry=self._registry
        )
        reserved.set_function(lambda: sum(part.reserved for part in parts))
        self._registry.register(_Workers(pool))

    def began(self) -> None:
        """Count a request in."""
        self._in_flight.inc()

    def ended(self) -> None:
        """Count a request out."""
        self._in_flight.dec()

    def answered(
        self, loss: str, form: str, elements: int, device: str, seconds: tuple[float, float, float, float]
    ) -> None:
        """Count a request that was answered with a loss.

        Args:
            loss: The loss's name.
            form: The body's format.
            elements: How many elements it had.
            device: Where it was computed.
            seconds: Of reading, waiting, computing, and in total.
        """
        self._requests.labels(loss, form, "ok", TEAM).inc()
        self._elements.labels(loss, TEAM).inc(elements)
        self._device_seconds.labels(TEAM, device).inc(seconds[2])
        for stage, value in zip(self._stages, seconds, strict=True):
            stage.observe(value)
        _, queue, compute, total = seconds
        self._totals[loss].answered(queue, compute, total)

    def refused(self, loss: str, form: str, code: str, seconds: float) -> None:
        """Count a request that was answered with a problem, or (``disconnected``) not at all.

        Args:
            loss: The loss's name.
            form: The body's format.
            code: What became of it.
            seconds: From its headers on.
        """
        self._requests.labels(loss, form, code, TEAM).inc()
        self._totals[loss].refused(seconds)

    def figures(self, loss: str) -> ModelFigures:
        """What has been done for a loss, in whatever format it was asked for."""
        return self._totals[loss].figures(loss)

    def expose(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self._registry)


@dataclass(slots=True)
class _Totals:
    """What has been done for one loss.

    Attributes:
        last: When the last request came, by time.time(); 0 where none has.
        answers: Requests that were answered with a loss.
        answer_seconds: Theirs, together, from their headers to their result.
        queue_seconds: Of waiting for a worker.
        compute_seconds: Of computing.
        refusals: The other requests.
        refusal_seconds: Theirs, together.
    """

    last: float = 0.0
    answers: int = 0
    answer_seconds: float = 0.0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    refusals: int = 0
    refusal_seconds: float = 0.0

    def answered(self, queue: float, compute: float, total: float) -> None:
        """Add a request that was answered: its seconds of waiting, of computing, and in total."""
        self._came(total)
        self.answers += 1
        self.answer_seconds += total
        self.queue_seconds += queue
        self.compute_seconds += compute

    def refused(self, total: float) -> None:
        """Add a request that was not."""
        self._came(total)
        self.refusals += 1
        self.refusal_seconds += total

    def figures(self, loss: str) -> ModelFigures:
        """All of this, as the inference protocol has it."""
        return ModelFigures(
            model=loss,
            last_inference_ms=int(1e3 * self.last),
            success=Duration(self.answers, int(1e9 * self.answer_seconds)),
            fail=Duration(self.refusals, int(1e9 * self.refusal_seconds)),
            queue=Duration(self.answers, int(1e9 * self.queue_seconds)),
            compute=Duration(self.answers, int(1e9 * self.compute_seconds)),
        )

    def _came(self, ago: float) -> None:
        self.last = max(self.last, time.time() - ago)


class _Workers(Collector):
    """What the pool counts by itself."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The families, made at each scrape."""
        restarts = CounterMetricFamily(
            "lossd_worker_restarts", "How often a device's worker was replaced.", labels=("device",)
        )
        for seat in self._pool.seats.values():
            restarts.add_metric((seat.device,), seat.restarts)
        yield restarts
        yield CounterMetricFamily("lossd_slices", "Slices that workers answered.", value=self._pool.slices)
