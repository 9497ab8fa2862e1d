"""What names say about a comparison: models mixed up. What reports say is in its notes already."""

import re
from collections.abc import Iterator
from typing import Final

from lossd_client.comparison._notes import ORDER

_OLD: Final = re.compile(r"(?<![a-z])(base|baseline|old|prev|previous|before|main|master|prod)(?![a-z])")
_NEW: Final = re.compile(r"(?<![a-z])(new|candidate|after)(?![a-z])")


def mistaken_names(new: str, baseline: str | None) -> Iterator[str]:
    """Yield a note if names say that the baseline comes first."""
    if baseline is None:
        return
    first, second = (_bare(text) for text in _unlike(new, baseline))
    says_old = _OLD.search(first) and not _OLD.search(second)
    says_new = _NEW.search(second) and not _NEW.search(first)
    if says_old or says_new:
        yield f"{new} is taken as the new model, and {baseline} as the baseline: {ORDER}"


def _bare(text: str) -> str:
    return text.lower().replace("_", " ")


def _unlike(new: str, baseline: str) -> tuple[str, str]:
    """Return the parts of two paths in which they differ."""
    parts = new.split("/"), baseline.split("/")
    if len(parts[0]) != len(parts[1]):
        return new, baseline
    pairs = [pair for pair in zip(*parts, strict=True) if pair[0] != pair[1]]
    return "/".join(a for a, _ in pairs), "/".join(b for _, b in pairs)
