"""The tensors of a report: which are needed, which fit, and how large a report may be.

This is of the room `lossd.requests`; a folder of tests of that name would hide the library requests.
"""

from __future__ import annotations

import hashlib
import re

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.parameters import check_params
from lossd.core.report.parameters import check_report
from lossd.requests.report_checks import plan_for, show_weights
from lossd.requests.validation import assemble, assemble_rows
from lossd.settings import Settings
from lossd.types import Body, LossRequest, RequestError, Tensor
from lossd.wire import Column, parse_query

ROWS, CLASSES = 6, 3
SLICE = 1 << 17

Shape = tuple[int, ...]


class Memory:
    """Memory for the tensors of a request."""

    offset = 0

    def __init__(self, data: bytes = b"") -> None:
        self.view = memoryview(bytearray(data or 4096))
        self.nbytes = len(self.view)


def made(query: str, **tensors: tuple[str, Shape]) -> tuple[LossRequest, Cut]:
    """Make a request of [6, 3] logits and targets, and of the dtypes and shapes of further tensors."""
    usual = {"logits": ("float32", (ROWS, CLASSES)), "targets": ("bool", (ROWS, CLASSES))}
    found = {name: Tensor(dtype, shape, 0) for name, (dtype, shape) in (usual | tensors).items()}
    return assemble(LOSSES["focal"], Body(tensors=found), 0, Memory(), parse_query(query.encode()), SLICE)


