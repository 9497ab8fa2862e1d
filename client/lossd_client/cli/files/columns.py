"""Columns of pyarrow as numpy arrays of numbers, or as labels.

A column of an extension type is refused unless the type's meaning is known here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.data_file import Column, Kind
from lossd_client.cli.files.errors import BadFile

_EXTENSION: Final = b"ARROW:extension:name"  # of a field whose extension type pyarrow does not know
_BFLOAT16_NAN: Final = 0x7FC0


def dimensions(kind: Any) -> int:  # noqa: ANN401 - a pyarrow type
    """Return how many dimensions a column of a type has, rows included."""
    import pyarrow as pa

    if isinstance(kind, pa.FixedShapeTensorType):
        return 1 + len(kind.shape)
    kind = _plain(kind)
    return 1 + dimensions(kind.value_type) if _is_list(kind) else 1


def row_bytes(kind: Any, nulls: bool = False) -> int | None:  # noqa: ANN401
    """Return the bytes of a value; None if lists have no fixed length.

    Args:
        kind: A pyarrow type.
        nulls: Whether it is read as floats in any case.
    """
    import pyarrow as pa

    kind = _plain(kind)
    if _is_list(kind):
        inner = row_bytes(kind.value_type, nulls)
        return kind.list_size * inner if inner and pa.types.is_fixed_size_list(kind) else None
    try:
        width = max(1, int(kind.bit_width) // 8)
    except ValueError:  # text, whose lengths differ
        return 16
    return width if not nulls or pa.types.is_floating(kind) else 8


def leaf(kind: Any) -> Any:  # noqa: ANN401 - a pyarrow type
    """Return the type of a column's single values, or of its lists' values."""
    kind = _plain(kind)
    return leaf(kind.value_type) if _is_list(kind) else kind


def is_whole(kind: Any) -> bool:  # noqa: ANN401 - a pyarrow type
    """Return whether a type is of integers or bools."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def refuse_meanings(field: Any, where: str) -> None:  # noqa: ANN401 - a pyarrow field
    """Refuse a column whose type, or whose lists' type, has an unknown meaning.

    Raises:
        BadFile: It has such a type.
    """
    import pyarrow as pa

    known = (pa.FixedShapeTensorType, pa.Bool8Type)
    name = (field.metadata or {}).get(_EXTENSION, b"").decode(errors="replace")
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(kind, pa.BaseExtensionType):
        if isinstance(kind, known):
            kind = kind.storage_type
        else:
            name = kind.extension_name
    if name:
        what = (
            f"{where} has extension type {name}, stored as {_plain(kind)}; what that stands for is not known"
        )
        raise BadFile(f"{what}: save the numbers that are meant as plain numbers, or lists of them")
    if _is_list(kind):
        refuse_meanings(kind.value_field, where)


def _is_list(kind: Any) -> bool:  # noqa: ANN401
    import pyarrow as pa

    types = pa.types
    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind))


def _is_numeric(kind: Any) -> bool:  # noqa: ANN401
    import pyarrow as pa

    types = pa.types
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(is_number or types.is_boolean(kind) or types.is_null(kind))


