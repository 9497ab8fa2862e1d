"""The formats of a request body, by media type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lossd.wire.arrow import stream
from lossd.wire.json import document
from lossd.wire.multipart import form
from lossd.wire.npy import npy_stream, npz
from lossd.wire.reader import ReaderFactory, StreamReaderFactory


@dataclass(frozen=True, slots=True)
class Format:
    """A format of bodies that are laid down as a whole.

    Attributes:
        name: A short name, for metrics and logs.
        reader: Makes a reader for one body.
        arena_bytes: The memory that a body of a given length, as it is laid down, needs with the arrays that
            its reader may build and the caller lays behind it.
        expands: What is laid down may be longer than what was sent.
    """

    name: str
    reader: ReaderFactory
    arena_bytes: Callable[[int], int]
    expands: bool = False


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """A format of bodies of any length.

    Attributes:
        name: A short name, for metrics and logs.
        reader: Makes a reader for one body.
    """

    name: str
    reader: StreamReaderFactory


FORMATS: Final[Mapping[str, Format]] = {
    "application/json": Format("json", document.JsonReader, document.arena_bytes),
    "application/x-npy": Format("npy", npy_stream.NpyReader, npy_stream.arena_bytes),
    "application/x-npz": Format("npz", npz.NpzReader, npz.arena_bytes, expands=True),
    "multipart/form-data": Format("multipart", form.MultipartReader, form.arena_bytes),
}
"""Every format that is laid down as a whole, by media type in lower case."""

STREAMS: Final[Mapping[str, StreamFormat]] = {
    "application/vnd.apache.arrow.stream": StreamFormat("arrow", stream.ArrowReader),
}
"""Every format of any length, likewise."""
