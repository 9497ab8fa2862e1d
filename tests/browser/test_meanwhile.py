"""What people do while something is under way: no result stands beside other files, names or keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Error, Page, Route, expect

from browser.arrays import Arrays
from browser.conftest import TeamServer
from browser.reading import section
from browser.visitor import give, problem, show_loss
from browser.visits import Visit, Watch, until
from live_server import LiveServer, live_server
from lossd_client import LossClient
from teams_file import make_key, team_table, write_teams

_FILES = ("logits.npy", "targets.npy")


@contextmanager
def _held(page: Page, path: str) -> Iterator[Callable[[], bool]]:
    """Hold requests of a path back until the block ends; what is given says whether one is."""
    routes: list[Route] = []
    page.route(f"**{path}", lambda route: routes.append(route))
    yield lambda: routes != []
    page.unroute(f"**{path}")
    for route in routes:
        with suppress(Error):  # the page has stopped it
            route.continue_()


def _files(arrays: Arrays) -> list[Path]:
    return [arrays.path(name) for name in _FILES]


def _use_key(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()


def _runs(page: Page) -> list[str]:
    names: list[str] = page.locator("#results .runs-name").all_inner_texts()
    return names


def test_a_result_says_that_its_files_have_changed(page: Page, arrays: Arrays, tmp_path: Path) -> None:
    give(page, *_files(arrays))
    other = tmp_path / "logits.npy"
    np.save(other, arrays.better)
    notes = page.get_by_role("list", name="Notes on the result")
    with _held(page, "/bce?*") as is_held:
        page.get_by_role("button", name="Show the loss").click()
        until(page, is_held)
        page.get_by_role("button", name="Remove logits.npy").click()
        give(page, other)
    expect(notes).to_contain_text("the files have been changed since this was asked for")
    expect(section(page, "totals")).to_contain_text(f"{arrays.losses().mean():.6g}")
    show_loss(page)
    expect(notes).to_be_hidden()


def test_the_example_takes_the_place_of_a_run(page: Page, arrays: Arrays) -> None:
    give(page, *_files(arrays))
    with _held(page, "/bce?*") as is_held:
        page.get_by_role("button", name="Show the loss").click()
        until(page, is_held)
        page.get_by_role("button", name="Try an example").click()
        expect(section(page, "totals")).to_be_visible()
    assert _runs(page) == ["example"]


def test_the_examples_files_are_listed_once_however_often_it_is_pressed(page: Page) -> None:
    button = page.get_by_role("button", name="Try an example")
    with _held(page, "/focal?*") as is_held:
        button.dblclick()
        until(page, is_held)
        button.click()
    expect(section(page, "totals")).to_be_visible()
    expect(page.locator("#example-files a")).to_have_count(6)
    expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(6)


def test_a_key_takes_along_what_is_under_way(
    visit: Visit, team_server: TeamServer, arrays: Arrays, watch: Watch
) -> None:
    watch.allow("status of 401")
    page = visit(f"{team_server.url}/ui")
    _use_key(page, team_server.vision)
    give(page, *_files(arrays))
    with _held(page, "/bce?*") as is_held:
        page.get_by_role("button", name="Show the loss").click()
        until(page, is_held)
        page.get_by_role("button", name="Forget key").click()
        expect(page.locator("#progress-text")).to_be_hidden()
    page.get_by_role("button", name="Give a key").first.click()
    _use_key(page, team_server.speech)
    show_loss(page)
    assert _runs(page) == ["logits.npy"]


def test_the_servers_report_is_listed_once(
    visit: Visit, server: LiveServer, arrays: Arrays, tmp_path: Path, watch: Watch
) -> None:
    watch.allow("status of 401")
    key = make_key()
    write_teams(tmp_path / "teams.toml", team_table("vision", key))
    with LossClient(server.url) as client:
        client.report("bce", arrays.logits, arrays.targets).save(tmp_path / "night.json")
    with live_server(tmp_path, teams=tmp_path / "teams.toml", ui_report=tmp_path / "night.json") as keyed:
        page = visit(f"{keyed.url}/ui")
        _use_key(page, make_key())
        expect(page.get_by_role("alert")).to_contain_text("does not know this key")
        _use_key(page, key)
        expect(section(page, "totals")).to_be_visible()
        assert _runs(page) == ["saved report"]


def test_a_comparison_has_the_names_of_its_runs(page: Page, arrays: Arrays, tmp_path: Path) -> None:
    give(page, *_files(arrays))
    show_loss(page)
    np.save(tmp_path / "newer.npy", arrays.better)
    give(page, tmp_path / "newer.npy")
    show_loss(page)
    page.get_by_role("button", name="Compare", exact=True).click()
    comparison = section(page, "comparison")
    expect(comparison).to_contain_text("newer.npy is better than logits.npy")
    page.get_by_role("button", name="Rename the run logits.npy").click()
    field = page.get_by_role("textbox", name="New name")
    field.fill("last week's")
    field.press("Enter")
    expect(comparison).to_contain_text("newer.npy is better than last week's")
    expect(page.locator(".result-title")).to_have_text("newer.npy against last week's")


def test_a_comparison_that_is_interrupted_is_of_its_own_runs(
    page: Page, arrays: Arrays, tmp_path: Path
) -> None:
    np.save(tmp_path / "newer.npy", arrays.better)
    np.save(tmp_path / "newest.npy", arrays.better * 2)
    for path in (arrays.path("logits.npy"), tmp_path / "newer.npy", tmp_path / "newest.npy"):
        give(page, path, *([arrays.path("targets.npy")] if path.name == "logits.npy" else []))
        show_loss(page)
        expect(page.locator(".result-title")).to_have_text(path.name)
    comparison = section(page, "comparison")
    choice = page.get_by_label("Compare with")
    choice.select_option("logits.npy")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(comparison).to_contain_text("than logits.npy")
    wanted = comparison.inner_text()
    choice.select_option("newer.npy")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(comparison).to_contain_text("than newer.npy")
    with _held(page, "/bce?*") as is_held:
        choice.select_option("logits.npy")
        page.get_by_role("button", name="Compare", exact=True).click()
        until(page, is_held)
        page.get_by_role("button", name="Rename the run newest.npy").click()
        page.get_by_role("textbox", name="New name").fill("now")
        page.get_by_role("textbox", name="New name").press("Enter")
    expect(comparison).to_contain_text("than logits.npy")
    assert comparison.inner_text().replace("now", "newest.npy") == wanted


def test_a_file_that_changed_on_disk_is_named(
    page: Page, arrays: Arrays, tmp_path: Path, watch: Watch
) -> None:
    watch.allow("ERR_UPLOAD_FILE_CHANGED")
    for name, array in (("logits", arrays.logits), ("targets", arrays.targets)):
        np.save(tmp_path / f"{name}.npy", array)
    page.get_by_label("Choose files").set_input_files([tmp_path / name for name in _FILES])
    expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(2)
    np.save(tmp_path / "logits.npy", arrays.better[:7])
    page.get_by_role("button", name="Show the loss").click()
    expect(problem(page)).to_contain_text("logits.npy has changed on disk, or is gone")
    expect(problem(page)).to_contain_text("Choose it again.")


def test_what_was_chosen_outlasts_the_example(page: Page, arrays: Arrays) -> None:
    page.get_by_role("button", name="Try an example").click()
    expect(section(page, "totals")).to_be_visible()
    page.get_by_label("loss", exact=True).select_option("bce")
    page.locator("#parameter-pos_weight").fill("7")
    give(page, *_files(arrays))
    expect(page.get_by_label("loss", exact=True)).to_have_value("bce")
    expect(page.locator("#parameter-pos_weight")).to_have_value("7")


def test_a_value_that_the_next_loss_lacks_is_left(page: Page, arrays: Arrays) -> None:
    give(page, *_files(arrays))
    page.get_by_text("More parameters").click()
    bins = page.get_by_label("calibration_bins", exact=True)
    bins.fill("exact")
    page.get_by_label("loss", exact=True).select_option("cross_entropy")
    expect(bins).to_have_value("64")
    page.get_by_label("loss", exact=True).select_option("focal")
    bins.fill("20")
    page.get_by_label("loss", exact=True).select_option("cross_entropy")
    expect(bins).to_have_value("20")
    page.get_by_label("loss", exact=True).select_option("focal")
    page.get_by_label("variant").select_option("exp")
    page.get_by_label("loss", exact=True).select_option("box")
    expect(page.get_by_label("variant")).to_have_value("iou")


def test_a_saved_answer_has_its_notes(page: Page, server: LiveServer, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"logits": np.eye(3).tolist(), "targets": np.eye(3).tolist(), "weight": [1, 2, 3]}
    answer = httpx.post(f"{server.url}/bce", json={**asked, "report": ["totals"]}).json()
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    give_file = page.get_by_label("Choose files")
    give_file.set_input_files([tmp_path / "answer.json"])
    expect(page.get_by_role("list", name="Notes on the result")).to_contain_text(answer["notes"][0])


def test_the_choice_of_what_to_compare_with_stays(page: Page, server: LiveServer, arrays: Arrays) -> None:
    with LossClient(server.url) as client:
        document = client.report("bce", arrays.logits, arrays.targets).to_dict()
    for name in ("one.json", "two.json", "three.json"):
        page.get_by_label("Choose files").set_input_files(
            [{"name": name, "mimeType": "application/json", "buffer": json.dumps(document).encode()}]
        )
        expect(page.locator(".result-title")).to_have_text(name)
        expect(section(page, "totals")).to_be_visible()
    choice = page.get_by_label("Compare with")
    with _held(page, "/ui/view") as is_held:
        page.get_by_role("button", name="Compare", exact=True).click()
        until(page, is_held)
        choice.select_option("one.json")
    expect(section(page, "comparison")).to_be_visible()
    assert choice.evaluate("(each) => each.selectedOptions[0].textContent") == "one.json"


def test_who_writes_is_left_alone(page: Page, arrays: Arrays) -> None:
    give(page, *_files(arrays))
    weight = page.locator("#parameter-pos_weight")
    with _held(page, "/bce?*") as is_held:
        page.get_by_role("button", name="Show the loss").click()
        until(page, is_held)
        weight.focus()
        page.keyboard.type("12")
    expect(section(page, "totals")).to_be_visible()
    page.keyboard.type("34")
    expect(weight).to_have_value("1234")


@pytest.mark.parametrize("code", [503, 500])
def test_what_fails_says_no_result_is_here(page: Page, arrays: Arrays, watch: Watch, code: int) -> None:
    watch.allow(f"status of {code}")
    page.route(
        "**/ui/view",
        lambda route: route.fulfill(status=code, json={"detail": "no"}, headers={"retry-after": "1"}),
    )
    give(page, *_files(arrays))
    page.get_by_role("button", name="Show the loss").click()
    expect(page.locator("#results").get_by_role("alert")).to_be_visible()
    expect(page.locator("#results > [role=status]")).to_have_text("")
