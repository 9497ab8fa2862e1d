"""Tables of figures in Markdown, for the terminal and for docs/explanations/performance.md."""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[1] / "docs/explanations/performance.md"


@dataclass(slots=True)
class Figure:
    """A measured figure.

    Attributes:
        what: The figure, in words.
        found: The values, one for each round.
    """

    what: str
    found: list[float] = field(default_factory=list)

    def row(self) -> tuple[str, ...]:
        """Return its row of the table: the figure, its median and its spread."""
        if not self.found:
            return (self.what, "not measured", "")
        spread = f"{number(min(self.found))} to {number(max(self.found))}"
        return (self.what, number(statistics.median(self.found)), spread)


def number(value: float) -> str:
    """Format a number with three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format rows as a Markdown table with aligned columns."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    )


def of_figures(figures: Sequence[Figure]) -> str:
    """Format figures as a table."""
    return table(("what", "median", "least to greatest"), [one.row() for one in figures])


def options(name: str, about: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's options, with those that all share."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=about)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument(
        "--write", action="store_true", help="write the tables to docs/explanations/performance.md, too"
    )
    return parser


def tell(command: str, given: argparse.Namespace, *tables: str) -> None:
    """Print tables, and write them to docs/explanations/performance.md with ``--write``.

    Args:
        command: The Make target. In the page they stand between ``<!-- command -->`` and ``<!-- end -->``.
        given: The options.
        tables: The tables.
    """
    text = "\n\n".join([f"{_machine()}; rounds: {given.rounds}.", *tables])
    print(text)
    if given.write:
        PAGE.write_text(fill(PAGE.read_text(), command, text))


def fill(page: str, name: str, text: str) -> str:
    """Return a page with a text between ``<!-- name -->`` and ``<!-- end -->``.

    Raises:
        ValueError: The page does not have exactly one such place.
    """
    place = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    page, count = place.subn(lambda found: f"{found[1]}{text}\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"the page has {count} places for {name}")
    return page


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}; {len(os.sched_getaffinity(0))} cores of {model}"
