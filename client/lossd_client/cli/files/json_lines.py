"""Tables of JSON objects, one a line: .jsonl and .ndjson."""

import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, count
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.data_file import Block, Column, DataFile, Kind, recut
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location

_ROWS: Final = 1 << 12
_PIECE_BYTES: Final = 4 << 20
_LONGEST_LINE: Final = 256 << 20
_LOOKED_AT: Final = 1000  # rows, for values to tell shapes and what is true or false
_BOM: Final = b"\xef\xbb\xbf"
_WORDS: Final = ("NaN", "Infinity", "-Infinity")

_Row = tuple[int, dict[str, Any]]  # with the number of its line


class JsonLinesFile(DataFile):
    """A table of objects, the first of which names the columns.

    Numbers are read as float64, and where true and false may stand too, as bool if the first value is one of
    them; lists of one length make [N, C], and so on.

    Raises:
        BadFile: It is not one.
    """

    is_table = True

    def __init__(self, location: Location) -> None:
        self.location = location
        self.names = ()
        self._firsts: dict[str, Any] = {}  # the first value of each column that is not null
        with location.errors(), location.open() as file:
            rows = (row for rows in _tables(file) for _, row in rows)
            for number, row in enumerate(rows):
                self.names = self.names or tuple(row)
                missing = [name for name in self.names if self._firsts.get(name) is None]
                if not missing or number == _LOOKED_AT:
                    break
                self._firsts.update((name, row[name]) for name in missing)
        if not self.names:
            raise BadFile(f'{location} is empty; each line must be an object, such as {{"logits": 0.5}}')

    def rows(self, name: str) -> int | None:
        return None

    def dimensions(self, name: str) -> int:
        return 1 + len(self._shape(name))

    def row_bytes(self, columns: Sequence[Column]) -> int:
        return max(1, sum(8 * math.prod(self._shape(column.name)) for column in columns))

    def blocks(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        yield from recut(self.location, self._read(columns), rows)

    def _read(self, columns: Sequence[Column]) -> Iterator[Block]:
        with self.location.errors(), self.location.open() as file:
            for rows in _tables(file, self.names):
                yield {column: self._array(rows, column) for column in columns}

    def _shape(self, name: str) -> tuple[int, ...]:
        return _shape(self._firsts[name])

    def _where(self, column: Column, line: int) -> str:
        return f"{self.location}: column {column.name!r}, line {line}"

    def _array(self, rows: Sequence[_Row], column: Column) -> NDArray[Any]:
        values = [row[column.name] for _, row in rows]
        if column.kind is Kind.LABEL:
            found = np.empty(len(values), dtype=object)
            found[:] = [_label(value) for value in values]
            return found
        array = self._numbers(values, rows, column)
        is_first_flag = isinstance(_leaf(self._firsts[column.name]), bool)
        if column.kind is Kind.NUMBER or (column.kind is Kind.EITHER and not is_first_flag):
            return array.astype(np.float64, copy=False)
        self._check_flags(array, rows, column)
        return array.astype(np.float64 if column.nulls else np.bool_, copy=False)

    def _check_flags(self, array: NDArray[Any], rows: Sequence[_Row], column: Column) -> None:
        right = (array == 0) | (array == 1)
        if column.nulls:
            right |= np.isnan(array)
        elif array.dtype.kind == "f":  # as in files that have dtypes: a mask holds no floats
            right &= False
        if not right.all():
            wrong = (line for line, row in rows if not _is_flag(row[column.name], column.nulls))
            what = "there is another value than 0, 1, true and false"
            raise BadFile(f"{self._where(column, next(wrong, rows[0][0]))}: {what}")

    def _numbers(self, values: Sequence[Any], rows: Sequence[_Row], column: Column) -> NDArray[Any]:
        """Return bools, integers or floats."""
        shape = self._shape(column.name)
        try:
            array = np.array(values)
            is_whole = array.dtype.kind in "biuf" and array.shape[1:] == shape and not np.isinf(array).any()
            # To numpy, true among numbers is 1.
            if is_whole and not (column.kind is Kind.NUMBER and _has_flags(values, len(shape))):
                return array
        except (ValueError, OverflowError):  # lists of different lengths, for example
            pass
        found = [_read(row[column.name], self._where(column, line), column, shape) for line, row in rows]
        return np.array(found)


def _read(value: Any, where: str, column: Column, shape: tuple[int, ...]) -> NDArray[Any]:  # noqa: ANN401
    """Read a row with a null or a word, or refuse it."""
    plain = _plain(value, where, column)
    if value is None:
        return np.full(shape, plain)
    try:
        array = np.array(plain)
    except ValueError:
        raise BadFile(f"{where}: there are lists of different lengths") from None
    if array.shape != shape:
        raise BadFile(
            f"{where}: there is {_described(array.shape)}, and {_described(shape)} in the first line"
        )
    return array


def _described(shape: tuple[int, ...]) -> str:
    return f"a list of shape {list(shape)}" if shape else "no list"


def _plain(value: Any, where: str, column: Column) -> Any:  # noqa: ANN401 - numbers, or lists of them
    if isinstance(value, list):
        return [_plain(item, where, column) for item in value]
    if value is None and column.nulls:
        return math.nan
    if value is None:
        raise BadFile(f"{where}: there is a null. Where values are missing, {column.fill}")
    if isinstance(value, bool) and column.kind is Kind.NUMBER:
        what = f"{where}: {json.dumps(value)} is not a number"
        raise BadFile(
            f"{what}; targets and masks alone may be true and false: write the number that is meant"
        )
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        with suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
        raise BadFile(f"{where}: there is a number greater than float64 holds; Infinity says infinity")
    if value in _WORDS:
        return float(value)
    raise BadFile(f"{where}: {json.dumps(value)[:60]} is not a number")


def _shape(value: Any) -> tuple[int, ...]:  # noqa: ANN401
    if not isinstance(value, list):
        return ()
    return (len(value), *(_shape(value[0]) if value else ()))


def _has_flags(values: Iterable[Any], depth: int) -> bool:
    """Return whether true or false is among values, or in lists of them of this depth."""
    for _ in range(depth):
        values = chain.from_iterable(values)
    return bool in set(map(type, values))


def _leaf(value: Any) -> Any:  # noqa: ANN401
    while isinstance(value, list) and value:
        value = next((item for item in value if item is not None), None)
    return value


def _is_flag(value: Any, nulls: bool) -> bool:  # noqa: ANN401
    if isinstance(value, list):
        return all(_is_flag(item, nulls) for item in value)
    return (isinstance(value, int) and value in (0, 1)) or (nulls and value in (None, "NaN"))


def _label(value: Any) -> Any:  # noqa: ANN401
    return json.dumps(value) if isinstance(value, list | dict) else value


def _tables(file: BinaryIO, names: Sequence[str] = ()) -> Iterator[list[_Row]]:
    """Yield lists of rows; at least one, which may be empty.

    Raises:
        ValueError: A line is not an object, or has other names than the first.
    """
    rows: list[_Row] = []
    size, gave = 0, False
    expected = set(names)
    for line, text in _lines(file):
        row = _object(line, text)
        expected = expected or set(row)
        if set(row) != expected:
            raise ValueError(_other_names(line, set(row), expected))
        rows.append((line, row))
        size += len(text)
        if len(rows) == _ROWS or size > _PIECE_BYTES:
            yield rows
            rows, size, gave = [], 0, True
    if rows or not gave:
        yield rows


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    with io.BufferedReader(cast("io.RawIOBase", file), 1 << 16) as reader:
        for line in count(1):
            text = reader.readline(_LONGEST_LINE)
            if not text:
                return
            if len(text) == _LONGEST_LINE:
                raise ValueError(f"line {line} is longer than {_LONGEST_LINE >> 20} MiB")
            text = text.removeprefix(_BOM) if line == 1 else text
            if text.strip():
                yield line, text


def _object(line: int, text: bytes) -> dict[str, Any]:
    try:
        # Infinity stays a word, so that an infinite number is one that overflowed.
        found = json.loads(text.decode(), object_pairs_hook=_pairs, parse_constant=str)
    except json.JSONDecodeError as error:
        what = f"line {line} is not JSON ({error.msg} at character {error.pos + 1})"
        raise ValueError(f"{what}: each line must be an object") from error
    except ValueError as error:  # not UTF-8, or a name twice
        raise ValueError(f"line {line}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f'line {line} is no object, such as {{"logits": 0.5, "targets": 1}}')
    return found


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _other_names(line: int, names: set[str], expected: set[str]) -> str:
    if missing := sorted(expected - names):
        what = f"has no {missing[0]!r}, which the first line has: write null where there is no value"
    else:
        what = f"has {sorted(names - expected)[0]!r}, which the first line has not"
    return f"line {line} {what}"
