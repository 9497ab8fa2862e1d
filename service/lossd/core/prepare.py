"""A request prepared for a kernel: the loss, the parameters, and each tensor's strides over the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut, cut_of
from lossd.core.operand import Operand, spread
from lossd.core.parameters import Divisor, class_axis, divisor, own_params
from lossd.types import Tensor


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: kernels keep what they make of one
class Work:
    """A request, ready to score.

    Attributes:
        loss: The loss's name.
        own: The loss's own parameters, such as gamma.
        cut: Its parts.
        inputs: The logits or probabilities, by their name.
        targets: The targets, or the class ids.
        weight: The weights, if any.
        pos_weight: The positive class's weight, if not 1.
        alpha: The balance of each class, if it is not one number.
        mask: 0 where an element is dropped, if any is.
        class_axis: The axis of the classes if targets are class ids, else None.
        label_smoothing: e.
        ignore_index: The target that drops its element, if any, which may be NaN.
        background_index: The id that means no class, if any.
        allow_nan: Whether a NaN propagates.
        divisor: What each output is divided by, if it must be summed for each.
    """

    loss: str
    own: Mapping[str, object]
    cut: Cut
    inputs: Operand
    targets: Operand
    weight: Operand | None
    pos_weight: Operand | None
    alpha: Operand | None
    mask: Operand | None
    class_axis: int | None
    label_smoothing: float
    ignore_index: float | None
    background_index: int | None
    allow_nan: bool
    divisor: Divisor | None

    @property
    def channels(self) -> int:
        """Number of arrays of sums: none if everything is reduced to a number; 2 with divisors."""
        if not self.cut.output_shape:
            return 0
        return 1 if self.divisor is None else 2

    @property
    def operands(self) -> list[Operand]:
        """The tensors of the request."""
        candidates = (self.inputs, self.targets, self.weight, self.pos_weight, self.alpha, self.mask)
        return [operand for operand in candidates if operand is not None]


def prepare(
    loss: str,
    params: Mapping[str, object],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    elements: int,
    tensors: Mapping[str, Tensor],
    first_row: int = 0,
) -> Work:
    """Prepare a request.

    Args:
        loss: The loss's name.
        params: Its checked parameters.
        shape: The inputs' shape.
        axes: The axes that are reduced.
        elements: Most elements of a part.
        tensors: Its tensors, whose shapes have been checked; ``alpha`` may be among them.
        first_row: Number of rows of a stream before these.
    """
    axis = class_axis(params, shape)
    cut = cut_of(shape, axes, elements)

    def operand(name: str, along: tuple[int, ...] | None = None) -> Operand | None:
        tensor = tensors.get(name)
        return None if tensor is None else spread(name, tensor, shape, along, first_row)

    def by_class(name: str) -> Operand | None:
        tensor = tensors.get(name)
        return operand(name, (axis,) if tensor is not None and len(tensor.shape) == 1 else None)

    by_index = params["targets_format"] == "index"
    others = tuple(other for other in range(len(shape)) if other != axis)
    inputs = operand("logits") or operand("probabilities")
    targets = operand("targets", others if by_index else None)
    ignored = params["ignore_index"]
    assert inputs is not None
    assert targets is not None
    return Work(
        loss=loss,
        own=own_params(LOSSES[loss], params),
        cut=cut,
        inputs=inputs,
        targets=targets,
        weight=operand("weight"),
        pos_weight=by_class("pos_weight"),
        alpha=by_class("alpha"),
        mask=operand("mask"),
        class_axis=axis if by_index else None,
        label_smoothing=cast(float, params["label_smoothing"]),
        ignore_index=None if ignored is None else float(cast("float | str", ignored)),
        background_index=cast("int | None", params["background_index"]),
        allow_nan=params["allow_nan"] is True,
        divisor=divisor(params, cut, tensors),
    )
