"""Merging of reports as parsed JSON, in exact arithmetic: a report is the sum of those of its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from report_reference import Document, as_json, cells_of, planes, terms, written_id

_SAME: Final = {
    "schema",
    "loss",
    "params",
    "inputs",
    "row_shape",
    "weighted",
    "k",
    "ids",
    "bins",
    "dtype",
    "gamma",
}
"""What documents must agree in to be merged."""


def merged(parts: Sequence[Document]) -> Document:
    """The document over all rows of documents over different ones."""
    first = parts[0]
    found: Document = {}
    for section in first:
        if section in ("schema", "run"):
            continue
        each = [part[section] for part in parts]
        if section == "groups":
            found[section] = _merged_groups(each)
        elif section == "top":
            top = first["top"]
            found[section] = {"k": top["k"], "ids": top["ids"], **_lists(each, "loss", 1.0, top)}
        elif section == "histogram":
            found[section] = {of: _aligned([one[of] for one in each], "bins") for of in ("elements", "rows")}
        elif first[section].get("bins") == "exact":
            found[section] = _aligned(each, "values")
        else:
            found[section] = _added_up(each)
            if "top" in first[section]:
                found[section]["top"] = {
                    way: _lists([one["top"][way] for one in each], "difference", sign, first["top"])
                    for way, sign in (("worse", 1.0), ("better", -1.0))
                }
    totals_ = found["totals"]
    totals_ |= {name: totals_[f"{name}_terms"][0] for name in ("sum", "weight_sum", "positives")}
    plain: Document = as_json({"schema": first["schema"], **found})
    return plain


def _added_up(parts: Sequence[Document]) -> Document:
    """Sums and counts of one shape."""
    found: Document = {}
    for name, value in parts[0].items():
        each = [part[name] for part in parts]
        if name in _SAME:
            assert all(one == value for one in each), name
            found[name] = value
        elif isinstance(value, dict):
            found[name] = {} if name == "top" else _added_up(each)
        elif name.endswith("terms"):
            found[name] = _scattered(each, [slice(None)] * len(each), np.shape(value)[1:])
        elif isinstance(value, list | int):
            found[name] = np.sum(each, axis=0).tolist()
        else:
            found[name] = value  # a rounded sum, which follows from its terms
    return found


def _scattered(each: Sequence[Any], places: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """Add up planes of sums, each at its places of the first axis of a new shape."""
    numbers = np.arange(math.prod(shape)).reshape(shape)
    cells: list[list[float]] = [[] for _ in range(numbers.size)]
    for one, at in zip(each, places, strict=True):
        where = numbers[at].ravel().tolist() if shape else [0]
        for cell, terms_ in zip(where, cells_of(one), strict=True):
            cells[cell] += terms_
    return planes(list(map(terms, cells)), shape) if shape else terms(cells[0])


def _aligned(parts: Sequence[Document], key: str, places: Sequence[Any] = (), count: int = 0) -> Document:
    """Add up figures that have an item for each of some sorted keys, which differ from part to part.

    Args:
        parts: The figures.
        key: The name of the keys among them, if they are numbers; else their places are given.
        places: The place of each part's keys among all.
        count: How many there are in all.
    """
    keys: list[Any] = []
    if not places:
        keys = sorted({one for part in parts for one in part[key]}, key=float)
        places = [[keys.index(one) for one in part[key]] for part in parts]
        count = len(keys)
    found: Document = {}
    for name, value in parts[0].items():
        each = [part[name] for part in parts]
        if name == key:
            found[name] = keys
        elif isinstance(value, dict):
            found[name] = _aligned(each, key, places, count)
        elif name in _SAME:
            found[name] = value
        elif name.endswith("terms") and isinstance(value[0], list):
            found[name] = _scattered(each, places, (count, *np.shape(value)[2:]))
        elif name.endswith("terms"):
            found[name] = _scattered(each, places, ())
        elif isinstance(value, list):
            total_ = np.zeros((count, *np.shape(value)[1:]), np.int64)
            for one, at in zip(each, places, strict=True):
                total_[at] += np.array(one, np.int64)
            found[name] = total_.tolist()
        else:
            found[name] = sum(each)
    return found


def _merged_groups(parts: Sequence[Document]) -> Document:
    kinds = parts[0]["kinds"]

    def key(ids: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(int(name) if kind == "integer" else name for name, kind in zip(ids, kinds, strict=True))

    each = [[key(ids) for ids in zip(*part["ids"], strict=True)] for part in parts]
    keys = sorted({name for names in each for name in names})
    places = [[keys.index(name) for name in names] for names in each]
    figures = [
        {name: value for name, value in part.items() if name not in ("names", "kinds", "ids")}
        for part in parts
    ]
    return {
        "names": parts[0]["names"],
        "kinds": kinds,
        "ids": [[written_id(name[column]) for name in keys] for column in range(len(kinds))],
        **_aligned(figures, "", places, len(keys)),
    }


def _lists(parts: Sequence[Document], by: str, way: float, top: Document) -> Document:
    """The first of the rows and the elements of all lists: the greatest first (1.0), or the least (-1.0)."""

    def order(entry: Document) -> tuple[Any, ...]:
        key = float(entry[by])
        named = entry["id"] if top["ids"] else entry["index"]
        tie = int(named) if top["ids"] == "integer" else named
        return (not math.isnan(key), 0.0 if math.isnan(key) else -way * key, tie, entry.get("position", []))

    return {
        name: sorted((entry for part in parts for entry in part[name]), key=order)[: top["k"]]
        for name in ("rows", "elements")
    }
