"""A browser, servers and files for tests of the page; they are in the environment of `make browser` alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import pytest

from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from browser.arrays import Arrays
    from browser.visits import Visit, Watch

WAIT_MS: Final = 30_000
"""How long a test waits for the page: machines that do other work, too, are slow."""
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]


@dataclass(frozen=True, slots=True)
class TeamServer:
    """A server that two teams share, and the keys of each and of its operator."""

    server: LiveServer
    vision: str
    speech: str
    operator: str

    @property
    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, which can reach this machine alone."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: .ci/tools installs it")
    # Names lead nowhere: a page that needs another host shows it.
    words = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-background-networking"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=words)
        yield launched
        launched.close()


@pytest.fixture
def watch() -> Watch:
    """What goes wrong in this test's pages."""
    from browser.visits import Watch

    return Watch()


@pytest.fixture
def visit(browser: Browser, watch: Watch) -> Iterator[Visit]:
    """Open addresses, each in a context of its own; what goes wrong there fails the test."""
    contexts = []

    def open_page(address: str, **options: Any) -> Page:  # noqa: ANN401 # those of `new_context`
        context = browser.new_context(**options)
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        watch.follow(context)
        page: Page = context.new_page()
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    watch.check()


@pytest.fixture
def page(visit: Visit, server: LiveServer) -> Page:
    """The page of a server that asks for no key, as it is opened."""
    return visit(f"{server.url}/ui")


@pytest.fixture(scope="session")
def team_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    """A server with the teams `vision`, which has limits, and `speech`, and with an operator."""
    folder = tmp_path_factory.mktemp("teams")
    vision, speech, operator = make_key(), make_key(), make_key()
    write_teams(
        folder / "teams.toml",
        team_table("vision", vision, limits={"requests_per_second": 1000, "elements_per_second": 1e9}),
        team_table("speech", speech, weight=2),
        team_table("platform", operator).replace("weight", "operator = true\nweight", 1),
    )
    with live_server(folder, teams=folder / "teams.toml") as server:
        server.key = operator
        yield TeamServer(server, vision, speech, operator)


@pytest.fixture(scope="session")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """Arrays on disk."""
    from browser.arrays import make_arrays

    return make_arrays(tmp_path_factory.mktemp("arrays"))
