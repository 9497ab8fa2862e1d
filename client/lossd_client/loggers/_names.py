"""Names of metrics that a tracker takes, a different one for each path."""

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, TypeAlias

Path: TypeAlias = tuple[object, ...]

PLAIN: Final = re.compile(r"[\w.-]+")  # what both mlflow and TensorBoard take as it is
IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_]+")  # what Weights & Biases can sort and filter by
LONGEST: Final = 250  # of a whole name, in mlflow

_PART: Final = 60
_MARKED: Final = re.compile(r"_[0-9a-f]{8}$")


def name_of(path: Iterable[object], allowed: re.Pattern[str]) -> str:
    """Return the name of a path: its parts, joined by slashes.

    A part that is not allowed, or too long, becomes one that is, and ends in eight digits of its hash: groups
    "a b" and "a_b" stay apart, and each has its name whatever other groups there are.

    Args:
        path: Such as ("lossd", "group", "rear left", "mean").
        allowed: What a part may be.
    """
    name = "/".join(_part(str(each), allowed) for each in path)
    return name if len(name) <= LONGEST else _hashed(name, name[: LONGEST - 9])


def _part(text: str, allowed: re.Pattern[str]) -> str:
    if allowed.fullmatch(text) and text.strip(".") and len(text) <= _PART and not _MARKED.search(text):
        return text
    kept = "".join(each if allowed.fullmatch(each) and each != "." else "_" for each in text[: _PART - 9])
    return _hashed(text, kept)


def _hashed(text: str, kept: str) -> str:
    return f"{kept}_{sha256(text.encode()).hexdigest()[:8]}"
