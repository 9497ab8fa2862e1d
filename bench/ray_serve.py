"""Benchmark of lossd on Ray Serve: ``make bench-ray-serve``, in the environment of ``make engines``.

On one cluster, behind the same HAProxy and with the same settings, are lossd and an application that reads
the body and drops it, which no application can beat there; beside it is a lossd server without Ray. In each
round the two sides of a ratio are measured one after the other, each first in every other round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.loads import Load, by_hand, post
from bench.payloads import SMALL, Payload, payload
from bench.servers import lossd
from bench.table import Figure, of_figures, options, tell

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.types import ASGIApp, Receive, Scope, Send

CONNECTIONS: Final = 16
LARGE_ROWS: Final = 104_858
"""Rows of a body of 64 MiB."""
LARGE_TIMES: Final = 4


def make_dropping() -> ASGIApp:
    """Return an application that reads the body and drops it, in a replica."""
    from bench.servers import read_and_drop

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await read_and_drop(dict(scope), receive, send)
            return
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})

    return application


def dropping() -> Application:
    """Return that application, with lossd's own options."""
    from ray import serve
    from ray.serve import Deployment

    from lossd.ray_serve import RayOptions, deployment

    like: Deployment = deployment(RayOptions())

    class Dropping:
        """Nothing but the application."""

    made = serve.deployment(
        name="dropping",
        ray_actor_options=like.ray_actor_options,
        max_ongoing_requests=like.max_ongoing_requests,
        logging_config=like.logging_config,
    )
    return made(serve.ingress(make_dropping)(Dropping)).bind()


async def _call(port: int, request: bytes, ends: float, taken: list[float]) -> int:
    """Send a request again and again on one connection; return how many had no 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    failed = 0
    while (began := time.perf_counter()) < ends:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        failed += not head.startswith(b"HTTP/1.1 200")
        taken.append(time.perf_counter() - began)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return failed


def by_many(port: int, path: str, body: Payload, seconds: float) -> Load:
    """Send requests for some seconds on 16 connections, each the next once it has the answer."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body.data)}"]
    lines += [f"{name}: {value}" for name, value in body.headers.items()]
    request = "\r\n".join([*lines, "", ""]).encode() + body.data
    taken: list[float] = []
    began = time.perf_counter()

    async def run() -> int:
        calls = [_call(port, request, began + seconds, taken) for _ in range(CONNECTIONS)]
        return sum(await asyncio.gather(*calls))

    failed = asyncio.run(run())
    passed = time.perf_counter() - began
    taken.sort()
    p50, p99 = (1e3 * taken[int(part * (len(taken) - 1))] for part in (0.5, 0.99))
    return Load(len(taken), passed, failed, p50, p99)


def compare(figure: Figure, turn: int, ours: Callable[[], Load], theirs: Callable[[], Load]) -> None:
    """Measure both sides, one after the other, and keep the ratio of their rates."""
    sides = {"ours": ours, "theirs": theirs}
    order = list(sides) if turn % 2 else list(reversed(sides))
    found = {name: sides[name]().rate for name in order}
    print({name: round(rate, 2) for name, rate in found.items()}, flush=True)
    if found["theirs"]:
        figure.found.append(found["ours"] / found["theirs"])


def main() -> None:
    """Measure, and print the table."""
    parser = options("ray_serve", __doc__, rounds=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    given = parser.parse_args()
    from engines.serve.serve_cluster import serve_cluster

    small = Figure("32x80 npy, 16 connections, requests/s of an application that drops the body")
    large = Figure("64 MiB npy, one after the other, requests/s of a server without Ray")
    with serve_cluster() as cluster, lossd(settings={"LOSSD_THREADS": "1"}) as native:
        from ray import serve

        from lossd.ray_serve import app

        cluster.run(app)
        serve.run(dropping(), name="dropping", route_prefix="/drop", blocking=False)
        body, long = payload("npy", SMALL), payload("npy", LARGE_ROWS)
        post(cluster.port, "/drop", body)
        by_seconds = partial(by_many, cluster.port, body=body, seconds=given.seconds)
        for turn in range(given.rounds):
            compare(small, turn, partial(by_seconds, "/bce"), partial(by_seconds, "/drop"))
            compare(
                large,
                turn,
                partial(by_hand, cluster.port, "/bce", long, LARGE_TIMES),
                partial(by_hand, native.port, "/bce", long, LARGE_TIMES),
            )
    tell("bench-ray-serve", given, of_figures([small, large]))


if __name__ == "__main__":
    main()
