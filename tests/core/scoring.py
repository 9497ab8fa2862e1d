"""Scoring arrays with the core alone: no server, no arena."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.core.catalog import LOSSES, check_params, reduced_axes
from lossd.core.exact_sum import ExactArray, ExactSum
from lossd.core.grid import Grid
from lossd.core.kernel import EagerKernel
from lossd.core.work import Work, prepare

KERNEL = EagerKernel()
TENSORS = ("logits", "probabilities", "targets", "weight", "pos_weight", "mask", "alpha")


def work(
    loss: str, tensors: dict[str, npt.NDArray[Any]], bfloat16: frozenset[str] = frozenset(), **params: object
) -> Work:
    shape = next(tensors[name] for name in ("logits", "probabilities") if name in tensors).shape
    checked = check_params(LOSSES[loss], params)
    return prepare(loss, checked, Grid(shape, reduced_axes(checked, shape)), tensors, bfloat16)


def elements(
    loss: str,
    logits: npt.ArrayLike | None = None,
    targets: npt.ArrayLike | None = None,
    **given: Any,  # noqa: ANN401 -- whatever a loss takes
) -> npt.NDArray[np.float64]:
    """The element losses; an alpha that is an array is one a class."""
    given |= {name: value for name, value in (("logits", logits), ("targets", targets)) if value is not None}
    tensors = {
        name: np.asarray(value)
        for name, value in given.items()
        if name in TENSORS and (name != "alpha" or isinstance(value, np.ndarray))
    }
    params = {name: value for name, value in given.items() if name not in tensors}
    job = work(loss, tensors, reduction="none", **params)
    return sums(job).reshape(job.grid.shape)


def sums(job: Work, cuts: list[int] | None = None, channel: int = 0) -> npt.NDArray[np.float64]:
    """The summed outputs (or divisors), computed in runs of blocks that end at ``cuts``, last run first."""
    channels = 1 + (job.divisor is not None)
    whole = np.zeros(job.grid.outputs)
    exact: dict[int, ExactArray] = {}
    for first, last in reversed(list(pairwise(sorted({0, job.grid.blocks, *(cuts or [])})))):
        memories = tuple(np.full(job.grid.partials(first, last), np.nan) for _ in range(channels))
        offset = 0
        for piece in KERNEL.score(job, first, last, memories).pieces[channel]:
            for _ in range(piece.planes):
                plane = memories[channel][offset : offset + piece.length]
                exact.setdefault(piece.output, ExactArray()).add(plane)
                offset += piece.length
    for output, running in exact.items():
        value = running.value
        whole[output : output + len(value)] = value
    return whole


def total(job: Work, cuts: list[int] | None = None) -> float:
    """The summed losses, computed in runs of blocks that end at ``cuts``."""
    running = ExactSum()
    for first, last in pairwise(sorted({0, job.grid.blocks, *(cuts or [])})):
        running.add_all(KERNEL.score(job, first, last).sum.terms)
    return running.value


def bits(kernel: EagerKernel, job: Work) -> tuple[object, ...]:
    """All that a kernel makes of a request, to be compared."""
    channels = (1 + (job.divisor is not None)) if job.grid.output_shape else 0
    memories = tuple(np.full(job.grid.partials(0, job.grid.blocks), -1.0) for _ in range(channels))
    score = kernel.score(job, 0, job.grid.blocks, memories)
    weights = None if score.weight_sum is None else score.weight_sum.terms
    figures = (score.sum.terms, weights, score.positives.terms, score.count, score.pieces)
    return repr(figures), *(memory.tobytes() for memory in memories)
