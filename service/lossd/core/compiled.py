"""The same formulas, fused: one pass over a block that converts, computes, checks and sums.

torch's Inductor makes C++ of them and compiles that (`fuse`), which takes a compiler, and seconds for each
new combination of dtypes and parameters; what was compiled before is found again in the cache directory. It
is a setting, never a silent choice: its last bits are not the eager kernel's.

What makes the bits depend on the request alone: one thread, whole vectors of 16 elements, the last padded, no
contraction of products and sums (Inductor's own setting), and sums that are kept apart for each of 16 lanes,
row by row: else their order would follow the width of the dtype that was read. A lane's sum runs over 32 rows
and no more, so that roundings have no time to gather; the rest is numpy's pairwise sum.

Only plain blocks come here: with the common exponents, all of whose elements count, and whose losses are
finite. The others, and those in which something is to be refused, are the eager kernel's. Which is which
depends on the request alone.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lossd.core.catalog import LOSSES, check_params
from lossd.core.fuse import Fused, fuse
from lossd.core.grid import Block, Grid
from lossd.core.inputs import Probabilities, stand_in
from lossd.core.kernel import EagerKernel, Score
from lossd.core.known_answers import check_known_answers
from lossd.core.operand import Operand
from lossd.core.together import Pair, likeness, side_by_side
from lossd.core.work import Work, prepare
from lossd.request import Float64Array

_LANES: Final = 16
_ROWS: Final = 32
_GROUP: Final = _ROWS * _LANES
_EXPONENTS: Final = frozenset({0.0, 0.5, 1.0, 1.5, 2.0, 3.0})
"""Gammas, and other such numbers, that are compiled for: a caller who tries hundreds must not make everyone
wait for the compiler."""
_RUN: Final = 4
"""Blocks a pass at most, which takes about a third of a millisecond: nobody else is served before its end."""
_SHORT: Final = 4096
"""Shorter blocks and requests are read as float64 unless they have a usual dtype, so that few kinds are
compiled for."""
_USUAL: Final = frozenset(map(np.dtype, ("f4", "f8", "u1")))
_SUM, _POSITIVES, _BAD, _WEIGHTS = range(4)
"""The sums that a pass finds: of the losses, of the targets, of 1 for each value that is not allowed, and of
the weights, if there are any."""


class CompiledKernel(EagerKernel):
    """Computes plain blocks with compiled code, all others as `EagerKernel` does.

    Args:
        device: ``cpu``; a CUDA device has no use for it.
        cache: Where compiled code is kept; torch's own choice by default.
    """

    least_together = 1

    def __init__(self, device: str = "cpu", cache: Path | None = None) -> None:
        super().__init__(device)
        if cache is not None:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
        self.name = f"compiled-{torch.backends.cpu.get_cpu_capability().lower()}-1thread"
        self._passes: dict[tuple[object, ...], Fused] = {}
        self._scalars = np.zeros((1, 2))  # how many elements there are, and alpha
        self._scalars_tensor = torch.from_numpy(self._scalars)

    def steps(self, work: Work, first: int, last: int, score: Score) -> Iterator[int]:
        """As the eager kernel's; before the first pause of a run, all of its plain blocks are computed."""
        if not _is_plain(work):
            yield from super().steps(work, first, last, score)
            return
        while first < last:
            run = _run(work, first, last)
            yield from self._run_steps(work, run, first, score)
            first += len(run)

    def _run_steps(self, work: Work, run: list[Block], first: int, score: Score) -> Iterator[int]:
        """Score blocks of one length, that follow each other, in one pass."""
        found, losses = self._compute(work, run[0].start, run[-1].stop, losses=bool(score.partials))
        # The rest of each sum is numpy's pairwise one, over [groups of a block, 16], whatever is beside it.
        sums = np.add.reduce(found.reshape(len(found), len(run), -1), axis=2).tolist()
        for i, block in enumerate(run):
            n = block.stop - block.start
            # What is infinite or NaN shows in the sum.
            if not sums[_BAD][i] and math.isfinite(sums[_SUM][i]):
                score.sum.add(sums[_SUM][i])
                score.positives.add(sums[_POSITIVES][i])
                score.count += n
                if score.weight_sum is not None:
                    score.weight_sum.add(sums[_WEIGHTS][i])
                if losses is not None:
                    score.partials[0].take(block, losses[i * n : (i + 1) * n])
            else:
                self._score_block(work, block, score)
            yield first + i + 1

    def likeness(self, work: Work) -> Hashable | None:
        """As the eager kernel's; requests that need padding are alone."""
        if not _is_plain(work):
            return super().likeness(work)
        return None if work.grid.size % _GROUP else likeness(work)

    def _sums_together(self, work: Work, pairs: Sequence[Pair]) -> list[tuple[float, float]] | None:
        if not _is_plain(work):
            return super()._sums_together(work, pairs)
        size = work.grid.size
        inputs, targets = side_by_side(work, pairs, size, _USUAL if size < _SHORT else None)
        tensors = {
            "inputs": torch.from_numpy(inputs.reshape(-1, _ROWS, _LANES)),
            "targets": torch.from_numpy(targets.reshape(-1, _ROWS, _LANES)),
        }
        found, _ = self._find(work, tensors, inputs.size, losses=False)
        sums = np.add.reduce(found.reshape(len(found), len(pairs), -1), axis=2).tolist()
        return None if any(sums[_BAD]) else list(zip(sums[_SUM], sums[_POSITIVES], strict=True))

    def _compute(
        self, work: Work, start: int, stop: int, *, losses: bool
    ) -> tuple[Float64Array, Tensor | None]:
        """What a pass finds in the elements [start, stop): sums by group of rows and lane, and the losses."""
        tensors = {"inputs": self._rows(work.inputs, start, stop, stand_in(work.kind))}
        for name in ("targets", "weight", "pos_weight", "alpha"):
            operand = getattr(work, name)
            if operand is not None:
                tensors[name] = self._rows(operand, start, stop)
        return self._find(work, tensors, stop - start, losses=losses)

    def _find(
        self, work: Work, tensors: dict[str, Tensor], count: int, *, losses: bool
    ) -> tuple[Float64Array, Tensor | None]:
        """What `_compute` gives, of tensors [groups, 32, 16], of which the first ``count`` elements count."""
        tensors["scalars"] = self._scalars_tensor
        alpha = work.own.get("alpha")
        self._scalars[0] = count, alpha if isinstance(alpha, float) else 0.0
        found, *each = self._pass(work, tensors, losses=losses)(list(tensors.values()))
        return found.numpy(), each[0].reshape(-1) if losses else None

    def _rows(self, operand: Operand, start: int, stop: int, filler: float = 0.0) -> Tensor:
        """The elements [start, stop), [groups, 32, 16], where they lie if they can be; else padded."""
        n = stop - start
        missing = -n % _GROUP
        there = operand.view(start, stop)
        if there is not None and n < _SHORT and there.dtype not in _USUAL:
            there = None
        if there is None or missing:
            rows = np.empty(n + missing, dtype=np.float64 if there is None else there.dtype)
            if there is None:
                with np.errstate(invalid="ignore"):  # as for eager blocks
                    operand.read(start, stop, rows[:n])
            else:
                rows[:n] = there
            rows[n:] = filler
            there = rows
        return torch.from_numpy(there.reshape(-1, _ROWS, _LANES))

    def _pass(self, work: Work, tensors: Mapping[str, Tensor], *, losses: bool) -> Fused:
        """The compiled pass for a kind of request; the first of its kind waits for the compiler."""
        own = tuple(value for name, value in work.own.items() if name != "alpha")
        balanced = work.own.get("alpha") is not None
        dtypes = tuple([(name, tensor.dtype) for name, tensor in tensors.items()])
        key = (work.loss, work.kind, own, balanced, dtypes, losses)
        if key not in self._passes:
            self._passes[key] = self._compile(work, tensors, losses=losses)
        return self._passes[key]

    def _compile(self, work: Work, tensors: Mapping[str, Tensor], *, losses: bool) -> Fused:
        function, kind, own = self._functions[work.loss], work.kind, dict(work.own)
        balanced = isinstance(own.get("alpha"), float)

        def one_pass(tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
            """Sums, [figures, groups, 16], and maybe the losses, [groups, 32, 16], of [groups, 32, 16]."""
            inputs, y = tensors["inputs"].double(), tensors["targets"].double()
            z = 1.0 - y
            factors = {
                name: tensors[name].double() for name in ("weight", "pos_weight", "alpha") if name in tensors
            }
            count, alpha = tensors["scalars"][0]
            weight, k = factors.get("weight"), factors.get("pos_weight")
            parameters = own
            if balanced or "alpha" in factors:  # as a tensor: else each value would be compiled for
                parameters = {**own, "alpha": factors.get("alpha", alpha)}
            value, coefficient = function(kind(inputs), y, z, k, **parameters)
            each = value if coefficient is None else coefficient * value
            least = torch.minimum(y, z)
            if kind is Probabilities:
                least = torch.minimum(least, torch.minimum(inputs, 1.0 - inputs))
            if weight is not None:
                each = weight * each
                least = torch.minimum(least, weight)
            if k is not None:
                least = torch.minimum(least, k)
            place = torch.arange(inputs.numel()).view(inputs.shape)
            each = torch.where(place < count.long(), each, 0.0)
            bad = (~(least >= 0.0)).double()  # 1 for a NaN
            figures = [each, y, bad] if weight is None else [each, y, bad, weight]
            found = torch.stack([figure.sum(1) for figure in figures])
            return (found, each) if losses else (found,)

        examples = {
            name: tensor if name == "scalars" else tensor.new_zeros((2, _ROWS, _LANES))
            for name, tensor in tensors.items()
        }
        return fuse(one_pass, examples)

    def warm(self) -> None:
        """Compile what most requests need: float32 inputs, float32 or boolean targets, default parameters."""
        for loss in LOSSES.values():
            params = check_params(loss, {})
            for targets in (np.float32, np.bool_):
                arrays = {"logits": np.zeros(1, dtype=np.float32), "targets": np.zeros(1, dtype=targets)}
                self.score(prepare(loss.name, params, Grid((1,), (0,)), arrays), 0, 1)


def _is_plain(work: Work) -> bool:
    """Every element counts, targets are as given, all outputs have one divisor, and gamma is a common one."""
    numbers = [value for name, value in work.own.items() if isinstance(value, float) and name != "alpha"]
    return (
        _EXPONENTS.issuperset(numbers)
        and work.mask is None
        and work.ignore_index is None
        and work.classes is None
        and work.divisor is None
        and not work.label_smoothing
    )


def _run(work: Work, first: int, last: int) -> list[Block]:
    """The blocks from the first on that one pass takes: a few of one length, or one if that needs padding."""
    run = [work.block(first)]
    n = run[0].stop - run[0].start
    if n % _GROUP == 0:
        for index in range(first + 1, min(first + _RUN, last)):
            block = work.block(index)
            if block.stop - block.start != n:
                break
            run.append(block)
    return run


def main() -> None:
    """Fill a cache directory: ``python -m lossd.core.compiled DIRECTORY``."""
    torch.set_num_threads(1)
    kernel = CompiledKernel(cache=Path(sys.argv[1]))
    kernel.warm()
    check_known_answers(kernel)


if __name__ == "__main__":
    main()
