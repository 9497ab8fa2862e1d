"""Documents merged one by one, in memory that hardly grows with their number."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from lossd_client.report._json import Json
from lossd_client.report._merging.fields import Counts, Field, Shape, Terms
from lossd_client.report._merging.keys import Keys
from lossd_client.report._merging.layout import LATER, PER_KEY, Kind, Path, leaves
from lossd_client.report._merging.repeats import Repeats
from lossd_client.report._merging.row_numbers import RowNumbers
from lossd_client.report._merging.runs import MergedRun
from lossd_client.report._merging.top_lists import TopList

_FIELDS: Final[Mapping[Kind, type[Field]]] = {
    Kind.SAME: Field,
    Kind.SHAPE: Shape,
    Kind.COUNT: Counts,
    Kind.TERMS: Terms,
    Kind.TOP: TopList,
}


class DocumentMerger:
    """Merges parsed documents that have the same sections and parameters.

    Attributes:
        row_numbers: Whether two of them share a row's number.
    """

    def __init__(self) -> None:
        self.row_numbers = RowNumbers()
        self._repeats = Repeats()
        self._first: Mapping[str, Json] = {}
        self._number = 0
        self._kinds: dict[Path, Kind] = {}
        self._fields: dict[Path, Field] = {}
        self._keys: dict[Path, Keys] = {}
        self._run = MergedRun()

    def add(self, document: Mapping[str, Json]) -> None:
        """Add one document.

        Raises:
            ValueError: It is unlike those before it, or repeats one; the message says how. Then it is left
                out.
        """
        kinds = {path: kind for path, kind, _ in leaves(document)}
        if not self._number:
            self._begin(document, kinds)
        _refuse_other_fields(self._kinds, kinds)
        keys = {each: each.read(document) for each in self._keys.values()}
        read: dict[Path, Any] = {}
        for path, field in self._fields.items():
            read[path] = field.read(document, None if field.keys is None else len(keys[field.keys]))
        run = self._run.read(document)
        name = f"report {self._number + 1}"
        self._repeats.add(document, name)
        # From here on nothing fails.
        self.row_numbers.add(document, name)
        places = {each: each.places(found) for each, found in keys.items()}
        for path, field in self._fields.items():
            field.add(read[path], None if field.keys is None else places[field.keys])
        self._run.add(run)
        self._number += 1

    def _begin(self, document: Mapping[str, Json], kinds: Mapping[Path, Kind]) -> None:
        self._first = document
        self._kinds = dict(kinds)
        self._keys = {path: Keys(path, document) for path, kind in kinds.items() if kind is Kind.KEYS}
        self._fields = {
            path: _FIELDS[kind](path, document, self._keys_of(path))
            for path, kind in kinds.items()
            if kind in _FIELDS
        }

    def _keys_of(self, path: Path) -> Keys | None:
        """Return the keys for each of which a field has a number."""
        for place, keys in self._keys.items():
            inside = path[: len(place) - 1] == place[:-1]
            names = PER_KEY.get(place[-1])
            if inside and (path[-1] in names if names else self._kinds[path] is not Kind.SAME):
                return keys
        return None

    def result(self) -> dict[str, Json]:
        """Return the document of all that was added.

        Raises:
            ValueError: That is nothing.
        """
        if not self._number:
            raise ValueError("there are no reports to merge")
        if self._number == 1:
            return dict(self._first)
        orders = {keys: keys.order() for keys in self._keys.values()}
        merged: dict[str, Json] = {"schema": self._first["schema"]}
        for path in self._kinds:
            _put(merged, path, None)  # keeps a place for what is rounded
            if path in self._keys:
                _put(merged, path, self._keys[path].result())
            elif path in self._fields:
                keys = self._fields[path].keys
                _put(merged, path, self._fields[path].result(None if keys is None else orders[keys]))
        for path, kind in self._kinds.items():
            if kind is Kind.ROUNDED:
                merged["totals"][path[-1]] = merged["totals"][f"{path[-1]}_terms"][0]
        run = self._run.result()
        if "run" in self._first:
            merged["run"] = {**run, **(self._top_index() if run.get("top_index") else {})}
        return merged

    def _top_index(self) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for field in self._fields.values():
            if isinstance(field, TopList):
                _put(found, field.index_path, field.indexes)
        return {"top_index": found}


_OF_WEIGHTS: Final = ("weight_terms", "zero_weight_terms", "infinite_weight_terms")
"""The fields of a histogram that weights have."""


def _put(document: dict[str, Json], path: Path, value: Json) -> None:
    for name in path[:-1]:
        document = document.setdefault(name, {})
    document[path[-1]] = value


def _refuse_other_fields(first: Collection[Path], other: Collection[Path]) -> None:
    """Refuse a document that lacks fields of the first, or has others."""
    for path in dict.fromkeys([*first, *other]):
        if path not in first or path not in other:
            lacking = first if path in other else other
            known = max(_common(path, each) for each in lacking)
            place = ".".join(path[: known + 1])  # all of what is missing
            if path[-1] in LATER and known == len(path) - 1:
                raise ValueError(
                    f"only one report has {place}: an older version of lossd made the other; make that one "
                    "again, with the newer version, to merge the two"
                )
            if path[-1] in _OF_WEIGHTS and known == len(path) - 1:
                raise ValueError(
                    "only one report has weights, by weight or class_weight, and its histogram with them; to "
                    "merge the two, make both with weights or both without"
                )
            raise ValueError(f"reports of different sections cannot be merged: only one has {place}")


def _common(path: Path, other: Path) -> int:
    """Return how many names two places begin with in common."""
    return next(i for i, (a, b) in enumerate(zip(path, other, strict=False)) if a != b)
