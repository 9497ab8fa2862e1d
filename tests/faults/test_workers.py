"""A killed worker is latency, not an error; and nothing is left behind."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import reference
from bench.memory import family
from faults.observe import children, ended, is_free, roles, wait_until, workers
from faults.probes import watched_server
from live_server import LiveServer, live_server
from lossd_client import LossClient, LossdError

X = np.random.default_rng(3).normal(0, 4, (32, 80)).astype(np.float32)
Y = (X > 3).astype(np.float32)
Client = partial(LossClient, retry=None, request_bytes=1 << 30)
"""It is the server that is to survive: nothing is sent twice, and nothing in parts."""


def expected() -> float:
    each = (reference.focal(float(x), float(y)) for x, y in zip(X.ravel(), Y.ravel(), strict=True))
    return float(sum(each) / X.size)


def test_a_large_request_survives_the_death_of_its_worker(server: LiveServer) -> None:
    x = np.tile(X, (2000, 1))  # 5 million elements: tens of slices
    y = np.tile(Y, (2000, 1))
    with Client(server.url, timeout=60) as client:
        undisturbed = client.bce(x, y)
        by_class = client.bce(x, y, axis=0)
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(client.bce(x, y))),
            threading.Thread(target=lambda: results.append(client.bce(x, y, axis=0))),
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.12)
        os.kill(server.worker_pid(), signal.SIGKILL)
        for thread in threads:
            thread.join()
    assert len(results) == 2
    for result in results:
        before = by_class if isinstance(result.loss, np.ndarray) else undisturbed
        assert np.asarray(result.loss).tobytes() == np.asarray(before.loss).tobytes()
        assert result.sum == before.sum
    server.wait_until_ready()


def test_memory_comes_back(server: LiveServer) -> None:
    wait_until(lambda: is_free(server), 5, "something is held")


def test_a_caller_who_hangs_up_frees_its_memory(server: LiveServer) -> None:
    def cut_short() -> object:
        yield b"\x93NUMPY\x01\x00"
        msg = "gone"
        raise RuntimeError(msg)

    headers = {"content-type": "application/x-npy", "content-length": "100000000"}
    for _ in range(5):
        with pytest.raises(RuntimeError, match="gone"):
            httpx.post(f"{server.url}/bce", content=cut_short(), headers=headers)  # type: ignore[arg-type] # it does yield bytes
    wait_until(lambda: is_free(server), 5, "something is held")


def test_callers_who_hang_up_while_they_are_scored_free_their_memory(tmp_path: Path) -> None:
    """Slices of these take 0.2 s, and four of each request are with the worker: 8 s to the last one's end."""
    elements = np.zeros(16 * 32768, np.float32)
    file = io.BytesIO()
    np.save(file, elements)
    body = 2 * file.getvalue()
    with live_server(
        tmp_path, modules=Path(__file__).parent, losses="slow_loss:SLOW", turn_bytes=1 << 30
    ) as server:
        assert httpx.post(f"{server.url}/slow", json={"logits": [1], "targets": [1]}).status_code == 200
        address = urllib.parse.urlsplit(server.url)
        callers = [socket.create_connection((address.hostname, address.port)) for _ in range(10)]
        for caller in callers:
            caller.sendall(
                b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
        while "lossd_requests_in_flight 10.0" not in httpx.get(f"{server.url}/metrics").text:
            time.sleep(0.02)
        for caller in callers:
            caller.close()
        wait_until(lambda: is_free(server), 5, "something is held")
        assert httpx.post(f"{server.url}/bce", json={"logits": [1], "targets": [1]}).status_code == 200


def test_a_server_is_three_processes(server: LiveServer) -> None:
    """A front end and a worker beside the supervisor, unless it is asked for more."""
    wait_until(lambda: len(children(server.process.pid)) == 2, 10, "there are more, or fewer")


@contextmanager
def all_kinds(folder: Path) -> Iterator[tuple[LiveServer, list[int]]]:
    """A server with a process of every kind: an admin listener and a helper, too; and the processes."""
    numbers = "[" + ",".join(["0.5"] * 400_000) + "]"  # so long a document is the helper's
    with watched_server(folder) as admin:
        answer = httpx.post(
            f"{admin.server.url}/bce",
            content=f'{{"logits":{numbers},"targets":{numbers}}}',
            headers={"content-type": "application/json"},
            timeout=30,
        )
        assert answer.status_code == 200
        found = family(admin.server.process.pid)
        assert len(found) == 5
        yield admin.server, found


def test_nothing_outlives_the_server(tmp_path: Path) -> None:
    with all_kinds(tmp_path) as (server, found):
        assert server.stop() == 0
        assert all(ended(pid) for pid in found)


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with all_kinds(tmp_path) as (server, found):
        server.process.kill()
        server.process.wait()
        wait_until(lambda: all(ended(pid) for pid in found), 10, "something is left")


def test_an_ended_front_end_is_replaced(tmp_path: Path) -> None:
    """And what its requests held is free, though the worker was at work on them."""
    file = io.BytesIO()
    np.save(file, np.zeros(40_000_000, np.float16))
    with live_server(tmp_path) as server:
        address = urllib.parse.urlsplit(server.url)
        assert httpx.post(f"{server.url}/bce", json={"logits": [1], "targets": [1]}).status_code == 200
        before = roles(server)
        for restarts in (1, 2):
            with socket.create_connection((address.hostname, address.port)) as caller:
                caller.sendall(
                    b"POST /focal HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\n"
                    + f"Content-Length: {2 * len(file.getvalue())}\r\n\r\n".encode()
                    + 2 * file.getvalue()
                )
                os.kill(roles(server).front_ends[0], signal.SIGKILL)
                server.wait_until_ready(20)
                assert roles(server).workers == before.workers
                metrics = httpx.get(f"{server.url}/metrics").text
                assert f"lossd_front_end_restarts_total {restarts}.0" in metrics
                labels = 'format="json",loss="bce",outcome="ok",team="default"'
                assert f"lossd_requests_total{{{labels}}} 1.0" in metrics
                assert "lossd_requests_in_flight 0.0" in metrics
            wait_until(lambda: is_free(server), 5, "something is held")
        with Client(server.url) as client:
            assert float(client.focal(X, Y)) == pytest.approx(expected(), rel=1e-14)


@pytest.fixture(scope="module")
def pair_of_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("two")
    with live_server(folder, device="cpu:0,cpu:1", threads=2) as running:
        yield running


@pytest.fixture
def two(pair_of_workers: LiveServer) -> LiveServer:
    """A server with two workers, both of which are there."""
    wait_until(
        lambda: [worker["state"] for worker in workers(pair_of_workers)] == ["ready"] * 2,
        30,
        "one is missing",
    )
    return pair_of_workers


def test_several_workers_share_the_requests(two: LiveServer) -> None:
    server = two
    x, y = np.tile(X, (400, 1)), np.tile(Y, (400, 1))
    with Client(server.url) as client:
        found = workers(server)
        assert [worker["device"] for worker in found] == ["cpu:0", "cpu:1"]
        restarts = [worker["restarts"] for worker in found]
        expected_bits = float(client.bce(x, y))
        pids = [worker["pid"] for worker in found]
        before = [cpu_seconds(pid) for pid in pids]
        answers: list[float] = []

        def ask() -> None:
            with Client(server.url) as client:
                answers.extend(float(client.bce(x, y)) for _ in range(10))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == 40 * [expected_bits]
        one, other = (cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True))
        assert 0.25 < one / other < 4.0
        os.kill(pids[0], signal.SIGKILL)
        assert float(client.bce(x, y)) == expected_bits  # by the other, or by its successor
        server.wait_until_ready()
        assert [worker["restarts"] for worker in workers(server)] == [restarts[0] + 1, restarts[1]]


