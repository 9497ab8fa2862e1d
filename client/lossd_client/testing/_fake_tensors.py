"""The tensors of a request to the fake: in the inputs' shape, as float64, with their values checked."""

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


class Refused(Exception):  # noqa: N818 - what happened
    """A request is at fault, as the server would say: `code`, `detail`, a pointer to the place, `status`."""

    def __init__(self, code: str, detail: str, pointer: str = "", status: int = 422) -> None:
        super().__init__(code, detail, pointer, status)


def targets_of(
    targets: NDArray[Any], x: NDArray[Any], kept: Flags, params: Mapping[str, Any]
) -> tuple[NDArray[Any], Flags]:
    """Return the targets in the inputs' shape, and what is kept of them."""
    ignored = params["ignore_index"]
    if params["targets_format"] == "dense":
        if params["row"] == "classes" and ignored is not None:
            detail = "ignore_index drops rows by their class id, and these targets are dense"
            raise Refused("invalid_parameter", detail, "/ignore_index")
        if targets.shape != x.shape:
            raise Refused("shape_mismatch", f"targets {targets.shape} are unlike {x.shape}", "/targets")
        _check_exact(params, 1)
        return targets, kept & ~_are(targets, ignored)
    axis = params["class_axis"]
    classes = x.shape[axis]
    shape = tuple(size for place, size in enumerate(x.shape) if place != axis % x.ndim)
    if targets.shape != shape:
        raise Refused("shape_mismatch", f"targets {targets.shape} are unlike {shape}", "/targets")
    _check_exact(params, classes)
    ids = np.expand_dims(targets, axis)
    kept = kept & ~_are(ids, ignored)
    wrong = kept.any(axis=axis) & ~_are(targets, params["background_index"])
    if (wrong & np.isnan(targets)).any():
        refuse("targets", "non_finite_input", targets, wrong & np.isnan(targets), "the numbers")
    parted = wrong & (targets % 1 != 0)
    wrong &= (targets < 0) | (targets >= classes)
    if parted.any() and not wrong.any():
        refuse("targets", "dtype_not_allowed", targets, parted, "the whole numbers", status=415)
    if wrong.any():
        refuse("targets", "target_out_of_range", targets, wrong, f"[0, {classes})")
    places = np.arange(classes).reshape([-1 if place == axis % x.ndim else 1 for place in range(x.ndim)])
    return (ids == places) & ~_are(ids, params["background_index"]), kept


_WHOLE_TO: Final = {"bool": -1, "float16": 2048, "bfloat16": 256}
"""The greatest class id that a dtype holds beside all lesser ones; bool holds none."""


def _check_exact(params: Mapping[str, Any], classes: int) -> None:
    """Check that the targets' dtype holds the numbers that they are compared with."""
    dtype = params["targets_dtype"]
    for name in ("ignore_index", "background_index"):
        value = params[name]
        if isinstance(value, int | float) and dtype in ("float16", "bfloat16", "float32", "float64"):
            narrow = np.dtype("float32" if dtype == "bfloat16" else dtype).type(value)
            too_long = dtype == "bfloat16" and bool(narrow.view(np.uint32) & 0xFFFF)
            if too_long or float(narrow) != value:
                raise Refused("invalid_parameter", f"{name} is {value}, which is no {dtype}", f"/{name}")
    if params["targets_format"] == "index" and classes - 1 > _WHOLE_TO.get(dtype, classes):
        raise Refused("dtype_not_allowed", f"targets are {dtype} for {classes} classes", "/targets", 415)


def _are(targets: NDArray[Any], value: float | str | None) -> Flags:
    """Return which targets are the number `value`, or NaN if that is "nan"; none are None."""
    if value is None:
        return np.zeros(targets.shape, dtype=np.bool_)
    are: Flags = np.isnan(targets) if value == "nan" else np.equal(targets, value)
    return are


def mask_of(mask: NDArray[Any], x: NDArray[Any]) -> Flags:
    kept = _like(mask, "mask", x)
    wrong = (mask != 0) & (mask != 1)
    if wrong.any():
        refuse("mask", "weight_out_of_range", mask, wrong, "0 and 1")
    return kept.astype(np.bool_)


