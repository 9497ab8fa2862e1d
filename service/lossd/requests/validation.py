"""A body's tensors and parameters, checked and made into a `LossRequest`: names, dtypes, shapes, offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lossd.core.catalog import Loss
from lossd.core.cut import Cut, cut_of
from lossd.core.parameters import (
    LISTS,
    check_params,
    check_targets,
    class_axis,
    losses_shape,
    options_of,
    own_params,
    reduced_axes,
    row_size,
)
from lossd.core.prepare import report_of
from lossd.core.report.parameters import REPORT_BY_NAME, check_report
from lossd.engine.dispatch.array_outputs import cut_for
from lossd.engine.dispatch.report_outputs import report_cut
from lossd.requests.loss_checks import (
    check_columns,
    check_dense_ids,
    check_named_axis,
    check_names,
    check_rows,
    check_streamed,
    row_name,
)
from lossd.requests.notes import notes_on_shapes, one_class_notes
from lossd.requests.report_checks import SECTION_OF, check_report_tensors, report_notes
from lossd.requests.shapes import Shape, shape_mismatch, shown_shape
from lossd.types import (
    FLOATS,
    GROUP_PREFIX,
    INTEGERS,
    ITEMSIZE,
    MAX_DIMENSIONS,
    ROWS,
    TENSOR_DTYPES,
    Body,
    ErrorCode,
    LossRequest,
    RequestError,
    Tensor,
)
from lossd.wire import Column, nearest

_EXACT_INTEGERS: Final = {"float16": 2048, "bfloat16": 256}
"""The largest integer up to which a 16-bit float holds every integer."""
_OF_LOSSES: Final = TENSOR_DTYPES.keys() - SECTION_OF
"""The tensors that are not for reports alone."""

Array: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.bool_] | npt.NDArray[np.int64]


class BodyMemory(Protocol):
    """Memory that holds a body, such as a region of the arena."""

    @property
    def offset(self) -> int:
        """The memory's first byte, as tensors' offsets are counted."""

    @property
    def nbytes(self) -> int:
        """The memory's length in bytes."""

    @property
    def view(self) -> memoryview:
        """The memory's bytes."""


@dataclass(frozen=True, slots=True)
class OwnMemory:
    """Memory that holds a body and nothing else."""

    view: memoryview
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """The memory's length in bytes."""
        return len(self.view)


def assemble(
    loss: Loss,
    body: Body,
    free: int,
    memory: BodyMemory,
    sent_params: Mapping[str, object],
    slice_elements: int,
) -> tuple[LossRequest, Cut]:
    """Make the request of a whole body, and write arrays that its reader built behind the body.

    Args:
        loss: The loss.
        body: The tensors that the body's reader found.
        free: The offset in the memory from which the body does not need it.
        memory: The memory that holds the body.
        sent_params: The parameters of the body and the query.
        slice_elements: The most numbers of the inputs in a slice, unless a row has more.

    Returns:
        The request, and how its losses are cut into slices.

    Raises:
        RequestError: A tensor or parameter is missing, unknown, not allowed, or does not fit the others.
    """
    params = _check_parameters(loss, sent_params)
    placed = _TensorMemory(memory, free)
    tensors = {name: placed.found(tensor) for name, tensor in body.tensors.items()}
    for name, array in body.arrays.items():
        # All numbers in JSON but ids are float64, also the 0 and 1 of a mask.
        tensors[name] = placed.write(name, array.astype(np.bool_) if name == "mask" else array)
    shape = _check(loss, tensors, params)
    check_named_axis(loss, params, sent_params, shape)
    own, options = _repeated(loss, params, tensors)
    for name, numbers in _take_lists(loss, params, shape).items():
        tensors[name] = placed.write(name, np.array(numbers, dtype=np.float64))
    losses = losses_shape(loss, params, shape)
    axes = reduced_axes(params, losses, "losses" if loss.row else "inputs")
    cut = cut_request(loss, params, tensors, shape, axes, slice_elements)
    notes = (
        *body.notes,
        *notes_on_shapes(loss, tensors, params, sent_params, shape),
        *(report_notes(loss, tensors, params, shape) if "report" in params else ()),
    )
    size = row_size(loss, params, shape)
    return LossRequest(loss.name, tensors, params, own, options, notes, shape, size), cut


