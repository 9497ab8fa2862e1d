"""A request's losses, for the fake: its elements in their rows, their weighted losses, and exact sums."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from sys import float_info
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lossd_client.testing._fake_formulas import Probabilities, Scores, Tensors, times
from lossd_client.testing._fake_table import LOSSES, FakeLoss
from lossd_client.testing._fake_tensors import (
    Flags,
    Floats,
    Refused,
    by_class,
    checked,
    factors,
    mask_of,
    pos_weight_of,
    refuse,
    targets_of,
)


@dataclass(frozen=True, slots=True)
class Elements:
    """A request's tensors, with harmless values where something is dropped.

    Attributes:
        loss: The loss.
        inputs_shape: The shape of the inputs as they were sent.
        tensors: What the formula takes: the losses' axes come first, and behind them those of a row.
        weight: The weights of the losses; None without.
        kept: Which losses are not dropped.
        classes: The greatest target of each row of classes; None for others.
    """

    loss: FakeLoss
    inputs_shape: tuple[int, ...]
    tensors: Tensors
    weight: Floats | None
    kept: Flags
    classes: NDArray[np.int64] | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The losses' shape."""
        return self.kept.shape

    @classmethod
    def of(cls, name: str, tensors: Mapping[str, NDArray[Any]], params: Mapping[str, Any]) -> Self:
        """Return the elements of a request's tensors and parameters."""
        loss = LOSSES[name]
        kind = _check_tensors(name, loss, tensors)
        x = tensors[kind]
        _check_shape(loss, kind, x, params)
        rows = _Rows(loss, params, x.shape)
        kept = mask_of(tensors.get("mask", np.ones((), dtype=np.bool_)), np.empty(rows.losses))
        within = rows.opened(kept)
        y, within = targets_of(tensors["targets"], x, within, params)
        if not loss.entry.row:
            kept = np.asarray(within)
        elif params["ignore_index"] is not None:  # a row is dropped when nothing of it is left
            left = rows.of(within)
            kept = np.asarray(left.any(axis=tuple(range(kept.ndim, left.ndim))))
        finite = (-float_info.max, float_info.max)
        limits = {"probabilities": (0.0, 1.0), "boxes": finite}.get(kind)
        x = checked(kind, x, within, 0.5, params, limits)
        limits = (0.0, 1.0) if loss.entry.targets == "probability" else finite
        y = checked("targets", y, within, 0.0, params, limits)
        if loss.entry.row == "box":
            _check_boxes({kind: x, "targets": y}, kept, params)
        weight = tensors.get("weight")
        if weight is not None:
            weight = factors("weight", weight, np.empty(rows.losses), kept, params)
        given = tensors.get("pos_weight", params["pos_weight"])
        pos_weight = (
            pos_weight_of(1.0 if given is None else given, x, within, params)
            if "pos_weight" in loss.options
            else None
        )
        found = Tensors(
            rows.of(x),
            rows.of(y),
            rows.of(within),
            Probabilities.of(rows.of(x), is_logits=kind != "probabilities"),
            pos_weight,
            _class_factors(rows, x, params),
        )
        classes = rows.of(y).argmax(axis=-1) if loss.entry.row == "classes" else None
        return cls(loss, x.shape, found, weight, kept, classes)


