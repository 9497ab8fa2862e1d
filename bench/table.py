"""What a run found, in tables that Markdown understands."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Figure:
    """A figure that something is asked of.

    Attributes:
        what: In words.
        asked: What its median should be at least; nothing if None.
        at_most: At most, instead.
        found: What it was, round by round.
    """

    what: str
    asked: float | None = None
    at_most: bool = False
    found: list[float] = field(default_factory=list)

    def row(self) -> tuple[str, ...]:
        """Its line in the table."""
        if not self.found:
            return (self.what, *[""] * 3, "not measured")
        median = statistics.median(self.found)
        if self.asked is None:
            asked, verdict = "", ""
        else:
            good = median <= self.asked if self.at_most else median >= self.asked
            asked, verdict = (
                f"at {'most' if self.at_most else 'least'} {self.asked:g}",
                "yes" if good else "no",
            )
        return (
            self.what,
            asked,
            number(median),
            f"{number(min(self.found))} to {number(max(self.found))}",
            verdict,
        )


def number(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print figures."""
    show_rows(
        title, ("what", "asked", "median", "least to greatest", "reached"), [one.row() for one in figures]
    )


def show_rows(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print any rows."""
    table = Table(*heads, box=box.MARKDOWN)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if Console().is_terminal else 200)
    console.print(f"\n{title}\n", table, highlight=False)
