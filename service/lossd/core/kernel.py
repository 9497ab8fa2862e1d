"""Scores blocks: reads their elements, checks their values, computes their losses, sums them.

A kernel holds one block's memory and no request's state. The same blocks give the same bits in any order, in
any grouping and in any process of the same build.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lossd.core.catalog import LOSSES
from lossd.core.element import Element
from lossd.core.exact import ExactSum
from lossd.core.grid import Block, block_elements
from lossd.core.inputs import Probabilities, certainty, stand_in
from lossd.core.operand import Operand, Positions
from lossd.core.partials import Partials, Piece
from lossd.core.together import join, likeness
from lossd.core.values import PROBABILITY, TARGET, WEIGHT, check, class_id, refuse_nan
from lossd.core.work import Work
from lossd.request import Fault, Float64Array

_VECTOR: Final = 64
"""Blocks are padded to a multiple of this, so that no element is left to torch's scalar tail code."""
_SHIFT: Final = 512
_STAGED: Final = (
    "logits",
    "probabilities",
    "targets",
    "weight",
    "pos_weight",
    "alpha",
    "mask",
    "classes",
)


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


@dataclass(slots=True)
class _Loaded:
    """A block's tensors, float64, [n padded to whole vectors].

    Attributes:
        inputs: The logits or probabilities.
        y: The targets, before smoothing.
        weight: The weights, if any.
        pos_weight: What the positive class weighs, if not 1.
        alpha: The balance, if not one number.
        kept: Which elements count, if not all.
    """

    inputs: Tensor
    y: Tensor
    weight: Tensor | None
    pos_weight: Tensor | None
    alpha: Tensor | None
    kept: Tensor | None


