"""Streams with columns of strings, read to the strings again by what the reader promises of its events."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from lossd.types import RequestError
from lossd.wire.arrow.stream import ArrowReader
from lossd.wire.arrow.strings import PART_ROWS
from lossd.wire.reader import Batch, Column, ColumnData, Columns, Strings
from wire.feeding import check_error

MAX_BATCH_BYTES = 1 << 25


class StringColumn:
    """The strings of one column, by what the reader promises of codes.

    Args:
        name: The column's name.

    Attributes:
        texts: The strings of all rows so far.
    """

    def __init__(self, name: str) -> None:
        self.texts: list[str] = []
        self._is_ids = name == "ids"
        self._names: list[str] = []
        self._used = 0  # of the names
        self._told: Strings | None = None

    def tell(self, event: Strings) -> None:
        """Take what the next codes mean; an event may also say nothing."""
        if event.rows is None and not event.names:
            return
        assert self._told is None
        assert (event.rows is not None, bool(event.names)) == (self._is_ids, not self._is_ids)
        self._told = event
        self._names += event.names
        assert len(set(self._names)) == len(self._names)

    def write(self, event: ColumnData) -> None:
        """Take codes, and check them."""
        codes = np.frombuffer(event.data, "<i8").tolist()
        assert 0 < len(codes) <= PART_ROWS
        if not self._is_ids:
            for code in codes:
                assert 0 <= code <= self._used
                self._used = max(self._used, code + 1)
            assert self._used == len(self._names)
            self.texts += [self._names[code] for code in codes]
        else:
            assert self._told is not None
            rows = self._told.rows
            assert rows is not None
            assert len(rows) == len(codes)
            texts = [rows.at(row) for row in range(len(rows))]
            assert rows.nbytes <= sum(len(text.encode()) + 16 for text in texts) + 8
            pairs = sorted(zip(codes, [text.encode() for text in texts], strict=True))
            for (code, text), (next_code, next_text) in pairwise(pairs):
                assert (code < next_code) == (text < next_text)
                assert text <= next_text
            self.texts += texts
        self._told = None


def read(chunks: Iterable[bytes], **limits: int) -> tuple[tuple[Column, ...], dict[str, list[Any]]]:
    """Return the columns of a stream, and their values in all batches."""
    reader = ArrowReader(options={}, **{"max_batch_bytes": MAX_BATCH_BYTES, **limits})
    columns: tuple[Column, ...] = ()
    strings: dict[int, StringColumn] = {}
    numbers: dict[int, bytearray] = {}
    rows = 0
    for chunk in chunks:
        for event in reader.feed(chunk):
            match event:
                case Columns():
                    columns = event.columns
                    strings = {i: StringColumn(c.name) for i, c in enumerate(columns) if c.strings}
                    numbers = {i: bytearray() for i, c in enumerate(columns) if not c.strings}
                case Batch():
                    rows += event.rows
                case Strings():
                    strings[event.column].tell(event)
                case ColumnData() if event.column in strings:
                    strings[event.column].write(event)
                case ColumnData():
                    numbers[event.column] += event.data
    reader.finish()
    values: dict[int, list[Any]] = {i: column.texts for i, column in strings.items()}
    for i, data in numbers.items():
        dtype = np.dtype(columns[i].dtype).newbyteorder(">" if columns[i].big_endian else "<")
        values[i] = np.frombuffer(bytes(data), dtype).tolist()
    assert [len(values[i]) for i in range(len(columns))] == [rows * column.elements for column in columns]
    return columns, {column.name: values[i] for i, column in enumerate(columns)}


def refusal(chunks: Iterable[bytes], **limits: int) -> RequestError:
    """Return the error of a stream that is refused."""
    with pytest.raises(RequestError) as caught:
        read(chunks, **limits)
    check_error(caught.value)
    return caught.value
