"""Servers behind the example proxies: refusals over HTTP/2, replicas that end, another engine on the host."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from faults.asked import pair
from faults.observe import port_of, total, wait_until
from faults.proxies import EXAMPLES, PROXIES, proxy, skip_without
from faults.raw import connect, receive
from live_server import LiveServer, live_server
from lossd.core.catalog import LOSSES
from lossd_client import HttpxTransport, LossClient, LossdError, LossResult
from teams_file import make_key, team_table, write_teams

Arrays: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
Bits: TypeAlias = tuple[object, ...]

BODY = bytes(10_000_000)
KEY, LIMITED = make_key(), make_key()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    limited = team_table("limited", LIMITED, limits={"requests_per_second": 0.001})
    write_teams(folder / "teams.toml", team_table("vision", KEY), limited)
    with live_server(
        folder, teams=folder / "teams.toml", max_json_bytes=1_000_000, trusted_proxies="127.0.0.1"
    ) as server:
        yield server


@pytest.mark.parametrize("name", PROXIES)
def test_early_refusals_keep_their_bodies_behind_http2(name: str, tmp_path: Path, server: LiveServer) -> None:
    skip_without(name, "curl")
    body = tmp_path / "body"
    body.write_bytes(BODY)
    npy, text = "content-type: application/x-npy", "content-type: text/plain"
    cases = [
        (401, [npy]),
        (415, [text, f"x-api-key: {KEY}"]),
        (413, ["content-type: application/json", f"x-api-key: {KEY}"]),
        (429, [npy, f"x-api-key: {LIMITED}"]),
    ]
    with proxy(name, tmp_path, (port_of(server), port_of(server))) as found:
        url = found.url
        # The first request is let in, and says that the body is not .npy.
        post(f"{url}/bce", body, cases[-1][1])
        for status, headers in cases:
            problem, received, version, sent = post(f"{url}/bce", body, headers)
            assert (problem["status"], received, version) == (status, status, "2")
            assert sent == len(BODY), "callers such as curl often lose an answer that comes earlier"


def post(url: str, body: Path, headers: list[str]) -> tuple[dict[str, object], int, str, int]:
    """Send a body over HTTP/2: the problem, the status, the version, and how much of the body was sent."""
    lines = [word for line in ["expect:", *headers] for word in ("-H", line)]
    wanted = r"\n%{http_code} %{http_version} %{size_upload}"
    command = ["curl", "-sk", "--http2", "-m", "60", *lines, "--data-binary", f"@{body}", "-w", wanted, url]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done
    document, _, last = done.stdout.rpartition("\n")
    status, version, sent = last.split()
    return json.loads(document), int(status), version, int(sent)


class Engine(BaseHTTPRequestHandler):
    """Another engine, which says what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        said = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 -- the names are http.server's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture(scope="module")
def engine() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Engine) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_address[1]
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("name", PROXIES)
def test_another_engine_has_the_other_models(
    name: str, tmp_path: Path, server: LiveServer, engine: int
) -> None:
    skip_without(name, "curl")
    request_id = "4be6ce2f-0b2d-4a3c-9d0f-3c1b2a190807"
    headers = {"x-api-key": KEY, "x-request-id": request_id}
    with (
        proxy(name, tmp_path, (port_of(server), port_of(server)), engine) as found,
        httpx.Client(
            base_url=found.url,
            headers=headers,
            transport=httpx.HTTPTransport(
                verify=ssl.create_default_context(cafile=str(found.chain)), local_address="127.0.0.2"
            ),
        ) as caller,
    ):
        for path in ("/info", "/v2/models/bce", "/v2/models/focal/ready", "/v2/models/focal/versions/1"):
            answer = caller.get(path)
            assert (answer.status_code, answer.headers["x-request-id"]) == (200, request_id), path
            assert "server-timing" in answer.headers
        sent = {"logits": [0.5], "targets": [1]}
        assert caller.post("/focal", json=sent).json()["request_id"] == request_id
        for path in ("/v2", "/v2/health/ready", "/v2/models/resnet", "/v2/models/bcex/infer"):
            said = caller.post(path, json={}).json()
            assert said["path"] == path
            assert said["headers"]["x-request-id"] == request_id
            assert said["headers"]["x-forwarded-for"] == "127.0.0.2"
            assert said["headers"]["x-forwarded-proto"] == "https"
        assert caller.get("/bce").status_code == 405
    wait_until(
        lambda: "127.0.0.2" in server.log.read_text(), 10, "the log does not have the caller's address"
    )


@pytest.mark.parametrize("name", PROXIES)
def test_each_example_names_the_models_of_the_catalog(name: str) -> None:
    text = (EXAMPLES / PROXIES[name].file).read_text()
    [named] = re.findall(r"/v2/models/\(([a-z_|]+)\)", text)
    assert named.split("|") == list(LOSSES)


