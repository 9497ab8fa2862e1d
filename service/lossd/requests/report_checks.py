"""The tensors of a report, and how large a report may be."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lossd.core.catalog import LOSSES, Loss
from lossd.core.cut import Cut
from lossd.core.operand import spread
from lossd.core.parameters import class_axis
from lossd.core.prepare import report_of
from lossd.core.report.layout import MOST_CLASS_BINS, Layout, keeps_classes
from lossd.core.report.spec import MOST_GROUP_COLUMNS, spec_of
from lossd.engine.dispatch.report_outputs import ReportPlan, plan_report
from lossd.requests.loss_checks import most_in_a_row
from lossd.requests.shapes import Shape, shape_mismatch, shown_shape
from lossd.settings import Settings
from lossd.types import GROUP_PREFIX, ErrorCode, Float64Array, LossRequest, RequestError, Tensor

SECTION_OF: Final[Mapping[str, str]] = {"groups": "groups", "ids": "top", "baseline": "paired"}
"""The section that uses a tensor, by the tensor's name."""
_MOST_SHOWN: Final = 1 << 15
"""The most numbers shown of a parameter that is a tensor: as many as a list in its place may have."""
_EXACT_DTYPES: Final = ("float16", "bfloat16")


def check_report_tensors(
    loss: Loss, tensors: Mapping[str, Tensor], params: Mapping[str, object], inputs: str
) -> None:
    """Check the tensors of a report: those that its sections need are there, and none that no section uses.

    Args:
        loss: The loss.
        tensors: All tensors of the request, by name, of allowed dtypes.
        params: Its checked parameters.
        inputs: The name of the inputs.

    Raises:
        RequestError: ``invalid_parameter``, ``missing_tensor``, ``shape_mismatch`` or ``bad_shape``.
    """
    shape = tensors[inputs].shape
    has_classes = loss.row == "classes" or (not loss.row and class_axis(params, shape) > 0)
    spec = spec_of(loss, params, tensors, has_classes=has_classes)
    sections = frozenset[str]() if spec is None else spec.sections
    for name in tensors:
        _check_used(name, sections)
    if spec is None:
        return
    if "classes" in sections and not has_classes:
        raise _no_classes(shape)
    columns = _group_columns(tensors)
    for section, name in (("groups", "groups"), ("paired", "baseline")):
        if section in sections and not (name in tensors or (name == "groups" and columns)):
            detail = (
                f"the section {section} needs the tensor {name}; send it, or leave {section} out of report"
            )
            raise RequestError(ErrorCode.MISSING_TENSOR, detail, [(f"/{name}", "missing")])
    _check_shapes(tensors, inputs)
    _check_columns(tensors, params, columns)
    if "calibration" in sections and not spec.bins and tensors[inputs].dtype not in _EXACT_DTYPES:
        detail = (
            f"calibration_bins=exact has a bin for each value of {' or '.join(_EXACT_DTYPES)} inputs, and "
            f"{inputs} is {tensors[inputs].dtype}; give a number of bins"
        )
        raise _invalid("calibration_bins", detail)


def report_notes(
    loss: Loss, tensors: Mapping[str, Tensor], params: Mapping[str, object], shape: Shape
) -> tuple[str, ...]:
    """Return a note on what the report of a request leaves out.

    Args:
        loss: The loss.
        tensors: The request's checked tensors.
        params: Its checked parameters.
        shape: The inputs' shape.
    """
    spec = spec_of(loss, params, tensors, has_classes=True) if loss.row == "classes" else None
    if spec is None or "calibration" not in spec.sections:
        return ()
    classes = shape[class_axis(params, shape)]
    if keeps_classes(classes, spec.bins):
        return ()
    most = MOST_CLASS_BINS // (classes + 1)
    remedy = f"; with calibration_bins={most} it has each class's, too" if most > 1 else ""
    return (
        f"the report's calibration is the top class's alone: {classes} classes in {spec.bins} bins are too "
        f"many to keep each class's{remedy}",
    )


