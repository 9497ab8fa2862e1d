from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from core.scoring import BLOCK, elements, figures, sums, total, work
from lossd.types import RequestError

RNG = np.random.default_rng(20240501)


def data(*shape: int) -> dict[str, npt.NDArray[Any]]:
    return {
        "logits": RNG.normal(0, 4, shape).astype(np.float32),
        "targets": (RNG.random(shape) < 0.2).astype(np.float32),
    }


SHAPES_AND_AXES: list[tuple[tuple[int, ...], object]] = [
    ((3 * BLOCK + 17,), None),
    ((500, 80), None),
    ((500, 80), 1),
    ((500, 80), 0),
    ((7, 9001), 1),
    ((7, 9001), 0),
    ((30, 5, 40, 9), [0, 2]),
    ((30, 5, 40, 9), [1, 3]),
    ((30, 5, 40, 9), [-1]),
]


@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_sums_are_those_of_the_elements(loss: str, shape: tuple[int, ...], axis: object) -> None:
    tensors = data(*shape)
    each = elements(loss, **tensors)
    params = {"reduction": "sum"} if axis is None else {"reduction": "sum", "axis": axis}
    job = work(loss, tensors, **params)
    if axis is None:
        assert total(job) == math.fsum(each.ravel())
        return
    expected = np.apply_over_axes(np.sum, each, job.work.cut.axes).reshape(-1)
    np.testing.assert_allclose(sums(job), expected, rtol=1e-14)


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 100, BLOCK - 1, BLOCK, BLOCK + 1])
def test_an_element_has_the_same_bits_wherever_it_stands(count: int) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(0, 10, count), rng.random(count)
    for gamma in (1.5, 2.7):
        together = elements("focal", x, y, gamma=gamma)
        for i in {0, count // 2, count - 1}:
            assert elements("focal", x[i : i + 1], y[i : i + 1], gamma=gamma)[0] == together[i]


def test_layout_and_byte_order_change_no_bit() -> None:
    tensors = data(300, 7, 11)
    expected = elements("focal", **tensors).tobytes()
    unaligned = np.frombuffer(b"x" + tensors["logits"].tobytes(), dtype="<f4", offset=1).reshape(300, 7, 11)
    for logits in (
        np.asfortranarray(tensors["logits"]),
        tensors["logits"].astype(">f4"),
        np.repeat(tensors["logits"], 2, axis=2)[:, :, ::2],
        unaligned,
    ):
        assert elements("focal", logits, tensors["targets"]).tobytes() == expected


def test_every_dtype_is_read_exactly() -> None:
    x = np.array([-3.5, 0.25, 1.5, -0.0, np.inf], dtype=np.float64)
    y = np.array([0, 1, 1, 0, 1])
    expected = elements("bce", x, y.astype(np.float64)).tobytes()
    for dtype in ("f2", "f4", "f8", ">f2", ">f8"):
        assert elements("bce", x.astype(dtype), y.astype(np.float64)).tobytes() == expected
    for dtype in ("?", "u1", "i1", "i2", "i4", "i8", ">i8", "f2"):
        assert elements("bce", x, y.astype(dtype)).tobytes() == expected
    bits = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    job = work("bce", {"logits": bits, "targets": y}, frozenset({"logits"}), reduction="none")
    assert sums(job).tobytes() == expected


@pytest.mark.parametrize("shape", [(), (1,), (40, 1), (1, 30), (30,), (40, 30)])
def test_weights_broadcast(shape: tuple[int, ...]) -> None:
    tensors = data(40, 30)
    weight = RNG.random(shape)
    got = elements("bce", **tensors, weight=weight)
    np.testing.assert_array_equal(got, elements("bce", **tensors) * weight)
    job = work("bce", {**tensors, "weight": weight}, reduction="sum")
    score = figures(job)
    assert score.weight_sum is not None
    assert score.weight_sum.value == pytest.approx(np.broadcast_to(weight, (40, 30)).sum(), rel=1e-14)
    assert score.positives.value == tensors["targets"].sum()


def test_pos_weight_lies_along_the_last_axis() -> None:
    tensors = data(3, 4, 3)
    k = np.array([0.5, 2.0, 4.0])
    got = elements("bce", **tensors, pos_weight=k)
    for c in range(3):
        alone = {name: array[..., c] for name, array in tensors.items()}
        assert got[..., c].tobytes() == elements("bce", **alone, pos_weight=k[c]).tobytes()


FAULTS = [
    ("targets", (17, 3), 1.7, "target_out_of_range", "/targets/17/3"),
    ("targets", (0, 0), -1e-9, "target_out_of_range", "/targets/0/0"),
    ("targets", (400, 79), math.nan, "non_finite_input", "/targets/400/79"),
    ("targets", (1, 1), math.inf, "target_out_of_range", "/targets/1/1"),
    ("logits", (250, 1), math.nan, "non_finite_input", "/logits/250/1"),
    ("weight", (3, 0), -1.0, "weight_out_of_range", "/weight/3/0"),
    ("weight", (499, 0), math.inf, "weight_out_of_range", "/weight/499/0"),
    ("weight", (9, 0), math.nan, "non_finite_input", "/weight/9/0"),
    ("pos_weight", (5,), -0.5, "weight_out_of_range", "/pos_weight/5"),
]


@pytest.mark.parametrize(("name", "index", "value", "code", "pointer"), FAULTS)
def test_faults_name_the_place(
    name: str, index: tuple[int, ...], value: float, code: str, pointer: str
) -> None:
    tensors = {**data(500, 80), "weight": np.ones((500, 1)), "pos_weight": np.ones(80)}
    tensors[name] = tensors[name].astype(np.float64)
    tensors[name][index] = value
    with pytest.raises(RequestError) as caught:
        total(work("focal", tensors))
    assert (caught.value.code, caught.value.errors[0][0]) == (code, pointer)


def test_a_neighbours_infinity_changes_no_bit() -> None:
    tensors = data(1000)
    alone = elements("focal", **tensors)
    tensors["logits"][500] = np.inf
    beside = elements("focal", **tensors)
    assert np.delete(beside, 500).tobytes() == np.delete(alone, 500).tobytes()
