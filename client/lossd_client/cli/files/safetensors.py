"""safetensors files: a JSON header, and arrays behind it."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import numpy as np

from lossd_client.cli.files.arrays import ArraysFile, Member, StoredArray
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location

_DTYPES: Final = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "V2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


class SafetensorsFile(ArraysFile):
    """A .safetensors file: arrays by name.

    Raises:
        BadFile: It is not one.
    """

    def __init__(self, location: Location) -> None:
        with location.errors(), location.open() as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(_read(file, size))
            end = file.seek(0, 2) - 8 - size
            members = {
                name: _stored(location, name, about, 8 + size, end)
                for name, about in header.items()
                if name != "__metadata__"
            }
        if not members:
            raise BadFile(f"{location} has no tensors")
        super().__init__(location, members)


def _read(file: BinaryIO, size: int) -> bytes:
    pieces = []
    while size:
        piece = file.read(size)
        if not piece:
            raise ValueError("it ends within its header")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _stored(location: Location, name: str, about: Mapping[str, Any], data: int, size: int) -> Member:
    if about["dtype"] not in _DTYPES:
        return f"has dtype {about['dtype']}"
    dtype, shape = np.dtype(_DTYPES[about["dtype"]]), tuple(int(length) for length in about["shape"])
    first, last = about["data_offsets"]
    if not 0 <= first <= last <= size or last - first != dtype.itemsize * math.prod(shape):
        raise ValueError(f"the header does not fit tensor {name!r}: the file is cut off or damaged")

    @contextmanager
    def at_data() -> Iterator[BinaryIO]:
        with location.open() as opened:
            opened.seek(data + first)
            yield opened

    return StoredArray(dtype, shape, at_data)
