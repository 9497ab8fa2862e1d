"""`lossd score` against a real server: every kind of file, in one request and in blocks, and by group."""

from __future__ import annotations

import json
import os
import pty
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from fsspec import filesystem  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import csv, feather, parquet
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from client.cli.started import started
from command import app
from lossd_client import LossClient, LossResult
from lossd_client.cli.inputs import blocks as inputs

ROWS = 600
random = np.random.default_rng(3)
X = random.normal(size=(ROWS, 4)).astype(np.float32)
Y = random.random((ROWS, 4)) < 0.3
W = random.random(ROWS)
M = random.random(ROWS) < 0.8
SITE = np.array(["a", "b", "c"])[random.integers(3, size=ROWS)]


@pytest.fixture
def client(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as opened:
        yield opened


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes blocks so small that every input has many."""
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 1500)


def run(base_url: str, *args: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, args), "--url", base_url])


def answer(base_url: str, *args: object) -> dict[str, Any]:
    done = run(base_url, *args, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def lists(array: NDArray[Any]) -> pa.Array[Any]:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])


def table() -> pa.Table:
    return pa.table(
        {"logits": lists(X), "targets": lists(Y), "w": W, "m": M, "site": SITE, "x0": X[:, 0], "y0": Y[:, 0]}
    )


def flat() -> pa.Table:
    return pa.table({"logits": X[:, 0], "targets": Y[:, 0].astype(np.int8), "w": W, "m": M, "site": SITE})


def stream(source: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, source.schema) as writer:
        writer.write_table(source, max_chunksize=100)


def numpys(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, logits=X, targets=Y)


ONE_FILE: dict[str, Callable[[Path], None]] = {
    "t.npz": numpys,
    "t.parquet": lambda path: parquet.write_table(table(), path),
    "t.feather": lambda path: feather.write_feather(table(), str(path)),
    "t.arrows": lambda path: stream(table(), path),
    "t.safetensors": lambda path: save_file({"logits": X, "targets": Y}, path),
}


def assert_same(found: Mapping[str, Any], expected: LossResult) -> None:
    """All figures, to the last bit."""
    sums = ("sum", "weight_sum", "positives")
    for name in ("loss", "count", *sums, *(f"{name}_terms" for name in sums)):
        assert found[name] == expected.to_dict()[name]
    for name in ("loss_terms", "divisor_terms"):  # which groups have not
        assert found.get(name) == expected.to_dict()[name]


@pytest.mark.parametrize("name", ONE_FILE)
def test_one_file_of_each_kind(tmp_path: Path, client: LossClient, name: str) -> None:
    ONE_FILE[name](tmp_path / name)
    expected = client.focal(X, Y, gamma=2.0)
    found = answer(client.base_url, tmp_path / name, "--loss", "focal", "--gamma", 2)
    assert (found["loss"], found["sum"]) == (expected.loss, expected.sum)


@pytest.mark.parametrize("name", ONE_FILE)
@pytest.mark.usefixtures("in_blocks")
def test_in_blocks_it_is_the_same(tmp_path: Path, client: LossClient, name: str) -> None:
    ONE_FILE[name](tmp_path / name)
    found = answer(client.base_url, tmp_path / name, "--loss", "focal")
    assert_same(found, client.focal(X, Y))
    assert (found["reduction"], found["shape"], found["params"]["gamma"]) == ("mean", [ROWS, 4], 1.5)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("options", "params"),
    [
        ((), {}),
        (("--normalizer", "positives"), {"normalizer": "positives"}),
        (("--normalizer", "64"), {"normalizer": 64.0}),
        (("--reduction", "sum"), {"reduction": "sum"}),
        (("--reduction", "sum", "--axis", "0"), {"reduction": "sum", "axis": 0}),
        (("--axis", "0", "--normalizer", "600"), {"axis": 0, "normalizer": 600.0}),
        (("--axis", "0"), {"axis": 0}),
        (("--axis", "0", "--normalizer", "positives"), {"axis": 0, "normalizer": "positives"}),
        (("--axis", "0", "--ignore-index", "1"), {"axis": 0, "ignore_index": 1.0}),
        (("--axis", "-1"), {"axis": -1}),
        (("--reduction", "none"), {"reduction": "none"}),
        (("--pos-weight", "1,2,3,4"), {"pos_weight": [1.0, 2.0, 3.0, 4.0]}),
        (("--label-smoothing", "0.1"), {"label_smoothing": 0.1}),
    ],
)
@pytest.mark.usefixtures("in_blocks")
def test_every_reduction_in_blocks(
    tmp_path: Path,
    client: LossClient,
    options: tuple[str, ...],
    params: dict[str, Any],
    order: Literal["C", "F"],
) -> None:
    np.save(tmp_path / "x.npy", np.asarray(X, order=order))
    np.save(tmp_path / "y.npy", Y)
    found = answer(client.base_url, tmp_path / "x.npy", tmp_path / "y.npy", *options)
    assert_same(found, client.bce(X, Y, **params))


@pytest.mark.usefixtures("in_blocks")
def test_weights_and_masks_in_blocks(tmp_path: Path, client: LossClient) -> None:
    for name, array in {"x": X, "y": Y, "w": W[:, None], "m": M[:, None], "c": np.arange(4.0)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = [tmp_path / "x.npy", tmp_path / "y.npy", "--mask", tmp_path / "m.npy", "--normalizer", "weight"]
    found = answer(client.base_url, *files, "--weight", tmp_path / "w.npy")
    assert_same(found, client.bce(X, Y, weight=W[:, None], mask=M[:, None], normalizer="weight"))
    found = answer(client.base_url, *files[:4], "--axis", "0")
    assert_same(found, client.bce(X, Y, mask=M[:, None], axis=0))
    found = answer(client.base_url, *files, "--weight", tmp_path / "c.npy")
    assert_same(found, client.bce(X, Y, weight=np.arange(4.0), mask=M[:, None], normalizer="weight"))


@pytest.mark.parametrize("rows", [1 << 20, 100])
def test_a_weight_that_could_go_two_ways_is_noted(
    tmp_path: Path, client: LossClient, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """In blocks too, whose own shapes say nothing of it; and not where a block alone is square."""
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 10 * rows)
    monkeypatch.chdir(tmp_path)
    square, wide, weight = random.normal(size=(40, 40)), random.normal(size=(40, 4)), np.arange(40.0)
    for name, array in {"x": square, "y": square > 0, "wide": wide, "wide y": wide > 0, "w": weight}.items():
        np.save(f"{name}.npy", array)
    np.save("c.npy", np.arange(4.0))
    found = answer(client.base_url, "x.npy", "y.npy", "--weight", "w.npy")
    assert_same(found, client.bce(square, square > 0, weight=weight))
    assert [note[:30] for note in found["notes"]] == ["weight of shape [40] goes alon"]
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 4 * 36)  # four rows of float64 and bool
    assert answer(client.base_url, "wide.npy", "wide y.npy", "--weight", "c.npy")["notes"] == []


@pytest.mark.usefixtures("in_blocks")
def test_columns_by_name(tmp_path: Path, client: LossClient) -> None:
    parquet.write_table(table(), tmp_path / "t.parquet")
    columns = [
        "--logits-column",
        "x0",
        "--targets-column",
        "y0",
        "--weight-column",
        "w",
        "--mask-column",
        "m",
    ]
    found = answer(client.base_url, tmp_path / "t.parquet", *columns)
    assert_same(found, client.bce(X[:, 0], Y[:, 0], weight=W, mask=M))
    found = answer(client.base_url, tmp_path / "t.parquet", "--weight-column", "w", "--mask-column", "m")
    assert_same(found, client.bce(X, Y, weight=W[:, None], mask=M[:, None]))


@pytest.mark.usefixtures("in_blocks")
def test_a_text_table(tmp_path: Path, client: LossClient) -> None:
    csv.write_csv(flat(), str(tmp_path / "t.csv"))
    found = answer(client.base_url, tmp_path / "t.csv", "--weight-column", "w", "--mask-column", "m")
    x = np.array([float(f"{value!s}") for value in X[:, 0]])
    assert_same(found, client.bce(x, Y[:, 0], weight=W, mask=M))


@pytest.mark.parametrize("library", ["pyarrow", "python"])
@pytest.mark.usefixtures("in_blocks")
def test_a_text_table_whose_targets_are_true_and_false(
    tmp_path: Path, client: LossClient, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    rows = [f"{x!r},{y}\n" for x, y in zip(X[:, 0].tolist(), Y[:, 0].tolist(), strict=True)]
    (tmp_path / "t.csv").write_text("logits,targets\n" + "".join(rows))
    if library == "python":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    expected = client.bce(X[:, 0].astype(np.float64), Y[:, 0])
    assert_same(answer(client.base_url, tmp_path / "t.csv"), expected)
    groups = answer(client.base_url, tmp_path / "t.csv", "--by", "targets")["groups"]
    assert sorted(group["group"] for group in groups) == ["False", "True"]


@pytest.mark.usefixtures("in_blocks")
def test_class_ids(tmp_path: Path, client: LossClient) -> None:
    ids = random.integers(4, size=ROWS)
    parquet.write_table(pa.table({"logits": lists(X), "id": ids}), tmp_path / "t.parquet")
    options = ["--targets-format", "index", "--targets-column", "id"]
    found = answer(client.base_url, tmp_path / "t.parquet", *options)
    assert_same(found, client.bce(X, ids, targets_format="index"))
    np.save(tmp_path / "x.npy", X.T)
    np.save(tmp_path / "y.npy", ids)
    files = [tmp_path / "x.npy", tmp_path / "y.npy", "--targets-format", "index", "--class-axis", "0"]
    assert_same(answer(client.base_url, *files), client.bce(X, ids, targets_format="index"))


def test_a_url(client: LossClient) -> None:
    with filesystem("memory").open("/t.parquet", "wb") as file:
        parquet.write_table(table(), file)
    assert_same(answer(client.base_url, "memory://t.parquet"), client.bce(X, Y))


@pytest.mark.parametrize(
    ("options", "params", "shape"),
    [
        (("--reduction", "none"), {"reduction": "none"}, (ROWS, 4)),
        (("--axis", "1"), {"axis": 1}, (ROWS,)),
    ],
)
@pytest.mark.usefixtures("in_blocks")
def test_losses_of_rows_are_written_as_they_come(
    tmp_path: Path,
    client: LossClient,
    options: tuple[str, str],
    params: dict[str, Any],
    shape: tuple[int, ...],
) -> None:
    numpys(tmp_path / "t.npz")
    out = tmp_path / "losses.npy"
    expected = client.bce(X, Y, **params)
    done = run(client.base_url, tmp_path / "t.npz", *options, "--out", out)
    assert (done.exit_code, done.stderr) == (0, "")
    np.testing.assert_array_equal(np.load(out), expected.loss, strict=True)
    assert f"array of shape {shape}" in done.stdout
    assert repr(float(np.max(expected.loss))) in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["losses.npy", "t.npz"]


@pytest.mark.parametrize("held", [inputs.BLOCK_BYTES, 4000])
@pytest.mark.usefixtures("in_blocks")
def test_losses_by_group(
    tmp_path: Path, client: LossClient, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr("lossd_client.cli.scoring.groups._HELD_BYTES", held)
    parquet.write_table(table(), tmp_path / "t.parquet")
    command = [tmp_path / "t.parquet", "--loss", "focal", "--weight-column", "w", "--normalizer", "weight"]
    found = answer(client.base_url, *command, "--by", "site")
    params: dict[str, Any] = {"normalizer": "weight"}
    assert_same(found, client.focal(X, Y, weight=W[:, None], **params))
    assert (found["by"], [group["group"] for group in found["groups"]]) == ("site", ["a", "b", "c"])
    for group in found["groups"]:
        rows = group["group"] == SITE
        assert_same(group, client.focal(X[rows], Y[rows], weight=W[rows, None], **params))
    shown = run(client.base_url, *command, "--by", "site")
    assert shown.exit_code == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0] == ["site", "loss", "sum", "count", "weight_sum", "positives"]
    assert [(line[0], float(line[1])) for line in lines[1:4]] == [
        (group["group"], group["loss"]) for group in found["groups"]
    ]


def test_groups_of_a_file_of_their_own(tmp_path: Path, client: LossClient) -> None:
    numpys(tmp_path / "t.npz")
    groups = np.where(np.arange(ROWS) < 10, np.nan, np.arange(ROWS) % 2)
    groups[groups == 1] = np.inf
    np.save(tmp_path / "by.npy", groups)
    mask = np.arange(ROWS) % 2 == 0
    np.save(tmp_path / "m.npy", mask[:, None])
    found = answer(
        client.base_url, tmp_path / "t.npz", "--by", tmp_path / "by.npy", "--mask", tmp_path / "m.npy"
    )
    zero, one, nan = found["groups"]
    assert [zero["group"], one["group"], nan["group"]] == [0.0, "Infinity", "NaN"]
    assert_same(zero, client.bce(X[10::2], Y[10::2]))
    assert (one["loss"], one["count"]) == ("NaN", 0)  # all of it is masked
    assert_same(nan, client.bce(X[:10:2], Y[:10:2]))


@pytest.mark.parametrize("kind", ["parquet", "csv", "csv without pyarrow"])
@pytest.mark.usefixtures("in_blocks")
def test_groups_may_be_the_targets(
    tmp_path: Path, client: LossClient, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / f"t.{kind.split()[0]}"
    if kind == "parquet":
        parquet.write_table(flat(), path)
    else:
        csv.write_csv(flat(), str(path))
    if kind == "csv without pyarrow":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = answer(client.base_url, path, "--by", "targets")
    negative, positive = found["groups"]
    assert [str(negative["group"]), str(positive["group"])] == ["0", "1"]
    assert positive["positives"] == positive["count"] == np.count_nonzero(Y[:, 0])
    assert (negative["positives"], negative["count"]) == (0.0, np.count_nonzero(~Y[:, 0]))


@pytest.mark.parametrize("by", [(), ("--by", "site")])
@pytest.mark.usefixtures("in_blocks")
def test_what_the_server_finds_wrong_is_said_of_the_files_row(
    tmp_path: Path, base_url: str, by: tuple[str, ...]
) -> None:
    bad = Y.astype(np.float64)
    bad[437, 2] = 1.5
    parquet.write_table(table().set_column(1, "targets", lists(bad)), tmp_path / "t.parquet")
    done = run(base_url, tmp_path / "t.parquet", *by)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("/targets/437/2") == 2  # in the detail, and in the list of faults


@pytest.mark.usefixtures("in_blocks")
def test_a_mean_over_nothing(tmp_path: Path, base_url: str) -> None:
    numpys(tmp_path / "t.npz")
    np.save(tmp_path / "m.npy", np.zeros((ROWS, 1), dtype=bool))
    done = run(base_url, tmp_path / "t.npz", "--mask", tmp_path / "m.npy")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "422 empty_mean" in done.stderr


def test_no_rows(tmp_path: Path, base_url: str) -> None:
    parquet.write_table(table().slice(0, 0), tmp_path / "t.parquet")
    for by in ((), ("--by", "site")):
        found = answer(base_url, tmp_path / "t.parquet", "--reduction", "sum", *by)
        assert (found["loss"], found["count"], found.get("groups", [])) == (0.0, 0, [])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["t.parquet", "--logits-column", "logit"], "names logit; did you mean logits?"),
        (["t.parquet", "--targets-column", "nope"], "columns logits, targets, w, m, site, x0, y0"),
        (["t.parquet", "--probabilities"], "say by --logits-column which one holds the probabilities"),
        (["t.parquet", "--logits-column", "targets"], "logits and the targets are the same"),
        (["t.parquet", "--by", "sight"], "did you mean site?"),
        (["t.parquet", "--by", "logits"], "groups have one"),
        (["x.npy", "y.npy", "--by", "site"], "--by site: there is no such file, and x.npy is one array"),
        (["x.npy", "y.npy", "--weight", "w.npy"], "a weight of shape [600] does not broadcast"),
        (["x.npy", "y.npy", "--weight", "w.npy", "--axis", "0", "--normalizer", "weight"], "shape [600, 1]"),
        (["t.parquet", "--by", "site", "--axis", "0"], "--by needs one loss a group"),
        (["t.parquet", "--by", "site", "--reduction", "none"], "--by needs one loss a group"),
        (["t.parquet", "--mask-column", "site"], "which are not numbers"),
        (
            ["semicolons.csv", "--logits-column", "logit"],
            "say by --targets-column which one holds the targets",
        ),
        (["one.csv"], "one.csv holds one column, logit: name a second file, with the targets"),
        (["ab.npz"], "arrays a, b: say by --logits-column which one holds the logits"),
        (["x.npy"], "name a second file, with the targets"),
        (["x.npy", "y.npy", "--logits-column", "x"], "one array without a name"),
        (["x.npy", "short.npy"], "short.npy has fewer rows than x.npy: 600 in x.npy, 599 in short.npy"),
        (["x.npy", "nowhere.npy"], "there is no file nowhere.npy"),
        (["s3://nowhere/x.npy", "y.npy"], "s3://nowhere/x.npy cannot be opened"),
    ],
)
def test_what_is_not_clear_is_2(
    tmp_path: Path, base_url: str, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    parquet.write_table(table(), "t.parquet")
    np.savez("ab.npz", a=X, b=Y)
    Path("semicolons.csv").write_text("logit;label\n0.5;1\n")
    Path("one.csv").write_text("logit\n0.5\n")
    for name, array in {"x": X, "y": Y, "short": Y[:-1], "w": W}.items():
        np.save(f"{name}.npy", array)
    done = run(base_url, *args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(("options", "shows"), [((), True), (("--no-progress",), False)])
def test_a_bar_on_a_terminal(tmp_path: Path, base_url: str, options: tuple[str, ...], shows: bool) -> None:
    numpys(tmp_path / "t.npz")
    ours, theirs = pty.openpty()
    with started(base_url, tmp_path / "t.npz", *options, "--json", terminal=theirs) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # its last reader is gone
                break
            if not piece:
                break
            seen += piece
        os.close(ours)
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["count"] == ROWS * 4
    assert process.returncode == 0
    assert (b"600/600" in seen) == shows