def test_several_workers_share_a_large_request(server: LiveServer, two: LiveServer) -> None:
    """Its bits are those of a server with one worker, whatever is asked for."""
    x, y = np.tile(X, (2000, 1)), np.tile(Y, (2000, 1))
    forms: tuple[dict[str, Any], ...] = (
        {},
        {"axis": 0},
        {"axis": 1},
        {"reduction": "sum", "weight": X[0] ** 2},
        {"reduction": "none"},
    )
    with Client(server.url, timeout=60) as alone, Client(two.url, timeout=60) as client:
        pids = [worker["pid"] for worker in workers(two)]
        before = [cpu_seconds(pid) for pid in pids]
        for form in forms:
            expected, found = alone.focal(x, y, **form), client.focal(x, y, **form)
            assert np.array_equal(np.asarray(found.loss), np.asarray(expected.loss)), form
            assert (found.sum, found.count, found.weight_sum, found.positives) == (
                expected.sum,
                expected.count,
                expected.weight_sum,
                expected.positives,
            )
        one, other = (cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True))
        assert 0.25 < one / other < 4.0
        wait_until(lambda: is_free(two), 5, "something is held")


def test_workers_that_share_a_request_name_its_first_fault(two: LiveServer) -> None:
    """However fast each is: the one at the end of a slice, before the one at the beginning of the next."""
    x, y = np.tile(X, (800, 1)), np.tile(Y, (800, 1))
    wrong, slices = x.copy(), 131_072
    wrong.reshape(-1)[[6 * slices - 1, 6 * slices + 5]] = np.nan
    first = "/logits/" + "/".join(map(str, divmod(6 * slices - 1, 80)))
    with Client(two.url, timeout=60) as client:
        for _ in range(20):
            with pytest.raises(LossdError) as caught:
                client.focal(wrong, y)
            assert [one.pointer for one in caught.value.errors] == [first]
        assert np.isfinite(float(client.focal(x, y)))


