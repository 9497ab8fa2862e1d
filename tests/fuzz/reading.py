"""Reading of bodies, with checks of everything that a reader promises."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fuzz.corpus import Sample
from lossd.api.problems import KINDS
from lossd.core.catalog import LOSSES
from lossd.core.parameters import check_params
from lossd.types import GROUP_PREFIX, ITEMSIZE, MAX_DIMENSIONS, TENSOR_DTYPES, Body, ErrorCode, RequestError
from lossd.wire import (
    FORMATS,
    STREAMS,
    Batch,
    Column,
    Columns,
    Decoder,
    make_decoder,
    merge_params,
    parse_query,
)
from lossd.wire.inference.body import InferenceReader
from lossd.wire.inference.body import arena_bytes as inference_bytes
from lossd.wire.json.document import arena_bytes as document_bytes
from lossd.wire.json.document import read_in_place
from lossd.wire.reader import ColumnData, Reader, StreamReader, Strings
from wire.arrow.string_column import StringColumn
from wire.feeding import OPTIONS, AnyArray, array_of, check_error, same_bits

MOST_EXPANDED: Final = 1 << 20
"""The most bytes that a coded body may expand to; a server allows more."""
MAX_JSON_BYTES: Final = 1 << 25
MAX_BATCH_BYTES: Final = 1 << 25

MEDIA: Final = {
    **{form.name: media for media, form in FORMATS.items()},
    **{form.name: media for media, form in STREAMS.items()},
}
"""The media types by the formats' names."""


@dataclass(frozen=True, slots=True)
class Found:
    """The contents of a body.

    Attributes:
        tensors: By name; bfloat16 as uint16; strings as their bytes, each behind its length.
        params: Those of the body.
        notes: What is said of how it was read.
    """

    tensors: dict[str, AnyArray]
    params: dict[str, object]
    notes: tuple[str, ...] = ()


def outcome(sample: Sample, chunks: Sequence[bytes]) -> Found | RequestError:
    """Read a body in these chunks, and return the contents or the error."""
    try:
        return read(sample, chunks)
    except RequestError as error:
        check_error(error)
        kind = KINDS[error.code]
        assert 400 <= kind.status < 500
        assert not kind.retryable
        return error


def read(sample: Sample, chunks: Sequence[bytes]) -> Found:
    """Read a body as an endpoint does.

    Raises:
        RequestError: It cannot be read, or its parameters are wrong.
    """
    query, names = _query(sample)
    decoder = make_decoder(sample.coding)
    media = MEDIA.get(sample.format, "")
    if media in STREAMS:
        stream = STREAMS[media].reader(options={}, max_batch_bytes=MAX_BATCH_BYTES)
        found = Found(_read_stream(stream, decoder, chunks), {})
    elif media in FORMATS:
        form = FORMATS[media]
        reader = form.reader(options=OPTIONS.get(media, {}), names=names)
        body, stored = _read_body(reader, decoder, chunks)
        _check_room(body, len(stored), form.arena_bytes(len(stored)))
        found = _found(body, stored)
    else:
        header_length = sample.header_length
        inference = InferenceReader(header_length=header_length, max_json_bytes=MAX_JSON_BYTES)
        body, stored = _read_body(inference, decoder, chunks)
        _check_room(body, len(stored), inference_bytes(len(stored), header_length))
        json.dumps([inference.request_id, inference.timeout_us])
        found = _found(body, stored)
    check_params(LOSSES[sample.loss], merge_params(query, found.params))
    return found


def outcome_in_place(sample: Sample) -> Found | RequestError:
    """Read a document with its arrays stored behind it, as a server does with large ones."""
    length = len(sample.body)
    region = bytearray(document_bytes(length))
    region[:length] = sample.body
    try:
        query, _ = _query(sample)
        body = read_in_place(memoryview(region), length)
        assert not body.arrays
        assert all(tensor.offset >= length for tensor in body.tensors.values())
        _check_room(body, len(region), len(region))
        check_params(LOSSES[sample.loss], merge_params(query, body.params))
    except RequestError as error:
        check_error(error)
        return error
    return _found(body, bytes(region))


def alike(one: Found | RequestError, other: Found | RequestError, sample: Sample) -> bool:
    """Return whether two readings of a body, cut at different places, gave the same.

    A body may have several errors. A decompressor may find its own sooner or later than the reader finds one
    in the decoded bytes, and python-multipart looks for the first boundary within a chunk.
    """
    if isinstance(one, RequestError) and isinstance(other, RequestError):
        several = sample.coding is not None or sample.format in ("npz", "multipart")
        return several or one.code == other.code
    if isinstance(one, RequestError) or isinstance(other, RequestError):
        return False
    same = all(same_bits(array, other.tensors[name]) for name, array in one.tensors.items())
    said = (one.params, one.notes) == (other.params, other.notes)
    return same and list(one.tensors) == list(other.tensors) and said


def _query(sample: Sample) -> tuple[dict[str, object], list[str]]:
    """Return the parameters of the query, and the tensors that it names."""
    params = parse_query(sample.query)
    given = params.pop("tensors", ["logits", "targets"])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RequestError(ErrorCode.INVALID_PARAMETER, "tensors names no tensors; send a list of them")
    return params, names


