"""How losses are spread: histograms and quantiles."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lossd_client.report._drawing.markup import beside, figure
from lossd_client.report._drawing.names import element_words, is_by_row
from lossd_client.report._drawing.pictures import Axis, columns
from lossd_client.report._drawing.section import Section
from lossd_client.report._drawing.tables import Row, scrolled, table
from lossd_client.report._drawing.tables import figure as cell
from lossd_client.report._figures.histogram import Histogram
from lossd_client.report._view import ReportView

_WIDTHS: Final = (0.25, 0.5, *(2.0**power for power in range(12)))  # of a column, in powers of two
_COLUMNS: Final = 64
_SIGN: Final = 0x8000  # of the upper 16 bits of a float64
_MARKED: Final = (0.5, 0.9, 0.99)
_QUANTILES: Final = (*_MARKED, 0.999)


def histogram(report: ReportView, _: int) -> Section | None:
    """Return how the losses of elements and rows are spread."""
    if "histogram" not in report.sections:
        return None
    section = report._document["histogram"]
    found = {"elements": report.element_histogram, "rows": report.row_histogram}
    if is_by_row(report):
        del found["elements"]
    nouns = {"elements": element_words(report)[1], "rows": "rows"}
    rows: list[Row] = [
        (f"{100 * share:g} %", *(cell(each.quantile(share)) for each in found.values()))
        for share in _QUANTILES
    ]
    said = "Quantiles, within 1/32: as many losses are at most"
    listed = table(("share", *(f"losses of {nouns[name]}" for name in found)), rows, caption=said)
    return Section(
        "How losses are spread",
        beside(*(_pictured(f"Losses of {nouns[name]}", section[name], each) for name, each in found.items())),
        scrolled(listed, "Quantiles"),
    )


def _pictured(title: str, section: Mapping[str, Any], found: Histogram) -> str:
    """Return the picture of a histogram over a logarithmic axis, with what has no place on it below."""
    places = [
        (_middle(number_), count)
        for number_, count in zip(section["bins"], section["counts"], strict=True)
        if number_ < _SIGN
    ]
    negative = sum(section["counts"]) - sum(count for _, count in places)
    apart = {"0": found.zero, "below 0": negative, "Infinity": found.infinite, "NaN": found.nan}
    said = "".join(f" {count:,} are {name}." for name, count in apart.items() if count)
    low, width, counts = _grouped(places)
    edges = [low + place * width for place in range(len(counts) + 1)]
    across = Axis("loss, logarithmic", edges[0], edges[-1], is_log=True)
    up = Axis("count", 0.0, float(max(counts)))
    marks = [(f"{100 * share:g} %", found.quantile(share)) for share in _MARKED]
    drawn = [(name, math.log2(value)) for name, value in marks if 0 < value < math.inf]
    return figure(
        columns(title, across, up, edges, counts, drawn),
        f"{title}. Dashed: that share of them is at most so great.{said}",
    )


def _grouped(places: Sequence[tuple[float, int]]) -> tuple[float, float, list[int]]:
    """Return the first column's start, a column's width, and the columns' counts."""
    if not places:
        return -1.0, 1.0, [0]
    least, most = min(place for place, _ in places), max(place for place, _ in places)
    width = next(width for width in _WIDTHS if (most - least) / width < _COLUMNS - 1)
    low = math.floor(least / width) * width
    counts = [0] * (int((most - low) / width) + 1)
    for place, count in places:
        counts[int((place - low) / width)] += count
    return low, width, counts


def _middle(number_: int) -> float:
    """Return the binary logarithm of the middle of a bin: the upper 16 bits of a float64."""
    exponent, fraction = number_ >> 4, ((number_ & 15) + 0.5) / 16
    return exponent - 1023 + math.log2(1 + fraction) if exponent else math.log2(fraction) - 1022
