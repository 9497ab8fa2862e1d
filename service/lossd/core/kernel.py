"""Scores blocks: reads their elements, checks their values, computes their losses, sums them.

A kernel holds one block's memory and no request's state. The same blocks give the same bits in any order, in
any grouping and in any process of the same build.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final

import torch
from torch import Tensor

from lossd.core.catalog import LOSSES, own_params
from lossd.core.exact import ExactArray, ExactSum
from lossd.core.grid import BLOCK, Block, Grid
from lossd.core.operand import Operand
from lossd.core.stable import careful, fast, take_apart
from lossd.request import Fault, Float64Array

_VECTOR: Final = 64
"""Blocks are padded to a multiple of this, so that no element is left to torch's scalar tail code."""

ElementFunction = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class Work:
    """A request, ready to score.

    Attributes:
        loss: The loss's name.
        params: Its checked parameters.
        grid: Its blocks.
        operands: ``logits`` and ``targets``, and ``weight`` and ``pos_weight`` where they were given.
    """

    loss: str
    params: Mapping[str, object]
    grid: Grid
    operands: Mapping[str, Operand]


@dataclass(frozen=True, slots=True)
class Piece:
    """Partial sums of a run of outputs: ``planes`` arrays that add up to them exactly.

    Attributes:
        output: Where the first belongs among the request's outputs.
        planes: How many arrays of ``length`` follow each other in the partials' memory.
        length: How many outputs.
    """

    output: int
    planes: int
    length: int


@dataclass(slots=True)
class Score:
    """What a run of blocks came to.

    Attributes:
        sum: The weighted losses, exactly.
        weight_sum: The weights; None if there are none.
        positives: The targets.
        count: The elements.
        pieces: What was written as partial sums; empty where everything is reduced.
    """

    sum: ExactSum = field(default_factory=ExactSum)
    weight_sum: ExactSum | None = None
    positives: ExactSum = field(default_factory=ExactSum)
    count: int = 0
    pieces: list[Piece] = field(default_factory=list)


