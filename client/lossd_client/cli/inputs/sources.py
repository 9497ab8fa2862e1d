"""Columns of files as tensors: one column, or one for each class."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import widened
from lossd_client._calls.loss import Loss
from lossd_client._calls.parameters import INPUTS, LOSSES
from lossd_client.cli.files.data_file import Block, Column, DataFile, Kind, joined
from lossd_client.cli.files.errors import FILL, LEAVE_OUT, BadFile

LOGARITHMS: Final = "give their logarithms, of which the softmax is these probabilities again"
"""What to do with probabilities for a loss of softmax."""

_BOX: Final = 4
_ROWS: Final = 1 << 16  # of a column of a class, read to be stacked
_SHOWN: Final = 30  # names in a message
_OF_INPUTS: Final = re.compile(r"(y_)?(logit|prob|pred|score|output|hat)", re.IGNORECASE)
_OF_PROBABILITIES: Final = re.compile("prob", re.IGNORECASE)
_SAYS_PROBABILITIES: Final = re.compile(r"(?<![A-Za-z])(?i:prob(s|as?|ability|abilities)?)(?![a-z])")
_NUMBERED: Final = re.compile(r"\W*_*(\d+)(\.0+)?")  # what follows the prefix of a class that has a number
_BEGINS_NUMBERED: Final = re.compile(r"\W*_*(\d+)(\.0+)?([\s_-].*)?")  # the same, as of 0_logit
_OF_ONE_COLUMN: Final = (
    "by",
    "cluster",
    "pos_weight",
    "class_weight",
    "alpha",
)  # in files whose option says the file, and not the column
_OF_TARGETS: Final = re.compile(r"(y_)?(target|label|gt|truth|ground|true|class)|y$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """The file and columns of a tensor.

    Attributes:
        file: The file.
        columns: Its column or array; or columns of one number a row, a class each.
        is_stacked: Whether these are side by side in the tensor, [N, C].
    """

    file: DataFile
    columns: tuple[Column, ...]
    is_stacked: bool = False

    @property
    def rows(self) -> int | None:
        """The number of rows, if it is known."""
        return self.file.rows(self.columns[0].name)

    @property
    def dimensions(self) -> int:
        """How many dimensions the tensor has."""
        return 2 if self.is_stacked else self.file.dimensions(self.columns[0].name)

    @property
    def names(self) -> str | list[str] | None:
        """The column's name, or the columns'; None if it has none."""
        names = [column.name for column in self.columns]
        return names if self.is_stacked else names[0] or None

    def of(self, block: Block) -> NDArray[Any]:
        """Return the tensor's rows in a block of the file."""
        return (
            stacked([block[column] for column in self.columns]) if self.is_stacked else block[self.columns[0]]
        )

    def whole(self) -> NDArray[Any]:
        """Read all of it.

        Raises:
            BadFile: It cannot be read.
        """
        if not self.is_stacked:
            return self.file.whole(self.columns[0])
        return joined(self.file.location, [self.of(block) for block in self.file.blocks(self.columns, _ROWS)])


