from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from client.playback import npy
from lossd_client._calls.arrays import FLOATS, IDS, MASK, TARGETS, WEIGHTS, as_array, npy_pieces, read_npy


class Foreign:
    """As torch's CPU tensors do, hands out an array that shares its memory."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[Any]:
        return self.array


class OnDevice:
    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[Any]:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")


class Column:
    """As a table's column of Python objects does."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[Any]:
        array = np.empty(len(self.items), dtype=object)
        array[:] = self.items
        return array


MASKED: Any = np.ma.MaskedArray([1.0, 2.0], mask=[True, False])
BASE = np.arange(24, dtype=np.float32).reshape(4, 6)


@pytest.mark.parametrize(
    "array",
    [
        BASE,
        BASE.T,
        np.asfortranarray(BASE),
        BASE[0],
        BASE[:, 0],
        BASE[::-1],
        BASE[1:3],
        BASE.astype(">f8"),
        BASE.astype(">f4").T,
        BASE.astype(np.float16),
        BASE > 3,
        BASE.astype(np.int8),
        np.array(3.5),
        np.zeros((0, 3)),
        np.zeros((3, 0, 2), order="F"),
        np.broadcast_to(np.float32(2.0), (3, 2)),
        np.frombuffer(BASE.tobytes(), dtype=np.float32),
        np.ones((1, 1, 5)),
        np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_the_pieces_are_numpys_own_file(array: NDArray[Any]) -> None:
    assert b"".join(npy_pieces(array)) == npy(array)


@pytest.mark.parametrize("array", [BASE, BASE.T, BASE[1:3], BASE.astype(">f4"), BASE.astype(np.float16)])
def test_contiguous_arrays_are_not_copied(array: NDArray[Any]) -> None:
    _, memory = npy_pieces(as_array("logits", array, FLOATS))
    assert np.shares_memory(np.frombuffer(memory, dtype=np.uint8), array)
    assert (memory.format, memory.ndim, len(memory)) == ("B", 1, array.nbytes)


def test_a_mapped_file_is_sent_from_its_mapping(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", BASE)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    _, memory = npy_pieces(as_array("logits", mapped, FLOATS))
    assert np.shares_memory(np.frombuffer(memory, dtype=np.uint8), mapped)


def test_bfloat16_keeps_its_bytes() -> None:
    array = np.array([0x3F80, 0x4000], dtype=np.uint16).view("V2")
    header, memory = npy_pieces(as_array("logits", array, FLOATS))
    assert b"'descr': '|V2'" in header
    assert bytes(memory) == array.tobytes()


def test_what_shares_its_memory_is_not_copied() -> None:
    assert np.shares_memory(as_array("logits", Foreign(BASE), FLOATS), BASE)


@pytest.mark.parametrize(
    ("value", "allowed", "dtype"),
    [
        ([[0.5, 1.0]], FLOATS, "float64"),
        ([True, False], TARGETS, "bool"),
        ([0, 1], TARGETS, "int64"),
        ([0, 1], FLOATS, "float64"),
        (2, FLOATS, "float64"),
        ([], FLOATS, "float64"),
        ([np.float32(1.0)], FLOATS, "float32"),
        ([2, 0, -1], IDS, "int64"),
        (7, IDS, "int64"),
        ([], IDS, "int64"),
        ([[], []], IDS, "int64"),
        ([2**63], IDS, "uint64"),
        ([0.0, 2.0], IDS, "float64"),
        ([3, 1], WEIGHTS, "float64"),
        ([True, False], MASK, "bool"),
        ([[1, 0], [1, 0]], MASK, "bool"),
        ([[2, 0], [1, 0]], MASK, "int64"),
        ([], MASK, "bool"),
        ([Decimal(1), Decimal(0)], MASK, "bool"),
        ([Decimal(1), Decimal("0.00")], TARGETS, "int64"),
        ([Decimal("0.1"), 1], TARGETS, "float64"),
        ([Decimal(2), 3.0], WEIGHTS, "float64"),
        ([Decimal("2.50")], FLOATS, "float64"),
        (Decimal("2.50"), FLOATS, "float64"),
    ],
)
def test_python_values(value: ArrayLike, allowed: tuple[str, ...], dtype: str) -> None:
    assert as_array("x", value, allowed).dtype == dtype


@pytest.mark.parametrize(
    ("value", "allowed", "message"),
    [
        (np.ones(2, dtype=np.longdouble), FLOATS, "weight has dtype"),
        (np.ones(2, dtype=np.complex128), TARGETS, "weight has dtype complex128"),
        (np.ones(2, dtype=np.int64), FLOATS, "weight has dtype int64; allowed are float16"),
        (
            np.ones(2, dtype=np.bool_),
            WEIGHTS,
            "dtype bool; .* as the mask .* out of sum and count, and as a weight",
        ),
        (np.zeros(2, dtype=[("a", "f4")]), FLOATS, "weight has dtype"),
        (np.array([0.5, None]), TARGETS, r"dtype object.* holds NoneType, float: .*np\.asarray.*'nan'"),
        ([0.5, None], TARGETS, r"dtype object.* holds NoneType, float: .*ignore_index='nan'"),
        (Column([Decimal(1)]), TARGETS, r"holds Decimal: convert it first, with np\.asarray\(\.\.\., dtype"),
        (np.array([[{}], [np.ones(2)]], dtype=object), TARGETS, "holds dict, ndarray|holds arrays: stack"),
        ([True, Decimal(1)], WEIGHTS, "holds Decimal, bool"),
        (
            "x.npy",
            FLOATS,
            r"weight is the path 'x\.npy', not an array; load it first, as with np\.load\(path\)",
        ),
        (Path("x.npy.gz"), FLOATS, r"np\.load\(gzip\.open\(path\)\), or score files .*`lossd score`"),
        ("x.pt", FLOATS, r"torch\.load\(path, weights_only=True\)"),
        (["a"], TARGETS, "weight has dtype"),
        ([True], FLOATS, "weight has dtype bool"),
        ([True], IDS, "weight has dtype bool"),
        ([2**70], MASK, "weight has dtype object|weight has dtype float64"),
        ([0.0, 1.0], MASK, "float64; allowed are bool, uint8.*`array != 0`; other factors are a weight"),
        (None, FLOATS, "weight has dtype object"),
        ({1.0}, FLOATS, "weight has dtype object"),
        (np.ma.MaskedArray([1.0], mask=[True]), FLOATS, r"mask=~np\.ma\.getmaskarray\(array\)"),
        ([MASKED, MASKED], FLOATS, r"masked arrays in a list .*np\.ma\.stack"),
        ((BASE[0].tolist(), [*MASKED]), FLOATS, r"masked arrays in a list .*np\.ma\.stack"),
        ([[MASKED], [MASKED]], TARGETS, r"masked arrays in a list"),
        ([0.5, np.ma.masked], TARGETS, r"masked arrays in a list"),
        (np.array([b"1", b"0"]), MASK, r"holds bytes: a mask is bool, or integers of 0 and 1; .*np\.int64"),
        (Column([True, False]), MASK, r"holds bool: a mask is bool, or integers of 0 and 1; .*np\.int64"),
        (
            Column([True, None, 0.5]),
            MASK,
            r"a mask is bool, .*`array == 1` makes one that leaves all else out",
        ),
        (OnDevice(), FLOATS, r"weight cannot be read as an array: .* Use Tensor.cpu\(\)"),
    ],
)
def test_what_cannot_be_sent_is_a_type_error(
    value: ArrayLike, allowed: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        as_array("weight", value, allowed)


def test_the_advice_for_a_mask_of_digits_makes_that_mask() -> None:
    for digits in (np.array([b"1", b"0"]), np.array(["1", "0"]), np.array([True, False], dtype=object)):
        np.testing.assert_array_equal(np.asarray(digits, dtype=np.int64), [1, 0])
    with pytest.raises(ValueError, match="invalid literal"):
        np.asarray(np.array(["yes"]), dtype=np.int64)


def test_the_advice_for_masked_arrays_keeps_their_masks() -> None:
    joined = np.ma.stack([MASKED, MASKED])
    np.testing.assert_array_equal(np.ma.getmaskarray(joined), [[True, False]] * 2)


def test_a_matrix_is_an_array_like_any_other() -> None:
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.asmatrix(BASE)
    array = as_array("weight", matrix, FLOATS)
    assert type(array) is np.ndarray
    assert b"".join(npy_pieces(array)) == npy(BASE)


@pytest.mark.parametrize(
    "kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64]
)
@pytest.mark.parametrize("allowed", [TARGETS, IDS, WEIGHTS, MASK])
def test_integers_of_any_width_go_as_they_are(kind: type[np.integer[Any]], allowed: tuple[str, ...]) -> None:
    array = np.array([1, 0, 1], dtype=kind)
    assert as_array("x", array, allowed) is array


def test_numbers_other_than_0_and_1_stay_what_they_are_in_a_mask() -> None:
    np.testing.assert_array_equal(as_array("mask", [2, 0, -1], MASK), [2, 0, -1], strict=True)


def test_decimals_are_the_nearest_float64() -> None:
    given = [Decimal("0.1"), Decimal("0.30000000000000001"), Decimal(10) ** -30]
    np.testing.assert_array_equal(as_array("x", given, TARGETS), [0.1, 0.3, 1e-30], strict=True)


def test_none_is_nan_where_there_may_be_gaps() -> None:
    given: Any = [[1, None], [None, Decimal("0.5")]]
    found = as_array("targets", given, TARGETS, gaps=True)
    np.testing.assert_array_equal(found, [[1, np.nan], [np.nan, 0.5]], strict=True)


def test_ragged_lists_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="logits cannot be read as an array"):
        as_array("logits", [[1.0], [1.0, 2.0]], FLOATS)


@pytest.mark.parametrize("body", [b"", b"\x93NUMPY", b"<html>", npy(BASE)[:-1], npy(np.array(["a"]))])
def test_what_is_no_npy_of_numbers_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_npy(body)
