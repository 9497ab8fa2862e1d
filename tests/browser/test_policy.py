"""What the page may load and run, and that it needs no other host and no place at the root of one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import httpx
import pytest

from browser.prefix import prefixed
from browser.visits import Visit, Watch, until
from live_server import LiveServer

_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "lossd",
}


def _loaded(watch: Watch) -> list[str]:
    return sorted({request.removeprefix("GET ") for request in watch.requests})


def test_each_file_of_the_page_has_the_policy(visit: Visit, server: LiveServer, watch: Watch) -> None:
    page = visit(f"{server.url}/ui")
    page.wait_for_load_state("networkidle")
    files = [path for path in _loaded(watch) if path.startswith("/ui") and path != "/ui/report"]
    assert {"/ui", "/ui/main.js", "/ui/page.css", "/ui/client/index.js", "/ui/report.css"} <= set(files)
    for path in files:
        headers = httpx.get(f"{server.url}{path}").headers
        written = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert written == _POLICY, path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("attempt", "directive"),
    [
        ("document.body.innerHTML = '<b>text</b>'", "require-trusted-types-for"),
        ("trustedTypes.createPolicy('other', {})", "trusted-types"),
        (
            "document.body.append(Object.assign(document.createElement('style'), {textContent: 'a{}'}))",
            "style-src",
        ),
        ("document.body.append(Object.assign(new Image(), {src: 'http://example.org/a.png'}))", "img-src"),
        ("fetch('http://example.org/').catch(() => 0)", "connect-src"),
    ],
)
def test_what_the_page_does_not_need_is_refused(
    visit: Visit, server: LiveServer, watch: Watch, attempt: str, directive: str
) -> None:
    watch.allow("policy|Policy|TrustedHTML|request to another host")
    page = visit(f"{server.url}/ui")
    page.evaluate(f"() => {{ try {{ {attempt}; }} catch {{}} }}")
    until(page, lambda: f"policy violated: {directive}" in str(watch.found))


def test_the_page_stays_below_the_path_of_a_proxy(
    visit: Visit, server: LiveServer, watch: Watch, tmp_path: Path
) -> None:
    with prefixed(tmp_path, server.url) as below:
        for start in ("/", "/ui", "/ui/"):
            page = visit(f"{below}{start}")
            assert page.url == f"{below}/ui"
            page.wait_for_load_state("networkidle")
        paths = _loaded(watch)
        assert all(path.startswith("/tools/loss/") for path in paths), paths
        assert "/tools/loss/ui/report" in paths