class _Rows:
    """What one loss value belongs to, for inputs of a shape.

    Attributes:
        losses: The losses' shape.
    """

    def __init__(self, loss: FakeLoss, params: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        row = loss.entry.row
        self._shape, per = shape, params.get("per", "sample") if row == "sample" else row
        axis = params["class_axis"] % len(shape)
        within: Mapping[str, tuple[int, ...]] = {
            "": (),
            "classes": (axis,),
            "box": (len(shape) - 1,),
            "sample": tuple(range(1, len(shape))),
            "class": tuple(place for place in range(len(shape)) if place != axis),
            "all": tuple(range(len(shape))),
        }
        self._within = within[per]
        self._first = tuple(place for place in range(len(shape)) if place not in self._within)
        self.losses = tuple(shape[place] for place in self._first) or (1,)

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the inputs' shape with the losses' axes first."""
        behind = tuple(self._shape[place] for place in self._within)
        whole = np.broadcast_to(array, self._shape)
        return whole.transpose(*self._first, *self._within).reshape(*self.losses, *behind)

    def opened(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the losses' shape in that of the inputs."""
        open_shape = [1 if place in self._within else n for place, n in enumerate(self._shape)]
        return np.broadcast_to(array.reshape(open_shape), self._shape)


def _check_tensors(name: str, loss: FakeLoss, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Check the names of a request's tensors; return that of its inputs."""
    inputs = [each for each in loss.entry.inputs if each in tensors]
    if len(inputs) > 1:
        raise Refused("invalid_parameter", "logits and probabilities are given", "/probabilities")
    for each in tensors:
        if each not in loss.tensors:
            raise Refused("unknown_tensor", f"{name} takes no {each}", f"/{each}")
    if not inputs:
        raise Refused("missing_tensor", f"send {loss.entry.inputs[0]}", f"/{loss.entry.inputs[0]}")
    return inputs[0]


def _check_shape(loss: FakeLoss, kind: str, x: NDArray[Any], params: Mapping[str, Any]) -> None:
    """Check that the inputs can be cut into rows."""
    per = params.get("per", "sample")
    fewest = 1 if not loss.entry.row or per == "all" else 2
    if not fewest <= x.ndim <= 8:
        raise Refused("bad_shape", f"{kind} has {x.ndim} dimensions, not {fewest} to 8", f"/{kind}")
    if not loss.entry.row:
        return
    if loss.entry.row == "box":
        if x.shape[-1] != 4:
            raise Refused("bad_shape", f"{kind} {x.shape} are no boxes, of four numbers each", f"/{kind}")
        return
    axis, by_index = params["class_axis"], params["targets_format"] == "index"
    fits = -x.ndim <= axis < x.ndim
    if not fits or (axis % x.ndim == 0 and (loss.entry.row == "classes" or (per == "sample" and by_index))):
        raise Refused("invalid_parameter", f"class_axis is {axis}, for {x.shape}", "/class_axis")
    rows = _Rows(loss, params, x.shape).losses
    if not x.size and 0 not in rows:
        raise Refused("bad_shape", f"{kind} {x.shape} has empty rows", f"/{kind}")


def _check_boxes(boxes: Mapping[str, Floats], kept: Flags, params: Mapping[str, Any]) -> None:
    """Check that no box is inverted."""
    for name, each in boxes.items():
        sizes = each[..., 2:] - each[..., :2] if params["format"] == "xyxy" else each[..., 2:]
        wrong = np.concatenate([np.zeros_like(sizes, dtype=np.bool_), sizes < 0], axis=-1) & kept[..., None]
        if wrong.any():
            refuse(name, "inverted_box", each, wrong, "what an upright box may have")


def _class_factors(rows: _Rows, x: Floats, params: Mapping[str, Any]) -> Floats | None:
    """Return a factor for each class, in the shape of the rows."""
    for name in ("class_weight", "alpha"):
        if params["row"] == "classes" and params.get(name) is not None:
            return rows.of(by_class(name, params[name], x, params))
    return None


@dataclass(frozen=True, slots=True)
class Losses:
    """The weighted losses, and what their mean may be divided by; 0 for dropped ones."""

    each: Floats
    weights: Floats
    targets: Floats
    kept: Flags

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


def losses_of(elements: Elements, params: Mapping[str, Any]) -> Losses:
    """Score the elements."""
    scores: Scores = elements.loss.formula(elements.tensors, params)
    weights = np.where(elements.kept, 1.0, 0.0) if elements.weight is None else elements.weight
    each = np.where(elements.kept, times(weights, scores.losses), 0.0)
    if scores.weights is not None:
        weights = times(weights, scores.weights)
    return Losses(each, weights, np.where(elements.kept, scores.targets, 0.0), elements.kept)
