"""The figures of groups of rows."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np

from lossd_client.report._figures.block import Block, Part
from lossd_client.report._figures.clusters import Clusters, Key, Slots, Terms
from lossd_client.report._figures.differences import RowDifference
from lossd_client.report._figures.figures import (
    Classes,
    ClassFigures,
    RowFigures,
    interval,
    mean_of,
    normalizer_of,
    ranks,
    worse_first,
    worst_first,
)
from lossd_client.report._json import Id, read_group_ids

GroupId: TypeAlias = Id | tuple[Id, ...]


class Group(RowFigures):
    """The figures of the rows of one group.

    Attributes:
        id: Its id; of several names, a tuple.
    """

    def __init__(self, part: Part, params: Mapping[str, Any], id: GroupId) -> None:  # noqa: A002 - its name
        super().__init__(part, params)
        self.id = id

    @property
    def classes(self) -> Classes:
        """The figures of every class in the group."""
        return Classes(self._part.within("classes", "by group"), self._params)

    @property
    def paired(self) -> RowDifference:
        """The group's differences from the baseline."""
        return RowDifference(self._part.within("paired", "by group"), self._part, self._params)


class Groups(Mapping[GroupId, Group]):
    """The groups by their ids, which ascend; `groups[id]` is one.

    Args:
        names: The names of what the rows are grouped by. Of several, ids are tuples.
        places: The places of each group's numbers, which are added up, in the arrays of `part`.
        part: The section.
        params: The parameters of the loss.
        whole: The totals.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        places: Mapping[Key, list[int]],
        part: Part,
        params: Mapping[str, Any],
        whole: Part,
    ) -> None:
        self.names = names
        self._places = places
        self._part = part
        self._params = params
        self._whole = whole

    @classmethod
    def of_block(cls, block: Block, params: Mapping[str, Any], whole: Part) -> Self:
        """Return the groups of a section."""
        ids = read_group_ids(block["kinds"], block["ids"])
        places = {each: [place] for place, each in enumerate(ids)}
        return cls(tuple(block["names"]), places, Part(block), params, whole)

    def by(self, *names: str) -> "Groups":
        """Return the groups by some of the names alone: what differs in the others is added up, exactly.

        Raises:
            ValueError: There is no such name, or none is given.
        """
        if not names or not set(names) <= set(self.names):
            raise ValueError(f"by() takes names that there are, {', '.join(self.names)}; and got {names}")
        columns = [self.names.index(name) for name in names]
        places: dict[Key, list[int]] = {}
        for key, its in self._places.items():
            places.setdefault(tuple(key[column] for column in columns), []).extend(its)
        return Groups(names, dict(sorted(places.items())), self._part, self._params, self._whole)

    @property
    def ids(self) -> list[GroupId]:
        """The ids, in ascending order."""
        return list(map(self._id, self._places))

    def _id(self, key: Key) -> GroupId:
        return key if len(self.names) > 1 else key[0]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[GroupId]:
        return map(self._id, self._places)

    # New groups are made at each access, so those of a mapping would never be equal.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __contains__(self, id: object) -> bool:  # noqa: A002
        return _key(id) in self._places

    def __getitem__(self, id: GroupId) -> Group:  # noqa: A002
        key = _key(id)
        if key not in self._places:
            some = ", ".join(map(repr, self.ids[:5]))
            raise KeyError(
                f"no group {id!r} by {', '.join(self.names)}; there are {len(self)}, such as {some}"
            )
        return self._group(key)

    def _group(self, key: Key) -> Group:
        places = self._places[key]
        one = self._part.at(places[0] if len(places) == 1 else places)  # a place is read faster than a list
        return Group(one, self._params, self._id(key))

    def worst(self, most: int) -> list[Group]:
        """Return the groups of the greatest means, the greatest first; those without elements are last."""
        keys = self._keys
        order = worst_first(ranks(self._block, self._params, self._slots.nearly), most)
        return sorted((self._group(keys[place]) for place in order), key=worse_first)

    def worst_cells(self, most: int) -> list[tuple[Group, ClassFigures]]:
        """Return the greatest means of one class in one group, likewise, without cells that have no elements.

        Of a section's own groups, not of those by some of its names.

        Raises:
            MissingSectionError: There are none by class.
        """
        block, keys = self._block.block("classes", "by group"), self._keys
        found = ranks(block, self._params)
        order = worst_first(found, most)
        cells = [divmod(place, found.shape[1]) for place in order if found.flat[place] != -np.inf]
        groups = {group: self._group(keys[group]) for group, _ in cells}
        each = ((groups[group], groups[group].classes[place]) for group, place in cells)
        return sorted(each, key=lambda cell: worse_first(cell[1]))

    def __repr__(self) -> str:
        return f"<Groups by {', '.join(self.names)}: {len(self)}>"

    @property
    def stderr(self) -> float:
        """The standard error of the mean over all groups, with the groups as clusters.

        Rows of one group may depend on each other then, those of different groups may not. It is the
        jackknife's: what the means without each of the groups show. NaN for fewer than two groups.
        """
        return self._alone.stderr

    @property
    def paired_stderr(self) -> float:
        """The standard error of the mean difference from the baseline, with the groups as clusters."""
        return self._with_baseline.paired_stderr

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean over all groups, with the groups as clusters.

        Raises:
            ValueError: The level is not between 0 and 1.
        """
        mean = mean_of(self._whole.value("sum"), self._whole, self._params)
        return interval(mean, self.stderr, len(self._alone), level)

    def paired_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the same of the mean difference from the baseline.

        Raises:
            ValueError: The level is not between 0 and 1.
        """
        together = self._part.at([place for places in self._places.values() for place in places])
        difference = RowDifference(together.within("paired", "by group"), together, self._params)
        mean = mean_of(difference.sum, self._whole, self._params)
        return interval(mean, self.paired_stderr, len(self._alone), level)

    @cached_property
    def _alone(self) -> Clusters:
        return self._clusters(None)

    @cached_property
    def _with_baseline(self) -> Clusters:
        return self._clusters(self._baseline_terms)

    @property
    def _slots(self) -> Slots:
        """Where the numbers of the section are added up."""
        return Slots(self._places.values())

    @property
    def _block(self) -> Block:
        """The section."""
        return self._part.block

    @property
    def _keys(self) -> list[Key]:
        """The ids as tuples, in ascending order."""
        return list(self._places)

    @property
    def _baseline_terms(self) -> tuple[Terms, Slots]:
        """The baseline's sums in the section paired, and where they are added up."""
        return self._part.within("paired", "by group").block.terms("baseline_sum"), self._slots

    def _clusters(self, baseline: tuple[Terms, Slots] | None) -> Clusters:
        """Return the groups as clusters, with the sums of a baseline if there is one."""
        return Clusters.of(self._keys, self._part.block, self._slots, normalizer_of(self._params), baseline)


def _key(id: object) -> Any:  # noqa: A002, ANN401 - anything may be asked for
    """Return the key of an id: a tuple, of Python's own integers."""
    parts = id if isinstance(id, tuple) else (id,)
    return tuple(int(part) if isinstance(part, np.integer) else part for part in parts)
