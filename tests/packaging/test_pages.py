"""The operator's pages: every setting and every metric is there, as it is, and nothing that is not."""

from __future__ import annotations

import re

import pytest
import yaml  # type: ignore[import-untyped]

from exposition import exposed
from live_server import LiveServer
from lossd.cli.serve import serve
from lossd.settings import Settings, default_usage_file
from pages import ROOT, headings

METRICS = (ROOT / "docs/metrics.md").read_text()
SERIES = ("_bucket", "_count", "_sum")


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of a page's tables that begin with code."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]


def as_written(name: str, value: object) -> str:
    """A default as the page writes it."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, int) and "bytes" in name:
        unit, size = next((unit, size) for unit, size in SIZES if value % size == 0)
        return f"{value // size} {unit}"
    return f"{value:g}" if isinstance(value, float) else str(value)


SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("bytes", 1))


def test_the_page_has_every_setting_once_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LOSSD_{name.upper()}", raising=False)
    settings = Settings(arena_bytes=2 << 30)
    defaults = {name: as_written(name, getattr(settings, name)) for name in Settings.model_fields}
    defaults["arena_bytes"] += " a front end"
    defaults["threads"] = "all cores"
    usage_file = default_usage_file()
    assert usage_file is not None
    assert usage_file.parts[-2:] == ("lossd", "usage.sqlite3")
    defaults["usage_file"] = "~/.local/state/lossd/usage.sqlite3"
    written = [(cells[0], cells[1]) for cells in rows((ROOT / "docs/settings.md").read_text())]
    named = [(re.findall(r"`LOSSD_(\w+)`", variable)[0].lower(), default) for variable, default in written]
    assert sorted(named) == sorted(defaults.items())


def test_the_page_has_every_option_of_the_command() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    options = {name for name in serve.__annotations__ if name != "return"}
    assert {name.replace("-", "_") for name in re.findall(r"`LOSSD_\w+`, `--([\w-]+)`", page)} == options


@pytest.fixture(scope="module")
def families(server: LiveServer) -> dict[str, set[str]]:
    """The metrics and their labels, a histogram by its own name alone."""
    found = exposed(server.url)
    parts = {name + series for name in found for series in SERIES}
    return {name: labels for name, labels in found.items() if name not in parts}


def test_the_page_has_every_metric_with_its_labels(families: dict[str, set[str]]) -> None:
    written = {
        name.strip("`"): set(filter(None, labels.split(", ")))
        for name, labels, *_ in rows(METRICS)
        if name.startswith("`lossd_")
    }
    assert written == families


def test_no_other_metric_or_setting_is_named(families: dict[str, set[str]]) -> None:
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("metrics.md", "operating.md"))
    assert set(re.findall(r"\blossd_(?!client\b)[a-z_]+", pages)) <= set(families)
    settings = {name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"\bLOSSD_([A-Z_]+)", METRICS)) - {"METRICS_KEY_FILE"} <= settings


def test_every_alert_says_what_to_do_and_nothing_else_is_said() -> None:
    groups = yaml.safe_load((ROOT / "deploy/lossd.rules.yml").read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert anchor == alert["alert"].lower()
        assert anchor in headings((ROOT / page).read_text())
        section = METRICS.partition(f"### {alert['alert']}\n")[2].partition("\n#")[0]
        assert section.strip().startswith(f"*{alert['labels']['severity']}: ")
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert re.findall(r"^### (Lossd\w+)$", METRICS, re.MULTILINE) == [alert["alert"] for alert in alerts]
