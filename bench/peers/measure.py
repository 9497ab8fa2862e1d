"""One round: every server in turn, started, measured in all its cells, and stopped."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from bench.formats import cpu_seconds
from bench.memory import Peak, family, pss
from bench.peers import catalog, limits
from bench.peers.catalog import Server, Way
from bench.peers.figures import STREAM, STREAM_BYTES, Cell, Round, Run, Sample
from bench.peers.loads import Load, Target, by_hand, by_wrk, post
from bench.peers.payloads import CLASSES, LARGE, MIDDLE, SIZES, SMALL, elements, payload
from bench.peers.serving import NotMeasuredError, check, serving
from bench.stream import parts, send
from lossd_client import LossClient

CONNECTIONS: Final = (1, 16, 64)
_STREAM_ROWS: Final = 25_000
_LARGE_TIMES: Final = 4
_CLIENT_TIMES: Final = 24
_SLOW_SECONDS: Final = 0.5
_LARGE_SLOW_SECONDS: Final = 5.0
_TEXT: Final = ("json", "v2-json")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        seconds: Of each cell that wrk measures; whole ones.
        quick: Leave out 4,096x80, and large requests on many connections, which come in the first round.
    """

    seconds: int
    quick: bool = False


def one_round(run: Run, servers: list[Server], plan: Plan, say: Say) -> None:
    """Measure everything once and add it to the run."""
    found = Round()
    run.rounds.append(found)
    for words in (("loopback",), ("copy",), ("core", "eager"), ("core", "compiled")):
        found.limits[" ".join(words)] = limits.measure(*words)
    for server in servers:
        if server.name in run.absent:
            continue
        began = time.monotonic()
        try:
            _one_server(server, found, plan, crowds=len(run.rounds) == 1 and not plan.quick)
        except (NotMeasuredError, OSError) as error:
            run.absent[server.name] = str(error)
        say(f"round {len(run.rounds)}: {server.name}: {time.monotonic() - began:.0f} s")


def _one_server(server: Server, found: Round, plan: Plan, *, crowds: bool) -> None:
    ours = server in catalog.OURS
    with serving(server) as (port, pid):
        for size in (SMALL,) if plan.quick else (SMALL, MIDDLE):
            for way in server.ways if server.small else ():
                _by_wrk(server, way, size, (port, pid), plan, found)
        if ours:  # before large requests, whose memory in the arena is kept and would hide a stream's
            for form, dtype in (("arrow", "float32"), ("arrow-bool", "bool")):
                _stream(Cell(server.name, form, STREAM, 1), dtype, (port, pid), found)
        for way in server.ways:
            if way.form not in _TEXT:
                _large(server, way, (port, pid), 1, found)
        if (
            crowds and server.small and (ours or server.name == catalog.NP_LOAD)
        ):  # others would hold every copy at once
            for connections in CONNECTIONS[1:] if ours else CONNECTIONS[1:2]:
                _large(server, server.ways[0], (port, pid), connections, found)
        if server is catalog.LOSSD:
            found.client = _client(port)


def _sample(load: Load, size: str, used: float, **memory: int) -> Sample:
    scored = load.requests * elements(size)
    return Sample(
        load.requests / load.seconds,
        scored / load.seconds,
        load.p50,
        load.p99,
        used / (scored / 1e6) if scored else 0.0,
        failed=load.failed,
        **memory,
    )


def _by_wrk(server: Server, way: Way, size: str, at: tuple[int, int], plan: Plan, found: Round) -> None:
    """A way's cells of a size; where a request takes long, a few by hand on one connection alone."""
    port, pid = at
    target = Target(port, way.path, payload(way.form, size))
    check(server, port, way.form, size)
    began = time.perf_counter()
    post(target)
    slow = time.perf_counter() - began > _SLOW_SECONDS
    for connections in CONNECTIONS[:1] if slow else CONNECTIONS:
        before = cpu_seconds(pid)
        load = by_hand(target, 1, 3) if slow else by_wrk(target, connections, plan.seconds)
        used = cpu_seconds(pid) - before
        post(target)  # what wrk has left behind is done when this is answered
        held = sum(map(pss, family(pid)))
        found.cells[Cell(server.name, way.form, size, connections)] = _sample(load, size, used, memory=held)


