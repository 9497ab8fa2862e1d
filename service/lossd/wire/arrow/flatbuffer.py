"""FlatBuffers, read where they lie: as much as Arrow's metadata needs, each place checked before it is read.

A table begins with the distance back to its vtable: two lengths (of the vtable, of the table) and then, for
each field in the order of the schema file, the field's place within the table, or 0. Anything long, such as a
string, a vector or another table, lies elsewhere, at a distance ahead. Nothing says that two places must
differ: a small buffer may look endless to a reader that follows references without counting.

The format: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

UBYTE: Final = struct.Struct("<B")
SHORT: Final = struct.Struct("<h")
INT: Final = struct.Struct("<i")
LONG: Final = struct.Struct("<q")
TWO_LONGS: Final = struct.Struct("<qq")
"""The types of fields, by the names of the schema language; TWO_LONGS is a struct of two."""

_UINT: Final = struct.Struct("<I")
_USHORT: Final = struct.Struct("<H")
_VTABLE: Final = struct.Struct("<HH")


class FlatBufferError(ValueError):
    """Bytes that are no FlatBuffer; the message says where."""


class Table:
    """A table in a buffer. A field is named by its number, its place in the schema file counted from 0."""

    def __init__(self, data: bytes, position: int) -> None:
        """Find the vtable.

        Args:
            data: The whole buffer.
            position: Where the table begins.

        Raises:
            FlatBufferError: It is not wholly within the buffer.
        """
        self._data = data
        self._position = position
        self._vtable = position - self._read(INT, position)
        self._place(self._vtable, _VTABLE.size)
        self._vtable_bytes, self._table_bytes = _VTABLE.unpack_from(data, self._vtable)
        if self._vtable_bytes < _VTABLE.size or self._table_bytes < INT.size:
            raise FlatBufferError(f"a vtable of {self._vtable_bytes} bytes at byte {self._vtable}")
        self._place(self._vtable, self._vtable_bytes)
        self._place(position, self._table_bytes)

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The table that a buffer is about.

        Raises:
            FlatBufferError: There is none.
        """
        if len(data) < _UINT.size:
            raise FlatBufferError(f"a buffer of {len(data)} bytes")
        return cls(data, _UINT.unpack_from(data)[0])

    def number(self, field: int, kind: struct.Struct, default: int = 0) -> int:
        """A field that holds a number.

        Args:
            field: Its number.
            kind: `UBYTE` (booleans too), `SHORT`, `INT` or `LONG`.
            default: What its absence means.

        Raises:
            FlatBufferError: It is not within the table.
        """
        position = self._field(field, kind.size)
        return default if position is None else self._read(kind, position)

    def table(self, field: int) -> Table | None:
        """A field that holds a table; None where it is absent.

        Raises:
            FlatBufferError: The table is not wholly within the buffer.
        """
        position = self._target(field)
        return None if position is None else Table(self._data, position)

    def string(self, field: int) -> memoryview:
        """The bytes of a field that holds a string; none where it is absent.

        Raises:
            FlatBufferError: The string is not wholly within the buffer.
        """
        begin, count = self._vector(field, 1)
        return memoryview(self._data)[begin : begin + count]

    def tables(self, field: int) -> Iterator[Table]:
        """The tables of a field that holds a vector of them, one by one; none where it is absent.

        They may be as many as a quarter of the buffer's bytes, and all of them the same: count.

        Raises:
            FlatBufferError: The vector, or a table when its turn comes, is not wholly within the buffer.
        """
        begin, count = self._vector(field, _UINT.size)
        for position in range(begin, begin + count * _UINT.size, _UINT.size):
            yield Table(self._data, position + self._read(_UINT, position))

    def structs(self, field: int, kind: struct.Struct) -> list[tuple[int, ...]]:
        """The structs of a field that holds a vector of them; none where it is absent.

        Raises:
            FlatBufferError: The vector is not wholly within the buffer.
        """
        begin, count = self._vector(field, kind.size)
        return list(kind.iter_unpack(memoryview(self._data)[begin : begin + count * kind.size]))

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Where a vector's elements of some size begin, and how many there are."""
        position = self._target(field)
        if position is None:
            return 0, 0
        count = self._read(_UINT, position)
        return self._place(position + _UINT.size, count * size), count

    def _target(self, field: int) -> int | None:
        """What the reference in a field points to; None where the field is absent."""
        position = self._field(field, _UINT.size)
        return None if position is None else position + self._read(_UINT, position)

    def _field(self, field: int, size: int) -> int | None:
        """Where a field's bytes lie; None where it is absent."""
        entry = _VTABLE.size + field * _USHORT.size
        if entry + _USHORT.size > self._vtable_bytes:
            return None
        offset = self._read(_USHORT, self._vtable + entry)
        if offset == 0:
            return None
        if not INT.size <= offset <= self._table_bytes - size:
            raise FlatBufferError(f"field {field} of the table at byte {self._position} is not within it")
        return self._position + offset

    def _read(self, kind: struct.Struct, position: int) -> int:
        value: int = kind.unpack_from(self._data, self._place(position, kind.size))[0]
        return value

    def _place(self, position: int, size: int) -> int:
        """A position, once it is certain that so many bytes lie there."""
        if position < 0 or position + size > len(self._data):
            raise FlatBufferError(f"{size} bytes at byte {position}, in a buffer of {len(self._data)} bytes")
        return position
