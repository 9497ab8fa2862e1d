"""Notes on valid requests that may not mean what their sender intends."""

from __future__ import annotations

from collections.abc import Mapping

from lossd.core.catalog import Loss
from lossd.core.parameters import class_axis, losses_shape
from lossd.requests.shapes import Shape
from lossd.types import Tensor


def notes_on_shapes(
    loss: Loss,
    tensors: Mapping[str, Tensor],
    params: Mapping[str, object],
    sent: Mapping[str, object],
    shape: Shape,
) -> tuple[str, ...]:
    """Return the notes on a whole body's shapes that could mean two things."""
    axis = class_axis(params, shape)
    notes = _shape_notes(loss, tensors, params, shape, axis)
    if "class_axis" not in sent:
        by_index = params["targets_format"] == "index"
        notes += _class_axis_notes(shape, axis) if by_index else _dense_notes(loss, shape, axis)
    return (*notes, *one_class_notes(loss, params, shape))


def _shape_notes(
    loss: Loss, tensors: Mapping[str, Tensor], params: Mapping[str, object], shape: Shape, axis: int
) -> list[str]:
    """Return notes on tensors whose shapes could mean two things."""
    notes, of, losses = [], "losses" if loss.row else "inputs", losses_shape(loss, params, shape)
    for name, other in (("weight", 0), ("mask", 0), ("pos_weight", axis)):
        tensor_shape = tensors[name].shape if name in tensors else ()
        if name == "pos_weight" and len(tensor_shape) < 2:
            continue  # class_axis says where it lies
        wide = [len(losses) - len(tensor_shape) + place for place, n in enumerate(tensor_shape) if n != 1]
        if len(wide) == 1 and wide != [other] and losses[wide[0]] == losses[other]:
            as_other = [n if place == other else 1 for place, n in enumerate(losses)]
            notes.append(
                f"{name} of shape {list(tensor_shape)} goes along axis {wide[0]} of the {of}, "
                f"{list(losses)}, by numpy's rules; if axis {other} is meant, send it in the shape {as_other}"
            )
    given = tensors["weight"].shape if "weight" in tensors else ()
    name = class_weight_name(loss)
    if name and given == (shape[axis],) and given != (1,):
        notes.append(
            f"weight of shape {list(given)} goes along axis {len(losses) - 1} of the losses, {list(losses)}, "
            f"and there are as many classes; weights of classes go as {name}"
        )
    return notes


def class_weight_name(loss: Loss) -> str:
    """Return the parameter that holds a factor for each class of a row, if the loss has one; else ``""``."""
    if loss.row != "classes":
        return ""
    return next((one.name for one in loss.parameters if one.name in ("class_weight", "alpha")), "")


def _dense_notes(loss: Loss, shape: Shape, axis: int) -> list[str]:
    """Return a note on rows of classes along the last axis of images, for requests that name no axis."""
    if loss.row != "classes" or len(shape) < 3:
        return []
    return [
        f"classes were taken along axis {axis} of the inputs, {list(shape)}; torch's lie along axis 1: "
        "class_axis=1 says so"
    ]


def _class_axis_notes(shape: Shape, axis: int) -> list[str]:
    """Return a note on class ids that could open out along another axis, for requests that name none.

    Args:
        shape: The inputs' shape.
        axis: The class axis, the last one.
    """
    others = [other for other in range(1, axis) if len(set(shape[other:])) == 1]
    if not others or shape[axis] < 2:
        return []
    return [
        f"class ids were taken along axis {axis} of the inputs, {list(shape)}; if the classes lie along axis "
        f"{others[0]}, class_axis={others[0]} says so",
    ]


def one_class_notes(loss: Loss, params: Mapping[str, object], shape: Shape) -> tuple[str, ...]:
    """Return a note on one class: its ids may be labels that are all 0, and softmax is certain of it."""
    classes = shape[class_axis(params, shape)]
    if loss.row == "classes" and classes == 1:
        return (
            "there is one class, which softmax is always certain of; losses with one logit for each label, "
            "such as bce, are for 0/1 labels",
        )
    if params["targets_format"] != "index" or params["background_index"] is not None or classes != 1:
        return ()
    return (
        "there is one class, whose id is 0, so every target that counts is positive; if these are 0/1 "
        "labels, leave targets_format out and send them in the inputs' shape, targets[:, None]",
    )
