"""A request prepared for a kernel: the loss, the parameters, and each tensor's strides over the request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from lossd.core.catalog import LOSSES, Loss
from lossd.core.cut import Cut, cut_of
from lossd.core.operand import Operand, spread
from lossd.core.parameters import class_axis, divisor, is_weighted, row_axes
from lossd.core.report.layout import Inputs, Layout
from lossd.core.report.spec import MOST_GROUP_COLUMNS, spec_of
from lossd.types import GROUP_PREFIX, ITEMSIZE, Divisor, Tensor


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: kernels keep what they make of one
class Work:
    """A request, ready to score.

    Attributes:
        loss: The loss's name.
        own: The entry's parameters, such as gamma, with those that it has in place of a shared one.
        cut: Its parts, over the shape of its losses.
        inputs: The logits, probabilities or boxes, by their name, spread over the elements: row by row, if a
            row has one loss, in the losses' order.
        targets: The targets, or the class ids.
        weight: The weights, if any, spread over the losses.
        pos_weight: The positive class's weight, if not 1.
        alpha: The balance of each class, if it is not one number; [C] if rows are of classes.
        mask: 0 where a loss is dropped, if any is, spread over the losses.
        class_axis: The axis of the classes in the inputs' shape if each element gets a target from class ids,
            else None.
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
        row_size: The number of elements that have one loss.
        ids_by_row: Whether targets are class ids, one for each loss.
        class_weight: The weight of each class, [C], if any.
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
    row_size: int = 1
    ids_by_row: bool = False
    class_weight: Operand | None = None

    @property
    def weighted(self) -> bool:
        """Whether there are weights, of losses or of classes."""
        return self.weight is not None or self.class_weight is not None

    @property
    def classes(self) -> int:
        """The number of classes that ids are among."""
        return self.row_size if self.class_axis is None else self.inputs.shape[self.class_axis]

    @property
    def channels(self) -> int:
        """Number of arrays of sums: none if everything is reduced to a number; 2 with divisors."""
        if not self.cut.output_shape:
            return 0
        return 1 if self.divisor is None else 2

    @property
    def of_elements(self) -> list[Operand]:
        """The tensors that are spread over the elements, row by row."""
        return _present(self.inputs, None if self.ids_by_row else self.targets, self.baseline)

    @property
    def of_losses(self) -> list[Operand]:
        """The tensors that are spread over the losses, besides those of `of_elements`."""
        ids = self.targets if self.ids_by_row else None
        if LOSSES[self.loss].row:
            return _present(ids, self.weight, self.mask)
        return _present(ids, self.weight, self.mask, self.pos_weight, self.alpha)

    @property
    def of_classes(self) -> list[Operand]:
        """The tensors of a number for each class, where rows are of classes."""
        return _present(self.class_weight, self.alpha) if LOSSES[self.loss].row else []


