"""One change of a mean, and what is to be thought of it."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lossd_client.comparison._bound import Bound
from lossd_client.comparison._estimates import Measured

Verdict: TypeAlias = Literal["regressed", "passed", "undecided"]
Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Change:
    """How the mean loss of some rows differs from the baseline's. What is not known is NaN.

    Attributes:
        new: The new mean.
        baseline: The baseline's mean.
        difference: The new mean less the baseline's: above 0 where the new model is worse.
        relative: The same as a part of the baseline's mean: 0.01 is 1 % worse.
        stderr: The standard error of the difference.
        relative_stderr: That of the relative change.
        interval: The confidence interval of the difference.
        relative_interval: That of the relative change.
        confidence: The confidence of the intervals.
        rows: The rows of the new one, without dropped ones.
        clusters: The number of clusters, if rows are in clusters.
        better: The rows whose loss is less than the baseline's; None if they are not known.
        worse: The rows whose loss is greater; likewise.
        equal: The rows whose losses are equal; likewise.
        verdict: "regressed" if the interval lies wholly above the bound, "passed" if none of it does, else
            "undecided".
        reason: Why, where it is not the interval that says so.
    """

    new: float
    baseline: float
    difference: float
    relative: float
    stderr: float
    relative_stderr: float
    interval: Interval
    relative_interval: Interval
    confidence: float
    rows: int
    clusters: int | None
    better: int | None
    worse: int | None
    equal: int | None
    verdict: Verdict
    reason: str = ""

    @property
    def regressed(self) -> bool:
        """Whether the mean has surely grown by more than the bound."""
        return self.verdict == "regressed"


def judged(measured: Measured, bound: Bound, confidence: float) -> Change:
    """Return a change with its verdict."""
    interval = measured.difference.interval(confidence)
    relative_interval = measured.relative.interval(confidence)
    verdict, reason = _verdict(measured, bound, interval, relative_interval)
    better, worse, equal = measured.signs or (None, None, None)
    return Change(
        new=measured.new,
        baseline=measured.baseline,
        difference=measured.difference.value,
        relative=measured.relative.value,
        stderr=measured.difference.stderr,
        relative_stderr=measured.relative.stderr,
        interval=interval,
        relative_interval=relative_interval,
        confidence=confidence,
        rows=measured.rows,
        clusters=measured.clusters,
        better=better,
        worse=worse,
        equal=equal,
        verdict=verdict,
        reason=reason,
    )


def _verdict(
    measured: Measured, bound: Bound, interval: Interval, relative_interval: Interval
) -> tuple[Verdict, str]:
    """Return the verdict, and why, where the interval alone does not say so."""
    if measured.unfit:
        return "undecided", measured.unfit
    unusual = _not_finite(measured.new, measured.baseline)
    if unusual is not None:
        return unusual
    if not bound.is_relative:
        return _by_interval(measured, interval, bound.value)
    if measured.baseline == 0:  # a part of it is 0, too
        verdict, reason = _by_interval(measured, interval, 0.0)
        return verdict, reason or f"the baseline's mean is 0, and {bound.given} of it too"
    return _by_interval(measured, relative_interval, bound.value)


def _not_finite(new: float, baseline: float) -> tuple[Verdict, str] | None:
    """Return the verdict on means of which one is not finite, if one is not."""
    if math.isfinite(new) and math.isfinite(baseline):
        return None
    if math.isfinite(baseline):
        return "regressed", f"the new mean is {_named(new)}, and the baseline's is not"
    if math.isfinite(new) and math.isinf(baseline):
        return "passed", "the baseline's mean is infinite, and the new one is not"
    if math.isfinite(new):
        return "undecided", "the baseline's mean is NaN"
    return "undecided", f"the new mean is {_named(new)}, and the baseline's is {_named(baseline)}"


def _named(number: float) -> str:
    return "NaN" if math.isnan(number) else "infinite"


def _by_interval(measured: Measured, interval: Interval, bound: float) -> tuple[Verdict, str]:
    low, high = interval
    if low > bound:
        return "regressed", ""
    if high <= bound:
        return "passed", ""
    if not math.isnan(low):
        return "undecided", ""
    if measured.difference.freedom < 1:
        unit = "row" if measured.clusters is None else "cluster"
        return "undecided", f"an interval needs two {unit}s in each model, and here are fewer"
    return "undecided", (
        "there is no standard error: without one of the clusters, nothing is left to divide by"
        if measured.clusters is not None
        else "there is no standard error: a sum that it needs is not finite, or nothing is left to divide by"
    )
