from __future__ import annotations

import itertools
import random
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lossd.types import Body, RequestError
from lossd.wire import FORMATS
from lossd.wire.content_coding import CHUNK_BYTES
from lossd.wire.npy.npz import NpzReader
from lossd.wire.npy.zip_input import MAX_EXTRA_BYTES
from lossd.wire.reader import Chunk, Reader
from wire.feeding import AnyArray, array_of, check_error, npy, same_bits, split_at

LOGITS = np.array([[0.5, -1.25, np.inf], [3.0, -0.0, 1e-40]], dtype=np.float32)
TARGETS = np.array([[True, False, True], [False, False, True]])
ARRAYS: Mapping[str, AnyArray] = {"logits": LOGITS, "targets": TARGETS}
DTYPES = [
    "|b1", "|u1", "|i1",
    *(order + code for order in "<>" for code in ("f2", "f4", "f8", "u2", "u4", "u8", "i2", "i4", "i8")),
]  # fmt: skip


# Reading.


def read(chunks: Iterable[bytes]) -> tuple[Body, bytes]:
    """Return the body, and the bytes stored."""
    reader: Reader = NpzReader(options={}, names=())
    stored = bytearray()
    for chunk in chunks:
        for part in reader.feed(chunk):
            stored += part
            assert reader.needed >= len(stored)
        assert reader.outline(None) is None
    return reader.finish(memoryview(stored)), bytes(stored)


def outcome(chunks: Iterable[bytes]) -> tuple[Body, bytes] | RequestError:
    """Return the body or the error; any other exception is the test's failure."""
    try:
        return read(chunks)
    except RequestError as error:
        check_error(error)
        return error


def refused(chunks: Iterable[bytes]) -> RequestError:
    result = outcome(chunks)
    assert isinstance(result, RequestError)
    return result


def check(chunks: Iterable[bytes], arrays: Mapping[str, AnyArray] = ARRAYS) -> None:
    """Check that these arrays are read, and their .npy files stored one after the other."""
    body, stored = read(chunks)
    assert list(body.tensors) == list(arrays)
    for name, array in arrays.items():
        assert same_bits(array_of(body.tensors[name], stored), array)
    assert stored == b"".join(npy(array) for array in arrays.values())
    assert (body.arrays, body.params) == ({}, {})


# Archives by other writers.


