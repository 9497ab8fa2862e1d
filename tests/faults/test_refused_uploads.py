"""Callers who are refused while they still send: they get the answer, and the server is none the worse."""

from __future__ import annotations

import gzip
import http.client
import io
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import requests

from certificates import make_certificate
from faults.observe import connections, fetch, is_free, roles, total, wait_until
from faults.raw import connect, receive, talk
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams
from wire.feeding import npy

MB: Final = 1_000_000
TEXT: Final = {"content-type": "text/plain"}
JSON: Final = {"content-type": "application/json"}
NPY: Final = {"content-type": "application/x-npy"}
GZIP: Final = {**NPY, "content-encoding": "gzip"}
Send = Callable[[str, bytes, dict[str, str]], int]


def by_urllib(url: str, body: bytes, headers: dict[str, str]) -> int:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60)
    assert refused.value.read().startswith(b'{"')
    return refused.value.code


def by_http_client(url: str, body: bytes, headers: dict[str, str]) -> int:
    where = urlsplit(url)
    assert where.hostname is not None
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    try:
        connection.request("POST", f"{where.path}?{where.query}", body, headers)
        answer = connection.getresponse()
        assert answer.read().startswith(b'{"')
        return answer.status
    finally:
        connection.close()


def by_requests(url: str, body: bytes, headers: dict[str, str]) -> int:
    answer = requests.post(url, data=body, headers=headers, timeout=60)
    assert answer.content.startswith(b'{"')
    return answer.status_code


def by_httpx(url: str, body: bytes, headers: dict[str, str]) -> int:
    answer = httpx.post(url, content=body, headers=headers, timeout=60)
    assert answer.content.startswith(b'{"')
    return answer.status_code


def by_chunks(url: str, body: bytes, headers: dict[str, str]) -> int:
    pieces = (body[start : start + (1 << 16)] for start in range(0, len(body), 1 << 16))
    return requests.post(url, data=pieces, headers=headers, timeout=60).status_code


PYTHON: Final = (by_urllib, by_http_client, by_requests, by_httpx, by_chunks)

