"""How well probabilities agree with targets: figures, diagrams, thresholds, classes."""

import math
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from lossd_client.report._drawing.markup import beside, details, figure, number, tag, text
from lossd_client.report._drawing.names import class_name, element_words
from lossd_client.report._drawing.pictures import Axis, Curve, diagram
from lossd_client.report._drawing.section import Section
from lossd_client.report._drawing.tables import Cell, Row, listing, scrolled, table, words
from lossd_client.report._drawing.tables import figure as cell
from lossd_client.report._figures.calibration import Calibration, ReliabilityBin, ScoreBins
from lossd_client.report._figures.curves import Threshold
from lossd_client.report._view import ReportView

_POINTS: Final = 512  # of a curve
_THRESHOLDS: Final = 12  # of a table
_CLASSES: Final = 200
_DIGITS: Final = 4  # of a class's areas
_UNIT: Final = (0.0, 1.0)
_WHOSE: Final = ("Over all classes", "Of the top class, the one of the greatest probability")

Point: TypeAlias = tuple[float, float]


def calibration(report: ReportView, most: int) -> Section | None:
    """Return how well calibrated the model is."""
    if "calibration" not in report.sections:
        return None
    found = report.calibration
    bins = found.reliability()
    return Section(
        "Calibration",
        table(("figure", "value"), calibration_figures(found), caption=_WHOSE[found.is_of_top_class]),
        _on_bins(found),
        reliability([("the model", bins)], is_of_top_class=found.is_of_top_class),
        _as_table(report, bins),
        *(_curves(found) if found.count and not found.is_of_top_class else ()),
        *_classes(report, found, min(most, _CLASSES)),
    )


def calibration_figures(found: Calibration) -> list[tuple[str, str]]:
    """Return the figures of calibration, named, for people to read."""
    figures = [
        ("Brier score", number(found.brier)),
        ("expected calibration error", number(found.ece)),
        ("greatest calibration error", number(found.mce)),
        ("cross entropy", number(found.cross_entropy)),
        ("normalized entropy", number(found.normalized_entropy)),
    ]
    if found.is_of_top_class:
        figures.insert(
            0,
            ("share that is right", number(found.positives / found.count))
            if found.count
            else ("share that is right", "-"),
        )
    if found.undefined:
        figures.append(("NaN, left out", number(found.undefined)))
    if found.soft:
        return [*figures, ("targets neither 0 nor 1", number(found.soft))]
    if found.is_of_top_class:
        return [*figures, ("AUROC of right and wrong", _bounded(found.auroc, found.auroc_bounds))]
    return [
        *figures,
        ("AUROC", _bounded(found.auroc, found.auroc_bounds)),
        ("average precision", _bounded(found.average_precision, found.average_precision_bounds)),
    ]


def _bounded(value: float, bounds: tuple[float, float], digits: int = 6) -> str:
    low, high = bounds
    if low == high or math.isnan(value):
        return number(value, digits)
    return f"{number(value, digits)} ({number(low, digits)} to {number(high, digits)})"


def _on_bins(found: Calibration) -> str:
    """Return what the bounds of AUROC and average precision are of, where there are any."""
    if found.soft or found.auroc_bounds[0] == found.auroc_bounds[1] or math.isnan(found.auroc):
        return ""
    areas = "AUROC is" if found.is_of_top_class else "AUROC and average precision are"
    exact = "" if found.is_of_top_class else " calibration_bins=exact has none, for 16-bit inputs."
    said = (
        f"{areas} from {len(found.reliability())} bins, within which the order is not known: the bounds are "
        f"in brackets.{exact}"
    )
    return tag("p", text(said))


def reliability(
    models: Sequence[tuple[str, Sequence[ReliabilityBin]]], *, is_of_top_class: bool = False
) -> str:
    """Return the reliability diagram of one model, or of two."""
    curves = []
    for place, (name, bins) in enumerate(models):
        found = [each for each in bins if each.count]
        most = max((each.count for each in found), default=1)
        points = [(each.probability, each.rate) for each in found]
        curves.append(Curve(name, points, [each.count / most for each in found], place))
    across, up = Axis("mean probability", *_UNIT), Axis("share of positives", *_UNIT)
    said = "Reliability by score. A perfect model is on the diagonal; larger dots have more elements."
    if is_of_top_class:
        across, up = Axis("mean confidence", *_UNIT), Axis("share that is right", *_UNIT)
        said = "Reliability of the top class. A perfect model is on the diagonal; larger dots have more rows."
    return figure(diagram("Reliability", across, up, curves, diagonal=True), said)


