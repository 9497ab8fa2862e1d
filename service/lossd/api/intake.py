"""From what a body held to a request that can be scored: names, dtypes, shapes, places in the arena."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lossd.core.catalog import Loss, check_params, class_axis, own_params, reduced_axes
from lossd.core.grid import Grid
from lossd.engine.arena import Region
from lossd.request import INTEGERS, ITEMSIZE, MAX_DIMENSIONS, TENSOR_DTYPES, Body, Fault, LossRequest, Tensor

Shape: TypeAlias = tuple[int, ...]
Array: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.bool_] | npt.NDArray[np.int64]


def assemble(
    loss: Loss,
    body: Body,
    body_bytes: int,
    region: Region,
    given: Mapping[str, object],
    block_elements: int,
) -> tuple[LossRequest, Grid]:
    """Make the request, laying arrays that a reader built behind the body.

    Args:
        loss: The loss asked for.
        body: What its reader found.
        body_bytes: The body's length; what lies behind it in the region is free.
        region: The memory that holds it.
        given: The parameters given, those of the body and of the query together.
        block_elements: How many elements a block has at most.

    Raises:
        Fault: Something is missing, unknown, or does not go together.
    """
    params = check_params(loss, given)
    by_index = params["targets_format"] == "index"
    place = _Placer(region, body_bytes)
    tensors = {name: place.found(tensor) for name, tensor in body.tensors.items()}
    for name, array in body.arrays.items():
        tensors[name] = place.built(name, _as_sent(name, array, by_index=by_index))
    shape = _check(tensors, params)
    own = own_params(loss, params)
    if params["pos_weight"] is not None and "pos_weight" in tensors:
        detail = "pos_weight is given both as a tensor and as a parameter; leave one out"
        raise Fault("invalid_parameter", detail, [("/pos_weight", "given twice")])
    for name in ("pos_weight", "alpha"):
        numbers = params.get(name)
        if isinstance(numbers, tuple):
            _check_classes(name, (len(numbers),), shape, class_axis(params, shape))
            tensors[name] = place.built(name, np.array(numbers, dtype=np.float64))
            params[name] = None  # it lies in the arena now
    grid = Grid(shape, reduced_axes(params, shape), block_elements)
    return LossRequest(loss=loss.name, tensors=tensors, params=params, own=own), grid


class _Placer:
    """Gives tensors their places in the arena."""

    def __init__(self, region: Region, body_bytes: int) -> None:
        self._region = region
        self._free = -(-body_bytes // 8) * 8

    def found(self, tensor: Tensor) -> Tensor:
        """A tensor that lies in the body."""
        return replace(tensor, offset=self._region.offset + tensor.offset)

    def built(self, name: str, array: Array) -> Tensor:
        """A tensor that is laid behind the body."""
        offset = self._free
        if offset + array.nbytes > self._region.nbytes:
            detail = f"{name} has {array.size} numbers, too many for a parameter; send fewer classes"
            raise Fault("invalid_parameter", detail, [(f"/{name}", "too long for a parameter")])
        self._free = -(-(offset + array.nbytes) // 8) * 8
        into = np.frombuffer(self._region.view, dtype=array.dtype, count=array.size, offset=offset)
        into[:] = array.reshape(-1)
        return Tensor(array.dtype.name, array.shape, self._region.offset + offset)


def _as_sent(name: str, array: npt.NDArray[np.float64] | npt.NDArray[np.bool_], *, by_index: bool) -> Array:
    """An array of JSON numbers in the dtype that its use wants; JSON itself has but one kind of number."""
    if name == "mask":
        return array.astype(np.bool_)
    if name == "targets" and by_index and array.dtype == np.float64:
        whole = np.abs(array) < 2.0**53
        whole &= array == np.floor(array)
        if whole.all():
            return array.astype(np.int64)
        first = np.unravel_index(int(np.flatnonzero(~whole.reshape(-1))[0]), array.shape)
        pointer = "".join(f"/{part}" for part in ("targets", *map(int, first)))
        value = float(array[first])
        detail = f"{pointer} is {value!r}, which is no class id; send integers, or targets_format=dense"
        raise Fault("dtype_not_allowed", detail, [(pointer, "not an integer")])
    return array


def _check(tensors: Mapping[str, Tensor], params: Mapping[str, object]) -> Shape:
    """Check names, dtypes and shapes; the inputs' shape."""
    inputs = _check_names(tensors)
    by_index = params["targets_format"] == "index"
    for name, tensor in tensors.items():
        allowed = INTEGERS if name == "targets" and by_index else TENSOR_DTYPES[name]
        if tensor.dtype not in allowed:
            shown = ", ".join(dtype for dtype in ITEMSIZE if dtype in allowed)
            detail = f"{name} is {tensor.dtype}; send {shown}"
            raise Fault("dtype_not_allowed", detail, [(f"/{name}", f"{tensor.dtype} is not allowed")])
        if len(tensor.shape) > MAX_DIMENSIONS:
            detail = f"{name} has {len(tensor.shape)} dimensions; at most {MAX_DIMENSIONS} are allowed"
            raise Fault("bad_shape", detail, [(f"/{name}", detail)])
    shape = tensors[inputs].shape
    if not shape:
        detail = f"{inputs} has no dimensions; send an array of 1 to 8, such as [x] for one number"
        raise Fault("bad_shape", detail, [(f"/{inputs}", detail)])
    axis = class_axis(params, shape)
    _check_targets(tensors["targets"].shape, inputs, shape, axis if by_index else None)
    for name in ("weight", "mask"):
        if name in tensors:
            _check_broadcast(name, tensors[name].shape, shape)
    if "pos_weight" in tensors:
        _check_classes("pos_weight", tensors["pos_weight"].shape, shape, axis)
    return shape


