"""The page's files, and the views that it asks for."""

from __future__ import annotations

import gzip
import json
import re
import socket
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import numpy as np
import pytest

from contract.test_problems import check
from lossd_client import LossClient
from lossd_client._views import draw_views

RNG = np.random.default_rng(0)
X = RNG.normal(0, 3, (200, 5))
Y = (RNG.random((200, 5)) < 0.3).astype(float)
JSON = {"content-type": "application/json"}
IMPORT = re.compile(
    r"""^(?:import|export)\b[^;'"]*?from\s*["']([^"']+)["']|^import\s*["']([^"']+)["']""", re.M
)
KINDS = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
LINK = re.compile(r"""\b(?:href|src)\s*=\s*["']([^"']*)["']""")


def fetch_page(base_url: str) -> httpx.Response:
    answer = httpx.get(f"{base_url}/ui")
    assert answer.status_code == 200
    return answer


def report(base_url: str, logits: np.ndarray[Any, Any] = X) -> dict[str, Any]:
    with LossClient(base_url) as client:
        found: dict[str, Any] = client.report("bce", logits, Y, top=3).to_dict()
    return found


def ask(base_url: str, body: bytes | dict[str, Any], **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{base_url}/ui/view", content=content, headers={**JSON, **headers}, timeout=60)


def test_all_that_the_page_refers_to_is_there_and_its_own(base_url: str) -> None:
    """Links are relative to the page's own URL, also behind a prefix."""
    page = fetch_page(base_url)
    links, seen = [urljoin("/prefix/ui", link) for link in LINK.findall(page.text)], set()
    assert links
    while links:
        link = links.pop()
        if link in seen or link.startswith("data:"):
            continue
        seen.add(link)
        assert link.startswith("/prefix/"), link
        answer = httpx.get(base_url + link.removeprefix("/prefix"))
        assert answer.status_code == 200, link
        if link.startswith("/prefix/ui/"):
            assert answer.headers["content-type"].split(";")[0] == KINDS[link.rpartition(".")[2]]
        if link.endswith(".js"):
            links += [urljoin(link, one or other) for one, other in IMPORT.findall(answer.text)]
    assert "/prefix/ui/client/index.js" in seen
    assert "/prefix/ui/report.css" in seen


def test_its_files_have_strict_headers(base_url: str) -> None:
    for path in ("ui", "ui/main.js", "ui/report.css", "ui/client/index.js"):
        headers = httpx.get(f"{base_url}/{path}").headers
        policy = dict(
            part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["ui", "ui/main.js", "ui/report.css"])
def test_a_file_that_is_known_is_not_sent_again(base_url: str, path: str) -> None:
    whole, head = httpx.get(f"{base_url}/{path}"), httpx.head(f"{base_url}/{path}")
    assert head.status_code == 200
    assert head.content == b""
    assert int(head.headers["content-length"]) == len(whole.content)
    known = httpx.get(f"{base_url}/{path}", headers={"if-none-match": whole.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert httpx.get(f"{base_url}/{path}", headers={"if-none-match": "*"}).status_code == 304
    part = whole.headers["etag"][:-3] + '"'
    assert httpx.get(f"{base_url}/{path}", headers={"if-none-match": part}).status_code == 200


@pytest.mark.parametrize(("path", "found"), [("/", "/prefix/ui"), ("/ui/", "/prefix/ui")])
def test_other_paths_lead_to_the_page_also_behind_a_prefix(base_url: str, path: str, found: str) -> None:
    answer = httpx.get(base_url + path)
    assert answer.status_code == 307
    assert urljoin(f"/prefix{path}", answer.headers["location"]) == found


@pytest.mark.parametrize(
    "path",
    [
        "/ui/../settings.py",
        "/ui/%2e%2e/settings.py",
        "/ui/..%2fsettings.py",
        "/ui/client/../../settings.py",
        "/ui//etc/passwd",
        "/ui/client",
        "/ui/client/",
        "/ui/client/types.ts",
        "/ui/main.js/",
        "/ui/main.js%00",
        "/ui/index.html",
        "/ui/none.js",
    ],
)
def test_no_other_file_is_served(base_url: str, path: str) -> None:
    where = urlsplit(base_url)
    with socket.create_connection((where.hostname or "", where.port or 80), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), answer[:100]
    assert b"import " not in answer


def test_a_file_is_only_read(base_url: str) -> None:
    check(httpx.post(f"{base_url}/ui/main.js"), 405, "method_not_allowed")
    check(httpx.put(f"{base_url}/ui"), 405, "method_not_allowed")
    check(httpx.get(f"{base_url}/ui/view"), 405, "method_not_allowed")


def test_the_page_is_no_part_of_the_api(base_url: str) -> None:
    paths = httpx.get(f"{base_url}/openapi.json").json()["paths"]
    assert [path for path in paths if path == "/" or path.startswith("/ui")] == []


def test_a_view_is_what_the_client_draws(base_url: str) -> None:
    request = {"reports": [{"name": "run A", "document": report(base_url)}]}
    answer = ask(base_url, request)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text == draw_views(json.dumps(request).encode())
    mean = np.mean(np.logaddexp(0, X) - X * Y)
    assert f"{mean:.9g}"[:-1] in answer.text  # by numpy
    assert "<script" not in answer.text
    assert "<style" not in answer.text


def test_two_reports_are_compared(base_url: str) -> None:
    reports = [{"name": name, "document": report(base_url, x)} for name, x in (("<A>", X), ("B & C", X / 2))]
    answer = ask(base_url, {"reports": reports})
    assert answer.status_code == 200, answer.text
    assert answer.text == draw_views(json.dumps({"reports": reports}).encode())
    assert "&lt;A&gt;" in answer.text
    assert "<A>" not in answer.text


def test_a_body_in_chunks(base_url: str) -> None:
    text = json.dumps({"reports": [{"name": "run A", "document": report(base_url)}]}).encode()
    parts = (text[start : start + 1000] for start in range(0, len(text), 1000))
    answer = httpx.post(f"{base_url}/ui/view", content=parts, headers=JSON, timeout=60)
    assert answer.status_code == 200
    assert answer.text == draw_views(text)


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (b"", "malformed_json", None),
        (b'{"reports": [', "malformed_json", None),
        (b"\xff\xfe\x00", "malformed_json", None),
        (b"[" * 200_000, "malformed_json", None),
        (b"7", "invalid_parameter", None),
        (b"{}", "invalid_parameter", "/reports"),
        (b'{"reports": [1]}', "invalid_parameter", "/reports/0"),
        (b'{"reports": [{"name": "a", "document": {}}]}', "invalid_parameter", "/reports/0/document/schema"),
        (b'{"reports": [{"name": 1, "document": {}}]}', "invalid_parameter", "/reports/0/name"),
    ],
)
def test_a_wrong_view(base_url: str, body: bytes, code: str, pointer: str | None) -> None:
    problem = check(ask(base_url, body), 400 if code == "malformed_json" else 422, code)
    assert [one["pointer"] for one in problem.get("errors", [])] == [pointer] * (pointer is not None)


def test_a_damaged_report_is_named(base_url: str) -> None:
    document = report(base_url)
    document["totals"]["loss"] = None
    right = {"name": "A", "document": report(base_url)}
    answer = ask(base_url, {"reports": [right, {"name": "B", "document": document}]})
    problem = check(answer, 422, "invalid_parameter")
    assert problem["errors"][0]["pointer"].startswith("/reports")


def test_other_bodies_are_refused(base_url: str) -> None:
    text = b'{"reports": []}'
    plain = httpx.post(f"{base_url}/ui/view", content=text, headers={"content-type": "text/plain"})
    check(plain, 415, "unsupported_media_type")
    check(httpx.post(f"{base_url}/ui/view", content=text), 415, "unsupported_media_type")
    check(ask(base_url, gzip.compress(text), **{"content-encoding": "gzip"}), 415, "unsupported_encoding")
    check(ask(base_url, text, **{"x-timeout-ms": "soon"}), 422, "invalid_parameter")


def test_too_long_a_view(base_url: str) -> None:
    most = httpx.get(f"{base_url}/info").json()["limits"]["json_bytes"]
    problem = check(ask(base_url, b" " * (most + 1)), 413, "body_too_large")
    assert "lossd merge" in problem["detail"]


def test_there_is_no_saved_report_unless_one_is_named(base_url: str) -> None:
    answer = httpx.get(f"{base_url}/ui/report")
    assert (answer.status_code, answer.content) == (204, b"")
