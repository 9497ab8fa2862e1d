"""Forks, pickles and copies of a client; servers of its own."""

import asyncio
import copy
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from client.playback import SCALAR, Answer, Playback
from lossd_client import (
    AsyncHttpxTransport,
    AsyncLossClient,
    ConnectionFailed,
    HttpxTransport,
    LossClient,
    Progress,
    Request,
    Response,
    Retry,
    Timeout,
    Unavailable,
)
from lossd_client.local import free_port

pytestmark = pytest.mark.slow

X, Y = np.zeros((2, 3)), np.zeros((2, 3))
GONE_SECONDS = 60.0


def test_a_forked_child_opens_a_connection_of_its_own(playback: Playback) -> None:
    with LossClient(playback.url) as client:
        client.bce(X, Y)
        child = os.fork()
        if not child:  # nothing of pytest may run here
            status = 1
            with suppress(BaseException):
                client.bce(X, Y)
                client.close()
                status = 0
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.bce(X, Y)  # over the first connection, which the child let be
    assert len(playback.arrivals) == 3
    assert playback.connections == 2


def test_threads_share_a_client(playback: Playback) -> None:
    with LossClient(playback.url) as client, ThreadPoolExecutor(8) as pool:
        losses = set(pool.map(lambda _: float(client.bce(X, Y)), range(40)))
    assert losses == {SCALAR["loss"]}
    assert playback.connections <= 8


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_is_the_same_client_with_connections_of_its_own(playback: Playback, again: object) -> None:
    assert callable(again)
    playback.answer = Answer.of_problem(503, "overloaded", retryable=True)
    with LossClient(playback.url, api_key="k", timeout=Timeout(deadline=50), retry=None) as client:
        other = again(client)
    with pytest.raises(RuntimeError, match="closed"):
        client.ready()
    with other, pytest.raises(Unavailable, match="overloaded"):
        other.bce(X, Y)
    assert len(playback.arrivals) == 1  # it is told not to try again
    assert playback.last.headers["authorization"] == "Bearer k"
    assert int(playback.last.headers["x-timeout-ms"]) <= 50_000
    assert repr(other) == repr(client)


