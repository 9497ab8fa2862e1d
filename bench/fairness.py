"""What teams that share a worker notice of each other: ``make bench-fairness``.

First the scheduler alone, in simulated time. Then the engine without HTTP: a pool in this process and a
worker in another, as a server has them.

What other processes take would drown what is measured, on a machine with few cores: a window in which they
took over a tenth of a core is measured again.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import uvloop

from lossd.core.catalog import LOSSES, check_params, own_params
from lossd.core.grid import BLOCK, Grid
from lossd.core.kernel import EagerKernel
from lossd.core.work import prepare
from lossd.engine.arena import Memory, create_memory
from lossd.engine.board import nbytes as board_bytes
from lossd.engine.frames import FrontEndStarted, WorkerStarted, encode, socket_pair
from lossd.engine.job import Span
from lossd.engine.pool import Pool
from lossd.engine.scheduler import Scheduler
from lossd.engine.worker import keep_freed_memory
from lossd.request import LossRequest, Tensor
from lossd.settings import Settings

T = TypeVar("T")

LARGE = 25_000_000
"""Elements of a large request: 100 MB of float32 logits, and as much of targets."""
WHOLE = 1 << 24
"""Elements of the request by which the engine is compared with the kernel."""
MIDDLING = 1 << 20
"""Elements of the requests by which shares are measured: many are done in each second."""
SMALL = (32, 80)
AT_ONCE = 4
"""Requests that a team always has, where it always has some."""
SHARES_SECONDS = 8.0
TRIES = 10
QUIET = 0.1
"""What part of a core others may take."""
LARGE_JOB = 0.1
SMALL_JOB = 0.001


class SimulatedJob:
    """A request in simulated time.

    Attributes:
        team: Whose it is.
        arrived: When.
        left: Seconds of work that are left of it.
    """

    def __init__(self, team: str, arrived: float, left: float) -> None:
        self.team = team
        self.arrived = arrived
        self.left = left


def simulate(quantum: float, *, fair: bool, beside: bool, seconds: float = 1000.0) -> list[float]:
    """How long small jobs take: four teams have one of 1 ms every 20 ms on average.

    Args:
        quantum: After how long the worker looks who is next, in seconds.
        fair: By team; else first come, first served.
        beside: A fifth team always has 64 jobs of 100 ms.
        seconds: How long it goes on.
    """
    rng = random.Random(0)  # noqa: S311 -- no secret
    arrivals: list[tuple[float, int, SimulatedJob]] = []
    for team in range(4):
        at = rng.expovariate(50.0)
        while at < seconds:
            arrivals.append((at, len(arrivals), SimulatedJob(f"team {team}", at, SMALL_JOB)))
            at += rng.expovariate(50.0)
    if beside:
        arrivals += [(0.0, len(arrivals) + i, SimulatedJob("large", 0.0, LARGE_JOB)) for i in range(64)]
    heapq.heapify(arrivals)
    scheduler: Scheduler[SimulatedJob] = Scheduler()
    number, now, took = len(arrivals), 0.0, []
    while now < seconds:
        while arrivals and arrivals[0][0] <= now:
            job = heapq.heappop(arrivals)[2]
            number += 1
            scheduler.add(*((job.team, 1.0, number) if fair else ("all", 1.0, 0)), job)
        found = scheduler.next()
        if found is None:
            now = arrivals[0][0] if arrivals else seconds
            continue
        part = min(found.left, quantum)
        now += part
        found.left -= part
        finished = found.left < 1e-9
        scheduler.charge(part, finished=finished)
        if finished and found.team == "large":
            number += 1
            heapq.heappush(arrivals, (now, number, SimulatedJob("large", now, LARGE_JOB)))
        elif finished:
            took.append(now - found.arrived)
    return took


class Engine:
    """A pool with one worker, and memory that all requests read the same numbers of."""

    def __init__(self, pool: Pool, memory: Memory, worker: int) -> None:
        self._pool = pool
        self._worker = worker
        rng = np.random.default_rng(0)
        part = 1 << 16
        numbers = np.frombuffer(memory.view, dtype=np.float32)
        self.logits, self.targets = numbers[:LARGE], numbers[LARGE:]
        for start in range(0, LARGE, part):
            count = min(part, LARGE - start)
            self.logits[start : start + count] = rng.normal(0, 3, count)
            self.targets[start : start + count] = rng.random(count) < 0.05

    async def score(self, loss: str, shape: tuple[int, ...], team: str, weight: float = 1.0) -> float:
        """The seconds until the answer is there."""
        began = time.perf_counter()
        params = check_params(LOSSES[loss], {})
        tensors = {
            "logits": Tensor("float32", shape, 0),
            "targets": Tensor("float32", shape, 4 * LARGE),
        }
        request = LossRequest(loss, tensors, params, own_params(LOSSES[loss], params))
        grid = Grid(shape, range(len(shape)))
        run = await self._pool.start(request, grid, None, 10.0, team, weight)
        try:
            run.append(Span(tensors, grid, last=grid.blocks))
            run.close(grid)
            await run.result()
        finally:
            run.end(lambda: None)
        return time.perf_counter() - began

    def worker_seconds(self) -> float:
        """CPU time of the worker's thread that computes."""
        stat = Path(f"/proc/{self._worker}/task/{self._worker}/schedstat")
        return int(stat.read_text().split()[0]) / 1e9


@asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    """Start a worker as the supervisor does, and see to its end."""
    nbytes = 8 * LARGE
    fd = create_memory(nbytes)
    memory = Memory(fd, nbytes)
    board_fd = create_memory(board_bytes(1))
    control, front_control = socket_pair()
    worker_control, its_control = socket_pair()
    link, worker_link = socket_pair()
    options = {
        "index": 0,
        "device": "cpu",
        "control_fd": its_control.fileno(),
        "board_fd": board_fd,
        "workers": 1,
        "check_seconds": 5.0,
        "log_level": "warning",
        "kernel": "eager",
        "block": BLOCK,
        "losses": [],
        "cache_dir": None,
    }
    with control, link, worker_link, its_control:
        worker = subprocess.Popen(  # noqa: ASYNC220, S603 -- nothing else runs yet; our own interpreter
            [sys.executable, "-m", "lossd.engine.worker", json.dumps(options)],
            pass_fds=(its_control.fileno(), board_fd),
        )
        joined = encode(FrontEndStarted(0, nbytes))
        socket.send_fds(worker_control, [joined], [worker_link.fileno(), fd])
        pool = Pool(memory, front_control, 1, BLOCK, Settings().slice_elements)
        socket.send_fds(control, [encode(WorkerStarted(0, "cpu", worker.pid, 0))], [link.fileno()])
    try:
        while not pool.ready:  # noqa: ASYNC110 -- a pool is asked, it does not tell
            await asyncio.sleep(0.05)
        yield Engine(pool, memory, worker.pid)
    finally:
        pool.close()
        worker_control.close()
        await asyncio.to_thread(worker.wait, 10)


def others_seconds(served: Engine) -> float:
    """CPU time that all processes but this one and the worker have had."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, *rest = fields
    busy = user + nice + system + sum(rest[:3])  # interrupts, and what the hypervisor took
    return busy / os.sysconf("SC_CLK_TCK") - served.worker_seconds() - time.process_time()


async def undisturbed(served: Engine, measure: Callable[[], Awaitable[T]]) -> T:
    """Measure something, again if it was disturbed, as long as there is hope."""
    for _ in range(TRIES):
        before, began = others_seconds(served), time.perf_counter()
        found = await measure()
        if others_seconds(served) - before < QUIET * (time.perf_counter() - began):
            break
    else:
        say("(disturbed)")
    return found


async def one_after_the_other(ask: Callable[[], Awaitable[float]], seconds: float) -> list[float]:
    """How long each of the requests of a while took."""
    found = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        found.append(await ask())
    return found


@asynccontextmanager
async def backlog(ask: Callable[[], Awaitable[float]]) -> AsyncIterator[list[float]]:
    """Always have some requests; in the list is how long each took."""
    found: list[float] = []

    async def repeat() -> None:
        while True:
            found.append(await ask())

    tasks = [asyncio.create_task(repeat()) for _ in range(AT_ONCE)]
    await asyncio.sleep(0.2)
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def percentile(found: list[float], per_cent: int) -> float:
    """A percentile, by statistics.quantiles."""
    return statistics.quantiles(found, n=100)[per_cent - 1]


def say(text: str) -> None:
    """Print, at once."""
    print(text, flush=True)  # noqa: T201


def report_simulation() -> None:
    """What small jobs wait for, by how the worker picks."""
    alone = percentile(simulate(LARGE_JOB, fair=True, beside=False), 99)
    say(f"simulated: p99 of 1 ms jobs, alone: {1e3 * alone:.1f} ms; beside 64 jobs of 100 ms:")
    for name, quantum, fair in (
        ("first come, first served", LARGE_JOB, False),
        ("fair, whole jobs", LARGE_JOB, True),
        ("fair, quanta of 5 ms", 5e-3, True),
        ("fair, quanta of 1 ms", 1e-3, True),
    ):
        found = percentile(simulate(quantum, fair=fair, beside=True), 99)
        say(f"  {name}: {1e3 * found:.1f} ms")


async def report_small(served: Engine, loss: str, rounds: int) -> None:
    """A team's small requests alone and beside large ones, in turn: medians over windows of half a second."""
    found: dict[str, list[tuple[float, float]]] = {"alone": [], "another team's": [], "its own team's": []}

    async def ask() -> float:
        return await served.score(loss, SMALL, "small")

    async def window() -> tuple[float, float]:
        took = await one_after_the_other(ask, 0.5)
        return percentile(took, 50), percentile(took, 99)

    for _ in range(rounds):
        found["alone"].append(await undisturbed(served, window))
        async with backlog(lambda: served.score(loss, (LARGE,), "large")):
            found["another team's"].append(await undisturbed(served, window))
        async with backlog(lambda: served.score(loss, (LARGE,), "small")):
            found["its own team's"].append(await undisturbed(served, window))
    alone = statistics.median(p99 for _, p99 in found["alone"])
    for beside, windows in found.items():
        name = beside if beside == "alone" else f"beside {AT_ONCE} of {beside} of {LARGE} elements"
        p50, p99 = (statistics.median(column) for column in zip(*windows, strict=True))
        say(f"{loss} 32x80 {name}: p50 {1e3 * p50:.2f} ms, p99 {1e3 * p99:.2f} ms ({p99 / alone:.2f})")


