"""The record batches of an Arrow stream: which bytes of a batch's body are which column's values.

A batch has a node (length and nulls) for each level of each column: a list column has a level for its lists
and one for their items. Its body holds, column by column, a bitmap for each level and the values. Nulls are
refused, so the bitmaps are skipped.

The layout: https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message (below: Columnar)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Final

from lossd.types import ErrorCode, RequestError, is_addressable
from lossd.wire.arrow.flatbuffer import LONG, TWO_LONGS, Table
from lossd.wire.arrow.schema import bad_shape, malformed
from lossd.wire.reader import Column

_LENGTH, _NODES, _BUFFERS, _COMPRESSION = range(4)  # RecordBatch, as in Message.fbs
_PADDING: Final = 64  # the largest alignment of buffers that Columnar recommends
_LIMIT: Final = 1 << 63
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
"""The remedy for nulls, which could mean several things."""


@dataclass(slots=True)
class Span:
    """A run of bytes of a body.

    Attributes:
        column: The index of the column whose values they are; None for bytes to skip.
        wanted: The bytes that are still missing.
        bools: The bools that are still missing, if the values are packed bools.
    """

    column: int | None
    wanted: int
    bools: int | None = None


class RecordBatches:
    """The record batches of one stream."""

    def __init__(self, columns: tuple[Column, ...], max_bytes: int) -> None:
        """Expect batches.

        Args:
            columns: The stream's columns.
            max_bytes: The longest body of a batch.
        """
        self._columns = columns
        self._max_bytes = max_bytes
        self._rows = 0
        # Columnar: a column has a bitmap for each of its levels, then its values.
        ends = list(accumulate((_levels(column) + 1 for column in columns), initial=0))
        self._values = {end - 1: index for index, end in enumerate(ends[1:])}  # columns by their buffer
        self._buffers = ends[-1]  # of a batch

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
        return rows, self._lay_out(rows, batch.structs(_BUFFERS, TWO_LONGS), body_bytes)

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
                raise bad_shape(column.name, "has nulls", _FOR_NULLS[column.name])

    def _lay_out(self, rows: int, buffers: list[tuple[int, ...]], body_bytes: int) -> list[Span]:
        """Return the spans of a body.

        Args:
            rows: The batch's rows.
            buffers: The offset in the body and the length of each buffer; a length may exceed the need.
            body_bytes: The body's length.
        """
        if len(buffers) != self._buffers:
            raise malformed(f"a record batch of {len(buffers)} buffers, but its columns have {self._buffers}")
        spans: list[Span] = []
        reached = 0  # the end of the last buffer that is not empty
        spanned = 0  # the end of the last span
        for number, (offset, length) in enumerate(buffers):
            seen = f"a buffer of {length} bytes at byte {offset} of a body of {body_bytes}"
            if offset < 0 or length < 0 or offset + length > body_bytes:
                raise malformed(seen)
            if length:
                if offset < reached:
                    raise malformed(f"{seen}, but the one before it ends at byte {reached}")
                reached = offset + length
            if number not in self._values:
                continue
            index = self._values[number]
            column = self._columns[index]
            needed = (rows * column.wire_bits + 7) // 8
            if length < needed:
                raise malformed(f"{seen}, but {rows} rows of {column.name} take {needed}")
            if needed:
                if offset > spanned:
                    spans.append(Span(None, offset - spanned))
                spans.append(Span(index, needed, rows * column.elements if column.dtype == "bool" else None))
                spanned = offset + needed
        if body_bytes > spanned:
            spans.append(Span(None, body_bytes - spanned))
        return spans

    def _too_large(self, rows: int, body_bytes: int) -> RequestError:
        detail = f"a record batch has {body_bytes} bytes, at most {self._max_bytes} are taken; "
        # Padding does not shrink with the rows.
        padding = _PADDING * self._buffers
        fitting = rows * (self._max_bytes - padding) // body_bytes
        if fitting > 0:
            detail += f"write batches of at most {fitting} rows: write_table(table, max_chunksize={fitting})"
        else:
            detail += (
                "a single row is too long, so max_chunksize does not help: send the tensors as .npy files"
            )
        return RequestError(ErrorCode.BODY_TOO_LARGE, detail)


def _levels(column: Column) -> int:
    """Return the levels of a column. Each has a node and a bitmap in every batch."""
    return 1 if column.width is None else 2
