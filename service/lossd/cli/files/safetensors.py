"""safetensors: a JSON header, and arrays behind it. Read here, since blocks of rows need no library."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import numpy as np

from lossd.cli.files.arrays import ArraysFile, StoredArray
from lossd.cli.files.errors import BadFile
from lossd.cli.files.place import Place

_MAX_HEADER: Final = 100_000_000  # the format's own limit
_DTYPES: Final = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "V2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


class SafetensorsFile(ArraysFile):
    """A .safetensors file: arrays by name.

    Raises:
        BadFile: It is not one.
    """

    def __init__(self, place: Place) -> None:
        with place.errors(), place.open() as file:
            size = int.from_bytes(file.read(8), "little")
            if size > _MAX_HEADER:
                raise ValueError("its header is larger than the format allows")
            header = json.loads(_read(file, size))
            end = file.seek(0, 2) - 8 - size
            arrays = {
                name: _stored(place, name, about, 8 + size, end)
                for name, about in header.items()
                if name != "__metadata__" and about["dtype"] in _DTYPES
            }
        if not arrays:
            raise BadFile(f"{place} has no tensors of a dtype that losses are computed from")
        super().__init__(place, arrays)


def _read(file: BinaryIO, size: int) -> bytes:
    pieces = []
    while size:
        piece = file.read(size)
        if not piece:
            raise ValueError("it ends within its header")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _stored(place: Place, name: str, about: Mapping[str, Any], data: int, size: int) -> StoredArray:
    dtype, shape = np.dtype(_DTYPES[about["dtype"]]), tuple(int(length) for length in about["shape"])
    first, last = about["data_offsets"]
    if not 0 <= first <= last <= size or last - first != dtype.itemsize * math.prod(shape):
        raise ValueError(f"the header does not fit tensor {name!r}: the file is cut off or damaged")

    @contextmanager
    def at_data() -> Iterator[BinaryIO]:
        with place.open() as opened:
            opened.seek(data + first)
            yield opened

    return StoredArray(dtype, shape, at_data)
