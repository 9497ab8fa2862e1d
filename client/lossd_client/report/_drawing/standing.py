"""Which classes and groups have a greater loss than chance alone gives the worst of so many."""

import math
from typing import Final

import numpy as np

from lossd_client.report._drawing.section import LEVEL
from lossd_client.report._figures.figures import kept_rows
from lossd_client.report._figures.groups import Group, Groups
from lossd_client.report._figures.stderr import of_integer, ratio_stderr
from lossd_client.report._figures.student import t_quantile
from lossd_client.report._view import ReportView

TRIED: Final = 100
"""So many groups of the greatest means are tried: an interval takes time."""


def groups_standing_out(report: ReportView, found: Groups) -> list[Group]:
    """Return the groups whose interval is above the mean of all rows, the worst first.

    Together the intervals hold at the usual confidence (Bonferroni): the worst of many groups is far from the
    mean by chance.
    """
    level, mean = 1 - (1 - LEVEL) / max(len(found), 1), report.mean
    tried = (each for each in found.worst(TRIED) if each.count)
    return [each for each in tried if not math.isfinite(each.mean) or each.interval(level)[0] > mean]


def classes_standing_out(report: ReportView) -> list[int]:
    """Return the classes whose elements have a greater loss than as many that are drawn from all.

    There are no squares by class, so that a class has no interval of its own. But if classes were alike, the
    n elements of one would be like n of all N, drawn without replacement, whose mean has the standard error
    s sqrt((1 - n / N) / n) by the spread s of all (Cochran, Sampling Techniques, 1977, theorem 2.2). Several
    elements of a class in one row may depend on each other, and count as one.
    """
    block, spread = report.classes._part.block, _spread(report)
    sums, counts = block.terms("sum")[0], block.counts("count")
    found = np.flatnonzero((counts > 0) & ~np.isfinite(sums)).tolist()
    if not math.isfinite(report.sum) or not report.count:
        return found
    level = 1 - (1 - LEVEL) / max(int(np.count_nonzero(counts)), 1) / 2
    whole, most = report.sum / report.count, kept_rows(report._part)
    for place in np.flatnonzero(sums > whole * counts).tolist():
        count = int(counts[place])
        several = min(count, most)
        if several < 2:
            continue
        error = spread * math.sqrt((1 - count / report.count) / several)
        if sums[place] / count - whole > t_quantile(level, several - 1) * error:
            found.append(place)
    return found


def _spread(report: ReportView) -> float:
    """Return the standard deviation of the elements' weighted losses; a bound on it where it is not known.

    Without the squares of elements, which are there under normalizer=count alone, those of rows are taken:
    as no loss is below 0, the square of a row's sum is at least the sum of its squares.
    """
    part, count = report._part, report.count
    squares = "element_squares" if "element_squares_terms" in part.block else "row_squares"
    total, n = part.sum("sum"), of_integer(count)
    return ratio_stderr(part.sum(squares), total, n, total, n, count) * math.sqrt(count)
