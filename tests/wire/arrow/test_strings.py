"""Columns of groups and ids: strings and dictionaries, as pyarrow writes them and as a stranger might."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.wire.arrow.strings import MAX_STRING_BYTES, PART_ROWS
from wire.arrow.string_column import read, refusal
from wire.feeding import split_at

AnyColumn: TypeAlias = "pa.Array[Any]"
MAX_BATCH_BYTES = 1 << 25
TEXTS = [
    "cam_1",
    "",
    "cam_2",
    "cam_1",
    "é" * 60,
    "a",
    "a\0",
    "\0",
    "wide and longer than a view",
    "cam_2",
    "😀",
    "a\0\0",
]
STRING_TYPES: list[pa.DataType] = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    *(pa.dictionary(index(), pa.string()) for index in (pa.int8, pa.uint16, pa.int32, pa.uint64)),
    pa.dictionary(pa.int64(), pa.large_string()),
]
INTEGER_TYPES: list[pa.DataType] = [
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
]  # fmt: skip


def stream(columns: Mapping[str, AnyColumn], chunk_rows: int | None = None, **options: object) -> bytes:
    """Write columns with pyarrow."""
    return stream_of_batches(pa.table(dict(columns)).to_batches(max_chunksize=chunk_rows), **options)


def stream_of_batches(batches: Sequence[pa.RecordBatch], **options: object) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(
        sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**cast(Any, options))
    ) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def column(texts: Sequence[object], kind: pa.DataType) -> AnyColumn:
    """Return values as a column of a type, encoded as a dictionary where it is one of those."""
    if not pa.types.is_dictionary(kind):
        return cast(AnyColumn, pa.array(texts, kind))
    plain = pa.array(texts, kind.value_type).dictionary_encode()
    return pa.DictionaryArray.from_arrays(plain.indices.cast(kind.index_type), plain.dictionary)


def encoded(values: Sequence[object]) -> AnyColumn:
    return cast(AnyColumn, pa.array(cast(Any, values)).dictionary_encode())


@pytest.mark.parametrize("kind", STRING_TYPES, ids=str)
@pytest.mark.parametrize("name", ["ids", "group.camera"])
@pytest.mark.parametrize("chunk_rows", [None, 1, 5])
def test_strings_as_pyarrow_writes_them(kind: pa.DataType, name: str, chunk_rows: int | None) -> None:
    body = stream({name: column(TEXTS, kind), "logits": pa.array(np.arange(12.0))}, chunk_rows)
    for chunks in ([body], split_at(body, range(len(body)))):
        columns, values = read(chunks)
        assert (columns[0].dtype, columns[0].strings, columns[0].width) == ("int64", True, None)
        assert values == {name: TEXTS, "logits": list(range(12))}


@given(
    st.lists(st.text(max_size=60), max_size=30),
    st.sampled_from(STRING_TYPES),
    st.integers(1, 40),
    st.integers(0, 5),
    st.lists(st.integers(0, 3000), max_size=5),
)
def test_any_strings(
    texts: list[str], kind: pa.DataType, chunk_rows: int, skipped: int, cuts: list[int]
) -> None:
    both = {name: column(texts, kind)[skipped:] for name in ("group.a", "ids")}
    batches = [*pa.table(dict(both)).to_batches(max_chunksize=chunk_rows), pa.record_batch(both)]
    _, values = read(split_at(stream_of_batches(batches), cuts))
    assert values == dict.fromkeys(both, 2 * texts[skipped:])


@given(st.lists(st.text("ab\0é", max_size=30), min_size=2, max_size=60), st.text("ab", max_size=20))
def test_strings_that_begin_alike_are_in_order(texts: list[str], prefix: str) -> None:
    texts = [prefix + text for text in texts]
    assert read([stream({"ids": pa.array(texts)})])[1] == {"ids": texts}


@pytest.mark.parametrize("kind", STRING_TYPES[:4], ids=str)
def test_many_rows_are_read_some_at_a_time(kind: pa.DataType) -> None:
    count = 2 * PART_ROWS + 3
    if pa.types.is_dictionary(kind):
        kind = pa.dictionary(pa.int32(), pa.string())
    texts = [f"images/{n * 7919 % count:06d}.jpg" for n in range(count)]
    body = stream({"ids": column(texts, kind), "group.a": column(texts, kind)})
    _, values = read([body])
    assert values == {"ids": texts, "group.a": texts}


@pytest.mark.parametrize("kind", INTEGER_TYPES, ids=str)
@pytest.mark.parametrize("name", ["ids", "group.a"])
def test_integers_plain_and_encoded(kind: pa.DataType, name: str) -> None:
    info = np.iinfo(cast(Any, str(kind)))
    numbers = [3, 7, info.max, 3, info.min, 7]
    for array in (pa.array(numbers, kind), pa.array(numbers, kind).dictionary_encode()):
        body = stream({name: array, "targets": pa.array([0.5] * 6)}, 4)
        for chunks in ([body], split_at(body, range(len(body)))):
            columns, values = read(chunks)
            assert (columns[0].dtype, columns[0].strings) == (str(kind), False)
            assert values == {name: numbers, "targets": [0.5] * 6}


def test_several_groups_beside_lists_and_a_baseline() -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6.0)), 2)
    body = stream(
        {
            "logits": lists,
            "group.camera": pa.array(["b", "a", "b"]),
            "baseline": lists,
            "group.weather": pa.array(["sun", "sun", "rain"]).dictionary_encode(),
            "group.day": pa.array([3, 1, 2], pa.int16()),
            "ids": pa.array(["x", "y", "z"], pa.large_string()),
        }
    )
    columns, values = read([body])
    assert [column.strings for column in columns] == [False, True, False, True, False, True]
    assert [column.width for column in columns] == [2, None, 2, None, None, None]
    assert values["group.weather"] == ["sun", "sun", "rain"]
    assert values["group.camera"] == ["b", "a", "b"]
    assert values["ids"] == ["x", "y", "z"]


@pytest.mark.parametrize("deltas", [False, True])
@pytest.mark.parametrize("values", [["a", "bb", "a", "é" * 20, "", "bb", "c"], [5, -3, 5, 7, 2**62, -3, 0]])
def test_dictionaries_that_grow_or_are_replaced(*, deltas: bool, values: list[Any]) -> None:
    """Each batch has its own dictionary: pyarrow sends what is new of it, or replaces the one before."""
    name = "group.a"
    known: list[Any] = []
    batches = []
    for start in range(0, len(values), 2):
        part = values[start : start + 2]
        known += [value for value in dict.fromkeys(part) if value not in known]
        own = known if deltas else list(dict.fromkeys(reversed(part)))
        indices = pa.array([own.index(value) for value in part], pa.int8())
        array = pa.DictionaryArray.from_arrays(indices, pa.array(list(own)))
        batches.append(pa.record_batch({name: array, "ids": array}))
    body = stream_of_batches(batches, emit_dictionary_deltas=deltas)
    assert read([body])[1] == read(split_at(body, range(len(body))))[1] == {name: values, "ids": values}


def test_a_string_keeps_its_number_whatever_the_dictionary() -> None:
    batches = [
        pa.record_batch({"group.a": pa.DictionaryArray.from_arrays(pa.array(index), pa.array(own))})
        for index, own in [([1, 1, 0], ["x", "y"]), ([0, 1, 2], ["y", "z", "y"]), ([0], ["x"])]
    ]
    assert read([stream_of_batches(batches)])[1] == {"group.a": ["y", "y", "x", "y", "z", "y", "x"]}


def test_entries_that_no_row_has_are_no_groups() -> None:
    own = pa.DictionaryArray.from_arrays(pa.array([2, 2]), pa.array(["a", "b", "c"]))
    body = stream({"group.a": own})
    assert read([body], max_strings=3)[1] == {"group.a": ["c", "c"]}


def test_empty_batches() -> None:
    for kind in STRING_TYPES:
        empty = pa.record_batch({"ids": column([], kind)})
        one = pa.record_batch({"ids": column(["x"], kind)})
        assert read([stream_of_batches([empty, one, empty])])[1] == {"ids": ["x"]}


REFUSED: dict[str, tuple[str, AnyColumn, str, str]] = {
    "strings elsewhere": ("targets", pa.array(["1"]), "dtype_not_allowed", "columns group.NAME and ids"),
    "a dictionary elsewhere": (
        "targets", pa.array([1]).dictionary_encode(), "bad_shape", "columns group.NAME and ids",
    ),
    "strings as groups": ("groups", pa.array(["1"]), "dtype_not_allowed", "columns group.NAME and ids"),
    "floats": ("group.a", pa.array([1.0]), "dtype_not_allowed", "send integers or strings"),
    "bools": ("group.a", pa.array([True]), "dtype_not_allowed", "send integers or strings"),
    "dates": ("group.a", pa.array([1], pa.date32()), "dtype_not_allowed", "send integers or strings"),
    "bytes": ("ids", pa.array([b"1"]), "dtype_not_allowed", "the Arrow type binary"),
    "a dictionary of floats": ("group.a", encoded([1.0]), "bad_shape", "dictionary_decode"),
    "a dictionary of bools": ("ids", encoded([True]), "bad_shape", "dictionary_decode"),
    "a dictionary of bytes": ("ids", encoded([b"1"]), "bad_shape", "dictionary_decode"),
    "lists of integers": ("group.a", pa.array([[1]], pa.list_(pa.int8(), 1)), "bad_shape", "and a column"),
    "lists of strings": ("group.a", pa.array([["1"]], pa.list_(pa.string(), 1)), "bad_shape", "has lists"),
    "ids in lists": ("ids", pa.array([["1"]], pa.list_(pa.string(), 1)), "dtype_not_allowed", "utf8"),
    "structs": ("group.a", pa.array([{"x": 1}]), "bad_shape", "the Arrow type struct"),
    "null strings": ("group.a", pa.array(["1", None]), "bad_shape", "a group of their own"),
    "null integers": ("group.a", pa.array([1, None]), "bad_shape", "a group of their own"),
    "null indices": ("group.a", encoded(["1", None]), "bad_shape", "a group of their own"),
    "null entries": (
        "group.a",
        pa.DictionaryArray.from_arrays(pa.array([0]), pa.array(["1", None])),
        "bad_shape",
        "a group of their own",
    ),
    "null ids": ("ids", pa.array(["1", None]), "bad_shape", "give every row an id"),
    "null baselines": ("baseline", pa.array([1.0, None]), "bad_shape", "a column mask that is false there"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_columns_that_are_refused(case: str) -> None:
    name, array, code, words = REFUSED[case]
    body = stream({"logits": pa.array(np.zeros(len(array))), name: array})
    for chunks in ([body], split_at(body, range(len(body)))):
        error = refusal(chunks)
        assert error.code == code
        assert words in error.detail
        assert error.detail.startswith(f"{name} ")
        assert [pointer for pointer, _ in error.errors] == [f"/{name}"]


@pytest.mark.parametrize("name", ["group.", "group", "groups.a", "group.a\nb", "group." + "x" * 123])
def test_names_that_name_no_group(name: str) -> None:
    assert refusal([stream({name: pa.array([1])})]).code == "unknown_tensor"


def test_unknown_columns_are_told_of_groups() -> None:
    assert "group.NAME for groups" in refusal([stream({"camera": pa.array(["a"])})]).detail


@pytest.mark.parametrize("kind", STRING_TYPES, ids=str)
@pytest.mark.parametrize("name", ["ids", "group.a"])
def test_strings_that_are_too_long(kind: pa.DataType, name: str) -> None:
    longest = "é" * (MAX_STRING_BYTES // 2)
    assert read([stream({name: column(["a", longest], kind)})])[1] == {name: ["a", longest]}
    error = refusal([stream({name: column(["a", "b", "c", longest + "x"], kind)}, 3)])
    assert error.code == "bad_shape"
    assert f"{name} has a string of 257 bytes in row 3" in error.detail
    assert [pointer for pointer, _ in error.errors] == [f"/{name}/3"]


def test_compressed_dictionaries_are_refused() -> None:
    array = pa.array(["a" * 200, "b" * 200]).dictionary_encode()
    for columns in ({"group.a": array}, {"ids": pa.array(["a" * 200] * 9)}):
        error = refusal([stream(columns, compression="zstd")])
        assert error.code == "unsupported_encoding"


def test_too_many_groups() -> None:
    texts = [f"g{n}" for n in range(40)]
    for array in (pa.array(texts), pa.array(texts[:20] + texts).dictionary_encode()):
        assert read([stream({"group.a": array}, 7)], max_strings=40)[1]["group.a"][-1] == "g39"
    error = refusal([stream({"group.a": pa.array(texts)}, 7)], max_strings=39)
    assert error.code == "output_too_large"
    assert "groups" in error.detail
    assert "40 different strings" in error.detail
    assert read([stream({"ids": pa.array(texts)}, 7)], max_strings=39)[1] == {"ids": texts}


def test_groups_of_too_many_bytes() -> None:
    texts = [f"{n:0200}" for n in range(40)]
    error = refusal([stream({"group.a": pa.array(texts)}, 7)], max_strings=100)
    assert error.code == "output_too_large"
    assert "of 7000 bytes so far, at most 100 of 6400 bytes in all" in error.detail


@pytest.mark.parametrize("name", ["ids", "group.a"])
def test_a_dictionary_of_too_many_entries(name: str) -> None:
    own = pa.DictionaryArray.from_arrays(pa.array([0]), pa.array([f"g{n}" for n in range(40)]))
    assert read([stream({name: own})], max_strings=40)[1] == {name: ["g0"]}
    for limits in ({"max_strings": 39}, {"max_batch_bytes": 256}):
        error = refusal([stream({name: own})], **limits)
        assert error.code == "body_too_large"


def test_a_dictionary_that_grows_too_long() -> None:
    texts = [f"g{n}" for n in range(40)]
    batches = []
    for n in range(0, 40, 4):
        indices = pa.array([n, n + 3])
        batches.append(
            pa.record_batch({"group.a": pa.DictionaryArray.from_arrays(indices, pa.array(texts[: n + 4]))})
        )
    body = stream_of_batches(batches, emit_dictionary_deltas=True)
    assert len(read([body], max_strings=40)[1]["group.a"]) == 20
    error = refusal([body], max_strings=39)
    assert error.code == "body_too_large"
    assert "the dictionary of group.a has 40 entries" in error.detail


def test_a_stream_that_ends_within_a_dictionary() -> None:
    body = stream({"group.a": pa.array(["some", "strings"]).dictionary_encode()})
    at = body.index(b"somestrings")
    error = refusal([body[:at]])
    assert error.code == "truncated_body"
    assert "within a dictionary batch, 11 bytes before the end of group.a" in error.detail
