"""What each loss takes, by its entry: tensors, shapes of rows, parameters; and that no row is cut.

This is of the room `lossd.requests`; a folder of tests of that name would hide the library requests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd.api.scoring.whole_body import arrived_losses
from lossd.core.catalog import LOSSES, SHARED, Loss
from lossd.core.checks import box_size
from lossd.core.cut import Cut
from lossd.core.parameters import check_params, is_weighted, losses_shape, row_axes, row_size
from lossd.core.report.spec import SECTIONS
from lossd.requests.loss_checks import check_length
from lossd.requests.validation import OwnMemory, assemble, assemble_rows
from lossd.settings import Settings
from lossd.types import ITEMSIZE, ROWS, TENSOR_DTYPES, Body, ErrorCode, LossRequest, RequestError, Tensor
from lossd.wire import Column

SLICE = 1 << 17
Shape = tuple[int, ...]

CLASSES = [name for name, loss in LOSSES.items() if loss.row == "classes"]
SAMPLES = [name for name, loss in LOSSES.items() if loss.row == "sample"]
ELEMENTS = [name for name, loss in LOSSES.items() if not loss.row]


def made(
    loss: str,
    inputs: Shape,
    targets: Shape,
    more: Mapping[str, object] | None = None,
    *,
    slice_elements: int = SLICE,
) -> tuple[LossRequest, Cut]:
    """Make a request with further tensors, as (dtype, shape), and parameters."""
    tensors: dict[str, tuple[str, Shape]] = {
        LOSSES[loss].inputs[0]: ("float32", inputs),
        "targets": ("int64", targets),
    }
    params: dict[str, object] = {}
    for name, value in (more or {}).items():
        if isinstance(value, tuple):
            tensors[name] = value
        else:
            params[name] = value
    found, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        found[name] = Tensor(dtype, shape, end)
        end += math.prod(shape) * ITEMSIZE[dtype]
    memory = OwnMemory(memoryview(bytearray(1 << 12)))
    return assemble(LOSSES[loss], Body(tensors=found), 0, memory, params, slice_elements)


def refusal(loss: str, inputs: Shape, targets: Shape, more: Mapping[str, object]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        made(loss, inputs, targets, more)
    return caught.value


def usual(loss: Loss) -> tuple[Shape, Shape]:
    """The shapes of inputs and targets that a loss takes."""
    if loss.row == "box":
        return (6, 4), (6, 4)
    return (6, 3), (6,) if loss.row == "classes" else (6, 3)


ROW_CASES: list[tuple[str, Shape, Shape, dict[str, Any], Shape, int]] = [
    *((name, (6, 3), (6,), {}, (6,), 3) for name in CLASSES),
    *((name, (6, 3), (6, 3), {}, (6,), 3) for name in CLASSES),
    *((name, (2, 3, 4, 5), (2, 4, 5), {"class_axis": 1}, (2, 4, 5), 3) for name in CLASSES),
    *((name, (2, 3, 4, 5), (2, 3, 4, 5), {"class_axis": 1}, (2, 4, 5), 3) for name in CLASSES),
    *((name, (2, 3, 4, 5), (2, 3, 4, 5), {}, (2,), 60) for name in SAMPLES),
    *((name, (2, 3, 4, 5), (2, 3, 4, 5), {"per": "class", "class_axis": 1}, (3,), 40) for name in SAMPLES),
    *((name, (2, 3, 4, 5), (2, 3, 4, 5), {"per": "all"}, (1,), 120) for name in SAMPLES),
    *(
        (name, (2, 3, 4, 5), (2, 4, 5), {"targets_format": "index", "class_axis": 1}, (2,), 60)
        for name in SAMPLES
    ),
    *((name, (7,), (7,), {"per": "all"}, (1,), 7) for name in SAMPLES),
    ("box", (6, 4), (6, 4), {}, (6,), 4),
    ("box", (2, 6, 4), (2, 6, 4), {}, (2, 6), 4),
    *((name, (2, 3, 4), (2, 3, 4), {}, (2, 3, 4), 1) for name in ELEMENTS),
]


@pytest.mark.parametrize(("loss", "inputs", "targets", "params", "losses", "size"), ROW_CASES)
def test_a_request_has_the_shape_of_its_losses(
    loss: str, inputs: Shape, targets: Shape, params: dict[str, Any], losses: Shape, size: int
) -> None:
    request, cut = made(loss, inputs, targets, params)
    assert (cut.shape, request.shape, request.row_size) == (losses, inputs, size)
    assert cut.axes == tuple(range(len(losses)))
    assert cut.size * size == math.prod(inputs)
    each = made(loss, inputs, targets, {**params, "reduction": "none"})[1]
    assert each.output_shape == losses
    weight = ("float32", losses)
    of_losses = {**params, "weight": weight, "mask": ("bool", losses)}
    assert made(loss, inputs, targets, of_losses)[1].shape == losses


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("slice_elements", [1, 2, 8, 9, 100])
def test_no_slice_cuts_a_row(loss: str, slice_elements: int) -> None:
    inputs, targets = usual(LOSSES[loss])
    request, cut = made(loss, inputs, targets, slice_elements=slice_elements)
    parts = [cut.part(index) for index in range(cut.parts)]
    assert parts[0].start == 0
    assert parts[-1].stop == math.prod(inputs) // request.row_size
    longest = max(part.stop - part.start for part in parts)
    assert longest * request.row_size <= max(slice_elements, request.row_size)


@pytest.mark.parametrize("loss", CLASSES)
def test_a_row_longer_than_a_slice_is_one_slice(loss: str) -> None:
    request, cut = made(loss, (3, 1 << 20), (3,))
    assert (request.row_size, cut.parts) == (1 << 20, 3)


REFUSALS: list[tuple[str, Shape, Shape, dict[str, Any], str, str, str]] = [
    # Shapes.
    ("cross_entropy", (5,), (5,), {}, "bad_shape", "/logits", r"\[5\]; there is one loss for each row .*bce"),
    ("softmax_focal", (5,), (), {}, "bad_shape", "/logits", r"send \[N, C\]"),
    ("cross_entropy", (3, 5), (5,), {"class_axis": 0}, "invalid_parameter", "/class_axis", "class_axis=1"),
    ("cross_entropy", (3, 5), (5,), {"class_axis": -2}, "invalid_parameter", "/class_axis", "class_axis=1"),
    ("cross_entropy", (3, 5), (3,), {"class_axis": 2}, "invalid_parameter", "/class_axis", "out of range"),
    ("cross_entropy", (3, 0), (3,), {}, "bad_shape", "/logits", "each row of classes is empty"),
    (
        "cross_entropy",
        (3, 5),
        (3, 1),
        {},
        "shape_mismatch",
        "/targets",
        "class ids in the inputs' shape less",
    ),
    ("cross_entropy", (3, 5), (4,), {}, "shape_mismatch", "/targets", r"class ids must be \[3\]"),
    (
        *("cross_entropy", (2, 3, 4, 4), (2, 4, 4), {}, "shape_mismatch", "/targets"),
        r"must be \[2, 3, 4\]; if the classes lie along axis 1, class_axis=1 says so",
    ),
    ("dice", (5,), (5,), {}, "bad_shape", "/logits", r"each sample would be one number: .*per=all"),
    ("dice", (5,), (5,), {"per": "class"}, "bad_shape", "/logits", "per=all"),
    ("dice", (5, 0), (5, 0), {}, "bad_shape", "/logits", "each sample is empty"),
    (
        *("dice", (3, 5), (5,), {"class_axis": 0, "targets_format": "index"}),
        *("invalid_parameter", "/class_axis", "where the samples lie"),
    ),
    *(
        (loss, shape, shape, {"per": "class"}, "invalid_parameter", "/class_axis", said)
        for loss, shape, said in (
            ("dice", (2, 3, 4, 5), r"\[2, 3, 4, 5\]: name it, .*class_axis=1 .*class_axis=3 for the last"),
            ("tversky", (2, 3, 4), "class_axis=2 for the last"),
        )
    ),
    # Class ids, and nothing that says so.
    *(
        (loss, (2, 3, 4, 4), (2, 4, 4), {}, "shape_mismatch", "/targets", "index with class_axis=1 says so")
        for loss in ("dice", "bce", "hinge")
    ),
    ("tversky", (6, 3), (6,), {}, "shape_mismatch", "/targets", "if these are class ids, .*=index says so"),
    ("dice", (6, 1), (6,), {}, "shape_mismatch", "/targets", "they must be equal$"),
    ("box", (4,), (4,), {}, "bad_shape", "/boxes", r"send \[N, 4\]"),
    ("box", (6, 5), (6, 5), {}, "bad_shape", "/boxes", r"\[6, 5\]; a box is 4 numbers"),
    ("box", (6, 4), (5, 4), {}, "shape_mismatch", "/targets", "they must be equal"),
    # Weights and masks are of losses.
    (
        *("cross_entropy", (6, 3), (6,), {"weight": ("float32", (6, 3))}, "shape_mismatch", "/weight"),
        r"the losses' \[6\]; send one for each row of classes, .*class_weight weighs the classes",
    ),
    (
        "softmax_focal",
        (6, 3),
        (6,),
        {"weight": ("float32", (3,))},
        "shape_mismatch",
        "/weight",
        "one for each",
    ),
    ("dice", (6, 3), (6, 3), {"mask": ("bool", (6, 3))}, "shape_mismatch", "/mask", "one for each sample"),
    (
        *("dice", (6, 3), (6, 3), {"per": "class", "weight": ("int8", (6,))}, "shape_mismatch", "/weight"),
        "one for each class",
    ),
    ("box", (6, 4), (6, 4), {"weight": ("float32", (6, 4))}, "shape_mismatch", "/weight", "one for each box"),
    # Axes are those of losses.
    ("cross_entropy", (6, 3), (6,), {"axis": 1}, "invalid_parameter", "/axis", "losses of 1 dimensions"),
    ("box", (6, 4), (6, 4), {"axis": 1}, "invalid_parameter", "/axis", "use -1 to 0"),
    # Lists of classes.
    (
        *("cross_entropy", (6, 3), (6,), {"class_weight": [1, 2]}, "shape_mismatch", "/class_weight"),
        r"\[2\]; send one for each of the 3 classes",
    ),
    ("softmax_focal", (6, 3), (6,), {"alpha": [1]}, "shape_mismatch", "/alpha", "one for each of the 3"),
    # Ids beside probabilities.
    (
        "cross_entropy",
        (6, 3),
        (6, 3),
        {"ignore_index": -1},
        "invalid_parameter",
        "/ignore_index",
        "send a mask",
    ),
    (
        *("softmax_focal", (6, 3), (6, 3), {"ignore_index": "nan"}, "invalid_parameter", "/ignore_index"),
        "probability of every class",
    ),
    # Losses over all samples.
    (
        "dice",
        (6, 3),
        (6, 3),
        {"per": "class", "report": "top"},
        "invalid_parameter",
        "/per",
        "take per=sample, whose mean is another number, or",
    ),
    (
        "tversky",
        (6, 3),
        (6, 3),
        {"per": "all", "report": "all"},
        "invalid_parameter",
        "/per",
        "per=all gives",
    ),
    (
        *("dice", (6, 3, 3), (6, 3, 3), {"mask": ("bool", (6, 3, 3))}, "shape_mismatch", "/mask"),
        "give their targets another number, such as 255, and send ignore_index=255",
    ),
    (
        *("cross_entropy", (6, 3), (6,), {"targets": ("bool", (6,))}, "dtype_not_allowed", "/targets"),
        r"class ids are integers: cast them, as .astype\(int\) does",
    ),
    # Parameters of other losses.
    *(
        (loss, *usual(LOSSES[loss]), given_, "invalid_parameter", f"/{next(iter(given_))}", said)
        for loss, given_, said in (
            ("cross_entropy", {"pos_weight": 2}, "bce and focal have it; here take class_weight"),
            ("softmax_focal", {"pos_weight": 2}, "here take alpha"),
            ("bce", {"class_weight": [1, 2, 3]}, "cross_entropy has it; here take pos_weight"),
            ("bce", {"gamma": 2}, "focal, varifocal and softmax_focal have it; bce takes "),
            ("asymmetric", {"gamma": 2}, "here take gamma_pos or gamma_neg"),
            ("box", {"targets_format": "index"}, "other losses have it; box takes "),
            ("squared", {"normalizer": "positives"}, "must be one of count, weight, or a positive number"),
            ("dice", {"per": "pixel"}, "must be one of sample, class, all"),
            ("focal", {"gama": 2}, "did you mean gamma"),
        )
    ),
]


@pytest.mark.parametrize(("loss", "inputs", "targets", "params", "code", "place", "said"), REFUSALS)
def test_refusals(
    loss: str, inputs: Shape, targets: Shape, params: dict[str, Any], code: str, place: str, said: str
) -> None:
    error = refusal(loss, inputs, targets, params)
    assert (error.code, error.errors[0][0]) == (code, place), error
    assert re.search(said, error.detail), error.detail


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", TENSOR_DTYPES)
def test_a_loss_takes_its_tensors_alone(loss: str, name: str) -> None:
    if name in LOSSES[loss].tensors:
        return
    error = refusal(loss, *usual(LOSSES[loss]), {name: ("float32", (6, 3))})
    assert (error.code, error.errors[0][0]) == (ErrorCode.UNKNOWN_TENSOR, f"/{name}")
    remedies = {
        ("probabilities", "classes"): "send their logarithms as logits",
        ("probabilities", ""): "send them as logits, which may be any numbers",
        ("pos_weight", "classes"): "take (class_weight|alpha), or leave it out",
        ("pos_weight", ""): "leave it out",
    }
    said = remedies.get((name, LOSSES[loss].row), "its inputs are|leave it out")
    assert re.match(f"{loss} takes no {name}; .*({said})", error.detail), error.detail


@pytest.mark.parametrize("loss", LOSSES)
def test_the_inputs_are_needed(loss: str) -> None:
    inputs, targets = usual(LOSSES[loss])
    for name in ("targets", LOSSES[loss].inputs[0]):
        body = Body(tensors={name: Tensor("float32", inputs if name != "targets" else targets, 0)})
        with pytest.raises(RequestError) as caught:
            assemble(LOSSES[loss], body, 0, OwnMemory(memoryview(bytearray(99))), {}, SLICE)
        assert caught.value.code == ErrorCode.MISSING_TENSOR
        assert caught.value.detail.endswith(f"got {name}")


@pytest.mark.parametrize("loss", CLASSES)
def test_the_format_of_targets_follows_from_their_shape(loss: str) -> None:
    for targets, found in (((6,), "index"), ((6, 3), "dense")):
        choices: tuple[dict[str, object], ...] = ({}, {"targets_format": None}, {"targets_format": found})
        for choice in choices:
            request, _ = made(loss, (6, 3), targets, choice)
            assert request.params["targets_format"] == request.options["targets_format"] == found
    error = refusal(loss, (6, 3), (6,), {"targets_format": "dense"})
    assert error.code == ErrorCode.SHAPE_MISMATCH


@pytest.mark.parametrize("loss", LOSSES)
def test_an_answer_repeats_the_parameters_that_the_loss_has(loss: str) -> None:
    request, _ = made(loss, *usual(LOSSES[loss]))
    has = {parameter.name for parameter in LOSSES[loss].all_parameters} - {"reduction"}
    shared = {parameter.name: parameter.default for parameter in SHARED}
    if LOSSES[loss].row == "classes":
        shared["targets_format"] = "index"  # by the shapes
    assert request.own.keys() == has - shared.keys()
    assert request.options == {name: shared[name] for name in shared if name in has}
    assert "normalizer" in request.options


def test_a_list_for_the_classes_becomes_a_tensor() -> None:
    for loss, name in (("cross_entropy", "class_weight"), ("softmax_focal", "alpha"), ("focal", "alpha")):
        request, _ = made(loss, (6, 3), usual(LOSSES[loss])[1], {name: [0.5, 1, 0.25]})
        assert request.tensors[name].shape == (3,)
        assert (request.own[name], request.params[name]) == ((0.5, 1.0, 0.25), None)
        assert is_weighted(request.tensors) == (name == "class_weight")


AS_TORCH = "torch's lie along axis 1: class_axis=1 says so"
OTHER_AXIS = "if the classes lie along axis 1, class_axis=1 says so"
NOTES: list[tuple[str, Shape, Shape, dict[str, Any], list[str]]] = [
    *((loss, (2, 3, 4, 5), (2, 3, 4, 5), {}, [AS_TORCH]) for loss in CLASSES),
    *((loss, (2, 3, 4, 5), (2, 3, 4, 5), {"class_axis": axis}, []) for loss in CLASSES for axis in (1, -1)),
    *((loss, (6, 5), (6, 5), {}, []) for loss in CLASSES),
    *((loss, (2, 3, 3, 3), (2, 3, 3), {}, [OTHER_AXIS]) for loss in CLASSES),
    *((loss, (2, 3, 3, 3), (2, 3, 3), {"class_axis": 1}, []) for loss in CLASSES),
    *(
        (loss, (3, 3), (3,), {"weight": ("float32", (3,))}, [f"as many classes; .* go as {name}"])
        for loss, name in (("cross_entropy", "class_weight"), ("softmax_focal", "alpha"))
    ),
    (
        *("cross_entropy", (2, 3, 4, 3), (2, 4, 3), {"class_axis": 1, "weight": ("float32", (3,))}),
        ["axis 2 of the losses"],
    ),
    ("cross_entropy", (6, 3), (6,), {"weight": ("float32", (6,))}, []),
    ("cross_entropy", (1, 1), (1, 1), {"weight": ("float32", (1,))}, ["there is one class"]),
    ("bce", (3, 3), (3, 3), {"weight": ("float32", (3, 1))}, []),
    ("dice", (3, 3), (3, 3), {"weight": ("float32", (3,))}, []),
]


@pytest.mark.parametrize(("loss", "inputs", "targets", "more", "said"), NOTES)
def test_notes(loss: str, inputs: Shape, targets: Shape, more: dict[str, Any], said: list[str]) -> None:
    notes = made(loss, inputs, targets, more)[0].notes
    assert len(notes) == len(said), notes
    assert all(map(re.search, said, notes)), notes


def test_the_remedy_of_a_box_out_of_order_names_every_form() -> None:
    corners = box_size("xyxy", 2)
    assert re.search(
        r"centres, widths and heights, send format=cxcywh; .*COCO.* send x, y, x \+ width, y \+ height",
        corners.remedy(1.0),
    )
    assert "x1, y1, x2, y2" in box_size("cxcywh", 3).remedy(-1.0)


def streamed(
    loss: str, widths: Mapping[str, tuple[str, int | None]], **params: object
) -> tuple[LossRequest, Shape]:
    columns = [Column(name, dtype, width, False, 0) for name, (dtype, width) in widths.items()]
    request, row_shape, _ = assemble_rows(LOSSES[loss], columns, params)
    return request, row_shape


def test_columns_of_plain_numbers_are_of_losses() -> None:
    of_rows = {"weight": ("float32", None), "mask": ("bool", None)}
    for loss in CLASSES:
        for target, found in ((("int64", None), "index"), (("float32", 5), "dense")):
            columns = {"logits": ("float32", 5), "targets": target, **of_rows}
            request, row_shape = streamed(loss, columns)
            assert (request.params["targets_format"], row_shape) == (found, (5,))
            assert (request.shape, request.row_size) == ((ROWS, 5), 5)
            assert (request.tensors["weight"].shape, request.tensors["mask"].shape) == ((), ())
    for loss in SAMPLES:
        request, _ = streamed(loss, {"logits": ("float32", 5), "targets": ("bool", 5), **of_rows})
        assert (request.shape, request.tensors["mask"].shape) == ((ROWS, 5), ())
        ids = {"logits": ("float32", 5), "targets": ("int8", None)}
        assert streamed(loss, ids, targets_format="index")[0].row_size == 5
    request, _ = streamed("box", {"boxes": ("float16", 4), "targets": ("float32", 4), **of_rows})
    assert (request.shape, request.row_size) == ((ROWS, 4), 4)
    for loss in ELEMENTS:
        request, _ = streamed(loss, {"logits": ("float32", 5), "targets": ("float32", 5), **of_rows})
        assert (request.shape, request.tensors["weight"].shape) == ((ROWS, 5), (1,))


@pytest.mark.parametrize(
    ("loss", "columns", "params", "code", "said"),
    [
        ("cross_entropy", {"logits": None, "targets": None}, {}, "bad_shape", "a column of lists"),
        ("dice", {"logits": None, "targets": None}, {}, "bad_shape", "a column of lists"),
        ("dice", {"logits": 4, "targets": 4}, {"per": "class"}, "invalid_parameter", "per=sample"),
        ("tversky", {"logits": 4, "targets": 4}, {"per": "all"}, "invalid_parameter", "add up to"),
        ("box", {"boxes": 5, "targets": 5}, {}, "bad_shape", r"\[rows, 5\]; a box is 4 numbers"),
        ("box", {"boxes": None, "targets": 4}, {}, "bad_shape", "a box is 4 numbers"),
        (
            "cross_entropy",
            {"logits": 4, "targets": None, "weight": 4},
            {},
            "shape_mismatch",
            r"\[rows\]; send",
        ),
        ("cross_entropy", {"logits": 4, "targets": 3}, {}, "shape_mismatch", "or a probability of every"),
    ],
)
def test_streams_that_are_refused(
    loss: str, columns: dict[str, int | None], params: dict[str, Any], code: str, said: str
) -> None:
    with pytest.raises(RequestError) as caught:
        streamed(loss, {name: ("float32", width) for name, width in columns.items()}, **params)
    assert caught.value.code == code
    assert re.search(said, caught.value.detail), caught.value.detail


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, Shape, Shape, dict[str, Any]]:
    """A loss, its inputs' and targets' shapes, and parameters that say what a row is."""
    name = draw(st.sampled_from(list(LOSSES)))
    loss, sizes = LOSSES[name], st.integers(1, 4)
    if loss.row == "box":
        shape = (*draw(st.lists(sizes, min_size=1, max_size=3)), 4)
        return name, shape, shape, {}
    shape = tuple(draw(st.lists(sizes, min_size=2, max_size=4)))
    axis = draw(st.integers(1, len(shape) - 1))
    params: dict[str, Any] = {"class_axis": axis}
    if loss.row == "sample":
        params["per"] = draw(st.sampled_from(["sample", "class", "all"]))
    by_index = draw(st.booleans())
    params["targets_format"] = "index" if by_index else "dense"
    return name, shape, shape[:axis] + shape[axis + 1 :] if by_index else shape, params


@settings(max_examples=300)
@given(body=bodies(), data=st.data())
def test_losses_are_scored_as_soon_as_their_numbers_are_there(
    body: tuple[str, Shape, Shape, dict[str, Any]], data: st.DataObject
) -> None:
    """Against the numbers that each loss needs, listed one by one."""
    name, shape, target_shape, params = body
    request, cut = made(name, shape, target_shape, params)
    last = data.draw(st.sampled_from([LOSSES[name].inputs[0], "targets"]))
    tensor = request.tensors[last]
    bytes_there = data.draw(st.integers(0, tensor.nbytes))
    arrived = arrived_losses(last, request, cut, tensor.offset + bytes_there)
    there = bytes_there // ITEMSIZE[tensor.dtype]

    loss, checked = LOSSES[name], request.params
    rows = row_axes(loss, checked, shape)
    needed = np.arange(tensor.size).reshape(tensor.shape)
    if tensor.shape != shape or (last == "targets" and checked["targets_format"] == "index"):
        needed = np.broadcast_to(np.expand_dims(needed, params["class_axis"]), shape)
    of_losses = needed.max(axis=rows).reshape(-1) if rows else needed.reshape(-1)
    complete = np.flatnonzero(of_losses >= there)
    most = int(complete[0]) if len(complete) else len(of_losses)
    assert arrived <= most
    if tensor.shape == shape and 0 not in rows:  # the one that is long: as soon as can be, by whole runs
        run = math.prod(shape[min(rows, default=len(shape)) :])
        assert arrived == min(there // run * run * cut.size // math.prod(shape), most)


def test_shapes_by_the_definition() -> None:
    """The rows' axes and the losses' axes are the inputs', each once."""
    for loss in LOSSES.values():
        shape = (2, 3, 5, 4)
        for params in ({}, {"per": "class"}, {"per": "all"}) if loss.row == "sample" else ({},):
            checked = check_params(loss, params)
            rows = row_axes(loss, checked, shape)
            assert losses_shape(loss, checked, shape) == (
                tuple(n for axis, n in enumerate(shape) if axis not in rows) or (1,)
            )
            assert row_size(loss, checked, shape) * math.prod(losses_shape(loss, checked, shape)) == 120


