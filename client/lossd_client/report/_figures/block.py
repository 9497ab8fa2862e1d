"""The numbers of a part of a document: of all rows, of one class, of one group."""

import math
from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.parameters import LOSSES
from lossd_client._exact_sum import ExactSum
from lossd_client.report._json import Json


def _but_of(name: str) -> str:
    """Return which losses have no such section."""
    *first, last = [loss.name for loss in LOSSES.values() if name in loss.without]
    return f"({', '.join(first)} and {last} have none)"


_HOW: Final[Mapping[str, str]] = {
    "classes": "sections=['classes'], with class_axis along the classes, which must not be axis 0 "
    + _but_of("classes"),
    "groups": "sections=['groups'] and the tensor groups, an id for each row",
    "top": "sections=['top'], and top= the number of rows and elements to list",
    "histogram": "sections=['histogram']",
    "calibration": f"sections=['calibration'] {_but_of('calibration')}",
    "sweep": "sweep={'gamma': [0.0, 1.0, 2.0]} for focal, or sections=['sweep'] for bce",
    "paired": "sections=['paired'] and the tensor baseline, another model's inputs",
}


class MissingSectionError(LookupError):
    """The report lacks what is asked for; the message says how to ask for it."""


class Block:
    """A mapping of a document, its lists read as arrays once."""

    def __init__(self, fields: Mapping[str, Json]) -> None:
        self.fields = fields
        self._arrays: dict[str, NDArray[Any]] = {}
        self._blocks: dict[str, Block] = {}

    @classmethod
    def section(cls, document: Mapping[str, Json], name: str) -> Self:
        """Return a section.

        Raises:
            MissingSectionError: The document lacks it.
        """
        if name not in document:
            raise MissingSectionError(f"the report has no section {name}; ask for it with {_HOW[name]}")
        return cls(document[name])

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def __getitem__(self, name: str) -> Json:
        return self.fields[name]

    def terms(self, name: str) -> NDArray[np.float64]:
        """Return the terms of sums, [k, ...]."""
        if name not in self._arrays:
            field = name if name == "terms" else f"{name}_terms"
            self._arrays[name] = np.asarray(self.fields[field], dtype=np.float64)
        return self._arrays[name]

    def counts(self, name: str) -> NDArray[np.int64]:
        """Return integers."""
        if name not in self._arrays:
            self._arrays[name] = np.asarray(self.fields[name], dtype=np.int64)
        return self._arrays[name]

    def block(self, name: str, wanted_by: str, also: str = "") -> "Block":
        """Return a mapping within this one.

        Args:
            name: Its name, that of a section too.
            wanted_by: What needs it, for the error.
            also: What else it takes, likewise.

        Raises:
            MissingSectionError: There is none.
        """
        if name not in self.fields:
            raise MissingSectionError(
                f"the report has no {name} {wanted_by}; ask for both, with {_HOW[name]}{also}"
            )
        if name not in self._blocks:
            self._blocks[name] = Block(self.fields[name])
        return self._blocks[name]


Index = tuple[Any, ...]


class Part:
    """The numbers at one place of a block's arrays, or at several places together.

    Args:
        block: The block.
        index: The place, as an index of its arrays; a list along an axis adds up its places.
    """

    def __init__(self, block: Block, index: Index = ()) -> None:
        self.block = block
        self.index = index

    def count(self, name: str) -> int:
        """Return an integer."""
        return int(self.block.counts(name)[self.index].sum())

    def sum(self, name: str) -> ExactSum:
        """Return an exact sum."""
        return ExactSum(self._numbers(name))

    def value(self, name: str) -> float:
        """Return a sum rounded once."""
        numbers = self._numbers(name)
        try:
            return math.fsum(numbers)
        except (OverflowError, ValueError):  # too large in between, or infinite both ways
            return ExactSum(numbers).value

    def _numbers(self, name: str) -> list[float]:
        found: list[float] = self.block.terms(name)[(slice(None), *self.index)].ravel().tolist()
        return found

    def at(self, *index: Any) -> "Part":  # noqa: ANN401 - an index
        """Return the part at a place along the axes that follow."""
        return Part(self.block, (*self.index, *index))

    def within(self, name: str, wanted_by: str) -> "Part":
        """Return the same place in a mapping within the block.

        Raises:
            MissingSectionError: There is none.
        """
        return Part(self.block.block(name, wanted_by), self.index)
