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
    check_params,
    check_targets,
    class_axis,
    options_of,
    own_params,
    reduced_axes,
)
from lossd.core.prepare import report_of
from lossd.core.report.parameters import REPORT_BY_NAME, check_report
from lossd.engine.dispatch.array_outputs import cut_for
from lossd.engine.dispatch.report_outputs import report_cut
from lossd.requests.report_checks import SECTION_OF, check_report_tensors
from lossd.requests.shapes import ROWS, Shape, shape_mismatch, shown_shape
from lossd.types import (
    FLOATS,
    GROUP_PREFIX,
    INTEGERS,
    ITEMSIZE,
    MAX_DIMENSIONS,
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
        slice_elements: The most elements of a slice.

    Returns:
        The request, and how it is cut into slices.

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
    own, options = own_params(loss, params), _options(params, tensors)
    for name, numbers in _take_lists(params, shape).items():
        tensors[name] = placed.write(name, np.array(numbers, dtype=np.float64))
    axes = reduced_axes(params, shape)
    cut = cut_request(loss, params, tensors, shape, axes, slice_elements)
    axis = class_axis(params, shape)
    notes = (*body.notes, *_shape_notes(tensors, shape, axis))
    if params["targets_format"] == "index" and "class_axis" not in sent_params:
        notes += _class_axis_notes(shape, axis)
    notes += _one_class_notes(params, shape, axis)
    return LossRequest(loss.name, tensors, params, own, options, notes), cut


def cut_request(
    loss: Loss,
    params: Mapping[str, object],
    tensors: Mapping[str, Tensor],
    shape: Shape,
    axes: tuple[int, ...],
    slice_elements: int,
) -> Cut:
    """Return how a request is cut into slices.

    Args:
        loss: The loss.
        params: Its checked parameters.
        tensors: Its checked tensors.
        shape: The inputs' shape.
        axes: The axes reduced.
        slice_elements: The most elements of a slice; a report's may have more.
    """
    report = report_of(loss.name, params, shape, tensors) if "report" in params else None
    if report is not None:
        return report_cut(report, shape, axes, slice_elements)
    one_number = len(axes) == len(shape)
    return cut_of(shape, axes, slice_elements) if one_number else cut_for(shape, axes, slice_elements)


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
    rows = _row_tensors(columns, by_index=params["targets_format"] == "index")
    tensors = {name: replace(row, shape=(ROWS, *row.shape)) for name, row in rows.items()}
    shape = _check(loss, tensors, params)
    own, options = own_params(loss, params), _options(params, rows)
    lists = _take_lists(params, shape)
    notes = _one_class_notes(params, shape, class_axis(params, shape))
    return LossRequest(loss.name, rows, params, own, options, notes), shape[1:], lists


def _row_tensors(columns: Sequence[Column], *, by_index: bool) -> dict[str, Tensor]:
    """Return a tensor of one row for each column; beside lists, a plain number is a list of one."""
    wide = any(column.width is not None for column in columns)
    rows = {}
    for column in columns:
        shape: Shape = () if column.width is None else (column.width,)
        if wide and not shape and not _is_by_row(column.name, by_index=by_index):
            shape = (1,)
        rows[column.name] = Tensor(column.dtype, shape, 0, big_endian=column.big_endian)
    return rows


def _is_by_row(name: str, *, by_index: bool) -> bool:
    """Return whether a tensor has one number for each row of the inputs, also where those have more."""
    return name in ("groups", "ids") or name.startswith(GROUP_PREFIX) or (by_index and name == "targets")


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


def _check(loss: Loss, tensors: Mapping[str, Tensor], params: Mapping[str, object]) -> Shape:
    """Check the tensors' names, dtypes and shapes; return the inputs' shape.

    Args:
        loss: The loss.
        tensors: The tensors by name; those of a stream begin with `ROWS`.
        params: Checked parameters.
    """
    inputs = _check_names(tensors)
    by_index = params["targets_format"] == "index"
    _check_dtypes(tensors, by_index=by_index)
    for name, tensor in tensors.items():
        if len(tensor.shape) > MAX_DIMENSIONS:
            detail = f"{name} has {len(tensor.shape)} dimensions; at most {MAX_DIMENSIONS} are allowed"
            raise RequestError(ErrorCode.BAD_SHAPE, detail, [(f"/{name}", detail)])
    shape = tensors[inputs].shape
    if not shape:
        detail = f"{inputs} has no dimensions; send an array of 1 to 8, such as [x] for one number"
        raise RequestError(ErrorCode.BAD_SHAPE, detail, [(f"/{inputs}", detail)])
    axis = class_axis(params, shape)
    _check_targets(tensors["targets"].shape, inputs, shape, axis if by_index else None)
    _check_exact(tensors["targets"].dtype, params, shape[axis])
    for name in ("weight", "mask", "pos_weight"):
        if name in tensors:
            tensor_shape = tensors[name].shape
            if name == "pos_weight" and len(tensor_shape) < 2:
                _check_classes(name, tensor_shape, shape, axis)
            else:
                _check_broadcast(name, tensor_shape, shape)
    if params["pos_weight"] is not None and "pos_weight" in tensors:
        detail = "pos_weight is given both as a tensor and as a parameter; leave one out"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/pos_weight", "given twice")])
    if "report" in params or not tensors.keys() <= _OF_LOSSES:
        check_report_tensors(loss, tensors, params, inputs)
    return shape


def _take_lists(params: dict[str, object], shape: Shape) -> dict[str, tuple[float, ...]]:
    """Check the lists of numbers among the parameters, and take them out: they become tensors."""
    axis = class_axis(params, shape)
    lists: dict[str, tuple[float, ...]] = {}
    for name in ("pos_weight", "alpha"):
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
        _check_classes(name, (len(numbers),), shape, axis)
        lists[name] = numbers
        params[name] = None
    return lists


def _options(params: Mapping[str, object], tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """Return the options that the answer repeats; for a pos_weight tensor, its dtype and shape."""
    options = options_of(params)
    weights = tensors.get("pos_weight")
    if weights is not None:
        options["pos_weight"] = {"dtype": weights.dtype, "shape": list(weights.shape)}
    return options


def _shape_notes(tensors: Mapping[str, Tensor], shape: Shape, axis: int) -> list[str]:
    """Return notes on tensors whose shapes could mean two things."""
    notes = []
    for name, other in (("weight", 0), ("mask", 0), ("pos_weight", axis)):
        tensor_shape = tensors[name].shape if name in tensors else ()
        if name == "pos_weight" and len(tensor_shape) < 2:
            continue  # class_axis says where it lies
        wide = [len(shape) - len(tensor_shape) + place for place, n in enumerate(tensor_shape) if n != 1]
        if len(wide) == 1 and wide != [other] and shape[wide[0]] == shape[other]:
            as_other = [n if place == other else 1 for place, n in enumerate(shape)]
            notes.append(
                f"{name} of shape {list(tensor_shape)} goes along axis {wide[0]} of the inputs, "
                f"{list(shape)}, by numpy's rules; if axis {other} is meant, send it in the shape {as_other}"
            )
    return notes


def _class_axis_notes(shape: Shape, axis: int) -> tuple[str, ...]:
    """Return a note on class ids that could open out along another axis, for requests that name none.

    Args:
        shape: The inputs' shape.
        axis: The class axis, the last one.
    """
    others = [other for other in range(1, axis) if len(set(shape[other:])) == 1]
    if not others or shape[axis] < 2:
        return ()
    return (
        f"class ids were taken along axis {axis} of the inputs, {list(shape)}; if the classes lie along axis "
        f"{others[0]}, class_axis={others[0]} says so",
    )


def _one_class_notes(params: Mapping[str, object], shape: Shape, axis: int) -> tuple[str, ...]:
    """Return a note on ids of one class without a background: they may be labels that are all 0."""
    if params["targets_format"] != "index" or params["background_index"] is not None or shape[axis] != 1:
        return ()
    return (
        "there is one class, whose id is 0, so every target that counts is positive; if these are 0/1 "
        "labels, leave targets_format out and send them in the inputs' shape, targets[:, None]",
    )


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


def _check_names(tensors: Mapping[str, Tensor]) -> str:
    """Check that every tensor is known and none is missing; return ``logits`` or ``probabilities``."""
    for name in tensors:
        if name not in TENSOR_DTYPES and not name.startswith(GROUP_PREFIX):
            detail = f"there is no tensor {name!r}; there are {', '.join(TENSOR_DTYPES)}"
            raise RequestError(ErrorCode.UNKNOWN_TENSOR, detail, [(f"/{name}", "unknown tensor")])
    inputs = [name for name in ("logits", "probabilities") if name in tensors]
    if len(inputs) == 2:
        detail = "both logits and probabilities are given; send the one that is meant"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/probabilities", "given beside logits")])
    for name, there in (("logits", bool(inputs)), ("targets", "targets" in tensors)):
        if not there:
            also = " (or probabilities)" if name == "logits" else ""
            detail = f"send {name}{also}; got {', '.join(tensors) or 'none'}"
            raise RequestError(ErrorCode.MISSING_TENSOR, detail, [(f"/{name}", "missing")])
    return inputs[0]


def _check_dtypes(tensors: Mapping[str, Tensor], *, by_index: bool) -> None:
    for name, tensor in tensors.items():
        if name == "targets" and by_index:
            allowed = INTEGERS | FLOATS
        else:
            allowed = TENSOR_DTYPES["groups" if name.startswith(GROUP_PREFIX) else name]
        if tensor.dtype not in allowed:
            shown = ", ".join(dtype for dtype in ITEMSIZE if dtype in allowed)
            detail = f"{name} is {tensor.dtype}; send {shown}"
            raise RequestError(
                ErrorCode.DTYPE_NOT_ALLOWED, detail, [(f"/{name}", f"{tensor.dtype} is not allowed")]
            )


def _check_targets(targets: Shape, inputs: str, shape: Shape, index_axis: int | None) -> None:
    expected = shape if index_axis is None else shape[:index_axis] + shape[index_axis + 1 :]
    if targets == expected:
        return
    if index_axis is None:
        remedy = "they must be equal"
    elif ROWS in shape:
        remedy = "send a plain column of ids beside a list column of inputs, with class_axis=1"
    else:
        remedy = f"class ids must be {shown_shape(expected)}"
    detail = f"targets has shape {shown_shape(targets)}, {inputs} {shown_shape(shape)}; {remedy}"
    raise shape_mismatch("targets", targets, detail)


def _check_broadcast(name: str, tensor_shape: Shape, shape: Shape) -> None:
    aligned = shape[len(shape) - len(tensor_shape) :]
    if len(tensor_shape) > len(shape) or any(
        n not in (1, m) for n, m in zip(tensor_shape, aligned, strict=True)
    ):
        detail = (
            f"{name} has shape {shown_shape(tensor_shape)}, which does not broadcast to the inputs' "
            f"{shown_shape(shape)}; reshape it by numpy's rules"
        )
        raise shape_mismatch(name, tensor_shape, detail)


def _check_classes(name: str, tensor_shape: Shape, shape: Shape, axis: int) -> None:
    classes = shape[axis]
    if tensor_shape in ((classes,), (), (1,)):
        return
    detail = (
        f"{name} has shape {shown_shape(tensor_shape)}; send a number, or one for each of the {classes} "
        f"classes along axis {axis} (class_axis names another)"
    )
    raise shape_mismatch(name, tensor_shape, detail)
