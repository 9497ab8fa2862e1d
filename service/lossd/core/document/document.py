"""The document of a report: what a whole request's figures say, section by section.

Every figure is an exact sum, as its terms; a count; or a list in a total order. So documents over different
rows merge exactly. The sections and their keys are those of lossd/wire/report.schema.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from lossd.core.catalog import LOSSES
from lossd.core.document.accumulator import Ids, ReportSums
from lossd.core.document.indexed_sums import indexed_sums, trimmed
from lossd.core.report.layout import HISTOGRAM_BINS, PAIR_COUNTS
from lossd.core.report.partial import Entries, Int64Array
from lossd.core.report.spec import SECTIONS
from lossd.types import Float64Array, LossRequest, LossResult

Section: TypeAlias = dict[str, object]

SCHEMA: Final = "lossd.report/1"
EXACT_INTEGERS: Final = 1 << 53
"""Integers beyond this in magnitude are written as strings: many readers of JSON would round them."""
_VALUES: Final = {"logits": "logit", "probabilities": "probability"}
"""The name of one input in lists of elements."""
_ZERO, _INFINITE, _NAN = (HISTOGRAM_BINS + i for i in range(3))


def document_of(sums: ReportSums, result: LossResult, request: LossRequest) -> dict[str, object]:
    """Return the document of a request's report, without what only the answer knows of the run.

    Numbers may be infinite or NaN, which are strings in JSON. Sums and counts of many figures are numpy
    arrays; sums have a first axis of terms.
    """
    document = _Document(sums, result, request)
    written: dict[str, Callable[[], Section]] = {
        "totals": document.totals,
        "classes": document.classes,
        "groups": document.groups,
        "top": document.top,
        "histogram": document.histogram,
        "calibration": document.calibration,
        "sweep": document.sweep,
        "paired": document.paired,
    }
    sections: dict[str, object] = {
        name: written[name]() for name in SECTIONS if name in sums.layout.spec.sections
    }
    return {"schema": SCHEMA, **sections, "run": document.run()}


class _Document:
    """The sections of a report."""

    def __init__(self, sums: ReportSums, result: LossResult, request: LossRequest) -> None:
        self._sums: Final = sums
        self._result: Final = result
        self._tensors: Final = request.tensors
        self._layout: Final = sums.layout
        self._spec: Final = sums.layout.spec
        self._row_shape: Final = sums.layout.inputs.shape[1:]
        self._row_elements: Final = math.prod(self._row_shape)
        self._loss: Final = LOSSES[request.loss]
        self._inputs: Final = next(name for name in self._loss.inputs if name in request.tensors)
        self._by_target: Final = sums.layout.inputs.by_target

    def totals(self) -> Section:
        """Return what there is over all rows."""
        result, rows = self._result, self._result.shape[0]
        options = {name: value for name, value in result.options.items() if name != "axis"}
        row = "mean" if self._spec.row_mean else "sum"
        dropped = int(self._sums.counts("rows_dropped"))
        elements = rows * self._row_elements
        return {
            "loss": result.loss_name,
            "params": {**result.params, **options, "row": row},
            "inputs": self._inputs,
            **({"loss_of": self._loss.row} if self._loss.row else {}),
            "row_shape": list(self._row_shape),
            "weighted": self._layout.inputs.weighted,
            "rows": rows,
            "rows_dropped": dropped if self._row_elements else rows,
            "elements": elements,
            "dropped": elements - result.count,
            "count": result.count,
            "nan": int(self._sums.counts("nan")),
            "infinite": int(self._sums.counts("infinite")),
            "sum": result.sum,
            "weight_sum": result.weight_sum,
            "positives": result.positives,
            "sum_terms": list(result.sum_terms),
            "weight_sum_terms": list(result.weight_sum_terms),
            "positives_terms": list(result.positives_terms),
            **_of_rows(self._layout.sums.fields, self._sums.terms),
        }

    def classes(self) -> Section:
        """Return what there is by class."""
        return self._by_class(self._sums.terms, self._sums.counts)

    def _by_class(self, terms: Callable[[str], Float64Array], counts: Callable[[str], Int64Array]) -> Section:
        count = counts("class_count")
        weighted = self._layout.inputs.weighted
        return {
            "count": count,
            "sum_terms": terms("class_sum"),
            "weight_sum_terms": terms("class_weight") if weighted else _counted(count),
            "positives_terms": terms("class_positives"),
        }

    def groups(self) -> Section:
        """Return what there is by group."""
        sums, counts, terms = self._sums, self._sums.group_counts, self._sums.group_terms
        names = self._spec.group_names or _default_names(self._layout.inputs.group_columns)
        rows, count = counts("rows"), counts("count")
        elements = rows * self._row_elements
        found = {
            "names": list(names),
            "kinds": sums.group_kinds,
            "ids": list(map(_written_ids, sums.group_ids)),
            "rows": rows,
            "rows_dropped": counts("rows_dropped"),
            "elements": elements,
            "dropped": elements - count,
            "count": count,
            "nan": counts("nan"),
            "infinite": counts("infinite"),
            "sum_terms": terms("sum"),
            "weight_sum_terms": terms("weight") if self._layout.inputs.weighted else _counted(count),
            "positives_terms": terms("positives"),
            **_of_rows(self._layout.group_sums.fields, terms),
        }
        if self._layout.by_class:
            found["classes"] = self._by_class(terms, counts)
        if "paired" in self._spec.sections:
            found["paired"] = _pairs(terms, counts)
        return found

    def top(self) -> Section:
        """Return the rows and elements with the greatest losses."""
        return {
            "k": self._spec.top,
            "ids": None if self._sums.ids is None else self._sums.ids.kind,
            "rows": self._entries("rows", {"loss": "loss"}),
            "elements": self._entries("elements", {"loss": "loss"} | self._element_columns),
        }

    @property
    def _element_columns(self) -> dict[str, str]:
        """The column of the entries for each key of an element's input and target."""
        if self._by_target:
            return {"confidence": "input", "predicted": "baseline_input", "target": "target"}
        return {} if self._loss.row else {_VALUES[self._inputs]: "input", "target": "target"}

    @property
    def _pair_columns(self) -> dict[str, str]:
        """The same in lists of pairs."""
        if self._loss.row and not self._by_target:
            return {}
        value = "confidence" if self._by_target else _VALUES[self._inputs]
        return {value: "input", f"baseline_{value}": "baseline_input", "target": "target"}

    def histogram(self) -> Section:
        """Return how many losses of elements, and of rows, each bin has."""
        elements = _histogram(self._sums.counts("histogram_elements"))
        if self._layout.inputs.weighted:
            terms, bins = self._sums.terms("histogram_weight"), np.asarray(elements["bins"], np.intp)
            elements |= {
                "weight_terms": trimmed(terms[:, bins]),
                "zero_weight_terms": trimmed(terms[:, _ZERO]),
                "infinite_weight_terms": trimmed(terms[:, _INFINITE]),
            }
        return {"elements": elements, "rows": _histogram(self._sums.counts("histogram_rows"))}

    def calibration(self) -> Section:
        """Return how often what is predicted comes true, by bin of the prediction, or by its value."""
        counts = self._sums.counts
        known: Section = {"soft": int(counts("soft")), "undefined": int(counts("undefined"))}
        scores: Section = {
            "brier_terms": self._sums.terms("brier"),
            "cross_entropy_terms": self._sums.terms("cross_entropy"),
        }
        if not self._spec.bins:
            return self._exact_calibration(known, scores)
        count, terms = counts("bin_count"), self._sums.terms
        by_class = {name: terms(f"bin_{name}") for name in ("positives", "probability")}
        whole = slice(None)
        if self._by_target:  # the top class is by itself, behind the others
            whole = slice(-1, None)
        found = {
            "bins": self._spec.bins,
            **known,
            "count": count[whole].sum(0),
            **{f"{name}_terms": _summed(planes[:, whole], 1) for name, planes in by_class.items()},
            **scores,
        }
        if self._by_target:
            count, by_class = count[:-1], {name: trimmed(its[:, :-1]) for name, its in by_class.items()}
        if self._layout.inputs.has_classes and (len(count) or not self._by_target):
            found["classes"] = {
                "count": count,
                **{f"{name}_terms": planes for name, planes in by_class.items()},
            }
        return found

    def _exact_calibration(self, known: Section, scores: Section) -> Section:
        count, dtype = self._sums.counts("bin_count")[0], self._tensors[self._inputs].dtype
        patterns = np.flatnonzero(count)
        values = _numbers_of(patterns, dtype)
        order = np.argsort(values)
        patterns = patterns[order]
        return {
            "bins": "exact",
            "dtype": dtype,
            **known,
            "values": values[order],
            "count": count[patterns],
            "positives_terms": self._sums.terms("bin_positives")[:, 0, patterns],
            **scores,
        }

    def sweep(self) -> Section:
        """Return the sums from which the losses of other parameters follow."""
        planes = self._sums.terms("sweep")  # [k, brackets, gammas, classes]
        names = {1: ("",), 2: ("y_", "z_"), 4: ("yy_", "yz_", "zy_", "zz_")}[self._layout.brackets]
        if not self._spec.gammas:
            planes = planes[:, :, 0]
        by_class = {f"{name}terms": planes[:, number] for number, name in enumerate(names)}
        found: Section = {"gamma": list(self._spec.gammas)} if self._spec.gammas else {}
        found |= {name: _summed(its, -1) for name, its in by_class.items()}
        if self._layout.by_class:
            found["classes"] = {name: trimmed(its) for name, its in by_class.items()}
        return found

    def paired(self) -> Section:
        """Return how the losses differ from the baseline's."""
        terms, counts = self._sums.terms, self._sums.counts
        found = _pairs(terms, counts)
        if self._layout.by_class:
            found["classes"] = {
                "baseline_sum_terms": terms("class_baseline"),
                "squares_terms": terms("class_pair_squares"),
                **dict(zip(PAIR_COUNTS, counts("class_pairs"), strict=True)),
            }
        if self._spec.top:
            found["top"] = {"worse": self._paired_top("worse"), "better": self._paired_top("better")}
        return found

    def _paired_top(self, way: str) -> Section:
        row = {"difference": "key", "loss": "loss", "baseline": "baseline"}
        return {
            "rows": self._entries(f"{way}_rows", row),
            "elements": self._entries(f"{way}_elements", row | self._pair_columns),
        }

    def _entries(self, name: str, columns: Mapping[str, str]) -> list[Section]:
        """Return a list's entries: where each is, and its numbers.

        Args:
            name: The list.
            columns: The column of the entries for each key.
        """
        entries = self._sums.entries(name)
        whole = ("predicted", "target") if self._by_target else ()
        numbers = [
            (entries[column].astype(np.int64) if key in whole else entries[column]).tolist()
            for key, column in columns.items()
        ]
        if name.startswith("better") and "difference" in columns:
            numbers[0] = [-key for key in numbers[0]]
        places = self._places(name, entries)
        return [
            place | dict(zip(columns, row, strict=True))
            for place, row in zip(places, zip(*numbers, strict=True), strict=True)
        ]

    def _places(self, name: str, entries: Entries) -> list[Section]:
        """Return where each entry is: its index, or its id and its position in the row."""
        of_rows = name.endswith("rows")
        if self._sums.ids is None:
            return [{"index": index} for index in self._indices(name, entries)]
        ids = [{"id": written_id(each)} for each in self._sums.list_ids(name)]
        if of_rows:
            return [dict(each) for each in ids]
        positions = self._positions(entries)
        return [{**each, "position": position} for each, position in zip(ids, positions, strict=True)]

    def _indices(self, name: str, entries: Entries) -> list[object]:
        """Return the index of each entry: of its row, or of its element along every axis."""
        rows = (entries["row"] + self._spec.first_row).tolist()
        if name.endswith("rows"):
            return rows  # type: ignore[no-any-return] # tolist() knows no type
        return [[row, *position] for row, position in zip(rows, self._positions(entries), strict=True)]

    def _positions(self, entries: Entries) -> list[list[int]]:
        """Return the index of each element within its row."""
        if not self._row_shape:
            return [[] for _ in entries]
        index = np.unravel_index(entries["position"], self._row_shape)
        return np.stack(index, axis=1).tolist()  # type: ignore[no-any-return]

    def run(self) -> Section:
        """Return what is no figure: the first row's index and, where rows have ids, those of the lists."""
        found: Section = {"first_row": self._spec.first_row}
        if self._sums.ids is not None and self._spec.top:
            found["top_index"] = self._top_index()
        return found

    def _top_index(self) -> Section:
        lists = self._sums.lists
        of = {name: self._indices(name, entries) for name, entries in lists.items()}
        found: Section = {name: of[name] for name in ("rows", "elements")}
        if "paired" in self._spec.sections:
            for way in ("worse", "better"):
                found[way] = {name: of[f"{way}_{name}"] for name in ("rows", "elements")}
        return found


