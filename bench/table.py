"""What a run found: tables that people and Markdown read, for the terminal and for docs/performance.md."""

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

PAGE: Final = Path(__file__).resolve().parents[1] / "docs/performance.md"


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
        bound = "" if self.asked is None else f"at {'most' if self.at_most else 'least'} {self.asked:g}"
        if not self.found:
            return (self.what, bound, "not measured", "", "")
        median = statistics.median(self.found)
        verdict = ""
        if self.asked is not None:
            good = median <= self.asked if self.at_most else median >= self.asked
            verdict = "yes" if good else "no"
        spread = f"{number(min(self.found))} to {number(max(self.found))}"
        return (self.what, bound, number(median), spread, verdict)


def number(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under their columns, all of a column of one width."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    )


def of_figures(figures: Sequence[Figure]) -> str:
    """Figures under each other."""
    return table(("what", "asked", "median", "least to greatest", "reached"), [one.row() for one in figures])


def options(name: str, about: str | None, rounds: int) -> argparse.ArgumentParser:
    """A command's options, with those that all have."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=about)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md, too")
    return parser


def tell(command: str, given: argparse.Namespace, *tables: str) -> None:
    """Print tables, and put them into the page where it is asked for.

    Args:
        command: Whose they are: the page has ``<!-- command -->`` and, behind them, ``<!-- end -->``.
        given: Its options.
        tables: What it found.
    """
    text = "\n\n".join([f"{_machine()}; rounds: {given.rounds}.", *tables])
    print(text)
    if given.write:
        place = re.compile(rf"(<!-- {re.escape(command)} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = place.subn(lambda found: f"{found[1]}{text}\n{found[2]}", PAGE.read_text())
        if count != 1:
            raise ValueError(f"the page has {count} places for {command}")
        PAGE.write_text(page)


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}; {len(os.sched_getaffinity(0))} cores of {model}"