class Pipe:
    """File that can only be written, one byte after the other."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)

    def flush(self) -> None:
        """Hold nothing."""


def savez(arrays: Mapping[str, AnyArray] = ARRAYS, save: Callable[..., None] = np.savez) -> bytes:
    file = BytesIO()
    save(file, **arrays)
    return file.getvalue()


def zipped(method: int, *, seekable: bool, zip64: bool = False) -> bytes:
    """Write an archive with zipfile."""
    file = BytesIO()
    pipe = Pipe()
    with zipfile.ZipFile(file if seekable else pipe, "w", method) as archive:  # type: ignore[call-overload]
        for name, array in ARRAYS.items():
            with archive.open(f"{name}.npy", "w", force_zip64=zip64) as member:
                member.write(npy(array))
    return file.getvalue() if seekable else bytes(pipe.written)


METHODS = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}
WRITTEN = {
    "np.savez": savez(),
    "np.savez_compressed": savez(save=np.savez_compressed),
    **{
        f"zipfile, {how}, {'seekable' if seekable else 'piped'}{', zip64' * zip64}": zipped(
            method, seekable=seekable, zip64=zip64
        )
        for how, method in METHODS.items()
        for seekable in (True, False)
        for zip64 in (True, False)
    },
}


# Archives made by hand, so that any field can be wrong.


@dataclass
class Member:
    """A member, and the wrong values in its headers."""

    name: bytes = b"logits.npy"
    data: bytes = npy(LOGITS)
    method: int = 0
    flags: int = 0
    coded: bytes | None = None
    descriptor: bytes | None = None
    local: Mapping[str, int] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    extra: bytes = b""
    comment: bytes = b""


TARGETS_MEMBER = Member(b"targets.npy", npy(TARGETS))


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def local_header(member: Member, facts: Mapping[str, int]) -> bytes:
    said = {**facts, **member.local}
    return (
        struct.pack("<4s5H", b"PK\x03\x04", 20, said["flags"], said["method"], 0, 33)
        + struct.pack("<III", said["crc"], said["compressed"], said["size"])
        + struct.pack("<HH", len(member.name), len(member.extra))
        + member.name
        + member.extra
    )


def entry(member: Member, facts: Mapping[str, Any]) -> bytes:
    said = {"disk": 0, **facts, **member.entry}
    name: bytes = said.get("name", member.name)
    extra: bytes = said.get("extra", b"")
    return (
        struct.pack("<4s6H", b"PK\x01\x02", 20, 20, said["flags"], said["method"], 0, 33)
        + struct.pack("<III", said["crc"], said["compressed"], said["size"])
        + struct.pack("<HHH", len(name), len(extra), len(member.comment))
        + struct.pack("<HHII", said["disk"], 0, 0, said["offset"])
        + name
        + extra
        + member.comment
    )


def end64(at: int, count: int, size: int, offset: int, said: Mapping[str, int]) -> bytes:
    """Return the zip64 end record at a position and its locator, with some wrong values."""
    facts = {"length": 44, "count": count, "offset": offset, "at": at, "disks": 1, "mark": 7} | dict(said)
    return (
        struct.pack("<4sQHHII", b"PK\x06\x06", facts["length"], 45, 45, 0, 0)
        + struct.pack("<QQQQ", count, facts["count"], size, facts["offset"])
        + struct.pack("<2sBBIQI", b"PK", 6, facts["mark"], 0, facts["at"], facts["disks"])
    )


def archive(
    *members: Member,
    junk: bytes = b"",
    gap: bytes = b"",
    backwards: bool = False,
    tail: bytes = b"",
    wide: Mapping[str, int] | None = None,
    end: Mapping[str, int] | None = None,
    comment: bytes = b"",
) -> bytes:
    """Return an archive of these members.

    Args:
        members: In order.
        junk: Before them.
        gap: Behind each.
        backwards: The directory has them in the other order.
        tail: Behind the directory's entries.
        wide: There are zip64 end records, which say other than the truth in this.
        end: What the end record says other than the truth.
        comment: The archive's.
    """
    body, entries = bytearray(junk), []
    for member in members:
        coded = member.coded
        if coded is None:
            coded = deflated(member.data) if member.method == 8 else member.data
        facts = {
            "flags": member.flags,
            "method": member.method,
            "crc": zlib.crc32(member.data),
            "compressed": len(coded),
            "size": len(member.data),
            "offset": len(body),
        }
        entries.append(entry(member, facts))
        if member.flags & 8:
            facts |= {"crc": 0, "compressed": 0, "size": 0}
        body += local_header(member, facts) + coded + (member.descriptor or b"") + gap
    directory = b"".join(reversed(entries) if backwards else entries) + tail
    said = {"disk": 0, "count": len(entries), "size": len(directory), "offset": len(body), **(end or {})}
    at = len(body) + len(directory)
    records = b"" if wide is None else end64(at, len(entries), len(directory), len(body), wide)
    counts = (said["disk"], said["disk"], said["count"], said["count"])
    record = struct.pack("<4s4HIIH", b"PK\x05\x06", *counts, said["size"], said["offset"], len(comment))
    return bytes(body) + directory + records + record + comment


def descriptor(data: bytes, method: int, form: str) -> bytes:
    coded = deflated(data) if method == 8 else data
    mark, sizes = form.split()
    return {"with": b"PK\x07\x08", "without": b""}[mark] + struct.pack(
        {"32": "<III", "64": "<IQQ"}[sizes], zlib.crc32(data), len(coded), len(data)
    )


def followed(method: int, form: str) -> bytes:
    """Return an archive whose sizes follow the data."""
    return archive(
        *(
            Member(
                f"{name}.npy".encode(), npy(array), method, 8, descriptor=descriptor(npy(array), method, form)
            )
            for name, array in ARRAYS.items()
        )
    )


def zip64_field(*numbers: int) -> bytes:
    return struct.pack(f"<HH{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


# What is read.


@pytest.mark.parametrize("how", WRITTEN)
def test_whole_and_byte_by_byte(how: str) -> None:
    body = WRITTEN[how]
    check([body])
    check(split_at(body, range(len(body))))


@given(st.sampled_from(sorted(WRITTEN)), st.lists(st.integers(0, 1200), max_size=8))
def test_cut_anywhere(how: str, cuts: list[int]) -> None:
    check(split_at(WRITTEN[how], cuts))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_numpy_saves_is_read(save: Callable[..., None], dtype: str) -> None:
    shapes = [(), (0,), (2, 0, 3), (2, 3), (1, 2, 1, 2, 1, 2, 1, 2)]
    for shape, order in itertools.product(shapes, ["C", "F"]):
        array: AnyArray = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype, order=order)  # type: ignore[call-overload]
        check([savez({"targets": array, "mask": TARGETS}, save)], {"targets": array, "mask": TARGETS})


@given(
    st.dictionaries(
        st.sampled_from(["logits", "targets", "probabilities", "weight", "pos_weight", "mask"]),
        hnp.arrays(
            st.sampled_from([np.dtype(code) for code in DTYPES]),
            hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        ),
    ),
    st.sampled_from([np.savez, np.savez_compressed]),
    st.lists(st.integers(0, 3000), max_size=3),
)
def test_any_arrays_bit_for_bit(
    arrays: dict[str, AnyArray], save: Callable[..., None], cuts: list[int]
) -> None:
    check(split_at(savez(arrays, save), cuts), arrays)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_bfloat16_as_ml_dtypes_saves_it(save: Callable[..., None]) -> None:
    array = np.array([1.0, -2.0, np.inf], dtype=ml_dtypes.bfloat16)
    body, stored = read([savez({"logits": array}, save)])
    assert body.tensors["logits"].dtype == "bfloat16"
    assert array_of(body.tensors["logits"], stored).tobytes() == array.tobytes()


def test_offsets_are_counted_in_the_stored_bytes() -> None:
    body, _ = read([savez(save=np.savez_compressed)])
    assert body.tensors["logits"].offset == len(npy(LOGITS)) - LOGITS.nbytes
    assert body.tensors["targets"].offset == len(npy(LOGITS)) + len(npy(TARGETS)) - TARGETS.nbytes


def test_stored_arrays_are_slices_of_what_came() -> None:
    reader = NpzReader(options={}, names=())
    for chunk in split_at(savez(), range(0, len(savez()), 97)):
        for part in reader.feed(chunk):
            assert isinstance(part, memoryview)
            assert part.obj is chunk


def test_an_empty_archive_holds_nothing() -> None:
    check([savez({})], {})


def test_every_end_is_read_where_zip64_begins_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    for seekable, method in itertools.product((True, False), METHODS.values()):
        body = zipped(method, seekable=seekable, zip64=True)
        assert b"PK\x06\x06" in body
        assert b"PK\x06\x07" in body
        check([body])
        check(split_at(body, range(len(body))))


@pytest.mark.parametrize("form", ["with 32", "with 64", "without 32", "without 64"])
@pytest.mark.parametrize("how", METHODS)
def test_sizes_may_follow_the_data(how: str, form: str) -> None:
    body = followed(METHODS[how], form)
    check([body])
    check(split_at(body, range(len(body))))


def forged(data: bytes, crc: int) -> bytes:
    """Return the data with four more bytes that give them this CRC32."""
    table = [zlib.crc32(bytes([n])) ^ zlib.crc32(b"\0") for n in range(256)]
    by_high_byte = {value >> 24: n for n, value in enumerate(table)}
    state, picks = crc ^ 0xFFFFFFFF, []
    for _ in range(4):
        picks.append(by_high_byte[state >> 24])
        state = ((state ^ table[picks[-1]]) << 8) & 0xFFFFFFFF
    state, more = zlib.crc32(data) ^ 0xFFFFFFFF, bytearray()
    for pick in reversed(picks):
        more.append((state ^ pick) & 0xFF)
        state = (state >> 8) ^ table[pick]
    return data + bytes(more)


@pytest.mark.parametrize("form", ["with 32", "with 64", "without 32", "without 64"])
@pytest.mark.parametrize("how", METHODS)
def test_a_crc_may_look_like_a_descriptor(how: str, form: str) -> None:
    data = forged(npy(np.zeros(4, dtype=np.uint8))[:-4], 0x08074B50)
    assert struct.pack("<I", zlib.crc32(data)) == b"PK\x07\x08"
    member = Member(b"targets.npy", data, METHODS[how], 8, descriptor=descriptor(data, METHODS[how], form))
    check([archive(member)], {"targets": np.frombuffer(data[-4:], dtype=np.uint8)})


UNUSUAL = {
    "plain": archive(Member(), TARGETS_MEMBER),
    "a directory in another order": archive(Member(), TARGETS_MEMBER, backwards=True),
    "comments": archive(Member(comment=b"of a member"), TARGETS_MEMBER, comment=b"of all" * 1000),
    "the longest comment": archive(Member(), TARGETS_MEMBER, comment=bytes(65535)),
    "times in extra fields": archive(
        Member(extra=b"UT\x05\0\x01abcd", entry={"extra": b"UT\x05\0\x01abcd"}), TARGETS_MEMBER
    ),
    "zip64 sizes": archive(
        Member(
            local={"compressed": 0xFFFFFFFF, "size": 0xFFFFFFFF},
            extra=b"ux\0\0" + zip64_field(152, 152),
            entry={"offset": 0xFFFFFFFF, "size": 0xFFFFFFFF, "extra": zip64_field(152, 0)},
        ),
        TARGETS_MEMBER,
    ),
    "zip64 end, all fields full": archive(
        Member(),
        TARGETS_MEMBER,
        wide={},
        end={"disk": 0xFFFF, "count": 0xFFFF, "size": 0xFFFFFFFF, "offset": 0xFFFFFFFF},
    ),
    "zip64 end, none full": archive(Member(), TARGETS_MEMBER, wide={}),
    "sizes before and after": archive(
        Member(
            flags=8,
            local={"crc": zlib.crc32(npy(LOGITS)), "compressed": 152, "size": 152},
            descriptor=descriptor(npy(LOGITS), 0, "with 32"),
        ),
        TARGETS_MEMBER,
    ),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_what_others_may_write(case: str) -> None:
    body = UNUSUAL[case]
    with zipfile.ZipFile(BytesIO(body)) as witness:
        assert witness.testzip() is None
    check([body])
    check(split_at(body, range(len(body))))


def test_needed_is_known_from_a_header_on() -> None:
    array = np.zeros(1 << 20, dtype=np.uint8)
    for body in (savez({"targets": array}), savez({"targets": array}, np.savez_compressed)):
        reader = NpzReader(options={}, names=())
        stored = 0
        for byte in body[:400]:
            for part in reader.feed(bytes([byte])):
                stored += len(part)
                assert reader.needed == (stored if stored < 128 else len(npy(array)))
        assert stored >= 128


def test_the_arena_need_not_be_larger_than_the_body() -> None:
    assert FORMATS["application/x-npz"].arena_bytes(12345) == 12345


# What is skipped.

OTHERS: Mapping[str, AnyArray] = {
    "meta": np.array({"epoch": 3}, dtype=object),
    "class names": np.array(["cat", "dög"]),
    "paths": np.array([b"a.png"] * 500),
    "when": np.array(["2024-05-01"], "M8[D]"),
    "took": np.array([5], "m8[s]"),
    "objects": np.zeros(2, [("x", "f4"), ("label", "U3")]),
    "empty": np.array([], dtype=object),
}
NOTES = {
    ("meta",): "skipped meta (Python objects), which is no tensor",
    ("class names", "when"): "skipped 'class names' (text) and when (dates), which are no tensors",
    tuple(OTHERS): "skipped meta (Python objects), 'class names' (text), paths (text), when (dates), took "
    "(durations) and 2 more, which are no tensors",
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", NOTES)
def test_what_is_no_tensor_is_passed_over_and_named(
    names: tuple[str, ...], save: Callable[..., None]
) -> None:
    others = {name: OTHERS[name] for name in names}
    for arrays in (
        {**ARRAYS, **others},
        {**others, **ARRAYS},
        {"logits": LOGITS, **others, "targets": TARGETS},
    ):
        body = savez(arrays, save)
        check([body])
        check(split_at(body, range(len(body))))
        assert read([body])[0].notes == [NOTES[names]]
        for length in range(0, len(body), 7):
            assert refused([body[:length]]).code == "truncated_body"
    assert read([savez()])[0].notes == []


def test_deflated_objects_may_have_their_sizes_behind_them() -> None:
    member = Member(b"meta.npy", OBJECTS, 8, 8, descriptor=descriptor(OBJECTS, 8, "with 64"))
    for body in (archive(Member(), member, TARGETS_MEMBER), archive(member, Member(), TARGETS_MEMBER)):
        check([body])
        check(split_at(body, range(len(body))))


def test_nothing_is_unpickled() -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return (pytest.fail, ("it was unpickled",))

    check([archive(Member(), Member(b"meta.npy", pickled(Trap())), TARGETS_MEMBER)])


def test_what_is_passed_over_counts() -> None:
    reader = NpzReader(options={}, names=())
    zeros = archive(Member(), Member(b"meta.npy", OBJECTS + bytes(1 << 24), 8), TARGETS_MEMBER)
    assert len(zeros) < 1 << 16
    tracemalloc.start()
    lengths = [len(part) for part in reader.feed(zeros)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.skipped == len(OBJECTS) + (1 << 24)
    assert sum(lengths) == len(npy(LOGITS)) + len(npy(TARGETS))
    assert lengths.count(0) >= (1 << 24) // CHUNK_BYTES  # each time the caller can check its limits
    assert peak < 4 * CHUNK_BYTES


# What is refused.


def one(**wrong: Any) -> bytes:  # noqa: ANN401 -- whatever Member takes
    """Return an archive whose first member is wrong."""
    return archive(Member(**wrong), TARGETS_MEMBER)


GOOD = archive(Member(), TARGETS_MEMBER)
SECOND = 30 + len(b"logits.npy") + len(npy(LOGITS))  # where the second member begins
DIRECTORY = SECOND + 30 + len(b"targets.npy") + len(npy(TARGETS))
SECOND_ENTRY = DIRECTORY + 46 + len(b"logits.npy")
END = SECOND_ENTRY + 46 + len(b"targets.npy")
DEFLATED = deflated(npy(LOGITS))


def pickled(value: object) -> bytes:
    """Write a Python object with np.save."""
    file = BytesIO()
    np.save(file, np.array(value, dtype=object))
    return file.getvalue()


OBJECTS = pickled({"epoch": 3})

HOSTILE: Mapping[str, tuple[bytes, str, str]] = {
    # Around the members.
    "junk before": (archive(Member(), junk=b"#!/bin/sh\n"), "malformed_npz", "23 21 2f 62 at byte 0"),
    "a gap": (archive(Member(), TARGETS_MEMBER, gap=b"\0"), "malformed_npz", f"at byte {SECOND}, which"),
    "zeros behind the directory": (
        archive(Member(), tail=bytes(4)),
        "malformed_npz",
        "00 00 00 00 at byte 248",
    ),
    "a .npy": (npy(LOGITS), "malformed_npz", "send it as application/x-npy"),
    "a gzip": (b"\x1f\x8b\x08\0" * 10, "malformed_npz", "1f 8b 08 00 at byte 0"),
    "spanned": (b"PK\x07\x08" + GOOD, "malformed_npz", "50 4b 07 08 at byte 0"),
    "a signed directory": (archive(Member(), tail=b"PK\x05\x05\0\0"), "malformed_npz", "50 4b 05 05"),
    "only a locator": (archive(tail=b"PK\x06\x07"), "malformed_npz", "where the end record should be"),
    "a member behind the directory": (
        archive(Member(), tail=GOOD),
        "malformed_npz",
        "50 4b 03 04 at byte 248",
    ),
    # Names.
    "a member twice": (archive(Member(), Member()), "malformed_npz", f"second logits.npy at byte {SECOND}"),
    "a misspelt name": (one(name=b"logit.npy"), "unknown_tensor", "did you mean logits?"),
    "np.savez without names": (savez({"arr_0": LOGITS}), "unknown_tensor", r"np.savez\(file, logits=x"),
    "no suffix": (one(name=b"logits"), "unknown_tensor", "'logits' is no .npy file"),
    "upper case": (one(name=b"logits.NPY"), "unknown_tensor", "as logits.npy"),
    "a path": (one(name=b"../logits.npy"), "unknown_tensor", "did you mean logits"),
    "a drive": (one(name=b"C:\\logits.npy"), "unknown_tensor", "did you mean logits"),
    "a folder": (one(name=b"logits/"), "unknown_tensor", "'logits/'"),
    "a NUL": (one(name=b"logits.npy\0.txt"), "unknown_tensor", "no .npy file"),
    "no name": (one(name=b""), "unknown_tensor", "no .npy file"),
    "not ASCII": (one(name="lögits.npy".encode(), flags=1 << 11), "unknown_tensor", "no tensor"),
    "a long name": (one(name=b"logits.npy" * 6000), "unknown_tensor", "no tensor"),
    # What cannot be read.
    **{
        f"flag {bit}": (one(flags=1 << bit), "unsupported_encoding", "logits.npy is encrypted")
        for bit in (0, 5, 6, 13)
    },
    **{
        f"method {method}": (one(method=method), "unsupported_encoding", f"of method {method}, .* at byte 0")
        for method in (1, 6, 9, 12, 14, 93, 95, 99)
    },
    # Local headers that lie.
    "local CRC": (one(local={"crc": 1}), "malformed_npz", "says crc 1, not"),
    "local size, less": (one(local={"size": 151}), "truncated_body", "announces 152 bytes, .* has 151"),
    "local size, more": (one(local={"size": 153}), "trailing_bytes", "from byte 152 of its member"),
    "local compressed size, less": (one(local={"compressed": 151}), "truncated_body", "only 23 of 24 bytes"),
    "local compressed size, more": (one(local={"compressed": 153}), "malformed_npz", "size 153, not 152"),
    "local sizes of 0": (one(local={"compressed": 0, "size": 0}), "truncated_body", "ends after 0 bytes"),
    "local sizes within the header": (
        one(local={"compressed": 5, "size": 5}),
        "truncated_body",
        "ends after 5 bytes, within its .npy header",
    ),
    "full sizes without zip64": (one(local={"size": 0xFFFFFFFF}), "malformed_npz", "zip64 field lacks"),
    "a zip64 field too short": (
        one(local={"size": 0xFFFFFFFF, "compressed": 0xFFFFFFFF}, extra=zip64_field(152)),
        "malformed_npz",
        "zip64 field lacks",
    ),
    "zip64 sizes of 2^64 - 1": (
        one(local={"size": 0xFFFFFFFF, "compressed": 0xFFFFFFFF}, extra=zip64_field(2**64 - 1, 2**64 - 1)),
        "trailing_bytes",
        "from byte 152 of its member",
    ),
    "an extra field cut short": (one(extra=b"UT\x05\0\x01"), "malformed_npz", "cut short in the header"),
    "half an extra field's head": (one(extra=b"UT\x05"), "malformed_npz", "cut short in the header"),
    "long extra fields": (
        one(extra=b"UT" + struct.pack("<H", MAX_EXTRA_BYTES) + bytes(MAX_EXTRA_BYTES)),
        "malformed_npz",
        "4100 bytes of extra fields at byte 0",
    ),
    # Data.
    "a flipped bit": (one(data=npy(-LOGITS), coded=npy(LOGITS)), "malformed_npz", "says crc"),
    "no .npy": (one(data=b"logits"), "truncated_body", "6 bytes, within its .npy header"),
    "a .npz inside": (one(data=savez()), "malformed_npy", "is it an .npz"),
    "two .npy": (one(data=npy(LOGITS) * 2), "trailing_bytes", "from byte 152 of its member"),
    "two deflated .npy": (
        one(data=npy(LOGITS) * 2, method=8),
        "trailing_bytes",
        "from byte 152 of its member",
    ),
    "short": (one(data=npy(LOGITS)[:-1]), "truncated_body", "announces 152 bytes, but its member has 151"),
    "short, sizes following": (
        archive(Member(data=npy(LOGITS)[:-1], method=8, flags=8), TARGETS_MEMBER),
        "truncated_body",
        "only 23 of 24 bytes",
    ),
    "long, sizes following": (
        archive(Member(data=npy(LOGITS) + b"\0", flags=8, descriptor=bytes(16)), TARGETS_MEMBER),
        "malformed_npz",
        f"descriptor at byte {SECOND}",
    ),
    "deflated data corrupt": (
        one(method=8, coded=b"\xff" + DEFLATED),
        "malformed_npz",
        "corrupt deflated data between bytes 40 and",
    ),
    "deflated data without end": (
        one(method=8, coded=DEFLATED[:-1]),
        "malformed_npz",
        f"do not end by byte {39 + len(DEFLATED)}",
    ),
    "deflated data with more": (
        one(method=8, coded=DEFLATED + b"\0"),
        "malformed_npz",
        f"compressed_size {len(DEFLATED) + 1}, not {len(DEFLATED)}",
    ),
    "deflated nothing": (one(method=8, coded=b""), "malformed_npz", "do not end by byte 40"),
    "deflated as zlib does": (one(method=8, coded=zlib.compress(npy(LOGITS))), "malformed_npz", "corrupt"),
    "objects": (
        savez({"logits": np.array([print, None], dtype=object)}),
        "dtype_not_allowed",
        "never unpickled",
    ),
    "ragged rows": (
        savez({"targets": np.array([[1], [0, 1]], dtype=object)}),
        "dtype_not_allowed",
        "targets has the dtype .*never unpickled",
    ),
    "words for targets": (
        savez({"targets": np.array(["cat", "dog"])}),
        "dtype_not_allowed",
        "targets has the dtype '<U3'",
    ),
    # What is no tensor.
    **{
        f"{what} of another name": (savez({**ARRAYS, name: array}, save), "unknown_tensor", words)
        for save in (np.savez, np.savez_compressed)
        for what, name, array, words in [
            ("numbers", "weigth", LOGITS, "did you mean weight"),
            ("an epoch", "epoch", np.array(3), "leave out numbers that the loss does not depend on"),
            ("booleans", "keep", TARGETS, "no tensor 'keep'"),
            ("complex numbers", "z", np.array([1j]), "no tensor 'z'"),
            ("long doubles", "x", np.array([1], np.longdouble), "no tensor 'x'"),
            ("bytes of no type", "x", np.zeros(2, "V1"), "no tensor 'x'"),  # as a float8 is saved
            ("9 dimensions", "x", np.zeros((1,) * 9), "no tensor 'x'"),
            ("objects, but for a slip", "weigth", np.array([None]), "did you mean weight"),
            ("text, but for a slip", "target", np.array(["cat"]), "did you mean targets"),
        ]
    },
    "no .npy of another name": (
        archive(Member(b"meta.npy", b"{}" * 99)),
        "unknown_tensor",
        "no tensor 'meta'",
    ),
    "a short .npy of another name": (
        archive(Member(b"meta.npy", npy(np.array("a"))[:50])),
        "unknown_tensor",
        "no tensor 'meta'",
    ),
    "objects whose end is not known": (
        archive(Member(b"meta.npy", OBJECTS, 0, 8, descriptor=descriptor(OBJECTS, 0, "with 32"))),
        "unsupported_encoding",
        "np.savez_compressed",
    ),
    "objects with another CRC": (
        archive(Member(), Member(b"meta.npy", OBJECTS, local={"crc": 1})),
        "malformed_npz",
        "says crc 1, not",
    ),
    "objects twice": (
        archive(Member(b"meta.npy", OBJECTS), Member(b"meta.npy", OBJECTS)),
        "malformed_npz",
        "a second 'meta.npy'",
    ),
    "objects of another size": (
        archive(Member(b"meta.npy", OBJECTS, entry={"size": 5})),
        "malformed_npz",
        f"size 5, not {len(OBJECTS)}",
    ),
    "objects that the directory lacks": (
        archive(Member(b"m\xff.npy", OBJECTS), TARGETS_MEMBER)[: -22 - 2 * 46 - 6 - 11]
        + b"PK\x05\x06"
        + bytes(18),
        "malformed_npz",
        "a directory without 'm.*', targets.npy",
    ),
    "deflated objects with more": (
        archive(Member(b"meta.npy", OBJECTS, 8, coded=deflated(OBJECTS) + b"\0")),
        "malformed_npz",
        "compressed_size",
    ),
    # Descriptors.
    **{
        f"descriptor, {what}": (
            one(flags=8, descriptor=b"PK\x07\x08" + struct.pack("<III", crc, compressed, size)),
            "malformed_npz",
            f"data descriptor at byte {SECOND} that says other than CRC",
        )
        for what, crc, compressed, size in [
            ("CRC", 1, 152, 152),
            ("compressed size", zlib.crc32(npy(LOGITS)), 151, 152),
            ("size", zlib.crc32(npy(LOGITS)), 152, 0),
        ]
    },
    "no descriptor": (one(flags=8), "malformed_npz", "data descriptor"),
    "sizes after and others before": (
        one(flags=8, local={"compressed": 151}, descriptor=descriptor(npy(LOGITS), 0, "with 32")),
        "truncated_body",
        "only 23 of 24",
    ),
    # The directory.
    **{
        f"directory, {what}": (one(entry={what: value}), "malformed_npz", f"{DIRECTORY} says {seen}")
        for what, value, seen in [
            ("crc", 1, "crc 1, not"),
            ("compressed", 151, "compressed_size 151, not 152"),
            ("size", 1 << 30, "size 1073741824, not 152"),
            ("offset", 1, "offset 1, not 0"),
            ("offset", SECOND, f"offset {SECOND}, not 0"),
            ("method", 8, "method 8, not 0"),
            ("disk", 1, "disk 1, not 0"),
            ("flags", 1, "encryption 1, not 0"),
        ]
    },
    "overlapping members": (
        archive(Member(), Member(b"targets.npy", npy(TARGETS), entry={"offset": 0})),
        "malformed_npz",
        f"offset 0, not {SECOND}",
    ),
    "the directory has another name": (
        one(entry={"name": b"weight.npy"}),
        "malformed_npz",
        "entry for 'weight.npy'",
    ),
    "the directory has a name twice": (
        archive(Member(), Member(b"targets.npy", npy(TARGETS), entry={"name": b"logits.npy"})),
        "malformed_npz",
        f"{SECOND_ENTRY}, where no member of that name is left",
    ),
    "the directory has one more": (
        archive(
            Member(),
            tail=entry(
                TARGETS_MEMBER, {"flags": 0, "method": 0, "crc": 0, "compressed": 0, "size": 0, "offset": 0}
            ),
        ),
        "malformed_npz",
        "entry for 'targets.npy'",
    ),
    "no directory": (GOOD[:DIRECTORY] + GOOD[END:], "malformed_npz", "without logits.npy, targets.npy"),
    "an entry too few": (GOOD[:SECOND_ENTRY] + GOOD[END:], "malformed_npz", "without targets.npy"),
    "a full offset without zip64": (one(entry={"offset": 0xFFFFFFFF}), "malformed_npz", "zip64 field lacks"),
    "an extra field of an entry": (one(entry={"extra": b"UT"}), "malformed_npz", "cut short in the header"),
    # The end.
    **{
        f"end, {what}": (
            archive(Member(), TARGETS_MEMBER, end={what: value}),
            "malformed_npz",
            f"the end record at byte {END} says {seen}",
        )
        for what, value, seen in [
            ("disk", 1, "disk 1, not 0"),
            ("count", 1, "entries here 1, not 2"),
            ("count", 0xFFFF, "entries here 65535, not 2"),
            ("size", 0, f"directory size 0, not {END - DIRECTORY}"),
            ("offset", SECOND, f"directory offset {SECOND}, not {DIRECTORY}"),
            ("offset", 0xFFFFFFFF, "directory offset 4294967295, not"),
        ]
    },
    **{
        f"zip64 end, {what}": (archive(Member(), TARGETS_MEMBER, wide={what: value}), "malformed_npz", seen)
        for what, value, seen in [
            ("length", 45, f"the zip64 end record at byte {END} says length 45, not 44"),
            ("length", 2**63, "length 9223372036854775808, not 44"),
            ("count", 1 << 32, "entries 4294967296, not 2"),
            ("offset", 0, f"directory offset 0, not {DIRECTORY}"),
            ("at", 0, f"the zip64 locator at byte {END + 56} says offset 0, not {END}"),
            ("disks", 2, "disks 2, not 1"),
            ("mark", 6, "where the zip64 locator should be"),
        ]
    },
    "only half full": (
        archive(Member(), TARGETS_MEMBER, wide={}, end={"offset": 5}),
        "malformed_npz",
        "directory offset 5, not",
    ),
    # Behind the end.
    "a byte more": (GOOD + b"\0", "trailing_bytes", f"from byte {len(GOOD)} on"),
    "an archive more": (GOOD + GOOD, "trailing_bytes", f"from byte {len(GOOD)} on"),
    "more than the comment": (GOOD + b"comment", "trailing_bytes", f"from byte {len(GOOD)} on"),
    # Many.
    "65,536 members": (
        archive(*(Member(b"%d.npy" % n, b"") for n in range(1 << 16)), end={"count": 0}),
        "unknown_tensor",
        "no tensor '0'",
    ),
    "65,536 members of one name": (GOOD[:SECOND] * (1 << 16), "malformed_npz", "a second logits.npy"),
    "65,536 entries for one member": (
        GOOD[:SECOND] + GOOD[DIRECTORY:SECOND_ENTRY] * (1 << 16),
        "malformed_npz",
        "no member of that name is left",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_refused(case: str) -> None:
    body, code, words = HOSTILE[case]
    begin = time.thread_time()
    for chunks in ([body], split_at(body, range(min(len(body), 1500))), [body[:40], body[40:]]):
        with pytest.raises(RequestError, match=words) as caught:
            read(chunks)
        assert caught.value.code == code
        check_error(caught.value)
    assert time.thread_time() - begin < 1


@pytest.mark.parametrize(
    "body",
    [
        WRITTEN["np.savez"],
        WRITTEN["np.savez_compressed"],
        WRITTEN["zipfile, deflated, piped"],
        followed(0, "without 64"),
        UNUSUAL["zip64 end, all fields full"],
        one(comment=b"comment", extra=b"UT\x01\0\0"),
    ],
)
def test_truncated_anywhere(body: bytes) -> None:
    for length in range(len(body)):
        error = refused([body[:length]])
        assert error.code == "truncated_body"


def test_truncation_says_where() -> None:
    with pytest.raises(RequestError, match=r"after 10 bytes, within the local header at byte 0; send all"):
        read([GOOD[:10]])
    with pytest.raises(
        RequestError, match=r"logits is float32 \[2, 3\], but only 20 of 24 bytes came"
    ) as caught:
        read([GOOD[: SECOND - 4]])
    assert caught.value.errors[0][0] == "/logits"
    with pytest.raises(RequestError, match=rf"within the directory's entry at byte {DIRECTORY}; send all"):
        read([GOOD[: DIRECTORY + 20]])
    with pytest.raises(
        RequestError, match=rf"after {END} bytes, within the signature at byte {END}; send all"
    ):
        read([GOOD[:END]])


def test_errors_are_told_as_soon_as_they_show() -> None:
    reader = NpzReader(options={}, names=())
    with pytest.raises(RequestError, match="announces 152 bytes"):
        deque(reader.feed(one(local={"size": 151})[: 40 + 128]))


# Bombs.


def bomb(size: int, announced: int) -> bytes:
    """Return a member's header and deflated data: zeros, and a .npy header that announces some of them."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    header = BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": (announced,)}
    np.lib.format.write_array_header_1_0(header, described)
    coded = compressor.compress(header.getvalue())
    coded += b"".join(compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)) + compressor.flush()
    member = Member(b"targets.npy", coded=coded, method=8, flags=8)
    return local_header(member, {"flags": 8, "method": 8, "crc": 0, "compressed": 0, "size": 0}) + coded


