"""Tables read by pyarrow: parquet, and Arrow IPC files and streams."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from io import IOBase
from typing import Any, BinaryIO, Final, cast

from numpy.typing import NDArray

from lossd_client.cli.files.columns import (
    ColumnReader,
    as_labels,
    dimensions,
    is_whole,
    leaf,
    refuse_meanings,
    row_bytes,
)
from lossd_client.cli.files.data_file import Block, Column, DataFile, Kind, recut
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location

_BATCH_ROWS: Final = 1 << 16
_DTYPE: Final = b"lossd.dtype"  # of a field: what its uint16 stands for


class ArrowFile(DataFile):
    """A table that pyarrow reads.

    Raises:
        BadFile: It cannot be read.
    """

    is_table = True

    def __init__(self, location: Location) -> None:
        self.location = location
        self._rows: int | None = None
        with location.errors(), location.open() as file:
            self._schema = self._look(file)
        self.names = tuple(self._schema.names)
        self._shapes: dict[str, tuple[int, ...]] = {}  # of rows, once some were read

    @abstractmethod
    def _look(self, file: BinaryIO) -> Any:  # noqa: ANN401 - pyarrow's; it is imported when it is needed
        """Return the schema, and set the number of rows if it is known."""

    @abstractmethod
    def _batches(self, file: BinaryIO, names: Sequence[str], rows: int) -> Iterator[Any]:
        """Return record batches with these columns, of any number of rows."""

    def rows(self, name: str) -> int | None:
        return self._rows

    def dimensions(self, name: str) -> int:
        return dimensions(self._schema.field(name).type)

    def refuse_integers(self, name: str, role: str) -> None:
        field = self._schema.field(name)
        kind = leaf(field.type)
        if is_whole(kind) and (field.metadata or {}).get(_DTYPE) != b"bfloat16":
            what = f"{self.location}: column {name!r} holds {kind}, and {role} are floats"
            cast_ = f"df[{name!r}] = df[{name!r}].astype('float64') in pandas, or pyarrow's cast to float64"
            raise BadFile(
                f"{what}. If it holds targets, or values that were rounded, name the column that holds the "
                f"{role}; if its whole numbers are the {role}, write the table again with floats, by {cast_}"
            )

    def row_bytes(self, columns: Sequence[Column]) -> int:
        """Read from the first rows where lists have no fixed length."""
        sizes = [row_bytes(self._schema.field(column.name).type, column.nulls) for column in columns]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            first = next(iter(self.blocks(columns, 64)))
            return max(1, sum(array[:1].nbytes for array in first.values()))
        return max(1, sum(known))

    def blocks(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        yield from recut(self.location, self._pieces(columns, rows), rows)

    def _pieces(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        import pyarrow as pa

        names = [column.name for column in columns]
        with self.location.errors(), self.location.open_to_end() as file:
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
            return as_labels(values)
        field = self._schema.field(column.name)
        where = f"{self.location}: column {column.name!r}"
        refuse_meanings(field, where)
        is_bfloat16 = (field.metadata or {}).get(_DTYPE) == b"bfloat16"
        reader = ColumnReader(where, column, self._shapes.get(column.name), is_bfloat16)
        array = reader.read(values)
        if len(array):
            self._shapes[column.name] = array.shape[1:]
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
