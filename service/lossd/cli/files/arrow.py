"""Tables by pyarrow: parquet, Arrow's IPC files and streams, and columns of all of them as arrays."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from io import IOBase
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from lossd.cli.files.datafile import Block, Column, DataFile, Kind, recut
from lossd.cli.files.errors import BadFile
from lossd.cli.files.place import Place

_BATCH_ROWS: Final = 1 << 16
_DTYPE: Final = b"lossd.dtype"  # of a field: what its uint16 stands for


class ArrowFile(DataFile):
    """A table that pyarrow reads.

    Raises:
        BadFile: It cannot be read.
    """

    is_table = True

    def __init__(self, place: Place) -> None:
        self.place = place
        self._rows: int | None = None
        with place.errors(), place.open() as file:
            self._schema = self._look(file)
        self.names = tuple(self._schema.names)

    @abstractmethod
    def _look(self, file: BinaryIO) -> Any:  # noqa: ANN401 - pyarrow's; it is imported when it is needed
        """Gives the schema, and sets the number of rows if that is known."""

    @abstractmethod
    def _batches(self, file: BinaryIO, names: Sequence[str], rows: int) -> Iterator[Any]:
        """Gives record batches of these columns and perhaps others; none need be of `rows` rows."""

    def rows(self, name: str) -> int | None:
        """As `DataFile`."""
        return self._rows

    def dimensions(self, name: str) -> int:
        """As `DataFile`."""
        return _dimensions(self._schema.field(name).type)

    def row_bytes(self, columns: Sequence[Column]) -> int:
        """As `DataFile`; found out from the first rows where lists have no set length."""
        sizes = [_row_bytes(self._schema.field(column.name).type) for column in columns]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            first = next(iter(self.blocks(columns, 64)))
            return max(1, sum(array[:1].nbytes for array in first.values()))
        return max(1, sum(known))

    def blocks(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        """As `DataFile`."""
        yield from recut(self.place, self._pieces(columns, rows), rows)

    def _pieces(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        import pyarrow as pa

        names = [column.name for column in columns]
        with self.place.errors(), self.place.open() as file:
            empty = True
            for batch in self._batches(file, names, rows):
                empty = False
                yield {column: self._array(batch.column(column.name), column) for column in columns}
            if empty:
                yield {
                    column: self._array(pa.array([], self._schema.field(column.name).type), column)
                    for column in columns
                }

    def _array(self, values: Any, column: Column) -> NDArray[Any]:  # noqa: ANN401 - pyarrow's
        if column.kind is Kind.LABEL:
            return _labels(values)
        array = as_array(values, f"{self.place}: column {column.name!r}")
        metadata = self._schema.field(column.name).metadata or {}
        if array.dtype == np.uint16 and metadata.get(_DTYPE) == b"bfloat16":
            return array.view("V2")
        return array


class ParquetFile(ArrowFile):
    """A parquet file; its columns are read as they are needed, not whole."""

    def _look(self, file: BinaryIO) -> Any:  # noqa: ANN401
        from pyarrow import parquet

        opened = parquet.ParquetFile(file)
        self._rows = opened.metadata.num_rows
        return opened.schema_arrow

    def _batches(self, file: BinaryIO, names: Sequence[str], rows: int) -> Iterator[Any]:
        from pyarrow import parquet

        opened = parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        yield from opened.iter_batches(batch_size=min(rows, _BATCH_ROWS), columns=list(dict.fromkeys(names)))


class IpcFile(ArrowFile):
    """An Arrow IPC file, which is also what feather is."""

    def _look(self, file: BinaryIO) -> Any:  # noqa: ANN401
        import pyarrow as pa

        return pa.ipc.open_file(_native(file)).schema

    def _batches(self, file: BinaryIO, names: Sequence[str], rows: int) -> Iterator[Any]:
        import pyarrow as pa

        wanted = [self._schema.get_field_index(name) for name in dict.fromkeys(names)]
        opened = pa.ipc.open_file(_native(file), options=pa.ipc.IpcReadOptions(included_fields=wanted))
        for number in range(opened.num_record_batches):
            yield opened.get_batch(number)


class IpcStream(ArrowFile):
    """An Arrow IPC stream."""

    def _look(self, file: BinaryIO) -> Any:  # noqa: ANN401
        import pyarrow as pa

        return pa.ipc.open_stream(_native(file)).schema

    def _batches(self, file: BinaryIO, names: Sequence[str], rows: int) -> Iterator[Any]:
        import pyarrow as pa

        wanted = [self._schema.get_field_index(name) for name in dict.fromkeys(names)]
        yield from pa.ipc.open_stream(_native(file), options=pa.ipc.IpcReadOptions(included_fields=wanted))


def _native(file: BinaryIO) -> Any:  # noqa: ANN401
    import pyarrow as pa

    return pa.PythonFile(cast("IOBase", file))


def _is_list(kind: Any) -> bool:  # noqa: ANN401 - a pyarrow type
    import pyarrow as pa

    types = pa.types
    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind))


def _plain(kind: Any) -> Any:  # noqa: ANN401 - a pyarrow type
    """What an extension type, such as that of tensors of one shape, or a dictionary, holds."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _dimensions(kind: Any) -> int:  # noqa: ANN401
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType):
        return 1 + len(kind.shape)
    kind = _plain(kind)
    return 1 + _dimensions(kind.value_type) if _is_list(kind) else 1


def _row_bytes(kind: Any) -> int | None:  # noqa: ANN401
    """The bytes of a value; None if lists have no set length."""
    import pyarrow as pa

    kind = _plain(kind)
    if _is_list(kind):
        inner = _row_bytes(kind.value_type)
        return kind.list_size * inner if inner and pa.types.is_fixed_size_list(kind) else None
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:  # text, whose lengths differ
        return 16


def as_array(values: Any, where: str) -> NDArray[Any]:  # noqa: ANN401 - a pyarrow array
    """Gives a column as an array: of numbers [N]; of lists of one length [N, C], and so on.

    Raises:
        BadFile: There are nulls, or lists of different lengths, or values that are not numbers.
    """
    import pyarrow as pa

    if isinstance(values.type, pa.FixedShapeTensorType):
        shape = tuple(values.type.shape)
        return as_array(values.storage, where).reshape((-1, *shape))
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    if values.null_count:
        raise BadFile(f"{where} has nulls; fill them, or leave those rows out")
    if _is_list(values.type):
        return _of_lists(values, where)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise BadFile(f"{where} has values of type {kind}, which are not numbers")
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array


def _of_lists(values: Any, where: str) -> NDArray[Any]:  # noqa: ANN401
    import pyarrow as pa

    inner = as_array(values.flatten(), where)
    if pa.types.is_fixed_size_list(values.type):
        return inner.reshape((len(values), values.type.list_size, *inner.shape[1:]))
    lengths = values.value_lengths().to_numpy(zero_copy_only=False)
    if lengths.size and (lengths != lengths[0]).any():
        other = lengths[lengths != lengths[0]][0]
        raise BadFile(f"{where} has lists of {lengths[0]} and of {other}; all must be of one length")
    length = int(lengths[0]) if lengths.size else 0
    return inner.reshape((len(values), length, *inner.shape[1:]))


def _labels(values: Any) -> NDArray[Any]:  # noqa: ANN401
    import pyarrow as pa

    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode(null_encoding="encode")
    found = np.empty(len(values.dictionary) + 1, dtype=object)
    found[:-1] = values.dictionary.to_pylist()  # the last place stays None
    codes = values.indices.fill_null(len(values.dictionary))
    result: NDArray[Any] = found[codes.to_numpy(zero_copy_only=False)]
    return result
