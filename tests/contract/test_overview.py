"""What operators see of all teams, and what a team sees of its own limits."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pytest

from contract.test_problems import check, npy
from faults.observe import metrics, roles, wait_until
from live_server import LiveServer, live_server
from lossd.engine.usage_store import open_store
from lossd_client import LossClient
from stores import usage_database
from teams_file import make_key, team_table, write_teams

TEAMS = ("ops", "vision", "speech", "gone")
KEYS = {name: make_key() for name in TEAMS}
LIMITS = {
    "requests_per_second": 50,
    "elements_per_second": 1e9,
    "requests_in_flight": 64,
    "bytes_in_flight": 1 << 30,
}
BODY = npy(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
UPLOAD = 24_000_000
MIB = 1 << 20
SMALL = {
    "arena_bytes": 200 * MIB,  # of two front ends
    "max_body_bytes": 24 * MIB,
    "max_json_bytes": MIB,
    "max_chunked_bytes": 8 * MIB,
    "max_expanded_bytes": 8 * MIB,
    "max_batch_bytes": 2 * MIB,
    "max_output_bytes": 24 * MIB,
}


def write_all(folder: Path) -> Path:
    """A teams file with an operator, a team with limits, one without, and a disabled one."""
    write_teams(
        folder / "teams.toml",
        team_table("ops", KEYS["ops"]).replace("disabled", "operator = true\ndisabled"),
        team_table("vision", KEYS["vision"], weight=2.0, limits=LIMITS),
        team_table("speech", KEYS["speech"]),
        team_table("gone", KEYS["gone"], disabled=True),
    )
    return folder / "teams.toml"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("overview")
    with live_server(folder, teams=write_all(folder), front_ends=2, **SMALL) as server:
        server.key = KEYS["ops"]
        yield server


def ask(server: LiveServer, path: str, team: str | None = None, **query: object) -> httpx.Response:
    headers = {} if team is None else {"x-api-key": KEYS[team]}
    params = {name: str(value) for name, value in query.items()}
    return httpx.get(server.url + path, params=params, headers=headers, timeout=30)


def score(server: LiveServer, team: str | None = None) -> None:
    headers = {"content-type": "application/x-npy"} | ({} if team is None else {"x-api-key": KEYS[team]})
    assert httpx.post(f"{server.url}/bce", content=BODY, headers=headers, timeout=30).status_code == 200


def teams_of(server: LiveServer, team: str | None = "ops") -> dict[str, dict[str, Any]]:
    return {one["team"]: one for one in ask(server, "/overview", team).json()["teams"]}


def begin_upload(server: LiveServer, team: str) -> socket.socket:
    """Send the head of a request, and nothing of its body."""
    url = httpx.URL(server.url)
    connection = socket.create_connection((url.host, url.port or 80))
    head = f"POST /bce HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEYS[team]}\r\nContent-Type: application/x-npy\r\n"
    connection.sendall(f"{head}Content-Length: {UPLOAD}\r\n\r\n".encode())
    return connection


def test_an_operator_sees_every_team_with_its_usage_by_day(closed: LiveServer) -> None:
    for team, times in (("vision", 3), ("speech", 1)):
        for _ in range(times):
            score(closed, team)

    def requests() -> dict[str, int]:
        return {name: one["usage"]["total"]["requests"] for name, one in teams_of(closed).items()}

    wait_until(
        lambda: requests() == {"ops": 0, "vision": 3, "speech": 1, "gone": 0}, 10, "it is written down"
    )
    found = ask(closed, "/overview", "ops", days=2).json()
    assert found["since"] == (datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    assert (found["notes"], [one["team"] for one in found["teams"]]) == ([], list(TEAMS))
    vision = found["teams"][1]
    assert vision["usage"]["total"] == ask(closed, "/usage", "vision").json()["total"]
    assert sum(day["elements"] for day in vision["usage"]["days"]) == 18
    assert (vision["weight"], vision["limits"]) == (2.0, LIMITS)
    assert set(found["teams"][2]["limits"].values()) == {None}
    assert [one["disabled"] for one in found["teams"]] == [False, False, False, True]
    assert [one["operator"] for one in found["teams"]] == [True, False, False, False]
    assert found["workers"] == closed.info()["workers"]


def test_a_team_sees_its_own_limits_and_nothing_of_others(closed: LiveServer) -> None:
    found = ask(closed, "/usage", "vision").json()
    assert (found["weight"], found["limits"], found["operator"]) == (2.0, LIMITS, False)
    assert found["in_flight"] == {"requests": 0, "bytes": 0}
    assert ask(closed, "/overview", "ops").headers["cache-control"] == "no-store"
    problem = check(ask(closed, "/overview", "vision"), 403, "forbidden")
    assert "team vision is no operator" in problem["detail"]
    assert "/usage" in problem["detail"]
    assert not {"speech", "ops", "gone"} & set(problem["detail"].split())
    check(ask(closed, "/overview", "gone"), 403, "forbidden")
    check(ask(closed, "/overview"), 401, "unauthorized")


@pytest.mark.parametrize("days", ["0", "367", "1.0", "x"])
def test_days_are_an_integer(closed: LiveServer, days: str) -> None:
    problem = check(ask(closed, "/overview", "ops", days=days), 422, "invalid_parameter", "/days")
    assert "from 1 to 366" in problem["detail"]
    problem = check(ask(closed, "/overview", "ops", day=3), 422, "invalid_parameter", "/day")
    assert problem["detail"].startswith("/overview has no parameter")


def test_it_is_as_documented(closed: LiveServer) -> None:
    document = httpx.get(f"{closed.url}/openapi.json").json()
    schema = {"$ref": "#/components/schemas/Overview", "components": document["components"]}
    jsonschema_rs.validate(schema, ask(closed, "/overview", "ops", days=366).json())
    with LossClient(closed.url, api_key=KEYS["ops"]) as client:
        found = client.overview(1)
    assert [one["team"] for one in found["teams"]] == list(TEAMS)


def test_what_is_in_flight_and_waits_is_counted_over_all_front_ends(closed: LiveServer) -> None:
    with ExitStack() as connections:
        for _ in range(10):  # a team's share of a front end's memory holds one
            connections.enter_context(begin_upload(closed, "speech"))
        connections.enter_context(begin_upload(closed, "vision"))
        in_flight = {"requests": 10, "bytes": 10 * UPLOAD}
        wait_until(lambda: teams_of(closed)["speech"]["in_flight"] == in_flight, 10, "all have come")
        wait_until(lambda: settled(closed), 10, "the others wait for memory")
        found = ask(closed, "/overview", "ops").json()
        speech, vision = found["teams"][2], found["teams"][1]
        waiting = speech["waiting"]
        assert 1.0 <= waiting["bytes"] / (waiting["requests"] * UPLOAD) < 1.01  # with room to read into
        assert metrics(closed)["lossd_requests_waiting"] == waiting["requests"]
        assert (vision["in_flight"], vision["waiting"]) == (
            {"requests": 1, "bytes": UPLOAD},
            {"requests": 0, "bytes": 0},
        )
        assert ask(closed, "/usage", "vision").json()["in_flight"] == vision["in_flight"]
        queue, memory = found["queue"], {one["part"]: one for one in found["memory"]}
        assert queue["waiting"] == waiting
        assert queue["in_flight"]["requests"] == 11
        assert (
            queue["in_flight"]["bytes"] == memory["bodies"]["reserved"] >= (11 - waiting["requests"]) * UPLOAD
        )
        assert memory["bodies"]["reserved"] < memory["bodies"]["bytes"]
        for front_end in roles(closed).front_ends:
            os.kill(front_end, signal.SIGKILL)
        closed.wait_until_ready()
        wait_until(lambda: is_idle(closed), 20, "what the old front ends had is forgotten")


def settled(server: LiveServer) -> bool:
    """Whether one team's requests wait for its own memory, and no other's for a turn any more."""
    found = teams_of(server)
    return found["speech"]["waiting"]["requests"] in (8, 9) and found["vision"]["waiting"]["requests"] == 0


def is_idle(server: LiveServer) -> bool:
    found = ask(server, "/overview", "ops").json()
    now = [one[name] for one in found["teams"] for name in ("in_flight", "waiting")]
    now += found["queue"].values()
    return all(one == {"requests": 0, "bytes": 0} for one in now)


def test_a_server_without_teams_shows_anyone_its_only_one(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        score(server)
        wait_until(
            lambda: teams_of(server, None)["default"]["usage"]["total"]["requests"] == 1,
            10,
            "it is written down",
        )
        assert ask(server, "/usage").json()["operator"]
        with begin_upload(server, "ops"):
            wait_until(
                lambda: teams_of(server, None)["default"]["in_flight"]["requests"] == 1, 10, "it is seen"
            )


def test_without_usage_the_rest_is_shown_and_says_so(tmp_path: Path) -> None:
    with live_server(tmp_path, usage_file="") as server:
        found = ask(server, "/overview").json()
        assert found["notes"] == ["this server keeps no usage (LOSSD_USAGE_FILE is empty)"]
        assert found["teams"][0]["usage"] is None
        assert found["workers"][0]["state"] == "ready"


def test_usage_that_cannot_be_read_hides_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "usage.sqlite3").write_bytes(b"no database" * 500)
    with live_server(tmp_path) as server:
        found = ask(server, "/overview").json()
        (note,) = found["notes"]
        assert note.startswith("usage cannot be read: file is not a database")
        assert found["teams"][0]["usage"] is None
        assert found["workers"][0]["state"] == "ready"


def test_usage_of_the_past_is_read_from_a_file(tmp_path: Path) -> None:
    _read_the_past(tmp_path, tmp_path / "usage.sqlite3")
    with sqlite3.connect(tmp_path / "usage.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM usage").fetchone() == (2,)


@pytest.mark.slow
def test_usage_of_the_past_is_read_from_a_database(tmp_path: Path) -> None:
    with usage_database() as database:
        _read_the_past(tmp_path, database.url)


def _read_the_past(folder: Path, place: Path | str) -> None:
    """Write some days of two teams to a usage file or database, and see that a server finds them."""
    today = datetime.now(UTC).date()
    days = [(today - timedelta(days=back)).isoformat() for back in (3, 0)]
    amounts = {"requests": 2.0, "elements": 160.0, "bytes": 1000.0, "device_seconds": 0.25}
    store = open_store(place)
    store.add({(days[0], "vision"): amounts, (days[1], "speech"): amounts})
    store.close()
    with live_server(folder, teams=write_all(folder), usage_file=place) as server:
        server.key = KEYS["ops"]
        found = teams_of(server)
        assert found["vision"]["usage"] == {"days": [{"day": days[0], **amounts}], "total": amounts}
        assert found["speech"]["usage"] == {"days": [{"day": days[1], **amounts}], "total": amounts}
        assert found["ops"]["usage"]["days"] == []
