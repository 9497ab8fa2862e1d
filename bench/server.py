"""Benchmark of the server against a small service and an upper limit: ``make bench-server``.

Three servers run: lossd on its default settings; FastAPI with ten lines around torch's own loss; and uvicorn
with an application that reads the body and drops it, which no framework can beat. Only the measured one is
busy. In each round the two sides of a ratio are measured one after the other, each first in every other
round. Needs wrk.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.loads import Load, by_hand, by_wrk, exchange, need_wrk, post
from bench.memory import cpu_seconds, find, own
from bench.payloads import CLASSES, LARGE, MIDDLE, SMALL, numbers, payload
from bench.servers import Running, lossd, uvicorn
from bench.table import Figure, number, of_figures, options, table, tell
from lossd_client import LossClient

FASTAPI: Final = "bench.peers.servers.fastapi_server:app"
FRONT_END, WORKER = "lossd.api.main", "lossd.engine.worker.main"
PATHS: Final = {
    "lossd": {"npy": "/bce", "npy-bool": "/bce", "json": "/bce"},
    "FastAPI": {"npy": "/npy", "npy-bool": "/npy", "json": "/json"},
    "uvicorn": {"npy": "/"},
}
LARGE_TIMES: Final = 4
KILLS: Final = 5
MIB: Final = 1 << 20


@dataclass(slots=True)
class Bench:
    """The servers and their measurements."""

    servers: dict[str, Running]
    seconds: int
    loads: dict[tuple[str, str, int, int], list[Load]] = field(default_factory=dict)

    def load(self, server: str, form: str, rows: int, connections: int) -> Load:
        """Measure a load on a server, and keep the outcome."""
        port, body = self.servers[server].port, payload(form, rows)
        found = by_wrk(port, PATHS[server][form], body, connections, self.seconds)
        self.loads.setdefault((server, form, rows, connections), []).append(found)
        return found

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row of medians for each load."""
        return [
            (server, form, f"{rows:,}x{CLASSES}", str(connections), *_medians(found))
            for (server, form, rows, connections), found in self.loads.items()
        ]


def _medians(found: list[Load]) -> list[str]:
    return [number(statistics.median(getattr(one, name) for one in found)) for name in ("rate", "p50", "p99")]


@dataclass(frozen=True, slots=True)
class Pair:
    """A ratio of lossd's figure to another server's, for the same body."""

    figure: Figure
    other: str
    form: str
    rows: int
    connections: int
    of: Callable[[Load], float] = lambda load: load.rate

    def measure(self, bench: Bench, turn: int) -> None:
        """Measure both sides, one after the other."""
        sides = ["lossd", self.other] if turn % 2 else [self.other, "lossd"]
        found = {side: self.of(bench.load(side, self.form, self.rows, self.connections)) for side in sides}
        if found[self.other]:
            self.figure.found.append(found["lossd"] / found[self.other])


def pairs() -> list[Pair]:
    """Return the comparisons."""
    small = [
        Pair(Figure("32x80 npy, 16 connections, requests/s of uvicorn's that drops the body"),
             "uvicorn", "npy", SMALL, 16),
        Pair(Figure("the same of FastAPI's with np.load"), "FastAPI", "npy", SMALL, 16),
        Pair(Figure("32x80 JSON, 16 connections, requests/s of FastAPI's with pydantic"),
             "FastAPI", "json", SMALL, 16),
        Pair(Figure("32x80 npy, 1 connection, p50 of FastAPI's with np.load"),
             "FastAPI", "npy", SMALL, 1, lambda load: load.p50),
    ]  # fmt: skip
    middle = [
        Pair(Figure(f"4,096x80 {form}, connections: {connections}, requests/s of FastAPI's"),
             "FastAPI", form, MIDDLE, connections)
        for form in ("npy", "npy-bool")
        for connections in (1, 4, 16, 64)
    ]  # fmt: skip
    return small + middle


def crowd(bench: Bench, figure: Figure) -> None:
    """Measure how far the slowest of 64 connections fall behind."""
    found = bench.load("lossd", "npy", SMALL, 64)
    figure.found.append(found.p99 / found.p50)


def heads(running: Running, seconds: int, figure: Figure, turn: int) -> None:
    """Measure the front end's CPU time for the client's headers against wrk's, with the same body."""
    front, body = find(running.pid, FRONT_END), payload("npy", SMALL)
    path, headers = client_head()
    ways = {"wrk": ("/bce", body.headers), "client": (path, headers)}
    cost = {}
    for name in sorted(ways, reverse=bool(turn % 2)):
        before = cpu_seconds(front)
        found = by_wrk(running.port, ways[name][0], body, 16, seconds, ways[name][1])
        cost[name] = (cpu_seconds(front) - before) / found.requests
    figure.found.append(cost["client"] / cost["wrk"])


