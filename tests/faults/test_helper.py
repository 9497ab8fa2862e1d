"""The helper of the front end: a death is latency, and it leaves with the server."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import httpx
import numpy as np
import orjson

from faults.observe import ended, roles, wait_until
from live_server import LiveServer, live_server

X = np.random.default_rng(0).normal(0, 3, (20_000, 20))
LARGE = orjson.dumps({"logits": X, "targets": (X > 3).astype(int)}, option=orjson.OPT_SERIALIZE_NUMPY)


def post(url: str) -> float:
    answer = httpx.post(f"{url}/bce", content=LARGE, headers={"content-type": "application/json"}, timeout=30)
    assert answer.status_code == 200, answer.text
    loss: float = answer.json()["loss"]
    return loss


def helper_of(server: LiveServer) -> int:
    """The process that parses large documents, once there is one."""
    wait_until(lambda: len(roles(server).helpers) == 1, 10, "there is none")
    return roles(server).helpers[0]


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


def test_it_leaves_with_the_server(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        post(server.url)
        helper = helper_of(server)
        assert server.stop() == 0
        assert ended(helper)


def test_it_does_not_outlive_a_killed_server(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        post(server.url)
        helper = helper_of(server)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: ended(helper), 10, "it is still there")
