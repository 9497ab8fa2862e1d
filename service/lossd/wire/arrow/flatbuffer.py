"""The part of FlatBuffers that Arrow's metadata uses. Every position is checked before it is read.

A table begins with the distance back to its vtable. The vtable holds its own length, the table's length, and
for each field of the schema file in order the field's offset in the table, or 0 if the field is absent.
Strings, vectors and tables lie elsewhere, at a distance ahead. Two references may point to the same place, so
a small buffer may look endless to a reader that follows references without counting.

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
"""The types of fields, by their names in schema files; TWO_LONGS is a struct of two."""

_UINT: Final = struct.Struct("<I")
_USHORT: Final = struct.Struct("<H")
_VTABLE: Final = struct.Struct("<HH")


class FlatBufferError(ValueError):
    """Bytes that are no FlatBuffer. The message says where."""


class Table:
    """A table in a buffer. A field is named by its number: its index in the schema file."""

    def __init__(self, data: bytes, position: int) -> None:
        """Find the vtable.

        Args:
            data: The whole buffer.
            position: The start of the table.

        Raises:
            FlatBufferError: The table exceeds the buffer.
        """
        self._data = data
        self._position = position
        self._vtable = position - self._read(INT, position)
        self._checked(self._vtable, _VTABLE.size)
        self._vtable_bytes, self._table_bytes = _VTABLE.unpack_from(data, self._vtable)
        if self._vtable_bytes < _VTABLE.size or self._table_bytes < INT.size:
            raise FlatBufferError(f"a vtable of {self._vtable_bytes} bytes at byte {self._vtable}")
        self._checked(self._vtable, self._vtable_bytes)
        self._checked(position, self._table_bytes)

    @classmethod
    def root(cls, data: bytes) -> Table:
        """Return the root table of a buffer.

        Raises:
            FlatBufferError: There is none.
        """
        if len(data) < _UINT.size:
            raise FlatBufferError(f"a buffer of {len(data)} bytes")
        return cls(data, _UINT.unpack_from(data)[0])

    def number(self, field: int, kind: struct.Struct, default: int = 0) -> int:
        """Return the number in a field.

        Args:
            field: The field's number.
            kind: `UBYTE` (booleans too), `SHORT`, `INT` or `LONG`.
            default: The value if the field is absent.

        Raises:
            FlatBufferError: The field exceeds the table.
        """
        position = self._field(field, kind.size)
        return default if position is None else self._read(kind, position)

    def table(self, field: int) -> Table | None:
        """Return the table in a field; None if the field is absent.

        Raises:
            FlatBufferError: The table exceeds the buffer.
        """
        position = self._target(field)
        return None if position is None else Table(self._data, position)

    def string(self, field: int) -> memoryview:
        """Return the bytes of the string in a field; empty if the field is absent.

        Raises:
            FlatBufferError: The string exceeds the buffer.
        """
        begin, count = self._vector(field, 1)
        return memoryview(self._data)[begin : begin + count]

    def tables(self, field: int) -> Iterator[Table]:
        """Yield the tables of the vector in a field; none if the field is absent.

        There may be as many as a quarter of the buffer's bytes, and all may be the same: count them.

        Raises:
            FlatBufferError: The vector, or the next table, exceeds the buffer.
        """
        begin, count = self._vector(field, _UINT.size)
        for position in range(begin, begin + count * _UINT.size, _UINT.size):
            yield Table(self._data, position + self._read(_UINT, position))

    def structs(self, field: int, kind: struct.Struct) -> list[tuple[int, ...]]:
        """Return the structs of the vector in a field; none if the field is absent.

        Raises:
            FlatBufferError: The vector exceeds the buffer.
        """
        begin, count = self._vector(field, kind.size)
        return list(kind.iter_unpack(memoryview(self._data)[begin : begin + count * kind.size]))

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Return the start and the number of the elements, of a given size, of the vector in a field."""
        position = self._target(field)
        if position is None:
            return 0, 0
        count = self._read(_UINT, position)
        return self._checked(position + _UINT.size, count * size), count

    def _target(self, field: int) -> int | None:
        """Return the target of the reference in a field; None if the field is absent."""
        position = self._field(field, _UINT.size)
        return None if position is None else position + self._read(_UINT, position)

    def _field(self, field: int, size: int) -> int | None:
        """Return the position of a field; None if it is absent."""
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
        value: int = kind.unpack_from(self._data, self._checked(position, kind.size))[0]
        return value

    def _checked(self, position: int, size: int) -> int:
        """Return a position, after a check that ``size`` bytes lie there."""
        if position < 0 or position + size > len(self._data):
            raise FlatBufferError(f"{size} bytes at byte {position}, in a buffer of {len(self._data)} bytes")
        return position
