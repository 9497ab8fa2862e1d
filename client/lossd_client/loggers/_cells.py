"""Numbers of tables and histograms in the form that trackers take."""

import math

from lossd_client.report._figures.histogram import Histogram


def cell(value: object) -> object:
    """Return a cell of a table: trackers would drop a number that is not finite, so it becomes text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


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
