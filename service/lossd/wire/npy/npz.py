"""``application/x-npz``: the zip of .npy files that np.savez and np.savez_compressed write.

A zip is meant to be read from its end; here its members are read as they come, and what they turned out to
be is then held against the directory and the end records. A body passes only where all of them agree.

What is laid down is the tensors' .npy files alone, one after the other: stored ones as slices of what came,
deflated ones as they expand. Where a stored member's size only comes behind its data, the .npy header tells
their end. Members of other names are passed over, if they hold no numbers, and named in a note.

The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

from lossd.error_text import pointer, shown, unknown_tensor
from lossd.types import TENSOR_DTYPES, Body, ErrorCode, RequestError
from lossd.wire.content_coding import STEP_BYTES, expand
from lossd.wire.npy.npy import NpyParser
from lossd.wire.npy.npz_others import MAX_OTHERS, OtherMember, note_of
from lossd.wire.reader import Piece

MAX_NAME_BYTES: Final = 100
"""The most bytes of a member's name."""

MAX_EXTRA_BYTES: Final = 4096
"""The most bytes of extra fields that a header may have."""

_LOCAL: Final = b"PK\x03\x04"
_ENTRY: Final = b"PK\x01\x02"
_END64: Final = b"PK\x06\x06"
_LOCATOR: Final = b"PK\x06\x07"
_END: Final = b"PK\x05\x06"
_DESCRIPTOR: Final = b"PK\x07\x08"

# What follows each signature. Left out: versions, times, attributes.
_LOCAL_HEADER: Final = struct.Struct("<2x HH 4x III HH")
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

_STORED: Final = 0
_DEFLATED: Final = 8
_SIZES_FOLLOW: Final = 1 << 3
_ENCRYPTED: Final = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 13  # and patched, or its header masked
_ZIP64: Final = b"\x01\x00"
_FULL: Final = 0xFFFFFFFF  # in place of a number that only zip64 has room for
_NAMED: Final = 10  # names in a detail
_UNBOUNDED: Final = 1 << 64  # bytes, more than any member has

_Reading: TypeAlias = Generator[Piece | None, None, None]


class _Member(NamedTuple):
    """What a member turned out to be, and its entry in the directory has to say."""

    offset: int
    method: int
    crc: int
    compressed_size: int
    size: int


