"""What lies along the class axis: index targets, pos_weight and alpha."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
from core.scoring import BLOCK, elements, figures, sums, work
from lossd.types import RequestError

Array = npt.NDArray[Any]
DTYPES = ("u1", "i1", "i2", "i4", "i8", ">i2", ">i4", ">i8")
SHAPE = (5, 6, 7)
AXES = (0, 1, 2, -1, -2, -3)


def one_hot(ids: Array, classes: int, axis: int) -> Array:
    hot = np.arange(classes).reshape(-1, *[1] * ids.ndim) == ids
    return np.ascontiguousarray(np.moveaxis(hot.astype(np.float64), 0, axis))


def assert_same(loss: str, first: dict[str, Any], second: dict[str, Any], **params: Any) -> None:  # noqa: ANN401
    """The same bits in every element, sum and figure."""
    assert elements(loss, **first).tobytes() == elements(loss, **second).tobytes()
    jobs = []
    for given_ in (first, second):
        tensors = {name: value for name, value in given_.items() if isinstance(value, np.ndarray)}
        own = {name: value for name, value in given_.items() if name not in tensors}
        jobs.append(work(loss, tensors, reduction="sum", **own, **params))
    scores = [figures(job) for job in jobs]
    assert scores[0].sum.value == scores[1].sum.value
    assert scores[0].count == scores[1].count
    assert scores[0].positives.value == scores[1].positives.value


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ids_are_the_one_hot_targets(dtype: str, axis: int) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, SHAPE)
    classes = SHAPE[axis]
    ids = rng.integers(0, classes, np.delete(SHAPE, axis)).astype(dtype)
    by_index = {"logits": logits, "targets": ids, "targets_format": "index", "class_axis": axis}
    assert_same("focal", by_index, {"logits": logits, "targets": one_hot(ids, classes, axis)})


@given(data=st.data())
def test_ids_with_every_other_parameter(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5)))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    classes = shape[axis]
    ids = rng.integers(0, classes, np.delete(shape, axis))
    shared: dict[str, Any] = {
        "logits": rng.normal(0, 4, shape),
        "label_smoothing": data.draw(st.sampled_from([0.0, 0.1, 1e-6])),
        "class_axis": axis,
        "pos_weight": rng.random(classes) * 3,
        "weight": rng.random(shape),
        "alpha": rng.random(classes),
        "gamma": data.draw(st.sampled_from([0.0, 1.5, 2.7])),
        "variant": data.draw(st.sampled_from(["sigmoid", "exp", "quality"])),
    }
    if data.draw(st.booleans()):
        shared["mask"] = rng.random(shape) < 0.5
    if ids.ndim and data.draw(st.booleans()):
        ids = np.asfortranarray(ids)
    assert_same(
        "focal",
        {**shared, "targets": ids, "targets_format": "index"},
        {**shared, "targets": one_hot(ids, classes, axis)},
    )


@pytest.mark.parametrize("ignored", [-100, 255, 2, 0])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_an_ignored_id_drops_all_its_classes(ignored: int, axis: int) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 4, SHAPE)
    ids = rng.integers(0, SHAPE[axis], np.delete(SHAPE, axis))
    ids[rng.random(ids.shape) < 0.4] = ignored
    dropped = np.broadcast_to(np.expand_dims(ids == ignored, axis), SHAPE)
    dense = {"logits": logits, "targets": one_hot(ids, SHAPE[axis], axis), "mask": ~dropped}
    spoilt = np.where(dropped, math.nan, logits)
    by_index = {"targets": ids, "targets_format": "index", "class_axis": axis, "ignore_index": ignored}
    assert_same("bce", {"logits": spoilt, **by_index}, dense)


def test_ids_over_several_blocks_and_split_classes() -> None:
    rng = np.random.default_rng(2)
    for shape, axis in (((2 * BLOCK // 80 + 3, 80), 1), ((3, BLOCK + 11), 1), ((BLOCK + 11, 3), 0)):
        logits = rng.normal(0, 4, shape).astype(np.float32)
        ids = rng.integers(0, shape[axis], shape[1 - axis]).astype(np.int32)
        assert_same(
            "focal",
            {"logits": logits, "targets": ids, "targets_format": "index", "class_axis": axis},
            {"logits": logits, "targets": one_hot(ids, shape[axis], axis)},
        )


def test_one_id_for_one_vector_of_classes() -> None:
    logits = np.array([1.0, -2.0, 0.5])
    got = elements("bce", logits, np.array(2), targets_format="index")
    assert got.tolist() == elements("bce", logits, [0, 0, 1]).tolist()


@pytest.mark.parametrize(
    ("ids", "place", "what"),
    [
        ([0, 1, 2, 3, 1], "/targets/3", "3 is outside"),
        ([0, -1, 2, 3, 1], "/targets/1", "-1 is outside"),
        ([0, 1, 2, 2, -100], "/targets/4", "-100 is outside"),
    ],
)
@pytest.mark.parametrize("allow_nan", [False, True])
def test_an_id_of_no_class_is_named(ids: list[int], place: str, what: str, allow_nan: bool) -> None:
    with pytest.raises(RequestError) as caught:
        elements("bce", np.zeros((5, 3)), np.array(ids), targets_format="index", allow_nan=allow_nan)
    assert caught.value.code == "target_out_of_range"
    assert caught.value.errors[0][0] == place
    assert what in caught.value.errors[0][1]


def test_an_id_of_no_class_is_named_by_its_own_index() -> None:
    ids = np.zeros((4, 5), dtype=np.int64)
    ids[2, 3] = 6
    with pytest.raises(RequestError) as caught:
        elements("bce", np.zeros((4, 6, 5)), ids, targets_format="index", class_axis=1)
    assert caught.value.errors[0][0] == "/targets/2/3"


def test_an_id_of_no_class_is_hidden_by_a_mask_over_all_its_classes_alone() -> None:
    given_: dict[str, Any] = {
        "logits": np.zeros((2, 3)),
        "targets": np.array([1, 9]),
        "targets_format": "index",
    }
    assert elements("bce", **given_, mask=np.array([[True], [False]]))[1].tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(RequestError, match="target_out_of_range"):
        elements("bce", **given_, mask=np.array([[True] * 3, [False, True, False]]))


@pytest.mark.parametrize("name", ["pos_weight", "alpha"])
@pytest.mark.parametrize("axis", AXES)
def test_one_number_a_class(name: str, axis: int) -> None:
    rng = np.random.default_rng(3)
    tensors = {"logits": rng.normal(0, 4, SHAPE), "targets": rng.random(SHAPE)}
    numbers = rng.random(SHAPE[axis])
    got = np.moveaxis(elements("focal", **tensors, **{name: numbers}, class_axis=axis), axis, 0)
    for c, number in enumerate(numbers):
        alone = {key: np.take(array, c, axis) for key, array in tensors.items()}
        assert got[c].tobytes() == elements("focal", **alone, **{name: float(number)}).tobytes()


@pytest.mark.parametrize("name", ["pos_weight", "alpha"])
@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("axis", [0, 1])
def test_one_number_for_all_classes(name: str, shape: tuple[int, ...], axis: int) -> None:
    tensors = {
        "logits": np.linspace(-3, 3, 12).reshape(3, 4),
        "targets": np.tile([0.0, 1.0, 0.3, 0.9], (3, 1)),
    }
    got = elements("focal", **tensors, **{name: np.full(shape, 0.375)}, class_axis=axis)
    assert got.tobytes() == elements("focal", **tensors, **{name: 0.375}).tobytes()


@pytest.mark.parametrize("variant", ["sigmoid", "exp", "quality"])
def test_alpha_a_class_against_the_reference(variant: str) -> None:
    x, alpha = np.array([[2.0, -1.5, 0.3], [-4.0, 9.0, 0.0]]), np.array([0.1, 0.75, 1.0])
    y = np.array([[0.0, 1.0, 0.25], [1.0, 0.0, 0.5]])
    got = elements("focal", x, y, alpha=alpha, variant=variant)
    for i, j in np.ndindex(2, 3):
        params: dict[str, Any] = {"alpha": float(alpha[j]), "variant": variant}
        assert reference.keeps_the_promise(
            float(got[i, j]), "focal", float(x[i, j]), float(y[i, j]), **params
        )


def test_a_pos_weight_of_the_channels_does_not_slip_to_the_columns() -> None:
    # [N, 3, H, 3]: numpy's broadcasting would take the last axis for the channels
    x, y, k = np.zeros((2, 3, 4, 3)), np.ones((2, 3, 4, 3)), np.array([1.0, 2.0, 4.0])
    got = elements("bce", x, y, pos_weight=k, class_axis=1)
    assert (got == math.log(2) * k[:, None, None]).all()


@pytest.mark.parametrize("axis", [2, -3])
def test_a_class_axis_that_is_not_there(axis: int) -> None:
    with pytest.raises(RequestError, match="class_axis") as caught:
        elements("bce", np.zeros((2, 2)), np.zeros((2, 2)), class_axis=axis)
    assert caught.value.code == "invalid_parameter"


def test_ids_count_as_positives_by_class() -> None:
    rng = np.random.default_rng(4)
    ids = rng.integers(-1, 6, 1000)
    job = work(
        "bce",
        {"logits": rng.normal(size=(1000, 6)), "targets": ids},
        targets_format="index",
        ignore_index=-1,
        axis=0,
        normalizer="positives",
    )
    assert sums(job, channel=1).tolist() == np.bincount(ids[ids >= 0], minlength=6).tolist()


@pytest.mark.parametrize("axis", [0, 1])
def test_more_classes_than_are_listed(axis: int) -> None:
    rng = np.random.default_rng(9)
    shape = (70_000, 3) if axis == 0 else (3, 70_000)
    x, ids = rng.normal(0, 3, shape), np.array([0, 69_999, 31_000])
    dense = np.zeros(shape)
    dense[(ids, range(3)) if axis == 0 else (range(3), ids)] = 1.0
    got = elements("focal", x, ids, targets_format="index", class_axis=axis)
    assert got.tobytes() == elements("focal", x, dense).tobytes()
