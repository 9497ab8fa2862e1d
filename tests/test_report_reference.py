"""The reference of reports, held against floats, numpy and scikit-learn: who watches the watchman."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (  # type: ignore[import-untyped] # it has no types
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)

from contract.report_merging import merged
from contract.report_requests import CASES, EVERYTHING, HARD, X, rows_of
from report_reference import (
    Array,
    Document,
    assert_same,
    bin_of,
    cells_of,
    differences,
    planes,
    rounded,
    terms,
    true_document,
    true_losses,
)

NUMBERS = st.floats(min_value=-1e306, max_value=1e306)  # of which no few are beyond float64


@given(st.lists(NUMBERS, max_size=20))
def test_terms_add_up_exactly(values: list[float]) -> None:
    found = terms(values)
    assert sum(map(Fraction, found)) == sum(map(Fraction, values))
    assert found[0] == math.fsum(values)
    assert found == [0.0] or all(found)
    assert terms(reversed(found)) == found


def test_sums_are_rounded_to_even_and_up_to_infinity() -> None:
    most = Fraction(2) ** 1024 - Fraction(2) ** 970  # half a spacing beyond the greatest
    assert rounded(most - 1) == float.fromhex("0x1.fffffffffffffp+1023")
    assert rounded(most) == math.inf
    assert rounded(-most) == -math.inf
    assert rounded(Fraction(2**53 + 1)) == 2.0**53
    assert rounded(Fraction(2**53 + 3)) == 2.0**53 + 4
    assert terms([1e308, 1e308, -1e308]) == [1e308]
    assert terms([math.inf, 1.0]) == [math.inf]
    assert math.isnan(terms([math.inf, -math.inf])[0])
    assert math.copysign(1.0, terms([-0.0])[0]) == 1.0


def test_planes_hold_the_terms_of_each_sum() -> None:
    cells = [[1.0, 2.0**-60], [0.0], [math.inf]]
    assert planes(cells, [3]) == [[1.0, 0.0, math.inf], [2.0**-60, 0.0, 0.0]]
    assert planes([], [0]) == [[]]
    assert cells_of(planes(cells, [3])) == cells


@given(st.floats(min_value=2.0**-1022, max_value=2.0**1022))
def test_a_bin_is_narrow(value: float) -> None:
    edge = np.array([bin_of(value) << 48, (bin_of(value) + 1) << 48]).view(np.float64)
    assert edge[0] <= value < edge[1]
    assert edge[1] <= edge[0] * (1 + 1 / 16)


@pytest.mark.parametrize("name", CASES)
def test_the_sums_are_those_of_floats(name: str) -> None:
    """The sums of totals and classes by numpy alone, as anyone would write them."""
    request = CASES[name]
    found, v = true_document(request), true_losses(request)
    if not np.isfinite(v).all() or v.max(initial=0.0) > 1e100:
        return
    totals, rows = found["totals"], v.sum(axis=tuple(range(1, v.ndim)))
    assert totals["sum"] == pytest.approx(v.sum(), rel=1e-12)
    assert totals["elements"] == v.size
    assert totals["row_squares_terms"][0] == pytest.approx((rows**2).sum())
    if "classes" in found:
        axis = request.param("class_axis") % v.ndim
        by_class = v.sum(axis=tuple(other for other in range(v.ndim) if other != axis))
        assert found["classes"]["sum_terms"][0] == pytest.approx(by_class.tolist())
    if "groups" in found:
        for figure in ("sum_terms", "row_squares_terms", "positives_terms"):
            assert sum(found["groups"][figure][0]) == pytest.approx(totals[figure][0])
        for figure in ("rows", "rows_dropped", "elements", "dropped", "count"):
            assert sum(found["groups"][figure]) == totals[figure]
    if "histogram" in found:
        for of, number in (("elements", totals["count"]), ("rows", totals["rows"] - totals["rows_dropped"])):
            counted = found["histogram"][of]
            assert sum(counted["counts"]) + counted["zero"] == number
    if "calibration" in found:
        assert sum(found["calibration"]["count"]) == totals["count"]


def test_a_sweep_is_linear_in_alpha_and_pos_weight() -> None:
    for variant in ("sigmoid", "quality"):
        request = replace(
            EVERYTHING,
            params={"variant": variant, "label_smoothing": 0.1},
            sections=("sweep",),
            gammas=(0.0, 1.5, 3.0),
            ids=None,
            baseline=None,
        )
        sums = true_document(request)["sweep"]
        for at, gamma in enumerate(request.gammas):
            yy, yz, zy, zz = (sums[f"{name}_terms"][0][at] for name in ("yy", "yz", "zy", "zz"))
            for alpha, k in ((0.25, 1.0), (0.5, 3.0), (1.0, 0.0)):
                params = {**request.params, "gamma": gamma, "alpha": alpha, "pos_weight": k}
                loss = true_losses(replace(request, params=params)).sum()
                assert alpha * (k * yy + yz) + (1 - alpha) * (k * zy + zz) == pytest.approx(loss, rel=1e-13)
            params = {**request.params, "gamma": gamma, "alpha": None, "pos_weight": 2.5}
            loss = true_losses(replace(request, params=params)).sum()
            assert 2.5 * (yy + zy) + yz + zz == pytest.approx(loss, rel=1e-13)


def ranked(calibration: Document) -> tuple[Array, Array, Array]:
    """Scores, labels and their counts from an exact calibration."""
    count, positives = np.array(calibration["count"]), np.array(calibration["positives_terms"][0])
    values = np.array(list(map(float, calibration["values"])))
    scores = np.concatenate([values, values])
    return scores, np.repeat([1, 0], len(values)), np.concatenate([positives, count - positives])


def test_scikit_learn_gives_the_same_scores() -> None:
    request = replace(
        CASES["exact, float16"], inputs=np.round(X).astype(np.float16), mask=None, sections=("calibration",)
    )
    found = true_document(request)["calibration"]
    scores, labels, numbers = ranked(found)
    x, y = request.inputs.astype(np.float64).ravel(), HARD.ravel()
    assert len(found["values"]) < x.size  # there are ties
    assert roc_auc_score(labels, scores, sample_weight=numbers) == pytest.approx(roc_auc_score(y, x))
    assert average_precision_score(labels, scores, sample_weight=numbers) == pytest.approx(
        average_precision_score(y, x)
    )
    p = 1 / (1 + np.exp(-x))
    assert found["brier_terms"][0] / x.size == pytest.approx(brier_score_loss(y, p), rel=1e-12)
    assert found["cross_entropy_terms"][0] / x.size == pytest.approx(log_loss(y, p), rel=1e-12)


def test_the_comparison_sees_a_single_bit() -> None:
    true = true_document(EVERYTHING)
    assert_same(EVERYTHING, {**true, "run": {}}, true)
    up = math.nextafter
    wrong: list[Document] = [copy.deepcopy(true) for _ in range(7)]
    wrong[0]["totals"]["sum_terms"][-1] = up(true["totals"]["sum_terms"][-1], 9.0)
    wrong[1]["groups"]["count"][1] += 1
    wrong[2]["top"]["rows"].reverse()
    wrong[3]["totals"] = dict(reversed(true["totals"].items()))
    wrong[4]["totals"]["rows"] = float(true["totals"]["rows"])
    wrong[5]["sweep"]["yy_terms"][0][1] *= 1 + 1e-12
    wrong[6]["calibration"]["probability_terms"].append([0.0] * EVERYTHING.bins)  # type: ignore[operator] # a number
    for document in wrong:
        assert len(differences(EVERYTHING, document, true)) >= 1
    for path, units in ((("calibration", "probability_terms"), 1), (("sweep", "zz_terms"), 8)):
        near = copy.deepcopy(true)
        near[path[0]][path[1]] = [[value * (1 + units * 2.0**-52) for value in near[path[0]][path[1]][0]]]
        assert differences(EVERYTHING, near, true) == []


@pytest.mark.parametrize("name", [name for name, request in CASES.items() if len(request.inputs) > 4])
def test_documents_of_parts_add_up(name: str) -> None:
    request = CASES[name]
    order = np.random.default_rng(1).permutation(len(request.inputs)).tolist()
    if request.ids is None:
        order.sort()
    cuts = (0, 2, 3, len(order))
    parts = []
    for start, end in itertools.pairwise(cuts):
        first_row = request.first_row + (start if request.ids is None else 0)
        parts.append(true_document(replace(rows_of(request, order[start:end]), first_row=first_row)))
    assert_same(request, merged(parts), true_document(request))
