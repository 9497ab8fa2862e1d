"""The losses in plain numpy, for `fake`: formulas in float64 over whole arrays, for the sake of few lines."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


class Refused(Exception):  # noqa: N818 - what happened
    """A request is at fault, as the server would say: `code`, `detail`, a pointer to the place, `status`."""

    def __init__(self, code: str, detail: str, pointer: str = "", status: int = 422) -> None:
        super().__init__(code, detail, pointer, status)


@dataclass(frozen=True, slots=True)
class Elements:
    """Tensors of the inputs' shape, with harmless values where elements are dropped.

    Attributes:
        towards_one: -log of the probability.
        towards_zero: -log of one minus the probability.
        p: The probability.
        q: One minus it.
        y: The targets.
        weight: The weights; None without.
        pos_weight: The positive term's factors.
        kept: Which elements are not dropped.
    """

    towards_one: Floats
    towards_zero: Floats
    p: Floats
    q: Floats
    y: Floats
    weight: Floats | None
    pos_weight: Floats
    kept: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, ...]:
        """The inputs' shape."""
        return self.p.shape

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]], params: Mapping[str, Any]) -> Self:
        """Return the elements of a request's tensors and parameters."""
        name = "logits" if "logits" in tensors else "probabilities"
        x = tensors[name]
        if not 1 <= x.ndim <= 8:
            raise Refused("bad_shape", f"{name} has {x.ndim} dimensions, not 1 to 8", f"/{name}")
        kept = _mask(tensors.get("mask", np.ones((), dtype=np.bool_)), x)
        y, kept = _targets(tensors["targets"], x, kept, params)
        weight = tensors.get("weight")
        x = _checked(name, x, kept, 0.5, params, (0, 1) if name == "probabilities" else None)
        y = _checked("targets", y, kept, 0.0, params, (0, 1))
        if weight is not None:
            weight = _factors("weight", weight, x, kept, params)
        given = tensors.get("pos_weight", params["pos_weight"])
        pos_weight = _pos_weight(1.0 if given is None else given, x, kept, params)
        if name == "probabilities":
            return cls(-np.log(x), -np.log1p(-x), x, 1 - x, y, weight, pos_weight, kept)
        e = np.exp(-np.abs(x))
        s, large, small = np.log1p(e), 1 / (1 + e), e / (1 + e)
        p, q = np.where(x >= 0, large, small), np.where(x >= 0, small, large)
        return cls(np.maximum(-x, 0) + s, np.maximum(x, 0) + s, p, q, y, weight, pos_weight, kept)


@dataclass(frozen=True, slots=True)
class Losses:
    """The weighted losses of all elements, and what their mean may be divided by; 0 for dropped elements."""

    each: Floats
    weights: Floats
    targets: Floats
    kept: NDArray[np.bool_]

    def sums(self, axes: tuple[int, ...]) -> list[Floats]:
        """Return the terms of the sums over axes."""
        return _terms(self.each, axes)

    def divisors(self, axes: tuple[int, ...], normalizer: str | float) -> list[Floats]:
        """Return the terms of what the sums over axes are divided by."""
        if isinstance(normalizer, float):
            return [np.full(self.sums(axes)[0].shape, normalizer)]
        return _terms(
            {"count": self.kept, "weight": self.weights, "positives": self.targets}[normalizer], axes
        )

    @property
    def figures(self) -> dict[str, Any]:
        """The whole request's figures by name."""
        summed = {"sum": self.each, "weight_sum": self.weights, "positives": self.targets}
        terms = {name: _terms(array, tuple(range(array.ndim))) for name, array in summed.items()}
        return {
            "count": int(self.kept.sum()),
            **{name: float(planes[0]) for name, planes in terms.items()},
            **{f"{name}_terms": [float(plane) for plane in planes] for name, planes in terms.items()},
        }


def mean_of(sums: Floats, divisors: Floats, normalizer: str | float) -> Floats:
    """Return the sums divided."""
    if normalizer == "positives":
        divisors = np.maximum(divisors, 1.0)
    if (divisors == 0).any():
        place = np.argwhere(divisors == 0)[0].tolist() if divisors.ndim else []
        pointer = "/".join(["/loss", *map(str, place)]) if place else ""
        raise Refused("empty_mean", "the mean is over nothing", pointer)
    return np.asarray(sums / divisors)


