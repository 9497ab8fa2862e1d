"""Nobody can tell from an answer which way its request went, and nothing is left behind by either."""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from live_server import LiveServer, live_server

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(0, 4, (5, 3)).astype(np.float32)
TARGETS = (RNG.random((5, 3)) < 0.5).astype(np.float32)
MASK = np.zeros((5, 3), dtype=bool)
RESET = struct.pack("ii", 1, 0)
ORDINARY = "Content-Encoding: identity"
"""What keeps a request off the lane, and means nothing."""

Answer = tuple[int, list[tuple[str, str]], bytes]


def npy(*arrays: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


BODY = npy(LOGITS, TARGETS)
JSON = json.dumps({"logits": LOGITS.tolist(), "targets": TARGETS.tolist()}).encode()


def request(
    body: bytes = BODY, target: str = "/bce", *headers: str, media: str = "application/x-npy"
) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: x", f"Content-Type: {media}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


class Caller:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Answer:
        """The next answer: its status, its headers in order, its body."""
        line = self._file.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = []
        while (header := self._file.readline()) != b"\r\n":
            name, _, value = header.decode().partition(": ")
            headers.append((name, value.strip()))
        return int(line.split()[1]), headers, self._file.read(int(dict(headers)["content-length"]))

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.answer()

    def ended(self) -> bool:
        return self._file.read(1) == b""

    def hang_up(self, *, reset: bool) -> None:
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._file.close()
        self.socket.close()


@contextmanager
def caller(server: LiveServer) -> Iterator[Caller]:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Caller(connection)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def metric(server: LiveServer, series: str) -> float:
    text = httpx.get(f"{server.url}/metrics", timeout=10).text
    found = re.search(rf"^{re.escape(series)} (\S+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def same_but_for_timings(answer: Answer) -> Answer:
    status, headers, body = answer
    return (
        status,
        [(name, "" if name in ("date", "server-timing") else value) for name, value in headers],
        body,
    )


NANS = LOGITS.copy()
NANS[2, 1] = np.nan
CASES: dict[str, tuple[bytes, str]] = {
    "a loss": (BODY, "/bce"),
    "a loss with parameters": (BODY, "/focal?gamma=2&alpha=null&reduction=sum"),
    "an infinite loss": (npy(np.full((2, 2), np.inf), np.zeros((2, 2), bool)), "/bce"),
    "a NaN that is allowed": (npy(NANS, TARGETS), "/focal?allow_nan=true"),
    "a NaN": (npy(NANS, TARGETS), "/bce"),
    "a target out of range": (npy(LOGITS, TARGETS * 2), "/bce"),
    "a mean over nothing": (npy(LOGITS, TARGETS, MASK), "/bce?tensors=logits,targets,mask"),
    "ids out of range": (npy(LOGITS, np.full(5, 7)), "/bce?targets_format=index"),
    "shapes that differ": (npy(LOGITS, TARGETS[:4]), "/bce"),
    "a dtype that is not allowed": (npy(LOGITS, TARGETS.astype(np.complex64)), "/bce"),
    "an array cut short": (BODY[:-1], "/bce"),
    "bytes behind": (BODY + b"x", "/bce"),
    "junk": (b"junk", "/bce"),
    "an unknown parameter": (BODY, "/bce?gama=2"),
    "a tensor that is missing": (npy(LOGITS), "/bce?tensors=logits"),
    "no elements": (npy(LOGITS[:0], TARGETS[:0]), "/bce?reduction=sum"),
}


@pytest.mark.parametrize(("body", "target"), CASES.values(), ids=CASES)
def test_both_ways_answer_the_same(server: LiveServer, body: bytes, target: str) -> None:
    found = []
    for headers in ((ORDINARY,), (), ()):
        with caller(server) as connection:
            sent = request(body, target, *headers, "X-Request-Id: the-same")
            found.append(same_but_for_timings(connection.ask(sent)))
    assert found[1:] == 2 * found[:1]


def described(**members: object) -> bytes:
    """A body of the Open Inference Protocol."""
    tensors = {"logits": LOGITS, "targets": TARGETS}
    inputs = [
        {"name": name, "shape": [5, 3], "datatype": "FP32", "parameters": {"binary_data_size": array.nbytes}}
        for name, array in tensors.items()
    ]
    return json.dumps({"inputs": inputs, **members}).encode()


def objects(*members: str) -> list[bytes]:
    """JSON objects, each with some members more."""
    return [b"%b, %b}" % (JSON[:-1], more.encode()) for more in members]


OBJECTS = [
    JSON,
    JSON[:-1],
    b"{}",
    b'{"logits": [[NaN]], "targets": [[1]]}',
    b'{"logits": [["Infinity", -1e999]], "targets": [[true, false]], "allow_nan": true}',
    b'{"logits": [[1, 2], [3]], "targets": [[1, 2], [3]]}',
    b'{"logits": [[1, 2]], "targets": [2], "targets_format": "index"}',
    b'{"logits": [[1, 2]], "targets": [1.5], "targets_format": "index"}',
    *objects('"pos_weight": [1, 2, 3]', '"pos_weight": [1, 2]', '"reduction": "none"', '"gama": 1'),
    *objects('"weight": [[1], [2], [0], [1], [1]]', '"mask": [true, false, 1]', '"logits": [[1, 2]]'),
]


@pytest.mark.parametrize("body", OBJECTS, ids=range(len(OBJECTS)))
@pytest.mark.parametrize("target", ["/bce", "/focal?gamma=2", "/bce?gamma=2"])
def test_both_ways_answer_json_the_same(server: LiveServer, body: bytes, target: str) -> None:
    found = []
    for headers in ((ORDINARY,), (), ()):
        with caller(server) as connection:
            sent = request(body, target, *headers, "X-Request-Id: the-same", media="application/json")
            found.append(same_but_for_timings(connection.ask(sent)))
    assert found[1:] == 2 * found[:1]


INFERENCES = [
    described(),
    described(id="one"),
    described(parameters={"reduction": "sum", "gamma": 2}),
    described(parameters={"pos_weight": "1,2,3", "binary_data_output": True}),
    described(outputs=[{"name": "count"}, {"name": "loss", "parameters": {"binary_data": True}}]),
    described(outputs=[{"name": "nothing"}]),
    described(parameters={"timeout": 5_000_000}),
    b"{}",
]


@pytest.mark.parametrize("text", INFERENCES, ids=range(len(INFERENCES)))
@pytest.mark.parametrize("arrays", [(LOGITS, TARGETS), (LOGITS, TARGETS * 2), (NANS, TARGETS), (LOGITS,)])
def test_both_ways_answer_inferences_the_same(
    server: LiveServer, text: bytes, arrays: tuple[npt.NDArray[np.float32], ...]
) -> None:
    body, found = text + b"".join(array.tobytes() for array in arrays), []
    for own in ((ORDINARY,), (), ()):
        with caller(server) as connection:
            headers = (f"Inference-Header-Content-Length: {len(text)}", *own, "X-Request-Id: the-same")
            sent = request(body, "/v2/models/focal/infer", *headers, media="application/octet-stream")
            found.append(same_but_for_timings(connection.ask(sent)))
    assert found[1:] == 2 * found[:1]


def test_a_request_without_an_id_gets_one_of_its_own(server: LiveServer) -> None:
    with caller(server) as connection:
        ids = set()
        for header in ("X-Request-Id: not well-formed", "X-Other: x", ORDINARY):
            for _ in range(3):
                _, headers, body = connection.ask(request(BODY, "/bce", header))
                assert json.loads(body)["request_id"] == dict(headers)["x-request-id"]
                ids.add(dict(headers)["x-request-id"])
    assert len(ids) == 9
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


def test_a_request_split_at_every_place(server: LiveServer) -> None:
    whole = request(npy(LOGITS[:1], TARGETS[:1]), "/bce", "X-Request-Id: the-same")
    with caller(server) as connection:
        expected = same_but_for_timings(connection.ask(whole))
        assert expected[0] == 200
        for cut in range(1, len(whole)):
            connection.send(whole[:cut])
            time.sleep(0.0005)
            assert same_but_for_timings(connection.ask(whole[cut:])) == expected, cut


def test_pipelined_requests_of_both_ways_are_answered_in_order(server: LiveServer) -> None:
    draw = random.Random(3)
    kinds = [
        lambda n: request(BODY, "/bce", f"X-Request-Id: {n}"),
        lambda n: request(BODY, "/focal", f"X-Request-Id: {n}"),
        lambda n: request(npy(NANS, TARGETS), "/focal", f"X-Request-Id: {n}"),
        lambda n: request(BODY, "/focal", ORDINARY, f"X-Request-Id: {n}"),
        lambda n: request(JSON, "/bce", f"X-Request-Id: {n}", media="application/json"),
        lambda n: request(JSON, "/bce", f"X-Request-Id: {n}", ORDINARY, media="application/json"),
        lambda n: f"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: {n}\r\n\r\n".encode(),
    ]
    whole = b"".join(draw.choice(kinds)(n) for n in range(300))
    for longest in (50, 500, 5_000, len(whole)):
        with caller(server) as connection:

            def send(connection: Caller = connection, longest: int = longest) -> None:
                place = 0
                while place < len(whole):
                    length = draw.randint(1, longest)
                    connection.send(whole[place : place + length])
                    place += length

            sending = threading.Thread(target=send)
            sending.start()
            found = [dict(connection.answer()[1])["x-request-id"] for _ in range(300)]
            sending.join()
        assert found == [str(n) for n in range(300)]


def test_what_closes_the_connection(server: LiveServer) -> None:
    for last in (
        request(BODY, "/bce", "Connection: close"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"junk\r\n\r\n",
    ):
        with caller(server) as connection:
            assert connection.ask(request())[0] == 200
            _, headers, _ = connection.ask(last)
            assert dict(headers)["connection"] == "close"
            assert connection.ended()


def test_an_answer_comes_before_that_to_junk_behind_it(server: LiveServer) -> None:
    with caller(server) as connection:
        assert connection.ask(request() + b"junk\r\n\r\n")[0] == 200
        assert connection.answer()[0] == 400
        assert connection.ended()


def test_an_idle_connection_is_closed_after_its_last_answer(tmp_path: Path) -> None:
    with live_server(tmp_path, keep_alive_seconds=2) as server, caller(server) as connection:
        began = time.monotonic()
        assert connection.ask(request())[0] == 200
        time.sleep(1.0)
        assert connection.ask(request())[0] == 200
        assert connection.ended()
        assert 2.9 < time.monotonic() - began < 6.0  # 2 s behind the second


def test_each_request_is_counted_once(server: LiveServer) -> None:
    labels = 'format="npy",loss="bce",outcome="{}",team="default"'
    series = [
        *(f"lossd_requests_total{{{labels.format(code)}}}" for code in ("ok", "non_finite_input")),
        'lossd_elements_total{loss="bce",team="default"}',
        *(
            f'lossd_request_seconds_count{{stage="{stage}"}}'
            for stage in ("read", "queue", "compute", "total")
        ),
    ]
    before = [metric(server, one) for one in series]
    with caller(server) as connection:
        for _ in range(7):
            connection.ask(request())
        for _ in range(3):
            connection.ask(request(npy(NANS, TARGETS)))
    after = [metric(server, one) for one in series]
    assert [b - a for a, b in zip(before, after, strict=True)] == [7, 3, 7 * 15, 7, 7, 7, 7]
    assert metric(server, "lossd_requests_in_flight") == 0


@pytest.fixture(scope="module")
def by_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that leaves small requests to its workers, too."""
    with live_server(tmp_path_factory.mktemp("by_workers"), inline_ms=0) as running:
        yield running


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize(
    "sent",
    [request()[:-9], request(), request() * 2, request() + request()[:-9]],
    ids=["while it arrives", "while it is scored", "with another behind", "with a part behind"],
)
def test_who_hangs_up(by_workers: LiveServer, sent: bytes, reset: bool) -> None:
    server = by_workers
    outcome = 'lossd_requests_total{format="npy",loss="bce",outcome="disconnected",team="default"}'
    before = metric(server, outcome)
    with stopped(server.worker_pid()), caller(server) as connection:
        connection.send(sent)
        time.sleep(0.005)
        connection.hang_up(reset=reset)
        wait_until(lambda: metric(server, outcome) == before + 1, 5)
        assert metric(server, "lossd_requests_in_flight") == 0
    wait_until(lambda: metric(server, "lossd_bytes_in_flight") == 0, 5)


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path, timeout_seconds=1, drain_seconds=1, inline_ms=0) as running:
        yield running


def test_deadlines(impatient: LiveServer) -> None:
    with stopped(impatient.worker_pid()), caller(impatient) as connection:
        for header, retryable, least, most in (
            ("X-Other: x", True, 0.9, 2.0),
            ("X-Timeout-Ms: 100", False, 0.1, 0.6),
            ("X-Timeout-Ms: 300", False, 0.3, 0.9),
            ("X-Timeout-Ms: 1", False, 0.0, 0.5),
            ("X-Other: x", True, 0.9, 2.0),
        ):
            began = time.monotonic()
            status, _, body = connection.ask(request(BODY, "/bce", header))
            assert (status, json.loads(body)["code"]) == (504, "deadline_exceeded")
            assert json.loads(body)["retryable"] is retryable
            assert least - 0.005 < time.monotonic() - began < most  # a loop counts milliseconds
    with caller(impatient) as connection:
        assert connection.ask(request())[0] == 200
    assert metric(impatient, "lossd_bytes_in_flight") == 0


def test_draining(impatient: LiveServer) -> None:
    with caller(impatient) as first, caller(impatient) as second, caller(impatient) as third:
        assert second.ask(request())[0] == 200
        with stopped(impatient.worker_pid()):
            first.send(request())
            wait_until(lambda: metric(impatient, "lossd_requests_in_flight") == 1, 5)
            impatient.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            status, headers, body = second.ask(request())
            assert (status, json.loads(body)["code"]) == (503, "draining")
            assert dict(headers)["connection"] == "close"
            assert int(dict(headers)["retry-after"]) > 0
            assert second.ended()
        assert first.answer()[0] == 200
        assert third.ended()
    assert impatient.process.wait(20) == 0


def test_what_is_not_done_when_the_time_for_draining_is_up(tmp_path: Path) -> None:
    with live_server(tmp_path, drain_seconds=1, inline_ms=0) as server, caller(server) as connection:
        os.kill(server.worker_pid(), signal.SIGSTOP)  # for good
        connection.send(request())
        wait_until(lambda: metric(server, "lossd_requests_in_flight") == 1, 5)
        server.process.send_signal(signal.SIGTERM)
        status, headers, body = connection.answer()
        assert (status, json.loads(body)["code"]) == (503, "draining")
        assert dict(headers)["connection"] == "close"
        assert connection.ended()
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log.read_text()