def test_a_bomb_is_never_held() -> None:
    size = 64 << 20
    body = bomb(size, size)
    assert len(body) < size / 900
    reader = NpzReader(options={}, names=())
    tracemalloc.start()
    stored = 0
    longest = 0
    for part in reader.feed(body):
        stored += len(part)
        longest = max(longest, len(part))
        assert reader.needed == 128 + size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stored == 128 + size
    assert longest == CHUNK_BYTES
    assert peak < 4 * CHUNK_BYTES


def test_a_bomb_behind_an_array_is_refused_at_its_first_chunk() -> None:
    reader = NpzReader(options={}, names=())
    taken: list[Chunk] = []
    with pytest.raises(RequestError, match="from byte 138 of its member on"):
        taken.extend(reader.feed(bomb(64 << 20, 10)))
    assert taken == []


def test_a_bomb_announces_itself_before_it_is_inflated() -> None:
    reader = NpzReader(options={}, names=())
    first = next(iter(reader.feed(bomb(16 << 20, 1 << 50))))
    assert len(first) == CHUNK_BYTES
    assert reader.needed == 128 + (1 << 50)


# Mutants.


def mutant(body: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Return a body with one to three errors."""
    wrong = bytearray(body)
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(len(wrong) + 1)
        match chance.randrange(5):
            case 0:
                wrong[at:] = b""
            case 1:
                end = at + chance.randrange(40)
                wrong[at:end] = b""
            case 2:
                other = chance.choice(others)
                begin = chance.randrange(len(other))
                wrong[at:at] = other[begin : begin + chance.randrange(200)]
            case 3:
                wrong[at : at + 1] = bytes([chance.choice((0, 1, 8, 0x7F, 0x80, 0xFF))])
            case _:
                if at < len(wrong):
                    wrong[at] ^= 1 << chance.randrange(8)
    return bytes(wrong)


def test_mutants_are_read_as_numpy_reads_them_or_refused() -> None:
    chance = random.Random(20240607)
    bodies = [*WRITTEN.values(), *(b for b in UNUSUAL.values() if len(b) < 2000), followed(8, "without 32")]
    read_ones = 0
    for _ in range(6000):
        body = mutant(chance.choice(bodies), bodies, chance)
        begin = time.thread_time()
        result = outcome(split_at(body, [chance.randrange(len(body) + 1)]))
        assert time.thread_time() - begin < 1
        if isinstance(result, RequestError):
            continue
        read_ones += 1
        found, stored = result
        try:
            with np.load(BytesIO(body)) as witness:
                theirs = dict(witness)
        except (NotImplementedError, zipfile.BadZipFile):
            continue  # a field that does not concern the arrays, such as a version
        assert {name: array_of(tensor, stored).tobytes() for name, tensor in found.tensors.items()} == {
            name: array.tobytes() for name, array in theirs.items()
        }
    assert 100 < read_ones < 3000
