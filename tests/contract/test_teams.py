"""Keys, teams and their limits, and the refusals."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from arrow_stream import stream
from contract.test_problems import check, npy
from faults.observe import wait_until
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams

KEYS = {name: make_key() for name in ("vision", "spare", "slow", "few", "narrow", "disabled", "busy")}
LIMITS: dict[str, dict[str, float]] = {
    "slow": {"requests_per_second": 0.001},
    "few": {"elements_per_second": 0.1},
    "narrow": {"bytes_in_flight": 4096},
    "busy": {"requests_in_flight": 1},
}
OPEN = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")
KEYED = ("/info", "/metrics", "/usage", "/v2", "/v2/models/bce", "/v2/models/bce/config", "/v2/models/stats")
SCORED = ("/bce", "/focal", "/v2/models/bce/infer", "/v2/models/focal/versions/1/infer")


def tables() -> list[str]:
    return [
        team_table("vision", KEYS["vision"], KEYS["spare"]),
        team_table("disabled", KEYS["disabled"], disabled=True),
        *(team_table(name, KEYS[name], limits=limits) for name, limits in LIMITS.items()),
    ]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that asks for keys."""
    folder = tmp_path_factory.mktemp("closed")
    write_teams(folder / "teams.toml", *tables())
    with live_server(folder, teams=folder / "teams.toml") as server:
        server.key = KEYS["vision"]
        yield server


