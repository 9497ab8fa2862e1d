"""What columns of Arrow and parquet mean: extension types, decimals, nulls, and integers of every width."""

from __future__ import annotations

import datetime
import itertools
import sys
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather, parquet

from client.cli.reading import read
from lossd_client.cli.files.data_file import Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.formats import open_file
from lossd_client.cli.inputs.sources import ColumnChoice, refuse_integers

rng = np.random.default_rng(1)


def write_stream(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "parquet": lambda table, path: parquet.write_table(table, path, row_group_size=3),
    "arrow": lambda table, path: feather.write_feather(table, str(path), chunksize=3),
    "arrows": write_stream,
}


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def written(columns: dict[str, Any]) -> Path:
        path = tmp_path / f"t.{request.param}"
        WRITERS[request.param](pa.table(columns), path)
        return path

    return written


Write = Callable[[dict[str, Any]], Path]


def test_tensors_written_from_a_view_are_what_the_view_is(write: Write) -> None:
    x = rng.normal(size=(4, 3, 3)).astype(np.float32)
    view = np.ascontiguousarray(x.transpose(0, 2, 1)).transpose(0, 2, 1)  # equal, and laid out the other way
    column: Any = pa.FixedShapeTensorArray.from_numpy_ndarray(view)
    assert column.type.permutation == [1, 0]
    np.testing.assert_array_equal(read(write({"logits": column}), "logits"), x, strict=True)


@pytest.mark.parametrize("names", [None, ["c", "h", "w"]])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_permuted_tensors_as_pyarrow_reads_them(
    write: Write, order: Sequence[int], names: list[str] | None
) -> None:
    kind = pa.fixed_shape_tensor(pa.float64(), (2, 3, 4), permutation=list(order), dim_names=names)
    storage = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=5 * 24)), 24)
    column: Any = pa.ExtensionArray.from_storage(kind, storage)
    path = write({"x": column})
    if order in ((1, 2, 0), (2, 0, 1)):
        # The format's own text and pyarrow's from_numpy_ndarray differ; its to_numpy_ndarray does neither.
        with pytest.raises(BadFile, match=r"column 'x' .* permuted by \[., ., .\], .* np.ascontiguousarray"):
            read(path, "x")
    else:
        np.testing.assert_array_equal(read(path, "x"), column.to_numpy_ndarray(), strict=True)
        assert open_file(str(path)).dimensions("x") == 4


def test_permutations_that_come_to_the_same(write: Write) -> None:
    kind = pa.fixed_shape_tensor(pa.float64(), (1, 1, 1), permutation=[1, 2, 0])
    storage = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0]), 1)
    path = write({"x": pa.ExtensionArray.from_storage(kind, storage)})
    np.testing.assert_array_equal(read(path, "x"), [[[[1.0]]], [[[2.0]]]], strict=True)


class Scaled(pa.ExtensionType):
    """Numbers that are stored in other units."""

    def __init__(self, storage: pa.DataType = pa.float32()) -> None:  # noqa: B008
        super().__init__(storage, "test.scaled")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Scaled:
        return cls(storage)


def scaled(values: Sequence[float]) -> Any:  # noqa: ANN401 - the stubs know no arrays of own types
    return pa.ExtensionArray.from_storage(Scaled(), pa.array(values, pa.float32()))


COLUMNS: dict[str, Callable[[], Any]] = {
    "plain": lambda: scaled([1, 2]),
    "list": lambda: pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), scaled([1, 2])),
    "fixed list": lambda: pa.FixedSizeListArray.from_arrays(scaled([1, 2]), 1),
    "dictionary": lambda: pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), scaled([1, 2])),
}


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("column", COLUMNS)
def test_unknown_extension_types_are_not_their_storage(write: Write, column: str, registered: bool) -> None:
    if column == "dictionary" and write({"y": [1]}).suffix == ".parquet":
        pytest.skip("parquet has none")
    path = write({"x": COLUMNS[column]()})
    if registered:
        # Else pyarrow gives the storage, and says so in metadata alone.
        pa.register_extension_type(Scaled())  # type: ignore[arg-type] # the stubs know an older class
    try:
        with pytest.raises(BadFile, match=r"column 'x' has extension type test\.scaled, stored as float"):
            read(path, "x")
    finally:
        if registered:
            pa.unregister_extension_type("test.scaled")


def test_extension_types_whose_meaning_is_known(write: Write) -> None:
    true: Any = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1, 2], pa.int8()))
    path = write({"b": true, "l": pa.FixedSizeListArray.from_arrays(true, 1)})
    np.testing.assert_array_equal(read(path, "b"), [False, True, True], strict=True)
    np.testing.assert_array_equal(read(path, "l"), [[False], [True], [True]], strict=True)


