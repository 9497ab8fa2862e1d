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
_MARKED: Final = {0.5: "half of the", 0.9: "nine in ten", 0.99: "99 in 100"}
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
    quantiles = {name: _quantiles(report, name, each) for name, each in found.items()}
    rows: list[Row] = [
        (_named(share), *(cell(each[share]) for each in quantiles.values())) for share in _QUANTILES
    ]
    said = "Quantiles: this share of losses is at most (within 1/32)"
    listed = table(("share", *(f"losses of {nouns[name]}" for name in found)), rows, caption=said)
    return Section(
        "How losses are spread",
        beside(
            *(
                _pictured(f"Losses of {nouns[name]}", section[name], each, quantiles[name])
                for name, each in found.items()
            )
        ),
        scrolled(listed, "Quantiles"),
    )


def _quantiles(report: ReportView, name: str, found: Histogram) -> dict[float, float]:
    """Return quantiles by share, from the middles of bins, but none beyond the losses that are known."""
    quantiles = {share: found.quantile(share) for share in _QUANTILES}
    if "top" not in report.sections:
        return quantiles
    top = report.top_elements if name == "elements" else report.top_rows
    finite = [each.loss for each in top if math.isfinite(each.loss)]
    if not finite:
        return quantiles
    least = finite[-1] if len(top) == found.count else -math.inf
    return {
        share: min(max(value, least), finite[0]) if math.isfinite(value) else value
        for share, value in quantiles.items()
    }


def _named(share: float) -> str:
    return f"{100 * share:g} %"


def _pictured(
    title: str, section: Mapping[str, Any], found: Histogram, quantiles: Mapping[float, float]
) -> str:
    """Return the picture of a histogram over a logarithmic axis, with what has no place on it below."""
    places = [
        (_middle(number_), count)
        for number_, count in zip(section["bins"], section["counts"], strict=True)
        if number_ < _SIGN
    ]
    negative = sum(section["counts"]) - sum(count for _, count in places)
    apart = {"0": found.zero, "below 0": negative, "Infinity": found.infinite, "NaN": found.nan}
    drawn = [share for share in _MARKED if 0 < quantiles[share] < math.inf]
    said = f"{title}."
    if drawn:
        share = drawn[len(drawn) // 2]
        said += f" Dashed lines: quantiles. {_named(share)}: {_MARKED[share]} losses are at most this."
    said += "".join(f" {count:,} are {name}." for name, count in apart.items() if count)
    low, width, counts = _grouped(places)
    edges = [low + place * width for place in range(len(counts) + 1)]
    across = Axis("loss, logarithmic", edges[0], edges[-1], is_log=True)
    up = Axis("count", 0.0, float(max(counts)))
    marks = [(_named(share), math.log2(quantiles[share])) for share in drawn]
    return figure(columns(title, across, up, edges, counts, marks), said)


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