async def report_shares(served: Engine, loss: str) -> None:
    """What part of the elements belongs to teams of different weights that always have work."""
    weights = {"one": 1.0, "two": 2.0, "four": 4.0}
    done = []
    async with (
        backlog(lambda: served.score(loss, (MIDDLING,), "one", 1.0)) as one,
        backlog(lambda: served.score(loss, (MIDDLING,), "two", 2.0)) as two,
        backlog(lambda: served.score(loss, (MIDDLING,), "four", 4.0)) as four,
    ):
        before = [len(found) for found in (one, two, four)]
        await asyncio.sleep(SHARES_SECONDS)
        done = [len(found) - count for found, count in zip((one, two, four), before, strict=True)]
    for (team, weight), count in zip(weights.items(), done, strict=True):
        share, due = count / sum(done), weight / sum(weights.values())
        say(f"{loss}, weight {weight:g}: {100 * share:.1f} % of the elements, due {100 * due:.1f} % ({team})")


async def report_overhead(served: Engine, loss: str, rounds: int) -> None:
    """What the engine adds to the kernel: for a large request, and in the worker for a small one."""
    kernel = EagerKernel()
    params = check_params(LOSSES[loss], {})
    arrays = {"logits": served.logits[:WHOLE], "targets": served.targets[:WHOLE]}
    work = prepare(loss, params, Grid((WHOLE,), (0,)), arrays)
    ratios, costs = [], []

    async def one_ratio() -> float:
        began = time.perf_counter()
        kernel.score(work, 0, work.grid.blocks)
        direct = time.perf_counter() - began
        return await served.score(loss, (WHOLE,), "large") / direct

    async def one_cost() -> float:
        before = served.worker_seconds()
        for _ in range(300):
            await served.score(loss, SMALL, "small")
        return (served.worker_seconds() - before) / 300

    for _ in range(rounds):
        ratios.append(await undisturbed(served, one_ratio))
        costs.append(await undisturbed(served, one_cost))
    say(f"{loss}, {WHOLE} elements: engine / kernel {statistics.median(ratios):.3f} (median of {rounds})")
    say(f"{loss} {SMALL[0]}x{SMALL[1]}: {1e6 * statistics.median(costs):.0f} us of the worker's CPU")


async def report_engine(arguments: argparse.Namespace) -> None:
    """All that is measured with a worker."""
    async with engine() as served:
        for loss in ("bce", "focal"):
            await one_after_the_other(lambda loss=loss: served.score(loss, SMALL, "small"), 0.5)  # type: ignore[misc] # mypy has no type for such a lambda
            await report_small(served, loss, arguments.rounds)
            await report_shares(served, loss)
            await report_overhead(served, loss, arguments.rounds)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    report_simulation()
    uvloop.run(report_engine(arguments))


if __name__ == "__main__":
    main()
