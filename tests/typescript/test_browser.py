"""The package's sources, as they are, in a page of another origin than the server's."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from live_server import live_server
from lossd_client import LossClient
from teams_file import make_key, team_table, write_teams
from typescript.tools import PACKAGE

pytestmark = pytest.mark.timeout(180)


class _Pages(SimpleHTTPRequestHandler):
    """Files of a folder, a redirection, an address that does not answer, and what a page posts."""

    def __init__(self, found: Queue[Any], *args: Any, **others: Any) -> None:  # noqa: ANN401 # the base's own
        self._found = found
        super().__init__(*args, **others)

    def do_GET(self) -> None:
        if self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", "/login")
            self.end_headers()
        elif not self.path.startswith("/gone"):
            super().do_GET()

    def do_POST(self) -> None:
        self._found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base's name
        pass


@contextmanager
def _pages(folder: Path, found: Queue[Any]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pages, found, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_page_of_another_origin_scores(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed: .ci/tools installs it")
    pages, key, found = tmp_path / "pages", make_key(), Queue[Any]()
    shutil.copytree(PACKAGE / "src", pages / "src")
    shutil.copy(Path(__file__).with_name("page.js"), pages)
    (pages / "index.html").write_text('<!doctype html><script type="module" src="page.js"></script>')
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 80)).astype(np.float32), rng.random((32, 80)) < 0.1
    np.save(pages / "x.npy", x)
    np.save(pages / "y.npy", y)
    write_teams(tmp_path / "teams.toml", team_table("vision", key))
    with (
        _pages(pages, found) as origin,
        live_server(tmp_path, teams=tmp_path / "teams.toml", cors_origins=origin) as server,
        LossClient(server.url, api_key=key) as client,
    ):
        address = f"{origin}/?{urlencode({'server': server.url, 'key': key})}"
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        words = [browser, "--headless", "--no-sandbox", "--disable-gpu", profile, "--remote-debugging-port=0"]
        process = subprocess.Popen([*words, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            seen = found.get(timeout=120)
        finally:
            process.terminate()
            process.wait(30)
        assert seen == {
            "loss": client.focal(x, y, gamma=2.0).loss,
            "elements": [32, 80],
            "sum_terms": list(client.focal(x, y).sum_terms),
            "worst": "b",
            "mean": True,
            "refused": [True, "target_out_of_range", "/targets/1"],
            "led": [True, 0],
            "unreachable": [True, True],
            "gone": [True, "is the server running?"],
            "stopped": "AbortError",
            "origin": 404,
        }
