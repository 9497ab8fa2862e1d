"""Targets are sent in less, and mean the same to the last bit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.conftest import Ask
from client.playback import Answer, Playback
from lossd_client import LossClient
from lossd_client._calls.arrays import as_bools, as_ids

RNG = np.random.default_rng(3)
X: NDArray[np.float64] = RNG.normal(size=(40, 6))
HARD: NDArray[np.bool_] = RNG.random((40, 6)) > 0.5
ONE_HOT = np.eye(6)[RNG.integers(0, 6, 40)]


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as client:
        yield client


@pytest.mark.parametrize("dtype", ["float16", ">f4", "float64", "int16", "int64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_targets_of_0_and_1_go_as_bools(ask: Ask, playback: Playback, dtype: str, order: Any) -> None:  # noqa: ANN401 - "C" or "F"
    ask(playback.url, "bce", X, np.asarray(HARD, dtype=dtype, order=order))
    np.testing.assert_array_equal(playback.last.tensors["targets"], HARD, strict=True)
    assert playback.last.tensors["targets"].flags.f_contiguous == (order == "F")


@pytest.mark.parametrize(
    "targets",
    [
        np.where(HARD, 1.0, 0.25),
        np.where(HARD, np.nan, 0.0),
        np.where(HARD, 2, 0),
        np.where(HARD, -1, 0),
        HARD,
        HARD.astype(np.uint8),
        np.zeros((40, 6), dtype="V2"),
    ],
)
def test_others_go_as_they_are(ask: Ask, playback: Playback, targets: NDArray[Any]) -> None:
    ask(playback.url, "bce", X, targets)
    np.testing.assert_array_equal(playback.last.tensors["targets"], targets, strict=True)


def test_and_so_does_what_is_compared_or_asked_for(ask: Ask, playback: Playback) -> None:
    targets = HARD.astype(np.float32)
    for options, given in (({"shrink_targets": False}, {}), ({}, {"ignore_index": 0})):
        ask(playback.url, "bce", X, targets, options=options, **given)
        np.testing.assert_array_equal(playback.last.tensors["targets"], targets, strict=True)


def test_the_last_element_counts_too() -> None:
    targets = np.zeros((1 << 18) + 1)
    assert as_bools(targets) is not None
    targets[-1] = 0.5
    assert as_bools(targets) is None


def test_float64_is_cut_only_when_asked(ask: Ask, playback: Playback) -> None:
    wide = {"logits": X, "targets": RNG.random((40, 6)), "weight": np.ones((40, 1))}
    ask(playback.url, "bce", **wide)
    assert {array.dtype.str for array in playback.last.tensors.values()} == {"<f8"}
    ask(playback.url, "bce", **wide, options={"narrow_floats": True})
    for name, array in playback.last.tensors.items():
        np.testing.assert_array_equal(array, wide[name].astype(np.float32), strict=True)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("weight", 1e-50, r"weight holds 1e-50, which is 0"),
        ("weight", 1e300, r"weight holds 1e\+300, which is infinity"),
        ("logits", -1e39, r"logits holds -1e\+39, which is infinity"),
        ("targets", 1e-46, r"targets holds 1e-46, which is 0"),
    ],
)
def test_what_would_be_lost_by_it_is_not_sent(
    ask: Ask, playback: Playback, name: str, value: float, said: str
) -> None:
    wide = {"logits": X.copy(), "targets": RNG.random((40, 6)), "weight": np.ones((40, 6))}
    wide[name][3, 1] = value
    with pytest.raises(ValueError, match=f"^narrow_floats: {said} in float32; send it without narrow_floats"):
        ask(playback.url, "bce", **wide, options={"narrow_floats": True})
    assert playback.arrivals == []


def test_and_what_is_lost_already_is(ask: Ask, playback: Playback) -> None:
    wide = {"logits": X, "targets": HARD, "weight": np.full((40, 1), 1e-40)}
    wide["logits"] = np.where(HARD, np.inf, 0.0)
    ask(playback.url, "bce", **wide, options={"narrow_floats": True})
    np.testing.assert_array_equal(
        playback.last.tensors["weight"], wide["weight"].astype(np.float32), strict=True
    )


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_one_hot_rows_go_as_ids_when_asked(ask: Ask, playback: Playback, axis: int) -> None:
    ids = RNG.integers(0, 5, (3, 4)).astype(np.uint8)
    one_hot = np.moveaxis(np.eye(5, dtype=np.float32)[ids], -1, axis)
    options = {"one_hot_as_ids": True}
    ask(playback.url, "bce", np.zeros(one_hot.shape), one_hot, class_axis=axis, options=options)
    np.testing.assert_array_equal(playback.last.tensors["targets"], ids, strict=True)
    assert dict(playback.last.params)["targets_format"] == "index"
    assert dict(playback.last.params)["class_axis"] == str(axis)


def test_ids_that_nobody_gave_are_not_noted(ask: Ask, base_url: str) -> None:
    one_hot = np.eye(5)[RNG.integers(0, 5, (6, 5))]
    for options in ({}, {"one_hot_as_ids": True}):
        assert ask(base_url, "bce", np.zeros((6, 5, 5)), one_hot, options=options).notes == ()


@pytest.mark.parametrize("wrong", [np.zeros(6), np.ones(6), [0.5, 0.5, 0, 0, 0, 0], [np.nan, 1, 0, 0, 0, 0]])
def test_rows_that_are_not_one_hot_go_as_they_are(ask: Ask, playback: Playback, wrong: Any) -> None:  # noqa: ANN401 - numbers
    targets = ONE_HOT.copy()
    targets[17] = wrong
    ask(playback.url, "bce", X, targets, options={"one_hot_as_ids": True})
    assert playback.last.params == []
    np.testing.assert_array_equal(playback.last.tensors["targets"].astype(float), targets)


@pytest.mark.parametrize(("classes", "dtype"), [(256, np.uint8), (257, np.int16)])
def test_ids_are_as_small_as_they_can_be(classes: int, dtype: type) -> None:
    ids = as_ids(np.eye(classes), -1)
    assert ids is not None
    np.testing.assert_array_equal(ids, np.arange(classes, dtype=dtype), strict=True)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_the_loss_is_the_same_to_the_last_bit(client: LossClient, reduction: Any) -> None:  # noqa: ANN401 - a literal
    forms = [client.with_options(shrink_targets=False), client, client.with_options(one_hot_as_ids=True)]
    for given in ({"gamma": 2.0}, {"alpha": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "label_smoothing": 0.1}):
        results = [each.focal(X, ONE_HOT, reduction=reduction, **given) for each in forms]
        for result in results[1:]:
            np.testing.assert_array_equal(result.loss, results[0].loss)
            for name in ("sum", "count", "weight_sum", "positives"):
                assert getattr(result, name) == getattr(results[0], name)


def test_each_part_of_a_large_input_is_judged_alone(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_json(
        {"loss": 1.0, "sum": 1.0, "count": 1, "weight_sum": 1.0, "positives": 0.0}
    )
    targets = HARD.astype(np.float64)
    targets[30] = 0.5
    ask(playback.url, "bce", X, targets, options={"request_bytes": 10 * 6 * 16, "concurrency": 1})
    kinds = [arrival.tensors["targets"].dtype.name for arrival in playback.arrivals]
    assert kinds == ["bool", "bool", "bool", "float64"]
