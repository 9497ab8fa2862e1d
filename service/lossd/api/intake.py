"""From what a body held to a request that can be scored: names, dtypes, shapes, places in the arena."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lossd.core.catalog import Loss, check_params, reduced_axes
from lossd.core.grid import Grid
from lossd.engine.arena import Region
from lossd.request import ITEMSIZE, MAX_DIMENSIONS, TENSOR_DTYPES, Body, Fault, LossRequest, Tensor


def assemble(
    loss: Loss, body: Body, body_bytes: int, region: Region, params: Mapping[str, object]
) -> tuple[LossRequest, Grid]:
    """Make the request, laying arrays that a reader built behind the body.

    Args:
        loss: The loss asked for.
        body: What its reader found.
        body_bytes: The body's length; what lies behind it in the region is free.
        region: The memory that holds it.
        params: The parameters given, those of the body and of the query together.

    Raises:
        Fault: Something is missing, unknown, or does not go together.
    """
    checked = check_params(loss, params)
    place = _Placer(region, body_bytes)
    tensors = {name: place.found(tensor) for name, tensor in body.tensors.items()}
    tensors |= {name: place.built(array) for name, array in body.arrays.items()}
    if checked["pos_weight"] is not None:
        if "pos_weight" in tensors:
            detail = "pos_weight is given both as a tensor and as a parameter; leave one out"
            raise Fault("invalid_parameter", detail, [("/pos_weight", "given twice")])
        tensors["pos_weight"] = place.built(np.array(checked["pos_weight"], dtype=np.float64))
        checked["pos_weight"] = None  # it lies in the arena now
    shape = _check(tensors)
    grid = Grid(shape, reduced_axes(checked, shape))
    return LossRequest(loss=loss.name, tensors=tensors, params=checked), grid


class _Placer:
    """Gives tensors their places in the arena."""

    def __init__(self, region: Region, body_bytes: int) -> None:
        self._region = region
        self._free = -(-body_bytes // 8) * 8

    def found(self, tensor: Tensor) -> Tensor:
        """A tensor that lies in the body."""
        return Tensor(
            tensor.dtype,
            tensor.shape,
            self._region.offset + tensor.offset,
            fortran=tensor.fortran,
            big_endian=tensor.big_endian,
        )

    def built(self, array: np.ndarray[tuple[int, ...], np.dtype[np.float64 | np.bool_]]) -> Tensor:
        """A tensor that is laid behind the body."""
        offset = self._free
        if offset + array.nbytes > self._region.nbytes:
            detail = f"pos_weight has {array.size} numbers; send a list as long as that as a tensor"
            raise Fault("invalid_parameter", detail, [("/pos_weight", "too long for a parameter")])
        self._free = -(-(offset + array.nbytes) // 8) * 8
        np.frombuffer(self._region.view, dtype=array.dtype, count=array.size, offset=offset)[:] = (
            array.ravel()
        )
        return Tensor(array.dtype.name, array.shape, self._region.offset + offset)


def _check(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Check names, dtypes and shapes; the inputs' shape."""
    for name in ("logits", "targets"):
        if name not in tensors:
            raise Fault(
                "missing_tensor",
                f"send {name}; got {', '.join(tensors) or 'none'}",
                [(f"/{name}", "missing")],
            )
    for name, tensor in tensors.items():
        if name not in TENSOR_DTYPES:
            detail = f"there is no tensor {name!r}; there are {', '.join(TENSOR_DTYPES)}"
            raise Fault("unknown_tensor", detail, [(f"/{name}", "unknown tensor")])
        if tensor.dtype not in TENSOR_DTYPES[name]:
            allowed = ", ".join(dtype for dtype in ITEMSIZE if dtype in TENSOR_DTYPES[name])
            detail = f"{name} is {tensor.dtype}; send {allowed}"
            raise Fault("dtype_not_allowed", detail, [(f"/{name}", f"{tensor.dtype} is not allowed")])
        if len(tensor.shape) > MAX_DIMENSIONS:
            raise _bad_shape(
                name, f"{name} has {len(tensor.shape)} dimensions; at most {MAX_DIMENSIONS} are allowed"
            )
    shape = tensors["logits"].shape
    if not shape:
        raise _bad_shape(
            "logits", "logits has no dimensions; send an array of 1 to 8, such as [x] for one number"
        )
    if tensors["targets"].shape != shape:
        theirs = list(tensors["targets"].shape)
        detail = f"targets has shape {theirs}, logits {list(shape)}; they must be equal"
        raise Fault("shape_mismatch", detail, [("/targets", f"shape {theirs}")])
    if "weight" in tensors:
        _check_broadcast(tensors["weight"].shape, shape)
    if "pos_weight" in tensors:
        _check_classes(tensors["pos_weight"].shape, shape)
    return shape


def _check_broadcast(weight: tuple[int, ...], shape: tuple[int, ...]) -> None:
    aligned = shape[len(shape) - len(weight) :]
    if len(weight) > len(shape) or any(n not in (1, m) for n, m in zip(weight, aligned, strict=True)):
        detail = f"weight has shape {list(weight)}, which does not broadcast to the inputs' {list(shape)}"
        raise Fault("shape_mismatch", detail, [("/weight", f"shape {list(weight)}")])


def _check_classes(pos_weight: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if pos_weight in ((), (1,), (shape[-1],)):
        return
    detail = (
        f"pos_weight has shape {list(pos_weight)}; send a number, or one for each of the {shape[-1]} classes "
        "along the last axis"
    )
    raise Fault("shape_mismatch", detail, [("/pos_weight", f"shape {list(pos_weight)}")])


def _bad_shape(name: str, detail: str) -> Fault:
    return Fault("bad_shape", detail, [(f"/{name}", detail)])
