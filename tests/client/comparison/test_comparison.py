"""Differences, relative changes, their standard errors and intervals against plain fractions and scipy."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped] # it has no types

from client.comparison.reports import apart, light, paired
from client.report.arrays import Array, Case
from client.report.cases import random_case, wide_case
from client.report.documents import document
from client.report.test_figures import (
    NORMALIZERS,
    by_row,
    divisor,
    expected_stderr,
    jackknife_stderr,
    ratio_stderr,
)
from lossd_client import Comparison, LossClient, Report, compare
from lossd_client.testing import FakeTransport

FEW = "Intervals from fewer than 30 clusters may be too narrow, and there are 7."


def half(comparison: Comparison) -> tuple[float, float]:
    """Half of the lengths of both intervals."""
    change = comparison.whole
    (low, high), (least, most) = change.interval, change.relative_interval
    assert (low + high) / 2 == pytest.approx(change.difference, rel=1e-9)
    assert (least + most) / 2 == pytest.approx(change.relative, rel=1e-9)
    return (high - low) / 2, (most - least) / 2


def clustered(case: Case, numbers: Array, clusters: Sequence[Sequence[int]]) -> list[float]:
    kept = case.is_kept
    return [math.fsum(numbers[rows][kept[rows]]) for rows in map(list, clusters)]


def clusters_of(keys: Sequence[Any]) -> list[list[int]]:
    return [[row for row, its in enumerate(keys) if its == key] for key in sorted(set(keys))]


@pytest.mark.parametrize("row", ["sum", "mean"])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_paired_by_row(normalizer: str | float, row: str) -> None:
    case = wide_case(1, params={"normalizer": normalizer}, row=row)
    report = paired(case)
    found = compare(report)
    change = found.whole
    kept = case.is_kept
    assert case.base is not None
    total = math.fsum([*case.v[kept], *-case.base[kept]])
    assert (change.new, change.baseline) == (report.mean, math.fsum(case.base[kept]) / divisor(case))
    assert change.difference == total / divisor(case)
    assert change.relative == pytest.approx(total / math.fsum(case.base[kept]), rel=1e-15)
    d = (np.array(by_row(case, case.v)) - np.array(by_row(case, case.base))).tolist()
    relative = ratio_stderr(d, by_row(case, case.base))
    assert change.stderr == pytest.approx(expected_stderr(case, case.v - case.base), rel=1e-12)
    assert change.relative_stderr == pytest.approx(relative, rel=1e-13)
    t = stats.t.ppf(0.975, len(d) - 1)
    assert half(found) == pytest.approx((t * change.stderr, t * relative), rel=1e-9)
    assert (found.pairing, found.by, found.clusters, found.notes) == ("rows", (), (), ())
    rows = report.paired.rows
    assert (change.rows, change.clusters) == (len(d), None)
    assert (change.better, change.worse, change.equal) == (rows.better, rows.worse, rows.equal)
    assert (found.loss_name, found.params["normalizer"]) == ("focal", normalizer)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("in_one_request", [True, False])
def test_paired_by_cluster(normalizer: str | float, in_one_request: bool) -> None:
    cameras = [i % 7 for i in range(30)]
    case = wide_case(2, params={"normalizer": normalizer}, groups={"camera": cameras, "odd": [0, 1] * 15})
    reports = (paired(case),) if in_one_request else apart(case)
    found = compare(*reports, clusters="camera", confidence=0.9)
    change = found.whole
    clusters = clusters_of(cameras)
    assert case.base is not None
    d = clustered(case, case.v - case.base, clusters)
    shares = [math.fsum(case.shares[rows][case.is_kept[rows].any(axis=1)]) for rows in clusters]
    stderr = jackknife_stderr(d, shares, least=normalizer == "positives")
    if not isinstance(normalizer, str):
        stderr *= sum(shares) / normalizer
    relative = jackknife_stderr(d, clustered(case, case.base, clusters))
    assert (change.stderr, change.relative_stderr) == pytest.approx((stderr, relative), rel=1e-12)
    t = stats.t.ppf(0.95, 6)
    assert half(found) == pytest.approx((t * stderr, t * relative), rel=1e-9)
    assert (change.clusters, change.rows, found.clusters) == (7, len(by_row(case, case.v)), ("camera",))
    whole = compare(paired(case)).whole
    assert (change.difference, change.relative) == (whole.difference, whole.relative)
    assert found.pairing == ("rows" if in_one_request else "clusters")
    if in_one_request:
        assert (change.better, found.notes) == (whole.better, (FEW,))
    else:
        assert change.better is change.worse is change.equal is None
        assert found.notes == (
            "Paired by cluster and not by row: the new report has no section paired.",
            FEW,
        )
        assert change.interval == compare(paired(case), clusters="camera", confidence=0.9).whole.interval


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("in_one_request", [True, False])
def test_groups_of_clusters_are_comparisons_of_their_rows(
    normalizer: str | float, in_one_request: bool
) -> None:
    """Cells are by both names; a cluster that is in several groups is one in the whole."""
    case = wide_case(3, params={"normalizer": normalizer})
    reports = (paired(case),) if in_one_request else apart(case)
    found = compare(*reports, by="weather", clusters="camera")
    assert list(found.groups) == ["rain", "sun", "é"]
    level = 1 - 0.05 / 3
    for weather, change in found.groups.items():
        part = case.cut([row for row, its in enumerate(case.groups["weather"]) if its == weather])
        alone = compare(*((paired(part),) if in_one_request else apart(part)), clusters="camera")
        assert (
            change
            == compare(
                *((paired(part),) if in_one_request else apart(part)), clusters="camera", confidence=level
            ).whole
        )
        assert change.interval[0] < alone.whole.interval[0] < alone.whole.interval[1] < change.interval[1]
    assert found.whole == compare(*reports, clusters="camera").whole
    by_row = compare(paired(case), by=["weather"])
    assert by_row.groups["sun"].clusters is None
    assert by_row.groups["sun"].stderr == paired(case).groups.by("weather")["sun"].paired.stderr


def test_groups_of_several_names_have_tuples_as_ids() -> None:
    case = wide_case(4, base=None)
    other = light(wide_case(5, base=None))
    found = compare(Report(document(light(case))), Report(document(other)), by=("weather", "camera"))
    keys = {*zip(case.groups["weather"], case.groups["camera"], strict=True)}
    others = {*zip(other.groups["weather"], other.groups["camera"], strict=True)}
    assert list(found.groups) == sorted(keys | others)
    assert len({change.confidence for change in found.groups.values()}) == 1
    lone = next(iter(others - keys))
    assert (found.groups[lone].verdict, found.groups[lone].rows) == ("undecided", 0)
    assert found.groups[lone].reason == "nothing was scored here in the new report"
    assert found.verdict != "passed"


def test_unpaired_by_row_is_welchs_test() -> None:
    rng = np.random.default_rng(6)
    new, other = rng.exponential(1.1, 40), rng.exponential(1.0, 90)
    reports = [
        Report(document(light(random_case(6, len(v), 1, v=v[:, None], base=None)))) for v in (new, other)
    ]
    found = compare(*reports, confidence=0.9)
    test = stats.ttest_ind(new, other, equal_var=False)
    change = found.whole
    assert change.difference == pytest.approx(new.mean() - other.mean(), rel=1e-12)
    assert change.difference / change.stderr == pytest.approx(test.statistic, rel=1e-12)
    t = stats.t.ppf(0.95, math.floor(test.df))
    variances = [(v.var(ddof=1) / len(v), len(v) - 1) for v in (new, other)]
    relative = math.sqrt(variances[0][0] + (new.mean() / other.mean()) ** 2 * variances[1][0]) / other.mean()
    assert change.relative_stderr == pytest.approx(relative, rel=1e-12)
    assert half(found)[0] == pytest.approx(t * change.stderr, rel=1e-9)
    assert (found.pairing, change.better, change.rows) == ("none", None, 40)
    assert "Not paired: the new report has no section paired, and no clusters are named." in found.notes
    assert "wider than it need be: score both models in one request" in " ".join(found.notes)


def test_unpaired_by_cluster() -> None:
    reports = [
        Report(document(light(wide_case(seed, base=None, groups={"night": [i % n for i in range(30)]}))))
        for seed, n in ((7, 5), (8, 6))
    ]
    found = compare(*reports, clusters="night")
    stderrs = [report.groups.stderr for report in reports]
    assert found.whole.stderr == pytest.approx(math.hypot(*stderrs), rel=1e-14)
    assert (found.pairing, found.whole.clusters) == ("none", 5)
    assert "the group 5 by night is in the baseline and not in the new report" in " ".join(found.notes)


@pytest.mark.parametrize("name", ["v", "y"])
def test_groups_pair_only_if_all_but_the_losses_is_the_same(name: str) -> None:
    case = wide_case(9, base=None, groups={"camera": [i % 5 for i in range(30)]})
    changed = getattr(case, name).copy()
    changed[4, 1] = 1.0 - changed[4, 1]
    case.kept[4] = True  # type: ignore[index] # there is one
    found = compare(
        Report(document(light(case))),
        Report(document(light(replace(case, **{name: changed})))),
        clusters="camera",
    )
    assert found.pairing == ("clusters" if name == "v" else "none")
    wanted = {"y": "the positives of the group", "v": "no section paired"}[name]
    assert wanted in " ".join(found.notes)


def test_a_baseline_beside_the_section_paired_must_be_the_same() -> None:
    case = wide_case(10)
    report, (_, baseline) = paired(case), apart(case)
    assert compare(report, baseline) == compare(report)
    assert case.base is not None
    other = Report(document(light(replace(case, v=case.base * 2, base=None))))
    found = compare(report, other)
    assert found.pairing == "none"
    assert "the new report's section paired is of another baseline, whose sum is" in found.notes[0]
    assert compare(report, other, clusters="camera").pairing == "clusters"


def test_reports_of_a_client() -> None:
    rng = np.random.default_rng(14)
    x, y = rng.normal(size=(60, 4)), (rng.random((60, 4)) < 0.3).astype(float)
    other = x + rng.normal(size=x.shape)
    ids = {"camera": rng.choice(["front", "rear"], 60), "scene": np.arange(60) // 6}
    with LossClient(transport=FakeTransport) as client:
        together = client.report("focal", x, y, groups=ids, baseline=other)
        new, baseline = (client.report("focal", each, y, groups=ids) for each in (x, other))
    assert compare(together, baseline).pairing == compare(together).pairing == "rows"
    by_row, by_scene = (compare(together, by="camera", clusters=each) for each in ((), "scene"))
    assert by_row.whole.difference == by_scene.whole.difference == pytest.approx(new.mean - baseline.mean)
    assert by_row.whole.stderr == together.paired.stderr
    assert by_scene.whole.stderr == together.groups.by("scene").paired_stderr
    assert compare(new, baseline, clusters="scene").whole.stderr == pytest.approx(by_scene.whole.stderr)


def test_two_paths(tmp_path: Path) -> None:
    case = wide_case(11)
    new, baseline = str(tmp_path / "new.json"), tmp_path / "baseline.json.gz"
    assert case.base is not None
    Report(document(replace(case, base=None))).save(new)
    Report(document(replace(case, v=case.base, base=None))).save(baseline)
    found = compare(new, baseline, clusters="camera")
    assert found.whole == compare(*apart(case), clusters="camera").whole
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no\.json is no report"):
        compare(tmp_path / "no.json")


def test_the_baselines_noise_counts() -> None:
    """An older report does not say how it varies, and that is said."""
    case = random_case(12, rows=200)
    assert case.base is not None
    case.v = 1.5 * case.base
    made = document(light(case))
    assert compare(Report(made), max_regression="1%").whole.relative_stderr < 1e-9
    for name in ("baseline_squares_terms", "baseline_products_terms"):
        del made["paired"]["rows"][name]
    old = compare(Report(made), max_regression="1%")
    assert old.whole.relative_stderr == pytest.approx(old.whole.stderr / old.whole.baseline, rel=1e-14)
    assert old.whole.relative_stderr > 1e-3
    assert "takes the baseline's mean as known" in old.notes[0]
    assert compare(Report(made)).notes == ()


def test_rows_of_which_all_is_dropped_are_no_clusters() -> None:
    case = wide_case(13, groups={"night": [i // 5 for i in range(30)]})
    assert case.kept is not None
    case.kept[:5] = False
    for reports in ((paired(case),), apart(case)):
        found = compare(*reports, by="night", clusters="night")
        assert found.whole.clusters == 5
        assert found.groups[0].reason.startswith("nothing was scored here")
        assert found.groups[1].reason == "an interval needs two clusters in each model, and here are fewer"
        assert "Each group by night is one cluster" in " ".join(found.notes)
