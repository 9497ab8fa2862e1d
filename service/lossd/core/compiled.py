"""The same formulas, fused: one pass over a block that converts, computes, checks and sums.

torch.compile makes C++ of them and compiles that, which takes a compiler, and seconds for each new
combination of dtypes and parameters; what was compiled before is found again in the cache directory. It is a
setting, never a silent choice: its last bits are not the eager kernel's.

What makes the bits depend on the request alone: one thread, whole vectors of 16 elements, no contraction of
products and sums (Inductor's own setting), and sums that are kept apart for each of 16 lanes, row by row:
else their order would follow the width of the dtype that was read. A lane's sum runs over 32 rows and no
more, so that roundings have no time to gather; the rest is torch's pairwise sum.

Only plain blocks come here: of some length, with the common exponents, all of whose elements count, and whose
losses are finite. The others, and those in which something is to be refused, are the eager kernel's. Which is
which depends on the request alone.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from lossd.core.catalog import LOSSES, check_params
from lossd.core.grid import BLOCK, Block, Grid
from lossd.core.inputs import Probabilities
from lossd.core.kernel import EagerKernel, Score
from lossd.core.known_answers import check_known_answers
from lossd.core.operand import Operand
from lossd.core.work import Work, prepare

_LANES: Final = 16
_ROWS: Final = 32
_EXPONENTS: Final = frozenset({0.0, 0.5, 1.0, 1.5, 2.0, 3.0})
"""Gammas that are compiled for: a caller who tries hundreds must not make everyone wait for the compiler."""
_LEAST: Final = 4096
"""Elements of the shortest block worth a pass: below, torch.compile's wrapper costs more than it saves."""
_RUN: Final = 8
"""Blocks a pass, which takes about a millisecond: each costs torch.compile's wrapper some 50 microseconds,
whatever its size, and nobody else is served before its end."""


class _Fused(NamedTuple):
    """What one pass over a run of blocks finds, float64.

    Attributes:
        sums: Of the losses, by group of rows and lane, [blocks, groups, 16].
        positives: Of the targets, likewise.
        weights: Of the weights, likewise, if there are any.
        least: The least of what must be at least 0, likewise.
        greatest: The greatest of what must be at most 1, likewise.
        losses: The losses themselves, [blocks, groups, 32, 16], if they are wanted.
    """

    sums: Tensor
    positives: Tensor
    weights: Tensor | None
    least: Tensor
    greatest: Tensor
    losses: Tensor | None


_Pass: TypeAlias = Callable[..., _Fused]


