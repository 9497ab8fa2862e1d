"""A comparison as a table."""

from collections.abc import Sequence

from lossd_client.comparison._change import Change
from lossd_client.comparison._output.sentences import (
    confidence,
    judged_by,
    name_of,
    percent,
    signed,
    worst_first,
)
from lossd_client.comparison._view import ComparisonView
from lossd_client.report._drawing.markup import number
from lossd_client.report._figures.groups import GroupId

HEAD = ("", "verdict", "new", "baseline", "difference", "relative", "interval", "confidence", "rows")


def table_rows(comparison: ComparisonView, shown: int) -> tuple[list[Sequence[str]], str]:
    """Return the whole and the worst groups, a row each, and what is said of the others.

    Args:
        comparison: The comparison.
        shown: How many groups are shown at most.
    """
    groups = worst_first(comparison)
    found = [_row(comparison, *each) for each in [(None, comparison.whole), *groups[:shown]]]
    rest = groups[shown:]
    if not rest:
        return found, ""
    counts = [
        f"{len(its):,} {verdict}"
        for verdict in ("regressed", "undecided", "passed")
        if (its := [change for _, change in rest if change.verdict == verdict])
    ]
    return found, f"And {len(rest):,} more groups: {', '.join(counts)}."


def _row(comparison: ComparisonView, id: GroupId | None, change: Change) -> Sequence[str]:  # noqa: A002 - its name
    return (
        name_of(comparison, id),
        change.verdict,
        number(change.new),
        number(change.baseline),
        signed(change.difference),
        percent(change.relative),
        judged_by(change, comparison),
        confidence(change.confidence),
        f"{change.rows:,}",
    )
