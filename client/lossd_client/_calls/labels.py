"""Groups and ids of rows: integers as they are, and strings as integers that stand for them.

Strings are sent as their ranks among the sorted distinct strings of the call, so that what the server orders
by rank is ordered by string. Its report has the ranks, and `put_back` puts the strings in their place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import Array, from_foreign, is_arrow

Column: TypeAlias = Array | Sequence[str]
"""Integers or strings, one a row: an array, a list, or a column of pandas, polars or pyarrow."""

Groups: TypeAlias = Column | Sequence[Sequence[str]] | Mapping[str, Column]
"""One column, or several: an array of shape [N, G], a table, or columns by name."""

_LONGEST: Final = 256  # bytes of a string
_LISTS: Final = ("rows", "elements")


@dataclass(frozen=True, slots=True)
class Labels:
    """Columns as they are sent.

    Attributes:
        numbers: Integers, of shape [N], or [N, G] for several columns.
        strings: For each column the strings that its integers stand for, in order; None for numbers.
        names: The columns' names, if they have any.
    """

    numbers: NDArray[Any]
    strings: tuple[Sequence[str] | None, ...]
    names: tuple[str, ...] = ()

    @classmethod
    def of_ids(cls, ids: Column) -> Self:
        """Return the ids of rows.

        Raises:
            TypeError: They are neither integers nor strings.
            ValueError: They are not one a row, or one is missing, or a string is too long.
        """
        column = _as_column("ids", ids)
        if column.ndim != 1:
            raise ValueError(f"ids must be one a row, of shape [N], and have shape {list(column.shape)}")
        numbers, strings = _coded("ids", column)
        return cls(numbers, (strings,))

    @classmethod
    def of_groups(cls, groups: Groups) -> Self:
        """Return the groups of rows.

        Raises:
            TypeError: They are neither integers nor strings.
            ValueError: They have a wrong shape or name, or one is missing, or a string is too long.
        """
        named = columns_by_name(groups)
        if named is None:
            columns = _as_column("groups", groups)
            if columns.ndim == 1:
                numbers, strings = _coded("groups", columns)
                return cls(numbers, (strings,))
            if columns.ndim != 2:
                raise ValueError(f"groups must have shape [N] or [N, G], and have {list(columns.shape)}")
            return cls(*_side_by_side([_coded("groups", column) for column in columns.T]))
        arrays = {name: _as_column(f"groups {name!r}", column) for name, column in named.items()}
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        if {len(shape) for shape in shapes.values()} != {1} or len(set(map(tuple, shapes.values()))) > 1:
            raise ValueError(f"groups by name must be columns of one length, [N], and have shapes {shapes}")
        coded = [_coded(f"groups {name!r}", array) for name, array in arrays.items()]
        return cls(*_side_by_side(coded), _names(named))

    def refuse_repeated(self) -> None:
        """Refuse ids of which two are equal: rows could not be told apart by them.

        Raises:
            ValueError: There are such; the message names two rows.
        """
        ids, strings = self.numbers, self.strings[0]
        ascending = np.sort(ids)
        if not (ascending[1:] == ascending[:-1]).any():
            return
        order = np.argsort(ids, kind="stable")
        again = np.flatnonzero(ascending[1:] == ascending[:-1])
        place = again[order[again + 1].argmin()]  # the first row whose id has come before
        number = int(ascending[place])
        shown = number if strings is None else strings[number]
        raise ValueError(
            f"ids: rows {order[place]} and {order[place + 1]} are both {shown!r}; ids must be unique"
        )

    @property
    def group_columns(self) -> dict[str, tuple[NDArray[Any], Sequence[str] | None]]:
        """Each column's integers and strings, by its name or by the one that the server gives it."""
        columns = [self.numbers] if self.numbers.ndim == 1 else list(self.numbers.T)
        single = self.numbers.ndim == 1
        names = self.names or ["group" if single else f"group{place}" for place in range(len(columns))]
        return dict(zip(names, zip(columns, self.strings, strict=True), strict=True))


def put_back(document: Mapping[str, Any], groups: Labels | None, ids: Labels | None) -> None:
    """Put strings in the place of the integers that stand for them, in a report's document."""
    if groups is not None and "groups" in document:
        section = document["groups"]
        for place, strings in enumerate(groups.strings):
            if strings is not None:
                section["kinds"][place] = "string"
                section["ids"][place] = [strings[int(number)] for number in section["ids"][place]]
    if ids is None or ids.strings[0] is None:
        return
    names = ids.strings[0]
    paired = document.get("paired", {}).get("top", {})
    for lists in (document.get("top", {}), paired.get("worse", {}), paired.get("better", {})):
        for row in (row for which in _LISTS for row in lists.get(which, ())):
            row["id"] = names[int(row["id"])]
    if "top" in document:
        document["top"]["ids"] = "string"


