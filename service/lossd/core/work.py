"""A request, made ready to score: its tensors as operands, its parameters where they are used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lossd.core.catalog import LOSSES, Divisor, class_axis, divisor, own_params
from lossd.core.grid import Block, Grid
from lossd.core.inputs import Inputs, Logits, Probabilities
from lossd.core.operand import Operand, Positions

_LISTED_CLASSES: Final = 1 << 16
"""So many class numbers are laid down once, and read like a tensor; more are reckoned for each block, which
is slower and takes no memory."""


class Work(NamedTuple):
    """A request, ready to score.

    Attributes:
        loss: The loss's name.
        own: The loss's own parameters, such as gamma.
        grid: Its blocks.
        kind: What the inputs are.
        inputs: The logits or probabilities.
        targets: The targets, or the class ids.
        weight: The weights, if any.
        pos_weight: What the positive class weighs, if not 1.
        alpha: The balance of each class, if it is not one number.
        mask: 0 where an element is dropped, if any is.
        classes: The class that each element is of, for targets that are ids.
        class_count: How many classes there are.
        label_smoothing: e.
        ignore_index: The target that drops its element, if any, which may be NaN.
        background_index: The id that is of no class, if any.
        allow_nan: Whether a NaN propagates.
        divisor: What each output is divided by, where that differs between outputs.
        skipped: The elements before the first that the operands have: 0 unless they are rows of a stream.
    """

    loss: str
    own: Mapping[str, object]
    grid: Grid
    kind: type[Inputs]
    inputs: Operand
    targets: Operand
    weight: Operand | None
    pos_weight: Operand | None
    alpha: Operand | None
    mask: Operand | None
    classes: Operand | Positions | None
    class_count: int
    label_smoothing: float
    ignore_index: float | None
    background_index: int | None
    allow_nan: bool
    divisor: Divisor | None
    skipped: int = 0

    @property
    def operands(self) -> list[Operand | Positions]:
        """All that a block's elements are computed from."""
        candidates = (
            self.inputs,
            self.targets,
            self.weight,
            self.pos_weight,
            self.alpha,
            self.mask,
            self.classes,
        )
        return [operand for operand in candidates if operand is not None]

    def with_arrays(self, inputs: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Work:
        """The same of other inputs and targets, of the same dtypes and of the request's shape."""
        shape = self.grid.shape
        return self._replace(
            inputs=Operand(self.inputs.name, inputs, shape, bfloat16=self.inputs.bfloat16),
            targets=Operand(self.targets.name, targets, shape, bfloat16=self.targets.bfloat16),
        )

    def block(self, index: int) -> Block:
        """The block at ``index``, its elements counted from the first that the operands have."""
        block = self.grid.block(index)
        if not self.skipped:
            return block
        return block._replace(start=block.start - self.skipped, stop=block.stop - self.skipped)


def prepare(
    loss: str,
    params: Mapping[str, object],
    grid: Grid,
    arrays: Mapping[str, npt.NDArray[Any]],
    bfloat16: frozenset[str] = frozenset(),
    rows: tuple[int, int] | None = None,
) -> Work:
    """Make a request ready.

    Args:
        loss: The loss's name.
        params: Its checked parameters.
        grid: Its blocks.
        arrays: Its tensors by name, whose shapes are known to go together; ``alpha`` may be among them.
        bfloat16: The tensors that are bfloat16, as uint16 bit patterns.
        rows: For a stream, of which the arrays are but some rows: the first row's number, and how many.
    """
    first_row, shape = (0, grid.shape) if rows is None else (rows[0], (rows[1], *grid.shape[1:]))
    axis = class_axis(params, shape)

    def operand(name: str, axes: tuple[int, ...] | None = None) -> Operand | None:
        array = arrays.get(name)
        if array is None:
            return None
        bits = name in bfloat16
        return Operand(name, array, shape, axes=axes, bfloat16=bits, first_row=first_row)

    def by_class(name: str) -> Operand | None:
        array = arrays.get(name)
        return operand(name, (axis,) if array is not None and array.ndim == 1 else None)

    by_index = params["targets_format"] == "index"
    inputs = operand("logits") or operand("probabilities")
    targets = operand("targets", _others(shape, axis) if by_index else None)
    assert inputs is not None
    assert targets is not None
    smoothing, ignored, background = (
        params["label_smoothing"],
        params["ignore_index"],
        params["background_index"],
    )
    assert isinstance(smoothing, float)
    assert ignored is None or isinstance(ignored, float | str)
    assert background is None or isinstance(background, int)
    return Work(
        loss=loss,
        own=own_params(LOSSES[loss], params),
        grid=grid,
        kind=Logits if inputs.name == "logits" else Probabilities,
        inputs=inputs,
        targets=targets,
        weight=operand("weight"),
        pos_weight=by_class("pos_weight"),
        alpha=by_class("alpha"),
        mask=operand("mask"),
        classes=_classes(shape, axis) if by_index else None,
        class_count=shape[axis],
        label_smoothing=smoothing,
        ignore_index=None if ignored is None else float(ignored),
        background_index=background,
        allow_nan=params["allow_nan"] is True,
        divisor=divisor(params, grid, arrays),
        skipped=first_row * math.prod(shape[1:]) if first_row else 0,
    )


def _others(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """All axes but one."""
    return tuple(other for other in range(len(shape)) if other != axis)


def _classes(shape: tuple[int, ...], axis: int) -> Operand | Positions:
    """The class that each element is of."""
    if shape[axis] > _LISTED_CLASSES:
        return Positions("classes", shape, axis)
    return Operand("classes", np.arange(shape[axis]), shape, axes=(axis,))
