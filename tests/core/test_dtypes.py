"""Every dtype of every tensor is read exactly, in any layout, alignment and byte order."""

from __future__ import annotations

import math
import warnings
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
from core.scoring import BLOCK, elements, figures, sums, work

Array = npt.NDArray[Any]
FLOATS = ("float16", "bfloat16", "float32", "float64")
TARGETS = (*FLOATS, "bool", "uint8", "int8", "int16", "int32", "int64")


def as_dtype(values: Array, dtype: str) -> Array:
    """Rounded to a dtype; bfloat16, towards 0, as bit patterns."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return values.astype(dtype)
    bits: Array = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return bits


def exactly(array: Array, dtype: str) -> Array:
    """The float64 that such an array means, by numpy alone."""
    if dtype != "bfloat16":
        return array.astype(np.float64)
    wide: Array = (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return wide


def scored(loss: str, tensors: dict[str, Array], dtypes: dict[str, str], **params: Any) -> Array:  # noqa: ANN401
    bfloat16 = frozenset(name for name, dtype in dtypes.items() if dtype == "bfloat16")
    job = work(loss, tensors, bfloat16, reduction="none", **params)
    return sums(job).reshape(job.work.cut.shape)


@pytest.mark.parametrize("inputs", ["logits", "probabilities"])
@pytest.mark.parametrize(("dtype", "target_dtype"), list(product(FLOATS, TARGETS)))
def test_every_pair_of_dtypes(inputs: str, dtype: str, target_dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 8, 300) if inputs == "logits" else rng.random(300)
    y = rng.random(300) if target_dtype in FLOATS else rng.integers(0, 2, 300)
    tensors = {inputs: as_dtype(values, dtype), "targets": as_dtype(y, target_dtype)}
    dtypes = {inputs: dtype, "targets": target_dtype}
    wide = {name: exactly(array, dtypes[name]) for name, array in tensors.items()}
    got = scored("focal", tensors, dtypes)
    assert got.tobytes() == elements("focal", **wide).tobytes()
    for i in range(0, 300, 37):
        assert reference.keeps_the_promise(
            got[i],
            "focal",
            float(wide[inputs][i]),
            float(wide["targets"][i]),
            probabilities=inputs == "probabilities",
        )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_every_dtype_of_the_weights(name: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    tensors = {"logits": rng.normal(0, 4, (9, 70)), "targets": rng.random((9, 70))}
    given_ = as_dtype(rng.random(70) * 5, dtype)
    got = scored("focal", {**tensors, name: given_}, {name: dtype})
    assert got.tobytes() == elements("focal", **tensors, **{name: exactly(given_, dtype)}).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_bit_pattern_of_a_short_float(dtype: str) -> None:
    bits = np.arange(65536, dtype=np.uint16)
    array = bits.view(np.float16) if dtype == "float16" else bits
    tensors = {"logits": array, "targets": np.zeros(65536)}
    with np.errstate(invalid="ignore"):  # of signalling NaN, which have a test of their own
        wide = exactly(array, dtype)
        got = scored("bce", tensors, {"logits": dtype}, allow_nan=True)
    assert np.array_equal(np.isnan(got), np.isnan(wide))
    numbers = ~np.isnan(wide)
    expected = elements("bce", wide[numbers], np.zeros(numbers.sum()))
    assert got[numbers].tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_signalling_nan_is_a_nan_without_a_warning(dtype: str) -> None:
    patterns: dict[str, Array] = {
        "float16": np.array([0x7C01, 0], dtype=np.uint16).view(np.float16),
        "bfloat16": np.array([0x7F81, 0], dtype=np.uint16),
        "float32": np.array([0x7F800001, 0], dtype=np.uint32).view(np.float32),
        "float64": np.array([0x7FF0000000000001, 0], dtype=np.uint64).view(np.float64),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = scored(
            "bce", {"logits": patterns[dtype], "targets": np.zeros(2)}, {"logits": dtype}, allow_nan=True
        )
    assert math.isnan(got[0])
    assert got[1] == math.log(2)


@given(x=st.lists(st.floats(width=16, allow_nan=False), min_size=1, max_size=8), y=st.floats(0, 1, width=16))
def test_half_precision_against_the_reference(x: list[float], y: float) -> None:
    got = elements("bce", np.array(x, dtype=np.float16), np.full(len(x), y, dtype=np.float16))
    for value, loss in zip(x, got, strict=True):
        assert reference.keeps_the_promise(float(loss), "bce", value, y)


@given(x=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8), y=st.floats(0, 1, width=32))
def test_single_precision_against_the_reference(x: list[float], y: float) -> None:
    got = elements("focal", np.array(x, dtype=np.float32), np.full(len(x), y, dtype=np.float32))
    for value, loss in zip(x, got, strict=True):
        assert reference.keeps_the_promise(float(loss), "focal", value, y)
        assert abs(np.float32(loss) - np.float32(float(reference.element("focal", value, y)))) <= np.spacing(
            np.float32(loss)
        )


def laid_out(array: Array) -> list[Array]:
    """The same values in other layouts."""
    wide = np.repeat(array, 2, axis=-1)
    shifted = np.frombuffer(b"x" + array.tobytes(), dtype=array.dtype, offset=1).reshape(array.shape)
    other = array.dtype.newbyteorder(">")
    return [
        np.asfortranarray(array),
        np.ascontiguousarray(array[::-1])[::-1],
        np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0),
        wide[..., ::2],
        shifted,
        array.astype(other),
        np.asfortranarray(array.astype(other)),
        np.frombuffer(b"xyz" + array.astype(other).tobytes(), dtype=other, offset=3).reshape(array.shape),
    ]


SHAPE = (BLOCK // 77 + 9, 7, 11)  # a block and a bit


@pytest.mark.parametrize("variant", ["sigmoid", "exp", "quality"])
@pytest.mark.parametrize("axis", [None, 0, 1, [0, 2]])
def test_no_layout_changes_a_bit(variant: str, axis: object) -> None:
    rng = np.random.default_rng(2)
    given_ = {
        "logits": (rng.normal(0, 4, SHAPE).astype(np.float32), "float32"),
        "targets": (rng.integers(0, 2, SHAPE).astype(np.int16), "int16"),
        "weight": (as_dtype(rng.random(SHAPE), "bfloat16"), "bfloat16"),
        "mask": ((rng.random(SHAPE) < 0.8), "bool"),
    }
    params: dict[str, Any] = {"variant": variant, "gamma": 2.7, "reduction": "sum"}
    if axis is not None:
        params["axis"] = axis

    def bits(tensors: dict[str, Array]) -> tuple[bytes, float]:
        job = work("focal", tensors, frozenset({"weight"}), **params)
        if axis is not None:
            return sums(job).tobytes(), 0.0
        score = figures(job)
        assert score.weight_sum is not None
        return np.float64(score.sum.value).tobytes(), score.weight_sum.value

    plain: dict[str, Array] = {name: np.asarray(array) for name, (array, _) in given_.items()}
    expected = bits(plain)
    for layouts in zip(*(laid_out(array) for array in plain.values()), strict=True):
        assert bits(dict(zip(plain, layouts, strict=True))) == expected


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_layout_changes_an_element(dtype: str) -> None:
    rng = np.random.default_rng(3)
    shape = (5, 7, 11)
    logits, y = as_dtype(rng.normal(0, 4, shape), dtype), as_dtype(rng.random(shape), dtype)
    dtypes = {"logits": dtype, "targets": dtype}
    expected = scored("focal", {"logits": logits, "targets": y}, dtypes).tobytes()
    for x_, y_ in zip(laid_out(logits), reversed(laid_out(y)), strict=True):
        assert scored("focal", {"logits": x_, "targets": y_}, dtypes).tobytes() == expected


def test_eight_dimensions() -> None:
    rng = np.random.default_rng(4)
    shape = (2, 3, 1, 2, 3, 2, 1, 4)
    x, y = rng.normal(0, 4, shape), rng.random(shape)
    expected = elements("focal", x.reshape(-1), y.reshape(-1)).tobytes()
    assert elements("focal", np.asfortranarray(x), y).tobytes() == expected
