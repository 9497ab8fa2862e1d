"""``Expect: 100-continue``: who asks before it sends has one answer, whatever it then sends."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.observe import is_free, wait_until
from faults.raw import connect, receive, talk
from live_server import LiveServer, live_server

BODY = b'{"logits": [1], "targets": [1]}'
USUAL = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
CHUNKED = USUAL + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TIMES = 200


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of its own, for its log."""
    with live_server(tmp_path_factory.mktemp("quiet")) as running:
        yield running


def answers(raw: bytes) -> list[bytes]:
    """The first lines of the answers that are no 100."""
    return [line for line in raw.split(b"\r\n") if line.startswith(b"HTTP/1.1 ") and b" 100 " not in line]


@pytest.mark.parametrize(
    "head",
    [
        CHUNKED,
        CHUNKED.replace(b"/bce", b"/nothing"),
        CHUNKED.replace(b"/bce", b"/livez"),
        CHUNKED.replace(b"application/json", b"text/plain"),
        CHUNKED.replace(b"/bce", b"/v2/models/bce/infer"),
        CHUNKED.replace(b"application/json", b"application/x-npy"),
        CHUNKED.replace(b"/bce", b"/v2/repository/index"),
    ],
    ids=["taken", "no route", "another method", "another type", "an inference", "npy", "a framework's route"],
)
@pytest.mark.parametrize("pause", [0.0, 0.02], ids=["at once", "in pieces"])
def test_a_broken_body_has_one_answer(quiet: LiveServer, head: bytes, pause: float) -> None:
    for broken in (b"zz\r\n", b"5\r\nabc\r\nzz\r\n", b"-1\r\n\r\n"):
        received = talk(quiet, head, broken * 10, BODY, pause=pause)
        assert len(answers(received.raw)) == 1, received.raw
        assert answers(received.raw)[0].split()[1] in (b"400", b"404", b"405", b"415")
        assert b'"code": ' in received.raw or b'"error": ' in received.raw
        assert received.raw.count(CONTINUE) <= 1
        assert received.ended == "closed"


@pytest.mark.parametrize("path", [b"/bce", b"/v2/repository/index", b"/livez"])
def test_hundreds_of_them_say_little_in_the_log(quiet: LiveServer, path: bytes) -> None:
    before, began = len(quiet.log.read_text().splitlines()), time.monotonic()
    sent = CHUNKED.replace(b"/bce", path) + b"zz\r\n"
    found = Counter(line.split()[1] for _ in range(TIMES) for line in answers(talk(quiet, sent).raw))
    assert found == {b"400": TIMES}
    seconds = time.monotonic() - began
    wait_until(lambda: is_free(quiet), 5, "something is still held")
    log = quiet.log.read_text()
    assert "Traceback" not in log
    assert "Exception" not in log
    assert len(log.splitlines()) - before < 20 + 20 * (seconds + 1)
    assert len(log) < 200_000


def test_who_is_refused_before_it_sends_need_not(quiet: LiveServer, tmp_path: Path) -> None:
    refused = USUAL.replace(b"application/json", b"text/plain")
    for length in (31, 100_000, 2_000_000):
        received = talk(quiet, refused + b"Content-Length: %d\r\n\r\n" % length)
        assert (received.statuses, received.ended) == ([415], "closed")
        assert b"connection: close" in received.raw
        assert received.seconds < 1
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    body = tmp_path / "body"
    body.write_bytes(bytes(3_000_000))
    command = ["curl", "-s", "-o", str(tmp_path / "out"), "-w", "%{http_code} %{size_upload}"]
    command += ["-H", "Content-Type: text/plain", "-H", "Expect: 100-continue", "--expect100-timeout", "20"]
    command += ["--data-binary", f"@{body}", f"{quiet.url}/bce"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "415 0"


def test_who_is_not_may_go_on_with_the_connection(quiet: LiveServer) -> None:
    with connect(quiet) as connection:
        for _ in range(3):
            connection.sendall(USUAL + b"Content-Length: %d\r\n\r\n" % len(BODY))
            assert connection.recv(1 << 16) == CONTINUE
            connection.sendall(BODY)
            received = receive(connection, answers=1)
            assert received.statuses == [200]
            assert b"connection: close" not in received.raw


def test_who_sends_without_waiting_is_served(quiet: LiveServer) -> None:
    received = talk(quiet, USUAL + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY) + BODY)
    assert [line.split()[1] for line in answers(received.raw)] == [b"200"]