def cut_request(
    loss: Loss,
    params: Mapping[str, object],
    tensors: Mapping[str, Tensor],
    shape: Shape,
    axes: tuple[int, ...],
    slice_elements: int,
) -> Cut:
    """Return how a request's losses are cut into slices. No row that has one loss is cut.

    Args:
        loss: The loss.
        params: Its checked parameters.
        tensors: Its checked tensors.
        shape: The inputs' shape.
        axes: The axes reduced, of the losses' shape.
        slice_elements: The most numbers of the inputs in a slice, unless a row has more; a report's may have
            more.
    """
    losses, size = losses_shape(loss, params, shape), row_size(loss, params, shape)
    report = report_of(loss.name, params, losses, tensors) if "report" in params else None
    if report is not None:
        return report_cut(report, losses, axes, slice_elements, size)
    elements = max(1, slice_elements // max(1, size))
    one_number = len(axes) == len(losses)
    return cut_of(losses, axes, elements) if one_number else cut_for(losses, axes, elements)


def assemble_rows(
    loss: Loss, columns: Sequence[Column], sent_params: Mapping[str, object]
) -> tuple[LossRequest, Shape, dict[str, tuple[float, ...]]]:
    """Make the request of a stream, whose number of rows is not known yet.

    Args:
        loss: The loss.
        columns: The tensors that arrive row by row.
        sent_params: The parameters of the query.

    Returns:
        The request, each of whose tensors stands for one row; the shape of a row of the inputs; and the
        lists of numbers among the parameters, by name.

    Raises:
        RequestError: As `assemble`.
    """
    params = _check_parameters(loss, sent_params)
    check_streamed(loss, params)
    check_columns(loss, [column.name for column in columns])
    rows = _row_tensors(loss, columns, params["targets_format"])
    tensors = {name: replace(row, shape=(ROWS, *row.shape)) for name, row in rows.items()}
    shape = _check(loss, tensors, params)
    own, options = _repeated(loss, params, rows)
    lists = _take_lists(loss, params, shape)
    notes = one_class_notes(loss, params, shape)
    if "report" in params:
        notes += report_notes(loss, tensors, params, shape)
    size = row_size(loss, params, shape)
    return LossRequest(loss.name, rows, params, own, options, notes, shape, size), shape[1:], lists


def _row_tensors(loss: Loss, columns: Sequence[Column], targets_format: object) -> dict[str, Tensor]:
    """Return a tensor of one row for each column; beside lists, a plain number is a list of one.

    Unless it is one for each row of the inputs: an id, or the weight of a row that has one loss.
    """
    wide = any(column.width is not None for column in columns)
    by_row = {"groups", "ids"}
    if targets_format != "dense":
        by_row.add("targets")
    if loss.row:
        by_row |= {"weight", "mask"}
    rows = {}
    for column in columns:
        shape: Shape = () if column.width is None else (column.width,)
        name = column.name
        if wide and not shape and not (name in by_row or name.startswith(GROUP_PREFIX)):
            shape = (1,)
        rows[name] = Tensor(column.dtype, shape, 0, big_endian=column.big_endian)
    return rows


class _TensorMemory:
    """Gives tensors their offsets in the memory that holds a body.

    Args:
        memory: The memory.
        free: The offset in it from which the body does not need it.
    """

    def __init__(self, memory: BodyMemory, free: int) -> None:
        self._memory = memory
        self._free = -(-free // 8) * 8

    def found(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the body, its offset counted as the memory's is."""
        return replace(tensor, offset=self._memory.offset + tensor.offset)

    def write(self, name: str, array: Array) -> Tensor:
        """Write an array behind the body.

        Raises:
            RequestError: ``invalid_parameter``: the memory is too short.
        """
        offset = self._free
        if offset + array.nbytes > self._memory.nbytes:
            detail = f"{name} has {array.size} numbers, too many for a parameter; send fewer classes"
            raise RequestError(
                ErrorCode.INVALID_PARAMETER, detail, [(f"/{name}", "too long for a parameter")]
            )
        self._free = -(-(offset + array.nbytes) // 8) * 8
        into = np.frombuffer(self._memory.view, dtype=array.dtype, count=array.size, offset=offset)
        into[:] = array.reshape(-1)
        return Tensor(array.dtype.name, array.shape, self._memory.offset + offset)


def _check_parameters(loss: Loss, sent: Mapping[str, object]) -> dict[str, object]:
    """Return all parameters, checked by themselves and together."""
    params = check_params(loss, sent)
    check_targets(params)
    if not REPORT_BY_NAME.keys().isdisjoint(params):
        check_report(loss, params)
    return params


def _check(loss: Loss, tensors: Mapping[str, Tensor], params: dict[str, object]) -> Shape:
    """Check the tensors' names, dtypes and shapes; return the inputs' shape.

    Args:
        loss: The loss.
        tensors: The tensors by name; those of a stream begin with `ROWS`.
        params: Checked parameters. A targets_format that follows from the shapes is filled in.
    """
    inputs = check_names(loss, tensors)
    for name, tensor in tensors.items():
        if len(tensor.shape) > MAX_DIMENSIONS:
            detail = f"{name} has {len(tensor.shape)} dimensions; at most {MAX_DIMENSIONS} are allowed"
            raise RequestError(ErrorCode.BAD_SHAPE, detail, [(f"/{name}", detail)])
    shape, targets = tensors[inputs].shape, tensors["targets"]
    check_rows(loss, params, inputs, shape)
    if params["targets_format"] is None:
        params["targets_format"] = "index" if len(targets.shape) == len(shape) - 1 else "dense"
    by_index = params["targets_format"] == "index"
    _check_dtypes(tensors, by_index=by_index)
    axis = class_axis(params, shape)
    _check_targets(loss, params, targets.shape, inputs, shape)
    _check_exact(targets.dtype, params, shape[axis])
    check_dense_ids(loss, params)
    losses = losses_shape(loss, params, shape)
    for name in ("weight", "mask", "pos_weight"):
        if name in tensors:
            tensor_shape = tensors[name].shape
            if name == "pos_weight" and len(tensor_shape) < 2:
                _check_classes(name, tensor_shape, shape, axis)
            else:
                _check_broadcast(loss, params, name, tensor_shape, losses)
    if "class_weight" in tensors:
        _check_classes("class_weight", tensors["class_weight"].shape, shape, axis, one_for_all=False)
    for name in LISTS:
        if params.get(name) is not None and name in tensors:
            detail = f"{name} is given both as a tensor and as a parameter; leave one out"
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(f"/{name}", "given twice")])
    if "report" in params or not tensors.keys() <= _OF_LOSSES:
        check_report_tensors(loss, tensors, params, inputs)
    return shape


def _take_lists(loss: Loss, params: dict[str, object], shape: Shape) -> dict[str, tuple[float, ...]]:
    """Check the lists of numbers among the parameters, and take them out: they become tensors."""
    axis = class_axis(params, shape)
    lists: dict[str, tuple[float, ...]] = {}
    for name in LISTS:
        numbers = params.get(name)
        if not isinstance(numbers, tuple):
            continue
        if shape[axis] == ROWS and len(numbers) > 1:
            detail = (
                f"{name} has one number a row, but a stream's number of rows is not known beforehand; send "
                ".npy files"
            )
            raise RequestError(
                ErrorCode.INVALID_PARAMETER, detail, [(f"/{name}", "along the rows of a stream")]
            )
        _check_classes(name, (len(numbers),), shape, axis, one_for_all=not loss.row)
        lists[name] = numbers
        params[name] = None
    return lists


def _repeated(
    loss: Loss, params: Mapping[str, object], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, object], dict[str, object]]:
    """Return the loss's own parameters, and the others, as the answer repeats them.

    Of one that is a tensor it has the dtype and the shape.
    """
    own, options = own_params(loss, params), options_of(loss, params)
    for name, shown in (("pos_weight", options), ("class_weight", own)):
        if name in tensors:
            shown[name] = {"dtype": tensors[name].dtype, "shape": list(tensors[name].shape)}
    return own, options


def _check_exact(dtype: str, params: Mapping[str, object], classes: int) -> None:
    """Check that the targets' dtype can hold the numbers that they are compared with."""
    for name in ("ignore_index", "background_index"):
        value = params[name]
        if not isinstance(value, float | int) or dtype not in FLOATS:
            continue
        [closest] = nearest(np.array([float(value)]), dtype).tolist()
        if closest != value:
            detail = (
                f"{name} is {value!r}, which no {dtype} target can be equal to (the nearest is {closest!r}); "
                "send targets as float64, or the number that they hold"
            )
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(f"/{name}", f"no {dtype}")])
    most = _EXACT_INTEGERS.get(dtype)
    if params["targets_format"] == "index" and most is not None and classes - 1 > most:
        detail = (
            f"targets are {dtype}, which holds whole numbers to {most} exactly, and there are {classes} "
            "classes: some ids may have been rounded to others; send integers, made before the cast"
        )
        raise RequestError(
            ErrorCode.DTYPE_NOT_ALLOWED, detail, [("/targets", f"{dtype} for {classes} classes")]
        )


