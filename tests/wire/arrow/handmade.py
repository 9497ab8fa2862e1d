"""Arrow streams made by hand, with contents that pyarrow would never write.

A FlatBuffers table is a dict by field number, in the order in which the fields are stored; numbers are bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
Node: TypeAlias = "bytes | str | Raw | Mapping[int, Node] | Sequence[Mapping[int, Node]] | Structs | Longs"


@dataclass
class Structs:
    """A vector of pairs."""

    pairs: Sequence[tuple[int, int]]


@dataclass
class Longs:
    """A vector of numbers."""

    numbers: Sequence[int]


@dataclass
class Raw:
    """A reference at a distance from itself."""

    distance: int


def flat(root: Mapping[int, Node]) -> bytes:
    """Return a FlatBuffer."""
    out = bytearray(4)
    struct.pack_into("<I", out, 0, lay_table(out, root))
    return bytes(out)


def pad(out: bytearray, more: int, to: int) -> None:
    """Return the padding behind so many bytes."""
    out += bytes(-(len(out) + more) % to)


def lay(out: bytearray, node: Node) -> int:
    if isinstance(node, str):
        pad(out, 0, 4)
        position = len(out)
        out += struct.pack("<I", len(node.encode())) + node.encode() + b"\x00"
        return position
    if isinstance(node, Structs):
        pad(out, 4, 8)
        position = len(out)
        out += struct.pack("<I", len(node.pairs))
        out += b"".join(struct.pack("<qq", *pair) for pair in node.pairs)
        return position
    if isinstance(node, Longs):
        pad(out, 4, 8)
        position = len(out)
        out += struct.pack(f"<I{len(node.numbers)}q", len(node.numbers), *node.numbers)
        return position
    if isinstance(node, Mapping):
        return lay_table(out, node)
    assert not isinstance(node, bytes | Raw)
    pad(out, 0, 4)
    position = len(out)
    out += struct.pack("<I", len(node)) + bytes(4 * len(node))
    refer(out, {position + 4 + 4 * index: entry for index, entry in enumerate(node)})
    return position


def lay_table(out: bytearray, table: Mapping[int, Node]) -> int:
    places = [0] * (max(table, default=-1) + 1)
    end = 4
    for number, node in table.items():
        size = len(node) if isinstance(node, bytes) else 4
        places[number] = end + -end % size
        end = places[number] + size
    pad(out, 4 + 2 * len(places), 8)
    out += struct.pack(f"<HH{len(places)}H", 4 + 2 * len(places), end, *places)
    position = len(out)
    out += struct.pack("<i", 4 + 2 * len(places)) + bytes(end - 4)
    for number, node in table.items():
        if isinstance(node, bytes):
            out[position + places[number] : position + places[number] + len(node)] = node
    refer(
        out,
        {position + places[number]: node for number, node in table.items() if not isinstance(node, bytes)},
    )
    return position


def refer(out: bytearray, nodes: Mapping[int, Node]) -> None:
    for place, node in nodes.items():
        distance = node.distance if isinstance(node, Raw) else lay(out, node) - place
        struct.pack_into("<I", out, place, distance % 2**32)


def byte(value: int) -> bytes:
    return struct.pack("<B", value)


def short(value: int) -> bytes:
    return struct.pack("<h", value)


def integer(value: int) -> bytes:
    return struct.pack("<i", value)


def long(value: int) -> bytes:
    return struct.pack("<q", value)


def prefixed(metadata: bytes, body: bytes = b"") -> bytes:
    metadata += bytes(-len(metadata) % 8)
    return b"\xff\xff\xff\xff" + integer(len(metadata)) + metadata + body


def message(
    kind: int,
    header: Node,
    body: bytes = b"",
    *,
    version: int = 4,
    body_bytes: int | None = None,
    backwards: bool = False,
) -> bytes:
    fields: dict[int, Node] = {
        0: short(version),
        1: byte(kind),
        2: header,
        3: long(len(body) if body_bytes is None else body_bytes),
    }
    return prefixed(flat(reverse(fields) if backwards else fields), body)


def reverse(table: Mapping[int, Node]) -> dict[int, Node]:
    return {number: table[number] for number in reversed(list(table))}


FLOAT32: dict[int, Node] = {2: byte(3), 3: {0: short(1)}, 5: []}
TYPES: dict[str, dict[int, Node]] = {
    "bool": {2: byte(6), 3: {}},
    **{f"uint{bits}": {2: byte(2), 3: {0: integer(bits)}} for bits in (8, 16, 32, 64)},
    **{f"int{bits}": {2: byte(2), 3: {0: integer(bits), 1: byte(1)}} for bits in (8, 16, 32, 64)},
    **{f"float{16 << precision}": {2: byte(3), 3: {0: short(precision)}} for precision in (0, 1, 2)},
}


def field_of(name: str, kind: Mapping[int, Node] = FLOAT32, width: int | None = None) -> dict[int, Node]:
    if width is None:
        return {0: name, **kind}
    return {0: name, 2: byte(16), 3: {0: integer(width)}, 5: [field_of("item", kind)]}


def schema_of(*fields: Mapping[int, Node], big: bool = False) -> bytes:
    header: dict[int, Node] = {0: short(1), 1: list(fields)} if big else {1: list(fields)}
    return message(1, header)


def batch_of(
    rows: int,
    nodes: Sequence[tuple[int, int]],
    buffers: Sequence[tuple[int, int]],
    body: bytes = b"",
    *,
    body_bytes: int | None = None,
    more: Mapping[int, Node] | None = None,
) -> bytes:
    header: dict[int, Node] = {0: long(rows), 1: Structs(nodes), 2: Structs(buffers), **(more or {})}
    return message(3, header, body, body_bytes=body_bytes)