def test_extension_types_as_labels(write: Write) -> None:
    ids = [uuid.UUID(int=7), None, uuid.UUID(int=8)]
    stored = pa.array([None if one is None else one.bytes for one in ids], pa.binary(16))
    path = write({"u": pa.ExtensionArray.from_storage(pa.uuid(), stored)})
    expected = [None if one is None else str(one) for one in ids]
    assert read(path, "u", Kind.LABEL).tolist() == expected
    with pytest.raises(BadFile, match=r"arrow\.uuid"):
        read(path, "u")


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"])
def test_integers_of_every_width(write: Write, kind: str) -> None:
    whole = np.array([0, 1, 1, np.iinfo(kind).max], kind)
    path = write(
        {"x": whole, "l": pa.array([[one] for one in whole.tolist()], pa.list_(pa.array(whole).type))}
    )
    for asked in (Kind.NUMBER, Kind.FLAG):
        np.testing.assert_array_equal(read(path, "x", asked), whole, strict=True)
    np.testing.assert_array_equal(read(path, "l"), whole[:, None], strict=True)


TEXTS = [
    "0.1",
    "1.234567890123456789",
    "-123456789012345.678901234567890123",
    "0",
    "9007199254740993",
    "1e-18",
]


def decimals(kind: pa.DataType) -> pa.Array[Any]:
    return pa.array([Decimal(text) for text in TEXTS], kind)


def test_decimals_are_what_their_text_is(write: Write) -> None:
    path = write({"s": decimals(pa.decimal128(38, 18)), "l": decimals(pa.decimal256(70, 20))})
    for name in ("s", "l"):
        np.testing.assert_array_equal(read(path, name), [float(text) for text in TEXTS], strict=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.decimals(-(10**15), 10**15, places=18), min_size=1, max_size=20))
def test_decimals_are_rounded_once(tmp_path_factory: pytest.TempPathFactory, values: list[Decimal]) -> None:
    path = tmp_path_factory.mktemp("decimals") / "t.parquet"
    column = pa.array(values, pa.decimal128(38, 18))
    parquet.write_table(pa.table({"x": column, "n": pa.array([[one] for one in values])}), path)
    expected = [float(str(one)) for one in values]
    np.testing.assert_array_equal(read(path, "x"), expected, strict=True)
    np.testing.assert_array_equal(read(path, "n")[:, 0], expected, strict=True)


@pytest.mark.parametrize("kind", ["decimal32", "decimal64", "decimal128", "decimal256"])
def test_decimals_of_every_width(write: Write, kind: str) -> None:
    path = write({"x": pa.array([Decimal("0.5"), None, Decimal(2)], getattr(pa, kind)(5, 2))})
    np.testing.assert_array_equal(read(path, "x", nulls=True), [0.5, np.nan, 2.0], strict=True)


def test_decimals_of_a_negative_scale(tmp_path: Path) -> None:
    write_stream(pa.table({"x": pa.array([Decimal("12E+3")], pa.decimal128(20, -3))}), tmp_path / "t")
    np.testing.assert_array_equal(read(tmp_path / "t", "x"), [12000.0], strict=True)


def test_whole_decimals_are_ids_and_masks(write: Write) -> None:
    path = write({"x": pa.array([Decimal(1), Decimal(0)], pa.decimal128(38, 0))})
    np.testing.assert_array_equal(read(path, "x"), [1.0, 0.0], strict=True)
    np.testing.assert_array_equal(read(path, "x", Kind.FLAG), np.array([1, 0], np.int64), strict=True)


NULLS: dict[str, tuple[Any, Any]] = {
    "floats": (pa.array([1.5, None, 2.5], pa.float32()), np.array([1.5, np.nan, 2.5], np.float32)),
    "halves": (pa.array([1.5, None, 2.5], pa.float16()), np.array([1.5, np.nan, 2.5], np.float16)),
    "integers": (pa.array([1, None, 0], pa.int8()), np.array([1, np.nan, 0])),
    "large ones": (pa.array([1, None, 0], pa.uint64()), np.array([1, np.nan, 0])),
    "bools": (pa.array([True, None, False]), np.array([1, np.nan, 0])),
    "a dictionary": (pa.array([1.5, None, 1.5]).dictionary_encode(), np.array([1.5, np.nan, 1.5])),
    "items": (pa.array([[1, 2], [None, 0], [3, 4]]), np.array([[1, 2], [np.nan, 0], [3, 4]], float)),
    "lists": (pa.array([[1, 2], None, [3, 4]]), np.array([[1, 2], [np.nan] * 2, [3, 4]])),
    "fixed lists": (
        pa.array([None, [1, 2], [3, None]], pa.list_(pa.int64(), 2)),
        np.array([[np.nan, np.nan], [1, 2], [3, np.nan]]),
    ),
    "lists of lists": (
        pa.array([[[1], [2]], None, [None, [3]]]),
        np.array([[[1], [2]], [[np.nan]] * 2, [[np.nan], [3]]]),
    ),
    "nothing": (pa.nulls(2), np.array([np.nan, np.nan])),
}


