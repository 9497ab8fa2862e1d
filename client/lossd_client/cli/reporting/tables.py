"""Tables for people to read."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

_WIDEST: Final = 60  # of a group's name: one that is longer would move the figures out of sight
_ENDS: Final = _WIDEST // 2 - 1


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


def shortened(name: str) -> Text:
    """Return a group's name in one line, a long one without its middle."""
    text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)
    return Text(text if len(text) <= _WIDEST else f"{text[:_ENDS]}…{text[-_ENDS:]}")


def print_table(console: Console, table: Table) -> None:
    """Print a table without the blanks that fill its lines up, which a narrow terminal would break."""
    for line in console.render_lines(table, pad=False):
        while line and not line[-1].text.strip():
            line.pop()
        if line:
            line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
        console.print(*(Text(_sayable(each.text, console), each.style or "") for each in line), sep="")


def _sayable(text: str, console: Console) -> str:
    """Return a text with an escape for what a console of another encoding than UTF-8 does not have."""
    return text.encode(console.encoding, "backslashreplace").decode(console.encoding)
