"""Two teams and an operator at one server: what each key shows, and that it is kept in memory alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from browser.conftest import TeamServer
from browser.visits import Visit, Watch
from lossd_client import LossClient
from teams_file import make_key

_STORED = """async () => ({
  local: Object.entries(localStorage), session: Object.entries(sessionStorage), cookie: document.cookie,
  databases: await indexedDB.databases(), caches: await caches.keys(), address: location.href,
  history: history.state, name: window.name, text: document.documentElement.outerHTML,
  fields: [...document.querySelectorAll("input, textarea")].map((each) => each.value),
})"""


@pytest.fixture
def keyed(visit: Visit, team_server: TeamServer, watch: Watch) -> Page:
    """The page of a server with teams, which asks for a key."""
    watch.allow("status of 401")
    page = visit(f"{team_server.url}/ui")
    expect(page.get_by_role("dialog")).to_be_visible()
    return page


def _give(page: Page, key: str) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key", exact=True).fill(key)
    dialog.get_by_role("button", name="Use this key").click()


def _use(server: TeamServer, key: str, requests: int) -> None:
    """Score 7 elements so many times."""
    with LossClient(server.url, api_key=key) as client:
        for _ in range(requests):
            client.bce(np.zeros(7), np.zeros(7))


def test_a_key_is_in_memory_alone(keyed: Page, team_server: TeamServer) -> None:
    _give(keyed, team_server.vision)
    expect(keyed.get_by_role("dialog")).to_have_count(0)
    secret = team_server.vision.split("_")[2]
    stored = keyed.evaluate(_STORED)
    assert secret not in json.dumps(stored)
    assert {name: stored[name] for name in ("local", "session", "cookie", "databases", "caches")} == {
        "local": [],
        "session": [],
        "cookie": "",
        "databases": [],
        "caches": [],
    }
    assert keyed.context.cookies() == []
    keyed.reload()
    expect(keyed.get_by_role("dialog")).to_be_visible()
    assert secret not in json.dumps(keyed.evaluate(_STORED))


def test_a_wrong_key_is_said_to_be_wrong_and_asked_for_again(keyed: Page, team_server: TeamServer) -> None:
    _give(keyed, make_key())
    dialog = keyed.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_contain_text("does not know this key")
    _give(keyed, team_server.vision)
    expect(dialog).to_have_count(0)
    keyed.get_by_role("tab", name="Usage").click()
    expect(keyed.locator("#usage")).to_contain_text("vision")


def test_no_key_is_needed_to_look_around(keyed: Page) -> None:
    keyed.keyboard.press("Escape")
    expect(keyed.get_by_role("dialog")).to_have_count(0)
    expect(keyed.get_by_role("tab", name="Loss")).to_be_visible()


def test_each_team_sees_its_own_usage(keyed: Page, team_server: TeamServer) -> None:
    _use(team_server, team_server.vision, 3)
    _use(team_server, team_server.speech, 11)
    _give(keyed, team_server.vision)
    keyed.get_by_role("tab", name="Usage").click()
    usage = keyed.locator("#usage")
    expect(usage).to_contain_text("vision")
    expect(usage).not_to_contain_text("speech")
    keyed.get_by_role("button", name="Forget key").click()
    expect(usage).not_to_contain_text("vision")
    keyed.get_by_role("button", name="Give a key").click()
    _give(keyed, team_server.speech)
    keyed.get_by_role("tab", name="Usage").click()
    expect(usage).to_contain_text("speech")
    expect(usage).not_to_contain_text("vision")


def test_an_operator_sees_all_teams_and_workers(keyed: Page, team_server: TeamServer) -> None:
    _give(keyed, team_server.operator)
    keyed.get_by_role("tab", name="Usage").click()
    usage = keyed.locator("#usage")
    for team in ("vision", "speech", "platform"):
        expect(usage).to_contain_text(team)
    expect(usage).to_contain_text(str(team_server.server.worker_pid()))
