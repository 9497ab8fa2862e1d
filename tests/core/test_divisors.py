"""What a mean divides each of several outputs by, and the figures of the whole request."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.scoring import BLOCK, figures, sums, work

Array = npt.NDArray[Any]

SHAPES_AND_AXES: list[tuple[tuple[int, ...], Any]] = [
    ((400, 100), 0),
    ((400, 100), 1),
    ((3, BLOCK + 9), 1),
    ((3, BLOCK + 9), 0),
    ((BLOCK + 9, 3), 0),
    ((6, 5, 7), [0, 2]),
    ((6, 5, 7), [1]),
    ((6, 5, 7), [-1, -2]),
]


def exact_sums(per_element: Array, kept_axes: tuple[int, ...]) -> list[float]:
    """math.fsum over all but some axes."""
    moved = np.moveaxis(per_element, kept_axes, range(len(kept_axes)))
    rows = moved.reshape(math.prod(moved.shape[: len(kept_axes)]), -1)
    return [math.fsum(row) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weighted", "masked", "ignored"),  # any two of them together
    [(False, False, None), (True, True, None), (True, False, 0.5), (False, True, 0.5)],
)
@pytest.mark.parametrize("normalizer", ["count", "weight", "positives"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_divisors(
    shape: tuple[int, ...],
    axis: Any,  # noqa: ANN401 -- whatever the parameter may be
    normalizer: str,
    weighted: bool,
    masked: bool,
    ignored: float | None,
) -> None:
    rng = np.random.default_rng(0)
    y = rng.choice([0.0, 1.0, 0.5, 0.1], shape)
    tensors: dict[str, Array] = {"logits": rng.normal(0, 3, shape), "targets": y}
    kept = np.ones(shape, dtype=np.bool_)
    w = np.ones(shape)
    if weighted:
        tensors["weight"] = rng.random(shape[-1:]) * 5
        w = np.broadcast_to(tensors["weight"], shape)
    if masked:
        tensors["mask"] = rng.random(shape[:1] + (1,) * (len(shape) - 1)) < 0.6
        kept &= tensors["mask"]
    if ignored is not None:
        kept &= y != ignored
    job = work("bce", tensors, axis=axis, normalizer=normalizer, ignore_index=ignored, label_smoothing=0.1)
    per_element = {"count": kept * 1.0, "weight": np.where(kept, w, 0.0), "positives": np.where(kept, y, 0.0)}
    axes = {a % len(shape) for a in (axis if isinstance(axis, list) else [axis])}
    kept_axes = tuple(a for a in range(len(shape)) if a not in axes)
    expected = exact_sums(per_element[normalizer], kept_axes)
    if (
        job.work.divisor is None
    ):  # then nothing is dropped or weighted: each output's divisor is how many it has
        assert normalizer != "positives"
        assert set(expected) == {math.prod(shape) / job.work.cut.outputs}
    else:
        assert sums(job, channel=1).tolist() == expected

    score = figures(job)
    assert score.count == kept.sum()
    assert score.positives.value == pytest.approx(math.fsum(per_element["positives"].ravel()), rel=1e-14)
    if weighted:
        assert score.weight_sum is not None
        assert score.weight_sum.value == pytest.approx(math.fsum(per_element["weight"].ravel()), rel=1e-14)
    else:
        assert score.weight_sum is None


@given(data=st.data())
def test_positives_are_neither_smoothed_nor_weighted(data: st.DataObject) -> None:
    y = data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=50))
    tensors = {
        "logits": np.zeros(len(y)),
        "targets": np.array(y),
        "weight": np.full(len(y), 7.0),
        "pos_weight": np.array(3.0),
    }
    job = work("bce", tensors, reduction="sum", label_smoothing=0.5)
    got = figures(job).positives.value
    assert got == pytest.approx(math.fsum(y), rel=1e-14, abs=0)


def test_divisors_of_0_stay_0() -> None:
    tensors = {
        "logits": np.zeros((3, 2)),
        "targets": np.zeros((3, 2)),
        "mask": np.array([[True], [False], [True]]),
    }
    assert sums(work("bce", tensors, axis=1), channel=1).tolist() == [2.0, 0.0, 2.0]
    assert sums(work("bce", tensors, axis=1, normalizer="positives"), channel=1).tolist() == [0.0] * 3


@pytest.mark.parametrize(
    "params", [{"normalizer": 2.5, "axis": 0}, {"reduction": "sum", "axis": 1}, {"normalizer": "positives"}]
)
def test_no_divisors_are_summed_where_there_is_nothing_to_tell_apart(params: dict[str, Any]) -> None:
    tensors = {
        "logits": np.zeros((3, 2)),
        "targets": np.zeros((3, 2)),
        "mask": np.ones((3, 2), dtype=np.bool_),
    }
    assert work("bce", tensors, **params).work.divisor is None
