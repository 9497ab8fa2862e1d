"""Several servers hold a team's limits together, whatever becomes of the store between them."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from faults.asked import outcomes, pair_body, scaled
from faults.load import Load, Plan, Shot, post
from faults.observe import fetch, port_of, wait_until
from live_server import LiveServer, live_server
from stores import IN_URL, PASSWORD, Store, quota_store
from teams_file import make_key, team_table, write_teams

SERVERS = 3
SECONDS = scaled(8.0, 60.0)
LIMIT = 100.0
OFFERED = (150.0, 45.0, 15.0)  # requests a second, by server
KEY = make_key()
REQUEST = post("/focal", pair_body(4), name="a", X_API_Key=KEY)

pytestmark = pytest.mark.waits


class Fleet:
    """Some servers, and callers of each, of whom others may take over without a pause."""

    def __init__(self, servers: list[LiveServer], loads: list[Load]) -> None:
        self.servers = servers
        self._idle = loads
        self._busy: list[Load] = []

    def start(self, offered: tuple[float, ...] = OFFERED) -> float:
        """Begin to send; when that was."""
        began = time.monotonic()
        for server, rate in zip(self.servers, offered, strict=True):
            self._busy.append(self._idle.pop(0))
            self._busy[-1].start(Plan(port_of(server), [REQUEST], rate=rate))
        return began

    def finish(self) -> list[Shot]:
        """End those who have begun first; what came of it."""
        ending, self._busy = self._busy[:SERVERS], self._busy[SERVERS:]
        self._idle += ending
        return [shot for load in ending for shot in load.finish(stop=True)]

    def said(self, text: str) -> int:
        """How many of the logs have a text."""
        return sum(text in server.log.read_text() for server in self.servers)

    def readiness(self) -> list[dict[str, Any]]:
        return [json.loads(fetch(server, "/readyz")[1]) for server in self.servers]

    def shared_by(self, servers: int) -> bool:
        """Whether each says that so many share the limits."""
        said = [re.findall(r"shared by servers=(\d+)", server.log.read_text()) for server in self.servers]
        return all(numbers and int(numbers[-1]) == servers for numbers in said)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def started(folder: Path) -> Iterator[Store]:
    with quota_store(folder) as found:
        yield found


@pytest.fixture
def store(started: Store) -> Iterator[Store]:
    """The store, which runs again after a test."""
    yield started
    started.kill()
    started.start()


@pytest.fixture(scope="module")
def servers(folder: Path, started: Store) -> Iterator[list[LiveServer]]:
    write_teams(folder / "teams.toml", team_table("a", KEY, limits={"requests_per_second": LIMIT}))
    with ExitStack() as stack:
        servers = []
        for number in range(SERVERS):
            (own := folder / str(number)).mkdir()
            starting = live_server(own, teams=folder / "teams.toml", quota_store=started.url, usage_file="")
            server = stack.enter_context(starting)
            server.key = KEY
            servers.append(server)
        yield servers


@pytest.fixture
def fleet(servers: list[LiveServer]) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = Fleet(servers, [stack.enter_context(Load()) for _ in range(2 * SERVERS)])
        wait_until(lambda: fleet.shared_by(SERVERS), 20, "they do not share")
        time.sleep(3.0)  # until the store has learnt, and the shares are even
        yield fleet


def taken(shots: list[Shot], began: float, seconds: float) -> float:
    """Requests a second that were let in, in some seconds."""
    return sum(shot.status == 200 and began <= shot.sent < began + seconds for shot in shots) / seconds


def check(shots: list[Shot], *expected: str) -> None:
    """Check what came of requests. A connection that is closed while it is idle says nothing about limits."""
    found = outcomes(shots)
    assert found.pop("closed", 0) <= len(shots) / 100
    assert set(found) == set(expected)


def test_a_rate_holds_over_servers_with_uneven_callers(fleet: Fleet, say: Callable[[str], None]) -> None:
    began = fleet.start()
    time.sleep(SECONDS / 2)
    fleet.start(OFFERED[::-1])  # the busiest is another one
    first = fleet.finish()
    time.sleep(max(0.0, began + SECONDS + 0.2 - time.monotonic()))
    shots = first + fleet.finish()
    rate = taken(shots, began, SECONDS)
    say(f"{rate:.1f} requests/s of {LIMIT:g} in {SECONDS:g} s, by {SERVERS} servers")
    check(shots, "ok", "rate_limited")
    once = scaled(1.0 / SECONDS, 0.0)  # a second's worth may come at once
    assert LIMIT * 0.95 < rate < LIMIT * (1.05 + once)


def test_with_the_store_killed_the_last_shares_stay(
    fleet: Fleet, store: Store, say: Callable[[str], None]
) -> None:
    began = fleet.start()
    time.sleep(SECONDS / 2)
    store.kill()
    wait_until(
        lambda: all(found["status"] == "degraded" for found in fleet.readiness()), 10, "they do not say so"
    )
    for found in fleet.readiness():
        (reason,) = found["reasons"]
        assert reason.startswith("the quota store cannot be asked: ")
        assert reason.endswith("; this server's last shares stay")
    time.sleep(max(0.0, began + SECONDS + 0.2 - time.monotonic()))
    shots = fleet.finish()
    rate, after = taken(shots, began, SECONDS), taken(shots, began + SECONDS / 2 + 1, SECONDS / 2 - 1)
    say(f"{rate:.1f} requests/s of {LIMIT:g} in {SECONDS:g} s, {after:.1f} of them once the store was killed")
    check(shots, "ok", "rate_limited")
    once = 1.0 / (SECONDS / 2 - 1)  # a second's worth may come at once, after a pause
    assert LIMIT * 0.8 < after < LIMIT * (scaled(1.0 + once, 1.0) + 0.2)
    assert LIMIT * 0.8 < rate < LIMIT * 1.2
    store.start()
    wait_until(lambda: all(found["status"] == "ready" for found in fleet.readiness()), 10, "not again")
    assert fleet.said("cannot be asked") == fleet.said("answers again") == SERVERS
    assert not fleet.said(PASSWORD)
    assert not fleet.said(IN_URL)


def test_a_store_that_hangs_delays_nobody(fleet: Fleet, store: Store) -> None:
    fleet.start((30.0, 25.0, 20.0))
    time.sleep(1.0)
    store.signal(signal.SIGSTOP)
    wait_until(
        lambda: all(found["status"] == "degraded" for found in fleet.readiness()), 10, "they do not say so"
    )
    time.sleep(1.0)
    store.signal(signal.SIGCONT)
    wait_until(lambda: all(found["status"] == "ready" for found in fleet.readiness()), 10, "not again")
    shots = fleet.finish()
    check(shots, "ok")
    assert max(shot.seconds for shot in shots) < 1.0


def test_a_killed_server_leaves_its_share_to_the_others(fleet: Fleet) -> None:
    fleet.start((LIMIT, 0.01, LIMIT))
    time.sleep(2.0)
    dead = fleet.servers[2].process
    dead.kill()
    dead.wait()
    time.sleep(3.0)
    began = time.monotonic()
    time.sleep(2.0)
    assert taken(fleet.finish(), began, 2.0) > LIMIT * 0.9
    assert not fleet.shared_by(SERVERS)
