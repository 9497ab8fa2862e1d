"""Workers that are killed or hang under an open loop's load: callers see latency, and the right bits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from faults.asked import SMALL, outcomes, scaled, small_truth, undisturbed, wrong
from faults.load import Load, Plan
from faults.observe import port_of, wait_until, workers
from live_server import LiveServer, live_server

pytestmark = pytest.mark.alone

KILLS = scaled(4, 50)
RATE = 200.0
MOST_SECONDS = 3.0  # a second on a machine with nothing else to do
HANG_SECONDS = 2


@contextmanager
def worker_of(server: LiveServer) -> Iterator[tuple[int, int]]:
    """The worker's pid, and a descriptor that stands for this process alone."""
    pid = int(workers(server)[0]["pid"])
    fd = os.pidfd_open(pid)
    try:
        yield pid, fd
    finally:
        os.close(fd)


def is_replaced(server: LiveServer, pid: int) -> bool:
    worker = workers(server)[0]
    return bool(worker["pid"] != pid and worker["state"] == "ready")


@pytest.mark.timeout(60 + 20 * KILLS)
def test_killed_workers_are_latency(tmp_path: Path, say: Callable[[str], None]) -> None:
    """Each is killed as soon as it has taken its predecessor's place and answered something."""
    with live_server(tmp_path, inline_ms=0) as server, Load() as load, Load() as single:
        right = undisturbed(server, single)
        load.start(Plan(port_of(server), SMALL, rate=RATE))
        for _ in range(KILLS):
            assert undisturbed(server, single) == right
            with worker_of(server) as (pid, fd):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                wait_until(lambda pid=pid: is_replaced(server, pid), 30, "no worker came")  # type: ignore[misc] # mypy has no type for such a lambda
        assert undisturbed(server, single) == right
        shots = load.finish(stop=True)
    slow = sum(shot.seconds > MOST_SECONDS for shot in shots)
    say(
        f"{KILLS} kills at {RATE:.0f} requests/s: {len(shots)} sent, {outcomes(shots)}, "
        f"{wrong(shots, right)} wrong, longest {max(shot.seconds for shot in shots):.2f} s, "
        f"{slow} over {MOST_SECONDS:.0f} s"
    )
    assert outcomes(shots) == {"ok": len(shots)}
    assert wrong(shots, right) == 0
    for name, loss in small_truth().items():
        assert right[name][0] == pytest.approx(loss, rel=1e-14)
    assert slow == 0


def test_a_hung_worker_is_replaced(tmp_path: Path, say: Callable[[str], None]) -> None:
    """One that is stopped in the midst of its work, as a driver that never returns would stop it."""
    with (
        live_server(tmp_path, hang_seconds=HANG_SECONDS, inline_ms=0) as server,
        Load() as load,
        Load() as single,
    ):
        right = undisturbed(server, single)
        load.start(Plan(port_of(server), SMALL, rate=RATE))
        with worker_of(server) as (pid, fd):
            try:
                signal.pidfd_send_signal(fd, signal.SIGSTOP)
                took = wait_until(lambda: is_replaced(server, pid), HANG_SECONDS + 15, "it was not replaced")
            finally:
                with suppress(ProcessLookupError):  # it is gone, as it should be
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
        assert undisturbed(server, single) == right
        shots = load.finish(stop=True)
    longest = max(shot.seconds for shot in shots)
    say(
        f"a hung worker, LOSSD_HANG_SECONDS={HANG_SECONDS}: replaced after {took:.1f} s; {len(shots)} sent, "
        f"{outcomes(shots)}, {wrong(shots, right)} wrong, longest {longest:.2f} s"
    )
    assert outcomes(shots) == {"ok": len(shots)}
    assert wrong(shots, right) == 0
    assert longest < HANG_SECONDS + MOST_SECONDS
