"""The answers: the whole result as JSON, or the loss alone as a .npy file.

JSON has no word for infinities and NaN: they are written as the strings ``"Infinity"``, ``"-Infinity"`` and
``"NaN"``. Every other float64 is written in the shortest form that reads back to the same bits.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import orjson

from lossd.request import Fault, Float64Array, LossResult

_MOST_EMPTY_LISTS: Final = 1 << 20  # a shape such as [2^40, 0] costs its sender nothing

_DESCRIPTORS: Final[Mapping[str, str]] = {"float64": "<f8", "float32": "<f4"}


def write_json(result: LossResult, *, request_id: str, version: str) -> bytes:
    """The result as a JSON object.

    Args:
        result: What to write.
        request_id: The request's name, to be found in logs.
        version: The service's version.

    Raises:
        Fault: ``output_too_large``: the loss has no elements, in more empty lists than are worth writing.
    """
    loss = result.loss
    written = write_array(loss) if isinstance(loss, np.ndarray) else orjson.dumps(_plain(float(loss)))
    answer = {
        "loss": orjson.Fragment(written),
        "reduction": result.reduction,
        "sum": _plain(result.sum),
        "count": result.count,
        "weight_sum": _plain(result.weight_sum),
        "positives": _plain(result.positives),
        "shape": list(result.shape),
        "loss_name": result.loss_name,
        "params": _plain(result.params),
        "kernel": result.kernel,
        "device": result.device,
        "request_id": request_id,
        "version": version,
    }
    return orjson.dumps(answer)


def write_npy(loss: float | Float64Array, dtype: str) -> bytes:
    """The loss alone as a .npy file, of no dimensions where it is a number.

    Args:
        loss: What to write.
        dtype: ``float64``, or ``float32`` to round to the nearest; what is too large becomes infinite.
    """
    array = np.asarray(loss, dtype=np.float64)
    with np.errstate(over="ignore"):
        return write_npy_header(array.shape, dtype) + array.astype(_DESCRIPTORS[dtype]).tobytes()


def write_npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """All of a .npy file that goes before the elements, which are to follow in C order, little-endian.

    Args:
        shape: Of the array.
        dtype: ``float64`` or ``float32``.
    """
    header = io.BytesIO()
    fields = {"descr": _DESCRIPTORS[dtype], "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def write_array(array: Float64Array) -> bytes:
    """Nested arrays. orjson writes null where a number is not finite; these are named one after the other."""
    contiguous = np.ascontiguousarray(array, dtype=np.float64).reshape(array.shape)
    # orjson's own way with numpy arrays knows no empty ones and none of no dimensions.
    source = contiguous if contiguous.ndim and contiguous.size else _as_lists(contiguous)
    text = orjson.dumps(source, option=orjson.OPT_SERIALIZE_NUMPY)
    odd = contiguous[~np.isfinite(contiguous)].tolist()
    if not odd:
        return text
    pieces = text.split(b"null")
    named = [orjson.dumps(_plain(value)) for value in odd]
    return b"".join(piece + name for piece, name in zip(pieces, [*named, b""], strict=True))


def _as_lists(array: Float64Array) -> object:
    lists = math.prod(itertools.takewhile(bool, array.shape))
    if array.size == 0 and lists > _MOST_EMPTY_LISTS:
        detail = f"the answer is {lists} empty lists; accept application/x-npy, or reduce"
        raise Fault("output_too_large", detail)
    return array.tolist()


def _plain(value: object) -> object:
    """A value as JSON can write it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
