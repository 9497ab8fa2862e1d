"""Metrics of the server's processes, read from /proc at each scrape."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_KINDS: Final = {
    b"lossd.api.main": "front-end",
    b"lossd.api.admin": "admin",
    b"lossd.api.helpers.json_parser": "helper",
    b"lossd.api.helpers.report_drawer": "drawer",
    b"lossd.engine.worker.main": "worker",
}
_number: Final = re.compile(rb'"(?:index|number)":(\d+)')
_LABELS: Final = ("process", "number")


def process_metrics() -> list[Metric]:
    """Return the standard figures of each process of this server, with its kind and its number.

    A process that replaces another has its number, so there are never more series than places.
    """
    families: list[Metric] = [
        CounterMetricFamily(
            "lossd_process_cpu_seconds", "Seconds of processor time that a process has used.", labels=_LABELS
        ),
        GaugeMetricFamily(
            "lossd_process_resident_memory_bytes",
            "Resident memory of a process. The arena counts in each that has used it.",
            labels=_LABELS,
        ),
        GaugeMetricFamily("lossd_process_open_fds", "Open descriptors of a process.", labels=_LABELS),
        GaugeMetricFamily("lossd_process_max_fds", "The most that it may open.", labels=_LABELS),
        GaugeMetricFamily("lossd_process_start_time_seconds", "When a process started.", labels=_LABELS),
    ]
    by_name = {family.name: family for family in families}
    pid = 0
    collector = ProcessCollector("lossd", pid=lambda: pid, registry=None)
    for kind, number, pid in _processes():  # noqa: B007 -- the collector reads pid
        for found in collector.collect():
            if family := by_name.get(found.name):
                for sample in found.samples:
                    labels = {"process": kind, "number": number}
                    family.add_sample(sample.name, labels, sample.value)
    return families


def _processes() -> Iterator[tuple[str, str, int]]:
    """Yield the kind, the number and the id of each process of this server."""
    supervisor = os.getppid()  # the parent of front ends and of the admin listener, which answer scrapes
    yield "supervisor", "0", supervisor
    parents = [supervisor]
    while parents:
        for pid in _children(parents.pop()):
            with suppress(OSError):  # it has ended
                _, _, module, *options = (
                    Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:4] + [b""] * 3
                )
                found = _number.search(b" ".join(options))
                if module in _KINDS and found:
                    yield _KINDS[module], found[1].decode(), pid
                    parents.append(pid)  # a front end's helper


def _children(parent: int) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []
