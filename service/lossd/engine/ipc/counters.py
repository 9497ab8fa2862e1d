"""What front ends count for others to read: the meaning of the keys in their tallies.

A key is the counter's name and its labels' values, as a JSON array of strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

Key: TypeAlias = tuple[str, ...]

LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": ("loss", "format", "outcome", "team"),
    "elements": ("loss", "team"),
    "bytes": ("team",),
    "device_seconds": ("team", "device"),
}
"""The labels of the counters that are teams'; all but the requests are of answered ones alone."""
ANSWERED: Final = "ok"
"""The outcome of a request that was answered with a loss."""

_decoder: Final = msgspec.json.Decoder(Key)


def encode_key(key: Key) -> bytes:
    """A tally's key, from a name and labels' values."""
    return msgspec.json.encode(key)


def decode_key(data: bytes) -> Key:
    """A name and labels' values, from a tally's key."""
    return _decoder.decode(data)


def used_by(key: Key, counter: str) -> str | None:
    """The team whose usage a number is part of.

    Args:
        key: The number's.
        counter: Which figure of the usage is meant: ``requests``, ``elements``, ...

    Returns:
        None if it is another counter's, or of requests that were not answered.
    """
    if key[0] != counter:
        return None
    labels = dict(zip(LABELS[counter], key[1:], strict=True))
    return labels["team"] if labels.get("outcome", ANSWERED) == ANSWERED else None
