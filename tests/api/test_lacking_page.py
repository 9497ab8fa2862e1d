"""A checkout in which Git has made text of links: the server scores, and says what its page lacks."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

import lossd
from live_server import live_server

pytestmark = pytest.mark.slow


def test_a_checkout_without_links(tmp_path: Path) -> None:
    package = tmp_path / "modules/lossd"
    shutil.copytree(Path(lossd.__file__).parent, package, symlinks=True)
    links = [path for path in (package / "ui").iterdir() if path.is_symlink()]
    assert {path.name for path in links} == {"client", "report.css"}
    for link in links:
        target = link.readlink()
        link.unlink()
        link.write_text(str(target))
    with live_server(tmp_path, modules=tmp_path / "modules") as server:
        scored = httpx.post(f"{server.url}/bce", json={"logits": [0.0], "targets": [1]})
        assert scored.status_code == 200
        lacking = httpx.get(f"{server.url}/ui")
        assert (lacking.status_code, lacking.json()["code"]) == (404, "not_found")
        assert "git config core.symlinks true" in lacking.json()["detail"]
        assert httpx.get(f"{server.url}/ui/main.js").status_code == 404
    assert server.log.read_text().count("the page /ui is left out") == 1
