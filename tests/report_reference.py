"""The report of a request, figure by figure, from numpy arrays: what the service's reports are compared with.

It shares nothing with the service. The losses of the elements are given; here they are added up, ordered and
counted. Sums are whole numbers of 2**-1074, of which every float64 is one, so nothing is lost before the one
rounding that the document asks for. Only p, and the brackets of the sweep, need exp and log: mpmath computes
them, and `assert_same` allows them a few units of the last place. All else must be equal to the bit.

Loops are plain, and every figure is computed anew from the elements: this file is to be read, not to be fast.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from mpmath import exp, inf, isinf, log, log1p, mpf  # type: ignore[import-untyped] # it has no types

import reference

Array = npt.NDArray[Any]
Document = dict[str, Any]
Terms = list[float]
Ids = Array | list[str]

SECTIONS: Final = ("totals", "classes", "groups", "top", "histogram", "calibration", "sweep", "paired")
OWN: Final[Mapping[str, Document]] = {"bce": {}, "focal": {"gamma": 1.5, "alpha": 0.25, "variant": "sigmoid"}}
OPTIONS: Final[Document] = {
    "normalizer": "count",
    "class_axis": -1,
    "targets_format": "dense",
    "label_smoothing": 0.0,
    "ignore_index": None,
    "background_index": None,
    "allow_nan": False,
    "pos_weight": None,
}
"""The options of an answer but its reduction and axis, of which a report does not depend."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request for a report, as it is sent.

    Attributes:
        loss: ``bce`` or ``focal``.
        inputs: Logits or probabilities, [N, ...], of a float dtype; bfloat16 is ml_dtypes'.
        kind: ``logits`` or ``probabilities``: what the inputs are.
        targets: In the inputs' shape, or class ids.
        weight: Broadcasts to the inputs.
        mask: Likewise; false drops an element.
        pos_weight: A tensor of them; a list is a parameter.
        groups: A column of group ids each, [N], by name.
        ids: The rows' ids, [N].
        baseline: Another model's inputs.
        params: The loss's parameters, as numbers, strings, lists or None.
        sections: What is asked for, without ``totals``, which is always there.
        top: How many rows and elements are listed.
        row: Whether a row's loss is the ``sum`` or the ``mean`` over its elements.
        first_row: The index of the first row.
        bins: Bins of the calibration, or ``exact``.
        gammas: Those of the sweep.
    """

    inputs: Array
    targets: Array
    loss: str = "bce"
    kind: str = "logits"
    weight: Array | None = None
    mask: Array | None = None
    pos_weight: Array | None = None
    groups: Mapping[str, Ids] | None = None
    ids: Ids | None = None
    baseline: Array | None = None
    params: Document = field(default_factory=dict)
    sections: tuple[str, ...] = ()
    top: int = 20
    row: str = "sum"
    first_row: int = 0
    bins: int | str = 64
    gammas: tuple[float, ...] = ()

    def param(self, name: str) -> Any:  # noqa: ANN401 -- of any type
        """A parameter's value, be it given or not."""
        return {**OWN[self.loss], **OPTIONS, **self.params}[name]


# Exact sums

_UNIT: Final = 1 << 1074


