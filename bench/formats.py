"""Benchmark of the request formats, with a million elements: ``make bench-formats``.

The same 12,500 x 80 logits (float32) and targets are sent over one connection in every format, in turn,
several times. Prints the bytes sent, the seconds until the answer and the CPU seconds of all the server's
processes: medians, and ratios to .npy.
"""

from __future__ import annotations

import gzip
import http.client
import io
import statistics
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from bench.memory import cpu_seconds, family
from bench.payloads import as_json, npy, v2
from bench.table import number, options, table, tell
from examples.local_server import LocalServer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROWS, CLASSES = 12_500, 80
JSON, NPY, NPZ = "application/json", "application/x-npy", "application/x-npz"
ARROW, FORM = "application/vnd.apache.arrow.stream", "multipart/form-data; boundary=sep"

Array = npt.NDArray[Any]


@dataclass
class Case:
    """A format, its body and its measurements."""

    name: str
    body: bytes
    headers: dict[str, str]
    path: str = "/focal"
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    sum: float = 0.0


def npz(save: Callable[..., None], **arrays: Array) -> bytes:
    """Write arrays with np.savez or np.savez_compressed."""
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def form(**arrays: Array) -> bytes:
    """Write arrays as a form of .npy files."""
    parts = [
        f'--sep\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + npy(array) + b"\r\n"
        for name, array in arrays.items()
    ]
    return b"".join(parts) + b"--sep--\r\n"


def arrow(**arrays: Array) -> bytes:
    """Write arrays as an Arrow stream with batches of a thousand rows."""
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), CLASSES) for array in arrays.values()
    ]
    table = pa.table(columns, names=list(arrays))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    return sink.getvalue()


def cases() -> list[Case]:
    """Return every format with its body."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, (ROWS, CLASSES)).astype(np.float32)
    y = (rng.random((ROWS, CLASSES)) < 0.05).astype(np.float32)
    plain = npy(x, y)
    inference = v2(x, y, binary=True)
    document = {"logits": x, "targets": y.astype(np.uint8)}
    return [
        Case("npy", plain, {"Content-Type": NPY}),
        Case("npy, bool targets", npy(x, y.astype(bool)), {"Content-Type": NPY}),
        Case("npy, float16 logits, bool targets", npy(x.astype("f2"), y.astype(bool)), {"Content-Type": NPY}),
        Case("multipart", form(logits=x, targets=y), {"Content-Type": FORM}),
        Case("npz", npz(np.savez, logits=x, targets=y), {"Content-Type": NPZ}),
        Case("npz, compressed", npz(np.savez_compressed, logits=x, targets=y), {"Content-Type": NPZ}),
        Case("Arrow", arrow(logits=x, targets=y), {"Content-Type": ARROW}),
        Case("Arrow, bool targets", arrow(logits=x, targets=y.astype(bool)), {"Content-Type": ARROW}),
        Case("v2, binary", inference.data, inference.headers, "/v2/models/focal/infer"),
        Case("npy, zstd", zstd.compress(plain), {"Content-Type": NPY, "Content-Encoding": "zstd"}),
        Case("npy, gzip", gzip.compress(plain), {"Content-Type": NPY, "Content-Encoding": "gzip"}),
        Case("npy, deflate", zlib.compress(plain), {"Content-Type": NPY, "Content-Encoding": "deflate"}),
        Case(
            "JSON (orjson)", orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), {"Content-Type": JSON}
        ),
        Case(
            "JSON (json.dumps of tolist())",
            as_json(x, y),
            {"Content-Type": JSON},
        ),
    ]


def main() -> None:
    """Measure the formats in turn, and print the table."""
    parser = options("formats", __doc__, rounds=7)
    parser.add_argument("--times", type=int, default=10, help="requests of a format in a round")
    given = parser.parse_args()
    found = cases()
    with LocalServer(Path(sys.executable).with_name("lossd")) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for turn in range(given.rounds + 1):
            for case in found:
                before, began = cpu_seconds(*family(server.pid)), time.perf_counter()
                for _ in range(given.times):
                    connection.request("POST", case.path, case.body, case.headers)
                    answer = connection.getresponse()
                    text = answer.read()
                    if answer.status != 200:
                        sys.exit(f"{case.name}: {text.decode()}")
                if turn:  # the first is for warming up
                    case.seconds.append((time.perf_counter() - began) / given.times)
                    case.cpu.append((cpu_seconds(*family(server.pid)) - before) / given.times)
        connection.close()
    base, base_cpu = statistics.median(found[0].seconds), statistics.median(found[0].cpu)
    rows = []
    for case in found:
        wall, cpu = statistics.median(case.seconds), statistics.median(case.cpu)
        size = f"{len(case.body) / 1e6:.1f}"
        rows.append((case.name, size, *map(number, (1e3 * wall, wall / base, 1e3 * cpu, cpu / base_cpu))))
    columns = ("format", "MB", "ms", "of npy's", "server CPU, ms", "of npy's")
    tell("bench-formats", given, table(columns, rows))


if __name__ == "__main__":
    main()
