"""The fields of a report, each merged in its own way."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client._exact_sum import ExactSum
from lossd_client.report._json import Json, floats_as_json
from lossd_client.report._merging.difference import difference
from lossd_client.report._merging.keys import Keys, Places
from lossd_client.report._merging.layout import Path, at
from lossd_client.report._merging.sums import SumArray, lengthened

Read: TypeAlias = Any
"""What `Field.read` returns, for `Field.add` alone."""


class Field:
    """A field that is the same in all documents.

    Args:
        path: Where it is.
        document: The first document.
        keys: The keys for each of which it has a number, if it has.
    """

    def __init__(self, path: Path, document: Mapping[str, Json], keys: Keys | None = None) -> None:
        self.path = path
        self.keys = keys
        self.first = at(document, path)

    def read(self, document: Mapping[str, Json], count: int | None) -> Read:
        """Return what a document has here.

        Args:
            document: The document.
            count: How many of the keys it has, if there are any.

        Raises:
            ValueError: It cannot be merged with what was added; the message says why.
        """
        value = at(document, self.path)
        if value != self.first:
            raise unlike(self.path, self.first, value)

    def add(self, read: Read, places: Places | None) -> None:
        """Add what was read, the numbers of keys at their places."""

    def result(self, order: Places | None) -> Json:
        """Return the merged field, the numbers of keys in this order."""
        return self.first


class Shape(Field):
    """A field that is null where documents differ."""

    def read(self, document: Mapping[str, Json], count: int | None) -> Json:
        return at(document, self.path)

    def add(self, read: Json, places: Places | None) -> None:
        if read != self.first:
            self.first = None


class _Numbers(Field):
    """A number, or an array of one shape, or of one such for each key."""

    dtype: type
    planes: int  # axes before the shape

    def __init__(self, path: Path, document: Mapping[str, Json], keys: Keys | None = None) -> None:
        super().__init__(path, document, keys)
        self.shape: tuple[int, ...] | None = None

    def read(self, document: Mapping[str, Json], count: int | None) -> Read:
        if count == 0:
            return None  # an array of nothing does not show its other axes
        name = ".".join(self.path)
        try:
            numbers: NDArray[Any] = np.asarray(at(document, self.path), dtype=self.dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"the report's {name} is no array of numbers: {error}") from error
        shape = numbers.shape[self.planes :]
        if numbers.ndim < self.planes or (count is not None and shape[:1] != (count,)):
            raise ValueError(f"the report's {name} has the shape {list(numbers.shape)}, for {count} keys")
        shape = shape if count is None else shape[1:]
        if self.shape is None:
            self.shape = shape
        elif shape != self.shape:
            raise unlike((*self.path, "shape"), list(self.shape), list(shape))
        return numbers


class Counts(_Numbers):
    """Integers that are added."""

    dtype, planes = np.int64, 0
    _total: NDArray[np.int64] | None = None

    def add(self, read: Read, places: Places | None) -> None:
        if read is None:
            return
        if places is None or self.keys is None:
            self._total = read if self._total is None else self._total + read
            return
        if self._total is None:
            self._total = np.zeros((0, *read.shape[1:]), dtype=np.int64)
        if len(self.keys) > len(self._total):
            self._total = lengthened(self._total, len(self.keys))
        self._total[places] += read

    def result(self, order: Places | None) -> Json:
        if self._total is None:
            return self.first
        return (self._total if order is None else self._total[order]).tolist()


class Terms(_Numbers):
    """Exact sums."""

    dtype, planes = np.float64, 1
    _sums: SumArray | ExactSum | None = None

    def add(self, read: Read, places: Places | None) -> None:
        if read is None:
            return
        if self._sums is None:
            self._sums = (
                SumArray(read.shape[1:] if places is None else (0, *read.shape[2:]))
                if read.ndim > 1
                else ExactSum()
            )
        if isinstance(self._sums, ExactSum):
            self._sums.add(read.tolist())
            return
        if self.keys is not None:
            self._sums.grow(len(self.keys))
        self._sums.add(read, places)

    def result(self, order: Places | None) -> Json:
        if self._sums is None:
            return self.first
        if isinstance(self._sums, ExactSum):
            return floats_as_json(self._sums.terms)
        return floats_as_json(self._sums.terms(order).tolist())


def unlike(path: Path, mine: object, its: object) -> ValueError:
    """Return the error for reports that differ in a field; of mappings, it names the items that differ."""
    return ValueError(f"reports of different {'.'.join(path)} cannot be merged: {difference(mine, its)}")