class EagerKernel:
    """Computes with torch's own operations in float64, block by block.

    Args:
        device: ``cpu`` or ``cuda:N``.
    """

    name: Final = "eager"

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self._functions: dict[str, ElementFunction] = {}
        for loss in LOSSES.values():
            module, _, function = loss.function.partition(":")
            self._functions[loss.name] = getattr(import_module(module), function)
        self._host = {
            name: torch.zeros(BLOCK, dtype=torch.float64, pin_memory=self.device.type == "cuda")
            for name in ("logits", "targets", "weight", "pos_weight")
        }
        self._staging = {name: tensor.numpy() for name, tensor in self._host.items()}

    def score(self, work: Work, first: int, last: int, partials: Float64Array | None = None) -> Score:
        """Score the blocks [first, last).

        Args:
            work: The request.
            first: The first block.
            last: The block after the last.
            partials: Where the partial sums go, float64, [at least grid.partials(first, last)]; None where
                everything is reduced to one number. Where the grid's outputs are disjoint these are the
                outputs themselves, in order.

        Raises:
            Fault: A value that is not allowed; the first one of its block, in C order, is named.
        """
        score = Score()
        if "weight" in work.operands:
            score.weight_sum = ExactSum()
        sums = _Partials(work.grid, partials) if partials is not None else None
        for index in range(first, last):
            block = work.grid.block(index)
            losses = self._losses(work, block, score)
            if sums is not None:
                sums.take(block, losses)
        if sums is not None:
            score.pieces = sums.finish()
        return score

    def _losses(self, work: Work, block: Block, score: Score) -> Tensor:
        """A block's element losses, weighted, [n]; their sums go to the score."""
        n = block.stop - block.start
        loaded = {name: self._load(operand, block) for name, operand in work.operands.items()}
        y = loaded["targets"]
        weight = loaded.get("weight")
        self._check(work, block, loaded)

        losses = self._formula(work, loaded, fast)[:n]
        total = float(losses.sum())
        if not math.isfinite(total):
            logits = work.operands["logits"]
            _require(torch.isnan(loaded["logits"][:n]), logits, block, "non_finite_input", "NaN")
            losses = self._formula(work, loaded, careful)[:n]
            total = float(losses.sum())
        score.sum.add(total)
        score.positives.add(float(y[:n].sum()))
        if weight is not None and score.weight_sum is not None:
            score.weight_sum.add(float(weight[:n].sum()))
        score.count += n
        return losses

    def _formula(self, work: Work, loaded: Mapping[str, Tensor], times: Callable[..., Tensor]) -> Tensor:
        """The weighted element losses of a padded block."""
        y = loaded["targets"]
        own = own_params(LOSSES[work.loss], work.params)
        losses = self._functions[work.loss](
            take_apart(loaded["logits"]), y, 1.0 - y, loaded.get("pos_weight"), times, **own
        )
        weight = loaded.get("weight")
        return losses if weight is None else times(weight, losses)

    def _load(self, operand: Operand, block: Block) -> Tensor:
        """A block of a tensor on the device, padded with zeros to whole vectors."""
        n = block.stop - block.start
        padded = -(-n // _VECTOR) * _VECTOR
        staging = self._staging[operand.name]
        operand.read(block.start, block.stop, staging[:n])
        staging[n:padded] = 0.0
        return self._host[operand.name][:padded].to(self.device)

    def _check(self, work: Work, block: Block, loaded: Mapping[str, Tensor]) -> None:
        """Refuse targets outside [0, 1] and weights that are negative or not finite."""
        n = block.stop - block.start
        for name, values in loaded.items():
            if name == "logits":
                continue
            low, high = torch.aminmax(values[:n])
            bound = 1.0 if name == "targets" else torch.finfo(torch.float64).max
            if low >= 0.0 and high <= bound:
                continue
            operand = work.operands[name]
            _require(torch.isnan(values[:n]), operand, block, "non_finite_input", "NaN")
            bad = (values[:n] < 0.0) | (values[:n] > bound)
            if name == "targets":
                _require(bad, operand, block, "target_out_of_range", "outside [0, 1]", values)
            _require(bad, operand, block, "weight_out_of_range", "not a finite number >= 0", values)


class _Partials:
    """Collects a run of blocks' partial sums in the memory that travels back."""

    def __init__(self, grid: Grid, memory: Float64Array) -> None:
        self._grid = grid
        self._memory = memory
        self._used = 0
        self._pieces: list[Piece] = []
        self._running: tuple[int, ExactArray] | None = None  # the outputs that several blocks add to

    def take(self, block: Block, losses: Tensor) -> None:
        """Add a block's losses, [n]."""
        grid = self._grid
        if grid.reduced_axes:
            losses = losses.view(block.shape).sum(dim=grid.reduced_axes).reshape(-1)
        sums = losses.cpu().numpy()
        if grid.disjoint:
            self._write(sums)
            if not self._pieces:
                self._pieces.append(Piece(block.output, 1, 0))
            head = self._pieces[0]
            self._pieces[0] = Piece(head.output, 1, head.length + block.outputs)
            return
        if self._running is None or self._running[0] != block.output:
            self._flush()
            self._running = (block.output, ExactArray())
        self._running[1].add(sums)

    def finish(self) -> list[Piece]:
        """What was written."""
        self._flush()
        return self._pieces

    def _flush(self) -> None:
        if self._running is None:
            return
        output, sums = self._running
        planes = sums.planes
        self._pieces.append(Piece(output, len(planes), len(planes[0])))
        for plane in planes:
            self._write(plane)
        self._running = None

    def _write(self, values: Float64Array) -> None:
        self._memory[self._used : self._used + len(values)] = values
        self._used += len(values)


def _require(
    bad: Tensor, operand: Operand, block: Block, code: str, what: str, values: Tensor | None = None
) -> None:
    """Raise a fault that names the first bad element, if there is one.

    Args:
        bad: Where an element is bad, bool, [n].
        operand: The tensor.
        block: Where the elements belong.
        code: The fault's code.
        what: What is wrong with it.
        values: The elements, to be shown.
    """
    places = torch.nonzero(bad)
    if not len(places):
        return
    first = int(places[0])
    shown = what if values is None else f"{float(values[first])!r} is {what}"
    place = operand.pointer(block.start + first)
    raise Fault(code, f"{place[1:].split('/')[0]}: {shown} at {place}; {_REMEDY[code]}", [(place, shown)])


_REMEDY: Final = {
    "non_finite_input": "remove or replace it before sending",
    "target_out_of_range": "targets are probabilities or 0/1 labels; rescale them",
    "weight_out_of_range": "weights must be finite and not negative",
}
