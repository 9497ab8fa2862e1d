"""Somebody new drops files: which class and which images are worst is soon clear."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from browser.arrays import BAD_CLASS, BAD_ROWS, CLASSES, Arrays, save_report
from browser.reading import mean_interval, section, table, values
from browser.visitor import choose, give, show_loss
from browser.visits import Watch, drop
from live_server import LiveServer
from lossd_client import LossClient


def _check_figures(page: Page, arrays: Arrays, names: list[str], rows: list[str]) -> None:
    """Compare what is shown of the cross-entropy with what numpy computes."""
    losses = arrays.losses()
    mean, low, high = mean_interval(arrays, losses)
    totals = section(page, "totals").inner_text()
    assert f"{mean:.6g}" in totals
    assert f"{low:.5g}" in totals
    assert f"{high:.5g}" in totals
    by_class = section(page, "classes").locator("table.lossd-sortable").first
    found = {row[0]: numbers for row, numbers in zip(table(by_class)[1:], values(by_class), strict=True)}
    assert next(iter(found)) == names[BAD_CLASS]
    for name, expected in zip(names, losses.mean(axis=0), strict=True):
        assert any(value == pytest.approx(expected, rel=1e-12) for value in found[name]), name
    worst = section(page, "top").locator("table").first
    order = np.argsort(-losses.sum(axis=1), kind="stable")
    shown = table(worst)[1:]
    assert [row[0] for row in shown] == [rows[row] for row in order[: len(shown)]]
    sums = losses.sum(axis=1)[order]
    for expected, numbers in zip(sums, values(worst), strict=False):
        assert any(value == pytest.approx(expected, rel=1e-12) for value in numbers)


def test_two_files_are_enough(page: Page, arrays: Arrays) -> None:
    began = time.monotonic()
    drop(page, "#score", arrays.path("logits.npy"), arrays.path("targets.npy"))
    page.get_by_role("button", name="Show the loss").click()  # the only click
    classes = section(page, "classes")
    expect(classes).to_contain_text(f"class {BAD_CLASS}")
    expect(section(page, "top")).to_contain_text(str(BAD_ROWS[0]))
    assert time.monotonic() - began < 60
    numbers = [str(row) for row in range(len(arrays.logits))]
    _check_figures(page, arrays, [f"class {number}" for number in range(len(CLASSES))], numbers)


def test_names_of_classes_and_rows_are_used(page: Page, arrays: Arrays) -> None:
    give(page, *map(arrays.path, ["logits.npy", "targets.npy", "classes.txt", "names.txt"]))
    show_loss(page)
    _check_figures(page, arrays, CLASSES, arrays.names)
    totals = section(page, "totals").inner_text()
    assert CLASSES[BAD_CLASS] in totals
    assert arrays.names[BAD_ROWS[0]] in totals


def test_files_whose_names_say_nothing_are_asked_about(page: Page, arrays: Arrays) -> None:
    give(page, arrays.path("run7_out.npy"), arrays.path("val_2024.npy"))
    expect(page.get_by_role("button", name="Show the loss")).to_be_disabled()
    expect(page.locator("#next")).not_to_be_empty()
    choose(page, "run7_out.npy", "logits")
    choose(page, "val_2024.npy", "targets")
    show_loss(page)
    numbers = [str(row) for row in range(len(arrays.logits))]
    _check_figures(page, arrays, [f"class {number}" for number in range(len(CLASSES))], numbers)


def test_files_are_chosen_without_dragging(page: Page, arrays: Arrays) -> None:
    paths = [arrays.path("logits.npy"), arrays.path("targets.npy")]
    page.get_by_label("Choose files").set_input_files(paths)
    show_loss(page)
    assert f"{arrays.losses().mean():.6g}" in section(page, "totals").inner_text()


@pytest.mark.parametrize(("name", "rows"), [("both.npz", None), ("run.arrows", "names")])
def test_one_file_holds_all(page: Page, arrays: Arrays, name: str, rows: str | None) -> None:
    give(page, arrays.path(name))
    show_loss(page)
    numbers = [str(row) for row in range(len(arrays.logits))]
    classes = [f"class {number}" for number in range(len(CLASSES))]
    _check_figures(page, arrays, classes, arrays.names if rows else numbers)


def test_an_example_is_a_press_away(page: Page) -> None:
    page.get_by_role("button", name="Try an example").click()
    classes = section(page, "classes").locator("table.lossd-sortable").first
    expect(classes).to_be_visible()
    assert table(classes)[1][0] == "bicycle"
    expect(section(page, "groups")).to_contain_text("rear")
    wrong = {"frame-0037.jpg", "frame-0142.jpg", "frame-0268.jpg", "frame-0391.jpg"}
    worst = {row[0] for row in table(section(page, "top").locator("table").first)[1:]}
    assert wrong <= worst


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_saved_report_is_shown_and_comes_back_as_it_was(
    page: Page, server: LiveServer, arrays: Arrays, tmp_path: Path, *, is_packed: bool
) -> None:
    with LossClient(server.url) as client:
        report = client.report("bce", arrays.logits, arrays.targets, ids=arrays.names)
    document: dict[str, Any] = report.to_dict()
    document["run"]["class_names"] = CLASSES
    path = save_report(tmp_path, "night", json.dumps(document).encode())[is_packed]
    drop(page, "#score", path)
    expect(section(page, "totals")).to_be_visible()
    _check_figures(page, arrays, CLASSES, arrays.names)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    assert json.loads(Path(download.value.path()).read_text()) == document


def test_the_result_is_asked_for_once(page: Page, arrays: Arrays, watch: Watch) -> None:
    give(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    watch.requests.clear()
    show_loss(page)
    assert [request.partition("?")[0] for request in watch.requests] == ["POST /bce", "POST /ui/view"]
