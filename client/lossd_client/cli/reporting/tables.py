"""Tables for people to read."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text


def headed(head: Sequence[str], texts: int) -> Table:
    """Return an empty table with a head, whose first columns hold texts."""
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for place, name in enumerate(head):
        table.add_column(Text(name), justify="left" if place < texts else "right")
    return table


def pairs(rows: Sequence[tuple[str, str | Text]]) -> Table:
    """Return a table of names and values."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(name, Text(value) if isinstance(value, str) else value)
    return table