def test_a_worker_that_does_not_come_back_keeps_nobody_waiting(two: LiveServer) -> None:
    """Its requests are the other's."""
    x, y = np.tile(X, (4000, 1)), np.tile(Y, (4000, 1))
    with Client(two.url, timeout=30) as client:
        expected_bits = float(client.focal(x, y))
        answers: list[float] = []

        def ask() -> None:
            with Client(two.url, timeout=30) as client:
                answers.extend(float(client.focal(x, y)) for _ in range(3))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        killed = set()
        while any(thread.is_alive() for thread in threads):
            pid = workers(two)[0]["pid"]
            if pid not in killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
            assert time.monotonic() - began < 60
        assert answers == 18 * [expected_bits]
        assert killed


@pytest.mark.alone
def test_a_killed_worker_is_replaced_at_once(tmp_path: Path, say: Callable[[str], None]) -> None:
    """It imports little: that is why it is small, too."""
    x, y = np.tile(X, (128, 1)), np.tile(Y, (128, 1))
    waits = []
    with live_server(tmp_path) as server, Client(server.url, timeout=30) as client:
        right = float(client.focal(x, y))
        for _ in range(5):
            pid = server.worker_pid()
            os.kill(pid, signal.SIGKILL)
            began = time.monotonic()
            assert float(client.focal(x, y)) == right
            waits.append(time.monotonic() - began)
        megabytes = own_bytes(server.worker_pid()) / 1e6
    say(f"a killed worker: longest wait {max(waits):.2f} s; {megabytes:.0f} MB without the arena")
    assert max(waits) < 1.0
    assert megabytes < 60.0


def own_bytes(pid: int) -> int:
    """What a process holds in memory, but for what it shares by design."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(1024 * int(fields[1]) for fields in lines if fields[0] in ("RssAnon:", "RssFile:"))


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
