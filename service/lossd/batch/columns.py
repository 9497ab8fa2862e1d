"""A table's columns as the service's Arrow reader takes them: named by their tensors, lists of one size."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from lossd.batch.sums import ELEMENTS
from lossd.types import ErrorCode, RequestError
from lossd.wire import Chunk

Array: TypeAlias = "pa.Array[Any]"
Field: TypeAlias = "pa.Field[Any]"
_DTYPE_KEY: Final = b"lossd.dtype"
"""The metadata of a field that say what its type stands for."""


def batches_of(table: object) -> Iterable[pa.RecordBatch]:
    """Return the batches of a table of any library.

    Raises:
        RequestError: ``missing_tensor``: a data frame of pandas has two columns of one name.
        TypeError: This is no table.
    """
    if isinstance(table, pa.RecordBatch):
        return [table]
    if isinstance(table, type) or not hasattr(table, "__arrow_c_stream__"):
        msg = (
            "score takes a pyarrow Table, RecordBatch or RecordBatchReader, or a data frame that is a stream "
            f"of Arrow data (polars, pandas, a relation of DuckDB), not {type(table).__name__}; pa.table() "
            "makes a table of a dict of columns, and collect() a data frame of a LazyFrame"
        )
        raise TypeError(msg)
    columns: Any = getattr(table, "columns", None)
    if getattr(columns, "has_duplicates", False):  # pandas does not say which
        names = list(map(str, columns[columns.duplicated()]))
        twice = ", ".join(map(repr, dict.fromkeys(names)))
        detail = f"the table has more than one column {twice}; rename or drop the others"
        raise RequestError(ErrorCode.MISSING_TENSOR, detail, [(f"/{name}", "missing") for name in names[:1]])
    return pa.RecordBatchReader.from_stream(table)


class ArrowStream:
    """The Arrow stream of a table's batches.

    Args:
        needed: The column of each tensor that the table must have.
        optional: The column of each tensor that it may have.
    """

    def __init__(self, needed: Mapping[str, str], optional: Mapping[str, str]) -> None:
        self._needed = needed
        self._optional = optional
        self._written = _Written()
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._schema = pa.schema([])

    def pieces(self, batch: pa.RecordBatch) -> Iterator[list[Chunk]]:
        """Yield the bytes of a batch, some rows at a time.

        Raises:
            RequestError: ``missing_tensor``: it has no such column, or two. ``bad_shape``: lists are not of
                one size. ``dtype_not_allowed``: a column's type is not that of the first batch.
        """
        used = self._used(batch.schema.names)
        arrays = {name: _plain(name, batch.column(column)) for name, column in used.items()}
        fields = [
            pa.field(name, array.type, metadata=batch.schema.field(used[name]).metadata)
            for name, array in arrays.items()
        ]
        columns = pa.RecordBatch.from_arrays(list(arrays.values()), schema=pa.schema(fields))
        if self._writer is None:
            self._schema = columns.schema
            self._writer = pa.ipc.new_stream(self._written, self._schema)
        self._refuse_unlike(columns.schema)
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

    def _used(self, names: list[str]) -> dict[str, str]:
        """Return the column of each tensor that a batch has."""
        used = {name: column for name, column in self._optional.items() if column in names} | {**self._needed}
        for name, column in used.items():
            if names.count(column) != 1:
                found = "more than one column" if column in names else "no column"
                has = ", ".join(map(repr, names)) or "none"
                detail = f"the table has {found} {column!r}, for {name}; its columns are {has}"
                raise RequestError(ErrorCode.MISSING_TENSOR, detail, [(f"/{name}", "missing")])
        return used

    def _refuse_unlike(self, schema: pa.Schema) -> None:
        """Refuse a batch whose columns are not those of the first: a stream has one schema."""
        first, other = ({field.name: field for field in each} for each in (self._schema, schema))
        for name in first | other:
            mine, its = first.get(name), other.get(name)
            if mine is not None and its is not None:
                if mine.type == its.type and _dtype_of(mine) == _dtype_of(its):
                    continue
                _refuse_other_sizes(name, mine.type, its.type)
            column = {**self._optional, **self._needed}[name]
            detail = (
                f"column {column!r} is {_shown(mine)} in the first batch and {_shown(its)} in a later one; "
                "all batches of a table must have the same columns, of the same types"
            )
            is_missing = mine is None or its is None
            code = ErrorCode.MISSING_TENSOR if is_missing else ErrorCode.DTYPE_NOT_ALLOWED
            raise RequestError(code, detail, [(f"/{name}", "another type in a later batch")])


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


def _dtype_of(field: Field) -> bytes | None:
    """Return what a field's metadata say that its type stands for."""
    return (field.metadata or {}).get(_DTYPE_KEY)


def _refuse_other_sizes(name: str, mine: pa.DataType, its: pa.DataType) -> None:
    """Refuse lists that differ in their sizes only."""
    kind = pa.FixedSizeListType
    if isinstance(mine, kind) and isinstance(its, kind) and mine.value_type == its.value_type:
        sizes = mine.list_size, its.list_size
        if sizes[0] != sizes[1]:
            raise _other_sizes(name, f"{sizes[0]} and {sizes[1]} items")


def _shown(field: Field | None) -> str:
    """Return a column's type in words."""
    if field is None:
        return "missing"
    dtype = _dtype_of(field)
    return str(field.type) if dtype is None else f"{field.type} ({dtype.decode(errors='replace')})"


def _other_sizes(name: str, sizes: str) -> RequestError:
    detail = (
        f"{name} has lists of {sizes}; all must be of one size; if you pad shorter ones, send a mask that "
        "drops the padding"
    )
    return RequestError(ErrorCode.BAD_SHAPE, detail, [(f"/{name}", "lists of several sizes")])
