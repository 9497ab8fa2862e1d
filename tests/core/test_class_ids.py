"""Targets that are class ids: every dtype of whole numbers, backgrounds, what has no label."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from core.scoring import BLOCK, KERNELS, elements, figures, figures_by, work
from lossd.core.catalog import LOSSES
from lossd.core.parameters import check_params, check_targets
from lossd.types import RequestError

Array = npt.NDArray[Any]
DTYPES = ("u1", "u2", ">u2", "u4", ">u4", "u8", ">u8", "i1", "i2", "i4", "i8", "f2", "f4", ">f4", "f8")


def logits(shape: tuple[int, ...] = (50, 6)) -> Array:
    return np.random.default_rng(3).normal(0, 4, shape)


def dense(ids: Array, classes: int) -> Array:
    """Each id as a row of classes; of none, if it is none of theirs."""
    targets: Array = (ids[..., None] == np.arange(classes)).astype(np.float64)
    return targets


@pytest.mark.parametrize("loss", ["bce", "focal"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_ids_of_every_dtype_have_the_same_bits(dtype: str, loss: str) -> None:
    x, ids = logits(), np.random.default_rng(4).integers(0, 6, 50)
    expected = elements(loss, x, dense(ids, 6))
    got = elements(loss, x, ids.astype(dtype), targets_format="index")
    assert got.tobytes() == expected.tobytes()


def test_ids_may_be_bfloat16() -> None:
    x, ids = logits(), np.random.default_rng(4).integers(0, 6, 50)
    bits = (ids.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    job = work(
        "bce", {"logits": x, "targets": bits}, frozenset({"targets"}), targets_format="index", reduction="sum"
    )
    expected = work("bce", {"logits": x, "targets": ids}, targets_format="index", reduction="sum")
    assert figures(job).sum.value == figures(expected).sum.value


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8"])
def test_unsigned_targets_and_weights_have_the_same_bits(dtype: str) -> None:
    x = logits((BLOCK + 64,))
    y = np.random.default_rng(5).integers(0, 2, x.shape)
    weight = np.random.default_rng(6).integers(0, 60_000, x.shape)
    given = {"logits": x, "targets": y.astype(dtype), "weight": weight.astype(dtype)}
    found = [
        figures(work("focal", tensors, reduction="sum")).sum.terms
        for tensors in (given, {"logits": x, "targets": y * 1.0, "weight": weight * 1.0})
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("loss", ["bce", "focal"])
@pytest.mark.parametrize(("background", "dtype"), [(6, "i8"), (-1, "i2"), (255, "u1"), (0, "u2"), (6, "f4")])
def test_a_background_is_of_no_class_and_counts(background: int, dtype: str, loss: str) -> None:
    x, ids = logits(), np.random.default_rng(4).integers(0, 6, 50)
    ids[::3] = background
    expected = elements(loss, x, dense(np.where(ids == background, -9, ids), 6), label_smoothing=0.1)
    params: dict[str, Any] = {"targets_format": "index", "background_index": background}
    got = elements(loss, x, ids.astype(dtype), label_smoothing=0.1, **params)
    assert got.tobytes() == expected.tobytes()
    job = work(loss, {"logits": x, "targets": ids.astype(dtype)}, reduction="sum", **params)
    score = figures(job)
    assert score.count == x.size
    assert score.positives.value == (ids != background).sum()


def test_background_and_what_is_ignored_beside_each_other_along_any_axis() -> None:
    x = logits((5, 6, 7))
    ids = np.random.default_rng(7).integers(0, 6, (5, 7))
    ids[0], ids[1], ids[2] = 6, 255, -1
    params: dict[str, Any] = {"targets_format": "index", "class_axis": 1, "background_index": 6}
    with pytest.raises(RequestError, match="target_out_of_range"):
        elements("bce", x, ids, ignore_index=255, **params)
    ids[2] = 3
    expected = elements("bce", x, np.moveaxis(dense(ids, 6), -1, 1))
    expected[1] = 0.0
    assert elements("bce", x, ids, ignore_index=255, **params).tobytes() == expected.tobytes()


def test_ids_that_are_missing_are_dropped_with_all_their_classes() -> None:
    x, ids = logits(), np.random.default_rng(4).integers(0, 6, 50).astype(np.float64)
    ids[::4] = math.nan
    expected = np.where(np.isnan(ids)[:, None], 0.0, elements("bce", x, dense(ids, 6)))
    got = elements("bce", x, ids, targets_format="index", ignore_index="nan")
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("ids", "params", "code", "said"),
    [
        ([0.0, 1.5], {}, "dtype_not_allowed", "1.5 is no class id at /targets/1"),
        ([0.0, math.nan], {}, "non_finite_input", 'ignore_index="nan"'),
        ([0.0, math.nan], {"allow_nan": True}, "non_finite_input", "NaN at /targets/1"),
        ([0.0, math.inf], {}, "target_out_of_range", "inf is outside"),
        (
            [0, 2**64 - 1],
            {},
            "target_out_of_range",
            "-1 before a cast to unsigned integers, send signed ones",
        ),
        ([3, 2], {}, "target_out_of_range", "background_index=3 counts it"),
        ([3, 2], {}, "target_out_of_range", "ignore_index=3 leaves it out"),
        ([3, 2], {}, "target_out_of_range", "if the labels are 1 to 3, subtract 1"),
        ([-1, 2], {}, "target_out_of_range", "background_index=-1 counts it"),
        ([-100, 2], {}, "target_out_of_range", "unlabelled, as by default in torch, ignore_index=-100"),
    ],
)
def test_other_ids_are_refused(ids: list[float], params: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(RequestError, match=code) as caught:
        elements("bce", np.zeros((2, 3)), np.array(ids), targets_format="index", **params)
    assert said in caught.value.detail


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_focal"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "if the labels are 1 to 3, subtract 1; if 3 means unlabelled, ignore_index=3 drops its row"),
        (255, "ids count from 0; if 255 means unlabelled, ignore_index=255 drops its row"),
        (-100, "if -100 means unlabelled, as by default in torch, ignore_index=-100 drops its row"),
        (7.5, "send whole numbers"),
    ],
)
def test_an_id_of_a_row_of_classes_is_no_background(value: float, said: str, loss: str) -> None:
    with pytest.raises(RequestError) as caught:
        elements(loss, np.zeros((2, 3)), np.array([0, value]))
    assert said in caught.value.detail
    assert "background" not in caught.value.detail


@pytest.mark.parametrize(
    ("loss", "value", "said"),
    [
        ("cross_entropy", math.nan, "a mask drops"),
        ("cross_entropy", 2.0, "or class ids in the inputs' shape less class_axis; a mask drops rows"),
        ("softmax_focal", -1.0, "a mask drops rows that have no label"),
        ("softmax_focal", 1.5, "send a probability of every class"),
        ("box", math.nan, "a mask drops"),
    ],
)
def test_no_remedy_is_a_parameter_that_is_refused_then(loss: str, value: float, said: str) -> None:
    given = np.array([[0.0, 0.0, 1.0, 1.0]])
    inputs = {"boxes": given} if loss == "box" else {"logits": given}
    with pytest.raises(RequestError) as caught:
        elements(loss, **inputs, targets=np.array([[0.0, 0.0, 1.0, value]]))
    assert said in caught.value.detail
    assert "ignore_index" not in caught.value.detail


@pytest.mark.parametrize("label", [1, 1.0, -1, 255])
def test_with_one_class_the_first_remedy_is_that_of_labels(label: float) -> None:
    with pytest.raises(RequestError) as caught:
        elements("bce", np.zeros((2, 1)), np.array([0, label]), targets_format="index")
    detail = caught.value.detail
    assert detail.split("; ")[1:3] == [
        "there is one class, and id 0 means it",
        "if these are 0/1 labels, leave targets_format out and send them in the inputs' shape, "
        "targets[:, None]",
    ]
    assert f"if {label:g} is a background, of no class, background_index={label:g} counts it" in detail
    assert "subtract 1" not in detail


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (-1.0, "if the labels are -1 and 1, send (y + 1) / 2; only if -1 means unlabelled, ignore_index=-1"),
        (7.0, "if these are class ids, send them with targets_format=index"),
        (255.0, "if 255 means unlabelled, ignore_index=255 drops the element"),
        (1.5, "a target is a 0/1 label or a probability"),
    ],
)
def test_a_dense_target_out_of_range_is_refused_with_all_that_it_may_mean(target: float, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        elements("bce", [0.0, 0.0], [1.0, target])
    assert said in caught.value.detail


@pytest.mark.parametrize(
    "params",
    [
        {"background_index": 3},
        {"background_index": 3, "targets_format": "dense"},
        {"background_index": 3, "ignore_index": 3, "targets_format": "index"},
    ],
)
def test_a_background_goes_with_ids_and_is_not_ignored(params: dict[str, object]) -> None:
    checked = check_params(LOSSES["bce"], params)
    with pytest.raises(RequestError, match="invalid_parameter"):
        check_targets(checked)


@pytest.mark.parametrize("value", [1.5, "3", True, 2**53, [3]])
def test_a_background_is_an_integer(value: object) -> None:
    with pytest.raises(RequestError, match="background_index must be an integer"):
        check_params(LOSSES["bce"], {"background_index": value})


@pytest.mark.parametrize("value", ["NaN", "none", True, 2**53, [3]])
def test_ignore_index_is_a_number_or_the_word_nan(value: object) -> None:
    with pytest.raises(RequestError, match="ignore_index must be a number"):
        check_params(LOSSES["bce"], {"ignore_index": value})


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i4", ">i8"])
def test_whole_weights_have_the_bits_of_floats(dtype: str) -> None:
    x, y = logits(), np.random.default_rng(5).random((50, 6))
    weight = np.random.default_rng(6).integers(0, 9, (50, 1))
    k = np.array([0, 1, 2, 3, 4, 5])
    expected = elements("focal", x, y, weight=weight * 1.0, pos_weight=k * 1.0)
    got = elements("focal", x, y, weight=weight.astype(dtype), pos_weight=k.astype(dtype))
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1), (4, 3, 5, 2), (4, 1, 1, 1), (5, 1)])
def test_pos_weights_of_several_dimensions_broadcast(shape: tuple[int, ...]) -> None:
    x = logits((4, 3, 5, 2))
    y = np.random.default_rng(5).random(x.shape)
    k = np.random.default_rng(6).random(shape) * 5
    expected = k * y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)
    np.testing.assert_allclose(elements("bce", x, y, pos_weight=k), expected, rtol=1e-14)


def refusals(loss: str, **tensors: Array) -> str:
    """The detail of a request's error, which is the same by each kernel."""
    details = set()
    for kernel in KERNELS:
        with pytest.raises(RequestError) as caught:
            figures_by(kernel, work(loss, tensors))
        details.add(caught.value.detail)
    [detail] = details
    return detail


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_focal"])
def test_no_remedy_is_a_parameter_that_the_loss_does_not_have(loss: str) -> None:
    def said(*targets: object) -> str:
        return refusals(loss, logits=np.zeros((2, 3)), targets=np.array(targets))

    by_id = said(0, 3)
    assert "subtract 1; if 3 means unlabelled, ignore_index=3 drops its row" in by_id
    assert "background" not in by_id
    assert said(0.0, np.nan).endswith('ignore_index="nan" drops what has no target; a mask drops its row')
    whole = "send whole numbers, or probabilities of every class with targets_format=dense"
    assert said(0.0, 2.5).endswith(whole)
    assert said(0.0, 3.5).endswith(whole)
    for value, remedy in (
        (np.nan, "a mask drops its row, allow_nan=true lets the NaN propagate into the loss"),
        (
            2.0,
            "send a probability of every class, or class ids in the inputs' shape less class_axis; a mask "
            "drops rows that have no label",
        ),
        (-0.5, "send a probability of every class"),
    ):
        dense = said([1.0, 0.0, 0.0], [value, 0.5, 0.5])
        assert dense.endswith(f"/targets/1/0; {remedy}")


def test_a_box_has_no_ignored_target() -> None:
    boxes = np.array([[0.0, 0.0, 1.0, 1.0]])
    missing = np.array([[0.0, 0.0, np.nan, 1.0]])
    assert "/targets/0/2; a mask drops the box" in refusals("box", boxes=boxes, targets=missing)
