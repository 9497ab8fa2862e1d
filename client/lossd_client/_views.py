"""What the server's page shows of reports: one alone, or two side by side."""

import json
from collections.abc import Mapping
from typing import Any, Final

from lossd_client.comparison import NotComparable, compare
from lossd_client.comparison._output.html import side_by_side
from lossd_client.report import Report
from lossd_client.report._drawing.html import report_fragment
from lossd_client.report._merging.layout import refuse_incomplete

_DAMAGED: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class ViewError(ValueError):
    """What is to be shown is not what it should be.

    Attributes:
        pointer: The place in the request, a JSON pointer; empty for the whole.
    """

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer


class NotJson(ViewError):  # noqa: N818 - it says what happened
    """It is no JSON."""

    def __init__(self, message: str) -> None:
        super().__init__("", message)


def draw_views(text: bytes) -> str:
    """Return reports as a fragment of HTML, without a style.

    Args:
        text: JSON: `{"reports": [{"name": "run A", "document": {...}}], "paired": {...}}`. Of two reports,
            the second is the baseline; `paired` is the report of the first one with the second model's inputs
            as its baseline.

    Raises:
        ViewError: It is not so, or the reports cannot be compared; `NotJson` if it is no JSON.
    """
    request = _parsed(text)
    entries = request.get("reports")
    if not isinstance(entries, list) or not 1 <= len(entries) <= 2:
        raise ViewError("/reports", "reports must be a list of one report, or of two to compare")
    named = [_named(entry, f"/reports/{place}") for place, entry in enumerate(entries)]
    paired = request.get("paired")
    if len(named) == 1:
        if paired is not None:
            raise ViewError("/paired", "paired is of two reports, and there is one: leave paired out")
        return _drawn("/reports/0/document", lambda: report_fragment(named[0][1]))
    other = None if paired is None else _report(paired, "/paired")
    (name, new), (base_name, baseline) = named
    try:
        comparison = compare(other or new, baseline)
    except NotComparable as error:
        raise ViewError("/reports/1/document", f"the two runs cannot be compared: {error}") from error
    return _drawn("/reports", lambda: side_by_side(comparison, (name, base_name), (new, baseline), other))


def _parsed(text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise NotJson(f"the body is no JSON: {error}") from error
    if not isinstance(found, Mapping):
        raise ViewError("", "the body must be a JSON object with reports, a list of one or two")
    return found


def _named(entry: object, pointer: str) -> tuple[str, Report]:
    if not isinstance(entry, Mapping):
        raise ViewError(pointer, "a report must be a JSON object with its name and its document")
    name = entry.get("name")
    if not isinstance(name, str):
        raise ViewError(f"{pointer}/name", "name must be text: what the page calls the run")
    return name, _report(entry.get("document"), f"{pointer}/document")


def _report(document: Any, pointer: str) -> Report:  # noqa: ANN401 - any JSON value
    try:
        refuse_incomplete(document)
        return Report(document)
    except _DAMAGED as error:
        raise ViewError(pointer, f"this is no report, or damaged: {error}") from error


def _drawn(pointer: str, draw: Any) -> str:  # noqa: ANN401
    try:
        return str(draw())
    except _DAMAGED as error:
        raise ViewError(pointer, f"this is no report, or damaged: {error!r}") from error
