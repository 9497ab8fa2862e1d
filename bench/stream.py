"""Benchmark of an Arrow stream larger than the server's memory: ``make bench-stream``.

One batch is generated and sent again and again; nothing is stored. Prints the answer, the speed, and the peak
memory of the server's processes together, with the arena, beyond the memory that they held before.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.memory import Peak
from examples.local_server import LocalServer

CLASSES = 80
MIB = 1 << 20


def parts(rows: int, targets_dtype: str) -> tuple[bytes, bytes, bytes]:
    """Return a stream's schema, one batch and its end marker, as pyarrow writes them."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, rows * CLASSES).astype(np.float32)
    targets = (rng.random(rows * CLASSES) < 0.05).astype(targets_dtype)
    columns = [pa.FixedSizeListArray.from_arrays(pa.array(flat), CLASSES) for flat in (logits, targets)]
    batch = pa.record_batch(columns, names=["logits", "targets"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema):
        pass
    empty = sink.getvalue().to_pybytes()
    return empty[:-8], batch.serialize().to_pybytes(), empty[-8:]


def send(
    port: int, body: tuple[bytes, bytes, bytes], times: int, *, chunked: bool, loss: str = "focal"
) -> dict[str, object]:
    """Send the stream, and return the answer's JSON."""
    schema, batch, end = body
    length = len(schema) + times * len(batch) + len(end)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
    head = (
        f"POST /{loss} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/vnd.apache.arrow.stream\r\n"
        f"Connection: close\r\n{framing}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode())
        for part in (schema, *(batch for _ in range(times)), end):
            if chunked:
                connection.sendall(b"%x\r\n" % len(part))
            connection.sendall(part)
            if chunked:
                connection.sendall(b"\r\n")
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        answer = b""
        while data := connection.recv(1 << 16):
            answer += data
    status, _, rest = answer.partition(b"\r\n")
    if b"200" not in status:
        sys.exit(answer.decode(errors="replace"))
    found: dict[str, object] = json.loads(rest.partition(b"\r\n\r\n")[2])
    return found


def main() -> None:
    """Send the stream once with a length and once in chunks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=8.0)
    parser.add_argument("--arena-megabytes", type=int, default=512)
    parser.add_argument("--rows", type=int, default=25_000, help="of a batch")
    parser.add_argument("--targets", default="float32", help="the targets' dtype, such as bool")
    arguments = parser.parse_args()
    body = parts(arguments.rows, arguments.targets)
    times = max(1, round(arguments.gigabytes * 1e9 / len(body[1])))
    settings = {
        "arena_bytes": arguments.arena_megabytes * MIB,
        "max_body_bytes": 64 * MIB,
        "max_output_bytes": 64 * MIB,
    }
    lossd = Path(sys.executable).with_name("lossd")
    with LocalServer(lossd, settings=settings) as server:
        for chunked in (False, True):
            with Peak(server.pid) as memory:
                began = time.perf_counter()
                found = send(server.port, body, times, chunked=chunked)
                seconds = time.perf_counter() - began
            sent = times * len(body[1])
            print(
                f"{'chunked' if chunked else 'declared'}: {sent / 1e9:.2f} GB in batches of "
                f"{len(body[1]) / 1e6:.1f} MB, {found['count']} elements, loss {found['loss']!r}; "
                f"{seconds:.1f} s, {sent / seconds / 1e9:.2f} GB/s; memory "
                f"+{memory.growth / MIB:.0f} MiB on {memory.before / MIB:.0f} MiB, of which the arena may be "
                f"{arguments.arena_megabytes} MiB"
            )


if __name__ == "__main__":
    main()
