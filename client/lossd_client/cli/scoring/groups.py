"""Stage 5 of `lossd score --by`: the losses of rows by group, in one pass.

Rows are held until there are enough for one request a group. Of sent rows only sums are kept.
"""

import json
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client import InvalidRequest, LossClient, LossResult
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.inputs.blocks import Inputs, form_of
from lossd_client.cli.inputs.shards import Arrays, grouped
from lossd_client.cli.scoring.one_input import Rows
from lossd_client.cli.scoring.request import ScoreRequest, mean_of

_HELD_BYTES: Final = 32 << 20
_MOST_GROUPS: Final = 10_000

_WORDS: Final = ("NaN", "Infinity", "-Infinity")  # numbers, as JSON has them

Value: TypeAlias = str | int | float | bool | None
"""A value that rows of a group have in common; None is that they have none."""

Group: TypeAlias = Value | tuple[Value, ...]
"""What rows of a group have in common: a tuple, if they are grouped by several columns."""

Key: TypeAlias = tuple[tuple[bool, Value], ...]
"""A group in a dict: true is 1 to that, and another group."""

_Picked: TypeAlias = tuple[Arrays, NDArray[np.intp]]  # rows, and their numbers in the input
_Held: TypeAlias = dict[tuple[Key, object], list[_Picked]]  # also by form: only the same can be one request


def score_groups(
    client: LossClient, request: ScoreRequest, inputs: Inputs
) -> tuple[LossResult, list[tuple[Group, LossResult]]]:
    """Score the rows by group.

    Returns:
        The result of all rows; and that of each group's, in the order of the groups' values. A group's mean
        over nothing, since its elements are all masked, is NaN.

    Raises:
        BadFile: A file cannot be read, or there are too many groups.
        LossdError: As the client.
    """
    averages = request.axes(inputs.dimensions).averages_rows
    rows = Rows(inputs, request)
    total, groups = sums_by_group(client, request.sums() if averages else request, inputs, rows)
    if total is None:
        return rows.score_whole(client, inputs.whole()), []
    return rows.noted(mean_of(total) if averages else total), listed(groups, averages=averages)


def sums_by_group(
    client: LossClient, asked: ScoreRequest, inputs: Inputs, rows: Rows
) -> tuple[LossResult | None, dict[Key, LossResult]]:
    """Score the rows by group, for sums that can be merged with those of further rows.

    Returns:
        The result of all rows, None if there are none; and that of each group's.

    Raises:
        BadFile: As `score_groups`.
        LossdError: As the client.
    """
    keys, groups = deque[Key](), dict[Key, LossResult]()

    def by_group() -> Iterator[LossResult]:
        for result in rows.results(client, asked, rows.picked(_batches(inputs, keys))):
            key = keys.popleft()
            groups[key] = LossResult.merge([groups[key], result]) if key in groups else result
            yield result

    results = by_group()
    first = next(results, None)
    return (None if first is None else LossResult.merge(chain([first], results))), groups


def listed(groups: Mapping[Key, LossResult], *, averages: bool) -> list[tuple[Group, LossResult]]:
    """Return groups in the order of their values.

    Args:
        groups: The results, sums if they are to be averaged.
        averages: Whether they are; a mean over nothing is NaN then.
    """
    made = {key: _mean_or_nan(sums) if averages else sums for key, sums in groups.items()}
    return [(_group(key), made[key]) for key in sorted(made, key=_order)]


def _mean_or_nan(sums: LossResult) -> LossResult:
    with suppress(InvalidRequest):
        return sums.as_mean()
    return replace(sums, loss=math.nan, reduction="mean")


def _order(key: Key) -> list[tuple[bool, bool, bool, Any]]:
    """Return the sort key of a group: numbers, true and false, text, no value."""
    return [
        (value is None, isinstance(value, str), is_bool, value if value is not None else 0)
        for is_bool, value in key
    ]


def _batches(inputs: Inputs, keys: deque[Key]) -> Iterator[tuple[Arrays, Sequence[int]]]:
    """Yield rows of one group each, with their numbers; append the groups to `keys`."""
    held: _Held = {}
    seen: set[Key] = set()
    size = start = 0
    for block in inputs.blocks():
        labels = grouped([block[name] for name in inputs.labels])
        for key, numbers in _numbers_by_group(labels).items():
            rows = {name: block[name][numbers] for name in inputs.by_row}
            held.setdefault((key, form_of(rows)), []).append((rows, numbers + start))
            seen.add(key)
        if len(seen) > _MOST_GROUPS:
            raise BadFile(f"--by: there are more than {_MOST_GROUPS} groups; is it the right column?")
        fixed = {name: block[name] for name in inputs.names if name not in inputs.by_row}
        start += labels.shape[0]
        size += sum(block[name].nbytes for name in inputs.by_row)
        if size >= _HELD_BYTES:
            yield from _drained(held, fixed, keys)
            size = 0
    yield from _drained(held, fixed, keys)


def _drained(
    held: _Held, fixed: Mapping[str, NDArray[Any]], keys: deque[Key]
) -> Iterator[tuple[Arrays, Sequence[int]]]:
    while held:
        (key, _), picked = held.popitem()
        parts = [rows for rows, _ in picked]
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        keys.append(key)
        yield {**rows, **fixed}, np.concatenate([numbers for _, numbers in picked]).tolist()


def _numbers_by_group(labels: NDArray[Any]) -> dict[Key, NDArray[np.intp]]:
    """Return the rows' numbers by group, in order."""
    codes: dict[Key, int] = {}
    of_row = np.array([codes.setdefault(_key(label), len(codes)) for label in labels.tolist()], dtype=np.intp)
    order = np.argsort(of_row, kind="stable")
    starts = np.searchsorted(of_row[order], np.arange(len(codes) + 1))
    return {key: order[starts[code] : starts[code + 1]] for key, code in codes.items()}


def _key(label: object) -> Key:
    values = label if isinstance(label, tuple) else (label,)
    return tuple((type(value) is bool, _value(value)) for value in values)


def _group(key: Key) -> Group:
    values = tuple(value for _, value in key)
    return values if len(values) > 1 else values[0]


def _value(label: object) -> Value:
    if isinstance(label, float) and not math.isfinite(label):  # no two NaN are equal, and JSON has none
        return "NaN" if math.isnan(label) else "Infinity" if label > 0 else "-Infinity"
    return label if isinstance(label, str | int | float) or label is None else str(label)


def texts_of(groups: Sequence[Group]) -> list[list[str | None]]:
    """Return groups' values as distinct text, in quotes where a column has text and other values."""
    rows = [group if isinstance(group, tuple) else (group,) for group in groups]
    return [list(row) for row in zip(*map(_texts, zip(*rows, strict=True)), strict=True)]


def _texts(column: Sequence[Value]) -> list[str | None]:
    is_text = [isinstance(value, str) and value not in _WORDS for value in column]
    is_mixed = any(is_text) and any(
        value is not None and not text for value, text in zip(column, is_text, strict=True)
    )
    return [
        None if value is None else json.dumps(value, ensure_ascii=False) if is_mixed and text else str(value)
        for value, text in zip(column, is_text, strict=True)
    ]
