"""What Prometheus is told. Labels come from fixed sets, so the number of series is bounded.

Front ends count in memory that all of them map (`lossd.engine.ipc.counters`): whichever is asked adds up what
all have counted, those before it in its place included.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from lossd.engine.admission.arena import Arena
from lossd.engine.admission.concurrency import ConcurrencyLimiter
from lossd.engine.admission.fair_queue import FairQueue
from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.counters import ANSWERED, LABELS, Counters, Key, decode_key, encode_key, totals
from lossd.wire import Duration, ModelFigures

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_BOUNDS: Final = (*map(str, map(float, _SECONDS)), "+Inf")
_STAGES: Final = ("read", "queue", "compute", "total")


class _Family(NamedTuple):
    """A metric whose values are cells of the tallies.

    Attributes:
        name: Without the prefix.
        summary: What it is.
        labels: The labels' names.
    """

    name: str
    summary: str
    labels: tuple[str, ...] = ()


_COUNTERS: Final = (
    _Family(
        "requests",
        "Requests for a loss. The outcome is ok, disconnected, or the problem's code.",
        LABELS["requests"],
    ),
    _Family("elements", "Elements scored.", LABELS["elements"]),
    _Family("bytes", "Bytes of the bodies of requests that were answered with a loss.", LABELS["bytes"]),
    _Family("device_seconds", "Seconds of computing.", LABELS["device_seconds"]),
    _Family("slices", "Slices that workers answered."),
    _Family("front_end_restarts", "How often a front end was replaced."),
)
_GAUGES: Final = (
    _Family("requests_in_flight", "Requests for a loss being worked on."),
    _Family("requests_waiting", "Requests that wait unread, for their turn or for memory."),
    _Family("memory_bytes", "Bytes that there are for bodies and answers.", ("part",)),
    _Family("memory_reserved_bytes", "Bytes reserved of these.", ("part",)),
)
_SECONDS_SUMMARY: Final = (
    "Seconds of requests that were answered with a loss: reading the body, waiting for a worker, computing, "
    "and from the headers to the result in total."
)


class Metrics:
    """The counters of one front end, and the totals of all.

    Args:
        tallies: The counters of all front ends.
        index: Which of these are this one's.
        arenas: The arena's parts, by name.
        turnstiles: Where bodies wait for their turn.
        pool: The workers.
    """

    content_type: Final = CONTENT_TYPE_LATEST

    def __init__(
        self,
        tallies: Sequence[Counters],
        index: int,
        arenas: Mapping[str, Arena],
        turnstiles: Iterable[ConcurrencyLimiter],
        pool: WorkerPool,
    ) -> None:
        self._tallies = list(tallies)
        self._own = tallies[index]
        self._numbers = self._own.numbers
        self._cells: dict[Key, int] = {}
        self._answered: dict[tuple[str, str, str, str], _AnswerCells] = {}
        self._queues: tuple[FairQueue[Any], ...] = (*arenas.values(), *turnstiles)
        self._pool = pool
        self._registry = CollectorRegistry()
        self._registry.register(_Exposition(self))
        for family in _GAUGES:  # what one before it held went with it
            if not family.labels:
                self._set(0.0, family.name)
        for family in _COUNTERS:
            if not family.labels:
                self._add(0.0, family.name)
        for stage in _STAGES:
            self._add(0.0, "request_seconds", stage, "sum")
        self._in_flight = self._cell("requests_in_flight")
        self._slices = self._cell("slices")
        pool.when_scored = self._count_slice
        for part, arena in arenas.items():
            self._set(float(arena.capacity), "memory_bytes", part)
            self._set(0.0, "memory_reserved_bytes", part)
            arena.changed = partial(self._publish_reserved, arena, self._cell("memory_reserved_bytes", part))
        for queue in self._queues:
            queue.waiting_changed = self._publish_waiting

    def restarted(self, times: int) -> None:
        """Take note of how many processes were in this front end's place before."""
        self._set(float(times), "front_end_restarts")

    def began(self) -> None:
        """Count a request in."""
        self._numbers[self._in_flight] += 1.0

    def ended(self) -> None:
        """Count a request out."""
        self._numbers[self._in_flight] -= 1.0

    def answered(
        self,
        loss: str,
        form: str,
        team: str,
        device: str,
        elements: int,
        nbytes: int,
        seconds: tuple[float, float, float, float],
        elsewhere: Mapping[str, float] | None = None,
    ) -> None:
        """Count a request that was answered with a loss.

        Args:
            loss: The loss's name.
            form: The body's format.
            team: Whose it was.
            device: Where it was computed.
            elements: How many elements it had.
            nbytes: How long its body was, as sent.
            seconds: Of reading, waiting, computing, and in total.
            elsewhere: Those of the seconds of computing that were spent on other devices, by device.
        """
        key = loss, form, team, device
        cells = self._answered.get(key)
        if cells is None:
            cells = self._answered[key] = self._answer_cells(*key)
        numbers = self._numbers
        requests, of_elements, of_bytes, of_device, stages, model, last = cells
        numbers[requests] += 1.0
        numbers[of_elements] += elements
        numbers[of_bytes] += nbytes
        _, waited, computed, total = seconds
        numbers[of_device] += computed
        if elsewhere:
            for other, spent in elsewhere.items():
                self._add(spent, "device_seconds", team, other)
                numbers[of_device] -= spent
        for stage, value in zip(stages, seconds, strict=True):
            numbers[stage[-1]] += value
            numbers[stage[bisect_left(_SECONDS, value)]] += 1.0
        answers, in_total, in_queue, in_compute = model
        numbers[answers] += 1.0
        numbers[in_total] += total
        numbers[in_queue] += waited
        numbers[in_compute] += computed
        numbers[last] = time.time() - total

    def refused(self, loss: str, form: str, team: str, code: str, seconds: float) -> None:
        """Count a request that was answered with a problem, or (``disconnected``) not at all.

        Args:
            loss: The loss's name.
            form: The body's format.
            team: Whose it was, if that is known.
            code: What became of it.
            seconds: From its headers on.
        """
        self._add(1.0, "requests", loss, form, code, team)
        self._add(1.0, "model", loss, "refusals")
        self._add(seconds, "model", loss, "refusal_seconds")
        self._set(time.time() - seconds, "last", loss)

    def figures(self, loss: str) -> ModelFigures:
        """What has been done for a loss, in whatever format it was asked for."""
        found = self.totals()
        last = max(tally.get(encode_key(("last", loss))) for tally in self._tallies)

        def duration(count: str, seconds: str) -> Duration:
            number = int(found.get(("model", loss, count), 0.0))
            return Duration(number, int(1e9 * found.get(("model", loss, seconds), 0.0)))

        return ModelFigures(
            model=loss,
            last_inference_ms=int(1e3 * last),
            success=duration("answers", "answer_seconds"),
            fail=duration("refusals", "refusal_seconds"),
            queue=duration("answers", "queue_seconds"),
            compute=duration("answers", "compute_seconds"),
        )

    def expose(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def totals(self) -> dict[Key, float]:
        """What all front ends have counted, by name and labels."""
        return {decode_key(key): number for key, number in totals(self._tallies).items()}

    def workers(self) -> Iterator[tuple[str, int, bool]]:
        """The workers' devices, how often each one's worker was replaced, and whether it is ready."""
        for slot in self._pool.slots.values():
            yield slot.device, slot.restarts, slot.steady

    @property
    def degraded(self) -> int:
        """How many things are amiss, though losses are answered."""
        return len(self._pool.degraded)

    def _count_slice(self) -> None:
        self._numbers[self._slices] += 1.0

    def _publish_reserved(self, arena: Arena, cell: int) -> None:
        self._numbers[cell] = arena.reserved

    def _publish_waiting(self) -> None:
        self._set(sum(queue.waiting for queue in self._queues), "requests_waiting")

    def _answer_cells(self, loss: str, form: str, team: str, device: str) -> _AnswerCells:
        return _AnswerCells(
            requests=self._cell("requests", loss, form, ANSWERED, team),
            elements=self._cell("elements", loss, team),
            bytes=self._cell("bytes", team),
            device_seconds=self._cell("device_seconds", team, device),
            stages=tuple(
                tuple(self._cell("request_seconds", stage, bound) for bound in (*_BOUNDS, "sum"))
                for stage in _STAGES
            ),
            model=tuple(
                self._cell("model", loss, name)
                for name in ("answers", "answer_seconds", "queue_seconds", "compute_seconds")
            ),
            last=self._cell("last", loss),
        )

    def _cell(self, *key: str) -> int:
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._own.cell(encode_key(key))
        return cell

    def _add(self, value: float, *key: str) -> None:
        self._numbers[self._cell(*key)] += value

    def _set(self, value: float, *key: str) -> None:
        self._numbers[self._cell(*key)] = value


class _AnswerCells(NamedTuple):
    """Where an answer is counted: cells of the tally, by what they hold.

    Attributes:
        requests: Answers.
        elements: Their elements.
        bytes: Those of their bodies.
        device_seconds: Seconds of computing.
        stages: Of each stage, the histogram's cells, and the sum's.
        model: For the inference protocol: answers, and their seconds in total, of waiting, of computing.
        last: When the last request came, by time.time().
    """

    requests: int
    elements: int
    bytes: int
    device_seconds: int
    stages: tuple[tuple[int, ...], ...]
    model: tuple[int, ...]
    last: int


class _Exposition(Collector):
    """The totals as Prometheus's families, made anew at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """The families."""
        found: defaultdict[str, dict[Key, float]] = defaultdict(dict)
        for key, number in self._metrics.totals().items():
            found[key[0]][key[1:]] = number
        for kind, families in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
            for family in families:
                metric = kind(f"lossd_{family.name}", family.summary, labels=family.labels)
                for labels, number in found[family.name].items():
                    metric.add_metric(labels, number)
                yield metric
        in_flight = GaugeMetricFamily("lossd_bytes_in_flight", "Bytes reserved for bodies and answers.")
        in_flight.add_metric((), sum(found["memory_reserved_bytes"].values()))
        yield in_flight
        histogram = HistogramMetricFamily("lossd_request_seconds", _SECONDS_SUMMARY, labels=("stage",))
        for stage in _STAGES:
            counts = accumulate(found["request_seconds"].get((stage, bound), 0.0) for bound in _BOUNDS)
            total = found["request_seconds"].get((stage, "sum"), 0.0)
            histogram.add_metric((stage,), list(zip(_BOUNDS, counts, strict=True)), total)
        yield histogram
        restarts = CounterMetricFamily(
            "lossd_worker_restarts", "How often a device's worker was replaced.", labels=("device",)
        )
        ready = GaugeMetricFamily(
            "lossd_worker_ready", "Whether a device's worker computes rightly.", labels=("device",)
        )
        for device, times, steady in self._metrics.workers():
            restarts.add_metric((device,), times)
            ready.add_metric((device,), steady)
        yield restarts
        yield ready
        degraded = GaugeMetricFamily("lossd_degraded", "What is amiss, though losses are answered.")
        degraded.add_metric((), self._metrics.degraded)
        yield degraded
