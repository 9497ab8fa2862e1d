"""Metrics, in Prometheus's format. Labels come from fixed sets, so the number of series is bounded.

Front ends count in memory that all of them map (`lossd.engine.ipc.counters`). The one that is scraped adds up
the counts of all, including those of front ends that have been replaced.
"""

from __future__ import annotations

import platform
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from lossd import __version__
from lossd.api.process_metrics import process_metrics
from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.counters import ANSWERED, LABELS, Counters, Key, decode_key, encode_key, totals
from lossd.types import LossResult, Timings
from lossd.wire import Duration, ModelFigures

REFUSALS: Final = ("team_share", "address_share", "displaced", "full")
"""Why connections are refused."""
_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_BOUNDS: Final = (*map(str, map(float, _SECONDS)), "+Inf")
_STAGES: Final = ("read", "queue", "compute", "total")


class _Family(NamedTuple):
    """A metric whose values are cells of the counters.

    Attributes:
        name: Its name without the prefix.
        summary: Its help text.
        labels: The names of its labels.
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
    _Family(
        "views",
        "Reports drawn for the page. The outcome is ok, disconnected, or the problem's code.",
        ("outcome", "team"),
    ),
    _Family("elements", "Elements scored: numbers of the inputs.", LABELS["elements"]),
    _Family("bytes", "Bytes of the bodies of requests that were answered with a loss.", LABELS["bytes"]),
    _Family("device_seconds", "Seconds of computing.", LABELS["device_seconds"]),
    _Family("slices", "Slices that workers answered."),
    _Family("front_end_restarts", "How often a front end was replaced."),
    _Family("process_hangs", "How often a process stood still, by its kind.", ("process",)),
    _Family(
        "connections_refused",
        "Connections refused, or closed before their first answer so that others fit.",
        ("reason",),
    ),
)
_GAUGES: Final = (
    _Family("connections", "Callers' connections."),
    _Family("max_connections", "Connections that all front ends together take."),
    _Family("requests_in_flight", "Requests for a loss or a view being worked on."),
    _Family("memory_bytes", "Bytes that there are for bodies and answers.", ("part",)),
    _Family("memory_reserved_bytes", "Reserved bytes.", ("part",)),
    _Family("share_full", "Teams that have filled their share of the memory for a minute.", ("part",)),
)
PARTS: Final = ("bodies", "small_bodies", "answers")
"""The parts of the memory."""
WAITING: Final = ("requests_waiting", "bytes_waiting")
"""By team: requests that wait unread, and the bytes that they wait for."""
_SECONDS_SUMMARY: Final = (
    "Seconds of requests that were answered with a loss: reading the body (read), which includes waiting "
    "unread for a permit and memory; waiting for a worker (queue); computing (compute); and from the "
    "headers to the result (total)."
)


class QueueGauges:
    """The gauges of one queue (`lossd.engine.admission.fair_queue.Observer`).

    Args:
        numbers: The numbers of this front end's counters.
        cell: Returns the cell of a key. Those of what waits are shared by all queues.
        memory: The cells of reserved bytes and of teams that fill their share; None if the queue does not
            reserve memory.
    """

    def __init__(
        self, numbers: memoryview[float], cell: Callable[..., int], memory: tuple[int, int] | None
    ) -> None:
        self._numbers = numbers
        self._cell = cell
        self._memory = memory

    def held(self, nbytes: int) -> None:
        """Add to the bytes that are held; a negative number when they are given back."""
        if self._memory is not None:
            self._numbers[self._memory[0]] += nbytes

    def waits(self, team: str, requests: int, nbytes: int) -> None:
        """Add to a team's requests that wait, and to the bytes that they wait for."""
        for name, more in zip(WAITING, (requests, nbytes), strict=True):
            self._numbers[self._cell(name, team)] += more

    def full(self, teams: int) -> None:
        """Add to the number of teams that have filled their share for a minute."""
        if self._memory is not None:
            self._numbers[self._memory[1]] += teams


