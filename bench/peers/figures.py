"""What a run found: samples by cell and round, and the table of ratios that are asked for."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from bench.peers import catalog
from bench.peers.payloads import LARGE, SMALL

STREAM: Final = "2 GB"
STREAM_BYTES: Final = 2e9
MIB: Final = 1 << 20


class Cell(NamedTuple):
    """What was measured: a server, a form, a size and a number of connections."""

    server: str
    form: str
    size: str
    connections: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round of a cell came to.

    Attributes:
        rate: Requests a second.
        elements: Elements a second.
        p50: Milliseconds.
        p99: Likewise.
        cpu: CPU seconds of all the server's processes, a million elements.
        memory: Bytes that they held at most; 0 where nobody looked.
        growth: By how much that was more than before; likewise.
        failed: Requests that were not answered with 200.
    """

    rate: float
    elements: float
    p50: float
    p99: float
    cpu: float
    memory: int = 0
    growth: int = 0
    failed: int = 0


@dataclass
class Round:
    """All cells once, and the limits and the client's figures of the same minutes."""

    cells: dict[Cell, Sample] = field(default_factory=dict)
    limits: dict[str, dict[str, float]] = field(default_factory=dict)
    client: dict[str, float] = field(default_factory=dict)


@dataclass
class Run:
    """A whole run."""

    machine: dict[str, str]
    cores: int
    rounds: list[Round] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        rounds = [
            {
                "cells": [{**cell._asdict(), **asdict(sample)} for cell, sample in one.cells.items()],
                "limits": one.limits,
                "client": one.client,
            }
            for one in self.rounds
        ]
        found = {"machine": self.machine, "cores": self.cores, "absent": self.absent, "rounds": rounds}
        path.write_text(json.dumps(found, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        found = json.loads(path.read_text())
        rounds = []
        for one in found["rounds"]:
            cells = {}
            for row in one["cells"]:
                cell = Cell(*(row.pop(name) for name in Cell._fields))
                cells[cell] = Sample(**row)
            rounds.append(Round(cells, one["limits"], one["client"]))
        return cls(found["machine"], found["cores"], rounds, found["absent"])


class Spread(NamedTuple):
    """A figure over rounds."""

    median: float
    least: float
    greatest: float


def spread(values: Iterable[float]) -> Spread | None:
    """The median, the least and the greatest; None of none."""
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found)) if found else None


@dataclass(frozen=True, slots=True)
class Ratio:
    """A row of the table of ratios: what, what is asked, and what was reached."""

    what: str
    asked: float
    at_most: bool
    reached: Spread | None

    @property
    def verdict(self) -> str:
        """Whether the median is as asked."""
        if self.reached is None:
            return "not measured"
        good = self.reached.median <= self.asked if self.at_most else self.reached.median >= self.asked
        return "yes" if good else "no"


def each(run: Run, figure: Callable[[Round], float]) -> Spread | None:
    """A figure of every round that has what it needs."""
    found = []
    for one in run.rounds:
        try:
            found.append(figure(one))
        except (KeyError, ZeroDivisionError):
            continue
    return spread(found)


def _rates(ours: Cell, theirs: Cell) -> Callable[[Round], float]:
    return lambda one: one.cells[ours].rate / one.cells[theirs].rate


def best_form(run: Run, server: str) -> str | None:
    """The form in which a server answered most small requests on 16 connections."""
    rates: dict[str, float] = {}
    for form in {cell.form for one in run.rounds for cell in one.cells if cell.server == server}:
        cell = Cell(server, form, SMALL, 16)
        found = spread(one.cells[cell].rate for one in run.rounds if cell in one.cells)
        if found:
            rates[form] = found.median
    return max(rates, key=lambda form: rates[form], default=None)


def _of_the_cores(run: Run, cell: Cell, kernel: str) -> Callable[[Round], float]:
    """The least time that the cores need for what a cell sends, by the time that it took."""

    def figure(one: Round) -> float:
        loopback = one.limits["loopback"]
        size = STREAM_BYTES / loopback["bytes"] if cell.size == STREAM else 1.0
        cpu = (loopback["cpu"] + one.limits[f"core {kernel}"]["cpu"]) * size
        return cpu / run.cores * one.cells[cell].rate

    return figure


