"""Text tables: .csv, and .tsv. By pyarrow where that is installed, ten times faster; else by Python's own."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd.cli.extras import has_pyarrow
from lossd.cli.files.datafile import Block, Column, DataFile, Kind, recut
from lossd.cli.files.errors import BadFile
from lossd.cli.files.place import Place

_ROWS: Final = 1 << 14
_BLOCK_BYTES: Final = 4 << 20
_TRUE: Final = ("1", "true", "True", "TRUE")
_FALSE: Final = ("0", "false", "False", "FALSE")
_WORDS: Final = frozenset(_TRUE + _FALSE) - {"0", "1"}
_IN_COLUMN: Final = re.compile(r"In CSV column #(\d+): (?:CSV conversion error to )?")
_DTYPES: Final[Mapping[Kind, Any]] = {
    Kind.NUMBER: np.float64,
    Kind.INTEGER: np.int64,
    Kind.FLAG: np.bool_,
    Kind.LABEL: object,
}


class CsvFile(DataFile):
    """A text table whose first line names the columns.

    Numbers are read as float64, or as bool in a column whose first value is true or false.

    Raises:
        BadFile: It cannot be read.
    """

    is_table = True

    def __init__(self, place: Place) -> None:
        self.place = place
        self._delimiter = "\t" if place.suffix == ".tsv" else ","
        with place.errors(), place.open() as file, _text(file) as lines:
            reader = csv.reader(lines, delimiter=self._delimiter)
            self.names = tuple(next(reader, ()))
            first = next(filter(None, reader), [])  # an empty line is no row
        self._flags = {name for name, cell in zip(self.names, first, strict=False) if cell in _WORDS}
        if not self.names:
            raise BadFile(f"{place} is empty; its first line must name the columns")
        if len(set(self.names)) < len(self.names):
            raise BadFile(f"{place} has columns of the same name: {', '.join(self.names)}")

    def rows(self, name: str) -> int | None:
        """As `DataFile`: only reading tells."""
        return None

    def dimensions(self, name: str) -> int:
        """As `DataFile`."""
        return 1

    def row_bytes(self, columns: Sequence[Column]) -> int:
        """As `DataFile`."""
        return 8 * max(1, len(columns))

    def blocks(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        """As `DataFile`."""
        read = self._by_pyarrow if has_pyarrow() else self._by_csv
        none = {column: np.empty(0, dtype=_DTYPES[self._kind(column)]) for column in columns}
        yield from recut(self.place, chain([none], read(columns)), rows)

    def _kind(self, column: Column) -> Kind:
        return Kind.FLAG if column.kind is Kind.NUMBER and column.name in self._flags else column.kind

    def _by_pyarrow(self, columns: Sequence[Column]) -> Iterator[Block]:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        types = {Kind.NUMBER: pa.float64(), Kind.INTEGER: pa.int64(), Kind.FLAG: pa.bool_()}
        names = list(dict.fromkeys(column.name for column in columns))
        # What is a label too is read as text; its numbers are then made of that.
        as_text = {column.name for column in columns if column.kind is Kind.LABEL}
        convert = arrow_csv.ConvertOptions(
            include_columns=names,
            column_types={
                column.name: pa.string() if column.name in as_text else types[self._kind(column)]
                for column in columns
            },
            null_values=[""],
            strings_can_be_null=True,
            true_values=list(_TRUE),
            false_values=list(_FALSE),
        )
        with self.place.errors(), self._column_errors(), self.place.open() as file:
            reader = arrow_csv.open_csv(
                file,
                read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=arrow_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                convert_options=convert,
            )
            for batch in reader:
                yield {
                    column: self._array(batch.column(column.name), column, types.get(self._kind(column)))
                    for column in columns
                }

    def _array(self, values: Any, column: Column, kind: Any) -> NDArray[Any]:  # noqa: ANN401 - pyarrow's
        from lossd.cli.files.arrow import as_array

        if column.kind is Kind.LABEL:
            return _objects(values.to_pylist())
        where = f"{self.place}: column {column.name!r}"
        try:
            return as_array(values.cast(kind), where)
        except ValueError as error:
            raise BadFile(f"{where}: {error}") from error

    @contextmanager
    def _column_errors(self) -> Iterator[None]:
        """Names the column that pyarrow has a number for."""
        try:
            yield
        except ValueError as error:  # pyarrow's are
            text = str(error)
            found = _IN_COLUMN.match(text)
            if found is None or int(found[1]) >= len(self.names):
                raise
            name = self.names[int(found[1])]
            raise BadFile(f"{self.place}: column {name!r}: {text[found.end() :]}") from error

    def _by_csv(self, columns: Sequence[Column]) -> Iterator[Block]:
        places = [self.names.index(column.name) for column in columns]
        with self.place.errors(), self.place.open() as file, _text(file) as lines:
            reader = csv.reader(lines, delimiter=self._delimiter)
            next(reader)
            found: list[list[str]] | None = None
            while found is None or len(found) == _ROWS:
                found = list(islice(reader, _ROWS))
                rows = [row for row in found if row]  # an empty line is no row
                for row in rows:
                    if len(row) != len(self.names):
                        raise ValueError(f"a row has {len(row)} values for {len(self.names)} columns")
                yield {
                    column: self._converted(column, [row[place] for row in rows])
                    for column, place in zip(columns, places, strict=True)
                }

    def _converted(self, column: Column, cells: Sequence[str]) -> NDArray[Any]:
        if column.kind is Kind.LABEL:
            return _objects([cell or None for cell in cells])
        try:
            kind = self._kind(column)
            return np.array([_READ[kind](cell) for cell in cells], dtype=_DTYPES[kind])
        except ValueError as error:
            raise BadFile(f"{self.place}: column {column.name!r}: {error}") from error


def _text(file: Any) -> io.TextIOWrapper:  # noqa: ANN401 - any binary file
    return io.TextIOWrapper(io.BufferedReader(file, 1 << 16), encoding="utf-8-sig", newline="")


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _flag(cell: str) -> bool:
    if cell in _TRUE or cell in _FALSE:
        return cell in _TRUE
    raise ValueError(f"{cell!r} is neither true nor false")


_READ: Final[Mapping[Kind, Callable[[str], Any]]] = {
    Kind.NUMBER: float,
    Kind.INTEGER: int,
    Kind.FLAG: _flag,
}
