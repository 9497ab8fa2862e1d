"""Stage 4 of `lossd score`: the rows of all shards, read in blocks."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location
from lossd_client.cli.inputs.ids import called, is_weak
from lossd_client.cli.inputs.joins import Join
from lossd_client.cli.inputs.shards import BROADCAST, LABELS, Arrays, Shard, instead_of_rows, refuse_uneven
from lossd_client.cli.inputs.sources import Source, alike

BLOCK_BYTES: Final = 8 << 20  # of a request; several are in memory at a time


class Inputs:
    """The tensors of all shards, and how their rows go on from one to the next.

    Args:
        shards: The shards; at least one.
        common: Tensors from files of their own, whose rows are those of all shards, or stand for every row.
        labels: The labels of groups, in the order of the options: the name of a shard's label, or a file
            of its own with one value a row of all shards.
        notes: Notes for the user on how the files were found.
        is_part: Whether these are some of the shards of an input: then blocks and errors are as if all were.

    Raises:
        BadFile: The shards do not go together.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        common: Mapping[str, Source],
        labels: Sequence[str | Source] = (),
        notes: Sequence[str] = (),
        *,
        is_part: bool = False,
    ) -> None:
        first = shards[0]
        self.is_part = is_part
        # Losses over all rows are of one shard alone, also where that is a part.
        self._is_one = len(shards) == 1 and not (is_part and first.losses_have_rows)
        self.shards = shards
        self.dimensions = first.dimensions
        self._loss_dimensions = first.loss_dimensions
        self.tensors = {**first.tensors, **common}
        self.names = tuple(self.tensors)
        self.joined_by = first.join.names if first.join is not None else ()
        self._common = common
        self._notes = notes
        self._labels = {
            f"{LABELS} {number}" if isinstance(label, Source) else label: label
            for number, label in enumerate(labels)
        }
        self._running = {name: source for name, source in common.items() if first.has_rows(name, source)} | {
            name: label for name, label in self._labels.items() if isinstance(label, Source)
        }
        self._starts: list[int] = []  # the first row of each shard that has been read
        self._ends: list[int] = []  # the row behind the last, of each that was read to its end
        self._read_rows = 0
        self._read_notes: list[tuple[str, str]] | None = None  # of files that were read elsewhere
        self._trailing: dict[str, tuple[int, ...]] = {}
        self._fixed: Arrays | None = None
        for shard in shards[1:]:
            self._refuse_unlike(shard)
        if self.dimensions and not self._loss_dimensions:
            raise BadFile(self._why_no_rows())
        if self.dimensions == 0 and (len(shards) > 1 or self._labels):
            raise BadFile(
                f"{first.scored.file.location} holds a single number, which has no rows to go on or group"
            )

    def _why_no_rows(self) -> str:
        source, loss = self.shards[0].scored, self.shards[0].losses.loss
        if loss.row == "box":
            return f"{source.file.location} has one dimension: boxes are [N, 4], also a single one"
        return (
            f"{source.file.location}: {source.names or 'it'} has one number a row, and {loss.name} takes one "
            "for each class; --logits-columns names several columns"
        )

    def _refuse_unlike(self, shard: Shard) -> None:
        first = self.shards[0]
        mine, its = ([*one.tensors, *one.labels] for one in (first, shard))
        what = None
        if mine != its:
            what = f"gives {', '.join(its)}, and {first.scored.file.location} {', '.join(mine)}"
        for a, b in ((shard.join, first.join), (shard.baseline_join, first.baseline_join)):
            by = [() if join is None else join.names for join in (a, b)]
            if what is None and by[0] != by[1]:
                here, there = (f"is joined by {', '.join(one)}" if one else "is not joined" for one in by)
                what = f"{here}, and {first.scored.file.location} {there}"
        for name in ("targets", next(iter(first.tensors))):
            dimensions = shard.tensors[name].dimensions, first.tensors[name].dimensions
            if dimensions[0] != dimensions[1]:
                there = f"{first.scored.file.location} of {dimensions[1]}"
                what = f"has {name} of {dimensions[0]} dimensions, and {there}"
        if what is not None:
            raise BadFile(f"{shard.scored.file.location} {what}: shards of one score must be alike")

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels in a block."""
        return tuple(self._labels)

    @property
    def locations(self) -> set[Location]:
        """The files that are read."""
        files = [file for shard in self.shards for file in shard.files]
        return {file.location for file in files} | {
            source.file.location for source in (*self._common.values(), *self._running.values())
        }

    @property
    def rows(self) -> int | None:
        """The number of rows, if it is known before they are read."""
        counts = [shard.rows for shard in self.shards]
        return sum(count for count in counts if count is not None) if None not in counts else None

    @property
    def by_row(self) -> tuple[str, ...]:
        """The tensors that have the rows of what is scored."""
        fixed = {*self._common} - {*self._running} | ({*self.shards[0].fixed} if self._is_one else set())
        return tuple(name for name in self.names if name not in fixed)

    @property
    def running(self) -> tuple[str, ...]:
        """The files of their own whose rows are those of all shards."""
        return tuple(str(source.file.location) for source in self._running.values())

    @property
    def row_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of a row of the logits and of the targets, of rows that were read."""
        return self._trailing

    def was_read(
        self, rows: int, row_shapes: Mapping[str, tuple[int, ...]], notes: Sequence[tuple[str, str]]
    ) -> None:
        """Note that the next shard was read elsewhere.

        Args:
            rows: Its rows.
            row_shapes: As `row_shapes`, of these.
            notes: The notes of its files.

        Raises:
            BadFile: Its rows have another shape than those before.
        """
        self._refuse_other_shapes(self.shards[len(self._ends)], row_shapes)
        self._read_notes = [*(self._read_notes or []), *notes]
        self._starts.append(self._read_rows)
        self._read_rows += rows
        self._ends.append(self._read_rows)

    @property
    def finished(self) -> int:
        """How many shards were read to their ends."""
        return len(self._ends)

    def rows_of(self, number: int) -> int:
        """Return the rows of a shard that was read."""
        return self._ends[number] - (self._ends[number - 1] if number else 0)

    def sources_of(self, number: int) -> dict[str, Source]:
        """Return the sources of a shard's tensors and labels."""
        shard = self.shards[number]
        labels = {name: self._of_label(name, shard) for name in self._labels}
        return {**shard.tensors, **self._common, **labels}

    def _of_label(self, name: str, shard: Shard) -> Source:
        label = self._labels[name]
        return label if isinstance(label, Source) else shard.labels[label]

    def described(self) -> list[dict[str, Any]]:
        """Return, for each shard, the file and columns of each tensor and the number of rows."""
        ends = [*self._starts[1:], self._read_rows]
        return [
            self._described(shard, end - start if self.dimensions else None)
            for shard, start, end in zip(self.shards, self._starts or [0], ends, strict=True)
        ]

    def _described(self, shard: Shard, rows: int | None) -> dict[str, Any]:
        sources = {**shard.tensors, **self._common}
        labels = [self._of_label(name, shard) for name in self._labels]
        columns: dict[str, Any] = {
            name: source.names for name, source in sources.items() if source.names is not None
        }
        found: dict[str, Any] = {name: str(source.file.location) for name, source in sources.items()}
        if labels:
            found["by"] = _one_or_all([str(label.file.location) for label in labels])
            columns["by"] = _one_or_all([label.names for label in labels])
        return found | {"columns": columns, "rows": rows}

    def file_notes(self) -> list[tuple[str, str]]:
        """Return the notes of each file."""
        files = [file for shard in self.shards for file in shard.files]
        files += [source.file for source in (*self._common.values(), *self._running.values())]
        opened = {id(file): file for file in files}.values()
        return [(str(file.location), note) for file in opened for note in file.notes]

    def notes(self) -> list[str]:
        """Return notes of how the files were read; one for several files with the same note."""
        places_of: dict[str, list[str]] = {}
        read = self.file_notes() if self._read_notes is None else self._read_notes
        for location, note in dict.fromkeys(read):
            places_of.setdefault(note.removeprefix(f"{location}: "), []).append(location)
        notes = [
            f"{places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''}: {note}"
            for note, places in places_of.items()
        ]
        noted = [shard.notes for shard in self.shards if shard.notes]
        more = f"; {len(noted) - 1} more shards have notes of this kind" if len(noted) > 1 else ""
        notes += [*self._notes, *(f"{note}{more}" for note in (noted[0] if noted else ()))]
        notes += _on_joins("the targets were", [shard.join for shard in self.shards])
        notes += _on_joins("the baseline was", [shard.baseline_join for shard in self.shards])
        return notes

    def whole(self) -> Arrays:
        """Read everything.

        Raises:
            BadFile: A file cannot be read.
        """
        if len(self.shards) == 1 and not self.shards[0].is_joined:
            tensors = self.shards[0].whole() | {name: self._own(name) for name in self._common}
            scored = tensors[self.names[0]]
            if scored.ndim:
                self._read_rows = len(scored)
                self._ends = [len(scored)]
                self._refuse_no_broadcast(tensors, scored.shape)
            return tensors
        blocks = list(self.blocks())
        return {
            name: np.concatenate(alike([block[name] for block in blocks]))
            if name in self.by_row
            else blocks[0][name]
            for name in self.names
        }

    def _own(self, name: str) -> NDArray[Any]:
        """Read all of a tensor that has a file of its own."""
        return self._shaped(name, self._common[name].whole())

    def _shaped(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        if name in self._common and name in BROADCAST and self._common[name].file.is_table:
            return array.reshape(array.shape + (1,) * (self._loss_dimensions - array.ndim))
        return array

    def blocks(self) -> Iterator[Arrays]:
        """Yield blocks of rows, of about BLOCK_BYTES.

        Returns:
            Tensors by name, and labels by the names of `labels`; at least one block.

        Raises:
            BadFile: A file cannot be read, or one has more rows than another.
        """
        self._starts, self._ends, self._trailing, self._read_rows = [], [], {}, 0
        size = self.shards[0].row_bytes() + sum(
            source.file.row_bytes(source.columns) for source in self._running.values()
        )
        rows = max(1, BLOCK_BYTES // size)
        readers = {name: _Rows(source, rows) for name, source in self._running.items()}
        fixed = {name: self._own(name) for name in self._common if name not in self._running}
        if self._is_one:
            shard = self.shards[0]
            fixed |= {name: shard.shaped(name, source.whole()) for name, source in shard.fixed.items()}
        for block in self._joined(rows):
            length = len(block[self.names[0]])
            self._read_rows += length
            for name, reader in readers.items():
                block[name] = self._shaped(name, self._taken(name, reader, length))
            shape = block[self.names[0]].shape
            self._refuse_no_broadcast(fixed, shape)
            yield {name: (block | fixed)[name] for name in (*self.names, *self._labels)}
        for name, reader in readers.items():
            if len(reader.take(1)):
                raise BadFile(f"{self._running[name].file.location} has more rows than {self._scored()}")

    def _taken(self, name: str, reader: "_Rows", length: int) -> NDArray[Any]:
        found = reader.take(length)
        if len(found) != length:
            source = self._running[name]
            counts = (
                f": {self.rows} in {self._scored()}, {source.rows} in {source.file.location}"
                if None not in (self.rows, source.rows)
                else ""
            )
            raise BadFile(f"{source.file.location} has fewer rows than {self._scored()}{counts}")
        return found

    def _scored(self) -> str:
        first = self.shards[0].scored.file.location
        return str(first) if len(self.shards) == 1 else f"the {len(self.shards)} shards"

    def _joined(self, rows: int) -> Iterator[Arrays]:
        """Yield blocks, those of small shards joined where they have the same dtypes."""
        held: list[Arrays] = []
        length = start = 0
        for shard in self.shards:
            self._starts.append(start)
            for block in self._of_shard(shard, rows):
                number = len(block[self.names[0]])
                if number and length and (length + number > rows or form_of(held[0]) != form_of(block)):
                    yield _concatenated(held)
                    held, length = [], 0
                if number or not held:
                    held = [*held, block] if length else [block]
                    length += number
                start += number
            self._ends.append(start)
        yield _concatenated(held)

    def _of_shard(self, shard: Shard, rows: int) -> Iterator[Arrays]:
        """Yield the blocks of one of the shards, with all tensors in them if it is one of several."""
        for block in shard.blocks(rows):
            length = len(block[self.names[0]])
            if length:
                names = self.names[0], "targets"
                self._refuse_other_shapes(shard, {name: block[name].shape[1:] for name in names})
            if not self._is_one and shard.fixed:
                fixed = {name: shard.shaped(name, source.whole()) for name, source in shard.fixed.items()}
                self._refuse_no_broadcast(fixed, block[self.names[0]].shape)
                block |= {
                    name: _spread(array, length, self._loss_dimensions) for name, array in fixed.items()
                }
            yield block

    def _refuse_other_shapes(self, shard: Shard, row_shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse rows of another shape than those before.

        Raises:
            BadFile: They have one.
        """
        for name, shape in row_shapes.items():
            if shape != self._trailing.setdefault(name, shape):
                what = f"has {name} of {list(shape)} a row, and those before {list(self._trailing[name])}"
                raise BadFile(
                    f"{shard.tensors[name].file.location} {what}: shards of one score must be alike"
                )

    def _refuse_no_broadcast(self, arrays: Mapping[str, NDArray[Any]], inputs: tuple[int, ...]) -> None:
        """Refuse weights and masks that apply to every row and do not broadcast to its losses.

        Args:
            arrays: Weights and masks, among others.
            inputs: The shape of the rows that were read.

        Raises:
            BadFile: One does not.
        """
        shape = self.shards[0].losses.shape(inputs)
        for name in BROADCAST:
            given = arrays[name].shape if name in arrays else ()
            is_long = len(given) == len(shape)
            own = given[1:] if is_long else given
            try:
                fits = len(own) < len(shape) and np.broadcast_shapes(own, shape[1:]) == shape[1:]
                fits &= not is_long or given[0] in (1, shape[0])
            except ValueError:
                fits = False
            if not fits and name in arrays:
                raise BadFile(self._why_no_broadcast(name, given, shape))

    def _why_no_broadcast(self, name: str, given: tuple[int, ...], shape: tuple[int, ...]) -> str:
        source, shard = self.tensors[name], self.shards[0]
        loss = shard.losses.loss
        what = f"{source.file.location}: a {name} of shape {list(given)} does not broadcast to"
        if not shard.losses_have_rows:
            return f"{what} losses of shape {list(shape)}: {instead_of_rows(name, shard.losses)}"
        what += f" these: {'losses' if loss.row else self.names[0]} have {list(shape[1:])} a row"
        column = [given[0] if given else 1, *[1] * (len(shape) - 1)]
        more = ""
        if not loss.row and len(shape) > 1:
            more = f"; one a class has the shape {list(shape[-1:])}"
        elif "class_weight" in loss.own:
            more = "; --class-weight weighs classes"
        return f"{what}. Save it in the shape {column} if it is one a row{more}"

    def own_row(self, name: str, row: int) -> tuple[str, int] | None:
        """Return the file and row that a tensor's row comes from; None if the row is the same."""
        if self._is_one and not self.shards[0].is_joined:
            return None
        if name in self._common:
            return str(self._common[name].file.location), row
        number = bisect_right(self._starts, row) - 1
        return self.shards[number].own_row(name, row - self._starts[number])


def _on_joins(what: str, found: Sequence[Join | None]) -> Iterator[str]:
    """Yield a note of how one of the files of each shard was joined, if any was."""
    joins = [join for join in found if join is not None]
    if not joins:
        return
    names = joins[0].names
    moved, rows = sum(join.moved for join in joins), sum(join.rows for join in joins)
    order = f"{moved} of {rows} rows stood in another place" if moved else "all rows stood in the same order"
    doubt = ", which may but number the rows of each file" if all(map(is_weak, names)) else ""
    yield f"{what} joined to the rows by {called(names)}{doubt}; {order}"


def _one_or_all(items: list[Any]) -> Any:  # noqa: ANN401 - a text or a list
    return items[0] if len(items) == 1 else items


class _Rows:
    """A reader of a file by any number of rows.

    Args:
        source: The file and columns.
        rows: The usual number of rows.

    Raises:
        BadFile: It has no rows.
    """

    def __init__(self, source: Source, rows: int) -> None:
        refuse_uneven(source.file, source.columns)
        self._source = source
        self._blocks = source.file.blocks(source.columns, rows)
        self._held = source.of(next(self._blocks))

    def take(self, length: int) -> NDArray[Any]:
        """Return the next rows; fewer at the end."""
        parts = [self._held]
        found = len(self._held)
        while found < length and (block := next(self._blocks, None)) is not None:
            parts.append(self._source.of(block))
            found += len(parts[-1])
        whole = parts[0] if len(parts) == 1 else np.concatenate(alike(parts))
        self._held = whole[length:]
        return whole[:length]


def form_of(block: Arrays) -> object:
    """Return the dtypes and shapes that rows must share to be joined."""
    return tuple((name, array.dtype, array.shape[1:]) for name, array in block.items())


def _concatenated(blocks: Sequence[Arrays]) -> Arrays:
    if len(blocks) == 1:
        return dict(blocks[0])
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _spread(array: NDArray[Any], rows: int, dimensions: int) -> NDArray[Any]:
    """Return an array that applies to all rows, broadcast to each."""
    one = (
        array[0]
        if array.ndim == dimensions
        else array.reshape((1,) * (dimensions - 1 - array.ndim) + array.shape)
    )
    return np.broadcast_to(one, (rows, *one.shape))
