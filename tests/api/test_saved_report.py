"""``GET /ui/report``: the saved report that the page opens with."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from live_server import LiveServer, live_server
from lossd_client import LossClient
from teams_file import make_key, team_table, write_teams

pytestmark = pytest.mark.slow

KEY = make_key()
MOST = 1 << 20


class Setup:
    """A server, and the report that its page opens with."""

    def __init__(self, server: LiveServer, path: Path) -> None:
        self.server = server
        self.path = path

    def put(self, data: bytes) -> None:
        """Replace the report."""
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(data)
        fresh.replace(self.path)

    def get(self, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.server.url}/ui/report", headers={"x-api-key": KEY, **headers}, timeout=30)

    def refused(self, status: int, code: str) -> str:
        answer = self.get()
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        detail: str = answer.json()["detail"]
        assert "LOSSD_UI_REPORT" in detail
        assert str(self.path) not in answer.text  # teams need not know
        return detail


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    folder = tmp_path_factory.mktemp("saved")
    write_teams(folder / "teams.toml", team_table("vision", KEY))
    path = folder / "report.json"
    with live_server(folder, teams=folder / "teams.toml", ui_report=path, max_json_bytes=MOST) as server:
        server.key = KEY
        yield Setup(server, path)


@pytest.fixture(scope="module")
def text(setup: Setup) -> bytes:
    """A report."""
    with LossClient(setup.server.url, api_key=KEY) as client:
        found = client.report("bce", np.zeros((3, 2)), np.ones((3, 2)))
    return json.dumps(found.to_dict()).encode()


def test_it_is_read_when_it_is_asked_for(setup: Setup, text: bytes) -> None:
    setup.put(text)
    first = setup.get()
    assert (first.status_code, first.content) == (200, text)
    assert first.headers["content-type"] == "application/json"
    assert int(first.headers["content-length"]) == len(text)
    assert setup.get(**{"if-none-match": first.headers["etag"]}).status_code == 304
    assert setup.get(**{"if-none-match": f'"a", W/{first.headers["etag"]}'}).status_code == 304
    assert setup.get(**{"if-none-match": "*"}).status_code == 304
    assert setup.get(**{"if-none-match": f'"a{first.headers["etag"]}"'}).status_code == 200
    setup.put(gzip.compress(b" " + text))
    second = setup.get(**{"if-none-match": first.headers["etag"]})
    assert (second.status_code, second.content) == (200, b" " + text)
    head = httpx.head(f"{setup.server.url}/ui/report", headers={"x-api-key": KEY})
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(text) + 1


def test_it_takes_a_key(setup: Setup, text: bytes) -> None:
    setup.put(text)
    answer = setup.get(**{"x-api-key": ""})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    page = httpx.get(f"{setup.server.url}/ui")
    assert page.status_code == 200


def test_what_is_wrong_with_it_is_said(setup: Setup, text: bytes) -> None:
    setup.path.unlink(missing_ok=True)
    assert "lossd report" in setup.refused(404, "not_found")
    wrong = {
        b"no report": "malformed",
        b'{"loss": 1}': "lossd.report/1",
        text[:-1]: "truncated",
        gzip.compress(text)[:-9]: "ends too early",
        b"\x1f\x8b\x08" + bytes(50): "",
        zlib.compress(text): "",
        b" " * MOST + text: f"more than {MOST} bytes",
        gzip.compress(bytes(1 << 28)): f"more than {MOST} bytes",
        b'{"schema": 1, "a": ' + b"[" * 100_000: "nested too deeply",
    }
    for data, said in wrong.items():
        setup.put(data)
        assert said in setup.refused(500, "internal_error")
    assert str(setup.path) in setup.server.log.read_text()
    setup.path.unlink()
    setup.path.mkdir()
    assert "director" in setup.refused(500, "internal_error")
    setup.path.rmdir()
    os.mkfifo(setup.path)
    assert "no regular file" in setup.refused(500, "internal_error")  # and the server ends well after it
    setup.path.unlink()
