"""One shard: a file, or two files, logits and targets, read side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.data_file import Block, Column, DataFile
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.inputs.joins import Join, plain
from lossd_client.cli.inputs.sources import Source

Arrays: TypeAlias = dict[str, NDArray[Any]]
"""Tensors by name, and the groups."""

LABELS: Final = "by"
"""The name of the groups among a block's arrays."""
BROADCAST: Final = ("weight", "mask")
"""The tensors that may stand for every row."""


@dataclass(frozen=True)
class Shard:
    """The tensors of a shard.

    Attributes:
        tensors: The tensors' sources: the logits or probabilities first.
        labels: The sources of the groups' labels, by name.
        join: How the targets' file was joined to the other, if it was.
        twice: Columns that both files have, which must be alike.
        notes: Notes for the user on the row order of two files.
    """

    tensors: Mapping[str, Source]
    labels: Mapping[str, Source] = field(default_factory=dict)
    join: Join | None = None
    twice: Sequence[tuple[Source, Source]] = ()
    notes: Sequence[str] = ()

    @property
    def scored(self) -> Source:
        """The logits or probabilities."""
        return next(iter(self.tensors.values()))

    @property
    def dimensions(self) -> int:
        """How many dimensions these have."""
        return self.scored.dimensions

    @cached_property
    def fixed(self) -> dict[str, Source]:
        """The tensors that apply to every row."""
        return {
            name: source
            for name, source in self.tensors.items()
            if not has_rows(name, source, self.dimensions)
        }

    @cached_property
    def by_row(self) -> dict[str, Source]:
        """The tensors and labels that have the rows."""
        return {
            name: source for name, source in {**self.tensors, **self.labels}.items() if name not in self.fixed
        }

    @property
    def files(self) -> list[DataFile]:
        """The files that are read."""
        sources = (*self.tensors.values(), *self.labels.values())
        return list({id(source.file): source.file for source in sources}.values())

    @property
    def rows(self) -> int | None:
        """The number of rows, if it is known."""
        return next((source.rows for source in self.by_row.values() if source.rows is not None), None)

    def row_bytes(self) -> int:
        """Return about how many bytes a row takes."""
        return sum(file.row_bytes(columns) for file, columns in self._wanted())

    def _wanted(self) -> list[tuple[DataFile, list[Column]]]:
        """Return the columns to read of each file by row."""
        wanted: dict[int, tuple[DataFile, dict[Column, None]]] = {}
        for source in (*self.by_row.values(), *(source for pair in self.twice for source in pair)):
            _, columns = wanted.setdefault(id(source.file), (source.file, {}))
            columns |= dict.fromkeys(source.columns)
        return [(file, list(columns)) for file, columns in wanted.values()]

    def blocks(self, rows: int) -> Iterator[Arrays]:
        """Yield blocks of `rows` rows; at least one.

        Raises:
            BadFile: A file cannot be read, or one of its arrays, or a file, has more rows than another.
        """
        wanted = self._wanted()
        for file, columns in wanted:
            refuse_uneven(file, columns)
        readers = [self._reader(file, columns, rows) for file, columns in wanted]
        files = [file for file, _ in wanted]
        start = 0
        for found in zip_longest(*readers):
            self._check_lengths(files, found)
            parts = {id(file): part for file, part in zip(files, found, strict=True)}
            self._check_twice(parts, start)
            block = {
                name: self.shaped(name, source.of(parts[id(source.file)]))
                for name, source in self.by_row.items()
            }
            start += len(block[next(iter(self.tensors))])
            yield block

    def _reader(self, file: DataFile, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        """Return blocks of a file, in the order of the first file's rows."""
        if self.join is None or self.join.order is None or file is not self.tensors["targets"].file:
            return file.blocks(columns, rows)
        return self._gathered(file, columns, rows, self.join.order)

    def _gathered(
        self, file: DataFile, columns: Sequence[Column], rows: int, order: NDArray[np.intp]
    ) -> Iterator[Block]:
        whole = {column: file.whole(column) for column in columns}
        for start in range(0, max(order.size, 1), rows):
            yield {column: array[order[start : start + rows]] for column, array in whole.items()}

    def _check_lengths(self, files: Sequence[DataFile], found: Sequence[Block | None]) -> None:
        lengths = [0 if block is None else _length(block) for block in found]
        if len(set(lengths)) > 1:
            less, more = lengths.index(min(lengths)), lengths.index(max(lengths))
            raise BadFile(f"{files[less].location} has fewer rows than {files[more].location}{self._said()}")

    def _said(self) -> str:
        counts = {
            source.file.location: source.rows for source in self.by_row.values() if source.rows is not None
        }
        return f": {', '.join(f'{count} in {place}' for place, count in counts.items())}" if counts else ""

    def _check_twice(self, parts: Mapping[int, Block], start: int) -> None:
        for mine, its in self.twice:
            _refuse_differing(mine, its, [source.of(parts[id(source.file)]) for source in (mine, its)], start)

    def shaped(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Return a weight or mask of one value a row in a shape that broadcasts to the row."""
        if name in BROADCAST and self.tensors[name].file.is_table:
            return array.reshape(array.shape + (1,) * (self.dimensions - array.ndim))
        return array

    def whole(self) -> Arrays:
        """Return all tensors, read whole.

        Raises:
            BadFile: A file cannot be read.
        """
        for mine, its in self.twice:
            _refuse_differing(mine, its, [mine.whole(), its.whole()], 0)
        return {name: self.shaped(name, source.whole()) for name, source in self.tensors.items()}

    def own_row(self, name: str, row: int) -> tuple[str, int]:
        """Return the file and row that a tensor's row comes from."""
        source = self.tensors[name]
        is_moved = self.join is not None and self.join.order is not None
        if is_moved and source.file is self.tensors["targets"].file:
            return str(source.file.location), int(self.join.order[row])  # type: ignore[index,union-attr]
        return str(source.file.location), row


def has_rows(name: str, source: Source, dimensions: int) -> bool:
    """Return whether a tensor has the rows of the input; else it applies to every row."""
    if name not in BROADCAST or source.file.is_table:
        return True
    return source.dimensions == dimensions and source.rows != 1


def _refuse_differing(mine: Source, its: Source, arrays: Sequence[NDArray[Any]], start: int) -> None:
    """Refuse a column that differs between both files; `start` is the arrays' first row."""
    first, second = map(_texts, arrays)
    if first == second:
        return
    pairs = zip_longest(first, second)
    at, (a, b) = next((row, pair) for row, pair in enumerate(pairs) if pair[0] != pair[1])
    what = f"{mine.file.location} and {its.file.location} both have {mine.names}, which is {a} and {b}"
    remedy = "are the rows in the same order? Else take it out of the one where it is not meant"
    raise BadFile(f"{what} in row {start + at} of the first: {remedy}")


def refuse_uneven(file: DataFile, columns: Sequence[Column]) -> None:
    """Refuse arrays of a file that have other rows than each other: all behind these would shift.

    Raises:
        BadFile: There are such, or one has no rows.
    """
    first, rows = columns[0].name, file.rows(columns[0].name)
    for name in (column.name for column in columns):
        found = file.rows(name)
        if found is None and not file.is_table:
            what = f"{file.location}: {name or 'its array'} is a single number, and has no rows"
            raise BadFile(f"{what}: save one for each row")
        if found != rows:
            what = f"{file.location}: {first} has {rows} rows, and {name} {found}"
            raise BadFile(f"{what}: save both with the same rows, in the same order")


def _length(block: Block) -> int:
    return len(next(iter(block.values())))


def _texts(array: NDArray[Any]) -> list[Any]:
    return [plain(value) if not isinstance(value, list) else value for value in array.tolist()]


def grouped(labels: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the labels of rows: one value each, or a tuple of several."""
    if len(labels) == 1:
        return labels[0]
    return np.fromiter(
        zip(*(array.tolist() for array in labels), strict=True), dtype=object, count=len(labels[0])
    )
