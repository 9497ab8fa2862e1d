"""Teams on a running server with two front ends: keys come and go, limits hold over both."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from faults.asked import outcomes, pair_body, scaled
from faults.load import Load, Plan, Request, post
from faults.observe import is_ready, port_of, roles, wait_until
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams

RATE = 200.0
ROTATIONS = scaled(3, 30)
BODY = pair_body(32)


class Closed:
    """A server with teams, and its file."""

    def __init__(self, server: LiveServer, path: Path) -> None:
        self.server = server
        self.path = path

    def status(self, key: str) -> int:
        return httpx.get(f"{self.server.url}/v2", headers={"x-api-key": key}, timeout=10).status_code


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    folder, key = tmp_path_factory.mktemp("closed"), make_key()
    path = folder / "teams.toml"
    write_teams(path, team_table("ops", key))
    with live_server(folder, teams=path, front_ends=2, device="cpu") as server:
        server.key = key
        yield Closed(server, path)


def ops(closed: Closed) -> str:
    assert closed.server.key is not None
    return team_table("ops", closed.server.key)


def asked(key: str) -> Request:
    return post("/focal", BODY, name="focal", X_API_Key=key)


def test_a_revoked_key_is_refused_within_a_second(closed: Closed) -> None:
    key = make_key()
    write_teams(closed.path, ops(closed), team_table("a", key))
    wait_until(lambda: all(closed.status(key) == 200 for _ in range(8)), 10, "the new key is known")
    with Load() as load:
        load.start(Plan(port_of(closed.server), [asked(key)], rate=RATE))
        time.sleep(0.5)
        write_teams(closed.path, ops(closed), team_table("a"))
        revoked = time.monotonic()
        time.sleep(1.5)
        shots = load.finish(stop=True)
    late = [shot for shot in shots if shot.sent > revoked + 1.0]
    assert len(late) > 20
    assert {shot.status for shot in late} == {401}
    assert {shot.status for shot in shots if shot.done < revoked} == {200}


def test_rotating_keys_under_load_costs_no_request(closed: Closed) -> None:
    old, totals = make_key(), Counter[str]()
    write_teams(closed.path, ops(closed), team_table("a", old))
    wait_until(lambda: all(closed.status(old) == 200 for _ in range(8)), 10, "the first key is known")
    with Load() as load, Load() as next_load:
        for _ in range(ROTATIONS):
            load.start(Plan(port_of(closed.server), [asked(old)], rate=RATE))
            new = make_key()
            write_teams(closed.path, ops(closed), team_table("a", old, new))
            time.sleep(1.0)  # what an operator has to wait for
            next_load.start(Plan(port_of(closed.server), [asked(new)], rate=RATE))
            time.sleep(0.2)
            totals.update(outcomes(load.finish(stop=True)))
            write_teams(closed.path, ops(closed), team_table("a", new))
            time.sleep(0.5)
            totals.update(outcomes(next_load.finish(stop=True)))
            old = new
    assert set(totals) == {"ok"}, totals


def test_a_bad_file_changes_nothing_for_those_that_are_started_later_either(closed: Closed) -> None:
    closed.path.write_text("[teams.ops]\nweigth = 3\n")
    wait_until(lambda: "weigth" in closed.server.log.read_text(), 10, "the log says so")
    assert closed.server.key is not None
    for front_end in roles(closed.server).front_ends:
        os.kill(front_end, signal.SIGKILL)
    wait_until(lambda: is_ready(closed.server), 20, "both have been replaced")
    assert [closed.status(closed.server.key) for _ in range(8)] == [200] * 8
    assert closed.server.log.read_text().count("weigth") == 1


def test_a_rate_holds_over_both_front_ends_whatever_the_connections(closed: Closed) -> None:
    key, free = make_key(), make_key()
    limits = {"requests_per_second": 40.0}
    write_teams(closed.path, ops(closed), team_table("limited", key, limits=limits), team_table("b", free))
    wait_until(lambda: closed.status(free) == 200, 10, "the teams are known")
    seconds, began = 3.0, time.monotonic()
    with Load() as load, Load() as other:
        load.start(Plan(port_of(closed.server), [asked(key)], at_once=64, seconds=seconds))
        other.start(Plan(port_of(closed.server), [asked(free)], rate=50.0, seconds=seconds))
        limited, unlimited = outcomes(load.finish()), outcomes(other.finish())
    took = time.monotonic() - began
    assert set(unlimited) == {"ok"}, unlimited
    assert set(limited) == {"ok", "rate_limited"}, limited
    assert limited["rate_limited"] > limited["ok"]
    assert 40 * (seconds - 0.5) <= limited["ok"] <= 40 * (took + 1.5), (
        limited
    )  # a second's worth is there at first
