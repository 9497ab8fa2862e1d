"""Scores blocks: reads their elements, checks their values, computes their losses, sums them.

A kernel holds a few blocks' memory and no request's state. The same blocks give the same bits in any order,
in any grouping and in any process of the same build.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossd.core.catalog import LOSSES
from lossd.core.exact_sum import ExactSum
from lossd.core.fetch import VECTOR, Copied, Read, Staged
from lossd.core.formula import Function, losses, with_limits
from lossd.core.grid import Block, block_elements
from lossd.core.loaded import Loaded, checks, load
from lossd.core.partials import Partials, Piece
from lossd.core.together import Pair, Sums, join, likeness
from lossd.core.values import Check, refuse_nan
from lossd.core.work import Work
from lossd.request import Fault, Float64Array

_LEAST_PIECE: Final = 1 << 13
"""Elements of the shortest piece of a block that is tried when the device has no memory for all of it."""


@dataclass(slots=True)
class Score:
    """What a run of blocks came to. Dropped elements count in nothing.

    Attributes:
        sum: The weighted losses, exactly.
        weight_sum: The weights; None if there are none.
        positives: The targets, before smoothing.
        count: The elements.
        partials: What was written as partial sums, for each of the memories given.
    """

    sum: ExactSum = field(default_factory=ExactSum)
    weight_sum: ExactSum | None = None
    positives: ExactSum = field(default_factory=ExactSum)
    count: int = 0
    partials: list[Partials] = field(default_factory=list)

    @classmethod
    def of(cls, work: Work, memories: Iterable[Float64Array] = ()) -> Score:
        """Nothing as yet, of a request.

        Args:
            work: The request.
            memories: Where partial sums go, float64, [at least grid.partials(first, last)] each: of the
                losses, and then, for a request with a divisor for each output, of those. Empty where
                everything is reduced to one number.
        """
        return cls(
            weight_sum=ExactSum() if work.weight is not None else None,
            partials=[Partials(work.grid, memory) for memory in memories],
        )

    @property
    def pieces(self) -> list[list[Piece]]:
        """What was written as partial sums, for each of the memories, once all blocks are scored."""
        return [part.finish() for part in self.partials]


class _Elements(NamedTuple):
    """A block's elements, [n]: what is summed.

    Attributes:
        losses: The weighted losses, float64.
        y: The targets, before smoothing, float64.
        weight: The weights, if any, float64.
        kept: Which elements count, if not all, bool.
    """

    losses: Tensor
    y: Tensor
    weight: Tensor | None
    kept: Tensor | None

    def sums(self) -> list[Tensor]:
        """Of the losses, the targets, the weights, if any, and the elements that count, if not all do."""
        found = [self.losses.sum(), self.y.sum()]
        if self.weight is not None:
            found.append(self.weight.sum())
        if self.kept is not None:
            found.append(self.kept.sum())
        return found


class _UnderWay(NamedTuple):
    """A block that is being computed.

    Attributes:
        loaded: Its tensors.
        rules: What must hold of them.
        bounds: The least and the greatest value of each rule, [] each.
        elements: Its elements, as far as they are finite.
        sums: Their sums.
    """

    loaded: Loaded
    rules: list[Check]
    bounds: list[Tensor]
    elements: _Elements
    sums: list[Tensor]


class EagerKernel:
    """Computes with torch's own operations in float64, block by block.

    Where a device has not the memory for a block, it is computed in shorter and shorter pieces. That is tried
    anew for each block: what takes the memory may be another's, and gone a moment later.

    Args:
        device: ``cpu`` or ``cuda:N``.
        block: The longest block that it will be given, in elements; by default the device's own.
        copied: Copy each block's bytes, the next one's ahead of time, on a CPU too; other devices need it.
        least_piece: Elements of the shortest piece to try, a multiple of 64.
    """

    name = "eager"
    least_together = 2
    """From how many requests on `score_together` is quicker than `score` is for each."""

    def __init__(
        self,
        device: str = "cpu",
        block: int | None = None,
        *,
        copied: bool = False,
        least_piece: int = _LEAST_PIECE,
    ) -> None:
        self.device = torch.device(device)
        self._functions: dict[str, Function] = {}
        for loss in LOSSES.values():
            module, _, function = loss.function.partition(":")
            self._functions[loss.name] = getattr(import_module(module), function)
        longest = block_elements([device]) if block is None else block
        copied = copied or self.device.type != "cpu"
        self._source = Copied(self.device, longest) if copied else Staged(longest)
        self._least_piece = least_piece

    def score(self, work: Work, first: int, last: int, memories: tuple[Float64Array, ...] = ()) -> Score:
        """Score the blocks [first, last).

        Args:
            work: The request.
            first: The first block.
            last: The block after the last.
            memories: Where partial sums go, as `Score.of` takes them.

        Raises:
            Fault: A value that is not allowed; the first one of its block, in C order, is named.
            torch.OutOfMemoryError: The device has not even the memory for small pieces of a block.
        """
        score = Score.of(work, memories)
        for _ in self.steps(work, first, last, score):
            pass
        return score

    def steps(self, work: Work, first: int, last: int, score: Score) -> Iterator[int]:
        """Score the blocks [first, last), with a pause after each.

        What else is scored in a pause, and how long it lasts, makes no difference.

        Args:
            work: The request.
            first: The first block.
            last: The block after the last.
            score: What the blocks are added to.

        Yields:
            The block that comes next; ``last`` in the end.

        Raises:
            Fault: As `score`.
            torch.OutOfMemoryError: As `score`.
        """
        following: Read | None = None
        found: tuple[_Elements, list[float]] | None
        for index in range(first, last):
            block = work.block(index)
            try:
                after = index + 1 if index + 1 < last and self._source.ahead else None
                found, following = self._elements_and_next(work, block, after, following)
            except torch.OutOfMemoryError:
                found = following = None  # with which all goes that the attempt held
            if found is None:
                found = self._elements_in_pieces(work, block)
            self._add(work, block, *found, score)
            found = None  # nothing of a block is held while others are scored
            yield index + 1

    def likeness(self, work: Work) -> Hashable | None:
        """What requests must have in common to be given to `score_together`; None for one that never is."""
        return likeness(work)

    def score_together(self, work: Work, pairs: Sequence[Pair]) -> list[Sums] | None:
        """Score whole requests in one pass, at most `most_together`.

        Their bits are those that they have alone.

        Args:
            work: One of them, or one of the same `likeness`, which is not None.
            pairs: Their tensors.

        Returns:
            What each came to; None where something is to be refused, or is not finite: whose that is shows
            when each is alone.
        """
        with np.errstate(invalid="ignore"):
            try:
                sums = self._sums_together(work, pairs)
            except Fault:
                return None
        if sums is None or not all(math.isfinite(total) for total, _ in sums):
            return None
        return [Sums(total, positives, work.grid.size) for total, positives in sums]

    def _sums_together(self, work: Work, pairs: Sequence[Pair]) -> list[tuple[float, float]] | None:
        """The sum of the losses and that of the targets of each request; None if something is amiss.

        Raises:
            Fault: Likewise.
        """
        size = work.grid.size
        if len(pairs) == 1:
            inputs, targets = (array.reshape(work.grid.shape) for array in pairs[0])
            score = self.score(work.with_arrays(inputs, targets), 0, 1)
            return [(score.sum.value, score.positives.value)]
        row = -(-size // VECTOR) * VECTOR
        block = Block(0, len(pairs) * row, (), 0, 1)
        (each, y, _, _), _ = self._elements(join(work, pairs, row), block)
        places = range(0, len(pairs) * row, row)
        return [(each[at : at + size].sum().item(), y[at : at + size].sum().item()) for at in places]

    def _score_block(self, work: Work, block: Block, score: Score) -> None:
        self._add(work, block, *self._elements(work, block), score)

    def _elements_and_next(
        self, work: Work, block: Block, after: int | None, read: Read | None
    ) -> tuple[tuple[_Elements, list[float]], Read | None]:
        """A block's elements and their sums; meanwhile the block ``after`` it is fetched, if any."""
        under_way = self._begin(work, block, read or self._source.fetch(work, block))
        following = None if after is None else self._source.fetch(work, work.block(after))
        return self._finish(work, block, under_way), following

    def _elements(self, work: Work, block: Block) -> tuple[_Elements, list[float]]:
        """A block's elements, checked, and their sums."""
        return self._finish(work, block, self._begin(work, block, self._source.fetch(work, block)))

    def _begin(self, work: Work, block: Block, read: Read) -> _UnderWay:
        """Have a block computed. On a CPU it is then done; another device is at it."""
        n = block.stop - block.start
        with np.errstate(invalid="ignore"):  # numpy's word on a signalling NaN that it converts
            loaded = load(work, read)
        rules = checks(work, loaded)
        bounds = [bound for rule in rules for bound in torch.aminmax(rule.values)]  # while they are in cache
        each = losses(self._functions[work.loss], work, loaded)
        if len(each) == n:
            elements = _Elements(each, loaded.y, loaded.weight, loaded.kept)
        else:  # without the padding
            weight = None if loaded.weight is None else loaded.weight[:n]
            kept = None if loaded.kept is None else loaded.kept[:n]
            elements = _Elements(each[:n], loaded.y[:n], weight, kept)
        return _UnderWay(loaded, rules, bounds, elements, elements.sums())

    def _finish(self, work: Work, block: Block, under_way: _UnderWay) -> tuple[_Elements, list[float]]:
        """A block's elements, checked, and their sums, which are waited for once."""
        loaded, rules, bounds, elements, sums = under_way
        figures = _fetch_numbers(sums + bounds)
        places = range(len(sums), len(figures), 2)
        for rule, at in zip(rules, places, strict=True):
            if not rule.holds(figures[at], figures[at + 1]):
                rule.refuse(block)
        if not math.isfinite(figures[0]):
            if not work.allow_nan:
                refuse_nan(work.inputs, block, loaded.inputs)
            each = with_limits(self._functions[work.loss], work, loaded)
            elements = elements._replace(losses=each[: block.stop - block.start])
            figures[0] = elements.losses.sum().item()
        return elements, figures[: len(sums)]

    def _elements_in_pieces(self, work: Work, block: Block) -> tuple[_Elements, list[float]]:
        """As `_elements`, but in pieces that the device has the memory for; of the same bits."""
        length = block.stop - block.start
        while length > self._least_piece:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            length = max(self._least_piece, -(-length // (2 * VECTOR)) * VECTOR)
            try:
                elements = self._pieced(work, block, length)
                return elements, _fetch_numbers(elements.sums())
            except torch.OutOfMemoryError:
                pass  # the next attempt is made when this one's tensors are gone
        msg = f"{self.device} has no memory for {length} elements at a time"
        raise torch.OutOfMemoryError(msg)

    def _pieced(self, work: Work, block: Block, length: int) -> _Elements:
        """A block's elements, computed in pieces and put together: sums are of the whole block as ever."""
        n = block.stop - block.start
        whole: list[Tensor | None] = []
        for at in range(0, n, length):
            piece = block._replace(start=block.start + at, stop=min(block.start + at + length, block.stop))
            elements, _ = self._elements(work, piece)
            whole = whole or [None if part is None else part.new_empty(n) for part in elements]
            for target, part in zip(whole, elements, strict=True):
                if target is not None and part is not None:
                    target[at : at + len(part)] = part
        return _Elements(*whole)  # type: ignore[arg-type] # None where the pieces have None

    def _add(self, work: Work, block: Block, elements: _Elements, sums: list[float], score: Score) -> None:
        score.sum.add(sums[0])
        score.positives.add(sums[1])
        if score.weight_sum is not None:
            score.weight_sum.add(sums[2])
        score.count += block.stop - block.start if elements.kept is None else int(sums[-1])
        if score.partials:
            score.partials[0].take(block, elements.losses)
        if len(score.partials) > 1:
            score.partials[1].take(block, _divisors(work, elements))


def _fetch_numbers(values: list[Tensor]) -> list[float]:
    """Numbers, [] each, from the device: one wait for all of them."""
    if values[0].device.type == "cpu":
        return [value.item() for value in values]
    numbers: list[float] = torch.stack([value.double() for value in values]).tolist()
    return numbers


def _divisors(work: Work, elements: _Elements) -> Tensor:
    """What each element adds to its output's divisor, [n]."""
    if work.divisor == "weight" and elements.weight is not None:
        return elements.weight
    if work.divisor == "positives":
        return elements.y
    assert elements.kept is not None
    return elements.kept.double()