def test_every_section_that_a_loss_has_not_is_one() -> None:
    for loss in LOSSES.values():
        assert set(loss.without) <= set(SECTIONS)


@pytest.mark.parametrize(
    ("loss", "inputs", "targets", "more", "words"),
    [
        ("cross_entropy", (2, 101), (2,), {}, "each row of classes has 101 numbers, and at most 100"),
        ("dice", (2, 101), (2, 101), {}, "each sample has 101 numbers"),
        ("tversky", (51, 2), (51, 2), {"per": "all"}, "each request has 102 numbers, and at most 100"),
        ("tversky", (101, 2), (101, 2), {"per": "class"}, "whose mean is another number, or send fewer"),
    ],
)
def test_a_row_has_a_greatest_length(
    loss: str, inputs: Shape, targets: Shape, more: dict[str, object], words: str
) -> None:
    small = Settings(max_row_elements=100)
    request, _ = made(loss, inputs, targets, more)
    with pytest.raises(RequestError, match=re.escape(words)) as caught:
        check_length(request, small)
    assert caught.value.code == ErrorCode.BAD_SHAPE
    with pytest.raises(RequestError, match="at most 6 may"):
        check_length(request, Settings(max_row_elements=100, kernel="torch"))
    check_length(request, Settings(max_row_elements=102))


def test_elements_have_no_greatest_length() -> None:
    check_length(made("bce", (1, 1000), (1, 1000))[0], Settings(max_row_elements=1))
