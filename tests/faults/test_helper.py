"""The helper of the front end: a death is latency, and it leaves with the server."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import orjson

from live_server import LiveServer, live_server

X = np.random.default_rng(0).normal(0, 3, (20_000, 20))
LARGE = orjson.dumps({"logits": X, "targets": (X > 3).astype(int)}, option=orjson.OPT_SERIALIZE_NUMPY)


def post(url: str) -> float:
    answer = httpx.post(f"{url}/bce", content=LARGE, headers={"content-type": "application/json"}, timeout=30)
    assert answer.status_code == 200, answer.text
    loss: float = answer.json()["loss"]
    return loss


def helper_of(server: LiveServer) -> int:
    """The process that parses large documents: the front end's child, once there is one."""
    worker = server.worker_pid()
    (front_end,) = (pid for pid in children(server.process.pid) if pid != worker)
    ends = time.monotonic() + 10
    while len(helpers := [pid for pid in children(front_end) if not ended(pid)]) != 1:
        assert time.monotonic() < ends
        time.sleep(0.01)
    return helpers[0]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


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
        ends = time.monotonic() + 10
        while not ended(helper):
            assert time.monotonic() < ends
            time.sleep(0.05)
