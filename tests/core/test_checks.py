"""Values that are refused, with their code and place, and NaN that are let through."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from core.scoring import BLOCK, elements, total, work
from lossd.types import RequestError

Array = npt.NDArray[Any]
NAN, INF = math.nan, math.inf

SHAPE = (700, 80)  # two blocks

FAULTS: list[tuple[str, tuple[int, ...], float, str]] = [
    ("probabilities", (0, 0), 1.0 + 2.0**-52, "probability_out_of_range"),
    ("probabilities", (17, 3), -5e-324, "probability_out_of_range"),
    ("probabilities", (699, 79), INF, "probability_out_of_range"),
    ("probabilities", (1, 0), -INF, "probability_out_of_range"),
    ("probabilities", (600, 1), NAN, "non_finite_input"),
    ("logits", (699, 79), NAN, "non_finite_input"),
    ("targets", (699, 79), 1.0 + 2.0**-52, "target_out_of_range"),
    ("targets", (0, 1), -5e-324, "target_out_of_range"),
    ("targets", (410, 0), -INF, "target_out_of_range"),
    ("targets", (3, 3), NAN, "non_finite_input"),
    ("weight", (699, 0), -5e-324, "weight_out_of_range"),
    ("weight", (0, 0), INF, "weight_out_of_range"),
    ("weight", (1, 0), NAN, "non_finite_input"),
    ("pos_weight", (79,), -1.0, "weight_out_of_range"),
    ("pos_weight", (0,), INF, "weight_out_of_range"),
    ("pos_weight", (4,), NAN, "non_finite_input"),
]


def tensors(inputs: str = "logits", shape: tuple[int, ...] = SHAPE) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 4, shape) if inputs == "logits" else rng.random(shape)
    return {inputs: values, "targets": rng.random(shape)}


@pytest.mark.parametrize("loss", ["bce", "focal"])
@pytest.mark.parametrize(("name", "index", "value", "code"), FAULTS)
def test_a_value_that_is_not_allowed_is_named(
    name: str, index: tuple[int, ...], value: float, code: str, loss: str
) -> None:
    given = tensors("probabilities" if name == "probabilities" else "logits")
    given |= {"weight": np.ones((700, 1)), "pos_weight": np.ones(80)}
    given[name][index] = value
    with pytest.raises(RequestError) as caught:
        total(work(loss, given))
    assert caught.value.code == code
    pointer, detail = caught.value.errors[0]
    assert pointer == "".join(f"/{part}" for part in (name, *index))
    assert detail.startswith("NaN" if math.isnan(value) else f"{value:.17g} is")
    if not math.isnan(value):
        with pytest.raises(RequestError, match=code):
            total(work(loss, given, allow_nan=True))


def test_the_first_in_c_order_is_named() -> None:
    for order in ("C", "F"):
        given = tensors()
        given["targets"] = np.array(given["targets"], order=order)
        given["targets"][5, 70] = 3.0
        given["targets"][6, 1] = 2.0
        with pytest.raises(RequestError) as caught:
            total(work("bce", given))
        assert caught.value.errors[0][0] == "/targets/5/70"


@pytest.mark.parametrize(
    ("shape", "index", "pointer"),
    [
        ((), (), "/weight"),
        ((1,), (0,), "/weight/0"),
        ((7,), (6,), "/weight/6"),
        ((5, 1), (4, 0), "/weight/4/0"),
        ((3, 1, 7), (2, 0, 1), "/weight/2/0/1"),
    ],
)
def test_a_broadcast_value_is_named_by_its_own_index(
    shape: tuple[int, ...], index: tuple[int, ...], pointer: str
) -> None:
    weight = np.ones(shape)
    weight[index] = -1.0
    with pytest.raises(RequestError) as caught:
        elements("bce", **tensors(shape=(3, 5, 7)), weight=weight)
    assert caught.value.errors[0][0] == pointer


def test_the_first_value_that_no_mask_drops_is_named() -> None:
    given = tensors(shape=(4, 3))
    given["targets"][:, 1] = 7.0
    mask = np.array([[False], [False], [True], [False]])
    with pytest.raises(RequestError) as caught:
        elements("bce", **given, mask=mask)
    assert caught.value.errors[0][0] == "/targets/2/1"
    mask[2] = False
    assert not elements("bce", **given, mask=mask).any()


def test_a_class_weight_is_named_along_any_axis() -> None:
    k = np.ones(5)
    k[3] = NAN
    with pytest.raises(RequestError) as caught:
        elements("bce", **tensors(shape=(3, 5, 7)), pos_weight=k, class_axis=1)
    assert caught.value.errors[0][0] == "/pos_weight/3"


def test_a_bool_that_is_neither_0_nor_1_is_no_target() -> None:
    y = np.array([0, 1, 2], dtype=np.uint8).view(np.bool_)
    with pytest.raises(RequestError, match="target_out_of_range"):
        elements("bce", np.zeros(3), y)


@pytest.mark.parametrize("params", [{"weight": [0.0, 0.0]}, {"pos_weight": 0.0}])
def test_a_nan_is_refused_also_where_a_zero_multiplies_it(params: dict[str, Any]) -> None:
    for loss in ("bce", "focal"):
        with pytest.raises(RequestError, match="non_finite_input"):
            elements(loss, [1.0, NAN], [1.0, 1.0], **params)
    with pytest.raises(RequestError, match="non_finite_input"):
        elements("focal", [1.0, NAN], [1.0, 1.0], alpha=0.0)


def test_a_nan_is_refused_beside_an_infinity() -> None:
    with pytest.raises(RequestError) as caught:
        elements("focal", [INF, -INF, NAN], [1.0, 1.0, 0.0])
    assert caught.value.errors[0][0] == "/logits/2"


@pytest.mark.parametrize("variant", [None, "sigmoid", "exp", "quality"])
@pytest.mark.parametrize("name", ["logits", "probabilities", "targets", "weight", "pos_weight"])
def test_a_nan_that_is_allowed_makes_its_own_elements_nan(name: str, variant: str | None) -> None:
    given = tensors("probabilities" if name == "probabilities" else "logits", (4, 6))
    given |= {"weight": np.ones((4, 1)), "pos_weight": np.ones(6)}
    loss: str
    params: dict[str, Any]
    loss, params = ("bce", {}) if variant is None else ("focal", {"variant": variant})
    expected = elements(loss, **given, **params)
    given[name][(1,) * given[name].ndim if name != "weight" else (1, 0)] = NAN
    got = elements(loss, **given, **params, allow_nan=True)
    spoilt = np.zeros((4, 6), dtype=np.bool_)
    where: dict[str, Any] = {"weight": (1, slice(None)), "pos_weight": (slice(None), 1)}
    spoilt[where.get(name, (1, 1))] = True
    assert np.isnan(got[spoilt]).all()
    assert got[~spoilt].tobytes() == expected[~spoilt].tobytes()


FACTORS: list[tuple[str, dict[str, Any]]] = [
    ("weight of 0", {"logits": [NAN], "targets": [1.0], "weight": [0.0]}),
    ("pos_weight of 0", {"logits": [NAN], "targets": [1.0], "pos_weight": 0.0}),
    ("target NaN at an infinite logit", {"logits": [INF], "targets": [NAN]}),
    ("target NaN at a certain probability", {"probabilities": [0.0], "targets": [NAN]}),
    ("target NaN with a weight of 0", {"logits": [1.0], "targets": [NAN], "weight": [0.0]}),
    ("weight NaN at a loss of 0", {"logits": [INF], "targets": [1.0], "weight": [NAN]}),
    ("weight NaN at an infinite loss", {"logits": [INF], "targets": [0.0], "weight": [NAN]}),
    ("pos_weight NaN at a negative target", {"logits": [1.0], "targets": [0.0], "pos_weight": NAN}),
    ("pos_weight NaN at an infinite loss", {"logits": [-INF], "targets": [1.0], "pos_weight": NAN}),
    ("pos_weight NaN at a loss of 0", {"logits": [INF], "targets": [1.0], "pos_weight": NAN}),
    ("pos_weight NaN at an infinite negative", {"logits": [INF], "targets": [0.0], "pos_weight": NAN}),
    ("pos_weight NaN at a certain 1", {"probabilities": [1.0], "targets": [1.0], "pos_weight": NAN}),
]


@pytest.mark.parametrize(("what", "given"), FACTORS, ids=[what for what, _ in FACTORS])
def test_a_zero_does_not_hide_a_nan_that_is_allowed(what: str, given: dict[str, Any]) -> None:
    assert np.isnan(elements("bce", **given, allow_nan=True)).all(), what
    for variant in ("sigmoid", "exp", "quality"):
        assert np.isnan(elements("focal", **given, allow_nan=True, variant=variant)).all(), (what, variant)


def test_a_nan_that_is_allowed_reaches_the_sums() -> None:
    given = tensors(shape=(BLOCK + 4,))
    given["logits"][BLOCK + 1] = NAN
    assert math.isnan(total(work("bce", given, reduction="sum", allow_nan=True)))


def test_what_is_beyond_float64_on_the_way_is_infinite() -> None:
    assert elements("bce", [-100.0], [1.0], pos_weight=1e308).tolist() == [INF]


def test_ids_that_float64_cannot_tell_apart_are_not_ignored() -> None:
    with pytest.raises(RequestError, match="ignore_index must be a number below"):
        work("bce", tensors(), ignore_index=2**53)
    given = {"logits": np.zeros((1, 3)), "targets": np.array([2**53 + 1])}
    with pytest.raises(RequestError, match="target_out_of_range"):
        total(work("bce", given, targets_format="index", ignore_index=2**53 - 1))


def test_an_infinite_logit_changes_no_other_element() -> None:
    given = {"logits": [0.3, 1.7, -2.1, 5.0], "targets": [0.3, 1.0, 0.0, 0.7], "weight": [0.7, 0.3, 1.1, 0.9]}
    alone = elements("focal", **given)
    beside = elements(
        "focal", **{name: [*values, INF if name == "logits" else 1.0] for name, values in given.items()}
    )
    assert beside[:4].tobytes() == alone.tobytes()


def test_a_dropped_class_may_have_any_pos_weight() -> None:
    mask = np.array([False, True, True])
    got = elements("bce", np.zeros(3), np.ones(3), mask=mask, pos_weight=[-1.0, 1.0, 1.0])
    assert got.tolist() == [0.0, math.log(2), math.log(2)]