def ratios(run: Run) -> list[Ratio]:
    """Every row that is asked for, of lossd with each kernel."""
    rows: list[Ratio] = []
    for one, two, kernel in (
        (catalog.LOSSD, catalog.LOSSD_TWO, "eager"),
        (catalog.COMPILED, catalog.COMPILED_TWO, "compiled"),
    ):
        rows += _small_rows(run, one.name)
        rows += _large_rows(run, one.name, kernel, 0.55, "one worker, of one thread")
        rows += _large_rows(run, two.name, kernel, 0.7, "two workers")
    return [*rows, *_through_the_client(run)]


def _small_rows(run: Run, name: str) -> list[Ratio]:
    small = Cell(name, "npy", SMALL, 16)

    def against(what: str, asked: float, ours: Cell, theirs: Cell) -> Ratio:
        return Ratio(f"{name}: {what}", asked, at_most=False, reached=each(run, _rates(ours, theirs)))

    rows = [
        against("32x80 npy, 16 connections, against uvicorn that drops the body", 0.5, small,
                small._replace(server=catalog.LIMIT)),
        against("the same against FastAPI with np.load", 4, small, small._replace(server=catalog.NP_LOAD)),
    ]  # fmt: skip
    for peer in (catalog.LITSERVE, catalog.BENTOML, catalog.PYTRITON, catalog.RAY, catalog.MLSERVER):
        form = best_form(run, peer) or "its best form"
        rows.append(against(f"the same against {peer} ({form})", 25, small, Cell(peer, form, SMALL, 16)))
    json_form, v2_form = small._replace(form="json"), small._replace(form="v2")
    rows += [
        against("32x80 JSON, 16 connections, against FastAPI with pydantic", 10, json_form,
                json_form._replace(server=catalog.PYDANTIC)),
        against("the same v2 binary bytes against PyTriton", 20, v2_form,
                v2_form._replace(server=catalog.PYTRITON)),
    ]  # fmt: skip
    crowd, alone = small._replace(connections=64), small._replace(connections=1)
    rows += [
        Ratio(f"{name}: 32x80 npy, 64 connections, p99 over p50", 3, at_most=True,
              reached=each(run, lambda one: one.cells[crowd].p99 / one.cells[crowd].p50)),
        Ratio(f"{name}: 1 connection, p50 against FastAPI with np.load", 1.0, at_most=True,
              reached=each(run, lambda one: one.cells[alone].p50
                           / one.cells[alone._replace(server=catalog.NP_LOAD)].p50)),
    ]  # fmt: skip
    return rows


def _large_rows(run: Run, name: str, kernel: str, asked: float, how: str) -> list[Ratio]:
    large, stream = Cell(name, "npy", LARGE, 1), Cell(name, "arrow", STREAM, 1)
    growth = each(run, lambda one: one.cells[stream].growth / MIB)
    return [
        Ratio(f"{name}: {what}, one connection, of the cores' limit ({how})", asked, at_most=False,
              reached=each(run, _of_the_cores(run, cell, kernel)))
        for cell, what in ((large, "168 MB npy"), (stream, "Arrow stream of 2 GB"))
    ] + [Ratio(f"{name}: memory for the Arrow stream, MiB", 64, at_most=True, reached=growth)]  # fmt: skip


def _through_the_client(run: Run) -> list[Ratio]:
    what = "through the client, 0/1 targets against others of float32"
    sent = each(run, lambda one: one.client["sent_binary"] / one.client["sent_soft"])
    rate = each(run, lambda one: one.client["rate_binary"] / one.client["rate_soft"])
    return [
        Ratio(f"{what}: bytes sent", 0.63, at_most=True, reached=sent),
        Ratio(f"{what}: elements/s", 1.0, at_most=False, reached=rate),
    ]
