"""``application/vnd.apache.arrow.stream``: an Arrow IPC stream, with a column for each tensor.

A stream is a sequence of messages: a schema, record batches, an end marker. A message is the bytes
FF FF FF FF, the length of its metadata, the metadata (a FlatBuffer) and a body, which record batches and
dictionary batches have. The numbers in it are handed out as they arrive, as slices of the chunks. Kept are a
message's metadata, dictionaries, and a batch's column of strings or indices until all of it has come.

The format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
The metadata: Message.fbs in https://github.com/apache/arrow/tree/main/format
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from lossd.error_text import pointer
from lossd.types import ErrorCode, RequestError
from lossd.wire.arrow.coded import CodedColumns
from lossd.wire.arrow.flatbuffer import INT, LONG, SHORT, UBYTE, FlatBufferError, Table
from lossd.wire.arrow.record_batch import Collected, RecordBatches, Span
from lossd.wire.arrow.schema import malformed, read_schema
from lossd.wire.reader import MAX_STRINGS, Batch, Chunk, Column, ColumnData, Columns, Event

MAX_SCHEMA_BYTES: Final = 1 << 20
"""The most bytes of the schema's metadata: pandas writes much beside the columns."""

MAX_BATCH_METADATA_BYTES: Final = 1 << 16
"""The most bytes of a later message's metadata: a few hundred suffice for the columns."""

MAX_PACKED_BYTES: Final = 1 << 15
"""The most bytes of packed bools that are unpacked at a time; they grow eightfold."""

_CONTINUATION: Final = b"\xff\xff\xff\xff"
_FILE_MAGIC: Final = b"ARRO"  # the first 4 bytes of ARROW1
_VERSIONS: Final = {3: "V4", 4: "V5"}
_VERSION, _HEADER_KIND, _HEADER, _BODY_LENGTH = range(4)  # Message, as in Message.fbs
_HEADERS: Final = (
    "message of no kind", "schema", "dictionary batch", "record batch", "tensor", "sparse tensor",
)  # fmt: skip


