"""The helper of the front end: a death or a hang is latency, and teams share it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from faults.observe import children, ended, roles, total, wait_until
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams

X = np.random.default_rng(0).normal(0, 3, (20_000, 20))
JSON = {"content-type": "application/json"}
LARGE = orjson.dumps({"logits": X, "targets": (X > 3).astype(int)}, option=orjson.OPT_SERIALIZE_NUMPY)


def post(url: str) -> float:
    answer = httpx.post(f"{url}/bce", content=LARGE, headers=JSON, timeout=30)
    assert answer.status_code == 200, answer.text
    loss: float = answer.json()["loss"]
    return loss


def helper_of(server: LiveServer) -> int:
    """The process that parses large documents, once there is one."""

    def parsers() -> list[int]:
        found = roles(server).helpers  # with one that draws, where a test before has asked for it
        return [pid for pid in found if b"json_parser" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    wait_until(lambda: len(parsers()) == 1, 10, "there is none")
    return parsers()[0]


def test_kills_under_load(server: LiveServer) -> None:
    losses = [post(server.url)]
    problems: list[BaseException] = []

    def ask() -> None:
        try:
            losses.extend(post(server.url) for _ in range(5))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        os.kill(helper_of(server), signal.SIGKILL)
        losses.append(post(server.url))  # which needs another one
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(losses) == 14
    assert len(set(losses)) == 1


@pytest.fixture(scope="module")
def vigilant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that soon takes a process that stands still for hung."""
    with live_server(tmp_path_factory.mktemp("vigilant"), hang_seconds=3) as running:
        yield running


def hangs(server: LiveServer) -> float:
    return total(server, "lossd_process_hangs_total", process="helper")


def test_a_hung_one_is_noticed_and_its_request_is_answered(vigilant: LiveServer) -> None:
    server, counted = vigilant, hangs(vigilant)
    before, hung = post(server.url), helper_of(server)
    os.kill(hung, signal.SIGSTOP)
    began = time.monotonic()
    assert post(server.url) == before
    assert time.monotonic() - began < 15.0
    assert ended(hung)
    assert hangs(server) == counted + 1
    assert f"the helper (pid {hung}) has made no progress" in server.log.read_text()


def test_a_request_whose_helpers_hang_twice_may_be_sent_again(vigilant: LiveServer) -> None:
    server, counted = vigilant, hangs(vigilant)
    with ThreadPoolExecutor(1) as threads:
        before, stopped = post(server.url), {helper_of(server)}
        [front_end] = roles(server).front_ends
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        answer = threads.submit(httpx.post, f"{server.url}/bce", content=LARGE, headers=JSON, timeout=60)
        while len(stopped) < 2:
            for pid in set(children(front_end)) - stopped:
                if b"json_parser" in Path(f"/proc/{pid}/cmdline").read_bytes():  # it is a program of its own
                    os.kill(pid, signal.SIGSTOP)
                    stopped.add(pid)
        refused = answer.result()
        assert refused.status_code == 503
        assert refused.json()["code"] == "overloaded"
        assert refused.json()["retryable"]
        assert int(refused.headers["retry-after"]) >= 1
        assert hangs(server) == counted + 2
        assert post(server.url) == before


def test_another_teams_document_waits_for_one_of_a_backlog(tmp_path: Path) -> None:
    """Twelve of 16 MB came before it: at most the one that is parsed, and the one behind, are done first."""
    keys = {"greedy": make_key(), "modest": make_key()}
    write_teams(tmp_path / "teams.toml", *(team_table(team, key) for team, key in keys.items()))
    large, small = (b'{"logits":[%b1],"targets":[%b1]}' % (2 * (n * b"1,",)) for n in (4_000_000, 500_000))
    settings: dict[str, Any] = {"teams": tmp_path / "teams.toml", "team_share": 0.9, "turn_bytes": 1 << 28}
    with live_server(tmp_path, **settings) as server, ThreadPoolExecutor(16) as threads:
        server.key = keys["modest"]

        def ask(team: str, document: bytes) -> float:
            headers = {**JSON, "x-api-key": keys[team]}
            answer = httpx.post(f"{server.url}/bce", content=document, headers=headers, timeout=120)
            assert answer.status_code == 200, answer.text
            return time.monotonic()

        ask("modest", small)
        backlog = [threads.submit(ask, "greedy", large) for _ in range(12)]
        wait_until(lambda: any(one.done() for one in backlog), 60, "none of the backlog is done")
        sent = time.monotonic()
        done = ask("modest", small)
        between = [one for one in backlog if sent < one.result() < done]
        assert len(between) <= 3  # with one that was scored already
        assert sum(one.result() > done for one in backlog) >= 5
