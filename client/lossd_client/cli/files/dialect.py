"""The dialect of a text table, found from its first rows: the delimiter, and how numbers are written."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final

from lossd_client.cli.files.cells import ABSENT, SPACES, WORDS, comma_columns, is_number
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location
from lossd_client.cli.files.marks import Marks

_DELIMITERS: Final = (",", ";", "\t", "|")
_NAMES: Final = {"\t": "tab"}
_FIRST_ROWS: Final = 1000
_SEPARATOR_LINE: Final = re.compile(r"\"?sep=(.)\"?\s*", re.IGNORECASE)  # Excel reads it


@dataclass(frozen=True, slots=True)
class Dialect:
    """The dialect of a text table.

    Attributes:
        delimiter: The delimiter of its columns.
        names: Its columns.
        lines: The number of lines before the first row.
        commas: The columns whose numbers have decimal commas.
        flags: The columns whose values are true and false.
        marks: The decimal points and commas of its numbers; it learns of others as rows are read.
    """

    delimiter: str
    names: tuple[str, ...]
    lines: int
    commas: frozenset[str]
    flags: frozenset[str]
    marks: Marks

    def notes(self, location: Location) -> tuple[str, ...]:
        """Return notes of an unusual dialect."""
        found = []
        if self.delimiter != ("\t" if location.suffix == ".tsv" else ","):
            found.append(f"{_name(self.delimiter)} between columns")
        if commas := self.marks.columns:
            which = "" if len(commas) == len(self.names) else f" in {', '.join(sorted(commas))}"
            found.append(f"decimal commas{which}")
        return (f"{location}: read with {' and '.join(found)}",) if found else ()


class Records:
    """The rows of a text table, cell by cell. Comment lines and empty lines are passed over.

    Args:
        lines: Its lines, with their ends.
        delimiter: The delimiter of the columns.
        width: The number of columns, if it is known: then a comment that may be a row is refused.
        line: The number of lines read before.
    """

    def __init__(self, lines: Iterable[str], delimiter: str, width: int | None = None, line: int = 0) -> None:
        self.line = line
        self.comment = ""  # the last one that was passed over
        self.comments = 0  # how many were passed over
        self.first_comment = 0  # its line
        self._lines = lines
        self._delimiter = delimiter
        self._width = width
        self._is_between = True
        self._empty_line = 0
        self._reader = csv.reader(self._fed(), delimiter=delimiter, skipinitialspace=True, strict=True)

    def _fed(self) -> Iterator[str]:
        for line in self._lines:
            self.line += 1
            if self._is_between and line.startswith("#"):
                self._pass_over(line)
                continue
            self._is_between = False
            yield line

    def _pass_over(self, line: str) -> None:
        if self._width is not None and _may_be_row(line, self._delimiter, self._width):
            what = f"line {self.line} begins with # and may be a row of {self._width} or a comment"
            first = _cells(line, self._delimiter)[0]
            raise ValueError(
                f'{what}: put quotes around its first value, as in "{_short(first)}", '
                "if it is a row; take the line out if it is a comment"
            )
        self.comment = line.strip()
        self.comments += 1
        self.first_comment = self.first_comment or self.line

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        while True:
            self._is_between = True
            try:
                cells = [cell.strip(SPACES) for cell in next(self._reader)]
            except csv.Error as error:
                raise ValueError(f"line {self.line}: {_why(error)}") from error
            if any(cells) or len(cells) > 1 or (cells and self._width == 1):
                if self._empty_line:
                    what = f'line {self._empty_line} is empty: write "" where there is no value'
                    raise ValueError(f"{what}, or take the line out")
                return cells
            if self._width == 1:  # it could be a row without a value
                self._empty_line = self._empty_line or self.line


def _may_be_row(line: str, delimiter: str, width: int) -> bool:
    """Return whether a line is a row, or may be one with the lines that follow."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        return _is_open(error)
    return len(cells) == width


def _is_open(error: csv.Error) -> bool:
    return "field limit" in str(error) or "unexpected end" in str(error)


def _why(error: csv.Error) -> str:
    return 'a quote (") is not closed' if _is_open(error) else str(error)


