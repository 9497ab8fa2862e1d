"""What a caller of small requests notices of one who posts large JSON bodies: ``make bench-neighbour``.

A 32x80 .npy request is sent again and again on one connection, with and without a neighbour, in turn; the
neighbour is a process of its own that posts a JSON body of 30 MB as often as it is answered.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import multiprocessing
import statistics
import sys
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from examples.local_server import LocalServer

MEGABYTES = 30


def small() -> bytes:
    """A 32x80 request: float32 logits and targets."""
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    np.save(file, rng.normal(0, 3, (32, 80)).astype(np.float32))
    np.save(file, (rng.random((32, 80)) < 0.05).astype(np.float32))
    return file.getvalue()


def large(megabytes: int) -> bytes:
    """A JSON body of about so many megabytes, as json.dumps writes tolist()."""
    rng = np.random.default_rng(0)
    rows = megabytes * 1_000_000 // (80 * 26)
    logits = rng.normal(0, 3, (rows, 80)).astype(np.float32)
    targets = (rng.random((rows, 80)) < 0.05).astype(np.float32)
    return json.dumps({"logits": logits.tolist(), "targets": targets.tolist()}).encode()


def post(connection: http.client.HTTPConnection, body: bytes, media: str) -> None:
    """One request."""
    connection.request("POST", "/focal", body, {"Content-Type": media})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        sys.exit(text.decode())


def neighbour(port: int, body: bytes, wanted: Event, ended: Event, posted: Event) -> None:
    """Post large bodies whenever wanted."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not ended.is_set():
        if wanted.wait(0.1):
            post(connection, body, "application/json")
            posted.set()
    connection.close()


def latencies(connection: http.client.HTTPConnection, body: bytes, seconds: float) -> list[float]:
    """Seconds of each request, one after the other, for a while."""
    found = []
    ends = time.perf_counter() + seconds
    while (began := time.perf_counter()) < ends:
        post(connection, body, "application/x-npy")
        found.append(time.perf_counter() - began)
    return found


def main() -> None:
    """Measure, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each half of a round")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    wanted, ended, posted = context.Event(), context.Event(), context.Event()
    body = large(MEGABYTES)
    alone: list[float] = []
    beside: list[float] = []
    with LocalServer(Path(sys.executable).with_name("lossd")) as server:
        other = context.Process(target=neighbour, args=(server.port, body, wanted, ended, posted))
        other.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        latencies(connection, small(), 1.0)
        for _ in range(arguments.rounds):
            alone += latencies(connection, small(), arguments.seconds)
            posted.clear()
            wanted.set()
            posted.wait(60)
            beside += latencies(connection, small(), arguments.seconds)
            wanted.clear()
            time.sleep(1.0)  # the last large one ends
        ended.set()
        other.join()
        connection.close()
    print(f"the neighbour's body: {len(body) / 1e6:.1f} MB of JSON")  # noqa: T201
    cuts = {}
    for name, found in (("alone", alone), ("beside", beside)):
        quantiles = statistics.quantiles(found, n=100)
        cuts[name] = quantiles[98]
        print(  # noqa: T201
            f"{name}: {len(found)} requests, p50 {1e3 * quantiles[49]:.2f} ms, p99 {1e3 * quantiles[98]:.2f} "
            f"ms, longest {1e3 * max(found):.2f} ms"
        )
    print(f"p99 beside / alone: {cuts['beside'] / cuts['alone']:.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