def pos_weight_of(given: Any, x: NDArray[Any], kept: Flags, params: Mapping[str, Any]) -> Floats:  # noqa: ANN401
    """Return the positive term's factors in the inputs' shape."""
    values = np.asarray(given, dtype=np.float64)
    if not isinstance(given, np.ndarray):  # a parameter
        values = np.atleast_1d(values)
    if values.ndim == 1:
        by_class("pos_weight", values, x, params)
        axis = params["class_axis"] % x.ndim
        others = tuple(place for place in range(x.ndim) if place != axis)
        seen = np.asarray(kept.any(axis=others) if values.size > 1 else kept.any())
        return by_class(
            "pos_weight", checked("pos_weight", values, seen, 1.0, params, (0, math.inf)), x, params
        )
    return factors("pos_weight", values, x, kept, params)


def factors(
    name: str, values: NDArray[Any], x: NDArray[Any], kept: Flags, params: Mapping[str, Any]
) -> Floats:
    """Factors that broadcast, in the inputs' shape."""
    try:
        return checked(name, _like(values, name, x), kept, 0.0, params, (0, math.inf))
    except Refused as refused:
        code, detail, pointer, status = refused.args
        place = pointer.split("/")[2:]
        if not place:
            raise
        own = place[len(place) - values.ndim :]  # of the array as it was given
        own = ["0" if size == 1 else at for at, size in zip(own, values.shape, strict=True)]
        raise Refused(code, detail, "/".join(["", name, *own]), status) from None


def _like(array: NDArray[Any], name: str, x: NDArray[Any]) -> NDArray[Any]:
    try:
        return np.broadcast_to(array, x.shape)
    except ValueError as error:
        raise Refused("shape_mismatch", f"{name} {array.shape} does not fit {x.shape}", f"/{name}") from error


def axes_of(axis: int | list[int] | None, dimensions: int) -> tuple[int, ...]:
    """Return the axes, counted from the first, that are reduced over."""
    if axis is None:
        return tuple(range(dimensions))
    axes = axis if isinstance(axis, list) else [axis]
    if not all(-dimensions <= one < dimensions for one in axes):
        raise Refused("invalid_parameter", f"axis is {axis}, of {dimensions} dimensions", "/axis")
    if len({one % dimensions for one in axes}) < len(axes):
        raise Refused("invalid_parameter", f"axis is {axis}, which names one twice", "/axis")
    return tuple(one % dimensions for one in axes)


def by_class(name: str, given: Any, x: NDArray[Any], params: Mapping[str, Any]) -> Floats:  # noqa: ANN401
    """Return a number, or one a class, in the inputs' shape."""
    values = np.asarray(given, dtype=np.float64)
    axis = params["class_axis"] % x.ndim if -x.ndim <= params["class_axis"] < x.ndim else None
    if axis is None:
        raise Refused("invalid_parameter", f"class_axis is out of range for {x.shape}", "/class_axis")
    if values.ndim > 1 or (values.ndim and values.size not in (1, x.shape[axis])):
        raise Refused("shape_mismatch", f"{name} {values.shape} does not fit {x.shape}", f"/{name}")
    shape = [-1 if place == axis else 1 for place in range(x.ndim)]
    return np.broadcast_to(values.reshape(shape), x.shape)


_CODES: Final = {
    "boxes": "non_finite_input",
    "targets": "target_out_of_range",
    "probabilities": "probability_out_of_range",
    "weight": "weight_out_of_range",
    "pos_weight": "weight_out_of_range",
}


def checked(
    name: str,
    array: NDArray[Any],
    kept: Flags,
    harmless: float,
    params: Mapping[str, Any],
    limits: tuple[float, float] | None,
) -> Floats:
    """Return the array as float64, what is dropped made harmless, once its values are known to be allowed."""
    values = np.where(kept, array, harmless).astype(np.float64)
    missing = np.isnan(values)
    if missing.any() and not params["allow_nan"]:
        refuse(name, "non_finite_input", values, missing, "the numbers")
    if limits is None:
        return values
    low, high = limits
    wrong = (values < low) | (values > high) | (np.isinf(values))
    if wrong.any():
        refuse(name, _CODES[name], values, wrong, f"[{low:g}, {high:g}]")
    return values


def refuse(name: str, code: str, values: NDArray[Any], wrong: Flags, where: str, status: int = 422) -> None:
    place = tuple(np.argwhere(wrong)[0].tolist()) if wrong.ndim else ()
    pointer = "/".join([f"/{name}", *map(str, place)])
    raise Refused(code, f"{values[place]} is outside {where}", pointer, status)
