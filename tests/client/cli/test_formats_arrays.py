"""Files of arrays by name: what is read, what stays a candidate without being so, gzip, and torch's files."""

from __future__ import annotations

import gzip
import io
import os
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import feather, parquet
from pyarrow import table as arrow_table
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from client.cli.reading import read
from lossd_client.cli.files.data_file import Column, Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.formats import SUFFIXES, open_file

X = np.array([[0.5, -2, 3], [1, 0, -40]], np.float32)
Y = np.array([[1, 0, 1], [0, 1, 0]])

UNREADABLE = r"array 'logits' has dtype F8_E4M3, not numbers that losses are computed from: .*\.float\(\)"


def assert_refused(path: Path, name: str, message: str) -> None:
    """In every way of reading."""
    file = open_file(str(path))
    column = Column(name, Kind.NUMBER)
    reads: list[Callable[[], object]] = [
        lambda: list(file.blocks([column], 10)),
        lambda: file.whole(column),
        lambda: file.row_bytes([column]),
    ]
    for reading in reads:
        with pytest.raises(BadFile, match=message):
            reading()


def test_a_safetensors_dtype_that_is_not_read_stays_a_candidate(tmp_path: Path) -> None:
    path = tmp_path / "f8.safetensors"
    save_file({"logits": X.astype(ml_dtypes.float8_e4m3fn), "targets": Y.astype(np.float32)}, path)
    file = open_file(str(path))
    assert (set(file.names), file.unreadable) == ({"logits", "targets"}, {"logits": "has dtype F8_E4M3"})
    np.testing.assert_array_equal(read(path, "targets"), Y.astype(np.float32), strict=True)
    assert_refused(path, "logits", UNREADABLE)
    for ask in (file.rows, file.dimensions):
        with pytest.raises(BadFile, match=UNREADABLE):
            ask("logits")


def test_a_safetensors_file_of_nothing_that_is_read(tmp_path: Path) -> None:
    save_torch({"logits": torch.ones(2, 3, dtype=torch.complex64)}, tmp_path / "c.safetensors")
    assert open_file(str(tmp_path / "c.safetensors")).unreadable == {"logits": "has dtype C64"}
    assert_refused(
        tmp_path / "c.safetensors", "logits", "has dtype C64, .* save the real numbers that are meant"
    )


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"])
def test_integers_of_every_width(tmp_path: Path, kind: str) -> None:
    whole = np.array([0, 1, np.iinfo(kind).max], kind)
    save_file({"labels": whole, "scores": X}, tmp_path / "t.safetensors")
    np.savez(tmp_path / "t.npz", labels=whole)
    torch.save({"labels": torch.from_numpy(whole)}, tmp_path / "t.pt")
    for name in ("t.safetensors", "t.npz", "t.pt"):
        assert not open_file(str(tmp_path / name)).unreadable
        for asked in (Kind.NUMBER, Kind.FLAG):
            np.testing.assert_array_equal(read(tmp_path / name, "labels", asked), whole, strict=True)
    np.save(tmp_path / "t.npy", whole)
    np.testing.assert_array_equal(read(tmp_path / "t.npy"), whole, strict=True)


def test_objects_and_text_in_an_npz_are_passed_over_and_named(tmp_path: Path) -> None:
    path = tmp_path / "preds.npz"
    members: dict[str, Any] = {
        "meta": np.array({"epoch": 3}, dtype=object),
        "site": np.array(["a", "b"]),
        "phase": np.ones(2, np.complex64),
        "rows": np.zeros(2, [("a", "f4"), ("b", "i4")]),
        "weigth": np.ones(2),
    }
    np.savez(path, logits=X, targets=Y, **members)
    file = open_file(str(path))
    assert file.names == ("logits", "targets", *members)
    assert file.unreadable == {
        "meta": "holds Python objects",
        "site": "holds text",
        "phase": "has dtype complex64",
        "rows": "holds records",
    }
    both = list(file.blocks([Column("logits", Kind.NUMBER), Column("targets", Kind.NUMBER)], 2))
    np.testing.assert_array_equal(next(iter(both[0].values())), X, strict=True)
    passed = "meta (Python objects), site (text), phase (dtype complex64), rows (records)"
    assert file.notes == (f"{path}: passed over {passed}",)
    assert_refused(
        path, "meta", "array 'meta' holds Python objects, .* save an array of numbers in its place"
    )
    assert_refused(path, "phase", "dtype complex64, .*: save the real numbers that are meant")
    assert_refused(path, "rows", "holds records, .*: save each field as an array of its own")
    assert_refused(path, "site", "holds text")


