"""What a team of small requests notices of one with a backlog of large ones: ``make bench-backlog``.

Over HTTP, with a teams file. Team ``small`` sends 32x80 .npy requests one after the other on one connection,
alone and in turn beside team ``big``, which always has three requests of 200 MB under way, each on a
connection of its own. Both are processes of their own.
"""

from __future__ import annotations

import argparse
import http.client
import io
import multiprocessing
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib.format import header_data_from_array_1_0, write_array_header_1_0

from bench.neighbour import small
from examples.local_server import LocalServer
from lossd.teams import Team, digest_of, new_key
from lossd.teamsfile import add_key, add_team

MEGABYTES: Final = 200
AT_ONCE: Final = 3
ASKED: Final = 3.0
"""How many times as long small's requests may take beside big's, by their p99."""
REFUSALS: Final = (413, 429, 503, 507)
_SETTLE_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 300.0


@dataclass(slots=True)
class Found:
    """What a caller saw.

    Attributes:
        seconds: Of each request that was scored.
        statuses: How many had which; 0 without an answer.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def add(self, other: Found) -> None:
        """Count what another saw, too."""
        self.seconds += other.seconds
        self.statuses += other.statuses

    def says(self) -> str:
        """What became of them, in words."""
        refused = sum(count for status, count in self.statuses.items() if status in REFUSALS)
        failed = self.statuses.total() - self.statuses[200] - refused
        said = f"{self.statuses[200]} scored, {refused} refused, {failed} failed"
        return f"{said} (statuses {dict(self.statuses)})" if refused or failed else said


def large(megabytes: int) -> list[memoryview]:
    """A body of about so many megabytes: float32 logits and targets, the same values for both."""
    elements = megabytes * 1_000_000 // 8
    random = np.random.default_rng(0)
    piece = random.random(1 << 16).astype(np.float32)  # as logits as good as any, and right as targets
    values = np.resize(piece, (elements // 80, 80))
    head = io.BytesIO()
    write_array_header_1_0(head, header_data_from_array_1_0(values))
    data = memoryview(values.data).cast("B")
    return [memoryview(head.getvalue()), data] * 2


class Caller:
    """A team's connection, made anew when it breaks."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._socket: socket.socket | None = None

    def post(self, body: Sequence[memoryview]) -> int:
        """One request; its answer's status, or 0 if there was none."""
        length = sum(part.nbytes for part in body)
        head = (
            f"POST /focal HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/x-npy\r\nContent-Length: {length}\r\n\r\n"
        )
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=120)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(ConnectionError):  # it is refused: there is an answer to read
                if length < 1 << 16:
                    self._socket.sendall(b"".join([head.encode(), *body]))
                else:
                    self._socket.sendall(head.encode())
                    for part in body:
                        self._socket.sendall(part)
            answer = http.client.HTTPResponse(self._socket, method="POST")
            answer.begin()
            answer.read()
            if answer.will_close:
                self.close()
        except (OSError, http.client.HTTPException):
            self.close()
            return 0
        return answer.status

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def small_team(port: int, key: str, orders: Connection) -> None:
    """The process of team small: for each number of seconds that comes, what it found in so long."""
    caller = Caller(port, key)
    body = [memoryview(small())]
    while (seconds := orders.recv()) is not None:
        found = Found()
        ends = time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends:
            status = caller.post(body)
            if status == 200:
                found.seconds.append(time.perf_counter() - began)
            found.statuses[status] += 1
        orders.send(found)
    caller.close()


def big_team(port: int, key: str, megabytes: int, orders: Connection) -> None:
    """The process of team big: begins, ends, and says what it found, as it is told."""
    body = large(megabytes)
    while orders.recv() is not None:
        found, ended = Found(), threading.Event()
        begun = [threading.Event() for _ in range(AT_ONCE)]
        threads = [
            threading.Thread(target=_backlog, args=(port, key, body, found, one, ended)) for one in begun
        ]
        for thread in threads:
            thread.start()
        for one in begun:
            one.wait()
        orders.send("begun")
        orders.recv()
        ended.set()
        for thread in threads:
            thread.join()
        orders.send(found)


