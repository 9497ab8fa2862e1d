"""A table's columns as the service's Arrow reader takes them: named by their tensors, lists of one size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lossd.batch.sums import ELEMENTS
from lossd.types import ErrorCode, RequestError



class ArrowBody:
    """The bytes of an Arrow stream of a table's batches.

    Args:
        schema: The table's schema.
        names: The column of each tensor that the table must have.
        optional: The column of each tensor that it may have.
    """

    def __init__(self, schema: pa.Schema, names: Mapping[str, str], optional: Mapping[str, str]) -> None:
        self._columns = {name: column for name, column in optional.items() if column in schema.names}
        self._columns |= names
        for name, column in names.items():
            if schema.names.count(column) != 1:
                has = ", ".join(map(repr, schema.names)) or "none"
                found = "two columns" if column in schema.names else "no column"
                detail = f"the table has {found} {column!r} for {name}; its columns are {has}"
                raise RequestError(ErrorCode.MISSING_TENSOR, detail, [(f"/{name}", "missing")])
        self._written: list[Any] = []
        self._writer: pa.RecordBatchStreamWriter | None = None
        self.closed = False

    def write(self, data: Any) -> int:  # noqa: ANN401 - a buffer
        """Take bytes of the stream, as the file that pyarrow writes to."""
        self._written.append(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing, as a file that keeps all."""

    def chunks(self, batch: pa.RecordBatch) -> Iterator[list[Any]]:
        """Yield the bytes of a batch, some rows at a time."""
        arrays = {name: _plain(name, batch.column(at)) for name, at in self._columns.items()}
        columns = pa.RecordBatch.from_arrays(list(arrays.values()), schema=_schema(arrays, batch, self._columns))
        widths = [array.type.list_size for array in arrays.values() if pa.types.is_fixed_size_list(array.type)]
        step = max(1, ELEMENTS // max(1, *widths, 1))
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self, columns.schema)
        for start in range(0, batch.num_rows, step):
            self._writer.write_batch(columns.slice(start, step))
            yield self._taken()

    def end(self) -> list[Any]:
        """Return the end of the stream."""
        assert self._writer is not None
        self._writer.close()
        return self._taken()

    def _taken(self) -> list[Any]:
        taken, self._written = self._written, []
        return taken


def _schema(arrays: Mapping[str, pa.Array], batch: pa.RecordBatch, columns: Mapping[str, str]) -> pa.Schema:
    """Return the schema of the columns, with what their fields' metadata say of them."""
    fields = [
        pa.field(name, array.type, metadata=batch.schema.field(columns[name]).metadata)
        for name, array in arrays.items()
    ]
    return pa.schema(fields)


def _plain(name: str, array: pa.Array) -> pa.Array:
    """Return a column of lists as lists of one size, if they are."""
    if isinstance(array, pa.ExtensionArray) and len(getattr(array.type, "shape", ())) == 1:
        array = array.storage
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return array
    lengths = pc.min_max(pc.list_value_length(array)).as_py()
    least, most = lengths["min"] or 0, lengths["max"] or 0
    if least != most:
        detail = (
            f"{name} has lists of {least} and of {most} items; all must have as many; if you pad shorter ones, "
            "send a mask that drops the padding"
        )
        raise RequestError(ErrorCode.BAD_SHAPE, detail, [(f"/{name}", "lists of several sizes")])
    return array.cast(pa.list_(array.type.value_type, most))
