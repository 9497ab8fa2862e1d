"""HTTP: what ordinary client libraries and hostile callers send."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin, urlsplit

import httpx
import numpy as np
import pytest

from live_server import LiveServer, live_server
from lossd.api.http.cors import Origins
from teams_file import make_key, team_table, write_teams


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
    """The server's bytes on a connection, until it closes or falls silent."""
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


def test_an_offer_after_another_request_is_ignored_or_ends_the_connection(base_url: str) -> None:
    text = b'{"logits": [1], "targets": [1]}'
    head = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: %d\r\n" % len(text)
    plain, offer = head + b"\r\n" + text, head + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n" + text
    coded = head + b"Content-Encoding: identity\r\n\r\n" + text  # takes the ordinary way
    answer = talk(base_url, coded + offer + plain)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in answer.lower()
    last = plain.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert talk(base_url, plain + offer + last).count(b"HTTP/1.1 200 ") == 3


def test_a_body_that_mentions_upgrades_is_kept(base_url: str) -> None:
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


def test_a_problem_repeats_little_of_the_request(base_url: str) -> None:
    sent = {"a" * 1_000_000: 1, "logits": [1], "targets": [1]}
    answer = httpx.post(f"{base_url}/bce", json=sent)
    assert answer.json()["code"] == "invalid_parameter"
    assert len(answer.content) < 2000
    escaped = httpx.post(f"{base_url}/bce?a/b~=1", json={"logits": [1], "targets": [1]})
    assert escaped.json()["errors"][0]["pointer"] == "/a~1b~0"


def test_null_means_the_default(base_url: str) -> None:
    plain = {"logits": [1.0], "targets": [1]}
    expected = httpx.post(f"{base_url}/bce", json=plain).json()["loss"]
    spelt = httpx.post(f"{base_url}/bce", json={**plain, "pos_weight": None, "axis": None}).json()
    assert spelt["loss"] == expected


def paths_of(base_url: str, method: str) -> list[str]:
    document = httpx.get(f"{base_url}/openapi.json").json()
    return [path for path, item in document["paths"].items() if method in item]


def test_head_is_get_without_a_body(base_url: str) -> None:
    for path in [*paths_of(base_url, "get"), "/docs", "/openapi.json", "/docs/assets/favicon.png"]:
        got, asked = httpx.get(base_url + path), httpx.head(base_url + path)
        assert (asked.status_code, asked.content) == (got.status_code, b""), path
        assert got.status_code == 200
        assert asked.headers.keys() == got.headers.keys(), path
        if path not in ("/metrics", "/usage") and "stats" not in path:  # they change with each request
            assert asked.headers["content-length"] == got.headers["content-length"], path
    for path in ("/bce", "/nothing"):
        got, asked = httpx.get(base_url + path), httpx.head(base_url + path)
        assert (asked.status_code, asked.content) == (got.status_code, b"")
        assert asked.headers.get("allow") == got.headers.get("allow")


def test_nothing_follows_the_head_of_an_answer_to_head(base_url: str) -> None:
    head = b"HEAD %b HTTP/1.1\r\nHost: x\r\n%b\r\n"
    asked = [head % (path, b"") for path in (b"/info", b"/docs", b"/bce", b"/metrics")]
    answer = talk(base_url, b"".join(asked) + head % (b"/livez", b"Connection: close\r\n"))
    answers = answer.split(b"\r\n\r\n")
    assert answers.pop() == b""
    assert [one.split()[1] for one in answers] == [b"200", b"200", b"405", b"200", b"200"]


def test_options_and_wrong_methods_name_the_allowed_methods(base_url: str) -> None:
    for method, allowed in (("get", "GET, HEAD"), ("post", "POST")):
        for path in paths_of(base_url, method):
            asked = httpx.options(base_url + path)
            assert (asked.status_code, asked.content) == (204, b""), path
            assert asked.headers["allow"] == f"{allowed}, OPTIONS"
            assert "access-control-allow-origin" not in asked.headers
            assert httpx.delete(base_url + path).headers["allow"] == allowed
    assert httpx.options(f"{base_url}/nothing").status_code == 404
    for path in ("/openapi.json", "/docs", "/docs/assets/favicon.png"):
        assert httpx.options(base_url + path).headers["allow"] == "GET, HEAD, OPTIONS"
        assert httpx.delete(base_url + path).json()["detail"].endswith("use GET, HEAD")
    assert httpx.get(f"{base_url}/docs/assets/nothing.js").status_code == 404


