"""What is logged of a report, a comparison or a result, whatever the tracker."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, Final

import numpy as np

from lossd_client.comparison import Change, Comparison
from lossd_client.loggers._cells import in_spreadsheet
from lossd_client.loggers._names import Path
from lossd_client.report import Report
from lossd_client.report._drawing.html import report_page
from lossd_client.report._tables import Columns, columns_of, joined
from lossd_client.result import LossResult

_SERIES: Final = 1_000
_LEVEL: Final = 0.95
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}
_JUDGED_BY: Final = ("max_regression", "confidence", "pairing", "by", "clusters")
_ABOUT: Final = ("version", "kernel", "device", "request_id")


@dataclass(frozen=True)
class Contents:
    """What is logged.

    Attributes:
        figures: Numbers by path, such as ("class", 3, "mean").
        params: The loss, its parameters, and those of a comparison.
        about: What may differ from step to step, as text: the verdict, versions.
        tables: Columns by the table's name.
        report: The report, for pictures of what it has.
        notes: Sentences on what is left out.
        files: What writes each file, by its name; tables are files too.
    """

    figures: dict[Path, float]
    params: Mapping[str, Any]
    about: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Columns] = field(default_factory=dict)
    report: Report | None = None
    notes: tuple[str, ...] = ()
    files: Mapping[str, Callable[[FilePath], object]] = field(default_factory=dict)

    def write(self, folder: FilePath) -> None:
        """Write the files into a folder, which is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in self.files.items():
            write(folder / name)
        for name, columns in self.tables.items():
            with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(
                    map(in_spreadsheet, [columns, *zip(*columns.values(), strict=True)])
                )


def contents_of(what: object) -> Contents:
    """Return what is logged of a report, a result or a comparison.

    Raises:
        TypeError: It is none of them.
    """
    if isinstance(what, Report):
        return _of_report(what)
    if isinstance(what, LossResult):
        return _of_result(what)
    if isinstance(what, Comparison):
        return _of_comparison(what)
    raise TypeError(f"log() takes a Report, a Comparison or a LossResult, and got a {type(what).__name__}")


def _of_report(report: Report) -> Contents:
    about = {name: str(report.run[name]) for name in _ABOUT if report.run.get(name) is not None}
    return Contents(
        figures={path: float(figure) for path, figure in _figures(report)},
        params={"loss": report.loss_name, **report.params},
        about=about,
        tables=_tables(report),
        report=report,
        notes=(
            *_too_many(len(report.classes) if "classes" in report.sections else 0, "classes"),
            *_too_many(len(report.groups) if "groups" in report.sections else 0, "groups"),
        ),
        files={
            "report.json": report.save,
            "report.html": lambda path: path.write_text(report_page(report), encoding="utf-8"),
        },
    )


def _figures(report: Report) -> Iterable[tuple[Path, float]]:
    yield from _mean(report).items()
    yield from {("rows",): report.rows, ("count",): report.count, ("sum",): report.sum}.items()
    if "classes" in report.sections:
        yield from _means("class", [(each.index, each.mean) for each in report.classes])
    if "groups" in report.sections:
        yield from _means("group", [(each.id, each.mean) for each in report.groups.values()])
    if "histogram" in report.sections:
        for name, q in _QUANTILES.items():
            yield ("quantile", name), report.quantile(q)
            yield ("row_quantile", name), report.row_quantile(q)
    if "calibration" in report.sections:
        yield from _calibration(report)
    if "paired" in report.sections:
        for (name,), figure in _mean(report.paired).items():
            yield ("paired", {"mean": "difference"}.get(name, name)), figure
        for name in ("better", "worse", "equal"):
            yield ("paired", f"{name}_rows"), getattr(report.paired.rows, name)


def _mean(figures: Any) -> dict[tuple[str], float]:  # noqa: ANN401 - rows, or their differences
    low, high = figures.interval(_LEVEL)
    return {("mean",): figures.mean, ("low",): low, ("high",): high, ("stderr",): figures.stderr}


