"""Small requests scored together: which may be, and how they are laid side by side.

Most of what a small request costs is not arithmetic. Requests that ask for the same of tensors of the same
length and dtypes are copied one behind the other and computed in one pass; each one's elements are then
summed as if it were alone, which is why its bits are those that it has alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lossd.core.grid import BLOCK, grid_of
from lossd.core.inputs import stand_in
from lossd.core.operand import Operand
from lossd.core.work import Work

_MOST: Final = 8

Array: TypeAlias = npt.NDArray[Any]
Pair: TypeAlias = tuple[Array, Array]
"""A request's inputs and targets, of its shape or flat, in any layout; bfloat16 as uint16 bit patterns."""


class Sums(NamedTuple):
    """What a request came to that was scored with others.

    Attributes:
        loss: The losses.
        positives: The targets, before smoothing.
        elements: How many it has.
    """

    loss: float
    positives: float
    elements: int


def likeness(work: Work) -> Hashable | None:
    """What requests must have in common to be scored together; None for one that is always alone.

    Only requests of one block and one output are not, of inputs and targets alone.
    """
    others = (work.weight, work.pos_weight, work.alpha, work.mask, work.classes, work.ignore_index)
    if work.grid.blocks != 1 or work.grid.output_shape or any(other is not None for other in others):
        return None
    dtypes = tuple([(operand.dtype, operand.bfloat16) for operand in (work.inputs, work.targets)])
    own = tuple(work.own.items())
    return (work.loss, own, work.kind, work.grid.size, dtypes, work.label_smoothing, work.allow_nan)


def most_together(work: Work) -> int:
    """How many requests like this one go together.

    No more than a block's elements, which stay in cache; and no more than `_MOST`, which costs little, so
    that those who ask have some answers to go on with while the others' are computed.
    """
    return max(1, min(_MOST, BLOCK // work.grid.size))


def join(work: Work, pairs: Sequence[Pair], row: int) -> Work:
    """One request over several that are alike, each padded with allowed values to ``row`` elements.

    Args:
        work: One of them, or one like them.
        pairs: Their tensors.
        row: No less than the elements of each.
    """
    grid = grid_of((len(pairs) * row,), (0,))
    inputs, targets = side_by_side(work, pairs, row)
    return work._replace(
        grid=grid,
        inputs=Operand(work.inputs.name, inputs, grid.shape),
        targets=Operand(work.targets.name, targets, grid.shape),
    )


def side_by_side(
    work: Work, pairs: Sequence[Pair], row: int, kept: frozenset[np.dtype[Any]] | None = None
) -> Pair:
    """The inputs and the targets of requests, [len(pairs) * row] each, as `join` lays them.

    Args:
        work: As there, like the next two.
        pairs: As there.
        row: As there.
        kept: The dtypes that are left as they are; others become float64. All, if it is not given.
    """
    size = work.grid.size
    inputs = _lay(work.inputs, [pair[0] for pair in pairs], size, row, stand_in(work.kind), kept)
    targets = _lay(work.targets, [pair[1] for pair in pairs], size, row, 0.0, kept)
    return inputs, targets


def _lay(
    like: Operand,
    arrays: Sequence[Array],
    size: int,
    row: int,
    filler: float,
    kept: frozenset[np.dtype[Any]] | None,
) -> Array:
    """Arrays one behind the other, in the machine's own form, where a kernel can read them in place.

    A single one may be so already.
    """
    if like.bfloat16:
        rows = np.empty((len(arrays), row), dtype=np.uint32)
    else:
        dtype = like.dtype if kept is None or like.dtype in kept else np.dtype(np.float64)
        first = arrays[0]
        as_it_lies = len(arrays) == 1 and row == size and first.ndim == 1 and first.dtype == dtype
        if as_it_lies and first.flags.aligned and first.flags.writeable:
            return first
        rows = np.empty((len(arrays), row), dtype=dtype)
    for target, array in zip(rows, arrays, strict=True):
        if array.ndim == 1:
            target[:size] = array
        else:
            target[:size].reshape(array.shape)[...] = array
    if like.bfloat16:
        rows = np.left_shift(rows, 16, out=rows).view(np.float32)
    if row > size:
        rows[:, size:] = filler
    return rows.reshape(-1)
