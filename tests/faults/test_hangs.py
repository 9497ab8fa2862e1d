"""Processes that stand still are noticed, replaced where somebody is there to do it, and counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.memory import family
from faults.asked import SMALL, outcomes, scaled, undisturbed, wrong
from faults.load import Load, Plan
from faults.observe import ended, fetch, metrics, port_of, wait_until
from faults.probes import stopped, watched_server

pytestmark = pytest.mark.waits

HANG_SECONDS = scaled(2.0, 10.0)
NOTICED_SECONDS = HANG_SECONDS + 5.0
RATE = 100.0


def test_a_hung_front_end_is_replaced(tmp_path: Path, say: Callable[[str], None]) -> None:
    with watched_server(tmp_path, hang_seconds=HANG_SECONDS) as admin, Load() as load, Load() as single:
        server, hung = admin.server, admin.front_end
        right = undisturbed(server, single)
        load.start(Plan(port_of(server), SMALL, rate=RATE))
        time.sleep(0.5)
        with stopped(hung):
            took = wait_until(lambda: ended(hung), NOTICED_SECONDS, "it was not noticed")
            assert admin.status("/livez") == 200  # for it is replaced
            wait_until(admin.is_ready, 15, "nothing came in its place")
        assert undisturbed(server, single) == right
        shots = load.finish(stop=True)
        assert admin.hangs() == {"front-end": 1.0}
        assert metrics(server)['lossd_process_hangs_total{process="front-end"}'] == 1.0
        assert server.stop() == 0
    say(
        f"a hung front end, LOSSD_HANG_SECONDS={HANG_SECONDS:g}: killed after {took:.1f} s; "
        f"{len(shots)} sent, {outcomes(shots)}, {wrong(shots, right)} wrong; "
        f"probes {1e3 * max(admin.seconds):.0f} ms at most"
    )
    assert set(outcomes(shots)) <= {"ok", "reset", "closed"}
    assert wrong(shots, right) == 0


def test_a_hung_admin_listener_is_replaced_and_nobody_else_notices(tmp_path: Path) -> None:
    with watched_server(tmp_path, hang_seconds=HANG_SECONDS) as admin, Load() as load:
        hung = admin.pid
        load.start(Plan(port_of(admin.server), SMALL, rate=RATE))
        with stopped(hung):
            wait_until(lambda: ended(hung), NOTICED_SECONDS, "it was not noticed")
            wait_until(admin.is_ready, 15, "nothing came in its place")
        shots = load.finish(stop=True)
        assert admin.hangs() == {"admin": 1.0}
    assert outcomes(shots) == {"ok": len(shots)}


def test_a_hung_supervisor_is_said_to_be_so_until_it_goes_on(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    """Nobody ends it: what it would replace goes on, and only whoever started it can start another."""
    with watched_server(tmp_path, hang_seconds=HANG_SECONDS) as admin, Load() as load, Load() as single:
        server = admin.server
        right = undisturbed(server, single)
        processes = family(server.process.pid)
        load.start(Plan(port_of(server), SMALL, rate=RATE))
        with stopped(server.process.pid):
            took = wait_until(
                lambda: not admin.is_ready() and fetch(server, "/readyz")[0] == 503,
                NOTICED_SECONDS,
                "it was not noticed",
            )
            assert admin.document("/readyz")["reasons"] == ["the supervisor stands still"]
            assert b"the supervisor stands still" in fetch(server, "/readyz")[1]
            assert (admin.status("/livez"), fetch(server, "/livez")[0]) == (503, 200)
            assert admin.metrics()["lossd_supervisor_hung"] == 1.0
            assert metrics(server)["lossd_supervisor_hung"] == 1.0
            assert undisturbed(server, single) == right
        again = wait_until(
            lambda: admin.is_ready() and fetch(server, "/readyz")[0] == 200, 5, "it is not ready again"
        )
        shots = load.finish(stop=True)
        assert family(server.process.pid) == processes
        assert admin.hangs() == {}
        wait_until(lambda: admin.metrics()["lossd_supervisor_hung"] == 0.0, 5, "the metric has not changed")
        log = server.log.read_text()
    say(f"a hung supervisor: not ready after {took:.1f} s, ready again after {again:.1f} s")
    assert outcomes(shots) == {"ok": len(shots)}
    assert log.count("the supervisor stands still") == 2  # said once by each of the two who look at it
    assert log.count("the supervisor goes on") == 2


def test_a_machine_that_stood_still_kills_nobody(tmp_path: Path) -> None:
    with watched_server(tmp_path, hang_seconds=HANG_SECONDS) as admin:
        processes = family(admin.server.process.pid)
        assert len(processes) == 4
        for _ in range(2):
            with stopped(*processes):
                time.sleep(HANG_SECONDS + 2.0)
            time.sleep(1.0)
            assert family(admin.server.process.pid) == processes
            assert admin.status("/livez") == 200
            assert admin.is_ready()
        assert admin.hangs() == {}
        assert "stands still" not in admin.server.log.read_text()


def test_a_front_end_that_hangs_when_the_server_is_stopped_does_not_delay_that(tmp_path: Path) -> None:
    with watched_server(tmp_path, hang_seconds=HANG_SECONDS, drain_seconds=300) as admin:
        processes = family(admin.server.process.pid)
        with stopped(admin.front_end):
            began = time.monotonic()
            assert admin.server.stop() == 1  # it was killed, and with it whatever it had accepted
            took = time.monotonic() - began
        assert all(ended(pid) for pid in processes)
    assert took < NOTICED_SECONDS + 10.0