def _as_table(report: ReportView, bins: Sequence[ReliabilityBin]) -> str:
    rows = [
        (
            Cell(f"{number(each.lower, 4)} to {number(each.upper, 4)}", each.lower),
            *map(cell, (each.count, each.probability, each.rate)),
            cell(each.rate - each.probability),
        )
        for each in bins
        if each.count
    ]
    head = ("probability", "elements", "mean probability", "share of positives", "share less probability")
    if report.calibration.is_of_top_class:
        nouns = element_words(report)[1]
        head = ("confidence", nouns, "mean confidence", "share that is right", "share less confidence")
    title = "Reliability by bin"
    return details("The same as a table", listing(title, head, rows, total=len(rows), noun="bins"))


def _curves(found: Calibration) -> Iterator[str]:
    """Yield what becomes of a threshold, and the curves over all of them."""
    thresholds = [each for each in found.thresholds() if each.true_positives or each.false_positives]
    if not found.positives:
        yield tag("p", "No target is positive, so that there is no recall and no curve.")
        return
    yield figure(
        _threshold_curves(thresholds),
        "What is called positive if its probability is at least the threshold.",
    )
    yield _threshold_table(thresholds)
    if found.soft or found.positives >= found.count:
        return
    rates = [(point.false_positive_rate, point.true_positive_rate) for point in found.roc()]
    recalls = [(point.recall, point.precision) for point in found.precision_recall()]
    yield beside(
        figure(_roc(rates), "Receiver operating characteristic."),
        figure(_precision_recall(recalls), "Precision and recall."),
    )


def _threshold_curves(thresholds: Sequence[Threshold]) -> str:
    curves = []
    for place, name in enumerate(("precision", "recall", "f1")):
        points = [(each.threshold, getattr(each, name)) for each in thresholds]
        curves.append(Curve(name.replace("f1", "F1"), _thinned(points), None, place))
    across = Axis("threshold", *_UNIT)
    return diagram("Precision, recall and F1 by threshold", across, Axis("share", *_UNIT), curves)


def _threshold_table(thresholds: Sequence[Threshold]) -> str:
    """Return some thresholds, the one with the greatest F1 among them."""
    best = best_threshold(thresholds)
    last, step = len(thresholds) - 1, max(1, _THRESHOLDS - 1)
    places = {last * place // step for place in range(_THRESHOLDS)} | {thresholds.index(best)}
    rows = [
        (
            Cell(
                f"{number(each.threshold, 4)}{' (the best F1)' if each is best else ''}",
                each.threshold,
            ),
            *map(cell, each[1:]),
        )
        for each in (thresholds[place] for place in sorted(places))
    ]
    head = ("threshold", "precision", "recall", "F1", "true positives", "false positives")
    return scrolled(table(head, rows, caption="Some thresholds", is_sortable=True), "Some thresholds")


def best_threshold(thresholds: Sequence[Threshold]) -> Threshold:
    """Return the threshold with the greatest F1; of equal ones the least."""
    return max(thresholds, key=lambda each: -1.0 if math.isnan(each.f1) else each.f1)


def _roc(points: Sequence[Point]) -> str:
    across, up = Axis("false positive rate", *_UNIT), Axis("true positive rate", *_UNIT)
    return diagram("ROC curve", across, up, [Curve("the model", _thinned(points))], diagonal=True)


def _precision_recall(points: Sequence[Point]) -> str:
    across, up = Axis("recall", *_UNIT), Axis("precision", *_UNIT)
    return diagram("Precision and recall", across, up, [Curve("the model", _thinned(points))])


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Return some of the points, the last among them."""
    step = max(1, len(points) // _POINTS)
    return [*points[:-1:step], points[-1]]


def _classes(report: ReportView, found: Calibration, most: int) -> Iterator[str]:
    """Yield the calibration of each class, the worst calibrated first.

    Without the greatest error of a bin, which by class is that of a bin with a few elements.
    """
    if "classes" not in report._document["calibration"]:
        if found.is_of_top_class:
            yield tag("p", text("Of each class it is not known: there are too many for the bins."))
        return
    each = found.classes
    rows: list[Row] = [
        (words(class_name(report, place)), *_of_class(each[place])) for place in each.worst(most)
    ]
    head = ["class", "calibration error", element_words(report)[1], "positives"]
    head += [] if found.soft else ["AUROC", "average precision"]
    title = "Calibration by class"
    yield tag("h3", text(title))
    yield listing(title, head, rows, total=len(each), noun="classes")


def _of_class(each: ScoreBins) -> Iterator[Cell]:
    yield from map(cell, (each.ece, each.count, each.positives))
    if not each.soft:
        yield Cell(_bounded(each.auroc, each.auroc_bounds, _DIGITS), each.auroc)
        yield Cell(
            _bounded(each.average_precision, each.average_precision_bounds, _DIGITS), each.average_precision
        )
