"""What the reader of files makes of each format: blocks of rows, and what is wrong with the file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from fsspec import filesystem  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import feather, parquet
from safetensors.numpy import save_file

from client.cli.scripted import scripted
from lossd_client.cli.files import csv_table
from lossd_client.cli.files.data_file import Column, Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.formats import open_file

ROWS = 1000
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
Y = X > 0


def read(path: Path | str, name: str, rows: int, kind: Kind = Kind.NUMBER) -> NDArray[Any]:
    file = open_file(str(path))
    blocks = [block[Column(name, kind)] for block in file.blocks([Column(name, kind)], rows)]
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    whole = file.whole(Column(name, kind))
    joined: NDArray[Any] = np.concatenate(blocks)
    np.testing.assert_array_equal(joined, whole, strict=True)
    return joined


def table() -> pa.Table:
    columns = {
        "x": pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), 3),
        "y": pa.array(Y.tolist()),
        "site": pa.array(
            [None if row % 7 == 0 else f"s{row % 3}" for row in range(ROWS)]
        ).dictionary_encode(),
    }
    return pa.table(columns)


def write_stream(source: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, source.schema) as writer:
        writer.write_table(source, max_chunksize=77)


TABLES: dict[str, Callable[[pa.Table, Path], None]] = {
    "parquet": lambda source, path: parquet.write_table(source, path, row_group_size=300),
    "feather": lambda source, path: feather.write_feather(source, str(path), chunksize=77),
    "arrows": write_stream,
}


@pytest.mark.parametrize("rows", [1, 64, 1000, 5000])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["npy", "npz", "deflated npz"])
def test_numpys_own_files_in_both_orders(
    tmp_path: Path, kind: str, order: Literal["C", "F"], rows: int
) -> None:
    path, array = tmp_path / "x", np.asarray(X.reshape(250, 4, 3), order=order)
    with path.open("wb") as file:
        if kind == "npy":
            np.save(file, array)
        else:
            {"npz": np.savez, "deflated npz": np.savez_compressed}[kind](file, x=array, y=Y)
    found = read(path, "" if kind == "npy" else "x", rows)
    np.testing.assert_array_equal(found, array, strict=True)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "f2", "i8", "u1", "?", "bfloat16"])
def test_the_bytes_of_every_dtype(tmp_path: Path, dtype: str) -> None:
    array = (X[:, 0] > 0).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype))
    np.save(tmp_path / "x.npy", array)
    [block] = open_file(str(tmp_path / "x.npy")).blocks([Column("", Kind.NUMBER)], ROWS)
    [found] = block.values()
    assert found.tobytes() == array.tobytes()
    assert found.dtype.itemsize == array.dtype.itemsize


def test_safetensors_as_its_own_library_writes_them(tmp_path: Path) -> None:
    bfloat16 = X.astype(ml_dtypes.bfloat16)
    save_file({"x": X, "y": Y, "b": bfloat16}, tmp_path / "x.st", metadata={"by": "a test"})
    np.testing.assert_array_equal(read(tmp_path / "x.st", "x", 64), X, strict=True)
    np.testing.assert_array_equal(read(tmp_path / "x.st", "y", 64), Y, strict=True)
    assert read(tmp_path / "x.st", "b", 64).tobytes() == bfloat16.tobytes()


@pytest.mark.parametrize("rows", [1, 64, 1000, 5000])
@pytest.mark.parametrize("kind", TABLES)
def test_tables_with_lists(tmp_path: Path, kind: str, rows: int) -> None:
    TABLES[kind](table(), tmp_path / "t")
    np.testing.assert_array_equal(read(tmp_path / "t", "x", rows), X, strict=True)
    np.testing.assert_array_equal(read(tmp_path / "t", "y", rows), Y, strict=True)
    sites = read(tmp_path / "t", "site", rows, Kind.LABEL).tolist()
    assert sites[:4] == [None, "s1", "s2", "s0"]


def test_columns_are_read_together_and_in_any_order(tmp_path: Path) -> None:
    parquet.write_table(table(), tmp_path / "t.parquet")
    file = open_file(str(tmp_path / "t.parquet"))
    asked = [Column("y", Kind.NUMBER), Column("x", Kind.NUMBER)]
    blocks = list(file.blocks(asked, 400))
    assert [list(block) for block in blocks] == [asked] * 3
    assert (file.names, file.rows("x"), file.dimensions("x"), file.row_bytes(asked)) == (
        ("x", "y", "site"),
        ROWS,
        2,
        15,
    )


def test_tensors_of_one_shape_and_nested_lists(tmp_path: Path) -> None:
    cube = X.reshape(250, 2, 6)
    tensors: Any = pa.FixedShapeTensorArray.from_numpy_ndarray(cube)
    parquet.write_table(pa.table({"t": tensors, "n": pa.array(cube.tolist())}), tmp_path / "t.parquet")
    np.testing.assert_array_equal(read(tmp_path / "t.parquet", "t", 64), cube, strict=True)
    np.testing.assert_array_equal(read(tmp_path / "t.parquet", "n", 64), cube)
    assert open_file(str(tmp_path / "t.parquet")).dimensions("n") == 3


def test_bfloat16_as_the_service_has_it_in_arrow(tmp_path: Path) -> None:
    bits = X[:, 0].astype(ml_dtypes.bfloat16).view(np.uint16)
    field = pa.field("x", pa.uint16(), metadata={"lossd.dtype": "bfloat16"})
    write_stream(pa.table([bits], schema=pa.schema([field])), tmp_path / "x.arrows")
    assert read(tmp_path / "x.arrows", "x", 64).dtype == np.dtype("V2")


CSV = "x,y,id,ok,site\n" + "".join(
    f"{x!r},{int(x > 0)},{n},true,s{n % 2}\n" for n, x in enumerate(X[:, 0].tolist())
)


@pytest.mark.parametrize("library", ["pyarrow", "python"])
@pytest.mark.parametrize("text", [CSV, "\ufeff" + CSV.replace("\n", "\r\n"), CSV.rstrip() + "\n\n"])
def test_text_tables_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, text: str
) -> None:
    monkeypatch.setattr(csv_table, "_ROWS", 100)
    monkeypatch.setattr(csv_table, "_PIECE_BYTES", 3000)
    if library == "python":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.csv").write_text(text, newline="")
    np.testing.assert_array_equal(read(tmp_path / "t.csv", "x", 64), X[:, 0].astype(np.float64), strict=True)
    np.testing.assert_array_equal(
        read(tmp_path / "t.csv", "id", 64), np.arange(ROWS, dtype=float), strict=True
    )
    assert read(tmp_path / "t.csv", "ok", 64, Kind.FLAG).all()
    assert read(tmp_path / "t.csv", "site", 64, Kind.LABEL).tolist()[:3] == ["s0", "s1", "s0"]


@pytest.mark.parametrize("library", ["pyarrow", "python"])
@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("x,y\n1,2\n3\n", Kind.NUMBER, "columns"),
        ("x,y\n,2\n", Kind.NUMBER, "column 'x', line 2"),
        ("x,y\nhello,2\n", Kind.NUMBER, "column 'x', line .*hello"),
        ("x,y\nmaybe,2\n", Kind.FLAG, "column 'x', line .*maybe"),
        ("x,y\ntrue,2\n0.5,2\n", Kind.NUMBER, "column 'x', line .*0.5"),
        ("x,y\n0.5,2\ntrue,2\n", Kind.NUMBER, "column 'x', line .*true"),
    ],
)
def test_what_is_wrong_with_a_text_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, text: str, kind: Kind, message: str
) -> None:
    if library == "python":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadFile, match=message) as raised:
        read(tmp_path / "t.csv", "x", 64, kind)
    assert "t.csv" in str(raised.value)


@pytest.mark.parametrize("library", ["pyarrow", "python"])
@pytest.mark.parametrize("words", ["true,false", "True,False", "TRUE,FALSE", "FALSE,1"])
def test_true_and_false_are_bools_where_numbers_may_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, words: str
) -> None:
    if library == "python":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    first, second = words.split(",")
    (tmp_path / "t.csv").write_text(f"x,y\n\n1,{first}\n1,{second}\n")
    expected = [first.lower() == "true", second.lower() in ("true", "1")]
    np.testing.assert_array_equal(read(tmp_path / "t.csv", "y", 1), np.array(expected), strict=True)


@pytest.mark.parametrize("library", ["pyarrow", "python"])
def test_numbers_that_are_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    if library == "python":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.csv").write_text("x,y\ninf,1\n-inf,1\nnan,1\n1e-3,1\n")
    found = read(tmp_path / "t.csv", "x", 64)
    np.testing.assert_array_equal(found, [np.inf, -np.inf, np.nan, 1e-3])


def test_no_rows_are_one_empty_block(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n")
    assert read(tmp_path / "t.csv", "x", 64).shape == (0,)
    for kind, write in TABLES.items():
        write(table().slice(0, 0), tmp_path / kind)
        assert read(tmp_path / kind, "x", 64).shape == (0, 3)
    np.save(tmp_path / "x.npy", X[:0])
    assert read(tmp_path / "x.npy", "", 64).shape == (0, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([1.0, None]), "has nulls"),
        (pa.array([[1.0, None], [1.0, 2.0]]), "has nulls"),
        (pa.array([[1.0], [1.0, 2.0]]), "lists of 1 and of 2"),
        (pa.array(["a", "b"]), "type string, which are not numbers"),
    ],
)
def test_what_is_wrong_with_a_column(tmp_path: Path, values: pa.Array[Any], message: str) -> None:
    parquet.write_table(pa.table({"a column": values}), tmp_path / "t.parquet")
    with pytest.raises(BadFile, match=message) as raised:
        read(tmp_path / "t.parquet", "a column", 64)
    assert "t.parquet: column 'a column'" in str(raised.value)


def test_lists_that_differ_between_blocks(tmp_path: Path) -> None:
    parts = [pa.table({"x": pa.array([[1.0] * length] * 80)}) for length in (2, 3)]
    write_stream(pa.concat_tables(parts), tmp_path / "t.arrows")
    with pytest.raises(BadFile, match=r"lists of 2 and of 3|rows have different shapes"):
        read(tmp_path / "t.arrows", "x", 200)


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


HEADER = "bad cannot be read: its header is cut off, damaged, or longer than an array of numbers has$"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "a text table's name ends in .csv"),
        (b"PK\x03\x04", "cannot be read"),
        (b"PAR1", "cannot be read"),
        (b"ARROW1\0\0", "cannot be read"),
        (b"\xff\xff\xff\xff\x10", "cannot be read"),
        (b"\x93NUMPY\x01\x00", HEADER),
        (b"\x93NUMPY\x01\x00\x20\x4e" + b"{}".ljust(20_000), HEADER),
        (b"\x93NUMPY\x01\x00\x01\x00{", HEADER),
        (b"\x93NUMPY\x01\x00\x02\x00{}", HEADER),
        (b"\x93NUMPY\x03\x00\x02\x00{}", r"version 3\.0 does not hold numbers$"),
        (b"\xff" * 3 + b"\0" * 5 + b"{", "cannot be read"),
        (safetensors_bytes({}), "no tensors"),
        (
            safetensors_bytes({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
            "does not fit",
        ),
        (
            safetensors_bytes({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"),
            "does not fit",
        ),
        (safetensors_bytes({"x": {"dtype": "F32"}}), "cannot be read"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(BadFile, match=message):
        open_file(str(tmp_path / "bad"))


def test_pipes_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(BadFile, match="not a regular file"):
            open_file(str(path))


def test_a_file_that_ends_too_soon(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    blocks = open_file(str(tmp_path / "x.npy")).blocks([Column("", Kind.NUMBER)], 64)
    with pytest.raises(BadFile, match="ends before its arrays do"):
        list(blocks)


def test_urls(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    np.testing.assert_array_equal(read(f"file://{tmp_path}/x.npy", "", 64), X, strict=True)
    with filesystem("memory").open("/scores/t.parquet", "wb") as file:
        parquet.write_table(table(), file)
    np.testing.assert_array_equal(read("memory://scores/t.parquet", "x", 64), X, strict=True)
    with filesystem("memory").open("/scores/t.csv", "wb") as file:
        file.write(CSV.encode())
    assert read("memory://scores/t.csv", "x", 64).shape == (ROWS,)


@pytest.mark.parametrize("url", ["memory://no/x.npy", "nosuch://x.npy", "s3://bucket/x.npy", "file:///no/x"])
def test_urls_that_cannot_be_opened(url: str) -> None:
    with pytest.raises(BadFile, match=url):
        open_file(url)


def test_a_url_whose_server_is_not_there_or_refuses() -> None:
    pytest.importorskip("aiohttp", reason="fsspec's http:// needs it")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x.npy"
        with pytest.raises(BadFile, match=rf"^{url} could not be reached: .*Connect call failed"):
            open_file(url)
    with scripted({"/no": (403, {})}) as url:
        with pytest.raises(BadFile, match=rf"^{url}/no: its server answers with status 403$"):
            open_file(f"{url}/no")
        with pytest.raises(BadFile, match=rf"^there is no file {url}/x$"):
            open_file(f"{url}/x")


MEASURED = """
import sys
from lossd_client.cli.files.data_file import Column, Kind
from lossd_client.cli.files.formats import open_file
rows = 0
for block in open_file(sys.argv[1]).blocks([Column("", Kind.NUMBER)], 1 << 18):
    rows += sum(map(len, block.values()))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(rows, int(peak.split()[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("fortran", [False, True])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, fortran: bool) -> None:
    shape = (1 << 24, 8)  # 512 MiB, of which the disk holds nothing
    array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, shape, fortran_order=fortran)
    del array
    rows, peak = measured([tmp_path / "x.npy"])
    assert rows == 1 << 24
    assert peak < 120  # MiB, numpy and Python among them


def measured(arguments: Sequence[object]) -> tuple[int, int]:
    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    rows, peak = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    return int(rows), int(peak)