def columns_by_name(groups: Any) -> Mapping[str, Any] | None:  # noqa: ANN401 - any column or table
    """Return the columns of a mapping, of a table, or of a column that has a name; None for anything else."""
    if isinstance(groups, Mapping):
        return groups
    names = getattr(groups, "column_names", getattr(groups, "columns", None))  # pyarrow's; pandas', polars'
    if names is not None:
        return {str(name): groups[name] for name in names}
    name = getattr(groups, "name", None)  # of a column of pandas or polars
    return {name: groups} if isinstance(name, str) and name else None


def _names(names: Any) -> tuple[str, ...]:  # noqa: ANN401 - an iterable of names
    for name in names:
        if not isinstance(name, str) or not name or "," in name:
            raise ValueError(f"groups: a name is text without commas, and {name!r} is not")
    return tuple(names)


def _as_column(name: str, value: Any) -> NDArray[Any]:  # noqa: ANN401 - any column
    """Return a column as an array of integers, or of Python's objects.

    Raises:
        TypeError: It is no array.
        ValueError: A value is missing.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: a masked array's mask would be lost: leave out the rows that it masks")
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if isinstance(value, list | tuple):
        return np.array(value, dtype=object)
    if is_arrow(value):
        if value.null_count:
            raise _missing(name, value.is_null().to_pylist().index(True))
        if hasattr(value.type, "index_type"):  # a dictionary
            value = value.cast(value.type.value_type)
    try:
        array = from_foreign(value)
    except TypeError as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from error
    if array is None:
        raise TypeError(f"{name} must be integers or strings, one a row, and is {type(value).__name__}")
    return array


def _coded(name: str, column: NDArray[Any]) -> tuple[NDArray[Any], Sequence[str] | None]:
    """Return a column as integers, and the strings that they stand for.

    Raises:
        TypeError: It holds neither integers nor strings, or both.
        ValueError: A value is missing, a string is too long, or integers fit no 64 bits.
    """
    if column.dtype.kind in "iu":
        return column, None
    if column.dtype.kind not in "OUT":
        raise TypeError(
            f"{name} must be integers or strings, and have dtype {column.dtype}; convert them by "
            "astype(np.int64) or astype(str), once no value is missing"
        )
    items = column.tolist()
    if all(isinstance(item, str) for item in items) and (items or column.dtype.kind != "O"):
        return _ranks(name, items)
    for row, item in enumerate(items):
        is_nan = isinstance(item, float) and item != item
        if item is None or is_nan or type(item).__name__ in ("NAType", "NaTType"):
            raise _missing(name, row)
    for row, item in enumerate(items):
        if not isinstance(item, int | np.integer) or isinstance(item, bool):
            raise TypeError(
                f"{name} must be all integers or all strings, and row {row} is {item!r}, of type "
                f"{type(item).__name__}"
            )
    return _integers(name, items), None


def _missing(name: str, row: int) -> ValueError:
    return ValueError(
        f"{name}: the value of row {row} is missing: give it one of its own, or leave the row out"
    )


def _ranks(name: str, items: Sequence[str]) -> tuple[NDArray[Any], Sequence[str]]:
    distinct = sorted(set(items))  # by code point
    for text in distinct:
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}: {text!r} is no text that UTF-8 can hold: {error.reason}") from error
        if size > _LONGEST:
            raise ValueError(f"{name}: {text[:40]!r}... has {size} bytes, and a string at most {_LONGEST}")
    ranks = {text: rank for rank, text in enumerate(distinct)}
    kind = np.min_scalar_type(max(len(distinct) - 1, 0))
    return np.fromiter(map(ranks.__getitem__, items), dtype=kind, count=len(items)), distinct


def _integers(name: str, items: Sequence[int]) -> NDArray[Any]:
    low, high = min(items, default=0), max(items, default=0)
    for kind in (np.int64, np.uint64):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.array(items, dtype=kind)
    raise ValueError(f"{name} must fit 64 bits, signed or not, and are from {low} to {high}")


def _side_by_side(
    columns: Sequence[tuple[NDArray[Any], Sequence[str] | None]],
) -> tuple[NDArray[Any], tuple[Sequence[str] | None, ...]]:
    """Return columns as one array of a dtype that holds them all.

    Raises:
        ValueError: There is none.
    """
    arrays = [numbers for numbers, _ in columns]
    kind = np.result_type(*arrays) if arrays else np.dtype(np.int64)
    if kind.kind not in "iu":  # signed ones beside uint64
        limits = [int(of) for array in arrays if array.size for of in (array.min(), array.max())]
        kind = _integers("groups", limits).dtype
    return np.stack([array.astype(kind) for array in arrays], axis=1), tuple(found for _, found in columns)
