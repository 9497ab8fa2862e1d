"""A table's columns as the service's Arrow reader takes them: named by their tensors, lists of one size."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from lossd.batch.sums import ELEMENTS
from lossd.types import ErrorCode, RequestError
from lossd.wire import Chunk

Array: TypeAlias = "pa.Array[Any]"


class ArrowStream:
    """The Arrow stream of a table's batches.

    Args:
        schema: The table's schema.
        needed: The column of each tensor that the table must have.
        optional: The column of each tensor that it may have.

    Raises:
        RequestError: ``missing_tensor``: it has no such column, or two.
    """

    def __init__(self, schema: pa.Schema, needed: Mapping[str, str], optional: Mapping[str, str]) -> None:
        self._columns = {name: column for name, column in optional.items() if column in schema.names}
        self._columns |= needed
        for name, column in self._columns.items():
            if schema.names.count(column) != 1:
                found = "more than one column" if column in schema.names else "no column"
                has = ", ".join(map(repr, schema.names)) or "none"
                detail = f"the table has {found} {column!r}, for {name}; its columns are {has}"
                raise RequestError(ErrorCode.MISSING_TENSOR, detail, [(f"/{name}", "missing")])
        self._written = _Written()
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._schema = pa.schema([])

    def pieces(self, batch: pa.RecordBatch) -> Iterator[list[Chunk]]:
        """Yield the bytes of a batch, some rows at a time.

        Raises:
            RequestError: ``bad_shape``: lists are not of one size.
        """
        arrays = {name: _plain(name, batch.column(column)) for name, column in self._columns.items()}
        fields = [
            pa.field(name, array.type, metadata=batch.schema.field(self._columns[name]).metadata)
            for name, array in arrays.items()
        ]
        columns = pa.RecordBatch.from_arrays(list(arrays.values()), schema=pa.schema(fields))
        if self._writer is None:
            self._schema = columns.schema
            self._writer = pa.ipc.new_stream(self._written, self._schema)
        for mine, its in zip(self._schema, columns.schema, strict=True):
            if mine.type != its.type:
                raise _other_sizes(mine.name, f"{mine.type} and {its.type}")
        widths = [kind.list_size for kind in columns.schema.types if isinstance(kind, pa.FixedSizeListType)]
        step = max(1, ELEMENTS // max(1, *widths, 1))
        for start in range(0, batch.num_rows, step):
            self._writer.write_batch(columns.slice(start, step))
            yield self._written.taken()

    def end(self) -> list[Chunk]:
        """Return the bytes of the end."""
        if self._writer is not None:
            self._writer.close()
        return self._written.taken()


class _Written(io.RawIOBase):
    """A file that keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[Chunk] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - a buffer
        """Keep bytes, without a copy."""
        self._pieces.append(data if isinstance(data, bytes) else memoryview(data))
        return len(data)

    def taken(self) -> list[Chunk]:
        """Return what was written since."""
        taken, self._pieces = self._pieces, []
        return taken


def _plain(name: str, array: Array) -> Array:
    """Return a column of lists as lists of one size, if they are.

    Engines have lists of any size where a file has lists of one: Spark knows no others.
    """
    if isinstance(array, pa.ExtensionArray) and len(getattr(array.type, "shape", ())) == 1:
        array = array.storage  # one-dimensional tensors
    if not isinstance(array.type, pa.ListType | pa.LargeListType):
        return array
    sizes = pc.list_value_length(array)
    least, most = pc.min(sizes).as_py() or 0, pc.max(sizes).as_py() or 0
    if least != most:
        raise _other_sizes(name, f"{least} and {most} items")
    return array.cast(pa.list_(array.type.value_field, most))


def _other_sizes(name: str, sizes: str) -> RequestError:
    detail = (
        f"{name} has lists of {sizes}; all must be of one size; if you pad shorter ones, send a mask that "
        "drops the padding"
    )
    return RequestError(ErrorCode.BAD_SHAPE, detail, [(f"/{name}", "lists of several sizes")])
