"""Losses of rows: which numbers a row has, what is read of it, and where an error says that a value is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from core.scoring import KERNELS, Figures, elements, figures, figures_by, sums, work
from lossd.types import RequestError

RNG = np.random.default_rng(23)
Array = npt.NDArray[Any]


def classes(*shape: int, axis: int = 1) -> dict[str, Array]:
    own = shape[:axis] + shape[axis + 1 :]
    return {"logits": RNG.normal(0, 3, shape), "targets": RNG.integers(0, shape[axis], own)}


def samples(*shape: int) -> dict[str, Array]:
    return {"logits": RNG.normal(0, 3, shape), "targets": (RNG.random(shape) < 0.3).astype(np.float32)}


def test_a_row_is_the_classes_of_a_sample_or_pixel() -> None:
    given = classes(4, 3, 5, 2)
    found = elements("cross_entropy", **given, class_axis=1)
    assert found.shape == (4, 5, 2)
    for at in np.ndindex(4, 5, 2):
        n, *pixel = at
        row = given["logits"][(n, slice(None), *pixel)][None]
        alone = elements("cross_entropy", row, given["targets"][at][None])
        assert alone.tobytes() == found[at].tobytes()
    x, ids = map(torch.from_numpy, given.values())
    loss = torch.nn.functional.cross_entropy(x, ids, reduction="none")
    np.testing.assert_allclose(found, loss.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda each: each.astype(each.dtype.newbyteorder(">"))]
)
@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_focal", "dice"])
def test_layout_and_byte_order_change_no_bit(loss: str, layout: Any) -> None:  # noqa: ANN401 -- a function
    given = samples(6, 7, 9) if loss == "dice" else classes(6, 7, 9)
    expected = elements(loss, **given, class_axis=1)
    laid = {name: layout(array) for name, array in given.items()}
    assert elements(loss, **laid, class_axis=1).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("per", "axes", "count"), [("sample", (1, 2, 3), 4), ("class", (0, 2, 3), 5), ("all", (0, 1, 2, 3), 1)]
)
def test_dice_has_a_loss_a_sample_a_class_or_one_of_all(per: str, axes: tuple[int, ...], count: int) -> None:
    given = samples(4, 5, 3, 2)
    found = elements("dice", **given, class_axis=1, per=per)
    p, y = 1 / (1 + np.exp(-given["logits"])), given["targets"].astype(float)
    false = ((p * (1 - y)).sum(axes) + ((1 - p) * y).sum(axes)) / 2
    expected = false / ((p * y).sum(axes) + false + 1)
    assert found.shape == (count,)
    np.testing.assert_allclose(found, np.reshape(expected, count), rtol=1e-12)


def test_class_ids_open_out_inside_rows() -> None:
    logits = RNG.normal(0, 3, (4, 5, 6))
    ids = RNG.integers(0, 5, (4, 6))
    dense = (np.arange(5)[None, :, None] == ids[:, None]).astype(float)
    for per in ("sample", "class", "all"):
        by_id = elements("tversky", logits, ids, class_axis=1, per=per, targets_format="index")
        assert by_id.tobytes() == elements("tversky", logits, dense, class_axis=1, per=per).tobytes()


def test_an_ignored_target_leaves_its_element_out_of_its_row() -> None:
    given = samples(3, 40)
    given["targets"][:, ::4] = 255
    found = elements("dice", **given, ignore_index=255)
    kept = np.flatnonzero(np.arange(40) % 4)
    without = {name: array[:, kept] for name, array in given.items()}
    assert found.tobytes() == elements("dice", **without).tobytes()
    job = work("dice", given, reduction="sum", ignore_index=255)
    assert figures(job).count == 3
    assert figures(job).positives.value == without["targets"].sum()


def read(found: Figures) -> tuple[object, ...]:
    """Figures that can be compared."""
    weights = found.weight_sum
    return found.sum.terms, found.count, weights and weights.terms, found.positives.terms


@pytest.mark.parametrize("size", [6, 3000])
@pytest.mark.parametrize("by_index", [False, True])
def test_a_row_of_ignored_targets_is_dropped(size: int, *, by_index: bool) -> None:
    """It counts in nothing, and nothing under it is looked at."""
    x, y = RNG.normal(0, 3, (5, 2, size)), RNG.integers(0, 2, (5, size) if by_index else (5, 2, size))
    weight = np.arange(1.0, 6.0)
    options: dict[str, Any] = {"class_axis": 1, "targets_format": "index" if by_index else "dense"}
    left = np.array([True, False, True, True, False])
    expected = read(
        figures(work("dice", {"logits": x[left], "targets": y[left], "weight": weight[left]}, **options))
    )
    marked = np.where(left.reshape(5, *[1] * (y.ndim - 1)), y, 255)
    x, weight = x.copy(), weight.copy()
    x[~left], weight[~left] = np.nan, np.nan
    whole = {"logits": x, "targets": marked, "weight": weight}
    given = work("dice", whole, ignore_index=255, **options)
    for kernel in KERNELS:
        assert read(figures_by(kernel, given)) == expected
    mask = np.array([1, 1, 0, 1, 1])
    both = work("dice", {**whole, "mask": mask}, ignore_index=255, **options)
    assert figures(both).count == 2


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_focal", "dice", "tversky", "box"])
def test_nothing_under_a_dropped_row_is_looked_at(loss: str) -> None:
    rows = 2500
    if loss == "box":
        corners = RNG.uniform(0, 9, (2, rows, 4)).cumsum(-1)
        given = {"boxes": corners[0], "targets": corners[1]}
    else:
        given = classes(rows, 6) if loss in ("cross_entropy", "softmax_focal") else samples(rows, 6)
    mask = RNG.random(rows) < 0.6
    expected = elements(loss, **given)
    spoilt = {name: array.astype(float) for name, array in given.items()}
    for array in spoilt.values():
        array[~mask] = math.nan
    weight = np.where(mask, 2.0, math.nan)
    job = work(loss, {**spoilt, "mask": mask, "weight": weight}, reduction="none")
    assert sums(job).tobytes() == np.where(mask, 2 * expected, 0.0).tobytes()
    found = figures(job)
    assert (found.count, found.weight_sum and found.weight_sum.value) == (mask.sum(), 2 * mask.sum())


def test_an_ignored_id_drops_its_row() -> None:
    given = classes(900, 7)
    given["targets"][::3] = -100
    kept = np.arange(900) % 3 > 0
    whole = figures(work("cross_entropy", given, ignore_index=-100))
    some = figures(work("cross_entropy", {name: array[kept] for name, array in given.items()}))
    assert (whole.sum.terms, whole.count) == (some.sum.terms, some.count)
    assert (whole.positives.value, some.count) == (600, 600)


def test_a_mean_by_weight_with_weights_of_classes_is_torchs() -> None:
    given = classes(3000, 10)
    weight = RNG.random(10)
    job = work("cross_entropy", {**given, "class_weight": weight}, normalizer="weight")
    found = figures(job)
    assert found.weight_sum is not None
    assert found.weight_sum.value == math.fsum(weight[given["targets"]])
    x, ids = map(torch.from_numpy, given.values())
    mean = torch.nn.functional.cross_entropy(x, ids, weight=torch.from_numpy(weight))
    assert found.sum.value / found.weight_sum.value == pytest.approx(float(mean), rel=1e-12)


def test_weights_of_rows_and_of_classes_multiply() -> None:
    given = classes(3000, 10)
    by_class, by_row = RNG.random(10), RNG.random(3000)
    job = work("cross_entropy", {**given, "class_weight": by_class, "weight": by_row}, axis=0)
    found = figures(job)
    assert found.weight_sum is not None
    assert found.weight_sum.value == math.fsum(by_class[given["targets"]] * by_row)


def test_no_rows_have_no_losses() -> None:
    job = work("cross_entropy", {"logits": np.zeros((0, 5)), "targets": np.zeros(0, int)}, reduction="sum")
    assert job.work.cut.parts == 0


@pytest.mark.parametrize("size", [1023, 1024, 1025, 40_000])
@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_focal", "dice"])
def test_a_long_row_is_never_cut(loss: str, size: int) -> None:
    given = samples(3, size) if loss == "dice" else classes(3, size)
    job = work(loss, given, elements=1, reduction="none")
    assert job.work.cut.parts == 3
    assert sums(job).tobytes() == elements(loss, **given).tobytes()


VALUES: list[tuple[str, dict[str, Any], str, tuple[int, ...], float, str, str]] = [
    ("cross_entropy", {}, "logits", (700, 3, 1), math.nan, "non_finite_input", "/logits/700/3/1"),
    ("cross_entropy", {}, "targets", (1200, 1), 4, "target_out_of_range", "/targets/1200/1"),
    ("cross_entropy", {}, "targets", (1, 0), 0.5, "dtype_not_allowed", "/targets/1/0"),
    ("softmax_focal", {}, "weight", (1299, 1), -1.0, "weight_out_of_range", "/weight/1299/1"),
    ("softmax_focal", {}, "mask", (3, 0), 2, "weight_out_of_range", "/mask/3/0"),
    ("cross_entropy", {}, "class_weight", (2,), math.inf, "weight_out_of_range", "/class_weight/2"),
    ("dice", {}, "targets", (1200, 3, 1), 1.5, "target_out_of_range", "/targets/1200/3/1"),
    ("dice", {"per": "class"}, "logits", (1299, 2, 1), math.nan, "non_finite_input", "/logits/1299/2/1"),
    ("dice", {"per": "all"}, "targets", (8, 0, 1), -1.0, "target_out_of_range", "/targets/8/0/1"),
]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("loss", "params", "name", "index", "value", "code", "pointer"), VALUES)
def test_a_wrong_value_is_where_the_error_says(
    loss: str,
    params: dict[str, Any],
    name: str,
    index: tuple[int, ...],
    value: float,
    code: str,
    pointer: str,
    order: Any,  # noqa: ANN401 -- C or F
) -> None:
    given = samples(1300, 4, 2) if loss == "dice" else classes(1300, 4, 2)
    if loss != "dice":
        given |= {"weight": np.ones((1300, 2)), "mask": np.ones((1300, 2), np.uint8)}
    if loss == "cross_entropy":
        given["class_weight"] = np.ones(4)
    given[name] = given[name].astype(given[name].dtype if name == "mask" else np.float64)
    given[name][index] = value
    given = {name: np.asarray(array, order=order) for name, array in given.items()}
    job = work(loss, given, class_axis=1, reduction="sum", **params)
    for kernel in KERNELS:
        with pytest.raises(RequestError) as caught:
            figures_by(kernel, job)
        assert (caught.value.code, caught.value.errors[0][0]) == (code, pointer)


BOXES: list[tuple[str, str, int, float, str, str]] = [
    ("boxes", "xyxy", 2, -5.0, "inverted_box", "-5 is less than the box's x1 at /boxes/901/2; "),
    ("targets", "xyxy", 3, -5.0, "inverted_box", "-5 is less than the box's y1 at /targets/901/3; "),
    ("boxes", "cxcywh", 2, -5.0, "inverted_box", "-5 is a negative width at /boxes/901/2; "),
    ("targets", "cxcywh", 3, -5.0, "inverted_box", "-5 is a negative height at /targets/901/3; "),
    ("boxes", "xyxy", 0, math.inf, "non_finite_input", "inf is not finite at /boxes/901/0; "),
    ("targets", "xyxy", 1, math.inf, "target_out_of_range", "inf is not finite at /targets/901/1; "),
    ("targets", "cxcywh", 1, math.nan, "non_finite_input", "NaN at /targets/901/1; "),
]


@pytest.mark.parametrize(("name", "form", "number", "value", "code", "detail"), BOXES)
def test_a_box_is_finite_and_not_inverted(
    name: str, form: str, number: int, value: float, code: str, detail: str
) -> None:
    given = {each: np.tile([1.0, 2.0, 3.0, 4.0], (1000, 1)) for each in ("boxes", "targets")}
    given[name][901, number] = value
    job = work("box", given, format=form)
    for kernel in KERNELS:
        with pytest.raises(RequestError) as caught:
            figures_by(kernel, job)
        assert caught.value.code == code
        assert caught.value.detail.startswith(f"{name}: {detail}")
