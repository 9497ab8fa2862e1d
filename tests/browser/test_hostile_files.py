"""Files that somebody else made: names that are commands, headers that lie, formats that are not read."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest
import torch
from playwright.sync_api import Locator, Page, expect
from pyarrow import feather, parquet
from safetensors.numpy import save_file
from scipy import io as scipy_io  # type: ignore[import-untyped]

from browser.arrays import Arrays
from browser.conftest import TeamServer
from browser.reading import section
from browser.visitor import choose, give, show_loss
from browser.visits import Visit, Watch, drop
from live_server import LiveServer
from lossd_client import LossClient

_NAMES: Final = {
    "newline": "cam\n\ntouch stolen\n#.txt",
    "return": "cam\rtouch stolen\r.txt",
    "escape": "cam\x1b[201~\ntouch stolen\n.txt",
    "override": "cam\u202etouch stolen\u202d.txt",
    "separator": "cam\u2028touch stolen.txt",
    "backtick": "cam`touch stolen`.txt",
    "substitution": "cam$(touch stolen).txt",
    "quotes": "cam'\";touch stolen;'.txt",
    "semicolon": "cam;touch stolen;.txt",
    "number sign": "#1 cam.txt",
    "Hebrew": "\u05de\u05e6\u05dc\u05de\u05d4 1.txt",
}
_UNSEEN: Final = {"newline", "return", "escape", "override", "separator"}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def _upload(page: Page, *paths: Path) -> None:
    page.get_by_label("Choose files").set_input_files(list(paths))


def _list(page: Page) -> Locator:
    return page.get_by_role("list", name="Files")


def _alert(page: Page) -> Locator:
    return page.locator("#file-problems").get_by_role("alert")


def _remedy(page: Page) -> str:
    return str(_alert(page).locator("code").inner_text())


def _shell(text: str, folder: Path, program: str = "sh") -> str:
    """What a command prints in a shell, in a folder."""
    done = subprocess.run(
        [program, "-c", text],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}{done.stdout}"
    return done.stdout


def _python(text: str, folder: Path) -> None:
    assert "\n" not in text
    (folder / "remedy.py").write_text(text, encoding="utf-8")
    _shell("python remedy.py", folder)


# ---- Names


@pytest.mark.parametrize("kind", _NAMES)
def test_a_name_does_nothing_in_a_command(page: Page, arrays: Arrays, files: Path, kind: str) -> None:
    for name in ("logits.npy", "targets.npy"):
        shutil.copy(arrays.path(name), files)
    path = files / _NAMES[kind]
    path.write_text("".join(f"camera {row % 3}\n" for row in range(400)))
    _upload(page, files / "logits.npy", files / "targets.npy", path)
    page.locator(".files select").last.select_option("groups")
    page.get_by_text("Copy this as curl").click()
    codes = {
        name: page.locator(f"[data-command='{name}'] code").evaluate("(code) => code.textContent")
        for name in ("curl", "Python", "lossd report")
    }
    for text in codes.values():
        assert not set("\r\x1b\u2028\u202d\u202e") & set(text)
    for name in ("curl", "lossd report"):
        is_refused = kind in _UNSEEN
        assert codes[name].startswith("# The name ") == is_refused
        assert not is_refused or "\n" not in codes[name]
        for program in ("sh", "bash"):
            _shell(codes[name], files, program)
        for line in codes[name].splitlines():
            if line.startswith("#"):  # where zsh is typed into, a comment is a command
                _shell(f": {line[1:]}", files)
    (files / "command.py").write_text(codes["Python"], encoding="utf-8")
    _shell("python command.py", files)
    report = json.loads((files / "report.json").read_text())
    assert report["groups"]["ids"] == [["camera 0", "camera 1", "camera 2"]]
    assert not (files / "stolen").exists()


def test_a_name_is_shown_as_it_is_and_moves_nothing(page: Page, arrays: Arrays, files: Path) -> None:
    spoofed = files / "logits\u202eypn.npy"
    hebrew = files / "\u05de\u05d8\u05e8\u05d5\u05ea targets.npy"
    shutil.copy(arrays.path("logits.npy"), spoofed)
    shutil.copy(arrays.path("targets.npy"), hebrew)
    _upload(page, spoofed, hebrew)
    expect(_list(page).locator("bdi").first).to_have_text("logits\\u202eypn.npy")
    expect(_list(page).locator("bdi").last).to_have_text(hebrew.name)
    page.get_by_label(f"What {hebrew.name} is").select_option("targets")
    page.get_by_text("Copy this as curl").click()
    expect(page.locator("[data-command='Python'] bdi")).to_have_text(hebrew.name)
    assert "\u202e" not in _list(page).inner_text()


@pytest.mark.parametrize(
    ("kind", "ending"),
    [(kind, ending) for kind in _NAMES for ending in (".csv", ".gz")]
    + [(kind, ".pt") for kind in ("newline", "override", "quotes")],  # torch takes seconds
)
def test_a_name_does_nothing_in_a_remedy(page: Page, files: Path, kind: str, ending: str) -> None:
    path = files / _NAMES[kind].replace(".txt", ending)
    data = {".csv": b"logits,targets\n0.5,1\n", ".gz": gzip.compress(b"\x93NUMPY")}.get(ending)
    if data is None:
        torch.save(torch.tensor([0.5, 1.0]), path)
    else:
        path.write_bytes(data)
    _upload(page, path)
    text = _remedy(page)
    assert "\n" not in text
    if ending == ".pt":
        _python(text, files)
        assert np.load(path.with_suffix(".npy")).tolist() == [0.5, 1.0]
    elif kind in _UNSEEN:
        _python(text, files)
        assert (files / "renamed").read_bytes() == data
    else:
        _shell(text, files)
        assert (files / "report.json" if ending == ".csv" else path.with_suffix("")).exists()
    assert not (files / "stolen").exists()


@pytest.mark.parametrize("name", ["__proto__", "constructor", "shape", "data"])
def test_groups_may_have_any_name(
    page: Page, server: LiveServer, arrays: Arrays, files: Path, name: str
) -> None:
    labels = [f"camera {row % 3}" for row in range(400)]
    (files / f"{name}.txt").write_text("\n".join(labels))
    _upload(page, arrays.path("logits.npy"), arrays.path("targets.npy"), files / f"{name}.txt")
    choose(page, f"{name}.txt", "groups")
    with page.expect_response("**/bce?*") as asked:
        show_loss(page)
    shown = asked.value.json()["report"]["groups"]
    with LossClient(server.url) as client:
        report = client.report("bce", arrays.logits, arrays.targets, groups={name: labels})
    expected = report.to_dict()["groups"]
    assert shown["names"] == [name]
    assert shown["sum_terms"] == expected["sum_terms"]
    expect(section(page, "groups")).to_contain_text("camera 2")


def test_two_groups_of_one_name_are_not_mixed_up(page: Page, arrays: Arrays, files: Path) -> None:
    (files / "camera.txt").write_text("a\n" * 400)
    np.save(files / "camera.npy", np.arange(400) % 2)
    _upload(page, *(arrays.path(name) for name in ("logits.npy", "targets.npy")), files / "camera.txt")
    _upload(page, files / "camera.npy")
    page.get_by_role("button", name="Show the loss").click()
    expect(page.locator("#problems")).to_contain_text("Two files of groups are called camera.")
    expect(page.locator("#problems")).to_contain_text("Rename one")
    page.get_by_label("What the groups of camera.npy are called").fill("parity")
    show_loss(page)
    expect(section(page, "groups").first).to_contain_text("parity")


# ---- Headers that lie


def _shared_names(columns: int, size: int) -> bytes:
    """The first message of an Arrow stream whose columns all point to one name."""
    # Message {vtable, header at field 2} -> Schema {fields at field 1} -> Field {name at field 0}
    head = bytearray()
    head += struct.pack("<I", 16)  # the root table
    head += struct.pack("<HHHHH", 10, 8, 0, 0, 4) + b"\0\0"  # its vtable
    head += struct.pack("<iI", 12, 0)
    assert len(head) == 24
    message = 16
    schema_vtable = len(head)
    head += struct.pack("<HHHH", 8, 8, 0, 4)
    schema = len(head)
    head += struct.pack("<iI", schema - schema_vtable, 4)  # the vector follows its pointer
    struct.pack_into("<I", head, message + 4, schema - (message + 4))
    field_vtable = len(head) + 4 + 4 * columns
    vector = len(head)
    head += struct.pack("<I", columns)
    field = field_vtable + 8
    for index in range(columns):
        place = vector + 4 + 4 * index
        head += struct.pack("<I", field - place)
    head += struct.pack("<HHHH", 6, 8, 4, 0)
    head += struct.pack("<iI", 8, 4)
    head += struct.pack("<I", size) + b"n" * size
    return b"\xff\xff\xff\xff" + struct.pack("<i", len(head)) + bytes(head)


@pytest.mark.parametrize(
    ("columns", "size", "reason"),
    [
        (130_000, 500_000, "it has 130000 columns"),
        (10_000, 1000, "names are too long"),
        (2, 2000, "names are too long"),
    ],
)
def test_an_arrow_header_that_would_fill_the_memory_is_refused(
    page: Page, files: Path, columns: int, size: int, reason: str
) -> None:
    (files / "run.arrow").write_bytes(_shared_names(columns, size))
    started = time.monotonic()
    _upload(page, files / "run.arrow")
    expect(_alert(page)).to_contain_text(reason)
    assert time.monotonic() - started < 5


def test_an_arrow_header_of_many_columns_is_read_and_shown_in_short(page: Page, files: Path) -> None:
    (files / "run.arrow").write_bytes(_shared_names(10_000, 100))
    _upload(page, files / "run.arrow")
    expect(_list(page)).to_contain_text("and 9980 more")


@pytest.mark.parametrize("shape", ["-2, 3", "1.5, 2", "1e3", "0x10", "nan", "2, x", "99999999999999999999"])
def test_a_shape_that_is_none_is_refused(page: Page, files: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape},), }}".ljust(117) + "\n"
    (files / "logits.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    )
    _upload(page, files / "logits.npy")
    expect(_alert(page)).to_contain_text("its header's shape is not of whole numbers")
    expect(_list(page).get_by_role("listitem")).to_have_count(0)


def test_four_hundred_files_are_taken_at_once(page: Page, files: Path) -> None:
    for number in range(400):
        np.save(files / f"part{number}.npy", np.zeros((10, 3), np.float32))
    page.evaluate("""() => {
      window.shown = 0;
      const observer = new MutationObserver(() => window.shown++);
      observer.observe(document.getElementById("next"), { childList: true });
    }""")
    _upload(page, *sorted(files.iterdir()))
    expect(_list(page).get_by_role("listitem")).to_have_count(400)
    expect(page.locator("#next")).to_contain_text("Say what")
    assert page.evaluate("() => window.shown") == 1


# ---- Sizes


@pytest.fixture(scope="module")
def large_report(server: LiveServer, arrays: Arrays) -> bytes:
    """A report that is well, and has more characters than the page takes."""
    with LossClient(server.url) as client:
        document = client.report("bce", arrays.logits, arrays.targets).to_dict()
    return json.dumps(document).encode() + b" " * (65 << 20)


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_report_that_is_too_large_is_drawn_by_a_command(
    page: Page, files: Path, large_report: bytes, is_packed: bool
) -> None:
    path = files / f"night.json{'.gz' if is_packed else ''}"
    path.write_bytes(gzip.compress(large_report, 1) if is_packed else large_report)
    drop(page, "#score", path) if is_packed else _upload(page, path)
    expect(_alert(page)).to_contain_text("night.json")
    expect(_alert(page)).to_contain_text("at most 67.1 MB")
    if not is_packed:
        expect(_alert(page)).to_contain_text("has 68.2 MB")
    _shell(_remedy(page), files)
    assert "<html" in (files / "page.html").read_text()


# ---- Formats that are not read: each remedy makes a file that is


def _objects(path: Path) -> None:
    array = np.empty(2, dtype=object)
    array[:] = [np.array([0.5, 1.0]), np.array([1.5, 2.0])]
    np.save(path, array, allow_pickle=True)


def _table() -> pa.Table:
    return pa.table({"logits": [0.5, 1.0], "targets": [0, 1]})


def _arrow_file(path: Path) -> None:
    with pa.ipc.new_file(str(path), _table().schema) as sink:
        sink.write_table(_table())


def _hdf5(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["logits"] = [[0.5, 1.0], [1.5, 2.0]]


_VALUES: Final = np.array([[0.5, 1.0], [1.5, 2.0]])
_ARRAYS: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "model.pt": (lambda path: torch.save(torch.tensor(_VALUES, requires_grad=True), path), "model.npy"),
    "old.pt": (
        lambda path: torch.save(torch.tensor(_VALUES), path, _use_new_zipfile_serialization=False),
        "old.npy",
    ),
    "preds.pkl": (lambda path: path.write_bytes(pickle.dumps(_VALUES)), "preds.npy"),
    "preds.txt": (lambda path: np.savetxt(path, _VALUES), "preds.npy"),
    "preds.dat": (lambda path: np.savetxt(path, _VALUES, delimiter=","), "preds.npy"),
    "objs.npy": (_objects, "objs-plain.npy"),
    "run.mat": (lambda path: scipy_io.savemat(path, {"logits": _VALUES}), "run.npy"),
    "run.h5": (_hdf5, "run.npy"),
    "run.safetensors": (lambda path: save_file({"logits": _VALUES}, path), "run.npy"),
}


@pytest.mark.parametrize("name", _ARRAYS)
def test_the_remedy_makes_an_array_that_is_taken(page: Page, files: Path, name: str) -> None:
    make, made = _ARRAYS[name]
    make(files / name)
    _upload(page, files / name)
    expect(_alert(page)).to_contain_text(name)
    _python(_remedy(page), files)
    assert np.load(files / made).tolist() == _VALUES.tolist()
    _upload(page, files / made)
    expect(_list(page)).to_contain_text(f"{made}float")


@pytest.mark.parametrize("version", [1, 2])
def test_the_remedy_for_a_feather_file_makes_a_stream(page: Page, files: Path, version: int) -> None:
    if version == 1:
        with pytest.warns(DeprecationWarning, match="Feather V1"):
            feather.write_feather(_table(), files / "run.feather", version=1)
    else:
        _arrow_file(files / "run.feather")
    _upload(page, files / "run.feather")
    _python(_remedy(page), files)
    _upload(page, files / "stream.arrow")
    show_loss(page)


@pytest.mark.parametrize("name", ["run.parquet", "run.csv"])
def test_the_remedy_for_a_table_makes_a_report(page: Page, files: Path, name: str) -> None:
    if name == "run.csv":
        (files / name).write_text("logits,targets\n0.5,0\n1.0,1\n")
    else:
        parquet.write_table(_table(), files / name)
    _upload(page, files / name)
    _shell(_remedy(page), files)
    _upload(page, files / "report.json")
    expect(section(page, "totals")).to_be_visible()


@pytest.mark.parametrize("name", ["logits.npy.gz", "logits.packed"])
def test_the_remedy_for_a_compressed_file_unpacks_it(page: Page, files: Path, name: str) -> None:
    np.save(files / "whole.npy", _VALUES)
    (files / name).write_bytes(gzip.compress((files / "whole.npy").read_bytes()))
    _upload(page, files / name)
    _shell(_remedy(page), files)
    made = files / ("logits.npy" if name.endswith(".gz") else "unpacked")
    assert np.load(made).tolist() == _VALUES.tolist()
    _upload(page, made)
    expect(_list(page)).to_contain_text("float64 [2, 2]")


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("targets.npy", b"not an array\n", "is no .npy file"),
        ("image.png", b"\x89PNG\r\n\x1a\n\0\0\0\r", "not known"),
        ("run.zip", b"PK\x05\x06" + bytes(18), "not known"),
    ],
)
def test_the_remedy_for_what_is_no_array_saves_one(
    page: Page, files: Path, name: str, data: bytes, what: str
) -> None:
    (files / name).write_bytes(data)
    _upload(page, files / name)
    expect(_alert(page)).to_contain_text(what)
    _python(f"import numpy as np; array = np.ones(3); {_remedy(page)}", files)
    assert np.load((files / name).with_suffix(".npy")).tolist() == [1, 1, 1]


def test_a_pointer_of_git_lfs_is_named(page: Page, files: Path) -> None:
    (files / "logits.npy").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
    )
    _upload(page, files / "logits.npy")
    expect(_alert(page)).to_contain_text("is a pointer of Git LFS")
    expect(_list(page).get_by_role("listitem")).to_have_count(0)


# ---- Names of arrays


@pytest.mark.parametrize(
    ("inputs", "targets"), [("pred", "gt"), ("arr_0", "arr_1"), ("NAME", "ARRAYS"), ('a"]; boom("', "y\nz")]
)
def test_the_remedy_for_an_npz_renames_its_arrays(
    page: Page, arrays: Arrays, files: Path, inputs: str, targets: str
) -> None:
    given: dict[str, Any] = {inputs: arrays.logits, targets: arrays.targets}
    np.savez(files / "run.npz", **given)
    _upload(page, files / "run.npz")
    expect(_alert(page)).to_contain_text("[400, 6]")
    _python(_remedy(page), files)
    with np.load(files / "run-renamed.npz") as found:
        assert np.array_equal(found["logits"], arrays.logits)
        assert np.array_equal(found["targets"], arrays.targets)
    _upload(page, files / "run-renamed.npz")
    show_loss(page)


def test_the_remedy_for_an_npz_of_one_array_takes_it_out(page: Page, arrays: Arrays, files: Path) -> None:
    given: dict[str, Any] = {"gt": arrays.targets}
    np.savez(files / "run.npz", **given)
    _upload(page, files / "run.npz", arrays.path("logits.npy"))
    expect(_alert(page)).to_contain_text("a request needs logits (or probabilities) and targets")
    _python(_remedy(page), files)
    _upload(page, files / "targets.npy")
    show_loss(page)


@pytest.mark.parametrize("name", ["class_ids.npy", "cls.npy", "classes.npy", "ClassId.npy"])
def test_class_ids_are_targets(page: Page, arrays: Arrays, files: Path, name: str) -> None:
    np.save(files / name, np.arange(400) % 6)
    _upload(page, arrays.path("logits.npy"), files / name)
    assert page.get_by_label(f"What {name} is").input_value() == "targets"


def test_shapes_that_are_turned_are_told_to_be_turned(page: Page, arrays: Arrays, files: Path) -> None:
    np.save(files / "targets.npy", arrays.targets.T)
    _upload(page, arrays.path("logits.npy"), files / "targets.npy")
    expect(page.locator("#misfits")).to_contain_text("turn one of them, as by targets.T")
    np.save(files / "targets.npy", np.load(files / "targets.npy").T)
    _upload(page, files / "targets.npy")
    expect(page.locator("#misfits")).to_be_empty()
    show_loss(page)


# ---- The key


@pytest.mark.parametrize("around", ["\u200b%s\u2060", " %s\u00a0", "\ufeff%s", "%s"])
def test_a_key_is_taken_without_what_is_not_seen(
    visit: Visit, team_server: TeamServer, watch: Watch, around: str
) -> None:
    watch.allow("status of 401")
    page = visit(f"{team_server.url}/ui")
    page.get_by_label("Key", exact=True).fill(around % team_server.vision)
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("tab", name="Usage").click()
    expect(page.locator("#usage")).to_contain_text("vision")


@pytest.mark.parametrize("text", ["\u043a\u043b\u044e\u0447", "lossd_\u2014_key", "\u200b"])
def test_what_cannot_be_a_key_is_refused_in_the_dialog(
    visit: Visit, team_server: TeamServer, watch: Watch, text: str
) -> None:
    watch.allow("status of 401")
    page = visit(f"{team_server.url}/ui")
    page.get_by_label("Key", exact=True).fill(text)
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("This is no key")
    page.get_by_label("Key", exact=True).fill(team_server.vision)
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_package_that_commands_need_is_named(page: Page, arrays: Arrays) -> None:
    give(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    page.get_by_text("Copy this as curl").click()
    expect(page.locator("#commands")).to_contain_text("pip install path/to/lossd")
