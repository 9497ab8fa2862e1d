"""What a running server logs: one way in all its processes, and on every line whose request it is about."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from faults.asked import pair_body
from faults.observe import is_ready, roles, wait_until
from faults.raw import talk
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams

STRANGE = 8
"""Failures of a team's own among those of strangers."""
HERE = Path(__file__).parent
NPY = "application/x-npy"


def lines(server: LiveServer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def requests_of(server: LiveServer) -> list[dict[str, Any]]:
    return [line for line in lines(server) if line["event"] == "request"]


def of(told: list[dict[str, Any]], request_id: str) -> list[dict[str, Any]]:
    return [line for line in told if line.get("request_id") == request_id]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a server says whose requests succeed, fail and end its processes."""
    folder, key = tmp_path_factory.mktemp("told"), make_key()
    path = folder / "teams.toml"
    write_teams(path, team_table("vision", key))
    modules: dict[str, Any] = {"losses": "fragile_loss:FRAGILE", "modules": HERE}
    with live_server(
        folder, teams=path, log_format="json", log_requests="all", front_ends=2, **modules
    ) as server:
        server.key = key
        headers = {"content-type": NPY, "x-api-key": key, "x-request-id": "r-1"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            # By the fast lane, by ASGI, refused by each, and failing within the worker.
            assert client.post("/bce", content=pair_body(4)).status_code == 200
            slow = {"x-request-id": "r-2", "accept": NPY}
            assert client.post("/bce?reduction=none", content=pair_body(4), headers=slow).status_code == 200
            nobody = {"x-request-id": "r-3", "x-api-key": make_key()}
            assert client.post("/bce", content=pair_body(4), headers=nobody).status_code == 401
            failing = {"x-request-id": "r-4"}
            assert (
                client.post("/fragile?fault=error", content=pair_body(4), headers=failing).status_code == 500
            )
            ending = {"x-request-id": "r-5"}
            poison = client.post("/fragile?fault=device", content=pair_body(4), headers=ending)
            assert poison.status_code == 500
        os.kill(roles(server).front_ends[0], signal.SIGKILL)
        wait_until(lambda: is_ready(server), 60, "they have been replaced")
        wait_until(lambda: "ended with status -9" in server.log.read_text(), 20, "the supervisor says so")
        return lines(server)


def test_every_process_logs_json_with_the_request_and_its_team(told: list[dict[str, Any]]) -> None:
    assert {line["process"] for line in told} >= {"supervisor", "front-end", "worker"}
    assert {line.get("number") for line in told if line["process"] == "front-end"} == {0, 1}
    for line in told:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"]), line
        fatal = line["event"] == "uncaught exception; exiting"
        assert line["level"] in (("critical",) if fatal else ("debug", "info", "warning", "error")), line
        assert line["logger"]
    fast, ordinary, unknown = (of(told, f"r-{number}")[0] for number in (1, 2, 3))
    assert (fast["outcome"], fast["status"], fast["team"]) == ("ok", 200, "vision")
    assert (fast["loss"], fast["format"], fast["elements"]) == ("bce", "npy", 320)
    assert (fast["bytes"], fast["client"]) == (len(pair_body(4)), "127.0.0.1")
    assert 0 < fast["compute_seconds"] <= fast["total_seconds"]
    assert {**ordinary, "timestamp": 0}.keys() == fast.keys()
    assert (ordinary["team"], ordinary["elements"]) == ("vision", 320)
    assert (unknown["outcome"], unknown["status"], unknown.get("team")) == ("unauthorized", 401, None)
    failed = {line["process"]: line for line in of(told, "r-4")}
    assert "a fault of the code" in failed["worker"]["exception"]
    assert failed["worker"]["team"] == "vision"
    assert failed["front-end"]["outcome"] == "internal_error"
    ended = [line for line in of(told, "r-5") if line["process"] == "front-end"]
    assert [line["event"] for line in ended[:2]] == ["worker 0 ended while it had this request"] * 2
    assert {line["team"] for line in ended} == {"vision"}
    assert ended[-1]["outcome"] == "worker_crashed"


def test_what_ends_a_process_is_one_line(told: list[dict[str, Any]]) -> None:
    ending = [line for line in told if line["event"] == "uncaught exception; exiting"]
    assert {line["process"] for line in ending} == {"worker"}
    assert all("device-side assert" in line["exception"] for line in ending)
    assert {line["process"] for line in of(told, "r-5")} == {"front-end", "worker"}


def test_only_failures_have_lines_and_no_more_than_so_many(tmp_path: Path) -> None:
    with live_server(tmp_path, log_format="json") as server:
        with httpx.Client(base_url=server.url, headers={"content-type": NPY}, timeout=60) as client:
            for _ in range(5):
                assert client.post("/bce", content=pair_body(4)).status_code == 200
            for _ in range(200):
                assert client.post("/bce?gamma=2", content=pair_body(4)).status_code == 422
            assert client.get("/nowhere").status_code == 404
        assert talk(server, b"GET / HTTP/1.1\r\nno header\r\n\r\n").statuses == [400]
        wait_until(lambda: any("left_out" in line for line in lines(server)), 20, "it says how many")
    written, outcomes = requests_of(server), {line["outcome"] for line in requests_of(server)}
    assert outcomes <= {"invalid_parameter", "not_found", "bad_request"}
    left_out = [line for line in lines(server) if "left_out" in line]
    assert len(written) + sum(line["left_out"] for line in left_out) == 202
    assert len(written) < 202
    assert not any("request_id" in line for line in left_out)


def test_strangers_do_not_hide_a_teams_failures(tmp_path: Path) -> None:
    path, key = tmp_path / "teams.toml", make_key()
    write_teams(path, team_table("vision", key))
    modules: dict[str, Any] = {"losses": "fragile_loss:FRAGILE", "modules": HERE}
    broken = (
        b"POST /bce HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    )
    stop, began = threading.Event(), time.monotonic()

    def strangers() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            talk(server, (b"GET /nowhere HTTP/1.1\r\n\r\n", broken, b"\x16\x03\x01\r\n\r\n")[number % 3])

    with live_server(tmp_path, teams=path, log_format="json", **modules) as server:
        server.key = key
        threads = [threading.Thread(target=strangers) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            with httpx.Client(base_url=server.url, headers={"x-api-key": key}, timeout=60) as client:
                for number in range(STRANGE):
                    time.sleep(0.7)
                    headers = {"content-type": NPY, "x-request-id": f"mine-{number}"}
                    answer = client.post("/fragile?fault=error", content=pair_body(4), headers=headers)
                    assert answer.status_code == 500
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        seconds = time.monotonic() - began
        wait_until(lambda: any("left_out" in line for line in lines(server)), 20, "it says how many")
    found = lines(server)
    mine = {line["request_id"] for line in found if line.get("outcome") == "internal_error"}
    assert mine == {f"mine-{number}" for number in range(STRANGE)}
    assert len([line for line in found if line["level"] != "info"]) < 40 + 20 * seconds
    left_out = [line for line in found if "left_out" in line and line["process"] == "front-end"]
    assert sum(line["left_out"] for line in left_out) > 20
    assert {line["most_of"] for line in left_out} <= {"callers without a key"}
    # The worker's tracebacks are of one fault: some of them are enough.
    assert 3 <= len([line for line in found if "exception" in line]) <= 4


def test_no_request_has_a_line_where_none_is_asked_for(tmp_path: Path) -> None:
    with live_server(tmp_path, log_requests="none") as server:
        answer = httpx.post(f"{server.url}/bce", content=pair_body(4), headers={"content-type": NPY})
        assert answer.status_code == 200
        refused = httpx.post(f"{server.url}/bce?gamma=2", content=pair_body(4), headers={"content-type": NPY})
        assert refused.status_code == 422
    said = server.log.read_text()
    assert "outcome=" not in said
    assert "listening on http://127.0.0.1" in said
