"""The histogram, the calibration and the sweep of a document, bin by bin."""

import struct

import numpy as np

from client.report.arrays import Array, Case, Document, plain, planes, stacked, terms


def bin_of(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0] >> 48)


def binned(values: Array, weights: Array | None = None) -> Document:
    regular = np.isfinite(values) & (values != 0)
    of = np.array([bin_of(value) for value in values[regular].tolist()], dtype=int)
    bins, counts = np.unique(of, return_counts=True)
    found: Document = {
        "zero": int((values == 0).sum()),
        "infinite": int(np.isinf(values).sum()),
        "nan": int(np.isnan(values).sum()),
        "bins": bins.tolist(),
        "counts": counts.tolist(),
    }
    if weights is not None:
        found["weight_terms"] = (
            planes([weights[regular][of == one] for one in bins], len(bins)) if len(bins) else [[]]
        )
        found["zero_weight_terms"] = terms(weights[values == 0])
        found["infinite_weight_terms"] = terms(weights[np.isinf(values)])
    return found


def probability(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def calibration(case: Case) -> Document:
    kept = case.is_kept
    x, y, p = case.x[kept] + 0.0, case.y[kept], probability(case.x)[kept]
    t = p - y
    assert case.cross is not None
    rest = {"brier_terms": terms(t * t), "cross_entropy_terms": terms(case.cross[kept])}
    head = {"soft": int(((y != 0) & (y != 1)).sum()), "undefined": 0}
    if case.bins == "exact":
        values = np.unique(x)
        cells = [y[x == value] for value in values]
        return {
            "bins": "exact",
            "dtype": "float16",
            **head,
            "values": list(map(plain, values.tolist())),
            "count": list(map(len, cells)),
            "positives_terms": planes(cells, len(cells)),
            **rest,
        }
    found = {"bins": case.bins, **head, **by_bin(case.bins, p, y), **rest}
    if case.by_class:
        parts = [
            by_bin(case.bins, probability(case.x[kept[:, c], c]), case.y[kept[:, c], c])
            for c in range(case.x.shape[1])
        ]
        found["classes"] = stacked(parts, parts[0])
    return found


def by_bin(bins: int | str, p: Array, y: Array) -> Document:
    assert isinstance(bins, int)
    of = np.minimum((p * bins).astype(int), bins - 1)
    cells = [of == b for b in range(bins)]
    return {
        "count": [int(cell.sum()) for cell in cells],
        "positives_terms": planes([y[cell] for cell in cells], bins),
        "probability_terms": planes([p[cell] for cell in cells], bins),
    }


def sweep(case: Case) -> Document:
    """The four sums of focal loss, variant "sigmoid", at some gammas, of hard or soft targets."""
    x, y, w, z = case.x, case.y, case.weights, 1.0 - case.y
    p, q, a, b = probability(x), probability(-x), np.logaddexp(0.0, -x), np.logaddexp(0.0, x)
    m = y * q + z * p
    gammas = [0.0, 1.0, 2.5]
    products = {
        name: [w * m**gamma * outer * inner for gamma in gammas]
        for name, outer, inner in (("yy", y, y * a), ("yz", y, z * b), ("zy", z, y * a), ("zz", z, z * b))
    }
    kept = case.is_kept
    columns = range(x.shape[1])
    found: Document = {"gamma": gammas}
    for name, each in products.items():
        found[f"{name}_terms"] = planes([one[kept] for one in each], len(gammas))
    if case.by_class:
        found["classes"] = {
            f"{name}_terms": planes([one[kept[:, c], c] for one in each for c in columns], 3, x.shape[1])
            for name, each in products.items()
        }
    return found
