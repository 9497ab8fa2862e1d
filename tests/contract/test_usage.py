"""A team's usage, also while it cannot be written or read."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pytest

from contract.test_problems import check, npy
from faults.observe import roles, wait_until
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams

KEYS = {name: make_key() for name in ("vision", "speech", "idle")}
BODY = npy(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("usage")
    write_teams(folder / "teams.toml", *(team_table(name, key) for name, key in KEYS.items()))
    file = folder / "made" / "usage.sqlite3"
    with live_server(folder, teams=folder / "teams.toml", front_ends=2, usage_file=file) as server:
        server.key = KEYS["idle"]
        yield server


def score(server: LiveServer, team: str = "", body: bytes = BODY) -> int:
    headers = {"content-type": "application/x-npy", "x-api-key": KEYS.get(team, "")}
    if not team:
        del headers["x-api-key"]
    return httpx.post(f"{server.url}/focal", content=body, headers=headers, timeout=30).status_code


def usage(server: LiveServer, team: str = "", **query: object) -> httpx.Response:
    headers = {"x-api-key": KEYS[team]} if team else {}
    return httpx.get(f"{server.url}/usage", params={k: str(v) for k, v in query.items()}, headers=headers)


def requests_of(server: LiveServer, team: str = "") -> int:
    return int(usage(server, team).json()["total"]["requests"])


def readiness(server: LiveServer) -> tuple[int, dict[str, Any]]:
    answer = httpx.get(f"{server.url}/readyz")
    return answer.status_code, answer.json()


def test_a_team_gets_its_own_usage(closed: LiveServer) -> None:
    assert [score(closed, "vision") for _ in range(3)] == [200] * 3
    assert score(closed, "vision", BODY[:-1]) == 400  # not answered with a loss
    assert score(closed, "speech") == 200
    wait_until(lambda: requests_of(closed, "speech") == 1, 10, "it is written down")
    wait_until(lambda: requests_of(closed, "vision") == 3, 10, "it is written down")
    today = datetime.now(UTC).date()
    answer = usage(closed, "vision", days=2)
    assert answer.headers["cache-control"] == "no-store"  # of one key's team
    found = answer.json()
    assert (found["team"], found["since"]) == ("vision", (today - timedelta(days=1)).isoformat())
    assert found["total"] | {"device_seconds": 0} == {
        "requests": 3,
        "elements": 18,
        "bytes": 3 * len(BODY),
        "device_seconds": 0,
    }
    assert found["total"]["device_seconds"] > 0
    assert sum(day["requests"] for day in found["days"]) == 3
    assert {day["day"] for day in found["days"]} <= {found["since"], today.isoformat()}
    empty = usage(closed, "idle").json()
    assert (empty["days"], set(empty["total"].values())) == ([], {0})


def test_it_is_as_documented(closed: LiveServer) -> None:
    document = httpx.get(f"{closed.url}/openapi.json").json()
    schema = {"$ref": "#/components/schemas/Usage", "components": document["components"]}
    jsonschema_rs.validate(schema, usage(closed, "vision", days=3660).json())
    schema["$ref"] = "#/components/schemas/Readiness"
    jsonschema_rs.validate(schema, readiness(closed)[1])


@pytest.mark.parametrize("days", ["0", "-1", "3661", "1.0", "x", "", "1,2", "null", "9" * 400, "true"])
def test_days_are_an_integer(closed: LiveServer, days: str) -> None:
    problem = check(usage(closed, "vision", days=days), 422, "invalid_parameter", "/days")
    assert "days" in problem["detail"]


def test_other_parameters_are_refused(closed: LiveServer) -> None:
    problem = check(usage(closed, "vision", day=3), 422, "invalid_parameter", "/day")
    assert "did you mean days?" in problem["detail"]
    check(usage(closed, "vision", key="speech"), 422, "invalid_parameter", "/key")
    check(usage(closed), 401, "unauthorized")


def test_a_server_that_keeps_no_usage_says_so(tmp_path: Path) -> None:
    with live_server(tmp_path, usage_file="") as server:
        assert score(server) == 200
        problem = check(usage(server), 404, "not_found")
        assert "keeps no usage" in problem["detail"]
        check(usage(server, days=0), 422, "invalid_parameter")
        assert readiness(server) == (200, {"status": "ready"})


def test_unwritable_usage_only_degrades_the_server(tmp_path: Path) -> None:
    degraded = (
        200,
        {"status": "degraded", "reasons": ["usage cannot be written: database is locked"]},
    )
    path = tmp_path / "usage.sqlite3"
    with live_server(tmp_path, front_ends=2) as server:
        assert score(server) == 200
        wait_until(lambda: requests_of(server) == 1, 10, "it is written down")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert [score(server) for _ in range(5)] == [200] * 5
            wait_until(lambda: readiness(server) == degraded, 20, "it says so")
            for front_end in roles(server).front_ends:
                os.kill(front_end, signal.SIGKILL)
            server.wait_until_ready()
            # Each of them, whichever is asked.
            wait_until(lambda: all(readiness(server) == degraded for _ in range(16)), 20, "the new ones, too")
            assert [score(server) for _ in range(5)] == [200] * 5
            assert requests_of(server) == 1
        wait_until(lambda: readiness(server) == (200, {"status": "ready"}), 20, "it is well again")
        wait_until(lambda: requests_of(server) == 11, 20, "it has caught up")
        log = server.log.read_text()
    assert log.count("usage cannot be written") == 1
    assert log.count("usage is written") == 1


def test_an_unreadable_usage_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "usage.sqlite3").write_bytes(b"no database" * 500)
    with live_server(tmp_path) as server:
        assert score(server) == 200
        problem = check(usage(server), 500, "internal_error")
        assert "usage cannot be read: file is not a database" in problem["detail"]
        wait_until(lambda: readiness(server)[1]["status"] == "degraded", 20, "it says so")