def _check_dtypes(tensors: Mapping[str, Tensor], *, by_index: bool) -> None:
    for name, tensor in tensors.items():
        if name == "targets" and by_index:
            allowed = INTEGERS | FLOATS
        else:
            allowed = TENSOR_DTYPES["groups" if name.startswith(GROUP_PREFIX) else name]
        if tensor.dtype not in allowed:
            shown = ", ".join(dtype for dtype in ITEMSIZE if dtype in allowed)
            remedy = f"send {shown}"
            if name == "targets" and tensor.dtype == "bool":  # only ids may not be
                remedy = "class ids are integers: cast them, as .astype(int) does"
            detail = f"{name} is {tensor.dtype}; {remedy}"
            raise RequestError(
                ErrorCode.DTYPE_NOT_ALLOWED, detail, [(f"/{name}", f"{tensor.dtype} is not allowed")]
            )


def _check_targets(
    loss: Loss, params: Mapping[str, object], targets: Shape, inputs: str, shape: Shape
) -> None:
    index_axis = class_axis(params, shape) if params["targets_format"] == "index" else None
    expected = shape if index_axis is None else _without(shape, index_axis)
    if targets == expected:
        return
    others = [
        axis for axis in range(1, len(shape)) if axis != index_axis and _without(shape, axis) == targets
    ]
    if index_axis is None:
        remedy = "they must be equal" + _as_ids(loss, targets, shape, params)
        if loss.row == "classes":
            remedy = "send class ids in the inputs' shape less class_axis, or a probability of every class"
    elif ROWS in shape:
        remedy = "send a plain column of ids beside a list column of inputs, with class_axis=1"
    else:
        remedy = f"class ids must be {shown_shape(expected)}"
        if others:
            remedy += f"; if the classes lie along axis {others[0]}, class_axis={others[0]} says so"
    detail = f"targets has shape {shown_shape(targets)}, {inputs} {shown_shape(shape)}; {remedy}"
    raise shape_mismatch("targets", targets, detail)