def plan_for(
    request: LossRequest,
    cut: Cut,
    settings: Settings,
    strings: Mapping[str, Sequence[str]] | None = None,
) -> ReportPlan:
    """Plan the report of a request, if it is not too large.

    Args:
        request: The request.
        cut: How it is cut; for a stream, the cut for the most rows that it may have. Then the tensors' shapes
            begin with rows, too.
        settings: The server's settings.
        strings: As for `plan_report`.

    Raises:
        RequestError: ``output_too_large``; or ``bad_shape``: a row is too long.
    """
    layout = report_of(request.loss, request.params, cut.shape, request.tensors)
    assert layout is not None
    inputs = next(tensor for name, tensor in request.tensors.items() if name in LOSSES[request.loss].inputs)
    _check_row(layout, math.prod(inputs.shape[1:]), settings)
    top, most_cells = layout.spec.top, settings.max_report_cells
    if top > settings.max_report_top:
        detail = f"the section top lists at most {settings.max_report_top} rows; lower top, which is {top}"
        raise RequestError(ErrorCode.OUTPUT_TOO_LARGE, detail, [("/top", "too large")])
    for section, cells in layout.cells.items():
        if cells > most_cells:
            raise _too_many_cells(layout, section, cells, most_cells)
    return plan_report(request, layout, cut, most_cells, settings.max_output_bytes, strings)


def show_weights(request: LossRequest, shape: Shape, memory: memoryview) -> None:
    """Show parameters that are tensors by their numbers, which must be alike in reports that merge.

    Args:
        request: The request, whose tensors have arrived.
        shape: The inputs' shape.
        memory: The memory that the tensors' offsets count from.
    """
    for name, params in (("pos_weight", request.options), ("class_weight", request.own)):
        tensor = request.tensors.get(name)
        if tensor is not None and isinstance(params[name], dict):  # or it is a list
            assert isinstance(params, dict)
            params[name] = _shown(request, name, shape, memory)


def _shown(request: LossRequest, name: str, shape: Shape, memory: memoryview) -> object:
    """Return what a report shows of a parameter that is a tensor."""
    tensor = request.tensors[name]
    own = tensor.shape
    along_rows = len(own) == len(shape) or (len(own) == 1 and class_axis(request.params, shape) == 0)
    if name == "pos_weight" and along_rows and own[0] > 1:  # other rows have others, and may be more or less
        return {"dtype": tensor.dtype, "shape": list(own[1:])}
    numbers = _numbers(tensor, memory)
    if len(own) > 1 or numbers.size > _MOST_SHOWN:
        digest = hashlib.sha256(numbers.astype("<f8").tobytes()).hexdigest()
        return {"shape": list(own), "sha256": digest}
    return numbers.item() if numbers.size == 1 and name == "pos_weight" else numbers.tolist()


def _numbers(tensor: Tensor, memory: memoryview) -> Float64Array:
    array = spread("", tensor, tensor.shape).array(memory, 0)
    if tensor.dtype == "bfloat16":  # the upper half of a float32
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float64)


def _check_used(name: str, sections: frozenset[str]) -> None:
    """Refuse a tensor of a report that no section uses."""
    section = SECTION_OF.get("groups" if name.startswith(GROUP_PREFIX) else name)
    if section is not None and section not in sections:
        remedy = f"add {section} to report" if sections else f"add report={section}"
        detail = f"{name} is for the section {section} of a report; {remedy}, or leave {name} out"
        raise _invalid(name, detail)


def _no_classes(shape: Shape) -> RequestError:
    """Return the error of figures by class where there are no classes, or they are the rows."""
    also = "send inputs [N, C]" if len(shape) == 1 else "name the classes' axis by class_axis"
    detail = (
        "the section classes needs classes along another axis than 0, the rows', but class_axis is axis 0 of "
        f"the inputs' {shown_shape(shape)}; {also}, or leave classes out of report"
    )
    return _invalid("report", detail)


