"""Rows in clusters, which vary independently of each other while the rows of one may not."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client.report._figures.block import Block
from lossd_client.report._figures.integers import Integers, integers, least_exponent
from lossd_client.report._figures.stderr import UNSCALED, jackknife_stderr
from lossd_client.report._json import Id

Key: TypeAlias = tuple[Id, ...]
Terms: TypeAlias = NDArray[np.float64]


class Slots:
    """Where the numbers of a block's cells are added up: each slot has some of the cells.

    Args:
        places: The cells of each slot.
    """

    def __init__(self, places: Iterable[Sequence[int]]) -> None:
        each = list(places)
        self.size = len(each)
        self._cells = np.array([cell for cells in each for cell in cells], dtype=np.intp)
        self._slots = np.repeat(np.arange(self.size), [len(cells) for cells in each])

    def counts(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return counts added up, [size]."""
        return self.nearly(numbers)

    def nearly(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return numbers added up as they are, [size], with what is lost by rounding."""
        found = np.zeros(self.size, dtype=numbers.dtype)
        np.add.at(found, self._slots, numbers[self._cells])
        return found

    def integers(self, terms: Terms, exponent: int) -> list[int | None]:
        """Return sums added up as multiples of two to the power of `exponent`."""
        return integers(terms[:, self._cells], self._slots, self.size, exponent)


@dataclass(frozen=True)
class Clusters:
    """The sums of clusters, each an integer in one unit, and the standard errors of what they add up to.

    Clusters of which every row is dropped are left out.

    Attributes:
        keys: Their ids.
        rows: The rows of each that are not dropped.
        totals: The sums of their losses.
        baselines: Those of the baseline's, if there is one.
        shares: Their shares of the divisor of the mean.
        one: The number 1 in the unit.
        normalizer: What the mean divides by.
    """

    keys: Sequence[Key]
    rows: Sequence[int]
    totals: Integers
    baselines: Integers
    shares: Integers
    one: int
    normalizer: str | float

    @classmethod
    def of(
        cls,
        keys: Sequence[Key],
        block: Block,
        slots: Slots,
        normalizer: str | float,
        baseline: tuple[Terms, Slots] | None = None,
    ) -> "Clusters":
        """Return the clusters of a section of groups.

        Args:
            keys: The clusters' ids.
            block: The section.
            slots: The cells of each cluster.
            normalizer: What the mean divides by.
            baseline: The terms of the baseline's sums, and its cells of each cluster.
        """
        shared = {"weight": "weight_sum", "positives": "positives"}.get(str(normalizer))
        arrays = [block.terms("sum"), *([block.terms(shared)] if shared else [])]
        exponent = least_exponent(*arrays, *([baseline[0]] if baseline else []))
        one = 1 << -exponent
        rows = slots.counts(block.counts("rows") - block.counts("rows_dropped")).tolist()
        count = slots.counts(block.counts("count")).tolist() if normalizer == "count" else rows
        found = cls(
            keys,
            rows,
            slots.integers(arrays[0], exponent),
            baseline[1].integers(baseline[0], exponent) if baseline else [0] * len(keys),
            slots.integers(arrays[1], exponent) if shared else [each * one for each in count],
            one,
            normalizer,
        )
        return found._at([place for place, its in enumerate(rows) if its])

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def none(self) -> "Clusters":
        """No clusters."""
        return self._at([])

    def _at(self, places: Sequence[int]) -> "Clusters":
        """Return some of them."""
        return replace(
            self,
            keys=[self.keys[place] for place in places],
            rows=[self.rows[place] for place in places],
            totals=[self.totals[place] for place in places],
            baselines=[self.baselines[place] for place in places],
            shares=[self.shares[place] for place in places],
        )

    def split(self, names: int) -> Iterator[tuple[Key, "Clusters"]]:
        """Yield the clusters of each group, where ids begin with those of groups, so many names."""
        places: dict[Key, list[int]] = {}
        for place, key in enumerate(self.keys):
            places.setdefault(key[:names], []).append(place)
        for group, its in places.items():
            yield group, self._at(its)

    def by(self, part: Callable[[Key], Key]) -> "Clusters":
        """Return larger clusters: those of which `part` of the id is the same are added up."""
        slots: dict[Key, int] = {}
        places = [slots.setdefault(part(key), len(slots)) for key in self.keys]
        rows = np.zeros(len(slots), dtype=np.int64)
        np.add.at(rows, places, self.rows)
        return replace(
            self,
            keys=list(slots),
            rows=rows.tolist(),
            totals=_added(self.totals, places, len(slots)),
            baselines=_added(self.baselines, places, len(slots)),
            shares=_added(self.shares, places, len(slots)),
        )

    @property
    def stderr(self) -> float:
        """The standard error of the mean."""
        return self._of_mean(self.totals)

    @property
    def paired_stderr(self) -> float:
        """The standard error of the mean difference from the baseline."""
        return self._of_mean(self.differences)

    @property
    def relative_stderr(self) -> float:
        """The standard error of that difference as a part of the baseline's mean."""
        return jackknife_stderr(self.differences, self.baselines)

    @property
    def differences(self) -> Integers:
        """The losses less the baseline's, of each cluster."""
        both = zip(self.totals, self.baselines, strict=True)
        return [None if a is None or b is None else a - b for a, b in both]

    def _of_mean(self, totals: Integers) -> float:
        least = self.one if self.normalizer == "positives" else 0
        # A number divides the sum, not the rows.
        scale = UNSCALED if isinstance(self.normalizer, str) else sum(self.rows) / Fraction(self.normalizer)
        return jackknife_stderr(totals, self.shares, least, scale)


def _added(numbers: Integers, places: Sequence[int], size: int) -> Integers:
    found: list[Any] = [0] * size
    for place, number in zip(places, numbers, strict=True):
        found[place] = None if number is None or found[place] is None else found[place] + number
    return found