def _check_names(tensors: Mapping[str, Tensor]) -> str:
    """Check that each tensor is known, and none is missing; which of the two inputs there is."""
    for name in tensors:
        if name not in TENSOR_DTYPES:
            detail = f"there is no tensor {name!r}; there are {', '.join(TENSOR_DTYPES)}"
            raise Fault("unknown_tensor", detail, [(f"/{name}", "unknown tensor")])
    inputs = [name for name in ("logits", "probabilities") if name in tensors]
    if len(inputs) == 2:
        detail = "both logits and probabilities are given; send the one that is meant"
        raise Fault("invalid_parameter", detail, [("/probabilities", "given beside logits")])
    for name, there in (("logits", bool(inputs)), ("targets", "targets" in tensors)):
        if not there:
            also = " (or probabilities)" if name == "logits" else ""
            detail = f"send {name}{also}; got {', '.join(tensors) or 'none'}"
            raise Fault("missing_tensor", detail, [(f"/{name}", "missing")])
    return inputs[0]


def _check_targets(targets: Shape, inputs: str, shape: Shape, index_axis: int | None) -> None:
    expected = shape if index_axis is None else shape[:index_axis] + shape[index_axis + 1 :]
    if targets == expected:
        return
    what = "they must be equal" if index_axis is None else f"class ids must be {list(expected)}"
    detail = f"targets has shape {list(targets)}, {inputs} {list(shape)}; {what}"
    raise Fault("shape_mismatch", detail, [("/targets", f"shape {list(targets)}")])


def _check_broadcast(name: str, given: Shape, shape: Shape) -> None:
    aligned = shape[len(shape) - len(given) :]
    if len(given) > len(shape) or any(n not in (1, m) for n, m in zip(given, aligned, strict=True)):
        detail = (
            f"{name} has shape {list(given)}, which does not broadcast to the inputs' {list(shape)}; "
            "reshape it by numpy's rules"
        )
        raise Fault("shape_mismatch", detail, [(f"/{name}", f"shape {list(given)}")])


def _check_classes(name: str, given: Shape, shape: Shape, axis: int) -> None:
    classes = shape[axis]
    if given in ((classes,), (), (1,)):
        return
    detail = (
        f"{name} has shape {list(given)}; send a number, or one for each of the {classes} classes along axis "
        f"{axis} (class_axis names another)"
    )
    raise Fault("shape_mismatch", detail, [(f"/{name}", f"shape {list(given)}")])
