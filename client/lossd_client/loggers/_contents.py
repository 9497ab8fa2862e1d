"""What is logged of a report, a comparison or a result, whatever the tracker."""

import csv
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, Final

import numpy as np

from lossd_client.loggers._names import Path
from lossd_client.report import Report
from lossd_client.report._drawing.html import report_page
from lossd_client.report._tables import Columns, columns_of
from lossd_client.result import LossResult

_SERIES: Final = 1_000
_LEVEL: Final = 0.95
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}
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
        files: What writes each file, by its name; tables are files too.
    """

    figures: dict[Path, float]
    params: Mapping[str, Any]
    about: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Columns] = field(default_factory=dict)
    report: Report | None = None
    files: Mapping[str, Callable[[FilePath], object]] = field(default_factory=dict)

    def write(self, folder: FilePath) -> None:
        """Write the files into a folder, which is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in self.files.items():
            write(folder / name)
        for name, columns in self.tables.items():
            with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])


def contents_of(what: object) -> Contents:
    """Return what is logged of a report, a result or a comparison.

    Raises:
        TypeError: It is none of them.
    """
    if isinstance(what, Report):
        return _of_report(what)
    if isinstance(what, LossResult):
        return _of_result(what)
    raise TypeError(f"log() takes a Report, a Comparison or a LossResult, and got a {type(what).__name__}")


def _of_report(report: Report) -> Contents:
    about = {name: str(report.run[name]) for name in _ABOUT if report.run.get(name) is not None}
    return Contents(
        figures={path: float(figure) for path, figure in _figures(report)},
        params={"loss": report.loss_name, **report.params},
        about=about,
        tables=_tables(report),
        report=report,
        files={
            "report.json": report.save,
            "report.html": lambda path: path.write_text(report_page(report), encoding="utf-8"),
        },
    )


def _figures(report: Report) -> Iterable[tuple[Path, float]]:
    yield from _mean(report).items()
    yield from {("rows",): report.rows, ("count",): report.count, ("sum",): report.sum}.items()
    if "classes" in report.sections:
        yield from _means("class", [(str(each.index), each.mean) for each in report.classes])
    if "groups" in report.sections:
        found = [
            (each.id if isinstance(each.id, tuple) else (each.id,), each.mean)
            for each in report.groups.values()
        ]
        yield from _means("group", found)
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
    if len(found) > _SERIES:
        warnings.warn(
            f"the report has {len(found)} {kind} means: they are in its files alone, since trackers are slow "
            f"with more than {_SERIES} series",
            stacklevel=6,
        )
        return
    for name, mean in found:
        yield (kind, *(name if isinstance(name, tuple) else (name,)), "mean"), mean


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
