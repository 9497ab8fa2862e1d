"""The second tab: a team's usage by day and its limits; for an operator all teams, workers and the queue."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from browser.visits import Visit, Watch, barriers, overflow, until
from live_server import LiveServer, live_server
from lossd.engine.usage_store import open_store
from teams_file import make_key, team_table, write_teams

REFRESH_SECONDS = 5
LIMITS = {"requests_per_second": 50, "requests_in_flight": 4, "bytes_in_flight": 1 << 30}
TODAY = datetime.now(UTC).date()
REQUESTS = {"vision": {0: 1000, 3: 2500, 40: 7000}, "speech": {1: 30_000}}
"""By team: requests, by how many days ago they were. Each has 10 elements and 100 bytes, and takes 2 ms."""


@dataclass(frozen=True)
class Used:
    """A server that teams have used, and their keys."""

    server: LiveServer
    keys: dict[str, str]


def day(back: int) -> date:
    return TODAY - timedelta(days=back)


def use(place: Path) -> None:
    store = open_store(place)
    store.add(
        {
            (day(back).isoformat(), team): {
                "requests": requests,
                "elements": 10 * requests,
                "bytes": 100 * requests,
                "device_seconds": 0.002 * requests,
            }
            for team, days in REQUESTS.items()
            for back, requests in days.items()
        }
    )
    store.close()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    folder = tmp_path_factory.mktemp("used")
    keys = {team: make_key() for team in ("platform", "vision", "speech", "retired")}
    write_teams(
        folder / "teams.toml",
        team_table("platform", keys["platform"]).replace("weight", "operator = true\nweight", 1),
        team_table("vision", keys["vision"], weight=2.5, limits=LIMITS),
        team_table("speech", keys["speech"]),
        team_table("retired", keys["retired"], disabled=True),
    )
    use(folder / "usage.sqlite3")
    with live_server(folder, teams=folder / "teams.toml", front_ends=2, upload_grace_seconds=60) as server:
        server.key = keys["platform"]
        yield Used(server, keys)


def open_usage(visit: Visit, watch: Watch, url: str, key: str | None = None) -> Page:
    """Open the second tab, with a key if one is asked for."""
    if key is not None:
        watch.allow("status of 401")
    page = visit(f"{url}/ui")
    if key is not None:
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Key", exact=True).fill(key)
        dialog.get_by_role("button", name="Use this key").click()
        expect(dialog).to_have_count(0)
    page.get_by_role("tab", name="Usage").click()
    return page


def rows(page: Page, table: str) -> list[list[str]]:
    """The texts of a table's cells."""
    found = page.get_by_role("region", name=table, exact=True).locator("tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in found]


def begin_upload(used: Used, team: str) -> socket.socket:
    """Send the head of a request, and nothing of its body."""
    url = httpx.URL(used.server.url)
    connection = socket.create_connection((url.host, url.port or 80))
    head = f"POST /bce HTTP/1.1\r\nHost: x\r\nX-API-Key: {used.keys[team]}\r\n"
    head += "Content-Type: application/x-npy\r\nContent-Length: 100000000\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def test_a_team_sees_its_days_and_limits_and_nothing_of_others(
    visit: Visit, watch: Watch, used: Used
) -> None:
    page = open_usage(visit, watch, used.server.url, used.keys["vision"])
    expect(page.get_by_role("heading", name="Team vision")).to_be_visible()
    assert rows(page, "Totals") == [
        ["Today", "1,000", "10,000", "100 kB", "2.0"],
        ["30 days", "3,500", "35,000", "350 kB", "7.0"],
    ]
    assert rows(page, "Usage by day") == [
        [f"{day(0)}", "1,000", "10,000", "100 kB", "2.0"],
        [f"{day(3)}", "2,500", "25,000", "250 kB", "5.0"],
    ]
    limits = page.locator(".usage-team .usage-limits li").all_inner_texts()
    assert [text.replace("\n\n", "\n") for text in limits] == [
        "Requests in flight\n0 of 4",
        "Bytes in flight\n0 bytes of 1.07 GB",
        "Requests a second\nat most 50",
        "Elements a second\nno limit",
    ]
    expect(page.locator(".usage-team")).to_contain_text("Its weight is 2.5")
    for other in ("speech", "platform", "retired", str(used.server.worker_pid())):
        assert other not in page.content()
    assert not [request for request in watch.requests if "/overview" in request]


