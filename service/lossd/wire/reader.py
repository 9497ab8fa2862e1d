"""Interfaces of the readers of request bodies: state machines without I/O, fed a body's bytes as they arrive.

There are two kinds. A `Reader` is for a body that is kept in memory whole, in the arena. It says which bytes
to store (for most formats all of them, unchanged) and where among them each tensor lies. A `StreamReader` is
for a body of any length. It hands out each tensor's rows as they arrive. Neither copies or keeps tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lossd.types import Body

MAX_STRINGS: Final = 1 << 18
"""The most distinct strings of a column, unless the caller says otherwise."""

Chunk: TypeAlias = bytes | memoryview
"""Some of a body's bytes, of any length."""


class Reader(Protocol):
    """Reader of one request body that is stored in the arena."""

    @property
    def as_is(self) -> bool:
        """Whether every byte of the body is stored, in order and unchanged.

        The caller may then receive the rest of the body straight into the arena.
        """

    @property
    def needed(self) -> int:
        """The least number of stored bytes, by what the body has announced so far.

        An .npy header, for one, announces the bytes of its array. The caller refuses a body that cannot fit.
        """

    @property
    def skipped(self) -> int:
        """The number of bytes, after decompression, that were read but not stored.

        They count against the limit of the body's size, too.
        """

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        """Take the body's next bytes.

        Returns:
            The next bytes to store, in chunks of bounded size, some of them empty. Use them up before the
            next call. Where this is an iterator, errors are raised while it is used.

        Raises:
            RequestError: No valid body has these bytes here.
        """

    def outline(self, length: int | None) -> Body | None:
        """Return what the body holds as soon as only the data of the last tensor is missing.

        The caller can then score the last tensor's rows while they arrive.

        Args:
            length: The body's length, if it is known.

        Returns:
            What `finish` will return if the missing bytes arrive and are right; None while that is uncertain.
        """

    def finish(self, stored: memoryview) -> Body:
        """Return what the body held. Call this once, after the last byte was fed.

        Args:
            stored: All the stored bytes, contiguous.

        Raises:
            RequestError: The body is incomplete or wrong.
        """


class ReaderFactory(Protocol):
    """Maker of readers for one format."""

    def __call__(self, *, options: Mapping[str, str], names: Sequence[str]) -> Reader:
        """Make a reader for one body.

        Args:
            options: The media type's parameters, such as ``{"boundary": "..."}``; keys in lower case.
            names: The tensors' names in order, for a format that does not name them itself.

        Raises:
            RequestError: The options or the names are wrong.
        """


@dataclass(frozen=True, slots=True)
class Column:
    """A tensor that arrives in rows.

    Attributes:
        name: The tensor's name.
        dtype: A key of `lossd.types.ITEMSIZE`.
        width: Elements a row; None where a row is a plain number.
        big_endian: Whether elements are in big-endian byte order.
        wire_bits: The least bits that a row takes in the body; a bool may take one.
        strings: Whether rows are strings. The data are then codes; `Strings` say what they mean.
    """

    name: str
    dtype: str
    width: int | None
    big_endian: bool
    wire_bits: int
    strings: bool = False

    @property
    def elements(self) -> int:
        """The elements of a row."""
        return 1 if self.width is None else self.width


@dataclass(frozen=True, slots=True)
class Columns:
    """The first event of a stream: the tensors that it holds."""

    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The start of a batch of rows. All `ColumnData` up to the next batch belong to it, column by column."""

    rows: int


@dataclass(frozen=True, slots=True)
class ColumnData:
    """The next bytes of a column, in C order, with elements of the sizes in `lossd.types.ITEMSIZE`.

    An element may be split between two of these.

    Attributes:
        column: The column's index.
        data: The bytes, valid until the next event.
    """

    column: int
    data: Chunk


@dataclass(frozen=True, slots=True)
class StringRows:
    """The strings of some consecutive rows.

    Attributes:
        data: Strings in UTF-8, one after the other.
        offsets: Where each string begins, and where the last one ends: int64.
        index: The number of each row's string; None where every row has its own.
    """

    data: bytes
    offsets: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1 if self.index is None else len(self.index)

    @property
    def nbytes(self) -> int:
        """The memory that they take, in bytes."""
        return len(self.data) + self.offsets.nbytes + (0 if self.index is None else self.index.nbytes)

    def at(self, row: int) -> str:
        """Return the string of a row, counted from the first of these rows."""
        number = row if self.index is None else int(self.index[row])
        return str(self.data[self.offsets[number] : self.offsets[number + 1]], "utf-8")


@dataclass(frozen=True, slots=True)
class Strings:
    """What the codes mean in the next `ColumnData` of a column of strings.

    A batch may have several of these, each for some of its rows. One without names and rows says nothing: it
    comes while a long dictionary is read, so that the caller may do something else in between.

    Attributes:
        column: The column's index.
        names: For groups: strings that no row before had. A code is the number of a string among the distinct
            ones of the whole stream, from 0, in order of first appearance; these have the next numbers.
        rows: For ids: the strings. A code is the number of these rows whose strings sort before the row's
            own, by code points; so codes may be compared within these rows only.
    """

    column: int
    names: tuple[str, ...] = ()
    rows: StringRows | None = None


Event: TypeAlias = Columns | Batch | ColumnData | Strings


class StreamReader(Protocol):
    """Reader of one request body of any length."""

    def feed(self, chunk: Chunk) -> Iterator[Event]:
        """Take the body's next bytes, and yield the events in them.

        Raises:
            RequestError: No valid body has these bytes here.
        """

    def finish(self) -> None:
        """Check that the body is complete, after the last byte was fed.

        Raises:
            RequestError: It is incomplete.
        """


class StreamReaderFactory(Protocol):
    """Maker of stream readers for one format."""

    def __call__(
        self, *, options: Mapping[str, str], max_batch_bytes: int, max_strings: int = MAX_STRINGS
    ) -> StreamReader:
        """Make a reader for one body.

        Args:
            options: The media type's parameters.
            max_batch_bytes: The longest batch, in bytes of the body.
            max_strings: The most distinct strings of a column of groups, and the most entries of a
                dictionary.
        """
