"""Usage under load: what callers counted is in the file, whatever was killed and whatever the disk does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from faults.asked import outcomes, pair_body, scaled
from faults.disks import Disk, small_disk
from faults.load import Load, Plan, Request, Shot, post
from faults.observe import children, ended, fetch, port_of, roles, wait_until, workers
from live_server import LiveServer, live_server
from lossd.engine.usage_store import first_day, read_usage, total_usage
from stores import IN_URL, PASSWORD, usage_database
from teams_file import make_key, team_table, write_teams

KILLS = scaled(2, 20)
RATE = 200.0
ROWS, COLUMNS = 32, 80
BODY = pair_body(ROWS, COLUMNS)
KEYS = {team: make_key() for team in ("a", "b")}
REQUESTS: list[Request] = [
    post(f"/{loss}", BODY, name=team, X_API_Key=KEYS[team])
    for team, loss in (("a", "focal"), ("a", "bce"), ("b", "focal"))
]


class Counted(NamedTuple):
    """What callers of a team counted up to a kill.

    Attributes:
        answers: All of them.
        last: Those of the last second.
        in_flight: Requests that were sent, and not answered.
    """

    answers: int
    last: int
    in_flight: int


@pytest.fixture
def teams(tmp_path: Path) -> Path:
    path = tmp_path / "teams.toml"
    write_teams(path, *(team_table(team, key) for team, key in KEYS.items()))
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path) as found:
        yield found


def used(path: Path, team: str) -> dict[str, int | float]:
    """A team's totals, as they stand in the file."""
    return total_usage(read_usage(path, first_day(2), team) if path.exists() else [])


def told(server: LiveServer) -> float:
    """What /usage says that the team has been answered."""
    found: float = json.loads(fetch(server, "/usage")[1])["total"]["requests"]
    return found


def readiness(server: LiveServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fetch(server, "/readyz")[1])
    return found


def kill_everything(server: LiveServer) -> float:
    """When it was done, by time.monotonic()."""
    supervisor = server.process.pid
    pids = [supervisor, *(pid for child in children(supervisor) for pid in (child, *children(child)))]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    server.process.wait()
    wait_until(lambda: all(map(ended, pids)), 10, "all have ended")
    return killed


def counted(shots: list[Shot], team: str, killed: float) -> Counted:
    asked = [shot for shot in shots if shot.name == team]
    answered = [shot for shot in asked if shot.status == 200]
    return Counted(
        len(answered),
        sum(shot.done > killed - 1.0 for shot in answered),
        sum(shot.status != 200 and 0.0 < shot.sent < killed for shot in asked),
    )


@pytest.mark.timeout(60 + 30 * KILLS)
def test_killing_everything_loses_the_last_second_at_most(
    tmp_path: Path, teams: Path, say: Callable[[str], None]
) -> None:
    path, missing, beyond, answers = tmp_path / "usage.sqlite3", 0.0, 0.0, 0
    with Load() as load:
        for number in range(KILLS):
            before = {team: used(path, team) for team in KEYS}
            with live_server(tmp_path, teams=teams, front_ends=2, usage_file=path) as server:
                load.start(Plan(port_of(server), REQUESTS, rate=RATE))
                time.sleep(2.0 + 0.13 * (number % 8))  # not always the same time after it was written
                killed = kill_everything(server)
                shots = load.finish(stop=True)
            for team in KEYS:
                callers, after = counted(shots, team, killed), used(path, team)
                more = after["requests"] - before[team]["requests"]
                said = f"{team}: {more} more in the file, callers counted {callers}"
                assert callers.answers - callers.last <= more <= callers.answers + callers.in_flight, said
                scored = (after["elements"] - before[team]["elements"]) / (ROWS * COLUMNS)
                assert callers.answers - callers.last <= scored <= callers.answers + callers.in_flight, said
                missing = max(missing, callers.answers - more)
                beyond = max(beyond, more - callers.answers)
                answers += callers.answers
    say(
        f"{KILLS} kills of everything at {RATE:.0f} requests/s: callers counted {answers} answers; "
        f"at each at most {missing:.0f} of a team's were not in the file, "
        f"and {beyond:.0f} in it that nobody had got"
    )
    assert answers > KILLS * RATE / 2


def test_a_stop_in_order_loses_nothing(tmp_path: Path, teams: Path) -> None:
    path = tmp_path / "usage.sqlite3"
    expected = dict.fromkeys(KEYS, 0)
    with Load() as load:
        for _ in range(2):
            with live_server(tmp_path, teams=teams, front_ends=2, usage_file=path) as server:
                shots = load.run(Plan(port_of(server), REQUESTS, rate=RATE, count=90))
                replace_front_end(server)  # what it had counted is counted
                assert server.stop() == 0
            assert outcomes(shots) == {"ok": 90}
            for team in KEYS:
                expected[team] += sum(shot.name == team for shot in shots)
                found = used(path, team)
                assert found["requests"] == expected[team]
                assert found["elements"] == expected[team] * ROWS * COLUMNS
                assert found["bytes"] == expected[team] * len(BODY)
                assert found["device_seconds"] > 0


