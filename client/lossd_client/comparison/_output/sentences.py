"""A comparison in sentences."""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from lossd_client.comparison._change import Change
from lossd_client.comparison._view import ComparisonView
from lossd_client.report._drawing.markup import counted, number
from lossd_client.report._figures.groups import GroupId
from lossd_client.report._json import Id

WHOLE: Final = "all rows"
PAIRED: Final = {
    "rows": "paired by row",
    "clusters": "paired by cluster",
    "none": "not paired",
}
_SHOWN: Final = 10
_LONGEST: Final = 60  # characters of a name
_WORST_FIRST: Final = {"regressed": 0, "undecided": 1, "passed": 2}


def name_of(comparison: ComparisonView, id: GroupId | None, *, in_full: bool = False) -> str:  # noqa: A002 - its name
    """Return what a change is of.

    Args:
        comparison: The comparison.
        id: The group's id; None for all rows.
        in_full: Whether long names stay whole; else they are cut in the middle.
    """
    if id is None:
        return WHOLE
    ids = id if isinstance(id, tuple) else (id,)
    shown = str if in_full else _cut
    return ", ".join(
        f"{shown(name)} {shown(_quoted_blank(each))}" for name, each in zip(comparison.by, ids, strict=True)
    )


def _quoted_blank(each: Id) -> str:
    text = str(each)
    return text if text.strip() else repr(text)


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 + 1 :]}"


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


def judging(change: Change, comparison: ComparisonView) -> tuple[float, float]:
    """Return the interval that the verdict is of."""
    return change.relative_interval if _is_share(change, comparison) else change.interval


def _is_share(change: Change, comparison: ComparisonView) -> bool:
    """Return whether a change is judged as a part of the baseline's mean; that of 0 is none."""
    return comparison.is_relative and change.baseline != 0


def judged_by(change: Change, comparison: ComparisonView) -> str:
    """Return that interval for people to read."""
    low, high = judging(change, comparison)
    shown = percent if _is_share(change, comparison) else signed
    return "none" if math.isnan(low) else f"{shown(low)} to {shown(high)}"


def confidence(level: float) -> str:
    """Return a confidence for people to read, with the digits that tell it from 100 %."""
    rest = 100 * (1 - Decimal(level))
    digits = 4 if rest >= 1 else 3 - rest.adjusted()
    text = f"{100 * Decimal(level):.{digits}f}" if level >= 0.5 else f"{100 * level:.6g}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def bound(comparison: ComparisonView) -> str:
    """Return the bound for people to read."""
    return percent(comparison.bound) if comparison.is_relative else number(comparison.bound)


def sentence(change: Change, comparison: ComparisonView) -> str:
    """Return what a change is, and why its verdict is what it is."""
    what = measured(change, comparison)
    if change.reason:
        return f"{what}: {change.verdict}, as {change.reason}"
    its_place = {"regressed": "all of it is above", "passed": "none of it is above", "undecided": "it holds"}
    return f"{what}: {change.verdict}, as {its_place[change.verdict]} the bound, {bound(comparison)}"


def measured(change: Change, comparison: ComparisonView) -> str:
    """Return what a change is, without what is thought of it."""
    return (
        f"the mean loss is {number(change.new)}, and the baseline's {number(change.baseline)}: "
        f"{signed(change.difference)} ({percent(change.relative)}), {confidence(change.confidence)} interval "
        f"{judged_by(change, comparison)}"
    )


def basis(change: Change, comparison: ComparisonView) -> str:
    """Return what an interval is made from."""
    counts = [counted(change.rows, "row")]
    if change.clusters is not None:
        counts.append(counted(change.clusters, "cluster"))
    by = f"by {' and '.join(comparison.clusters)}" if comparison.clusters else "by row"
    found = f"{', '.join(counts)}, {PAIRED[comparison.pairing]}, standard errors {by}"
    if change.worse is None:
        return found
    better = counted(change.better or 0, "row")
    return f"{found}; {better} better, {change.worse:,} worse, {change.equal:,} equal"


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