def test_a_pickle_has_neither_the_environments_key_nor_a_callback(
    playback: Playback, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    monkeypatch.setenv("LOSSD_API_KEY", "secret-1")
    with LossClient(playback.url, progress=lambda progress: told.append(progress)) as client:
        pickled = pickle.dumps(client)
    assert b"secret-1" not in pickled
    monkeypatch.setenv("LOSSD_API_KEY", "secret-2")
    with pickle.loads(pickled) as client:
        client.bce(X, Y)
    assert playback.last.headers["authorization"] == "Bearer secret-2"
    assert told == []


def test_a_client_with_other_options_shares_the_connection(playback: Playback) -> None:
    with LossClient(playback.url, api_key="a") as client:
        client.bce(X, Y)
        client.with_options(api_key="b").bce(X, Y)
        assert playback.last.headers["authorization"] == "Bearer b"
        client.bce(X, Y)
        assert playback.last.headers["authorization"] == "Bearer a"
        with pytest.raises(TypeError, match="no option 'base_url'"):
            client.with_options(base_url="http://elsewhere")  # type: ignore[call-arg] # what is tested
    assert playback.connections == 1


def test_an_http_client_of_ones_own(playback: Playback) -> None:
    http = httpx.Client(headers={"X-Own": "yes"})
    with LossClient(playback.url, transport=lambda: HttpxTransport(http=http)) as client:
        client.bce(X, Y)
    assert playback.last.headers["x-own"] == "yes"
    assert http.is_closed


async def _ask_with_ones_own(url: str) -> bool:
    http = httpx.AsyncClient(headers={"X-Own": "yes"})
    async with AsyncLossClient(url, transport=lambda: AsyncHttpxTransport(http=http)) as client:
        await client.bce(X, Y)
    return http.is_closed


def test_an_asynchronous_http_client_of_ones_own(playback: Playback) -> None:
    assert asyncio.run(_ask_with_ones_own(playback.url))
    assert playback.last.headers["x-own"] == "yes"


class Recorder:
    """A transport that knows nothing of httpx."""

    opened = 0

    def __init__(self) -> None:
        Recorder.opened += 1

    def send(self, request: Request, timeout: Timeout) -> Response:
        assert request.url == "http://nowhere/focal"
        assert dict(request.query) == {"tensors": "logits,targets", "gamma": "2.0"}
        return Response(200, {"content-type": "application/json"}, Answer.of_json(SCALAR).body)

    def close(self) -> None:
        pass


def test_a_transport_of_ones_own_is_opened_anew_where_the_client_is_unpickled() -> None:
    Recorder.opened = 0
    with LossClient("http://nowhere", transport=Recorder) as client:
        assert float(client.focal(X, Y, gamma=2)) == SCALAR["loss"]
        with pickle.loads(pickle.dumps(client)) as other:
            assert float(other.focal(X, Y, gamma=2)) == SCALAR["loss"]
    assert Recorder.opened == 2


def _gone(pids: list[int], url: str) -> bool:
    place = urlsplit(url)
    with socket.socket() as probe:
        listens = probe.connect_ex((place.hostname, place.port)) == 0
    return not listens and not any(_lives(pid) for pid in pids)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - one read, no race
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _descendants(pid: int) -> list[int]:
    with suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123 - as above
            children = [int(each) for each in file.read().split()]
        return children + [one for child in children for one in _descendants(child)]
    return []


def _wait_until_gone(pids: list[int], url: str) -> bool:
    ends = time.monotonic() + GONE_SECONDS
    while time.monotonic() < ends:
        if _gone(pids, url):
            return True
        time.sleep(0.1)
    return False


async def _score_locally() -> tuple[float, str, list[int], int]:
    async with await AsyncLossClient.local(settings={"device": "cpu"}, concurrency=2) as client:
        result = await client.bce([0.0, 2.0], [0, 1])
        pids = _descendants(os.getpid())
        child = os.fork()  # which holds whatever is open
        if not child:
            signal.pause()
            os._exit(0)
        return float(result), client.base_url, pids, child


def test_a_server_of_its_own_ends_with_the_client() -> None:
    before = _descendants(os.getpid())
    loss, url, pids, child = asyncio.run(_score_locally())
    pids = [pid for pid in pids if pid not in before]
    assert loss == pytest.approx((np.log(2) + np.log1p(np.exp(-2))) / 2, rel=1e-15)
    assert len(pids) > 2
    try:
        assert _gone(pids, url)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


CALLER = """
import os, sys, time
from lossd_client import LossClient
client = LossClient.local(settings={"device": "cpu"})
print(client.base_url, client.info()["workers"][0]["pid"], float(client.bce([0.0], [1])), flush=True)
time.sleep(600)
"""


def test_a_server_of_its_own_ends_when_the_caller_is_killed() -> None:
    caller = subprocess.Popen([sys.executable, "-c", CALLER], stdout=subprocess.PIPE, text=True)
    pids: list[int] = []
    try:
        assert caller.stdout is not None
        url, worker, loss = caller.stdout.readline().split()
        assert float(loss) == pytest.approx(np.log(2), rel=1e-15)
        pids = _descendants(caller.pid)
        assert int(worker) in pids
    finally:
        caller.send_signal(signal.SIGKILL)
        caller.wait()
        assert caller.stdout is not None
        caller.stdout.close()
    assert _wait_until_gone(pids, url)


def test_a_free_port_is_given_once() -> None:
    ports = {free_port() for _ in range(1000)}
    assert len(ports) == 1000
    for _ in range(1000):
        with socket.create_server(("127.0.0.1", 0)) as other:
            assert other.getsockname()[1] not in ports
    with socket.create_server(("127.0.0.1", ports.pop())):
        pass


def test_a_server_that_does_not_start_says_why() -> None:
    before = _descendants(os.getpid())
    with pytest.raises(ConnectionFailed, match="no_such_device"):
        LossClient.local(settings={"device": "no_such_device"}, retry=Retry(attempts=1))
    assert _descendants(os.getpid()) == before
