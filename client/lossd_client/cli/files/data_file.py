"""The interface of files of arrays or columns."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.errors import FILL, BadFile
from lossd_client.cli.files.location import Location


class Kind(StrEnum):
    """How a column is read, where the file itself does not tell."""

    NUMBER = "number"
    EITHER = "either"  # of targets: numbers, or true and false
    FLAG = "flag"  # of a mask: bool, or integers of 0 and 1
    LABEL = "label"  # any value, in an array of objects: None where there is none


@dataclass(frozen=True, slots=True)
class Column:
    """A column, or an array, to be read.

    Attributes:
        name: Its name.
        kind: How it is read.
        nulls: Whether values may be missing; they are read as NaN then.
        fill: The remedy for missing values where there may be none.
    """

    name: str
    kind: Kind
    nulls: bool = False
    fill: str = field(default=FILL, compare=False)


Block: TypeAlias = Mapping[Column, NDArray[Any]]
"""Some rows, by column."""


class DataFile(ABC):
    """An opened file.

    Attributes:
        location: Its path or URL.
        names: Its columns or arrays; a single one of a file without names is "".
        is_table: Whether it is a table: what has one value a row stands for the whole row.
        unreadable: Why no numbers can be read of some of the names; other kinds perhaps can.
    """

    location: Location
    names: tuple[str, ...]
    is_table: bool
    unreadable: Mapping[str, str] = MappingProxyType({})

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it was read."""
        return ()

    @abstractmethod
    def rows(self, name: str) -> int | None:
        """Return the number of rows; None if only reading tells, or for a single number."""

    @abstractmethod
    def dimensions(self, name: str) -> int:
        """Return how many dimensions the array or column has, rows included."""

    def refuse_integers(self, name: str, role: str) -> None:  # noqa: B027 - other files tell when they are read
        """Refuse a column of integers or bools for logits or probabilities, if the file tells.

        Raises:
            BadFile: It is one.
        """

    @abstractmethod
    def row_bytes(self, columns: Sequence[Column]) -> int:
        """Return about how many bytes a row of these takes in memory; at least 1."""

    @abstractmethod
    def blocks(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        """Read the columns from the first row to the last.

        Args:
            columns: The columns.
            rows: The rows of each block but the last.

        Returns:
            The blocks; at least one, which has no rows if the file has none.

        Raises:
            BadFile: It cannot be read, or has no such columns.
        """

    def whole(self, column: Column) -> NDArray[Any]:
        """Read all of a column.

        Raises:
            BadFile: It cannot be read.
        """
        parts = [block[column] for block in self.blocks([column], 1 << 20)]
        return parts[0] if len(parts) == 1 else joined(self.location, parts)


def joined(location: Location, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate rows.

    Raises:
        BadFile: Their shapes differ.
    """
    shapes = {part.shape[1:] for part in parts if part.shape[0]}
    if len(shapes) > 1:
        raise BadFile(f"{location}: rows have different shapes, {' and '.join(map(str, sorted(shapes)[:2]))}")
    filled = [part for part in parts if part.shape[0]] or parts[:1]
    return filled[0] if len(filled) == 1 else np.concatenate(filled)


def recut(location: Location, pieces: Iterator[Block], rows: int) -> Iterator[Block]:
    """Cut pieces of any length into blocks of `rows` rows; at least one.

    Raises:
        BadFile: Rows have different shapes.
    """
    held: list[Block] = []
    number, gave = 0, False
    for piece in pieces:
        held.append(piece)
        number += _length(piece)
        if number < rows:
            continue
        block = _joined_blocks(location, held)
        for start in range(0, number - rows + 1, rows):
            yield {name: array[start : start + rows] for name, array in block.items()}
            gave = True
        left = number % rows
        # A copy, so that the block it was cut from can go.
        held = [{name: array[number - left :].copy() for name, array in block.items()}] if left else []
        number = left
    if number or (held and not gave):
        yield _joined_blocks(location, held)


def _joined_blocks(location: Location, blocks: Sequence[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    return {name: joined(location, [block[name] for block in blocks]) for name in blocks[0]}


def _length(block: Block) -> int:
    return next(iter(block.values())).shape[0] if block else 0
