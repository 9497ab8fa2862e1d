"""Which file and column each tensor is, by what the command line names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lossd.cli.files.datafile import DataFile, Kind
from lossd.cli.files.errors import BadFile
from lossd.cli.files.formats import open_file
from lossd.cli.files.place import Place
from lossd.cli.inputs import Inputs, Source, find

_KINDS: Final = {"weight": Kind.NUMBER, "mask": Kind.FLAG}


@dataclass(frozen=True, slots=True)
class Selection:
    """What the command line says of files.

    Attributes:
        scored: The file with the logits or probabilities.
        targets: The one with the targets; None if the same has them.
        files: Those of the other tensors by name; a tensor without one is a column of the first two, if
            `columns` has it, and else is not there.
        columns: The columns or arrays by tensor, those that were named; "logits" for the probabilities too.
        by: The column, or the file, with the groups.
        is_probabilities: Whether probabilities are scored.
        is_index: Whether the targets are class ids.
    """

    scored: str
    targets: str | None
    files: Mapping[str, str | None]
    columns: Mapping[str, str | None]
    by: str | None = None
    is_probabilities: bool = False
    is_index: bool = False

    def inputs(self) -> Inputs:
        """Opens the files.

        Raises:
            BadFile: One cannot be used, or which column is meant is not clear.
        """
        first = open_file(self.scored)
        second = first if self.targets is None else open_file(self.targets)
        role = "probabilities" if self.is_probabilities else "logits"
        scored = find(first, role, self.columns["logits"], Kind.NUMBER)
        if first is second and len(first.names) == 1:
            what = f"column, {first.names[0]}" if first.is_table else "array"
            raise BadFile(f"{self.scored} holds one {what}: name a second file, with the targets")
        tensors = {role: scored, "targets": find(second, "targets", self.columns["targets"], Kind.NUMBER)}
        if tensors[role].file is second and tensors[role].column.name == tensors["targets"].column.name:
            raise BadFile(
                f"{self.scored}: the {role} and the targets are the same, {tensors[role].column.name}"
            )
        for name, own in self.files.items():
            column = self.columns[name]
            if own is not None:
                tensors[name] = find(open_file(own), name, column, _KINDS[name])
            elif column is not None:
                tensors[name] = find(_that_has(column, first, second), name, column, _KINDS[name])
        return Inputs(tensors, None if self.by is None else _groups(self.by, first, second))


def _that_has(column: str, first: DataFile, second: DataFile) -> DataFile:
    return second if column not in first.names and column in second.names else first


def _groups(by: str, first: DataFile, second: DataFile) -> Source:
    """The groups: a column of the files that are scored, or a file of its own."""
    file = _that_has(by, first, second)
    place = Place(by)
    is_file = place.is_url or (place.path is not None and place.path.is_file())
    if by in file.names or not is_file:
        source = find(file, "by", by, Kind.LABEL)
    else:
        source = find(open_file(by), "by", None, Kind.LABEL)
    if source.dimensions != 1:
        raise BadFile(f"--by: {source.file.place} has {source.dimensions} dimensions there; groups have one")
    return source