def written_id(value: int | str) -> int | str:
    """Return an id as it is written."""
    return str(value) if isinstance(value, int) and abs(value) > EXACT_INTEGERS else value


def _written_ids(ids: Ids | list[str]) -> Ids | list[int | str] | list[str]:
    """Return ids as they are written."""
    if isinstance(ids, list) or not ((ids > EXACT_INTEGERS) | (ids < -EXACT_INTEGERS)).any():
        return ids
    return [written_id(each) for each in ids.tolist()]


def _of_rows(fields: Mapping[str, object], terms: Callable[[str], Float64Array]) -> Section:
    """Return the sums from which standard errors follow."""
    names = ("row_squares", "row_products", "divisor_squares", "element_squares")
    return {f"{name}_terms": terms(name) for name in names if name in fields}


def _pairs(terms: Callable[[str], Float64Array], counts: Callable[[str], Int64Array]) -> Section:
    """Return how losses differ from the baseline's, over all or by group."""
    elements, rows = (
        dict(zip(PAIR_COUNTS, counts(name).T, strict=True)) for name in ("pair_elements", "pair_rows")
    )
    return {
        "baseline_sum_terms": terms("baseline"),
        "squares_terms": terms("pair_squares"),
        **elements,
        "rows": {
            "squares_terms": terms("pair_row_squares"),
            "products_terms": terms("pair_row_products"),
            "baseline_squares_terms": terms("baseline_row_squares"),
            "baseline_products_terms": terms("baseline_row_products"),
            **rows,
        },
    }


