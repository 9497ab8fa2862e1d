"""A dictionary of an Arrow stream: the values that a column's indices stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.types import ErrorCode, RequestError
from lossd.wire.arrow.flatbuffer import Table
from lossd.wire.arrow.record_batch import Collected, RecordBatches, Span
from lossd.wire.arrow.schema import STRINGS, Field, malformed
from lossd.wire.arrow.strings import PART_ROWS, Integers, gather, read_strings
from lossd.wire.reader import StringRows


class Growing:
    """An array that grows at its end. What it costs to append does not depend on what is there."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._memory: npt.NDArray[Any] = np.empty(0, dtype)
        self._size = 0

    def __len__(self) -> int:
        """Return the number of elements."""
        return self._size

    @property
    def array(self) -> npt.NDArray[Any]:
        """The elements, until more are appended."""
        return self._memory[: self._size]

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Append values."""
        size = self._size + len(values)
        if size > len(self._memory):
            memory = np.empty(2 * size, self._memory.dtype)
            memory[: self._size] = self.array
            self._memory = memory
        self._memory[self._size : size] = values
        self._size = size

    def clear(self) -> None:
        """Remove all elements."""
        self._size = 0


class Dictionary:
    """The entries of a dictionary: integers, or strings in UTF-8, one after the other.

    Attributes:
        kind: The type of its entries.
        version: How many times it was replaced.
    """

    def __init__(self, column: int, field: Field, max_bytes: int, max_entries: int) -> None:
        """Make an empty one.

        Args:
            column: The index of a column that has it.
            field: The field of its entries.
            max_bytes: The most bytes of all batches that it is made of.
            max_entries: The most entries.
        """
        self.kind = field.kind
        self.version = 0
        self._column = column
        self._field = field
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._batches: RecordBatches | None = None
        self._entries = 0  # announced
        self._bytes = 0  # announced
        self._data = Growing(np.uint8 if field.kind in STRINGS else field.kind)
        self._ends = Growing(np.int64)  # of strings

    def __len__(self) -> int:
        """Return the number of entries that have come."""
        return len(self._ends if self.kind in STRINGS else self._data)

    @property
    def values(self) -> npt.NDArray[Any]:
        """The entries of a dictionary of integers."""
        return self._data.array

    def strings(self, entries: Integers) -> StringRows:
        """Return some entries of a dictionary of strings."""
        ends, data = self._ends.array, self._data.array.data
        begins = np.where(entries > 0, ends[entries - 1], 0)
        return gather(
            [data[begin:end] for begin, end in zip(begins.tolist(), ends[entries].tolist(), strict=True)]
        )

    def begin(self, batch: Table, body_bytes: int, position: int, *, delta: bool) -> list[Span]:
        """Read the metadata of a batch of entries, and return the spans of its body.

        Args:
            batch: The metadata.
            body_bytes: The body's length.
            position: The body's position in the stream, for errors.
            delta: Whether the entries are appended; otherwise they replace all others.

        Raises:
            RequestError: As `RecordBatches.read`, or ``body_too_large``.
            FlatBufferError: It cannot be read.
        """
        if not delta:
            self._data.clear()
            self._ends.clear()
            self._entries = self._bytes = 0
            self.version += 1
            self._batches = RecordBatches([self._field], self._max_bytes, entries_of=self._column)
        if self._batches is None:
            raise malformed(
                f"the dictionary of {self._field.column.name} begins with more to append (a delta)"
            )
        rows, spans = self._batches.read(batch, body_bytes, position)
        self._entries += rows
        self._bytes += body_bytes
        if self._entries > self._max_entries or self._bytes > self._max_bytes:
            raise self._too_large()
        return spans

    def extend(self, entries: Collected) -> Iterator[None]:
        """Append the entries of a batch, some at each step."""
        if self.kind not in STRINGS:
            dtype = np.dtype(self.kind).newbyteorder(">" if self._field.big_endian else "<")
            self._data.extend(np.frombuffer(entries.buffers[0], dtype, entries.rows))
            return
        for part in read_strings(entries):
            self._ends.extend(part.offsets[1:] + len(self._data))
            self._data.extend(np.frombuffer(part.data, np.uint8))
            yield

    def indices(self, column: Collected) -> Iterator[Integers]:
        """Yield the indices in a column, some rows at a time. The dictionary has an entry for each of them.

        Raises:
            RequestError: ``malformed_arrow``: there is an index without an entry.
        """
        field = column.field
        dtype = np.dtype(field.index_dtype).newbyteorder(">" if field.big_endian else "<")
        for first in range(0, column.rows, PART_ROWS):
            count = min(PART_ROWS, column.rows - first)
            indices = np.frombuffer(column.buffers[0], dtype, count, first * dtype.itemsize)
            wrong = (indices < 0) | (indices >= len(self))
            if wrong.any():
                row = int(wrong.argmax())
                seen = f"the index {indices[row]} in row {column.first + first + row}"
                raise malformed(f"{field.column.name} has {seen}, but its dictionary has {len(self)} entries")
            yield indices.astype(np.int64)

    def _too_large(self) -> RequestError:
        name = self._field.column.name
        detail = (
            f"the dictionary of {name} has {self._entries} entries of {self._bytes} bytes, at most "
            f"{self._max_entries} of {self._max_bytes} are taken; send column.dictionary_decode()"
        )
        return RequestError(ErrorCode.BODY_TOO_LARGE, detail)