def exact(values: Iterable[float]) -> Fraction:
    """The sum of finite float64 numbers: each is a whole number of 2**-1074."""
    total = 0
    for numerator, denominator in map(float.as_integer_ratio, values):
        total += numerator * (_UNIT // denominator)
    return Fraction(total, _UNIT)


def rounded(number: Fraction) -> float:
    """The nearest float64, of two equally near ones the even one; infinite beyond the greatest.

    Python divides whole numbers so (PyLong's true division).
    """
    try:
        return number.numerator / number.denominator
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def terms(values: Iterable[float]) -> Terms:
    """The canonical terms of a sum: t1 = RN(S), t2 = RN(S - t1) and so on, until nothing is left."""
    summands = list(values)
    odd = {value for value in summands if math.isinf(value)}
    if len(odd) == 2 or any(map(math.isnan, summands)):
        return [math.nan]
    if odd:
        return list(odd)
    rest = exact(summands)
    found = [rounded(rest)]
    while math.isfinite(found[-1]) and (rest := rest - Fraction(found[-1])):
        found.append(rounded(rest))
    return found


def total(values: Iterable[float]) -> float:
    """An exact sum, rounded once."""
    return terms(values)[0]


def planes(cells: Sequence[Terms], shape: Sequence[int]) -> list[Any]:
    """Sums in C order as planes: plane i has the i-th term of each, 0.0 where a sum has fewer."""
    depth = max(map(len, cells), default=1)
    array = np.zeros((depth, len(cells)))
    for number, cell in enumerate(cells):
        array[: len(cell), number] = cell
    return list(array.reshape(depth, *shape).tolist())


def by_cell(labels: Array, values: Array, count: int) -> list[list[float]]:
    """The values of each of so many cells, by the cell's number that stands beside each value."""
    found: list[list[float]] = [[] for _ in range(count)]
    for label, value in zip(labels.tolist(), values.tolist(), strict=True):
        found[label].append(value)
    return found


def sums(labels: Array, values: Array, shape: Sequence[int]) -> list[Any]:
    """The sum of each cell, as planes."""
    return planes([terms(cell) for cell in by_cell(labels, values, math.prod(shape))], shape)


def counts(labels: Array, shape: Sequence[int]) -> list[Any]:
    """How many values each cell has."""
    return list(np.bincount(labels, minlength=math.prod(shape)).reshape(shape).tolist())


# What every figure is computed from


@dataclass(frozen=True, kw_only=True)
class Elements:
    """The elements and rows of a request.

    Attributes:
        shape: A row's shape.
        x: The inputs, [N, M] for N rows of M elements each; so are the next ones.
        y: The targets, opened out, before smoothing.
        w: The weights; 1 without.
        kept: Whether an element is not dropped.
        v: The losses.
        cross_entropy: Plain binary cross entropies; of no meaning without calibration.
        baseline_x: The baseline's inputs; of no meaning without one, nor are its losses.
        baseline_v: The baseline's losses.
        labels: The class of each; None where there are none, or where they lie along axis 0.
        classes: How many classes there are.
        kept_count: The kept elements of each row, [N].
        s: The rows' sums, each an exact one rounded, [N].
        share: The rows' shares of the divisor, [N].
        r: The rows' losses, [N].
        baseline_s: The baseline's rows' sums, [N].
        baseline_r: Its rows' losses, [N].
    """

    shape: tuple[int, ...]
    x: Array
    y: Array
    w: Array
    kept: Array
    v: Array
    cross_entropy: Array
    baseline_x: Array
    baseline_v: Array
    labels: Array | None
    classes: int
    kept_count: Array
    s: Array
    share: Array
    r: Array
    baseline_s: Array
    baseline_r: Array

    @property
    def all_rows(self) -> Array:
        """The indices of all rows."""
        return np.arange(len(self.x))

    def live(self, rows: Array) -> Array:
        """Those of these rows that have a kept element."""
        return rows[self.kept_count[rows] > 0]


def opened_out(request: Request) -> tuple[Array, Array]:
    """The target of each element, as float64, and whether it is not dropped for its target."""
    shape, ignored = request.inputs.shape, request.param("ignore_index")
    targets = request.targets
    if request.param("targets_format") == "index":
        axis = request.param("class_axis") % len(shape)
        ids = np.expand_dims(targets.astype(np.float64), axis)
        along = [-1 if place == axis else 1 for place in range(len(shape))]
        targets = (ids == np.arange(shape[axis]).reshape(along)) & (ids != request.param("background_index"))
        compared = np.broadcast_to(ids, shape)
    else:
        compared = targets.astype(np.float64)
    if ignored is None:
        kept = np.ones(shape, bool)
    elif ignored == "nan":
        kept = ~np.isnan(compared)
    else:
        kept = compared != ignored
    return targets.astype(np.float64), kept


def elements_of(
    request: Request, losses: Array, cross_entropy: Array | None, baseline_losses: Array | None
) -> Elements:
    """Lay out a request's elements, and add up its rows."""
    shape = request.inputs.shape
    rows, size = shape[0], math.prod(shape[1:])

    def flat(array: Array | None, otherwise: float) -> Array:
        given = np.array(otherwise) if array is None else array
        return np.broadcast_to(given.astype(np.float64), shape).reshape(rows, size)

    y, kept = opened_out(request)
    if request.mask is not None:
        kept &= np.broadcast_to(request.mask != 0, shape)
    axis = request.param("class_axis") % len(shape)
    labels, classes = None, shape[axis] if axis else 0
    if axis:
        along = [-1 if place == axis else 1 for place in range(len(shape))]
        labels = np.broadcast_to(np.arange(classes).reshape(along), shape).reshape(rows, size)
    y, kept, w = flat(y, 0.0), kept.reshape(rows, size), flat(request.weight, 1.0)
    v, baseline_v = flat(losses, 0.0), flat(baseline_losses, 0.0)
    kept_count = kept.sum(axis=1)

    def by_row(values: Array) -> Array:
        return np.array([total(row[keep].tolist()) for row, keep in zip(values, kept, strict=True)])

    def row_loss(sums: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return sums / kept_count if request.row == "mean" else sums

    shares = {"count": np.ones_like(w), "weight": w, "positives": y}
    normalizer = request.param("normalizer")
    s, baseline_s = by_row(v), by_row(baseline_v)
    return Elements(
        shape=shape[1:],
        x=flat(request.inputs, 0.0),
        y=y,
        w=w,
        kept=kept,
        v=v,
        cross_entropy=flat(cross_entropy, 0.0),
        baseline_x=flat(request.baseline, 0.0),
        baseline_v=baseline_v,
        labels=labels,
        classes=classes,
        kept_count=kept_count,
        s=s,
        share=by_row(shares[normalizer]) if normalizer in shares else np.ones(rows),
        r=row_loss(s),
        baseline_s=baseline_s,
        baseline_r=row_loss(baseline_s),
    )


# Totals, classes, groups


def counted(e: Elements, rows: Array) -> dict[str, int]:
    """The counts over some rows."""
    kept = e.kept[rows]
    v = e.v[rows][kept]
    return {
        "rows": len(rows),
        "rows_dropped": len(rows) - len(e.live(rows)),
        "elements": kept.size,
        "dropped": int(kept.size - kept.sum()),
        "count": int(kept.sum()),
        "nan": int(np.isnan(v).sum()),
        "infinite": int(np.isinf(v).sum()),
    }


def added(e: Elements, rows: Array, by_count: bool) -> dict[str, Terms]:
    """The sums over some rows."""
    kept, live = e.kept[rows], e.live(rows)
    v, s, share = e.v[rows][kept], e.s[live], e.share[live]
    with np.errstate(over="ignore", invalid="ignore"):
        summands = {
            "sum_terms": v,
            "weight_sum_terms": e.w[rows][kept],
            "positives_terms": e.y[rows][kept],
            "row_squares_terms": s * s,
            "row_products_terms": s * share,
            "divisor_squares_terms": share * share,
        }
        if by_count:
            summands["element_squares_terms"] = v * v
    return {name: terms(values.tolist()) for name, values in summands.items()}


def totals(request: Request, e: Elements) -> Document:
    """The section ``totals``."""
    options = {name: request.param(name) for name in (*OWN[request.loss], *OPTIONS)}
    if isinstance(options["ignore_index"], int):
        options["ignore_index"] = float(options["ignore_index"])  # a target, and so a float64
    if request.pos_weight is not None:
        options["pos_weight"] = shown_pos_weight(request, request.pos_weight)
    sums_ = added(e, e.all_rows, request.param("normalizer") == "count")
    return {
        "loss": request.loss,
        "params": {**options, "row": request.row},
        "inputs": request.kind,
        "row_shape": list(e.shape),
        "weighted": request.weight is not None,
        **counted(e, e.all_rows),
        "sum": sums_["sum_terms"][0],
        "weight_sum": sums_["weight_sum_terms"][0],
        "positives": sums_["positives_terms"][0],
        **sums_,
    }


def shown_pos_weight(request: Request, tensor: Array) -> object:
    """What a report's parameters say of a tensor, of which other numbers would be another loss."""
    axis, numbers = request.param("class_axis") % request.inputs.ndim, tensor.astype("<f8")
    if tensor.ndim == request.inputs.ndim or (tensor.ndim == 1 and axis == 0):  # they belong to the rows
        return {"dtype": tensor.dtype.name, "shape": list(tensor.shape[1:])}
    if tensor.ndim > 1:
        return {"shape": list(tensor.shape), "sha256": hashlib.sha256(numbers.tobytes()).hexdigest()}
    return numbers.item() if numbers.size == 1 else numbers.tolist()


def classes(e: Elements) -> Document:
    """The section ``classes``."""
    return _cells(e, np.zeros(len(e.x), np.int64), (e.classes,))


def _cells(e: Elements, groups: Array, shape: tuple[int, ...]) -> Document:
    """Sums by group and class; ``groups`` has each row's group, all 0 if there are none."""
    assert e.labels is not None
    labels = (groups[:, None] * e.classes + e.labels)[e.kept]
    return {
        "count": counts(labels, shape),
        "sum_terms": sums(labels, e.v[e.kept], shape),
        "weight_sum_terms": sums(labels, e.w[e.kept], shape),
        "positives_terms": sums(labels, e.y[e.kept], shape),
    }


def kind_of(ids: Ids) -> str:
    """What ids are."""
    return "string" if isinstance(ids, list) else "integer"


def plain_ids(ids: Ids) -> list[int] | list[str]:
    """Ids as Python's own numbers or strings."""
    return ids if isinstance(ids, list) else [int(number) for number in ids]


def written_id(value: Any) -> int | str:  # noqa: ANN401 -- a number or a string
    """An id as a JSON value: a whole number of more than 53 bits is a string."""
    return str(value) if isinstance(value, str) or abs(value) > 2**53 else int(value)


def groups(request: Request, e: Elements) -> Document:
    """The section ``groups``."""
    assert request.groups is not None
    columns = [plain_ids(column) for column in request.groups.values()]
    keys = list(zip(*columns, strict=True))
    found = sorted(set(keys))
    number = {key: place for place, key in enumerate(found)}
    of_row = np.array([number[key] for key in keys], np.int64)
    members = [np.flatnonzero(of_row == place) for place in range(len(found))]
    by_count = request.param("normalizer") == "count"
    counted_ = [counted(e, rows) for rows in members]
    added_ = [added(e, rows, by_count) for rows in members]
    document = {
        "names": list(request.groups),
        "kinds": list(map(kind_of, request.groups.values())),
        "ids": [[written_id(key[column]) for key in found] for column in range(len(columns))],
        **{name: [of[name] for of in counted_] for name in counted(e, e.all_rows)},
        **{
            name: planes([of[name] for of in added_], [len(found)])
            for name in added(e, e.all_rows[:0], by_count)
        },
    }
    if "classes" in request.sections:
        document["classes"] = _cells(e, of_row, (len(found), e.classes))
    if "paired" in request.sections:
        document["paired"] = _joined([paired_over(e, rows) for rows in members])
    return document


def _joined(parts: list[Document]) -> Document:
    """Documents of sums and counts, one a group, as one of lists: sums become planes."""
    first = parts[0] if parts else {}
    found: Document = {}
    for name, value in first.items():
        each = [part[name] for part in parts]
        if isinstance(value, dict):
            found[name] = _joined(each)
        else:
            found[name] = planes(each, [len(each)]) if name.endswith("_terms") else each
    return found


# Top lists


def _by(keys: Array) -> Callable[[int], tuple[bool, float]]:
    """The order of a list: NaN first, then the greatest."""

    def order(place: int) -> tuple[bool, float]:
        key = float(keys[place])
        return (False, 0.0) if math.isnan(key) else (True, -key)

    return order


class _Listing:
    """The names of rows and elements in top lists, and their order among equals."""

    def __init__(self, request: Request, e: Elements) -> None:
        self.ids = None if request.ids is None else plain_ids(request.ids)
        self.first, self.shape, self.size = request.first_row, e.shape, e.x.shape[1]

    def row(self, row: int) -> Document:
        return {"index": row + self.first} if self.ids is None else {"id": written_id(self.ids[row])}

    def element(self, place: int) -> Document:
        row, inside = divmod(place, self.size)
        position = [int(at) for at in np.unravel_index(inside, self.shape)] if self.shape else []
        if self.ids is None:
            return {"index": [row + self.first, *position]}
        return {"id": written_id(self.ids[row]), "position": position}

    def tie_of_row(self, row: int) -> int | str:
        return row if self.ids is None else self.ids[row]

    def tie_of_element(self, place: int) -> tuple[int | str, int]:
        return self.tie_of_row(place // self.size), place % self.size

    def top_rows(self, keys: Array, rows: Iterable[int], k: int) -> list[int]:
        """The first rows in a list's order."""
        order = _by(keys)
        return sorted(rows, key=lambda row: (*order(row), self.tie_of_row(row)))[:k]

    def top_elements(self, keys: Array, places: Iterable[int], k: int) -> list[int]:
        """The first elements in a list's order, by their places in C order."""
        order = _by(keys.ravel())
        return sorted(places, key=lambda place: (*order(place), *self.tie_of_element(place)))[:k]


def top(request: Request, e: Elements) -> Document:
    """The section ``top``."""
    listing = _Listing(request, e)
    rows = listing.top_rows(e.r, e.live(e.all_rows).tolist(), request.top)
    places = listing.top_elements(e.v, np.flatnonzero(e.kept).tolist(), request.top)
    value = {"logits": "logit", "probabilities": "probability"}[request.kind]
    return {
        "k": request.top,
        "ids": None if request.ids is None else kind_of(request.ids),
        "rows": [{**listing.row(row), "loss": float(e.r[row])} for row in rows],
        "elements": [
            {
                **listing.element(place),
                "loss": float(e.v.flat[place]),
                value: float(e.x.flat[place]) + 0.0,  # no -0.0
                "target": float(e.y.flat[place]) + 0.0,
            }
            for place in places
        ],
    }


def run_top_index(request: Request, document: Document) -> Document:
    """``run.top_index`` of a document with ids, which must be unique."""
    assert request.ids is not None
    rows = {written_id(name): row + request.first_row for row, name in enumerate(plain_ids(request.ids))}

    def of(lists: Document) -> Document:
        return {
            "rows": [rows[entry["id"]] for entry in lists["rows"]],
            "elements": [[rows[entry["id"]], *entry["position"]] for entry in lists["elements"]],
        }

    found = of(document["top"])
    if "paired" in document:
        found |= {way: of(document["paired"]["top"][way]) for way in ("worse", "better")}
    return found


# Histogram


def bin_of(value: float) -> int:
    """The bin of a positive loss: the upper 16 bits of its float64."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", value))
    return int(bits >> 48)


def histogram(request: Request, e: Elements) -> Document:
    """The section ``histogram``."""
    weights = e.w[e.kept].tolist() if request.weight is not None else None
    return {
        "elements": _histogram(e.v[e.kept].tolist(), weights),
        "rows": _histogram(e.r[e.live(e.all_rows)].tolist(), None),
    }


def _histogram(values: list[float], weights: list[float] | None) -> Document:
    cells: dict[int | str, list[int]] = {"zero": [], "infinite": [], "nan": []}
    for place, value in enumerate(values):
        if value == 0:
            cells["zero"].append(place)
        elif math.isinf(value):
            cells["infinite"].append(place)
        elif math.isnan(value):
            cells["nan"].append(place)
        else:
            cells.setdefault(bin_of(value), []).append(place)
    bins = sorted(key for key in cells if isinstance(key, int))
    found: Document = {name: len(cells[name]) for name in ("zero", "infinite", "nan")}
    found |= {"bins": bins, "counts": [len(cells[number]) for number in bins]}
    if weights is not None:
        of: dict[int | str, Terms] = {
            key: terms(weights[place] for place in places) for key, places in cells.items()
        }
        found["weight_terms"] = planes([of[number] for number in bins], [len(bins)])
        found |= {f"{name}_weight_terms": of[name] for name in ("zero", "infinite")}
    return found


# Calibration


@cache
def sigmoid(x: float) -> float:
    """p of a logit, rounded once."""
    if math.isinf(x):
        return float(x > 0)
    return float(1 / (1 + exp(-mpf(x))))


def calibration(request: Request, e: Elements) -> Document:
    """The section ``calibration``."""
    x, y = e.x[e.kept], e.y[e.kept]
    defined = ~(np.isnan(x) | np.isnan(y))
    labels = None if e.labels is None else e.labels[e.kept][defined]
    cross_entropy = e.cross_entropy[e.kept][defined]
    x, y = x[defined] + 0.0, y[defined]
    p = x if request.kind == "probabilities" else np.array(list(map(sigmoid, x.tolist())))
    t = p - y
    counts_ = {"soft": int(((y != 0) & (y != 1)).sum()), "undefined": int((~defined).sum())}
    sums_ = {"brier_terms": terms((t * t).tolist()), "cross_entropy_terms": terms(cross_entropy.tolist())}
    if request.bins == "exact":
        values, cells = np.unique(x, return_inverse=True)
        return {
            "bins": "exact",
            "dtype": request.inputs.dtype.name,
            **counts_,
            "values": values.tolist(),
            "count": counts(cells, values.shape),
            "positives_terms": sums(cells, y, values.shape),
            **sums_,
        }
    assert isinstance(request.bins, int)
    cells = np.minimum((p * request.bins).astype(np.int64), request.bins - 1)
    found = {"bins": request.bins, **counts_, **_bins(cells, y, p, (request.bins,)), **sums_}
    if labels is not None:
        found["classes"] = _bins(labels * request.bins + cells, y, p, (e.classes, request.bins))
    return found


def _bins(cells: Array, y: Array, p: Array, shape: tuple[int, ...]) -> Document:
    return {
        "count": counts(cells, shape),
        "positives_terms": sums(cells, y, shape),
        "probability_terms": sums(cells, p, shape),
    }


# Sweep


def _times(*factors: mpf) -> mpf:
    """A product, in which nothing times infinity is nothing."""
    return mpf(0) if any(factor == 0 for factor in factors) else math.prod(factors, start=mpf(1))


def bracket_names(request: Request) -> tuple[str, ...]:
    """The names of a sweep's sums."""
    if request.loss == "bce":
        return ("y", "z")
    return ("",) if is_exp(request) else ("yy", "yz", "zy", "zz")


def is_exp(request: Request) -> bool:
    """Whether the loss's modulator depends on pos_weight, so that its sweep has one sum a gamma."""
    return request.loss == "focal" and request.param("variant") == "exp"


def brackets(request: Request, x: float, y: float, w: float, k: float, gamma: float) -> dict[str, float]:
    """What an element adds to the sums of a sweep at a gamma, by the sums' names.

    With A = -log p, B = -log(1 - p) and the modulator m, all of smoothed targets y and z = 1 - y: w y A and
    w z B for bce; for focal loss w m^gamma times y y A, y z B, z y A and z z B, of which the first letter is
    what alpha (y) or 1 - alpha (z) multiplies, the second what pos_weight does.
    """
    if any(map(math.isnan, (x, y, w))):
        return dict.fromkeys(bracket_names(request), math.nan)
    if is_exp(request):
        own: Document = {"probabilities": request.kind == "probabilities", "pos_weight": k, "alpha": None}
        own |= {"variant": "exp", "label_smoothing": request.param("label_smoothing")}
        return {"": float(reference.element("focal", x, y, weight=w, gamma=gamma, **own))}
    smoothing, value = mpf(request.param("label_smoothing")), mpf(x)
    target = mpf(y) * (1 - smoothing) + smoothing / 2
    other = (1 - mpf(y)) * (1 - smoothing) + smoothing / 2
    if request.kind == "probabilities":
        p, q = value, 1 - value
        a, b = -log(p) if p else inf, -log1p(-p) if q else inf
    else:
        p = mpf(x > 0) if isinf(value) else 1 / (1 + exp(-value))
        q = mpf(x < 0) if isinf(value) else 1 / (1 + exp(value))
        a = max(-value, mpf(0)) + log1p(exp(-abs(value)))
        b = max(value, mpf(0)) + log1p(exp(-abs(value)))
    if request.loss == "bce":
        return {"y": float(_times(mpf(w), target, a)), "z": float(_times(mpf(w), other, b))}
    right, wrong = target * q, other * p
    m = right + wrong if request.param("variant") == "sigmoid" else abs(right - wrong)
    modulator = mpf(1) if gamma == 0 else m ** mpf(gamma)
    outer = {"y": target, "z": other}
    inner = {"y": _times(target, a), "z": _times(other, b)}
    return {
        first + second: float(_times(mpf(w), modulator, outer[first], inner[second]))
        for first in "yz"
        for second in "yz"
    }


def along_classes(request: Request, given: Any) -> Array:  # noqa: ANN401 -- a parameter or a tensor
    """What is given as a number, or as one a class, for each element, in the inputs' shape."""
    array, axis = np.asarray(given, dtype=np.float64), request.param("class_axis") % request.inputs.ndim
    if array.ndim == 1 and array.size > 1:
        array = array.reshape([-1 if place == axis else 1 for place in range(request.inputs.ndim)])
    return np.broadcast_to(array, request.inputs.shape)


def pos_weights(request: Request) -> Array:
    """The pos_weight of each element, in the inputs' shape."""
    given = request.param("pos_weight") if request.pos_weight is None else request.pos_weight
    return along_classes(request, 1.0 if given is None else given)


def sweep(request: Request, e: Elements) -> Document:
    """The section ``sweep``; its sums are those of numbers by mpmath, so they are only nearly right."""
    weights = pos_weights(request).reshape(e.x.shape)
    gammas = [0.0] if request.loss == "bce" else list(request.gammas)
    columns = [array[e.kept].tolist() for array in (e.x, e.y, e.w, weights)]
    each = [
        [brackets(request, x, y, w, k, gamma) for x, y, w, k in zip(*columns, strict=True)]
        for gamma in gammas
    ]
    names = bracket_names(request)
    found: Document = {} if request.loss == "bce" else {"gamma": gammas}
    labels = np.zeros(len(columns[0]), np.int64)
    found |= _sweep_sums(each, names, labels, None, single=request.loss == "bce")
    if "classes" in request.sections:
        assert e.labels is not None
        by_class = _sweep_sums(each, names, e.labels[e.kept], e.classes, single=request.loss == "bce")
        found["classes"] = by_class
    return found


def _sweep_sums(
    each: list[list[dict[str, float]]],
    names: tuple[str, ...],
    labels: Array,
    classes: int | None,
    *,
    single: bool,
) -> Document:
    """The sums of each bracket by gamma, and by class if there are any."""
    found = {}
    for name in names:
        key = f"{name}_terms".removeprefix("_")
        cells = [
            terms(cell)
            for elements in each
            for cell in by_cell(labels, np.array([element[name] for element in elements]), classes or 1)
        ]
        shape = ([] if single else [len(each)]) + ([] if classes is None else [classes])
        found[key] = planes(cells, shape) if shape else cells[0]
    return found


# Pairs


def _differences(new: Array, old: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        return new - old


def _judged(d: Array) -> dict[str, int]:
    return {
        "better": int((d < 0).sum()),
        "worse": int((d > 0).sum()),
        "equal": int((d == 0).sum()),
        "undefined": int(np.isnan(d).sum()),
    }


def paired_over(e: Elements, rows: Array) -> Document:
    """What is said of pairs over some rows."""
    kept, live = e.kept[rows], e.live(rows)
    d = _differences(e.v[rows][kept], e.baseline_v[rows][kept])
    by_row = _differences(e.s[live], e.baseline_s[live])
    with np.errstate(invalid="ignore", over="ignore"):
        return {
            "baseline_sum_terms": terms(e.baseline_v[rows][kept].tolist()),
            "squares_terms": terms((d * d).tolist()),
            **_judged(d),
            "rows": {
                "squares_terms": terms((by_row * by_row).tolist()),
                "products_terms": terms((by_row * e.share[live]).tolist()),
                "baseline_squares_terms": terms((e.baseline_s[live] * e.baseline_s[live]).tolist()),
                "baseline_products_terms": terms((by_row * e.baseline_s[live]).tolist()),
                **_judged(_differences(e.r[live], e.baseline_r[live])),
            },
        }


def paired(request: Request, e: Elements) -> Document:
    """The section ``paired``."""
    found = paired_over(e, e.all_rows)
    if "classes" in request.sections:
        assert e.labels is not None
        labels = e.labels[e.kept]
        d = _differences(e.v[e.kept], e.baseline_v[e.kept])
        with np.errstate(invalid="ignore", over="ignore"):
            squares = d * d
        shape = (e.classes,)
        judged = [_judged(np.array(cell)) for cell in by_cell(labels, d, e.classes)]
        found["classes"] = {
            "baseline_sum_terms": sums(labels, e.baseline_v[e.kept], shape),
            "squares_terms": sums(labels, squares, shape),
            **{name: [each[name] for each in judged] for name in _judged(d)},
        }
    if "top" in request.sections:
        found["top"] = {"worse": _top_pairs(request, e, 1.0), "better": _top_pairs(request, e, -1.0)}
    return found


def _top_pairs(request: Request, e: Elements, way: float) -> Document:
    """The lists of what is worse (1.0) or better (-1.0) than the baseline."""
    listing = _Listing(request, e)
    of_rows = _differences(e.r, e.baseline_r)
    of_elements = _differences(e.v, e.baseline_v).ravel()
    rows = [row for row in e.live(e.all_rows).tolist() if way * of_rows[row] > 0]
    places = [place for place in np.flatnonzero(e.kept).tolist() if way * of_elements[place] > 0]
    value = {"logits": "logit", "probabilities": "probability"}[request.kind]
    return {
        "rows": [
            {
                **listing.row(row),
                "difference": float(of_rows[row]),
                "loss": float(e.r[row]),
                "baseline": float(e.baseline_r[row]),
            }
            for row in listing.top_rows(way * of_rows, rows, request.top)
        ],
        "elements": [
            {
                **listing.element(place),
                "difference": float(of_elements[place]),
                "loss": float(e.v.flat[place]),
                "baseline": float(e.baseline_v.flat[place]),
                value: float(e.x.flat[place]) + 0.0,
                f"baseline_{value}": float(e.baseline_x.flat[place]) + 0.0,
                "target": float(e.y.flat[place]) + 0.0,
            }
            for place in listing.top_elements(way * of_elements, places, request.top)
        ],
    }


# Losses by mpmath, for documents without a service


def true_losses(request: Request, inputs: Array | None = None) -> Array:
    """The loss of each element by mpmath, rounded once; 0 for those dropped.

    Args:
        request: The request.
        inputs: What to score instead of the request's inputs.
    """
    x = request.inputs if inputs is None else inputs
    y, kept = opened_out(request)
    kept &= True if request.mask is None else np.broadcast_to(request.mask != 0, kept.shape)
    alpha = request.param("alpha") if request.loss == "focal" else None
    columns = [
        x.astype(np.float64),
        y,
        np.broadcast_to(1.0 if request.weight is None else request.weight, x.shape).astype(np.float64),
        pos_weights(request),
        along_classes(request, 0.0 if alpha is None else alpha),
    ]
    own: Document = {name: request.param(name) for name in ("gamma", "variant") if name in OWN[request.loss]}
    own |= {
        "probabilities": request.kind == "probabilities",
        "label_smoothing": request.param("label_smoothing"),
    }
    found = np.zeros(x.shape)
    for place in zip(*np.nonzero(kept), strict=True):
        value, target, weight, k, a = (float(column[place]) for column in columns)
        if any(map(math.isnan, (value, target, weight))):
            found[place] = math.nan
        else:
            given: Document = {"weight": weight, "pos_weight": k, "alpha": None if alpha is None else a}
            found[place] = float(reference.element(request.loss, value, target, **given, **own))
    return found


def plain_request(request: Request) -> Request:
    """A request for the plain binary cross entropies that a calibration adds up."""
    names = ("class_axis", "targets_format", "ignore_index", "background_index", "allow_nan")
    params = {name: value for name, value in request.params.items() if name in names}
    return Request(
        inputs=request.inputs, targets=request.targets, kind=request.kind, mask=request.mask, params=params
    )


def true_document(request: Request) -> Document:
    """The whole document, of losses by mpmath."""
    return document(
        request,
        true_losses(request),
        true_losses(plain_request(request)),
        None if request.baseline is None else true_losses(request, request.baseline),
    )


# The document


def document(
    request: Request,
    losses: Array,
    cross_entropy: Array | None = None,
    baseline_losses: Array | None = None,
) -> Document:
    """The whole document but ``run``, as it reads when its JSON is parsed.

    Args:
        request: The request.
        losses: The loss of each element, weights included, in the inputs' shape, float64.
        cross_entropy: The plain binary cross entropy of each, for the calibration: without weight, pos_weight
            and smoothing.
        baseline_losses: The losses of the baseline, computed as the first.
    """
    e = elements_of(request, losses, cross_entropy, baseline_losses)
    found: Document = {"schema": "lossd.report/1", "totals": totals(request, e)}
    of: dict[str, Callable[[], Document]] = {
        "classes": lambda: classes(e),
        "groups": lambda: groups(request, e),
        "top": lambda: top(request, e),
        "histogram": lambda: histogram(request, e),
        "calibration": lambda: calibration(request, e),
        "sweep": lambda: sweep(request, e),
        "paired": lambda: paired(request, e),
    }
    found |= {name: make() for name, make in of.items() if name in request.sections}
    plain: Document = as_json(found)
    return plain


def as_json(value: object) -> Any:  # noqa: ANN401 -- any JSON value
    """A value with strings for the numbers that JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value


# Comparison


def differences(request: Request, found: object, expected: object, path: tuple[str, ...] = ()) -> list[str]:
    """Where two documents are not the same, and how.

    All is compared exactly, the order of keys and whether a number is whole included, but what
    `allowance` names.
    """
    place = "/" + "/".join(path)
    if allowed := allowance(request, path):
        return [f"{place}: {what}" for what in _distances(found, expected, *allowed)]
    if isinstance(found, dict) and isinstance(expected, dict):
        if list(found) != list(expected):
            return [f"{place}: keys {list(found)}, expected {list(expected)}"]
        pairs = [(name, found[name], expected[name]) for name in expected]
    elif isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            return [f"{place}: {len(found)} items {found!r:.200}, expected {len(expected)} {expected!r:.200}"]
        pairs = [(str(at), *both) for at, both in enumerate(zip(found, expected, strict=True))]
    elif type(found) is type(expected) and repr(found) == repr(expected):
        return []
    else:
        return [f"{place}: {found!r:.200}, expected {expected!r:.200}"]
    return [what for name, one, true in pairs for what in differences(request, one, true, (*path, name))]


def assert_same(request: Request, found: Document, expected: Document) -> None:
    """Hold a report against the reference's; ``run`` is left out."""
    sections = {name: value for name, value in found.items() if name != "run"}
    wrong = differences(request, sections, expected)
    assert not wrong, "\n".join(wrong[:20])


def allowance(request: Request, path: tuple[str, ...]) -> tuple[float, float] | None:
    """How far a sum of what needs exp or log may be from mpmath's, relative and absolute; else None."""
    if not path or not path[-1].endswith("terms"):
        return None
    if path[0] == "sweep":
        units = 16 + 2 * max(request.gammas, default=0.0)
        cancels = request.loss == "focal" and request.param("variant") == "quality"
        return units * 2.0**-52, 1e-15 * request.inputs.size if cancels else 0.0
    if request.kind == "logits" and path[0] == "calibration":
        if path[-1] == "probability_terms":
            return 4 * 2.0**-52, 0.0
        if path[-1] == "brier_terms":  # p - y loses what p and y have in common
            return 1e-12, 4 * 2.0**-52 * request.inputs.size
    return None


def _distances(found: Any, expected: Any, relative: float, absolute: float) -> Iterable[str]:  # noqa: ANN401 -- lists
    """Compare sums, which may need more or fewer terms, but only canonical ones."""
    if np.shape(found)[1:] != np.shape(expected)[1:]:
        yield f"shape {np.shape(found)}, expected {np.shape(expected)}"
        return
    cells = cells_of(found)
    if len(found) != max(map(len, cells), default=1):
        yield f"{len(found)} terms, where the longest sum needs {max(map(len, cells), default=1)}"
    for one, true in zip(cells, cells_of(expected), strict=True):
        if not same_terms(one, terms(one)):
            yield f"the terms {one} are not canonical"
        elif math.isnan(one[0]) and math.isnan(true[0]):
            continue
        elif not (one[0] == true[0] or abs(one[0] - true[0]) <= relative * abs(true[0]) + absolute):
            yield f"{one}, expected {true}"


def same_terms(one: Terms, other: Terms) -> bool:
    """Whether two sums have the same terms; NaN is NaN."""
    return list(map(repr, one)) == list(map(repr, other))


def cells_of(written: object) -> list[Terms]:
    """The terms of each sum of planes, in C order, without the zeros that fill up."""
    array = np.array(written, dtype=object)
    numbers = np.array([float(number) for number in array.ravel()]).reshape(len(array), -1)
    found = []
    for column in numbers.T.tolist():
        while len(column) > 1 and column[-1] == 0:
            column.pop()
        found.append(column)
    return found
