"""What two values that should be alike differ in, as text."""

import reprlib
from collections.abc import Mapping
from itertools import zip_longest
from typing import Final

_LONGEST: Final = 16  # items of a list that are all shown
_SHOWN: Final = 2


def difference(mine: object, its: object) -> str:
    """Return the text of two values; of mappings, only the items that differ."""
    if not (isinstance(mine, Mapping) and isinstance(its, Mapping)):
        return " and ".join(texts(mine, its))
    items = {
        name: texts(mine.get(name), its.get(name))
        for name in {**mine, **its}
        if mine.get(name) != its.get(name)
    }
    sides = (", ".join(f"{name!r}: {texts[side]}" for name, texts in items.items()) for side in (0, 1))
    return " and ".join(f"{{{side}}}" for side in sides)


def texts(mine: object, its: object) -> tuple[str, str]:
    """Return the texts of two values; of long lists, from where they differ."""
    start = 0
    if isinstance(mine, list | tuple) and isinstance(its, list | tuple):
        pairs = enumerate(zip_longest(mine, its))
        start = next((place for place, (one, other) in pairs if one != other), 0)
    return _text(mine, start), _text(its, start)


def _text(value: object, start: int) -> str:
    if not isinstance(value, list | tuple) or len(value) <= _LONGEST:
        return repr(value)
    items = [reprlib.repr(item) for item in value[start : start + _SHOWN]]
    return f"[{'… ' if start else ''}{', '.join([*items, '…'])} {len(value):,} in all]"
