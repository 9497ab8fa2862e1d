"""Means, standard errors and intervals against plain fractions and scipy."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import mpmath  # type: ignore[import-untyped] # it has no types
import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped] # likewise

from client.report.arrays import Array, Case
from client.report.cases import random_case, wide_case
from client.report.documents import document
from lossd_client import Report

NORMALIZERS: list[Any] = ["count", "weight", "positives", 7.5]


def divisor(case: Case) -> float:
    kept = case.is_kept
    of: dict[Any, float] = {
        "count": float(kept.sum()),
        "weight": math.fsum(case.weights[kept]),
        "positives": max(1.0, float(case.y[kept].sum())),
    }
    return of[case.normalizer] if case.normalizer in of else float(case.normalizer)


def ratio_stderr(s: Sequence[float], d: Sequence[float], least: int = 0) -> float:
    """The square root of n / (n - 1) * sum((s - R D)^2) / sum(D)^2, by its definition."""
    n, none = len(s), Fraction(0)
    below = max(sum(map(Fraction, d), none), Fraction(least))
    ratio = sum(map(Fraction, s), none) / below
    spread = sum(((Fraction(a) - ratio * Fraction(b)) ** 2 for a, b in zip(s, d, strict=True)), none)
    variance = Fraction(n, n - 1) * spread / below**2
    return float(mpmath.sqrt(mpmath.mpf(variance.numerator) / variance.denominator))


def jackknife_stderr(s: Sequence[float], d: Sequence[float], least: int = 0) -> float:
    """The square root of (G - 1) / G * sum((R_j - R)^2), by taking R again without each cluster j."""

    def ratio(left_out: int | None) -> Fraction:
        above, below = (
            sum((Fraction(each) for j, each in enumerate(numbers) if j != left_out), Fraction(0))
            for numbers in (s, d)
        )
        return above / max(below, Fraction(least))

    spread = sum(((ratio(j) - ratio(None)) ** 2 for j in range(len(s))), Fraction(0))
    variance = Fraction(len(s) - 1, len(s)) * spread
    return float(mpmath.sqrt(mpmath.mpf(variance.numerator) / variance.denominator))


def by_row(case: Case, numbers: Array) -> list[float]:
    live = case.is_kept.any(axis=1)
    found: list[float] = case.by_row(numbers)[live].tolist()
    return found


def expected_stderr(case: Case, numbers: Array) -> float:
    s = by_row(case, numbers)
    if isinstance(case.normalizer, str):
        shares = case.shares[case.is_kept.any(axis=1)].tolist()
        return ratio_stderr(s, shares, least=case.normalizer == "positives")
    return ratio_stderr(s, [1.0] * len(s)) * len(s) / case.normalizer


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("seed", range(4))
def test_mean_and_standard_error_by_row(normalizer: str | float, seed: int) -> None:
    case = wide_case(seed, params={"normalizer": normalizer})
    report = Report(document(case))
    kept = case.is_kept
    total = math.fsum(case.v[kept])
    assert report.sum == total
    assert report.mean == total / divisor(case)
    assert (report.count, report.rows) == (kept.sum(), 30)
    assert report.rows_dropped == (~kept.any(axis=1)).sum() > 0
    assert report.weight_sum == math.fsum(case.weights[kept])
    assert report.positives == case.y[kept].sum()
    assert report.stderr == pytest.approx(expected_stderr(case, case.v), rel=1e-13)
    assert (report.elements, report.dropped, report.nan, report.infinite) == (90, (~kept).sum(), 0, 0)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_groups_are_reports_of_their_rows(normalizer: str | float) -> None:
    case = wide_case(5, params={"normalizer": normalizer})
    report = Report(document(case))
    keys = list(zip(*case.groups.values(), strict=True))
    assert report.groups.ids == sorted(set(keys))
    assert len(report.groups) == len(list(report.groups)) == len(set(keys))
    for group in report.groups.values():
        part = case.cut([row for row, key in enumerate(keys) if key == group.id])
        alone = Report(document(part))
        assert (group.sum, group.count, group.rows) == (alone.sum, alone.count, alone.rows)
        np.testing.assert_array_equal([group.mean, group.stderr], [alone.mean, alone.stderr])
        np.testing.assert_array_equal(group.interval(0.9), alone.interval(0.9))
        assert group.classes[2].sum == alone.classes[2].sum
        assert group.paired.baseline_sum == alone.paired.baseline_sum
        np.testing.assert_array_equal(
            [group.paired.mean, group.paired.stderr], [alone.paired.mean, alone.paired.stderr]
        )


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_a_combination_collapses_to_the_groups_of_one_name(normalizer: str | float) -> None:
    case = wide_case(6, params={"normalizer": normalizer})
    cameras = {"camera": case.groups["camera"]}
    whole, alone = Report(document(case)), Report(document(wide_case(6, params=case.params, groups=cameras)))
    by_camera = whole.groups.by("camera")
    assert by_camera.ids == alone.groups.ids
    for camera in by_camera.ids:
        one, other = by_camera[camera], alone.groups[camera]
        assert (one.id, one.sum, one.count) == (other.id, other.sum, other.count)
        np.testing.assert_array_equal([one.mean, one.stderr], [other.mean, other.stderr])
        assert [each.sum for each in one.classes] == [each.sum for each in other.classes]
        np.testing.assert_array_equal(one.paired.stderr, other.paired.stderr)
    assert by_camera.stderr == alone.groups.stderr
    assert whole.groups.by("weather", "camera").ids[0] == ("rain", min(case.groups["camera"]))


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_standard_errors_by_clusters(normalizer: str | float) -> None:
    case = wide_case(8, params={"normalizer": normalizer}, groups={"camera": [i % 7 for i in range(30)]})
    report = Report(document(case))
    kept = case.is_kept
    clusters = [[row for row in range(30) if row % 7 == camera] for camera in range(7)]

    def clustered(numbers: Array) -> float:
        s = [math.fsum(numbers[rows][kept[rows]]) for rows in clusters]
        d = [math.fsum(case.shares[rows][kept[rows].any(axis=1)]) for rows in clusters]
        found = jackknife_stderr(s, d, least=normalizer == "positives")
        return found if isinstance(normalizer, str) else found * sum(d) / normalizer

    assert case.base is not None
    assert report.stderr_by_group == pytest.approx(clustered(case.v), rel=1e-13)
    assert report.paired.stderr_by_group == pytest.approx(clustered(case.v - case.base), rel=1e-12)
    half = stats.t.ppf(0.975, 6) * report.paired.stderr_by_group
    low, high = report.paired.interval_by_group(0.95)
    assert (low, high) == pytest.approx((report.paired.mean - half, report.paired.mean + half), rel=1e-9)
    low, high = report.groups.interval(0.95)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 6) * report.stderr_by_group, rel=1e-9)


def test_classes() -> None:
    case = wide_case(9, params={"normalizer": "positives"}, y=np.eye(3)[[0] * 30])
    classes = Report(document(case)).classes
    kept = case.is_kept
    assert len(classes) == 3
    for c, figures in enumerate(classes):
        total = math.fsum(case.v[kept[:, c], c])
        assert (figures.index, figures.sum, figures.count) == (c, total, kept[:, c].sum())
        assert figures.mean == total / max(1.0, case.y[kept[:, c], c].sum())
    assert classes[-1].sum == classes[2].sum == classes[1:][1].sum
    with pytest.raises(IndexError, match="no class 3; there are 3"):
        classes[3]


def test_by_element() -> None:
    case = random_case(10)
    report = Report(document(case))
    expected = case.v.std(ddof=1) / math.sqrt(case.v.size)
    assert report.stderr_by_element == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="under normalizer='count' alone"):
        _ = Report(document(random_case(10, params={"normalizer": "weight"}))).stderr_by_element


def test_nothing_cancels() -> None:
    v = 22e6 + np.arange(24 * 3).reshape(24, 3) % 5  # squares of rows have no rounding error
    report = Report(document(random_case(11, v=v)))
    rows = v.sum(axis=1)
    expected = rows.std(ddof=1) / math.sqrt(24) / 3
    assert report.stderr == pytest.approx(expected, rel=1e-13)
    naive = (rows**2).sum() - rows.sum() ** 2 / 24
    assert naive != pytest.approx(rows.var() * 24, rel=0.01)
    same = Report(document(random_case(11, v=np.full((24, 3), 0.5))))
    assert same.stderr == 0.0
    assert same.interval() == (0.5, 0.5)


@pytest.mark.parametrize("freedom", [1, 2, 3, 10, 29, 199, 200, 10_000])
def test_intervals_are_students(freedom: int) -> None:
    case = random_case(12, freedom + 1, 1, ids=None, calibrated=False, by_class=False)
    report = Report(document(case))
    for level in (0.5, 0.95, 0.999):
        expected = stats.t.interval(level, freedom, report.mean, report.stderr)
        assert report.interval(level) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, math.nan])
def test_levels_are_shares(level: float) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, such as 0\.95"):
        Report(document(random_case(13))).interval(level)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_sums_that_are_not_finite(bad: float) -> None:
    case = random_case(14, base=None, groups={"camera": [0, 1] * 12})
    case.v[4, 1] = bad
    report = Report(document(case))
    np.testing.assert_array_equal([report.sum, report.mean], [bad, bad])
    assert math.isnan(report.stderr)
    assert all(map(math.isnan, report.interval()))
    assert math.isnan(report.stderr_by_group)
    assert report.nan + report.infinite == 1
    np.testing.assert_array_equal(report.classes[1].mean, bad)
    assert math.isfinite(report.groups[1].mean)
    assert math.isnan(report.groups[0].stderr)


def test_too_little_to_say() -> None:
    one = Report(document(random_case(15).cut([3])))
    assert math.isfinite(one.mean)
    assert math.isnan(one.stderr)
    none = Report(document(random_case(15, kept=np.zeros((24, 3), bool))))
    assert math.isnan(none.mean)
    assert math.isnan(none.stderr)
    assert math.isnan(none.classes[0].mean)
    positives = Report(document(random_case(15, y=np.zeros((24, 3)), params={"normalizer": "positives"})))
    assert positives.mean == positives.sum  # divided by 1


def test_groups_are_found_by_their_ids() -> None:
    groups = Report(document(wide_case(16))).groups
    assert (-3, "sun") in groups
    of_numpy: Any = (np.int64(-3), "sun")
    assert of_numpy in groups
    assert groups[of_numpy].sum == groups[-3, "sun"].sum
    message = r"no group 3 by camera, weather; there are \d+, such as \(-3, 'rain'\)"
    with pytest.raises(KeyError, match=message):
        groups[3]
    with pytest.raises(ValueError, match="by\\(\\) takes names that there are, camera, weather"):
        groups.by("lens")
    strings = Report(document(random_case(16, groups={"lens": ["3", "x"] * 12}))).groups
    assert 3 not in strings
    assert strings["3"].rows == 12
    large = Report(document(random_case(16, groups={"id": [2**60 + 1, -(2**63)] * 12}))).groups
    assert large.ids == [-(2**63), 2**60 + 1]
    assert large[2**60 + 1].rows == 12


def test_groups_are_a_mapping_by_id() -> None:
    groups = Report(document(wide_case(16))).groups
    assert isinstance(groups, Mapping)
    assert list(groups) == list(groups.keys()) == groups.ids
    assert [group.id for group in groups.values()] == groups.ids
    assert [(name, group.sum) for name, group in groups.items()] == [
        (name, groups[name].sum) for name in groups
    ]
    assert groups.get((0, "no such")) is None
    first = groups.get(groups.ids[0])
    assert first is not None
    assert first.rows == groups[groups.ids[0]].rows
