"""One table, scored as the service scores an Arrow stream: by the same reader, checks, kernels and sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Final

import msgspec
import numpy as np

from lossd.batch.state import ColumnOf, Question, State
from lossd.batch.sums import Sums
from lossd.core.kernel import Kernel
from lossd.engine.admission.arena import aligned
from lossd.types import Float64Array, Tensor
from lossd.wire import STREAMS, Batch, Chunk, Column, Columns, StringRows, Strings

_ARROW: Final = "application/vnd.apache.arrow.stream"
_NO_LIMIT: Final = 1 << 62  # batches are in memory already


class Scoring:
    """The rows of one table, read from an Arrow stream.

    Args:
        question: What is asked, without columns.
        kernel: The kernel.
        max_strings: The most distinct strings of a column of groups.
    """

    def __init__(self, question: Question, kernel: Kernel, max_strings: int) -> None:
        self._question = question
        self._kernel = kernel
        self._reader = STREAMS[_ARROW].reader(options={}, max_batch_bytes=_NO_LIMIT, max_strings=max_strings)
        self._columns: tuple[Column, ...] = ()
        self._rows: _Rows | None = None  # those that are being read
        self._sums: Sums | None = None

    def feed(self, pieces: Iterable[Chunk]) -> None:
        """Take bytes of the stream, and score the batches that are complete.

        Raises:
            RequestError: As for a request of these rows.
        """
        for piece in pieces:
            for event in self._reader.feed(piece):
                if isinstance(event, Columns):
                    self._columns = event.columns
                    columns = tuple(map(_column_of, event.columns))
                    self._sums = Sums(msgspec.structs.replace(self._question, columns=columns))
                elif isinstance(event, Batch):
                    self._score()
                    self._rows = _Rows(self.sums.request.tensors, self.sums.lists, event.rows)
                elif isinstance(event, Strings):
                    self._take_strings(event)
                else:
                    assert self._rows is not None
                    self._rows.write(event.column, event.data)

    def finish(self) -> State:
        """Return the figures of all rows, after the stream's last byte was fed."""
        self._reader.finish()
        self._score()
        return self.sums.state()

    @property
    def sums(self) -> Sums:
        """The sums so far; the columns must have come."""
        assert self._sums is not None
        return self._sums

    def _take_strings(self, strings: Strings) -> None:
        if strings.names:
            self.sums.strings[self._columns[strings.column].name] += strings.names
        if strings.rows is not None:
            assert self._rows is not None
            self._rows.names.append(strings.rows)

    def _score(self) -> None:
        """Score the rows that were read."""
        if self._rows is not None:
            for tensors, rows, names in self._rows.runs():
                self.sums.score(self._kernel, self._rows.memory, tensors, rows, names)


def _column_of(column: Column) -> ColumnOf:
    return ColumnOf(column.name, column.dtype, column.width, column.strings)


class _Rows:
    """The rows of a batch, each tensor's in one piece of memory.

    Attributes:
        names: The string ids of runs of rows. Their codes may be compared within a run only.

    Args:
        tensors: A tensor of one row's shape for each column.
        lists: The lists of numbers among the parameters, which every row needs.
        count: The number of rows.
    """

    def __init__(self, tensors: Mapping[str, Tensor], lists: Mapping[str, Float64Array], count: int) -> None:
        self.names: Final[list[StringRows]] = []
        self._tensors = tensors
        self._count = count
        sizes = [tensor.nbytes * count for tensor in tensors.values()] + [
            its.nbytes for its in lists.values()
        ]
        *starts, end = accumulate(map(aligned, sizes), initial=0)
        self._starts = starts[: len(tensors)]
        self._ends = list(self._starts)  # of what is written
        self._memory = np.empty(end, np.uint8)
        self._lists: dict[str, Tensor] = {}
        for (name, numbers), start in zip(lists.items(), starts[len(tensors) :], strict=True):
            self._memory[start : start + numbers.nbytes] = numbers.view(np.uint8)
            self._lists[name] = Tensor("float64", numbers.shape, start)

    @property
    def memory(self) -> memoryview:
        """The memory that the tensors' offsets count from."""
        return self._memory.data

    def write(self, column: int, data: Chunk) -> None:
        """Write the next bytes of a column."""
        start = self._ends[column]
        stop = self._ends[column] = start + len(data)
        self._memory[start:stop] = np.frombuffer(data, np.uint8)

    def runs(self) -> Iterator[tuple[dict[str, Tensor], int, StringRows | None]]:
        """Yield runs of rows whose ids may be compared: tensors, the number of rows, string ids."""
        stops = accumulate(map(len, self.names), initial=0) if self.names else (0, self._count)
        names: list[StringRows | None] = [*self.names] or [None]
        for (first, stop), its in zip(pairwise(stops), names, strict=True):
            tensors = {
                name: replace(
                    tensor, shape=(stop - first, *tensor.shape), offset=start + first * tensor.nbytes
                )
                for (name, tensor), start in zip(self._tensors.items(), self._starts, strict=True)
            }
            yield tensors | self._lists, stop - first, its
