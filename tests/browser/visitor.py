"""The steps of somebody who uses the form."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from browser.reading import section
from browser.visits import drop


def give(page: Page, *paths: Path) -> None:
    """Drop files, and wait until the page has taken each."""
    drop(page, "#score", *paths)
    for path in paths:
        expect(page.get_by_role("list", name="Files")).to_contain_text(path.name)


def show_loss(page: Page) -> None:
    """Press the button, and wait for the result."""
    page.get_by_role("button", name="Show the loss").click()
    expect(section(page, "totals")).to_be_visible()


def choose(page: Page, name: str, place: str) -> None:
    """Say what a file is."""
    page.get_by_label(f"What {name} is").select_option(place)


def problem(page: Page) -> Locator:
    """What the form says is wrong."""
    return page.locator("#score").get_by_role("alert")
