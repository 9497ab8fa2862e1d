"""What the server's page shows of reports: one alone, or two side by side."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from lossd_client.comparison import NotComparable, compare
from lossd_client.comparison._notes import ORDER
from lossd_client.comparison._output.side_by_side import SideBySide
from lossd_client.comparison._pairing import NO_CLUSTERS, TO_PAIR, UNPAIRED
from lossd_client.report import Report
from lossd_client.report._drawing.html import report_fragment
from lossd_client.report._merging.layout import SCHEMA, BadField
from lossd_client.report._shapes import refuse_misshapen

_REMEDY: Final = "open the file that a report was saved to, unchanged"
# What notes say to users of Python and of the command, and what the page says instead.
_ON_PAGE: Final = {
    ORDER: "use Swap if the first one is the older",
    TO_PAIR: "run both on this page, over the same targets, to compare them row by row",
    f"Not paired: {UNPAIRED}, and {NO_CLUSTERS}": "The runs are compared as a whole, and not row by row",
}
_LONGEST_NAME: Final = 200
_LONGEST_MESSAGE: Final = 1000
_DAMAGED: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class ViewError(ValueError):
    """What is to be shown is not what it should be.

    Attributes:
        pointer: The place in the request, a JSON pointer; empty for the whole.
    """

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message[:_LONGEST_MESSAGE])  # it may quote the document
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
    if len(named) == 2:
        return _compared(named, paired)
    if paired is not None:
        raise ViewError("/paired", "paired is of two reports, and there is one: leave paired out")
    with _refused("/reports/0/document"):
        return report_fragment(named[0][1])


def _compared(named: Sequence[tuple[str, Report]], paired: Any) -> str:  # noqa: ANN401 - any JSON value
    (name, new), (other_name, baseline) = named
    both = None if paired is None else _paired(paired, new)
    with _refused("/reports/1/document"):
        try:
            found = compare(both or new, baseline)
        except NotComparable as error:
            raise ViewError(
                "/reports/1/document", f"{name} cannot be compared with {other_name}: {error}"
            ) from error
        said = replace(found, notes=tuple(map(_for_page, found.notes)))
        return SideBySide(said, (name, other_name), new, baseline, both).fragment()


def _for_page(note: str) -> str:
    """Return a note as people on the page can follow it."""
    for said, instead in _ON_PAGE.items():
        note = note.replace(said, instead)
    return note


def _paired(document: Any, new: Report) -> Report:  # noqa: ANN401 - any JSON value
    """Return the report of both models, with the names of the classes.

    Raises:
        ViewError: It is none, or not of the first run.
    """
    with _refused("/paired"):
        return _checked_pair(_report(document, "/paired"), new)


def _checked_pair(found: Report, new: Report) -> Report:
    if "paired" not in found.sections:
        raise ViewError("/paired", "it has no section paired: ask for it with the tensor baseline")
    if found.sum != new.sum or found.count != new.count:
        what = f"its sum is {found.sum!r} over {found.count} elements, and the first run's {new.sum!r}"
        raise ViewError("/paired/totals", f"{what} over {new.count}: it must be of the first run's inputs")
    return found if found.class_names else found.with_class_names(new.class_names or None)


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
    shown = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    return shown, _report(entry.get("document"), f"{pointer}/document")


def _report(document: Any, pointer: str) -> Report:  # noqa: ANN401 - any JSON value
    with _refused(pointer):
        if isinstance(document, Mapping) and document.get("schema") != SCHEMA:
            what = f"its schema is {document.get('schema')!r:.50}, and that of reports {SCHEMA!r}"
            raise BadField(("schema",), f"this is no report: {what}")
        refuse_misshapen(document)
        return Report(document)


@contextmanager
def _refused(pointer: str) -> Iterator[None]:
    """Turn what a damaged document raises into an error with its place.

    Raises:
        ViewError: It is damaged.
    """
    try:
        yield
    except ViewError:
        raise
    except BadField as error:
        place = "".join(f"/{name.replace('~', '~0').replace('/', '~1')}" for name in error.path)
        raise ViewError(pointer + place, f"{error}: {_REMEDY}") from error
    except _DAMAGED as error:
        raise ViewError(pointer, f"its figures contradict each other ({error!r}): {_REMEDY}") from error
