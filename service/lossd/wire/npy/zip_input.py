"""The bytes of a zip, read in order as they arrive, and what its headers have in common.

All functions that return generators are parts of one coroutine. It yields chunks to store, and None when it
needs the next chunk of the body.

The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (below: APPNOTE).
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from typing import Final, NamedTuple, TypeAlias

from lossd.error_text import pointer, shown
from lossd.types import TENSOR_DTYPES, ErrorCode, RequestError
from lossd.wire.reader import Chunk

MAX_NAME_BYTES: Final = 100
"""The most bytes of a member's name."""
MAX_EXTRA_BYTES: Final = 4096
"""The most bytes of extra fields in a header."""

LOCAL: Final = b"PK\x03\x04"
ENTRY: Final = b"PK\x01\x02"
END64: Final = b"PK\x06\x06"
LOCATOR: Final = b"PK\x06\x07"
END: Final = b"PK\x05\x06"
"""The signatures of headers and records."""

ENCRYPTED: Final = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 13
"""General purpose flags (APPNOTE 4.4.4): encrypted, patched, strongly encrypted, local header masked."""
FULL: Final = 0xFFFFFFFF
"""Stands in a header for a number that is in the zip64 field (APPNOTE 4.5.3)."""

_ZIP64: Final = b"\x01\x00"

Reading: TypeAlias = Generator[Chunk | None, None, None]


class Member(NamedTuple):
    """A member as it was read, which the directory must confirm."""

    offset: int
    method: int
    crc: int
    compressed_size: int
    size: int


class ZipInput:
    """The body of a zip, fed in chunks.

    Attributes:
        rest: The unread bytes of the chunk.
        position: Their position in the body.
        within: The part of the zip that is being read, in words.
    """

    def __init__(self) -> None:
        self.rest = memoryview(b"")
        self.position = 0
        self.within = ""

    def wait(self) -> Generator[None, None, None]:
        """Wait until there is a byte."""
        while not self.rest:
            yield None

    def advance(self, length: int) -> memoryview:
        """Return the next bytes of the chunk, up to a length."""
        taken, self.rest = self.rest[:length], self.rest[length:]
        self.position += len(taken)
        return taken

    def take(self, length: int) -> Generator[None, None, bytes]:
        """Return the next bytes, of a length that may be copied."""
        taken = bytearray()
        while len(taken) < length:
            yield from self.wait()
            taken += self.advance(length - len(taken))
        return bytes(taken)

    def take_signature(self) -> Generator[None, None, tuple[int, bytes]]:
        """Return the position of the next header or record, and its signature."""
        at = self.position
        self.within = f"the signature at byte {at}"
        signature = yield from self.take(4)
        if signature not in (LOCAL, ENTRY, END64, LOCATOR, END):
            hint = "; is it a .npy? send it as application/x-npy" if signature == b"\x93NUM" else ""
            raise malformed(f"{signature.hex(' ')} at byte {at}, which begins no part of a zip{hint}")
        return at, signature

    def take_zip64(self, length: int, at: int) -> Generator[None, None, bytes]:
        """Return the zip64 field (APPNOTE 4.5.3) of the extra fields that follow; empty where there is none.

        Args:
            length: The length of all the extra fields.
            at: The position of their header.
        """
        if length > MAX_EXTRA_BYTES:
            raise malformed(f"{length} bytes of extra fields at byte {at}, over {MAX_EXTRA_BYTES}")
        extra = yield from self.take(length)
        zip64 = b""
        while extra:
            end = 4 + int.from_bytes(extra[2:4], "little")
            if len(extra) < end:
                raise malformed(f"an extra field that is cut short in the header at byte {at}")
            if extra.startswith(_ZIP64):
                zip64 = extra[4:end]
            extra = extra[end:]
        return zip64


def widen(numbers: Sequence[int], zip64: bytes, at: int) -> list[int]:
    """Return a header's numbers, each full one replaced by the zip64 field's next one (APPNOTE 4.5.3).

    Args:
        numbers: The header's numbers.
        zip64: The zip64 field.
        at: The header's position.
    """
    wide = [number for (number,) in struct.iter_unpack("<Q", zip64[: len(zip64) & ~7])]
    if len(wide) < numbers.count(FULL):
        raise malformed(f"a number in the header at byte {at} that its zip64 field lacks")
    return [wide.pop(0) if number == FULL else number for number in numbers]


def compare(
    what: str,
    fields: Sequence[str],
    stated: Sequence[int | None],
    found: Sequence[int],
    name: str | None = None,
) -> None:
    """Refuse a header that contradicts what was found.

    Args:
        what: The header, in words.
        fields: The names of its numbers.
        stated: Its numbers; None where it states none.
        found: The numbers found.
        name: The tensor's name, where the header is a member's.
    """
    for field, one, other in zip(fields, stated, found, strict=True):
        if one is not None and one != other:
            raise malformed(f"{what} says {field} {one}, not {other}", name)


def file_name(name: bytes) -> str:
    """Return a member's name for an error's detail."""
    text = name.decode("ascii", "backslashreplace")
    return text if text.removesuffix(".npy") in TENSOR_DTYPES else shown(text)


def malformed(seen: str, name: str | None = None) -> RequestError:
    """Return the error of an archive that is wrong, at a tensor if a name is given."""
    detail = f"the body is not an .npz that np.savez writes: {seen}; write it with np.savez"
    return RequestError(ErrorCode.MALFORMED_NPZ, detail, [] if name is None else [(pointer(name), seen)])