def _decoded(decoder: Decoder | None, chunks: Sequence[bytes]) -> Iterator[bytes]:
    expanded = 0
    for chunk in chunks:
        for plain in (chunk,) if decoder is None else decoder.feed(chunk):
            expanded += len(plain)
            if decoder is not None and expanded > MOST_EXPANDED:
                raise RequestError(
                    ErrorCode.EXPANDED_TOO_LARGE, "the body expands to more than is taken here"
                )
            yield plain
    if decoder is not None:
        decoder.finish()


def _read_body(reader: Reader, decoder: Decoder | None, chunks: Sequence[bytes]) -> tuple[Body, bytes]:
    """Return the body, and the bytes stored."""
    stored = bytearray()
    length = sum(map(len, chunks)) if decoder is None else None
    needed = 0
    outline = None
    for plain in _decoded(decoder, chunks):
        for part in reader.feed(plain):
            stored += part
            if len(stored) + reader.skipped > MOST_EXPANDED:
                raise RequestError(
                    ErrorCode.EXPANDED_TOO_LARGE, "the body expands to more than is taken here"
                )
        needed = max(needed, reader.needed)
        outline = outline or reader.outline(length)
    body = reader.finish(memoryview(stored))
    assert needed <= len(stored)
    if outline is not None:
        assert outline.tensors == body.tensors
        assert outline.params == body.params
    return body, bytes(stored)


def _check_room(body: Body, stored: int, arena_bytes: int) -> None:
    """Check that tensors lie within the stored bytes, and that arrays have room behind them."""
    assert set(body.tensors) | set(body.arrays) <= set(TENSOR_DTYPES)
    assert not set(body.tensors) & set(body.arrays)
    for tensor in body.tensors.values():
        assert tensor.dtype in ITEMSIZE
        assert len(tensor.shape) <= MAX_DIMENSIONS
        assert 0 <= tensor.offset <= tensor.offset + tensor.nbytes <= stored
    end = stored
    for array in body.arrays.values():
        assert array.dtype in (np.float64, np.int64, np.bool_)
        assert array.flags.c_contiguous
        assert array.ndim <= MAX_DIMENSIONS
        end = -(-end // 8) * 8 + array.nbytes
    assert end <= arena_bytes


def _found(body: Body, stored: bytes) -> Found:
    json.dumps(body.params, allow_nan=False)
    tensors = {name: array_of(tensor, stored) for name, tensor in body.tensors.items()}
    return Found({**tensors, **body.arrays}, body.params, tuple(body.notes))


def _read_stream(
    reader: StreamReader, decoder: Decoder | None, chunks: Sequence[bytes]
) -> dict[str, AnyArray]:
    """Return the columns of a stream, with all batches joined."""
    columns: tuple[Column, ...] | None = None
    rows = 0
    stored: list[bytearray] = []
    strings: dict[int, StringColumn] = {}
    due: list[int] = []  # bytes of each column up to the end of the batch
    for plain in _decoded(decoder, chunks):
        for event in reader.feed(plain):
            if isinstance(event, Columns):
                assert columns is None
                columns = event.columns
                assert len({column.name for column in columns}) == len(columns)
                assert {column.name for column in columns if not column.name.startswith(GROUP_PREFIX)} <= set(
                    TENSOR_DTYPES
                )
                strings = {i: StringColumn(column.name) for i, column in enumerate(columns) if column.strings}
                stored = [bytearray() for _ in columns]
                due = [0] * len(columns)
            elif isinstance(event, Batch):
                assert columns is not None
                assert [len(data) for data in stored] == due
                assert event.rows >= 0
                rows += event.rows
                due = [rows * _row_bytes(column) for column in columns]
            elif isinstance(event, Strings):
                strings[event.column].tell(event)
            else:
                assert isinstance(event, ColumnData)
                if event.column in strings:
                    strings[event.column].write(event)
                assert 0 < len(event.data) <= due[event.column] - len(stored[event.column])
                assert [len(data) for data in stored[: event.column]] == due[: event.column]
                stored[event.column] += event.data
    reader.finish()
    assert columns is not None
    assert [len(data) for data in stored] == due
    found = {column.name: _array(column, rows, data) for column, data in zip(columns, stored, strict=True)}
    return found | {columns[i].name: packed(column.texts) for i, column in strings.items()}


def packed(texts: Iterable[str]) -> AnyArray:
    """Return strings as one array."""
    data = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    return np.frombuffer(data, np.uint8)


def _row_bytes(column: Column) -> int:
    return (1 if column.width is None else column.width) * ITEMSIZE[column.dtype]


def _array(column: Column, rows: int, data: bytearray) -> AnyArray:
    base = {"bfloat16": "uint16"}.get(column.dtype, column.dtype)
    dtype = np.dtype(base).newbyteorder(">" if column.big_endian else "<")
    shape = (rows,) if column.width is None else (rows, column.width)
    assert math.prod(shape) * dtype.itemsize == len(data)
    return np.frombuffer(bytes(data), dtype).reshape(shape)
