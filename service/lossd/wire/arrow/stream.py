"""``application/vnd.apache.arrow.stream``: an Arrow IPC stream, a column a tensor.

A stream is messages, one after the other: a schema, record batches, a marker of the end. A message is the
bytes FF FF FF FF, the length of its metadata, the metadata (a FlatBuffer), and a body that a record batch
lays its buffers in: for each column in turn a bitmap of what is not null, at times another one for the items
of its lists, and the values. Nulls are refused, so that the bitmaps have nothing to say; the values are
handed out as they come, straight from the chunks fed. All that is kept is a message's metadata.

The format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
The metadata: Message.fbs and Schema.fbs in https://github.com/apache/arrow/tree/main/format
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Final

import numpy as np

from lossd.error_text import SHOWN, pointer, shown, unknown_tensor
from lossd.types import ITEMSIZE, TENSOR_DTYPES, ErrorCode, RequestError
from lossd.wire.arrow.flatbuffer import INT, LONG, SHORT, TWO_LONGS, UBYTE, FlatBufferError, Table
from lossd.wire.reader import Batch, Column, Columns, Event, Piece, Values

MAX_SCHEMA_BYTES: Final = 1 << 20
"""The most bytes that the metadata of the schema may have: room for what pandas writes beside the columns."""

MAX_BATCH_METADATA_BYTES: Final = 1 << 16
"""The most bytes that the metadata of a later message may have: some hundred do for the columns."""

MAX_FIELD_METADATA: Final = 256
"""The most entries that the metadata of a field may have."""

MAX_PACKED_BYTES: Final = 1 << 15
"""Bytes of packed bools that are unpacked at a time; they grow eightfold."""

_CONTINUATION: Final = b"\xff\xff\xff\xff"
_FILE_MAGIC: Final = b"ARRO"  # of ARROW1, as far as the continuation goes
_PADDING: Final = 64  # what writers align buffers to at most
_DTYPE_KEY: Final = b"lossd.dtype"
_EXTENSION_KEY: Final = b"ARROW:extension:name"
_VERSIONS: Final = {3: "V4", 4: "V5"}
_LIMIT: Final = 1 << 63

# The fields of the tables, numbered as in Message.fbs and Schema.fbs; a union takes two.
_VERSION, _HEADER_KIND, _HEADER, _BODY_LENGTH = range(4)  # Message
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = range(4)  # RecordBatch
_ENDIANNESS, _FIELDS = range(2)  # Schema
_NAME, _NULLABLE, _TYPE_KIND, _TYPE, _DICTIONARY, _CHILDREN, _METADATA = range(7)  # Field
_BIT_WIDTH, _SIGNED = range(2)  # Int
_PRECISION = 0  # FloatingPoint
_LIST_SIZE = 0  # FixedSizeList
_KEY, _VALUE = range(2)  # KeyValue

_HEADERS: Final = (
    "message of no kind", "schema", "dictionary batch", "record batch", "tensor", "sparse tensor",
)  # fmt: skip
_TYPES: Final = (
    "none", "null", "int", "float", "binary", "utf8", "bool", "decimal", "date", "time", "timestamp",
    "interval", "list", "struct", "union", "fixed_size_binary", "fixed_size_list", "map", "duration",
    "large_binary", "large_utf8", "large_list", "run_end_encoded", "binary_view", "utf8_view", "list_view",
    "large_list_view",
)  # fmt: skip
_FLOATS: Final = ("float16", "float32", "float64")
_FOR_NULLS: Final[Mapping[str, str]] = {
    "targets": "to leave these elements out of the loss, fill them with NaN, as in "
    'column.cast(pa.float64()).fill_null(float("nan")), and send ignore_index=nan',
    "weight": "fill them with 0 where an element counts but weighs nothing; to leave it out of the count "
    "too, send a column mask that is false there",
    "mask": "fill them with false where an element is left out, with true where it counts",
    "pos_weight": "fill them with 1 where positives weigh no more than negatives",
} | dict.fromkeys(
    ("logits", "probabilities"),
    "to leave these elements out of the loss, fill them with 0 and send a column mask that is false there",
)
"""What to do about nulls, which could mean several things."""
_NESTED: Final = frozenset(
    {
        "fixed_size_list", "list", "struct", "union", "map", "large_list", "run_end_encoded", "list_view",
        "large_list_view",
    }
)  # fmt: skip


@dataclass(slots=True)
class _Span:
    """Bytes of a body that belong together.

    Attributes:
        column: Whose values they are; None for bytes that are skipped.
        wanted: How many are still to come.
        bools: Where they are packed bools, how many of those are still to come.
    """

    column: int | None
    wanted: int
    bools: int | None = None


class ArrowReader:
    """Reads an Arrow IPC stream.

    Columns are the tensors that come; plain ones have an element a row, those of fixed-size lists a list.
    """

    def __init__(self, *, options: Mapping[str, str], max_batch_bytes: int) -> None:
        """Expect a stream.

        Args:
            options: None matter.
            max_batch_bytes: The longest body that a record batch may have.
        """
        del options
        self._max_batch_bytes = max_batch_bytes
        self._begun = False  # the schema has come
        self._columns: tuple[Column, ...] = ()
        self._values: dict[int, int] = {}  # which of a batch's buffers hold which column's values
        self._buffers = 0  # of a batch
        self._rows = 0
        self._position = 0
        self._ended = False
        self._spans: deque[_Span] = deque()
        self._head = bytearray()
        self._expect(len(_CONTINUATION), self._read_continuation)

    def feed(self, chunk: Piece) -> Iterator[Event]:
        """Take the body's next bytes.

        Raises:
            RequestError: ``malformed_arrow``, ``unknown_tensor``, ``dtype_not_allowed``, ``bad_shape``,
                ``unsupported_encoding``, ``body_too_large`` or ``trailing_bytes``.
        """
        rest = memoryview(chunk)
        while rest:
            if self._ended:
                seen = f"bytes follow the end-of-stream marker, from byte {self._position} on"
                raise RequestError(
                    ErrorCode.TRAILING_BYTES, f"{seen}; send one Arrow stream and nothing after it"
                )
            span = self._spans[0] if self._spans else None
            taken = rest[: self._head_bytes - len(self._head) if span is None else span.wanted]
            rest = rest[len(taken) :]
            self._position += len(taken)
            if span is not None:
                yield from self._read_body(span, taken)
                continue
            self._head += taken
            if len(self._head) == self._head_bytes:
                head = bytes(self._head)
                self._head.clear()
                yield from self._read_head(head)

    def finish(self) -> None:
        """Take note that all of the body has been fed.

        Raises:
            RequestError: ``truncated_body``.
        """
        if self._ended:
            return
        name = ""
        if self._spans:
            where = "within a record batch"
            place = self._spans[0].column
            if place is not None:
                name = self._columns[place].name
                where += f", {self._spans[0].wanted} bytes before the end of {name}"
        elif self._head or self._read_head != self._read_continuation:
            where = "within the metadata of a message"
        else:
            where = "before its end-of-stream marker" if self._begun else "before its schema"
        detail = (
            f"the Arrow stream ends after {self._position} bytes, {where}; close the writer, send all of it"
        )
        raise RequestError(ErrorCode.TRUNCATED_BODY, detail, [(pointer(name), "cut short")] if name else ())

    def _expect(self, size: int, read: Callable[[bytes], tuple[Event, ...]]) -> None:
        """Have so many bytes collected next, and read."""
        self._head_bytes = size
        self._read_head = read

    def _read_continuation(self, head: bytes) -> tuple[Event, ...]:
        if head == _FILE_MAGIC:
            raise _malformed("it is an Arrow file (ARROW1), not a stream", "write it with pa.ipc.new_stream")
        if head != _CONTINUATION:
            seen = f"{head.hex(' ')} at byte {self._position - len(head)}, where ff ff ff ff begins a message"
            remedy = "write an Arrow stream of version 0.15 or later (use_legacy_format=False)"
            raise _malformed(seen, remedy)
        self._expect(INT.size, self._read_length)
        return ()

    def _read_length(self, head: bytes) -> tuple[Event, ...]:
        (length,) = INT.unpack(head)
        if length == 0:
            if not self._begun:
                raise _malformed("it ends before its schema")
            self._ended = True
            return ()
        most = MAX_BATCH_METADATA_BYTES if self._begun else MAX_SCHEMA_BYTES
        if not 0 < length <= most:
            at = self._position - len(head)
            seen = f"metadata of {length} bytes at byte {at}, where 1 to {most} are taken"
            raise _malformed(seen, "write it with an Arrow library, without metadata of your own")
        self._expect(length, self._read_metadata)
        return ()

    def _read_metadata(self, head: bytes) -> tuple[Event, ...]:
        self._expect(len(_CONTINUATION), self._read_continuation)
        try:
            return (self._read_message(Table.root(head)),)
        except FlatBufferError as error:
            at = self._position - len(head)
            raise _malformed(f"metadata that is no FlatBuffer at byte {at}: {error}") from None

    def _read_message(self, message: Table) -> Event:
        version = message.number(_VERSION, SHORT)
        if version not in _VERSIONS:
            taken = " and ".join(_VERSIONS.values())
            raise _malformed(f"metadata version V{version + 1}, where {taken} are taken")
        kind = message.number(_HEADER_KIND, UBYTE)
        header = message.table(_HEADER)
        body_bytes = message.number(_BODY_LENGTH, LONG)
        name = _HEADERS[kind] if kind < len(_HEADERS) else f"message of kind {kind}"
        seen = f"a {name} that ends at byte {self._position}"
        if header is None:
            raise _malformed(f"{seen}, empty")
        if body_bytes < 0 or (name == "schema" and body_bytes):
            raise _malformed(f"{seen}, with a body of {body_bytes} bytes")
        if not self._begun:
            if name != "schema":
                raise _malformed(f"{seen}, where a schema begins the stream")
            return self._begin(_read_schema(header))
        if name == "dictionary batch":
            raise RequestError(
                ErrorCode.BAD_SHAPE, f"the Arrow stream has {seen}; send plain values, not dictionaries"
            )
        if name != "record batch":
            raise _malformed(f"{seen}, where record batches follow the schema")
        return self._read_batch(header, body_bytes)

    def _begin(self, columns: tuple[Column, ...]) -> Columns:
        self._begun = True
        self._columns = columns
        # A column has a bitmap for each of its levels, and then its values.
        ends = list(accumulate((_levels(column) + 1 for column in columns), initial=0))
        self._values = {end - 1: index for index, end in enumerate(ends[1:])}
        self._buffers = ends[-1]
        return Columns(columns)

    def _read_batch(self, batch: Table, body_bytes: int) -> Batch:
        if batch.table(_COMPRESSION) is not None:
            seen = f"the buffers of the record batch at byte {self._position} are compressed"
            remedy = "write them without compression, and compress the whole body (Content-Encoding)"
            raise RequestError(ErrorCode.UNSUPPORTED_ENCODING, f"{seen}; {remedy}")
        rows = batch.number(_LENGTH, LONG)
        if rows < 0:
            raise _malformed(f"a record batch of {rows} rows")
        if body_bytes > self._max_batch_bytes:
            raise self._too_large(rows, body_bytes)
        self._rows += rows
        self._check_rows()
        self._check_nodes(rows, batch.structs(_NODES, TWO_LONGS))
        self._lay_out(rows, batch.structs(_BUFFERS, TWO_LONGS), body_bytes)
        return Batch(rows)

    def _check_rows(self) -> None:
        """See to it that what all batches hold together can be reckoned with."""
        for column in self._columns:
            # Zeros do not save the others, as in a .npy.
            elements = math.prod(n for n in (self._rows, column.width) if n)
            if elements * ITEMSIZE[column.dtype] >= _LIMIT:
                seen = f"{self._rows} rows of {_elements(column)} {column.dtype}, whose bytes pass 2^63"
                detail = f"{column.name} has {seen}; send what the column really holds"
                raise RequestError(ErrorCode.BAD_SHAPE, detail, [(pointer(column.name), seen)])
        if self._rows >= _LIMIT:
            raise RequestError(
                ErrorCode.BAD_SHAPE, f"the batches have {self._rows} rows; send what they really hold"
            )

    def _check_nodes(self, rows: int, nodes: list[tuple[int, ...]]) -> None:
        """See to it that columns are as long as their batch, and hold no nulls.

        Args:
            rows: Of the batch.
            nodes: For each level of each column its length and its nulls.
        """
        count = sum(map(_levels, self._columns))
        if len(nodes) != count:
            raise _malformed(f"a record batch of {len(nodes)} nodes, where its columns have {count}")
        following = iter(nodes)
        for column in self._columns:
            levels = list(islice(following, _levels(column)))
            lengths = [length for length, _ in levels]
            # There may be items beyond those of the rows: nanoarrow writes all that a slice was cut from.
            if lengths[0] != rows or lengths[-1] < rows * _elements(column):
                raise _malformed(f"{column.name} of lengths {lengths} in a record batch of {rows} rows")
            if any(nulls for _, nulls in levels):
                raise _bad_shape(column.name, "has nulls", _FOR_NULLS[column.name])

    def _lay_out(self, rows: int, buffers: list[tuple[int, ...]], body_bytes: int) -> None:
        """Say what the bytes of a body are.

        Args:
            rows: Of the batch.
            buffers: For each its place in the body and its length, which may be more than is needed.
            body_bytes: The body's length.
        """
        if len(buffers) != self._buffers:
            raise _malformed(
                f"a record batch of {len(buffers)} buffers, where its columns have {self._buffers}"
            )
        reached = 0  # the end of the last buffer that is not empty
        spanned = 0  # the end of the last span
        for number, (offset, length) in enumerate(buffers):
            seen = f"a buffer of {length} bytes at byte {offset} of a body of {body_bytes}"
            if offset < 0 or length < 0 or offset + length > body_bytes:
                raise _malformed(seen)
            if length:
                if offset < reached:
                    raise _malformed(f"{seen}, where the one before it ends at byte {reached}")
                reached = offset + length
            if number not in self._values:
                continue
            index = self._values[number]
            column = self._columns[index]
            needed = (rows * column.wire_bits + 7) // 8
            if length < needed:
                raise _malformed(f"{seen}, where {rows} rows of {column.name} take {needed}")
            if needed:
                self._skip(offset - spanned)
                bools = rows * _elements(column) if column.dtype == "bool" else None
                self._spans.append(_Span(index, needed, bools))
                spanned = offset + needed
        self._skip(body_bytes - spanned)

    def _skip(self, size: int) -> None:
        if size:
            self._spans.append(_Span(None, size))

    def _read_body(self, span: _Span, data: memoryview) -> Iterator[Values]:
        """Take the next bytes of a body, all of one span."""
        span.wanted -= len(data)
        if not span.wanted:
            self._spans.popleft()
        if span.column is None:
            return
        if span.bools is None:
            yield Values(span.column, data)
            return
        for start in range(0, len(data), MAX_PACKED_BYTES):
            packed = np.frombuffer(data[start : start + MAX_PACKED_BYTES], dtype=np.uint8)
            bools = np.unpackbits(packed, count=min(8 * len(packed), span.bools), bitorder="little")
            span.bools -= len(bools)
            yield Values(span.column, bools.data)

    def _too_large(self, rows: int, body_bytes: int) -> RequestError:
        detail = f"a record batch has {body_bytes} bytes, at most {self._max_batch_bytes} are taken; "
        # Padding does not shrink with the rows.
        padding = _PADDING * self._buffers
        fitting = rows * (self._max_batch_bytes - padding) // body_bytes
        if fitting > 0:
            detail += f"write batches of at most {fitting} rows: write_table(table, max_chunksize={fitting})"
        else:
            detail += "not even one row fits, whatever max_chunksize says: send the tensors as .npy files"
        return RequestError(ErrorCode.BODY_TOO_LARGE, detail)


def _read_schema(schema: Table) -> tuple[Column, ...]:
    """The columns that a schema names.

    Raises:
        RequestError: ``malformed_arrow``, ``unknown_tensor``, ``dtype_not_allowed`` or ``bad_shape``.
        FlatBufferError: It cannot be read.
    """
    endianness = schema.number(_ENDIANNESS, SHORT)
    if endianness not in (0, 1):
        raise _malformed(f"a schema of endianness {endianness}, neither 0 nor 1")
    columns: dict[str, Column] = {}
    for field in schema.tables(_FIELDS):
        column = _read_field(field, big_endian=endianness == 1)
        if column.name in columns:
            raise _malformed(f"two columns {column.name}", "send one")
        columns[column.name] = column
    return tuple(columns.values())


def _read_field(field: Table, *, big_endian: bool) -> Column:
    try:
        name = str(field.string(_NAME), "utf-8")
    except UnicodeDecodeError:
        raise _malformed("a column whose name is not UTF-8") from None
    if name not in TENSOR_DTYPES:
        raise unknown_tensor(
            name, "; name each column after its tensor, and leave out those that the loss does not depend on"
        )
    levels = [field]
    width = None
    kind, details = _type_of(field)
    if kind == "fixed_size_list":
        width = details.number(_LIST_SIZE, INT)
        if width < 0:
            raise _malformed(f"{name} is of lists of {width} items")
        levels += islice(field.tables(_CHILDREN), 2)
        if len(levels) != 2:
            raise _malformed(f"{name} is of lists that have not just one field of items")
        kind, _ = _type_of(levels[1])
    if kind in _NESTED:
        seen = f"has the Arrow type {kind}" if width is None else f"has lists of the Arrow type {kind}"
        remedy = (
            "send numbers, or lists of them of one size, pa.list_(type, size), and where shorter ones are "
            "padded a mask that drops that; more dimensions go as .npy"
        )
        raise _bad_shape(name, seen, remedy)
    if any(level.table(_DICTIONARY) is not None for level in levels):
        raise _bad_shape(name, "is dictionary-encoded", "send column.dictionary_decode()")
    dtype = _dtype(name, kind, {pair for level in levels for pair in _annotations(level, name)})
    itemsize = ITEMSIZE[dtype]
    bits = 1 if dtype == "bool" else 8 * itemsize
    row_bits = (1 if width is None else width) * bits
    return Column(name, dtype, width, big_endian and itemsize > 1, row_bits)


def _type_of(field: Table) -> tuple[str, Table]:
    """The name of a field's Arrow type, and the table of its details."""
    number = field.number(_TYPE_KIND, UBYTE)
    details = field.table(_TYPE)
    if details is None or not 0 < number < len(_TYPES):
        raise _malformed(f"a column of type {number}, which Arrow does not define")
    kind = _TYPES[number]
    if kind == "int":
        sign = "" if details.number(_SIGNED, UBYTE) else "u"
        kind = f"{sign}int{details.number(_BIT_WIDTH, INT)}"
    elif kind == "float":
        precision = details.number(_PRECISION, SHORT)
        kind = _FLOATS[precision] if 0 <= precision < len(_FLOATS) else f"float of precision {precision}"
    return kind, details