@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.parametrize("name", NULLS)
def test_nulls_are_nan_where_values_may_be_missing(write: Write, name: str, rows: int) -> None:
    column, expected = NULLS[name]
    path = write({"x": column})
    np.testing.assert_array_equal(read(path, "x", nulls=True, rows=rows), expected, strict=True)
    with pytest.raises(BadFile, match=r"column 'x' has nulls: fill them .*, or, .* --drop-unlabelled"):
        read(path, "x", rows=rows)


def test_tensors_with_nulls(write: Write) -> None:
    storage = pa.array([[1, 2, 3, 4], None, [5, 6, 7, None]], pa.list_(pa.float32(), 4))
    kind = pa.fixed_shape_tensor(pa.float32(), (2, 2), permutation=[1, 0])
    found = read(write({"x": pa.ExtensionArray.from_storage(kind, storage)}), "x", nulls=True)
    expected = np.array([[[1, 3], [2, 4]], [[np.nan] * 2] * 2, [[5, 7], [6, np.nan]]], np.float32)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_bfloat16_with_nulls(tmp_path: Path) -> None:
    field = pa.field("x", pa.uint16(), metadata={"lossd.dtype": "bfloat16"})
    bits = np.array([1.5, 0], ml_dtypes.bfloat16).view(np.uint16).tolist()
    table = pa.table([pa.array([bits[0], None], pa.uint16())], schema=pa.schema([field]))
    write_stream(table, tmp_path / "x.arrows")
    found = read(tmp_path / "x.arrows", "x", nulls=True).view(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(found.astype(float), [1.5, np.nan])


def test_lists_whose_length_is_known_too_late(tmp_path: Path) -> None:
    write_stream(pa.table({"x": pa.array([None, None, [1, 2]])}), tmp_path / "t.arrows")  # batches of 2
    with pytest.raises(BadFile, match=r"nulls in place of whole lists.*write lists of nulls"):
        read(tmp_path / "t.arrows", "x", nulls=True)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["a", None]), "type string, which are not numbers"),
        (pa.array([datetime.date(2020, 1, 1)]), "type date32.*, which are not numbers"),
        (pa.array([["a"]]), "type string, which are not numbers"),
        (pa.array([{"a": 1}]), "type struct.*, which are not numbers"),
    ],
)
@pytest.mark.parametrize("nulls", [False, True])
def test_what_are_no_numbers(write: Write, column: pa.Array[Any], message: str, nulls: bool) -> None:
    with pytest.raises(BadFile, match=f"column 'x' has values of {message}"):
        read(write({"x": column}), "x", nulls=nulls)


def test_dates_and_lists_as_labels(write: Write) -> None:
    path = write({"d": pa.array([datetime.date(2020, 1, 1), None]), "l": pa.array([["a"], None])})
    assert read(path, "d", Kind.LABEL).tolist() == [datetime.date(2020, 1, 1), None]
    assert read(path, "l", Kind.LABEL).tolist() == ["['a']", None]


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(pa.table({"x": [1]}), tmp_path / "t.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadFile, match=r"t\.parquet needs pyarrow: pip install 'lossd\[files\]'"):
        open_file(str(tmp_path / "t.parquet"))


@pytest.mark.parametrize("kind", [pa.int64(), pa.bool_(), pa.list_(pa.uint8()), pa.list_(pa.int32(), 1)])
def test_inputs_of_integers_are_refused_by_name(write: Write, kind: pa.DataType) -> None:
    values = pa.array([[1], [0]]) if pa.types.is_nested(kind) else pa.array([1, 0])
    file = open_file(str(write({"x": values.cast(kind), "y": pa.array([0.5, 1.5])})))
    remedy = r"if its whole numbers are the logits, .* df\['x'\]\.astype\('float64'\) in pandas"
    with pytest.raises(BadFile, match=rf"column 'x' holds \w+, and logits are floats.* {remedy}"):
        refuse_integers({"logits": ColumnChoice("logits", "--logits-column", column="x").find(file)})
    targets = ColumnChoice("targets", "--targets-column", column="x").find(file)
    refuse_integers(
        {"logits": ColumnChoice("logits", "--logits-column", column="y").find(file), "targets": targets}
    )
