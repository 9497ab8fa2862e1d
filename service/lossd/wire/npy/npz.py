"""``application/x-npz``: the zip of .npy files that np.savez and np.savez_compressed write.

A zip is meant to be read from its end. Here its members are read as they arrive, and the directory and the
end records are then compared with what was read. A body passes only where they all agree.

Only the tensors' .npy files are stored in the arena, one after the other: stored members as slices of the
body, deflated ones expanded. Where the size of a stored member follows its data, the .npy header tells where
the data ends. Members of other names are skipped if they hold no numbers, and named in a note.

The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (below: APPNOTE).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from lossd.error_text import pointer, shown, unknown_tensor
from lossd.types import TENSOR_DTYPES, Body, ErrorCode, RequestError
from lossd.wire.content_coding import STEP_BYTES, expand
from lossd.wire.npy.npy import NpyParser
from lossd.wire.npy.npz_others import MAX_OTHERS, OtherMember, note_of
from lossd.wire.npy.zip_directory import read_directory
from lossd.wire.npy.zip_input import (
    ENCRYPTED,
    FULL,
    LOCAL,
    MAX_NAME_BYTES,
    Member,
    Reading,
    ZipInput,
    compare,
    file_name,
    malformed,
    widen,
)
from lossd.wire.reader import Chunk

_DESCRIPTOR: Final = b"PK\x07\x08"
# What follows the signature, without versions, times and attributes (APPNOTE 4.3.7).
_LOCAL_HEADER: Final = struct.Struct("<2x HH 4x III HH")
_STORED: Final = 0
_DEFLATED: Final = 8
_SIZES_FOLLOW: Final = 1 << 3
_UNBOUNDED: Final = 1 << 64  # bytes, more than any member has


class NpzReader:
    """Reader of one .npz."""

    def __init__(self, *, options: Mapping[str, str], names: Sequence[str]) -> None:
        """Expect an archive.

        Args:
            options: Ignored.
            names: Ignored: members have names.
        """
        self._body = Body()
        self._members: dict[bytes, Member] = {}
        self._others: list[OtherMember] = []
        self._parser: NpyParser | OtherMember | None = None  # of the current member
        self._crc = 0  # of the current member so far
        self._size = 0  # likewise
        self._source = ZipInput()
        self._stored = 0
        self._skipped = 0
        self._ended = False
        self._reading = self._read()

    as_is: Final = False  # deflated members are stored expanded

    @property
    def needed(self) -> int:
        """The end of the current array."""
        return self._stored + (0 if self._parser is None else self._parser.wanted)

    @property
    def skipped(self) -> int:
        """The bytes of members that are no tensors."""
        return self._skipped

    def feed(self, chunk: Chunk) -> Iterator[Chunk]:
        """Take the body's next bytes, and yield those of tensors.

        Raises:
            RequestError: ``malformed_npz``; ``unknown_tensor``; ``unsupported_encoding`` where a member is
                encrypted, or neither stored nor deflated; ``trailing_bytes`` behind an array or the archive;
                ``truncated_body`` where a member is too short for its array; or as `NpyParser.feed` does.
        """
        self._source.rest = memoryview(chunk)
        for stored in self._reading:
            if stored is None:  # it needs the next chunk
                return
            yield stored
        if self._source.rest:
            seen = f"bytes follow the end of the archive, from byte {self._source.position} on"
            raise RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; end the body there")

    def outline(self, length: int | None) -> None:
        """Return None: what the members hold is certain only at the end of the archive."""

    def finish(self, stored: memoryview) -> Body:
        """Return the members.

        Raises:
            RequestError: ``truncated_body``.
        """
        if not self._ended:
            if isinstance(self._parser, NpyParser):
                self._parser.finish()
            source = self._source
            detail = f"the archive is cut short after {source.position} bytes, within {source.within}"
            raise RequestError(ErrorCode.TRUNCATED_BODY, f"{detail}; send all of the file")
        return self._body

    def _read(self) -> Reading:
        """Read the archive: members, directory, end records (APPNOTE 4.3.6)."""
        at, signature = yield from self._source.take_signature()
        while signature == LOCAL:
            yield from self._read_member(at)
            at, signature = yield from self._source.take_signature()
        yield from read_directory(self._source, at, signature, self._members)
        if self._others:
            self._body.notes.append(note_of(self._others))
        self._ended = True

    def _read_member(self, at: int) -> Reading:
        """Read a local header, the data, and the data descriptor where one follows.

        Args:
            at: The position of the header's signature.
        """
        source = self._source
        source.within = f"the local header at byte {at}"
        header = yield from source.take(_LOCAL_HEADER.size)
        flags, method, crc, compressed, size, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        name = yield from source.take(min(name_length, MAX_NAME_BYTES))
        tensor = _array_name(name)
        if name_length > MAX_NAME_BYTES:
            raise unknown_tensor(tensor)
        if name in self._members:
            raise malformed(f"there is a second {file_name(name)} at byte {at}")
        if flags & ENCRYPTED or method not in (_STORED, _DEFLATED):
            raise _unsupported(name, "encrypted" if flags & ENCRYPTED else f"of method {method}", at)
        zip64 = yield from source.take_zip64(extra_length, at)
        size, compressed = widen((size, compressed), zip64, at)
        stated: tuple[int | None, ...] = (at, method, crc, compressed, size)
        if flags & _SIZES_FOLLOW:  # APPNOTE 4.4.4, bit 3: then 0 means nothing
            stated = (at, method, crc or None, compressed or None, size or None)

        begin, start = source.position, self._stored
        source.within = f"the data of {file_name(name)}, which begin at byte {begin}"
        self._crc = self._size = 0
        self._parser = self._begin(tensor, endless=method == _STORED and stated[3] is None)
        read_data = self._copy if method == _STORED else self._inflate
        yield from read_data(*stated[-2:])
        found = self._parser.finish()
        member = Member(at, method, self._crc, source.position - begin, self._size)
        what = f"the local header of {file_name(name)} at byte {at}"
        compare(what, Member._fields, stated, member, tensor)
        if flags & _SIZES_FOLLOW:
            yield from self._read_descriptor(member)
        self._parser = None
        self._members[name] = member
        if found is not None:
            self._body.tensors[tensor] = replace(found, offset=start + found.offset)

    def _begin(self, name: str, *, endless: bool) -> NpyParser | OtherMember:
        """Return the parser of a member.

        Args:
            name: The member's name, without .npy.
            endless: Whether only its .npy header can tell where it ends.
        """
        if name in TENSOR_DTYPES:
            return NpyParser(name, 0)  # its errors count bytes from the member's first
        if len(self._others) == MAX_OTHERS:
            raise unknown_tensor(name, f"; no more than {MAX_OTHERS} others are skipped")
        if endless:
            detail = (
                f"the archive does not say before the member {shown(name)} where it ends, and it is no "
                "tensor; save the .npz to a file, or compress it with np.savez_compressed"
            )
            raise RequestError(
                ErrorCode.UNSUPPORTED_ENCODING, detail, [(pointer(name), "stored, its size behind it")]
            )
        self._others.append(OtherMember(name))
        return self._others[-1]

    def _copy(self, compressed: int | None, size: int | None) -> Reading:
        """Read a stored member's data, up to the end of its array where no size is stated."""
        source = self._source
        assert self._parser is not None
        stop = source.position + (_UNBOUNDED if compressed is None else compressed)
        while not self._parser.complete and source.position < stop:
            yield from source.wait()
            taken = self._take(source.rest[: stop - source.position], size)
            source.advance(len(taken))
            yield self._store(taken)

    def _inflate(self, compressed: int | None, size: int | None) -> Reading:
        """Read a deflated member's data, which tells its own end (RFC 1951, 3.2.3)."""
        source = self._source
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        stop = source.position + (_UNBOUNDED if compressed is None else compressed)
        while not inflater.eof:
            if source.position == stop:
                raise self._malformed(f"deflated data that do not end by byte {stop}, as their header says")
            yield from source.wait()
            coded = source.rest[: min(STEP_BYTES, stop - source.position)]
            try:
                for expanded in expand(inflater, coded):
                    taken = self._take(expanded, size)
                    if len(taken) < len(expanded):
                        raise self._overlong()
                    yield self._store(taken)
            except zlib.error as error:
                between = f"between bytes {source.position} and {source.position + len(coded)}"
                raise self._malformed(f"corrupt deflated data {between} ({error})") from None
            source.advance(len(coded) - len(inflater.unused_data))

    def _take(self, data: Chunk, size: int | None) -> Chunk:
        """Return those of a member's next bytes that belong to it.

        Args:
            data: At least one byte.
            size: The member's stated size.
        """
        parser = self._parser
        assert parser is not None
        taken = data[: parser.feed(data)]
        if size is not None and parser.tensor is not None:
            length = parser.tensor.offset + parser.tensor.nbytes
            if length < size:
                raise self._overlong()
            if length > size:
                seen = f"the .npy header of {parser.name} announces {length} bytes, but its member has {size}"
                raise RequestError(
                    ErrorCode.TRUNCATED_BODY, f"{seen}; send all of it", [(pointer(parser.name), seen)]
                )
        self._crc = zlib.crc32(taken, self._crc)
        self._size += len(taken)
        return taken

    def _store(self, taken: Chunk) -> Chunk:
        """Return the bytes to store of those that a member took."""
        if isinstance(self._parser, OtherMember):
            self._skipped += len(taken)
            return b""  # so that the caller can check its limits
        self._stored += len(taken)
        return taken

    def _read_descriptor(self, member: Member) -> Reading:
        """Read the data descriptor: with or without a signature, sizes of 4 or 8 bytes (APPNOTE 4.3.9)."""
        at = self._source.position
        self._source.within = f"the data descriptor at byte {at}"
        sizes = ("<IQQ", "<III") if max(member.compressed_size, member.size) <= FULL else ("<IQQ",)
        valid = [mark + struct.pack(layout, *member[-3:]) for mark in (_DESCRIPTOR, b"") for layout in sizes]
        seen = b""
        while seen not in valid:
            seen += yield from self._source.take(1)
            if not any(descriptor.startswith(seen) for descriptor in valid):
                found = f"CRC {member.crc:08x}, {member.compressed_size} bytes and {member.size} uncompressed"
                raise self._malformed(f"a data descriptor at byte {at} that says other than {found}")

    def _overlong(self) -> RequestError:
        parser = self._parser
        assert parser is not None
        assert parser.tensor is not None
        end = parser.tensor.offset + parser.tensor.nbytes
        seen = f"bytes follow the array of {parser.name}, from byte {end} of its member on"
        return RequestError(
            ErrorCode.TRAILING_BYTES, f"{seen}; put one .npy file in each", [(pointer(parser.name), seen)]
        )

    def _malformed(self, seen: str) -> RequestError:
        return malformed(seen, None if self._parser is None else self._parser.name)


def _array_name(name: bytes) -> str:
    text = name.decode("ascii", "backslashreplace")
    array = text.removesuffix(".npy")
    if array == text:
        detail = f"the member {shown(text)} is no .npy file; name members after their tensors, as logits.npy"
        raise RequestError(ErrorCode.UNKNOWN_TENSOR, detail, [(pointer(text), "not a .npy file")])
    return array


def _unsupported(name: bytes, seen: str, at: int) -> RequestError:
    remedy = "write it with np.savez or np.savez_compressed"
    detail = f"{file_name(name)} is {seen}, by its header at byte {at}; {remedy}"
    return RequestError(ErrorCode.UNSUPPORTED_ENCODING, detail, [(pointer(_array_name(name)), seen)])