def _annotations(field: Table, name: str) -> Iterator[tuple[bytes, bytes]]:
    """What a field's metadata says of its type: keys that matter, and their values."""
    for number, entry in enumerate(field.tables(_METADATA)):
        if number == MAX_FIELD_METADATA:
            raise _malformed(f"{name} has more than {MAX_FIELD_METADATA} entries of metadata", "send fewer")
        key, value = (bytes(entry.string(part)[: SHOWN + 1]) for part in (_KEY, _VALUE))
        if key in (_DTYPE_KEY, _EXTENSION_KEY):
            yield key, value


def _dtype(name: str, kind: str, annotations: set[tuple[bytes, bytes]]) -> str:
    """The dtype of an Arrow type that metadata may say more of."""
    if kind == "uint16" and annotations == {(_DTYPE_KEY, b"bfloat16")}:
        return "bfloat16"
    others = annotations - {(_DTYPE_KEY, kind.encode())}
    bare = kind == "uint16" and kind not in TENSOR_DTYPES[name]  # bfloat16, and nothing says so
    if kind in ITEMSIZE and not others and not bare:
        return kind
    seen = f"the Arrow type {kind}"
    for key, value in sorted(others)[:1]:
        seen += f" with the field metadata {key.decode()}={shown(value.decode(errors='replace'))}"
    if any(key == _EXTENSION_KEY for key, _ in others):
        remedy = (
            "what its storage means, and in what order it lies, is not known here: have its own library make "
            "numbers of it, or fixed-size lists of numbers; of a fixed_shape_tensor send to_numpy_ndarray() "
            "as .npy, or its rows as fixed-size lists"
        )
    else:
        remedy = (
            f"send numbers as one of {', '.join(ITEMSIZE)}, of which column.cast(pa.float64()) rounds least; "
            "bfloat16 is uint16 with the field metadata lossd.dtype=bfloat16"
        )
    detail = f"{name} has {seen}, which is not taken; {remedy}"
    raise RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail, [(pointer(name), f"{seen} is not taken")])


def _levels(column: Column) -> int:
    """How deep a column goes: lists, and their items. Each has a node and a bitmap in every batch."""
    return 1 if column.width is None else 2


def _elements(column: Column) -> int:
    """The elements of a row."""
    return 1 if column.width is None else column.width


def _bad_shape(name: str, seen: str, remedy: str) -> RequestError:
    return RequestError(ErrorCode.BAD_SHAPE, f"{name} {seen}; {remedy}", [(pointer(name), seen)])


def _malformed(
    seen: str, remedy: str = "write it with an Arrow library, such as pa.ipc.new_stream"
) -> RequestError:
    return RequestError(ErrorCode.MALFORMED_ARROW, f"the Arrow stream is malformed: {seen}; {remedy}")
