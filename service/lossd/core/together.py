"""Small requests scored together: which may be, and how they are laid side by side.

Most of what a small request costs is not arithmetic. Requests that ask for the same of tensors of the same
length and dtypes are copied one behind the other and computed in one pass; each one's elements are then
summed as if it were alone, which is why its bits are those that it has alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from lossd.core.grid import BLOCK, Grid
from lossd.core.inputs import stand_in
from lossd.core.operand import Operand
from lossd.core.work import Work


def likeness(work: Work) -> Hashable | None:
    """What requests must have in common to be scored together; None for one that is always alone.

    Only requests of one block and one output are not, of inputs and targets alone.
    """
    others = (work.weight, work.pos_weight, work.alpha, work.mask, work.classes, work.ignore_index)
    if work.grid.blocks != 1 or work.grid.output_shape or any(other is not None for other in others):
        return None
    views = (work.inputs.view(0, 0), work.targets.view(0, 0))
    dtypes = tuple([None if view is None else view.dtype for view in views])
    own = tuple(work.own.items())
    return (work.loss, own, work.kind, work.grid.size, dtypes, work.label_smoothing, work.allow_nan)


def most_together(work: Work) -> int:
    """How many requests like this one go together: no more than a block's elements, which stay in cache."""
    return max(1, BLOCK // work.grid.size)


def join(works: Sequence[Work], row: int) -> Work:
    """One request over several that are alike, each padded with allowed values to ``row`` elements.

    Its elements are laid down where the kernel can read them in place.
    """
    first = works[0]
    grid = Grid((len(works) * row,), (0,))
    inputs = _side_by_side([work.inputs for work in works], first.grid.size, row, stand_in(first.kind))
    targets = _side_by_side([work.targets for work in works], first.grid.size, row, 0.0)
    return first._replace(grid=grid, inputs=inputs, targets=targets)


def _side_by_side(operands: Sequence[Operand], size: int, row: int, filler: float) -> Operand:
    view = operands[0].view(0, 0)
    rows = np.empty((len(operands), row), dtype=np.float64 if view is None else view.dtype)
    for target, operand in zip(rows, operands, strict=True):
        there = operand.view(0, size)
        if there is None:
            operand.read(0, size, target[:size])
        else:
            target[:size] = there
    rows[:, size:] = filler
    return Operand(operands[0].name, rows.reshape(-1), (rows.size,))
