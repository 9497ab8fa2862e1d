"""Decimal points and commas in the numbers of a text table with another delimiter.

0,5 has a decimal comma. 1,200 may be 1.2 or 1200: other numbers of the table tell, or it is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lossd_client.cli.files.cells import has_comma, has_point, may_have_thousands

_REMEDY: Final = "write all numbers with decimal points, and nothing between thousands"


class Seen(NamedTuple):
    """A cell and its position."""

    name: str
    line: int
    cell: str

    def __str__(self) -> str:
        return f"column {self.name!r}, line {self.line}: {self.cell!r}"


@dataclass(slots=True)
class Marks:
    """The marks seen so far, in the first rows and in those read.

    Attributes:
        point: A number with a decimal point.
        comma: A number with a comma, of the columns read.
        unclear: A number of the columns read whose comma may stand between thousands.
        is_decimal: Whether a number was seen whose comma can only be a decimal comma.
        columns: The columns that were read and have commas.
    """

    point: Seen | None = None
    comma: Seen | None = None
    unclear: Seen | None = None
    is_decimal: bool = False
    columns: set[str] = field(default_factory=set)

    def sample(self, name: str, cells: Sequence[str], lines: Sequence[int]) -> None:
        """Look at the first rows of a column that may not be read; 1.234 tells nothing there."""
        for cell, line in zip(cells, lines, strict=True):
            if has_comma(cell):
                self.is_decimal = self.is_decimal or not may_have_thousands(cell)
            elif self.point is None and has_point(cell) and not may_have_thousands(cell):
                self.point = Seen(name, line, cell)

    def knows(self, name: str, commas: bool, points: bool) -> bool:
        """Return whether cells with these marks are consistent with the others and tell nothing new."""
        if commas and (self.point is not None or not self.is_decimal or name not in self.columns):
            return False
        return not points or (self.point is not None and self.comma is None)

    def read(self, name: str, cells: Sequence[str], lines: Sequence[int]) -> None:
        """Look at cells of a column of numbers.

        Raises:
            ValueError: Some numbers have commas, and others decimal points.
        """
        for cell, line in zip(cells, lines, strict=True):
            if has_comma(cell):
                seen = Seen(name, line, cell)
                self.columns.add(name)
                self.comma = self.comma or seen
                if not may_have_thousands(cell):
                    self.is_decimal = True
                else:
                    self.unclear = self.unclear or seen
            elif self.point is None and has_point(cell):
                self.point = Seen(name, line, cell)
            if self.comma is not None and self.point is not None:
                what = f"{self.comma} has a comma, and {self.point} a decimal point"
                raise ValueError(f"{what}; what the comma means is unclear: {_REMEDY}")

    def check(self) -> None:
        """Refuse commas that may separate thousands, once all rows are read.

        Raises:
            ValueError: There are, and no number shows that commas are decimal commas.
        """
        if self.unclear is None or self.is_decimal:
            return
        cell = self.unclear.cell
        raise ValueError(
            f"{self.unclear} is {cell.replace(',', '.')} if its comma is a decimal comma, and "
            f"{cell.replace(',', '')} if it parts thousands, and no other number tells which: {_REMEDY}"
        )
