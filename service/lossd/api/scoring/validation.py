"""From what a body held to a request that can be scored: names, dtypes, shapes, places in the arena."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lossd.core.catalog import Loss
from lossd.core.cut import Cut
from lossd.core.parameters import (
    check_params,
    check_targets,
    class_axis,
    options_of,
    own_params,
    reduced_axes,
)
from lossd.engine.dispatch.array_outputs import cut_for
from lossd.types import (
    FLOATS,
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

_WHOLE_TO: Final = {"float16": 2048, "bfloat16": 256}
"""Beyond it a float of 16 bits has no room for every whole number."""

Shape: TypeAlias = tuple[int, ...]
Array: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.bool_]


class Place(Protocol):
    """Memory that holds a body, such as a region of the arena."""

    @property
    def offset(self) -> int:
        """Where it begins, as tensors' offsets are counted."""

    @property
    def nbytes(self) -> int:
        """How long it is."""

    @property
    def view(self) -> memoryview:
        """Its bytes."""


def assemble(
    loss: Loss,
    body: Body,
    free: int,
    region: Place,
    given: Mapping[str, object],
    elements: int,
) -> tuple[LossRequest, Cut]:
    """Make the request, laying arrays that a reader built behind the body.

    Args:
        loss: The loss asked for.
        body: What its reader found.
        free: Where in the region memory begins that the body does not need.
        region: The memory that holds the body.
        given: The parameters given, those of the body and of the query together.
        elements: How many elements a slice has at most.

    Raises:
        RequestError: Something is missing, unknown, or does not go together.
    """
    params = check_params(loss, given)
    check_targets(params)
    place = _Placer(region, free)
    tensors = {name: place.found(tensor) for name, tensor in body.tensors.items()}
    for name, array in body.arrays.items():
        # JSON has one kind of number, of which a mask's are 0 and 1 here.
        tensors[name] = place.built(name, array.astype(np.bool_) if name == "mask" else array)
    shape = _check(tensors, params)
    _refuse_two(params, tensors)
    own, options = own_params(loss, params), _options(params, tensors)
    for name in ("pos_weight", "alpha"):
        numbers = params.get(name)
        if isinstance(numbers, tuple):
            _check_classes(name, (len(numbers),), shape, class_axis(params, shape))
            tensors[name] = place.built(name, np.array(numbers, dtype=np.float64))
            params[name] = None  # it lies in the arena now
    cut = cut_for(shape, reduced_axes(params, shape), elements)
    notes = (*body.notes, *_notes(tensors, shape, class_axis(params, shape)))
    if params["targets_format"] == "index" and "class_axis" not in given:
        notes += _class_axis_notes(shape, class_axis(params, shape))
    return LossRequest(loss.name, tensors, params, own, options, notes), cut


def assemble_rows(
    loss: Loss, columns: Sequence[Column], given: Mapping[str, object]
) -> tuple[LossRequest, Shape, dict[str, tuple[float, ...]]]:
    """Make the request of a stream, whose number of rows is not known yet.

    Args:
        loss: The loss asked for.
        columns: The tensors that come in rows.
        given: The parameters given.

    Returns:
        The request, each of whose tensors is but one row, with the row's shape; the shape of the inputs'
        rows; and the lists of numbers among the parameters, by name.

    Raises:
        RequestError: Something is missing, unknown, or does not go together.
    """
    params = check_params(loss, given)
    check_targets(params)
    by_index = params["targets_format"] == "index"
    wide = any(column.width is not None for column in columns)
    tensors: dict[str, Tensor] = {}
    for column in columns:
        shape: Shape = () if column.width is None else (column.width,)
        if wide and not shape and not (by_index and column.name == "targets"):
            shape = (1,)  # a plain column beside lists
        tensors[column.name] = Tensor(column.dtype, shape, 0, big_endian=column.big_endian)
    inputs = _check_names(tensors)
    _check_dtypes(tensors, by_index=by_index)
    inner = tensors[inputs].shape
    axis = class_axis(params, (0, *inner))
    _check_rows(tensors, inputs, axis if by_index else None)
    _check_exact(tensors["targets"].dtype, params, (0, *inner)[axis])
    _refuse_two(params, tensors)
    own, options = own_params(loss, params), _options(params, tensors)
    lists: dict[str, tuple[float, ...]] = {}
    for name in ("pos_weight", "alpha"):
        numbers = params.get(name)
        if isinstance(numbers, tuple):
            if axis == 0 and len(numbers) > 1:
                detail = (
                    f"{name} has a number for each row, and a stream does not say beforehand how many it "
                    "has; send .npy files, which do"
                )
                raise RequestError(
                    ErrorCode.INVALID_PARAMETER, detail, [(f"/{name}", "along the rows of a stream")]
                )
            _check_classes(name, (len(numbers),), (1, *inner), axis)
            lists[name] = numbers
            params[name] = None
    return LossRequest(loss.name, tensors, params, own, options), inner, lists


