"""The keys of groups, bins and values, and where the numbers of each are added up."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossd_client.report._json import Json, floats_as_json, id_as_json, read_group_ids
from lossd_client.report._merging.layout import Path, at

Places = NDArray[np.intp]


class Keys:
    """The keys that occurred so far, each with a slot.

    Args:
        path: Where they are in a document, for example groups.ids.
        document: The first document.
    """

    def __init__(self, path: Path, document: Mapping[str, Json]) -> None:
        self._path = path
        self._slots: dict[Any, int] = {}
        kinds = document["groups"]["kinds"] if path[-1] == "ids" else ()
        self._read, self._write = _forms(path[-1], kinds)

    def __len__(self) -> int:
        return len(self._slots)

    def read(self, document: Mapping[str, Json]) -> list[Any]:
        """Return a document's keys."""
        return self._read(at(document, self._path))

    def places(self, keys: Sequence[Any]) -> Places:
        """Return the slots of keys; new ones get new slots."""
        slots = self._slots
        return np.fromiter((slots.setdefault(key, len(slots)) for key in keys), np.intp, len(keys))

    def order(self) -> Places:
        """Return the slots in ascending order of their keys."""
        return np.array([self._slots[key] for key in sorted(self._slots)], dtype=np.intp)

    def result(self) -> Json:
        """Return the keys in ascending order."""
        return self._write(sorted(self._slots))


def _forms(
    name: str, kinds: Sequence[str]
) -> tuple[Callable[[Json], list[Any]], Callable[[list[Any]], Json]]:
    """Return the functions that read and write keys."""
    if name == "ids":
        return (
            lambda columns: read_group_ids(kinds, columns),
            lambda keys: [[id_as_json(key[i]) for key in keys] for i in range(len(kinds))],
        )
    if name == "values":
        return lambda values: list(map(float, values)), floats_as_json
    return list, list
