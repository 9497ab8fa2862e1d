"""Files, globs, folders, manifests and standard input as shards of one score."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from fsspec import filesystem  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import parquet

from client.cli.scored import answer, bce, refused, run
from lossd_client import LossClient
from lossd_client.cli.inputs import blocks as inputs

ROWS = (5, 1, 0, 40, 254)
random = np.random.default_rng(5)
X = random.normal(size=(sum(ROWS), 3)).astype(np.float32)
Y = random.random((sum(ROWS), 3)) < 0.4
W = random.random(sum(ROWS))
SITE = np.array(["a", "b"])[random.integers(2, size=sum(ROWS))]
CUTS = np.cumsum((0, *ROWS)).tolist()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of their own, with shards in parquet and as arrays."""
    monkeypatch.chdir(tmp_path)
    Path("preds").mkdir()
    Path("arrays").mkdir()
    for place, (start, end) in enumerate(pairwise(CUTS)):
        part = slice(start, end)
        parquet.write_table(table(part), f"preds/part-{place}.parquet")
        np.savez(f"arrays/part-{place}.npz", logits=X[part], targets=Y[part], w=W[part, None])


def lists(array: NDArray[Any]) -> pa.Array[Any]:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])


def table(part: slice) -> pa.Table:
    return pa.table({"logits": lists(X[part]), "targets": lists(Y[part]), "w": W[part], "site": SITE[part]})


@pytest.fixture(params=[8 << 20, 200], ids=["one request", "many blocks"])
def in_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BLOCK_BYTES", request.param)


def assert_all(found: dict[str, Any], rel: float = 1e-14) -> None:
    losses = bce(X, Y)
    assert found["count"] == X.size
    assert found["shape"] == list(X.shape)
    assert found["sum"] == pytest.approx(losses.sum(), rel=rel)
    assert found["loss"] == pytest.approx(losses.mean(), rel=rel)
    assert found["positives"] == Y.sum()


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize("kind", ["preds/part-{}.parquet", "arrays/part-{}.npz"])
def test_files_one_after_the_other(base_url: str, kind: str) -> None:
    files = [kind.format(place) for place in range(len(ROWS))]
    found = answer(base_url, *files)
    assert_all(found)
    assert [(one["logits"], one["targets"], one["rows"]) for one in found["inputs"]] == [
        (file, file, rows) for file, rows in zip(files, ROWS, strict=True)
    ]
    assert found["inputs"][0]["columns"] == {"logits": "logits", "targets": "targets"}


def test_two_shards(base_url: str) -> None:
    assert_all(answer(base_url, "preds/part-3.parquet", "preds/part-4.parquet") | answer(base_url, "preds"))
    found = answer(base_url, "preds/part-3.parquet", "preds/part-4.parquet")
    assert found["loss"] == pytest.approx(bce(X[6:], Y[6:]).mean(), rel=1e-14)


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize(
    "args",
    [["preds"], ["preds/*.parquet"], ["preds/part-[0-4].parquet"], ["**/*.parquet"], ["@list"], ["list.txt"]],
)
def test_what_stands_for_them(base_url: str, args: list[str]) -> None:
    for name in ("list", "list.txt"):
        lines = [f"preds/part-{place}.parquet" for place in range(len(ROWS))]
        Path(name).write_text("# by epoch\n\n" + "\n".join(lines) + "\n")
    assert_all(answer(base_url, *args))


def test_a_folder_has_other_files(base_url: str) -> None:
    for name in (".hidden.parquet", "_SUCCESS", "_tmp/x.parquet", ".git/config"):
        path = Path("preds") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert_all(answer(base_url, "preds"))
    Path("preds/notes.md").write_text("notes")
    message = refused(base_url, "preds")
    assert "preds/notes.md" in message
    assert "'preds/**/*.parquet'" in message
    assert_all(answer(base_url, "preds/**/*.parquet"))