# Go is not among the programs that tests here may count on.
OTHERS: Final = {
    "curl": ("curl", ["curl", "-s", "-o", "{out}", "-w", "%{{http_code}}", "-H", "Content-Type: {type}"]),
    "Node's http": ("node", ["node", "{folder}/up.js", "{url}", "{size}", "{type}", "http"]),
    "Node's fetch": ("node", ["node", "{folder}/up.js", "{url}", "{size}", "{type}", "fetch"]),
    "Java": ("javac", ["java", "-Xmx512m", "-cp", "{folder}", "Up", "{url}", "{size}", "{type}"]),
}
OTHERS["curl"][1].extend(["-H", "Expect:", "-X", "POST", "-T", "{zeros}", "{url}"])
NODE: Final = """
const [, , url, size, type, how] = process.argv;
const say = (status, text) => console.log(JSON.parse(text).code ? status : "no code");
const headers = {"content-type": type, "content-length": size};
if (how == "fetch") {
  fetch(url, {method: "POST", headers: {"content-type": type}, body: Buffer.alloc(Number(size))})
    .then(async (answer) => say(answer.status, await answer.text()));
} else {
  const request = require("http").request(url, {method: "POST", headers}, (answer) => {
    let text = "";
    answer.on("data", (piece) => (text += piece));
    answer.on("end", () => say(answer.statusCode, text));
  });
  const piece = Buffer.alloc(50000);
  let left = Number(size);
  const write = () => {
    for (; left > 0; left -= piece.length)
      if (!request.write(piece)) { left -= piece.length; request.once("drain", write); return; }
    request.end();
  };
  write();
}
"""
JAVA: Final = """
import java.io.InputStream;
import java.net.URI;
import java.net.http.*;
public class Up {
  public static void main(String[] given) throws Exception {
    long size = Long.parseLong(given[1]);
    InputStream zeros = new InputStream() {
      long left = size;
      public int read() { return left-- > 0 ? 0 : -1; }
      public int read(byte[] to, int at, int most) {
        if (left <= 0) return -1;
        int n = (int) Math.min(most, left);
        left -= n;
        return n;
      }
    };
    var body = HttpRequest.BodyPublishers.fromPublisher(
        HttpRequest.BodyPublishers.ofInputStream(() -> zeros), size);
    var request = HttpRequest.newBuilder(URI.create(given[0])).header("Content-Type", given[2]).POST(body);
    var answer = HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
    System.out.println(answer.body().contains("\\"code\\"") ? answer.statusCode() : "no code");
  }
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server for this file alone, so that its log is of these requests."""
    with live_server(tmp_path_factory.mktemp("refusing")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs of others lie."""
    made = tmp_path_factory.mktemp("programs")
    (made / "up.js").write_text(NODE)
    (made / "Up.java").write_text(JAVA)
    if shutil.which("javac"):
        subprocess.run(["javac", "-d", str(made), str(made / "Up.java")], check=True, timeout=120)
    return made


def by_other(name: str, folder: Path, url: str, size: int, media: str) -> str:
    """The status that another program sees, who sends zeros; what it says of it, if it sees none."""
    program, words = OTHERS[name]
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    zeros = folder / "zeros"
    with zeros.open("wb") as file:
        file.truncate(size)
    given = {"folder": folder, "url": url, "size": size, "type": media, "zeros": zeros, "out": folder / "out"}
    command = [word.format_map(given) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout.strip() or done.stderr[-500:]


def bomb(nbytes: int) -> bytes:
    """A .npy file of gigabytes, compressed to so many bytes or more."""
    file = io.BytesIO()
    fields = {"descr": "<f4", "fortran_order": False, "shape": (1 << 30,)}
    np.lib.format.write_array_header_1_0(file, fields)
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = compressor.compress(file.getvalue()) + compressor.flush(zlib.Z_FULL_FLUSH)
    again = compressor.compress(bytes(16 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return first + again * (
        nbytes // len(again) + 1
    )  # behind a full flush a piece may come any number of times


REFUSED: Final[dict[str, tuple[str, dict[str, str], Callable[[], bytes], int]]] = {
    "a media type": ("/bce", TEXT, lambda: bytes(2 * MB), 415),
    "an encoding": ("/bce", {**NPY, "content-encoding": "br"}, lambda: bytes(2 * MB), 415),
    "no route": ("/nothing", JSON, lambda: bytes(2 * MB), 404),
    "another method": ("/livez", JSON, lambda: bytes(2 * MB), 405),
    "a parameter": ("/bce?gama=2", NPY, lambda: bytes(2 * MB), 422),
    "its first bytes": ("/bce", NPY, lambda: bytes(20 * MB), 400),
    "its first array": ("/bce", NPY, lambda: 2 * npy(np.zeros(MB, np.int64)), 415),
    "its length": ("/bce", JSON, lambda: b" " * 70 * MB, 413),
    "what it expands to": ("/bce", GZIP, lambda: bomb(3 * MB), 413),
    "an inference": ("/v2/models/bce/infer", JSON, lambda: b"{}" * MB, 400),
}


@pytest.mark.parametrize("case", REFUSED)
def test_whoever_sends_everything_first_gets_the_answer(server: LiveServer, case: str) -> None:
    path, headers, body, status = REFUSED[case]
    sent = body()
    for send in PYTHON:
        assert send(server.url + path, sent, headers) == status, send.__name__
    wait_until(lambda: is_free(server), 5, "something is still held")


def test_the_bomb_is_one(server: LiveServer) -> None:
    with pytest.raises(EOFError):
        gzip.decompress(bomb(0))
    assert len(zlib.decompressobj(31).decompress(bomb(0))) > 16 << 20


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("media", "size"), [("text/plain", 2 * MB), ("application/json", 64 * MB)])
def test_programs_in_other_languages_get_it(
    server: LiveServer, folder: Path, name: str, media: str, size: int
) -> None:
    expected = "415" if media == "text/plain" else "413"
    for _ in range(3):  # whether a program reads or writes first is a matter of luck
        assert by_other(name, folder, f"{server.url}/bce", size, media) == expected


@pytest.mark.waits
def test_a_gigabyte(server: LiveServer, folder: Path) -> None:
    assert by_other("curl", folder, f"{server.url}/bce", 1000 * MB, "application/json") == "413"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"POST /bce HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "bad_request"),
        (b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", "bad_request"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 200, "headers_too_large"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 40_000, "headers_too_large"),
    ],
    ids=["a chunk", "a length", "headers", "a long header"],
)
def test_what_is_no_request_may_be_long(server: LiveServer, head: bytes, code: str) -> None:
    received = talk(server, head, *[b"a" * MB] * 5, pause=0.01)
    assert (received.code, received.ended) == (code, "closed")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, str]]:
    """A server that asks for a key, and a key that may be used once a minute or so."""
    where, key = tmp_path_factory.mktemp("keyed"), make_key()
    teams = where / "teams.toml"
    write_teams(teams, team_table("slow", key, limits={"requests_per_second": 0.01}))
    with live_server(where, teams=teams) as running:
        yield running, key


def test_who_has_no_key_or_no_requests_left_is_told(keyed: tuple[LiveServer, str]) -> None:
    server, key = keyed
    body, url = npy(np.zeros(5 * MB // 8)) + npy(np.zeros(5 * MB // 8)), f"{server.url}/bce"
    for send in PYTHON[:4]:
        assert send(url, body, NPY) == 401
    mine = {**NPY, "x-api-key": key}
    assert requests.post(url, data=npy([0.0]) + npy([0.0]), headers=mine, timeout=60).status_code == 200
    for send in PYTHON[:4]:
        assert send(url, body, mine) == 429


def test_a_body_that_is_short_does_not_cost_the_connection(server: LiveServer) -> None:
    """Not even when it comes behind its answer."""
    refused = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 60000\r\n\r\n"
    with connect(server) as connection:
        for _ in range(2):
            connection.sendall(refused)
            received = receive(connection, answers=1)
            assert received.statuses == [415]
            assert b"connection: close" not in received.raw
            connection.sendall(bytes(60_000))


def lingering(length: int = 1 << 40) -> bytes:
    head = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
    return head % length


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with little patience for them."""
    given = {"linger_seconds": 4, "linger_connections": 2, "max_connections": 4}
    with live_server(tmp_path_factory.mktemp("narrow"), **given) as running:
        yield running


@pytest.mark.waits
def test_it_takes_so_long_for_so_many_and_holds_nothing_but_a_connection(narrow: LiveServer) -> None:
    began = time.monotonic()
    ended: dict[int, float] = {}
    [front_end] = roles(narrow).front_ends
    with ExitStack() as held:
        callers = {number: held.enter_context(connect(narrow)) for number in range(3)}
        for caller in callers.values():
            caller.sendall(lingering())
            received = receive(caller)
            assert (received.code, received.ended) == ("unsupported_media_type", "closed")
            assert received.seconds < 1
        assert is_free(narrow)
        while len(ended) < 3 and time.monotonic() < began + 20:
            for number in callers.keys() - ended.keys():
                try:
                    callers[number].sendall(bytes(1000))
                except ConnectionError:
                    ended[number] = time.monotonic() - began
            time.sleep(0.02)
    assert 0.5 < ended[2] < 2.5  # looks are a quarter of a second apart
    assert 3.3 < min(ended[0], ended[1]) < max(ended[0], ended[1]) < 7
    wait_until(lambda: not connections(narrow, front_end), 5, "a connection is still there")


@pytest.mark.waits
def test_it_ends_with_the_announced_bytes_and_with_the_limit(narrow: LiveServer) -> None:
    for length, most in ((20 * MB, 20 * MB), (1 << 40, 1 << 30)):
        with connect(narrow) as caller:
            caller.sendall(lingering(length))
            began, sent, piece = time.monotonic(), 0, bytes(MB)
            assert receive(caller).statuses == [415]
            try:
                while time.monotonic() < began + 3.5:
                    sent += caller.send(piece)
            except ConnectionError:
                pass
            if length < 1 << 30 or sent > 1 << 30:  # which a busy machine may not take in the time
                assert most <= sent < most + 64 * MB  # what buffers on the way hold
                assert time.monotonic() - began < 3.5


@pytest.mark.waits
def test_who_lingers_makes_room_and_is_missed_by_nobody(narrow: LiveServer) -> None:
    with ExitStack() as held:
        for _ in range(4):
            caller = held.enter_context(connect(narrow))
            caller.sendall(lingering())
            assert receive(caller).statuses == [415]
        assert fetch(narrow, "/livez")[0] == 200
    [front_end] = roles(narrow).front_ends
    wait_until(lambda: not connections(narrow, front_end), 5, "who hung up is still there")
    assert total(narrow, "lossd_requests_total", outcome="disconnected") == 0


@pytest.mark.waits
def test_an_end_is_not_held_up(tmp_path: Path) -> None:
    with live_server(tmp_path) as server, connect(server) as caller:
        caller.sendall(lingering())
        assert receive(caller).statuses == [415]
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
    assert "Cancel" not in server.log.read_text()


def test_https(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command")
    chain, key = make_certificate(tmp_path, "first")
    trusts = ssl.create_default_context(cafile=str(chain))
    with live_server(tmp_path, tls_certificate=chain, tls_key=key) as server:
        for path, headers, body, status in list(REFUSED.values())[:8]:
            request = urllib.request.Request(server.url + path, body(), headers)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=60, context=trusts)
            assert refused.value.code == status
            assert b'"code"' in refused.value.read()
            answer = httpx.post(server.url + path, content=body(), headers=headers, verify=trusts, timeout=60)
            assert answer.status_code == status
        raw = connect(server)
        with trusts.wrap_socket(raw, server_hostname="127.0.0.1") as caller:
            caller.sendall(b"nonsense\r\n\r\n")
            assert receive(caller, 10).ended == "closed"


def test_the_log_has_no_traceback(server: LiveServer) -> None:
    assert "Traceback" not in server.log.read_text()