def refusal(query: str, **tensors: tuple[str, Shape]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        made(query, **tensors)
    return caught.value


def check(error: RequestError, code: str, *said: str) -> None:
    assert error.code == code, error
    for words in said:
        assert re.search(words, error.detail), error.detail
    assert error.errors


INT = ("int64", (ROWS,))
OTHER = ("float16", (ROWS, CLASSES))


def test_rows_are_whole_only_for_a_report() -> None:
    assert not made("")[1].whole_rows
    for query in ("report=totals", "report=all&reduction=none", "report=top&axis=1"):
        assert made(query)[1].whole_rows


@pytest.mark.parametrize(
    ("query", "tensors"),
    [
        ("report=all", {}),
        ("report=all", {"groups": INT, "ids": INT, "baseline": OTHER}),
        ("report=groups", {"groups": ("uint8", (ROWS, 8))}),
        ("report=groups&group_names=a,b", {"groups": ("uint64", (ROWS, 2))}),
        ("report=top", {"ids": ("uint64", (ROWS,))}),
        ("report=paired", {"baseline": ("bfloat16", (ROWS, CLASSES))}),
        ("report=all&class_axis=0", {}),
        ("report=calibration&calibration_bins=exact", {"logits": OTHER}),
    ],
)
def test_what_is_taken(query: str, tensors: dict[str, tuple[str, Shape]]) -> None:
    request, cut = made(query, **tensors)
    plan_for(request, cut, Settings())


@pytest.mark.parametrize(
    ("name", "section", "tensor"),
    [("groups", "groups", INT), ("ids", "top", INT), ("baseline", "paired", OTHER)],
)
def test_a_tensor_that_no_section_uses_is_refused(name: str, section: str, tensor: tuple[str, Shape]) -> None:
    check(refusal("", **{name: tensor}), "invalid_parameter", f"add report={section}, or leave {name} out")
    error = refusal("report=histogram", **{name: tensor})
    check(error, "invalid_parameter", f"add {section} to report, or leave {name} out")


def test_a_section_without_its_tensor_is_refused() -> None:
    check(refusal("report=top,groups"), "missing_tensor", "the section groups needs the tensor groups")
    check(refusal("report=paired"), "missing_tensor", "the section paired needs the tensor baseline")


def test_classes_do_not_lie_along_the_rows() -> None:
    check(
        refusal("report=classes&class_axis=0"),
        "invalid_parameter",
        "class_axis is axis 0",
        "name the classes",
    )
    flat = {"logits": ("float32", (ROWS,)), "targets": ("bool", (ROWS,))}
    check(refusal("report=classes", **flat), "invalid_parameter", r"send inputs \[N, C\]")
    made("report=all", **flat)


@pytest.mark.parametrize(
    ("tensors", "code", "said"),
    [
        ({"groups": ("float32", (ROWS,))}, "dtype_not_allowed", "groups is float32; send uint8"),
        ({"groups": ("bool", (ROWS,))}, "dtype_not_allowed", "groups is bool"),
        ({"ids": ("float64", (ROWS,))}, "dtype_not_allowed", "ids is float64"),
        ({"baseline": ("int8", (ROWS, CLASSES))}, "dtype_not_allowed", "baseline is int8; send float16"),
        ({"groups": ("int8", (5,))}, "shape_mismatch", r"groups must be \[6\] or \[6, columns\]"),
        ({"groups": ("int8", ())}, "shape_mismatch", r"groups must be \[6\] or \[6, columns\]"),
        ({"groups": ("int8", (ROWS, 2, 2))}, "shape_mismatch", r"groups has shape \[6, 2, 2\]"),
        ({"groups": ("int8", (ROWS, 9))}, "bad_shape", "groups has 9 columns; send 1 to 8"),
        ({"groups": ("int8", (ROWS, 0))}, "bad_shape", "groups has 0 columns; send 1 to 8"),
        ({"ids": ("int8", (ROWS, 1))}, "shape_mismatch", r"ids must be \[6\]$"),
        ({"ids": ("int8", (7,))}, "shape_mismatch", r"ids has shape \[7\], logits \[6, 3\]"),
        (
            {"baseline": ("float32", (ROWS, 1))},
            "shape_mismatch",
            r"baseline has shape \[6, 1\], logits \[6, 3\]; they must be equal",
        ),
    ],
)
def test_tensors_that_do_not_fit(tensors: dict[str, tuple[str, Shape]], code: str, said: str) -> None:
    check(refusal("report=all", **tensors), code, said)


def test_there_is_a_name_for_each_column_of_groups() -> None:
    for query, tensors in (
        ("report=groups&group_names=a,b", {"groups": INT}),
        ("report=groups&group_names=a", {"groups": ("int8", (ROWS, 2))}),
        ("report=all&group_names=a", {}),
    ):
        check(refusal(query, **tensors), "invalid_parameter", r"group_names has \d names for \d columns")


def test_exact_bins_are_for_inputs_of_16_bits() -> None:
    for query in ("report=calibration", "report=all"):
        error = refusal(f"{query}&calibration_bins=exact")
        check(error, "invalid_parameter", "float16 or bfloat16", "logits is float32", "give a number of bins")


@pytest.mark.parametrize("query", ["report=all&sweep=gamma:0,1", "sweep=gamma:0,1", "calibration_bins=8"])
def test_parameters_of_sections_that_a_loss_has_not_are_refused_at_once(query: str) -> None:
    params = parse_query(query.encode())
    name = list(params)[-1]
    with pytest.raises(RequestError) as caught:
        check_report(LOSSES["dice"], check_params(LOSSES["dice"], params))
    check(caught.value, "invalid_parameter", f"leave {name} out")


def test_dice_says_how_to_have_a_loss_for_each_class() -> None:
    with pytest.raises(RequestError) as caught:
        check_report(LOSSES["dice"], check_params(LOSSES["dice"], {"report": "classes"}))
    check(caught.value, "invalid_parameter", "per=class with reduction=none answers a loss for each class")


def streamed(query: str, *columns: tuple[str, str, int | None]) -> tuple[LossRequest, Shape]:
    usual = [("logits", "float32", CLASSES), ("targets", "bool", CLASSES)]
    found = [Column(name, dtype, width, False, 8) for name, dtype, width in (*usual, *columns)]
    request, row_shape, _ = assemble_rows(LOSSES["focal"], found, parse_query(query.encode()))
    return request, row_shape


def test_columns_of_a_stream() -> None:
    request, row_shape = streamed(
        "report=all",
        ("group.camera", "int64", None),
        ("group.weather", "uint8", None),
        ("ids", "int32", None),
        ("baseline", "float32", CLASSES),
    )
    assert row_shape == (CLASSES,)
    assert [request.tensors[name].shape for name in ("group.camera", "group.weather", "ids")] == [(), (), ()]
    assert streamed("report=groups", ("groups", "int64", 2))[0].tensors["groups"].shape == (2,)
    for query, columns, code, said in (
        ("", [("group.camera", "int64", None)], "invalid_parameter", "add report=groups"),
        ("report=groups", [("group.a", "float32", None)], "dtype_not_allowed", "group.a is float32"),
        ("report=groups", [("group.a", "int8", 2)], "shape_mismatch", r"group.a must be \[rows\]$"),
        ("report=groups&group_names=b", [("group.a", "int8", None)], "invalid_parameter", "have their names"),
        (
            "report=groups",
            [("group.a", "int8", None), ("groups", "int8", None)],
            "invalid_parameter",
            "the one or the others",
        ),
        ("report=groups", [(f"group.{i}", "int8", None) for i in range(9)], "bad_shape", "9 columns"),
        ("report=paired", [("baseline", "float32", 2)], "shape_mismatch", r"\[rows, 2\], logits \[rows, 3\]"),
    ):
        with pytest.raises(RequestError) as caught:
            streamed(query, *columns)
        check(caught.value, code, said)


def too_large(settings: Settings, query: str, **tensors: tuple[str, Shape]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        plan_for(*made(query, **tensors), settings)
    return caught.value


def wide(classes: int) -> dict[str, tuple[str, Shape]]:
    return {"logits": ("float32", (2, classes)), "targets": ("bool", (2, classes))}


def test_a_report_is_limited_and_the_remedy_fits() -> None:
    small = Settings(max_report_top=5, max_report_cells=40, max_row_elements=100)
    check(
        too_large(small, "report=top&top=6"),
        "output_too_large",
        "top",
        "at most 5 rows; lower top, which is 6",
    )
    check(too_large(small, "report=top"), "output_too_large", "which is 20")
    made("report=top&top=5")
    error = too_large(small, "report=classes", **wide(41))
    check(
        error, "output_too_large", "the section classes has 41", "at most 40", "leave classes out of report"
    )
    error = too_large(small, "report=calibration", **wide(3))
    check(error, "output_too_large", "the section calibration has 192", "take calibration_bins=13, or leave")
    plan_for(*made("report=calibration&calibration_bins=13", **wide(3)), small)
    error = too_large(small, "report=calibration", **wide(21))
    check(error, "output_too_large", "; leave calibration out of report")
    error = too_large(small, "report=classes&sweep=gamma:1,2", **wide(10))
    check(error, "output_too_large", "the section sweep has 80", "give fewer gammas, or leave classes out")
    plan_for(*made("report=classes&sweep=gamma:1", **wide(10)), small)
    check(too_large(small, "report=totals", **wide(101)), "bad_shape", "has 101 elements", "at most 100")
    plan_for(*made("report=totals", **wide(100)), small)


def test_the_defaults_take_a_usual_report() -> None:
    wide_request = made("report=all&sweep=gamma:0,1,1.5,2,3&top=10000", **wide(4096))
    assert plan_for(*wide_request, Settings()).nbytes < Settings().max_output_bytes


NUMBERS = np.array([1.0, 2.5, 0.125])


@pytest.mark.parametrize(
    ("shape", "pos_weight", "shown"),
    [
        ((ROWS, 3), NUMBERS, NUMBERS.tolist()),
        ((ROWS, 3), NUMBERS.astype(np.float16), NUMBERS.tolist()),
        ((ROWS, 3), NUMBERS.astype(ml_dtypes.bfloat16), NUMBERS.tolist()),
        ((ROWS, 3), np.array([1, 2, 3], np.uint8), [1.0, 2.0, 3.0]),
        ((ROWS, 3), np.array([2.5]), 2.5),
        ((ROWS, 3), np.array(2.5), 2.5),
        (
            (ROWS, 3, 2, 2),
            NUMBERS.reshape(3, 1, 1),
            {"shape": [3, 1, 1], "sha256": hashlib.sha256(NUMBERS.tobytes()).hexdigest()},
        ),
        ((ROWS, 3), np.ones((ROWS, 1)), {"dtype": "float64", "shape": [1]}),
        ((ROWS,), np.ones(ROWS), {"dtype": "float64", "shape": []}),
    ],
)
def test_a_pos_weight_is_shown_by_its_numbers(
    shape: Shape, pos_weight: npt.NDArray[np.generic], shown: object
) -> None:
    """Reports of unlike ones must not merge."""
    dtype = pos_weight.dtype.name
    tensors = {
        "logits": Tensor("float32", shape, 0),
        "targets": Tensor("bool", shape, 0),
        "pos_weight": Tensor(dtype, pos_weight.shape, 8),
    }
    memory = Memory(bytes(8) + pos_weight.tobytes())
    params = parse_query(b"report=all&class_axis=%d" % (1 if len(shape) > 1 else 0))
    request, cut = assemble(LOSSES["bce"], Body(tensors=tensors), 0, memory, params, SLICE)
    show_weights(request, cut.shape, memory.view)
    assert request.options["pos_weight"] == shown


def test_a_pos_weight_among_the_parameters_is_shown_as_it_is() -> None:
    request, cut = made("report=all&pos_weight=1,2,3")
    show_weights(request, cut.shape, memoryview(b""))
    assert request.options["pos_weight"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("given", "section"),
    [("top=3", "top"), ("calibration_bins=8", "calibration"), ("group_names=a", "groups")],
)
def test_parameters_of_sections_that_are_not_asked_for_are_refused(given: str, section: str) -> None:
    error = refusal(f"report=histogram&{given}")
    assert error.code == "invalid_parameter"
    assert f"add {section} to report" in error.detail