def test_folders_that_name_a_column(base_url: str) -> None:
    for place, (start, end) in enumerate(pairwise(CUTS)):
        path = Path(f"hive/camera={'left%20one' if place < 3 else 'right'}/part-{place}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table(slice(start, end)), path)
    left, right = slice(0, CUTS[3]), slice(CUTS[3], None)
    for args in (["hive"], ["hive/camera=*/*.parquet"]):
        found = answer(base_url, *args, "--by", "camera")
        assert_all(found)
        assert [(one["group"], one["count"]) for one in found["groups"]] == [
            ("left one", X[left].size),
            ("right", X[right].size),
        ]
        assert found["groups"][0]["loss"] == pytest.approx(bce(X[left], Y[left]).mean(), rel=1e-14)
    found = answer(base_url, "hive", "--by", "site", "--by", "camera")
    assert found["by"] == ["site", "camera"]
    assert [one["group"] for one in found["groups"]] == [
        ["a", "left one"],
        ["a", "right"],
        ["b", "left one"],
        ["b", "right"],
    ]
    rows = (SITE == "b") & (np.arange(len(X)) >= CUTS[3])
    assert found["groups"][3]["sum"] == pytest.approx(bce(X[rows], Y[rows]).sum(), rel=1e-14)
    shown = run(base_url, "hive", "--by", "site", "--by", "camera").stdout.splitlines()
    assert shown[0].split()[:3] == ["site", "camera", "loss"]


def test_a_folder_of_rows_without_a_value(base_url: str) -> None:
    for place, folder in enumerate(("camera=a", "camera=__HIVE_DEFAULT_PARTITION__")):
        Path(f"hive/{folder}").mkdir(parents=True)
        parquet.write_table(table(slice(150 * place, 150 * place + 150)), f"hive/{folder}/x.parquet")
    groups = answer(base_url, "hive", "--by", "camera")["groups"]
    assert [one["group"] for one in groups] == ["a", None]
    assert groups[1]["sum"] == pytest.approx(bce(X[150:], Y[150:]).sum(), rel=1e-14)


@pytest.mark.parametrize("args", [["many"], ["many/s-*.npz"], ["many/s-*.npz", "--targets", "y-*.npz"]])
def test_numbers_in_names_count_by_value(base_url: str, args: list[str]) -> None:
    Path("many").mkdir()
    for place in range(12):
        part = slice(25 * place, 25 * place + 25)
        if args[1:]:
            np.savez(f"many/s-{place}.npz", logits=X[part])
        else:
            np.savez(f"many/s-{place}.npz", logits=X[part], targets=Y[part])
        np.savez(f"y-{place}.npz", targets=Y[part])
    np.save("w.npy", W[:, None])
    found = answer(base_url, *args, "--weight", "w.npy")
    assert found["sum"] == pytest.approx((bce(X, Y) * W[:, None]).sum(), rel=1e-14)
    [note] = found["notes"]
    assert "many/s-0.npz, many/s-1.npz, many/s-2.npz and so on, to many/s-11.npz" in note
    run(base_url, *args, "--axis", "1", "--out", "rows.npy")
    np.testing.assert_allclose(np.load("rows.npy"), bce(X, Y).mean(axis=1), rtol=1e-13)


PAIRS = {
    "tabs": "logits\ttargets\nx 0.npy\ty 0.npy\nx 1.npy\ty 1.npy\n",
    "commas": "\ufefflogits,targets\r\nx 0.npy,y 0.npy\r\n# the last\r\nx 1.npy , y 1.npy\r\n",
    "spaces": "x0.npy y0.npy\nx1.npy   y1.npy",
}


@pytest.mark.parametrize("form", PAIRS)
@pytest.mark.parametrize("by", ["name", "at", "standard input"])
def test_a_manifest_of_pairs(base_url: str, monkeypatch: pytest.MonkeyPatch, form: str, by: str) -> None:
    Path("d").mkdir()
    for place, part in enumerate((slice(0, 100), slice(100, None))):
        for name, array in {"x": X, "y": Y}.items():
            np.save(f"d/{name} {place}.npy", array[part])
            np.save(f"d/{name}{place}.npy", array[part])
    Path("d/pairs.lst").write_text(PAIRS[form], newline="")
    if by == "standard input":
        monkeypatch.chdir("d")
        found = answer(base_url, "-", given=PAIRS[form].encode())
    else:
        found = answer(base_url, "d/pairs.lst" if by == "name" else "@d/pairs.lst")
    assert_all(found)
    assert [one["rows"] for one in found["inputs"]] == [100, 200]
    assert found["inputs"][1]["targets"].endswith("y1.npy" if form == "spaces" else "y 1.npy")


@pytest.mark.parametrize("kind", ["parquet", "npz", "csv", "jsonl", "csv.gz"])
def test_standard_input_as_data(base_url: str, kind: str) -> None:
    import gzip

    buffer = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table(slice(None)), buffer)
    elif kind == "npz":
        np.savez(buffer, logits=X, targets=Y)
    else:
        pairs = list(zip(X[:, 0].astype(float).tolist(), Y[:, 0].astype(int).tolist(), strict=True))
        lines = [f"{x!r},{y}" if "csv" in kind else f'{{"logits": {x!r}, "targets": {y}}}' for x, y in pairs]
        text = "\n".join([*(["logits,targets"] if "csv" in kind else []), *lines]).encode()
        buffer.write(gzip.compress(text) if kind == "csv.gz" else text)
    found = answer(base_url, "-", given=buffer.getvalue())
    if kind in ("parquet", "npz"):
        assert_all(found)
    else:
        assert found["sum"] == pytest.approx(bce(X[:, 0], Y[:, 0]).sum(), rel=1e-14)
    assert (found["inputs"][0]["logits"], found["inputs"][0]["targets"]) == ("-", "-")
    assert not list(Path(tempfile.gettempdir()).glob("standard-input-*"))


