"""The end of a zip: its directory and end records, held against the members that were read before.

The records and their order: APPNOTE 4.3 (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from lossd.error_text import shown
from lossd.wire.npy.zip_input import (
    ENCRYPTED,
    END,
    END64,
    ENTRY,
    FULL,
    LOCATOR,
    MAX_NAME_BYTES,
    Member,
    Reading,
    ZipInput,
    compare,
    file_name,
    malformed,
    widen,
)

# What follows each signature, without versions, times and attributes.
_ENTRY_HEADER: Final = struct.Struct("<4x HH 4x III HHH H 6x I")
_END64_RECORD: Final = struct.Struct("<Q 4x IIQQ QQ")
_LOCATOR_RECORD: Final = struct.Struct("<IQI")
_END_RECORD: Final = struct.Struct("<HHHH II H")
_END_FIELDS: Final = (
    "disk",
    "directory disk",
    "entries here",
    "entries",
    "directory size",
    "directory offset",
)
_NAMED: Final = 10  # names in a detail


def read_directory(source: ZipInput, at: int, signature: bytes, members: Mapping[bytes, Member]) -> Reading:
    """Read the directory and the end records.

    Args:
        source: The zip, behind the directory's first signature.
        at: The directory's position.
        signature: Its first signature.
        members: The members, by file name.

    Raises:
        RequestError: ``malformed_npz``: they contradict the members.
    """
    directory, missing = at, dict(members)
    while signature == ENTRY:
        yield from _read_entry(source, at, missing)
        at, signature = yield from source.take_signature()
    if missing:
        names = ", ".join(map(file_name, list(missing)[:_NAMED]))
        raise malformed(f"a directory without {names} ends at byte {at}")
    found = (0, 0, len(members), len(members), at - directory, directory)
    wide = signature == END64
    if wide:
        yield from _read_end64(source, at, found)
        at, signature = yield from source.take_signature()
    if signature != END:
        raise malformed(f"{signature.hex(' ')} at byte {at}, where the end record should be")
    yield from _read_end(source, at, found, wide=wide)


def _read_entry(source: ZipInput, at: int, missing: dict[bytes, Member]) -> Reading:
    """Read one entry (APPNOTE 4.3.12).

    Args:
        source: The zip.
        at: The position of the entry's signature.
        missing: The members without an entry so far; this one is removed.
    """
    source.within = f"the directory's entry at byte {at}"
    header = _ENTRY_HEADER.unpack((yield from source.take(_ENTRY_HEADER.size)))
    flags, method, crc, compressed, size, name_length, extra_length, comment_length, disk, offset = header
    name = yield from source.take(min(name_length, MAX_NAME_BYTES))
    member = missing.pop(name, None)
    if member is None:
        seen = f"an entry for {shown(name)} in the directory at byte {at}"
        raise malformed(f"{seen}, where no member of that name is left")
    zip64 = yield from source.take_zip64(extra_length, at)
    size, compressed, offset = widen((size, compressed, offset), zip64, at)
    yield from source.take(comment_length)
    compare(
        f"the directory's entry for {file_name(name)} at byte {at}",
        ("disk", "encryption", *Member._fields),
        (disk, flags & ENCRYPTED, offset, method, crc, compressed, size),
        (0, 0, *member),
    )


def _read_end64(source: ZipInput, at: int, found: tuple[int, ...]) -> Reading:
    """Read the zip64 end record (APPNOTE 4.3.14) and its locator (4.3.15).

    Args:
        source: The zip.
        at: The position of the record's signature.
        found: The right values of `_END_FIELDS`.
    """
    source.within = f"the zip64 end record at byte {at}"
    length, *stated = _END64_RECORD.unpack((yield from source.take(_END64_RECORD.size)))
    compare(source.within, ("length", *_END_FIELDS), (length, *stated), (_END64_RECORD.size - 8, *found))
    locator, signature = yield from source.take_signature()
    if signature != LOCATOR:
        raise malformed(f"{signature.hex(' ')} at byte {locator}, where the zip64 locator should be")
    stated[:] = _LOCATOR_RECORD.unpack((yield from source.take(_LOCATOR_RECORD.size)))
    compare(f"the zip64 locator at byte {locator}", ("disk", "offset", "disks"), stated, (0, at, 1))


def _read_end(source: ZipInput, at: int, found: tuple[int, ...], *, wide: bool) -> Reading:
    """Read the end record (APPNOTE 4.3.16) and the comment.

    Args:
        source: The zip.
        at: The position of the record's signature.
        found: The right values of `_END_FIELDS`.
        wide: Whether a zip64 record came before, which a full field refers to.
    """
    source.within = f"the end record at byte {at}"
    *stated, comment_length = _END_RECORD.unpack((yield from source.take(_END_RECORD.size)))
    full = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, FULL, FULL)
    if wide:
        stated = [None if number == most else number for number, most in zip(stated, full, strict=True)]
    compare(source.within, _END_FIELDS, stated, found)
    comment = yield from source.take(comment_length)
    if END in comment:
        raise malformed("a comment that readers may take for the archive's end")
