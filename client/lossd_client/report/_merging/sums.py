"""Arrays of exact sums."""

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from lossd_client._exact_sum import ExactSum

Floats = NDArray[np.float64]
NumberT = TypeVar("NumberT", np.float64, np.int64)

_HUGE: Final = 2.0**970  # 2**53 smaller numbers add up without overflow
_MOST_PLANES: Final = 12


class SumArray:
    """An array of exact sums, whose first axis may grow.

    Each cell is a sum of floats without rounding error ("expansion"): adding a number keeps, plane by plane,
    what rounding lost. (Shewchuk, Adaptive Precision Floating-Point Arithmetic, 1997, grow-expansion.)
    Numbers that are infinite, NaN or close to overflow are kept apart.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self._planes: list[Floats] = []  # the least first
        self._apart: dict[int, ExactSum] = {}

    def grow(self, length: int) -> None:
        """Make the first axis at least this long, with zeros."""
        if length > self.shape[0]:
            self._planes = [lengthened(plane, length) for plane in self._planes]
            self.shape = (max(length, 2 * self.shape[0]), *self.shape[1:])

    def add(self, planes: Floats, places: NDArray[np.intp] | None = None) -> None:
        """Add arrays.

        Args:
            planes: [k, ...]: all k are added.
            places: Where along the first axis each one goes; no place twice. All in order by default.
        """
        at = np.arange(self.shape[0]) if places is None else places
        for plane in planes:
            self._add(self._without_huge(plane, at), at)
        if len(self._planes) > _MOST_PLANES:
            self._planes = _canonical(self._planes)[::-1]

    def _without_huge(self, plane: Floats, at: NDArray[np.intp]) -> Floats:
        huge = ~(np.abs(plane) < _HUGE)
        if not huge.any():
            return plane
        width = int(np.prod(self.shape[1:], dtype=np.int64))
        cells = (at[:, None] * width + np.arange(width)).reshape(plane.shape)
        for cell, number in zip(cells[huge].tolist(), plane[huge].tolist(), strict=True):
            self._apart.setdefault(cell, ExactSum()).add([number])
        return np.where(huge, 0.0, plane)

    def _add(self, plane: Floats, at: NDArray[np.intp]) -> None:
        for kept in self._planes:
            kept_there = kept[at]
            plane, kept[at] = _two_sum(kept_there, plane)
        if plane.any():
            self._planes.append(np.zeros(self.shape))
            self._planes[-1][at] = plane

    def terms(self, order: NDArray[np.intp] | None = None) -> Floats:
        """Return the canonical terms, [k, ...]: the sums rounded, the rests rounded, until nothing is left.

        Args:
            order: The places along the first axis to return; all by default.
        """
        planes = _canonical(self._planes) or [np.zeros(self.shape)]
        found = np.stack(planes)
        flat = found.reshape(len(planes), -1)
        apart = {cell: ExactSum([*flat[:, cell].tolist()]) for cell in self._apart}
        for cell, rest in self._apart.items():
            apart[cell].units += rest.units
            apart[cell].special += rest.special
        longest = max([len(planes), *(len(each.terms) for each in apart.values())])
        flat = np.concatenate([flat, np.zeros((longest - len(planes), flat.shape[1]))])
        for cell, exact in apart.items():
            flat[:, cell] = 0.0
            flat[: len(exact.terms), cell] = exact.terms
        used = max(1, int(np.count_nonzero((flat != 0).any(axis=1))))
        found = flat[:used].reshape(used, *self.shape) + 0.0  # no -0.0
        return found if order is None else found[:, order]


def lengthened(array: NDArray[NumberT], length: int) -> NDArray[NumberT]:
    """Return an array whose first axis is at least this long, and doubled: so few copies are made."""
    more = max(length, 2 * len(array)) - len(array)
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), dtype=array.dtype)])


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return a + b rounded, and what rounding lost (Knuth)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _canonical(planes: Sequence[Floats]) -> list[Floats]:
    """Return the sums rounded, the rests rounded, and so on until nothing is left.

    Args:
        planes: As `SumArray` has them: they do not overlap, and the least is first.
    """
    planes, terms = list(planes), []
    while any(plane.any() for plane in planes):
        terms.append(_rounded(planes))
        rest = -terms[-1]
        for i, plane in enumerate(planes):
            rest, planes[i] = _two_sum(plane, rest)
        planes = [plane for plane in [*planes, rest] if plane.any()]
    return terms


def _rounded(planes: Sequence[Floats]) -> Floats:
    """Return the sums rounded once, to nearest even, as `math.fsum` does."""
    high = low = below = np.zeros_like(planes[0])
    for plane in reversed(planes):
        exact = low == 0
        total = high + plane
        below = np.where(~exact & (below == 0), plane, below)
        high, low = np.where(exact, total, high), np.where(exact, plane - (total - high), low)
    # Where `low` is half of high's last bit, what is below it decides.
    further = high + 2 * low
    half = (further - high == 2 * low) & (np.sign(low) * np.sign(below) > 0)
    return np.where(half, further, high)
