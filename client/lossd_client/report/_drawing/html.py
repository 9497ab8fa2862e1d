"""Reports and results as HTML, for notebooks and for a page of their own: no scripts, no other files."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from lossd_client.report._drawing.calibration import calibration
from lossd_client.report._drawing.inputs import inputs, shown
from lossd_client.report._drawing.markup import tag, text
from lossd_client.report._drawing.means import classes, groups
from lossd_client.report._drawing.paired import paired
from lossd_client.report._drawing.section import Section
from lossd_client.report._drawing.spread import histogram
from lossd_client.report._drawing.style import style
from lossd_client.report._drawing.summary import linked, unlinked
from lossd_client.report._drawing.sweep import sweep
from lossd_client.report._drawing.tables import MOST, table
from lossd_client.report._drawing.totals import totals
from lossd_client.report._drawing.worst import top
from lossd_client.report._view import ReportView

_SECTIONS: Final[Mapping[str, Callable[[ReportView, int], Section | None]]] = {
    "classes": classes,
    "groups": groups,
    "top": top,
    "paired": paired,
    "histogram": histogram,
    "calibration": calibration,
    "sweep": sweep,
    "inputs": inputs,
}
_IN_NOTEBOOKS: Final = 50  # rows of a table: notebooks keep what they show


def report_html(report: ReportView) -> str:
    """Return a report as a notebook shows it: with its style, and beside others of the same sections."""
    return styled(*_sections(report, _IN_NOTEBOOKS, has_links=False))


def report_fragment(report: ReportView, above: str = "") -> str:
    """Return a report as a part of a page that has its style, maybe below a section of another kind."""
    return tag("div", above, *_sections(report, MOST, has_links=True), class_="lossd")


def report_page(report: ReportView, above: str = "") -> str:
    """Return a report as a whole page, likewise."""
    title = f"{report.loss_name} of {report._document['totals']['inputs']}"
    return page(title, report_fragment(report, above))


def _sections(report: ReportView, most: int, *, has_links: bool) -> Iterator[str]:
    first = totals(report, linked if has_links else unlinked)
    yield first.drawn("totals", has_id=has_links)
    for name, section in _SECTIONS.items():
        found = section(report, most)
        if found is not None:
            yield found.drawn(name, has_id=has_links)


def styled(*parts: str) -> str:
    """Return parts of HTML as one, with their style."""
    return tag("style", style()) + tag("div", *parts, class_="lossd")


def page(title: str, inside: str) -> str:
    """Return a fragment as a whole page."""
    head = tag(
        "head",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        tag("title", text(title)),
        tag("style", style()),
    )
    body = tag("body", tag("main", tag("h1", text(title)), inside), class_="lossd-page")
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def result_html(result: Any) -> str:  # noqa: ANN401 - its module leads to this one
    """Return the figures and parameters of a `LossResult` as a fragment of HTML."""
    shape = getattr(result.loss, "shape", ())
    loss = f"array of shape {list(shape)}" if shape else repr(float(result.loss))
    rows = [
        ("loss", loss),
        *((name, repr(getattr(result, name))) for name in ("sum", "count", "weight_sum", "positives")),
        ("reduction", result.reduction),
        *((name, shown(value)) for name, value in {**result.params, **result.options}.items()),
        *((name, shown(getattr(result, name))) for name in ("kernel", "device", "version")),
        *(("note", note) for note in result.notes),
    ]
    return styled(table(("figure", result.loss_name), rows, caption=f"{result.loss_name} loss"))
