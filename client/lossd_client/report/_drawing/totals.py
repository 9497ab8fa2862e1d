"""The loss as a whole."""

from collections.abc import Iterator

from lossd_client.report._drawing.markup import number, spanned, spread
from lossd_client.report._drawing.names import element_words, has_positives, is_by_row
from lossd_client.report._drawing.section import LEVEL, Section
from lossd_client.report._drawing.summary import Link, summary
from lossd_client.report._drawing.tables import table
from lossd_client.report._view import ReportView


def totals(report: ReportView, link: Link) -> Section:
    """Return what matters in words, and the figures of all rows."""
    return Section(
        "In short",
        summary(report, link),
        table(("figure", "value"), _figures(report), caption="All rows"),
    )


def _figures(report: ReportView) -> Iterator[tuple[str, str]]:
    yield "loss", f"{report.loss_name} of {report._document['totals']['inputs']}"
    yield "mean", number(report.mean, 9)
    yield "95 % interval, by rows", spanned(report.interval(LEVEL), report.rows_kept)
    yield "standard error, by rows", spread(report.stderr, report.rows_kept)
    yield "rows", f"{report.rows:,}{_left_out(report.rows_dropped)}"
    if not is_by_row(report):
        yield element_words(report)[1], f"{report.elements:,}{_left_out(report.dropped)}"
    yield "sum", number(report.sum, 9)
    if has_positives(report):
        yield "positives", number(report.positives)
    if report._document["totals"]["weighted"]:
        yield "sum of weights", number(report.weight_sum)
    for name, count in (("NaN losses", report.nan), ("infinite losses", report.infinite)):
        if count:
            yield name, number(count)


def _left_out(count: int) -> str:
    return f", {count:,} of them dropped" if count else ""