def replace_front_end(server: LiveServer) -> None:
    """Kill one of two, and wait for another."""
    server.key = KEYS["a"]
    first = roles(server).front_ends[0]
    os.kill(first, signal.SIGKILL)

    def replaced() -> bool:
        found = roles(server).front_ends
        return len(found) == 2 and first not in found

    wait_until(replaced, 20, "it is not replaced")
    wait_until(lambda: server.log.read_text().count("is ready on") == 3, 20, "it does not take requests")


def test_a_full_disk_stops_no_scoring_and_the_counters_catch_up(tmp_path: Path, disk: Disk) -> None:
    path = disk.folder / "lossd" / "usage.sqlite3"
    request = post("/focal", BODY)
    with live_server(tmp_path, usage_file=path) as server, Load() as load:
        assert outcomes(load.run(Plan(port_of(server), [request], count=10))) == {"ok": 10}
        wait_until(lambda: told(server) == 10, 10, "it is written down")
        with disk.full():
            load.start(Plan(port_of(server), [request], rate=50.0))
            wait_until(lambda: readiness(server)["status"] == "degraded", 60, "it does not say so")
            assert readiness(server)["reasons"] == ["usage cannot be written: database or disk is full"]
            time.sleep(1.0)
            shots = load.finish(stop=True)
            assert told(server) < 10 + len(shots)
        assert outcomes(shots) == {"ok": len(shots)}
        wait_until(lambda: readiness(server)["status"] == "ready", 30, "it does not recover")
        assert told(server) == 10 + len(shots)
        log = server.log.read_text()
    assert log.count("usage cannot be written") == log.count("usage is written") == 1
    assert used(path, "default")["requests"] == 10 + len(shots)


def test_a_disk_that_does_not_answer_holds_up_nothing_else(tmp_path: Path, disk: Disk) -> None:
    path = disk.folder / "usage.sqlite3"
    request = post("/focal", BODY)
    with live_server(tmp_path, usage_file=path) as server, Load() as load:
        with disk.silent():
            load.start(Plan(port_of(server), [request], rate=50.0))
            wait_until(lambda: readiness(server)["status"] == "degraded", 30, "it does not say so")
            assert readiness(server)["reasons"] == ["usage cannot be written: the disk does not answer"]
            first = int(workers(server)[0]["pid"])
            os.kill(first, signal.SIGKILL)  # the supervisor goes on with its other work
            wait_until(lambda: workers(server)[0]["pid"] != first, 30, "it is not replaced")
            shots = load.finish(stop=True)
        assert outcomes(shots) == {"ok": len(shots)}
        wait_until(lambda: readiness(server)["status"] == "ready", 60, "it does not recover")
        wait_until(lambda: told(server) == len(shots), 10, "it has not caught up")


def test_a_database_counts_for_several_servers_whatever_becomes_of_it(tmp_path: Path, teams: Path) -> None:
    with usage_database() as database, ExitStack() as stack:
        servers, loads = [], []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            server = stack.enter_context(live_server(tmp_path / name, teams=teams, usage_file=database.url))
            server.key = KEYS["a"]
            servers.append(server)
            loads.append(stack.enter_context(Load()))
        for server, load in zip(servers, loads, strict=True):
            load.start(Plan(port_of(server), REQUESTS, rate=50.0))
        for number in range(scaled(2, 10)):
            time.sleep(1.0 + 0.13 * number)  # not always the same time after it was written
            database.kill()
            wait_until(lambda: all(map(is_degraded, servers)), 20, "they do not say so")
            database.start()
            wait_until(lambda: not any(map(is_degraded, servers)), 30, "they do not recover")
        database.signal(signal.SIGSTOP)
        wait_until(lambda: all(map(is_degraded, servers)), 20, "they do not say so")
        assert readiness(servers[0])["reasons"] == ["usage cannot be written: the database does not answer"]
        database.signal(signal.SIGCONT)
        wait_until(lambda: not any(map(is_degraded, servers)), 30, "they do not recover")
        shots = [shot for load in loads for shot in load.finish(stop=True)]
        assert outcomes(shots) == {"ok": len(shots)}
        assert [server.stop() for server in servers] == [0, 0]
        for team in KEYS:
            found = total_usage(read_usage(database.url, first_day(2), team))
            asked = sum(shot.name == team for shot in shots)
            assert found["requests"] == asked
            assert found["elements"] == asked * ROWS * COLUMNS
        done = subprocess.run(
            [sys.executable, "-m", "lossd", "usage", "--json", "--file", database.url],
            check=True,
            capture_output=True,
            text=True,
        )
        assert json.loads(done.stdout)["total"]["requests"] == len(shots)
        said = done.stdout + "".join(server.log.read_text() for server in servers)
    assert said.count("usage cannot be written") == said.count("usage is written") == 2 * scaled(3, 11)
    assert not [secret for secret in (PASSWORD, IN_URL) if secret in said]


def is_degraded(server: LiveServer) -> bool:
    return bool(readiness(server)["status"] == "degraded")