def test_errors_call_standard_input_so(base_url: str) -> None:
    assert "standard input has columns a, b:" in refused(base_url, "-", given=b"a,b\n1,2\n")
    found = answer(base_url, "-", given=b"logits;targets\n0,5;1\n-2;0\n")
    assert found["notes"][0].startswith("standard input: read with")


def test_a_signal_leaves_nothing_of_standard_input(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, logits=X, targets=Y)
    (tmp_path / "spool").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code = "from lossd.__main__ import main; main()"
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                code,
                "score",
                "-",
                "--url",
                url,
                "--out",
                str(tmp_path / "spool/out.npy"),
            ],
            stdin=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(tmp_path / "spool")},
        ) as process:
            assert process.stdin is not None
            process.stdin.write(buffer.getvalue())
            process.stdin.close()
            silent.settimeout(30)
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1)
                assert any("standard-input" in path.name for path in (tmp_path / "spool").iterdir())
                process.send_signal(signal.SIGTERM)
                process.wait(30)
    assert process.returncode == 128 + signal.SIGTERM
    assert list((tmp_path / "spool").iterdir()) == []


def test_urls(base_url: str) -> None:
    files = filesystem("memory")
    for path in Path("preds").iterdir():
        files.pipe(f"/shards/{path.name}", path.read_bytes())
    for args in (["memory://shards/part-*.parquet"], ["memory://shards/"]):
        assert_all(answer(base_url, *args))
    for place, part in enumerate((slice(0, 9), slice(9, None))):
        for name, array in {"x": X, "y": Y}.items():
            buffer = io.BytesIO()
            np.save(buffer, array[part])
            files.pipe(f"/pairs/{name}-{place}.npy", buffer.getvalue())
    assert_all(answer(base_url, "memory://pairs/x-*.npy", "--targets", "memory://pairs/y-*.npy"))


