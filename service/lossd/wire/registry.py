"""The formats of a request body, by media type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lossd.wire.arrow.stream import ArrowReader
from lossd.wire.json import document
from lossd.wire.multipart.form import MultipartReader
from lossd.wire.npy.npy import NpyReader
from lossd.wire.npy.npz import NpzReader
from lossd.wire.reader import ReaderFactory, StreamReaderFactory


@dataclass(frozen=True, slots=True)
class Format:
    """A format of bodies that are stored whole.

    Attributes:
        name: A short name, for metrics and logs.
        reader: Maker of a reader for one body.
        arena_bytes: Function from the number of stored bytes to the memory for them and for the arrays that
            are built behind them. By default as many: the tensors lie in the body as they were sent.
        expands: Whether more bytes may be stored than were sent.
    """

    name: str
    reader: ReaderFactory
    arena_bytes: Callable[[int], int] = int
    expands: bool = False


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """A format of bodies of any length.

    Attributes:
        name: A short name, for metrics and logs.
        reader: Maker of a reader for one body.
    """

    name: str
    reader: StreamReaderFactory


FORMATS: Final[Mapping[str, Format]] = {
    "application/json": Format("json", document.JsonReader, document.arena_bytes),
    "application/x-npy": Format("npy", NpyReader),
    "application/x-npz": Format("npz", NpzReader, expands=True),
    "multipart/form-data": Format("multipart", MultipartReader),
}
"""The formats that are stored whole, by media type in lower case."""

STREAMS: Final[Mapping[str, StreamFormat]] = {
    "application/vnd.apache.arrow.stream": StreamFormat("arrow", ArrowReader),
}
"""The formats of any length, by media type in lower case."""
