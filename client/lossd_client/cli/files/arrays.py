"""Files of arrays by name: npy, npz, safetensors, and what torch saves.

Rows are read into a block of their own. The pages of a mapped file would count as this process's memory.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.data_file import Block, Column, DataFile, Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location


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
        """Yield blocks of rows; at least one."""
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
        """Return rows of a Fortran-ordered array: some elements of each column."""
        length, rest = self.shape[0], self.shape[1:]
        columns = np.empty((math.prod(rest), number), dtype=self.dtype)
        for index, column in enumerate(columns):
            file.seek(first + (index * length + start) * self.dtype.itemsize)
            _fill(file, column)
        return columns.reshape((*rest[::-1], number)).T

    def whole(self) -> NDArray[Any]:
        """Return all of it."""
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


@dataclass(frozen=True, slots=True)
class HeldArray:
    """An array that is in memory, or is mapped there; see `StoredArray`."""

    array: NDArray[Any]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its dtype."""
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.array.shape

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """Yield blocks of rows; at least one."""
        for start in range(0, max(self.shape[0], 1), rows):
            yield self.array[start : start + rows]

    def whole(self) -> NDArray[Any]:
        """Return all of it."""
        return self.array


Member: TypeAlias = StoredArray | HeldArray | str
"""What a file holds by a name: an array, or why what is there is none that can be read."""

OBJECTS: Final = "holds Python objects"
_TEXT: Final = "holds text"
_RECORDS: Final = "holds records"
_SIZES: Final = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}
_BFLOAT16: Final = np.dtype("V2")
_MOST_NOTED: Final = 8


def why_no_numbers(dtype: np.dtype[Any]) -> str | None:
    """Return why no losses are computed from a dtype; None if they are."""
    if dtype.hasobject:
        return OBJECTS
    if dtype.kind in "US":
        return _TEXT
    if dtype.names is not None:
        return _RECORDS
    if dtype == _BFLOAT16 or dtype.itemsize in _SIZES.get(dtype.kind, ()):
        return None
    return f"has dtype {dtype.newbyteorder('=')}"


def _remedy(why: str) -> str:
    if why.startswith("has dtype"):
        if re.search("(?i)complex|dtype c|time", why):  # a cast would drop what is imaginary, or a unit
            return "save the real numbers that are meant"
        return "save it again as floats, integers or bools, for example by .float() in torch"
    if why == _RECORDS:
        return "save each field as an array of its own"
    return "save an array of numbers in its place"


class ArraysFile(DataFile):
    """A file of arrays by name.

    Args:
        location: Its path or URL.
        members: Its arrays by name.
    """

    is_table = False

    def __init__(self, location: Location, members: Mapping[str, Member]) -> None:
        self.location = location
        self.names = tuple(members)
        self.arrays = {name: member for name, member in members.items() if not isinstance(member, str)}
        whys = {
            name: member if isinstance(member, str) else why_no_numbers(member.dtype)
            for name, member in members.items()
        }
        self.unreadable = {name: why for name, why in whys.items() if why is not None}
        self._read: set[str] = set()

    def _array(self, name: str, kind: Kind | None = None) -> StoredArray | HeldArray:
        """Return the array. Text is allowed for labels only.

        Raises:
            BadFile: It cannot be read as what it is to be.
        """
        why = self.unreadable.get(name)
        if why is not None and (name not in self.arrays or kind not in (None, Kind.LABEL)):
            what = f"{self.location}: array {name!r}" if name else str(self.location)
            raise BadFile(f"{what} {why}, not numbers that losses are computed from: {_remedy(why)}")
        if kind is not None:
            self._read.add(name)
        return self.arrays[name]

    def rows(self, name: str) -> int | None:
        shape = self._array(name).shape
        return shape[0] if shape else None

    def dimensions(self, name: str) -> int:
        return len(self._array(name).shape)

    def row_bytes(self, columns: Sequence[Column]) -> int:
        return max(1, sum(self._array(column.name, column.kind).row_bytes for column in columns))

    def blocks(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        readers = [self._array(column.name, column.kind).blocks(rows) for column in columns]
        with self.location.errors():
            for parts in zip(*readers, strict=True):
                yield {
                    column: labels(part) if column.kind is Kind.LABEL else part
                    for column, part in zip(columns, parts, strict=True)
                }

    def whole(self, column: Column) -> NDArray[Any]:
        array = self._array(column.name, column.kind)
        with self.location.errors():
            found = array.whole()
            return labels(found) if column.kind is Kind.LABEL else found

    def passed_over(self) -> tuple[str, ...]:
        """Return a note of the arrays that were passed over."""
        left = [name for name in self.unreadable if name not in self._read]
        noted = [
            f"{name} ({self.unreadable[name].removeprefix('holds ').removeprefix('has ')})"
            for name in left[:_MOST_NOTED]
        ]
        more = f" and {len(left) - _MOST_NOTED} more" if len(left) > _MOST_NOTED else ""
        return (f"{self.location}: passed over {', '.join(noted)}{more}",) if left else ()


def labels(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array's values as Python objects."""
    found = np.empty(array.shape[0], dtype=object)
    found[:] = [str(value) if isinstance(value, list) else value for value in array.tolist()]
    return found