def _group_columns(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of columns of group ids."""
    named = sum(name.startswith(GROUP_PREFIX) for name in tensors)
    if "groups" not in tensors:
        return named
    if named:
        detail = f"groups is given beside columns {GROUP_PREFIX}NAME; send the one or the others"
        raise _invalid("groups", detail)
    shape = tensors["groups"].shape
    return shape[1] if len(shape) == 2 else 1


def _check_shapes(tensors: Mapping[str, Tensor], inputs: str) -> None:
    shape = tensors[inputs].shape
    for name, tensor in tensors.items():
        if name == "baseline":
            if tensor.shape != shape:
                detail = f"baseline has shape {shown_shape(tensor.shape)}, {inputs} {shown_shape(shape)}"
                raise shape_mismatch(name, tensor.shape, f"{detail}; they must be equal")
        elif name in ("groups", "ids") or name.startswith(GROUP_PREFIX):
            rows = shape[:1]
            if tensor.shape[:1] != rows or len(tensor.shape) > (2 if name == "groups" else 1):
                wanted = shown_shape(rows)
                if name == "groups":
                    wanted += f" or {wanted[:-1]}, columns]"
                detail = f"{name} has shape {shown_shape(tensor.shape)}, {inputs} {shown_shape(shape)}"
                raise shape_mismatch(name, tensor.shape, f"{detail}; {name} must be {wanted}")


def _check_columns(tensors: Mapping[str, Tensor], params: Mapping[str, object], columns: int) -> None:
    """Check the number of columns of group ids, and that of their names."""
    if columns > MOST_GROUP_COLUMNS or ("groups" in tensors and not columns):
        detail = f"groups has {columns} columns; send 1 to {MOST_GROUP_COLUMNS}"
        raise RequestError(ErrorCode.BAD_SHAPE, detail, [("/groups", f"{columns} columns")])
    names = params.get("group_names")
    if names is None:
        return
    assert isinstance(names, tuple)
    if columns and "groups" not in tensors:
        detail = f"group_names is given, but columns {GROUP_PREFIX}NAME have their names; leave it out"
    elif len(names) != columns:
        detail = f"group_names has {len(names)} names for {columns} columns of groups; give one for each"
    else:
        return
    raise _invalid("group_names", detail)


def _check_row(layout: Layout, elements: int, settings: Settings) -> None:
    """Refuse rows that would keep a worker too long: each gamma of a sweep counts as another row."""
    gammas, most = len(layout.spec.gammas), most_in_a_row(settings)
    if elements * max(1, gammas) > most:
        swept = f" for each of {gammas} gammas" if gammas > 1 else ""
        remedy = "send shorter rows, fewer gammas," if gammas > 1 else "send shorter rows,"
        detail = (
            f"a row, an index of axis 0, has {elements} elements{swept}; with a report, which cuts no row, "
            f"at most {most} in all are allowed; {remedy} or leave report out"
        )
        raise RequestError(ErrorCode.BAD_SHAPE, detail, [("/report", "rows too long")])


def _too_many_cells(layout: Layout, section: str, cells: int, most: int) -> RequestError:
    """Return the error of a section with too many figures."""
    classes = layout.calibration_classes if section == "calibration" else layout.classes
    remedy, by_class = f"leave {section} out of report", f" for {classes} classes" if classes else ""
    if section == "calibration" and most // classes > 1:
        remedy = f"take calibration_bins={most // classes}, or {remedy}"
    elif section == "sweep":
        remedy = f"give fewer gammas, or leave {'classes' if layout.classes else section} out of report"
    detail = f"the section {section} has {cells} figures of each kind{by_class}, at most {most} are "
    return RequestError(ErrorCode.OUTPUT_TOO_LARGE, f"{detail}allowed; {remedy}", [("/report", section)])


def _invalid(name: str, detail: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_PARAMETER, detail, [(f"/{name}", detail)])
