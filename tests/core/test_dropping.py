"""What mask and ignore_index drop: nothing under it is looked at, and it counts in nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.scoring import BLOCK, elements, sums, total, work
from core.scoring import figures as figures_of
from lossd.types import RequestError

Array = npt.NDArray[Any]
SHAPE = (7, 3, 5)
INPUTS = ("logits", "probabilities")
VARIANTS = ("sigmoid", "exp", "quality")


def tensors(inputs: str, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 4, shape) if inputs == "logits" else rng.random(shape)
    return {inputs: values, "targets": rng.random(shape), "weight": rng.random(shape) * 3}


def figures(job: Any) -> tuple[float, int, float, float]:  # noqa: ANN401 -- a Work
    score = figures_of(job)
    assert score.weight_sum is not None
    return score.sum.value, score.count, score.weight_sum.value, score.positives.value


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", ">u4", "u8", "i1", "i2", ">i4", "i8"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 1), (7, 1, 1), (1, 3, 5), SHAPE])
def test_a_mask_broadcasts(shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(1)
    mask = np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    given = tensors("logits")
    kept = np.broadcast_to(mask, SHAPE) != 0
    expected = np.where(kept, elements("focal", **given), 0.0)
    assert elements("focal", **given, mask=mask).tobytes() == expected.tobytes()
    job = work("focal", {**given, "mask": mask}, reduction="sum")
    got = figures(job)
    assert got[1] == kept.sum()
    for figure, per_element in zip(
        (got[0], *got[2:]), (expected, given["weight"] * kept, given["targets"] * kept), strict=True
    ):
        assert figure == pytest.approx(math.fsum(per_element.ravel()), rel=1e-14, abs=0)


@pytest.mark.parametrize("wrong", [2, 127, 255])
def test_a_mask_holds_0_and_1_alone(wrong: int) -> None:
    mask = np.array([1, 0, 1, wrong], dtype=np.uint8)
    for one in (mask, mask.view(np.bool_), mask.astype(np.int8), mask.astype(np.uint64)):
        with pytest.raises(RequestError) as caught:
            elements("bce", [0.5] * 4, [0] * 4, mask=one)
        said = wrong if one.dtype != np.int8 or wrong < 128 else wrong - 256
        assert caught.value.code == "weight_out_of_range"
        assert caught.value.errors == (("/mask/3", f"{said} is neither 0 nor 1"),)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("inputs", INPUTS)
def test_nan_as_ignore_index_drops_what_has_no_label(inputs: str, smoothing: float) -> None:
    given = tensors(inputs)
    given["targets"][1:5:2, 1] = math.nan
    clean = {**given, "targets": np.nan_to_num(given["targets"], nan=0.25)}
    given[inputs] = given[inputs].copy()
    given[inputs][1, 1] = math.nan  # what is not scored is not looked at
    kept = ~np.isnan(given["targets"])
    expected = np.where(kept, elements("bce", **clean, label_smoothing=smoothing), 0.0)
    got = elements("bce", **given, ignore_index="nan", label_smoothing=smoothing)
    assert got.tobytes() == expected.tobytes()
    job = work("bce", given, reduction="sum", ignore_index="nan", label_smoothing=smoothing)
    assert figures(job)[1] == kept.sum() == kept.size - 10
    assert figures(job)[3] == math.fsum(given["targets"][kept])


def test_a_nan_target_is_refused_without_ignore_index() -> None:
    for params in ({}, {"ignore_index": 0.0}):
        with pytest.raises(RequestError, match='ignore_index="nan"') as caught:
            elements("bce", [1.0, 1.0], [0.5, math.nan], **params)
        assert caught.value.code == "non_finite_input"
        assert caught.value.errors[0][0] == "/targets/1"
    assert elements("bce", [1.0, math.nan], [math.nan, 1.0], ignore_index="nan", allow_nan=True)[0] == 0.0


BAD: dict[str, tuple[float, ...]] = {
    "logits": (math.nan, math.inf, -math.inf),
    "probabilities": (math.nan, math.inf, -math.inf, 1.5, -0.1, 0.0, 1.0),
    "targets": (math.nan, math.inf, -math.inf, 2.0, -1.0),
    "weight": (math.nan, math.inf, -math.inf, -1.0),
}


@pytest.mark.parametrize("allow_nan", [False, True])
@pytest.mark.parametrize("variant", [None, *VARIANTS])
@pytest.mark.parametrize("inputs", INPUTS)
def test_what_a_mask_drops_is_not_looked_at(inputs: str, variant: str | None, allow_nan: bool) -> None:
    rng = np.random.default_rng(2)
    clean = tensors(inputs, (BLOCK + 300,))
    mask = rng.random(BLOCK + 300) < 0.7
    dirty = {name: array.copy() for name, array in clean.items()}
    for name, array in dirty.items():
        array[~mask] = rng.choice(BAD[name], int((~mask).sum()))
    loss = "bce" if variant is None else "focal"
    params: dict[str, Any] = {"label_smoothing": 0.1, "allow_nan": allow_nan}
    if variant is not None:
        params["variant"] = variant
    expected = np.where(mask, elements(loss, **clean, **params), 0.0)
    assert elements(loss, **dirty, mask=mask, **params).tobytes() == expected.tobytes()
    pair = [work(loss, {**given, "mask": mask}, reduction="sum", **params) for given in (clean, dirty)]
    assert figures(pair[0]) == figures(pair[1])
    assert figures(pair[0])[1] == mask.sum()


@pytest.mark.parametrize("ignored", [255.0, -100.0, 0.5, 0.0, 1.0])
def test_a_dense_target_equal_to_ignore_index_drops_its_element(ignored: float) -> None:
    given = tensors("logits")
    given["targets"][1:5:2, 1] = ignored
    clean = {name: array.copy() for name, array in given.items()}
    clean["targets"][clean["targets"] == ignored] = 0.25
    given["logits"][1, 1] = math.nan
    given["weight"][3, 1] = -1.0
    kept = given["targets"] != ignored
    expected = np.where(kept, elements("bce", **clean), 0.0)
    assert elements("bce", **given, ignore_index=ignored).tobytes() == expected.tobytes()
    job = work("bce", given, reduction="sum", ignore_index=ignored)
    assert figures(job)[1] == kept.sum() == kept.size - 10
    assert figures(job)[3] == pytest.approx(given["targets"][kept].sum(), rel=1e-14)


@pytest.mark.parametrize(
    ("dtype", "ignored"),
    [("u1", 255), ("i1", -1), ("i2", -100), (">i4", 7), ("i8", -100), ("?", 0), ("f2", 0.5), (">f8", -1)],
)
def test_ignore_index_in_every_dtype(dtype: str, ignored: float) -> None:
    y = np.array([0, 1, ignored, 1, ignored], dtype=dtype)
    got = elements("bce", np.full(5, 2.0), y, ignore_index=ignored)
    assert ((got == 0.0) == (y == np.array(ignored, dtype=dtype))).all()


def test_ignore_index_that_no_target_equals_changes_nothing() -> None:
    given = tensors("logits")
    expected = elements("focal", **given).tobytes()
    assert elements("focal", **given, ignore_index=-100).tobytes() == expected
    with pytest.raises(RequestError, match="target_out_of_range"):
        elements("bce", [1.0], [255.0], ignore_index=254)


def test_mask_and_ignore_index_both_drop() -> None:
    got = elements("bce", [1.0] * 4, [0, 9, 9, 1], mask=np.array([0, 1, 0, 1]) == 1, ignore_index=9)
    assert (got != 0).tolist() == [False, False, False, True]


@settings(max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_dropped_elements_neighbours_keep_their_bits(variant: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 200))
    at = data.draw(st.integers(0, count - 1))
    inputs = data.draw(st.sampled_from(INPUTS))
    wrong = data.draw(st.sampled_from(BAD[inputs]))
    gamma = data.draw(st.sampled_from([0.0, 0.5, 1.5, 2.0, 2.7]))
    given = tensors(inputs, (count,), seed=data.draw(st.integers(0, 9)))
    expected = elements("focal", **given, variant=variant, gamma=gamma)
    expected[at] = 0.0
    given[inputs][at] = wrong
    mask = np.arange(count) != at
    got = elements("focal", **given, variant=variant, gamma=gamma, mask=mask)
    assert got.tobytes() == expected.tobytes()


def test_all_dropped_is_a_sum_over_nothing() -> None:
    given = {name: np.full(100, math.nan) for name in ("logits", "targets", "weight")}
    job = work("focal", {**given, "mask": np.zeros(1, dtype=np.bool_)}, reduction="sum")
    assert figures(job) == (0.0, 0, 0.0, 0.0)
    assert elements("focal", **given, mask=np.zeros((), dtype=np.bool_)).tobytes() == bytes(800)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4)])
def test_nothing_comes_to_nothing(shape: tuple[int, ...]) -> None:
    given = {"logits": np.empty(shape), "targets": np.empty(shape)}
    assert total(work("focal", given, reduction="sum")) == 0.0
    assert elements("focal", **given).shape == shape
    for axis in range(len(shape)):
        job = work("focal", given, reduction="sum", axis=axis)
        assert sums(job).tolist() == [0.0] * math.prod(n for i, n in enumerate(shape) if i != axis)