def stacked(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack columns side by side, in a dtype that holds them all."""
    return np.stack(alike(columns), axis=1)


def alike(arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return arrays of one dtype, which holds the numbers of all."""
    if len({array.dtype for array in arrays}) <= 1:
        return list(arrays)
    wide = [widened(array) for array in arrays]
    return [array.astype(np.result_type(*wide), copy=False) for array in wide]


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """The column that a tensor is read from, as the command line names it.

    Attributes:
        role: The tensor, which is also the column's name if no other was given.
        option: The option that names the column.
        kind: How it is read.
        column: The name that was given.
        several: Names with commas between them, or what all of them begin with.
        nulls: Whether values may be missing.
        takes_ids: Whether class ids say by number which of the columns is meant.
        loss: The loss that is computed of it.
    """

    role: str
    option: str
    kind: Kind = Kind.NUMBER
    column: str | None = None
    several: str | None = None
    nulls: bool = False
    takes_ids: bool = False
    loss: Loss = LOSSES["bce"]

    @property
    def is_given(self) -> bool:
        """Whether the command line names a column."""
        return self.column is not None or self.several is not None

    @property
    def prefix(self) -> str | None:
        """The prefix of the columns' names, if one was given."""
        return self.several if self.several is not None and "," not in self.several else None

    def named(self, file: DataFile) -> tuple[str, ...]:
        """Return the columns of a file that have the tensor's name."""
        if self.prefix is not None:
            return _by_number([name for name in file.names if name.startswith(self.prefix)], self.prefix)
        names = [self.column or self.role] if self.several is None else _listed(self.several)
        return tuple(name for name in names if name in file.names)

    def is_only(self, file: DataFile) -> bool:
        """Return whether a file's only column may be the tensor, by its name."""
        if self.is_given or len(file.names) != 1:
            return False
        other = {"logits": (_OF_TARGETS, _OF_PROBABILITIES), "targets": (_OF_INPUTS,)}
        others = other.get(self.role, (_OF_TARGETS,) if self.role in INPUTS else ())
        return not any(pattern.match(file.names[0]) for pattern in others)

    def may_be(self, file: DataFile) -> bool:
        """Return whether a file may hold the tensor, by its order on the command line."""
        return file.names == ("",) or self.is_only(file) or bool(self.named(file))

    def find(self, file: DataFile, *, by_position: bool = True) -> Source:
        """Return the tensor's column in a file, without guessing.

        Args:
            file: The file.
            by_position: Whether the only one of a file is meant, whatever its name.

        Raises:
            BadFile: There is none, or it could be several, or it does not hold numbers.
        """
        if self.several is not None:
            return self._stack(file)
        names = self.named(file)
        if not names and by_position and (self.is_only(file) or self._is_nameless(file)):
            names = file.names
        if len(names) == 1 and file.names.count(names[0]) == 1:
            return self._source(file, names)
        if self.column is None:
            if self.role in _OF_ONE_COLUMN:
                raise BadFile(f"{seen(file)}: a file for {self.option} has one column{self._where_else()}")
            other = other_form(file, self.role, self.loss)
            are_several = self.loss.row in ("classes", "box") and self.role in (*INPUTS, "targets")
            or_several = f", or by {self.option}s which ones" if are_several else ""
            what = f"say by {self.option} which one holds the {self.role}{or_several}"
            raise BadFile(f"{seen(file)}: {what}{other}")
        hint = _did_you_mean(self.column, file)
        if "," in self.column:
            hint = f": several, a class each, are named by {self.option}s"
        if file.names.count(self.column) > 1:
            hint = ": rename all but one of these"
        raise BadFile(f"{seen(file)}, and {self.option} names {self.column}{hint}")

    def _where_else(self) -> str:
        in_table = "; keep the one that is meant, or put it into the table that is scored, and give its name"
        return in_table if self.role in ("by", "cluster") else f", or one that is called {self.role}"

    def _is_nameless(self, file: DataFile) -> bool:
        if file.names == ("",) and self.is_given:
            raise BadFile(f"{file.location} is one array without a name: leave {self.option} out")
        return file.names == ("",)

    def _stack(self, file: DataFile) -> Source:
        assert self.several is not None
        option = f"{self.option}s"
        names = self.named(file)
        if self.prefix is not None and len(names) < 2:
            what = f"{seen(file)}, and {option} takes at least 2 that begin with {self.prefix}"
            raise BadFile(f"{what}: there {'is' if names else 'are'} {len(names) or 'none'}")
        if self.prefix is not None:
            _refuse_mixed(file, option, names, self.prefix)
        listed = names if self.prefix is not None else _listed(self.several)
        for name in listed:
            if listed.count(name) > 1:
                raise BadFile(f"{option} {self.several} names {name} twice")
            if file.names.count(name) != 1:
                raise BadFile(f"{seen(file)}, and {option} names {name}{_did_you_mean(name, file)}")
            if file.dimensions(name) != 1:
                what = f"{file.location}: {name} has several numbers a row"
                raise BadFile(f"{what}; {option} takes one a row, a class each")
        if self.loss.row == "box" and len(listed) != _BOX:
            finds = "finds" if self.prefix is not None else "names"
            what = f"{file.location}: {option} {self.several} {finds} {', '.join(listed[:_SHOWN])}"
            raise BadFile(f"{what}; a box is four numbers: list their columns, as in {option} x1,y1,x2,y2")
        if self.takes_ids:
            _refuse_other_ids(file, option, listed, is_listed=self.prefix is None)
        return self._source(file, listed, is_stacked=True)

    def _source(self, file: DataFile, names: Sequence[str], is_stacked: bool = False) -> Source:
        columns = tuple(Column(name, self.kind, self.nulls, LEAVE_OUT) for name in names)
        if self.kind is not Kind.LABEL and any(name in file.unreadable for name in names):
            file.row_bytes(columns)  # raises, with the reason and the remedy
        if self._can_drop(Source(file, columns, is_stacked)):
            columns = tuple(replace(column, fill=FILL) for column in columns)
        remedy = instead_of_probabilities(self.loss)
        if self.role == "logits" and remedy and any(map(_says_probabilities, names)):
            what = f"{file.location}: {', '.join(names[:_SHOWN])} says that it holds probabilities"
            raise BadFile(f"{what}: {remedy}, or rename it if it holds logits")
        return Source(file, columns, is_stacked)

    def _can_drop(self, source: Source) -> bool:
        """Return whether --drop-unlabelled drops missing values: targets, of classes those that are ids."""
        if self.role != "targets" or "ignore_index" not in self.loss.parameters:
            return False
        return self.loss.row != "classes" or source.dimensions == 1


def instead_of_probabilities(loss: Loss) -> str:
    """Return what to do with probabilities instead of taking them as logits; empty if they may be taken."""
    if "probabilities" in loss.inputs:
        return "give --probabilities"
    if loss.row == "classes":
        return LOGARITHMS
    return "" if loss.targets == "number" else f"{loss.name} is of logits alone: give those"


def other_form(file: DataFile, role: str, loss: Loss) -> str:
    """Return advice if a file has probabilities instead of logits, or the other way round."""
    takes_both = "probabilities" in loss.inputs
    if role == "logits" and takes_both and any(map(_OF_PROBABILITIES.match, file.names)):
        return "; if its probabilities are meant, give --probabilities: that is another loss than of logits"
    if role == "probabilities" and "logits" in file.names:
        return (
            "; if its logits are meant, leave --probabilities out: that is another loss than of probabilities"
        )
    return ""


def _says_probabilities(name: str) -> bool:
    return _SAYS_PROBABILITIES.search(name) is not None and "logit" not in name.lower()


def _by_number(names: Sequence[str], prefix: str) -> tuple[str, ...]:
    """Return columns in the order of the numbers after the prefix, if all have one."""
    numbers = _numbers([name.removeprefix(prefix) for name in names])
    if numbers is None:
        return tuple(names)
    return tuple(name for _, name in sorted(zip(numbers, names, strict=True)))


def _numbers(rests: Sequence[str]) -> list[int] | None:
    found = [_BEGINS_NUMBERED.fullmatch(rest) for rest in rests]
    numbers = [int(each[1]) for each in found if each is not None]
    return numbers if len(numbers) == len(rests) else None


def _refuse_mixed(file: DataFile, option: str, names: Sequence[str], prefix: str) -> None:
    """Refuse a prefix that matches columns with and without numbers, or two with the same number.

    Raises:
        BadFile: It does.
    """
    numbered = [name for name in names if _NUMBERED.fullmatch(name.removeprefix(prefix))]
    others = [name for name in names if name not in numbered]
    if numbered and others:
        what = f"{file.location}: {option} {prefix} finds {', '.join(others[:_SHOWN])}"
        raise BadFile(
            f"{what} beside columns with numbers: list the classes, as in {option} "
            f"{','.join(_by_number(numbered, prefix))}"
        )
    numbers = _numbers([name.removeprefix(prefix) for name in names]) or []
    twice = [name for name, number in zip(names, numbers, strict=False) if numbers.count(number) > 1]
    if twice:
        what = f"{file.location}: {option} {prefix} finds {' and '.join(twice[:2])}, which have one number"
        raise BadFile(f"{what}: list the classes, as in {option} {twice[0]},...")


def _refuse_other_ids(file: DataFile, option: str, names: Sequence[str], is_listed: bool) -> None:
    """Refuse columns whose numbers are not their class ids: 0, 1, 2, and so on.

    Raises:
        BadFile: There are such.
    """
    found = [re.fullmatch(r"(.*?)[\W_]*(\d+)(\.0+)?(\D*)", name) for name in names]
    if len({(each[1], each[4]) if each else None for each in found}) != 1 or found[0] is None:
        return
    numbers = [int(each[2]) for each in found if each]
    wrong = next((place for place, number in enumerate(numbers) if place != number), None)
    if wrong is None:
        return
    ordered = [name for _, name in sorted(zip(numbers, names, strict=True))]
    classes = ", ".join(names[:_SHOWN])
    what = f"{file.location}: class id {wrong} would be {names[wrong]}, of the classes {classes}"
    if sorted(numbers) == list(range(len(names))):
        raise BadFile(f"{what}: list them by number, {option} {','.join(ordered)}")
    if not is_listed:
        remedy = f"list them in the order of the ids, as in {option} {','.join(ordered)} if that is meant"
        raise BadFile(f"{what}; numbers of classes are 0, 1, 2 and so on. {remedy[0].upper()}{remedy[1:]}")


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _did_you_mean(name: str, file: DataFile) -> str:
    near = difflib.get_close_matches(name, file.names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def seen(file: DataFile) -> str:
    """Return a description of a file's columns or arrays."""
    if file.names == ("",):
        return f"{file.location} is one array without a name"
    kind = "column" if file.is_table else "array"
    names = [
        f"{name} (which {file.unreadable[name]})" if name in file.unreadable else name for name in file.names
    ]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{file.location} has {kind}{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}"


def refuse_overlap(tensors: Mapping[str, Source]) -> None:
    """Refuse a column that is used for two tensors.

    Raises:
        BadFile: There is one.
    """
    taken: dict[tuple[int, str], str] = {}
    for role, source in tensors.items():
        for column in source.columns:
            other = taken.setdefault((id(source.file), column.name), role)
            if other != role:
                where = f"{source.file.location}: the {other} and the {role} are the same"
                raise BadFile(
                    f"{where}, {column.name or 'its only array'}: name another column for one of them"
                )


def refuse_integers(tensors: Mapping[str, Source]) -> None:
    """Refuse logits or probabilities that a table has as integers or bools.

    Raises:
        BadFile: It does.
    """
    for role, source in tensors.items():
        if role in ("logits", "probabilities", "baseline"):
            for column in source.columns:
                source.file.refuse_integers(column.name, role)


def refuse_unlike(
    scored: Source,
    targets: Source,
    prefixes: tuple[str | None, str | None],
    loss: Loss,
    name: str = "targets",
) -> None:
    """Refuse logits and targets whose classes, or boxes' numbers, are in different orders.

    Args:
        scored: The columns of the inputs.
        targets: Those of the targets, or of another tensor.
        prefixes: The prefix of each, if it was named by one.
        loss: The loss.
        name: The other tensor.

    Raises:
        BadFile: They do; or prefixes find other classes.
    """
    names = [[column.name for column in source.columns] for source in (scored, targets)]
    by_prefix = prefixes if None not in prefixes else (None, None)
    mine, its = (_classes(each, prefix) for each, prefix in zip(names, by_prefix, strict=True))
    if mine == its:
        return
    at = next(
        (i for i, (a, b) in enumerate(zip(mine, its, strict=False)) if a != b), min(len(mine), len(its))
    )
    first, second = (each[at] if at < len(each) else "none" for each in names)
    of = "boxes" if loss.row == "box" else "classes"
    what = f"{scored.file.location}: column {at + 1} of the {of} is {first}, and of the {name} {second}"
    if sorted(mine) == sorted(its):
        ordered = [names[1][its.index(name)] for name in mine]
        remedy = f"--logits-columns {','.join(names[0])} --{name}-columns {','.join(ordered)}"
        raise BadFile(f"{what}; {of} must be in the same order: {remedy}")
    if None not in prefixes and of == "classes":  # a box's four numbers may be called as one likes
        raise BadFile(f"{what}; classes must be the same: name those that both have, in the same order")


def _classes(names: Sequence[str], prefix: str | None) -> list[str]:
    """Return column names without their common beginning and end."""
    if prefix is not None:
        return [name.removeprefix(prefix) for name in names]
    begin = _in_common(names)
    rest = [name[begin:] for name in names]
    end = _in_common([name[::-1] for name in rest])
    return [name[: len(name) - end] for name in rest]


def _in_common(texts: Sequence[str]) -> int:
    """Return how many characters all of them begin with."""
    least, greatest = min(texts), max(texts)
    return next((at for at, (a, b) in enumerate(zip(least, greatest, strict=False)) if a != b), len(least))


def prefix_note(source: Source, prefix: str, loss: Loss) -> str:
    """Return a note of the columns that a prefix matches."""
    what = "boxes' four numbers" if loss.row == "box" else "classes"
    names = [column.name for column in source.columns]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the columns that begin with {prefix} are the {what}: {', '.join(names[:_SHOWN])}{more}"
