"""The top lists of a document, by sorting everything."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from client.report.arrays import Array, Case, Document, Value, kind, plain, written


def name_of(case: Case, row: int) -> Document:
    return {"index": case.first + row} if case.ids is None else {"id": written(case.ids[row])}


def tie(case: Case, row: int) -> Value:
    return row if case.ids is None else case.ids[row]


def element_of(case: Case, row: int, column: int) -> Document:
    if case.ids is None:
        return {"index": [case.first + row, column]}
    return {"id": written(case.ids[row]), "position": [column]}


def best(values: Mapping[Any, float], ties: Mapping[Any, Any], k: int) -> list[Any]:
    """The keys of the greatest values, NaN before all, equal ones by their ties."""

    def order(key: Value) -> Value:
        return (0, 0.0, ties[key]) if math.isnan(values[key]) else (1, -values[key], ties[key])

    return sorted(values, key=order)[:k]


def listed(
    case: Case,
    r: Array,
    v: Array,
    of_row: Callable[[int], Document],
    of_element: Callable[[int, int], Document],
    *,
    only_above: bool,
) -> Document:
    kept = case.is_kept
    rows = {i: float(r[i]) for i in range(len(r)) if kept[i].any() and (r[i] > 0 or not only_above)}
    elements = {
        (int(i), int(c)): float(v[i, c]) for i, c in np.argwhere(kept) if v[i, c] > 0 or not only_above
    }
    return {
        "rows": [
            {**name_of(case, i), **of_row(i)} for i in best(rows, {i: tie(case, i) for i in rows}, case.k)
        ],
        "elements": [
            {**element_of(case, i, c), **of_element(i, c)}
            for i, c in best(elements, {(i, c): (tie(case, i), c) for i, c in elements}, case.k)
        ],
    }


def top(case: Case) -> Document:
    r = case.losses(case.by_row(case.v))
    return {
        "k": case.k,
        "ids": None if case.ids is None else kind(case.ids),
        **listed(
            case,
            r,
            case.v,
            lambda i: {"loss": plain(float(r[i]))},
            lambda i, c: {
                "loss": plain(float(case.v[i, c])),
                "logit": float(case.x[i, c]),
                "target": float(case.y[i, c]),
            },
            only_above=False,
        ),
    }


def paired_top(case: Case) -> Document:
    assert case.base is not None
    assert case.base_x is not None
    base, base_x = case.base, case.base_x
    r, base_r = case.losses(case.by_row(case.v)), case.losses(case.by_row(base))

    def lists(sign: float) -> Document:
        return listed(
            case,
            sign * (r - base_r),
            sign * (case.v - base),
            lambda i: {
                "difference": float(r[i] - base_r[i]),
                "loss": float(r[i]),
                "baseline": float(base_r[i]),
            },
            lambda i, c: {
                "difference": float(case.v[i, c] - base[i, c]),
                "loss": float(case.v[i, c]),
                "baseline": float(base[i, c]),
                "logit": float(case.x[i, c]),
                "baseline_logit": float(base_x[i, c]),
                "target": float(case.y[i, c]),
            },
            only_above=True,
        )

    return {"worse": lists(1.0), "better": lists(-1.0)}


def top_index(case: Case, made: Document) -> Document:
    assert case.ids is not None
    row_of = {written(each): case.first + row for row, each in enumerate(case.ids)}

    def indexes(lists: Document) -> Document:
        return {
            "rows": [row_of[entry["id"]] for entry in lists["rows"]],
            "elements": [[row_of[entry["id"]], *entry["position"]] for entry in lists["elements"]],
        }

    pairs = made["paired"]["top"] if "paired" in made else {}
    return {**indexes(made["top"]), **{which: indexes(lists) for which, lists in pairs.items()}}
