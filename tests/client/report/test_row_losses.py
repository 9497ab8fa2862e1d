"""Reports of losses that rows have together: their figures against numpy, scikit-learn and torch."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve  # type: ignore[import-untyped]
from sklearn.metrics import log_loss, roc_auc_score  # type: ignore[import-untyped]

from client.report.pages import Page
from client.report.scored import scored
from lossd.core.catalog import LOSSES
from lossd_client.comparison import NotComparable, compare
from lossd_client.report import MissingSectionError, Report
from lossd_client.report._drawing.html import report_page

N, CLASSES, BINS = 400, 5, 10
RANDOM = np.random.default_rng(23)
LOGITS = 2.0 * RANDOM.normal(size=(N, CLASSES))
IDS = np.where(RANDOM.random(N) < 0.5, LOGITS.argmax(1), RANDOM.integers(0, CLASSES, N))
OTHER = LOGITS + RANDOM.normal(size=(N, CLASSES))
HARD = np.eye(CLASSES)[IDS]
PARAMS: dict[str, object] = {"calibration_bins": BINS}
EXP = np.exp(LOGITS - LOGITS.max(1, keepdims=True))
P = EXP / EXP.sum(1, keepdims=True)
CONFIDENCE, RIGHT = P.max(1), P.argmax(1) == IDS


def drawn(loss: str, rows: int = 60) -> dict[str, Any]:
    """Tensors that suit a loss."""
    if LOSSES[loss].row == "box":
        corners = np.sort(RANDOM.random((2, rows, 2, 2)), axis=2).reshape(2, rows, 4)
        other = np.sort(RANDOM.random((rows, 2, 2)), axis=1).reshape(rows, 4)
        return {"boxes": corners[0], "targets": corners[1], "baseline": other}
    logits, other = RANDOM.normal(size=(2, rows, 7))
    hard = (logits + RANDOM.normal(size=logits.shape) > 1.0).astype(float)
    targets = RANDOM.integers(0, 7, rows) if LOSSES[loss].row == "classes" else hard
    return {"logits": logits, "targets": targets, "baseline": other}


def rows_of(loss: str, params: dict[str, object], **tensors: Any) -> np.ndarray:  # noqa: ANN401
    """The loss of each row, by a report of each."""
    rows = len(tensors["targets"])
    each = [
        scored(loss, params, **{name: its[i : i + 1] for name, its in tensors.items()}) for i in range(rows)
    ]
    return np.array([report.sum for report in each])


def test_rows_are_of_the_class_of_their_target() -> None:
    weights = [1.0, 2.0, 0.5, 3.0, 1.0]
    report = scored(
        "cross_entropy", {"class_weight": weights, "normalizer": "weight"}, logits=LOGITS, targets=IDS
    )
    x, y, w = torch.from_numpy(LOGITS), torch.from_numpy(IDS), torch.tensor(weights, dtype=torch.float64)
    each = torch.nn.functional.cross_entropy(x, y, w, reduction="none").numpy()
    assert report.mean == pytest.approx(float(torch.nn.functional.cross_entropy(x, y, w)), rel=1e-13)
    for place, found in enumerate(report.classes):
        assert found.count == found.positives == np.count_nonzero(place == IDS)
        assert found.sum == pytest.approx(each[place == IDS].sum(), rel=1e-13)
        assert found.weight_sum == weights[place] * found.count
        assert found.mean == pytest.approx(each[place == IDS].sum() / found.weight_sum, rel=1e-13)


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_focal"])
@pytest.mark.parametrize("targets", [IDS, HARD], ids=["ids", "dense"])
def test_the_calibration_is_of_the_top_class(loss: str, targets: np.ndarray) -> None:
    found = scored(loss, PARAMS, logits=LOGITS, targets=targets).calibration
    bins = np.minimum((CONFIDENCE * BINS).astype(int), BINS - 1)
    gaps = [abs(CONFIDENCE[bins == i].sum() - RIGHT[bins == i].sum()) for i in range(BINS)]
    assert [each.count for each in found.reliability()] == np.bincount(bins, minlength=BINS).tolist()
    assert found.count == N
    assert found.positives == RIGHT.sum()
    assert found.ece == pytest.approx(sum(gaps) / N, rel=1e-12)
    assert found.brier == pytest.approx(((P - HARD) ** 2).sum(1).mean(), rel=1e-12)
    assert found.cross_entropy == pytest.approx(log_loss(IDS, P), rel=1e-12)
    shares = HARD.mean(0)
    entropy = -(shares * np.log(shares)).sum()
    assert found.normalized_entropy == pytest.approx(log_loss(IDS, P) / entropy, rel=1e-12)
    low, high = found.auroc_bounds
    assert low <= roc_auc_score(RIGHT, CONFIDENCE) <= high


def test_the_calibration_of_each_class_is_scikit_learns() -> None:
    found = scored("cross_entropy", PARAMS, logits=LOGITS, targets=IDS).calibration.classes
    assert len(found) == CLASSES
    for place, each in enumerate(found):
        rates, means = calibration_curve(place == IDS, P[:, place], n_bins=BINS, strategy="uniform")
        filled = [bin_ for bin_ in each.reliability() if bin_.count]
        assert [bin_.rate for bin_ in filled] == pytest.approx(rates.tolist(), rel=1e-12)
        assert [bin_.probability for bin_ in filled] == pytest.approx(means.tolist(), rel=1e-12)
        assert each.positives == np.count_nonzero(place == IDS)


def test_very_many_classes_have_the_calibration_of_the_top_class() -> None:
    logits = 6.0 * RANDOM.normal(size=(50, 5000))
    ids = np.where(RANDOM.random(50) < 0.5, logits.argmax(1), RANDOM.integers(0, 5000, 50))
    report = scored("cross_entropy", logits=logits, targets=ids)
    found = report.calibration
    p = torch.softmax(torch.from_numpy(logits), 1).numpy()
    confidence, right = p.max(1), p.argmax(1) == ids
    bins = np.minimum((confidence * 64).astype(int), 63)
    gaps = [abs(confidence[bins == i].sum() - right[bins == i].sum()) for i in range(64)]
    assert found.ece == pytest.approx(sum(gaps) / 50, rel=1e-12)
    assert found.positives == right.sum()
    assert math.isnan(found.normalized_entropy)  # it needs the classes' shares
    with pytest.raises(MissingSectionError):
        _ = found.classes
    page = report_page(report)
    assert "share that is right" in page
    assert "Of each class it is not known: there are too many for the bins." in page
    assert "Calibration by class" not in page


def test_reports_merge_with_weights_or_without() -> None:
    plain = scored("cross_entropy", logits=LOGITS, targets=IDS)
    weighted = scored("cross_entropy", {"class_weight": [1, 2, 3, 4, 5]}, logits=LOGITS, targets=IDS)
    with pytest.raises(ValueError, match="only one report has weights, by weight or class_weight"):
        Report.merge([plain, weighted])


def test_soft_targets_and_dropped_rows() -> None:
    targets = HARD.copy()
    targets[0] = [0.0, 0.4, 0.0, 0.6, 0.0]
    mask = RANDOM.random(N) < 0.7
    mask[0] = True
    report = scored("cross_entropy", PARAMS, logits=LOGITS, targets=targets, mask=mask)
    assert report.calibration.soft == 1
    assert report.calibration.count == report.count == mask.sum()
    assert report.calibration.positives == pytest.approx((targets[mask, P.argmax(1)[mask]]).sum(), rel=1e-14)
    first = 3  # the greatest target of the soft row
    ids = np.where(np.arange(N) == 0, first, IDS)[mask]
    assert [each.count for each in report.classes] == np.bincount(ids, minlength=CLASSES).tolist()
    with pytest.raises(ValueError, match="1 of the targets are neither"):
        _ = report.calibration.auroc


def test_lists_say_what_is_predicted() -> None:
    report = scored("cross_entropy", {"top": 7}, logits=LOGITS, targets=IDS, baseline=OTHER)
    order = np.argsort(P[np.arange(N), IDS])[:7]
    assert [each.index for each in report.top_elements] == [(row,) for row in order]
    for each, row in zip(report.top_elements, order, strict=True):
        assert (each.target, each.predicted) == (IDS[row], P[row].argmax())
        assert each.confidence == pytest.approx(CONFIDENCE[row], rel=1e-14)
        assert each.logit is each.probability is each.baseline_confidence is None
    exp = np.exp(OTHER - OTHER.max(1, keepdims=True))
    for each in report.paired.worse_elements:
        assert each.index is not None
        row = each.index[0]
        assert each.confidence == pytest.approx(CONFIDENCE[row], rel=1e-14)
        assert each.baseline_confidence == pytest.approx(1.0 / exp[row].sum(), rel=1e-13)
        assert each.predicted is None
    boxes = drawn("box")
    (first, *_) = scored("box", boxes=boxes["boxes"], targets=boxes["targets"]).top_elements
    assert first.target is first.predicted is first.confidence is None


@pytest.mark.parametrize("loss", LOSSES)
def test_reports_of_parts_are_the_report_of_all(loss: str) -> None:
    tensors = drawn(loss) | {"groups": RANDOM.integers(0, 3, 60)}
    whole = scored(loss, {"top": 5}, **tensors)
    cuts = [0, 1, 25, 60]
    parts = [
        scored(loss, {"top": 5, "first_row": low}, **{name: its[low:high] for name, its in tensors.items()})
        for low, high in pairwise(cuts)
    ]
    for part in parts:  # made apart, not one request repeated
        part._document["run"].pop("request_id")
    assert Report.merge(reversed(parts)) == whole
    assert Report(whole.to_dict()) == whole


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.row])
def test_models_are_compared_row_by_row(loss: str) -> None:
    tensors = drawn(loss, 40)
    report = scored(loss, **tensors)
    baseline = tensors.pop("baseline")
    inputs = LOSSES[loss].inputs[0]
    difference = rows_of(loss, {}, **tensors) - rows_of(loss, {}, **{**tensors, inputs: baseline})
    found = compare(report)
    assert found.pairing == "rows"
    assert found.whole.difference == pytest.approx(difference.mean(), rel=1e-12)
    assert report.paired.stderr == pytest.approx(difference.std(ddof=1) / math.sqrt(40), rel=1e-9)
    apart = compare(scored(loss, **tensors), scored(loss, **{**tensors, inputs: baseline}))
    assert apart.whole.difference == pytest.approx(difference.mean(), rel=1e-12)
    assert apart.whole.interval[1] - apart.whole.interval[0] > 0


def test_reports_of_other_parameters_are_not_compared() -> None:
    tensors = drawn("dice")
    with pytest.raises(NotComparable, match="smooth"):
        compare(scored("dice", {"smooth": 1.0}, **tensors), scored("dice", {"smooth": 0.5}, **tensors))


@pytest.mark.parametrize("loss", LOSSES)
def test_pages_are_drawn(loss: str) -> None:
    tensors = drawn(loss) | {"groups": RANDOM.integers(0, 3, 60)}
    report = scored(loss, **tensors)
    page = Page(report_page(report))
    said = " ".join(page.texts)
    heads = page.texts_of("th")
    by_row = bool(LOSSES[loss].row)
    assert ("elements" in heads) is not by_row
    assert ("Worst rows" in page.texts_of("h2")) is by_row
    assert ("share that is right" in said) is (LOSSES[loss].row == "classes")
    assert ("Calibration" in page.texts_of("h2")) is ("calibration" not in LOSSES[loss].without)
    if "calibration" in LOSSES[loss].without:
        with pytest.raises(MissingSectionError):
            _ = report.calibration


@pytest.mark.parametrize("loss", LOSSES)
def test_positives_are_shown_where_elements_are_positive(loss: str) -> None:
    document = scored(loss, **drawn(loss), groups=RANDOM.integers(0, 3, 60)).to_dict()
    document.pop("calibration", None)  # it has those of each class
    are_shown = not LOSSES[loss].row and LOSSES[loss].targets == "probability"
    assert Page(report_page(Report(document))).texts.count("positives") == (4 if are_shown else 0)


def test_what_a_mean_divides_by_is_shown() -> None:
    report = scored("dice", {"normalizer": "positives"}, **drawn("dice"))
    assert "positives" in Page(report_page(report)).texts


def test_positions_and_boxes_have_their_names() -> None:
    logits = RANDOM.normal(size=(6, 3, 4, 2))
    pixels = scored(
        "cross_entropy", {"class_axis": 1}, logits=logits, targets=RANDOM.integers(0, 3, (6, 4, 2))
    )
    assert (pixels.rows, pixels.count) == (6, 48)
    assert "Positions of the greatest loss" in " ".join(Page(report_page(pixels)).texts)
    corners = np.sort(RANDOM.random((2, 5, 4, 2, 2)), axis=3).reshape(2, 5, 4, 4)
    boxes = scored("box", boxes=corners[0], targets=corners[1])
    assert (boxes.rows, boxes.count) == (5, 20)
    assert "Boxes of the greatest loss" in " ".join(Page(report_page(boxes)).texts)
