"""What cannot be scored: the page says what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from browser.arrays import Arrays
from browser.reading import section
from browser.visitor import give, problem, show_loss
from browser.visits import Visit, Watch, drop
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams

_SMALL = 8_000
"""The greatest body of a server that takes little, in bytes: less than the logits."""


@pytest.fixture(scope="module")
def strict_key() -> str:
    return make_key()


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory, strict_key: str) -> Iterator[LiveServer]:
    """A server that takes small bodies, and of its team a request every 20 seconds."""
    folder = tmp_path_factory.mktemp("strict")
    teams = folder / "teams.toml"
    write_teams(teams, team_table("slow", strict_key, limits={"requests_per_second": 0.05}))
    with live_server(folder, teams=teams, max_body_bytes=_SMALL) as server:
        yield server


def test_a_target_out_of_range_has_its_place_and_a_remedy(page: Page, arrays: Arrays, watch: Watch) -> None:
    watch.allow("status of 422")
    give(page, arrays.path("logits.npy"), arrays.path("wrong_targets.npy"))
    page.get_by_role("button", name="Show the loss").click()
    expect(problem(page)).to_contain_text("1.7")
    expect(problem(page)).to_contain_text("row 17, class 3")
    expect(problem(page)).to_contain_text("a target is a 0/1 label or a probability")
    expect(problem(page)).to_be_in_viewport()
    give(page, arrays.path("targets.npy"))  # and the remedy works
    page.get_by_role("button", name="Remove wrong_targets.npy").click()
    page.get_by_label("What targets.npy is").select_option("targets")
    show_loss(page)
    expect(problem(page)).to_have_count(0)


def test_shapes_that_differ_are_seen_before_anything_is_sent(
    page: Page, arrays: Arrays, watch: Watch
) -> None:
    give(page, arrays.path("logits.npy"), arrays.path("short_targets.npy"))
    notes = page.locator("#misfits")
    expect(notes).to_contain_text("[399, 6]")
    expect(notes).to_contain_text("[400, 6]")
    watch.allow("status of 422")
    page.get_by_role("button", name="Show the loss").click()
    expect(problem(page)).to_contain_text("shape")


def test_what_may_surprise_is_said(page: Page, tmp_path: Path) -> None:
    given = {"logits": np.eye(6), "targets": np.eye(6), "weight": np.arange(1.0, 7.0)}
    for name, array in given.items():
        np.save(tmp_path / f"{name}.npy", array)
    give(page, *(tmp_path / f"{name}.npy" for name in given))
    show_loss(page)
    notes = page.get_by_role("list", name="Notes on the result")
    expect(notes).to_contain_text("weight of shape [6] goes along axis 1 of the inputs")
    expect(page.locator("#results [role=status]").first).to_contain_text("if axis 0 is meant")
    page.get_by_role("button", name="Remove weight.npy").click()
    show_loss(page)
    expect(notes).to_be_hidden()


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        ("pickled_targets.npy", "pickled Python objects", "np.save("),
        ("model.pt", "a PyTorch file", "torch.load("),
        ("empty_targets.npy", "is empty", "Save it again"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    page: Page, arrays: Arrays, watch: Watch, name: str, what: str, remedy: str
) -> None:
    page.wait_for_load_state("networkidle")
    watch.requests.clear()
    drop(page, "#score", arrays.path(name))
    expect(problem(page)).to_contain_text(name)
    expect(problem(page)).to_contain_text(what)
    expect(problem(page)).to_contain_text(remedy)
    assert watch.requests == []


def test_a_file_that_is_cut_short_is_named(page: Page, arrays: Arrays, tmp_path: Path) -> None:
    cut = tmp_path / "cut_logits.npy"
    cut.write_bytes(arrays.path("logits.npy").read_bytes()[:-100])
    drop(page, "#score", cut)
    expect(problem(page)).to_contain_text("cut_logits.npy")
    expect(problem(page)).to_contain_text("Save or copy it again")


def _keyed(visit: Visit, watch: Watch, server: LiveServer, key: str) -> Page:
    watch.allow("status of 401")
    page = visit(f"{server.url}/ui")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key", exact=True).fill(key)
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_have_count(0)
    return page


def test_what_is_too_large_is_refused_with_the_limit(
    visit: Visit, watch: Watch, strict_server: LiveServer, strict_key: str, arrays: Arrays
) -> None:
    watch.allow("status of 413")
    page = _keyed(visit, watch, strict_server, strict_key)
    give(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    page.get_by_role("button", name="Show the loss").click()
    expect(problem(page)).to_contain_text("the limit is 8000")
    expect(problem(page)).to_contain_text("body_too_large")


def test_a_team_that_has_used_its_rate_waits_and_can_stop_waiting(
    visit: Visit, watch: Watch, strict_server: LiveServer, strict_key: str, tmp_path: Path
) -> None:
    watch.allow("status of 429")
    np.save(tmp_path / "logits.npy", np.zeros((4, 2), np.float32))
    np.save(tmp_path / "targets.npy", np.zeros((4, 2), np.uint8))
    page = _keyed(visit, watch, strict_server, strict_key)
    give(page, tmp_path / "logits.npy", tmp_path / "targets.npy")
    button = page.get_by_role("button", name="Show the loss")
    button.click()
    sent = page.locator("#progress-text, .result-title").filter(visible=True)
    expect(sent.first).to_be_visible()
    expect(button).to_be_enabled()
    button.click()
    expect(page.locator("#progress-text")).to_contain_text(
        "Your team's limit is reached: it is sent again in"
    )
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#said")).to_have_text("Cancelled.")
    expect(button).to_be_enabled()


def test_a_server_that_is_gone_is_said_to_be_gone(
    visit: Visit, watch: Watch, arrays: Arrays, tmp_path: Path
) -> None:
    watch.allow("ERR_CONNECTION_REFUSED")
    with live_server(tmp_path) as server:
        page = visit(f"{server.url}/ui")
        give(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
        expect(page.get_by_role("button", name="Show the loss")).to_be_enabled()
    page.get_by_role("button", name="Show the loss").click()
    expect(problem(page)).to_contain_text("server")
    expect(problem(page)).to_contain_text("reach")
    expect(section(page, "totals")).to_have_count(0)
