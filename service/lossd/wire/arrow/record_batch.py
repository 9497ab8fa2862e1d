"""The record batches of an Arrow stream: which bytes of a batch's body are which column's values.

A batch has a node (length and nulls) for each level of each column: a list column has a level for its lists
and one for their items. Its body holds, column by column, a bitmap for each level and the values: for numbers
one buffer, for strings several. Nulls are refused, so the bitmaps are skipped.

The layout: https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message (below: Columnar)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from lossd.types import GROUP_PREFIX, ITEMSIZE, ErrorCode, RequestError, is_addressable
from lossd.wire.arrow.flatbuffer import LONG, TWO_LONGS, Table
from lossd.wire.arrow.schema import STRINGS, Field, bad_shape, malformed
from lossd.wire.reader import Column

_LENGTH, _NODES, _BUFFERS, _COMPRESSION, _VARIADIC_COUNTS = range(5)  # RecordBatch, as in Message.fbs
_PADDING: Final = 64  # the largest alignment of buffers that Columnar recommends
_LIMIT: Final = 1 << 63
_FOR_NULLS: Final[Mapping[str, str]] = {
    "targets": "to leave these elements out of the loss, fill them with NaN, as in "
    'column.cast(pa.float64()).fill_null(float("nan")), and send ignore_index=nan',
    "weight": "fill them with 0 where an element counts but weighs nothing; to leave it out of the count "
    "too, send a column mask that is false there",
    "mask": "fill them with false where an element is left out, with true where it counts",
    "pos_weight": "fill them with 1 where positives weigh no more than negatives",
    "class_weight": "send weights of classes as a parameter, which are not by row",
    "ids": "give every row an id, or leave the column out",
} | dict.fromkeys(
    ("logits", "probabilities", "boxes", "baseline"),
    "to leave these elements out of the loss, fill them with 0 and send a column mask that is false there",
)
"""The remedy for nulls, which could mean several things."""
_NO_GROUP: Final = (
    "put such rows into a group of their own: fill the nulls with an integer or a string that names no other"
)


@dataclass(slots=True)
class Collected:
    """A column of a batch that is read when all its bytes have come.

    Attributes:
        field: The column.
        column: The column's index.
        first: The number of rows in the batches before.
        rows: The batch's rows.
        buffers: The bytes that have come, by buffer.
        wanted: The bytes that are still missing.
    """

    field: Field
    column: int
    first: int
    rows: int
    buffers: list[bytearray]
    wanted: int = 0


@dataclass(slots=True)
class Span:
    """A run of bytes of a body.

    Attributes:
        column: The index of the column whose values they are; None for bytes to skip.
        wanted: The bytes that are still missing.
        bools: The bools that are still missing, if the values are packed bools.
        collected: Where the bytes are collected; None where they are handed out as they come.
        buffer: The index of their buffer there.
    """

    column: int | None
    wanted: int
    bools: int | None = None
    collected: Collected | None = None
    buffer: int = 0


class RecordBatches:
    """The record batches of one stream, or of one of its dictionaries."""

    def __init__(self, fields: Sequence[Field], max_bytes: int, *, entries_of: int | None = None) -> None:
        """Expect batches.

        Args:
            fields: The columns.
            max_bytes: The longest body of a batch.
            entries_of: The index of the column whose dictionary's entries they are, if they are entries.
        """
        self._fields = fields
        self._entries_of = entries_of
        self._columns = [field.column for field in fields]
        self._max_bytes = max_bytes
        self._rows = 0

    def read(self, batch: Table, body_bytes: int, position: int) -> tuple[int, list[Span]]:
        """Read the metadata of a batch.

        Args:
            batch: The metadata.
            body_bytes: The body's length.
            position: The body's position in the stream, for errors.

        Returns:
            The number of rows, and the spans that make up the body.

        Raises:
            RequestError: ``malformed_arrow``, ``bad_shape``, ``unsupported_encoding`` or ``body_too_large``.
            FlatBufferError: It cannot be read.
        """
        if batch.table(_COMPRESSION) is not None:
            seen = f"the buffers of the record batch at byte {position} are compressed"
            remedy = "write them without compression, and compress the whole body (Content-Encoding)"
            raise RequestError(ErrorCode.UNSUPPORTED_ENCODING, f"{seen}; {remedy}")
        rows = batch.number(_LENGTH, LONG)
        if rows < 0:
            raise malformed(f"a record batch of {rows} rows")
        if body_bytes > self._max_bytes:
            raise self._too_large(rows, body_bytes)
        self._rows += rows
        self._check_rows()
        self._check_nodes(rows, batch.structs(_NODES, TWO_LONGS))
        variadic = [count for (count,) in batch.structs(_VARIADIC_COUNTS, LONG)]
        return rows, self._lay_out(rows, batch.structs(_BUFFERS, TWO_LONGS), variadic, body_bytes)

    def _check_rows(self) -> None:
        """Refuse more rows in all batches together than an array can have."""
        for column in self._columns:
            if not is_addressable((self._rows, column.elements), column.dtype):
                seen = f"{self._rows} rows of {column.elements} {column.dtype}, whose bytes pass 2^63"
                raise bad_shape(column.name, f"has {seen}", "send the column's real rows")
        if self._rows >= _LIMIT:
            raise RequestError(
                ErrorCode.BAD_SHAPE, f"the batches have {self._rows} rows; send their real numbers of rows"
            )

    def _check_nodes(self, rows: int, nodes: list[tuple[int, ...]]) -> None:
        """Refuse columns that are shorter than their batch, or hold nulls.

        Args:
            rows: The batch's rows.
            nodes: The length and the number of nulls of each level of each column.
        """
        count = sum(map(_levels, self._columns))
        if len(nodes) != count:
            raise malformed(f"a record batch of {len(nodes)} nodes, but its columns have {count}")
        following = iter(nodes)
        for column in self._columns:
            levels = list(islice(following, _levels(column)))
            lengths = [length for length, _ in levels]
            # There may be items beyond those of the rows: nanoarrow writes all that a slice was cut from.
            if lengths[0] != rows or lengths[-1] < rows * column.elements:
                raise malformed(f"{column.name} of lengths {lengths} in a record batch of {rows} rows")
            if any(nulls for _, nulls in levels):
                group = column.name.startswith(GROUP_PREFIX) or column.name == "groups"
                raise bad_shape(column.name, "has nulls", _NO_GROUP if group else _FOR_NULLS[column.name])

    def _lay_out(
        self, rows: int, buffers: list[tuple[int, ...]], variadic: list[int], body_bytes: int
    ) -> list[Span]:
        """Return the spans of a body.

        Args:
            rows: The batch's rows.
            buffers: The offset in the body and the length of each buffer; a length may exceed the need.
            variadic: For each column of string views the number of buffers that its strings stand in.
            body_bytes: The body's length.
        """
        counts = self._buffer_counts(variadic)
        if len(buffers) != sum(counts):
            raise malformed(f"a record batch of {len(buffers)} buffers, but its columns have {sum(counts)}")
        _check_buffers(buffers, body_bytes)
        following = iter(buffers)
        spans: list[Span] = []
        spanned = 0  # the end of the last span
        for index, (field, count) in enumerate(zip(self._fields, counts, strict=True)):
            own = list(islice(following, count))[_levels(field.column) :]
            for offset, span in self._column_spans(index, field, rows, own):
                if offset > spanned:
                    spans.append(Span(None, offset - spanned))
                spans.append(span)
                spanned = offset + span.wanted
        if body_bytes > spanned:
            spans.append(Span(None, body_bytes - spanned))
        return spans

    def _buffer_counts(self, variadic: list[int]) -> list[int]:
        """Return the number of buffers of each column: a bitmap for each of its levels, then its values."""
        views = [field.kind == "utf8_view" and field.dictionary is None for field in self._fields]
        if len(variadic) != sum(views) or min(variadic, default=0) < 0:
            raise malformed(f"a record batch that has string views in {variadic[:8]} buffers")
        more = iter(variadic)
        return [
            _least_buffers(field) + (next(more) if view else 0)
            for field, view in zip(self._fields, views, strict=True)
        ]

    def _column_spans(
        self, index: int, field: Field, rows: int, buffers: list[tuple[int, ...]]
    ) -> Iterator[tuple[int, Span]]:
        """Yield the offset and the span of each of a column's buffers of values that is needed."""
        column = field.column
        if not rows:
            return
        collected = None
        if self._entries_of is not None:
            index = self._entries_of
        if self._entries_of is not None or not field.plain:
            collected = Collected(field, index, self._rows - rows, rows, [bytearray() for _ in buffers])
        for number, (offset, length) in enumerate(buffers):
            needed = length if number else _least_bytes(field, rows)
            if length < needed:
                seen = f"a buffer of {length} bytes at byte {offset}"
                raise malformed(f"{seen}, but {rows} rows of {column.name} take {needed}")
            if not needed:
                continue
            if collected is not None:
                collected.wanted += needed
            bools = rows * column.elements if column.dtype == "bool" else None
            yield offset, Span(index, needed, bools, collected, number)

    def _too_large(self, rows: int, body_bytes: int) -> RequestError:
        detail = f"a record batch has {body_bytes} bytes, at most {self._max_bytes} are taken; "
        # Padding does not shrink with the rows.
        padding = _PADDING * sum(map(_least_buffers, self._fields))
        fitting = rows * (self._max_bytes - padding) // body_bytes
        if fitting > 0:
            detail += f"write batches of at most {fitting} rows: write_table(table, max_chunksize={fitting})"
        else:
            detail += (
                "a single row is too long, so max_chunksize does not help: send the tensors as .npy files"
            )
        return RequestError(ErrorCode.BODY_TOO_LARGE, detail)


def _check_buffers(buffers: list[tuple[int, ...]], body_bytes: int) -> None:
    """Refuse buffers that are not within the body, one after the other."""
    reached = 0  # the end of the last buffer that is not empty
    for offset, length in buffers:
        seen = f"a buffer of {length} bytes at byte {offset} of a body of {body_bytes}"
        if offset < 0 or length < 0 or offset + length > body_bytes:
            raise malformed(seen)
        if length:
            if offset < reached:
                raise malformed(f"{seen}, but the one before it ends at byte {reached}")
            reached = offset + length


def _least_buffers(field: Field) -> int:
    """Return the number of a column's buffers, without those in which the strings of views stand."""
    strings = field.dictionary is None and field.kind in ("utf8", "large_utf8")
    return _levels(field.column) + (2 if strings else 1)


def _least_bytes(field: Field, rows: int) -> int:
    """Return the least bytes of a column's first buffer of values."""
    if field.dictionary is not None:
        return rows * ITEMSIZE[field.index_dtype]
    if field.kind == "utf8_view":
        return rows * STRINGS[field.kind]
    if field.kind in STRINGS:
        return (rows + 1) * STRINGS[field.kind]  # where each string begins, and where the last one ends
    return (rows * field.column.wire_bits + 7) // 8


def _levels(column: Column) -> int:
    """Return the levels of a column. Each has a node and a bitmap in every batch."""
    return 1 if column.width is None else 2
