"""A comparison in sentences."""

import math
from collections.abc import Iterator
from typing import Final

from lossd_client.comparison._change import Change
from lossd_client.comparison._view import ComparisonView
from lossd_client.report._drawing.markup import counted, number
from lossd_client.report._figures.groups import GroupId

WHOLE: Final = "all rows"
PAIRED: Final = {
    "rows": "paired by row",
    "clusters": "paired by cluster",
    "none": "not paired",
}
_SHOWN: Final = 10
_WORST_FIRST: Final = {"regressed": 0, "undecided": 1, "passed": 2}


def name_of(comparison: ComparisonView, id: GroupId | None) -> str:  # noqa: A002 - its name
    """Return what a change is of."""
    if id is None:
        return WHOLE
    ids = id if isinstance(id, tuple) else (id,)
    return ", ".join(f"{name} {each}" for name, each in zip(comparison.by, ids, strict=True))


def worst_first(comparison: ComparisonView) -> list[tuple[GroupId, Change]]:
    """Return the groups: those that have regressed, undecided ones, the others; the greatest change first."""

    def order(item: tuple[GroupId, Change]) -> tuple[int, float]:
        change = item[1]
        size = change.relative if comparison.is_relative else change.difference
        return _WORST_FIRST[change.verdict], -math.inf if math.isnan(size) else -size

    return sorted(comparison.groups.items(), key=order)


def signed(value: float) -> str:
    """Return a difference for people to read."""
    return f"{value:+.6g}" if math.isfinite(value) else number(value)


def percent(value: float) -> str:
    """Return a relative change for people to read."""
    return f"{100 * value:+.4g} %" if math.isfinite(value) else number(value)


def ranged(interval: tuple[float, float], comparison: ComparisonView) -> str:
    """Return the interval that the bound is held against."""
    shown = percent if comparison.is_relative else signed
    low, high = interval
    return "none" if math.isnan(low) else f"{shown(low)} to {shown(high)}"


def judging(change: Change, comparison: ComparisonView) -> tuple[float, float]:
    """Return the interval that the verdict is of."""
    return change.relative_interval if comparison.is_relative else change.interval


def confidence(level: float) -> str:
    """Return a confidence for people to read."""
    return f"{100 * level:.6g} %"


def bound(comparison: ComparisonView) -> str:
    """Return the bound for people to read."""
    return percent(comparison.bound) if comparison.is_relative else number(comparison.bound)


def sentence(change: Change, comparison: ComparisonView) -> str:
    """Return what a change is, and why its verdict is what it is."""
    what = (
        f"the mean loss is {number(change.new)}, and the baseline's {number(change.baseline)}: "
        f"{signed(change.difference)} ({percent(change.relative)}), {confidence(change.confidence)} interval "
        f"{ranged(judging(change, comparison), comparison)}"
    )
    if change.reason:
        return f"{what}: {change.verdict}, as {change.reason}"
    its_place = {"regressed": "all of it is above", "passed": "none of it is above", "undecided": "it holds"}
    return f"{what}: {change.verdict}, as {its_place[change.verdict]} the bound, {bound(comparison)}"


def basis(change: Change, comparison: ComparisonView) -> str:
    """Return what an interval is made from."""
    counts = [counted(change.rows, "row")]
    if change.clusters is not None:
        counts.append(counted(change.clusters, "cluster"))
    by = f"by {' and '.join(comparison.clusters)}" if comparison.clusters else "by row"
    found = f"{', '.join(counts)}, {PAIRED[comparison.pairing]}, standard errors {by}"
    if change.worse is None:
        return found
    return f"{found}; {change.better:,} rows better, {change.worse:,} worse, {change.equal:,} equal"


def lines(comparison: ComparisonView) -> Iterator[str]:
    """Yield a comparison in a few lines of plain text."""
    yield f"{comparison.loss_name}: {comparison.verdict}"
    yield f"{WHOLE}: {sentence(comparison.whole, comparison)}"
    yield f"({basis(comparison.whole, comparison)})"
    groups = worst_first(comparison)
    for id, change in groups[:_SHOWN]:  # noqa: A001
        yield f"{name_of(comparison, id)}: {sentence(change, comparison)}"
    if len(groups) > _SHOWN:
        yield f"and {counted(len(groups) - _SHOWN, 'more group')}"
    for note in comparison.notes:
        yield f"note: {note}"
