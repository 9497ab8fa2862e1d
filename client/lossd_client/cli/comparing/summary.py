"""The summary of a comparison on a terminal, or in the log of a CI job."""

from typing import Final

from rich.console import Console
from rich.text import Text

from lossd_client.cli.reporting.tables import headed, pairs, print_table, shortened
from lossd_client.comparison import Comparison
from lossd_client.comparison._output.columns import HEAD, table_rows
from lossd_client.comparison._output.sentences import (
    basis,
    bound,
    confidence,
    judged_by,
    percent,
    signed,
)

_SHOWN: Final = 10
_STYLES: Final = {"regressed": "bold red", "undecided": "bold yellow", "passed": "bold green"}


def print_summary(comparison: Comparison, names: tuple[str, str]) -> None:
    """Print a comparison.

    Args:
        comparison: The comparison.
        names: What the new model and the baseline are called.
    """
    # As wide as it needs: numbers that are cut off are of no use, and a pipe has no edge.
    console = Console(highlight=False, width=10_000)
    print_table(console, pairs(_whole(comparison, names)))
    if not comparison.by:
        return
    console.print()
    rows, rest = table_rows(comparison, _SHOWN)
    table = headed([", ".join(comparison.by), *HEAD[1:]], 2)
    for name, verdict, *cells in rows:
        table.add_row(shortened(name), _styled(verdict), *cells)
    print_table(console, table)
    if rest:
        console.print(Text(rest))


def _whole(comparison: Comparison, names: tuple[str, str]) -> list[tuple[str, str | Text]]:
    whole, given = comparison.whole, comparison.params
    params = "".join(f" {name}={value}" for name, value in given.items() if value is not None)
    verdict = Text.assemble(_styled(comparison.verdict), _why(comparison))
    return [
        ("verdict", verdict),
        ("new", f"{whole.new!r}  {names[0]}"),
        ("baseline", f"{whole.baseline!r}  {names[1]}"),
        ("difference", f"{signed(whole.difference)} ({percent(whole.relative)})"),
        (f"{confidence(whole.confidence)} interval", judged_by(whole, comparison)),
        ("bound", bound(comparison)),
        ("rows", basis(whole, comparison)),
        ("loss name", f"{comparison.loss_name}{params}"),
        *(("note", note) for note in comparison.notes),
    ]


def _styled(verdict: str) -> Text:
    return Text(verdict, style=_STYLES[verdict])


def _why(comparison: Comparison) -> str:
    """Return what the verdict is of, and its reason where it is not the interval."""
    verdict = comparison.verdict  # of all groups: found once
    found = [(id, each) for id, each in comparison.changes() if each.verdict == verdict]  # noqa: A001
    if found[0][0] is not None:
        its = [each for id, each in found if id is not None]  # noqa: A001
        return (
            f": {len(its)} of {len(comparison.groups)} groups; all rows together {comparison.whole.verdict}"
        )
    reason = comparison.whole.reason
    place = {
        "regressed": "the whole interval is above the bound",
        "passed": "none of the interval is above the bound",
        "undecided": "the interval holds the bound: more rows would tell",
    }
    return f": {reason or place[comparison.whole.verdict]}"
