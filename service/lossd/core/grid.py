"""How a request is cut: into blocks, by its shape and its reduced axes alone.

A block is a run of elements in C order, at most `BLOCK` of them, whose losses are computed and summed
together; its sums are the smallest thing that travels. Where blocks begin never depends on load, slices,
threads or arrival, which is why none of those can change a bit of the answer.

The axes are first merged into runs of reduced and kept ones. Then the outermost axis is found whose
inner axes fit into a block; blocks are chunks of that axis, with all that lies inside them:

    [N, C], all reduced      one axis of N*C; chunks of BLOCK elements
    [N, C], axis=1, small C  chunks of BLOCK // C rows; a sum for every row
    [N, C], axis=0, small C  chunks of BLOCK // C rows; C partial sums for every chunk
    [N, C], axis=1, large C  a row at a time, chunks of BLOCK columns; one partial sum for every chunk
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

BLOCK: Final = 32768
"""Elements a block at most: few enough that its float64 temporaries, 256 KiB each, stay in cache, and enough
that Python's share of a block's time is small (docs/performance.md). Torch splits no operation of this size
between threads. Changing it changes the last bits of sums."""
DEVICE_BLOCK: Final = 1 << 22
"""The same for a CUDA device, where each operation costs its launch: 32 MiB a temporary."""


class Block(NamedTuple):
    """One block.

    Attributes:
        start: The first element, counted in C order.
        stop: The element after the last.
        shape: The block's elements as an array, whose axes are alternately reduced and kept.
        output: Where its first sum belongs among the request's outputs.
        outputs: How many sums it has.
    """

    start: int
    stop: int
    shape: tuple[int, ...]
    output: int
    outputs: int


class Grid:
    """The blocks of a request.

    Args:
        shape: The inputs' shape.
        axes: The axes that are reduced, each in [0, len(shape)): all of them for one number, none for one
            output an element.
        block: How many elements a block has at most.
        growing: Rows may yet be added along the first axis. Blocks stay where they are, but for those at the
            end (`settled`), and no sum over the first axis is complete.
    """

    def __init__(
        self, shape: Sequence[int], axes: Sequence[int], block: int = BLOCK, *, growing: bool = False
    ) -> None:
        self.block_elements: Final = block
        self.shape: Final = tuple(shape)
        self.axes: Final = tuple(sorted(axes))
        self.size: Final = math.prod(shape)
        self.output_shape: Final = tuple(n for axis, n in enumerate(shape) if axis not in self.axes)
        self.outputs: Final = math.prod(self.output_shape)

        runs = _runs(self.shape, self.axes)
        split = 0
        while split < len(runs) - 1 and _product(runs[split + 1 :]) > block:
            split += 1
        self._outer = runs[:split]
        self._length, self._split_reduced = runs[split]
        self._inner = runs[split + 1 :]
        self._inner_size = _product(self._inner)
        self._inner_outputs = math.prod(n for n, reduced in self._inner if not reduced)
        self._chunk = max(1, min(self._length, block // max(1, self._inner_size)))
        self._chunks = -(-self._length // self._chunk)
        self.blocks: Final = math.prod(n for n, _ in self._outer) * self._chunks if self.size else 0
        self.reduced_axes: Final = tuple(
            i for i, (_, reduced) in enumerate([runs[split], *self._inner]) if reduced
        )
        """The axes of a block's own shape that are reduced."""
        self.disjoint: Final = (
            not any(reduced for _, reduced in self._outer)
            and (not self._split_reduced or self._chunks == 1)
            and not (growing and 0 in self.axes)
        )
        """No two blocks share an output: a block's sums are outputs, not parts of them."""

    @property
    def settled(self) -> int:
        """How many blocks stay as they are, whatever rows are added along the first axis."""
        if self._outer:
            return self.blocks
        full = max(1, self.block_elements // max(1, self._inner_size)) * self._inner_size
        return self.size // full if full else 0

    def blocks_within(self, elements: int) -> int:
        """How many blocks lie within the first so many elements."""
        if not self.size:
            return 0
        outer, rest = divmod(elements, self._length * self._inner_size)
        return outer * self._chunks + rest // (self._chunk * self._inner_size)

    def block(self, index: int) -> Block:
        """The block at ``index``, in [0, blocks)."""
        outer, chunk = divmod(index, self._chunks)
        first = chunk * self._chunk
        count = min(self._chunk, self._length - first)
        start = (outer * self._length + first) * self._inner_size
        # Where the outer position lies among the kept axes alone.
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
        return Block(
            start=start,
            stop=start + count * self._inner_size,
            shape=(count, *(n for n, _ in self._inner)),
            output=output,
            outputs=rows * self._inner_outputs,
        )

    def partials(self, first: int, last: int) -> int:
        """How many block outputs the blocks [first, last) have together."""
        if first == last:
            return 0
        full = self._inner_outputs * (1 if self._split_reduced else self._chunk)
        if self._split_reduced or self._length % self._chunk == 0:
            return (last - first) * full
        short = last // self._chunks - first // self._chunks  # each row of chunks ends with a shorter one
        missing = (self._chunk - self._length % self._chunk) * self._inner_outputs
        return (last - first) * full - short * missing


@lru_cache(maxsize=256)
def grid_of(
    shape: tuple[int, ...], axes: tuple[int, ...], block: int = BLOCK, *, growing: bool = False
) -> Grid:
    """A `Grid`, the same one for requests that look alike: a small one takes less time than making it."""
    return Grid(shape, axes, block, growing=growing)


def block_elements(devices: Iterable[str]) -> int:
    """How many elements a block has at most where these devices compute."""
    return DEVICE_BLOCK if all(device.startswith("cuda") for device in devices) else BLOCK


def _runs(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, bool]]:
    """The axes as (length, reduced), neighbours of one kind merged, those of length 1 left out."""
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
