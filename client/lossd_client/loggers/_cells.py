"""Numbers of tables and histograms in the form that trackers take."""

import math
from collections.abc import Iterable
from typing import Final

from lossd_client.report._figures.histogram import Histogram

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def cell(value: object) -> object:
    """Return a cell of a table: trackers would drop a number that is not finite, so it becomes text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def in_spreadsheet(cells: Iterable[object]) -> list[object]:
    """Return a row of a CSV file, with an apostrophe before text that a spreadsheet would take for a formula.

    That may be a group's name, which others choose: `=HYPERLINK(...)` would run where the file is opened.
    Numbers stay as they are, also those that are text, such as "-1".
    """
    return [f"'{each}" if isinstance(each, str) and _is_formula(each) else each for each in cells]


def _is_formula(text: str) -> bool:
    if not text.startswith(_FORMULA):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False


def columns_of_bins(histogram: Histogram) -> tuple[list[float], list[int]]:
    """Return the edges of a histogram's bins and the count between each two; what is not finite is left out.

    Bins that are empty are there where others are on both sides. Zero is a bin of no width.
    """
    bins = sorted([*histogram.bins, *([(0.0, 0.0, histogram.zero)] if histogram.zero else [])])
    edges, counts = [bins[0][0]] if bins else [], []
    for least, greatest, count in bins:
        if least > math.nextafter(edges[-1], math.inf):
            edges.append(least)
            counts.append(0)
        edges.append(greatest)
        counts.append(count)
    return edges, counts
