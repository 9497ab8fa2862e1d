"""Documents from arrays: what the client reads, and nothing that it computes."""

from typing import Any

import numpy as np

from client.report.arrays import Array, Case, Document, kind, planes, stacked, terms, written
from client.report.distributions import binned, calibration, sweep
from client.report.top_lists import paired_top, top, top_index


def figures(case: Case) -> Document:
    """The counts and sums of a case's rows, as totals has them."""
    kept = case.is_kept
    live = kept.any(axis=1)
    v, s, share = case.v[kept], case.by_row(case.v)[live], case.shares[live]
    with np.errstate(over="ignore"):
        squares, products, element_squares = s * s, s * share, v * v
    found: Document = {
        "rows": len(kept),
        "rows_dropped": int((~live).sum()),
        "elements": kept.size,
        "dropped": int((~kept).sum()),
        "count": int(kept.sum()),
        "nan": int(np.isnan(v).sum()),
        "infinite": int(np.isinf(v).sum()),
        "sum_terms": terms(v),
        "weight_sum_terms": terms(case.weights[kept]),
        "positives_terms": terms(case.y[kept]),
        "row_squares_terms": terms(squares),
        "row_products_terms": terms(products),
        "divisor_squares_terms": terms(share * share),
    }
    return found | ({"element_squares_terms": terms(element_squares)} if case.normalizer == "count" else {})


def by_class(case: Case) -> Document:
    columns = list(range(case.x.shape[1]))
    kept = case.is_kept

    def sums(numbers: Array) -> list[Any]:
        return planes([numbers[kept[:, c], c] for c in columns], len(columns))

    return {
        "count": kept.sum(axis=0).tolist(),
        "sum_terms": sums(case.v),
        "weight_sum_terms": sums(case.weights),
        "positives_terms": sums(case.y),
    }


def signs(d: Array) -> Document:
    return {
        "better": int((d < 0).sum()),
        "worse": int((d > 0).sum()),
        "equal": int((d == 0).sum()),
        "undefined": int(np.isnan(d).sum()),
    }


def differences(case: Case) -> Document:
    assert case.base is not None
    kept = case.is_kept
    live = kept.any(axis=1)
    d = (case.v - case.base)[kept]
    s, base = case.by_row(case.v), case.by_row(case.base)
    row = (s - base)[live]
    ranked = (case.losses(s) - case.losses(base))[live] if live.any() else row
    return {
        "baseline_sum_terms": terms(case.base[kept]),
        "squares_terms": terms(d * d),
        **signs(d),
        "rows": {
            "squares_terms": terms(row * row),
            "products_terms": terms(row * case.shares[live]),
            "baseline_squares_terms": terms(base[live] * base[live]),
            "baseline_products_terms": terms(row * base[live]),
            **signs(ranked),
        },
    }


def one_group(case: Case) -> Document:
    found = figures(case)
    if case.by_class:
        found["classes"] = by_class(case)
    if case.base is not None:
        found["paired"] = differences(case)
    return found


def grouped(case: Case) -> Document:
    columns = list(case.groups.values())
    keys = list(zip(*columns, strict=True))
    found = sorted(set(keys))
    parts = [one_group(case.cut([row for row, its in enumerate(keys) if its == key])) for key in found]
    return {
        "names": list(case.groups),
        "kinds": list(map(kind, columns)),
        "ids": [[written(key[i]) for key in found] for i in range(len(columns))],
        **stacked(parts, one_group(case)),
    }


def document(case: Case) -> Document:
    """The whole document."""
    totals = figures(case)
    kept = case.is_kept
    names = list(totals)
    found: Document = {
        "schema": "lossd.report/1",
        "totals": {
            "loss": "focal",
            "params": {"gamma": 1.0, "alpha": 0.25, "variant": "sigmoid", **case.params, "row": case.row},
            "inputs": "logits",
            "row_shape": [case.x.shape[1]],
            "weighted": case.w is not None,
            **{name: totals[name] for name in names[:7]},
            **{name: totals[f"{name}_terms"][0] for name in ("sum", "weight_sum", "positives")},
            **{name: totals[name] for name in names[7:]},
        },
    }
    r = case.losses(case.by_row(case.v))[kept.any(axis=1)]
    if case.by_class:
        found["classes"] = by_class(case)
    if case.groups:
        found["groups"] = grouped(case)
    found["top"] = top(case)
    found["histogram"] = {
        "elements": binned(case.v[kept], None if case.w is None else case.w[kept]),
        "rows": binned(r),
    }
    if case.calibrated:
        found["calibration"] = calibration(case)
        found["sweep"] = sweep(case)
    if case.base is not None:
        found["paired"] = differences(case)
        if case.by_class:
            found["paired"]["classes"] = paired_classes(case)
        found["paired"]["top"] = paired_top(case)
    found["run"] = {"version": "0.1.0", "kernel": "native", "device": "cpu", "request_id": f"r{case.first}"}
    found["run"]["first_row"] = case.first
    if case.ids is not None:
        found["run"]["top_index"] = top_index(case, found)
    return found


def paired_classes(case: Case) -> Document:
    assert case.base is not None
    parts = []
    for c in range(case.x.shape[1]):
        keep = case.is_kept[:, c]
        v, base = case.v[keep, c], case.base[keep, c]
        d = v - base
        parts.append({"baseline_sum_terms": terms(base), "squares_terms": terms(d * d), **signs(d)})
    return stacked(parts, parts[0])