PAGE = "https://dash.example.org"
JSON = {"logits": [1.0], "targets": [1]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that pages of two origins may call."""
    folder, key = tmp_path_factory.mktemp("shared"), make_key()
    write_teams(folder / "teams.toml", team_table("pages", key))
    origins = f"{PAGE}, http://localhost:3000"
    with live_server(folder, cors_origins=origins, teams=folder / "teams.toml") as running:
        running.key = key
        yield running


def test_a_page_of_another_origin_may_call(shared: LiveServer) -> None:
    assert shared.key is not None
    page = {"origin": PAGE}
    keyed = {**page, "x-api-key": shared.key}
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    with httpx.Client(base_url=shared.url) as client:
        asked = client.options("/bce", headers={**page, **wanted})
        assert (asked.status_code, asked.content) == (204, b"")
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "POST" in asked.headers["access-control-allow-methods"].split(", ")
        allowed = set(asked.headers["access-control-allow-headers"].lower().split(", "))
        ours = {"authorization", "x-api-key", "content-type", "content-encoding", "x-timeout-ms"}
        assert allowed >= ours | {"x-request-id"}
        assert int(asked.headers["access-control-max-age"]) > 0
        assert asked.headers["x-request-id"]
        answers = {
            200: client.post(
                "/bce", json=JSON, headers=keyed
            ),  # other callers' requests like it take the fast lane
            405: client.get("/bce", headers=keyed),
            401: client.post("/bce", json=JSON, headers=page),
            404: client.get("/nothing", headers=page),
            422: client.post("/bce?gamma=2", json=JSON, headers=keyed),
            413: client.post(
                "/bce", content=b" " * 40_000_000, headers={**keyed, "content-type": "application/json"}
            ),
            400: client.post("/v2/models/bce/infer", content=b"{", headers=keyed),
            431: client.get("/livez", headers={**page, "x-long": "a" * 40_000}),
        }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "Origin" in answer.headers["vary"]
        exposed = set(answer.headers["access-control-expose-headers"].split(", "))
        assert exposed >= {"Lossd-Sum", "Lossd-Count", "X-Request-Id", "Server-Timing", "Retry-After"}
        assert exposed >= {name.title() for name in answer.headers if name.startswith("lossd-")}


def test_a_page_of_an_unlisted_origin_may_not_call(shared: LiveServer) -> None:
    assert shared.key is not None
    wanted = {"access-control-request-method": "POST"}
    for origin in ("https://evil.example.org", "null", "http://dash.example.org", f"{PAGE}:8443"):
        asked = httpx.options(f"{shared.url}/bce", headers={"origin": origin, **wanted})
        answer = httpx.post(
            f"{shared.url}/bce", json=JSON, headers={"origin": origin, "x-api-key": shared.key}
        )
        for one in (asked, answer):
            assert not [name for name in one.headers if name.startswith("access-control-")]
            assert one.headers["vary"] == "Origin"
    plain = httpx.post(f"{shared.url}/bce", json=JSON, headers={"x-api-key": shared.key})
    assert plain.status_code == 200


def test_a_star_allows_all_origins() -> None:
    headers = dict(Origins(["*"]).headers(b"https://any.example.org"))
    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"vary" not in headers


class Stripping(BaseHTTPRequestHandler):
    """A proxy like nginx with `location /lossd/ { proxy_pass http://127.0.0.1:8000/; }`."""

    behind = ""

    def do_GET(self) -> None:
        if not self.path.startswith("/lossd/"):
            self.send_error(404)
            return
        sent = self.rfile.read(int(self.headers.get("content-length", "0")))
        kind = {name: value for name, value in self.headers.items() if name.lower() == "content-type"}
        url = self.behind + self.path.removeprefix("/lossd")
        answer = httpx.request(self.command, url, content=sent, headers=kind)
        self.send_response(answer.status_code)
        self.send_header("content-type", answer.headers["content-type"])
        self.end_headers()
        self.wfile.write(answer.content)

    do_POST = do_GET  # noqa: N815 -- as the base class has it

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_docs_work_behind_a_prefix(base_url: str) -> None:
    handler = type("Handler", (Stripping,), {"behind": base_url})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        page = f"http://127.0.0.1:{proxy.server_port}/lossd/docs"
        text = httpx.get(page).text
        for asset in re.findall(r"(?:src|href)=\"([^\"]+)\"", text):
            assert len(httpx.get(urljoin(page, asset)).content) > 1000, asset
        (named,) = re.findall(r"\burl: '([^']+)'", text)
        document = urljoin(page, named)
        said = httpx.get(document).json()
        (server,) = said["servers"]
        # As Swagger UI puts the URL of a request together: relative to the document, without a last slash.
        base = urljoin(document, server["url"]).rstrip("/")
        assert base == f"http://127.0.0.1:{proxy.server_port}/lossd"
        example = said["paths"]["/bce"]["post"]["requestBody"]["content"]["application/json"]["examples"]
        answer = httpx.post(f"{base}/bce", json=example["mean"]["value"])
        assert answer.json()["count"] == 6
        proxy.shutdown()
