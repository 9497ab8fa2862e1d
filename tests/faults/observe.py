"""What a running server is seen to do from outside: its processes by role, what they hold, its metrics."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from bench.memory import family
from live_server import LiveServer

_PROC_STAT: Final = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Roles:
    """A server's processes."""

    supervisor: int
    front_ends: tuple[int, ...]
    workers: tuple[int, ...]
    helpers: tuple[int, ...]


def port_of(server: LiveServer) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port


def fetch(server: LiveServer, path: str) -> tuple[int, bytes]:
    """The status and the body of a path, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=10)
    try:
        connection.request("GET", path, headers={} if server.key is None else {"X-API-Key": server.key})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def workers(server: LiveServer) -> list[dict[str, Any]]:
    """As /info has them."""
    found: list[dict[str, Any]] = json.loads(fetch(server, "/info")[1])["workers"]
    return found


def roles(server: LiveServer) -> Roles:
    """The processes that there are now."""
    supervisor = server.process.pid
    known = {int(worker["pid"]) for worker in workers(server)}
    mine = [pid for pid in children(supervisor) if not ended(pid)]
    front_ends = tuple(pid for pid in mine if pid not in known)
    helpers = tuple(child for pid in front_ends for child in family(pid)[1:] if not ended(child))
    return Roles(supervisor, front_ends, tuple(pid for pid in mine if pid in known), helpers)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def connections(server: LiveServer, pid: int) -> int:
    """How many callers' connections a process has taken."""
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    local = f":{port_of(server):04X}"
    taken = {f"socket:[{field[9]}]" for field in fields if field[1].endswith(local) and field[3] == "01"}
    try:
        return sum(str(fd.readlink()) in taken for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # one that was closed meanwhile, or the process has ended
        return 0


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


class Others:
    """What part of the processors others than this process and its descendants take in a ``with`` block."""

    def __init__(self) -> None:
        self.share = 0.0

    def __enter__(self) -> Self:
        self._began, self._before = time.monotonic(), self._seconds()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        passed = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        self.share = (self._seconds() - self._before) / passed

    @staticmethod
    def _seconds() -> float:
        """All processors' busy time, less that of this process and its descendants."""
        user, nice, system, _, _, *interrupts = map(
            int, _PROC_STAT.read_text().split("\n", 1)[0].split()[1:9]
        )
        mine = 0
        for pid in family(os.getpid()):
            with suppress(OSError):  # it has ended
                mine += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        return (user + nice + system + sum(interrupts) - mine) / os.sysconf("SC_CLK_TCK")


def metrics(server: LiveServer) -> dict[str, float]:
    """Every series' value, by its name and labels as they are written."""
    text = fetch(server, "/metrics")[1].decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def total(server: LiveServer, name: str, **labels: str) -> float:
    """The sum of a metric's series that have these labels."""
    lines = fetch(server, "/metrics")[1].decode().splitlines(keepends=True)
    of_it = "".join(line for line in lines if line.startswith(name))  # the parser takes long for all
    return sum(
        sample.value
        for metric in text_string_to_metric_families(of_it)
        for sample in metric.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def is_free(server: LiveServer) -> bool:
    """Nobody's request holds anything."""
    held = ("lossd_bytes_in_flight", "lossd_requests_in_flight", "lossd_requests_waiting")
    found = metrics(server)
    return not any(found[name] for name in held)


def is_ready(server: LiveServer) -> bool:
    return fetch(server, "/readyz")[0] == 200


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for a condition; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, what
        time.sleep(0.02)
    return time.monotonic() - began
