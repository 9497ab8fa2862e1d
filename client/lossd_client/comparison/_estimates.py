"""What two models' losses over some rows are, and how sure their difference is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lossd_client.report._figures.clusters import Clusters
from lossd_client.report._figures.differences import RowDifference, relative_change
from lossd_client.report._figures.figures import RowFigures, interval
from lossd_client.report._figures.stderr import difference


class Estimate(NamedTuple):
    """A figure, its standard error, and the degrees of freedom of that; fewer than 1 if there is none."""

    value: float
    stderr: float
    freedom: int

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval of Student's t."""
        return interval(self.value, self.stderr, self.freedom + 1, level)


UNKNOWN = Estimate(math.nan, math.nan, 0)


@dataclass(frozen=True)
class Measured:
    """Two means and how they differ.

    Attributes:
        new: The new mean.
        baseline: The baseline's.
        difference: The new one less the baseline's.
        relative: That as a part of the baseline's.
        rows: The rows of the new one.
        clusters: Its clusters, if rows are in clusters.
        signs: How many rows are better, worse and equal, where that is known.
        missing: What was not scored: "new", "baseline" or both.
    """

    new: float
    baseline: float
    difference: Estimate
    relative: Estimate
    rows: int
    clusters: int | None
    signs: tuple[int, int, int] | None = None
    missing: Sequence[str] = ()


def paired_by_row(new: RowFigures, paired: RowDifference, clusters: Clusters | None) -> Measured:
    """Return what differs between losses of the same rows.

    Args:
        new: The new losses.
        paired: Their differences from the baseline's.
        clusters: The sums of the clusters, if rows are in clusters.
    """
    if clusters is None:
        freedom = new.rows_kept - 1
        stderrs = (paired.stderr, paired.relative_stderr)
    else:
        freedom, stderrs = len(clusters) - 1, (clusters.paired_stderr, clusters.relative_stderr)
    signs = paired.rows
    return Measured(
        new=new.mean,
        baseline=paired.baseline_mean,
        difference=Estimate(paired.mean, stderrs[0], freedom),
        relative=Estimate(paired.relative, stderrs[1], freedom),
        rows=new.rows_kept,
        clusters=None if clusters is None else len(clusters),
        signs=(signs.better, signs.worse, signs.equal),
        missing=["new", "baseline"] if is_empty(new) else [],
    )


def paired_by_cluster(new: RowFigures, baseline: RowFigures, clusters: Clusters) -> Measured:
    """Return what differs between losses of the same clusters, of which only sums are known."""
    changed, freedom = difference(new.exact_sum, baseline.exact_sum), len(clusters) - 1
    relative = relative_change(changed, baseline.exact_sum)
    return Measured(
        new=new.mean,
        baseline=baseline.mean,
        difference=Estimate(new.divided(changed.value), clusters.paired_stderr, freedom),
        relative=Estimate(relative, clusters.relative_stderr, freedom),
        rows=new.rows_kept,
        clusters=len(clusters),
        missing=["new", "baseline"] if is_empty(new) else [],
    )


def unpaired(
    new: RowFigures | None,
    baseline: RowFigures | None,
    new_clusters: Clusters | None,
    baseline_clusters: Clusters | None,
) -> Measured:
    """Return what differs between losses of other rows: their means vary independently (Welch).

    Args:
        new: The new losses, if there are some.
        baseline: The baseline's, likewise.
        new_clusters: The sums of the new one's clusters, if rows are in clusters.
        baseline_clusters: Those of the baseline's.
    """
    a, b = _mean(new, new_clusters), _mean(baseline, baseline_clusters)
    changed = a.value - b.value
    relative = UNKNOWN
    if b.value > 0 and math.isfinite(b.value):
        # The delta method: d (A / B) = dA / B - A dB / B^2.
        scaled = (
            a._replace(stderr=a.stderr / b.value),
            b._replace(stderr=b.stderr * a.value / b.value / b.value),
        )
        relative = _welch(changed / b.value, *scaled)
    elif b.value == 0 and changed > 0:
        relative = UNKNOWN._replace(value=math.inf)
    sides = {"new": new, "baseline": baseline}
    return Measured(
        new=a.value,
        baseline=b.value,
        difference=_welch(changed, a, b),
        relative=relative,
        rows=new.rows_kept if new else 0,
        clusters=None if new_clusters is None else len(new_clusters),
        missing=[name for name, side in sides.items() if side is None or is_empty(side)],
    )


def is_empty(figures: RowFigures) -> bool:
    """Return whether a mean is over nothing."""
    return math.isnan(figures.divided(0.0))


def _mean(figures: RowFigures | None, clusters: Clusters | None) -> Estimate:
    if figures is None:
        return UNKNOWN
    if clusters is None:
        return Estimate(figures.mean, figures.stderr, figures.rows_kept - 1)
    return Estimate(figures.mean, clusters.stderr, len(clusters) - 1)


def _welch(value: float, a: Estimate, b: Estimate) -> Estimate:
    """Return a difference with the degrees of freedom of Welch and Satterthwaite, rounded down."""
    stderr = math.hypot(a.stderr, b.stderr)
    if min(a.freedom, b.freedom) < 1 or math.isnan(stderr):
        return Estimate(value, math.nan, 0)
    if stderr == 0 or math.isinf(stderr):
        return Estimate(value, stderr, min(a.freedom, b.freedom))
    shares = ((each.stderr / stderr) ** 4 / each.freedom for each in (a, b))
    return Estimate(value, stderr, int(1 / math.fsum(shares) + 1e-9))  # 49 may be 48.999...
