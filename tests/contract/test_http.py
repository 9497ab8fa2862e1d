"""HTTP itself: what callers' libraries do, and what hostile ones try."""

from __future__ import annotations

import io
import json
import socket
import time
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest


def body() -> bytes:
    file = io.BytesIO()
    for array in (np.ones((4, 5), np.float32), np.zeros((4, 5), np.float32)):
        np.save(file, array)
    return file.getvalue()


BODY = body()
HEAD = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\nContent-Length: %d\r\n" % len(
    BODY
)


def talk(base_url: str, *parts: bytes, pause: float = 0.0, seconds: float = 5.0) -> bytes:
    """What the server says to bytes on a connection, until it closes or falls silent."""
    address = urlsplit(base_url)
    answer = b""
    with socket.create_connection((address.hostname, address.port), timeout=seconds) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except TimeoutError:
            pass
    return answer


def test_an_offer_to_upgrade_is_ignored(base_url: str) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n"
    answer = talk(base_url, HEAD + offer + BODY)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"count":20' in answer


def test_an_offer_to_upgrade_is_ignored_wherever_it_is_cut(base_url: str) -> None:
    """And its body is never taken for a request."""
    inner = b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    offer = b"Connection: close, upgrade\r\nUpGrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(inner)
    whole = head + offer + inner
    for cut in range(1, len(whole), 3):
        answer = talk(base_url, whole[:cut], whole[cut:], pause=0.005)
        assert answer.count(b"HTTP/1.1 ") == 1, cut
        assert b"malformed_json" in answer, cut


def test_an_offer_behind_another_request_is_ignored_or_ends_the_connection(base_url: str) -> None:
    text = b'{"logits": [1], "targets": [1]}'
    head = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: %d\r\n" % len(text)
    plain, offer = head + b"\r\n" + text, head + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n" + text
    coded = head + b"Content-Encoding: identity\r\n\r\n" + text  # which does not take the fast lane
    answer = talk(base_url, coded + offer + plain)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in answer.lower()
    last = plain.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert talk(base_url, plain + offer + last).count(b"HTTP/1.1 200 ") == 3


def test_a_body_that_speaks_of_upgrades_is_left_alone(base_url: str) -> None:
    text = b'{"logits": [1],\r\nupgrade: "targets": [1]}'
    answer = httpx.post(f"{base_url}/bce", content=text, headers={"content-type": "application/json"})
    assert answer.json()["code"] == "malformed_json"


def test_pipelined_requests_are_answered_in_order(base_url: str) -> None:
    last = HEAD + b"Connection: close\r\nX-Request-Id: two\r\n\r\n" + BODY
    answer = talk(base_url, HEAD + b"X-Request-Id: one\r\n\r\n" + BODY + last)
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.index(b'"request_id":"one"') < answer.index(b'"request_id":"two"')


def test_junk_after_a_request_does_not_take_its_answer(base_url: str) -> None:
    answer = talk(base_url, HEAD + b"\r\n" + BODY + b"JUNK\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "framing",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_ambiguous_framing_is_refused_once(base_url: str, framing: bytes) -> None:
    request = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n" + framing + b"\r\n"
    answer = talk(base_url, request)
    assert answer.count(b"HTTP/1.1 400 ") == 1
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "bad_request"


def test_a_deadline_bounds_the_upload(base_url: str) -> None:
    began = time.monotonic()
    answer = talk(base_url, HEAD + b"X-Timeout-Ms: 300\r\n\r\n" + BODY[:50])
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert time.monotonic() - began < 4


def test_expect_continue(base_url: str) -> None:
    answer = talk(base_url, HEAD + b"Expect: 100-continue\r\nConnection: close\r\n\r\n", BODY, pause=0.2)
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 200 " in answer


def test_accept_headers_are_joined(base_url: str) -> None:
    headers = [("Content-Type", "application/x-npy"), ("Accept", "text/html"), ("Accept", "application/json")]
    assert httpx.post(f"{base_url}/bce", content=BODY, headers=headers).status_code == 200


def test_a_problem_repeats_only_a_little_of_what_was_sent(base_url: str) -> None:
    sent = {"a" * 1_000_000: 1, "logits": [1], "targets": [1]}
    answer = httpx.post(f"{base_url}/bce", json=sent)
    assert answer.json()["code"] == "invalid_parameter"
    assert len(answer.content) < 2000
    escaped = httpx.post(f"{base_url}/bce?a/b~=1", json={"logits": [1], "targets": [1]})
    assert escaped.json()["errors"][0]["pointer"] == "/a~1b~0"


def test_null_says_what_leaving_out_says(base_url: str) -> None:
    plain = {"logits": [1.0], "targets": [1]}
    expected = httpx.post(f"{base_url}/bce", json=plain).json()["loss"]
    spelt = httpx.post(f"{base_url}/bce", json={**plain, "pos_weight": None, "axis": None}).json()
    assert spelt["loss"] == expected