class ArrowReader:
    """Reader of an Arrow IPC stream.

    A plain column has an element a row; a column of fixed-size lists has a list a row.
    """

    def __init__(
        self, *, options: Mapping[str, str], max_batch_bytes: int, max_strings: int = MAX_STRINGS
    ) -> None:
        """Expect a stream.

        Args:
            options: Ignored.
            max_batch_bytes: The longest body of a record batch, and the most bytes of a dictionary.
            max_strings: The most distinct strings of a column of groups, and entries of a dictionary.
        """
        self._max_batch_bytes = max_batch_bytes
        self._max_strings = max_strings
        self._columns: tuple[Column, ...] = ()
        self._batches: RecordBatches | None = None  # until the schema has come
        self._coded = CodedColumns((), max_batch_bytes, max_strings)
        self._in_dictionary = False  # the body is of a dictionary batch
        self._position = 0
        self._ended = False
        self._spans: deque[Span] = deque()
        self._head = bytearray()
        self._expect(len(_CONTINUATION), self._read_continuation)

    def feed(self, chunk: Chunk) -> Iterator[Event]:
        """Take the body's next bytes, and yield the events in them.

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
        """Check that the stream is complete, after the last byte was fed.

        Raises:
            RequestError: ``truncated_body``.
        """
        if self._ended:
            return
        name = ""
        if self._spans:
            where = f"within a {'dictionary' if self._in_dictionary else 'record'} batch"
            index = self._spans[0].column
            if index is not None:
                name = self._columns[index].name
                where += f", {self._spans[0].wanted} bytes before the end of {name}"
        elif self._head or self._read_head != self._read_continuation:
            where = "within the metadata of a message"
        else:
            where = "before its schema" if self._batches is None else "before its end-of-stream marker"
        detail = (
            f"the Arrow stream ends after {self._position} bytes, {where}; close the writer, send all of it"
        )
        raise RequestError(ErrorCode.TRUNCATED_BODY, detail, [(pointer(name), "cut short")] if name else ())

    def _expect(self, size: int, read: Callable[[bytes], tuple[Event, ...]]) -> None:
        """Collect the next ``size`` bytes, then call ``read`` with them."""
        self._head_bytes = size
        self._read_head = read

    def _read_continuation(self, head: bytes) -> tuple[Event, ...]:
        if head == _FILE_MAGIC:
            raise malformed("it is an Arrow file (ARROW1), not a stream", "write it with pa.ipc.new_stream")
        if head != _CONTINUATION:  # Columnar, encapsulated message format: since version 0.15
            seen = f"{head.hex(' ')} at byte {self._position - len(head)}, but ff ff ff ff begins a message"
            remedy = "write an Arrow stream of version 0.15 or later (use_legacy_format=False)"
            raise malformed(seen, remedy)
        self._expect(INT.size, self._read_length)
        return ()

    def _read_length(self, head: bytes) -> tuple[Event, ...]:
        (length,) = INT.unpack(head)
        if length == 0:  # Columnar, IPC streaming format: the end-of-stream marker
            if self._batches is None:
                raise malformed("it ends before its schema")
            self._ended = True
            return ()
        most = MAX_SCHEMA_BYTES if self._batches is None else MAX_BATCH_METADATA_BYTES
        if not 0 < length <= most:
            at = self._position - len(head)
            seen = f"metadata of {length} bytes at byte {at}, but 1 to {most} are taken"
            raise malformed(seen, "write it with an Arrow library, without metadata of your own")
        self._expect(length, self._read_metadata)
        return ()

    def _read_metadata(self, head: bytes) -> tuple[Event, ...]:
        self._expect(len(_CONTINUATION), self._read_continuation)
        try:
            return self._read_message(Table.root(head))
        except FlatBufferError as error:
            at = self._position - len(head)
            raise malformed(f"metadata that is no FlatBuffer at byte {at}: {error}") from None

    def _read_message(self, message: Table) -> tuple[Event, ...]:
        version = message.number(_VERSION, SHORT)
        if version not in _VERSIONS:
            taken = " and ".join(_VERSIONS.values())
            raise malformed(f"metadata version V{version + 1}, but {taken} are taken")
        kind = message.number(_HEADER_KIND, UBYTE)
        header = message.table(_HEADER)
        body_bytes = message.number(_BODY_LENGTH, LONG)
        name = _HEADERS[kind] if kind < len(_HEADERS) else f"message of kind {kind}"
        seen = f"a {name} that ends at byte {self._position}"
        if header is None:
            raise malformed(f"{seen}, empty")
        if body_bytes < 0 or (name == "schema" and body_bytes):
            raise malformed(f"{seen}, with a body of {body_bytes} bytes")
        if self._batches is None:
            if name != "schema":
                raise malformed(f"{seen}, but a schema begins the stream")
            fields = read_schema(header)
            self._columns = tuple(field.column for field in fields)
            self._batches = RecordBatches(fields, self._max_batch_bytes)
            self._coded = CodedColumns(fields, self._max_batch_bytes, self._max_strings)
            return (Columns(self._columns),)
        self._in_dictionary = name == "dictionary batch"
        if self._in_dictionary:
            self._spans.extend(self._coded.read_dictionary(header, body_bytes, self._position))
            return ()
        if name != "record batch":
            raise malformed(f"{seen}, but record batches follow the schema")
        rows, spans = self._batches.read(header, body_bytes, self._position)
        self._spans.extend(spans)
        return (Batch(rows),)

    def _read_body(self, span: Span, data: memoryview) -> Iterator[Event]:
        """Take the next bytes of a body, all of one span."""
        span.wanted -= len(data)
        if not span.wanted:
            self._spans.popleft()
        if span.column is None:
            return
        if span.collected is not None:
            yield from self._collect(span.collected, span.buffer, data)
            return
        if span.bools is None:
            yield ColumnData(span.column, data)
            return
        for start in range(0, len(data), MAX_PACKED_BYTES):
            packed = np.frombuffer(data[start : start + MAX_PACKED_BYTES], dtype=np.uint8)
            # Columnar, validity bitmaps and bools: least-significant bit first.
            bools = np.unpackbits(packed, count=min(8 * len(packed), span.bools), bitorder="little")
            span.bools -= len(bools)
            yield ColumnData(span.column, bools.data)

    def _collect(self, column: Collected, buffer: int, data: memoryview) -> Iterator[Event]:
        """Take the next bytes of a column that is read when all of them have come."""
        column.buffers[buffer] += data
        column.wanted -= len(data)
        if not column.wanted:
            read = self._coded.extend_dictionary if self._in_dictionary else self._coded.read
            yield from read(column)
