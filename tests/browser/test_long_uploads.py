"""Large files: how far they are is seen, they can be stopped, and they are not read into memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser.arrays import save_large
from browser.memory import browser_bytes, grown
from browser.reading import section
from browser.visitor import give, problem
from browser.visits import Visit, throttled, until
from live_server import LiveServer

_ROWS, _COLUMNS = 200_000, 100
_BYTES = 2 * 4 * _ROWS * _COLUMNS
_MEGABYTES = 1_000_000
_LAG = """() => {
  window.lag = 0;
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    window.lag = Math.max(window.lag, now - last);
    last = now;
  }, 20);
}"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, float]:
    """Two files of 160 MB together, and their mean loss."""
    return save_large(tmp_path_factory.mktemp("large"), _ROWS, _COLUMNS)


def _percent(page: Page) -> int | None:
    text = page.locator("#progress-text").inner_text()
    found = re.search(r"(\d+) %", text)
    return int(found[1]) if found else None


def test_160_megabytes_are_sent_before_ones_eyes(
    visit: Visit, server: LiveServer, large: tuple[Path, Path, float], say: Callable[[str], None]
) -> None:
    logits, targets, mean = large
    page = visit(f"{server.url}/ui")
    give(page, logits, targets)
    before = browser_bytes()
    page.evaluate(_LAG)
    seen, most = set[int](), 0
    with throttled(page, 40 * _MEGABYTES):
        page.get_by_role("button", name="Show the loss").click()
        until(page, lambda: (_percent(page) or 0) > 0)
        while (percent := _percent(page)) is not None and percent < 95:
            seen.add(percent)
            most = max(most, grown(before, browser_bytes()))
            page.wait_for_timeout(100)
    expect(section(page, "totals")).to_be_visible(timeout=60_000)
    assert len(seen) >= 5, seen
    assert min(seen) < 30
    assert f"{mean:.9g}" in section(page, "totals").inner_text()
    say(f"the browser grew by {most / 1e6:.0f} MB for {_BYTES / 1e6:.0f} MB")
    lag = page.evaluate("() => window.lag")
    assert lag < 1000, f"the page stood still for {lag} ms"
    assert most < 0.5 * _BYTES, f"{most / 1e6:.0f} MB for {_BYTES / 1e6:.0f} MB"


def test_an_upload_is_cancelled(visit: Visit, server: LiveServer, large: tuple[Path, Path, float]) -> None:
    page = visit(f"{server.url}/ui")
    give(page, *large[:2])
    with throttled(page, 10 * _MEGABYTES):
        page.get_by_role("button", name="Show the loss").click()
        until(page, lambda: (_percent(page) or 0) > 0)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#said")).to_have_text("Cancelled.")
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    expect(page.get_by_role("button", name="Show the loss")).to_be_enabled()
    expect(problem(page)).to_have_count(0)
    expect(section(page, "totals")).to_have_count(0)
