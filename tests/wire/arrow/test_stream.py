from __future__ import annotations

import base64
import contextlib
import io
import math
import random
import re
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.types import ITEMSIZE, TENSOR_DTYPES, RequestError
from lossd.wire.arrow.flatbuffer import INT, LONG, TWO_LONGS, FlatBufferError, Table
from lossd.wire.arrow.schema import MAX_FIELD_METADATA
from lossd.wire.arrow.stream import (
    MAX_BATCH_METADATA_BYTES,
    MAX_PACKED_BYTES,
    MAX_SCHEMA_BYTES,
    ArrowReader,
)
from lossd.wire.reader import Batch, Column, ColumnData, Columns, Event
from wire.arrow.handmade import (
    END,
    FLOAT32,
    TYPES,
    Node,
    Raw,
    Structs,
    batch_of,
    byte,
    field_of,
    flat,
    integer,
    lay_table,
    long,
    message,
    prefixed,
    reverse,
    schema_of,
    short,
)
from wire.feeding import AnyArray, check_error, same_bits, split_at

MAX_BATCH_BYTES = 1 << 25
DTYPES = sorted(set(ITEMSIZE) - {"bfloat16"})
BFLOAT16 = {"lossd.dtype": "bfloat16"}
Arrays: TypeAlias = dict[str, AnyArray]
AnyColumn: TypeAlias = "pa.Array[Any]"


def events(chunks: Iterable[bytes], max_batch_bytes: int = MAX_BATCH_BYTES) -> Iterator[Event]:
    """Feed chunks to a reader, and finish."""
    reader = ArrowReader(options={}, max_batch_bytes=max_batch_bytes)
    for chunk in chunks:
        yield from reader.feed(chunk)
    reader.finish()


def read(
    chunks: Iterable[bytes], max_batch_bytes: int = MAX_BATCH_BYTES
) -> tuple[tuple[Column, ...], list[Arrays]]:
    """Return the columns and the batches of a stream as arrays (bfloat16 as uint16)."""
    first, *others = events(chunks, max_batch_bytes)
    assert isinstance(first, Columns)
    batches: list[tuple[int, list[bytearray]]] = []
    for event in others:
        if isinstance(event, Batch):
            batches.append((event.rows, [bytearray() for _ in first.columns]))
            last = 0
        else:
            assert isinstance(event, ColumnData)
            assert event.column >= last
            last = event.column
            assert len(event.data) > 0
            batches[-1][1][last] += event.data
    return first.columns, [
        {
            column.name: as_array(column, rows, data)
            for column, data in zip(first.columns, received, strict=True)
        }
        for rows, received in batches
    ]


def as_array(column: Column, rows: int, data: bytearray) -> AnyArray:
    base = {"bfloat16": "uint16"}.get(column.dtype, column.dtype)
    dtype = np.dtype(base).newbyteorder(">" if column.big_endian else "<")
    shape = (rows,) if column.width is None else (rows, column.width)
    return np.frombuffer(bytes(data), dtype).reshape(shape)


def outcome(chunks: Iterable[bytes], max_batch_bytes: int = MAX_BATCH_BYTES) -> RequestError | None:
    """Return the error, if there is one; any other exception is the test's failure."""
    try:
        for _ in events(chunks, max_batch_bytes):
            pass
    except RequestError as error:
        check_error(error)
        return error
    return None


def column_of(array: AnyArray) -> AnyColumn:
    """Return an array as a column: [N], or [N, C] as lists of C."""
    flat = pa.array(array.ravel())
    if array.ndim == 1:
        return flat
    if array.shape[1] == 0:
        return pa.array([[]] * len(array), pa.list_(flat.type, 0))
    return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def table_of(arrays: Mapping[str, AnyArray]) -> pa.Table:
    return pa.table({name: column_of(array) for name, array in arrays.items()})


