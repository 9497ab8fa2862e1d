"""Cells of text tables: numbers, flags, labels, or nothing."""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

TRUE: Final = ("1", "true", "True", "TRUE")
FALSE: Final = ("0", "false", "False", "FALSE")
WORDS: Final = frozenset(TRUE + FALSE) - {"0", "1"}
ABSENT: Final = frozenset(("", "NA", "N/A", "<NA>", "null", "NULL", "None"))
"""What stands where there is no value; nan is a number."""
SPACES: Final = " \t"
_FLAG_WORDS: Final = "0, 1, true and false"
_NO_COMMAS: Final = "write a point in place of a decimal comma, and nothing between thousands"

_NUMBER: Final = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan(?:\(\w*\))?)", re.IGNORECASE | re.ASCII
)
_COMMA: Final = re.compile(r"[+-]?\d+,\d+(?:e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_GROUPS: Final = re.compile(r"[+-]?[1-9]\d{0,2}(?:(?:\.\d{3})+|(?:,\d{3})+)", re.ASCII)
_FLAGS: Final = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)


class CellError(ValueError):
    """A cell does not hold what it should.

    Attributes:
        row: Which it is of the cells given.
    """

    def __init__(self, row: int, what: str) -> None:
        super().__init__(what)
        self.row = row


def is_number(cell: str) -> bool:
    """Return whether a cell is a number, with a decimal point or comma."""
    return bool(_NUMBER.fullmatch(cell) or _COMMA.fullmatch(cell))


def has_comma(cell: str) -> bool:
    """Return whether a cell is a number with one comma."""
    return "," in cell and _COMMA.fullmatch(cell) is not None


def has_point(cell: str) -> bool:
    """Return whether a cell is a number with a decimal point."""
    return "." in cell and _NUMBER.fullmatch(cell) is not None


def may_have_thousands(cell: str) -> bool:
    """Return whether commas or points may separate thousands: in 1,200 they may, in 0,200 not."""
    return _GROUPS.fullmatch(cell) is not None


def comma_columns(rows: Sequence[Sequence[str]], width: int) -> set[int]:
    """Return the columns whose numbers have decimal commas, in rows with another delimiter.

    Where one column has them, 1.234 in another may be a thousand and more: that column is taken to have them
    too, so that it is refused, unless it has a number such as 0.5.
    """
    commas, points = set[int](), set[int]()
    for row in rows:
        for index, cell in enumerate(row[:width]):
            if has_comma(cell):
                commas.add(index)
            elif has_point(cell) and not may_have_thousands(cell):
                points.add(index)
    return set(range(width)) - (points - commas) if commas else set()


def numbers(
    cells: Sequence[str], nulls: bool, comma: bool = False, parted: bool = False
) -> NDArray[np.float64]:
    """Read cells as float64.

    Args:
        cells: The cells, without spaces around them.
        nulls: Whether NaN stands where there is no value.
        comma: Whether they have decimal commas.
        parted: Whether commas part the columns.

    Raises:
        CellError: One is no number, or there is none.
    """
    return np.array(
        [_number(row, cell, nulls, comma, parted) for row, cell in enumerate(cells)], dtype=np.float64
    )


def _number(row: int, cell: str, nulls: bool, comma: bool, parted: bool) -> float:
    text = cell.replace(",", ".") if comma and "." not in cell else cell
    if _NUMBER.fullmatch(text) and not (comma and "." in cell):
        value = float(text.partition("(")[0])
        if math.isinf(value) and any(mark in text for mark in "0123456789"):
            raise CellError(row, f"{cell} is greater than float64 holds; inf says infinity")
        return value
    _refuse_absent(row, cell, nulls)
    if cell in ABSENT:
        return float("nan")
    if comma and _NUMBER.fullmatch(cell):
        raise CellError(
            row, f"{cell!r} has a decimal point, and the file has decimal commas: write all alike"
        )
    if has_comma(cell) or ("," in cell and may_have_thousands(cell)):
        what = (
            "commas part the columns" if parted else "no first row of its column has one as a decimal comma"
        )
        raise CellError(row, f"{cell!r} has a comma, and {what}: {_NO_COMMAS}")
    what = f"; flags are written {_FLAG_WORDS}" if cell.isalpha() else ""
    raise CellError(row, f"{cell!r} is not a number{what}")


def flags(cells: Sequence[str], nulls: bool) -> NDArray[Any]:
    """Read cells as bool; with `nulls` as float64 of 0, 1, and NaN for no value.

    Raises:
        CellError: One is neither true nor false, or there is none.
    """
    found: list[Any] = []
    for row, cell in enumerate(cells):
        flag = _FLAGS.get(cell)
        if flag is None:
            _refuse_absent(row, cell, nulls)
            if not nulls or (cell not in ABSENT and cell.lower() != "nan"):
                raise CellError(row, f"{cell!r} is none of {_FLAG_WORDS}")
        found.append(float("nan") if flag is None else flag)
    return np.array(found, dtype=np.float64 if nulls else np.bool_)


def _refuse_absent(row: int, cell: str, nulls: bool) -> None:
    if cell in ABSENT and not nulls:
        raise CellError(row, f"there is {cell} in place of a value" if cell else "there is no value")


def labels(cells: Sequence[str | None]) -> NDArray[Any]:
    """Return the cells' text, and None for empty cells."""
    found = np.empty(len(cells), dtype=object)
    found[:] = [cell or None for cell in cells]
    return found
