"""Benchmark of small requests beside large ones: ``make bench-neighbour`` and ``make bench-backlog``.

Team ``small`` sends 32x80 .npy requests one after the other on one connection, in turn alone and beside team
``big``. Big has one connection that sends requests of 30 MB of JSON, or three that send requests of 200 MB of
.npy. Each of its connections is a process.
"""

from __future__ import annotations

import http.client
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path
from typing import Final

import numpy as np

from bench.payloads import CLASSES, SMALL, Payload, as_json, npy, payload
from bench.table import Figure, of_figures, options, tell
from examples.local_server import LocalServer
from lossd.teams import Team, digest_of, new_key
from lossd.teams_file import add_key, add_team

JSON_BYTES, NPY_BYTES, AT_ONCE = 30_000_000, 200_000_000, 3
_SETTLE_SECONDS: Final = 1.0


def large(kind: str) -> Payload:
    """Return a body of big's: logits like a model's, and 0/1 targets, float32."""
    rng = np.random.default_rng(0)
    rows = JSON_BYTES // (CLASSES * 26) if kind == "json" else NPY_BYTES // (CLASSES * 8)
    x = np.resize(rng.normal(0, 3, 1 << 16).astype(np.float32), (rows, CLASSES))
    y = (np.resize(rng.random(1 << 16), (rows, CLASSES)) < 0.05).astype(np.float32)
    if kind == "json":
        return Payload(as_json(x, y), {"Content-Type": "application/json"})
    return Payload(npy(x, y), {"Content-Type": "application/x-npy"})


class Caller:
    """A team's connection, opened again when it breaks."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._key = {"Authorization": f"Bearer {key}"}

    def post(self, body: Payload) -> int:
        """Send one request, and return the status of its answer; 0 if there was none."""
        try:
            self._connection.request("POST", "/focal", body.data, body.headers | self._key)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0
        return answer.status


def big(kind: str, port: int, key: str, ready: Semaphore, wanted: Event, ended: Event) -> None:
    """Send requests of team big one after the other while they are wanted. Runs in a process of its own."""
    caller, body, statuses = Caller(port, key), large(kind), Counter[int]()
    ready.release()
    while not ended.is_set():
        if wanted.wait(0.1):
            status = caller.post(body)
            statuses[status] += 1
            if status != 200:
                time.sleep(0.1)
    print(f"big: {statuses[200]} scored, other statuses: {dict(statuses - Counter({200: statuses[200]}))}")


def small(caller: Caller, seconds: float) -> list[float]:
    """Send small's requests for some seconds, and return the seconds that each took."""
    found, body = [], payload("npy", SMALL)
    ends = time.perf_counter() + seconds
    while (began := time.perf_counter()) < ends:
        if (status := caller.post(body)) != 200:
            sys.exit(f"small: status {status}")
        found.append(time.perf_counter() - began)
    return found


def p99(seconds: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(seconds, n=100)[98]


def teams(folder: Path) -> tuple[Path, dict[str, str]]:
    """Write a teams file, and return it with the teams' keys."""
    path, keys = folder / "teams.toml", {}
    for name in ("small", "big"):
        key_id, keys[name] = new_key()
        add_team(path, Team(name))
        add_key(path, name, key_id, digest_of(keys[name]))
    return path, keys


def main() -> None:
    """Measure both halves of each round, and print the table."""
    parser = options("neighbour", __doc__, rounds=5)
    parser.add_argument("kind", choices=("json", "npy"), help="what big sends")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each half of a round")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ready, wanted, ended = context.Semaphore(0), context.Event(), context.Event()
    alone, beside, ratio = (
        Figure("alone: p99, ms"),
        Figure("beside: p99, ms"),
        Figure("ratio"),
    )
    longest = Figure("beside: longest, ms")
    with tempfile.TemporaryDirectory() as place:
        path, keys = teams(Path(place))
        with LocalServer(Path(sys.executable).with_name("lossd"), settings={"teams": path}) as server:
            arguments = (given.kind, server.port, keys["big"], ready, wanted, ended)
            others = [
                context.Process(target=big, args=arguments)
                for _ in range(1 if given.kind == "json" else AT_ONCE)
            ]
            for other in others:
                other.start()
            for _ in others:
                ready.acquire()
            caller = Caller(server.port, keys["small"])
            small(caller, 1.0)
            for _ in range(given.rounds):
                first = small(caller, given.seconds)
                wanted.set()
                time.sleep(_SETTLE_SECONDS)
                second = small(caller, given.seconds)
                wanted.clear()
                time.sleep(2 * _SETTLE_SECONDS)  # the last large ones end
                alone.found.append(1e3 * p99(first))
                beside.found.append(1e3 * p99(second))
                longest.found.append(1e3 * max(second))
                ratio.found.append(p99(second) / p99(first))
            ended.set()
            for other in others:
                other.join()
    command = "bench-neighbour" if given.kind == "json" else "bench-backlog"
    tell(command, given, of_figures([alone, beside, longest, ratio]))


if __name__ == "__main__":
    main()
