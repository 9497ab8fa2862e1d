"""The page is there for everybody: each state, by keyboard, at every width, in every scheme of colours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from browser.arrays import BAD_CLASS, CLASSES, Arrays
from browser.conftest import TeamServer
from browser.reading import section, table
from browser.visitor import give, problem, show_loss
from browser.visits import Visit, Watch, barriers, overflow
from live_server import LiveServer

_WIDTHS: Final = (360, 768, 1440, 2560)
State = Callable[[Page, Arrays], None]


def _start(page: Page, _arrays: Arrays) -> None:
    expect(page.get_by_role("button", name="Try an example")).to_be_visible()


def _filled(page: Page, arrays: Arrays) -> None:
    give(page, *map(arrays.path, ["logits.npy", "targets.npy", "classes.txt", "names.txt"]))
    page.get_by_text("More parameters").click()
    page.get_by_text("Copy this as curl").click()
    expect(page.locator("#commands pre").first).to_be_visible()


def _unclear(page: Page, arrays: Arrays) -> None:
    give(page, arrays.path("run7_out.npy"), arrays.path("val_2024.npy"))


def _refused(page: Page, arrays: Arrays) -> None:
    give(page, arrays.path("logits.npy"), arrays.path("wrong_targets.npy"))
    page.get_by_role("button", name="Show the loss").click()
    expect(problem(page)).to_be_visible()


def _results(page: Page, _arrays: Arrays) -> None:
    page.get_by_role("button", name="Try an example").click()
    expect(section(page, "top")).to_be_visible()


def _side_by_side(page: Page, arrays: Arrays) -> None:
    give(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    show_loss(page)
    page.get_by_role("button", name="Remove logits.npy", exact=True).click()
    give(page, arrays.path("better.npy"))
    page.get_by_label("What better.npy is").select_option("logits")
    page.get_by_role("button", name="Show the loss").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(section(page, "comparison").first).to_be_visible()


STATES: Final[dict[str, State]] = {
    "start": _start,
    "filled": _filled,
    "unclear": _unclear,
    "refused": _refused,
    "results": _results,
    "side by side": _side_by_side,
}


def _check(page: Page, name: str) -> None:
    """Look for barriers and for what is too wide; keep pictures where LOSSD_SCREENSHOTS is a folder."""
    assert barriers(page) == []
    scheme = page.evaluate("() => matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    for width in _WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert overflow(page) == [], width
        if folder := os.environ.get("LOSSD_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name} {scheme} {width}.png", full_page=True)
    page.set_viewport_size({"width": 360, "height": 900})
    assert barriers(page, has_contrast=False) == []  # colours are the same at every width, and take long


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", STATES)
def test_no_state_has_barriers(
    visit: Visit, server: LiveServer, arrays: Arrays, watch: Watch, name: str, scheme: str
) -> None:
    watch.allow("status of 422")
    page = visit(f"{server.url}/ui", color_scheme=scheme, viewport={"width": 1440, "height": 900})
    STATES[name](page, arrays)
    _check(page, name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_dialog_and_usage_have_no_barriers(
    visit: Visit, team_server: TeamServer, watch: Watch, scheme: str
) -> None:
    watch.allow("status of 401")
    page = visit(f"{team_server.url}/ui", color_scheme=scheme)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    _check(page, "dialog")
    dialog.get_by_label("Key", exact=True).fill(team_server.operator)
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("tab", name="Usage").click()
    expect(page.locator("#usage")).to_contain_text("speech")
    _check(page, "usage")


def test_the_keyboard_is_enough(page: Page) -> None:
    """From the start to a table that is sorted, by keys alone; what has the focus is always seen."""

    def press(key: str, until_focused: Callable[[], bool]) -> None:
        for _ in range(150):
            page.keyboard.press(key)
            assert page.evaluate(_IS_SEEN), page.evaluate("() => document.activeElement.outerHTML")
            if until_focused():
                return
        raise AssertionError("it cannot be reached by Tab")

    def has_focus(words: str) -> Callable[[], bool]:
        return lambda: words in str(page.evaluate("() => document.activeElement.textContent"))

    page.keyboard.press("Tab")
    assert has_focus("Skip to the files")()
    press("Tab", has_focus("Try an example"))
    page.keyboard.press("Enter")
    classes = section(page, "classes").locator("table.lossd-sortable").first
    expect(classes).to_be_visible()
    by_mean = [row[0] for row in table(classes)[1:]]
    expect(page.locator("#results h2:focus")).to_have_count(1)  # one need not go through the form again
    press(
        "Tab",
        lambda: bool(
            classes.evaluate("(table) => table.querySelector('th').contains(document.activeElement)")
        ),
    )
    page.keyboard.press("Enter")
    assert [row[0] for row in table(classes)[1:]] == sorted(by_mean)
    assert classes.locator("th[aria-sort]").count() == 1


_IS_SEEN: Final = """() => {
  const { activeElement } = document;
  if (activeElement === document.body) return true; // at the end, before it begins again
  const isUnseen = activeElement.classList.contains("unseen"); // the field of files, whose label shows it
  const { outlineStyle, outlineWidth } = getComputedStyle(isUnseen ? activeElement.labels[0] : activeElement);
  return outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
}"""


@pytest.mark.parametrize("zoom", [2, 4])
def test_a_window_of_1280_pixels_can_be_zoomed(
    visit: Visit, server: LiveServer, arrays: Arrays, zoom: int
) -> None:
    window = {"width": 1280 // zoom, "height": 800 // zoom}
    page = visit(f"{server.url}/ui", viewport=window, device_scale_factor=zoom)
    _results(page, arrays)
    assert overflow(page) == []


def test_nothing_moves_for_those_who_want_it_so(visit: Visit, server: LiveServer, arrays: Arrays) -> None:
    page = visit(f"{server.url}/ui", reduced_motion="reduce")
    _results(page, arrays)
    moving = page.evaluate("""() => [...document.querySelectorAll("*")].filter((each) => {
      const { animationName, transitionDuration, scrollBehavior } = getComputedStyle(each);
      return animationName !== "none" || transitionDuration !== "0s" || scrollBehavior === "smooth";
    }).map((each) => each.outerHTML.slice(0, 100))""")
    assert moving == []


def test_forced_colours_tell_what_is_chosen(visit: Visit, server: LiveServer, arrays: Arrays) -> None:
    page = visit(f"{server.url}/ui", forced_colors="active")
    _results(page, arrays)
    border = "(tab) => getComputedStyle(tab).borderBottomColor"
    assert page.locator("#tab-score").evaluate(border) != page.locator("#tab-usage").evaluate(border)
    bar = section(page, "classes").locator("svg rect").first
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert bar.evaluate("(rect) => getComputedStyle(rect).fill") != ground


def test_the_result_alone_is_printed(page: Page, arrays: Arrays) -> None:
    give(page, *map(arrays.path, ["logits.npy", "targets.npy", "classes.txt"]))
    show_loss(page)
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Show the loss")).to_be_hidden()
    expect(section(page, "classes")).to_be_visible()
    expect(section(page, "totals")).to_contain_text(CLASSES[BAD_CLASS])
    assert page.evaluate(
        "() => [...document.querySelectorAll('.lossd-scroll')].every((each) =>"
        " each.scrollHeight <= each.clientHeight + 1)"
    )
