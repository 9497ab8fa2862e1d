"""The loss at other parameters against the formulas."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from client.report.arrays import Case, planes, terms
from client.report.cases import random_case, wide_case
from client.report.distributions import probability
from client.report.documents import document
from lossd_client import Report

Numbers = float | Sequence[float] | None


def focal(case: Case, alpha: Numbers, pos_weight: Numbers, gamma: float) -> float:
    """The sum of focal losses, variant "sigmoid", as YOLOv5 defines them."""
    x, y, k = case.x, case.y, np.asarray(1.0 if pos_weight is None else pos_weight)
    p = probability(x)
    m = y * (1 - p) + (1 - y) * p
    a = 1.0 if alpha is None else y * np.asarray(alpha) + (1 - y) * (1 - np.asarray(alpha))
    bce = k * y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)
    return math.fsum((case.weights * a * m**gamma * bce)[case.is_kept])


CHANGES: list[dict[str, Any]] = [
    {},
    {"gamma": 2.5},
    {"gamma": 0},
    {"alpha": 0.75},
    {"alpha": None},
    {"alpha": None, "pos_weight": 3, "gamma": 0.0},
    {"pos_weight": 0.0},
    {"pos_weight": None},
    {"alpha": 1, "pos_weight": [1.0, 2.0, 3.5]},
    {"alpha": np.array([0.0, 0.25, 1.0], dtype=np.float32), "gamma": 2.5},
    {"alpha": [0.5], "pos_weight": (4.0,)},
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("normalizer", ["count", "weight", "positives", 3.0])
@pytest.mark.parametrize("soft", [False, True])
def test_focal_at_other_parameters(change: dict[str, Any], normalizer: str | float, soft: bool) -> None:
    case = wide_case(1, params={"normalizer": normalizer, "pos_weight": 2.0}, ids=None)
    if soft:
        case.y = np.random.default_rng(0).random(case.y.shape)
    params = {"alpha": 0.25, "pos_weight": 2.0, "gamma": 1.0, **change}
    report = Report(document(case))
    expected = focal(case, **params) / (report.sum / report.mean)
    assert report.at(**change) == pytest.approx(expected, rel=1e-12)


def test_numbers_by_class_need_classes() -> None:
    report = Report(document(random_case(2, by_class=False)))
    assert math.isfinite(report.at(alpha=0.5))
    with pytest.raises(
        LookupError, match="no classes in sweep, as a list for alpha or pos_weight needs them; ask"
    ):
        report.at(alpha=[0.1, 0.2, 0.3])
    report = Report(document(random_case(2)))
    with pytest.raises(ValueError, match="pos_weight has 2 numbers, and there are 3 classes"):
        report.at(pos_weight=[1.0, 2.0])


def test_a_gamma_that_is_not_there() -> None:
    report = Report(document(random_case(3)))
    with pytest.raises(ValueError, match=r"no gamma 1\.5; it has 0\.0, 1\.0, 2\.5\. Name one of them"):
        report.at(gamma=1.5)
    other = Report(document(random_case(3, params={"gamma": 1.5})))
    with pytest.raises(ValueError, match=r"no gamma 1\.5"):
        other.at(alpha=0.5)
    assert report.sweep.gammas == (0.0, 1.0, 2.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.5}, r"alpha is from 0 to 1, and is 1\.5"),
        ({"alpha": -0.5}, "alpha is a number that is finite and at least 0"),
        ({"pos_weight": math.inf}, "pos_weight is a number that is finite"),
        ({"pos_weight": [1.0, math.nan, 2.0]}, "pos_weight is a number that is finite"),
        ({"pos_weight": [[1.0], [2.0]]}, "does not have the request's pos_weight as a number"),
        ({"pos_weight": []}, "pos_weight is a number that is finite"),
    ],
)
def test_parameters_that_no_request_may_have(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Report(document(random_case(4))).at(**change)


def test_a_pos_weight_that_is_known_by_its_digest_alone() -> None:
    shown = {"dtype": "float64", "shape": [24, 3], "sha256": "0"}
    report = Report(document(random_case(5, params={"pos_weight": shown})))
    with pytest.raises(ValueError, match="does not have the request's pos_weight as a number"):
        report.at(alpha=0.5)
    assert math.isfinite(report.at(alpha=0.5, pos_weight=1.0))


def test_exp_is_linear_in_alpha_alone() -> None:
    made = document(random_case(6, params={"variant": "exp", "pos_weight": 2.0}))
    sums = np.random.default_rng(0).exponential(size=(3, 3))
    made["sweep"] = {
        "gamma": [0.0, 1.0, 2.5],
        "terms": planes(list(sums), 3),
        "classes": {"terms": planes([[each] for each in sums.ravel()], 3, 3)},
    }
    report = Report(made)
    assert report.at() == pytest.approx(0.25 * sums[1].sum() / 72, rel=1e-14)
    assert report.at(alpha=None, gamma=2.5, pos_weight=2) == pytest.approx(sums[2].sum() / 72, rel=1e-14)
    alpha = [0.1, 0.5, 1.0]
    assert report.at(alpha=alpha) == pytest.approx(np.dot(alpha, sums[1]) / 72, rel=1e-14)
    for other in (None, 1.0, [2.0, 2.0, 3.0]):
        with pytest.raises(
            ValueError, match=r"not linear in pos_weight: the sums are at the request's alone, 2\.0"
        ):
            report.at(pos_weight=other)


def test_bce_has_a_pos_weight() -> None:
    made = document(random_case(7, params={"pos_weight": None}))
    made["totals"]["loss"] = "bce"
    made["totals"]["params"] = {"pos_weight": None, "normalizer": "count", "row": "sum"}
    rng = np.random.default_rng(0)
    y, z = rng.exponential(size=(2, 3))
    made["sweep"] = {
        "y_terms": terms(y),
        "z_terms": terms(z),
        "classes": {
            "y_terms": planes([[each] for each in y], 3),
            "z_terms": planes([[each] for each in z], 3),
        },
    }
    report = Report(made)
    assert report.at() == pytest.approx((y + z).sum() / 72, rel=1e-14)
    assert report.at(pos_weight=2.5) == pytest.approx((2.5 * y + z).sum() / 72, rel=1e-14)
    k = [0.0, 1.0, 4.0]
    assert report.at(pos_weight=k) == pytest.approx((np.dot(k, y) + z.sum()) / 72, rel=1e-14)
    for change in ({"alpha": 0.5}, {"gamma": 1.0}):
        with pytest.raises(TypeError, match="bce has no alpha and no gamma"):
            report.at(**change)


def test_an_infinite_sum_times_nothing_is_nothing() -> None:
    made = document(random_case(8))
    made["sweep"]["yy_terms"] = [["Infinity"] * 3]
    assert Report(made).at() == math.inf
    assert math.isfinite(Report(made).at(pos_weight=0.0))
    assert math.isfinite(Report(made).at(alpha=0.0))
    made["sweep"]["yy_terms"] = [["NaN"] * 3]
    assert math.isnan(Report(made).at(alpha=0.0))
