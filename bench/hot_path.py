"""What a small request costs the server's processes: ``make bench-hot-path``.

32x80 float32 .npy requests on 16 connections that are kept alive, sent by wrk as fast as they are answered.
In turn the same is sent to uvicorn with an application that reads the body and drops it: what the way through
the framework costs alone, with the same parser and event loop. CPU time is what the kernel says that each
process has used, user and system together, by the requests that were answered.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.memory import family
from bench.neighbour import small
from examples.local_server import LocalServer

CONNECTIONS: Final = 16
LIMIT: Final = "limit"
_ANSWER: Final = b'{"loss":' + b"0" * 320 + b"}"
_SCRIPT: Final = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/x-npy"
wrk.body = io.open(os.getenv("BODY"), "rb"):read("*a")
done = function(summary, latency)
  local failed = summary.errors.status + summary.errors.read + summary.errors.timeout
  io.write(string.format('\\nresult {"requests": %d, "seconds": %f, "failed": %d, "p99": %f}\\n',
    summary.requests, summary.duration / 1e6, failed, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of requests came to.

    Attributes:
        rate: Requests a second.
        p99: Milliseconds.
        front: Microseconds of CPU that a request cost the process that speaks HTTP.
        worker: The same of the process that computes; 0 where there is none.
    """

    rate: float
    p99: float
    front: float
    worker: float


async def read_and_drop(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI's
    """The application of the limit: an answer as long as a loss's, when the body has been read."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})


@contextmanager
def limit() -> Iterator[tuple[int, int]]:
    """Run uvicorn with `read_and_drop`; its port and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = "--http httptools --loop uvloop --lifespan off --no-access-log --no-server-header"
    command = [sys.executable, "-m", "uvicorn", "bench.hot_path:read_and_drop", "--port", str(port)]
    command += [*settings.split(), "--no-proxy-headers", "--log-level", "warning"]
    process = subprocess.Popen(command)  # noqa: S603 -- our own command
    try:
        time.sleep(2.0)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


def find(pid: int, module: str) -> int:
    """The one process among another's descendants that runs a module."""
    (found,) = [one for one in family(pid) if module in Path(f"/proc/{one}/cmdline").read_text().split("\0")]
    return found


def cpu_seconds(pid: int) -> float:
    """What a process has used so far: utime and stime of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(url: str, seconds: float, folder: Path) -> dict[str, float]:
    """Send requests for so many seconds; what wrk says of them."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", str(folder / "post.lua"), url]
    done = subprocess.run(  # noqa: S603 -- our own command
        command, env={**os.environ, "BODY": str(folder / "body")}, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.rpartition("result ")[2])
    if found["failed"]:
        sys.exit(f"{url}: {found['failed']:g} requests failed")
    return found


def measure(url: str, front: int, worker: int | None, seconds: float, folder: Path) -> Round:
    """One round."""
    pids = [front] if worker is None else [front, worker]
    before = [cpu_seconds(pid) for pid in pids]
    found = load(url, seconds, folder)
    used = [1e6 * (cpu_seconds(pid) - then) for pid, then in zip(pids, before, strict=True)]
    each = [microseconds / found["requests"] for microseconds in (*used, 0.0)]
    return Round(found["requests"] / found["seconds"], found["p99"], each[0], each[1])


def show(name: str, rounds: list[Round], against: list[Round]) -> None:
    """A line: medians, least and greatest."""
    front = [one.front for one in rounds]
    rate = statistics.median(one.rate for one in rounds)
    text = f"{name:6} front end {statistics.median(front):6.1f} us ({min(front):.1f} to {max(front):.1f})"
    text += f"  worker {statistics.median(one.worker for one in rounds):6.1f} us"
    text += f"  {rate:6.0f} requests/s, p99 {statistics.median(one.p99 for one in rounds):.2f} ms"
    if rounds is not against:
        ratios = [one.rate / other.rate for one, other in zip(rounds, against, strict=True)]
        text += f", {statistics.median(ratios):.2f} of the limit's"
    print(text)  # noqa: T201


def main() -> None:
    """Measure, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each part of a round")
    parser.add_argument("--losses", default="bce,focal", help="which, separated by commas")
    parser.add_argument("--kernel", default="eager", help="the server's setting")
    parser.add_argument("--profile", type=Path, help="record the front end with py-spy into this file")
    arguments = parser.parse_args()
    for tool in ("wrk", "py-spy") if arguments.profile else ("wrk",):
        if shutil.which(tool) is None:
            sys.exit(f"this needs {tool}: wrk is a package of Debian's, py-spy one of PyPI's")
    lossd = Path(sys.executable).with_name("lossd")
    names = [LIMIT, *arguments.losses.split(",")]
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    with (
        tempfile.TemporaryDirectory() as place,
        limit() as (limit_port, limit_pid),
        LocalServer(lossd, settings={"kernel": arguments.kernel}) as server,
    ):
        folder = Path(place)
        (folder / "body").write_bytes(small())
        (folder / "post.lua").write_text(_SCRIPT)
        front, worker = find(server.pid, "lossd.api.server"), find(server.pid, "lossd.engine.worker")
        targets = {name: (f"{server.url}/{name}", front, worker) for name in names[1:]}
        every = {LIMIT: (f"http://127.0.0.1:{limit_port}/", limit_pid, None), **targets}
        for url, _, _ in every.values():
            load(url, 1.0, folder)
        for _ in range(arguments.rounds):
            for name, target in every.items():
                rounds[name].append(measure(*target, arguments.seconds, folder))
        if arguments.profile:
            record = f"py-spy record --format raw --rate 500 --duration 10 --pid {front} --output"
            with subprocess.Popen([*record.split(), arguments.profile]):  # noqa: S603 -- our own command
                load(targets[names[1]][0], 12.0, folder)
    for name in names:
        show(name, rounds[name], rounds[LIMIT])


if __name__ == "__main__":
    main()
