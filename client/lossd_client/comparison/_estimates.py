"""What two models' losses over some rows are, and how sure their difference is."""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from lossd_client.report._figures.clusters import Clusters
from lossd_client.report._figures.differences import RowDifference, relative_change
from lossd_client.report._figures.figures import RowFigures, interval
from lossd_client.report._figures.stderr import difference
from lossd_client.report._inside import divided


class Estimate(NamedTuple):
    """A figure, its standard error, and the degrees of freedom of that; fewer than 1 if there is none."""

    value: float
    stderr: float
    freedom: int

    def interval(self, level: float) -> tuple[float, float]:
        """Return the interval of Student's t."""
        return interval(self.value, self.stderr, self.freedom + 1, level)


_UNKNOWN: Final = Estimate(math.nan, math.nan, 0)
_EMPTY: Final = "nothing was scored here"


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
        unfit: Why no difference of the means would say anything; empty if one does.
        infinite: How many elements of the new model and of the baseline have an infinite loss, where known.
        is_paired: Whether rows or clusters of both are the same.
    """

    new: float
    baseline: float
    difference: Estimate
    relative: Estimate
    rows: int
    clusters: int | None
    signs: tuple[int, int, int] | None = None
    unfit: str = ""
    infinite: tuple[int | None, int | None] = (None, None)
    is_paired: bool = True


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
        unfit=_EMPTY if is_empty(new) else "",
        infinite=(new.infinite, None),
    )


def paired_by_cluster(new: RowFigures, baseline: RowFigures, clusters: Clusters) -> Measured:
    """Return what differs between losses of the same clusters, of which only sums are known."""
    changed, freedom = difference(new.exact_sum, baseline.exact_sum), len(clusters) - 1
    relative = relative_change(changed, baseline.exact_sum)
    return Measured(
        new=new.mean,
        baseline=baseline.mean,
        difference=Estimate(divided(new, changed.value), clusters.paired_stderr, freedom),
        relative=Estimate(relative, clusters.relative_stderr, freedom),
        rows=new.rows_kept,
        clusters=len(clusters),
        unfit=_EMPTY if is_empty(new) else "",
        infinite=(new.infinite, baseline.infinite),
    )


def unpaired(
    new: RowFigures | None,
    baseline: RowFigures | None,
    new_clusters: Clusters | None,
    baseline_clusters: Clusters | None,
    normalizer: str | float,
) -> Measured:
    """Return what differs between losses of other rows: their means vary independently (Welch).

    Args:
        new: The new losses, if there are some.
        baseline: The baseline's, likewise.
        new_clusters: The sums of the new one's clusters, if rows are in clusters.
        baseline_clusters: Those of the baseline's.
        normalizer: What the means divide by.
    """
    a, b = _mean(new, new_clusters), _mean(baseline, baseline_clusters)
    changed = a.value - b.value
    relative = _UNKNOWN
    if b.value > 0 and math.isfinite(b.value):
        # The delta method: d (A / B) = dA / B - A dB / B^2.
        scaled = (
            a._replace(stderr=a.stderr / b.value),
            b._replace(stderr=b.stderr * a.value / b.value / b.value),
        )
        relative = _welch(changed / b.value, *scaled)
    elif b.value == 0 and changed > 0:
        relative = _UNKNOWN._replace(value=math.inf)
    return Measured(
        new=a.value,
        baseline=b.value,
        difference=_welch(changed, a, b),
        relative=relative,
        rows=new.rows_kept if new else 0,
        clusters=None if new_clusters is None else len(new_clusters),
        unfit=_unfit(new, baseline, normalizer),
        infinite=(new.infinite if new else None, baseline.infinite if baseline else None),
        is_paired=False,
    )


def _unfit(new: RowFigures | None, baseline: RowFigures | None, normalizer: str | float) -> str:
    lacking = [new is None or is_empty(new), baseline is None or is_empty(baseline)]
    if any(lacking):
        names = ("the new report", "the baseline")
        return "nothing was scored here in " + " and ".join(
            name for name, lacks in zip(names, lacking, strict=True) if lacks
        )
    if isinstance(normalizer, str) or new is None or baseline is None or new.rows_kept == baseline.rows_kept:
        return ""
    return (
        f"the sums are divided by {normalizer!r} whatever the rows, of which here are {new.rows_kept:,} in "
        f"the new report and {baseline.rows_kept:,} in the baseline"
    )


def is_empty(figures: RowFigures) -> bool:
    """Return whether a mean is over nothing."""
    return math.isnan(divided(figures, 0.0))


def _mean(figures: RowFigures | None, clusters: Clusters | None) -> Estimate:
    if figures is None:
        return _UNKNOWN
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