class NpzReader:
    """Reads one .npz."""

    def __init__(self, *, options: Mapping[str, str], names: Sequence[str]) -> None:
        """Expect an archive.

        Args:
            options: None matter.
            names: Not needed; the members bear names.
        """
        del options, names
        self._body = Body()
        self._members: dict[bytes, _Member] = {}
        self._others: list[OtherMember] = []
        self._parser: NpyParser | OtherMember | None = None  # of the member that is coming
        self._crc = 0  # of it so far
        self._size = 0  # likewise
        self._rest = memoryview(b"")  # of the chunk
        self._position = 0  # of the rest, in the body
        self._laid = 0
        self._skipped = 0
        self._within = ""  # what is being read
        self._ended = False
        self._reading = self._read()

    as_is: Final = False  # deflated members are laid down expanded

    @property
    def needed(self) -> int:
        """Up to the end of the array that is coming."""
        return self._laid + (0 if self._parser is None else self._parser.wanted)

    @property
    def skipped(self) -> int:
        """What members had that are no tensors."""
        return self._skipped

    def feed(self, chunk: Piece) -> Iterator[Piece]:
        """Take the body's next bytes; what they say of the arrays comes as the iterator is used.

        Raises:
            RequestError: ``malformed_npz``, ``unknown_tensor``, ``unsupported_encoding`` where a member is
            encrypted
                or neither stored nor deflated, ``trailing_bytes`` behind an array or the archive,
                ``truncated_body`` where a member is too short for its array, or as `NpyParser.feed` does.
        """
        self._rest = memoryview(chunk)
        for piece in self._reading:
            if piece is None:  # it waits for more
                return
            yield piece
        if self._rest:
            seen = f"bytes follow the end of the archive, from byte {self._position} on"
            raise RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; end the body there")

    def outline(self, length: int | None) -> None:
        """Nothing: what the members hold is certain only when the end of the archive has said the same."""

    def finish(self, laid: memoryview) -> Body:
        """The members that came.

        Raises:
            RequestError: ``truncated_body``.
        """
        del laid
        if not self._ended:
            if isinstance(self._parser, NpyParser):
                self._parser.finish()
            detail = f"the archive is cut short after {self._position} bytes, within {self._within}"
            raise RequestError(ErrorCode.TRUNCATED_BODY, f"{detail}; send all of the file")
        return self._body

    # All that return generators are parts of one coroutine, which yields what to lay down, and None where it
    # waits for the next chunk.

    def _read(self) -> _Reading:
        """Read the archive: members, directory, end records."""
        at, signature = yield from self._take_signature()
        while signature == _LOCAL:
            yield from self._read_member(at)
            at, signature = yield from self._take_signature()
        directory, missing = at, dict(self._members)
        while signature == _ENTRY:
            yield from self._read_entry(at, missing)
            at, signature = yield from self._take_signature()
        if missing:
            names = ", ".join(map(_file_name, list(missing)[:_NAMED]))
            raise self._malformed(f"a directory without {names} ends at byte {at}")
        count = len(self._members)
        found = (0, 0, count, count, at - directory, directory)
        wide = signature == _END64
        if wide:
            yield from self._read_end64(at, found)
            at, signature = yield from self._take_signature()
        if signature != _END:
            raise self._malformed(f"{signature.hex(' ')} at byte {at}, where the end record should be")
        yield from self._read_end(at, found, wide=wide)
        if self._others:
            self._body.notes.append(note_of(self._others))
        self._ended = True

    def _read_member(self, at: int) -> _Reading:
        """Read a local header, the data, and the descriptor where one follows.

        Args:
            at: Where the header's signature began.
        """
        self._within = f"the local header at byte {at}"
        header = yield from self._take(_LOCAL_HEADER.size)
        flags, method, crc, compressed, size, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        name = yield from self._take(min(name_length, MAX_NAME_BYTES))
        tensor = _array_name(name)
        if name_length > MAX_NAME_BYTES:
            raise unknown_tensor(tensor)
        if name in self._members:
            raise self._malformed(f"there is a second {_file_name(name)} at byte {at}")
        if flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
            raise _unsupported(name, "encrypted" if flags & _ENCRYPTED else f"of method {method}", at)
        zip64 = yield from self._take_zip64(extra_length, at)
        size, compressed = self._widen((size, compressed), zip64, at)
        stated: tuple[int | None, ...] = (at, method, crc, compressed, size)
        if flags & _SIZES_FOLLOW:  # then a zero says nothing
            stated = (at, method, crc or None, compressed or None, size or None)

        begin, start = self._position, self._laid
        self._within = f"the data of {_file_name(name)}, which begin at byte {begin}"
        self._crc = self._size = 0
        self._parser = self._begin(tensor, endless=method == _STORED and stated[3] is None)
        read_data = self._copy if method == _STORED else self._inflate
        yield from read_data(*stated[-2:])
        found = self._parser.finish()
        member = _Member(at, method, self._crc, self._position - begin, self._size)
        self._compare(f"the local header of {_file_name(name)} at byte {at}", _Member._fields, stated, member)
        if flags & _SIZES_FOLLOW:
            yield from self._read_descriptor(member)
        self._parser = None
        self._members[name] = member
        if found is not None:
            self._body.tensors[tensor] = replace(found, offset=start + found.offset)

    def _begin(self, name: str, *, endless: bool) -> NpyParser | OtherMember:
        """What reads a member.

        Args:
            name: Its name, without .npy.
            endless: Nothing but its own header can say where it ends.
        """
        if name in TENSOR_DTYPES:
            return NpyParser(name, 0)  # so that its faults count bytes of the member
        if len(self._others) == MAX_OTHERS:
            raise unknown_tensor(name, f"; no more than {MAX_OTHERS} others are passed over")
        if endless:
            detail = (
                f"where the member {shown(name)} ends cannot be told before it has come, as it is no tensor; "
                "save the .npz to a file, or compress it with np.savez_compressed"
            )
            raise RequestError(
                ErrorCode.UNSUPPORTED_ENCODING, detail, [(pointer(name), "stored, its size behind it")]
            )
        self._others.append(OtherMember(name))
        return self._others[-1]

    def _copy(self, compressed: int | None, size: int | None) -> _Reading:
        """Read a stored member's data, up to the end of its array where no size is stated."""
        assert self._parser is not None
        stop = self._position + (_UNBOUNDED if compressed is None else compressed)
        while not self._parser.complete and self._position < stop:
            yield from self._wait()
            taken = self._lay(self._rest[: stop - self._position], size)
            self._advance(len(taken))
            yield self._kept(taken)

    def _inflate(self, compressed: int | None, size: int | None) -> _Reading:
        """Read a deflated member's data, up to their own end."""
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        stop = self._position + (_UNBOUNDED if compressed is None else compressed)
        while not inflater.eof:
            if self._position == stop:
                raise self._malformed(f"deflated data that do not end by byte {stop}, as their header says")
            yield from self._wait()
            coded = self._rest[: min(STEP_BYTES, stop - self._position)]
            try:
                for piece in expand(inflater, coded):
                    taken = self._lay(piece, size)
                    if len(taken) < len(piece):
                        raise self._overlong()
                    yield self._kept(taken)
            except zlib.error as error:
                between = f"between bytes {self._position} and {self._position + len(coded)}"
                raise self._malformed(f"corrupt deflated data {between} ({error})") from None
            self._advance(len(coded) - len(inflater.unused_data))

    def _lay(self, data: Piece, size: int | None) -> Piece:
        """Take a member's next bytes.

        Args:
            data: At least one.
            size: That the member is stated to have.

        Returns:
            Those that belong to its array, or all that are passed over.
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

    def _kept(self, taken: Piece) -> Piece:
        """What is laid down of the bytes that a member took."""
        if isinstance(self._parser, OtherMember):
            self._skipped += len(taken)
            return b""  # so that whoever counts gets its turn
        self._laid += len(taken)
        return taken

    def _read_descriptor(self, member: _Member) -> _Reading:
        """Read what follows a member's data: with or without a signature, with sizes of 4 or 8 bytes."""
        at = self._position
        self._within = f"the data descriptor at byte {at}"
        sizes = ("<IQQ", "<III") if max(member.compressed_size, member.size) <= _FULL else ("<IQQ",)
        forms = [mark + struct.pack(form, *member[-3:]) for mark in (_DESCRIPTOR, b"") for form in sizes]
        seen = b""
        while seen not in forms:
            seen += yield from self._take(1)
            if not any(form.startswith(seen) for form in forms):
                found = f"CRC {member.crc:08x}, {member.compressed_size} bytes and {member.size} uncompressed"
                raise self._malformed(f"a data descriptor at byte {at} that says other than {found}")

    def _read_entry(self, at: int, missing: dict[bytes, _Member]) -> _Reading:
        """Read an entry of the directory.

        Args:
            at: Where its signature began.
            missing: The members that have had none yet; loses one.
        """
        self._within = f"the directory's entry at byte {at}"
        header = _ENTRY_HEADER.unpack((yield from self._take(_ENTRY_HEADER.size)))
        flags, method, crc, compressed, size, name_length, extra_length, comment_length, disk, offset = header
        name = yield from self._take(min(name_length, MAX_NAME_BYTES))
        member = missing.pop(name, None)
        if member is None:
            seen = f"an entry for {shown(name)} in the directory at byte {at}"
            raise self._malformed(f"{seen}, where no member of that name is left")
        zip64 = yield from self._take_zip64(extra_length, at)
        size, compressed, offset = self._widen((size, compressed, offset), zip64, at)
        yield from self._take(comment_length)
        self._compare(
            f"the directory's entry for {_file_name(name)} at byte {at}",
            ("disk", "encryption", *_Member._fields),
            (disk, flags & _ENCRYPTED, offset, method, crc, compressed, size),
            (0, 0, *member),
        )

    def _read_end64(self, at: int, found: tuple[int, ...]) -> _Reading:
        """Read the zip64 end record and its locator.

        Args:
            at: Where its signature began.
            found: What `_END_FIELDS` should say.
        """
        self._within = f"the zip64 end record at byte {at}"
        length, *stated = _END64_RECORD.unpack((yield from self._take(_END64_RECORD.size)))
        fields = ("length", *_END_FIELDS)
        self._compare(self._within, fields, (length, *stated), (_END64_RECORD.size - 8, *found))
        locator, signature = yield from self._take_signature()
        if signature != _LOCATOR:
            raise self._malformed(
                f"{signature.hex(' ')} at byte {locator}, where the zip64 locator should be"
            )
        stated[:] = _LOCATOR_RECORD.unpack((yield from self._take(_LOCATOR_RECORD.size)))
        self._compare(f"the zip64 locator at byte {locator}", ("disk", "offset", "disks"), stated, (0, at, 1))

    def _read_end(self, at: int, found: tuple[int, ...], *, wide: bool) -> _Reading:
        """Read the end record and the comment.

        Args:
            at: Where its signature began.
            found: What `_END_FIELDS` should say.
            wide: A zip64 record went before, so that a field may be full instead.
        """
        self._within = f"the end record at byte {at}"
        *stated, comment_length = _END_RECORD.unpack((yield from self._take(_END_RECORD.size)))
        full = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, _FULL, _FULL)
        if wide:
            stated = [None if number == most else number for number, most in zip(stated, full, strict=True)]
        self._compare(self._within, _END_FIELDS, stated, found)
        comment = yield from self._take(comment_length)
        if _END in comment:
            raise self._malformed("a comment that readers may take for the archive's end")

    def _take_signature(self) -> Generator[None, None, tuple[int, bytes]]:
        """Where the next header or record begins, and its signature."""
        at = self._position
        self._within = f"the signature at byte {at}"
        signature = yield from self._take(4)
        if signature not in (_LOCAL, _ENTRY, _END64, _LOCATOR, _END):
            hint = "; is it a .npy? send it as application/x-npy" if signature == b"\x93NUM" else ""
            raise self._malformed(f"{signature.hex(' ')} at byte {at}, which begins no part of a zip{hint}")
        return at, signature

    def _take_zip64(self, length: int, at: int) -> Generator[None, None, bytes]:
        """The zip64 field among the extra fields that come next; empty where there is none.

        Args:
            length: Of all the fields.
            at: Where the header began that they belong to.
        """
        if length > MAX_EXTRA_BYTES:
            raise self._malformed(f"{length} bytes of extra fields at byte {at}, over {MAX_EXTRA_BYTES}")
        extra = yield from self._take(length)
        zip64 = b""
        while extra:
            end = 4 + int.from_bytes(extra[2:4], "little")
            if len(extra) < end:
                raise self._malformed(f"an extra field that is cut short in the header at byte {at}")
            if extra.startswith(_ZIP64):
                zip64 = extra[4:end]
            extra = extra[end:]
        return zip64

    def _take(self, length: int) -> Generator[None, None, bytes]:
        """The next bytes, few enough to be kept."""
        taken = bytearray()
        while len(taken) < length:
            yield from self._wait()
            taken += self._advance(length - len(taken))
        return bytes(taken)

    def _wait(self) -> Generator[None, None, None]:
        """Wait until a byte is there."""
        while not self._rest:
            yield None

    def _advance(self, length: int) -> memoryview:
        """Go on in the chunk by at most so many bytes, which are returned."""
        taken, self._rest = self._rest[:length], self._rest[length:]
        self._position += len(taken)
        return taken

    def _widen(self, numbers: Sequence[int], zip64: bytes, at: int) -> list[int]:
        """A header's numbers, with those of the zip64 field in place of the full ones, in their order.

        Args:
            numbers: As the header has them.
            zip64: The field.
            at: Where the header began.
        """
        wide = [word for (word,) in struct.iter_unpack("<Q", zip64[: len(zip64) & ~7])]
        if len(wide) < numbers.count(_FULL):
            raise self._malformed(f"a number in the header at byte {at} that its zip64 field lacks")
        return [wide.pop(0) if number == _FULL else number for number in numbers]

    def _compare(
        self, what: str, fields: Sequence[str], stated: Sequence[int | None], found: Sequence[int]
    ) -> None:
        """Refuse a header that states other than what was found; None states nothing."""
        for field, one, other in zip(fields, stated, found, strict=True):
            if one is not None and one != other:
                raise self._malformed(f"{what} says {field} {one}, not {other}")

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
        errors = [] if self._parser is None else [(pointer(self._parser.name), seen)]
        detail = f"the body is not an .npz that np.savez writes: {seen}; write it with np.savez"
        return RequestError(ErrorCode.MALFORMED_NPZ, detail, errors)


def arena_bytes(content_length: int) -> int:
    """The memory that a body needs as long as its members are stored; deflated ones come to more."""
    return content_length


def _array_name(name: bytes) -> str:
    text = name.decode("ascii", "backslashreplace")
    array = text.removesuffix(".npy")
    if array == text:
        detail = f"the member {shown(text)} is no .npy file; name members after their tensors, as logits.npy"
        raise RequestError(ErrorCode.UNKNOWN_TENSOR, detail, [(pointer(text), "not a .npy file")])
    return array


def _file_name(name: bytes) -> str:
    """A member's name as a detail may say it."""
    text = name.decode("ascii", "backslashreplace")
    return text if text.removesuffix(".npy") in TENSOR_DTYPES else shown(text)


def _unsupported(name: bytes, seen: str, at: int) -> RequestError:
    remedy = "write it with np.savez or np.savez_compressed"
    detail = f"{_file_name(name)} is {seen}, by its header at byte {at}; {remedy}"
    return RequestError(ErrorCode.UNSUPPORTED_ENCODING, detail, [(pointer(_array_name(name)), seen)])
