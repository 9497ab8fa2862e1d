"""Documents from strangers: whether every field is what its section needs, before a figure is read."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client.report._class_names import refuse_other_names
from lossd_client.report._json import Json
from lossd_client.report._merging.layout import BadField, Kind, Path, leaves, refuse_incomplete

_KINDS: Final = ("integer", "string")
_PER_BIN: Final = ("count", "positives_terms", "probability_terms")
_OF_TARGETS: Final = ("logit", "probability", "confidence")  # an element with one has a target
_SPECIAL: Final = ("NaN", "Infinity", "-Infinity")


def refuse_misshapen(document: Json) -> None:
    """Refuse a document of which a field is missing, of another kind, or as long as it must not be.

    Raises:
        BadField: It is such; it has the place.
        ValueError: It has a field that this version does not know.
    """
    refuse_incomplete(document)
    if not isinstance(document.get("totals"), Mapping):
        raise BadField((), "it has no totals")
    _Shapes(document).check()
    _check_calibration(document.get("calibration"))
    _check_run(document)
    refuse_other_names(document)


class _Shapes:
    """The lengths of a document's axes, as its fields have them."""

    def __init__(self, document: Mapping[str, Json]) -> None:
        self._document = document
        self._sizes: dict[str, int] = {}
        groups = document.get("groups")
        if groups is not None:
            self._sizes["group"] = _group_count(groups)
        if not any(name.endswith("terms") for name in document.get("sweep", {"terms": None})):
            raise BadField(("sweep",), "sweep has no sums")
        calibration = document.get("calibration")
        if calibration is not None and calibration["bins"] != "exact":
            if not _is_count(calibration["bins"]) or not 1 <= calibration["bins"] <= 1 << 16:
                raise BadField(("calibration", "bins"), "bins must be a whole number from 1, or exact")
            self._sizes["bin"] = calibration["bins"]

    def check(self) -> None:
        """Check every field."""
        for path, kind, value in leaves(self._document):
            if kind is Kind.COUNT:
                self._check_array(path, _counts(path, value), self._axes(path))
            elif kind is Kind.TERMS:
                self._check_array(path, _terms(path, value), self._axes(path))
            elif kind is Kind.TOP:
                _check_list(path, value, self._document["top"]["ids"] if "top" in self._document else None)
            elif kind is Kind.ROUNDED and not _is_number(value):
                raise BadField(path, f"{path[-1]} must be a number")
            elif path in _CHECKS and not _CHECKS[path][0](value):
                raise BadField(path, f"{path[-1]} must be {_CHECKS[path][1]}")
            elif kind is Kind.KEYS and path[0] == "histogram":
                self._check_array(path, _bins(path, value), self._axes(path))
            elif kind is Kind.KEYS and path[0] == "calibration":
                self._check_array(path, _array(path, value, np.float64), self._axes(path))

    def _axes(self, path: Path) -> list[str]:
        """Return the axes of a field: those of its section, of classes, of bins."""
        section, name = path[0], path[-1]
        axes = ["group"] if section == "groups" else []
        if section == "sweep" and "gamma" in self._document["sweep"]:
            axes.append("gamma")
        if "classes" in path:
            axes.append("class")
        if section == "calibration" and name in (*_PER_BIN, "values"):
            is_exact = self._document["calibration"]["bins"] == "exact" and "classes" not in path
            axes.append("value" if is_exact else "bin")
        if section == "histogram" and name in ("bins", "counts", "weight_terms"):
            axes.append(f"bin of {path[1]}")
        return axes

    def _check_array(self, path: Path, array: NDArray[Any], axes: Sequence[str]) -> None:
        if array.size == 0 and any(self._sizes.get(axis, 0) == 0 for axis in axes):
            return  # an array of nothing does not show its other axes
        if array.ndim != len(axes):
            raise BadField(path, f"{path[-1]} must have {len(axes)} axes, and has {array.ndim}")
        for axis, size in zip(axes, array.shape, strict=True):
            if self._sizes.setdefault(axis, size) != size:
                what = f"{path[-1]} has {size} numbers along its axis {axis!r}"
                raise BadField(path, f"{what}, and other fields have {self._sizes[axis]}")


def _group_count(groups: Mapping[str, Json]) -> int:
    names, kinds, ids = groups["names"], groups["kinds"], groups["ids"]
    if not _are(names, str) or not names:
        raise BadField(("groups", "names"), "names must be a list of texts, one at least")
    if not isinstance(kinds, list) or len(kinds) != len(names) or any(kind not in _KINDS for kind in kinds):
        raise BadField(("groups", "kinds"), f"kinds must have one of {', '.join(_KINDS)} for each name")
    if not _are(ids, list) or len(ids) != len(names) or len(set(map(len, ids))) != 1:
        raise BadField(("groups", "ids"), "ids must have a list for each name, all of one length")
    for place, (kind, column) in enumerate(zip(kinds, ids, strict=True)):
        if not all(_is_id(kind, each) for each in column):
            raise BadField(("groups", "ids", str(place)), f"the ids must all be of kind {kind}")
    return len(ids[0])


def _is_id(kind: str, value: Json) -> bool:
    if kind == "string" or isinstance(value, str):
        return isinstance(value, str) and (kind == "string" or _is_integer_text(value))
    return isinstance(value, int) and not isinstance(value, bool)


def _is_integer_text(value: str) -> bool:
    """Return whether a text is a whole number, as large ones are written."""
    return len(value) <= 20 and value.isascii() and value.removeprefix("-").isdecimal()