def _plain(kind: Any) -> Any:  # noqa: ANN401
    """Return the type of the values that a dictionary or an extension type stores."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return _plain(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


@dataclass(frozen=True, slots=True)
class ColumnReader:
    """A reader of a column as arrays: numbers as [N], lists of one length as [N, C], and so on.

    Attributes:
        where: The file and the column, for messages.
        column: What is to be read.
        shape: The shape of the column's rows, if some were read.
        is_bfloat16: Whether its uint16 are the bits of bfloat16.
    """

    where: str
    column: Column
    shape: tuple[int, ...] | None = None
    is_bfloat16: bool = False

    def read(self, values: Any) -> NDArray[Any]:  # noqa: ANN401 - a pyarrow array
        """Return an array of a column's values.

        Raises:
            BadFile: There are nulls, and there may be none; or lists of different lengths, or values that are
                not numbers.
        """
        array = self._read(values, self.shape)
        return array.view("V2") if self.is_bfloat16 and array.dtype == np.uint16 else array

    def _read(self, values: Any, shape: tuple[int, ...] | None) -> NDArray[Any]:  # noqa: ANN401
        import pyarrow as pa

        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if isinstance(values.type, pa.FixedShapeTensorType):
            return self._tensors(values, shape)
        if isinstance(values.type, pa.Bool8Type):
            values = values.cast(pa.bool_())
        if not (_is_list(values.type) or _is_numeric(values.type)):
            raise BadFile(f"{self.where} has values of type {values.type}, which are not numbers")
        if values.null_count and not self.column.nulls:
            raise BadFile(f"{self.where} has nulls: {self.column.fill}")
        return self._lists(values, shape) if _is_list(values.type) else self._numbers(values)

    def _tensors(self, values: Any, shape: tuple[int, ...] | None) -> NDArray[Any]:  # noqa: ANN401
        """Return tensors of one shape, whose axes may be stored in another order."""
        stored = tuple(values.type.shape)
        inner = shape and (math.prod(stored),)
        array = self._read(values.storage, inner).reshape((-1, *stored))
        order = values.type.permutation
        if order is None:
            return array
        self._check_order(stored, order)
        return array.transpose(0, *(axis + 1 for axis in order))

    def _check_order(self, stored: tuple[int, ...], order: Sequence[int]) -> None:
        """Refuse an order of axes that could mean two things.

        Arrow says that the tensor's axis i is the stored axis order[i]; pyarrow writes the inverse of that,
        and reads neither back. Where two axes are swapped, all of these are the same.
        """
        inverse = [order.index(axis) for axis in range(len(order))]
        steps = [math.prod(stored[axis + 1 :]) for axis in range(len(stored))]
        axes = [(length, step if length > 1 else 0) for length, step in zip(stored, steps, strict=True)]
        if [axes[axis] for axis in order] != [axes[axis] for axis in inverse]:
            what = f"{self.where} has tensors whose axes are permuted by {list(order)}"
            remedy = "write them without a permutation, as of np.ascontiguousarray(tensors)"
            raise BadFile(f"{what}, which writers understand in two ways: {remedy}")

    def _lists(self, values: Any, shape: tuple[int, ...] | None) -> NDArray[Any]:  # noqa: ANN401
        import pyarrow as pa

        inner = shape[1:] if shape else None
        there = ~_is_null(values)
        if pa.types.is_fixed_size_list(values.type):
            length = values.type.list_size
            full = values if there.all() else values.filter(pa.array(there))
            items = self._read(full.flatten(), inner)
        else:
            length = self._length(values, there, shape)
            items = self._read(values.flatten(), inner)
        rows = items.reshape((int(there.sum()), length, *items.shape[1:]))
        if there.all():
            return rows
        array = np.full((len(values), *rows.shape[1:]), self._missing(rows.dtype), dtype=rows.dtype)
        array[there] = rows
        return array

    def _length(self, values: Any, there: NDArray[np.bool_], shape: tuple[int, ...] | None) -> int:  # noqa: ANN401
        lengths = values.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)[there]
        if (lengths != lengths[:1]).any():
            other = lengths[lengths != lengths[0]][0]
            raise BadFile(f"{self.where} has lists of {lengths[0]} and of {other}; all must be of one length")
        if lengths.size:
            return int(lengths[0])
        if shape:
            return shape[0]
        if len(values):
            what = "has nulls in place of whole lists, and no list comes first that tells their length"
            raise BadFile(f"{self.where} {what}: write lists of nulls")
        return 0

    def _numbers(self, values: Any) -> NDArray[Any]:  # noqa: ANN401
        import pyarrow as pa

        kind, types = values.type, pa.types
        if types.is_null(kind):
            values = values.cast(pa.float64())
        elif types.is_decimal(kind):
            values = self._of_decimals(values)
        if not self.column.nulls:
            array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
            return array
        absent = _is_null(values)
        filled = values.fill_null(False if types.is_boolean(kind) else 0) if absent.any() else values
        array = np.asarray(filled.to_numpy(zero_copy_only=False))
        if array.dtype.kind != "f" and not (self.is_bfloat16 and array.dtype == np.uint16):
            array = array.astype(np.float64)  # in every block, whether there are nulls in it or not
        if absent.any():
            array = np.where(absent, np.asarray(self._missing(array.dtype), dtype=array.dtype), array)
        return array

    def _missing(self, dtype: np.dtype[Any]) -> float:
        return _BFLOAT16_NAN if dtype.kind == "u" else math.nan

    def _of_decimals(self, values: Any) -> Any:  # noqa: ANN401
        """Return decimals as the nearest float64, or as integers for flags."""
        import pyarrow as pa

        if self.column.kind is Kind.FLAG and values.type.scale == 0:
            return values.cast(pa.int64())
        try:
            # pyarrow's own way from decimals to floats rounds more than once; that from text does not.
            return values.cast(pa.string()).cast(pa.float64())
        except pa.ArrowException:  # it writes no decimals of such a scale, or type
            found = [None if value is None else float(str(value)) for value in values.to_pylist()]
            return pa.array(found, pa.float64())


def _is_null(values: Any) -> NDArray[np.bool_]:  # noqa: ANN401
    found: NDArray[np.bool_] = values.is_null().to_numpy(zero_copy_only=False)
    return found


def as_labels(values: Any) -> NDArray[Any]:  # noqa: ANN401 - a pyarrow array
    """Return a column's values as Python objects; those of extension types as stored, UUIDs as text."""
    import pyarrow as pa

    if isinstance(values.type, pa.BaseExtensionType):
        if values.type.extension_name == "arrow.uuid":
            return _objects([None if value is None else str(value) for value in values.to_pylist()])
        values = values.storage
    if pa.types.is_nested(values.type):
        return _objects([None if value is None else str(value) for value in values.to_pylist()])
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode(null_encoding="encode")
    found = _objects([*values.dictionary.to_pylist(), None])
    codes = values.indices.fill_null(len(values.dictionary))
    result: NDArray[Any] = found[codes.to_numpy(zero_copy_only=False)]
    return result


def _objects(values: list[Any]) -> NDArray[Any]:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
