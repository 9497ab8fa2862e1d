"""Three times what a server can do: who is accepted keeps the deadline, the rest is told at once.

The generator has a processor of its own where there are several, so that it is the server that is late.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench.memory import Peak, family, own
from faults.asked import SMALL, outcomes, pair_body, percentile, scaled
from faults.load import Load, Plan, Shot, post
from faults.observe import is_free, port_of, wait_until
from live_server import LiveServer, live_server

MIB = 1 << 20
TIMES = 3.0
SECONDS = scaled(8.0, 60.0)
DEADLINE = 2.0
LARGE = post("/focal", pair_body(4096), X_Timeout_Ms=int(1000 * DEADLINE))
ARENA = 512 * MIB
SETTINGS = {
    "arena_bytes": ARENA,
    "max_body_bytes": 64 * MIB,
    "max_json_bytes": 8 * MIB,
    "max_batch_bytes": 8 * MIB,
    "max_output_bytes": 16 * MIB,
}
MOST_REFUSAL = scaled(0.05, 0.02)
"""Seconds from headers to a refusal, p99, beyond what the generator itself was late."""
MOST_LATE = 0.02
"""The part of the accepted that may miss the deadline: what was accepted by an estimate."""
RECOVERY = 5.0


@contextmanager
def on_processors(processors: set[int]) -> Iterator[None]:
    """Have what is started meanwhile run on these alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def recovery(server: LiveServer, load: Load, normal: float) -> float:
    """Seconds until five small requests in a row take about as long as ever."""
    began, row = time.monotonic(), 0
    while row < 5:
        (shot,) = load.run(Plan(port_of(server), SMALL, count=1))
        row = row + 1 if shot.status == 200 and shot.seconds < 5 * normal + 0.01 else 0
        assert time.monotonic() - began < 30, "it does not recover"
    return time.monotonic() - began


def report(shots: list[Shot], capacity: float) -> tuple[list[Shot], list[Shot], str]:
    """Who was accepted, who was refused, and what is to be said of them."""
    accepted = [shot for shot in shots if shot.status == 200]
    refused = [shot for shot in shots if shot.status in (429, 503)]
    took = [shot.done - shot.sent for shot in accepted]
    until = [shot.first - shot.sent for shot in refused]
    lag = [shot.fired - shot.due for shot in shots]
    figure = (
        f"{TIMES:.0f} times the capacity of {capacity:.0f}/s for {SECONDS:.0f} s: {len(shots)} sent, "
        f"{outcomes(shots)}; accepted: p50 {1e3 * percentile(took, 50):.0f} ms, "
        f"p99 {1e3 * percentile(took, 99):.0f} ms of {1e3 * DEADLINE:.0f}; refusals: "
        f"p50 {1e3 * percentile(until, 50):.1f} ms, p99 {1e3 * percentile(until, 99):.1f} ms; the generator "
        f"was late by p50 {1e3 * percentile(lag, 50):.1f} ms, p99 {1e3 * percentile(lag, 99):.1f} ms"
    )
    return accepted, refused, figure


@pytest.mark.timeout(120 + 3 * SECONDS)
def test_three_times_capacity(tmp_path: Path, say: Callable[[str], None]) -> None:
    *servers, generators = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        with on_processors({*servers} or {generators}):
            server = stack.enter_context(live_server(tmp_path, **SETTINGS))
        with on_processors({generators}):
            load, single = stack.enter_context(Load()), stack.enter_context(Load())
        port = port_of(server)
        alone = single.run(Plan(port, SMALL, count=100))
        normal = percentile((shot.seconds for shot in alone), 50)
        load.run(Plan(port, [LARGE], at_once=4, seconds=1.0))  # touches the memory
        held = sum(map(own, family(server.process.pid)))
        capacity = len(load.run(Plan(port, [LARGE], at_once=4, seconds=3.0))) / 3.0
        with Peak(server.process.pid, 0.5) as memory:
            load.start(Plan(port, [LARGE], rate=TIMES * capacity, seconds=SECONDS))
            time.sleep(SECONDS)
            recovered = recovery(server, single, normal)
            shots = load.finish()
        wait_until(lambda: is_free(server), 5, "something is held")
    accepted, refused, figure = report(shots, capacity)
    say(f"{figure}; a small request in normal time after {recovered:.1f} s")
    say(f"its memory: at most {memory.most / MIB:.0f} MiB, of {ARENA / MIB:.0f} + {held / MIB:.0f}")
    found = outcomes(shots)
    assert set(found) <= {"ok", "overloaded", "too_many_in_flight", "deadline_exceeded"}
    assert len(accepted) > 0.5 * capacity * SECONDS
    assert percentile((shot.done - shot.sent for shot in accepted), 99) <= DEADLINE
    assert found.get("deadline_exceeded", 0) <= MOST_LATE * len(accepted)
    assert len(refused) > len(shots) / 3
    assert all(int(shot.headers["retry-after"]) > 0 for shot in refused)
    assert recovered < RECOVERY
    assert memory.most < ARENA + held + 64 * MIB
    lag = percentile((shot.fired - shot.due for shot in shots), 99)
    assert percentile((shot.first - shot.sent for shot in refused), 99) - lag < MOST_REFUSAL
