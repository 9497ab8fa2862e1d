"""Tables: names first, then figures, which a page can sort by."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from lossd_client.report._drawing.markup import number, tag, text
from lossd_client.report._json import number_as_json

MOST: Final = 1000
"""The most rows of a table: more are found faster in the report itself."""


class Cell(NamedTuple):
    """A cell.

    Attributes:
        shown: Its text.
        value: The number that it is sorted by, if it is one.
        is_words: Whether it is text to be read from the left.
        kind: A class of the style, if it has one.
    """

    shown: str
    value: float | None = None
    is_words: bool = False
    kind: str | None = None


Row: TypeAlias = Sequence[Cell | str]


def figure(value: float | None, digits: int = 6) -> Cell:
    """Return the cell of a number."""
    return Cell(number(value, digits), value)


def words(shown: str) -> Cell:
    """Return the cell of a text, such as a name."""
    return Cell(shown, is_words=True)


def table(
    head: Sequence[str], rows: Iterable[Row], *, caption: str, names: int = 1, is_sortable: bool = False
) -> str:
    """Return a table.

    Args:
        head: The columns' names.
        rows: The cells.
        caption: What the table is.
        names: How many of the first columns hold names, not figures.
        is_sortable: Whether a page may sort it.
    """
    found = [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    are_words = [cell.is_words for cell in found[0]] if found else [False] * len(head)
    titles = (
        tag(
            "th",
            text(name),
            scope="col",
            class_=None if place < names or are_words[place] else "lossd-number",
        )
        for place, name in enumerate(head)
    )
    return tag(
        "table",
        tag("caption", text(caption)),
        tag("thead", tag("tr", *titles)),
        tag("tbody", *(tag("tr", *_cells(row, names)) for row in found)),
        class_="lossd-sortable" if is_sortable else None,
    )


def _cells(row: Sequence[Cell], names: int) -> Iterable[str]:
    for cell in row[:names]:
        yield tag("th", tag("bdi", text(cell.shown)), scope="row", data_value=_sorted_by(cell))
    for cell in row[names:]:
        if cell.is_words:
            yield tag("td", tag("bdi", text(cell.shown)), class_="lossd-text")
        else:
            yield tag("td", text(cell.shown), data_value=_sorted_by(cell), class_=cell.kind)


def _sorted_by(cell: Cell) -> str | None:
    if cell.value is None:
        return None
    value = number_as_json(cell.value)
    return value if isinstance(value, str) else repr(value)


def listing(
    title: str, head: Sequence[str], rows: Sequence[Row], *, total: int, noun: str, names: int = 1
) -> str:
    """Return a table that a page can sort, which scrolls by itself, and says what it leaves out.

    Args:
        title: What it is.
        head: The columns' names.
        rows: The cells, the worst first.
        total: How many rows there would be in all.
        noun: What they are, for the caption.
        names: How many of the first columns hold names.
    """
    if not rows:
        return tag("p", text(f"{title}: none."))
    left_out = f": the worst {len(rows):,} of {total:,} {noun}" if total > len(rows) else ""
    return scrolled(
        table(head, rows, caption=f"{title}{left_out}", names=names, is_sortable=len(rows) > 1), title
    )


def scrolled(inside: str, label: str) -> str:
    """Return a box for what may be wider than the page, which scrolls by the keyboard, too."""
    return tag("div", inside, class_="lossd-scroll", role="region", tabindex=0, aria_label=label)
