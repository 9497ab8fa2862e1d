"""Scoring arrays with the core alone, by each of its kernels, which must come to the same bits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lossd.core.catalog import LOSSES
from lossd.core.exact_sum import ExactArray, ExactSum
from lossd.core.kernel import Kernel, Sums
from lossd.core.losses.kernel import TorchKernel
from lossd.core.native.kernel import native_kernel
from lossd.core.parameters import check_params, losses_shape, reduced_axes
from lossd.core.prepare import Work, prepare
from lossd.types import Float64Array, Tensor

Array = npt.NDArray[Any]

BLOCK = 32768
"""Elements of a part here at most."""
TENSORS = (
    *("logits", "probabilities", "boxes", "targets", "weight", "pos_weight", "mask", "alpha"),
    *("class_weight", "baseline"),
)
NATIVE = native_kernel()
KERNELS: list[Kernel] = [*([NATIVE] if NATIVE else []), TorchKernel()]


class Job(NamedTuple):
    """A request, and the bytes of its tensors."""

    work: Work
    body: bytes


@dataclass
class Figures:
    """What a whole request comes to."""

    sum: ExactSum
    weight_sum: ExactSum | None
    positives: ExactSum
    count: int


def work(
    loss: str,
    tensors: dict[str, Array],
    bfloat16: frozenset[str] = frozenset(),
    elements: int = BLOCK,
    **params: object,
) -> Job:
    """A request; tensors of ``bfloat16`` are bit patterns."""
    entry = LOSSES[loss]
    inputs = next(tensors[name] for name in entry.inputs if name in tensors)
    if entry.row == "classes":
        by_index = tensors["targets"].ndim < inputs.ndim
        params = {"targets_format": "index" if by_index else "dense", **params}
    checked = check_params(entry, params)
    shape = losses_shape(entry, checked, inputs.shape)
    laid, body = lay(tensors, bfloat16)
    return Job(prepare(loss, checked, shape, reduced_axes(checked, shape), elements, laid), body)


def lay(tensors: dict[str, Array], bfloat16: frozenset[str]) -> tuple[dict[str, Tensor], bytes]:
    """Lay arrays one behind the other, as they are: Fortran order, byte order and odd places stay."""
    laid, body = {}, b""
    for name, array in tensors.items():
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        offset = len(body)
        if not array.flags.aligned:
            body, offset = body + b"x", len(body) + 1
        dtype = "bfloat16" if name in bfloat16 else array.dtype.newbyteorder("=").name
        big = not array.dtype.isnative
        laid[name] = Tensor(dtype, array.shape, offset, fortran=fortran, big_endian=big)
        body += array.tobytes("F" if fortran else "C")
    return laid, body


def elements(
    loss: str,
    logits: npt.ArrayLike | None = None,
    targets: npt.ArrayLike | None = None,
    **given: Any,  # noqa: ANN401 -- whatever a loss takes
) -> Float64Array:
    """The element losses; an alpha that is an array is one a class."""
    given |= {name: value for name, value in (("logits", logits), ("targets", targets)) if value is not None}
    tensors = {
        name: np.asarray(value)
        for name, value in given.items()
        if name in TENSORS and (name not in ("alpha", "class_weight") or isinstance(value, np.ndarray))
    }
    params = {name: value for name, value in given.items() if name not in tensors}
    job = work(loss, tensors, reduction="none", **params)
    return sums(job).reshape(job.work.cut.shape)


def figures(job: Job) -> Figures:
    """What a request comes to, by every kernel."""
    return _merged(job, [_by_all(job, index)[0] for index in range(job.work.cut.parts)])


def figures_by(kernel: Kernel, job: Job) -> Figures:
    """What a request comes to, by one kernel."""
    return _merged(job, [score_part(kernel, job, index)[0] for index in range(job.work.cut.parts)])


def everything_of(job: Job, kernel: Kernel | None = None) -> tuple[Figures, list[Float64Array]]:
    """The figures and the sums of each channel, scored once: by every kernel, or by one.

    Parts are scored last first.
    """
    parts = [
        (index, *(_by_all(job, index) if kernel is None else score_part(kernel, job, index)))
        for index in reversed(range(job.work.cut.parts))
    ]
    merged = _merged(job, [found for _, found, _ in parts])
    return merged, [merge_outputs(job, parts, channel) for channel in range(job.work.channels)]


def total(job: Job) -> float:
    """The summed losses."""
    return figures(job).sum.value


def sums(job: Job, channel: int = 0) -> Float64Array:
    """The summed outputs (or divisors), by every kernel."""
    parts = [(index, *_by_all(job, index)) for index in reversed(range(job.work.cut.parts))]
    return merge_outputs(job, [(index, found, memories) for index, found, memories in parts], channel)


def sums_by(kernel: Kernel, job: Job, channel: int = 0) -> Float64Array:
    """The summed outputs (or divisors), by one kernel."""
    parts = [(index, *score_part(kernel, job, index)) for index in range(job.work.cut.parts)]
    return merge_outputs(job, parts, channel)


def score_part(kernel: Kernel, job: Job, index: int) -> tuple[Sums, list[Float64Array]]:
    """What a part comes to, and the memories that were written to."""
    memories = [np.full(job.work.cut.most_numbers(index), np.nan) for _ in range(job.work.channels)]
    return kernel.score(job.work, job.body, 0, index, memories), memories


def merge_outputs(
    job: Job, parts: Iterable[tuple[int, Sums, Sequence[Float64Array]]], channel: int = 0
) -> Float64Array:
    """The sums of all outputs, from those of the parts in any order."""
    cut = job.work.cut
    exact: dict[int, ExactArray] = {}
    for index, found, memories in parts:
        part = cut.part(index)
        planes = memories[channel][: found.planes[channel] * part.outputs].reshape(-1, part.outputs)
        for plane in planes:
            exact.setdefault(part.output, ExactArray()).add(plane)
    whole = np.zeros(cut.outputs)
    for output, running in exact.items():
        value = running.value
        whole[output : output + len(value)] = value
    return whole


def _by_all(job: Job, index: int) -> tuple[Sums, list[Float64Array]]:
    """What a part comes to by the first kernel; the others must come to the same bits."""
    found, memories = score_part(KERNELS[0], job, index)
    for kernel in KERNELS[1:]:
        other, written = score_part(kernel, job, index)
        for name in ("loss", "weights", "positives", "count"):
            assert repr(getattr(other, name)) == repr(getattr(found, name))  # NaN is equal to itself there
        for channel in range(job.work.channels):
            one = merge_outputs(job, [(index, found, memories)], channel)
            assert one.tobytes() == merge_outputs(job, [(index, other, written)], channel).tobytes()
    return found, memories


def _merged(job: Job, parts: Iterable[Sums]) -> Figures:
    merged = Figures(ExactSum(), ExactSum() if job.work.weighted else None, ExactSum(), 0)
    for part in parts:
        merged.sum.add_all(part.loss)
        merged.positives.add_all(part.positives)
        if merged.weight_sum is not None and part.weights is not None:
            merged.weight_sum.add_all(part.weights)
        merged.count += part.count
    return merged
