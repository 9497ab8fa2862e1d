"""The report in plain numpy and exact sums, for `fake`: each figure as it is defined, one after the other.

Arrays here have a row for each row of the request, and in it its elements, [N, elements of a row].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, prod
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import dtype_name, widened
from lossd_client._exact_sum import ExactSum
from lossd_client.testing._fake_formulas import Softmax, brackets_of, plain_losses, softmax, times
from lossd_client.testing._fake_losses import Elements, Losses
from lossd_client.testing._fake_report_params import Asked
from lossd_client.testing._fake_tensors import Floats, Refused

Json: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[int, ...]
_EXACT: Final = 2**53  # JSON readers keep integers up to it


def class_axis(shape: tuple[int, ...], axis: int) -> int | None:
    """Return the axis of the classes, counted from the first; None where it is the rows' or there is none."""
    return axis % len(shape) if -len(shape) <= axis < len(shape) and axis % len(shape) else None


@dataclass(frozen=True, slots=True)
class Baseline:
    """What another model's inputs have in place of these: its elements, and their losses."""

    elements: Elements
    losses: Losses


@dataclass(frozen=True, slots=True)
class Scored:
    """A request that was scored.

    Attributes:
        name: The loss.
        tensors: The tensors as they were sent.
        elements: Its elements.
        losses: Their losses.
        baseline: The other model's; None without.
        params: The request's parameters.
        shown: The parameters that the report shows.
    """

    name: str
    tensors: Mapping[str, NDArray[Any]]
    elements: Elements
    losses: Losses
    baseline: Baseline | None
    params: Mapping[str, Any]
    shown: Mapping[str, Any]


def report_of(asked: Asked, scored: Scored, run: Json) -> Json:
    """Return the document of a report."""
    tables = _Tables(asked, scored)
    makers: Mapping[str, Callable[[], Json]] = {
        "totals": tables.totals,
        "classes": lambda: tables.sums_by(tables.by_class),
        "groups": tables.groups,
        "top": tables.top,
        "histogram": tables.histogram,
        "calibration": tables.calibration,
        "sweep": tables.sweep,
        "paired": tables.paired,
    }
    document = {name: make() for name, make in makers.items() if name in asked.sections}
    run = {**run, "first_row": asked.first_row}
    if tables.indexes:
        run["top_index"] = tables.indexes
    return {"schema": "lossd.report/1", **document, "run": run}


@dataclass(frozen=True, slots=True)
class _Split:
    """Something that elements or rows are told apart by: each one's place among `shape`."""

    places: NDArray[np.int64]
    shape: tuple[int, ...]

    def terms(self, numbers: Floats, of: NDArray[np.bool_]) -> list[Any]:
        """Return the planes of the exact sums at each place."""
        sums = [ExactSum() for _ in range(prod(self.shape))]
        for place, number in zip(self.places[of].tolist(), numbers[of].tolist(), strict=True):
            sums[place].add([number])
        return _planes([each.terms for each in sums], self.shape)

    def counts(self, of: NDArray[np.bool_]) -> Any:  # noqa: ANN401 - a number or nested lists
        """Return how many there are at each place."""
        return np.bincount(self.places[of], minlength=prod(self.shape)).reshape(self.shape).tolist()

    def and_then(self, other: "_Split") -> "_Split":
        """Return both together."""
        return _Split(self.places * prod(other.shape) + other.places, (*self.shape, *other.shape))


def _planes(terms: Sequence[Sequence[float]], shape: tuple[int, ...]) -> list[Any]:
    longest = max(map(len, terms), default=1)
    padded = np.zeros((longest, len(terms)))
    for place, each in enumerate(terms):
        padded[: len(each), place] = each
    planes: list[Any] = padded.reshape(longest, *shape).tolist()
    return planes