def _present(*operands: Operand | None) -> list[Operand]:
    return [operand for operand in operands if operand is not None]


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
        shape: The shape of its losses; see `losses_shape`.
        axes: The axes of it that are reduced.
        elements: Most losses of a part.
        tensors: Its tensors, whose shapes have been checked; ``alpha`` may be among them.
        first_row: Number of rows of a stream before these.
    """
    entry = LOSSES[loss]
    report = report_of(loss, params, shape, tensors)
    cut = cut_of(shape, axes, elements, whole_rows=report is not None)
    spread_over = _Spread(entry, params, shape, tensors, first_row)
    by_index = params["targets_format"] == "index"
    of_rows = entry.row == "classes"
    inputs = next(filter(None, map(spread_over.elements, entry.inputs)))
    ids_by_row = by_index and of_rows
    targets = spread_over.losses("targets") if ids_by_row else spread_over.elements("targets", ids=by_index)
    assert targets is not None
    by_class = spread_over.rows_of_classes if of_rows else spread_over.classes
    return Work(
        loss=loss,
        own={parameter.name: params[parameter.name] for parameter in entry.parameters},
        cut=cut,
        inputs=inputs,
        targets=targets,
        weight=spread_over.losses("weight"),
        pos_weight=by_class("pos_weight"),
        alpha=by_class("alpha"),
        mask=spread_over.losses("mask"),
        class_axis=spread_over.class_axis if by_index and not of_rows else None,
        label_smoothing=cast(float, params["label_smoothing"]),
        ignore_index=_ignore_index(params),
        background_index=cast("int | None", params["background_index"]),
        allow_nan=params["allow_nan"] is True,
        divisor=divisor(params, cut, tensors),
        report=report,
        baseline=spread_over.elements("baseline"),
        groups=_group_columns(tensors, first_row),
        ids=_rows_of("ids", tensors["ids"], first_row) if "ids" in tensors else None,
        share=_share(params, tensors),
        row_size=spread_over.row_size,
        ids_by_row=ids_by_row,
        class_weight=by_class("class_weight"),
    )


class _Spread:
    """Spreads the tensors of a request over its elements, losses or classes.

    Args:
        loss: The loss.
        params: Its checked parameters.
        shape: The shape of its losses.
        tensors: The request's tensors.
        first_row: Number of rows of a stream before these.
    """

    def __init__(
        self,
        loss: Loss,
        params: Mapping[str, object],
        shape: tuple[int, ...],
        tensors: Mapping[str, Tensor],
        first_row: int,
    ) -> None:
        self._shape: Final = shape
        self._tensors: Final = tensors
        self._first_row: Final = first_row
        self._inputs: Final = inputs_shape(loss, tensors)
        self._rows: Final = row_axes(loss, params, self._inputs)
        self._others: Final = tuple(axis for axis in range(len(self._inputs)) if axis not in self._rows)
        self._class_axis: Final = class_axis(params, self._inputs)
        self.row_size: Final = math.prod(self._inputs[axis] for axis in self._rows)

    @property
    def class_axis(self) -> int:
        """The axis of the classes among the elements' axes, of which a row's are the last."""
        return self._added + (*self._others, *self._rows).index(self._class_axis)

    @property
    def _added(self) -> int:
        """How many axes of the losses' shape the inputs do not have."""
        return len(self._shape) - len(self._others)

    def elements(self, name: str, *, ids: bool = False) -> Operand | None:
        """Spread a tensor over the elements, row by row; class ids along the axis that they do not have."""
        tensor = self._tensors.get(name)
        if tensor is None:
            return None
        all_axes = range(len(self._inputs))
        along = [axis for axis in all_axes if axis != self._class_axis] if ids else None
        found = spread(name, tensor, self._inputs, along, self._first_row)
        return found.with_axes((*self._others, *self._rows), self._added) if self._rows else found

    def losses(self, name: str, along: tuple[int, ...] | None = None) -> Operand | None:
        """Spread a tensor over the losses."""
        tensor = self._tensors.get(name)
        return None if tensor is None else spread(name, tensor, self._shape, along, self._first_row)

    def classes(self, name: str) -> Operand | None:
        """Spread a tensor over the losses of elements; one of a number for each class along their axis."""
        tensor = self._tensors.get(name)
        along = (self._class_axis,) if tensor is not None and len(tensor.shape) == 1 else None
        return self.losses(name, along)

    def rows_of_classes(self, name: str) -> Operand | None:
        """Return a tensor of a number for each class of a row."""
        tensor = self._tensors.get(name)
        return None if tensor is None else spread(name, tensor, (self.row_size,))


def inputs_shape(loss: Loss, tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the shape of a request's inputs.

    Args:
        loss: The loss.
        tensors: The request's tensors.
    """
    return next(tensors[name].shape for name in loss.inputs if name in tensors)


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
        weighted=is_weighted(tensors),
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
        place = class_axis(params, (1,) * dimensions) - dimensions  # a row's inputs lack the first axis
        return None, inputs_shape(loss, tensors)[place]
    axis = 0 if loss.row else class_axis(params, shape)
    return (axis, shape[axis]) if axis else (None, 0)


def _ignore_index(params: Mapping[str, object]) -> float | None:
    given = params["ignore_index"]
    return None if given is None else float(cast("float | str", given))


def _share(params: Mapping[str, object], tensors: Mapping[str, Tensor]) -> Divisor | None:
    normalizer = params["normalizer"]
    if normalizer == "weight" and not is_weighted(tensors):
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
