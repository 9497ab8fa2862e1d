"""Benchmark of reports: ``make bench-reports``.

The CPU time of all of a server's processes for requests with a report, divided by that of the same requests
without, in turn on one connection; the memory of a report over an Arrow stream, beside the same stream
without; and what the lists, the sweep and ``lossd report`` cost.
"""

from __future__ import annotations

import functools
import http.client
import io
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.loads import exchange
from bench.memory import Peak, cpu_seconds, family
from bench.payloads import MEDIA, Payload, npy
from bench.servers import ROOT, Running, lossd
from bench.table import Figure, number, options, table, tell
from lossd_client.report import Report

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

Array = npt.NDArray[Any]

GAMMAS: Final = (0.0, 1.0, 1.5, 2.0, 3.0)
ALPHAS: Final = (0.25, 0.5, 0.75)
SWEEP: Final = f"sweep&sweep=gamma:{','.join(f'{gamma:g}' for gamma in GAMMAS)}"
WAYS: Final = {
    "bce": ("totals", "all"),
    "focal": ("totals", "all", SWEEP),
}
"""The reports that are measured, by loss."""
IMAGES: Final = (64, 8400, 80)
SHAPES: Final = ((4096, 80), IMAGES, (1 << 22,))
LONG_ENOUGH: Final = 0.5
"""Requests take so many CPU seconds together; the clock of processes goes by hundredths."""
SHARDS: Final = 8
CLASSES: Final = 80
MIB: Final = 1 << 20


@functools.lru_cache(maxsize=2)
def numbers(shape: tuple[int, ...], dtype: str) -> tuple[Array, Array]:
    """Return logits of a dtype, and 0/1 targets of it: those of a detector, one in twenty positive."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(shape, np.float32)
    logits *= 3
    return logits.astype(dtype), (rng.random(shape, np.float32) < 0.05).astype(dtype)


def body_of(*arrays: Array) -> Payload:
    """Return a request of .npy files."""
    return Payload(npy(*arrays), {"Content-Type": MEDIA["npy"]})


@dataclass(slots=True)
class Costs:
    """What requests of a shape and dtype cost.

    Attributes:
        shape: The shape.
        dtype: The dtype of logits and targets.
        plain: Nanoseconds of CPU an element without a report, by loss.
        ratios: The CPU time with a report by that without, by loss and report.
    """

    shape: tuple[int, ...]
    dtype: str
    plain: dict[str, Figure] = field(default_factory=lambda: {loss: Figure(loss) for loss in WAYS})
    ratios: dict[tuple[str, str], Figure] = field(
        default_factory=lambda: {(loss, way): Figure(way) for loss, ways in WAYS.items() for way in ways}
    )

    def measure(self, running: Running, rounds: int) -> None:
        """Measure all reports and the requests without, in turn, another one first in each round."""
        body = body_of(*numbers(self.shape, self.dtype))
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=300.0)

        def cost(path: str, times: int) -> float:
            """Return a request's CPU seconds."""
            before = cpu_seconds(*family(running.pid))
            for _ in range(times):
                exchange(connection, path, body)
            return (cpu_seconds(*family(running.pid)) - before) / times

        for loss, ways in WAYS.items():
            paths = {"": f"/{loss}"} | {way: f"/{loss}?report={way}" for way in ways}
            times = {}
            for way, path in paths.items():
                cost(path, 1)  # a warm-up
                times[way] = max(1, math.ceil(LONG_ENOUGH / max(0.001, cost(path, self._few))))
            for turn in range(rounds):
                order = [*paths][turn % len(paths) :] + [*paths][: turn % len(paths)]
                found = {way: cost(paths[way], times[way]) for way in order}
                self.plain[loss].found.append(1e9 * found[""] / math.prod(self.shape))
                for way in ways:
                    self.ratios[loss, way].found.append(found[way] / found[""])
        connection.close()

    @property
    def _few(self) -> int:
        """How many requests show about what one costs."""
        return max(1, (1 << 23) // math.prod(self.shape))

    def row(self) -> tuple[str, ...]:
        """Return its row of the table."""
        cells = [f"{'x'.join(f'{n:,}' for n in self.shape)} {self.dtype}"]
        for loss, ways in WAYS.items():
            _, plain, _ = self.plain[loss].row()
            cells.append(plain)
            for way in ways:
                _, median, spread = self.ratios[loss, way].row()
                cells.append(f"{median} ({spread})")
        return tuple(cells)


def columns() -> tuple[str, ...]:
    """Return the heads of the table of costs."""
    heads = ["npy logits and targets"]
    for loss, ways in WAYS.items():
        heads.append(f"{loss}: ns an element")
        heads += [f"report={way.partition('&')[0]}" for way in ways]
    return tuple(heads)


def lists(running: Running) -> Iterator[tuple[str, float]]:
    """Measure the answers of a report over 43 M elements: the 100 worst, and a sweep."""
    x, y = numbers(IMAGES, "float16")
    body = body_of(x, y.astype(np.uint8))
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=300.0)
    answer = exchange(connection, "/focal?report=top&top=100", body)
    yield "the 100 worst rows and elements of 43 M: answer, kB", len(answer) / 1e3
    began = time.perf_counter()
    answer = exchange(connection, f"/focal?report={SWEEP}", body)
    report = Report(json.loads(answer)["report"])
    means = [report.at(gamma=gamma, alpha=alpha) for gamma, alpha in itertools.product(GAMMAS, ALPHAS)]
    seconds = time.perf_counter() - began
    yield "5 gammas and 3 alphas over 43 M: sent, MB", len(body.data) / 1e6
    began, wrong = time.perf_counter(), 0.0
    for mean, (gamma, alpha) in zip(means, itertools.product(GAMMAS, ALPHAS), strict=True):
        own = json.loads(exchange(connection, f"/focal?gamma={gamma}&alpha={alpha}", body))["loss"]
        wrong = max(wrong, abs(mean / own - 1))
    yield "its seconds by those of 15 requests", seconds / (time.perf_counter() - began)
    yield "its 15 means: greatest relative difference from those, 1e-15", wrong * 1e15
    connection.close()