def _terms(array: NDArray[Any], axes: tuple[int, ...]) -> list[Floats]:
    """Arrays that add up to the sums over axes exactly: the sums rounded, the rest rounded, and so on."""
    kept = [axis for axis in range(array.ndim) if axis not in axes]
    shape = tuple(array.shape[axis] for axis in kept)
    summed = math.prod(array.shape[axis] for axis in axes)
    places = np.transpose(array, [*kept, *axes]).reshape(math.prod(shape), summed).astype(np.float64)
    terms = list(map(_sum_terms, places.tolist()))
    longest = max(map(len, terms), default=1)
    padded = np.array([each + [0.0] * (longest - len(each)) for each in terms]).reshape(-1, longest)
    return [np.array(plane).reshape(shape) for plane in padded.T]


def _sum_terms(numbers: list[float]) -> list[float]:
    terms: list[float] = []
    try:
        while (rest := math.fsum([*numbers, *(-term for term in terms)])) or not terms:
            terms.append(rest)
            if not math.isfinite(rest):
                break
    except OverflowError:  # beyond float64 it is infinite
        return [math.inf]
    return terms


def losses_of(name: str, elements: Elements, params: Mapping[str, Any]) -> Losses:
    """Score the elements: `name` is "bce" or "focal"."""
    y, z = _smoothed(elements, params)
    losses = _cross_entropy(y, z, elements)
    if name == "focal":
        losses = _focal(losses, y, z, elements, params)
    weights = _weights(elements)
    each = np.where(elements.kept, _times(weights, losses), 0.0)
    return Losses(each, weights, elements.y, elements.kept)


def plain_losses(elements: Elements) -> Floats:
    """Return the binary cross entropy of the targets as they are, without weights."""
    y = elements.y
    return _times(y, elements.towards_one) + _times(1 - y, elements.towards_zero)


def brackets_of(
    name: str, elements: Elements, params: Mapping[str, Any], gamma: float | None
) -> dict[str, Floats]:
    """Return what the loss of another gamma, alpha or pos_weight is made of, by the report's names of it."""
    y, z = _smoothed(elements, params)
    factor, one, zero = _weights(elements), elements.towards_one, elements.towards_zero
    if name == "bce" or gamma is None:
        return {"y_terms": _times(factor * y, one), "z_terms": _times(factor * z, zero)}
    losses = _cross_entropy(y, z, elements)
    factor = factor * _miss(losses, y, z, elements, params) ** gamma
    if params["variant"] == "exp":
        return {"terms": _times(factor, losses)}
    return {
        "yy_terms": _times(factor * y * y, one),
        "yz_terms": _times(factor * y * z, zero),
        "zy_terms": _times(factor * z * y, one),
        "zz_terms": _times(factor * z * z, zero),
    }


