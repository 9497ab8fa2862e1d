"""One shard: a file, or two files, logits and targets, read side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import widened
from lossd_client._calls.loss import Losses
from lossd_client._calls.parameters import LOSSES
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


BASELINE: Final = "baseline"
"""The tensor with another model's outputs."""
EACH_ELEMENT: Final = Losses(LOSSES["bce"], {})
"""The losses of a loss that has one for each element."""
_SAME_ORDER: Final = "are the rows in the same order? Else take it out of the one where it is not meant"


@dataclass(frozen=True)
class Twice:
    """A column that two files have, and that must be alike in both.

    Attributes:
        mine: It in the first file.
        its: It in the other.
        what: What messages call it, if it is not both files' column.
        remedy: What to do where it differs.
    """

    mine: Source
    its: Source
    what: str = ""
    remedy: str = _SAME_ORDER

    def check(self, mine: NDArray[Any], its: NDArray[Any], start: int) -> None:
        """Refuse rows that differ.

        Args:
            mine: Rows of the first file.
            its: Those of the other.
            start: The number of their first row.

        Raises:
            BadFile: They differ.
        """
        found = _first_difference(widened(mine), widened(its))
        if found is None:
            return
        row, a, b = found
        files = f"{self.mine.file.location} and {self.its.file.location}"
        what = f"{files} both have {self.what or self.mine.names}, which is {a} and {b}"
        raise BadFile(f"{what} in row {start + row} of the first: {self.remedy}")


@dataclass(frozen=True)
class Shard:
    """The tensors of a shard.

    Attributes:
        tensors: The tensors' sources: the inputs first.
        labels: The sources of the groups' labels, by name.
        join: How the targets' file was joined to the other, if it was.
        baseline_join: How the baseline's file was, likewise.
        twice: Columns that two files have, which must be alike.
        notes: Notes for the user on the row order of two files.
        losses: The losses, to which weights and masks broadcast.
    """

    tensors: Mapping[str, Source]
    labels: Mapping[str, Source] = field(default_factory=dict)
    join: Join | None = None
    baseline_join: Join | None = None
    twice: Sequence[Twice] = ()
    notes: Sequence[str] = ()
    losses: Losses = EACH_ELEMENT

    @property
    def scored(self) -> Source:
        """The inputs."""
        return next(iter(self.tensors.values()))

    @property
    def dimensions(self) -> int:
        """How many dimensions these have."""
        return self.scored.dimensions

    @property
    def loss_dimensions(self) -> int:
        """How many dimensions the losses have, and weights and masks that are not the same for all."""
        return self.losses.dimensions(self.dimensions)

    @property
    def losses_have_rows(self) -> bool:
        """Whether each loss belongs to a row."""
        return self.losses.have_rows(self.dimensions)

    @property
    def is_joined(self) -> bool:
        """Whether rows of two files were joined."""
        return self.join is not None or self.baseline_join is not None

    @cached_property
    def fixed(self) -> dict[str, Source]:
        """The tensors that apply to every row."""
        return {name: source for name, source in self.tensors.items() if not self.has_rows(name, source)}

    def has_rows(self, name: str, source: Source) -> bool:
        """Return whether a tensor, of this or of all shards, has the rows; else it applies to every row."""
        if name not in BROADCAST or source.file.is_table:
            return True
        return self.losses_have_rows and source.dimensions == self.loss_dimensions and source.rows != 1

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
        twice = (source for each in self.twice for source in (each.mine, each.its))
        for source in (*self.by_row.values(), *twice):
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
        order = self._order_of(file)
        return file.blocks(columns, rows) if order is None else self._gathered(file, columns, rows, order)

    def _order_of(self, file: DataFile) -> NDArray[np.intp] | None:
        """Return the row of a file for each row of the first one; None if they stand in its order."""
        for name, joined in (("targets", self.join), (BASELINE, self.baseline_join)):
            if joined is not None and file is self.tensors[name].file:
                return joined.order
        return None

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
        for each in self.twice:
            mine, its = (source.of(parts[id(source.file)]) for source in (each.mine, each.its))
            each.check(mine, its, start)

    def shaped(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Return a weight or mask of one value a row in a shape that broadcasts to the row."""
        if name in BROADCAST and self.tensors[name].file.is_table:
            return array.reshape(array.shape + (1,) * (self.loss_dimensions - array.ndim))
        return array

    def whole(self) -> Arrays:
        """Return all tensors, read whole.

        Raises:
            BadFile: A file cannot be read.
        """
        for each in self.twice:
            each.check(each.mine.whole(), each.its.whole(), 0)
        return {name: self.shaped(name, source.whole()) for name, source in self.tensors.items()}

    def own_row(self, name: str, row: int) -> tuple[str, int]:
        """Return the file and row that a tensor's row comes from."""
        source = self.tensors[name]
        order = self._order_of(source.file)
        return str(source.file.location), row if order is None else int(order[row])


def instead_of_rows(name: str, losses: Losses) -> str:
    """Return what to do with a weight or mask of rows if no loss belongs to a row."""
    per = losses.loss.per(losses.params)
    drop = "leave rows that shall not count out of the files" if name == "mask" else ""
    if per == "class":
        remedies = filter(None, [drop, f"save one value for each class as .npy, and give it by --{name}"])
        return f"--per class has a loss for each class, none for a row: {', or '.join(remedies)}"
    return f"--per {per} has one loss, none for a row: {drop or f'leave the {name} out'}"


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


def _first_difference(mine: NDArray[Any], its: NDArray[Any]) -> tuple[int, Any, Any] | None:
    """Return the first row in which two arrays differ, and what each has there; None if they are alike."""
    if mine.shape[1:] != its.shape[1:]:
        return 0, f"{list(mine.shape[1:])} a row", list(its.shape[1:])
    if mine.dtype.kind in "biuf" and its.dtype.kind in "biuf" and len(mine) == len(its):
        places = np.flatnonzero((mine != its) & ((mine == mine) | (its == its)))  # NaN is like NaN
        if not places.size:
            return None
        row = int(places[0]) // max(1, mine[:1].size)
        return row, mine.flat[places[0]], its.flat[places[0]]
    pairs = zip_longest(_texts(mine), _texts(its))
    return next(((row, a, b) for row, (a, b) in enumerate(pairs) if a != b), None)


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