def _histogram(cells: Int64Array) -> Section:
    bins = np.flatnonzero(cells[:HISTOGRAM_BINS])
    return {
        "zero": int(cells[_ZERO]),
        "infinite": int(cells[_INFINITE]),
        "nan": int(cells[_NAN]),
        "bins": bins,
        "counts": cells[bins],
    }


def _default_names(columns: int) -> Sequence[str]:
    return ["group"] if columns == 1 else [f"group{i}" for i in range(columns)]


def _counted(count: Int64Array) -> Float64Array:
    """Return counts as the sums of weights of 1."""
    return count[np.newaxis].astype(np.float64)


def _summed(planes: Float64Array, axis: int) -> Float64Array:
    """Return the terms of sums along an axis, given the terms of what is added up: the first axis."""
    if planes.shape[axis] == 1:
        return trimmed(planes.squeeze(axis))
    if not planes.shape[axis]:
        return np.zeros((1, *np.delete(planes.shape, [0, axis])))
    numbers = np.moveaxis(planes, axis, 1)
    shape = numbers.shape[2:]
    arrays = numbers.reshape(-1, math.prod(shape))
    sums = indexed_sums(arrays.shape[1])
    sums.add(np.tile(np.arange(arrays.shape[1]), len(arrays)), arrays.reshape(-1))
    return sums.canonical().reshape(-1, *shape)


def _numbers_of(patterns: Int64Array, dtype: str) -> Float64Array:
    """Return the numbers that 16 bits of a dtype stand for."""
    if dtype == "float16":
        return patterns.astype(np.uint16).view(np.float16).astype(np.float64)
    return (patterns.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
