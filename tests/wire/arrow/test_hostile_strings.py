"""Columns of strings and dictionaries that no writer would send."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Mapping, Sequence

import pytest

from wire.arrow.handmade import (
    END,
    TYPES,
    Longs,
    Node,
    Structs,
    batch_of,
    byte,
    field_of,
    integer,
    long,
    message,
    schema_of,
)
from wire.arrow.string_column import read, refusal
from wire.feeding import split_at

UTF8: dict[int, Node] = {2: byte(5), 3: {}}
LARGE_UTF8: dict[int, Node] = {2: byte(20), 3: {}}
VIEWS: dict[int, Node] = {2: byte(24), 3: {}}
INT8: dict[int, Node] = {0: integer(8), 1: byte(1)}

Buffers = Sequence[bytes | tuple[int, int]]


def laid(buffers: Buffers) -> tuple[bytes, Structs]:
    """Return the body of these buffers (or offsets and lengths that say otherwise), and where they are."""
    body = b""
    places = []
    for buffer in buffers:
        if isinstance(buffer, tuple):
            places.append(buffer)
        else:
            places.append((len(body), len(buffer)))
            body += buffer + bytes(-len(buffer) % 8)
    return body, Structs(places)


def column_batch(rows: int, buffers: Buffers, more: Mapping[int, Node] | None = None) -> bytes:
    """Return a record batch of one column without nulls."""
    body, places = laid([b"", *buffers])
    return batch_of(rows, [(rows, 0)], places.pairs, body, more=more)


def entries(number: int, rows: int, buffers: Buffers, *, delta: bool = False, nulls: int = 0) -> bytes:
    """Return a dictionary batch."""
    body, places = laid([b"", *buffers])
    batch: dict[int, Node] = {0: long(rows), 1: Structs([(rows, nulls)]), 2: places}
    return message(2, {0: long(number), 1: batch, 2: byte(delta)}, body)


def encoded(name: str, kind: Mapping[int, Node], number: int = 0, index: Node = INT8) -> dict[int, Node]:
    return {0: name, **kind, 4: {0: long(number), 1: index}}


def offsets(*places: int) -> bytes:
    return struct.pack(f"<{len(places)}i", *places)


def view(text: bytes) -> bytes:
    return struct.pack("<i12s", len(text), text)


def view_of(length: int, buffer: int, offset: int) -> bytes:
    return struct.pack("<i4xii", length, buffer, offset)


def variadic(*counts: int) -> dict[int, Node]:
    return {4: Longs(counts)}


STRINGS = schema_of(field_of("group.a", UTF8))
LARGE = schema_of(field_of("ids", LARGE_UTF8))
VIEWED = schema_of(field_of("group.a", VIEWS))
ENCODED = schema_of(encoded("group.a", UTF8))
NUMBERS = schema_of(encoded("ids", TYPES["int32"]))
C = [offsets(0, 1), b"c"]
AB = entries(0, 2, [offsets(0, 1, 2), b"ab"])

SOUND: dict[str, tuple[bytes, list[object]]] = {
    "strings": (STRINGS + column_batch(2, [offsets(0, 2, 3), b"abc"]), ["ab", "c"]),
    "strings that begin later": (STRINGS + column_batch(2, [offsets(2, 2, 3), b"abc"]), ["", "c"]),
    "strings with bytes to spare": (STRINGS + column_batch(1, [offsets(0, 1, 9, 0), b"abc"]), ["a"]),
    "empty strings without data": (STRINGS + column_batch(2, [offsets(0, 0, 0), b""]), ["", ""]),
    "no rows, no offsets": (STRINGS + column_batch(0, [b"", b""]), []),
    "large strings": (LARGE + column_batch(2, [struct.pack("<3q", 0, 2, 3), b"abc"]), ["ab", "c"]),
    "a dictionary": (ENCODED + AB + column_batch(3, [b"\1\0\1"]), ["b", "a", "b"]),
    "a delta": (ENCODED + AB + entries(0, 1, C, delta=True) + column_batch(1, [b"\2"]), ["c"]),
    "a replacement": (ENCODED + AB + entries(0, 1, C) + column_batch(1, [b"\0"]), ["c"]),
    "an empty dictionary": (ENCODED + entries(0, 0, [b"", b""]) + column_batch(0, [b""]), []),
    "no dictionary, and no rows": (ENCODED + column_batch(0, [b""]), []),
    "numbers": (NUMBERS + entries(0, 2, [struct.pack("<2i", 7, -9)]) + column_batch(2, [b"\1\0"]), [-9, 7]),
}  # fmt: skip
THREE_VIEWS = [view(b"short") + view_of(13, 0, 1) + view_of(14, 1, 0), b"0123456789abcd", b"wide enough!!!"]
SOUND["views"] = (
    VIEWED + column_batch(3, THREE_VIEWS, variadic(2)),
    ["short", "123456789abcd", "wide enough!!!"],
)


@pytest.mark.parametrize("case", SOUND)
def test_what_the_hostile_streams_are_made_from_is_sound(case: str) -> None:
    body, expected = SOUND[case]
    for chunks in ([body + END], split_at(body + END, range(len(body)))):
        _, values = read(chunks)
        assert list(values.values()) == [expected]


HUGE = 1 << 31
MALFORMED: dict[str, bytes] = {
    # Where strings are.
    "strings that end before they begin": (STRINGS + column_batch(2, [offsets(0, 2, 1), b"abc"])),
    "strings that begin at -1": (STRINGS + column_batch(2, [offsets(-1, 2, 3), b"abc"])),
    "strings beyond the data": (STRINGS + column_batch(2, [offsets(0, 2, 4), b"abc"])),
    "strings that come back": (STRINGS + column_batch(2, [offsets(0, 9, 3), b"abc"])),
    "strings of -2^31": (STRINGS + column_batch(1, [offsets(0, -HUGE), b"abc"])),
    "large strings of 2^63": (LARGE + column_batch(2, [struct.pack("<3q", -(2**63), 2**63 - 1, 0), b"abc"])),
    "large strings around all of 2^64": (
        LARGE + column_batch(1, [struct.pack("<2q", 2**63 - 1, -(2**63)), b"a"])
    ),
    "large strings back to -2^63": (LARGE + column_batch(1, [struct.pack("<2q", 1, -(2**63)), b"abc"])),
    "an offset less": (STRINGS + column_batch(2, [offsets(0, 2), b"abc"])),
    "no offsets": (STRINGS + column_batch(2, [b"", b"abc"])),
    "no data": (STRINGS + column_batch(2, [offsets(0, 2, 3), b""])),
    "a buffer less": (STRINGS + column_batch(2, [offsets(0, 2, 3)])),
    "a buffer more": (STRINGS + column_batch(2, [offsets(0, 2, 3), b"abc", b""])),
    "buffers that overlap": (STRINGS + column_batch(1, [offsets(0, 1), (0, 8)])),
    "2^31 strings": (STRINGS + column_batch(HUGE, [offsets(0, 1), b"a"])),
    "2^31 strings, it says": (STRINGS + column_batch(HUGE, [(0, 4 * HUGE + 4), (0, 0)])),
    # What strings are.
    "no UTF-8": (STRINGS + column_batch(2, [offsets(0, 1, 3), b"a\xff\xff"])),
    "half a character": (STRINGS + column_batch(1, [offsets(0, 1), "é".encode()])),
    "a character in two strings": (STRINGS + column_batch(2, [offsets(0, 1, 2), "é".encode()])),
    "a surrogate": (STRINGS + column_batch(1, [offsets(0, 3), b"\xed\xa0\x80"])),
    "an overlong character": (STRINGS + column_batch(1, [offsets(0, 2), b"\xc0\x80"])),
    # Views.
    "a view less": (VIEWED + column_batch(4, THREE_VIEWS, variadic(2))),
    "views of -1 bytes": (VIEWED + column_batch(1, [view_of(-1, 0, 0), b"abc"], variadic(1))),
    "views of -2^31 bytes": (VIEWED + column_batch(1, [view_of(-HUGE, 0, 0)], variadic(0))),
    "views of 2^31 - 1 bytes": (
        VIEWED + column_batch(1, [view_of(HUGE - 1, 0, HUGE - 1), b"abc"], variadic(1))
    ),
    "views into buffer -1": (VIEWED + column_batch(1, [view_of(13, -1, 0)], variadic(0))),
    "views into buffer -2": (VIEWED + column_batch(1, [view_of(13, -2, 0)], variadic(0))),
    "views into no buffer": (VIEWED + column_batch(1, [view_of(13, 0, 0)], variadic(0))),
    "views into a later buffer": (VIEWED + column_batch(1, [view_of(13, 1, 0), bytes(20)], variadic(1))),
    "views before a buffer": (VIEWED + column_batch(1, [view_of(13, 0, -1), bytes(20)], variadic(1))),
    "views behind a buffer": (VIEWED + column_batch(1, [view_of(13, 0, 8), bytes(20)], variadic(1))),
    "views of no UTF-8": (VIEWED + column_batch(1, [view(b"\xff")], variadic(0))),
    "no number of buffers": (VIEWED + column_batch(1, [view(b"a")])),
    "two numbers of buffers": (VIEWED + column_batch(1, [view(b"a")], variadic(0, 0))),
    "-1 buffers": (VIEWED + column_batch(1, [], variadic(-1))),
    "2^62 buffers": (VIEWED + column_batch(1, [view(b"a")], variadic(1 << 62))),
    "a number of buffers without views": (STRINGS + column_batch(1, [offsets(0, 1), b"a"], variadic(0))),
    # Dictionaries.
    "an index of 2": (ENCODED + AB + column_batch(2, [b"\0\2"])),
    "an index of -1": (ENCODED + AB + column_batch(2, [b"\0\xff"])),
    "an index of 2^64 - 1": (
        schema_of(encoded("group.a", UTF8, index={0: integer(64)})) + AB + column_batch(1, [b"\xff" * 8])
    ),
    "indices too short": (ENCODED + AB + column_batch(2, [b"\0"])),
    "indices of 7 bits": (schema_of(encoded("group.a", UTF8, index={0: integer(7)}))),
    "no dictionary": (ENCODED + column_batch(1, [b"\0"])),
    "a dictionary that was replaced by none": (
        ENCODED + AB + entries(0, 0, [b"", b""]) + column_batch(1, [b"\0"])
    ),
    "another column's dictionary": (ENCODED + entries(1, 1, [offsets(0, 1), b"a"])),
    "a delta first": (ENCODED + entries(0, 1, [offsets(0, 1), b"a"], delta=True)),
    "a dictionary of nothing": (ENCODED + message(2, {0: long(0)})),
    "a dictionary of no UTF-8": (ENCODED + entries(0, 1, [offsets(0, 1), b"\xff"])),
    "a dictionary of -1": (ENCODED + entries(0, -1, [b"", b""])),
    "a dictionary of 2^31": (ENCODED + entries(0, HUGE, [offsets(0, 1), b"a"])),
    "one dictionary for two types": (schema_of(encoded("group.a", UTF8), encoded("ids", TYPES["int8"]))),
    "a dictionary of strings, it says": (NUMBERS + AB),
}
BAD_SHAPES: dict[str, bytes] = {
    "2^62 strings": (STRINGS + column_batch(1 << 62, [offsets(0, 1), b"a"])),
    "257 bytes": (STRINGS + column_batch(1, [offsets(0, 257), bytes(257)])),
    "views of 257 bytes": (VIEWED + column_batch(1, [view_of(257, 0, 0), bytes(300)], variadic(1))),
    "a dictionary with a null": (ENCODED + entries(0, 1, [offsets(0, 1), b"a"], nulls=1)),
    "a dictionary of 257 bytes": (ENCODED + entries(0, 1, [offsets(0, 257), bytes(257)])),
    "a dictionary of 2^62": (NUMBERS + entries(0, 1 << 62, [bytes(4)])),
}


@pytest.mark.parametrize("case", [*MALFORMED, *BAD_SHAPES])
def test_hostile_streams(case: str) -> None:
    body = (MALFORMED | BAD_SHAPES)[case]
    code = "malformed_arrow" if case in MALFORMED else "bad_shape"
    for chunks in ([body + END], split_at(body, range(len(body)))):
        assert refusal(chunks).code == code


def test_errors_say_which_row() -> None:
    first = STRINGS + column_batch(2, [offsets(0, 1, 2), b"ab"])
    error = refusal([first + column_batch(2, [offsets(0, 1, 2), b"a\xff"])])
    assert "the string of group.a in row 3 is not UTF-8" in error.detail
    error = refusal([first + column_batch(3, [offsets(0, 1, 1, 0), b"a"])])
    assert "the string of group.a in row 4 goes from byte 1 to byte 0 of 1" in error.detail
    error = refusal([ENCODED + AB + column_batch(3, [b"\0\1\2"])])
    assert "group.a has the index 2 in row 2, but its dictionary has 2 entries" in error.detail


def test_columns_may_share_a_dictionary() -> None:
    schema = schema_of(encoded("group.a", UTF8), encoded("ids", UTF8))
    body, places = laid([b"", b"\1\1", b"", b"\0\1"])
    batch = batch_of(2, [(2, 0)] * 2, places.pairs, body)
    _, values = read([schema + AB + batch + END])
    assert values == {"group.a": ["b", "b"], "ids": ["a", "b"]}


def test_big_endian_strings() -> None:
    for field, buffers in [
        (field_of("ids", UTF8), [struct.pack(">3i", 0, 1, 3), b"abc"]),
        (field_of("ids", LARGE_UTF8), [struct.pack(">3q", 0, 1, 3), b"abc"]),
    ]:
        body = schema_of(field, big=True) + column_batch(2, buffers) + END
        assert read([body])[1] == {"ids": ["a", "bc"]}
    wide = struct.pack(">i4xii", 13, 0, 1) + struct.pack(">i12s", 2, b"bc")
    body = schema_of(field_of("ids", VIEWS), big=True) + column_batch(2, [wide, b"x" * 14], variadic(1)) + END
    assert read([body])[1] == {"ids": ["x" * 13, "bc"]}
    schema = schema_of(encoded("ids", TYPES["int32"], index={0: integer(16)}), big=True)
    dictionary = entries(0, 2, [struct.pack(">2i", 7, -9)])
    body = schema + dictionary + column_batch(2, [struct.pack(">2H", 1, 0)]) + END
    columns, values = read([body])
    assert (values, columns[0].big_endian) == ({"ids": [-9, 7]}, False)


def test_hostile_streams_take_neither_memory_nor_time() -> None:
    tracemalloc.start()
    begun = time.perf_counter()
    for body in (MALFORMED | BAD_SHAPES).values():
        refusal([body])
    taken = time.perf_counter() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert taken < 2


def test_many_deltas_cost_no_more_than_their_bytes() -> None:
    """Each is of one entry, for a dictionary of 200,000, and a row follows it."""
    count, deltas = 200_000, 2_000
    numbers = struct.pack(f"<{count}i", *range(count))
    more = entries(0, 1, [bytes(4)], delta=True)
    index: Node = {0: integer(32), 1: byte(1)}
    schemas = {
        "ids": schema_of(encoded("ids", TYPES["int32"], index=index)),
        "group.a": schema_of(encoded("group.a", UTF8, index=index)),
    }
    row = column_batch(1, [struct.pack("<i", count)])
    text = entries(0, 1, [offsets(0, 1), b"x"], delta=True)
    begins = struct.pack(f"<{count + 1}i", *range(0, 5 * count + 1, 5))
    texts = entries(0, count, [begins, b"".join(b"%05x" % n for n in range(count))])
    for body in (
        schemas["ids"] + entries(0, count, [numbers]) + deltas * (more + row),
        schemas["group.a"] + texts + deltas * (text + row),
    ):
        begun = time.process_time()
        read([body + END])
        assert time.process_time() - begun < 2