def test_shards_of_other_formats_and_dtypes(base_url: str, client: LossClient) -> None:
    np.savez("a.npz", logits=X[:50].astype(ml_dtypes.bfloat16), targets=Y[:50].astype(np.int16))
    np.savez("b.npz", logits=X[50:99].astype(np.float64), targets=Y[50:99].astype(np.float32))
    parquet.write_table(table(slice(99, None)), "c.parquet")
    found = answer(base_url, "a.npz", "b.npz", "c.parquet")
    x = np.concatenate([X[:50].astype(ml_dtypes.bfloat16).astype(np.float32), X[50:]])
    assert found["sum"] == pytest.approx(bce(x, Y).sum(), rel=1e-14)
    for options, params in (
        (["--axis", "0", "--normalizer", "positives"], {"axis": 0, "normalizer": "positives"}),
        (["--reduction", "none"], {"reduction": "none"}),
    ):
        np.testing.assert_allclose(
            answer(base_url, "a.npz", "b.npz", "c.parquet", *options)["loss"],
            client.bce(x, Y, **params).loss,
            rtol=1e-14,
        )


@pytest.fixture
def client(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as opened:
        yield opened


@pytest.mark.usefixtures("in_blocks")
def test_weights_masks_and_groups_over_shards(base_url: str) -> None:
    np.save("w.npy", W[:, None])
    np.save("class.npy", np.arange(3.0))
    np.save("site.npy", SITE)
    losses = bce(X, Y) * W[:, None]
    for args in (
        ["preds", "--weight-column", "w"],
        ["arrays", "--weight-column", "w"],
        ["preds", "--weight", "w.npy"],
    ):
        found = answer(base_url, *args, "--by", "site.npy", "--normalizer", "weight")
        assert found["sum"] == pytest.approx(losses.sum(), rel=1e-14)
        assert found["weight_sum"] == pytest.approx(W.sum() * 3, rel=1e-14)
        for group in found["groups"]:
            rows = group["group"] == SITE
            assert group["sum"] == pytest.approx(losses[rows].sum(), rel=1e-14)
    found = answer(base_url, "preds", "--weight", "class.npy", "--by", "site")
    assert found["sum"] == pytest.approx((bce(X, Y) * np.arange(3.0)).sum(), rel=1e-14)
    assert found["inputs"][0]["weight"] == "class.npy"


@pytest.mark.usefixtures("in_blocks")
def test_a_weight_that_each_shard_has_for_all_its_rows(base_url: str) -> None:
    total = 0.0
    for place, part in enumerate((slice(0, 100), slice(100, 101), slice(101, None))):
        weight = np.arange(3.0) + place
        np.savez(f"w-{place}.npz", logits=X[part], targets=Y[part], w=weight if place else weight[None])
        total += (bce(X[part], Y[part]) * weight).sum()
    assert answer(base_url, "w-*.npz", "--weight-column", "w")["sum"] == pytest.approx(total, rel=1e-14)


@pytest.mark.parametrize("by", [[], ["--by", "site"]])
@pytest.mark.usefixtures("in_blocks")
def test_errors_name_the_file_and_its_own_row(base_url: str, by: list[str]) -> None:
    bad = Y.astype(np.float64)
    bad[CUTS[3] + 17, 2] = 1.5
    part = slice(CUTS[3], CUTS[4])
    changed = table(part).set_column(1, "targets", lists(bad[part]))
    parquet.write_table(changed, "preds/part-3.parquet")
    done = run(base_url, "preds", *by)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "/targets/17/2 (row 17 of preds/part-3.parquet)" in done.stderr


def broken(name: str) -> None:
    """Make a shard that does not go with the others."""
    path = Path("preds/part-3.parquet")
    part = slice(*CUTS[3:5])
    if name == "narrow":
        parquet.write_table(pa.table({"logits": lists(X[part, :2]), "targets": lists(Y[part, :2])}), path)
    elif name == "flat":
        parquet.write_table(pa.table({"logits": X[part, 0], "targets": Y[part, 0]}), path)
    elif name == "no weight":
        parquet.write_table(table(part).drop(["w"]), path)
    elif name == "no targets":
        parquet.write_table(table(part).drop(["targets"]), path)
    elif name == "a link":
        Path("preds/part-9.parquet").hardlink_to(path)
    elif name == "empty manifest":
        Path("list.lst").write_text("# nothing\n")
    elif name == "manifest":
        Path("list.lst").write_text("preds/part-1.parquet\n\npreds/part-77.parquet\n")
    elif name == "three":
        Path("list.lst").write_text("preds/part-1.parquet,preds/part-2.parquet,preds/part-3.parquet\n")
    elif name == "odd weight":
        np.save("w.npy", W[:, None][:299])
    elif name == "long weight":
        np.save("w.npy", np.append(W, 1.0)[:, None])
    elif name == "flat weight":
        np.save("w.npy", W)


@pytest.mark.parametrize(
    ("name", "args", "messages"),
    [
        ("narrow", ["preds"], ["preds/part-3.parquet has logits of [2] a row", "[3]", "must be alike"]),
        ("flat", ["preds"], ["preds/part-3.parquet has logits of 1 dimensions"]),
        (
            "no weight",
            ["preds", "--weight-column", "w"],
            ["preds/part-3.parquet has columns logits, targets, site"],
        ),
        (
            "no targets",
            ["preds"],
            ["preds/part-3.parquet has columns logits, w, site, and no targets by name"],
        ),
        ("a link", ["preds"], ["preds/part-9.parquet is given twice, as preds/part-3.parquet before"]),
        ("", ["preds", "preds/part-1.parquet"], ["preds/part-1.parquet is given twice"]),
        ("", ["-", "-"], ["standard input, -, is given twice"]),
        ("", ["nothing/*.parquet"], ["nothing/*.parquet stands for no file of data"]),
        ("", ["nowhere.parquet"], ["there is no file nowhere.parquet"]),
        ("empty manifest", ["list.lst"], ["list.lst names no files"]),
        ("manifest", ["list.lst"], ["list.lst, line 3: there is no file preds/part-77.parquet"]),
        ("three", ["list.lst"], ["list.lst, line 1: it names 3 files"]),
        (
            "odd weight",
            ["preds", "--weight", "w.npy"],
            ["w.npy has fewer rows than the 5 shards: 300", "299"],
        ),
        ("long weight", ["preds", "--weight", "w.npy"], ["w.npy has more rows than the 5 shards"]),
        (
            "flat weight",
            ["preds", "--weight", "w.npy"],
            ["shape [300]", "[300, 1]", "one a class has the shape [3]"],
        ),
        ("", ["preds", "--by", "sight"], ["did you mean site?"]),
        ("", ["preds", "--by", "site", "--by", "site"], ["--by site, site: one is named twice"]),
        (
            "",
            ["preds", "--targets-format", "index", "--class-axis", "0"],
            ["cannot go on from shard to shard"],
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    base_url: str, name: str, args: list[str], messages: list[str]
) -> None:
    broken(name)
    message = refused(base_url, *args)
    for each in messages:
        assert each in message


def test_rows_of_a_pair_are_counted_shard_by_shard(base_url: str) -> None:
    """Their sums would fit, and their rows not."""
    for place, (start, middle, end) in enumerate([(0, 150, 151), (150, 300, 300)]):
        np.save(f"x-{place}.npy", X[start:middle])
        np.save(f"y-{place}.npy", Y[start + place : end])
    message = refused(base_url, "x-*.npy", "--targets", "y-*.npy")
    assert "x-0.npy has fewer rows than y-0.npy: 150 in x-0.npy, 151 in y-0.npy" in message


def test_notes_are_said_once(base_url: str) -> None:
    for place in range(3):
        Path(f"t-{place}.csv").write_text("logits;targets\n0,5;1\n-2;0\n")
    found = answer(base_url, "t-*.csv")
    assert found["loss"] == pytest.approx(bce([0.5, -2], [1, 0]).mean(), rel=1e-15)
    [note] = found["notes"]
    assert note.startswith("t-0.csv and 2 more: read with")
    assert note in " ".join(run(base_url, "t-*.csv").stdout.split())