def _counts(path: Path, value: Json) -> NDArray[Any]:
    array = _array(path, value, None)
    if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= 1 << 62):
        raise BadField(path, f"{path[-1]} must count: 0, 1, 2...")
    return array


def _bins(path: Path, value: Json) -> NDArray[Any]:
    array = _counts(path, value)
    if array.size and array.max() >= 1 << 16:
        raise BadField(path, "bins must be the upper 16 bits of numbers")
    return array


def _terms(path: Path, value: Json) -> NDArray[Any]:
    """Return the first plane of sums."""
    array = _array(path, value, np.float64)
    if array.ndim == 0 or len(array) == 0:
        raise BadField(path, f"{path[-1]} must be a list, with a term at least")
    found: NDArray[Any] = array[0]
    return found


def _array(path: Path, value: Json, dtype: type | None) -> NDArray[Any]:
    try:
        return np.asarray(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadField(path, f"{path[-1]} must be an array of numbers: {error}") from error


def _check_list(path: Path, value: Json, ids: Json) -> None:
    """Check a list of rows or of elements."""
    if not _are(value, dict):
        raise BadField(path, f"{path[-1]} must be a list of JSON objects")
    for place, entry in enumerate(value):
        if not _is_entry(entry, ids, is_element=path[-1] == "elements"):
            raise BadField((*path, str(place)), "an entry must have its index or id, and numbers")


def _is_entry(entry: Mapping[str, Json], ids: Json, *, is_element: bool) -> bool:
    figures = {name: value for name, value in entry.items() if name not in ("index", "id", "position")}
    if "loss" not in entry or not all(map(_is_number, figures.values())):
        return False
    if is_element and "target" not in entry and not entry.keys().isdisjoint(_OF_TARGETS):
        return False
    if ids is None:
        return _is_place(entry.get("index")) if is_element else _is_count(entry.get("index"))
    positioned = not is_element or _are_counts(entry.get("position"))
    return _is_id(ids, entry.get("id")) and positioned


def _check_calibration(calibration: Json) -> None:
    """Check that no bin has more positives than elements, and that bins have probabilities."""
    if calibration is None:
        return
    if calibration["bins"] != "exact" and "probability_terms" not in calibration:
        raise BadField(("calibration",), "it has no calibration.probability_terms")
    for path in (("calibration",), ("calibration", "classes")):
        part = calibration if len(path) == 1 else calibration.get("classes")
        if part is None:
            continue
        positives = np.asarray(part["positives_terms"], dtype=np.float64).sum(axis=0)
        if not ((positives >= 0) & (positives <= np.asarray(part["count"]))).all():
            raise BadField((*path, "positives_terms"), "positives must be from 0 to the count of their bin")


def _check_run(document: Mapping[str, Json]) -> None:
    run = document.get("run")
    if run is None:
        return
    if not isinstance(run, Mapping):
        raise BadField(("run",), "run must be a JSON object")
    if not (run.get("inputs") is None or isinstance(run["inputs"], list)):
        raise BadField(("run", "inputs"), "inputs must be a list")
    index = run.get("top_index")
    if index is None or "top" not in document:
        return
    if not isinstance(index, Mapping):
        raise BadField(("run", "top_index"), "top_index must be a JSON object")
    paired = (document.get("paired") or {}).get("top") or {}
    _check_indexes(("run", "top_index"), index, document["top"])
    for name in paired.keys() & index.keys():
        _check_indexes(("run", "top_index", name), index[name], paired[name])


def _check_indexes(path: Path, index: Json, lists: Mapping[str, Json]) -> None:
    """Check that there is an index for each entry of lists with ids."""
    for name, is_one in (("rows", _is_count), ("elements", _is_place)):
        found = index.get(name) if isinstance(index, Mapping) else None
        if found is not None and not (
            isinstance(found, list) and len(found) == len(lists[name]) and all(map(is_one, found))
        ):
            raise BadField((*path, name), f"{name} must have the index of each of the {name} listed")


def _are(value: Json, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _are_counts(value: Json) -> bool:
    return isinstance(value, list) and len(value) <= 32 and all(map(_is_count, value))


def _is_place(value: Json) -> bool:
    return _are_counts(value) and bool(value)


def _is_number(value: Json) -> bool:
    return value in _SPECIAL if isinstance(value, str) else _is_finite(value)


def _is_finite(value: Json) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1 << 1023 if isinstance(value, int) else math.isfinite(value)


def _are_params(value: Json) -> bool:
    axis = value.get("class_axis", -1) if isinstance(value, Mapping) else None
    return isinstance(axis, int) and not isinstance(axis, bool)


_CHECKS: Final[Mapping[Path, tuple[Callable[[Json], bool], str]]] = {
    ("totals", "loss"): (lambda value: isinstance(value, str), "text"),
    ("totals", "params"): (_are_params, "a JSON object, with a whole number as class_axis"),
    ("totals", "inputs"): (
        lambda value: value in ("logits", "probabilities", "boxes"),
        "logits, probabilities or boxes",
    ),
    ("totals", "loss_of"): (
        lambda value: value in ("classes", "sample", "box"),
        "classes, sample or box",
    ),
    ("totals", "row_shape"): (lambda value: value is None or _are_counts(value), "a list of sizes, or null"),
    ("totals", "weighted"): (lambda value: isinstance(value, bool), "true or false"),
    ("top", "ids"): (lambda value: value in (None, *_KINDS), "null, integer or string"),
    ("sweep", "gamma"): (
        lambda value: isinstance(value, list) and 0 < len(value) <= 1000 and all(map(_is_finite, value)),
        "a list of numbers",
    ),
}