def test_the_picture_has_every_day_and_the_figure_that_is_chosen(
    visit: Visit, watch: Watch, used: Used
) -> None:
    page = open_usage(visit, watch, used.server.url, used.keys["vision"])
    bars = page.locator("svg.usage-bars g")
    expect(bars).to_have_count(30)
    heights = [
        float(bar.get_attribute("height") or "nan")
        for bar in page.locator("svg.usage-bars rect:not(.usage-room)").all()
    ]
    assert heights == [0.0] * 26 + [100.0, 0.0, 0.0, 40.0]
    assert bars.nth(26).locator("title").text_content() == f"{day(3)}: 2,500 requests"
    expect(page.get_by_role("img")).to_have_accessible_name(
        f"Requests by day. Most: 2,500, on {day(3)}. The table below has every day."
    )
    page.get_by_label("By day:").select_option("Bytes")
    assert bars.nth(29).locator("title").text_content() == f"{day(0)}: 100 kB bytes"
    page.get_by_label("The last").select_option("90 days")
    expect(bars).to_have_count(90)
    assert rows(page, "Totals")[1] == ["90 days", "10,500", "105,000", "1.05 MB", "21.0"]


def test_what_is_in_flight_comes_by_itself_while_the_tab_is_seen(
    visit: Visit, watch: Watch, used: Used
) -> None:
    page = open_usage(visit, watch, used.server.url, used.keys["vision"])
    in_flight = page.locator(".usage-team .usage-limits li").first
    expect(in_flight).to_contain_text("0 of 4")
    with begin_upload(used, "vision"), begin_upload(used, "vision"):
        expect(in_flight).to_contain_text("2 of 4", timeout=3000 * REFRESH_SECONDS)
        assert in_flight.locator("rect").get_attribute("width") == "50"
    page.get_by_role("button", name="Refresh").click()
    expect(in_flight).to_contain_text("0 of 4", timeout=3000 * REFRESH_SECONDS)
    page.get_by_role("tab", name="Loss").click()
    _is_silent(page, watch)
    page.get_by_role("tab", name="Usage").click()
    expect(page.get_by_text("renewed every 5 s")).to_be_visible()
    page.evaluate(
        "Object.defineProperty(document, 'visibilityState', { get: () => window.state, configurable: true })"
    )
    page.evaluate("window.state = 'hidden'; document.dispatchEvent(new Event('visibilitychange'))")
    _is_silent(page, watch)
    asked = len(watch.requests)
    page.evaluate("window.state = 'visible'; document.dispatchEvent(new Event('visibilitychange'))")
    until(page, lambda: len(watch.requests) > asked)


def _is_silent(page: Page, watch: Watch) -> None:
    page.wait_for_timeout(500)  # for what was under way
    asked = len(watch.requests)
    page.wait_for_timeout(1000 * (REFRESH_SECONDS + 1))
    assert watch.requests[asked:] == []


def test_an_operator_sees_all_teams_workers_and_the_queue(visit: Visit, watch: Watch, used: Used) -> None:
    page = open_usage(visit, watch, used.server.url, used.keys["platform"])
    expect(page.get_by_role("heading", name="Team platform")).to_be_visible()
    assert rows(page, "Teams") == [
        ["platform", "operator", "0", "0", "1", "0", "0", "0 bytes", "0.0"],
        ["vision", "active", "0 of 4", "0", "2.5", "3,500", "35,000", "350 kB", "7.0"],
        ["speech", "active", "0", "0", "1", "30,000", "300,000", "3.00 MB", "60.0"],
        ["retired", "disabled", "0", "0", "1", "0", "0", "0 bytes", "0.0"],
    ]
    assert rows(page, "Workers") == [[f"process {used.server.worker_pid()}", "cpu", "ready", "0"]]
    server = page.get_by_role("region", name="The server", exact=True)
    with begin_upload(used, "speech"):
        queue = server.locator(".usage-server li").first
        expect(queue).to_contain_text("Requests in flight1", timeout=3000 * REFRESH_SECONDS)
        expect(server).to_contain_text("100 MB of")  # the memory that its body has
    page.get_by_role("button", name="speech").click()
    expect(page.get_by_role("heading", name="Team speech")).to_be_focused()
    assert rows(page, "Usage by day") == [[f"{day(1)}", "30,000", "300,000", "3.00 MB", "60.0"]]
    assert barriers(page) == []