def _backlog(
    port: int,
    key: str,
    body: Sequence[memoryview],
    found: Found,
    begun: threading.Event,
    ended: threading.Event,
) -> None:
    """One of big's connections: a request as soon as the one before is answered."""
    caller = Caller(port, key)
    while not ended.is_set():
        begun.set()
        began = time.perf_counter()
        status = caller.post(body)
        found.seconds.append(time.perf_counter() - began)
        found.statuses[status] += 1
        if status != 200:
            time.sleep(0.1)
    caller.close()


@contextmanager
def process(target: object, *arguments: object) -> Iterator[Connection]:
    """A process, and the pipe that it takes its orders from; None ends it."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    running = context.Process(target=target, args=(*arguments, theirs), daemon=True)  # type: ignore[arg-type]
    running.start()
    theirs.close()
    try:
        yield mine
        mine.send(None)
        running.join(_PATIENCE_SECONDS)
    finally:
        mine.close()
        running.terminate()
        running.join()


def ask(orders: Connection, what: object) -> Found | str:
    """Give an order; what comes of it."""
    orders.send(what)
    if not orders.poll(_PATIENCE_SECONDS):
        sys.exit("a caller says nothing any more")
    found: Found | str = orders.recv()
    return found


def measure(orders: Connection, seconds: float) -> Found:
    """What team small finds in so many seconds."""
    found = ask(orders, seconds)
    assert isinstance(found, Found)
    return found


def p99(seconds: Sequence[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(seconds, n=100)[98] if len(seconds) > 1 else float("nan")


def teams(folder: Path) -> tuple[Path, dict[str, str]]:
    """A teams file, and the teams' keys."""
    path, keys = folder / "teams.toml", {}
    for name in ("small", "big"):
        key_id, keys[name] = new_key()
        add_team(path, Team(name))
        add_key(path, name, key_id, digest_of(keys[name]))
    return path, keys


def main() -> None:
    """Measure, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each half of a round")
    parser.add_argument("--megabytes", type=int, default=MEGABYTES, help="of each of big's requests")
    arguments = parser.parse_args()
    alone, beside, backlog, ratios = Found(), Found(), Found(), list[float]()
    with tempfile.TemporaryDirectory() as place:
        path, keys = teams(Path(place))
        with (
            LocalServer(Path(sys.executable).with_name("lossd"), settings={"teams": path}) as server,
            process(small_team, server.port, keys["small"]) as one,
            process(big_team, server.port, keys["big"], arguments.megabytes) as other,
        ):
            measure(one, 1.0)
            for _ in range(arguments.rounds):
                first = measure(one, arguments.seconds)
                ask(other, "begin")
                time.sleep(_SETTLE_SECONDS)
                second = measure(one, arguments.seconds)
                ended = ask(other, "end")
                assert isinstance(ended, Found)
                alone.add(first)
                beside.add(second)
                backlog.add(ended)
                ratios.append(p99(second.seconds) / p99(first.seconds))
    show(arguments.megabytes, alone, beside, backlog, ratios)


def show(megabytes: int, alone: Found, beside: Found, backlog: Found, ratios: Sequence[float]) -> None:
    """Print it."""
    for name, found in (("alone", alone), ("beside", beside)):
        middle = statistics.median(found.seconds or [float("nan")])
        print(  # noqa: T201
            f"small {name}: {found.says()}; p50 {1e3 * middle:.2f} ms, p99 {1e3 * p99(found.seconds):.2f} "
            f"ms, longest {1e3 * max(found.seconds, default=0.0):.2f} ms"
        )
    longest = max(backlog.seconds, default=0.0)
    print(f"big, {AT_ONCE} at once of {megabytes} MB: {backlog.says()}; longest {longest:.1f} s")  # noqa: T201
    rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    ratio = p99(beside.seconds) / p99(alone.seconds)
    print(f"p99 beside / alone: {ratio:.2f}, asked are at most {ASKED:g} (by round: {rounds})")  # noqa: T201


if __name__ == "__main__":
    main()
