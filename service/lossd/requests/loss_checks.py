"""What a loss takes, by its entry in the catalog: the names of its tensors, and the shapes of its rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from lossd.core.catalog import LOSSES, Loss
from lossd.core.native.library import why_missing
from lossd.core.parameters import LIKE, LISTS, class_axis, losses_shape, row_size, spans_samples
from lossd.requests.shapes import Shape, shown_shape
from lossd.settings import Settings
from lossd.types import GROUP_PREFIX, ROWS, TENSOR_DTYPES, ErrorCode, LossRequest, RequestError, Tensor

BOX: Final = 4
"""The numbers of a box."""
_TORCH_SHARE: Final = 16
"""Rows are so many times shorter where torch computes: about 2 microseconds an element of a report."""


def check_names(loss: Loss, tensors: Mapping[str, Tensor]) -> str:
    """Check that the loss takes every tensor and none is missing; return the name of the inputs.

    Raises:
        RequestError: ``unknown_tensor``, ``missing_tensor``, or ``invalid_parameter``: two are inputs.
    """
    for name in tensors:
        if name not in loss.tensors and not name.startswith(GROUP_PREFIX):
            raise _not_taken(loss, name)
    first, *others = loss.inputs
    inputs = [name for name in loss.inputs if name in tensors]
    if len(inputs) > 1:
        detail = f"both {inputs[0]} and {inputs[1]} are given; send the one that is meant"
        place = (f"/{inputs[1]}", f"given beside {inputs[0]}")
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [place])
    for name, there in ((first, bool(inputs)), ("targets", "targets" in tensors)):
        if not there:
            also = f" (or {' or '.join(others)})" if name == first and others else ""
            detail = f"send {name}{also}; got {', '.join(tensors) or 'none'}"
            raise RequestError(ErrorCode.MISSING_TENSOR, detail, [(f"/{name}", "missing")])
    return inputs[0]


def check_named_axis(loss: Loss, params: Mapping[str, object], sent: Collection[str], shape: Shape) -> None:
    """Refuse losses of classes whose axis is not named, where classes may well lie along another one.

    Args:
        loss: The loss.
        params: Checked parameters.
        sent: The names of the parameters that were sent.
        shape: The inputs' shape.

    Raises:
        RequestError: ``invalid_parameter``.
    """
    if loss.row == "sample" and params["per"] == "class" and len(shape) > 2 and "class_axis" not in sent:
        detail = (
            f"per=class has a loss for each class, which may lie along any axis of the inputs' "
            f"{shown_shape(shape)}: name it, such as class_axis=1 for [N, C, H, W], or "
            f"class_axis={len(shape) - 1} for the last"
        )
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/class_axis", "not named")])


def check_rows(loss: Loss, params: Mapping[str, object], inputs: str, shape: Shape) -> None:
    """Check that the inputs' shape can be cut into this loss's rows, and that none of them is empty.

    Args:
        loss: The loss.
        params: Checked parameters.
        inputs: The inputs' name.
        shape: The inputs' shape, which begins with `ROWS` for a stream.

    Raises:
        RequestError: ``bad_shape``, or ``invalid_parameter``: the class axis is that of the rows.
    """
    if not shape:
        detail = f"{inputs} has no dimensions; send an array of 1 to 8, such as [x] for one number"
        raise RequestError(ErrorCode.BAD_SHAPE, detail, [(f"/{inputs}", detail)])
    if not loss.row:
        return
    if loss.row == "box":
        if len(shape) < 2 or shape[-1] != BOX:
            raise _bad_shape(inputs, shape, f"a box is {BOX} numbers: send [N, {BOX}]")
        return
    if len(shape) < 2 and not (loss.row == "sample" and params["per"] == "all"):
        raise _too_flat(loss, inputs, shape)
    axis = class_axis(params, shape)
    by_sample = loss.row == "classes" or not spans_samples(loss, params)
    if axis == 0 and (loss.row == "classes" or (by_sample and params["targets_format"] == "index")):
        detail = (
            f"class_axis is axis 0 of the inputs' {shown_shape(shape)}, where the samples lie; send inputs "
            "[N, C, ...], and name the classes' axis, such as class_axis=1"
        )
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/class_axis", detail)])
    if not row_size(loss, params, shape) and 0 not in losses_shape(loss, params, shape):
        raise _bad_shape(inputs, shape, f"each {row_name(loss, params)} is empty; send some numbers for it")


def check_length(request: LossRequest, settings: Settings) -> None:
    """Refuse rows of numbers that would keep a worker too long: each has one loss, so no slice cuts it.

    Raises:
        RequestError: ``bad_shape``.
    """
    loss = LOSSES[request.loss]
    if not loss.row or request.row_size <= (most := most_in_a_row(settings)):
        return
    [inputs] = (name for name in loss.inputs if name in request.tensors)
    name = row_name(loss, request.params)
    shorter = "send"
    if spans_samples(loss, request.params):
        shorter = "take per=sample, whose mean is another number, or send"
    raise _bad_shape(
        inputs,
        request.shape,
        f"each {name} has {request.row_size} numbers, and at most {most} may have one loss; {shorter} fewer",
    )


def most_in_a_row(settings: Settings) -> int:
    """Return how many numbers a row may have: fewer where torch computes it, which takes longer."""
    by_torch = settings.kernel == "torch" or why_missing() is not None
    return settings.max_row_elements // (_TORCH_SHARE if by_torch else 1)


def check_streamed(loss: Loss, params: Mapping[str, object]) -> None:
    """Refuse a stream for ``per=class`` and ``per=all``, whose losses span all rows.

    Raises:
        RequestError: ``invalid_parameter``.
    """
    if spans_samples(loss, params):
        detail = (
            f"per={params['per']} has losses over all samples, which neither a stream nor parts of the rows "
            "add up to; send all of them as one body, such as .npy files, or take per=sample, whose mean is "
            "another number"
        )
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/per", f"{params['per']} of a stream")])


def check_columns(loss: Loss, names: Collection[str]) -> None:
    """Refuse class_weight as a column: it has a number for each class, not for each row.

    Raises:
        RequestError: ``invalid_parameter``.
    """
    name = "class_weight"
    if name in names and name in loss.tensors:
        detail = f"{name} has a number for each class, not for each row; send it as a parameter in the query"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(f"/{name}", "a column")])


def check_dense_ids(loss: Loss, params: Mapping[str, object]) -> None:
    """Refuse an ignore_index, which drops rows by their class, where rows have a probability of every class.

    Raises:
        RequestError: ``invalid_parameter``.
    """
    dense = loss.row == "classes" and params["targets_format"] == "dense"
    if dense and params["ignore_index"] is not None:
        detail = (
            "ignore_index is a class id that drops its row, and these targets are a probability of every "
            "class; send a mask that is 0 for the rows to drop"
        )
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/ignore_index", "beside dense targets")])


def row_name(loss: Loss, params: Mapping[str, object]) -> str:
    """Return what has one loss, in a word or two."""
    if loss.row == "sample":
        return "request" if params["per"] == "all" else str(params["per"])
    return {"": "element", "classes": "row of classes", "box": "box"}[loss.row]


def _not_taken(loss: Loss, name: str) -> RequestError:
    """Return the error of a tensor that the loss does not take."""
    if name not in TENSOR_DTYPES:
        detail = f"there is no tensor {name!r}; there are {', '.join(loss.tensors)}"
        return RequestError(ErrorCode.UNKNOWN_TENSOR, detail, [(f"/{name}", "unknown tensor")])
    if name in LISTS:
        has = {parameter.name for parameter in loss.all_parameters}
        instead = [like for like in LIKE[name] if like in has]
        remedy = f"take {instead[0]}, or leave it out" if instead else "leave it out"
    elif name != "probabilities" or loss.targets == "box":
        remedy = f"its inputs are {' or '.join(loss.inputs)}; leave {name} out"
    elif loss.row == "classes":
        remedy = "send their logarithms as logits, of which the softmax is these probabilities again"
    else:
        remedy = "send them as logits, which may be any numbers"
    detail = f"{loss.name} takes no {name}; {remedy}"
    return RequestError(ErrorCode.UNKNOWN_TENSOR, detail, [(f"/{name}", f"not a tensor of {loss.name}")])


def _too_flat(loss: Loss, inputs: str, shape: Shape) -> RequestError:
    """Return the error of inputs that have one dimension, where samples have numbers of their own."""
    if shape[0] == ROWS:
        remedy = "send a column of lists, one for each row"
    elif loss.row == "classes":
        remedy = (
            "there is one loss for each row of classes: send [N, C], such as [[x, y, z]] for one row; a "
            "number for each label is for losses of elements, such as bce"
        )
    else:
        remedy = "each sample would be one number: send [N, ...], or take per=all for one loss of them all"
    return _bad_shape(inputs, shape, remedy)


def _bad_shape(inputs: str, shape: Shape, remedy: str) -> RequestError:
    detail = f"{inputs} has shape {shown_shape(shape)}; {remedy}"
    return RequestError(ErrorCode.BAD_SHAPE, detail, [(f"/{inputs}", f"shape {shown_shape(shape)}")])