def test_what_is_sorted_and_has_the_focus_stays_so(visit: Visit, watch: Watch, used: Used) -> None:
    page = open_usage(visit, watch, used.server.url, used.keys["platform"])
    teams = page.get_by_role("region", name="Teams", exact=True)
    teams.get_by_role("button", name="Requests").click()
    expect(teams.get_by_role("columnheader", name="Requests")).to_have_attribute("aria-sort", "descending")
    assert [row[0] for row in rows(page, "Teams")][:2] == ["speech", "vision"]
    name = teams.get_by_role("button", name="vision")
    name.focus()
    with begin_upload(used, "vision"):
        expect(teams).to_contain_text("1 of 4", timeout=3000 * REFRESH_SECONDS)
    expect(name).to_be_focused()
    assert [row[0] for row in rows(page, "Teams")][:2] == ["speech", "vision"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 2560])
def test_it_fits_and_has_no_barriers(visit: Visit, watch: Watch, used: Used, width: int, scheme: str) -> None:
    def sized(address: str) -> Page:
        return visit(address, viewport={"width": width, "height": 800}, color_scheme=scheme)

    page = open_usage(sized, watch, used.server.url, used.keys["platform"])
    expect(page.get_by_role("heading", name="Team platform")).to_be_visible()
    assert overflow(page) == []
    assert barriers(page) == []


def test_a_server_without_teams_shows_all_to_anybody(visit: Visit, watch: Watch, tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        page = open_usage(visit, watch, server.url)
        expect(page.get_by_role("heading", name="Team default")).to_be_visible()
        assert rows(page, "Teams")[0][:5] == ["default", "operator", "0", "0", "1"]
        assert rows(page, "Workers") == [[f"process {server.worker_pid()}", "cpu", "ready", "0"]]
        expect(page.get_by_text("None in these days")).to_be_visible()
        assert barriers(page) == []
        server.stop()
        watch.allow("ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET")
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_text("These are older figures")).to_be_visible()
        expect(page.get_by_role("heading", name="Team default")).to_be_visible()


def test_a_server_that_keeps_no_usage_says_so_once(visit: Visit, watch: Watch, tmp_path: Path) -> None:
    vision, operator = make_key(), make_key()
    write_teams(
        tmp_path / "teams.toml",
        team_table("vision", vision),
        team_table("platform", operator).replace("weight", "operator = true\nweight", 1),
    )
    watch.allow("status of 40[34]")
    with live_server(tmp_path, teams=tmp_path / "teams.toml", usage_file="") as server:
        page = open_usage(visit, watch, server.url, vision)
        expect(page.get_by_role("alert")).to_contain_text("keeps no usage")
        _is_silent(page, watch)
        page = open_usage(visit, watch, server.url, operator)
        expect(page.locator(".usage-team")).to_contain_text("keeps no usage")
        assert [row[0] for row in rows(page, "Teams")] == ["vision", "platform"]
        expect(page.get_by_role("region", name="Totals")).to_have_count(0)


_LOOK = """(button) => [button, button.closest("th")].map((each) => {
  const { font, color, backgroundColor, padding, margin, border, borderRadius } = getComputedStyle(each);
  const { content, color: arrow } = getComputedStyle(each, "::after");
  return { font, color, backgroundColor, padding, margin, border, borderRadius, content, arrow };
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_headers_look_like_those_of_reports(used: Used, visit: Visit, watch: Watch, scheme: str) -> None:
    def themed(url: str) -> Page:
        return visit(url, color_scheme=scheme)

    page = open_usage(themed, watch, used.server.url, used.keys["platform"])
    teams = page.get_by_role("region", name="Teams", exact=True)
    expect(teams.locator("thead button").first).to_be_visible()
    shown = [teams.locator("thead button").nth(column).evaluate(_LOOK) for column in (0, 4)]
    page.get_by_role("tab", name="Loss").click()
    page.get_by_role("button", name="Try an example").click()
    classes = page.locator('[data-section="classes"] table.lossd-sortable').first
    expect(classes).to_be_visible()
    assert shown == [classes.locator("thead button").nth(column).evaluate(_LOOK) for column in (0, 1)]
