"""Tables of JSON lines, and what the names of folders say of tables."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from client.cli.reading import read
from lossd_client.cli.files import json_lines
from lossd_client.cli.files.data_file import Column, Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.formats import open_file


def written(folder: Path, text: str, name: str = "t.jsonl") -> Path:
    (folder / name).write_text(text, newline="")
    return folder / name


LINES = (
    '{"logits": [0.5, 1], "targets": [1, 0], "cube": [[1], [2]], "ok": true, "site": "a", "n": 7}\n'
    '{"targets": [0,1], "logits": [NaN, "Infinity"], "cube": [[3], [4]], "n": 8, "ok": false, "site": null}\n'
    '{"logits": ["-Infinity", -2e0], "targets": [1, 1], "cube": [[5], [6]], "ok": 1, "site": "b", "n": 9.0}\n'
)


@pytest.mark.parametrize("name", ["t.jsonl", "t.ndjson", "t", "t.txt", "t.jsonl.gz"])
@pytest.mark.parametrize("rows", [1, 2, 10])
def test_every_kind_of_value(tmp_path: Path, name: str, rows: int) -> None:
    path = written(tmp_path, "\ufeff" + LINES.replace("\n", "\r\n") + "\r\n", name)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    file = open_file(str(path))
    assert file.names == ("logits", "targets", "cube", "ok", "site", "n")
    assert [file.dimensions(one) for one in file.names] == [2, 2, 3, 1, 1, 1]
    logits = [[0.5, 1], [np.nan, np.inf], [-np.inf, -2]]
    np.testing.assert_array_equal(read(path, "logits", rows=rows), logits, strict=True)
    np.testing.assert_array_equal(
        read(path, "targets", Kind.EITHER, rows=rows), [[1, 0.0], [0, 1], [1, 1]], strict=True
    )
    cube = np.arange(1.0, 7).reshape(3, 2, 1)
    np.testing.assert_array_equal(read(path, "cube", rows=rows), cube, strict=True)
    np.testing.assert_array_equal(read(path, "ok", Kind.EITHER, rows=rows), [True, False, True], strict=True)
    np.testing.assert_array_equal(read(path, "ok", Kind.FLAG, rows=rows), [True, False, True], strict=True)
    np.testing.assert_array_equal(read(path, "n", rows=rows), [7.0, 8.0, 9.0], strict=True)
    assert read(path, "site", Kind.LABEL, rows=rows).tolist() == ["a", None, "b"]


def test_nulls(tmp_path: Path) -> None:
    path = written(tmp_path, '{"x": null, "l": null, "b": null}\n{"x": 1, "l": [1, null], "b": true}\n')
    nan = np.nan
    np.testing.assert_array_equal(read(path, "x", nulls=True), [nan, 1.0], strict=True)
    np.testing.assert_array_equal(read(path, "l", nulls=True), [[nan, nan], [1, nan]], strict=True)
    np.testing.assert_array_equal(read(path, "b", Kind.EITHER, nulls=True), [nan, 1.0], strict=True)
    for name in ("x", "l", "b"):
        with pytest.raises(BadFile, match=f"column '{name}', line 1: there is a null.* --drop-unlabelled"):
            read(path, name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"x": [1, 2]}\n\n{"x": [1]}\n',
            r"'x', line 3: there is a list of shape \[1\], and a list of shape \[2\]",
        ),
        (
            '{"x": [1]}\n{"x": 1}\n',
            r"'x', line 2: there is no list, and a list of shape \[1\] in the first line",
        ),
        ('{"x": 1}\n{"x": [1]}\n', "'x', line 2: there is a list of shape .*, and no list in the first line"),
        ('{"x": [[1], [2, 3]]}\n', "'x', line 1: there are lists of different lengths"),
        ('{"x": 1, "y": 1}\n{"x": 1}\n', "line 2 has no 'y', which the first line has: write null"),
        ('{"x": 1}\n{"x": 1, "y": 1}\n', "line 2 has 'y', which the first line has not"),
        ('{"x": 1, "x": 2}\n', "line 1: it has 'x' twice"),
        ('{\n"x": 1}\n', "line 1 is not JSON .*: each line must be an object"),
        ("[1]\n", "line 1 is no object"),
        ("\n", "is empty; each line must be an object"),
        ('{"x": "0.5"}\n', "'x', line 1: \"0.5\" is not a number"),
        ('{"x": {"a": 1}}\n', "'x', line 1: {\"a\": 1} is not a number"),
        ('{"x": 0}\n{"x": 1e400}\n', "'x', line 2: there is a number greater than float64 holds"),
        (
            '{"x": 0}\n{"x": 1' + "0" * 400 + "}\n",
            "'x', line 2: there is a number greater than float64 holds",
        ),
        ('{"x": true}\n{"x": 0.5}\n', "'x', line 1: true is not a number; targets and masks alone may be"),
        ('{"x": 1}\n{"x": true}\n', "'x', line 2: true is not a number"),
        ('{"x": 0.5}\n{"x": false}\n', "'x', line 2: false is not a number"),
        ('{"x": [1, 2]}\n{"x": [1, true]}\n', "'x', line 2: true is not a number"),
        ('{"x": [[1], [2]]}\n{"x": [[1], [false]]}\n', "'x', line 2: false is not a number"),
        ('{"x": "NaN"}\n{"x": true}\n', "'x', line 2: true is not a number"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadFile, match=message) as raised:
        read(path, "x", rows=10)
    assert str(path) in str(raised.value)


def test_targets_may_be_numbers_and_flags(tmp_path: Path) -> None:
    path = written(tmp_path, '{"y": 0.5, "l": [1, 0]}\n{"y": true, "l": [true, false]}\n')
    np.testing.assert_array_equal(read(path, "y", Kind.EITHER), [0.5, 1.0], strict=True)
    np.testing.assert_array_equal(read(path, "l", Kind.EITHER), [[1.0, 0.0], [1.0, 0.0]], strict=True)
    path = written(tmp_path, '{"y": true}\n{"y": 0.5}\n')
    with pytest.raises(BadFile, match="'y', line 2: there is another value than 0, 1, true and false"):
        read(path, "y", Kind.EITHER)


@pytest.mark.parametrize("value", ["2", "1.0", '"NaN"'])
def test_masks_of_other_values(tmp_path: Path, value: str) -> None:
    path = written(tmp_path, f'{{"m": 1}}\n{{"m": {value}}}\n')
    with pytest.raises(BadFile, match="'m', line 2: there is another value than 0, 1, true and false"):
        read(path, "m", Kind.FLAG, rows=10)


def test_json_that_may_not_be_lines_is_not_taken_for_them(tmp_path: Path) -> None:
    path = written(tmp_path, '{"logits": [[1, 2]], "targets": [[0, 1]]}', "t.json")
    with pytest.raises(BadFile, match=r"write one object a line, a row each, .* as .jsonl"):
        open_file(str(path))


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ('{"x": 1}\n{"x": 2}\n', "it has an object a line: rename it .jsonl"),
        ('{"x": 1, "s": "%s"}\r\n{"x": 2}' % ("a" * 5000), "rename it .jsonl"),
        ('[{"x": 1},\n{"x": 2}]\n', "write one object a line"),
        ('[\n{"x": 1}\n]\n', "write one object a line"),
        ('{\n"x": [1]\n}\n', "write one object a line"),
        ('{"x": [1, 2]}\n', "write one object a line"),
    ],
)
def test_what_to_do_with_a_json_file(tmp_path: Path, name: str, text: str, remedy: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    with pytest.raises(BadFile, match=remedy):
        open_file(str(path))


FLOATS = st.floats(allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 3).flatmap(
        lambda n: st.lists(st.lists(FLOATS | st.none(), min_size=n, max_size=n), min_size=1)
    )
)
def test_lists_keep_their_bits(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float | None]]
) -> None:
    lines = "".join(json.dumps({"x": row}) + "\n" for row in rows)
    path = written(tmp_path_factory.mktemp("jsonl"), lines)
    expected = np.array([[np.nan if one is None else one for one in row] for row in rows], np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "_ROWS", 2)
        np.testing.assert_array_equal(read(path, "x", nulls=True), expected, strict=True)


def partitioned(path: Path) -> list[list[object]]:
    file = open_file(str(path), {"camera": "a"})
    column = Column("camera", Kind.LABEL)
    return [block[column].tolist() for block in file.blocks([column], 2)]


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.parquet", "t.arrows"])
def test_folders_that_name_a_column(tmp_path: Path, name: str) -> None:
    table = pa.table({"l": [[1.0], [2.0], [3.0]], "logits": [1.0, 2.0, 3.0]})
    writers: dict[str, Callable[[], object]] = {
        "t.jsonl": lambda: written(tmp_path, "".join(json.dumps(row) + "\n" for row in table.to_pylist())),
        "t.csv": lambda: written(tmp_path, "logits\n1\n2\n3\n", "t.csv"),
        "t.parquet": lambda: parquet.write_table(table, tmp_path / name),
        "t.arrows": lambda: pa.ipc.new_stream(str(tmp_path / name), table.schema).write_table(table),
    }
    writers[name]()
    assert partitioned(tmp_path / name) == [["a", "a"], ["a"]]
    file = open_file(str(tmp_path / name), {"camera": "a"})
    assert file.names[-1] == "camera"
    assert file.dimensions("camera") == 1
    assert file.rows("camera") == file.rows("logits")
    asked = [Column("camera", Kind.LABEL), Column("logits", Kind.NUMBER)]
    blocks = [
        {column.name: array.tolist() for column, array in block.items()} for block in file.blocks(asked, 2)
    ]
    assert blocks == [{"camera": ["a", "a"], "logits": [1, 2]}, {"camera": ["a"], "logits": [3]}]
    assert file.row_bytes(asked) >= 16
    with pytest.raises(BadFile, match=r"camera is the name of its folder, a, .* no numbers"):
        list(file.blocks([Column("camera", Kind.NUMBER)], 2))


def test_a_folder_and_a_column_of_the_same_name(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="has a column camera, and its folder camera=a stands for one too"):
        open_file(str(written(tmp_path, "camera,x\na,1\n", "t.csv")), {"camera": "a"})


def test_files_of_arrays_have_no_such_columns(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", logits=np.ones(2))
    assert open_file(str(tmp_path / "t.npz"), {"camera": "a"}).names == ("logits",)
