"""Columns that are handed out otherwise than they came: strings as codes, and dictionary-encoded columns.

In a column of groups a string becomes the number of its first appearance among the distinct ones; in ``ids``
strings become codes that sort as they do. A dictionary-encoded column holds indices into a dictionary, which
comes in messages of its own before them: a first batch, then more to append to it (deltas) or to replace it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lossd.error_text import pointer
from lossd.types import ErrorCode, RequestError
from lossd.wire.arrow.dictionary import Dictionary, Growing
from lossd.wire.arrow.flatbuffer import LONG, UBYTE, Table
from lossd.wire.arrow.record_batch import Collected, Span
from lossd.wire.arrow.schema import STRINGS, Field, malformed
from lossd.wire.arrow.strings import ranks, read_strings, texts
from lossd.wire.reader import ColumnData, StringRows, Strings

_ID, _DATA, _IS_DELTA = range(3)  # DictionaryBatch, as in Message.fbs
_MEAN_BYTES: Final = 64
"""The most bytes of a column's distinct strings, on average if there are as many as there may be."""

_Part: TypeAlias = tuple[Strings | None, npt.NDArray[Any]]
"""What strings mean, and the values or codes of some rows."""


class _Coder(Protocol):
    """Maker of what is handed out for a column."""

    def parts(self, column: Collected) -> Iterator[_Part]:
        """Yield the rows of a batch, some at a time."""


class CodedColumns:
    """The columns of one stream that are handed out otherwise than they came, and their dictionaries."""

    def __init__(self, fields: Sequence[Field], max_batch_bytes: int, max_strings: int) -> None:
        """Expect batches.

        Args:
            fields: All columns of the stream.
            max_batch_bytes: The longest body of a batch, and the most bytes of a dictionary.
            max_strings: The most distinct strings of a column of groups, and entries of a dictionary.

        Raises:
            RequestError: ``malformed_arrow``: columns of different types share a dictionary.
        """
        self._dictionaries: dict[int, Dictionary] = {}
        self._coders: dict[int, _Coder] = {}
        self._read: Dictionary | None = None  # the one whose batch came last
        for index, field in enumerate(fields):
            if field.plain:
                continue
            dictionary = None
            if field.dictionary is not None:
                made = Dictionary(index, field.values(), max_batch_bytes, max_strings)
                dictionary = self._dictionaries.setdefault(field.dictionary, made)
                if dictionary.kind != field.kind:
                    raise malformed(f"{field.column.name} has the dictionary of a column of another type")
            self._coders[index] = _coder(field, dictionary, max_strings)

    def read_dictionary(self, header: Table, body_bytes: int, position: int) -> list[Span]:
        """Read the metadata of a dictionary batch, and return the spans of its body.

        Raises:
            RequestError: As `RecordBatches.read`.
            FlatBufferError: It cannot be read.
        """
        number = header.number(_ID, LONG)
        data = header.table(_DATA)
        if number not in self._dictionaries or data is None:
            raise malformed(f"a batch of dictionary {number}, which no column has")
        self._read = self._dictionaries[number]
        return self._read.begin(data, body_bytes, position, delta=header.number(_IS_DELTA, UBYTE) != 0)

    def read(self, column: Collected) -> Iterator[Strings | ColumnData]:
        """Yield the data of a column of a record batch, and what they mean."""
        for strings, values in self._coders[column.column].parts(column):
            if strings is not None:
                yield strings
            little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
            yield ColumnData(column.column, little.view(np.uint8).data)

    def extend_dictionary(self, entries: Collected) -> Iterator[Strings]:
        """Take the entries of the dictionary whose batch came last; yield no strings, but at times."""
        assert self._read is not None
        for _ in self._read.extend(entries):
            yield Strings(entries.column)


class _Integers:
    """A column of integers that are in a dictionary."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary

    def parts(self, column: Collected) -> Iterator[_Part]:
        for indices in self._dictionary.indices(column):
            yield None, self._dictionary.values[indices]


class _Ids:
    """A column of strings whose codes sort as they do.

    Args:
        dictionary: Its dictionary, if it has one.
    """

    def __init__(self, dictionary: Dictionary | None) -> None:
        self._dictionary = dictionary

    def parts(self, column: Collected) -> Iterator[_Part]:
        if self._dictionary is None:
            for rows in read_strings(column):
                yield Strings(column.column, rows=rows), ranks(rows)
            return
        for indices in self._dictionary.indices(column):
            entries, index = np.unique(indices, return_inverse=True)
            strings = self._dictionary.strings(entries)
            rows = StringRows(strings.data, strings.offsets, index)
            yield Strings(column.column, rows=rows), ranks(strings)[index]


class _Groups:
    """A column of strings that are numbered in the order in which they appear.

    Args:
        dictionary: Its dictionary, if it has one.
        max_strings: The most distinct strings.
    """

    def __init__(self, dictionary: Dictionary | None, max_strings: int) -> None:
        self._dictionary = dictionary
        self._max_strings = max_strings
        self._numbers: dict[bytes, int] = {}
        self._bytes = 0  # of all of them
        self._version = 0  # of the dictionary
        self._of_entries = Growing(np.int64)  # the numbers of its entries; -1 for those that no row had

    def parts(self, column: Collected) -> Iterator[_Part]:
        if self._dictionary is None:
            for rows in read_strings(column):
                yield self._number(rows, column)
            return
        self._follow(self._dictionary)
        numbers = self._of_entries.array
        for indices in self._dictionary.indices(column):
            strings = None
            new = indices[numbers[indices] < 0]
            if len(new):
                entries = np.array([*dict.fromkeys(new.tolist())])
                strings, numbers[entries] = self._number(self._dictionary.strings(entries), column)
            yield strings, numbers[indices]

    def _follow(self, dictionary: Dictionary) -> None:
        """Have a place for the number of each entry that the dictionary has now."""
        if self._version != dictionary.version:
            self._version = dictionary.version
            self._of_entries.clear()
        self._of_entries.extend(np.full(len(dictionary) - len(self._of_entries), -1))

    def _number(self, strings: StringRows, column: Collected) -> _Part:
        """Return the strings' numbers, and which of them are new."""
        numbers = self._numbers
        known = len(numbers)
        codes = [numbers.setdefault(text, len(numbers)) for text in texts(strings)]
        new = [*islice(reversed(numbers), len(numbers) - known)][::-1]
        self._bytes += sum(map(len, new))
        if len(numbers) > self._max_strings or self._bytes > _MEAN_BYTES * self._max_strings:
            raise self._too_many(column.field.column.name)
        names = tuple(str(text, "utf-8") for text in new)
        return Strings(column.column, names) if names else None, np.array(codes, np.int64)

    def _too_many(self, name: str) -> RequestError:
        most = f"{self._max_strings} of {_MEAN_BYTES * self._max_strings} bytes in all"
        detail = (
            f"the report's groups would be too many: {name} has {len(self._numbers)} different strings of "
            f"{self._bytes} bytes so far, at most {most} are taken; group by something coarser, or leave "
            "the column out"
        )
        seen = f"more than {self._max_strings} different strings, or of too many bytes"
        return RequestError(ErrorCode.OUTPUT_TOO_LARGE, detail, [(pointer(name), seen)])


def _coder(field: Field, dictionary: Dictionary | None, max_strings: int) -> _Coder:
    if field.kind not in STRINGS:
        assert dictionary is not None
        return _Integers(dictionary)
    return _Ids(dictionary) if field.column.name == "ids" else _Groups(dictionary, max_strings)
