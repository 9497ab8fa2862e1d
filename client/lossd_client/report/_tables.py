"""Parts of a report as columns, for data frames."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from lossd_client.report._figures.calibration import ReliabilityBin
from lossd_client.report._figures.curves import Threshold
from lossd_client.report._figures.figures import Figures
from lossd_client.report._figures.groups import GroupId
from lossd_client.report._figures.histogram import Histogram
from lossd_client.report._view import ReportView

Columns: TypeAlias = dict[str, list[Any]]


def columns_of(report: ReportView, section: str) -> Columns:
    """Return the columns of a table.

    Raises:
        ValueError: There is no such table.
        MissingSectionError: The report has no such section.
    """
    if section not in _TABLES:
        raise ValueError(f"there is no table {section!r}; there are {', '.join(_TABLES)}")
    return _TABLES[section](report)


def _columns(items: Iterable[object], names: Sequence[str]) -> Columns:
    each = list(items)
    return {name: [getattr(item, name) for item in each] for name in names}


def _filled(items: Iterable[object], names: Sequence[str]) -> Columns:
    """Return columns without those in which nothing is known, such as ids that were not sent."""
    columns = _columns(items, names)
    return {name: column for name, column in columns.items() if any(each is not None for each in column)}


def _means(report: ReportView) -> Columns:
    """Return a row for the whole, each class and each group; None for what classes do not have."""
    rows: list[tuple[Any, ...]] = [("all", None, report.rows, *_sums(report), report.stderr)]
    if "classes" in report.sections:
        rows += [("class", str(each.index), None, *_sums(each), None) for each in report.classes]
    if "groups" in report.sections:
        rows += [
            ("group", joined(each.id), each.rows, *_sums(each), each.stderr)
            for each in report.groups.values()
        ]
    return {name: [row[i] for row in rows] for i, name in enumerate(_MEANS)}


def _sums(figures: Figures) -> tuple[int, float, float]:
    return figures.count, figures.sum, figures.mean


def joined(id: GroupId) -> str:  # noqa: A002 - its name
    """Return a group's id as text."""
    return " / ".join(map(str, id)) if isinstance(id, tuple) else str(id)


def _groups(report: ReportView) -> Columns:
    groups = report.groups
    figures = _columns(groups.values(), _GROUP)
    ids = [each if isinstance(each, tuple) else (each,) for each in groups.ids]
    names = [name if name not in figures else f"group.{name}" for name in groups.names]
    return {**{name: [each[i] for each in ids] for i, name in enumerate(names)}, **figures}


def _histogram(histogram: Histogram) -> Columns:
    """Return the bins ascending; 0 and infinity are bins of one number, and NaN is the last."""
    single = [(0.0, histogram.zero), (float("inf"), histogram.infinite)]
    bins = sorted([*histogram.bins, *((number, number, count) for number, count in single if count)])
    bins += [(float("nan"), float("nan"), histogram.nan)] if histogram.nan else []
    return {name: [each[i] for each in bins] for i, name in enumerate(("least", "greatest", "count"))}


_MEANS: Final = ("kind", "id", "rows", "count", "sum", "mean", "stderr")
_CLASS: Final = ("count", "sum", "weight_sum", "positives", "mean")
_GROUP: Final = ("rows", "rows_dropped", "elements", "dropped", *_CLASS, "stderr")
_TABLES: Final[Mapping[str, Callable[[ReportView], Columns]]] = {
    "means": _means,
    "classes": lambda report: _columns(report.classes, ("index", *_CLASS)),
    "groups": _groups,
    "top_rows": lambda report: _filled(report.top_rows, ("index", "id", "loss")),
    "top_elements": lambda report: _filled(
        report.top_elements,
        ("index", "id", "loss", "logit", "probability", "confidence", "predicted", "target"),
    ),
    "histogram": lambda report: _histogram(report.element_histogram),
    "row_histogram": lambda report: _histogram(report.row_histogram),
    "reliability": lambda report: _columns(report.calibration.reliability(), ReliabilityBin._fields),
    "thresholds": lambda report: _columns(report.calibration.thresholds(), Threshold._fields),
}
