"""Tables from folders such as camera=a/, whose names are columns of one value."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.data_file import Block, Column, DataFile, Kind
from lossd_client.cli.files.errors import BadFile


class PartitionedTable(DataFile):
    """A table with the columns that its folders name.

    Args:
        table: The table.
        values: The value of each such column: text, or None.

    Raises:
        BadFile: The table has a column of that name itself.
    """

    is_table = True

    def __init__(self, table: DataFile, values: Mapping[str, str | None]) -> None:
        self._table, self._values = table, values
        self.location, self.unreadable = table.location, table.unreadable
        self.names = (*table.names, *values)
        for name in values:
            if name in table.names:
                folder = f"{name}={values[name]}"
                raise BadFile(
                    f"{table.location} has a column {name}, and its folder {folder} stands for one too"
                )

    @property
    def notes(self) -> tuple[str, ...]:
        return self._table.notes

    def rows(self, name: str) -> int | None:
        return self._table.rows(self._own(name))

    def dimensions(self, name: str) -> int:
        return 1 if name in self._values else self._table.dimensions(name)

    def refuse_integers(self, name: str, role: str) -> None:
        if name not in self._values:
            self._table.refuse_integers(name, role)

    def row_bytes(self, columns: Sequence[Column]) -> int:
        own = [column for column in columns if column.name not in self._values]
        return 8 * (len(columns) - len(own)) + (self._table.row_bytes(own) if own else 0)

    def blocks(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        constant = [column for column in columns if column.name in self._values]
        for column in constant:
            if column.kind is not Kind.LABEL:
                value = self._values[column.name]
                what = f"{self.location}: {column.name} is the name of its folder, {value}"
                raise BadFile(f"{what}, which can be what losses are grouped by, but no numbers")
        own = [column for column in columns if column.name not in self._values]
        counted = own or [Column(self._own(""), Kind.LABEL)]  # for the number of rows
        for block in self._table.blocks(counted, rows):
            length = len(block[counted[0]])
            yield {column: self._constant(column, length) for column in constant} | {
                column: block[column] for column in own
            }

    def _constant(self, column: Column, length: int) -> NDArray[Any]:
        found = np.empty(length, dtype=object)
        found[:] = self._values[column.name]
        return found

    def _own(self, name: str) -> str:
        """Return a column of the table itself, in place of a folder's."""
        if name in self._table.names:
            return name
        flat = (other for other in self._table.names if self._table.dimensions(other) == 1)
        return next(flat, self._table.names[0])
