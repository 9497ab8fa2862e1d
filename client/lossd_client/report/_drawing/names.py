"""What classes, groups, rows and elements are called."""

from collections.abc import Sequence

from lossd_client._calls.catalog import LOSSES
from lossd_client.report._figures.figures import normalizer_of
from lossd_client.report._figures.groups import GroupId
from lossd_client.report._figures.top import TopElement, TopRow
from lossd_client.report._view import ReportView


def class_name(report: ReportView, place: int) -> str:
    """Return the name of a class; "class 3" where it has none."""
    names = report.class_names
    return names[place] if place < len(names) and names[place].strip() else f"class {place}"


def group_ids(id: GroupId) -> tuple[str, ...]:  # noqa: A002 - its name
    """Return the ids of a group as text, one for each name."""
    return tuple(str(each) if str(each).strip() else repr(each) for each in _parts(id))


def group_name(id: GroupId) -> str:  # noqa: A002
    """Return the ids of a group as one text."""
    return " / ".join(group_ids(id))


def _parts(id: GroupId) -> tuple[object, ...]:  # noqa: A002
    return id if isinstance(id, tuple) else (id,)


def row_name(row: TopRow | TopElement) -> str:
    """Return what a row, or that of an element, is called: its id, or its number."""
    if row.id is not None:
        return str(row.id) if str(row.id).strip() else repr(row.id)
    index = row.index[0] if isinstance(row.index, tuple) else row.index
    return "a row" if index is None else f"row {index}"


def is_by_row(report: ReportView) -> bool:
    """Return whether each row has one loss by the loss's own definition, so that elements say no more."""
    totals = report._document["totals"]
    return "loss_of" in totals and totals["row_shape"] == []


def element_words(report: ReportView) -> tuple[str, str]:
    """Return what has a loss, one and several."""
    if is_by_row(report):
        return "row", "rows"
    kind = report._document["totals"].get("loss_of")
    return {"classes": ("position", "positions"), "box": ("box", "boxes")}.get(kind, ("element", "elements"))


def has_positives(report: ReportView) -> bool:
    """Return whether the sum of targets says something: it counts elements, or a mean divides by it."""
    if normalizer_of(report.params) == "positives":
        return True
    loss = LOSSES.get(report.loss_name)  # not of an operator
    return "loss_of" not in report._document["totals"] and (loss is None or loss.targets == "probability")


def class_axis(report: ReportView, positions: Sequence[int]) -> int | None:
    """Return where the class is in the position of an element; None if the report has no classes there."""
    if "loss_of" in report._document["totals"]:
        return None
    if not (report.class_names or "classes" in report.sections):
        return None
    axes = len(positions) + 1  # the first is that of the rows
    place = int(report.params.get("class_axis", -1)) % axes - 1
    return place if place >= 0 else None
