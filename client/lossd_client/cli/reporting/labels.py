"""Stage 5 of `lossd report`: groups and ids of rows, each column all whole numbers or all text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.shards import Arrays
from lossd_client.cli.inputs.sources import Source

_FILL: Final = "give these rows a value of their own, or leave them out of the files"


class Labels:
    """The groups and ids of an input's rows.

    Args:
        inputs: The input, whose last label is the ids if there are any.
        has_ids: Whether there are.
        clusters: How many of the labels before these are those of --cluster.

    Raises:
        BadFile: Two groups have one name.
    """

    def __init__(self, inputs: Inputs, *, has_ids: bool, clusters: int = 0) -> None:
        names = list(inputs.labels)
        sources = inputs.sources_of(0)
        self._ids = names.pop() if has_ids else None
        place = f" of {inputs.shards[0].scored.file.location}" if inputs.is_part else ""
        options = ["--by"] * (len(names) - clusters) + ["--cluster"] * clusters
        self._columns = {
            name: LabelColumn(option, _name_of(sources[name]), place)
            for name, option in zip(names, options, strict=True)
        }
        if self._ids is not None:
            self._columns[self._ids] = LabelColumn("--ids", _name_of(sources[self._ids]), place)
        groups = self.groups
        for name in groups:
            if groups.count(name) > 1:
                raise BadFile(f"--by: two groups are called {name}: rename the column, or the file, of one")

    @property
    def groups(self) -> list[str]:
        """The groups' names in a report."""
        return [column.name for label, column in self._columns.items() if label != self._ids]

    @property
    def names(self) -> dict[str, str]:
        """What a report calls the source of each label."""
        return {
            label: "ids" if label == self._ids else f"group.{column.name}"
            for label, column in self._columns.items()
        }

    @property
    def columns(self) -> list["LabelColumn"]:
        """The columns, with what was read of them."""
        return list(self._columns.values())

    def take(self, columns: Sequence["LabelColumn"], start: int) -> None:
        """Add columns of the next rows, which were read elsewhere.

        Args:
            columns: The columns.
            start: The number of the first of these rows.

        Raises:
            BadFile: One's values are not as those before.
        """
        for mine, its in zip(self._columns.values(), columns, strict=True):
            if its.kind is not None:
                mine.see(its.first, start)

    def put_into(self, block: Arrays, start: int) -> dict[str, Any]:
        """Return a block with its labels as the groups and ids that the client takes.

        Args:
            block: The tensors and labels.
            start: The number of its first row.

        Raises:
            BadFile: A label is neither a whole number nor text, or not as those before.
        """
        read = {label: column.read(block[label], start) for label, column in self._columns.items()}
        found: dict[str, Any] = {name: array for name, array in block.items() if name not in read}
        if self._ids is not None:
            found["ids"] = read.pop(self._ids)
        if read:
            found["groups"] = {self._columns[label].name: values for label, values in read.items()}
        return found


def _name_of(source: Source) -> str:
    """Return the name of a column, or of the file that has but one."""
    name = source.file.location.text.partition("?")[0].rpartition("/")[2]
    return str(source.names or name.partition(".")[0] or name)


@dataclass(slots=True)
class LabelColumn:
    """A column of groups or ids, read block by block.

    Attributes:
        option: The option that names it.
        name: Its name in the report.
        place: The file that rows are counted in, if that is not all of the input.
        kind: What its values are; None until there was one.
        first: The first value.
    """

    option: str
    name: str
    place: str = ""
    kind: Literal["whole numbers", "text"] | None = None
    first: int | float | str | None = None

    def read(self, values: NDArray[Any], start: int) -> NDArray[Any]:
        """Return the values of a block as integers, or as text.

        Args:
            values: Whatever the files hold.
            start: The number of the block's first row.

        Raises:
            BadFile: There is no value in a row, or it is neither, or it is of another kind than those before.
        """
        plain = [_plain(value) for value in values.tolist()]
        for row, value in enumerate(plain):
            self.see(value, start + row)
        return _as_array(plain, is_text=self.kind == "text")

    def see(self, value: int | float | str | None, row: int) -> None:
        """Look at the value of a row.

        Raises:
            BadFile: It is neither a whole number nor text, or of another kind than those before.
        """
        kind: Literal["whole numbers", "text"] = "whole numbers" if isinstance(value, int) else "text"
        if self.kind is None:
            self.kind, self.first = kind, value
        if value is None or isinstance(value, float) or kind != self.kind:
            raise BadFile(f"{self.option} {self.name}, row {row}{self.place}: {self._fault(value)}")

    def _fault(self, value: object) -> str:
        if value is None:
            return f"there is no value; {_FILL}"
        if isinstance(value, float):
            return f"{value} is neither a whole number nor text: write it as text"
        what = "a whole number" if isinstance(value, int) else "text"
        return f"{value!r} is {what}, and the values before are {self.kind}: write all of them alike"


def _plain(value: Any) -> int | float | str | None:  # noqa: ANN401 - whatever a column holds
    """Return a value as a whole number or text; as a float if it is neither, and None if there is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return str(value)


def _as_array(values: Sequence[Any], *, is_text: bool) -> NDArray[Any]:
    if is_text:
        found = np.empty(len(values), dtype=object)
        found[:] = values
        return found
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        return np.array(values, dtype=object)  # beyond what int64 holds
