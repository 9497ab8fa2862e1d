"""The formats of a request body, by media type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lossd.wire import document, multipart, npystream
from lossd.wire.reader import ReaderFactory


@dataclass(frozen=True, slots=True)
class Format:
    """A format of request bodies.

    Attributes:
        name: A short name, for metrics and logs.
        reader: Makes a reader for one body.
        arena_bytes: The memory that a body of a given length needs, with the arrays that its reader may build
            and the caller lays behind it.
    """

    name: str
    reader: ReaderFactory
    arena_bytes: Callable[[int], int]


FORMATS: Final[Mapping[str, Format]] = {
    "application/json": Format("json", document.JsonReader, document.arena_bytes),
    "application/x-npy": Format("npy", npystream.NpyReader, npystream.arena_bytes),
    "multipart/form-data": Format("multipart", multipart.MultipartReader, multipart.arena_bytes),
}
"""Every format that is read, by media type in lower case."""
