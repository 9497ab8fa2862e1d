"""Stage 3 of `lossd score`: joins of the rows of two files by id columns."""

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from itertools import chain, islice
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.data_file import Column, DataFile, Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.inputs.ids import called, is_known, shared_names
from lossd_client.cli.inputs.sources import ColumnChoice

_WHOLE: Final = re.compile(r"-?\d+\.0+", re.ASCII)
_ROWS: Final = 1 << 16
_DIGEST: Final = "S16"


@dataclass(frozen=True, slots=True)
class Join:
    """The order in which the rows of a second file go with those of the first.

    Attributes:
        names: The columns that say which row is which.
        order: The second file's row for each row of the first; None if they stand in the same order.
        moved: The number of rows in another position.
        rows: The number of rows.
    """

    names: tuple[str, ...]
    order: NDArray[np.intp] | None
    moved: int
    rows: int


def join(first: DataFile, second: DataFile, used: Collection[str], asked: Sequence[str]) -> Join | None:
    """Return how to join two files; None if they share no id columns.

    Args:
        first: The file with the logits.
        second: The one with the targets.
        used: The columns that are something else.
        asked: The columns that the command line names.

    Raises:
        BadFile: A row is in one file alone, or twice in one, or has no id.
    """
    pairs = [(name, name) for name in asked] or shared_names(first, second, used)
    if not pairs:
        return None
    for name in asked:
        for file in (first, second):
            ColumnChoice("id", "--id", Kind.LABEL, name).find(file)
    names, others = (tuple(part) for part in zip(*pairs, strict=True))
    mine, its = _Keys(first, names), _Keys(second, others)
    if np.array_equal(mine.digests, its.digests):
        if not asked and not is_known(names[0]) and mine.has_repeats():
            return None  # a guess that tells no rows apart; rows stand in the same order, as far as it says
        mine.places()  # refuses an id that is there twice
        return Join(names, None, 0, mine.digests.size)
    order = mine.order_in(its)
    return Join(names, order, int(np.count_nonzero(order != np.arange(order.size))), order.size)


class _Keys:
    """The ids of a file's rows, as digests of 16 bytes, which take less memory than text."""

    def __init__(self, file: DataFile, names: tuple[str, ...]) -> None:
        self._file, self._names = file, names
        digests = (
            b"".join([blake2b(_bytes(key), digest_size=16).digest() for key in keys])
            for keys in self._blocks()
        )
        self.digests = np.concatenate([np.frombuffer(part, dtype=_DIGEST) for part in digests])

    def _blocks(self) -> Iterator[list[tuple[str, ...]]]:
        """Yield the ids of blocks of rows."""
        columns = [Column(name, Kind.LABEL) for name in self._names]
        start = 0
        for block in self._file.blocks(columns, _ROWS):
            keys = list(zip(*(map(plain, block[column].tolist()) for column in columns), strict=True))
            missing = next((row for row, key in enumerate(keys) if None in key), None)
            if missing is not None:
                raise BadFile(self._fault(f"row {start + missing} has no value", "put the values in, or"))
            yield cast("list[tuple[str, ...]]", keys)
            start += len(keys)

    def has_repeats(self) -> bool:
        """Return whether an id is there twice."""
        return np.unique(self.digests).size < self.digests.size

    def places(self) -> tuple[NDArray[np.bytes_], NDArray[np.intp]]:
        """Return the digests sorted, and the row of each.

        Raises:
            BadFile: One is there twice.
        """
        rows = np.argsort(self.digests, kind="stable")
        ordered = self.digests[rows]
        twice = np.flatnonzero(ordered[1:] == ordered[:-1])
        if twice.size:
            place = twice[np.argmin(rows[twice + 1])]
            what = f"{self._shown(rows[place])} is there twice, in rows {rows[place]} and {rows[place + 1]}"
            raise BadFile(
                self._fault(what, "each must be there once: name by --id those that tell rows apart, or")
            )
        return ordered, rows

    def order_in(self, other: "_Keys") -> NDArray[np.intp]:
        """Return the other file's row for each row.

        Raises:
            BadFile: A row is in one file alone, or twice in one.
        """
        ordered, rows = self.places()
        its, its_rows = other.places()
        if not np.array_equal(ordered, its):
            self._refuse_alone(other)
            other._refuse_alone(self)
        order = np.empty(rows.size, dtype=np.intp)
        order[rows] = its_rows
        return order

    def _refuse_alone(self, other: "_Keys") -> None:
        """Refuse a row that the other file does not have."""
        found = np.isin(self.digests, other.digests)
        if not found.all():
            row = int(np.argmin(found))
            what = f"{self._shown(row)} of row {row} is not in {other._file.location}"
            remedy = "leave out what only one has, name by --id what tells rows apart, or"
            raise BadFile(self._fault(what, remedy))

    def _fault(self, what: str, remedy: str) -> str:
        names = called(self._names)
        row_by_row = f"take {names} out of one of the files, if they stand row by row as they are"
        return f"{self._file.location}, joined by {names}: {what}; {remedy} {row_by_row}"

    def _shown(self, row: int) -> str:
        key = next(islice(chain.from_iterable(self._blocks()), row, None))
        return ", ".join(f"{called([name])} {value}" for name, value in zip(self._names, key, strict=True))


def _bytes(key: tuple[str, ...]) -> bytes:
    """Return the bytes of an id, which no other id has."""
    if len(key) > 1:
        return b"".join(b"%d:%b" % (len(part), part) for part in (_bytes((text,)) for text in key))
    return key[0].encode("utf-8", "surrogatepass")


def plain(value: Any) -> str | None:  # noqa: ANN401 - whatever a column holds
    """Return a value as text; whole numbers alike whatever their type, and None for no value."""
    if isinstance(value, str):  # pandas writes whole numbers so, where some are missing
        return value.partition(".")[0] if _WHOLE.fullmatch(value) else value
    if value is None or value != value:
        return None
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)
