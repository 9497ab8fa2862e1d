"""The operator's pages name only settings and metrics that exist, and have a section for each alert."""

from __future__ import annotations

import re

import yaml  # type: ignore[import-untyped]

from lossd.settings import Settings
from pages import ROOT, headings
from scripts.reference_tables import metrics

METRICS = (ROOT / "docs/reference/metrics.md").read_text()
RUNBOOKS = (ROOT / "docs/how-to/runbooks.md").read_text()


def test_no_other_metric_or_setting_is_named() -> None:
    families = set(re.findall(r"lossd_\w+", metrics()))
    pages = "".join(
        (ROOT / "docs" / name).read_text()
        for name in ("reference/metrics.md", "how-to/operating.md", "how-to/runbooks.md")
    )
    assert set(re.findall(r"\blossd_(?!client\b)[a-z_]+", pages)) <= families
    settings = {name.upper() for name in Settings.model_fields}
    for page in (METRICS, RUNBOOKS):
        assert set(re.findall(r"\bLOSSD_([A-Z_]+)", page)) <= settings


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


def test_runbooks_have_the_same_four_steps_and_are_short() -> None:
    _, *books = re.split(r"^## ", RUNBOOKS, flags=re.MULTILINE)
    for book in books:
        steps = re.findall(r"^(?:\d\. )?\*\*(\w+)\.\*\*", book, re.MULTILINE)
        assert steps == ["Symptom", "Look", "Do", "Verify"], book
    assert len(RUNBOOKS.split()) <= 1300
