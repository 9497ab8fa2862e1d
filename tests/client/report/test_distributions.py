"""Quantiles, and calibration against scikit-learn."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (  # type: ignore[import-untyped] # it has no types
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from client.report.arrays import Array, Case
from client.report.cases import random_case, wide_case
from client.report.distributions import binned, by_bin, probability
from client.report.documents import document
from lossd_client import Report
from lossd_client.report._figures.calibration import bin_edges
from lossd_client.report._figures.curves import Scores
from lossd_client.report._figures.histogram import Histogram

LOSSES = st.floats(0, allow_nan=False) | st.floats(1e-3, 1e3)


@given(st.lists(LOSSES, min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_within_a_32nd(losses: list[float], q: float) -> None:
    true = np.quantile(losses, q, method="inverted_cdf")
    found = Histogram(binned(np.array(losses))).quantile(q)
    if true == 0 or math.isinf(true):
        assert found == true
    elif true >= 2.0**-1022:
        assert abs(found / true - 1) <= 1 / 32
    else:
        assert 0 < found < 2.0**-1021


def test_the_bound_is_reached_and_not_exceeded_at_the_ends_of_a_bin() -> None:
    low, high = 1.0, np.nextafter(1 + 1 / 16, 0)
    for value in (low, high):
        assert Histogram(binned(np.array([value]))).quantile(0.5) == 1 + 1 / 32


def test_nan_counts_as_the_greatest_loss() -> None:
    histogram = Histogram(binned(np.array([0.0, 0.0, 1.0, np.inf, np.nan])))
    found = [histogram.quantile(q) for q in (0.0, 0.4, 0.6, 0.8, 1.0)]
    np.testing.assert_array_equal(found, [0.0, 0.0, 1 + 1 / 32, np.inf, np.nan])
    assert histogram.bins == [(1.0, np.nextafter(1 + 1 / 16, 0), 1)]
    assert histogram.count == 5
    assert math.isnan(Histogram(binned(np.array([]))).quantile(0.5))
    with pytest.raises(ValueError, match=r"from 0 to 1, such as 0\.99, and is 99"):
        histogram.quantile(99)


@pytest.mark.parametrize("row", ["sum", "mean"])
def test_quantiles_of_elements_and_rows(row: str) -> None:
    case = wide_case(1, row=row)
    report = Report(document(case))
    rows = case.losses(case.by_row(case.v))[case.is_kept.any(axis=1)]
    for q in (0.1, 0.5, 0.9, 1.0):
        for found, losses in ((report.quantile(q), case.v[case.is_kept]), (report.row_quantile(q), rows)):
            true = np.quantile(losses, q, method="inverted_cdf")
            assert found == pytest.approx(true, rel=1 / 32)


def columns(case: Case) -> tuple[Array, Array]:
    """The targets and probabilities of the kept elements."""
    return case.y[case.is_kept], probability(case.x)[case.is_kept]


@pytest.mark.parametrize("seed", range(5))
def test_calibration(seed: int) -> None:
    case = wide_case(seed, bins=10)
    found = Report(document(case)).calibration
    y, p = columns(case)
    assert (found.count, found.positives, found.undefined) == (len(y), y.sum(), 0)
    assert found.brier == pytest.approx(brier_score_loss(y, p), rel=1e-13)
    of = np.minimum((p * 10).astype(int), 9)
    gaps = [abs(p[of == b].mean() - y[of == b].mean()) for b in range(10) if (of == b).any()]
    shares = [(of == b).mean() for b in range(10) if (of == b).any()]
    assert found.ece == pytest.approx(np.dot(gaps, shares), rel=1e-12)
    assert found.mce == pytest.approx(max(gaps), rel=1e-12)
    diagram = found.reliability()
    assert [each.count for each in diagram] == [(of == b).sum() for b in range(10)]
    for b, each in enumerate(diagram):
        assert (each.lower, each.upper) == pytest.approx((b / 10, (b + 1) / 10), rel=1e-15)
        if each.count:
            assert each.probability == pytest.approx(p[of == b].mean(), rel=1e-13)
            assert each.rate == pytest.approx(y[of == b].mean(), rel=1e-13)


def test_entropy_against_scikit_learn() -> None:
    case = random_case(2)
    case.cross = np.where(case.y == 1, np.logaddexp(0, -case.x), np.logaddexp(0, case.x))
    found = Report(document(case)).calibration
    y, p = columns(case)
    assert found.cross_entropy == pytest.approx(log_loss(y, p), rel=1e-12)
    base = log_loss(y, np.full(len(y), y.mean()))
    assert found.normalized_entropy == pytest.approx(log_loss(y, p) / base, rel=1e-12)
    one = Report(document(replace(case, y=np.zeros(case.y.shape)))).calibration
    assert math.isnan(one.normalized_entropy)


@pytest.mark.parametrize("seed", range(5))
def test_exact_bins_give_what_scikit_learn_gives(seed: int) -> None:
    case = wide_case(seed, bins="exact", ids=None)
    case.x = np.round(case.x, 1).astype(np.float16).astype(np.float64)  # ties
    case.x[0], case.x[1] = 0.0, -0.0
    found = Report(document(case)).calibration
    y, p = columns(case)
    assert found.auroc == pytest.approx(roc_auc_score(y, p), rel=1e-13)
    assert found.average_precision == pytest.approx(average_precision_score(y, p), rel=1e-13)
    assert found.auroc_bounds == (found.auroc, found.auroc)
    assert found.average_precision_bounds == (found.average_precision, found.average_precision)
    false, true, _ = roc_curve(y, p, drop_intermediate=False)
    points = found.roc()
    np.testing.assert_allclose([point.false_positive_rate for point in points], false, rtol=1e-13)
    np.testing.assert_allclose([point.true_positive_rate for point in points], true, rtol=1e-13)
    precision, recall, thresholds = precision_recall_curve(y, p)
    curve = found.precision_recall()
    np.testing.assert_allclose([point.precision for point in curve], precision[-2::-1], rtol=1e-13)
    np.testing.assert_allclose([point.recall for point in curve], recall[-2::-1], rtol=1e-13)
    np.testing.assert_allclose([point.threshold for point in curve], thresholds[::-1], rtol=1e-13)
    of = np.minimum((p * 64).astype(int), 63)
    gaps = [abs(p[of == b].sum() - y[of == b].sum()) for b in range(64)]
    assert found.ece == pytest.approx(sum(gaps) / len(y), rel=1e-12)
    assert found.mce == pytest.approx(
        max(gap / (of == b).sum() for b, gap in enumerate(gaps) if (of == b).any()), rel=1e-12
    )
    assert len(found.reliability()) == 64


@settings(deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([1, 2, 8]), st.sampled_from([0.03, 0.5, 0.97])
)
def test_areas_lie_within_their_bounds(seed: int, bins: int, digits: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(40), digits) * 0.999
    y = (rng.random(40) < share).astype(float)
    y[:2] = 0, 1
    of = np.minimum((p * bins).astype(int), bins - 1)
    positives, negatives = (np.bincount(of[y == label], minlength=bins).tolist() for label in (1, 0))
    scores = Scores(list(np.arange(bins) / bins), positives, negatives, exact=False)
    for area, true in (
        (scores.auroc(), roc_auc_score(y, p)),
        (scores.average_precision(), average_precision_score(y, p)),
    ):
        assert area.lower - 1e-12 <= true <= area.upper + 1e-12
        assert area.lower <= area.value <= area.upper
    middle = (of + 0.5) / bins
    assert scores.auroc().value == pytest.approx(roc_auc_score(y, middle), rel=1e-13)
    assert scores.average_precision().value == pytest.approx(average_precision_score(y, middle), rel=1e-13)


def test_the_bounds_are_reached() -> None:
    """By the worst and the best order of one bin with 3 positives and 5 negatives."""
    scores = Scores([0.0], [3], [5], exact=False)
    negatives_first = np.arange(8)[::-1], [0, 0, 0, 0, 0, 1, 1, 1]
    positives_tied = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]
    assert scores.auroc().lower == roc_auc_score(negatives_first[1], negatives_first[0]) == 0.0
    assert scores.auroc().upper == 1.0
    least = average_precision_score(negatives_first[1], negatives_first[0])
    assert scores.average_precision().lower == pytest.approx(least, rel=1e-15)
    most = average_precision_score(positives_tied[1], positives_tied[0])
    assert scores.average_precision().upper == most == 1.0


@pytest.mark.parametrize(
    ("positives", "negatives"),
    [([10**4, 0], [0, 10**5]), ([10**6, 3], [5, 10**6]), ([1000, 1000], [10**9, 0])],
)
def test_large_bins_are_summed_by_a_series(positives: list[int], negatives: list[int]) -> None:
    found = Scores([0.0, 0.5], positives, negatives, exact=False).average_precision().lower
    true = false = total = 0.0
    for p, n in zip(positives[::-1], negatives[::-1], strict=True):
        i = np.arange(1, p + 1)
        total += math.fsum((true + i) / (true + false + n + i))
        true, false = true + p, false + n
    assert found == pytest.approx(total / sum(positives), rel=1e-9)


def test_thresholds() -> None:
    case = random_case(3, bins=4)
    y, p = columns(case)
    table = Report(document(case)).calibration.thresholds()
    assert [each.threshold for each in table] == [0.0, 0.25, 0.5, 0.75]
    for each in table:
        called = p >= each.threshold
        right = (called & (y == 1)).sum()
        assert (each.true_positives, each.false_positives) == (right, called.sum() - right)
        np.testing.assert_allclose(each.recall, right / y.sum())
        if called.any():
            np.testing.assert_allclose(each.precision, right / called.sum())
        np.testing.assert_allclose(each.f1, 2 * right / (called.sum() + y.sum()))


@pytest.mark.parametrize("bins", [10, 49, 100])
def test_edges_of_bins_that_are_no_power_of_two(bins: int) -> None:
    """Probabilities of two decimals lie on the edges, or beside them."""
    p = np.round(np.arange(101) / 100, 2)
    y = (np.arange(101) % 3 == 0).astype(np.float64)
    made = document(random_case(3, bins=bins))
    made["totals"]["inputs"] = "probabilities"
    made["calibration"] = {**made["calibration"], **by_bin(bins, p, y)}
    found = Report(made).calibration
    for each in found.thresholds():
        called = p >= each.threshold
        assert each.true_positives == (called & (y == 1)).sum()
        assert each.false_positives == (called & (y == 0)).sum()
    for part in found.reliability():
        inside = (p >= part.lower) & ((p < part.upper) | (part.upper == 1.0))
        assert part.count == inside.sum()
    assert (found.reliability()[0].lower, found.reliability()[-1].upper) == (0.0, 1.0)


@pytest.mark.parametrize("bins", [2, 3, 7, 49, 100, 127, 1000, 4095, 4096])
def test_an_edge_is_the_least_probability_of_its_bin(bins: int) -> None:
    edges = bin_edges(bins)
    assert (edges[0], edges[-1], len(edges)) == (0.0, 1.0, bins + 1)
    for i in range(1, bins):
        assert int(np.float64(edges[i]) * bins) == i
        assert int(np.nextafter(edges[i], 0.0) * bins) == i - 1


def test_classes_are_calibrations_of_their_columns() -> None:
    case = wide_case(4)
    found = Report(document(case)).calibration.classes
    assert len(found) == 3
    for c in range(3):
        kept = case.is_kept[:, [c]]
        column = replace(
            case,
            x=case.x[:, [c]],
            y=case.y[:, [c]],
            v=case.v[:, [c]],
            kept=kept,
            w=None,
            base=None,
            groups={},
        )
        column.cross = column.v
        alone = Report(document(column)).calibration
        assert (found[c].count, found[c].ece, found[c].auroc) == (alone.count, alone.ece, alone.auroc)
        assert found[c].auroc_bounds == alone.auroc_bounds
        np.testing.assert_array_equal(found[c].reliability(), alone.reliability())
    assert found[-1].ece == found[2].ece


def test_soft_targets_have_no_areas() -> None:
    case = random_case(5)
    case.y[0, 0] = 0.5
    found = Report(document(case)).calibration
    y, p = columns(case)
    assert found.brier == pytest.approx(((p - y) ** 2).mean(), rel=1e-13)
    assert found.thresholds()[0].true_positives == y.sum()
    for part in (found, found.classes[1]):
        for read in ("auroc", "auroc_bounds", "average_precision", "average_precision_bounds"):
            with pytest.raises(
                ValueError, match="needs targets of 0 and 1, and 1 of the targets are neither"
            ):
                getattr(part, read)
        for curve in (part.roc, part.precision_recall):
            with pytest.raises(ValueError, match="curve needs targets of 0 and 1"):
                curve()


def test_nothing_to_tell_apart() -> None:
    case = random_case(6, y=np.zeros((24, 3)))
    found = Report(document(case)).calibration
    assert math.isnan(found.auroc)
    assert math.isnan(found.average_precision)
    none = Report(document(replace(case, kept=np.zeros((24, 3), bool)))).calibration
    assert all(map(math.isnan, (none.brier, none.ece, none.mce, none.normalized_entropy)))


def test_exact_bins_of_infinite_logits() -> None:
    case = random_case(7, bins="exact")
    case.x[0, 0], case.x[1, 1] = -np.inf, np.inf
    with np.errstate(invalid="ignore"):  # in the sweep
        found = Report(document(case)).calibration
    y, p = columns(case)
    assert found.auroc == pytest.approx(roc_auc_score(y, p), rel=1e-13)
    assert found.roc()[1].threshold == 1.0
    assert found.roc()[-1].threshold == 0.0