def test_text_is_read_as_labels_and_then_not_passed_over(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", site=np.array(["a", "b"]), meta=np.array([None]))
    assert read(tmp_path / "t.npz", "site", Kind.LABEL).tolist() == ["a", "b"]
    file = open_file(str(tmp_path / "t.npz"))
    assert (file.rows("site"), file.dimensions("site")) == (2, 1)
    list(file.blocks([Column("site", Kind.LABEL)], 2))
    assert file.notes == (f"{tmp_path}/t.npz: passed over meta (Python objects)",)
    with pytest.raises(BadFile, match="'meta' holds Python objects"):
        list(file.blocks([Column("meta", Kind.LABEL)], 2))
    np.save(tmp_path / "site.npy", np.array(["a", "b"]))
    assert read(tmp_path / "site.npy", "", Kind.LABEL).tolist() == ["a", "b"]
    assert_refused(tmp_path / "site.npy", "", r"site\.npy holds text, not numbers")


def test_a_npy_of_objects(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1.0], [1.0, 2.0]], dtype=object))
    message = r"x\.npy holds Python objects, not numbers .*: save an array of numbers in its place"
    with pytest.raises(BadFile, match=message):
        open_file(str(tmp_path / "x.npy"))


def test_an_npz_with_a_name_twice(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X)
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("x.npy", npy(X))
    with pytest.raises(BadFile, match="holds two arrays named 'x'"):
        open_file(str(tmp_path / "x.npz"))


def save(path: Path) -> None:
    """Writes X as x, or as the file's one array."""
    columns = arrow_table({"x": X[:, 0], "i": [0, 1]})
    writers: dict[str, Callable[[], object]] = {
        ".npy": lambda: np.save(path, X[:, 0]),
        ".npz": lambda: np.savez(path, x=X[:, 0]),
        ".safetensors": lambda: save_file({"x": X[:, 0].copy()}, path),
        ".parquet": lambda: parquet.write_table(columns, path),
        ".feather": lambda: feather.write_feather(columns, str(path)),
        ".pt": lambda: torch.save({"x": torch.from_numpy(X[:, 0].copy())}, path),
    }
    writers[path.suffix]()


def npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.safetensors", "x.parquet", "x.feather", "x.pt"])
@pytest.mark.parametrize("renamed", [False, True])
def test_gzip(tmp_path: Path, name: str, rows: int, renamed: bool) -> None:
    save(tmp_path / name)
    packed = tmp_path / (name if renamed else f"{name}.gz")
    packed.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    found = read(packed, "" if name == "x.npy" else "x", rows=rows)
    np.testing.assert_array_equal(found, X[:, 0], strict=True)


@pytest.mark.parametrize("order", ["C", "F"])
def test_gzipped_npy_in_both_orders(tmp_path: Path, order: Literal["C", "F"]) -> None:
    array = np.asarray(np.arange(24.0).reshape(4, 3, 2), order=order)
    (tmp_path / "x.npy.gz").write_bytes(gzip.compress(npy(array)))
    np.testing.assert_array_equal(read(tmp_path / "x.npy.gz"), array, strict=True)


