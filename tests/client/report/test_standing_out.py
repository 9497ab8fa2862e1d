"""Which class, group and row the first words name: those that stand out, by scipy's and numpy's figures."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from client.report.pages import report_of
from lossd_client.report import Report
from lossd_client.report._drawing.html import report_fragment
from lossd_client.report._drawing.standing import classes_standing_out, groups_standing_out

Array = np.ndarray[Any, Any]


def report_on(x: Array, y: Array, **fields: Any) -> Report:  # noqa: ANN401
    given = {"sections": ("classes", "top"), "inputs": x, "targets": y, **fields}
    if "groups" in fields:
        given["sections"] = (*given["sections"], "groups")
    return report_of(**given)


def bce(x: Array, y: Array | float) -> Array:
    return np.asarray(np.logaddexp(0, x.astype(np.float64)) - y * x)


def lead(report: Report) -> str:
    [found] = re.findall(r'<p class="lossd-lead">(.*?)</p>', report_fragment(report), re.DOTALL)
    return unescape(re.sub(r"<.*?>", "", found))


def arrays(seed: int, rows: int, classes: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, classes)).astype(np.float32)
    return x, (rng.random((rows, classes)) < 0.2).astype(np.float32)


def test_of_chance_nothing_stands_out() -> None:
    runs, alarms = 60, {"class": 0, "group": 0}
    for seed in range(runs):
        x, y = arrays(seed, 40, 6)
        groups = np.random.default_rng(seed + 10_000).integers(0, 5, size=40)
        report = report_on(x, y, groups={"camera": groups})
        alarms["class"] += bool(classes_standing_out(report))
        alarms["group"] += bool(groups_standing_out(report, report.groups))
    assert max(alarms.values()) <= 0.05 * runs + 3 * math.sqrt(0.05 * 0.95 * runs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_classes_stand_out_by_the_spread_of_all(seed: int, weighted: bool) -> None:
    x, y = arrays(seed, 50, 6)
    x += np.linspace(0, 1.5, 6, dtype=np.float32)
    weight = np.random.default_rng(seed).random((50, 1)) if weighted else np.ones((50, 1))
    report = report_on(x, y, **({"weight": weight} if weighted else {}))
    losses = bce(x, y) * weight
    error = losses.std(ddof=1) * math.sqrt((1 - 1 / 6) / 50)
    bound = stats.t.ppf(1 - 0.025 / 6, 49) * error
    above = losses.mean(axis=0) - losses.mean()
    assert classes_standing_out(report) == np.flatnonzero(above > bound).tolist()


def test_classes_in_several_places_of_a_row_count_once() -> None:
    rng = np.random.default_rng(5)
    x = np.repeat(rng.normal(size=(12, 1, 3)), 40, axis=1).astype(np.float32)  # 40 copies in each row
    x[..., 2] += 0.6
    losses = bce(x, 0.0)
    [above] = [losses[..., 2].mean() - losses.mean()]
    error = losses.std(ddof=1) * math.sqrt(1 - 1 / 3)
    assert error / math.sqrt(480) * stats.t.ppf(1 - 0.025 / 3, 479) < above  # as if all were independent
    assert above < error / math.sqrt(12) * stats.t.ppf(1 - 0.025 / 3, 11)
    assert classes_standing_out(report_on(x, np.zeros_like(x))) == []


def test_a_group_stands_out_by_its_interval_for_all_groups_together() -> None:
    x, y = arrays(3, 90, 4)
    groups = np.arange(90) % 9
    for shift in (0.0, 0.3, 0.6, 0.9, 2.0):
        its = x + np.where(groups == 4, shift, 0.0)[:, None].astype(np.float32)
        report = report_on(its, y, groups={"camera": groups})
        rows = bce(its, y).mean(axis=1)
        out = []
        for group in range(9):
            each = rows[groups == group]
            half = stats.t.ppf(1 - 0.025 / 9, len(each) - 1) * each.std(ddof=1) / math.sqrt(len(each))
            out += [group] if each.mean() - half > rows.mean() else []
        assert sorted(each.id for each in groups_standing_out(report, report.groups)) == out
        ratio = rows[groups == 4].mean() / rows.mean()
        named = f"the worst camera is 4 ({rows[groups == 4].mean():.3g}, {ratio:.2g} times the mean, 10 rows)"
        assert (named in lead(report)) == (4 in out)
        assert ("no camera stands out" in lead(report)) == (out == [])
    assert out == [4]


def test_over_positives_the_class_of_the_greatest_share_is_named() -> None:
    x, y = arrays(8, 200, 5)
    y[:, 0] = 0
    y[7, 0] = 1  # one positive: the greatest mean, and little of the sum
    x[:, 0] -= 2
    x[:, 3] += 2
    losses = bce(x, y)
    report = report_on(x, y, params={"normalizer": "positives"})
    sums, positives = losses.sum(axis=0), y.sum(axis=0)
    assert (sums / positives).argmax() == 0
    assert sums.argmax() == 3
    share, mean = 100 * sums[3] / sums.sum(), sums[3] / positives[3]
    figures = f"{share:.3g} % of it, mean {mean:.3g}, {positives[3]:.0f} positives"
    assert f"The class of the greatest share of the sum is class 3 ({figures})" in lead(report)
    alike = report_on(*arrays(9, 200, 5), params={"normalizer": "positives"})
    assert "No class stands out" in lead(alike)


@pytest.mark.parametrize("row", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(30, 4), (30, 1), (30,)])
def test_the_worst_row_stands_beside_an_average_one(row: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(size=shape).astype(np.float32)
    x[5] += 6
    report = report_of(inputs=x, targets=np.zeros_like(x), sections=("top",), row=row)
    losses = bce(x, 0.0).reshape(30, -1)
    by_row = losses.sum(axis=1) if row == "sum" else losses.mean(axis=1)
    over = {"sum": " over its 4 elements", "mean": " on average over its 4 elements"}[row]
    over = over if shape == (30, 4) else ""
    said = f"row 5 ({by_row[5]:.3g}{over}, {by_row[5] / by_row.mean():.2g} times an average row)"
    assert f"The worst row is {said}." in lead(report)
    assert f"The loss of a row is the {row} of the losses of its elements (row={row})." in report_fragment(
        report
    )


@pytest.mark.parametrize(("top", "least"), [(20, ""), (5, "at least ")])
def test_rows_that_share_the_greatest_loss_are_counted(top: int, least: str) -> None:
    x = np.zeros((30, 1), dtype=np.float32)
    x[16:23] = 3
    report = report_of(inputs=x, targets=np.zeros_like(x), sections=("top",), top=top)
    losses = bce(x, 0.0)
    figures = f"{losses[16, 0]:.3g} ({losses[16, 0] / losses.mean():.2g} times an average row)"
    said = f"Row 16 and {least}{min(top, 7) - 1} others have the greatest loss, {figures}."
    assert said in lead(report)
    ids = [f"image-{row}" for row in range(30)]
    named = report_of(inputs=x, targets=np.zeros_like(x), sections=("top",), top=top, ids=ids)
    assert f"image-16 and {least}" in lead(named)


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        (
            lambda x: x - 0.5,
            r"Against the baseline it is worse by \S+ \(95 % interval of the difference \S+ to ",
        ),
        (lambda x: x + 0.5, r"Against the baseline it is better by \S+ \("),
        (
            lambda x: 1.01 * x[::-1],
            r"The mean is \S+ lower than the baseline's, but not surely: .+, holds 0\.",
        ),
        (lambda x: x, r"The mean is the baseline's\."),
    ],
)
def test_a_difference_from_the_baseline_is_as_sure_as_its_interval(
    baseline: Callable[[Array], Array], said: str
) -> None:
    x, _ = arrays(7, 50, 3)
    report = report_on(x, np.zeros_like(x), baseline=baseline(x), sections=("paired",))
    assert re.search(said, lead(report))


def test_of_rows_with_other_elements_nothing_is_said_that_is_not_known() -> None:
    x, y = arrays(2, 20, 4)
    mask = np.random.default_rng(2).random((20, 4)) < 0.7
    means = report_of(inputs=x, targets=y, mask=mask, sections=("top",), row="mean")
    losses = np.where(mask, bce(x, y), 0.0)
    worst = (losses.sum(axis=1) / mask.sum(axis=1)).max()
    assert f"({worst:.3g} on average over its elements)" in lead(means)
    sums = report_of(inputs=x, targets=y, mask=mask, sections=("top",))
    by_row = losses.sum(axis=1)
    assert f"({by_row.max():.3g} over its elements, {by_row.max() / by_row.mean():.2g} times" in lead(sums)