def find_dialect(location: Location, sample: str) -> Dialect:
    """Return the dialect of a table.

    Args:
        location: Its path or URL.
        sample: Its first lines.

    Raises:
        BadFile: It is empty, its first line names no columns, or it is not clear what parts them.
    """
    lines = list(io.StringIO(sample, newline=""))
    at = _first_line(lines, 0)
    separator = _SEPARATOR_LINE.fullmatch(lines[at]) if at < len(lines) else None
    passed = at + 1 if separator is not None and separator[1] in _DELIMITERS else 0
    at = _first_line(lines, passed)
    if at == len(lines):
        raise BadFile(f"{location} is empty; its first line must name the columns")
    delimiter = separator[1] if separator is not None and passed else _delimiter(location, lines[at:])
    records = Records(lines[passed:], delimiter)
    names = tuple(next(records))
    start = passed + records.line
    _check_names(location, names, lines[at], records.comment, delimiter)
    rows, numbers = list[list[str]](), list[int]()
    with suppress(ValueError):  # a wrong row is reported when it is read
        for row in islice(records, _FIRST_ROWS):
            rows.append(row)
            numbers.append(passed + records.line)
    if len(names) == 1:
        _check_parted(location, names[0], rows)
    commas = comma_columns(rows, len(names)) if delimiter != "," else set()
    firsts = [_first_value(rows, at) for at in range(len(names))]
    return Dialect(
        delimiter,
        names,
        start,
        frozenset(names[at] for at in commas),
        frozenset(name for name, cell in zip(names, firsts, strict=True) if cell in WORDS),
        _marks(names, rows, numbers) if delimiter != "," else Marks(),
    )


def _marks(names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> Marks:
    """Return the marks in the columns whose first rows are all numbers."""
    marks = Marks()
    whole = [(line, row) for line, row in zip(numbers, rows, strict=True) if len(row) == len(names)]
    for at, name in enumerate(names):
        cells = [row[at] for _, row in whole]
        if all(cell in ABSENT or is_number(cell) for cell in cells):
            marks.sample(name, cells, [line for line, _ in whole])
    return marks


def _first_line(lines: Sequence[str], start: int) -> int:
    """Return the index of the first line that is neither empty nor a comment."""
    for at in range(start, len(lines)):
        if lines[at].strip() and not lines[at].startswith("#"):
            return at
    return len(lines)


def _first_value(rows: Sequence[Sequence[str]], at: int) -> str:
    return next((row[at] for row in rows if at < len(row) and row[at] not in ABSENT), "")


def _delimiter(location: Location, lines: Sequence[str]) -> str:
    """Return the delimiter: the usual one if the header has it and the rows fit, else another that fits."""
    header = lines[0]
    usual = "\t" if location.suffix == ".tsv" else ","
    there = [delimiter for delimiter in _DELIMITERS if len(_cells(header, delimiter)) > 1]
    if len(there) <= 1:
        return there[0] if there else usual
    fitting = [delimiter for delimiter in there if _fits(lines, delimiter)]
    if usual in fitting or len(fitting) == 1:
        return usual if usual in fitting else fitting[0]
    named = " or ".join(_name(delimiter) for delimiter in there)
    raise BadFile(
        f"{location}: its first line, {header.strip()}, may be parted by {named}: part all lines by ,"
    )


def _cells(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line, as far as it goes."""
    cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    return [cell.strip(SPACES) for cell in cells]


def _fits(lines: Sequence[str], delimiter: str) -> bool:
    """Return whether the first rows have as many values as the header."""
    records = Records(lines, delimiter)
    try:
        return len({len(cells) for cells in islice(records, 20)}) == 1
    except ValueError:
        return False


def _name(delimiter: str) -> str:
    return _NAMES.get(delimiter, delimiter)


def _check_names(location: Location, names: Sequence[str], line: str, comment: str, delimiter: str) -> None:
    if any(all(map(is_number, _cells(line, mark))) for mark in _DELIMITERS):
        what = f"{location}: its first line, {_short(line)}, is all numbers; it must name the columns"
        if _may_be_names(comment.removeprefix("#"), delimiter, len(names)):
            what += f" (they seem to be named in the comment {_short(comment)}: take the # away)"
        raise BadFile(what)
    if len(set(names)) < len(names):
        raise BadFile(f"{location} has columns of the same name: {', '.join(names)}")


def _may_be_names(comment: str, delimiter: str, number: int) -> bool:
    """Return whether a comment may name a number of columns: one, by a single word."""
    return len(_cells(comment, delimiter)) == number and (number > 1 or len(comment.split()) == 1)


def _check_parted(location: Location, name: str, rows: Sequence[Sequence[str]]) -> None:
    """Refuse columns with spaces or other unknown delimiters between them."""
    for mark in (None, ":", "/"):
        parts = len(name.split(mark))
        fits = all(len(row) == 1 and len(row[0].split(mark)) == parts for row in rows)
        if parts > 1 and rows and fits and any(map(is_number, rows[0][0].split(mark))):
            what = f"{location}: its first line, {_short(name)}, seems to name {parts} columns"
            raise BadFile(f"{what}; they are read where , ; tab or | stands between them")


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 60 else f"{text[:60]}..."
