"""The rows and elements of the greatest loss, and those that differ most from the baseline."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from lossd_client.report._drawing.markup import tag
from lossd_client.report._drawing.names import class_axis, class_name, element_words, is_by_row
from lossd_client.report._drawing.section import Section
from lossd_client.report._drawing.tables import Cell, Row, listing, words
from lossd_client.report._drawing.tables import figure as cell
from lossd_client.report._figures.top import TopElement, TopRow
from lossd_client.report._view import ReportView

Entry: TypeAlias = TopRow | TopElement

_ROWS: Final = (
    "sum of the losses of its elements (row=sum)",
    "mean of the losses of its elements (row=mean)",
)
_FIGURES: Final = (
    *("loss", "baseline", "difference", "logit", "probability"),
    *("baseline_logit", "baseline_probability", "target", "predicted", "confidence", "baseline_confidence"),
)


def top(report: ReportView, most: int) -> Section | None:
    """Return the rows and elements of the greatest loss."""
    if "top" not in report.sections:
        return None
    if is_by_row(report):  # its elements say the same, and what is predicted of them
        return Section("Worst rows", entries(report, "Rows of the greatest loss", report.top_elements, most))
    nouns = element_words(report)[1]
    return Section(
        f"Worst rows and {nouns}",
        tag("p", f"The loss of a row is the {_ROWS[report.params.get('row') == 'mean']}."),
        entries(report, "Rows of the greatest loss", report.top_rows, most),
        entries(report, f"{nouns.capitalize()} of the greatest loss", report.top_elements, most),
    )


def entries(report: ReportView, title: str, found: Sequence[Entry], most: int) -> str:
    """Return a list of rows or elements as a table."""
    columns = [*_places(report, found), *_values(report, found)]
    rows: list[Row] = [[read(each) for _, read in columns] for each in found[:most]]
    noun = element_words(report)[1] if found and isinstance(found[0], TopElement) else "rows"
    return listing(title, [name for name, _ in columns], rows, total=len(found), noun=noun)


def _places(report: ReportView, found: Sequence[Entry]) -> list[tuple[str, Callable[[Entry], Cell]]]:
    """Return the columns that say which row or element it is."""
    first = found[0] if found else None
    columns: list[tuple[str, Callable[[Entry], Cell]]] = []
    if first is not None and first.id is not None:
        columns.append(("id", lambda each: words(str(each.id))))
    if any(each.index is not None for each in found):
        columns.append(("row", _row))
    if not isinstance(first, TopElement):
        return columns
    axis = class_axis(report, first.position)
    if axis is not None:
        columns.append(("class", lambda each: words(class_name(report, _position(each)[axis]))))
    if len(first.position) > (axis is not None):
        columns.append(("position", lambda each: Cell(_rest(_position(each), axis))))
    return columns


def _row(each: Entry) -> Cell:
    index = each.index[0] if isinstance(each.index, tuple) else each.index
    return Cell("-") if index is None else Cell(str(index), index)


def _position(each: Entry) -> tuple[int, ...]:
    return each.position if isinstance(each, TopElement) else ()


def _rest(position: Sequence[int], axis: int | None) -> str:
    return ", ".join(str(number) for place, number in enumerate(position) if place != axis)


def _values(report: ReportView, found: Sequence[Entry]) -> list[tuple[str, Callable[[Entry], Cell]]]:
    """Return the columns of figures, without those that are not known."""
    there = [name for name in _FIGURES if found and getattr(found[0], name, None) is not None]
    return [(name.replace("_", " "), _reader(report, name)) for name in there]


def _reader(report: ReportView, name: str) -> Callable[[Entry], Cell]:
    if name == "predicted" or (name == "target" and report._document["totals"].get("loss_of") == "classes"):
        return lambda each: words(class_name(report, int(getattr(each, name))))
    return lambda each: cell(getattr(each, name))
