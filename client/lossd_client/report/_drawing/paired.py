"""A model against its baseline, row by row."""

from collections.abc import Iterator, Sequence

from lossd_client.report._drawing.markup import figure, number, spanned, spread
from lossd_client.report._drawing.names import class_name, element_words, group_ids, is_by_row
from lossd_client.report._drawing.pictures import shares
from lossd_client.report._drawing.section import LEVEL, Section
from lossd_client.report._drawing.tables import Cell, Row, listing, table, words
from lossd_client.report._drawing.tables import figure as cell
from lossd_client.report._drawing.worst import entries
from lossd_client.report._figures.differences import Difference, RowDifference, Signs
from lossd_client.report._figures.paired import Paired
from lossd_client.report._view import ReportView

_HEAD = ("difference", "mean", "baseline", "better", "worse", "equal")


def paired(report: ReportView, most: int) -> Section | None:
    """Return how the losses differ from the baseline's."""
    if "paired" not in report.sections:
        return None
    found = report.paired
    kept = report.rows_kept
    rows = [
        ("mean difference", number(found.mean, 9)),
        ("95 % interval, by rows", spanned(found.interval(LEVEL), kept)),
        ("standard error, by rows", spread(found.stderr, kept)),
    ]
    return Section(
        "Against the baseline",
        table(("loss minus baseline", "value"), rows, caption="Below 0 where the model is better"),
        *signs(report),
        *_classes(report, found, most),
        *paired_groups(report, most),
        *paired_lists(report, most),
    )


def paired_lists(report: ReportView, most: int) -> Iterator[str]:
    """Yield the rows and elements that differ most."""
    found = report.paired
    if "top" in report._document["paired"] and "top" in report.sections:
        if is_by_row(report):
            yield entries(report, "Rows that are worse", found.worse_elements, most)
            yield entries(report, "Rows that are better", found.better_elements, most)
            return
        nouns = element_words(report)[1].capitalize()
        yield entries(report, "Rows that are worse", found.worse_rows, most)
        yield entries(report, f"{nouns} that are worse", found.worse_elements, most)
        yield entries(report, "Rows that are better", found.better_rows, most)
        yield entries(report, f"{nouns} that are better", found.better_elements, most)


def signs(report: ReportView) -> Iterator[str]:
    """Yield how many rows and elements are better and worse, as bars."""
    found = report.paired
    yield _signs("rows", found.rows)
    if not is_by_row(report):
        yield _signs(element_words(report)[1], found)


def _signs(noun: str, found: Signs) -> str:
    counts = {name: getattr(found, name) for name in ("better", "worse", "equal", "undefined")}
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"
    parts = [
        ("better", counts["better"]),
        ("worse", counts["worse"]),
        ("equal or undefined", counts["equal"] + counts["undefined"]),
    ]
    return figure(shares(f"{noun} better and worse", parts), f"{noun}: {said}")


def _classes(report: ReportView, found: Paired, most: int) -> Iterator[str]:
    if "classes" not in report._document["paired"] or "classes" not in report.sections:
        return
    order = _largest([each.mean for each in found.classes])[:most]
    rows: list[Row] = [(words(class_name(report, place)), *_figures(found.classes[place])) for place in order]
    title = "Differences by class"
    yield listing(title, ("class", *_HEAD), rows, total=len(found.classes), noun="classes")


def paired_groups(report: ReportView, most: int) -> Iterator[str]:
    """Yield how the groups differ from the baseline's, with intervals."""
    if "groups" not in report.sections or "paired" not in report._document["groups"]:
        return
    groups = report.groups
    worst = sorted(groups.worst(most), key=lambda each: _descending(each.paired.mean))
    rows: list[Row] = [(*map(words, group_ids(each.id)), *_of_group(each.paired)) for each in worst]
    head = [*groups.names, _HEAD[0], "95 % interval", *_HEAD[1:3], "rows better", "rows worse", "rows equal"]
    title = f"Differences by {', '.join(groups.names)}"
    yield listing(title, head, rows, total=len(groups), noun="groups", names=len(groups.names))


def _of_group(each: RowDifference) -> Iterator[Cell]:
    low, high = each.interval(LEVEL)
    first, *rest = _figures(each)
    yield first
    yield Cell("-" if low != low else f"{number(low)} to {number(high)}", low)
    yield from rest[:2]
    yield from map(cell, (each.rows.better, each.rows.worse, each.rows.equal))


def _figures(each: Difference) -> list[Cell]:
    return list(
        map(cell, (each.mean, each.new_mean, each.baseline_mean, each.better, each.worse, each.equal))
    )


def _largest(means: Sequence[float]) -> list[int]:
    """Return the places of the greatest differences."""
    return sorted(range(len(means)), key=lambda place: _descending(means[place]))


def _descending(mean: float) -> float:
    return float("inf") if mean != mean else -mean
