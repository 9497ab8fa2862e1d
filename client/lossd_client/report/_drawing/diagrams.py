"""What a report's diagrams show: how losses are spread, how well calibrated a model is, other gammas."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lossd_client.report._drawing.markup import number
from lossd_client.report._drawing.pictures import Axis, Curve, columns, diagram
from lossd_client.report._figures.calibration import Calibration, ReliabilityBin
from lossd_client.report._view import ReportView

_WIDTHS: Final = (0.25, 0.5, *(2.0**power for power in range(12)))  # of a column, in powers of two
_COLUMNS: Final = 64
_POINTS: Final = 512  # of a curve
_UNIT: Final = (0.0, 1.0)
_SIGN: Final = 0x8000  # of the upper 16 bits of a float64

Picture = tuple[str, str]
"""A picture, and what is said below it."""

Point = tuple[float, float]


def histogram(title: str, section: Mapping[str, Any]) -> Picture:
    """Return how losses are spread over a logarithmic axis, and how many have no place on it."""
    places = [
        (_middle(number_), count)
        for number_, count in zip(section["bins"], section["counts"], strict=True)
        if number_ < _SIGN
    ]
    negative = sum(section["counts"]) - sum(count for _, count in places)
    apart = {
        "0": section["zero"],
        "below 0": negative,
        "Infinity": section["infinite"],
        "NaN": section["nan"],
    }
    said = "".join(f" {count:,} are {name}." for name, count in apart.items() if count)
    low, width, counts = _grouped(places)
    edges = [low + place * width for place in range(len(counts) + 1)]
    across = Axis("loss, logarithmic", edges[0], edges[-1], is_log=True)
    return columns(title, across, Axis("count", 0.0, float(max(counts))), edges, counts), said


def _grouped(places: Sequence[tuple[float, int]]) -> tuple[float, float, list[int]]:
    """Return the first column's start, a column's width, and the columns' counts."""
    if not places:
        return -1.0, 1.0, [0]
    least, most = min(place for place, _ in places), max(place for place, _ in places)
    width = next(width for width in _WIDTHS if (most - least) / width < _COLUMNS - 1)
    low = math.floor(least / width) * width
    counts = [0] * (int((most - low) / width) + 1)
    for place, count in places:
        counts[int((place - low) / width)] += count
    return low, width, counts


def _middle(number_: int) -> float:
    """Return the binary logarithm of the middle of a bin: the upper 16 bits of a float64."""
    exponent, fraction = number_ >> 4, ((number_ & 15) + 0.5) / 16
    return exponent - 1023 + math.log2(1 + fraction) if exponent else math.log2(fraction) - 1022


def calibration_pictures(calibration: Calibration) -> list[Picture]:
    """Return the diagrams of calibration."""
    pictures = [_reliability(calibration.reliability())]
    if not calibration.soft and 0 < calibration.positives < calibration.count:
        roc = [(point.false_positive_rate, point.true_positive_rate) for point in calibration.roc()]
        recalls = [(point.recall, point.precision) for point in calibration.precision_recall()]
        pictures += [_roc(roc), _precision_recall(recalls)]
    return pictures


def _reliability(bins: Sequence[ReliabilityBin]) -> Picture:
    found = [each for each in bins if each.count]
    most = max((each.count for each in found), default=1)
    points = [(each.probability, each.rate) for each in found]
    across, up = Axis("mean probability", *_UNIT), Axis("share of positives", *_UNIT)
    curve = Curve("the model", points, [each.count / most for each in found])
    said = "Reliability by score. A perfect model is on the diagonal; larger dots have more elements."
    return diagram("Reliability", across, up, [curve], diagonal=True), said


def _roc(points: Sequence[Point]) -> Picture:
    across, up = Axis("false positive rate", *_UNIT), Axis("true positive rate", *_UNIT)
    picture = diagram("ROC curve", across, up, [Curve("the model", _thinned(points))], diagonal=True)
    return picture, "Receiver operating characteristic."


def _precision_recall(points: Sequence[Point]) -> Picture:
    across, up = Axis("recall", *_UNIT), Axis("precision", *_UNIT)
    picture = diagram("Precision and recall", across, up, [Curve("the model", _thinned(points))])
    return picture, "Precision and recall."


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Return some of the points, the last among them."""
    step = max(1, len(points) // _POINTS)
    return [*points[:-1:step], points[-1]]


def sweep_picture(report: ReportView, document: Mapping[str, Any]) -> Picture | None:
    """Return the mean by gamma; None if there are no gammas, or not all means are finite."""
    gammas = document["sweep"].get("gamma") or []
    try:
        points = [(float(gamma), report.at(gamma=gamma)) for gamma in sorted(gammas)]
    except ValueError:  # its alpha or pos_weight is a tensor, which the report does not hold
        return None
    finite = [mean for _, mean in points if math.isfinite(mean)]
    if not finite:
        return None
    across = Axis("gamma", points[0][0], points[-1][0])
    curve = Curve("mean loss", points, [0.1] * len(points))
    said = "; ".join(f"{number(gamma, 4)}: {number(mean)}" for gamma, mean in points)
    return diagram(
        "Mean loss by gamma", across, Axis("mean loss", 0.0, max(finite)), [curve]
    ), f"By gamma, {said}."