def test_temporary_copies_go_with_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    save(tmp_path / "x.parquet")
    (tmp_path / "x.parquet.gz").write_bytes(gzip.compress((tmp_path / "x.parquet").read_bytes()))
    file = open_file(str(tmp_path / "x.parquet.gz"))
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    del file
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["x.npy.gz", "x.npz.gz"])
def test_damaged_gzip_is_found_before_a_result(tmp_path: Path, name: str) -> None:
    save(tmp_path / name.removesuffix(".gz"))
    content = bytearray(gzip.compress((tmp_path / name.removesuffix(".gz")).read_bytes()))
    content[-6] ^= 1  # of the checksum, behind everything
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadFile, match=f"{name} cannot be read: CRC check failed"):
        list(open_file(str(tmp_path / name)).blocks([Column("" if "npy" in name else "x", Kind.NUMBER)], 1))
    (tmp_path / name).write_bytes(content[:-12])
    with pytest.raises(BadFile, match=f"{name} cannot be read: "):
        list(open_file(str(tmp_path / name)).blocks([Column("" if "npy" in name else "x", Kind.NUMBER)], 1))


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "x.pt"
    bfloat16 = torch.from_numpy(X).to(torch.bfloat16)
    saved = {
        "logits": torch.from_numpy(X).requires_grad_(),
        "targets": torch.from_numpy(Y).T.contiguous().T,
        "outputs": OrderedDict(aux=bfloat16, pair=[torch.ones(2), torch.zeros(2, dtype=torch.bool)]),
        "f8": torch.ones(2, dtype=torch.float8_e4m3fn if zipped else torch.complex64),
        "epoch": 3,
        "history": [0.5, 0.25],
    }
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    file = open_file(str(path))
    pairs = ("outputs.pair.0", "outputs.pair.1")
    assert file.names == ("logits", "targets", "outputs.aux", *pairs, "f8", "epoch", "history")
    np.testing.assert_array_equal(read(path, "logits", rows=1), X, strict=True)
    np.testing.assert_array_equal(read(path, "targets", rows=1), Y, strict=True)
    np.testing.assert_array_equal(read(path, pairs[1]), [False, False], strict=True)
    assert read(path, "outputs.aux").tobytes() == X.astype(ml_dtypes.bfloat16).tobytes()
    dtype = "float8_e4m3fn" if zipped else "complex64"  # which the old form cannot hold
    assert file.unreadable == {
        "f8": f"has dtype {dtype}",
        "epoch": "is no tensor but of type int",
        "history": "is no tensor but of type list",
    }
    remedy = r"\.float\(\)" if zipped else "save the real numbers"
    assert_refused(path, "f8", f"has dtype {dtype}, .*{remedy}")
    assert file.notes[0].startswith(f"{path}: passed over f8 (dtype {dtype}), epoch (")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_alone(tmp_path: Path, zipped: bool) -> None:
    torch.save(torch.from_numpy(X), tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert open_file(str(tmp_path / "x.pth")).names == ("",)
    np.testing.assert_array_equal(read(tmp_path / "x.pth"), X, strict=True)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo run > harm",)


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_in_torchs_files_are_not_made(
    tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"logits": torch.ones(2), "x": Harmful()}, "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        BadFile, match=r"x\.pt is not loaded: .* run code; save a tensor, or a dict of"
    ) as raised:
        open_file("x.pt")
    assert "weights_only" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({}, "holds no tensor of numbers .it is empty"),
        ({"epoch": 3}, "epoch is no tensor but of type int"),
        ({"x": torch.ones(2, device="meta")}, "x has no values, but lies on device meta"),
        ({"x": torch.ones(2, 2).to_sparse()}, "x is a sparse or quantized tensor"),
        ({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}, r"two arrays that are named a\.b"),
    ],
)
def test_torchs_files_without_numbers(tmp_path: Path, saved: object, message: str) -> None:
    torch.save(saved, tmp_path / "x.pt")
    with pytest.raises(BadFile, match=message):
        open_file(str(tmp_path / "x.pt"))


def test_a_damaged_file_of_torchs(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(X), tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes()[:-30])
    with pytest.raises(BadFile, match=r"x\.pt cannot be read"):
        open_file(str(tmp_path / "x.pt"))


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(torch.from_numpy(X), tmp_path / "x.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        BadFile, match=r"x\.pt was saved by torch, and needs it .*: pip install torch, or save"
    ):
        open_file(str(tmp_path / "x.pt"))


def test_suffixes() -> None:
    plain = (".npy", ".npz", ".parquet", ".arrow", ".feather", ".arrows", ".ipc", ".safetensors", ".csv")
    assert set(SUFFIXES) >= {
        *plain,
        ".tsv",
        ".jsonl",
        ".ndjson",
        ".pt",
        ".pth",
        ".csv.gz",
        ".npy.gz",
        ".pt.gz",
    }