class Chunks(io.RawIOBase):
    """A file whose bytes are sent as the chunks of a request's body.

    Args:
        connection: The connection, on which the headers have been sent.
    """

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        super().__init__()
        self._connection = connection

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def write(self, data: Buffer) -> int:
        """Send some bytes."""
        view = memoryview(data)
        if view.nbytes:
            self._connection.send(b"%x\r\n" % view.nbytes)
            self._connection.send(view)
            self._connection.send(b"\r\n")
        return view.nbytes


def batches(rows: int, count: int) -> Iterator[pa.RecordBatch]:
    """Yield batches: float32 logits and targets, two columns of groups, and for each row an id, a string."""
    rng = np.random.default_rng(1)
    columns: dict[str, Any] = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(one.reshape(-1)), CLASSES)
        for name, one in zip(("logits", "targets"), numbers((rows, CLASSES), "float32"), strict=True)
    }
    columns["group.camera"] = pa.array(rng.integers(0, 50, rows))
    columns["group.place"] = pa.array(rng.choice(["north", "south", "harbour"], rows)).dictionary_encode()
    for number in range(count):
        ids = pa.array(np.arange(number * rows, (number + 1) * rows)).cast(pa.string())
        yield pa.record_batch(columns | {"ids": ids})


def stream(running: Running, path: str, some: Iterator[pa.RecordBatch]) -> bytes:
    """Send batches as a stream, and return the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=300.0)
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", "application/vnd.apache.arrow.stream")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    first = next(some)
    with pa.ipc.new_stream(Chunks(connection), first.schema) as writer:
        for batch in itertools.chain((first,), some):
            writer.write_batch(batch)
    connection.send(b"0\r\n\r\n")
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        raise OSError(f"{path}: {answer.status}: {text[:300]!r}")
    return text


def stream_memory(gigabytes: float, *, report: bool) -> int:
    """Return how many bytes a new server's processes, with the arena, grow by while they score a stream.

    Args:
        gigabytes: The stream's length, about.
        report: Ask for all sections, with groups, ids and a list of 100; else send the logits and targets
            alone.
    """
    rows = 5_000
    count = max(2, round(gigabytes * 1e9 / (8 * CLASSES * rows)))
    found = batches(rows, count)
    path = f"/focal?report=all,{SWEEP}&top=100" if report else "/focal"
    if not report:
        found = (batch.select(["logits", "targets"]) for batch in found)
    with lossd(settings={"LOSSD_DEVICE": "cpu"}) as running, Peak(running.pid, interval=0.01) as memory:
        stream(running, path, found)
    return memory.growth


class Cost(NamedTuple):
    """What a command took.

    Attributes:
        seconds: Its time.
        peak: Its most memory, in bytes.
        growth: By how many bytes the server's memory grew.
    """

    seconds: float
    peak: int
    growth: int


def command(running: Running, folder: Path, shards: int) -> Cost:
    """Have ``lossd report`` score shards of images, by camera and class, with the 100 worst."""
    x, y = numbers(IMAGES, "float16")
    for number in range(shards):  # the cameras alone differ, since a shard that is there twice is refused
        cameras = np.arange(number, number + len(x)) % 16
        np.savez(folder / f"part-{number}.npz", logits=x, targets=y.astype(np.uint8), camera=cameras)
    files = sorted(map(str, folder.glob("*.npz")))
    given = [
        *files,
        "--loss",
        "focal",
        "--by",
        "camera",
        "--top",
        "100",
        "--out",
        str(folder / "report.json"),
    ]
    with Peak(running.pid) as memory:
        began = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 -- our own command
            [sys.executable, "-m", "lossd", "report", *given, "--url", f"http://127.0.0.1:{running.port}"],
            env=os.environ | {"PYTHONPATH": f"{ROOT}/service{os.pathsep}{ROOT}/client"},
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    if status:
        raise OSError(f"lossd report ended with status {status}")
    return Cost(seconds, usage.ru_maxrss << 10, memory.growth)


def main() -> None:
    """Measure the parts, and print the tables."""
    parser = options("reports", __doc__, rounds=3)
    parser.add_argument("--only", default="costs,lists,stream,command", help="parts, separated by commas")
    parser.add_argument("--long", action="store_true", help="let the stream have 2 GB, instead of 0.4")
    given = parser.parse_args()
    parts = set(given.only.split(","))
    costs = [Costs(shape, dtype) for shape in SHAPES for dtype in ("float32", "float16")]
    found: list[tuple[str, float]] = []
    with lossd(settings={"LOSSD_DEVICE": "cpu"}) as running:
        if "costs" in parts:
            for one in costs:
                one.measure(running, given.rounds)
        if "lists" in parts:
            found += lists(running)
    if "stream" in parts:
        gigabytes = 2.0 if given.long else 0.4
        plain, report = (stream_memory(gigabytes, report=report) for report in (False, True))
        name = f"{gigabytes:g} GB of Arrow: the server's peak memory"
        found.append((f"{name}, MiB", plain / MIB))
        found.append((f"{name} with a report of everything, beyond that, MiB", (report - plain) / MIB))
    if "command" in parts:
        with lossd(settings={"LOSSD_DEVICE": "cpu"}) as running, tempfile.TemporaryDirectory() as folder:
            cost = command(running, Path(folder), SHARDS)
        name = f"lossd report of {SHARDS} shards of 64x8,400x80 by camera"
        found.append((f"{name}: seconds", cost.seconds))
        found.append((f"{name}: the command's peak memory, MiB", cost.peak / MIB))
        found.append((f"{name}: the server's memory, beyond that before, MiB", cost.growth / MIB))
    tables = [table(columns(), [one.row() for one in costs])] if "costs" in parts else []
    if found:
        tables.append(table(("what, once", "value"), [(what, number(value)) for what, value in found]))
    tell("bench-reports", given, *tables)


if __name__ == "__main__":
    main()
