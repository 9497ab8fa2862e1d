"""A team that holds all it can, slowly: what others ask for is theirs at once, and operators are told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from faults.observe import fetch, is_free, metrics, total, wait_until
from faults.raw import connect, receive
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams
from wire.feeding import npy

pytestmark = pytest.mark.waits

MIB = 1 << 20
SECONDS = 20.0
"""Within these another team is answered, on a busy machine. Who waits for memory here waits for longer."""
READ_RATE = 3000
UPLOAD_RATE = 9000
"""Bytes a second, a little more than must be."""


@dataclass(frozen=True, slots=True)
class Full:
    """A server where one team uploads as much as it can, and another reads no faster than it must.

    Attributes:
        server: The server.
        keys: The teams' keys.
        uploads: The connections of the uploads.
        since: When these began.
    """

    server: LiveServer
    keys: dict[str, str]
    uploads: list[socket.socket]
    since: float

    def head(self, team: str, nbytes: int, target: str = "/bce", more: str = "") -> bytes:
        return (
            f"POST {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {self.keys[team]}\r\n{more}"
            f"Content-Type: application/x-npy\r\nContent-Length: {nbytes}\r\n\r\n"
        ).encode()

    def post(self, body: bytes, target: str = "/bce", team: str = "modest") -> httpx.Response:
        headers = {
            "content-type": "application/x-npy",
            "accept": "application/x-npy",
            "x-api-key": self.keys[team],
            "x-timeout-ms": f"{1000 * SECONDS:.0f}",
        }
        return httpx.post(f"{self.server.url}{target}", content=body, headers=headers, timeout=2 * SECONDS)


def body(elements: int) -> bytes:
    return npy(np.zeros(elements, dtype=np.float16)) + npy(np.zeros(elements, dtype=bool))


UPLOAD = 24_000_000
ANSWER = body(20 * MIB // 8)
"""Its losses take 20 MiB: of these the memory for answers holds two, and a team's share of it one."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Full]:
    folder = tmp_path_factory.mktemp("full")
    keys = {team: make_key() for team in ("greedy", "reader", "modest")}
    write_teams(folder / "teams.toml", *(team_table(team, key) for team, key in keys.items()))
    settings: dict[str, Any] = {
        "teams": folder / "teams.toml",
        "arena_bytes": 100 * MIB,
        "max_body_bytes": 24 * MIB,
        "max_json_bytes": MIB,
        "max_chunked_bytes": 8 * MIB,
        "max_expanded_bytes": 8 * MIB,
        "max_batch_bytes": 2 * MIB,
        "max_output_bytes": 24 * MIB,
    }
    with live_server(folder, **settings) as server, ExitStack() as connections:
        server.key = keys["modest"]
        made = Full(server, keys, [], time.monotonic())
        for _ in range(2):
            made.uploads.append(connections.enter_context(connect(server)))
            made.uploads[-1].sendall(made.head("greedy", UPLOAD))
        upload, stopped = npy(np.zeros(UPLOAD // 4, dtype=np.float16)), threading.Event()

        def send_slowly() -> None:
            sent = 0
            while not stopped.wait(1.0):
                due = int((time.monotonic() - made.since) * UPLOAD_RATE)  # on a busy machine, too
                for connection in made.uploads:
                    connection.sendall(upload[sent:due])
                sent = due

        sender = threading.Thread(target=send_slowly)
        sender.start()
        try:
            wait_until(lambda: metrics(server)["lossd_requests_waiting"] == 1, 10, "both have memory")
            yield made
        finally:
            stopped.set()
            sender.join()


def test_another_teams_large_body(full: Full) -> None:
    answer = full.post(body(20_000_000 // 3))
    assert answer.status_code == 200, answer.text


def test_more_of_its_own_is_refused_with_what_it_holds(full: Full) -> None:
    with connect(full.server) as connection:
        connection.sendall(full.head("greedy", UPLOAD, more="X-Timeout-Ms: 1000\r\n"))
        answer = receive(connection, answers=1)
    assert answer.statuses == [503]
    assert b"\r\nretry-after: " in answer.raw.lower()
    problem = json.loads(answer.raw.partition(b"\r\n\r\n")[2])
    assert problem["code"] == "overloaded"
    assert problem["retryable"]
    assert "team greedy holds 240" in problem["detail"]
    assert "memory for request bodies" in problem["detail"]


def test_another_teams_array_answers_beside_slow_readers(full: Full) -> None:
    stopped = threading.Event()

    def read_slowly(connection: socket.socket) -> None:
        while not stopped.wait(1.0):
            connection.recv(READ_RATE)

    with ExitStack() as readers:
        threads = []
        for _ in range(2):
            connection = readers.enter_context(connect(full.server, receive_bytes=4096))
            connection.settimeout(60)  # one answer after the other is computed
            accept = "Accept: application/x-npy\r\n"
            connection.sendall(full.head("reader", len(ANSWER), "/bce?reduction=none", accept) + ANSWER)
            threads.append(threading.Thread(target=read_slowly, args=(connection,)))
            threads[-1].start()
        try:
            wait_until(lambda: answers_reserved(full) >= 20 * MIB, 20, "it has no answer")
            wait_until(lambda: metrics(full.server)["lossd_requests_waiting"] == 2, 20, "no other waits")
            assert answers_reserved(full) < 21 * MIB
            for _ in range(3):
                answer = full.post(body(10 * MIB // 8), "/bce?reduction=none")
                assert answer.status_code == 200, answer.text
                assert len(answer.content) > 10 * MIB
        finally:
            stopped.set()
            for thread in threads:
                thread.join()


def answers_reserved(full: Full) -> float:
    return total(full.server, "lossd_memory_reserved_bytes", part="answers")


def test_operators_are_told_after_a_minute_until_it_ends(full: Full) -> None:
    server = full.server
    while time.monotonic() < full.since + 58.0:
        assert readiness(server) == {"status": "ready"}
        time.sleep(0.5)
    wait_until(lambda: readiness(server)["status"] == "degraded", 15, "it is not said")
    reasons = readiness(server)["reasons"]
    assert len(reasons) == 1
    assert "its share of the memory for bodies" in reasons[0]
    assert "greedy" not in reasons[0]  # anybody may read it
    assert total(server, "lossd_share_full", part="bodies") == 1
    assert total(server, "lossd_degraded") == 1
    while full.uploads:
        full.uploads.pop().close()
    wait_until(lambda: readiness(server) == {"status": "ready"}, 5, "it has not ended")
    wait_until(lambda: is_free(server), 5, "something is still held")
    assert total(server, "lossd_share_full") == 0
    assert (
        server.log.read_text().count("team greedy has filled its share of the memory for request bodies") == 1
    )


def readiness(server: LiveServer) -> dict[str, list[str] | str]:
    status, text = fetch(server, "/readyz")
    assert status == 200
    found: dict[str, list[str] | str] = json.loads(text)
    return found


def test_without_teams_nothing_is_kept_for_others(tmp_path: Path) -> None:
    """One team, which may have two thirds of the default memory in one piece and the rest in another."""
    with live_server(tmp_path) as server, ExitStack() as connections:
        capacity = total(server, "lossd_memory_bytes", part="bodies")
        for _ in range(2):
            connection = connections.enter_context(connect(server))
            head = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % int(capacity * 0.45))
        wait_until(lambda: metrics(server)["lossd_bytes_in_flight"] > 0.85 * capacity, 20, "one waits")
