"""Comparisons as JSON, Markdown, JUnit's XML, HTML and text."""

import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from client.comparison.reports import light, paired
from client.report.cases import random_case, wide_case
from client.report.documents import document
from lossd_client import Comparison, Report, compare

EVIL = ["<b>|rain|</b>", "`sun`_*[x](y)\n# no", "\x00é\ud800"]


def groups(names: list[str]) -> Comparison:
    """A comparison by weather, one of which has regressed and one is undecided."""
    case = wide_case(1)
    weather = [names[i % 3] for i in range(30)]
    case = replace(case, groups={"weather": weather}, base=case.v * 0.99)
    assert case.base is not None
    for row in range(30):
        case.base[row] *= (0.5 + row / 1000, 1.0, 1.005 + row / 10_000)[row % 3]
    case.base[1] *= 1.3
    return compare(paired(case), by="weather", max_regression="2%")


@pytest.fixture(name="found", scope="module")
def _found() -> Comparison:
    return groups(["rain", "sun", "é"])


def test_json(found: Comparison) -> None:
    made = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert made == found.to_dict()
    assert (made["schema"], made["verdict"]) == ("lossd.comparison/1", found.verdict)
    assert (made["loss"], made["pairing"], made["by"], made["clusters"]) == ("focal", "rows", ["weather"], [])
    assert (made["max_regression"], made["bound"], made["is_relative"]) == ("2%", 0.02, True)
    assert [each["id"] for each in made["groups"]] == [["rain"], ["sun"], ["é"]]
    assert {each["verdict"] for each in made["groups"]} == {"regressed", "undecided", "passed"}
    for each, change in zip(
        [made["whole"], *made["groups"]], [found.whole, *found.groups.values()], strict=True
    ):
        assert tuple(each["interval"]) == change.interval
        assert (each["difference"], each["rows"]) == (change.difference, change.rows)


def test_json_of_numbers_that_are_not_finite() -> None:
    case = wide_case(2, base=None, groups={"frame": [2**60 + i % 2 for i in range(30)]})
    case.v[0] = math.inf
    other = replace(light(case), v=wide_case(3).v)
    made = compare(Report(document(light(case))), Report(document(other)), by="frame").to_dict()
    assert (made["whole"]["new"], made["whole"]["stderr"]) == ("Infinity", "NaN")
    assert made["whole"]["interval"] == ["NaN", "NaN"]
    assert [each["id"] for each in made["groups"]] == [[str(2**60)], [str(2**60 + 1)]]
    json.dumps(made, allow_nan=False)


def test_text(found: Comparison) -> None:
    first, whole, basis, *rest = str(found).split("\n")
    assert first == "focal: regressed"
    assert whole.startswith("all rows: the mean loss is ")
    assert basis.startswith("(28 rows, paired by row, standard errors by row; ")
    assert [line.split(":")[0] for line in rest] == ["weather rain", "weather sun", "weather é"]
    assert "regressed, as all of it is above the bound, +2 %" in rest[0]
    assert "undecided, as it holds the bound, +2 %" in rest[1]
    assert "passed, as none of it is above the bound, +2 %" in rest[2]
    assert "98.3333 % interval" in rest[0]


def test_junit(found: Comparison) -> None:
    for strict, failures in (
        (False, ["weather rain"]),
        (True, ["all rows", "weather rain", "weather sun"]),
    ):
        suite = ElementTree.fromstring(found.to_junit(strict=strict).encode()).find("testsuite")
        assert suite is not None
        assert suite.get("name") == "lossd compare"
        assert (suite.get("tests"), suite.get("failures")) == ("4", str(len(failures)))
        cases = suite.findall("testcase")
        assert [case.get("name") for case in cases] == [
            "all rows",
            "weather rain",
            "weather sun",
            "weather é",
        ]
        failed = [case for case in cases if case.find("failure") is not None]
        assert [case.get("name") for case in failed] == failures
        undecided = {"all rows", "weather sun"}
        skipped = [case for case in cases if case.find("skipped") is not None]
        assert {case.get("name") for case in skipped} == (set() if strict else undecided)
        assert suite.get("skipped") == str(len(skipped))
        for case in skipped:
            assert "undecided, as it holds the bound" in case.find("skipped").get("message")  # type: ignore[union-attr, operator]
        for case in cases:
            if case not in failed and case not in skipped:
                assert "interval" in (case.findtext("system-out") or "")
        message = failed[0].find("failure")
        assert message is not None
        assert message.get("message") == message.text
        assert f"{message.get('type')}, as" in (message.text or "")


def test_markdown(found: Comparison) -> None:
    made = found.to_markdown()
    assert made.startswith("### focal: regressed\n\nThe mean loss is ")
    lines = [line for line in made.splitlines() if line.startswith("|")]
    assert len(lines) == 6
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split("|")[2].strip() for line in lines[3:]] == ["regressed", "undecided", "passed"]


def test_notes_are_everywhere() -> None:
    new, baseline = (Report(document(light(wide_case(seed, base=None)))) for seed in (4, 5))
    found = compare(new, baseline)
    assert len(found.notes) > 2
    for note in found.notes:
        assert f"- {note}" in found.to_markdown()
        assert f"note: {note}" in str(found)
        assert note in ElementTree.fromstring(found.to_junit().encode()).findtext("testsuite/system-out", "")
        assert f"<li>{note}</li>" in found._repr_html_()


def test_names_from_data_are_shown_as_they_are() -> None:
    found = groups(EVIL)
    lines = [line for line in found.to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 6
    assert "<b>" not in found.to_markdown()
    assert r"&lt;b&gt;\|rain\|&lt;/b&gt;" in lines[3]
    assert r"\`sun\`\_\*\[x\](y) # no" in found.to_markdown()
    names = [case.get("name") for case in ElementTree.fromstring(found.to_junit().encode()).iter("testcase")]
    assert "weather <b>|rain|</b>" in names
    assert "weather \ufffdé\ufffd" in names
    assert "<b>" not in found._repr_html_()
    assert "&lt;b&gt;|rain|" in found._repr_html_()


def test_many_groups_are_told_in_short() -> None:
    case = random_case(6, 240, 1, groups={"frame": [i // 2 for i in range(240)]})
    found = compare(paired(case), by="frame")
    assert len(found.groups) == 120
    assert f"And {len(found.groups) - 50} more groups: " in found.to_markdown()
    assert "and 110 more groups" in str(found)
    assert found.to_junit().count("<testcase ") == 121
