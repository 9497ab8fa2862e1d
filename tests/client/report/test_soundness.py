"""Documents whose figures contradict each other are refused."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.report.arrays import Document
from client.report.cases import random_case
from client.report.documents import document
from lossd_client import Report

ROWS = 30
Damage = Callable[[Document], Any]

DAMAGED: dict[str, tuple[Damage, str]] = {
    "negative": (lambda d: d["totals"].update(rows=-1), r"totals\.rows has -1, and must count"),
    "a bool": (lambda d: d["totals"].update(dropped=False), r"totals\.dropped has False"),
    "a part": (lambda d: d["totals"].update(count=1.5), r"totals\.count has 1\.5"),
    "text": (lambda d: d["totals"].update(elements="90"), r"totals\.elements has '90'"),
    "of a group": (lambda d: d["groups"]["count"].__setitem__(0, True), r"groups\.count has True"),
    "of a class": (lambda d: d["classes"]["count"].__setitem__(0, -3), r"classes\.count has -3"),
    "signs": (lambda d: d["paired"]["rows"].update(worse=0.5), r"paired\.rows\.worse has 0\.5"),
    "sum": (
        lambda d: d["totals"].update(sum=1.0),
        r"totals\.sum is 1\.0, and the first of totals\.sum_terms",
    ),
    "weights": (lambda d: d["totals"].update(weight_sum=1.0), r"totals\.weight_sum is 1\.0, and the first"),
    "positives": (lambda d: d["totals"].update(positives=True), r"totals\.positives is True"),
    "params": (lambda d: d["totals"].update(params="a"), r"totals\.params is no JSON object"),
    "no list": (lambda d: d["groups"].update(rows=30), r"groups\.rows is no list"),
    "terms": (lambda d: d["totals"]["sum_terms"].clear(), r"first of totals\.sum_terms is None"),
    "normalizer": (
        lambda d: d["totals"]["params"].update(normalizer="rows"),
        r"normalizer is 'rows', and must be",
    ),
    "a normalizer of 0": (
        lambda d: d["totals"]["params"].update(normalizer=0),
        r"normalizer is 0, and must be",
    ),
    "groups": (
        lambda d: d["groups"]["rows"].__setitem__(0, 7),
        r"the groups' rows add up to \d+, and totals\.rows is 30",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_figures_that_contradict_each_other(name: str) -> None:
    damage, message = DAMAGED[name]
    made = document(random_case(3, ROWS, groups={"night": [0, 1, 2] * 10}))
    assert Report(made).rows == ROWS
    damage(made)
    with pytest.raises(ValueError, match=message):
        Report(made)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    made = document(random_case(3, ROWS))
    made["totals"]["count"] = 91.5
    (tmp_path / "run.json").write_text(json.dumps(made))
    with pytest.raises(ValueError, match=r"run\.json is no report, or damaged: totals\.count has 91\.5"):
        Report.load(tmp_path / "run.json")


@pytest.mark.slow
@pytest.mark.alone
def test_262144_groups_are_looked_at_in_a_fraction_of_a_second() -> None:
    from lossd_client.report._soundness import refuse_contradictions

    made = document(random_case(3, ROWS, groups={"night": list(range(ROWS))}))
    for name in ("rows", "rows_dropped", "elements", "dropped", "count", "nan", "infinite"):
        made["groups"][name] = [1] * 262_144
        made["totals"][name] = 262_144
    began = time.process_time()
    refuse_contradictions(made)
    assert time.process_time() - began < 1
