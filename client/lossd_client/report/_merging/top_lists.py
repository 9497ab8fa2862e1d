"""The lists of the greatest losses and differences, merged by their total order."""

import math
from collections.abc import Mapping
from typing import Any

from lossd_client.report._figures.top import run_list
from lossd_client.report._json import Json, read_id
from lossd_client.report._merging.fields import Field
from lossd_client.report._merging.keys import Keys, Places
from lossd_client.report._merging.layout import Path, at


class TopList(Field):
    """The first k entries of all lists.

    The order is by loss, the greatest first and NaN before all, or by difference; then by id and the position
    in the row, where there are ids, else by index. Where there are ids, the indexes are in
    run.top_index, and go with their entries.
    """

    def __init__(self, path: Path, document: Mapping[str, Json], keys: Keys | None = None) -> None:
        super().__init__(path, document, keys)
        self._k: int = document["top"]["k"]
        self._ids: str | None = document["top"]["ids"]
        self._sign = 1.0 if "better" in path else -1.0
        self._entries: list[tuple[Any, Json, Json]] = []

    def read(self, document: Mapping[str, Json], count: int | None) -> list[tuple[Any, Json, Json]]:
        entries = at(document, self.path)
        indexes: list[Json] = [None] * len(entries)
        if self._ids is not None:
            indexes = list(run_list(document, *self.index_path) or indexes)
        return [(self._order(entry), entry, index) for entry, index in zip(entries, indexes, strict=True)]

    @property
    def index_path(self) -> Path:
        """Where in run.top_index the indexes are."""
        return tuple(name for name in self.path if name not in ("top", "paired"))

    def _order(self, entry: Mapping[str, Json]) -> tuple[Any, ...]:
        number = float(entry["difference" if "difference" in entry else "loss"])
        first = (not math.isnan(number), 0.0 if math.isnan(number) else self._sign * number)
        if self._ids is not None:
            return *first, read_id(self._ids, entry["id"]), tuple(entry.get("position", ()))
        index = entry["index"]
        return *first, tuple(index) if isinstance(index, list) else (index,)

    def add(self, read: list[tuple[Any, Json, Json]], places: Places | None) -> None:
        self._entries += read
        if len(self._entries) > 4 * self._k:  # sorting at every report would take long
            self._entries = self._first_k()

    def _first_k(self) -> list[tuple[Any, Json, Json]]:
        return sorted(self._entries, key=lambda each: each[0])[: self._k]

    def result(self, order: Places | None) -> Json:
        return [entry for _, entry, _ in self._first_k()]

    @property
    def indexes(self) -> Json:
        """The indexes of the entries that have ids."""
        return [index for _, _, index in self._first_k()]
