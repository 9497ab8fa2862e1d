"""Scoring arrays with the core alone: no server, no arena."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.core.catalog import LOSSES, check_params, reduced_axes
from lossd.core.exact import ExactArray, ExactSum
from lossd.core.grid import Grid
from lossd.core.kernel import EagerKernel, Score, Work
from lossd.core.operand import Operand

KERNEL = EagerKernel()


def work(
    loss: str, tensors: dict[str, npt.NDArray[Any]], bfloat16: frozenset[str] = frozenset(), **params: object
) -> Work:
    shape = tensors["logits"].shape
    checked = check_params(LOSSES[loss], params)
    operands = {
        name: Operand(name, array, shape, bfloat16=name in bfloat16) for name, array in tensors.items()
    }
    return Work(loss, checked, Grid(shape, reduced_axes(checked, shape)), operands)


def elements(
    loss: str,
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    **params: Any,  # noqa: ANN401 -- whatever a loss takes
) -> npt.NDArray[np.float64]:
    """The element losses."""
    tensors = {"logits": np.asarray(logits), "targets": np.asarray(targets)}
    tensors |= {name: np.asarray(params.pop(name)) for name in ("weight", "pos_weight") if name in params}
    return sums(work(loss, tensors, reduction="none", **params)).reshape(tensors["logits"].shape)


def sums(job: Work, cuts: list[int] | None = None) -> npt.NDArray[np.float64]:
    """The summed outputs, computed in runs of blocks that end at ``cuts``, last run first."""
    borders = sorted({0, job.grid.blocks, *(cuts or [])})
    runs = list(pairwise(borders))
    whole = np.zeros(job.grid.outputs)
    exact: dict[int, ExactArray] = {}
    for first, last in reversed(runs):
        memory = np.full(job.grid.partials(first, last), np.nan)
        offset = 0
        for piece in KERNEL.score(job, first, last, memory).pieces:
            for _ in range(piece.planes):
                exact.setdefault(piece.output, ExactArray()).add(memory[offset : offset + piece.length])
                offset += piece.length
    for output, running in exact.items():
        value = running.value
        whole[output : output + len(value)] = value
    return whole


def total(job: Work, cuts: list[int] | None = None) -> float:
    """The summed losses, computed in runs of blocks that end at ``cuts``."""
    borders = sorted({0, job.grid.blocks, *(cuts or [])})
    running = ExactSum()
    for first, last in pairwise(borders):
        score: Score = KERNEL.score(job, first, last)
        running.add_all(score.sum.terms)
    return running.value