class Callers:
    """Callers in threads, each with a client of its own, for as long as a ``with`` block lasts.

    Args:
        url: Whom they ask.
        trusted: Its certificate.
        asked: What each asks for in turn.
        right: What is right for each.
    """

    def __init__(self, url: str, trusted: Path, asked: list[Arrays], right: list[Bits]) -> None:
        self.counts = {"right": 0, "wrong": 0}
        self.errors: list[str] = []
        self._url, self._asked, self._right = url, asked, right
        self._context = ssl.create_default_context(cafile=str(trusted))
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with (
            httpx.Client(verify=self._context, timeout=60) as http,
            LossClient(self._url, transport=lambda: HttpxTransport(http=http)) as client,
        ):
            while not self._ended.is_set():
                number = (number + 1) % len(self._asked)
                try:
                    found = bits(client.focal(*self._asked[number]))
                except LossdError as error:
                    self.errors.append(repr(error))
                else:
                    self.counts["right" if found == self._right[number] else "wrong"] += 1


def bits(result: LossResult) -> Bits:
    """What must not differ by a bit."""
    return float(result), result.sum_terms, result.count


REPLICA: dict[str, Any] = {"trusted_proxies": "127.0.0.1", "lame_duck_seconds": 3}
ASKED: list[Arrays] = [pair(32, seed=1), pair(2_000, seed=2), pair(32, seed=3), pair(8_000, seed=4)]


@pytest.fixture(scope="module")
def staying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A replica that does not end."""
    with live_server(tmp_path_factory.mktemp("staying"), **REPLICA) as server:
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
@pytest.mark.parametrize("name", PROXIES)
def test_no_caller_notices_the_end_of_a_replica(
    name: str, number: signal.Signals, tmp_path: Path, staying: LiveServer
) -> None:
    skip_without(name, "curl")
    folders = [tmp_path / part for part in ("ending", "proxy")]
    for folder in folders:
        folder.mkdir()
    with live_server(folders[0], **REPLICA) as ending:
        with LossClient(staying.url) as direct:
            right = [bits(direct.focal(*arrays)) for arrays in ASKED]
        with (
            proxy(name, folders[1], (port_of(staying), port_of(ending))) as found,
            Callers(found.url, found.chain, ASKED, right) as callers,
        ):
            wait_until(lambda: total(ending, "lossd_requests_total") > 20, 30, "one replica is not asked")
            ending.process.send_signal(number)
            ending.process.wait(30)
            before = callers.counts["right"]
            wait_until(lambda: callers.counts["right"] > before + 60, 60, "few are answered afterwards")
    assert callers.errors == []
    assert callers.counts["wrong"] == 0


HEAD = b"POST /bce HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-npy\r\nx-forwarded-for: 10.0.0.1\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"content-length: 1000000\r\n\r\n" + bytes(1_000_000),
        HEAD + b"content-length: 1000000\r\n\r\n" + bytes(500_000),
        HEAD + b"content-length: 10\r\n\r\n" + bytes(5),
        HEAD + b"content-length: 1000000\r\nexpect: 100-continue\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
    ids=["whole", "half", "short", "expects", "chunks", "all chunks"],
)
def test_an_answer_through_a_proxy_does_not_wait_for_a_body_that_does_not_come(
    sent: bytes, server: LiveServer
) -> None:
    with connect(server) as caller:
        caller.sendall(sent)
        received = receive(caller, 15, answers=1)
        assert received.statuses == [401]
        assert received.seconds < 10  # it is a second, of the server's own `_LATE_SECONDS`


def test_an_answer_through_a_proxy_waits_for_the_body_for_so_long(server: LiveServer) -> None:
    first, seconds = answered_while_sending(server, HEAD)
    assert first.startswith(b"HTTP/1.1 401")
    assert seconds > 3


def test_nobody_else_has_an_answer_wait(server: LiveServer, tmp_path: Path) -> None:
    whole = HEAD.replace(b"POST /bce", b"GET /openapi.json")
    first, seconds = answered_while_sending(server, whole)
    assert first.startswith(b"HTTP/1.1 200")
    assert seconds < 3
    with live_server(tmp_path) as untrusting:
        refused = HEAD.replace(b"POST /bce", b"POST /nothing") + b"via: 1.1 x\r\n"
        first, seconds = answered_while_sending(untrusting, refused)
    assert first.startswith(b"HTTP/1.1 404")
    assert seconds < 3


def answered_while_sending(server: LiveServer, head: bytes) -> tuple[bytes, float]:
    """The beginning of the answer to a request whose body trickles, and when it came."""
    with connect(server) as caller:
        began = time.monotonic()
        caller.sendall(head + b"content-length: 10000000\r\n\r\n")
        caller.settimeout(0.1)
        first = b""
        while not first and time.monotonic() < began + 20:
            caller.sendall(bytes(1000))
            try:
                first = caller.recv(1 << 16)
            except TimeoutError:
                continue
        return first, time.monotonic() - began
