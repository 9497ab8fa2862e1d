"""What `lossd score` reads: which column of which file each tensor is, and their rows side by side."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from numpy.typing import NDArray

from lossd.cli.files.datafile import Block, Column, DataFile, Kind
from lossd.cli.files.errors import BadFile
from lossd.cli.files.place import Place

BLOCK_BYTES: Final = 8 << 20  # of a request; several are in memory at a time
LABELS: Final = "by"  # the name of the groups among a block's arrays


@dataclass(frozen=True, slots=True)
class Source:
    """Where a tensor comes from."""

    file: DataFile
    column: Column

    @property
    def rows(self) -> int | None:
        """How many there are, if that is known."""
        return self.file.rows(self.column.name)

    @property
    def dimensions(self) -> int:
        """How many dimensions the tensor has."""
        return self.file.dimensions(self.column.name)


def find(file: DataFile, role: str, asked: str | None, kind: Kind) -> Source:
    """Finds the column or array of a file that is the tensor `role`.

    It is the one that was asked for, else the only one, else the one of that name; nothing is guessed.

    Raises:
        BadFile: There is none, or it could be several.
    """
    there = f"{file.place} has " + ("columns " if file.is_table else "arrays ") + ", ".join(file.names)
    option = {"probabilities": "--logits-column", "by": "--by"}.get(role, f"--{role}-column")
    if asked is not None:
        if file.names == ("",):
            raise BadFile(f"{file.place} is one array without a name: leave {option} out")
        if file.names.count(asked) != 1:
            near = difflib.get_close_matches(asked, file.names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            if file.is_table and len(file.names) == 1 and ";" in file.names[0]:
                hint = "; its columns must be parted by commas"
            raise BadFile(f"{there}, and {option} names {asked}{hint}")
        return Source(file, Column(asked, kind))
    if len(file.names) == 1:
        return Source(file, Column(file.names[0], kind))
    if file.names.count(role) == 1:
        return Source(file, Column(role, kind))
    raise BadFile(f"{there}: say by {option} which one holds the {role}")


class Inputs:
    """The tensors of one input.

    Args:
        tensors: Where each comes from: the logits or probabilities first.
        by: Where the rows' groups come from, if they are wanted.
    """

    def __init__(self, tensors: Mapping[str, Source], by: Source | None = None) -> None:
        self._tensors = tensors
        self._scored = next(iter(tensors.values()))
        self.names = tuple(tensors)
        self.dimensions = self._scored.dimensions
        self._by_row = {name: source for name, source in tensors.items() if self._has_rows(name, source)}
        self._fixed = {name: source for name, source in tensors.items() if name not in self._by_row}
        self.by_row = tuple(self._by_row)  # the tensors that have the rows of what is scored
        if by is not None:
            self._by_row[LABELS] = by

    @property
    def places(self) -> set[Place]:
        """The files that are read."""
        return {source.file.place for source in (*self._tensors.values(), *self._by_row.values())}

    @property
    def rows(self) -> int | None:
        """How many rows there are, if that is known before they are read."""
        known = [source.rows for source in self._by_row.values() if source.rows is not None]
        return known[0] if known else None

    def _has_rows(self, name: str, source: Source) -> bool:
        """Whether it has the rows of what is scored; else it stands for every row."""
        if name not in ("weight", "mask") or source.file.is_table:
            return True
        return source.dimensions == self.dimensions and source.rows != 1

    def whole(self) -> dict[str, NDArray[Any]]:
        """Reads everything.

        Raises:
            BadFile: A file cannot be read.
        """
        return {
            name: self._shaped(name, source.file.whole(source.column))
            for name, source in self._tensors.items()
        }

    def blocks(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Reads some rows after the other, about BLOCK_BYTES of them at a time.

        Returns:
            Tensors by name, and the groups as LABELS; at least one block.

        Raises:
            BadFile: A file cannot be read, or one has more rows than another.
        """
        fixed = {
            name: self._shaped(name, source.file.whole(source.column)) for name, source in self._fixed.items()
        }
        files = list({id(source.file): source.file for source in self._by_row.values()}.values())
        wanted = [
            {name: source.column for name, source in self._by_row.items() if source.file is file}
            for file in files
        ]
        sizes = [file.row_bytes(list(columns.values())) for file, columns in zip(files, wanted, strict=True)]
        rows = max(1, BLOCK_BYTES // sum(sizes))
        readers = [
            file.blocks(list(columns.values()), rows) for file, columns in zip(files, wanted, strict=True)
        ]
        for found in zip_longest(*readers):
            self._check_lengths(files, found)
            block = {
                name: self._shaped(name, part[column])
                for part, columns in zip(found, wanted, strict=True)
                for name, column in columns.items()
            }
            yield {**{name: block[name] for name in self._tensors if name in block}, **fixed, **block}

    def _check_lengths(self, files: Sequence[DataFile], found: Sequence[Block | None]) -> None:
        lengths = [0 if block is None else _length(block) for block in found]
        if len(set(lengths)) > 1:
            less, more = lengths.index(min(lengths)), lengths.index(max(lengths))
            raise BadFile(f"{files[less].place} has fewer rows than {files[more].place}{self._said(files)}")

    def _said(self, files: Sequence[DataFile]) -> str:
        counts = {
            source.file.place: source.rows for source in self._by_row.values() if source.rows is not None
        }
        return f": {', '.join(f'{count} in {place}' for place, count in counts.items())}" if counts else ""

    def _shaped(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """A table's column of one value a row stands for the whole row, however many elements that has."""
        if name in ("weight", "mask") and self._tensors[name].file.is_table:
            return array.reshape(array.shape + (1,) * (self.dimensions - array.ndim))
        return array


def _length(block: Block) -> int:
    first = next(iter(block.values()))
    return len(first)
