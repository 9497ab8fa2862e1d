"""Stops under load: who was accepted is answered, and who comes too late is told so or not let in."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from faults.asked import SMALL, outcomes, pair_body, scaled, undisturbed, wrong
from faults.load import Load, Plan, Shot, post
from faults.observe import port_of
from live_server import live_server

pytestmark = pytest.mark.alone

RESTARTS = scaled(3, 20)
RATE = 200.0
MIXED = [*SMALL * 4, post("/focal", pair_body(8192), name="large")]
MOST_SECONDS = 30.0
UNACCEPTED = 0.02
"""Before the listener closes: who has connected may not have been let in."""


class Listening:
    """When a port was last seen to be listened on, while a ``with`` block lasts; by time.monotonic()."""

    def __init__(self, port: int) -> None:
        self.last = 0.0
        self._line = f":{port:04X} 00000000:0000 0A"
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
        while not self._ended.is_set():
            now = time.monotonic()
            if self._line in Path("/proc/net/tcp").read_text():
                self.last = now
            time.sleep(0.005)


def is_lost(shot: Shot, closed: float) -> bool:
    """Whether a request was let in, and then dropped.

    A connection that the kernel made and the server never saw is reset when the listener closes; one on which
    something was read, and then dropped, ends otherwise.
    """
    if shot.status or shot.broken == "refused":
        return False
    unaccepted = UNACCEPTED if shot.broken == "reset" and not shot.first else 0.0
    return shot.broken == "silent" or shot.sent < closed - unaccepted


@pytest.mark.timeout(60 + 20 * RESTARTS)
def test_stops_under_load(tmp_path: Path, say: Callable[[str], None]) -> None:
    found: Counter[str] = Counter()
    lost: list[str] = []
    stops, bad, cut = [], 0, 0
    with Load() as load, Load() as single:
        for _ in range(RESTARTS):
            with live_server(tmp_path) as server, Listening(port_of(server)) as listening:
                right = undisturbed(server, single, MIXED)
                load.start(Plan(port_of(server), MIXED, rate=RATE))
                time.sleep(1.0)
                server.process.send_signal(signal.SIGTERM)
                began = time.monotonic()
                status = server.process.wait(MOST_SECONDS + 10)
                stops.append(time.monotonic() - began)
                shots = load.finish(stop=True)
            assert status == 0, server.log.read_text()
            found.update(outcomes(shots))
            lost += [
                f"{shot.name}, {shot.broken}, sent {1e3 * (listening.last - shot.sent):.0f} ms before the end"
                for shot in shots
                if is_lost(shot, listening.last)
            ]
            cut += sum(not shot.status and shot.broken != "refused" for shot in shots)
            bad += wrong(shots, right)
    say(
        f"{RESTARTS} stops at {RATE:.0f} requests/s: {dict(found)}, {len(lost)} lost of what was accepted, "
        f"{bad} wrong, {cut} reset unseen at the end; exit 0 within {max(stops):.1f} s"
    )
    assert set(found) <= {"ok", "draining", "refused", "reset", "closed"}
    assert found["ok"] > RATE * RESTARTS / 2
    assert not lost, "\n".join(lost)
    assert bad == 0
    assert cut <= RESTARTS * 5
    assert max(stops) < MOST_SECONDS