def stream(
    table: pa.Table, chunk_rows: int | None = None, options: pa.ipc.IpcWriteOptions | None = None
) -> bytes:
    """Write a table with pyarrow."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=chunk_rows)
    return sink.getvalue()


def some(dtype: str, shape: tuple[int, ...], seed: int = 0) -> AnyArray:
    """Return an array of random bits, or of bools."""
    generator = np.random.default_rng(seed)
    if dtype == "bool":
        return generator.random(shape) < 0.5
    return np.frombuffer(generator.bytes(math.prod(shape) * np.dtype(dtype).itemsize), dtype).reshape(shape)


def check(body: bytes, arrays: Mapping[str, AnyArray], rows: Sequence[int]) -> None:
    """Check that a body holds these arrays, in batches of these rows, however it is cut."""
    for chunks in ([body], split_at(body, range(len(body)))):
        columns, batches = read(chunks)
        assert [column.name for column in columns] == list(arrays)
        assert [len(batch[columns[0].name]) for batch in batches] == list(rows)
        for column in columns:
            array = arrays[column.name]
            parts = [batch[column.name] for batch in batches]
            joined = np.concatenate([array[:0], *parts])
            assert same_bits(joined, array)
            bits = 1 if column.dtype == "bool" else 8 * ITEMSIZE[column.dtype]
            assert column.wire_bits == math.prod(array.shape[1:]) * bits


MANY = {
    "logits": some("float32", (11, 5), 1),
    "targets": some("bool", (11, 5), 2),
    "weight": some("float64", (11,), 3),
    "mask": some("bool", (11,), 4),
    "pos_weight": some("float16", (11, 1), 5),
}
BODY = stream(table_of(MANY), 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (1,), (9,), (3, 1), (5, 7), (4, 0), (0, 3)])
def test_what_pyarrow_writes_is_read(dtype: str, shape: tuple[int, ...]) -> None:
    array = some(dtype, shape)
    body = stream(table_of({"targets": array}))
    (column,), _ = read([body])
    width = shape[1] if len(shape) == 2 else None
    assert (column.name, column.dtype, column.width, column.big_endian) == ("targets", dtype, width, False)
    check(body, {"targets": array}, [len(array)] if len(array) else [])


def test_many_columns_in_batches() -> None:
    check(BODY, MANY, [4, 4, 3])


@pytest.mark.parametrize("chunk_rows", [1, 2, 8, 11])
def test_batches_of_any_length(chunk_rows: int) -> None:
    rows = [min(chunk_rows, 11 - start) for start in range(0, 11, chunk_rows)]
    check(stream(table_of(MANY), chunk_rows), MANY, rows)


@pytest.mark.parametrize(("start", "rows"), [(0, 3), (1, 7), (3, 8), (10, 1), (5, 0)])
def test_slices_of_tables(start: int, rows: int) -> None:
    sliced = {name: array[start : start + rows] for name, array in MANY.items()}
    check(stream(table_of(MANY).slice(start, rows)), sliced, [rows] if rows else [])


def test_batches_of_no_rows_and_no_batches() -> None:
    table = table_of(MANY)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for rows in (0, 11, 0, 0):
            writer.write_batch(
                table.slice(0, rows).combine_chunks().to_batches()[0] if rows else empty(table)
            )
    check(sink.getvalue(), MANY, [0, 11, 0, 0])
    none = {name: array[:0] for name, array in MANY.items()}
    check(stream(table.slice(0, 0)), none, [])


def empty(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array([], kind) for kind in table.schema.types], schema=table.schema
    )


@pytest.mark.parametrize("where", ["field", "item", "both"])
def test_bfloat16_is_declared(where: str) -> None:
    bits = np.array([[0x3F80, 0xC000], [0x7F80, 0x0001]], dtype=np.uint16)
    item = pa.field("item", pa.uint16(), metadata=BFLOAT16 if where != "field" else None)
    logits = pa.field("logits", pa.list_(item, 2), metadata=BFLOAT16 if where != "item" else None)
    weight = pa.field("weight", pa.uint16(), metadata={"other": "thing", **BFLOAT16})
    lists = pa.FixedSizeListArray.from_arrays(pa.array(bits.ravel()), 2).cast(pa.list_(item, 2))
    table = pa.table([lists, pa.array(bits[0])], schema=pa.schema([logits, weight]))
    columns, _ = read([stream(table)])
    assert [(column.dtype, column.width, column.wire_bits) for column in columns] == [
        ("bfloat16", 2, 32),
        ("bfloat16", None, 16),
    ]
    check(stream(table), {"logits": bits, "weight": bits[0]}, [2])


def test_bools_are_unpacked_in_chunks_of_bounded_length() -> None:
    rows = 3 * 8 * MAX_PACKED_BYTES + 5
    array = some("bool", (rows,))
    chunk = stream(table_of({"mask": array}))
    sizes = [len(event.data) for event in events([chunk]) if isinstance(event, ColumnData)]
    assert sizes == [8 * MAX_PACKED_BYTES] * 3 + [5]
    _, (batch,) = read([chunk])
    assert same_bits(batch["mask"], array)


def test_big_buffers_are_not_copied() -> None:
    array = some("float32", (1000, 80))
    chunk = stream(table_of({"logits": array}))
    (values,) = [event for event in events([chunk]) if isinstance(event, ColumnData)]
    assert isinstance(values.data, memoryview)
    assert values.data.obj is chunk
    assert values.data == array.tobytes()


# The tables below, written by other writers than pyarrow.
POLARS = (  # polars 2.1.0: buffers aligned to 64 bytes, vtables behind their tables
    "eNqtUTFOw0AQnEuMY+AKQ1ykoEhBSUFBn7wB8QEKy7GUKFKwRHsV4hEUPIUn8A5EgSgQQkjH7HkJ0SmWQGKtvb2d2dudO3vv/akBEgCv"
    "3BeQPQHsYR8Z1wTvxC2RjJ+wfa639DO05y7IHzHmoQYwUkA7J95jTOnXZV3NGsARm+rZUMtDRvvckXObfdK2zyfxhBU3jNJ6QG8uV1XZ"
    "XOGR2Ew0bOn3LHdjHNNHqivHIbkcB6Hahv4frDNUmSIJ5+qmXAj+pvPkBhkZkTNfVjXHgpQfm585D61UFPpCFsMwyzJ7WvfhHfV+8r4F"
    "Ocssw+/tWOM0wrvynkYX8d/5aAPbofejut0o/ytPJZTi6PcqyU1aeTG+3U4M/sN0xsuk47k6Tf6zxC+HQFpt"
)
NANOARROW = (  # nanoarrow 0.9.0: aligned to 8 bytes, items beyond those of the rows
    "eNqVUjFOw0AQnMPHYSIXFClSpkGiSJGCPhbKA3gCFJaxFIQElmj9iBQp8xAeQJ0XpEYUvIBjdu8MySkSsNZ4d3bXs+e1vff+2gA5gr1+"
    "em9hYBlvGY/ozwiLfcuIjpjE2oQ6Q3qTBX5FfkTviOeqqe9aYM5cKT0UnMbnTPQL1mSOcYHfeDkH0LTVvcxbkcvME6K9fayr9glL5uZR"
    "7zLRe0nOsyHva73me9SUMy4e6oaSjHP2OF4WBd/ckp9qNPyOoflQh2YLDAirTwejtJ+aMO9Nd5pp98XODot4JrElfr5Bjr/bKPH4hffz"
    "xkl9fGD28U5/by7h/60PdI+yuUIjp9tLrZvxxl+lJDpiXZ7v1T9msl+JvgBjc1Ot"
)
ARROW_RS = (  # arrow-rs, by arro3 0.9.1: aligned to 64 bytes, bitmaps although nothing is null
    "eNrFVLFOxDAMfaGh9FAEHU5QIYYbmJgZGPspMFSl0iEkqMSN/Qa+4Ib7kBv5q/CcGtSmC6cO5+oltWP72U5V773fGCCHyDkcsYDlqjZj"
    "kfEBrK5AQuyIB9U3zCG+y5DDJPJ+TxtwEiwp8Vk19UvLONoL6q73zUtZVf/imeT+HvukfW3CZQOfoGmrV7GdEe3ze121H6x3SVzgMnhk"
    "of7VgOtJue60qox+qfaT42oSKzXcak/FX0waYvpM41rEvn6rG5byb2Gr/lHn73BDzuswaae16wh/JZGbKXia6R2t9Z7MwOk00qE9DuXQ"
    "c4SpTM/LSO90d7rv43wmio/0LtL3Zso9mh/mydx4dsARdMS2PAb/3Hh79PmNPqPD+cN/BvgB7Ds6RA=="
)


def written(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


@pytest.mark.parametrize(
    ("text", "logits", "targets", "weight"),
    [
        (POLARS, [[3, 4, 5], [0, 1, 2], [3, 4, 5]], [[0, 0, 1], [1, 0, 1], [0, 0, 1]], [2, 1, 2]),
        (NANOARROW, [[0, 1, 2]], [[1, 0, 1]], [1]),
        (ARROW_RS, [[3, 4, 5]], [[0, 0, 1]], [2]),
    ],
    ids=["polars", "nanoarrow", "arrow-rs"],
)
def test_what_others_write_is_read(
    text: str, logits: list[list[int]], targets: list[list[int]], weight: list[int]
) -> None:
    arrays: Arrays = {
        "logits": np.array(logits, dtype=np.float32),
        "targets": np.array(targets, dtype=np.bool_),
        "weight": np.array(weight, dtype=np.float64),
    }
    check(written(text), arrays, [len(weight)])


@given(st.lists(st.integers(0, len(BODY)), max_size=12))
def test_cut_anywhere(cuts: list[int]) -> None:
    _, batches = read(split_at(BODY, cuts))
    for name, array in MANY.items():
        assert same_bits(np.concatenate([batch[name] for batch in batches]), array)


def test_truncated_anywhere() -> None:
    for length in range(len(BODY)):
        error = outcome([BODY[:length]])
        assert error is not None
        assert error.code == "truncated_body"
        assert f"after {length} bytes" in error.detail


def test_truncation_says_where() -> None:
    logits = BODY.index(MANY["logits"][:4].tobytes())
    schema_bytes = 8 + struct.unpack_from("<i", BODY, 4)[0]
    for length, where, place in [
        (0, "before its schema", []),
        (3, "within the metadata of a message", []),
        (8, "within the metadata of a message", []),
        (schema_bytes, "before its end-of-stream marker", []),
        (schema_bytes + 40, "within the metadata of a message", []),
        (logits, "within a record batch, 80 bytes before the end of logits", ["/logits"]),
        (logits + 79, "within a record batch, 1 bytes before the end of logits", ["/logits"]),
        (len(BODY) - 8, "before its end-of-stream marker", []),
    ]:
        error = outcome([BODY[:length]])
        assert error is not None
        assert where in error.detail
        assert [pointer for pointer, _ in error.errors] == place


@pytest.mark.parametrize("extra", [b"\x00", END, BODY])
def test_trailing_bytes(extra: bytes) -> None:
    for chunks in ([BODY + extra], [BODY, extra]):
        error = outcome(chunks)
        assert error is not None
        assert error.code == "trailing_bytes"
        assert f"from byte {len(BODY)} on" in error.detail


FLAT = pa.array(np.arange(6, dtype=np.float32))
PAIRS = pa.FixedSizeListArray.from_arrays(FLAT, 2)
TENSORS: AnyColumn = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 3, 4), dtype=np.float32))
REFUSED: dict[str, tuple[AnyColumn, str, str]] = {
    "strings": (pa.array(["1"]), "dtype_not_allowed", "utf8"),
    "binary": (pa.array([b"1"], pa.large_binary()), "dtype_not_allowed", "large_binary"),
    "two bytes": (pa.array([b"12"], pa.binary(2)), "dtype_not_allowed", "fixed_size_binary"),
    "null": (pa.nulls(2), "dtype_not_allowed", "null"),
    "decimal": (pa.array([1], pa.decimal128(5)), "dtype_not_allowed", "decimal"),
    "date": (pa.array([1], pa.date32()), "dtype_not_allowed", "date"),
    "timestamp": (pa.array([1], pa.timestamp("s")), "dtype_not_allowed", "timestamp"),
    "duration": (pa.array([1], pa.duration("s")), "dtype_not_allowed", "duration"),
    "string view": (pa.array(["1"], pa.string_view()), "dtype_not_allowed", "utf8_view"),
    "lists of strings": (pa.array([["1"]], pa.list_(pa.string(), 1)), "dtype_not_allowed", "utf8"),
    "tensors": (TENSORS, "dtype_not_allowed", "ARROW:extension:name='arrow.fixed_shape_tensor'"),
    "tensors, and what to do": (TENSORS, "dtype_not_allowed", "to_numpy_ndarray() as .npy"),
    "booleans of a byte": (
        pa.ExtensionArray.from_storage(pa.bool8(), pa.array([2, 0], pa.int8())),
        "dtype_not_allowed",
        "arrow.bool8",
    ),
    "lists of any size": (pa.array([[1.0], []]), "bad_shape", "Arrow type list"),
    "large lists": (pa.array([[1.0]], pa.large_list(pa.float32())), "bad_shape", "Arrow type large_list"),
    "list views": (pa.array([[1.0]], pa.list_view(pa.float32())), "bad_shape", "Arrow type list_view"),
    "structs": (pa.array([{"x": 1.0}]), "bad_shape", "Arrow type struct"),
    "maps": (pa.array([[(1, 2)]], pa.map_(pa.int8(), pa.int8())), "bad_shape", "Arrow type map"),
    "runs": (
        pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([1.0])),
        "bad_shape",
        "Arrow type run_end_encoded",
    ),
    "nested lists": (
        pa.FixedSizeListArray.from_arrays(PAIRS, 3),
        "bad_shape",
        "has lists of the Arrow type fixed_size_list",
    ),
    "lists of lists": (
        pa.array([[[1.0]]], pa.list_(pa.list_(pa.float32()), 1)),
        "bad_shape",
        "has lists of the Arrow type list",
    ),
    "a dictionary": (pa.array([1.0, 1.0]).dictionary_encode(), "bad_shape", "dictionary_decode"),
    "nulls": (pa.array([1.0, None]), "bad_shape", "fill_null"),
    "nulls, and what to ask for": (pa.array([1, None]), "bad_shape", "send ignore_index=nan"),
    "null bools": (pa.array([True, None]), "bad_shape", "fill_null"),
    "null lists": (pa.array([[1.0], None], pa.list_(pa.float32(), 1)), "bad_shape", "fill_null"),
    "nulls in lists": (pa.array([[None], [1.0]], pa.list_(pa.float32(), 1)), "bad_shape", "fill_null"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_types_that_are_refused(case: str) -> None:
    array, code, words = REFUSED[case]
    body = stream(pa.table([FLAT[: len(array)], array], names=["logits", "targets"]))
    for chunks in ([body], split_at(body, range(len(body)))):
        error = outcome(chunks)
        assert error is not None
        assert error.code == code
        assert error.detail.startswith("targets ")
        assert words in error.detail
        assert [pointer for pointer, _ in error.errors] == ["/targets"]


@pytest.mark.parametrize(
    ("kind", "declared"),
    [("uint16", "float16"), ("uint16", "uint16"), ("int16", "bfloat16"), ("float32", "float16")],
)
def test_declarations_that_cannot_be(kind: str, declared: str) -> None:
    schema = pa.schema([pa.field("logits", getattr(pa, kind)(), metadata={"lossd.dtype": declared})])
    error = outcome([stream(schema.empty_table())])
    assert error is not None
    assert error.code == "dtype_not_allowed"
    assert f"the Arrow type {kind}" in error.detail


def test_bfloat16_that_is_not_declared_is_told_how() -> None:
    error = outcome([stream(table_of({"logits": np.array([0x3F80], dtype=np.uint16)}))])
    assert error is not None
    assert error.code == "dtype_not_allowed"
    assert "lossd.dtype=bfloat16" in error.detail


def test_a_column_that_is_no_tensor_is_not_simply_to_be_dropped() -> None:
    error = outcome([stream(table_of({"logits": np.zeros(2), "keep": np.zeros(2, dtype=bool)}))])
    assert error is not None
    assert error.code == "unknown_tensor"
    assert "leave out those that the loss does not depend on" in error.detail


@pytest.mark.parametrize("name", TENSOR_DTYPES)
def test_nulls_are_told_apart_by_what_they_could_mean(name: str) -> None:
    error = outcome([stream(pa.table({name: pa.array([1.0, None])}))])
    assert error is not None
    assert error.code == "bad_shape"
    assert f"{name} has nulls; " in error.detail


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_a_declaration_of_what_is_so_is_taken(dtype: str) -> None:
    schema = pa.schema([pa.field("targets", getattr(pa, dtype)(), metadata={"lossd.dtype": dtype})])
    assert outcome([stream(schema.empty_table())]) is None


def test_declarations_that_contradict_each_other() -> None:
    item = pa.field("item", pa.uint16(), metadata={"lossd.dtype": "float16"})
    schema = pa.schema([pa.field("logits", pa.list_(item, 2), metadata=BFLOAT16)])
    error = outcome([stream(schema.empty_table())])
    assert error is not None
    assert error.code == "dtype_not_allowed"


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["logits", "target"], "unknown_tensor"),
        (["x" * 100_000], "unknown_tensor"),
        ([""], "unknown_tensor"),
        (["logits", "logits"], "malformed_arrow"),
        ([*TENSOR_DTYPES, "mask"], "malformed_arrow"),
    ],
)
def test_names_that_make_no_sense(names: list[str], code: str) -> None:
    error = outcome([schema_of(*map(field_of, names)) + END])
    assert error is not None
    assert error.code == code
    if names[-1] == "target":
        assert "did you mean targets?" in error.detail


def test_a_schema_of_no_columns_is_what_it_says() -> None:
    body = schema_of() + batch_of(5, [], []) + END
    assert list(events([body])) == [Columns(()), Batch(5)]


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_buffers(compression: Literal["lz4", "zstd"]) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    error = outcome([stream(table_of(MANY), options=options)])
    assert error is not None
    assert error.code == "unsupported_encoding"
    assert "Content-Encoding" in error.detail


def test_compression_is_refused_before_anything_is_read() -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    bomb = stream(table_of({"logits": np.zeros((1000, 1000))}), options=options)
    error = outcome([bomb], max_batch_bytes=10)
    assert error is not None
    assert error.code == "unsupported_encoding"


def test_version_4_is_read() -> None:
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    check(stream(table_of(MANY), options=options), MANY, [11])


def test_the_legacy_format() -> None:
    options = pa.ipc.IpcWriteOptions(use_legacy_format=True)
    error = outcome([stream(table_of(MANY), options=options)])
    assert error is not None
    assert error.code == "malformed_arrow"
    assert "use_legacy_format=False" in error.detail


def test_the_file_format() -> None:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table_of(MANY).schema) as writer:
        writer.write_table(table_of(MANY))
    for chunks in ([sink.getvalue()], split_at(sink.getvalue(), range(100))):
        error = outcome(chunks)
        assert error is not None
        assert error.code == "malformed_arrow"
        assert "pa.ipc.new_stream" in error.detail


@pytest.mark.parametrize("max_batch_bytes", [2_000, 50_000, 170_000])
def test_a_batch_too_long_and_the_remedy(max_batch_bytes: int) -> None:
    table = table_of(
        {
            "logits": some("float32", (1000, 40)),
            "targets": some("bool", (1000, 40)),
            "weight": some("float64", (1000,)),
        }
    )
    error = outcome([stream(table)], max_batch_bytes)
    assert error is not None
    assert error.code == "body_too_large"
    assert str(max_batch_bytes) in error.detail
    found = re.search(r"max_chunksize=(\d+)", error.detail)
    assert found is not None
    rows = int(found[1])
    assert outcome([stream(table, rows)], max_batch_bytes) is None
    row_bytes = 40 * 4 + 5 + 8
    assert rows > 0.99 * (max_batch_bytes - 64 * 8) / row_bytes - 1


@pytest.mark.parametrize("max_batch_bytes", range(1000, 3000, 111))
def test_the_remedy_leaves_room_for_padding_and_bitmaps(max_batch_bytes: int) -> None:
    def write(rows: int) -> bytes:
        arrays = {"logits": some("float32", (rows, 3)), "mask": some("bool", (rows,))}
        return Writer(bitmaps=True, align=64).write(arrays)

    error = outcome([write(500)], max_batch_bytes)
    assert error is not None
    found = re.search(r"max_chunksize=(\d+)", error.detail)
    assert found is not None
    assert outcome([write(int(found[1]))], max_batch_bytes) is None


def test_the_longest_batch_is_taken() -> None:
    body = stream(table_of({"logits": some("float32", (100, 16))}))
    assert outcome([body], 6400) is None
    error = outcome([body], 6399)
    assert error is not None
    assert error.code == "body_too_large"


def test_a_row_too_long() -> None:
    error = outcome([stream(table_of({"logits": some("float32", (1, 1000))}))], 1000)
    assert error is not None
    assert error.code == "body_too_large"
    assert "a single row is too long" in error.detail


@dataclass
class Writer:
    """Writer of arrays as one batch, with the choices that the format leaves."""

    big: bool = False
    version: int = 4
    backwards: bool = False  # the order of fields in tables
    align: int = 8
    bitmaps: bool = False  # although nothing is null
    padded: bool = False  # lengths of buffers count their padding
    empties: int = 0  # the offset of empty buffers
    gap: int = 0  # extra bytes between buffers
    _body: bytearray = field(default_factory=bytearray)
    _buffers: list[tuple[int, int]] = field(default_factory=list)

    def write(self, arrays: Mapping[str, AnyArray]) -> bytes:
        fields = []
        nodes = []
        rows = 0
        for name, array in arrays.items():
            rows = len(array)
            width = array.shape[1] if array.ndim == 2 else None
            fields.append(self._ordered(field_of(name, self._ordered(TYPES[array.dtype.name]), width)))
            for length in [rows] if width is None else [rows, rows * width]:
                nodes.append((length, 0))
                self._lay(b"\xff" * ((length + 7) // 8) if self.bitmaps else b"")
            self._lay(self._bytes(array))
        head: dict[int, Node] = {1: fields, 0: short(1)} if self.big else {1: fields}
        batch: dict[int, Node] = {0: long(rows), 1: Structs(nodes), 2: Structs(self._buffers)}
        return (
            message(1, self._ordered(head), version=self.version, backwards=self.backwards)
            + message(
                3, self._ordered(batch), bytes(self._body), version=self.version, backwards=self.backwards
            )
            + END
        )

    def _ordered(self, table: Mapping[int, Node]) -> Mapping[int, Node]:
        return reverse(table) if self.backwards else table

    def _bytes(self, array: AnyArray) -> bytes:
        if array.dtype == np.bool_:
            return np.packbits(array.ravel().astype(np.uint8), bitorder="little").tobytes()
        return array.astype(array.dtype.newbyteorder(">" if self.big else "<")).tobytes()

    def _lay(self, data: bytes) -> None:
        if not data:
            self._buffers.append((self.empties if self.empties else len(self._body), 0))
            return
        padding = b"\xaa" * (-len(data) % self.align)
        self._buffers.append((len(self._body), len(data + padding) if self.padded else len(data)))
        self._body += data + padding + b"\xbb" * self.gap


MIXED: Arrays = {
    "logits": some("float16", (5, 3), 1),
    "targets": some("bool", (5, 3), 2),
    "weight": some("float32", (5,), 3),
    "mask": some("uint8", (5,), 4),
    "pos_weight": some("float64", (5, 2), 5),
}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Writer(),
        lambda: Writer(version=3),
        lambda: Writer(backwards=True),
        lambda: Writer(align=64),
        lambda: Writer(bitmaps=True),
        lambda: Writer(bitmaps=True, align=64, padded=True),
        lambda: Writer(empties=8),
        lambda: Writer(gap=16),
        lambda: Writer(big=True),
        lambda: Writer(big=True, backwards=True, bitmaps=True),
    ],
)
def test_whatever_the_format_leaves_open(make: Callable[[], Writer]) -> None:
    body = make().write(MIXED)
    check(body, MIXED, [5])
    # pyarrow reads the same from the buffers made by hand.
    table = pa.ipc.open_stream(body).read_all()
    for name, array in MIXED.items():
        assert repr(table.column(name).to_pylist()) == repr(array.tolist())


def test_big_endian_columns_say_so() -> None:
    arrays = {"logits": some("float32", (2, 3)), "targets": some("bool", (2, 3)), "mask": some("uint8", (2,))}
    columns, _ = read([Writer(big=True).write(arrays)])
    assert [column.big_endian for column in columns] == [True, False, False]


ONE = schema_of(field_of("logits"))
LISTS = schema_of(field_of("logits", width=2))
FOUR = bytes(16)
NO_BITMAP = (0, 0)
BATCH = batch_of(4, [(4, 0)], [NO_BITMAP, (0, 16)], FOUR)
SCHEMA_FIELDS: list[Mapping[int, Node]] = [field_of("logits")]
ITEM = field_of("item")


def made(name: str = "logits", **changes: Node) -> bytes:
    """Return a schema of one column of lists with given fields: kind, details, children, metadata."""
    base: dict[str, Node] = {"kind": byte(16), "details": {0: integer(2)}, "children": [ITEM]}
    numbers = {"kind": 2, "details": 3, "dictionary": 4, "children": 5, "metadata": 6}
    return schema_of({0: name, **{numbers[key]: node for key, node in {**base, **changes}.items()}})


HOSTILE: dict[str, tuple[bytes, str]] = {
    # Framing.
    "nothing but an end": (END, "malformed_arrow"),
    "no continuation": (bytes(8), "malformed_arrow"),
    "zip": (b"PK\x03\x04" + bytes(20), "malformed_arrow"),
    "no continuation after the schema": (ONE + bytes(8), "malformed_arrow"),
    "length -1": (b"\xff" * 8, "malformed_arrow"),
    "length -2^31": (b"\xff\xff\xff\xff" + integer(-(2**31)), "malformed_arrow"),
    "length 2^31 - 1": (b"\xff\xff\xff\xff" + integer(2**31 - 1), "malformed_arrow"),
    "schema over the limit": (b"\xff\xff\xff\xff" + integer(MAX_SCHEMA_BYTES + 1), "malformed_arrow"),
    "batch over the limit": (
        ONE + b"\xff\xff\xff\xff" + integer(MAX_BATCH_METADATA_BYTES + 1),
        "malformed_arrow",
    ),
    # FlatBuffers.
    "one byte": (b"\xff\xff\xff\xff" + integer(1) + b"\x00", "malformed_arrow"),
    "zeros": (prefixed(bytes(64)), "malformed_arrow"),
    "ones": (prefixed(b"\xff" * 64), "malformed_arrow"),
    "root beyond": (prefixed(struct.pack("<I", 60) + bytes(60)), "malformed_arrow"),
    "root far beyond": (prefixed(struct.pack("<I", 2**32 - 1) + bytes(60)), "malformed_arrow"),
    "vtable before": (prefixed(struct.pack("<Ii", 4, 100) + bytes(60)), "malformed_arrow"),
    "vtable far before": (prefixed(struct.pack("<Ii", 4, 2**31 - 1) + bytes(60)), "malformed_arrow"),
    "vtable far beyond": (prefixed(struct.pack("<Ii", 4, -(2**31)) + bytes(60)), "malformed_arrow"),
    "vtable too long": (prefixed(struct.pack("<IiHH", 4, -4, 100, 4) + bytes(60)), "malformed_arrow"),
    "table too long": (prefixed(struct.pack("<IiHH", 4, -4, 4, 100) + bytes(60)), "malformed_arrow"),
    "field beyond its table": (
        prefixed(struct.pack("<IiHHH", 4, -4, 6, 8, 8) + bytes(60)),
        "malformed_arrow",
    ),
    "field in the vtable's distance": (
        prefixed(struct.pack("<IiHHH", 4, -4, 6, 8, 2) + bytes(60)),
        "malformed_arrow",
    ),
    "header beyond": (message(1, Raw(2**31)), "malformed_arrow"),
    "header far beyond": (message(1, Raw(-4)), "malformed_arrow"),
    "header is itself": (message(1, Raw(0)), "malformed_arrow"),
    "fields beyond": (message(1, {1: Raw(2**31)}), "malformed_arrow"),
    "2^32 fields": (message(1, {1: Raw(-8)}), "malformed_arrow"),
    "no header": (prefixed(flat({0: short(4), 1: byte(1)})), "malformed_arrow"),
    "no kind": (prefixed(flat({0: short(4), 2: {}})), "malformed_arrow"),
    # Messages.
    "no version": (prefixed(flat({1: byte(1), 2: {}})), "malformed_arrow"),
    **{
        f"version {version}": (message(1, {1: SCHEMA_FIELDS}, version=version), "malformed_arrow")
        for version in (-1, 0, 1, 2, 5, 2**15 - 1)
    },
    "a batch first": (BATCH, "malformed_arrow"),
    "a dictionary first": (message(2, {}), "malformed_arrow"),
    "a schema with a body": (message(1, {1: SCHEMA_FIELDS}, bytes(8)), "malformed_arrow"),
    "a schema that tells of a body": (message(1, {1: SCHEMA_FIELDS}, body_bytes=8), "malformed_arrow"),
    "two schemas": (ONE + ONE, "malformed_arrow"),
    "a dictionary": (ONE + message(2, {0: long(0)}), "malformed_arrow"),
    "a tensor": (ONE + message(4, {}), "malformed_arrow"),
    "a sparse tensor": (ONE + message(5, {}), "malformed_arrow"),
    "a message unheard of": (ONE + message(255, {}), "malformed_arrow"),
    "body of -1": (ONE + batch_of(0, [(0, 0)], [NO_BITMAP] * 2, body_bytes=-1), "malformed_arrow"),
    "body of -8 under no columns": (schema_of() + batch_of(0, [], [], body_bytes=-8), "malformed_arrow"),
    "body of -2^63": (ONE + batch_of(0, [(0, 0)], [NO_BITMAP] * 2, body_bytes=-(2**63)), "malformed_arrow"),
    "body of 2^63 - 1": (
        ONE + batch_of(4, [(4, 0)], [NO_BITMAP] * 2, body_bytes=2**63 - 1),
        "body_too_large",
    ),
    # Schemas.
    "endianness 2": (message(1, {0: short(2), 1: SCHEMA_FIELDS}), "malformed_arrow"),
    "a name not UTF-8": (ONE.replace(b"logits", b"\xffogits"), "malformed_arrow"),
    "no name": (schema_of(FLOAT32), "unknown_tensor"),
    "a name beyond": (schema_of({0: Raw(2**31), **FLOAT32}), "malformed_arrow"),
    "no type": (schema_of({0: "logits"}), "malformed_arrow"),
    "type 0": (made(kind=byte(0)), "malformed_arrow"),
    "type 200": (made(kind=byte(200)), "malformed_arrow"),
    "int of 7 bits": (made(kind=byte(2), details={0: integer(7)}), "dtype_not_allowed"),
    "int of -2^31 bits": (made(kind=byte(2), details={0: integer(-(2**31))}), "dtype_not_allowed"),
    "float of precision -1": (made(kind=byte(3), details={0: short(-1)}), "dtype_not_allowed"),
    "float of precision 3": (made(kind=byte(3), details={0: short(3)}), "dtype_not_allowed"),
    "list size -1": (made(details={0: integer(-1)}), "malformed_arrow"),
    "no items": (made(children=[]), "malformed_arrow"),
    "two kinds of items": (made(children=[ITEM, ITEM]), "malformed_arrow"),
    "items that are beyond": (made(children=Raw(2**31)), "malformed_arrow"),
    "dictionary items": (made(children=[{**ITEM, 4: {}}]), "bad_shape"),
    "too much metadata": (made(metadata=[{}] * (MAX_FIELD_METADATA + 1)), "malformed_arrow"),
    "too much metadata of items": (
        made(children=[{**ITEM, 6: [{}] * (MAX_FIELD_METADATA + 1)}]),
        "malformed_arrow",
    ),
    "an extension": (
        made(metadata=[{0: "ARROW:extension:name", 1: "\x00" * 1000}]),
        "dtype_not_allowed",
    ),
    # Batches.
    "rows -1": (ONE + batch_of(-1, [(-1, 0)], [NO_BITMAP, (0, 16)], FOUR), "malformed_arrow"),
    "rows of another batch": (ONE + batch_of(4, [(3, 0)], [NO_BITMAP, (0, 16)], FOUR), "malformed_arrow"),
    "more values than rows": (ONE + batch_of(4, [(5, 0)], [NO_BITMAP, (0, 16)], FOUR), "malformed_arrow"),
    "nulls": (ONE + batch_of(4, [(4, 1)], [NO_BITMAP, (0, 16)], FOUR), "bad_shape"),
    "nulls -1": (ONE + batch_of(4, [(4, -1)], [NO_BITMAP, (0, 16)], FOUR), "bad_shape"),
    "no nodes": (ONE + batch_of(4, [], [NO_BITMAP, (0, 16)], FOUR), "malformed_arrow"),
    "a node more": (ONE + batch_of(4, [(4, 0)] * 2, [NO_BITMAP, (0, 16)], FOUR), "malformed_arrow"),
    "no buffers": (ONE + batch_of(4, [(4, 0)], [], FOUR), "malformed_arrow"),
    "a buffer less": (ONE + batch_of(4, [(4, 0)], [(0, 16)], FOUR), "malformed_arrow"),
    "a buffer more": (ONE + batch_of(4, [(4, 0)], [NO_BITMAP] * 2 + [(0, 16)], FOUR), "malformed_arrow"),
    "values too short": (ONE + batch_of(4, [(4, 0)], [NO_BITMAP, (0, 15)], FOUR), "malformed_arrow"),
    "values of length -1": (ONE + batch_of(4, [(4, 0)], [NO_BITMAP, (0, -1)], FOUR), "malformed_arrow"),
    "values at -1": (ONE + batch_of(4, [(4, 0)], [NO_BITMAP, (-1, 16)], FOUR), "malformed_arrow"),
    "values beyond": (ONE + batch_of(4, [(4, 0)], [NO_BITMAP, (1, 16)], FOUR), "malformed_arrow"),
    "values far beyond": (
        ONE + batch_of(4, [(4, 0)], [NO_BITMAP, (2**63 - 1, 2**63 - 1)], FOUR),
        "malformed_arrow",
    ),
    "buffers that overlap": (ONE + batch_of(4, [(4, 0)], [(0, 1), (0, 16)], FOUR), "malformed_arrow"),
    "buffers that descend": (
        ONE + batch_of(4, [(4, 0)], [(16, 1), (0, 16)], bytes(24)),
        "malformed_arrow",
    ),
    "a bitmap of length -1": (ONE + batch_of(4, [(4, 0)], [(0, -1), (0, 16)], FOUR), "malformed_arrow"),
    "an empty bitmap at -1": (ONE + batch_of(4, [(4, 0)], [(-1, 0), (0, 16)], FOUR), "malformed_arrow"),
    "a bitmap beyond": (ONE + batch_of(4, [(4, 0)], [(8, 16), (0, 16)], FOUR), "malformed_arrow"),
    "items missing": (
        LISTS + batch_of(2, [(2, 0), (3, 0)], [NO_BITMAP] * 2 + [(0, 16)], FOUR),
        "malformed_arrow",
    ),
    "null items": (LISTS + batch_of(2, [(2, 0), (4, 1)], [NO_BITMAP] * 2 + [(0, 16)], FOUR), "bad_shape"),
    "compressed": (
        ONE + batch_of(4, [(4, 0)], [NO_BITMAP, (0, 16)], FOUR, more={3: {}}),
        "unsupported_encoding",
    ),
    # Impossible numbers of rows.
    "rows 2^62": (ONE + batch_of(2**62, [(2**62, 0)], [NO_BITMAP, (0, 16)], FOUR), "bad_shape"),
    "rows 2^61": (ONE + batch_of(2**61, [(2**61, 0)], [NO_BITMAP, (0, 16)], FOUR), "bad_shape"),
    "rows 2^60": (ONE + batch_of(2**60, [(2**60, 0)], [NO_BITMAP, (0, 16)], FOUR), "malformed_arrow"),
    "rows 2^40 of lists of 2^31 - 1": (
        made(details={0: integer(2**31 - 1)})
        + batch_of(2**40, [(2**40, 0), (2**62, 0)], [NO_BITMAP] * 2 + [(0, 16)], FOUR),
        "bad_shape",
    ),
    "rows 2^62 of empty lists": (
        made(details={0: integer(0)}) + batch_of(2**62, [(2**62, 0), (0, 0)], [NO_BITMAP] * 3),
        "bad_shape",
    ),
    "rows 2^60 of empty lists, again and again": (
        made(details={0: integer(0)}) + batch_of(2**60, [(2**60, 0), (0, 0)], [NO_BITMAP] * 3) * 2,
        "bad_shape",
    ),
    "rows 2^62 of nothing, twice": (schema_of() + batch_of(2**62, [], []) * 2, "bad_shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_streams(case: str) -> None:
    body, code = HOSTILE[case]
    for chunks in ([body + END], split_at(body, range(len(body)))):
        error = outcome(chunks)
        assert error is not None
        assert error.code == code


def test_errors_say_where() -> None:
    error = outcome([ONE + BATCH + bytes(8)])
    assert error is not None
    assert f"00 00 00 00 at byte {len(ONE + BATCH)}" in error.detail


def test_what_the_hostile_streams_were_made_from_is_sound() -> None:
    assert outcome([ONE + BATCH + END]) is None
    assert outcome([LISTS + batch_of(2, [(2, 0), (4, 0)], [NO_BITMAP] * 2 + [(0, 16)], FOUR) + END]) is None
    assert outcome([made(metadata=[{0: "a", 1: "b"}] * MAX_FIELD_METADATA) + END]) is None
    assert pa.ipc.open_stream(ONE + BATCH + END).read_all().to_pydict() == {"logits": [0.0] * 4}


def test_items_beyond_those_of_the_rows_are_dropped() -> None:
    data = some("float32", (5,))
    body = LISTS + batch_of(2, [(2, 0), (5, 0)], [NO_BITMAP] * 2 + [(0, 20)], data.tobytes()) + END
    check(body, {"logits": data[:4].reshape(2, 2)}, [2])


def test_hostile_streams_take_neither_memory_nor_time() -> None:
    tracemalloc.start()
    begun = time.thread_time()
    for body, _ in HOSTILE.values():
        outcome([body])
    taken = time.thread_time() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert taken < 2


def test_the_longest_schemas_take_little_time() -> None:
    """Refuse vectors with a quarter of a million references to the same table."""
    size = MAX_SCHEMA_BYTES - 1024
    count = size // 4
    vector = struct.pack("<I", count)
    fields = flat({0: short(4), 1: byte(1), 2: {1: Raw(0x7FFFFFFF)}})
    for table in ({0: "logits", **FLOAT32}, {**ITEM, 0: "logits", 6: Raw(0x7FFFFFFF)}):
        out = bytearray(fields)
        target = lay_table(out, table)
        place = len(out)
        out += vector + b"".join(
            struct.pack("<I", (target - entry) % 2**32) for entry in range(place + 4, place + 4 + size, 4)
        )
        for mark in re.finditer(b"\xff\xff\xff\x7f", bytes(out[:place])):
            struct.pack_into("<I", out, mark.start(), place - mark.start())
        begun = time.thread_time()
        error = outcome([prefixed(bytes(out))])
        assert time.thread_time() - begun < 0.5
        assert error is not None
        assert error.code == "malformed_arrow"


WORDS = [struct.pack("<i", n) for n in (-(2**31), -1, 0, 1, 7, 8, 255, 65535, 2**31 - 1)]
LONG_WORDS = [struct.pack("<q", n) for n in (-(2**63), -1, 0, 1, 2**32, 2**61, 2**62, 2**63 - 1)]


def mutant(body: bytes, generator: random.Random) -> bytes:
    """Return a body with some places changed."""
    data = bytearray(body)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(data))
        other = generator.randrange(len(data))
        length = generator.randint(1, 32)
        match generator.randrange(6):
            case 0:
                data[at] ^= 1 << generator.randrange(8)
            case 1:
                data[at] = generator.randrange(256)
            case 2:
                word = generator.choice(WORDS)
                data[at & ~3 : (at & ~3) + 4] = word
            case 3:
                word = generator.choice(LONG_WORDS)
                data[at & ~7 : (at & ~7) + 8] = word
            case 4:
                data[at : at + length] = data[other : other + length]
            case _:
                data[at : at + length] = data[other : other + generator.randint(0, 32)]
    return bytes(data)


def test_mutants_are_read_or_refused() -> None:
    generator = random.Random(20)
    parents = [
        stream(table_of(MIXED), 3),
        Writer(bitmaps=True, big=True).write(MIXED),
        written(POLARS),
        written(NANOARROW),
        made(metadata=[{0: "lossd.dtype", 1: "float32"}]) + END,
    ]
    read_well = 0
    slowest = 0.0
    for round_ in range(5000):
        body = mutant(parents[round_ % len(parents)], generator)
        begun = time.thread_time()
        received = 0
        try:
            for event in events([body]):
                received += len(event.data) if isinstance(event, ColumnData) else 0
            read_well += 1
        except RequestError as error:
            check_error(error)
        slowest = max(slowest, time.thread_time() - begun)
        assert received <= 8 * len(body)
    assert 100 < read_well < 4900  # mutants of values are valid
    assert slowest < 1


def test_mutants_come_to_the_same_however_they_are_cut() -> None:
    generator = random.Random(21)
    parent = stream(table_of(MIXED), 3)
    for _ in range(100):
        body = mutant(parent, generator)
        whole, cut = outcome([body]), outcome(split_at(body, range(len(body))))
        assert (whole is None) == (cut is None)
        if whole is not None and cut is not None:
            assert (whole.code, whole.detail) == (cut.code, cut.detail)


def small_flatbuffer(vtable_bytes: int = 6, table_bytes: int = 8, offset: int = 4) -> bytes:
    """Return a table of one number, 7, at the end of a buffer, with given vtable lengths and offset."""
    return struct.pack("<IHHHxxii", 12, vtable_bytes, table_bytes, offset, 8, 7)


def test_a_small_flatbuffer() -> None:
    assert Table.root(small_flatbuffer()).number(0, INT) == 7
    assert Table.root(small_flatbuffer(offset=0)).number(0, INT, default=5) == 5
    assert Table.root(small_flatbuffer()).number(1, INT, default=5) == 5


@pytest.mark.parametrize(
    "changes", [{"vtable_bytes": 2}, {"vtable_bytes": 18}, {"table_bytes": 2}, {"table_bytes": 9}]
)
def test_flatbuffers_whose_tables_cannot_be(changes: dict[str, int]) -> None:
    with pytest.raises(FlatBufferError):
        Table.root(small_flatbuffer(**changes))


@pytest.mark.parametrize("offset", [1, 3, 5, 8, 65535])
def test_fields_outside_of_their_tables(offset: int) -> None:
    table = Table.root(small_flatbuffer(offset=offset) + bytes(70_000))
    with pytest.raises(FlatBufferError, match="field 0"):
        table.number(0, INT)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_flatbuffer_or_not(data: bytes) -> None:
    """Read any field of any bytes: the result lies within them, or is refused."""

    def walk(table: Table, depth: int) -> None:
        asks: list[Callable[[int], object]] = [
            table.table,
            table.string,
            lambda number: table.number(number, LONG),
            lambda number: table.structs(number, TWO_LONGS),
            lambda number: list(table.tables(number)),
        ]
        for ask in asks:
            for number in range(4):
                with contextlib.suppress(FlatBufferError):
                    found = ask(number)
                    if isinstance(found, Table) and depth:
                        walk(found, depth - 1)

    try:
        root = Table.root(data)
    except FlatBufferError:
        return
    walk(root, 2)
