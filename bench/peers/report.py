"""The tables of a run, for a terminal and for a page."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.peers import catalog
from bench.peers.figures import MIB, Cell, Ratio, Run, Sample, Spread, each, ratios

BEGIN: Final = "<!-- bench/peers: begin -->"
END: Final = "<!-- bench/peers: end -->"
_CELLS: Final = (
    "server",
    "form",
    "size",
    "connections",
    "requests/s (least to greatest)",
    "p50 ms",
    "p99 ms",
    "elements/s",
    "CPU s a million elements",
    "MiB at most",
    "failed",
)

Rows = list[tuple[str, ...]]


def number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ranged(found: Spread | None) -> str:
    """A median with its spread."""
    if found is None:
        return "not measured"
    return f"{number(found.median)} ({number(found.least)} to {number(found.greatest)})"


def ratio_rows(found: list[Ratio]) -> Rows:
    """The table of ratios."""
    return [
        (
            one.what,
            f"{'at most' if one.at_most else 'at least'} {one.asked:g}",
            ranged(one.reached),
            one.verdict,
        )
        for one in found
    ]


def cell_rows(run: Run) -> Rows:
    """Every cell, medians over rounds."""
    cells = dict.fromkeys(cell for one in run.rounds for cell in one.cells)
    return [_cell_row(run, cell) for cell in cells]


def _cell_row(run: Run, cell: Cell) -> tuple[str, ...]:
    samples: list[Sample] = [one.cells[cell] for one in run.rounds if cell in one.cells]

    def middle(name: str) -> str:
        found = each(run, lambda one: float(getattr(one.cells[cell], name)))
        return number(found.median) if found else ""

    most = max(one.memory for one in samples)
    return (
        cell.server,
        cell.form,
        cell.size,
        str(cell.connections),
        ranged(each(run, lambda one: one.cells[cell].rate)),
        *(middle(name) for name in ("p50", "p99", "elements", "cpu")),
        number(most / MIB) if most else "",
        str(sum(one.failed for one in samples)),
    )


def limit_rows(run: Run) -> Rows:
    """What no server can beat."""
    names = dict.fromkeys(name for one in run.rounds for name in one.limits)
    return [
        (
            name,
            *(ranged(each(run, lambda one, k=key, n=name: one.limits[n][k])) for key in ("seconds", "cpu")),  # type: ignore[misc] # defaults bind them
        )
        for name in names
    ]


def _settings(run: Run) -> Rows:
    rows: Rows = [(one.name, one.setting) for one in catalog.SERVERS if one.name not in run.absent]
    return rows + [(name, f"not measured: {why}") for name, why in run.absent.items()]


def tables(run: Run) -> list[tuple[str, tuple[str, ...], Rows]]:
    """Each table's title, heads and rows."""
    return [
        ("Ratios", ("what", "asked", "reached (least to greatest)", "reached"), ratio_rows(ratios(run))),
        ("Limits, a request of 168 MB", ("limit", "seconds", "CPU seconds"), limit_rows(run)),
        ("Servers", ("server", "how it was run"), _settings(run)),
        ("Figures", _CELLS, cell_rows(run)),
    ]


def show(run: Run) -> None:
    """Print them."""
    console = Console(width=None if Console().is_terminal else 200)
    console.print(", ".join(f"{name}: {value}" for name, value in run.machine.items()))
    for title, heads, rows in tables(run):
        table = Table(*heads, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def markdown(run: Run, plots: list[str]) -> str:
    """The part of a page between the markers."""
    lines = [f"Medians of {len(run.rounds)} rounds. " + _sentence(run)]
    for title, heads, rows in tables(run):
        lines += ["", f"### {title}", "", _line(heads), "|" + "---|" * len(heads), *map(_line, rows)]
    lines += [text for plot in plots for text in ("", f"![{Path(plot).stem}]({plot})")]
    return "\n".join(lines)


def _sentence(run: Run) -> str:
    return "; ".join(f"{name}: {value}" for name, value in run.machine.items()) + "."


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def put(page: str, part: str) -> str:
    """A page with the part between its markers replaced; they are laid at its end where there are none.

    Raises:
        ValueError: One marker is there without the other, or they are in the wrong order.
    """
    part = f"{BEGIN}\n{part}\n{END}"
    if BEGIN not in page and END not in page:
        return f"{page.rstrip()}\n\n## Beside peers\n\n{part}\n"
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs {BEGIN} and then {END}")
    return before + part + after