class EagerKernel:
    """Computes with torch's own operations in float64, block by block.

    Args:
        device: ``cpu`` or ``cuda:N``.
        block: The longest block that it will be given, in elements; by default the device's own.
    """

    name = "eager"

    def __init__(self, device: str = "cpu", block: int | None = None) -> None:
        self.device = torch.device(device)
        self._functions: dict[str, Callable[..., Element]] = {}
        for loss in LOSSES.values():
            module, _, function = loss.function.partition(":")
            self._functions[loss.name] = getattr(import_module(module), function)
        longest = block_elements([device]) if block is None else block
        self._host = {
            name: torch.zeros(longest, dtype=torch.float64, pin_memory=self.device.type == "cuda")
            for name in _STAGED
        }
        self._staging = {name: tensor.numpy() for name, tensor in self._host.items()}

    def score(self, work: Work, first: int, last: int, memories: tuple[Float64Array, ...] = ()) -> Score:
        """Score the blocks [first, last).

        Args:
            work: The request.
            first: The first block.
            last: The block after the last.
            memories: Where partial sums go, as `Score.of` takes them.

        Raises:
            Fault: A value that is not allowed; the first one of its block, in C order, is named.
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
        """
        for index in range(first, last):
            self._score_block(work, work.block(index), score)
            yield index + 1

    def likeness(self, work: Work) -> Hashable | None:
        """What requests must have in common to be given to `score_together`; None for one that never is."""
        return likeness(work)

    def score_together(self, works: Sequence[Work]) -> list[Score | Fault]:
        """Score several whole requests in one pass, at most `most_together`, of the same `likeness`.

        Their bits are those that they have alone.

        Returns:
            What each came to, or the fault that `score` would raise.
        """
        with np.errstate(invalid="ignore"):
            try:
                sums = self._sums_together(works)
            except Fault:
                sums = []  # whose it is shows when each is alone
        if not all(math.isfinite(total) for total, _ in sums):
            sums = []
        if not sums:
            return [self._score_alone(work) for work in works]
        scores: list[Score | Fault] = []
        for total, positives in sums:
            score = Score(count=works[0].grid.size)
            score.sum.add(total)
            score.positives.add(positives)
            scores.append(score)
        return scores

    def _score_alone(self, work: Work) -> Score | Fault:
        try:
            return self.score(work, 0, 1)
        except Fault as fault:
            return fault

    def _sums_together(self, works: Sequence[Work]) -> list[tuple[float, float]]:
        """The sum of the losses and that of the targets of each request."""
        size = works[0].grid.size
        row = -(-size // _VECTOR) * _VECTOR
        joined = join(works, row)
        loaded = self._load(joined, Block(0, len(works) * row, (), 0, 1))
        losses = _product(self._formula(joined, loaded.inputs, loaded))
        places = range(0, len(works) * row, row)
        return [(losses[at : at + size].sum().item(), loaded.y[at : at + size].sum().item()) for at in places]

    def _score_block(self, work: Work, block: Block, score: Score) -> None:
        with np.errstate(invalid="ignore"):  # numpy's word on a signalling NaN that it converts
            loaded = self._load(work, block)
            losses = self._losses(work, block, loaded, score)
            self._tally(block, loaded, score)
            if score.partials:
                score.partials[0].take(block, losses)
            if len(score.partials) > 1:
                score.partials[1].take(block, _divisors(work, block, loaded))

    def _load(self, work: Work, block: Block) -> _Loaded:
        """A block's tensors, checked, with zeros where elements are dropped."""
        y = self._read(work.targets, block)
        kept = self._kept(work, block, y)
        if work.classes is not None:
            ids = y if kept is None else torch.where(kept, y, 0.0)
            check(class_id(work.class_count), work.targets, block, ids, allow_nan=False)
            y = (ids == self._read(work.classes, block)).double()
        inputs = self._read(work.inputs, block)
        loaded = _Loaded(inputs, y, None, None, None, kept)
        if work.weight is not None:
            loaded.weight = self._read(work.weight, block)
        if work.pos_weight is not None:
            loaded.pos_weight = self._read(work.pos_weight, block)
        if work.alpha is not None:
            loaded.alpha = self._read(work.alpha, block)
        if kept is not None:
            loaded.inputs = torch.where(kept, inputs, stand_in(work.kind))
            loaded.y = torch.where(kept, y, 0.0)
            if loaded.weight is not None:
                loaded.weight = torch.where(kept, loaded.weight, 0.0)
            if loaded.pos_weight is not None:
                loaded.pos_weight = torch.where(kept, loaded.pos_weight, 1.0)
        _check(work, block, loaded)
        return loaded

    def _kept(self, work: Work, block: Block, y: Tensor) -> Tensor | None:
        """Which elements count, bool, [n]; None for all."""
        kept = None
        if work.mask is not None:
            kept = self._read(work.mask, block) != 0.0
        if work.ignore_index is not None:
            other = y != work.ignore_index
            kept = other if kept is None else kept & other
        return kept

    def _losses(self, work: Work, block: Block, loaded: _Loaded, score: Score) -> Tensor:
        """A block's element losses, weighted, [n]; their sum goes to the score."""
        n = block.stop - block.start
        losses = _product(self._formula(work, loaded.inputs, loaded))
        if loaded.weight is not None:
            losses = loaded.weight * losses
        if loaded.kept is not None:
            losses = torch.where(loaded.kept, losses, 0.0)
        losses = losses[:n]
        total = losses.sum().item()
        if not math.isfinite(total):
            if not work.allow_nan:
                refuse_nan(work.inputs, block, loaded.inputs)
            losses = self._with_limits(work, loaded)[:n]
            total = losses.sum().item()
        score.sum.add(total)
        return losses

    def _formula(self, work: Work, inputs: Tensor, loaded: _Loaded) -> Element:
        """The loss's own function of a block."""
        y = loaded.y
        if work.label_smoothing:
            keep, half = 1.0 - work.label_smoothing, work.label_smoothing / 2.0
            # z is smoothed from 1 - y, not taken from the smoothed y, whose rounding would drown it.
            y, z = y * keep + half, (1.0 - y) * keep + half
        else:
            z = 1.0 - y
        own = work.own if loaded.alpha is None else {**work.own, "alpha": loaded.alpha}
        return self._functions[work.loss](work.kind(inputs), y, z, loaded.pos_weight, **own)

    def _with_limits(self, work: Work, loaded: _Loaded) -> Tensor:
        """Element losses of a block in which some are infinite or NaN.

        Where the inputs are certain of a class (an infinite logit, a probability of 0 or 1) the loss is its
        limit: 0 if the target has nothing of the other class, else infinite. A coefficient of 0 counts as 0
        against infinity. All other elements have the bits that they have in a block without these.
        """
        certain = certainty(work.kind, loaded.inputs)
        settled = torch.where(certain != 0.0, stand_in(work.kind), loaded.inputs)
        value, coefficient = self._formula(work, settled, loaded)
        share, complement = self._share(work, loaded), self._complement(work, loaded)
        nothing = torch.where(certain > 0.0, complement == 0.0, self._has_no_share(work, loaded))
        limit = torch.where(nothing, 0.0, math.inf)
        limit = torch.where(torch.isnan(share + complement), math.nan, limit)
        losses = torch.where(certain != 0.0, limit, value)
        weight = loaded.weight
        if loaded.pos_weight is not None:
            # A large pos_weight may take the value beyond float64 though a small factor brings it back: it is
            # moved by a power of 2, and moved back with the weight. (Where that happens the other class's
            # cost is too small to count.)
            beyond = (certain == 0.0) & ~torch.isfinite(losses) & ~torch.isnan(loaded.pos_weight + settled)
            lesser = replace(loaded, pos_weight=loaded.pos_weight * 2.0**-_SHIFT)
            losses = torch.where(beyond, self._formula(work, settled, lesser).value, losses)
            weight = torch.ones_like(losses) if weight is None else weight
            weight = torch.where(beyond, weight * 2.0**_SHIFT, weight)
        for factor in (coefficient, weight):
            if factor is not None:
                vanishes = (factor == 0.0) & ~torch.isnan(losses)
                losses = torch.where(vanishes, 0.0, factor * losses)
        return losses if loaded.kept is None else torch.where(loaded.kept, losses, 0.0)

    def _share(self, work: Work, loaded: _Loaded) -> Tensor:
        """What the positive class's cost is multiplied by: k y."""
        y = loaded.y * (1.0 - work.label_smoothing) + work.label_smoothing / 2.0
        return y if loaded.pos_weight is None else loaded.pos_weight * y

    def _has_no_share(self, work: Work, loaded: _Loaded) -> Tensor:
        """Where k or y is exactly zero: their product may be so by underflow alone."""
        absent = (loaded.y == 0.0) & (work.label_smoothing == 0.0)
        return absent if loaded.pos_weight is None else absent | (loaded.pos_weight == 0.0)

    def _complement(self, work: Work, loaded: _Loaded) -> Tensor:
        """What the negative class's cost is multiplied by: 1 - y."""
        return (1.0 - loaded.y) * (1.0 - work.label_smoothing) + work.label_smoothing / 2.0

    def _tally(self, block: Block, loaded: _Loaded, score: Score) -> None:
        n = block.stop - block.start
        score.positives.add(loaded.y[:n].sum().item())
        if loaded.weight is not None and score.weight_sum is not None:
            score.weight_sum.add(loaded.weight[:n].sum().item())
        score.count += n if loaded.kept is None else int(loaded.kept[:n].sum().item())

    def _read(self, operand: Operand | Positions, block: Block) -> Tensor:
        """A block of a tensor on the device, padded with zeros to whole vectors."""
        n = block.stop - block.start
        padded = -(-n // _VECTOR) * _VECTOR
        staging = self._staging[operand.name]
        operand.read(block.start, block.stop, staging[:n])
        if n < padded:
            staging[n:padded] = 0.0
        return self._host[operand.name][:padded].to(self.device)


def _product(element: Element) -> Tensor:
    value, coefficient = element
    return value if coefficient is None else coefficient * value


def _check(work: Work, block: Block, loaded: _Loaded) -> None:
    """Refuse values that are not allowed. Dropped elements are stood in for by now, and pass."""
    nan = work.allow_nan
    if work.classes is None:
        check(TARGET, work.targets, block, loaded.y, allow_nan=nan)
    if work.kind is Probabilities:
        check(PROBABILITY, work.inputs, block, loaded.inputs, allow_nan=nan)
    if work.weight is not None and loaded.weight is not None:
        check(WEIGHT, work.weight, block, loaded.weight, allow_nan=nan)
    if work.pos_weight is not None and loaded.pos_weight is not None:
        check(WEIGHT, work.pos_weight, block, loaded.pos_weight, allow_nan=nan)


def _divisors(work: Work, block: Block, loaded: _Loaded) -> Tensor:
    """What each element adds to its output's divisor, [n]."""
    n = block.stop - block.start
    if work.divisor == "weight" and loaded.weight is not None:
        return loaded.weight[:n]
    if work.divisor == "positives":
        return loaded.y[:n]
    assert loaded.kept is not None
    return loaded.kept[:n].double()
