"""Files of arrays that lie there as they are in memory: npy, npz, safetensors.

Rows are read with plain reads into a block of their own. A mapped file would count as this process's memory,
page after page, as far as it has been read.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lossd.cli.files.datafile import Block, Column, DataFile, Kind
from lossd.cli.files.place import Place


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array within a file.

    Attributes:
        dtype: Its dtype.
        shape: Its shape.
        open: Opens the file where the array's first element lies, for a `with` block.
        fortran: Whether the first index varies fastest.
        is_seekable: Whether what `open` gives can be read at any position without reading all before it.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    open: Callable[[], AbstractContextManager[BinaryIO]]
    fortran: bool = False
    is_seekable: bool = True

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """Gives some rows after the other; at least one block."""
        length = self.shape[0]
        if self.fortran and len(self.shape) > 1 and not self.is_seekable:
            array = self.whole()
            for start in range(0, max(length, 1), rows):
                yield array[start : start + rows]
            return
        with self.open() as file:
            first = file.tell()
            for start in range(0, max(length, 1), rows):
                number = min(rows, length - start)
                if self.fortran and len(self.shape) > 1:
                    yield self._fortran_rows(file, first, start, number)
                else:
                    block = np.empty((number, *self.shape[1:]), dtype=self.dtype)
                    _fill(file, block)
                    yield block

    def _fortran_rows(self, file: BinaryIO, first: int, start: int, number: int) -> NDArray[Any]:
        """Rows of an array that has them scattered: so many elements of each column."""
        length, rest = self.shape[0], self.shape[1:]
        columns = np.empty((math.prod(rest), number), dtype=self.dtype)
        for place, column in enumerate(columns):
            file.seek(first + (place * length + start) * self.dtype.itemsize)
            _fill(file, column)
        return columns.reshape((*rest[::-1], number)).T

    def whole(self) -> NDArray[Any]:
        """Gives all of it."""
        array = np.empty(self.shape[::-1] if self.fortran else self.shape, dtype=self.dtype)
        with self.open() as file:
            _fill(file, array)
        return array.T if self.fortran else array


def _fill(file: BinaryIO, array: NDArray[Any]) -> None:
    view = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])  # type: ignore[attr-defined] # every binary file has it
        if not count:
            raise ValueError("it ends before its arrays do")
        done += count


class ArraysFile(DataFile):
    """A file of arrays by name."""

    is_table = False

    def __init__(self, place: Place, arrays: Mapping[str, StoredArray]) -> None:
        self.place, self.arrays = place, arrays
        self.names = tuple(arrays)

    def rows(self, name: str) -> int | None:
        """As `DataFile`."""
        shape = self.arrays[name].shape
        return shape[0] if shape else None

    def dimensions(self, name: str) -> int:
        """As `DataFile`."""
        return len(self.arrays[name].shape)

    def row_bytes(self, columns: Sequence[Column]) -> int:
        """As `DataFile`."""
        return max(1, sum(self.arrays[column.name].row_bytes for column in columns))

    def blocks(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        """As `DataFile`."""
        readers = [self.arrays[column.name].blocks(rows) for column in columns]
        with self.place.errors():
            for parts in zip(*readers, strict=True):
                yield {
                    column: labels(part) if column.kind is Kind.LABEL else part
                    for column, part in zip(columns, parts, strict=True)
                }

    def whole(self, column: Column) -> NDArray[Any]:
        """As `DataFile`."""
        with self.place.errors():
            return self.arrays[column.name].whole()


def labels(array: NDArray[Any]) -> NDArray[Any]:
    """Gives an array's values as Python's own."""
    found = np.empty(array.shape[0], dtype=object)
    found[:] = [str(value) if isinstance(value, list) else value for value in array.tolist()]
    return found