class _Placer:
    """Gives tensors their places in the arena."""

    def __init__(self, region: Place, free: int) -> None:
        self._region = region
        self._free = -(-free // 8) * 8

    def found(self, tensor: Tensor) -> Tensor:
        """A tensor that lies in the body."""
        return replace(tensor, offset=self._region.offset + tensor.offset)

    def built(self, name: str, array: Array) -> Tensor:
        """A tensor that is laid behind the body."""
        offset = self._free
        if offset + array.nbytes > self._region.nbytes:
            detail = f"{name} has {array.size} numbers, too many for a parameter; send fewer classes"
            raise RequestError(
                ErrorCode.INVALID_PARAMETER, detail, [(f"/{name}", "too long for a parameter")]
            )
        self._free = -(-(offset + array.nbytes) // 8) * 8
        into = np.frombuffer(self._region.view, dtype=array.dtype, count=array.size, offset=offset)
        into[:] = array.reshape(-1)
        return Tensor(array.dtype.name, array.shape, self._region.offset + offset)


def _check(tensors: Mapping[str, Tensor], params: Mapping[str, object]) -> Shape:
    """Check names, dtypes and shapes; the inputs' shape."""
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
    for name in ("weight", "mask"):
        if name in tensors:
            _check_broadcast(name, tensors[name].shape, shape)
    if "pos_weight" in tensors:
        given = tensors["pos_weight"].shape
        if len(given) > 1:
            _check_broadcast("pos_weight", given, shape)
        else:
            _check_classes("pos_weight", given, shape, axis)
    return shape


def _options(params: Mapping[str, object], tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """The parameters that every loss has, as the answer repeats them; of a tensor its dtype and shape."""
    options = options_of(params)
    weights = tensors.get("pos_weight")
    if weights is not None:
        options["pos_weight"] = {"dtype": weights.dtype, "shape": list(weights.shape)}
    return options


def _notes(tensors: Mapping[str, Tensor], shape: Shape, axis: int) -> list[str]:
    """What to say of tensors whose shapes could mean two things.

    Args:
        tensors: By name.
        shape: The inputs' shape.
        axis: The class axis.
    """
    notes = []
    for name, other in (("weight", 0), ("mask", 0), ("pos_weight", axis)):
        given = tensors[name].shape if name in tensors else ()
        found = [len(shape) - len(given) + place for place, n in enumerate(given) if n != 1]
        if name == "pos_weight" and len(given) < 2:
            continue  # along the class axis, which is what class_axis says
        if len(found) == 1 and found != [other] and shape[found[0]] == shape[other]:
            as_other = [n if place == other else 1 for place, n in enumerate(shape)]
            notes.append(
                f"{name} of shape {list(given)} goes along axis {found[0]} of the inputs, {list(shape)}, by "
                f"numpy's rules; if axis {other} is meant, send it in the shape {as_other}"
            )
    return notes


def _class_axis_notes(shape: Shape, axis: int) -> tuple[str, ...]:
    """What to say of class ids that could open out along another axis, if none is named.

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


def _check_exact(dtype: str, params: Mapping[str, object], classes: int) -> None:
    """Check that targets can be equal to what they are compared with.

    Args:
        dtype: Theirs.
        params: Checked parameters.
        classes: How many classes there are.
    """
    for name in ("ignore_index", "background_index"):
        value = params[name]
        if not isinstance(value, float | int) or dtype not in FLOATS:
            continue
        [closest] = nearest(np.array([float(value)]), dtype).tolist()
        if closest != value:
            detail = (
                f"{name} is {value!r}, and targets are {dtype}, of which no number is equal to it "
                f"(the nearest is {closest!r}); send targets as float64, or the number that stands in them"
            )
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(f"/{name}", f"no {dtype}")])
    most = _WHOLE_TO.get(dtype)
    if params["targets_format"] == "index" and most is not None and classes - 1 > most:
        detail = (
            f"targets are {dtype}, which holds whole numbers to {most} exactly, and there are {classes} "
            "classes: some ids may have been rounded to others; send integers, made before the cast"
        )
        raise RequestError(
            ErrorCode.DTYPE_NOT_ALLOWED, detail, [("/targets", f"{dtype} for {classes} classes")]
        )


def _check_names(tensors: Mapping[str, Tensor]) -> str:
    """Check that each tensor is known, and none is missing; which of the two inputs there is."""
    for name in tensors:
        if name not in TENSOR_DTYPES:
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
        allowed = INTEGERS | FLOATS if name == "targets" and by_index else TENSOR_DTYPES[name]
        if tensor.dtype not in allowed:
            shown = ", ".join(dtype for dtype in ITEMSIZE if dtype in allowed)
            detail = f"{name} is {tensor.dtype}; send {shown}"
            raise RequestError(
                ErrorCode.DTYPE_NOT_ALLOWED, detail, [(f"/{name}", f"{tensor.dtype} is not allowed")]
            )


def _refuse_two(params: Mapping[str, object], tensors: Mapping[str, Tensor]) -> None:
    if params["pos_weight"] is not None and "pos_weight" in tensors:
        detail = "pos_weight is given both as a tensor and as a parameter; leave one out"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/pos_weight", "given twice")])


def _check_rows(tensors: Mapping[str, Tensor], inputs: str, index_axis: int | None) -> None:
    """Check that the rows of a stream's tensors go together.

    Args:
        tensors: A row of each.
        inputs: Which of them are the inputs.
        index_axis: Where targets that are class ids open out.
    """
    inner = tensors[inputs].shape
    allowed: dict[str, set[Shape]] = {
        "targets": {inner},
        "weight": {inner, (1,) * len(inner)},
        "mask": {inner, (1,) * len(inner)},
        "pos_weight": {inner, (1,) * len(inner)},
    }
    if index_axis is not None:
        allowed["targets"] = {()} if index_axis == 1 else set()
    for name, tensor in tensors.items():
        if name == inputs or tensor.shape in allowed[name]:
            continue
        remedy = "make each row as wide as those of the inputs"
        if name == "pos_weight":
            remedy = "give one of each class as a parameter"
        elif name == "targets" and index_axis is not None:
            remedy = "send a plain column of ids beside a list column of inputs, with class_axis=1"
        detail = (
            f"{name} has rows of shape {list(tensor.shape)}, {inputs} of {list(inner)}, which do not go "
            f"together; {remedy}"
        )
        raise RequestError(
            ErrorCode.SHAPE_MISMATCH, detail, [(f"/{name}", f"rows of shape {list(tensor.shape)}")]
        )


def _check_targets(targets: Shape, inputs: str, shape: Shape, index_axis: int | None) -> None:
    expected = shape if index_axis is None else shape[:index_axis] + shape[index_axis + 1 :]
    if targets == expected:
        return
    what = "they must be equal" if index_axis is None else f"class ids must be {list(expected)}"
    detail = f"targets has shape {list(targets)}, {inputs} {list(shape)}; {what}"
    raise RequestError(ErrorCode.SHAPE_MISMATCH, detail, [("/targets", f"shape {list(targets)}")])


def _check_broadcast(name: str, given: Shape, shape: Shape) -> None:
    aligned = shape[len(shape) - len(given) :]
    if len(given) > len(shape) or any(n not in (1, m) for n, m in zip(given, aligned, strict=True)):
        detail = (
            f"{name} has shape {list(given)}, which does not broadcast to the inputs' {list(shape)}; "
            "reshape it by numpy's rules"
        )
        raise RequestError(ErrorCode.SHAPE_MISMATCH, detail, [(f"/{name}", f"shape {list(given)}")])


def _check_classes(name: str, given: Shape, shape: Shape, axis: int) -> None:
    classes = shape[axis]
    if given in ((classes,), (), (1,)):
        return
    detail = (
        f"{name} has shape {list(given)}; send a number, or one for each of the {classes} classes along axis "
        f"{axis} (class_axis names another)"
    )
    raise RequestError(ErrorCode.SHAPE_MISMATCH, detail, [(f"/{name}", f"shape {list(given)}")])
