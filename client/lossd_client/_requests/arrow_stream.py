"""Batches as an Arrow IPC stream: a column for each tensor, encoded batch by batch.

pyarrow is imported when the first stream is made: the base install does without.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import BFLOAT16, dtype_name
from lossd_client._extras import needs

DEFAULT_BATCH_BYTES: Final = 32 << 20
_HEADROOM: Final = 0.9  # for padding, and for the bits of bool columns that do not fill a byte
_ALIKE: Final = "a stream's batches must have the same tensors, dtypes and columns"
_NONE: Final[Mapping[str, Any]] = {}
_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"

LabelColumns: TypeAlias = Mapping[str, tuple[NDArray[Any], Sequence[str] | None]]
"""Integers of rows by the name of their column, and the strings that they stand for, if they do."""


def _kind(dtype: str, columns: tuple[int, ...]) -> str:
    """Return the text of a tensor's dtype and columns."""
    return f"{dtype} of {columns[0]} columns" if columns else dtype


def _reshaping(name: str, given: tuple[int, ...], shape: tuple[int, ...], *, has_fewer: bool) -> str:
    """Return how to give a tensor the dimensions of the inputs, or "" where its rows differ, too."""
    if has_fewer and name == "targets":
        return "class ids have one dimension less than the inputs"
    if has_fewer:
        return f"a {name} is one a row, of shape [N]: send {name}[:, 0] if it has one column"
    if len(given) == 2:
        nothing = "[N, 1] is no [N], and nothing is broadcast: " if name == "targets" else ""
        return f"{nothing}of one column send {name}[:, 0]"
    if name == "targets":
        if shape[1] == 1:
            return "[N] is no [N, 1], and nothing is broadcast: send targets[:, None]"
        return "send targets in the inputs' shape, or class ids with targets_format='index'"
    ways = [f"send {name}[:, None] for one a row"] if given[0] == shape[0] else []
    if given[0] in (1, shape[1]):
        ways.append(f"send np.broadcast_to({name}, {shape}) for {'one a class' if given[0] > 1 else 'all'}")
    return ", ".join(ways)