def client_head() -> tuple[str, dict[str, str]]:
    """Return the target and the headers of the client's requests; ``*`` is a value that changes."""
    seen: list[tuple[str, dict[str, str]]] = []
    x, y = numbers(SMALL)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as file:
                while line := file.readline():
                    headers = http.client.parse_headers(file)
                    file.read(int(headers["Content-Length"]))
                    seen.append((line.split()[1].decode(), dict(headers.items())))
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with LossClient(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            for _ in range(2):
                try:
                    client.bce(x, y)
                except Exception:  # noqa: S112 -- only the request counts
                    continue
        thread.join()
    (path, first), (_, second) = seen[:2]
    wrks = {"host", "content-length"}
    kept = {name: value for name, value in first.items() if name.lower() not in wrks}
    return path, {name: value if second[name] == value else "*" for name, value in kept.items()}


def large(sides: dict[str, Running], figures: dict[str, Figure], turn: int) -> None:
    """Send 168 MB to /focal on one connection: elements a second, and the ratio if there are two servers."""
    rates = {}
    for name in sorted(sides, reverse=bool(turn % 2)):
        body = payload("npy", LARGE)
        rates[name] = by_hand(sides[name].port, "/focal", body, LARGE_TIMES).rate * LARGE * CLASSES
        figures[name].found.append(rates[name] / 1e6)
    if len(rates) > 1:
        figures["ratio"].found.append(rates["lossd"] / rates["against"])


def worker(running: Running, figures: dict[str, Figure]) -> None:
    """Measure the wait of a caller when a worker is killed, and a worker's memory and start."""
    body = payload("npy", MIDDLE)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    for _ in range(KILLS):
        exchange(connection, "/bce", body)
        killed, longest = find(running.pid, WORKER), 0.0
        figures["memory"].found.append(own(killed) / MIB)
        killing = threading.Timer(0.1, os.kill, (killed, signal.SIGKILL))
        killing.start()
        ends = time.perf_counter() + 3.0
        while (began := time.perf_counter()) < ends:
            exchange(connection, "/bce", body)
            longest = max(longest, time.perf_counter() - began)
        figures["wait"].found.append(longest)
        killing.join()
    connection.close()
    for _ in range(KILLS):
        figures["ready"].found.append(ready_seconds(running))


def ready_seconds(running: Running) -> float:
    """Kill the worker, and return the seconds from the next one's start until it is ready."""
    post(running.port, "/bce", payload("npy", MIDDLE))
    killed = find(running.pid, WORKER)
    os.kill(killed, signal.SIGKILL)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    fresh = 0
    while True:
        time.sleep(0.002)
        if not fresh:
            try:
                fresh = find(running.pid, WORKER)
            except (OSError, ValueError):  # there is none at the moment
                continue
            fresh = 0 if fresh == killed else fresh
            continue
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            break
    connection.close()
    ticks = int(Path(f"/proc/{fresh}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def servers(against: Path | None) -> Iterator[dict[str, Running]]:
    """Run all servers."""
    with ExitStack() as stack:
        found = {
            "lossd": stack.enter_context(lossd()),
            "FastAPI": stack.enter_context(uvicorn(FASTAPI, "/npy")),
            "uvicorn": stack.enter_context(uvicorn("bench.servers:read_and_drop", "/")),
        }
        if against:
            found["against"] = stack.enter_context(lossd(against))
        yield found


def main() -> None:
    """Measure all parts, and print the tables."""
    parser = options("server", __doc__, rounds=5)
    parser.add_argument("--seconds", type=int, default=1, help="of each load by wrk")
    parser.add_argument("--only", default="small,large,worker", help="parts, separated by commas")
    parser.add_argument(
        "--against", type=Path, help="another checkout, whose server gets large requests, too"
    )
    given = parser.parse_args()
    need_wrk()
    parts = set(given.only.split(","))
    against = given.against.resolve() if given.against else None
    compared = pairs()
    tail = Figure("32x80 npy, 64 connections, p99 over p50")
    head = Figure("32x80 npy, the client's own head: CPU of the front end, of wrk's head")
    sizes = {
        "lossd": Figure("168 MB npy to /focal, 1 connection, million elements/s"),
        "against": Figure(f"the same of {against}"),
        "ratio": Figure("their ratio"),
    }
    deaths = {
        "wait": Figure("a worker is killed: longest wait of a 4,096x80 request, s"),
        "memory": Figure("a worker's memory without the arena, MiB"),
        "ready": Figure("a worker is ready after, s"),
    }
    with servers(against) as running:
        bench = Bench(running, given.seconds)
        sides = {name: one for name, one in running.items() if name in sizes}
        if "small" in parts:
            for pair in compared[:3]:  # a warm-up
                pair.measure(Bench(running, 1), 0)
                pair.figure.found.clear()
        for turn in range(given.rounds):
            if "small" in parts:
                for pair in compared:
                    pair.measure(bench, turn)
                crowd(bench, tail)
                heads(running["lossd"], given.seconds, head, turn)
            if "large" in parts:
                large(sides, sizes, turn)
        if "worker" in parts:
            worker(running["lossd"], deaths)
    shown = [pair.figure for pair in compared] + [tail, head, *sizes.values(), *deaths.values()]
    tables = [of_figures([one for one in shown if one.found])]
    if bench.loads:
        columns = ("server", "form", "size", "connections", "requests/s", "p50, ms", "p99, ms")
        tables.append(table(columns, bench.rows()))
    tell("bench-server", given, *tables)


if __name__ == "__main__":
    main()
