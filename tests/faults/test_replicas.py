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

from faults.asked import pair_body, scaled
from faults.load import Load, Plan, Shot, post
from faults.observe import fetch, port_of, wait_until
from live_server import LiveServer, live_server
from stores import IN_URL, PASSWORD, Store, quota_store
from teams_file import make_key, team_table, write_teams

SERVERS = 3
SECONDS = scaled(8.0, 60.0)
LIMIT = 200.0
OFFERED = (300.0, 90.0, 30.0)  # requests a second, by server
KEY = make_key()
REQUEST = post("/focal", pair_body(4), name="a", X_API_Key=KEY)

pytestmark = pytest.mark.waits


class Fleet:
    """Some servers, and a caller of each."""

    def __init__(self, servers: list[LiveServer], loads: list[Load]) -> None:
        self.servers = servers
        self.loads = loads

    def start(self, offered: tuple[float, ...] = OFFERED) -> float:
        """Begin to send; when that was."""
        for server, load, rate in zip(self.servers, self.loads, offered, strict=True):
            load.start(Plan(port_of(server), [REQUEST], rate=rate))
        return time.monotonic()

    def finish(self) -> list[Shot]:
        return [shot for load in self.loads for shot in load.finish(stop=True)]

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
def store(folder: Path) -> Iterator[Store]:
    with quota_store(folder) as found:
        yield found


@pytest.fixture(scope="module")
def fleet(folder: Path, store: Store) -> Iterator[Fleet]:
    write_teams(folder / "teams.toml", team_table("a", KEY, limits={"requests_per_second": LIMIT}))
    with ExitStack() as stack:
        servers = []
        for number in range(SERVERS):
            (own := folder / str(number)).mkdir()
            settings = {"teams": folder / "teams.toml", "quota_store": store.url, "usage_file": ""}
            server = stack.enter_context(live_server(own, **settings))
            server.key = KEY
            servers.append(server)
        fleet = Fleet(servers, [stack.enter_context(Load()) for _ in servers])
        wait_until(lambda: fleet.shared_by(SERVERS), 20, "they do not share")
        time.sleep(1.5)  # until the store has learnt, and the shares are even
        yield fleet


def taken(shots: list[Shot], began: float, seconds: float) -> float:
    """Requests a second that were let in, in some seconds."""
    return sum(shot.status == 200 and began <= shot.sent < began + seconds for shot in shots) / seconds


def test_a_rate_holds_over_servers_with_uneven_callers(fleet: Fleet, say: Callable[[str], None]) -> None:
    began = fleet.start()
    time.sleep(SECONDS / 2)
    middle = [load.finish(stop=True) for load in fleet.loads]
    fleet.start(OFFERED[::-1])  # the busiest is another one
    time.sleep(began + SECONDS + 0.2 - time.monotonic())
    shots = [shot for some in (*middle, fleet.finish()) for shot in some]
    rate = taken(shots, began, SECONDS)
    say(f"{rate:.1f} requests/s of {LIMIT:g} in {SECONDS:g} s, by {SERVERS} servers")
    assert {shot.status for shot in shots} == {200, 429}
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
    assert {shot.status for shot in shots} == {200, 429}
    once = 1.0 / (SECONDS / 2 - 1)  # a second's worth may come at once, after a pause
    assert LIMIT * 0.8 < after < LIMIT * (scaled(1.0 + once, 1.0) + 0.2)
    assert LIMIT * 0.8 < rate < LIMIT * 1.2
    store.start()
    wait_until(lambda: all(found["status"] == "ready" for found in fleet.readiness()), 10, "not again")
    assert fleet.said("cannot be asked") == fleet.said("answers again") == SERVERS
    assert not fleet.said(PASSWORD)
    assert not fleet.said(IN_URL)


def test_a_store_that_hangs_delays_nobody(fleet: Fleet, store: Store) -> None:
    time.sleep(3.0)  # until the shares are even again
    fleet.start((60.0, 50.0, 40.0))
    time.sleep(1.0)
    store.signal(signal.SIGSTOP)
    wait_until(
        lambda: all(found["status"] == "degraded" for found in fleet.readiness()), 10, "they do not say so"
    )
    time.sleep(1.0)
    store.signal(signal.SIGCONT)
    wait_until(lambda: all(found["status"] == "ready" for found in fleet.readiness()), 10, "not again")
    shots = fleet.finish()
    assert {shot.status for shot in shots} == {200}
    assert max(shot.seconds for shot in shots) < 1.0


def test_a_killed_server_leaves_its_share_to_the_others(fleet: Fleet) -> None:
    fleet.start((300.0, 0.01, 300.0))
    time.sleep(2.0)
    dead = fleet.servers[2].process
    dead.kill()
    dead.wait()
    time.sleep(3.0)
    began = time.monotonic()
    time.sleep(2.0)
    shots = fleet.loads[0].finish(stop=True)
    for load in fleet.loads[1:]:
        load.finish(stop=True)
    assert taken(shots, began, 2.0) > LIMIT * 0.9
    assert not fleet.shared_by(SERVERS)
