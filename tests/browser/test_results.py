"""What the page shows of runs: the newest, two side by side, sorted tables, sliders, the file to download."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from browser.arrays import BAD_CLASS, BAD_ROWS, CLASSES, Arrays, npy_bytes
from browser.visits import Visit, Watch, barriers, overflow
from live_server import live_server
from lossd_client import LossClient, Report, compare

if TYPE_CHECKING:
    from pathlib import Path

    from live_server import LiveServer

_ADD: Final = """async (text) => {
  const { startResults } = await import("/ui/results.js");
  const old = document.querySelector("#results");
  if (!globalThis.ownResults) {
    const root = old.cloneNode(false);
    old.replaceWith(root);
    document.querySelector("#panel-score").classList.add("has-runs");
    globalThis.ownResults = startResults(root);
  }
  const file = (bytes) => new File([new Uint8Array(bytes)], "x.npy");
  for (const { name, document, scored } of JSON.parse(text)) {
    const files = Object.entries(scored?.files ?? {}).map(([tensor, bytes]) => [tensor, file(bytes)]);
    const all = scored && { ...scored, files: Object.fromEntries(files) };
    await ownResults.add({ name, document, notes: [], scored: all });
  }
}"""

Add = Callable[..., None]


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Iterator[LossClient]:
    with LossClient(server.url) as made:
        yield made


@pytest.fixture
def add(page: Page) -> Add:
    """Add runs to the page: a report of each, and what it is of if that was scored here."""

    def added(**runs: Report | tuple[Report, dict[str, Any]]) -> None:
        given = []
        for name, run in runs.items():
            report, scored = run if isinstance(run, tuple) else (run, None)
            given.append({"name": name, "document": report.to_dict(), "scored": scored})
        page.evaluate(_ADD, json.dumps(given))

    return added


def _report(client: LossClient, arrays: Arrays, logits: Any = None, **given: Any) -> Report:  # noqa: ANN401
    x = arrays.logits if logits is None else logits
    cameras = ["front" if row % 2 else "rear" for row in range(len(x))]
    asked = {"gamma": 2.0, "ids": arrays.names, "groups": {"camera": cameras}, "sweep": {"gamma": [0, 1, 2]}}
    report = client.report("focal", x, arrays.targets, **{**asked, **given})
    document = report.to_dict()
    document["run"]["class_names"] = CLASSES
    return Report(document)


def _scored(arrays: Arrays, logits: Any, **params: Any) -> dict[str, Any]:  # noqa: ANN401
    files = {
        "logits": list(npy_bytes(logits)),
        "targets": list(npy_bytes(arrays.targets)),
    }
    params = {"gamma": 2.0, "sweep": {"gamma": [0, 1, 2]}, **params}
    return {"loss": "focal", "params": params, "files": files, "classNames": CLASSES}


def _section(page: Page, name: str) -> Locator:
    return page.locator(f'#results [data-section="{name}"]')


def _names(table: Locator) -> list[str]:
    names: list[str] = table.locator("tbody tr:visible th").all_inner_texts()
    return names


def test_a_run_is_shown_from_its_heading_on(page: Page, client: LossClient, arrays: Arrays, add: Add) -> None:
    add(first=_report(client, arrays))
    expect(page.get_by_role("heading", name="first")).to_be_focused()
    expect(page.locator("#results").get_by_role("status").first).to_have_text("first: the result is here.")
    contents = page.get_by_role("navigation", name="Contents of the result")
    sections = page.locator("#results .lossd-section")
    assert contents.get_by_role("link").count() == sections.count() > 5
    contents.get_by_role("link").nth(3).press("Enter")
    expect(sections.nth(3)).to_be_in_viewport()
    assert barriers(page) == []


def test_the_worst_class_and_rows_are_in_sight(
    page: Page, client: LossClient, arrays: Arrays, add: Add
) -> None:
    add(first=_report(client, arrays))
    totals = _section(page, "totals")
    expect(totals).to_contain_text(CLASSES[BAD_CLASS])
    expect(totals).to_contain_text(arrays.names[BAD_ROWS[0]])
    assert _names(_section(page, "classes").locator("table.lossd-sortable").first)[0] == CLASSES[BAD_CLASS]


@pytest.mark.parametrize("width", [1280, 1920, 2560])
def test_tables_are_whole_where_there_is_room(
    page: Page, client: LossClient, arrays: Arrays, add: Add, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    add(first=_report(client, arrays))
    for name in ("Classes", "Calibration by class"):
        box = page.get_by_role("region", name=name, exact=True)
        assert box.evaluate("(each) => each.scrollWidth - each.clientWidth") == 0


def test_tables_are_sorted_by_their_headers(page: Page, client: LossClient, arrays: Arrays, add: Add) -> None:
    report = _report(client, arrays)
    add(first=report)
    table = _section(page, "classes").locator("table.lossd-sortable").first
    by_mean = [CLASSES[each.index] for each in sorted(report.classes, key=lambda each: -each.mean)]
    mean = table.get_by_role("columnheader", name="mean").first
    mean.get_by_role("button").click()
    mean.get_by_role("button").press("Enter")
    directions = {"descending": by_mean, "ascending": by_mean[::-1]}
    assert _names(table) == directions[str(mean.get_attribute("aria-sort"))]
    mean.get_by_role("button").press("Enter")
    assert _names(table) == directions[str(mean.get_attribute("aria-sort"))]
    name = table.get_by_role("columnheader").first
    name.get_by_role("button").press(" ")
    expect(name).to_have_attribute("aria-sort", "ascending")
    assert mean.get_attribute("aria-sort") is None
    assert _names(table) == sorted(CLASSES)


def test_gaps_are_last_and_equal_rows_stay_in_order(page: Page) -> None:
    values = ["0.5", "NaN", "Infinity", "0.5", "-Infinity", None, "1e-300", "0.5"]
    found = page.evaluate(
        """async (values) => {
          const { makeSortable } = await import("/ui/sorting.js");
          const { element } = await import("/ui/elements.js");
          const row = (value, place) =>
            element("tr", {}, [element("th", {}, [`row ${place}`]), element("td", { "data-value": value })]);
          const head = element("tr", {}, [element("th", {}, ["name"]), element("th", {}, ["value"])]);
          const parts = [element("thead", {}, [head]), element("tbody", {}, values.map(row))];
          const table = element("table", { class: "lossd-sortable" }, parts);
          makeSortable(element("div", {}, [table]));
          const [, button] = table.querySelectorAll("thead button");
          const orders = [];
          for (let turn = 0; turn < 3; turn++) {
            button.click();
            orders.push([...table.tBodies[0].rows].map((row) => Number(row.cells[0].textContent.slice(4))));
          }
          return orders;
        }""",
        values,
    )
    assert found == [[2, 0, 3, 7, 6, 4, 1, 5], [4, 6, 0, 3, 7, 2, 1, 5], [2, 0, 3, 7, 6, 4, 1, 5]]


def test_long_tables_are_filtered_by_name(page: Page, client: LossClient, add: Add) -> None:
    rng = np.random.default_rng(5)
    report = client.report(
        "focal", rng.normal(size=(30, 40)), rng.random((30, 40)) < 0.1, sections=["classes"]
    )
    add(first=report)
    section = _section(page, "classes")
    table = section.locator("table.lossd-sortable").first
    section.get_by_role("searchbox").first.fill("Class 3")
    assert sorted(_names(table)) == ["class 3", *(f"class {number}" for number in range(30, 40))]
    expect(section.get_by_role("status").first).to_have_text("11 of 40")
    section.get_by_role("searchbox").first.fill("")
    assert len(_names(table)) == 40


def test_sliders_ask_nobody(page: Page, client: LossClient, arrays: Arrays, add: Add, watch: Watch) -> None:
    report = _report(client, arrays)
    add(first=report)
    sweep = _section(page, "sweep")
    mean = sweep.locator(".sliders-mean")
    before = list(watch.requests)

    def is_shown(**point: Any) -> None:  # noqa: ANN401
        expect(mean).to_have_attribute("data-value", re.compile("."))
        page.wait_for_timeout(50)
        assert float(mean.get_attribute("data-value") or "nan") == pytest.approx(
            report.at(**point), rel=1e-12
        )

    is_shown()
    sweep.get_by_role("spinbutton", name="alpha, exactly").fill("0.75")
    is_shown(alpha=0.75)
    sweep.get_by_role("slider", name="pos_weight").press("ArrowRight")
    weight = float(sweep.get_by_role("spinbutton", name="pos_weight, exactly").input_value())
    assert weight == pytest.approx(10**0.02, rel=5e-3)
    is_shown(alpha=0.75, pos_weight=weight)
    sweep.get_by_role("slider", name="gamma").press("Home")
    is_shown(alpha=0.75, pos_weight=weight, gamma=0)
    sweep.get_by_role("checkbox", name="off").check()
    is_shown(alpha=None, pos_weight=weight, gamma=0)
    sweep.get_by_role("button", name="Back to the request's").click()
    is_shown()
    expect(sweep.get_by_role("checkbox", name="off")).not_to_be_checked()
    assert watch.requests == before


def test_a_number_that_is_none_has_no_mean(page: Page, client: LossClient, arrays: Arrays, add: Add) -> None:
    report = _report(client, arrays)
    add(first=report)
    sweep = _section(page, "sweep")
    mean = sweep.locator(".sliders-mean")
    field = sweep.get_by_role("spinbutton", name="alpha, exactly")
    for wrong in ("1.5", "-0.1", ""):
        field.fill(wrong)
        expect(sweep).to_contain_text("alpha is a number from 0 to 1.")
        expect(mean).to_contain_text("No mean")
        assert mean.get_attribute("data-value") is None
        field.fill("0.75")
        expect(sweep).not_to_contain_text("alpha is a number from 0 to 1.")
        expect(mean).to_have_attribute("data-value", re.compile("."))
        page.wait_for_timeout(50)
        assert float(mean.get_attribute("data-value") or "nan") == pytest.approx(
            report.at(alpha=0.75), rel=1e-12
        )


def test_the_classes_follow_the_sliders(page: Page, client: LossClient, arrays: Arrays, add: Add) -> None:
    add(first=_report(client, arrays))
    sweep = _section(page, "sweep")
    sweep.get_by_role("spinbutton", name="pos_weight, exactly").fill("40")
    sweep.get_by_role("spinbutton", name="pos_weight, exactly").press("Tab")
    page.wait_for_timeout(100)
    wanted = _report(client, arrays, pos_weight=40).classes
    table = sweep.locator("table.lossd-sortable")
    shown = table.locator("tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [row.cells[0].textContent, Number(row.cells[1].dataset.value)])"
    )
    assert [name for name, _ in shown] == [
        CLASSES[each.index] for each in sorted(wanted, key=lambda each: -each.mean)
    ]
    means = dict(shown)
    for each in wanted:
        assert means[CLASSES[each.index]] == pytest.approx(each.mean, rel=1e-12)


def test_what_cannot_be_moved_is_said(page: Page, client: LossClient, arrays: Arrays, add: Add) -> None:
    add(exponent=_report(client, arrays, variant="exp"))
    sweep = _section(page, "sweep")
    expect(sweep).to_contain_text("pos_weight stays as it was")
    expect(sweep.get_by_role("slider", name="pos_weight")).to_have_count(0)
    add(tensor=_report(client, arrays, pos_weight=np.full(arrays.targets.shape, 2.0)))
    expect(sweep).to_contain_text("pos_weight was a tensor")
    expect(sweep.locator(".sliders-mean")).to_contain_text("choose a number")
    sweep.get_by_role("spinbutton", name="pos_weight, exactly").fill("2")
    expect(sweep.locator(".sliders-mean")).to_contain_text("1.000 times the request's")


def test_runs_are_renamed_shown_again_and_removed(
    page: Page, client: LossClient, arrays: Arrays, add: Add
) -> None:
    add(first=_report(client, arrays), second=_report(client, arrays, gamma=1.0))
    runs = page.locator("#results .runs li")
    expect(runs).to_have_count(2)
    expect(runs.nth(0)).to_contain_text("focal, gamma 1, alpha 0.25")
    runs.nth(1).get_by_role("button", name="first", exact=True).click()
    expect(page.locator(".result-title")).to_have_text("first")
    page.get_by_role("button", name="Rename the run first").click()
    field = page.get_by_role("textbox", name="New name of first")
    field.fill("second")
    field.press("Enter")
    expect(page.locator(".result-title")).to_have_text("second (2)")
    page.get_by_role("button", name="Rename the run second (2)").click()
    page.get_by_role("textbox", name="New name").fill("thrown away")
    page.get_by_role("textbox", name="New name").press("Escape")
    expect(runs.nth(1)).to_contain_text("second (2)")
    page.get_by_role("button", name="Remove the run second (2)").click()
    expect(page.locator(".result-title")).to_have_text("second")
    page.get_by_role("button", name="Remove the run second", exact=True).click()
    expect(page.locator(".result")).to_be_empty()
    expect(runs).to_have_count(0)


def test_two_runs_of_the_same_targets_are_paired(
    page: Page, client: LossClient, arrays: Arrays, add: Add, watch: Watch
) -> None:
    reports = [_report(client, arrays, logits) for logits in (arrays.better, arrays.logits)]
    add(old=(reports[1], _scored(arrays, arrays.logits)), new=(reports[0], _scored(arrays, arrays.better)))
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator(".result-title")).to_have_text("new against old")
    comparison = _section(page, "comparison")
    expect(comparison).to_be_visible()
    assert any("paired" in each for each in watch.requests if each.startswith("POST /focal"))
    paired = client.report("focal", arrays.better, arrays.targets, gamma=2.0, baseline=arrays.logits)
    difference = compare(paired).whole.difference
    expect(comparison).to_contain_text(f"{difference:.4g}"[:6])
    assert barriers(page) == []
    page.get_by_role("button", name="Swap").click()
    expect(page.locator(".result-title")).to_have_text("old against new")


def test_saved_reports_are_compared_without_an_upload(
    page: Page, client: LossClient, arrays: Arrays, add: Add, watch: Watch
) -> None:
    add(old=_report(client, arrays), new=_report(client, arrays, arrays.better))
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(_section(page, "comparison")).to_be_visible()
    assert [each for each in watch.requests if each.startswith("POST")] == ["POST /ui/view"] * 3


def test_runs_of_other_targets_are_not_paired(
    page: Page, client: LossClient, arrays: Arrays, add: Add, watch: Watch
) -> None:
    other = _scored(arrays, arrays.logits)
    flipped = 1 - arrays.targets
    other["files"]["targets"] = list(npy_bytes(flipped))
    report = client.report("focal", arrays.logits, flipped, gamma=2.0)
    add(old=(report, other), new=(_report(client, arrays), _scored(arrays, arrays.logits)))
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator(".result-title")).to_have_text("new against old")
    expect(page.locator(".result")).not_to_have_attribute("aria-busy", "true")
    assert not [each for each in watch.requests if each.startswith("POST /focal")]


def test_runs_that_cannot_be_compared_say_why(
    page: Page, client: LossClient, arrays: Arrays, add: Add, watch: Watch
) -> None:
    watch.allow("status of 422")
    one, other = _report(client, arrays), _report(client, arrays, gamma=1.0)
    add(old=(one, _scored(arrays, arrays.logits)), new=(other, _scored(arrays, arrays.logits, gamma=1.0)))
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#results").get_by_role("alert")).to_contain_text("gamma")
    page.get_by_role("button", name="old", exact=True).click()
    expect(_section(page, "totals")).to_be_visible()


def test_the_downloaded_report_is_the_report(
    page: Page, client: LossClient, arrays: Arrays, add: Add, tmp_path: Path
) -> None:
    report = _report(client, arrays)
    add(**{"night 1/2": report})
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the report").click()
    assert waiting.value.suggested_filename == "night 1_2.report.json"
    waiting.value.save_as(tmp_path / "report.json")
    loaded = Report.load(tmp_path / "report.json")
    assert loaded == report == _report(client, arrays)
    assert loaded.to_dict()["run"] == report.to_dict()["run"]
    assert Report.merge([_report(client, arrays, first_row=400), loaded]).rows == 800
    assert compare(loaded, report).whole.difference == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440, 2560])
def test_nothing_scrolls_sideways(
    visit: Visit, server: LiveServer, client: LossClient, arrays: Arrays, scheme: str, width: int
) -> None:
    page = visit(f"{server.url}/ui", color_scheme=scheme, viewport={"width": width, "height": 900})
    reports = [_report(client, arrays, logits) for logits in (arrays.logits, arrays.better)]
    runs = [
        {"name": f"run {n}", "document": each.to_dict(), "scored": None} for n, each in enumerate(reports)
    ]
    page.evaluate(_ADD, json.dumps(runs))
    assert overflow(page) == []
    assert barriers(page) == []
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(_section(page, "comparison")).to_be_visible()
    assert overflow(page) == []
    assert barriers(page) == []


def test_a_large_report_is_usable(
    page: Page, client: LossClient, tmp_path: Path, say: Callable[[str], None]
) -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(10_000, 1000)).astype(np.float32), rng.random((10_000, 1000)) < 0.01
    report = client.report(
        "focal",
        x,
        y,
        groups={"site": rng.integers(0, 200, 10_000)},
        ids=[f"images/{row:06}.png" for row in range(10_000)],
        top=10_000,
        sweep={"gamma": [0, 1, 1.5, 2]},
        sections=["classes", "groups", "top", "histogram", "calibration", "sweep"],
    )
    report.save(tmp_path / "large.json")
    began = time.monotonic()
    page.get_by_label("Choose files").set_input_files(tmp_path / "large.json")
    expect(_section(page, "sweep").get_by_role("slider").first).to_be_visible(timeout=60_000)
    shown = time.monotonic() - began
    table = _section(page, "top").locator("table.lossd-sortable").first
    began = time.monotonic()
    table.locator("thead button").first.click()
    sorted_ = time.monotonic() - began
    began = time.monotonic()
    _section(page, "sweep").get_by_role("spinbutton", name="alpha, exactly").fill("0.5")
    page.wait_for_timeout(20)
    moved = time.monotonic() - began
    say(f"a report of 1,000 classes, 10,000 worst rows and 200 groups: shown in {shown:.1f} s, ")
    say(f"sorted in {sorted_:.2f} s, moved in {moved:.2f} s")
    assert len(table.locator("tbody tr").all()) == 1000
    assert shown < 30
    assert sorted_ < 5
    assert moved < 5


def test_the_page_opens_with_the_servers_report(
    visit: Visit, client: LossClient, arrays: Arrays, tmp_path: Path
) -> None:
    _report(client, arrays).save(tmp_path / "night.json")
    with live_server(tmp_path, ui_report=tmp_path / "night.json") as server:
        page = visit(f"{server.url}/ui")
        expect(page.locator(".result-title")).to_have_text("saved report")
        expect(_section(page, "classes")).to_be_visible()  # the first one to be drawn
        expect(page.locator(".result-title")).not_to_be_focused()