def _as_ids(loss: Loss, targets: Shape, shape: Shape, params: Mapping[str, object]) -> str:
    """Return the remedy for dense targets that have the shape of class ids; else ``""``."""
    own = class_axis(params, shape)
    fits = [axis for axis in range(1, len(shape)) if shape[axis] > 1 and _without(shape, axis) == targets]
    if not fits or ROWS in shape or not any(one.name == "targets_format" for one in loss.all_parameters):
        return ""
    named = "" if own in fits else f" with class_axis={fits[0]}"
    return f"; if these are class ids, targets_format=index{named} says so"


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _check_broadcast(
    loss: Loss, params: Mapping[str, object], name: str, tensor_shape: Shape, losses: Shape
) -> None:
    """Check that a tensor broadcasts to the losses' shape."""
    aligned = losses[len(losses) - len(tensor_shape) :]
    if len(tensor_shape) <= len(losses) and all(
        n in (1, m) for n, m in zip(tensor_shape, aligned, strict=True)
    ):
        return
    of, remedy = "inputs'", "reshape it by numpy's rules"
    if loss.row:
        of, remedy = "losses'", f"send one for each {row_name(loss, params)}, which has one loss"
        if name == "weight" and any(parameter.name == "class_weight" for parameter in loss.parameters):
            remedy += "; class_weight weighs the classes"
        elif name == "mask" and loss.row == "sample":
            remedy += "; to drop elements of it, give their targets another number, such as 255, and send "
            remedy += "ignore_index=255"
    detail = (
        f"{name} has shape {shown_shape(tensor_shape)}, which does not broadcast to the {of} "
        f"{shown_shape(losses)}; {remedy}"
    )
    raise shape_mismatch(name, tensor_shape, detail)


def _check_classes(
    name: str, tensor_shape: Shape, shape: Shape, axis: int, *, one_for_all: bool = True
) -> None:
    """Check that there is a number for each class, or one for all of them if that is allowed."""
    classes = shape[axis]
    if tensor_shape == (classes,) or (one_for_all and tensor_shape in ((), (1,))):
        return
    wanted = "a number, or one" if one_for_all else "one"
    detail = (
        f"{name} has shape {shown_shape(tensor_shape)}; send {wanted} for each of the {classes} "
        f"classes along axis {axis} (class_axis names another)"
    )
    raise shape_mismatch(name, tensor_shape, detail)
