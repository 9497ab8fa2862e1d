"""One change of a mean, and what is to be thought of it."""

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from lossd_client.comparison._bound import Bound
from lossd_client.comparison._estimates import Estimate, Measured

Verdict: TypeAlias = Literal["regressed", "passed", "undecided"]
"""What is said of a change."""
Interval: TypeAlias = tuple[float, float]

FEW: Final = 30
"""Fewer rows or clusters say little of how they vary."""


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

    @property
    def units(self) -> tuple[str, int]:
        """What varies independently, "row" or "cluster", and how many there are."""
        return ("row", self.rows) if self.clusters is None else ("cluster", self.clusters)


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
    unusual = _not_finite(measured)
    if unusual is not None:
        return unusual
    if not bound.is_relative:
        return _by_interval(measured, measured.difference, interval, bound.value)
    if measured.baseline == 0:  # a part of it is 0, too
        verdict, reason = _by_interval(measured, measured.difference, interval, 0.0)
        zero = f"the baseline's mean is 0, and {bound.given} of it too"
        return verdict, reason or (f"it holds 0: {zero}" if verdict == "undecided" else zero)
    return _by_interval(measured, measured.relative, relative_interval, bound.value)


def _not_finite(measured: Measured) -> tuple[Verdict, str] | None:
    """Return the verdict on means of which one is not finite, if one is not."""
    new, baseline = measured.new, measured.baseline
    if math.isfinite(new) and math.isfinite(baseline):
        return None
    if math.isfinite(baseline):
        return "regressed", f"the new mean is {_named(new)}, and the baseline's is not"
    if math.isnan(baseline) and math.isfinite(new):
        return "undecided", "the baseline's mean is NaN"
    if math.isnan(new) or math.isnan(baseline):
        return "undecided", f"the new mean is {_named(new)}, and the baseline's is {_named(baseline)}"
    both = math.isinf(new)
    what = "both means are infinite" if both else "the baseline's mean is infinite, and the new one is not"
    return "undecided", f"{what}{_infinite(measured.infinite)}: score finite logits, whose losses are finite"


def _infinite(counts: tuple[int | None, int | None]) -> str:
    """Return how many elements of each model have an infinite loss, as far as it is known."""
    names = ("the new model's", "the baseline's")
    known = [f"{count:,} of {name}" for count, name in zip(counts, names, strict=True) if count is not None]
    return f" (infinite losses of elements: {' and '.join(known)})" if known else ""


def _named(number: float) -> str:
    return "NaN" if math.isnan(number) else "infinite"


def _by_interval(
    measured: Measured, estimate: Estimate, interval: Interval, bound: float
) -> tuple[Verdict, str]:
    low, high = interval
    units = estimate.freedom + 1
    if estimate.stderr == 0 and estimate.value != 0 and 2 <= units < FEW:
        unit = "row" if measured.clusters is None else "cluster"
        alike = (
            "differ by exactly the same" if measured.is_paired else "of a model have exactly the same loss"
        )
        return "undecided", f"all {units} {unit}s {alike}: are they copies of one?"
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
