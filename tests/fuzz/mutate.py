"""Mutants of a body: a few edits without knowledge of its format, reproducible by the random numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

_EDITS_EACH: Final = (1, 1, 1, 2, 2, 3, 4)
_RANGES: Final = (1, 4, 16, 256)  # bytes at most
_REPEATS: Final = (20, 500, 20_000)  # at most: enough to show time or stack that grows with each

_BYTES: Final = b"\x00\x01\x7f\x80\xfe\xff" + b"\"'[]{}(),:;=-+.\\/ \t\r\n" + b"09aAeEnNtfxV<>|O"
_NUMBERS: Final = tuple(
    sign * (2**power + near) for power in (0, 7, 8, 15, 16, 31, 32, 40, 61, 62, 63, 64) for near in (-1, 0, 1)
    for sign in (1, -1)
)  # fmt: skip
_TEXTS: Final = (
    *(str(number).encode() for number in _NUMBERS),
    b"1e308",
    b"1e999",
    b"-0.0",
    b"007",
    b"9" * 400,
    b'"NaN"',
    b'"-Infinity"',
    b"null",
)
_DIGITS: Final = re.compile(rb"[0-9]+")

Edit: TypeAlias = Callable[[bytearray, bytes, Random], None]


def mutate(body: bytes, other: bytes, random: Random) -> bytes:
    """Return a mutant.

    Args:
        body: The body to change.
        other: A body to take parts from.
        random: The source of all choices.
    """
    mutant = bytearray(body)
    for _ in range(random.choice(_EDITS_EACH)):
        if not mutant:
            break
        random.choices(_EDITS, _WEIGHTS)[0](mutant, other, random)
    return bytes(mutant)


def _range(body: bytes | bytearray, random: Random) -> slice:
    """Return a range of at least one byte, mostly short."""
    start = random.randrange(len(body))
    return slice(start, start + random.randint(1, random.choice(_RANGES)))


def _flip_bit(mutant: bytearray, other: bytes, random: Random) -> None:
    mutant[random.randrange(len(mutant))] ^= 1 << random.randrange(8)


def _set_byte(mutant: bytearray, other: bytes, random: Random) -> None:
    mutant[random.randrange(len(mutant))] = random.choice(_BYTES)


def _insert_byte(mutant: bytearray, other: bytes, random: Random) -> None:
    mutant.insert(random.randrange(len(mutant) + 1), random.choice(_BYTES))


def _set_number(mutant: bytearray, other: bytes, random: Random) -> None:
    """Change a little-endian integer by one, or to another number."""
    width = random.choice((1, 2, 4, 8))
    start = random.randrange(len(mutant))
    field = mutant[start : start + width]
    near = int.from_bytes(field, "little") + random.choice((-1, 1))
    number = random.choice((near, random.choice(_NUMBERS)))
    mutant[start : start + width] = (number % (1 << 8 * len(field))).to_bytes(len(field), "little")


def _set_digits(mutant: bytearray, other: bytes, random: Random) -> None:
    """Replace digits by another number's."""
    found = _DIGITS.search(mutant, random.randrange(len(mutant)))
    if found:
        mutant[found.start() : found.end()] = random.choice(_TEXTS)


def _delete(mutant: bytearray, other: bytes, random: Random) -> None:
    del mutant[_range(mutant, random)]


def _truncate(mutant: bytearray, other: bytes, random: Random) -> None:
    del mutant[random.randrange(len(mutant)) :]


def _double(mutant: bytearray, other: bytes, random: Random) -> None:
    part = _range(mutant, random)
    mutant[part.start : part.start] = mutant[part]


def _repeat(mutant: bytearray, other: bytes, random: Random) -> None:
    start = random.randrange(len(mutant))
    part = mutant[start : start + random.randint(1, 4)]
    mutant[start:start] = part * random.randrange(random.choice(_REPEATS))


def _move(mutant: bytearray, other: bytes, random: Random) -> None:
    part = _range(mutant, random)
    taken = mutant[part]
    del mutant[part]
    place = random.randrange(len(mutant) + 1)
    mutant[place:place] = taken


def _splice(mutant: bytearray, other: bytes, random: Random) -> None:
    """Replace a part by a part of the other body."""
    mutant[_range(mutant, random)] = other[_range(other, random)] if other else b""


def _cross(mutant: bytearray, other: bytes, random: Random) -> None:
    """Continue with the rest of the other body from some place."""
    mutant[random.randrange(len(mutant)) :] = other[random.randrange(len(other) + 1) :]


_WEIGHTED: Final[dict[Edit, int]] = {
    _flip_bit: 4, _set_byte: 4, _insert_byte: 2, _set_number: 4, _set_digits: 3, _delete: 2, _truncate: 1,
    _double: 2, _repeat: 1, _move: 2, _splice: 3, _cross: 1,
}  # fmt: skip
_EDITS: Final = tuple(_WEIGHTED)
_WEIGHTS: Final = tuple(_WEIGHTED.values())
