"""The parts of a request, each scored by one call of a kernel.

The engine sends a part to a worker as a slice.

Sums are exact, so the cut changes no bit of the answer. A part is a run of elements in C order that is also
a box: some steps along one axis, with everything inside them. So the outputs that it adds to are contiguous,
too:

    [N, C], all reduced      runs of elements
    [N, C], axis=1, small C  runs of rows; a sum for every row
    [N, C], axis=0, small C  runs of rows; C sums, which other parts add to as well
    [N, C], axis=1, large C  runs of columns within one row; one sum, which other parts add to as well
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

MOST_PLANES: Final = 64
"""Enough float64 numbers, one in each plane, to hold any sum exactly: 41 would do."""


class Part(NamedTuple):
    """A run of elements.

    Attributes:
        start: The first element, counted in C order.
        stop: The element after the last.
        shape: Its elements as an array, whose axes are alternately reduced and kept.
        output: The first output that it adds to.
        outputs: How many outputs it adds to.
    """

    start: int
    stop: int
    shape: tuple[int, ...]
    output: int
    outputs: int

    @property
    def planes(self) -> int:
        """Most planes that its sums need: one more than the elements that each output has in it."""
        return min(MOST_PLANES, (self.stop - self.start) // self.outputs + 1)


class Cut:
    """The parts of a request.

    Args:
        shape: The inputs' shape.
        axes: The axes that are reduced, each in [0, len(shape)): all of them for one number, none for one
            output an element.
        elements: Most elements of a part.
        whole_rows: Cut no row, an index of the first axis: a part then holds at least one, however long.
    """

    def __init__(
        self, shape: Sequence[int], axes: Sequence[int], elements: int, *, whole_rows: bool = False
    ) -> None:
        self.elements: Final = elements
        self.whole_rows: Final = whole_rows
        self.shape: Final = tuple(shape)
        self.axes: Final = tuple(sorted(axes))
        self.size: Final = math.prod(shape)
        self.output_shape: Final = tuple(n for axis, n in enumerate(shape) if axis not in self.axes)
        self.outputs: Final = math.prod(self.output_shape)

        runs = _runs(self.shape, self.axes)
        split = 0
        while not whole_rows and split < len(runs) - 1 and _product(runs[split + 1 :]) > elements:
            split += 1
        self._outer = runs[:split]
        self._length, self._split_reduced = runs[split]
        self._inner = runs[split + 1 :]
        self._inner_size = _product(self._inner)
        self._inner_outputs = math.prod(n for n, reduced in self._inner if not reduced)
        self.row_size: Final = math.prod(self.shape[1:])
        """The number of elements of a row."""
        steps = self.row_size // max(1, self._inner_size) if whole_rows else 1  # of a row
        chunk = elements // max(1, self._inner_size * steps) * steps
        self._chunk = max(1, steps, min(self._length, chunk))
        self._chunks = -(-self._length // self._chunk)
        self.parts: Final = math.prod(n for n, _ in self._outer) * self._chunks if self.size else 0
        self.reduced: Final = tuple(reduced for _, reduced in runs[split:])
        """Whether each axis of a part's own shape is reduced."""
        self.complete: Final = (
            0 not in self.axes
            and not any(reduced for _, reduced in self._outer)
            and (not self._split_reduced or self._chunks == 1)
        )
        """Whether a part's outputs are final: neither other parts nor other requests' rows add to them."""

    def part(self, index: int) -> Part:
        """Return the part at ``index``, in [0, parts)."""
        outer, chunk = divmod(index, self._chunks)
        first = chunk * self._chunk
        count = min(self._chunk, self._length - first)
        start = (outer * self._length + first) * self._inner_size
        # The outer position among the kept axes alone.
        kept, scale = 0, 1
        for n, reduced in reversed(self._outer):
            outer, position = divmod(outer, n)
            if not reduced:
                kept += position * scale
                scale *= n
        if self._split_reduced:
            output, rows = kept * self._inner_outputs, 1
        else:
            output, rows = (kept * self._length + first) * self._inner_outputs, count
        return Part(
            start=start,
            stop=start + count * self._inner_size,
            shape=(count, *(n for n, _ in self._inner)),
            output=output,
            outputs=rows * self._inner_outputs,
        )

    def parts_within(self, elements: int) -> int:
        """Return how many parts lie within the first elements."""
        if not self.size:
            return 0
        outer, rest = divmod(elements, self._length * self._inner_size)
        return outer * self._chunks + rest // (self._chunk * self._inner_size)

    def most_numbers(self, index: int) -> int:
        """Return the most float64 numbers that a part's sums need; 0 if everything is reduced to one."""
        if not self.output_shape:
            return 0
        part = self.part(index)
        return part.outputs * (1 if self.complete else part.planes)


@lru_cache(maxsize=256)
def cut_of(shape: tuple[int, ...], axes: tuple[int, ...], elements: int, *, whole_rows: bool = False) -> Cut:
    """Return a `Cut`, cached: to score a small request takes less time than to make one."""
    return Cut(shape, axes, elements, whole_rows=whole_rows)


def _runs(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, bool]]:
    """Return the axes as (length, reduced), with like neighbours merged and those of length 1 left out."""
    runs: list[tuple[int, bool]] = []
    for axis, n in enumerate(shape):
        reduced = axis in axes
        if n == 1:
            continue
        if runs and runs[-1][1] == reduced:
            runs[-1] = (runs[-1][0] * n, reduced)
        else:
            runs.append((n, reduced))
    return runs or [(1, len(axes) == len(shape))]


def _product(runs: Sequence[tuple[int, bool]]) -> int:
    return math.prod(n for n, _ in runs)
