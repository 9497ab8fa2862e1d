"""The partial sums of a run of blocks, laid down in the memory that travels back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lossd.core.exact_sum import ExactArray
from lossd.core.grid import Block, Grid
from lossd.request import Float64Array


@dataclass(frozen=True, slots=True)
class Piece:
    """Partial sums of a run of outputs: ``planes`` arrays that add up to them exactly.

    Attributes:
        output: Where the first belongs among the request's outputs.
        planes: How many arrays of ``length`` follow each other in the memory.
        length: How many outputs.
    """

    output: int
    planes: int
    length: int


class Partials:
    """Collects the partial sums of blocks that follow each other.

    Where no two of the grid's blocks share an output these are the outputs themselves, in order.

    Args:
        grid: The request's blocks.
        memory: Where they go, float64, [at least grid.partials(first, last)].
    """

    def __init__(self, grid: Grid, memory: Float64Array) -> None:
        self._grid = grid
        self._memory = memory
        self._used = 0
        self._pieces: list[Piece] = []
        self._running: tuple[int, ExactArray] | None = None  # the outputs that several blocks add to

    def take(self, block: Block, values: Tensor) -> None:
        """Add a block's values, float64, [n], each to its output."""
        grid = self._grid
        if grid.reduced_axes:
            values = values.reshape(block.shape).sum(dim=grid.reduced_axes).reshape(-1)
        sums = values.cpu().numpy()
        if grid.disjoint:
            self._write(sums)
            head = self._pieces[0] if self._pieces else Piece(block.output, 1, 0)
            self._pieces[:1] = [Piece(head.output, 1, head.length + block.outputs)]
            return
        if self._running is None or self._running[0] != block.output:
            self._flush()
            self._running = (block.output, ExactArray())
        self._running[1].add(sums)

    def finish(self) -> list[Piece]:
        """What was written, in order."""
        self._flush()
        return self._pieces

    def _flush(self) -> None:
        if self._running is None:
            return
        output, sums = self._running
        planes = sums.planes  # never more than the blocks that were added, so the memory suffices
        self._pieces.append(Piece(output, len(planes), len(planes[0])))
        for plane in planes:
            self._write(plane)
        self._running = None

    def _write(self, values: Float64Array) -> None:
        self._memory[self._used : self._used + len(values)] = values
        self._used += len(values)
