"""Requests for `lossd bench`: the same elements in each format that the server takes."""

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client import Request
from lossd_client._http.media_types import ARROW, JSON, NPY
from lossd_client.cli.extras import has_pyarrow

_COLUMNS: Final = 10
_POSITIVE: Final = 0.1
_PATH: Final = "/focal"


def formats() -> tuple[str, ...]:
    """Return the formats that can be made here."""
    return tuple(name for name in _BODIES if name != "arrow" or has_pyarrow())


def rounded(elements: int) -> int:
    """Return the number of elements in whole rows."""
    return max(1, elements // _COLUMNS) * _COLUMNS


def request_of(form: str, elements: int, base_url: str, headers: Mapping[str, str]) -> Request:
    """Return a request of random elements, rounded to whole rows."""
    random = np.random.default_rng(0)
    shape = (rounded(elements) // _COLUMNS, _COLUMNS)
    logits = random.normal(size=shape).astype(np.float32)
    media_type, query, body = _BODIES[form](logits, random.random(shape) < _POSITIVE)
    return Request(
        "POST",
        _PATH,
        query=query,
        headers={**headers, "Content-Type": media_type, "Accept": JSON},
        body=(body,),
        base_url=base_url,
    )


_Body = tuple[str, tuple[tuple[str, str], ...], bytes]


def _npy(logits: NDArray[Any], targets: NDArray[Any]) -> _Body:
    buffer = io.BytesIO()
    np.save(buffer, logits)
    np.save(buffer, targets)
    return NPY, (("tensors", "logits,targets"),), buffer.getvalue()


def _npy_floats(logits: NDArray[Any], targets: NDArray[Any]) -> _Body:
    return _npy(logits, targets.astype(np.float32))


def _json(logits: NDArray[Any], targets: NDArray[Any]) -> _Body:
    body = json.dumps({"logits": logits.tolist(), "targets": targets.tolist()})
    return JSON, (), body.encode()


def _arrow(logits: NDArray[Any], targets: NDArray[Any]) -> _Body:
    import pyarrow as pa

    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), _COLUMNS)
        for name, array in (("logits", logits), ("targets", targets))
    }
    table, sink = pa.table(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1 << 16)
    return ARROW, (), sink.getvalue().to_pybytes()


_BODIES: Final[Mapping[str, Callable[[NDArray[Any], NDArray[Any]], _Body]]] = {
    "npy float32": _npy_floats,
    "npy, targets bool": _npy,
    "arrow": _arrow,
    "json": _json,
}
