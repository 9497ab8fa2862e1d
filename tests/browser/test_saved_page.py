"""The single file of `lossd report --html`: all of it without a network and without a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from browser.arrays import BAD_CLASS, BAD_ROWS, CLASSES, Arrays
from browser.reading import section, table, values
from browser.visits import Visit, Watch, barriers, overflow
from live_server import LiveServer


@pytest.fixture(scope="module")
def saved(arrays: Arrays, server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report, written by the command."""
    out = tmp_path_factory.mktemp("saved") / "report.html"
    files = [arrays.path("logits.npy"), arrays.path("targets.npy")]
    words = ["--class-names", arrays.path("classes.txt"), "--url", server.url, "--html", out]
    command = [sys.executable, "-m", "lossd", "report", *files, *words]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=60)
    return out


def _open(visit: Visit, path: Path, **options: object) -> Page:
    page = visit("about:blank", offline=True, **options)
    page.goto(path.as_uri())
    return page


def test_it_shows_all_without_a_network(visit: Visit, watch: Watch, saved: Path, arrays: Arrays) -> None:
    page = _open(visit, saved)
    for name in ("totals", "classes", "top", "histogram", "calibration"):
        expect(section(page, name)).to_be_visible()
        assert section(page, name).locator("table, svg").count() > 0, name
    losses = arrays.losses()
    assert f"{losses.mean():.9g}" in section(page, "totals").inner_text()
    by_class = section(page, "classes").locator("table")
    assert by_class.locator("tbody tr").count() == len(CLASSES)
    means = {row[0]: found[0] for row, found in zip(table(by_class)[1:], values(by_class), strict=True)}
    assert means == pytest.approx(dict(zip(CLASSES, losses.mean(axis=0), strict=True)), rel=1e-12)
    assert next(iter(means)) == CLASSES[BAD_CLASS]
    worst = table(section(page, "top").locator("table").first)[1:]
    assert [int(row[0]) for row in worst] == list(
        np.argsort(-losses.sum(axis=1), kind="stable")[: len(worst)]
    )
    assert [int(row[0]) for row in worst[:2]] == list(BAD_ROWS)
    assert [request for request in watch.requests if request.startswith("GET /") is False] == []
    assert len(watch.requests) == 1  # the file


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_has_no_barriers(visit: Visit, saved: Path, scheme: str) -> None:
    assert barriers(_open(visit, saved, color_scheme=scheme)) == []


@pytest.mark.parametrize("width", [360, 768, 1440, 2560])
def test_it_fits_every_width(visit: Visit, saved: Path, width: int) -> None:
    assert overflow(_open(visit, saved, viewport={"width": width, "height": 900})) == []