def _smoothed(elements: Elements, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
    smoothing = params["label_smoothing"]
    y = elements.y * (1 - smoothing) + smoothing / 2
    return y, (1 - elements.y) * (1 - smoothing) + smoothing / 2


def _weights(elements: Elements) -> Floats:
    return np.where(elements.kept, 1.0, 0.0) if elements.weight is None else elements.weight


def _cross_entropy(y: Floats, z: Floats, elements: Elements) -> Floats:
    return _times(y * elements.pos_weight, elements.towards_one) + _times(z, elements.towards_zero)


def _focal(losses: Floats, y: Floats, z: Floats, elements: Elements, params: Mapping[str, Any]) -> Floats:
    alpha = params["alpha"]
    losses = _miss(losses, y, z, elements, params) ** params["gamma"] * losses
    if alpha is None:
        return losses
    share = _by_class("alpha", alpha, elements.p, params)
    return _times(share if params["variant"] == "exp" else y * share + z * (1 - share), losses)


def _miss(losses: Floats, y: Floats, z: Floats, elements: Elements, params: Mapping[str, Any]) -> Floats:
    """Return what is taken to the power of gamma."""
    if params["variant"] == "exp":
        return 1e-6 - np.expm1(-losses)
    if params["variant"] == "sigmoid":
        return y * elements.q + z * elements.p
    return np.abs(y * elements.q - z * elements.p)


def _times(factor: Floats, losses: Floats) -> Floats:
    """Multiply; a factor of zero gives zero, of infinity too."""
    return np.where((factor == 0) & ~np.isnan(losses), 0.0, factor * losses)


def _targets(
    targets: NDArray[Any], x: NDArray[Any], kept: NDArray[np.bool_], params: Mapping[str, Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the targets in the inputs' shape, and what is kept of them."""
    ignored = params["ignore_index"]
    if params["targets_format"] == "dense":
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
        _refuse("targets", "non_finite_input", targets, wrong & np.isnan(targets), "the numbers")
    parted = wrong & (targets % 1 != 0)
    wrong &= (targets < 0) | (targets >= classes)
    if parted.any() and not wrong.any():
        _refuse("targets", "dtype_not_allowed", targets, parted, "the whole numbers", status=415)
    if wrong.any():
        _refuse("targets", "target_out_of_range", targets, wrong, f"[0, {classes})")
    places = np.arange(classes).reshape([-1 if place == axis % x.ndim else 1 for place in range(x.ndim)])
    return (ids == places) & ~_are(ids, params["background_index"]), kept


_WHOLE_TO = {"float16": 2048, "bfloat16": 256}


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


def _are(targets: NDArray[Any], value: float | str | None) -> NDArray[np.bool_]:
    """Return which targets are the number `value`, or NaN if that is "nan"; none are None."""
    if value is None:
        return np.zeros(targets.shape, dtype=np.bool_)
    are: NDArray[np.bool_] = np.isnan(targets) if value == "nan" else np.equal(targets, value)
    return are


def _mask(mask: NDArray[Any], x: NDArray[Any]) -> NDArray[np.bool_]:
    kept = _like(mask, "mask", x)
    wrong = (mask != 0) & (mask != 1)
    if wrong.any():
        _refuse("mask", "weight_out_of_range", mask, wrong, "0 and 1")
    return kept.astype(np.bool_)


def _pos_weight(given: Any, x: NDArray[Any], kept: NDArray[np.bool_], params: Mapping[str, Any]) -> Floats:  # noqa: ANN401
    """Return the positive term's factors in the inputs' shape."""
    values = np.asarray(given, dtype=np.float64)
    if not isinstance(given, np.ndarray):  # a parameter
        values = np.atleast_1d(values)
    if values.ndim == 1:
        _by_class("pos_weight", values, x, params)
        axis = params["class_axis"] % x.ndim
        others = tuple(place for place in range(x.ndim) if place != axis)
        seen = np.asarray(kept.any(axis=others) if values.size > 1 else kept.any())
        return _by_class(
            "pos_weight", _checked("pos_weight", values, seen, 1.0, params, (0, math.inf)), x, params
        )
    return _factors("pos_weight", values, x, kept, params)


def _factors(
    name: str, values: NDArray[Any], x: NDArray[Any], kept: NDArray[np.bool_], params: Mapping[str, Any]
) -> Floats:
    """Factors that broadcast, in the inputs' shape."""
    try:
        return _checked(name, _like(values, name, x), kept, 0.0, params, (0, math.inf))
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


def _by_class(name: str, given: Any, x: NDArray[Any], params: Mapping[str, Any]) -> Floats:  # noqa: ANN401
    """Return a number, or one a class, in the inputs' shape."""
    values = np.asarray(given, dtype=np.float64)
    axis = params["class_axis"] % x.ndim if -x.ndim <= params["class_axis"] < x.ndim else None
    if axis is None:
        raise Refused("invalid_parameter", f"class_axis is out of range for {x.shape}", "/class_axis")
    if values.ndim > 1 or (values.ndim and values.size not in (1, x.shape[axis])):
        raise Refused("shape_mismatch", f"{name} {values.shape} does not fit {x.shape}", f"/{name}")
    shape = [-1 if place == axis else 1 for place in range(x.ndim)]
    return np.broadcast_to(values.reshape(shape), x.shape)


_CODES = {
    "targets": "target_out_of_range",
    "probabilities": "probability_out_of_range",
    "weight": "weight_out_of_range",
    "pos_weight": "weight_out_of_range",
}


def _checked(
    name: str,
    array: NDArray[Any],
    kept: NDArray[np.bool_],
    harmless: float,
    params: Mapping[str, Any],
    limits: tuple[float, float] | None,
) -> Floats:
    """Return the array as float64, what is dropped made harmless, once its values are known to be allowed."""
    values = np.where(kept, array, harmless).astype(np.float64)
    missing = np.isnan(values)
    if missing.any() and not params["allow_nan"]:
        _refuse(name, "non_finite_input", values, missing, "the numbers")
    if limits is None:
        return values
    low, high = limits
    wrong = (values < low) | (values > high) | (np.isinf(values))
    if wrong.any():
        _refuse(name, _CODES[name], values, wrong, f"[{low:g}, {high:g}]")
    return values


def _refuse(
    name: str, code: str, values: NDArray[Any], wrong: NDArray[np.bool_], where: str, status: int = 422
) -> None:
    place = tuple(np.argwhere(wrong)[0].tolist()) if wrong.ndim else ()
    pointer = "/".join([f"/{name}", *map(str, place)])
    raise Refused(code, f"{values[place]} is outside {where}", pointer, status)
