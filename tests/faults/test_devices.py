"""A device without memory, and one that is poisoned: the request that is to blame fails, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from faults.asked import SMALL, outcomes, pair_body, scaled, undisturbed, wrong
from faults.load import Load, Plan, Shot, post
from faults.observe import is_free, port_of, wait_until, workers
from live_server import LiveServer, live_server

RATE = 100.0
MOST_SECONDS = 12.0
"""For neighbours: two deaths, one after the other."""
REPEATS = scaled(10, 100)
FAULTS = scaled(("device", "kill"), ("device", "exit", "kill"))


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with a loss that breaks its worker."""
    folder, here = tmp_path_factory.mktemp("fragile"), Path(__file__).parent
    with live_server(folder, modules=here, losses="fragile_loss:FRAGILE", inline_ms=0) as running:
        yield running


@contextmanager
def neighbours(server: LiveServer) -> Iterator[list[Shot]]:
    """Others, all of whom must be answered, and right; what became of them, once the block has ended."""
    shots: list[Shot] = []
    with Load() as load:
        right = undisturbed(server, load)
        load.start(Plan(port_of(server), SMALL, rate=RATE))
        yield shots
        shots += load.finish(stop=True)
    assert outcomes(shots) == {"ok": len(shots)}
    assert wrong(shots, right) == 0


def ask(server: LiveServer, target: str, rows: int = 4096, count: int = 1) -> list[Shot]:
    """Requests by another caller, one after the other."""
    with Load() as load:
        return load.run(Plan(port_of(server), [post(target, pair_body(rows))], count=count))


def test_too_little_memory_for_whole_blocks(fragile: LiveServer, say: Callable[[str], None]) -> None:
    """Blocks of 32,768 elements, on a device that has room for 10,000."""
    before = workers(fragile)
    expected = ask(fragile, "/bce")[0]
    with neighbours(fragile) as others:
        shots = ask(fragile, "/fragile?fault=memory&fits=10000", count=REPEATS)
    say(f"out of memory for whole blocks: {outcomes(shots)}; {len(others)} neighbours: {outcomes(others)}")
    assert outcomes(shots) == {"ok": REPEATS}
    assert {shot.figures for shot in shots} == {expected.figures}
    assert workers(fragile) == before


def test_too_little_memory_for_anything(fragile: LiveServer, say: Callable[[str], None]) -> None:
    before = workers(fragile)
    with neighbours(fragile) as others:
        shots = ask(fragile, "/fragile?fault=memory", count=REPEATS)
    say(f"out of memory for any block: {outcomes(shots)}; {len(others)} neighbours: {outcomes(others)}")
    assert {(shot.status, shot.code) for shot in shots} == {(507, "out_of_memory")}
    assert not any(orjson.loads(shot.answer)["retryable"] for shot in shots)
    assert workers(fragile) == before
    wait_until(lambda: is_free(fragile), 5, "something is held")


@pytest.mark.alone
@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_ends_its_worker(fragile: LiveServer, fault: str, say: Callable[[str], None]) -> None:
    before = int(workers(fragile)[0]["restarts"])
    with neighbours(fragile) as others:
        (shot,) = ask(fragile, f"/fragile?fault={fault}", 32)
        fragile.wait_until_ready(30)
    longest = max(other.seconds for other in others)
    restarts = int(workers(fragile)[0]["restarts"]) - before
    say(
        f"a request that ends its worker ({fault}): {shot.code} after {restarts} deaths and "
        f"{shot.seconds:.1f} s; {len(others)} neighbours: {outcomes(others)}, longest {longest:.1f} s"
    )
    assert (shot.status, shot.code) == (500, "worker_crashed")
    assert orjson.loads(shot.answer)["retryable"] is False
    assert restarts == 2
    assert longest < MOST_SECONDS
    assert ask(fragile, "/fragile")[0].code == "ok"
