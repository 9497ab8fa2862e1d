"""Notes of calls whose shapes could mean two things, and of arguments that may be swapped.

A split call's parts can be ambiguous where the whole is not, and the other way round, so the client makes
these notes itself: a weight [N] fits inputs [N, N] in two ways, and N / 2 of their rows in one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import forget, widened
from lossd_client._calls.calls import CheckedCall
from lossd_client._calls.loss import Loss, Losses

BY_COUNT: Final = (
    "the mean divides by the number of losses; torch's CrossEntropyLoss with weights of classes divides by "
    "these: normalizer=weight"
)
"""The note on a mean of losses with weights of classes."""
_FIRST: Final = 1024  # elements; mostly enough to see that logits are logits
_FEWEST: Final = 16
_BLOCK: Final = 1 << 18  # elements that are looked at together


def shape_notes(call: CheckedCall) -> list[str]:
    """Return the notes of a call, in the server's words."""
    shapes = {name: array.shape for name, array in call.tensors.items()}
    of = Losses(call.loss, {**call.own, **call.params})
    return notes_of(shapes, call.inputs.shape, of, by_index=call.by_index)


def mean_notes(call: CheckedCall, **other: object) -> list[str]:
    """Return a note on weights of classes that a mean does not divide by, as torch's does for class ids.

    A report has a mean, too. A split call needs it made here: its parts are sums.

    Args:
        call: The call.
        other: What the mean has instead of the call's `reduction` and `normalizer`.
    """
    params = {"reduction": "mean", "normalizer": "count", **call.params, **other}
    has_mean = params["reduction"] == "mean" or "report" in params
    by_count = has_mean and params["normalizer"] == "count"
    if not (by_count and call.by_index) or "class_weight" not in {**call.own, **call.tensors}:
        return []
    return [BY_COUNT]


def swapped_notes(call: CheckedCall) -> list[str]:
    """Return a note if the logits look like targets, and the targets like probabilities."""
    logits = call.tensors.get("logits")
    if logits is None or call.by_index or call.loss.targets != "probability" or logits.size < _FEWEST:
        return []
    if not _are_bits(widened(logits.flat[:_FIRST])):
        return []
    ones = 0
    for block in _blocks(logits):
        if not _are_bits(block):
            return []
        ones += int(np.count_nonzero(block))
    if not 0 < ones < logits.size:
        return []
    if not any(((block > 0) & (block < 1)).any() for block in _blocks(call.tensors["targets"])):
        return []
    return ["all logits are 0 or 1 and the targets are not: are they swapped?"]


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield blocks of rows, and drop the pages of mapped files behind them."""
    if not array.ndim:
        yield widened(array)
        return
    step = max(1, _BLOCK // max(1, array[:1].size))
    for start in range(0, len(array), step):
        rows = array[start : start + step]
        yield widened(rows)
        forget(rows)


def _are_bits(numbers: NDArray[Any]) -> bool:
    """Return whether all numbers are 0 or 1."""
    return bool(((numbers == 0) | (numbers == 1)).all())


def _id_notes(shape: tuple[int, ...]) -> list[str]:
    """Return a note if class ids could lie along another axis than the last.

    Args:
        shape: The inputs'.
    """
    last = len(shape) - 1
    others = [other for other in range(1, last) if len(set(shape[other:])) == 1]
    if not others or shape[last] < 2:
        return []
    return [
        f"class ids were taken along axis {last} of the inputs, {list(shape)}; if the classes lie along axis "
        f"{others[0]}, class_axis={others[0]} says so"
    ]


def notes_of(
    shapes: Mapping[str, tuple[int, ...]],
    shape: tuple[int, ...],
    losses: Losses,
    *,
    by_index: bool,
    named: bool = False,
) -> list[str]:
    """Return the notes of tensors.

    Args:
        shapes: By name.
        shape: The inputs'.
        losses: Which losses they have.
        by_index: Whether the targets are class ids.
        named: Whether the caller names a class axis of -1, too.
    """
    class_axis = int(losses.params.get("class_axis", -1))
    if not -len(shape) <= class_axis < len(shape):
        return []
    notes = []
    of, wide = ("losses", losses.shape(shape)) if losses.loss.row else ("inputs", shape)
    for name, other in (("weight", 0), ("mask", 0), ("pos_weight", class_axis % len(shape))):
        given = shapes.get(name, ())
        found = [len(wide) - len(given) + place for place, n in enumerate(given) if n != 1]
        if (name == "pos_weight" and len(given) < 2) or any(place < 0 for place in found):
            continue
        if len(found) == 1 and found != [other] and wide[found[0]] == wide[other]:
            as_other = [n if place == other else 1 for place, n in enumerate(wide)]
            notes.append(
                f"{name} of shape {list(given)} goes along axis {found[0]} of the {of}, {list(wide)}, by "
                f"numpy's rules; if axis {other} is meant, send it in the shape {as_other}"
            )
    classes = shape[class_axis] if losses.loss.row == "classes" else 0
    if classes > 1 and shapes.get("weight") == (classes,) == wide[-1:]:
        notes.append(_class_weight_note(losses.loss, classes, wide))
    if named or class_axis != -1:
        return notes
    return [*notes, *(_id_notes(shape) if by_index else _dense_notes(losses.loss, shape))]


def _class_weight_note(loss: Loss, classes: int, losses: tuple[int, ...]) -> str:
    """Return the note on weights of as many losses as there are classes."""
    name = next(name for name in ("class_weight", "alpha") if name in loss.own)
    return (
        f"weight of shape {[classes]} goes along axis {len(losses) - 1} of the losses, {list(losses)}, and "
        f"there are as many classes; weights of classes go as {name}"
    )


def _dense_notes(loss: Loss, shape: tuple[int, ...]) -> list[str]:
    """Return a note on rows of classes along the last axis of images."""
    if loss.row != "classes" or len(shape) < 3:
        return []
    return [
        f"classes were taken along axis {len(shape) - 1} of the inputs, {list(shape)}; torch's lie along "
        "axis 1: class_axis=1 says so"
    ]
