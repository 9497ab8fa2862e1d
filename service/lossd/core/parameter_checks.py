"""Checks of one parameter's value, as plain JSON. Each returns the value to use, or raises ValueError."""

from __future__ import annotations

from collections.abc import Callable
from sys import float_info
from typing import Final, TypeGuard

import numpy as np

from lossd.types import MAX_DIMENSIONS

NAN: Final = "nan"
"""The ignore_index that drops elements whose target is NaN."""
_EXACT: Final = 2**53
"""Integers from here on are not all float64 numbers."""


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(value: object) -> tuple[float, ...]:
    """Return a number or a list of them, which may be long; empty if it is anything else."""
    given = value if isinstance(value, list) else [value]
    return tuple(map(float, given)) if {int, float}.issuperset(map(type, given)) else ()


def _within(numbers: tuple[float, ...], low: float, high: float) -> bool:
    array = np.array(numbers)
    return bool(((array >= low) & (array <= high)).all())


def number_between(low: float, high: float) -> Callable[[object], float]:
    """Return a check for a number in [low, high]."""

    def check(value: object) -> float:
        if not _is_number(value) or not low <= value <= high:
            msg = f"must be a number from {low:g} to {high:g}"
            raise ValueError(msg)
        return float(value)

    return check


def balance(value: object) -> float | tuple[float, ...] | None:
    """Check an alpha: a number in [0, 1], one for each class, or None."""
    if value is None:
        return None
    numbers = _numbers(value)
    if not numbers or not _within(numbers, 0, 1):
        msg = "must be a number from 0 to 1, a list with one for every class, or null"
        raise ValueError(msg)
    return numbers if isinstance(value, list) else numbers[0]


def one_of(*choices: str) -> Callable[[object], str]:
    """Return a check for one of some words."""

    def check(value: object) -> str:
        if value not in choices:
            msg = f"must be one of {', '.join(choices)}"
            raise ValueError(msg)
        return str(value)

    return check


def axes(value: object) -> tuple[int, ...]:
    """Check an axis or a list of axes."""
    given = value if isinstance(value, list) else [value]
    found = tuple(axis for axis in given[: MAX_DIMENSIONS + 1] if _is_integer(axis))
    if not found or len(found) < len(given):
        msg = "must be an axis or a list of axes, such as 1 or [0, -1]"
        raise ValueError(msg)
    return found


def axis(value: object) -> int:
    """Check an axis."""
    if not _is_integer(value):
        msg = "must be an axis, such as 1 or -1"
        raise ValueError(msg)
    return value


def normalizer(*words: str) -> Callable[[object], str | float]:
    """Return a check of what a mean is divided by: one of some words, or a number."""

    def check(value: object) -> str | float:
        if value in words:
            return str(value)
        if not _is_number(value) or not value > 0 or float(value) == float("inf"):
            msg = f"must be one of {', '.join(words)}, or a positive number"
            raise ValueError(msg)
        return float(value)

    return check


def format_or_none(value: object) -> str | None:
    """Check a targets_format that may follow from the shape."""
    return None if value is None else one_of("dense", "index")(value)


def class_factors(value: object) -> tuple[float, ...] | None:
    """Check a list with a finite number of at least 0 for every class, or None."""
    if value is None:
        return None
    numbers = _numbers(value) if isinstance(value, list) else ()
    if not numbers or not _within(numbers, 0, float_info.max):
        msg = "must be a list with a finite number >= 0 for every class, or null"
        raise ValueError(msg)
    return numbers


def weights(value: object) -> tuple[float, ...]:
    """Check a pos_weight: a number, or one for each class."""
    found = _numbers(value)
    if not found:
        msg = "must be a number, or a list with one number for every class"
        raise ValueError(msg)
    return found  # whether they are finite and at least 0 is checked as for tensors


def smoothing(value: object) -> float:
    """Check a label smoothing, in [0, 1)."""
    if not _is_number(value) or not 0 <= value < 1:
        msg = "must be a number from 0 to below 1"
        raise ValueError(msg)
    return float(value)


def ignored_target(value: object) -> float | str:
    """Check an ignore_index: a number, or `NAN`."""
    if value == NAN:
        return NAN
    if not (_is_number(value) and abs(value) < _EXACT):
        msg = f'must be a number below 2**53 in magnitude, "{NAN}", or null'
        raise ValueError(msg)
    return float(value)


def background_id(value: object) -> int:
    """Check a background_index."""
    if not (_is_number(value) and abs(value) < _EXACT and value == int(value)):
        msg = "must be an integer below 2**53 in magnitude, or null"
        raise ValueError(msg)
    return int(value)


def flag(value: object) -> bool:
    """Check a boolean."""
    if not isinstance(value, bool):
        msg = "must be true or false"
        raise ValueError(msg)
    return value
