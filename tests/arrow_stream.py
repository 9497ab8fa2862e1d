"""Arrow streams for tests, written by pyarrow."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def table(tensors: Mapping[str, npt.NDArray[Any]]) -> pa.Table:
    """A column a tensor: lists, but plain for one dimension, or one number a row beside wider ones."""
    widest = max(array.shape[1] if array.ndim == 2 else 0 for array in tensors.values())
    columns: list[pa.Array[Any]] = []
    for array in tensors.values():
        plain = array.ndim == 1 or array.shape[1] == 1 < widest
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        columns.append(flat if plain else pa.FixedSizeListArray.from_arrays(flat, array.shape[1]))
    return pa.table(columns, names=list(tensors))


def stream(tensors: Mapping[str, npt.NDArray[Any]], rows: int) -> bytes:
    """All of them as a stream, with batches of at most so many rows."""
    whole = table(tensors)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=rows)
    return sink.getvalue()