class _Tables:
    """The sections of a report."""

    def __init__(self, asked: Asked, scored: Scored) -> None:
        self.asked, self.scored = asked, scored
        self.indexes: Json = {}  # of the lists whose entries have ids
        self.shape = scored.elements.shape
        self.rows = self.shape[0]
        self.axis = class_axis(self.shape, scored.params["class_axis"])
        self.kept = self._flat(scored.losses.kept)
        self.v = self._flat(scored.losses.each)
        self.weight = self._flat(scored.losses.weights)
        self.y = self._flat(scored.losses.targets)
        loss = scored.elements.loss
        self.row = loss.entry.row
        self.inputs = next(name for name in loss.entry.inputs if name in scored.tensors)
        self.kind = {"logits": "logit", "probabilities": "probability"}.get(self.inputs, "")
        self.classes: Softmax | None = None
        self.x = self.other_x = np.zeros(self.v.shape)  # of rows that no number stands for
        if self.row == "classes":
            self.kind, self.classes = "confidence", softmax(scored.elements.tensors.x)
            self.x = self._confidence(self.classes)
        elif self.row:
            self.kind = ""
        else:
            self.x = self._flat(widened(scored.tensors[self.inputs])).astype(np.float64)
            self.p = self._flat(scored.elements.tensors.probabilities.p)
        self.scored_rows: NDArray[np.bool_] = np.array([row.any() for row in self.kept], dtype=np.bool_)
        self.s = self._row_sums(self.v)
        self.r = self._row_losses(self.s)
        self.divisor = self._divisor()
        if scored.baseline is not None:
            self.other = self._flat(scored.baseline.losses.each)
            if self.row == "classes":
                self.other_x = self._confidence(softmax(scored.baseline.elements.tensors.x))
            elif not self.row:
                self.other_x = self._flat(widened(scored.tensors["baseline"])).astype(np.float64)

    def _confidence(self, classes: Softmax) -> Floats:
        return self._flat(classes.p.max(axis=-1))

    def _by_row(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array with a further axis, of classes, as [N, losses of a row, classes]."""
        return array.reshape(*self.kept.shape, array.shape[-1])

    def _flat(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.broadcast_to(array, self.shape).reshape(self.rows, prod(self.shape[1:]))

    def _row_sums(self, array: NDArray[Any]) -> Floats:
        kept = zip(array, self.kept, strict=True)
        return np.array([ExactSum(row[of].tolist()).value for row, of in kept], dtype=np.float64)

    def _divisor(self) -> Floats:
        normalizer = self.scored.params["normalizer"]
        if isinstance(normalizer, float):
            return np.ones(self.rows)
        counts = self.kept.sum(axis=1).astype(np.float64)
        of = {"weight": self.weight, "positives": self.y}
        return self._row_sums(of[normalizer]) if normalizer in of else counts

    def _row_losses(self, sums: Floats) -> Floats:
        if self.asked.row == "sum":
            return sums
        means: Floats = sums / np.maximum(self.kept.sum(axis=1), 1)
        return means

    @property
    def whole(self) -> _Split:
        """All elements together."""
        return _Split(np.zeros(self.kept.shape, dtype=np.int64), ())

    @property
    def whole_rows(self) -> _Split:
        """All rows together."""
        return _Split(np.zeros(self.rows, dtype=np.int64), ())

    @property
    def by_class(self) -> _Split:
        """The elements' classes: those of their targets, where a loss is of a row of classes."""
        if self.classes is not None:
            targets = self.scored.elements.tensors.y
            return _Split(self._flat(targets.argmax(axis=-1)), targets.shape[-1:])
        assert self.axis is not None
        places = np.arange(self.shape[self.axis])
        shape = [-1 if axis == self.axis else 1 for axis in range(len(self.shape))]
        return _Split(self._flat(places.reshape(shape)), (len(places),))

    def _elements_of(self, rows: _Split) -> _Split:
        """Return what rows are told apart by for their elements."""
        return _Split(np.repeat(rows.places[:, None], self.kept.shape[1], axis=1), rows.shape)

    def sums_by(self, split: _Split) -> Json:
        """Return counts and sums."""
        return {
            "count": split.counts(self.kept),
            "sum_terms": split.terms(self.v, self.kept),
            "weight_sum_terms": split.terms(self.weight, self.kept),
            "positives_terms": split.terms(self.y, self.kept),
        }

    def _figures(self, rows: _Split) -> Json:
        """Return what the totals and each group have."""
        by_element = self._elements_of(rows)
        sums = self.sums_by(by_element)
        all_rows, everything = np.ones(self.rows, dtype=np.bool_), np.ones_like(self.kept)
        scored = self.scored_rows
        found = {
            "rows": rows.counts(all_rows),
            "rows_dropped": rows.counts(~scored),
            "elements": by_element.counts(everything),
            "dropped": by_element.counts(~self.kept),
            "count": sums.pop("count"),
            "nan": by_element.counts(self.kept & np.isnan(self.v)),
            "infinite": by_element.counts(self.kept & np.isinf(self.v)),
            **sums,
            "row_squares_terms": rows.terms(self.s * self.s, scored),
            "row_products_terms": rows.terms(self.s * self.divisor, scored),
            "divisor_squares_terms": rows.terms(self.divisor * self.divisor, scored),
        }
        if self.scored.params["normalizer"] == "count":
            found["element_squares_terms"] = by_element.terms(self.v * self.v, self.kept)
        return found

    def totals(self) -> Json:
        """Return the section of that name."""
        figures = self._figures(self.whole_rows)
        terms = {name: figures.pop(name) for name in list(figures) if name.endswith("_terms")}
        return {
            "loss": self.scored.name,
            "params": {**self.scored.shown, "row": self.asked.row},
            "inputs": self.inputs,
            **({"loss_of": self.row} if self.row else {}),
            "row_shape": list(self.shape[1:]),
            "weighted": self.weighted,
            **figures,
            **{name: terms[f"{name}_terms"][0] for name in ("sum", "weight_sum", "positives")},
            **terms,
        }

    @property
    def weighted(self) -> bool:
        """Whether the losses have weights, or their classes."""
        named = ("weight", "class_weight")
        return any(name in self.scored.tensors or self.scored.params.get(name) is not None for name in named)

    def groups(self) -> Json:
        """Return the section of that name."""
        groups = self.scored.tensors["groups"]
        groups = groups[:, None] if groups.ndim == 1 else groups
        ids, places = np.unique(groups, axis=0, return_inverse=True)
        rows = _Split(places.reshape(-1), (len(ids),))
        found = {
            "names": list(self.asked.group_names),
            "kinds": ["integer"] * groups.shape[1],
            "ids": [[_id(number) for number in column] for column in ids.T.tolist()],
            **self._figures(rows),
        }
        by_element = self._elements_of(rows)
        if "classes" in self.asked.sections:
            found["classes"] = self.sums_by(by_element.and_then(self.by_class))
        if "paired" in self.asked.sections:
            found["paired"] = {**self._compared(by_element), "rows": self._compared_rows(rows)}
        return found

    def histogram(self) -> Json:
        """Return the section of that name."""
        weight = self.weight if self.weighted else None
        return {
            "elements": _binned(self.v[self.kept], None if weight is None else weight[self.kept]),
            "rows": _binned(self.r[self.scored_rows], None),
        }

    def calibration(self) -> Json:
        """Return the section of that name."""
        if self.classes is not None:
            return self._calibration_of(self.classes)
        known = self.kept & ~np.isnan(self.x) & ~np.isnan(self.y)
        soft = int((known & (self.y != 0) & (self.y != 1)).sum())
        undefined = int((self.kept & ~known).sum())
        t = self.p - self.y
        plain = self._flat(plain_losses(self.scored.elements.tensors))
        sums = {
            "brier_terms": self.whole.terms(t * t, known),
            "cross_entropy_terms": self.whole.terms(plain, known),
        }
        about = {"soft": soft, "undefined": undefined}
        if self.asked.bins == "exact":
            return {"bins": "exact", "dtype": self._small_dtype(), **about, **self._by_value(known), **sums}
        bins = int(self.asked.bins)
        split = _Split(_bins(self.p, known, bins), (bins,))
        found = {"bins": bins, **about, **_binned_by(split, known, self.y, self.p), **sums}
        if self.axis is not None:
            found["classes"] = _binned_by(self.by_class.and_then(split), known, self.y, self.p)
        return found

    def _calibration_of(self, classes: Softmax) -> Json:
        """Return the calibration of rows of classes: of the class that is most probable, and of each."""
        p, y = self._by_row(classes.p), self._by_row(self.scored.elements.tensors.y)
        undefined = self.kept & (np.isnan(p).any(axis=-1) | np.isnan(y).any(axis=-1))
        known, count, bins = self.kept & ~undefined, p.shape[-1], int(self.asked.bins)
        each = np.broadcast_to(known[..., None], p.shape)
        plain = times(y, self._by_row(classes.costs)).sum(axis=-1)
        numbers = _Split(np.broadcast_to(np.arange(count), p.shape), (count,))
        binned = _Split(_bins(p, each, bins), (bins,))
        top = _Split(_bins(self.x, known, bins), (bins,))
        right = np.take_along_axis(y, p.argmax(axis=-1)[..., None], axis=-1)[..., 0]
        found = {
            "bins": bins,
            "soft": int((known & ((y != 0) & (y != 1)).any(axis=-1)).sum()),
            "undefined": int(undefined.sum()),
            **_binned_by(top, known, right, self.x),
            "brier_terms": _Split(np.zeros(p.shape, dtype=np.int64), ()).terms((p - y) ** 2, each),
            "cross_entropy_terms": self.whole.terms(plain, known),
        }
        if self.asked.note_of(count) is None:
            found["classes"] = _binned_by(numbers.and_then(binned), each, y, p)
        return found

    def _small_dtype(self) -> str:
        dtype = dtype_name(next(iter(self.scored.tensors.values())).dtype)
        if dtype not in ("float16", "bfloat16"):
            raise Refused("invalid_parameter", f"exact is for 16 bits, and not {dtype}", "/calibration_bins")
        return dtype

    def _by_value(self, known: NDArray[np.bool_]) -> Json:
        values, places = np.unique(self.x[known] + 0.0, return_inverse=True)  # one zero
        split = _Split(places, (len(values),))
        every = np.ones(len(places), dtype=np.bool_)
        return {
            "values": values.tolist(),
            "count": split.counts(every),
            "positives_terms": split.terms(self.y[known], every),
        }

    def sweep(self) -> Json:
        """Return the section of that name."""
        gammas = self.asked.gammas or (None,)
        scored = self.scored
        tensors, weights = scored.elements.tensors, scored.losses.weights
        made = [brackets_of(scored.name, tensors, weights, scored.params, gamma) for gamma in gammas]
        found: Json = {"gamma": list(self.asked.gammas)} if self.asked.gammas else {}
        found |= self._brackets(made, self.whole)
        if "classes" in self.asked.sections:
            found["classes"] = self._brackets(made, self.by_class)
        return found

    def _brackets(self, made: Sequence[Mapping[str, Floats]], split: _Split) -> Json:
        """Return the sums of the brackets, for each gamma if there are any."""
        gammas = len(self.asked.gammas)
        if gammas:
            number = np.repeat(np.arange(gammas), self.kept.size).reshape(gammas, *self.kept.shape)
            split = _Split(number, (gammas,)).and_then(split)
        kept = np.broadcast_to(self.kept, split.places.shape)
        return {
            name: split.terms(np.stack([self._flat(each[name]) for each in made]).reshape(kept.shape), kept)
            for name in made[0]
        }

    def paired(self) -> Json:
        """Return the section of that name."""
        found = {**self._compared(self.whole), "rows": self._compared_rows(self.whole_rows)}
        if "classes" in self.asked.sections:
            found["classes"] = self._compared(self.by_class)
        if "top" in self.asked.sections:
            found["top"] = {"worse": self._most("worse", 1.0), "better": self._most("better", -1.0)}
        return found

    def _compared(self, split: _Split) -> Json:
        d = self.v - self.other
        return {
            "baseline_sum_terms": split.terms(self.other, self.kept),
            "squares_terms": split.terms(d * d, self.kept),
            **_signs(split, d, self.kept),
        }

    def _compared_rows(self, split: _Split) -> Json:
        sums = self._row_sums(self.other)
        d = self.s - sums
        return {
            "squares_terms": split.terms(d * d, self.scored_rows),
            "products_terms": split.terms(d * self.divisor, self.scored_rows),
            "baseline_squares_terms": split.terms(sums * sums, self.scored_rows),
            "baseline_products_terms": split.terms(d * sums, self.scored_rows),
            **_signs(split, self.r - self._row_losses(sums), self.scored_rows),
        }

    def top(self) -> Json:
        """Return the section of that name."""
        rows = self._first(("rows",), self.scored_rows, _greatest(self.r), {"loss": self.r})
        element = {"loss": self.v}
        if self.kind:
            element |= {self.kind: self.x, "target": self._listed_targets}
        if self.classes is not None:
            element["predicted"] = self._flat(self.classes.p.argmax(axis=-1))
        elements = self._first(("elements",), self.kept, _greatest(self.v), element)
        ids = "integer" if "ids" in self.scored.tensors else None
        return {"k": self.asked.top, "ids": ids, "rows": rows, "elements": elements}

    @property
    def _listed_targets(self) -> NDArray[Any]:
        """The targets as lists have them: classes, of rows of classes."""
        return self.y if self.classes is None else self.by_class.places

    def _most(self, way: str, sign: float) -> Json:
        """Return the rows and the elements whose losses differ most, in one direction."""
        others = self._row_losses(self._row_sums(self.other))
        rows, elements = self.r - others, self.v - self.other
        row = {"difference": rows, "loss": self.r, "baseline": others}
        element = {"difference": elements, "loss": self.v, "baseline": self.other}
        if self.kind:
            element |= {self.kind: self.x, f"baseline_{self.kind}": self.other_x}
            element["target"] = self._listed_targets
        of_rows, of = self.scored_rows & (sign * rows > 0), self.kept & (sign * elements > 0)
        return {
            "rows": self._first((way, "rows"), of_rows, _greatest(sign * rows), row),
            "elements": self._first((way, "elements"), of, _greatest(sign * elements), element),
        }

    def _first(
        self,
        path: tuple[str, ...],
        of: NDArray[np.bool_],
        order: Callable[[Place], tuple[bool, float]],
        figures: Mapping[str, NDArray[Any]],
    ) -> list[Json]:
        """Return the first entries of a list, rows or elements."""
        places: list[Place] = sorted(
            map(tuple, np.argwhere(of).tolist()), key=lambda place: (*order(place), self._named_by(place))
        )[: self.asked.top]
        named = [self._index(place) for place in places]
        if "ids" in self.scored.tensors:
            lists = self.indexes
            for name in path[:-1]:
                lists = lists.setdefault(name, {})
            lists[path[-1]] = [each["index"] for each in named]
            named = [self._id_and_position(place) for place in places]
        values = [{name: array[place].item() + 0 for name, array in figures.items()} for place in places]
        return [{**name, **value} for name, value in zip(named, values, strict=True)]

    def _named_by(self, place: Place) -> Place:
        """Return what equal losses are ordered by."""
        ids = self.scored.tensors.get("ids")
        return place if ids is None else (int(ids[place[0]]), *place[1:])

    def _position(self, place: Place) -> list[int]:
        return [int(at) for at in np.unravel_index(place[1], self.shape[1:])] if self.shape[1:] else []

    def _index(self, place: Place) -> Json:
        row = self.asked.first_row + place[0]
        return {"index": row if len(place) == 1 else [row, *self._position(place)]}

    def _id_and_position(self, place: Place) -> Json:
        named = {"id": _id(int(self.scored.tensors["ids"][place[0]]))}
        return named if len(place) == 1 else {**named, "position": self._position(place)}


def _greatest(numbers: Floats) -> Callable[[Place], tuple[bool, float]]:
    """Return an order: the greatest first, and NaN before all."""

    def order(place: Place) -> tuple[bool, float]:
        number = float(numbers[place])
        return (False, 0.0) if isnan(number) else (True, -number)

    return order


def _signs(split: _Split, d: Floats, of: NDArray[np.bool_]) -> Json:
    """Return how many differences are below, above and at 0, and how many are NaN."""
    ways = {"better": d < 0, "worse": d > 0, "equal": d == 0, "undefined": np.isnan(d)}
    return {name: split.counts(way & of) for name, way in ways.items()}


def _binned(losses: Floats, weights: Floats | None) -> Json:
    """Count losses by the upper 16 bits of their float64s."""
    infinite, zero = np.isinf(losses), losses == 0
    normal = ~(infinite | zero | np.isnan(losses))
    every = (losses[normal].view(np.uint64) >> np.uint64(48)).astype(np.int64)
    bins, places, counts = np.unique(every, return_inverse=True, return_counts=True)
    found: Json = {
        "zero": int(zero.sum()),
        "infinite": int(infinite.sum()),
        "nan": int(np.isnan(losses).sum()),
    }
    found |= {"bins": bins.tolist(), "counts": counts.tolist()}
    if weights is None:
        return found
    split = _Split(places, (len(bins),))
    return {
        **found,
        "weight_terms": split.terms(weights[normal], np.ones(len(places), dtype=np.bool_)),
        "zero_weight_terms": list(ExactSum(weights[zero].tolist()).terms),
        "infinite_weight_terms": list(ExactSum(weights[infinite].tolist()).terms),
    }


def _bins(p: Floats, of: NDArray[np.bool_], bins: int) -> NDArray[np.int64]:
    """Return the bin of each probability."""
    return np.minimum((np.where(of, p, 0.0) * bins).astype(np.int64), bins - 1)


def _binned_by(split: _Split, of: NDArray[np.bool_], y: Floats, p: Floats) -> Json:
    return {
        "count": split.counts(of),
        "positives_terms": split.terms(y, of),
        "probability_terms": split.terms(p, of),
    }


def _id(number: int) -> int | str:
    return str(number) if abs(number) > _EXACT else number