class Metrics:
    """The counters of one front end, and the totals of all.

    Args:
        counters: The counters of all processes that count.
        index: Which of these are this process's.
    """

    content_type: Final = CONTENT_TYPE_LATEST

    def __init__(self, counters: Sequence[Counters], index: int) -> None:
        self._counters = list(counters)
        self._own = counters[index]
        self._numbers = self._own.numbers
        self._cells: dict[Key, int] = {}
        self._answered: dict[tuple[str, str, str, str], _AnswerCells] = {}
        for family in _GAUGES:  # a front end that was here before may have left other values
            if not family.labels:
                self._set(0.0, family.name)
        for data, number in self._own.items():
            if number and (key := decode_key(data))[0] in WAITING:
                self._set(0.0, *key)
        for family in _COUNTERS:
            if not family.labels:
                self._add(0.0, family.name)
        for process in ("helper", "drawer"):
            self._add(0.0, "process_hangs", process)
        for stage in _STAGES:
            self._add(0.0, "request_seconds", stage, "sum")
        for reason in REFUSALS:
            self._add(0.0, "connections_refused", reason)
        self._connections = self._cell("connections")
        self._in_flight = self._cell("requests_in_flight")
        self._slices = self._cell("slices")

    def queue_gauges(self) -> QueueGauges:
        """Return the gauges of a queue for turns."""
        return QueueGauges(self._numbers, self._cell, None)

    def memory_gauges(self, part: str) -> QueueGauges:
        """Return the gauges of a queue for memory of a part, as the metrics name it, that is still free."""
        self._set(0.0, "memory_reserved_bytes", part)
        self._set(0.0, "share_full", part)
        cells = self._cell("memory_reserved_bytes", part), self._cell("share_full", part)
        return QueueGauges(self._numbers, self._cell, cells)

    def set_capacity(self, part: str, nbytes: int) -> None:
        """Record the size of a part of the memory."""
        self._set(float(nbytes), "memory_bytes", part)

    def slice_scored(self) -> None:
        """Count a slice that a worker has answered."""
        self._numbers[self._slices] += 1.0

    def helper_hung(self) -> None:
        """Count a helper for JSON that stood still."""
        self._add(1.0, "process_hangs", "helper")

    def drawer_hung(self) -> None:
        """Count a helper for reports that stood still."""
        self._add(1.0, "process_hangs", "drawer")

    def restarted(self, times: int) -> None:
        """Record how often this front end was replaced."""
        self._set(float(times), "front_end_restarts")

    def set_max_connections(self, connections: int) -> None:
        """Record the most connections of this front end."""
        self._set(float(connections), "max_connections")

    def connected(self, change: int) -> None:
        """Add to the number of connections; a negative number when they end."""
        self._numbers[self._connections] += change

    def refused_connection(self, reason: str) -> None:
        """Count a connection that was refused, for one of `REFUSALS`."""
        self._add(1.0, "connections_refused", reason)

    def began(self) -> None:
        """Count a request as in flight."""
        self._numbers[self._in_flight] += 1.0

    def ended(self) -> None:
        """Count a request as no longer in flight."""
        self._numbers[self._in_flight] -= 1.0

    def answered(
        self,
        loss: str,
        format: str,  # noqa: A002 -- the label's name
        team: str,
        result: LossResult,
        nbytes: int,
        timings: Timings,
        *,
        total: float,
    ) -> None:
        """Count a request that was answered with a loss.

        Args:
            loss: The loss's name.
            format: The body's format.
            team: The team's name.
            result: The loss and the figures beside it.
            nbytes: The length of its body, as sent.
            timings: The seconds of each stage.
            total: The seconds from its head to its answer.
        """
        key = loss, format, team, result.device
        cells = self._answered.get(key)
        if cells is None:
            cells = self._answered[key] = self._answer_cells(*key)
        numbers = self._numbers
        requests, of_elements, of_bytes, of_device, stages, model, last = cells
        numbers[requests] += 1.0
        numbers[of_elements] += result.count * result.row_size
        numbers[of_bytes] += nbytes
        _, waited, computed = timings
        numbers[of_device] += computed
        if result.elsewhere:
            for other, spent in result.elsewhere.items():
                self._add(spent, "device_seconds", team, other)
                numbers[of_device] -= spent
        for stage, value in zip(stages, (*timings, total), strict=True):
            numbers[stage[-1]] += value
            numbers[stage[bisect_left(_SECONDS, value)]] += 1.0
        answers, in_total, in_queue, in_compute = model
        numbers[answers] += 1.0
        numbers[in_total] += total
        numbers[in_queue] += waited
        numbers[in_compute] += computed
        numbers[last] = time.time() - total

    def refused(
        self,
        loss: str,
        format: str,  # noqa: A002 -- the label's name
        team: str,
        outcome: str,
        seconds: float,
    ) -> None:
        """Count a request that was not answered with a loss.

        Args:
            loss: The loss's name.
            format: The body's format.
            team: The team's name, if known.
            outcome: The error code, or ``disconnected``.
            seconds: Since its headers arrived.
        """
        self._add(1.0, "requests", loss, format, outcome, team)
        self._add(1.0, "model", loss, "refusals")
        self._add(seconds, "model", loss, "refusal_seconds")
        self._set(time.time() - seconds, "last", loss)

    def viewed(self, team: str, outcome: str) -> None:
        """Count a request for a view.

        Args:
            team: The team's name, if known.
            outcome: ``ok``, ``disconnected``, or the error code.
        """
        self._add(1.0, "views", outcome, team)

    def figures(self, loss: str) -> ModelFigures:
        """Return the totals of one loss, over all formats."""
        found = self.totals()
        last = max(one.get(encode_key(("last", loss))) for one in self._counters)

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

    def expose(self, pool: WorkerPool) -> bytes:
        """Return the metrics in Prometheus's text format, with the workers' state as it is now."""
        registry = CollectorRegistry()
        registry.register(_Exposition(self, pool))
        return generate_latest(registry)

    def full_shares(self) -> list[str]:
        """Return the parts of the memory of which a team fills its share, over all front ends, as reasons."""
        return [
            f"a team has filled its share of the memory for {part.replace('_', ' ')}; the log says which"
            for part in PARTS
            if any(one.get(encode_key(("share_full", part))) for one in self._counters)
        ]

    def totals(self) -> dict[Key, float]:
        """Return the sums over all front ends, by name and labels."""
        return {decode_key(key): number for key, number in totals(self._counters).items()}

    def _answer_cells(
        self,
        loss: str,
        format: str,  # noqa: A002 -- the label's name
        team: str,
        device: str,
    ) -> _AnswerCells:
        return _AnswerCells(
            requests=self._cell("requests", loss, format, ANSWERED, team),
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
    """The cells of the counters that one answer adds to.

    Attributes:
        requests: Answers.
        elements: Elements scored.
        bytes: Bytes of bodies.
        device_seconds: Seconds of computing.
        stages: The histogram's buckets and sum, by stage.
        model: For the inference protocol: answers, and their seconds in total, of waiting, of computing.
        last: The time of the last request, by time.time().
    """

    requests: int
    elements: int
    bytes: int
    device_seconds: int
    stages: tuple[tuple[int, ...], ...]
    model: tuple[int, ...]
    last: int


class _Exposition(Collector):
    """The totals as Prometheus's families, for one scrape."""

    def __init__(self, metrics: Metrics, pool: WorkerPool) -> None:
        self._metrics = metrics
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
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
        waiting = GaugeMetricFamily(
            "lossd_requests_waiting", "Requests that wait unread, for their turn or for memory."
        )
        waiting.add_metric((), sum(found["requests_waiting"].values()))
        yield waiting
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
            "lossd_worker_ready",
            "Whether a device's worker has passed its known-answer check.",
            labels=("device",),
        )
        for worker in self._pool.slots.values():
            restarts.add_metric((worker.device,), worker.restarts)
            ready.add_metric((worker.device,), worker.steady)
        yield restarts
        yield ready
        hung = GaugeMetricFamily("lossd_supervisor_hung", "Whether the supervisor stands still.")
        hung.add_metric((), self._pool.supervisor_hung)
        yield hung
        degraded = GaugeMetricFamily("lossd_degraded", "Number of problems that do not stop scoring.")
        degraded.add_metric((), len(self._pool.degraded) + len(self._metrics.full_shares()))
        yield degraded
        yield self._build_info()
        yield from process_metrics()

    def _build_info(self) -> Metric:
        ready = next((worker.ready for worker in self._pool.slots.values()), None)
        info = GaugeMetricFamily(
            "lossd_build_info",
            "1, with the versions of lossd, Python and torch, and the kernel of the first worker.",
            labels=("version", "python", "torch", "kernel"),
        )
        versions = (__version__, platform.python_version())
        info.add_metric((*versions, ready.torch if ready else "", ready.kernel if ready else ""), 1.0)
        return info
