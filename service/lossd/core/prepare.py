"""A request prepared for a kernel: the loss, the parameters, and each tensor's strides over the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from lossd.core.catalog import LOSSES, Loss
from lossd.core.cut import Cut, cut_of
from lossd.core.operand import Operand, spread
from lossd.core.parameters import class_axis, divisor, own_params
from lossd.core.report.layout import Inputs, Layout
from lossd.core.report.spec import MOST_GROUP_COLUMNS, spec_of
from lossd.types import GROUP_PREFIX, ITEMSIZE, Divisor, Tensor


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
        report: The figures of the report; None if there is none.
        baseline: The inputs of the model to compare with, if any.
        groups: Each column of group ids, [N].
        ids: The ids of rows, [N], if any.
        share: What a row's share of the divisor is: ``count``, ``weight``, ``positives``; None for 1.
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
    report: Layout | None = None
    baseline: Operand | None = None
    groups: tuple[Operand, ...] = ()
    ids: Operand | None = None
    share: Divisor | None = "count"

    @property
    def channels(self) -> int:
        """Number of arrays of sums: none if everything is reduced to a number; 2 with divisors."""
        if not self.cut.output_shape:
            return 0
        return 1 if self.divisor is None else 2

    @property
    def operands(self) -> list[Operand]:
        """The tensors of the request that broadcast to its shape."""
        candidates = (
            self.inputs,
            self.targets,
            self.weight,
            self.pos_weight,
            self.alpha,
            self.mask,
            self.baseline,
        )
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
    report = report_of(loss, params, shape, tensors)
    cut = cut_of(shape, axes, elements, whole_rows=report is not None)

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
        ignore_index=_ignore_index(params),
        background_index=cast("int | None", params["background_index"]),
        allow_nan=params["allow_nan"] is True,
        divisor=divisor(params, cut, tensors),
        report=report,
        baseline=operand("baseline"),
        groups=_group_columns(tensors, first_row),
        ids=_rows_of("ids", tensors["ids"], first_row) if "ids" in tensors else None,
        share=_share(params, tensors),
    )


def report_of(
    loss: str, params: Mapping[str, object], shape: tuple[int, ...], tensors: Mapping[str, Tensor]
) -> Layout | None:
    """Return the figures of a request's report; None if there is to be none.

    Args:
        loss: The loss's name.
        params: Its checked parameters.
        shape: The losses' shape. The number of rows does not matter.
        tensors: The request's tensors, or those of one of its rows.
    """
    entry = LOSSES[loss]
    axis, classes = _classes_of(entry, params, shape, tensors)
    by_target = entry.row == "classes"
    spec = spec_of(entry, params, tensors, has_classes=by_target or axis is not None)
    if spec is None:
        return None
    inputs = Inputs(
        variant=str(params.get("variant", "")),
        shape=shape,
        class_axis=axis,
        classes=classes,
        by_target=by_target,
        weighted="weight" in tensors or params.get("class_weight") is not None,
        by_count=params["normalizer"] == "count",
        group_columns=len(group_dtypes(tensors)),
    )
    return Layout(spec, inputs)


def _classes_of(
    loss: Loss, params: Mapping[str, object], shape: tuple[int, ...], tensors: Mapping[str, Tensor]
) -> tuple[int | None, int]:
    """Return the axis of the losses along which classes lie, and how many there are; else None, and 0.

    A loss of a row of classes is of its target's class.
    """
    if loss.row == "classes":
        dimensions = len(shape) + 1
        axis = class_axis(params, (1,) * dimensions)
        own = next(tensors[name].shape for name in loss.inputs if name in tensors)
        return None, own[axis - dimensions]  # from the end: those of one row lack the first
    axis = 0 if loss.row else class_axis(params, shape)
    return (axis, shape[axis]) if axis else (None, 0)


def _ignore_index(params: Mapping[str, object]) -> float | None:
    given = params["ignore_index"]
    return None if given is None else float(cast("float | str", given))


def _share(params: Mapping[str, object], tensors: Mapping[str, Tensor]) -> Divisor | None:
    normalizer = params["normalizer"]
    if normalizer == "weight" and "weight" not in tensors:
        return "count"
    return cast("Divisor", normalizer) if isinstance(normalizer, str) else None


def group_dtypes(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the dtype of each column of a request's group ids."""
    return [column.tensor.dtype for column in _group_columns(tensors, 0)]


def _group_columns(tensors: Mapping[str, Tensor], first_row: int) -> tuple[Operand, ...]:
    """Return each column of group ids: of the tensor ``groups``, [N] or [N, G], or one tensor for each."""
    named = [(name, tensor) for name, tensor in tensors.items() if name.startswith(GROUP_PREFIX)]
    if named:
        return tuple(_rows_of(name, tensor, first_row) for name, tensor in named)
    tensor = tensors.get("groups")
    if tensor is None:
        return ()
    if len(tensor.shape) == 1:
        return (_rows_of("groups", tensor, first_row),)
    rows, columns = tensor.shape
    whole = spread("groups", tensor, tensor.shape, first_row=first_row)
    step = ITEMSIZE[tensor.dtype] * (rows if tensor.fortran else 1)
    stride = ITEMSIZE[tensor.dtype] * (1 if tensor.fortran else columns)
    return tuple(
        whole._replace(
            tensor=replace(tensor, offset=tensor.offset + step * column),
            shape=(rows,),
            axes=(0,),
            strides=(stride,),
        )
        for column in range(min(columns, MOST_GROUP_COLUMNS))
    )


def _rows_of(name: str, tensor: Tensor, first_row: int) -> Operand:
    """Return a tensor with a number for each row."""
    return spread(name, tensor, tensor.shape, first_row=first_row)