def _large(server: Server, way: Way, at: tuple[int, int], connections: int, found: Round) -> None:
    """Requests of 168 MB; then some more, to look at memory, which takes time from them."""
    port, pid = at
    target = Target(port, way.path, payload(way.form, LARGE))
    cell = Cell(server.name, way.form, LARGE, connections)
    began = time.perf_counter()
    try:
        check(server, port, way.form, LARGE)
    except (NotMeasuredError, OSError):  # too large for it; the table has a gap there
        return
    few = connections > 1 or time.perf_counter() - began > _LARGE_SLOW_SECONDS
    before = cpu_seconds(pid)
    load = by_hand(target, connections, 1 if few else _LARGE_TIMES)
    used = cpu_seconds(pid) - before
    if connections > 1:
        found.cells[cell] = _sample(load, LARGE, used)
        return
    with Peak(pid) as memory:
        post(target)
    found.cells[cell] = _sample(load, LARGE, used, memory=memory.most, growth=memory.growth)


def _stream(cell: Cell, dtype: str, at: tuple[int, int], found: Round) -> None:
    """2 GB of batches (of as many rows, if targets are bool), once by the clock and once for memory."""
    port, pid = at
    batches = parts(_STREAM_ROWS, dtype)
    times = round(STREAM_BYTES / len(parts(_STREAM_ROWS, "float32")[1]))
    scored = times * _STREAM_ROWS * CLASSES
    with Peak(pid) as memory:
        send(port, batches, times, chunked=False, loss="bce")
    before, began = cpu_seconds(pid), time.perf_counter()
    send(port, batches, times, chunked=False, loss="bce")
    seconds, used = time.perf_counter() - began, cpu_seconds(pid) - before
    figures = _sample(Load(1, seconds, 0, 1e3 * seconds, 1e3 * seconds), SMALL, used)
    found.cells[cell] = replace(
        figures,
        elements=scored / seconds,
        cpu=used / (scored / 1e6),
        memory=memory.most,
        growth=memory.growth,
    )


def _client(port: int) -> dict[str, float]:
    """lossd_client with targets that are all 0 or 1, and with others, both float32, in turn."""
    rng = np.random.default_rng(0)
    shape = (SIZES[LARGE] // 8, CLASSES)
    x = rng.normal(0, 3, shape).astype(np.float32)
    binary = (rng.random(shape) < 0.05).astype(np.float32)
    soft = rng.random(shape).astype(np.float32)
    found: dict[str, float] = {}
    taken: dict[str, float] = {"binary": 0.0, "soft": 0.0}
    with LossClient(f"http://127.0.0.1:{port}") as client:
        for turn in range(1 + _CLIENT_TIMES):
            for name, y in (("binary", binary), ("soft", soft)):
                began = time.perf_counter()
                client.bce(x, y)
                taken[name] += time.perf_counter() - began if turn else 0.0  # the first is a warm-up
    for name, y in (("binary", binary), ("soft", soft)):
        found[f"sent_{name}"] = float(_sent(port, x, y))
        found[f"rate_{name}"] = _CLIENT_TIMES * x.size / taken[name]
    return found


def _sent(port: int, x: np.ndarray, y: np.ndarray) -> int:
    """How many bytes the client sends for a request, counted on the way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        count = [0]

        def pass_on() -> None:
            near, _ = listener.accept()
            with near, socket.create_connection(("127.0.0.1", port)) as far:
                back = threading.Thread(target=_answers, args=(far, near))
                back.start()
                while data := near.recv(1 << 20):
                    count[0] += len(data)
                    far.sendall(data)
                far.shutdown(socket.SHUT_RDWR)
                back.join()

        thread = threading.Thread(target=pass_on)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with LossClient(url, request_bytes=1 << 40) as client:  # whole: there is one connection
            client.bce(x, y)
        thread.join()
    return count[0]


def _answers(far: socket.socket, near: socket.socket) -> None:
    while data := far.recv(1 << 16):
        near.sendall(data)
