"""The loss by class, by group, and by both."""

import math
from collections.abc import Iterator, Sequence

from lossd_client.report._drawing.markup import counted, figure, number, percent, tag, text
from lossd_client.report._drawing.names import (
    class_name,
    element_words,
    group_ids,
    group_name,
    has_positives,
    is_by_row,
)
from lossd_client.report._drawing.pictures import Bar, bars
from lossd_client.report._drawing.section import LEVEL, NAMES_ALONE, Section
from lossd_client.report._drawing.tables import Cell, Row, listing, words
from lossd_client.report._drawing.tables import figure as cell
from lossd_client.report._figures.figures import Figures
from lossd_client.report._figures.groups import Group, Groups
from lossd_client.report._view import ReportView

_BARS = 20
_CELLS = 30_000  # of a table of groups: one of hundreds of names has fewer rows


def classes(report: ReportView, most: int) -> Section | None:
    """Return the loss by class, in a table of so many rows at most."""
    if "classes" not in report.sections:
        return None
    found, total, nouns = report.classes.worst(most), len(report.classes), element_words(report)
    drawn = [Bar(class_name(report, each.index), each.mean, counted(each.count, *nouns)) for each in found]
    rows = [(words(class_name(report, each.index)), *_figures(each, report)) for each in found]
    head = ["class", *_head(report)]
    return Section(
        "Loss by class",
        *_pictured("Mean loss by class", drawn, total, "classes"),
        listing("Classes", head, rows, total=total, noun="classes"),
    )


def _head(report: ReportView) -> list[str]:
    """Return what `_figures` are called."""
    positives = ["positives"] if has_positives(report) else []
    return ["mean", "share of the sum", "times the mean", element_words(report)[1], *positives, "sum"]


def _figures(each: Figures, report: ReportView) -> Row:
    mean, total = each.mean, each.sum
    return (
        cell(mean),
        _share(total, report.sum),
        times(mean, report.mean),
        cell(each.count),
        *_positives(each, report),
        cell(total),
    )


def _positives(each: Figures, report: ReportView) -> list[Cell]:
    return [cell(each.positives)] if has_positives(report) else []


def times(mean: float, whole: float) -> Cell:
    """Return how many times the mean of all a mean is."""
    ratio = mean / whole if whole > 0 and math.isfinite(whole) else math.nan
    return Cell(f"{ratio:.3g}", ratio) if math.isfinite(ratio) else Cell("-", math.nan)


def _share(part: float, whole: float) -> Cell:
    share = part / whole if whole > 0 and math.isfinite(whole) else math.nan
    return Cell(percent(share), share)


def groups(report: ReportView, most: int) -> Section | None:
    """Return the loss by group, by each of the names alone, and the worst classes in groups."""
    if "groups" not in report.sections:
        return None
    names = report.groups.names
    most = min(most, max(_BARS, _CELLS // len(names)))
    parts = list(_by(report, report.groups, most, f"Mean loss by {', '.join(names)}"))
    if len(names) > 1:
        for name in names[:NAMES_ALONE]:
            parts.append(tag("h3", tag("bdi", text(f"By {name} alone"))))
            parts += _by(report, report.groups.by(name), most, f"Mean loss by {name} alone")
    if len(names) > NAMES_ALONE:
        parts.append(tag("p", f"The other {len(names) - NAMES_ALONE:,} names are not shown alone."))
    return Section(f"Loss by {', '.join(names)}", *parts, *_cells(report, most))


def _by(report: ReportView, found: Groups, most: int, title: str) -> Iterator[str]:
    worst = found.worst(most)
    drawn = [
        Bar(group_name(each.id), each.mean, counted(each.rows, "row"), each.interval(LEVEL))
        for each in worst[:_BARS]
    ]
    yield from _pictured(title, drawn, len(found), "groups", "Lines are 95 % intervals, by rows.")
    names = list(found.names)
    head = [*names, "mean", "95 % interval", "times the mean", "rows"]
    head += [] if is_by_row(report) else [element_words(report)[1]]
    head += [*(["positives"] if has_positives(report) else []), "sum"]
    rows = [_group(each, report) for each in worst]
    yield listing(
        f"Groups by {', '.join(names)}", head, rows, total=len(found), noun="groups", names=len(names)
    )


def _group(each: Group, report: ReportView) -> Row:
    low, high = each.interval(LEVEL)
    return (
        *map(words, group_ids(each.id)),
        cell(each.mean),
        Cell("-" if math.isnan(low) else f"{number(low)} to {number(high)}", low),
        times(each.mean, report.mean),
        cell(each.rows),
        *([] if is_by_row(report) else [cell(each.count)]),
        *_positives(each, report),
        cell(each.sum),
    )


def _pictured(title: str, drawn: Sequence[Bar], total: int, noun: str, caption: str = "") -> Iterator[str]:
    """Yield the longest bars; without them, that there are none."""
    if not drawn:
        yield tag("p", text(f"There are no {noun}."))
        return
    if total > _BARS:
        caption = f"{caption} The {_BARS} greatest of {total:,} {noun}.".strip()
    yield figure(bars(title, drawn[:_BARS]), caption)


def _cells(report: ReportView, most: int) -> Iterator[str]:
    """Yield the worst classes in groups, where the report has both together."""
    if "classes" not in report._document["groups"]:
        return
    found = report.groups.worst_cells(most)
    names = report.groups.names
    head = [*names, "class", *_head(report)]
    rows = [
        (
            *map(words, group_ids(group.id)),
            words(class_name(report, each.index)),
            *_figures(each, report),
        )
        for group, each in found
    ]
    cells = len(report.groups) * len(report.classes) if "classes" in report.sections else len(found)
    yield tag("h3", "The worst classes in groups")
    yield listing(
        f"Classes by {', '.join(names)}", head, rows, total=cells, noun="cells", names=len(names) + 1
    )
