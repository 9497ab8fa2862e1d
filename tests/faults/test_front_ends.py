"""Two front ends, of which one is killed under load: its callers notice, and nobody else."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from faults.asked import SMALL, outcomes, pair_body, scaled, undisturbed, wrong
from faults.load import Load, Plan, post
from faults.observe import connections, is_free, metrics, port_of, roles, total, wait_until
from live_server import LiveServer, live_server

pytestmark = pytest.mark.alone

FRONT_ENDS = 2
KILLS = scaled(2, 20)
RATE = 200.0
MOST_SECONDS = 5.0
MOMENT = 0.3
"""In which a death becomes known to the callers whose connections it breaks."""
COUNTED = ("_total", "_count", "_sum", "_bucket")


class Counters:
    """Looks at the counters again and again while a ``with`` block lasts, and notes those that go down."""

    def __init__(self, server: LiveServer) -> None:
        self.fallen: list[str] = []
        self.looks = 0
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        before: dict[str, float] = {}
        while not self._ended.is_set():
            try:
                now = metrics(self._server)
            except OSError:  # asked of the front end that was killed
                continue
            # A process's own figures begin anew with the process that replaces it.
            counters = {
                key: value
                for key, value in now.items()
                if key.partition("{")[0].endswith(COUNTED) and not key.startswith("lossd_process_cpu")
            }
            self.fallen += [
                f"{name}: {value} to {counters.get(name)}"
                for name, value in before.items()
                if counters.get(name, 0.0) < value
            ]
            before = counters
            self.looks += 1
            time.sleep(0.05)


def half_uploaded(server: LiveServer, count: int) -> list[socket.socket]:
    """Connections that have sent half of a large body, and hold memory for all of it."""
    request = post("/focal", pair_body(20_000))
    held = [socket.create_connection(("127.0.0.1", port_of(server))) for _ in range(count)]
    for connection in held:
        connection.sendall(request.head + request.body[: len(request.body) // 2])
    return held


def test_a_killed_front_end(tmp_path: Path, say: Callable[[str], None]) -> None:
    with (
        live_server(tmp_path, front_ends=FRONT_ENDS) as server,
        Load() as load,
        Load() as single,
        Counters(server) as counters,
    ):
        assert len(roles(server).front_ends) == FRONT_ENDS
        right = undisturbed(server, single)
        before = total(server, "lossd_requests_total", outcome="ok")
        held = half_uploaded(server, 6)
        wait_until(lambda: metrics(server)["lossd_requests_in_flight"] >= 6, 5, "uploads do not begin")
        load.start(Plan(port_of(server), SMALL, rate=RATE))
        time.sleep(1.0)
        kills, replaced = [], []
        for _ in range(KILLS):
            victim = roles(server).front_ends[0]
            kills.append(time.monotonic())
            os.kill(victim, signal.SIGKILL)
            replaced.append(wait_until(lambda victim=victim: is_replaced(server, victim), 30, "none came"))  # type: ignore[misc] # mypy has no type for such a lambda
            time.sleep(1.0)
        for connection in held:
            connection.close()
        shots = load.finish(stop=True)
        freed = wait_until(lambda: is_free(server), 5, "the memory of those who were cut off is held")
        counted = total(server, "lossd_requests_total", outcome="ok") - before
        status = server.stop()
    cut = [shot for shot in shots if not shot.status]
    stray = [shot for shot in cut if not any(0 <= shot.done - kill < MOMENT for kill in kills)]
    answered = len(shots) - len(cut)
    say(
        f"{KILLS} kills of a front end of {FRONT_ENDS} at {RATE:.0f} requests/s: {len(shots)} sent, "
        f"{outcomes(shots)}, {len(stray)} cut off but by the kill, {wrong(shots, right)} wrong; replaced "
        f"within {max(replaced):.1f} s, memory free after {freed:.1f} s; of {answered} answers {counted:.0f} "
        f"counted; {len(counters.fallen)} counters fell in {counters.looks} looks; exit {status}"
    )
    assert set(outcomes(shots)) <= {"ok", "reset", "closed", "refused"}
    assert stray == []
    assert len(cut) <= KILLS * RATE * MOMENT
    assert wrong(shots, right) == 0
    assert max(replaced) < MOST_SECONDS
    assert counters.looks > 10
    assert counters.fallen == []
    assert answered <= counted <= len(shots)
    assert status == 0


def is_replaced(server: LiveServer, victim: int) -> bool:
    """There are as many as before, and each of them takes connections."""
    try:
        found = roles(server).front_ends
    except OSError:  # asked of the one that was killed
        return False
    if victim in found or len(found) < FRONT_ENDS:
        return False
    address = ("127.0.0.1", port_of(server))
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection(address))
        time.sleep(0.02)
        return all(connections(server, pid) for pid in found)