BODY = npy(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
NPY = {"content-type": "application/x-npy"}
ARROW = "application/vnd.apache.arrow.stream"


def ask(server: LiveServer, path: str = "/focal", body: bytes = BODY, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(server.url + path, content=body, headers=NPY | named, timeout=30)


@pytest.mark.parametrize("path", OPEN)
def test_liveness_and_docs_need_no_key(closed: LiveServer, path: str) -> None:
    assert httpx.get(closed.url + path).status_code == 200


@pytest.mark.parametrize("path", KEYED)
def test_other_routes_need_a_key(closed: LiveServer, path: str) -> None:
    answer = httpx.get(closed.url + path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    for headers in ({"authorization": f"Bearer {KEYS['vision']}"}, {"x-api-key": KEYS["spare"]}):
        assert httpx.get(closed.url + path, headers=headers).status_code == 200


@pytest.mark.parametrize("path", SCORED)
def test_losses_need_a_key_in_every_form(closed: LiveServer, path: str) -> None:
    refused = ask(closed, path)
    assert refused.status_code == 401
    assert refused.headers.get("lossd-code", "unauthorized") == "unauthorized"
    if not path.startswith("/v2"):
        check(refused, 401, "unauthorized")
        assert ask(closed, path, authorization=f"bearer  {KEYS['vision']}").status_code == 200
        assert ask(closed, path, x_api_key=KEYS["vision"]).status_code == 200


def test_a_tritonclient_gets_errors_of_its_protocol(closed: LiveServer) -> None:
    answer = ask(closed, "/v2/models/bce/infer", b"{}")
    assert list(answer.json()) == ["error"]
    with_key = ask(closed, "/v2/models/bce/infer", b"{}", x_api_key=KEYS["vision"])
    assert with_key.status_code == 400


NO_KEYS = {
    "nothing": "",
    "a letter": "x",
    "a prefix": "lossd_",
    "too short": KEYS["vision"][:-1],
    "too long": KEYS["vision"] + "A",
    "another case": KEYS["vision"].swapcase(),
    "another's id": KEYS["vision"].replace(KEYS["vision"].split("_")[1], KEYS["spare"].split("_")[1]),
    "a hash": hashlib.sha256(KEYS["vision"].encode()).hexdigest(),
    "a stranger's": make_key(),
    "not ASCII": "é" * 53,
    "very long": "k" * 8000,
}


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
def test_a_wrong_key_is_refused_and_never_repeated(closed: LiveServer, key: str) -> None:
    problem = check(ask(closed, x_api_key=key.encode("latin-1")), 401, "unauthorized")  # type: ignore[arg-type] # bytes go as they are
    assert key not in problem["detail"] or len(key) < 7


def test_a_key_is_sent_once_and_as_a_bearer(closed: LiveServer) -> None:
    key = KEYS["vision"]
    assert ask(closed, x_api_key=key, authorization=f"Bearer {key}").status_code == 200
    other = ask(closed, x_api_key=key, authorization=f"Bearer {KEYS['slow']}")
    assert "two keys" in check(other, 401, "unauthorized")["detail"]
    assert "must be Bearer" in check(ask(closed, authorization="Basic eDp5"), 401, "unauthorized")["detail"]
    check(ask(closed, f"/focal?api_key={key}"), 401, "unauthorized")


def test_a_disabled_team_is_forbidden(closed: LiveServer) -> None:
    check(ask(closed, x_api_key=KEYS["disabled"]), 403, "forbidden")
    assert httpx.get(closed.url + "/info", headers={"x-api-key": KEYS["disabled"]}).status_code == 403


def test_the_route_is_checked_first_then_the_key_then_the_rest(closed: LiveServer) -> None:
    check(ask(closed, "/nothing"), 404, "not_found")
    check(httpx.get(closed.url + "/bce"), 405, "method_not_allowed")
    wrong = httpx.post(closed.url + "/bce?gama=1", content=b"x", headers={"content-type": "text/csv"})
    check(wrong, 401, "unauthorized")


@pytest.mark.parametrize(
    "target", ["//bce", "/bce/", "/./bce", "/x/../bce", "/livez/../bce", "/bce;/livez", "/BCE"]
)
@pytest.mark.parametrize("host", ["x", "x/livez?", "localhost:80"])
def test_paths_and_hosts_cannot_avoid_the_key(closed: LiveServer, target: str, host: str) -> None:
    parts = urlsplit(closed.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as link:
        head = f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-npy\r\n"
        link.sendall(f"{head}Connection: close\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    assert answer.split(b" ")[1] in (b"400", b"401", b"404"), answer


def test_a_used_up_rate_is_429_with_retry_after(closed: LiveServer) -> None:
    first = ask(closed, x_api_key=KEYS["slow"])
    assert first.status_code == 200
    assert first.headers["ratelimit-policy"] == '"requests";q=1;w=1000'
    assert first.headers["ratelimit"].startswith('"requests";r=0;t=')
    second = ask(closed, x_api_key=KEYS["slow"])
    check(second, 429, "rate_limited")
    assert int(second.headers["retry-after"]) > 1
    assert second.headers["ratelimit"].startswith('"requests";r=0;t=')
    inference = ask(closed, "/v2/models/bce/infer", b"{}", x_api_key=KEYS["slow"])
    assert (inference.status_code, inference.headers["lossd-code"]) == (429, "rate_limited")


def test_elements_beyond_the_rate_delay_later_requests(closed: LiveServer) -> None:
    assert ask(closed, x_api_key=KEYS["few"]).status_code == 200
    problem = check(ask(closed, x_api_key=KEYS["few"]), 429, "rate_limited")
    assert "elements a second" in problem["detail"]
    assert "ratelimit" not in ask(closed, x_api_key=KEYS["vision"]).headers


def test_a_body_over_the_teams_bytes_in_flight_is_too_large(closed: LiveServer) -> None:
    assert ask(closed, x_api_key=KEYS["narrow"]).status_code == 200
    check(ask(closed, body=BODY + bytes(8000), x_api_key=KEYS["narrow"]), 413, "body_too_large")


def test_a_body_counts_with_its_sent_bytes(closed: LiveServer) -> None:
    headers = NPY | {"x-api-key": KEYS["narrow"]}
    chunked = httpx.post(
        f"{closed.url}/focal", content=iter([BODY[:9], BODY[9:]]), headers=headers, timeout=30
    )
    assert chunked.status_code == 200, chunked.text
    packed = ask(closed, body=gzip.compress(BODY), x_api_key=KEYS["narrow"], content_encoding="gzip")
    assert packed.status_code == 200, packed.text
    zeros = np.zeros((1000, 8), np.float32)
    rows = stream({"logits": zeros, "targets": zeros}, 100)  # takes memory for its batches only
    assert len(rows) > LIMITS["narrow"]["bytes_in_flight"]
    streamed = ask(closed, body=rows, x_api_key=KEYS["narrow"], content_type=ARROW)
    assert streamed.status_code == 200, streamed.text
    empty = ask(closed, body=b"", x_api_key=KEYS["narrow"], content_type=ARROW)
    check(empty, 400, "truncated_body")


@pytest.mark.parametrize(
    "fields", ["Content-Encoding: gzip\r\nContent-Length: 99", "Transfer-Encoding: chunked"]
)
def test_a_body_of_unknown_size_is_alone_in_flight(closed: LiveServer, fields: str) -> None:
    """Even if little of it is sent: else many of them would hold all memory."""
    parts = urlsplit(closed.url)
    head = f"POST /bce HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEYS['narrow']}\r\n"
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as held:
        held.sendall(f"{head}Content-Type: application/x-npy\r\n{fields}\r\n\r\n".encode())
        wait_until(lambda: ask(closed, x_api_key=KEYS["narrow"]).status_code == 429, 10, "it is under way")
    wait_until(lambda: ask(closed, x_api_key=KEYS["narrow"]).status_code == 200, 10, "it has gone")


def test_a_refusal_after_the_body_keeps_the_connection(closed: LiveServer) -> None:
    with httpx.Client(base_url=closed.url, headers=NPY, timeout=30) as client:
        for key in (KEYS["few"], "lossd_no", KEYS["disabled"]):
            client.post("/bce", content=BODY, headers={"x-api-key": key})
            refused = client.post("/bce", content=BODY, headers={"x-api-key": key})
            assert refused.status_code in (401, 403, 429)
            assert refused.headers.get("connection") != "close"


def test_an_id_that_is_a_key_is_not_repeated(closed: LiveServer) -> None:
    answer = ask(closed, x_api_key=KEYS["vision"], x_request_id=KEYS["vision"])
    assert answer.status_code == 200
    assert KEYS["vision"] not in str(answer.headers) + answer.text


def test_a_thousand_connections_do_not_raise_a_limit(closed: LiveServer) -> None:
    parts = urlsplit(closed.url)
    head = (
        f"POST /bce HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEYS['busy']}\r\nContent-Type: application/x-npy\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n"
    ).encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as held:
        held.sendall(head)  # and no body yet
        wait_until(
            lambda: ask(closed, x_api_key=KEYS["busy"]).status_code == 429, 10, "the first is under way"
        )
        problem = check(ask(closed, x_api_key=KEYS["busy"]), 429, "too_many_in_flight")
        assert "may have 1 request in flight; wait for it to be answered" in problem["detail"]
        held.sendall(BODY)
        assert held.recv(65536).startswith(b"HTTP/1.1 200")
        assert ask(closed, x_api_key=KEYS["busy"]).status_code == 200


def test_metrics_by_team_and_of_refusals_without_a_team(closed: LiveServer) -> None:
    ask(closed, x_api_key=KEYS["vision"])
    ask(closed)
    text = httpx.get(closed.url + "/metrics", headers={"x-api-key": KEYS["vision"]}).text
    assert 'lossd_requests_total{format="npy",loss="focal",outcome="ok",team="vision"}' in text
    assert 'lossd_requests_total{format="none",loss="focal",outcome="unauthorized",team=""}' in text
    assert 'lossd_bytes_total{team="vision"}' in text
    ask(closed, x_api_key=KEYS["disabled"])
    text = httpx.get(closed.url + "/metrics", headers={"x-api-key": KEYS["vision"]}).text
    assert 'outcome="forbidden",team="disabled"}' in text  # a disabled team is known
    assert not any(key in text for key in KEYS.values())


def test_the_openapi_document_says_how_keys_are_presented(closed: LiveServer) -> None:
    document: dict[str, Any] = json.loads(httpx.get(closed.url + "/openapi.json").text)
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (path not in OPEN), path
