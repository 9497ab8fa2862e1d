"""Groups and ids in every form in which tables have them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped] # it has no types
import polars as pl
import pyarrow as pa
import pytest
import torch

from lossd_client import LossClient
from lossd_client._calls.labels import Labels, put_back

NAMES = ["night", "day", "dusk", "day", "Zürich", "night"]
DISTINCT = ["Zürich", "day", "dusk", "night"]  # by code point
RANKS = [3, 1, 2, 1, 0, 3]
NUMBERS = [7, -3, 0, -3, 12, 7]


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        np.array,
        lambda names: np.array(names, dtype=object),
        lambda names: np.array(names, dtype=np.dtypes.StringDType()),
        pd.Series,
        lambda names: pd.Series(names, dtype="category"),
        lambda names: pd.Series(names, dtype=pd.ArrowDtype(pa.string())),
        lambda names: pd.Series(names, dtype=object),
        pd.Index,
        pl.Series,
        lambda names: pl.Series(names, dtype=pl.Categorical),
        lambda names: pl.Series(names, dtype=pl.Enum(DISTINCT[::-1])),
        pa.array,
        lambda names: pa.array(names, pa.large_string()),
        lambda names: pa.array(names).dictionary_encode(),
        lambda names: pa.chunked_array([names[:2], names[2:]]),
        lambda names: pa.chunked_array(
            [pa.array(each).dictionary_encode() for each in (names[:3], names[3:])]
        ),
    ],
)
def test_strings_are_sent_as_their_ranks(make: Callable[[list[str]], Any]) -> None:
    for labels in (Labels.of_ids(make(NAMES)), Labels.of_groups(make(NAMES))):
        np.testing.assert_array_equal(labels.numbers.reshape(-1), RANKS)
        assert labels.numbers.dtype == np.uint8
        assert [list(strings or ()) for strings in labels.strings] == [DISTINCT]


@pytest.mark.parametrize(
    "make",
    [
        list,
        np.array,
        lambda numbers: np.array(numbers, dtype=np.int16),
        lambda numbers: np.array(numbers, dtype=object),
        torch.tensor,
        pd.Series,
        lambda numbers: pd.Series(numbers, dtype="Int32"),
        lambda numbers: pd.Series(numbers, dtype="category"),
        pl.Series,
        pa.array,
        lambda numbers: pa.array(numbers).dictionary_encode(),
    ],
)
def test_integers_are_sent_as_they_are(make: Callable[[list[int]], Any]) -> None:
    for labels in (Labels.of_ids(make(NUMBERS)), Labels.of_groups(make(NUMBERS))):
        np.testing.assert_array_equal(labels.numbers.reshape(-1), NUMBERS)
        assert labels.strings == (None,)


def test_integers_beyond_int64() -> None:
    labels = Labels.of_ids([2**64 - 1, 0])
    np.testing.assert_array_equal(labels.numbers, np.array([2**64 - 1, 0], dtype=np.uint64), strict=True)
    both = Labels.of_groups({"a": np.array([2**63, 1], dtype=np.uint64), "b": [0, 5]})
    np.testing.assert_array_equal(both.numbers, np.array([[2**63, 0], [1, 5]], dtype=np.uint64), strict=True)
    small = Labels.of_groups({"a": np.array([3, 1], dtype=np.uint64), "b": [-1, 5]})
    np.testing.assert_array_equal(small.numbers, [[3, -1], [1, 5]], strict=True)
    for wrong in ([2**64], [2**63, -1]):
        with pytest.raises(ValueError, match="ids must fit 64 bits"):
            Labels.of_ids(wrong)
    with pytest.raises(ValueError, match="groups must fit 64 bits"):
        Labels.of_groups({"a": np.array([2**63], dtype=np.uint64), "b": [-1]})


TABLE = {"weather": NAMES, "camera": NUMBERS}


@pytest.mark.parametrize("make", [dict, pd.DataFrame, pl.DataFrame, pa.table])
def test_several_columns_by_name(make: Callable[[Any], Any]) -> None:
    labels = Labels.of_groups(make(TABLE))
    np.testing.assert_array_equal(labels.numbers, np.array([RANKS, NUMBERS]).T)
    assert labels.names == ("weather", "camera")
    assert [strings and list(strings) for strings in labels.strings] == [DISTINCT, None]


@pytest.mark.parametrize("make", [list, np.array])
def test_several_columns_without_names(make: Callable[[Any], Any]) -> None:
    labels = Labels.of_groups(make([[name, name[:1]] for name in NAMES]))
    np.testing.assert_array_equal(labels.numbers, np.array([RANKS, [2, 1, 1, 1, 0, 2]]).T)
    assert labels.strings == (DISTINCT, ["Z", "d", "n"])
    assert labels.names == ()
    assert list(labels.group_columns) == ["group0", "group1"]


@pytest.mark.parametrize("make", [pd.Series, lambda values, name: pl.Series(name, values)])
def test_a_column_brings_its_name(make: Callable[..., Any]) -> None:
    assert Labels.of_groups(make(NUMBERS, name="camera")).names == ("camera",)
    assert Labels.of_groups(NUMBERS).names == ()
    assert list(Labels.of_groups(NUMBERS).group_columns) == ["group"]


@pytest.mark.parametrize(
    "missing",
    [
        ["a", None, "b"],
        [1, None, 2],
        ["a", float("nan")],
        np.array(["a", None], dtype=object),
        pd.Series(["b", None]),
        pd.Series(["b", None], dtype="category"),
        pd.Series(["b", None], dtype=object),
        pd.Series(["b", pd.NA], dtype="string"),
        pl.Series(["b", None]),
        pl.Series(["b", None], dtype=pl.Categorical),
        pa.array(["b", None]),
        pa.array([1, None]),
        pa.array(["b", None]).dictionary_encode(),
    ],
)
def test_a_missing_label_is_named(missing: Any) -> None:  # noqa: ANN401 - any column
    with pytest.raises(ValueError, match=r"ids: the value of row 1 is missing: give it one of its own"):
        Labels.of_ids(missing)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([1.0, 2.0], r"all integers or all strings, and row 0 is 1\.0, of type float"),
        (
            np.array([1.0, 2.0]),
            r"integers or strings, and have dtype float64; convert them by astype\(np.int64",
        ),
        (pd.Series([1, None]), "have dtype float64"),
        ([True, False], "row 0 is True, of type bool"),
        (np.array([True]), "dtype bool"),
        ([1, "a"], "row 1 is 'a', of type str"),
        (["a", 1], "row 0 is 'a', of type str"),
        ([b"a"], "of type bytes"),
        (np.array([b"a"]), "dtype |S1"),
        (3, "is int"),
        ("night", "is str"),
        (np.ma.MaskedArray([1], mask=[True]), "mask would be lost"),
    ],
)
def test_what_is_no_label(wrong: Any, message: str) -> None:  # noqa: ANN401 - any column
    for read in (Labels.of_ids, Labels.of_groups):
        with pytest.raises(TypeError, match=message):
            read(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"a,b": NUMBERS}, "a name is text without commas, and 'a,b' is not"),
        ({"": NUMBERS}, "'' is not"),
        ({}, "columns of one length"),
        ({"a": [1], "b": [1, 2]}, r"columns of one length, \[N\], and have shapes {'a': \[1\], 'b': \[2\]}"),
        ({"a": [[1], [2]]}, r"{'a': \[2, 1\]}"),
        (np.zeros((1, 2, 3), np.int64), r"\[N\] or \[N, G\], and have \[1, 2, 3\]"),
    ],
)
def test_groups_of_a_wrong_form(wrong: Any, message: str) -> None:  # noqa: ANN401 - any groups
    with pytest.raises(ValueError, match=message):
        Labels.of_groups(wrong)


def test_ids_are_one_a_row() -> None:
    with pytest.raises(ValueError, match=r"one a row, of shape \[N\], and have shape \[2, 1\]"):
        Labels.of_ids([["a"], ["b"]])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([*"bcd", "a", *"efghijklmnopq", "a", "b"], "ids: rows 3 and 17 are both 'a'; ids must be unique"),
        (np.array([*"bcd", "a", "c"]), "ids: rows 1 and 4 are both 'c'; ids must be unique"),
        (np.array([5, 2**63, 7, 2**63, 5], dtype=np.uint64), f"ids: rows 1 and 3 are both {2**63}; ids must"),
        ([-1, 4, -1], "ids: rows 0 and 2 are both -1; ids must be unique"),
        (np.array([3, 3, 3], dtype=np.int8), "ids: rows 0 and 1 are both 3; ids must be unique"),
    ],
)
def test_ids_that_occur_twice_are_not_sent(ids: Any, message: str) -> None:  # noqa: ANN401 - any column
    x = np.zeros(len(ids))
    with LossClient("http://127.0.0.1:9") as client:  # nobody answers there
        with pytest.raises(ValueError, match=message):
            client.report("bce", x, x, ids=ids)
        batch = {"logits": x, "targets": x, "ids": ids}
        with pytest.raises(ValueError, match=message):
            client.score_batches("bce", [batch], sections=["top"])


def test_a_string_has_at_most_256_bytes() -> None:
    assert Labels.of_ids(["ü" * 128]).strings == (["ü" * 128],)
    with pytest.raises(ValueError, match="has 257 bytes, and a string at most 256"):
        Labels.of_ids(["ü" * 128 + "a", "b"])
    with pytest.raises(ValueError, match="no text that UTF-8 can hold"):
        Labels.of_groups({"a": ["\ud800"]})


def test_empty_columns() -> None:
    assert Labels.of_ids([]).strings == (None,)
    assert Labels.of_ids(np.array([], dtype="U3")).strings == ([],)


def test_strings_are_put_back_wherever_their_ranks_are() -> None:
    document: dict[str, Any] = {
        "groups": {
            "names": ["w", "n"],
            "kinds": ["integer", "integer"],
            "ids": [[0, 2], [5, "9007199254740993"]],
        },
        "top": {"ids": "integer", "rows": [{"id": 3}], "elements": [{"id": 1}]},
        "paired": {
            "top": {
                "worse": {"rows": [{"id": 0}], "elements": []},
                "better": {"rows": [], "elements": [{"id": 2}]},
            }
        },
    }
    groups = Labels.of_groups({"w": NAMES, "n": NUMBERS})
    put_back(document, groups, Labels.of_ids(NAMES))
    assert document == {
        "groups": {
            "names": ["w", "n"],
            "kinds": ["string", "integer"],
            "ids": [["Zürich", "dusk"], [5, "9007199254740993"]],
        },
        "top": {"ids": "string", "rows": [{"id": "night"}], "elements": [{"id": "day"}]},
        "paired": {
            "top": {
                "worse": {"rows": [{"id": "Zürich"}], "elements": []},
                "better": {"rows": [], "elements": [{"id": "dusk"}]},
            }
        },
    }
    before = {"top": {"ids": None, "rows": [{"index": 3}], "elements": []}}
    put_back(before, None, None)
    assert before == {"top": {"ids": None, "rows": [{"index": 3}], "elements": []}}
