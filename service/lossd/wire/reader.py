"""What readers of request bodies are: sans-IO state machines, fed the body's bytes as they come.

There are two kinds. A `Reader` is for a body that lies in memory as a whole: it says which bytes to lay down
one after the other (for most formats all of them, as they came) and where among those each tensor lies. A
`StreamReader` is for a body of any length: it hands out each tensor's rows as they come, and what becomes of
them is the caller's affair. Neither copies or keeps tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from lossd.types import Body

Piece: TypeAlias = bytes | memoryview


class Reader(Protocol):
    """Reads one request body that is laid down in memory."""

    @property
    def as_is(self) -> bool:
        """All of the body's bytes are laid down, as they come."""

    @property
    def needed(self) -> int:
        """How many bytes are laid down at least if the body is what it announced so far."""

    @property
    def skipped(self) -> int:
        """How many bytes, expanded, have come that are not laid down: they count against limits, too."""

    def feed(self, chunk: Piece) -> Iterable[Piece]:
        """Take the body's next bytes, of any length.

        Returns:
            What to lay down next, in pieces of bounded size, at times empty. To be used up before the next
            call; where this is lazy, faults come with the pieces.

        Raises:
            RequestError: These bytes cannot be part of a valid body, whatever follows.
        """

    def outline(self, length: int | None) -> Body | None:
        """What the body holds, as soon as that is certain: all but the bytes of the tensor laid down last.

        Args:
            length: Of the body, where that is known.

        Returns:
            What `finish` will return if those bytes come and are right; None where it is not certain yet.
        """

    def finish(self, laid: memoryview) -> Body:
        """Say what the body held. Called once, when all of it has been fed.

        Args:
            laid: All the bytes that were laid down, contiguous.

        Raises:
            RequestError: The body is incomplete or wrong.
        """


class ReaderFactory(Protocol):
    """Makes a reader for one body."""

    def __call__(self, *, options: Mapping[str, str], names: Sequence[str]) -> Reader:
        """Make one.

        Args:
            options: The media type's own parameters, such as ``{"boundary": "..."}``; keys in lower case.
            names: The names of the tensors to come, in order, for a format that does not name them itself.

        Raises:
            RequestError: The options do not make sense for this format.
        """


@dataclass(frozen=True, slots=True)
class Column:
    """A tensor that comes in rows.

    Attributes:
        name: The tensor's.
        dtype: A key of `lossd.types.ITEMSIZE`.
        width: Elements a row; None where a row is a plain number.
        big_endian: The bytes of an element are in big-endian order.
        wire_bits: The bits that a row takes in the body; a bool may take one.
    """

    name: str
    dtype: str
    width: int | None
    big_endian: bool
    wire_bits: int


@dataclass(frozen=True, slots=True)
class Columns:
    """The first event of a stream: which tensors come."""

    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """So many rows begin: all `Values` up to the next batch are theirs, columns one after the other."""

    rows: int


@dataclass(frozen=True, slots=True)
class Values:
    """The next bytes of a column's rows, in C order, an element as `lossd.types.ITEMSIZE` has it.

    Elements may be split between two of these.

    Attributes:
        column: Its place among the columns.
        data: The bytes, valid until the next event.
    """

    column: int
    data: Piece


Event: TypeAlias = Columns | Batch | Values


class StreamReader(Protocol):
    """Reads one request body of any length."""

    def feed(self, chunk: Piece) -> Iterator[Event]:
        """Take the body's next bytes, of any length; the events come as the iterator is used.

        Raises:
            RequestError: These bytes cannot be part of a valid body, whatever follows.
        """

    def finish(self) -> None:
        """Take note that all of the body has been fed.

        Raises:
            RequestError: It is incomplete.
        """


class StreamReaderFactory(Protocol):
    """Makes a reader for one body."""

    def __call__(self, *, options: Mapping[str, str], max_batch_bytes: int) -> StreamReader:
        """Make one.

        Args:
            options: The media type's own parameters.
            max_batch_bytes: The longest batch, in bytes of the body.
        """