class CompiledKernel(EagerKernel):
    """Computes plain blocks with compiled code, all others as `EagerKernel` does.

    Args:
        device: ``cpu``; a CUDA device has no use for it.
        cache: Where compiled code is kept; torch's own choice by default.
    """

    def __init__(self, device: str = "cpu", cache: Path | None = None) -> None:
        super().__init__(device)
        if cache is not None:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
        self.name = f"compiled-{torch.backends.cpu.get_cpu_capability().lower()}-1thread"
        self._passes: dict[tuple[object, ...], _Pass] = {}

    def steps(self, work: Work, first: int, last: int, score: Score) -> Iterator[int]:
        """As the eager kernel's; before the first pause of a run, all of its plain blocks are computed."""
        for run in _runs(map(work.block, range(first, last))):
            n = run[0].stop - run[0].start
            if n >= _LEAST and n % (_ROWS * _LANES) == 0 and _is_plain(work):
                yield from self._run_steps(work, run, first, score)
            else:
                yield from super().steps(work, first, first + len(run), score)
            first += len(run)

    def _run_steps(self, work: Work, run: list[Block], first: int, score: Score) -> Iterator[int]:
        """Score blocks of one length, that follow each other, in one pass."""
        operands = (work.inputs, work.targets, work.weight, work.pos_weight, work.alpha)
        tensors = [None if operand is None else self._rows(operand, run) for operand in operands]
        alpha = work.own.get("alpha")
        if isinstance(alpha, float):  # as a tensor: else each value would be compiled for
            tensors[-1] = torch.full((1, 1, 1, 1), alpha, dtype=torch.float64)
        fused = self._pass(work, tensors, losses=bool(score.partials))(*tensors)
        totals = fused.sums.sum((1, 2)).tolist()
        positives = fused.positives.sum((1, 2)).tolist()
        weights = [0.0] * len(run) if fused.weights is None else fused.weights.sum((1, 2)).tolist()
        least, greatest = fused.least.amin((1, 2)).tolist(), fused.greatest.amax((1, 2)).tolist()
        for i, block in enumerate(run):
            # A NaN fails the comparisons; what is infinite shows in the sum.
            if least[i] >= 0.0 and greatest[i] <= 1.0 and math.isfinite(totals[i]):
                score.sum.add(totals[i])
                score.positives.add(positives[i])
                score.count += block.stop - block.start
                if score.weight_sum is not None:
                    score.weight_sum.add(weights[i])
                if score.partials and fused.losses is not None:
                    score.partials[0].take(block, fused.losses[i].reshape(-1))
            else:
                self._score_block(work, block, score)
            yield first + i + 1

    def _rows(self, operand: Operand, run: list[Block]) -> Tensor:
        """A run's elements, [blocks, groups, 32, 16], where they lie if they can be, else read as float64."""
        start, stop = run[0].start, run[-1].stop
        there = operand.view(start, stop)
        if there is None:
            there = np.empty(stop - start)
            with np.errstate(invalid="ignore"):  # as for eager blocks
                operand.read(start, stop, there)
        return torch.from_numpy(there).view(len(run), -1, _ROWS, _LANES)

    def _pass(self, work: Work, tensors: Sequence[Tensor | None], *, losses: bool) -> _Pass:
        """The compiled pass for a kind of request; the first of its kind waits for the compiler."""
        shapes = tuple(None if tensor is None else (tensor.dtype, len(tensor) > 1) for tensor in tensors)
        own = tuple(item for item in work.own.items() if item[0] != "alpha")
        key = (work.loss, work.kind, own, shapes, losses)
        if key not in self._passes:
            self._passes[key] = self._compile(work, losses=losses)
        return self._passes[key]

    def _compile(self, work: Work, *, losses: bool) -> _Pass:
        function, kind, own = self._functions[work.loss], work.kind, dict(work.own)

        def one_pass(
            inputs: Tensor, y: Tensor, weight: Tensor | None, pos_weight: Tensor | None, alpha: Tensor | None
        ) -> _Fused:
            inputs, y = inputs.double(), y.double()
            parameters = own if alpha is None else {**own, "alpha": alpha.double()}
            k = None if pos_weight is None else pos_weight.double()
            value, coefficient = function(kind(inputs), y, 1.0 - y, k, **parameters)
            each = value if coefficient is None else coefficient * value
            if weight is not None:
                weight = weight.double()
                each = weight * each
            least, greatest = y.amin(2), y.amax(2)
            if kind is Probabilities:
                least = torch.minimum(least, inputs.amin(2))
                greatest = torch.maximum(greatest, inputs.amax(2))
            for factor in (weight, k):
                if factor is not None:
                    least = torch.minimum(least, factor.amin(2))
            return _Fused(
                sums=each.sum(2),
                positives=y.sum(2),
                weights=None if weight is None else weight.sum(2),
                least=least,
                greatest=greatest,
                losses=each if losses else None,
            )

        # torch.compile keeps what it has compiled with the code object, which all closures share; a copy of
        # the code for each pass spares every call a search through the others'.
        one_pass.__code__ = one_pass.__code__.replace(co_name=f"one_pass_{len(self._passes)}")
        compiled: _Pass = torch.compile(one_pass, fullgraph=True, dynamic=True, options={"cpp.threads": 1})
        return compiled

    def warm(self) -> None:
        """Compile what most requests need: float32 inputs, float32 or boolean targets, default parameters."""
        for loss in LOSSES.values():
            params = check_params(loss, {})
            for targets in (np.float32, np.bool_):
                for blocks in (1, 2):
                    arrays = {
                        "logits": np.zeros(blocks * BLOCK, dtype=np.float32),
                        "targets": np.zeros(blocks * BLOCK, dtype=targets),
                    }
                    work = prepare(loss.name, params, Grid((blocks * BLOCK,), (0,)), arrays)
                    self.score(work, 0, blocks)


def _is_plain(work: Work) -> bool:
    """Every element counts, targets are as given, all outputs have one divisor, and gamma is a common one."""
    return (
        work.own.get("gamma", 0.0) in _EXPONENTS
        and work.mask is None
        and work.ignore_index is None
        and work.classes is None
        and work.divisor is None
        and not work.label_smoothing
    )


def _runs(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Blocks of one length, which do follow each other, a few at a time."""
    for _, same in groupby(blocks, key=lambda block: block.stop - block.start):
        alike = list(same)
        for i in range(0, len(alike), _RUN):
            yield alike[i : i + _RUN]


def main() -> None:
    """Fill a cache directory: ``python -m lossd.core.compiled DIRECTORY``."""
    torch.set_num_threads(1)
    kernel = CompiledKernel(cache=Path(sys.argv[1]))
    kernel.warm()
    check_known_answers(kernel)


if __name__ == "__main__":
    main()
