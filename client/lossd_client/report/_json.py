"""Numbers and ids as JSON has them."""

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

Json: TypeAlias = Any
"""A value of a parsed document."""

Id: TypeAlias = int | str

_EXACT: Final = 2**53  # JSON readers keep integers up to it


def number_as_json(number: float) -> float | str:
    """Return a number, or the string that stands for one that is not finite."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def floats_as_json(numbers: Sequence[Any]) -> list[Json]:
    """Return nested lists of numbers with the strings for those that are not finite."""
    return [floats_as_json(each) if isinstance(each, list) else number_as_json(each) for each in numbers]


def id_as_json(each: Id) -> Json:
    """Return an id: large integers are strings."""
    return str(each) if isinstance(each, int) and abs(each) > _EXACT else each


def read_id(kind: str, value: Json) -> Id:
    """Return an id of kind "integer" or "string"."""
    return int(value) if kind == "integer" else str(value)


def read_group_ids(kinds: Sequence[str], columns: Sequence[Sequence[Json]]) -> list[tuple[Id, ...]]:
    """Return the ids of all groups, each a tuple with one for each name."""
    read = [[read_id(kind, value) for value in column] for kind, column in zip(kinds, columns, strict=True)]
    return list(zip(*read, strict=True))
