"""Columns of pandas, polars and pyarrow as tensors."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped] # it has no types
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from lossd_client import LossClient
from lossd_client._calls.arrays import FLOATS, MASK, TARGETS, as_array
from lossd_client.testing import FakeTransport

ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
FIXED = pa.list_(pa.float32(), 2)


@pytest.fixture
def client() -> Iterator[LossClient]:
    with LossClient(transport=FakeTransport) as opened:
        yield opened


def series(kind: str, values: list[Any]) -> Any:  # noqa: ANN401 - of three libraries
    return {"pandas": pd.Series, "polars": pl.Series, "pyarrow": pa.array}[kind](values)


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_a_table_is_scored_column_by_column(client: LossClient, kind: str) -> None:
    logits, labels, kept = [0.5, -1.5, 3.0], [1, 0, 1], [True, True, False]
    table = {"logit": series(kind, logits), "y": series(kind, labels), "kept": series(kind, kept)}
    result = client.bce(table["logit"], table["y"], mask=table["kept"])
    assert result.loss == client.bce(logits, labels, mask=kept).loss
    cameras, names = ["b", "a", "b"], ["x", "y", "z"]
    report = client.report(
        "bce",
        table["logit"],
        table["y"],
        groups=series(kind, cameras),
        ids=series(kind, names),
        sections=["groups", "top"],
    ).to_dict()
    assert (report["groups"]["ids"], report["groups"]["rows"]) == ([["a", "b"]], [1, 2])
    assert [row["id"] for row in report["top"]["rows"]] == ["x", "y", "z"]  # the more certain the less loss


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (pd.Series(ROWS), np.float64),
        (pd.Series([np.array(row, dtype=np.float32) for row in ROWS]), np.float32),
        (pd.Series([tuple(row) for row in ROWS]), np.float64),
        (pd.Series([[1, 2], np.array([3, 4]), (5.0, 6.0)]), np.float64),
        (pd.Series([[1, 2], [3, 4], [5, 6]]), np.float64),
        (pd.Series(ROWS, dtype=pd.ArrowDtype(pa.list_(pa.float32()))), np.float32),
        (pd.Series([*ROWS, [7.0, 8.0]])[:3], np.float64),
        (pd.DataFrame(ROWS), np.float64),
        (pd.Series(ROWS).to_numpy(), np.float64),
        (pl.Series(ROWS), np.float64),
        (pl.Series(ROWS, dtype=pl.List(pl.Float32)), np.float32),
        (pl.Series(ROWS, dtype=pl.Array(pl.Float32, 2)), np.float32),
        (pl.DataFrame({"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0]}), np.float64),
        (pa.array(ROWS), np.float64),
        (pa.array(ROWS, FIXED), np.float32),
        (pa.array(ROWS, pa.list_(pa.float16(), 2)), np.float16),
        (pa.array(ROWS, pa.large_list(pa.float64())), np.float64),
        (pa.array([[9.0], *ROWS])[1:], np.float64),
        (pa.array([[9.0, 9.0], *ROWS, [9.0, 9.0]], FIXED)[1:4], np.float32),
        (pa.chunked_array([pa.array(ROWS[:1]), pa.array(ROWS[1:])]), np.float64),
        (pa.chunked_array([pa.array(ROWS[:2], FIXED), pa.array(ROWS[2:], FIXED)]), np.float32),
        (pa.FixedShapeTensorArray.from_numpy_ndarray(np.array(ROWS)), np.float64),
    ],
)
def test_a_column_of_lists_is_a_table(column: Any, dtype: type[np.floating[Any]]) -> None:  # noqa: ANN401
    np.testing.assert_array_equal(as_array("logits", column, FLOATS), np.array(ROWS, dtype), strict=True)


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_lists_of_lists_have_three_axes(kind: str) -> None:
    cube: list[Any] = [[[1.0, 2.0]], [[3.0, 4.0]]]
    np.testing.assert_array_equal(as_array("x", series(kind, cube), FLOATS), np.array(cube), strict=True)


def test_fixed_lists_are_not_copied() -> None:
    values = np.arange(12, dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), 3)
    assert np.shares_memory(as_array("x", column, FLOATS), values)
    assert np.shares_memory(as_array("x", column[1:], FLOATS), values)


@pytest.mark.parametrize(
    "make", [pd.Series, pl.Series, pa.array, lambda rows: pa.chunked_array([rows[:1], rows[1:]])]
)
def test_a_row_of_another_length_is_named(make: Callable[[list[Any]], Any]) -> None:
    with pytest.raises(ValueError, match=r"logits.*: row 2 has 1 values, and row 0 has 2"):
        as_array("logits", make([[1.0, 2.0], [3.0, 4.0], [5.0]]), FLOATS)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([[1.0, 2.0], None]),
        pl.Series([[1.0, 2.0], None]),
        pa.array([[1.0, 2.0], None]),
        pa.array([[1.0, 2.0], None], FIXED),
    ],
)
def test_a_row_that_is_missing_is_named(column: Any) -> None:  # noqa: ANN401 - a column
    with pytest.raises(ValueError, match=r"logits.*: row 1 is (null|None).*leave that row out"):
        as_array("logits", column, FLOATS)
    with pytest.raises(ValueError, match=r"logits.*: row 0 is (null|None).*leave that row out"):
        as_array("logits", column[::-1], FLOATS)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1.0, None]),
        pd.Series([1, None], dtype="Int64"),
        pl.Series([1.0, None]),
        pl.Series([1, None]),
        pa.array([1.0, None]),
        pa.array([1, None]),
    ],
)
def test_a_target_that_is_missing_is_nan(column: Any) -> None:  # noqa: ANN401 - a column
    np.testing.assert_array_equal(as_array("targets", column, TARGETS, gaps=True), [1.0, np.nan])


@pytest.mark.parametrize(
    "column", [pd.Series([[1.0, None]]), pl.Series([[1.0, None]]), pa.array([[1.0, None]])]
)
def test_a_target_that_is_missing_within_a_list_is_nan(column: Any) -> None:  # noqa: ANN401 - a column
    np.testing.assert_array_equal(as_array("targets", column, TARGETS, gaps=True), [[1.0, np.nan]])


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([True, False]),
        pd.Series([True, False], dtype="boolean"),
        pl.Series([True, False]),
        pa.array([True, False]),
    ],
)
def test_flags_are_a_mask(column: Any) -> None:  # noqa: ANN401 - a column
    np.testing.assert_array_equal(as_array("mask", column, MASK), np.array([True, False]), strict=True)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.Series(["a", "b"]), "it holds str"),
        (pl.Series(["a", "b"]), "it holds str"),
        (pa.array(["a", "b"]), "it holds str"),
        (pd.Series([["a"], ["b"]]), "dtype str"),
        (pd.Series([[1.0, None]]), "it holds NoneType, float"),
        (pd.Series([True, None], dtype="boolean"), "it holds NAType, bool"),
        (pl.Series([True, None]), "it holds NoneType, bool"),
        (pa.array([{"a": 1.0}]), "it holds dict"),
    ],
)
def test_what_is_no_column_of_numbers(column: Any, message: str) -> None:  # noqa: ANN401 - a column
    with pytest.raises(TypeError, match=message):
        as_array("logits", column, FLOATS)


def test_a_mask_that_is_missing_has_pandas_own_remedy() -> None:
    column = pd.Series([None, True], dtype="boolean")
    with pytest.raises(TypeError, match=r"it holds NAType, bool: .*; \.fillna\(False\) leaves out what has"):
        as_array("mask", column, MASK)
    np.testing.assert_array_equal(as_array("mask", column.fillna(False), MASK), [False, True], strict=True)
    with pytest.raises(TypeError, match="which makes None NaN"):
        as_array("targets", column, TARGETS)


def test_empty_columns_of_lists() -> None:
    empty: list[tuple[Any, tuple[int, ...]]] = [
        (pa.array([], FIXED), (0, 2)),
        (pa.chunked_array([pa.array([], FIXED)]), (0, 2)),
        (pa.array([], pa.list_(pa.float64())), (0, 0)),
        (pl.Series([], dtype=pl.Array(pl.Float64, 2)), (0, 2)),
    ]
    found: NDArray[Any]
    for column, shape in empty:
        found = as_array("logits", column, FLOATS)
        assert found.shape == shape
