"""A model against its baseline."""

import math

import numpy as np
import pytest

from client.report.arrays import Array, Case
from client.report.cases import random_case, wide_case
from client.report.documents import document
from client.report.test_figures import NORMALIZERS, divisor, expected_stderr
from lossd_client import Report


def differences(case: Case) -> Array:
    assert case.base is not None
    return case.v - case.base


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("row", ["sum", "mean"])
def test_mean_and_signs(normalizer: str | float, row: str) -> None:
    case = wide_case(1, params={"normalizer": normalizer}, row=row)
    assert case.base is not None
    case.base[0] = case.v[0]
    paired = Report(document(case)).paired
    kept = case.is_kept
    d = differences(case)
    total = math.fsum([*case.v[kept], *-case.base[kept]])
    assert paired.sum == total
    assert paired.mean == total / divisor(case)
    assert paired.stderr == pytest.approx(expected_stderr(case, d), rel=1e-12)
    low, high = paired.interval()
    assert low < paired.mean < high
    assert (paired.better, paired.worse) == ((d[kept] < 0).sum(), (d[kept] > 0).sum())
    assert (paired.equal, paired.undefined) == ((d[kept] == 0).sum(), 0)
    live = kept.any(axis=1)
    r, base = case.losses(case.by_row(case.v))[live], case.losses(case.by_row(case.base))[live]
    assert (paired.rows.better, paired.rows.worse) == ((r < base).sum(), (r > base).sum())
    assert paired.rows.equal == (r == base).sum() > 0
    assert paired.baseline_sum == math.fsum(case.base[kept])


def test_a_constant_difference_is_known_exactly() -> None:
    """Where the losses vary by much more than their differences, pairing shows it."""
    case = random_case(2)
    case.base = case.v + 0.0
    case.v = case.base + 2.0**-10
    report = Report(document(case))
    assert report.paired.mean == pytest.approx(2.0**-10, rel=1e-9)
    assert report.paired.stderr < 1e-9 < report.stderr


def test_classes() -> None:
    case = wide_case(3)
    report = Report(document(case))
    assert len(report.paired.classes) == 3
    for c, figures in enumerate(report.paired.classes):
        keep = case.is_kept[:, c]
        d = differences(case)[keep, c]
        assert figures.mean == pytest.approx(math.fsum(d) / keep.sum(), rel=1e-12)
        assert (figures.better, figures.worse) == ((d < 0).sum(), (d > 0).sum())
    assert report.paired.classes[-1].mean == report.paired.classes[1:][1].mean


def test_infinite_losses_of_both() -> None:
    case = random_case(4)
    assert case.base is not None
    made = document(case)
    made["totals"]["sum"] = "Infinity"
    made["totals"]["sum_terms"] = made["paired"]["baseline_sum_terms"] = ["Infinity"]
    paired = Report(made).paired
    assert math.isnan(paired.mean)
    assert math.isnan(paired.stderr)
    assert all(map(math.isnan, paired.interval()))
    made["paired"]["baseline_sum_terms"] = [1.0]
    assert Report(made).paired.mean == math.inf


def test_without_groups_there_are_no_clusters() -> None:
    paired = Report(document(random_case(5))).paired
    with pytest.raises(LookupError, match="no section groups; ask for it with"):
        _ = paired.stderr_by_group
    with pytest.raises(LookupError, match="no section groups"):
        paired.interval_by_group()


@pytest.mark.parametrize("ids", [None, list(range(100, 124)), [f"row {i}" for i in range(24)]])
def test_lists_of_what_differs_most(ids: list[int] | list[str] | None) -> None:
    case = random_case(6, ids=ids, k=4, first=1000)
    paired = Report(document(case)).paired
    d = differences(case)
    for elements, order in (
        (paired.worse_elements, np.argsort(-d, axis=None)),
        (paired.better_elements, np.argsort(d, axis=None)),
    ):
        for element, place in zip(elements, order[:4], strict=True):
            row, column = divmod(int(place), 3)
            assert element.index == (1000 + row, column)
            assert element.id == (None if ids is None else ids[row])
            assert case.base_x is not None
            assert (element.difference, element.loss) == (d[row, column], case.v[row, column])
            assert (element.logit, element.baseline_logit) == (case.x[row, column], case.base_x[row, column])
            assert element.baseline_probability is None
    by_row = case.by_row(case.v) - case.by_row(case.base)  # type: ignore[arg-type] # there is one
    assert [row.index for row in paired.worse_rows] == (1000 + np.argsort(-by_row)[:4]).tolist()
    assert [row.index for row in paired.better_rows] == (1000 + np.argsort(by_row)[:4]).tolist()
    first = paired.better_rows[0]
    assert first.difference == by_row.min()
    assert first.baseline is not None
    assert first.difference == first.loss - first.baseline