def _means(kind: str, found: list[tuple[Any, float]]) -> Iterable[tuple[Path, float]]:
    """Yield the mean of each class or group, unless they are too many for a tracker."""
    if len(found) <= _SERIES:
        for name, mean in found:
            yield (kind, *(name if isinstance(name, tuple) else (name,)), "mean"), mean


def _too_many(found: int, noun: str) -> tuple[str, ...]:
    if found <= _SERIES:
        return ()
    return (
        f"the means of {found} {noun} are logged in files alone: trackers are slow with more than {_SERIES} "
        "series",
    )


def _calibration(report: Report) -> Iterable[tuple[Path, float]]:
    calibration = report.calibration
    names = ["brier", "ece", "mce", "cross_entropy", "normalized_entropy"]
    names += [] if calibration.soft else ["auroc", "average_precision"]
    for name in names:
        yield ("calibration", name), getattr(calibration, name)
        low, high = getattr(calibration, f"{name}_bounds", (0.0, 0.0))
        if low < high:
            yield ("calibration", f"{name}_low"), low
            yield ("calibration", f"{name}_high"), high


def _tables(report: Report) -> dict[str, Columns]:
    tables = {"means": columns_of(report, "means")}
    if "top" in report.sections:
        tables |= {name: columns_of(report, name) for name in ("top_rows", "top_elements")}
    if "calibration" in report.sections:
        tables["reliability"] = columns_of(report, "reliability")
    return {name: _without_tuples(columns) for name, columns in tables.items()}


def _without_tuples(columns: Columns) -> Columns:
    return {
        name: [", ".join(map(str, each)) if isinstance(each, tuple) else each for each in column]
        for name, column in columns.items()
    }


def _of_result(result: LossResult) -> Contents:
    figures: dict[Path, float] = {} if isinstance(result.loss, np.ndarray) else {("loss",): result.loss}
    figures |= {(name,): float(getattr(result, name)) for name in ("sum", "count", "weight_sum", "positives")}
    if result.report is not None:
        found = _of_report(result.report)
        return replace(found, figures={**found.figures, **figures})
    about = {name: str(getattr(result, name)) for name in _ABOUT if getattr(result, name) is not None}
    return Contents(figures, {"loss": result.loss_name, **result.params, **result.options}, about)


def _of_comparison(comparison: Comparison) -> Contents:
    changes = list(comparison.changes())
    figures: dict[Path, float] = {
        ("comparison", name): float(value)
        for name, value in _change(comparison.whole).items()
        if isinstance(value, (int, float))
    }
    figures |= {("comparison", "bound"): comparison.bound, ("comparison", "regressed"): comparison.regressed}
    for group, change in changes[1:] if len(changes) <= _SERIES + 1 else []:
        parts = group if isinstance(group, tuple) else (group,)
        for name, value in zip(
            ("difference", "low", "high"), (change.difference, *change.interval), strict=True
        ):
            figures["comparison", "group", *parts, name] = value
    names = ["all", *(joined(group) for group, _ in changes if group is not None)]
    rows = [_change(change) for _, change in changes]
    text = json.dumps(comparison.to_dict(), ensure_ascii=False, allow_nan=False)
    return Contents(
        figures,
        {
            "loss": comparison.loss_name,
            **comparison.params,
            **{name: getattr(comparison, name) for name in _JUDGED_BY},
        },
        about={"verdict": comparison.verdict},
        tables={"changes": {"group": names, **{name: [row[name] for row in rows] for name in rows[0]}}},
        notes=_too_many(len(comparison.groups), "groups"),
        files={
            "comparison.json": lambda path: path.write_text(text, encoding="utf-8"),
            "comparison.md": lambda path: path.write_text(comparison.to_markdown(), encoding="utf-8"),
        },
    )


def _change(change: Change) -> dict[str, Any]:
    """Return its fields, each interval as two."""
    found = dict(vars(change))
    for name, before in (("interval", ""), ("relative_interval", "relative_")):
        found[f"{before}low"], found[f"{before}high"] = found.pop(name)
    for name in ("better", "worse", "equal"):
        found[f"{name}_rows"] = found.pop(name)
    return found
