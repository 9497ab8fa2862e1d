"""Batches as an Arrow IPC stream, a column a tensor, in pieces as they come.

pyarrow is imported when the first stream is made: the base install does without.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client.arrays import dtype_name
from lossd_client.foreign import BFLOAT16

DEFAULT_BATCH_BYTES: Final = 32 << 20
_HEADROOM: Final = 0.9  # for padding, and for the bits of bool columns that do not fill a byte
_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class ArrowEncoder:
    """Turns batch after batch into the bytes of one stream.

    Args:
        batch_bytes: How many bytes the server takes in one record batch.

    Attributes:
        shape: That of the rows encoded so far.
        batches: How many record batches they went into.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """

    def __init__(self, batch_bytes: int) -> None:
        try:
            import pyarrow
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "score_stream needs pyarrow: pip install 'lossd[arrow]'", name="pyarrow"
            ) from error
        self._arrow: Any = pyarrow
        self._batch_bytes = batch_bytes
        self._schema: Any = None
        self._first: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.shape: tuple[int, ...] = ()
        self.batches = 0

    def encode(self, tensors: Mapping[str, NDArray[Any]]) -> Iterator[bytes]:
        """Gives the next batch's bytes, cut to what the server takes.

        Raises:
            TypeError: A tensor or dtype differs from the first batch's.
            ValueError: A tensor has other than one or two dimensions, or other columns or rows.
        """
        self._compare(tensors)
        rows = next(iter(tensors.values())).shape[0]
        if self._schema is None:
            fields = [self._field(name, array) for name, array in tensors.items()]
            self._schema = self._arrow.schema(fields)
            yield self._schema.serialize().to_pybytes()
        row_bytes = sum(array.nbytes for array in tensors.values()) // max(rows, 1)
        step = max(1, int(self._batch_bytes * _HEADROOM) // max(row_bytes, 1))
        for start in range(0, rows, step):
            columns = [self._column(array[start : start + step]) for array in tensors.values()]
            batch = self._arrow.record_batch(columns, schema=self._schema)
            self.batches += 1
            yield batch.serialize().to_pybytes()
            self.shape = (self.shape[0] + batch.num_rows, *self.shape[1:])

    def end(self) -> bytes:
        """Gives the bytes after the last batch.

        Raises:
            ValueError: There was none.
        """
        if self._schema is None:
            raise ValueError("there are no batches to score")
        return _END

    def _compare(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        sizes = {array.shape[0] if array.ndim else 0 for array in tensors.values()}
        if any(array.ndim not in (1, 2) for array in tensors.values()) or len(sizes) != 1:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in tensors.items())
            raise ValueError(f"an Arrow stream has tensors of shape [N] or [N, C], with the same N: {shapes}")
        kinds = {name: (dtype_name(array.dtype), array.shape[1:]) for name, array in tensors.items()}
        if not self._first:
            self._first = kinds
            self.shape = (0, *next(iter(tensors.values())).shape[1:])
        for name, kind in (self._first | kinds).items():
            if kinds.get(name) != self._first.get(name):
                raise TypeError(
                    f"{name} is {kind} in one batch and {self._first.get(name)} in the first; a stream's "
                    "batches must have the same tensors, dtypes and columns"
                )

    def _field(self, name: str, array: NDArray[Any]) -> Any:  # noqa: ANN401 - pyarrow is optional
        metadata = {"lossd.dtype": "bfloat16"} if array.dtype == BFLOAT16 else None
        return self._arrow.field(name, self._column(array[:0]).type, nullable=False, metadata=metadata)

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
