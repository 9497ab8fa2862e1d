from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator

import certifi
import pytest
from hypothesis import settings

from live_server import LiveServer, live_server

# Started in the background of a script, the tests and all that they start would be deaf to Ctrl-C; started by
# nohup, to a closed terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The machines that run this are shared: a slow example says nothing about the code.
# CI draws the same examples each time, so that it judges the change; elsewhere they are new ones.
settings.register_profile("lossd", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.register_profile("quick", settings.get_profile("lossd"), max_examples=20)
settings.load_profile("lossd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a running server as slow."""
    for item in items:
        if isinstance(item, pytest.Function) and {"server", "base_url"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def few_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trust one of the web's authorities: to read all of them takes each httpx client 20 ms of a core.

    Who names a server has their own trusted.
    """
    with pytest.MonkeyPatch.context() as patch:
        if "LOSSD_TEST_URL" not in os.environ:
            path, end = tmp_path_factory.mktemp("trusted") / "one.pem", "-----END CERTIFICATE-----\n"
            path.write_text(certifi.contents().partition(end)[0] + end)
            patch.setenv("SSL_CERT_FILE", str(path))
            patch.delenv("SSL_CERT_DIR", raising=False)
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of this checkout."""
    with live_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def base_url(request: pytest.FixtureRequest) -> str:
    """The server under contract: LOSSD_TEST_URL, else one started for the tests."""
    given = os.environ.get("LOSSD_TEST_URL")
    if given:
        return given.rstrip("/")
    running: LiveServer = request.getfixturevalue("server")
    return running.url


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Notes a figure, shown at the end."""
    return lambda figure: record_property("figure", figure)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the thousands of collected tests, which stay until the end."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows the figures: from what tests report, for another process may have run them."""
    ran = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    noted = [
        (report.nodeid, text) for report in ran for name, text in report.user_properties if name == "figure"
    ]
    if noted:
        terminalreporter.section("figures")
        for test, figure in noted:
            terminalreporter.line(f"{test.rpartition('::')[2]}: {figure}")