class ArrowEncoder:
    """An encoder of batches into the bytes of one stream.

    Args:
        batch_bytes: The bytes that the server takes in one record batch.

    Attributes:
        shape: The shape of the rows encoded so far.
        batches: The number of record batches.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """

    def __init__(self, batch_bytes: int) -> None:
        with needs("score_stream", "arrow"):
            import pyarrow
        self._arrow: Any = pyarrow
        self._batch_bytes = batch_bytes
        self._schema: Any = None
        self._first: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.shape: tuple[int, ...] = ()
        self.batches = 0

    def encode(
        self, tensors: Mapping[str, NDArray[Any]], dimensions: Mapping[str, int], labels: LabelColumns = _NONE
    ) -> Iterator[bytes]:
        """Yield the bytes of the next batch, in record batches that the server takes.

        Args:
            tensors: The tensors by name, the inputs first.
            dimensions: How many dimensions each should have.
            labels: Groups and ids.

        Raises:
            TypeError: A tensor or dtype differs from the first batch's.
            ValueError: A tensor has other than one or two dimensions, or other dimensions than the inputs, or
                other columns or rows.
        """
        self._check_dimensions(tensors, dimensions)
        self._compare(tensors, labels)
        rows = next(iter(tensors.values())).shape[0]
        named = {name: self._labels(*column) for name, column in labels.items()}
        if self._schema is None:
            fields = [self._field(name, array) for name, array in tensors.items()]
            fields += [self._arrow.field(name, column.type, nullable=False) for name, column in named.items()]
            self._schema = self._arrow.schema(fields)
            yield self._schema.serialize().to_pybytes()
        row_bytes = sum(each.nbytes for each in (*tensors.values(), *named.values())) // max(rows, 1)
        step = max(1, int(self._batch_bytes * _HEADROOM) // max(row_bytes, 1))
        for start in range(0, rows, step):
            columns = [self._column(array[start : start + step]) for array in tensors.values()]
            columns += [column[start : start + step] for column in named.values()]
            batch = self._arrow.record_batch(columns, schema=self._schema)
            self.batches += 1
            yield batch.serialize().to_pybytes()
            self.shape = (self.shape[0] + batch.num_rows, *self.shape[1:])

    def end(self) -> bytes:
        """Return the bytes after the last batch.

        Raises:
            ValueError: There was none.
        """
        if self._schema is None:
            raise ValueError("there are no batches to score")
        return _END

    def _check_dimensions(self, tensors: Mapping[str, NDArray[Any]], dimensions: Mapping[str, int]) -> None:
        """Refuse tensors whose [N] the server would read as one a row, and other calls would broadcast."""
        inputs, shape = next((name, array.shape) for name, array in tensors.items())
        for name, array in tensors.items():
            wanted = dimensions[name]
            if {len(shape), array.ndim} <= {1, 2} and array.ndim != wanted:
                remedy = _reshaping(name, array.shape, shape, has_fewer=wanted < len(shape))
                if remedy:
                    raise ValueError(f"{name} has shape {array.shape}, {inputs} {shape}: {remedy}")

    def _compare(self, tensors: Mapping[str, NDArray[Any]], labels: LabelColumns) -> None:
        sizes = {array.shape[0] if array.ndim else 0 for array in tensors.values()}
        for name, (numbers, _) in labels.items():
            if {len(numbers)} != sizes:
                raise ValueError(f"{name} has {len(numbers)} rows, and the batch {max(sizes)}")
        if any(array.ndim not in (1, 2) for array in tensors.values()) or len(sizes) != 1:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in tensors.items())
            raise ValueError(f"an Arrow stream has tensors of shape [N] or [N, C], with the same N: {shapes}")
        kinds = {name: (dtype_name(array.dtype), array.shape[1:]) for name, array in tensors.items()}
        kinds |= {
            name: (dtype_name(numbers.dtype) if strings is None else "string", ())
            for name, (numbers, strings) in labels.items()
            if len(numbers) or not self._first  # an empty list does not show whether it is of strings
        }
        if not self._first:
            self._first = kinds
            self.shape = (0, *next(iter(tensors.values())).shape[1:])
        for name, kind in (self._first | kinds).items():
            if name not in kinds and sizes == {0} and name in labels:
                continue
            if name not in kinds:
                raise TypeError(f"{name} is missing in a later batch; {_ALIKE}")
            if name not in self._first:
                raise TypeError(f"{name} is in a later batch, and not in the first; {_ALIKE}")
            if kind != self._first[name]:
                raise TypeError(
                    f"{name} is {_kind(*kind)} in one batch and {_kind(*self._first[name])} in the first; "
                    f"{_ALIKE}"
                )

    def _field(self, name: str, array: NDArray[Any]) -> Any:  # noqa: ANN401 - pyarrow is optional
        metadata = {"lossd.dtype": "bfloat16"} if array.dtype == BFLOAT16 else None
        return self._arrow.field(name, self._column(array[:0]).type, nullable=False, metadata=metadata)

    def _labels(self, numbers: NDArray[Any], strings: Sequence[str] | None) -> Any:  # noqa: ANN401 - see above
        column = self._column(numbers)
        if strings is None:
            return column
        texts = self._arrow.array(strings, self._arrow.string())
        # Not a dictionary: a stream would have to replace it from batch to batch.
        return texts.take(column)

    def _column(self, array: NDArray[Any]) -> Any:  # noqa: ANN401 - pyarrow is optional
        if array.dtype == BFLOAT16:
            array = np.ascontiguousarray(array).view(np.uint16)
        elif not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        values = self._arrow.array(np.ascontiguousarray(array).reshape(-1))
        if array.ndim == 1:
            return values
        field = self._arrow.field("item", values.type, nullable=False)
        return self._arrow.FixedSizeListArray.from_arrays(
            values, type=self._arrow.list_(field, array.shape[1])
        )
