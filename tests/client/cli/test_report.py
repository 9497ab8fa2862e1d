"""`lossd report`: the report of files is that of one request with all rows, whatever the files and blocks."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from client.cli.reported import inputs, message, refused, report, run, sections
from client.cli.scored import bce
from client.playback import Answer, Playback
from lossd_client import LossClient
from lossd_client.cli.inputs import blocks
from lossd_client.report import Report

ROWS = (5, 1, 0, 40, 14)
N = sum(ROWS)
random = np.random.default_rng(19)
X = random.normal(size=(N, 3)).astype(np.float32)
B = random.normal(size=(N, 3)).astype(np.float32)
Y = random.random((N, 3)) < 0.4
CAMERA = random.integers(0, 3, size=N)
WEATHER = np.array(["rain", "sun", "fog"])[random.integers(3, size=N)]
NAMES = np.array([f"image-{row:03d}.png" for row in random.permutation(N)])
CUTS = np.cumsum((0, *ROWS)).tolist()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of their own, with all rows as arrays, and as shards in parquet."""
    monkeypatch.chdir(tmp_path)
    arrays = {"x": X, "y": Y, "b": B, "camera": CAMERA}
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    Path("shards").mkdir()
    for place, (start, end) in enumerate(pairwise(CUTS)):
        part = slice(start, end)
        parquet.write_table(table(part), f"shards/part-{place}.parquet")
        np.save(f"x-{place}.npy", X[part])
        np.save(f"y-{place}.npy", Y[part])
        np.save(f"b-{place}.npy", B[part])


def table(part: slice) -> pa.Table:
    columns = {name: lists(array[part]) for name, array in (("logits", X), ("targets", Y), ("other", B))}
    return pa.table({**columns, "camera": CAMERA[part], "weather": WEATHER[part], "name": NAMES[part]})


def lists(array: np.ndarray[Any, Any]) -> pa.Array[Any]:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])


@pytest.fixture
def client(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as opened:
        yield opened


@pytest.fixture(params=[8 << 20, 200], ids=["one request", "many blocks"])
def in_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize(
    "files",
    [
        ["shards"],
        ["shards/*.parquet"],
        [f"shards/part-{place}.parquet" for place in range(len(ROWS))],
        ["@list.txt"],
    ],
    ids=["folder", "glob", "files", "manifest"],
)
def test_shards_give_the_report_of_one_request(client: LossClient, files: list[str]) -> None:
    Path("list.txt").write_text("\n".join(f"shards/part-{place}.parquet" for place in range(len(ROWS))))
    options = ["--loss", "focal", "--gamma", 2, "--by", "camera", "--by", "weather", "--ids", "name"]
    options += ["--baseline", "other", "--top", 7, "--row", "mean", "--calibration-bins", 16]
    found = report(client.base_url, *files, *options, "--sweep", "gamma:0,1,2")
    whole = client.report(
        "focal",
        X,
        Y,
        gamma=2.0,
        groups={"camera": CAMERA, "weather": WEATHER.tolist()},
        ids=NAMES.tolist(),
        baseline=B,
        top=7,
        row="mean",
        calibration_bins=16,
        sweep={"gamma": [0, 1, 2]},
    )
    assert sections(found) == sections(whole)
    assert [shard["rows"] for shard in inputs(found)] == list(ROWS)


@pytest.mark.usefixtures("in_blocks")
def test_pairs_give_the_report_of_one_request(client: LossClient) -> None:
    whole = sections(client.report("bce", X, Y, baseline=B, groups={"camera": CAMERA}))
    one = report(client.base_url, "x.npy", "y.npy", "--baseline", "b.npy", "--by", "camera.npy")
    assert sections(one) == whole
    files = ["x-*.npy", "--targets", "y-*.npy", "--by", "camera.npy"]
    for baseline in ("b-*.npy", "b.npy"):
        assert sections(report(client.base_url, *files, "--baseline", baseline)) == whole


def test_the_figures_are_numpys(base_url: str) -> None:
    found = report(base_url, "shards", "--by", "weather", "--ids", "name", "--baseline", "other")
    losses, others = bce(X, Y), bce(B, Y)
    assert found.mean == pytest.approx(losses.mean(), rel=1e-14)
    assert [each.mean for each in found.classes] == pytest.approx(losses.mean(axis=0), rel=1e-14)
    assert found.groups.ids == ["fog", "rain", "sun"]
    for weather in ("fog", "rain", "sun"):
        assert found.groups[weather].mean == pytest.approx(losses[weather == WEATHER].mean(), rel=1e-14)
        assert found.groups[weather].rows == np.count_nonzero(weather == WEATHER)
    order = np.argsort(-losses.sum(axis=1))
    assert [row.id for row in found.top_rows] == NAMES[order[:20]].tolist()
    assert [row.index for row in found.top_rows] == order[:20].tolist()
    assert found.paired.mean == pytest.approx((losses - others).mean(), rel=1e-12)
    assert found.paired.better == np.count_nonzero(losses < others)


def test_rows_are_numbered_on(base_url: str) -> None:
    losses = bce(X, Y).sum(axis=1)
    found = report(base_url, "shards", "--first-row", 1000, "--top", 3)
    expected = 1000 + np.argsort(-losses)[:3]
    assert [row.index for row in found.top_rows] == expected.tolist()


def test_exact_calibration_of_16_bits(client: LossClient) -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16):
        np.save("h.npy", X.astype(dtype))
        found = report(client.base_url, "h.npy", "y.npy", "--calibration-bins", "exact")
        whole = client.report("bce", X.astype(dtype), Y, calibration_bins="exact")
        assert sections(found) == sections(whole)


def test_sections_that_are_named(base_url: str) -> None:
    assert report(base_url, "x.npy", "y.npy", "--sections", "classes,top").sections == (
        "totals",
        "classes",
        "top",
    )
    error = refused(base_url, "x.npy", "y.npy", "--sections", "classes,tpo")
    assert "there is no 'tpo'; did you mean 'top'?" in error


def test_classes_along_the_rows_go_in_one_request(
    client: LossClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)
    options = ["--class-axis", 0, "--pos-weight", ",".join(map(str, range(N)))]
    found = report(client.base_url, "x.npy", "y.npy", *options)
    assert sections(found) == sections(client.report("bce", X, Y, class_axis=0, pos_weight=list(range(N))))
    assert "--by and --ids need rows" in refused(
        client.base_url, "x.npy", "y.npy", *options, "--by", "camera.npy"
    )


def test_everything_dropped_is_a_report(base_url: str) -> None:
    np.save("m.npy", np.zeros((N, 3), dtype=np.bool_))
    found = report(base_url, "x.npy", "y.npy", "--mask", "m.npy")
    assert (found.rows, found.rows_dropped, found.count) == (N, N, 0)
    assert np.isnan(found.mean)


@pytest.mark.usefixtures("in_blocks")
def test_every_file_is_named_by_its_digest(base_url: str) -> None:
    names = ["x.npy", "y.npy", "t.npz", "t.npz.gz", "t.csv", "t.csv.gz", "t.jsonl", "t.parquet", "t.arrow"]
    names += ["t.safetensors", "t.pt"]
    write_all()
    for name in names[2:]:
        [shard] = inputs(report(base_url, name, "--logits-column", "logits", "--targets-column", "targets"))
        assert (shard["path"], shard["rows"]) == (name, N)
        assert shard["sha256"] == digest(name)
        assert "targets" not in shard
    options = ["--baseline", "b.npy", "--by", "camera.npy", "--ids", "ids.npy"]
    np.save("ids.npy", np.arange(N))
    [shard] = inputs(report(base_url, "x.npy", "y.npy", *options))
    assert (shard["path"], shard["sha256"]) == ("x.npy", digest("x.npy"))
    others = {"targets": "y.npy", "baseline": "b.npy", "group.camera": "camera.npy", "ids": "ids.npy"}
    for key, name in others.items():
        assert shard[key] == {"path": name, "sha256": digest(name)}


def digest(name: str) -> str:
    return sha256(Path(name).read_bytes()).hexdigest()


def write_all() -> None:
    import torch
    from safetensors.numpy import save_file

    x, y = X[:, 0], Y[:, 0].astype(np.int64)
    np.savez("t.npz", logits=x, other=np.arange(5), targets=y)
    save_file({"logits": x, "targets": y, "unused": B}, "t.safetensors")
    torch.save({"logits": torch.from_numpy(x.copy()), "targets": torch.from_numpy(y)}, "t.pt")
    rows = [{"logits": float(a), "targets": int(b), "unused": "é"} for a, b in zip(x, y, strict=True)]
    Path("t.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    text = "\n".join(["logits,targets", *(f"{row['logits']},{row['targets']}" for row in rows)])
    Path("t.csv").write_text(text)
    made = pa.table({"logits": x, "unused": B[:, 0], "targets": y})
    parquet.write_table(made, "t.parquet", row_group_size=7)
    with pa.OSFile("t.arrow", "wb") as file, pa.ipc.new_stream(file, made.schema) as writer:
        writer.write_table(made)
    for name in ("t.csv", "t.npz"):
        Path(f"{name}.gz").write_bytes(gzip.compress(Path(name).read_bytes()))


def test_standard_input_is_named_so(base_url: str) -> None:
    np.savez("t.npz", logits=X, targets=Y)
    data = Path("t.npz").read_bytes()
    [shard] = inputs(report(base_url, "-", given=data))
    assert (shard["path"], shard["sha256"]) == ("-", sha256(data).hexdigest())


@pytest.mark.usefixtures("in_blocks")
def test_a_shard_that_is_there_twice_is_refused(base_url: str) -> None:
    for name in ("part-3", "part-2"):
        data = Path(f"shards/{name}.parquet").read_bytes()
        Path(f"shards/part-9{name[-1]}.parquet").write_bytes(data)
    error = refused(base_url, "shards")
    assert "shards/part-93.parquet holds the same as shards/part-3.parquet" in error
    Path("shards/part-93.parquet").unlink()
    assert report(base_url, "shards").rows == N  # one without rows counts nothing twice


def test_pairs_are_the_same_only_if_both_files_are(base_url: str) -> None:
    for name in ("x", "y"):
        Path(f"{name}-7.npy").write_bytes(Path(f"{name}-3.npy").read_bytes())
    pairs = ["x-*.npy", "--targets", "y-*.npy"]
    assert "x-7.npy with y-7.npy holds the same as x-3.npy with y-3.npy" in refused(base_url, *pairs)
    np.save("y-7.npy", ~Y[CUTS[3] : CUTS[4]])
    assert report(base_url, *pairs).rows == N + ROWS[3]


@pytest.mark.usefixtures("in_blocks")
def test_errors_name_the_row_of_the_file(base_url: str) -> None:
    y = Y[CUTS[3] : CUTS[4]].astype(np.float32)
    y[33, 1] = 7
    np.save("y-3.npy", y)
    error = message(run(base_url, "x-*.npy", "--targets", "y-*.npy"), 1)
    assert "row 33 of y-3.npy" in error


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ([1, 2, None], "--by site, row 2: there is no value"),
        (["a", "b", None], "--by site, row 2: there is no value"),
        ([1, 2, 2.5], "row 2: 2.5 is neither a whole number nor text"),
        ([1, 2, "c"], "row 2: 'c' is text, and the values before are whole numbers"),
        (["a", "b", 3], "row 2: 3 is a whole number, and the values before are text"),
    ],
)
def test_groups_are_all_whole_numbers_or_all_text(base_url: str, by: list[Any], said: str) -> None:
    rows = [{"logits": 0.5, "targets": 1, "site": value} for value in by]
    Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert said in refused(base_url, "t.jsonl", "--by", "site")
    assert said.replace("--by", "--ids") in refused(base_url, "t.jsonl", "--ids", "site")


def test_kinds_of_groups(base_url: str) -> None:
    rows = [
        {"logits": 0.5, "targets": 1, "a": 2.0, "b": True, "c": "x", "d": 2**60, "e": "é"},
        {"logits": 0.5, "targets": 1, "a": 10.0, "b": False, "c": "w", "d": -5, "e": "z"},
    ]
    Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    by = [part for name in "abcde" for part in ("--by", name)]
    section = report(base_url, "t.jsonl", *by).to_dict()["groups"]
    assert section["names"] == list("abcde")
    assert section["kinds"] == ["integer", "string", "string", "integer", "string"]
    assert section["ids"] == [[2, 10], ["true", "false"], ["x", "w"], [str(2**60), -5], ["é", "z"]]


def test_folders_and_text_tables_have_groups_of_text(base_url: str) -> None:
    for camera in (3, 11):
        Path(f"run/camera={camera}").mkdir(parents=True)
        lines = ["logits,targets,day", f"0.5,{camera % 2},01", f"{camera},1,2"]
        Path(f"run/camera={camera}/t.csv").write_text("\n".join(lines))
    found = report(base_url, "run", "--by", "camera", "--by", "day")
    assert found.groups.ids == [("11", "01"), ("11", "2"), ("3", "01"), ("3", "2")]


def test_joined_rows_are_named_by_what_joins_them(base_url: str) -> None:
    order = random.permutation(N)
    for name, values, rows in (("x", X[:, 0], range(N)), ("y", Y[:, 0].astype(int), order)):
        column = {"x": "logits", "y": "targets"}[name]
        lines = [f"image_id,{column}", *(f"{NAMES[row]},{values[row]}" for row in rows)]
        Path(f"{name}.csv").write_text("\n".join(lines))
    done = run(base_url, "x.csv", "y.csv", "--ids", "image_id", "--json")
    assert "joined to the rows by image_id" in done.stderr
    found = Report(json.loads(done.stdout))
    losses = bce(X[:, 0], Y[:, 0])
    assert [row.id for row in found.top_rows][:5] == NAMES[np.argsort(-losses)[:5]].tolist()


def test_a_baseline_of_other_classes_is_refused(base_url: str) -> None:
    names = ["a_cat", "a_dog", "b_cat", "b_dog", "y_cat", "y_dog", "c_dog", "c_cat"]
    lines = [",".join(names), "1,2,3,4,0,1,5,6", "1,2,3,4,1,1,5,6"]
    Path("t.csv").write_text("\n".join(lines))
    wide = ["t.csv", "--logits-columns", "a_", "--targets-columns", "y_"]
    found = report(base_url, *wide, "--baseline", "b_cat,b_dog")
    one = report(base_url, *wide, "--baseline-columns", "b_cat,b_dog")
    assert sections(found) == sections(one)
    error = refused(base_url, *wide, "--baseline-columns", "c_")
    assert "and of the baseline c_dog" in error
    assert "--baseline-columns c_cat,c_dog" in error
    assert "there is no such file" in refused(base_url, *wide, "--baseline", "d_")


def test_a_baseline_beside_its_shards_must_have_their_rows(base_url: str) -> None:
    Path("p.csv").write_text("id,logits,targets\na,1,1\nb,2,0\n")
    Path("q.csv").write_text("id,logits\nb,2\na,1\n")
    assert "its id is not that of p.csv from row 0 on" in refused(base_url, "p.csv", "--baseline", "q.csv")
    Path("b-2.npy").unlink()
    error = refused(base_url, "x-*.npy", "--targets", "y-*.npy", "--baseline", "b-*.npy")
    assert "x-2.npy has no partner among the baseline" in error


def test_every_option_arrives(playback: Playback) -> None:
    options = {
        "--loss": "focal",
        "--gamma": "2",
        "--alpha": "none",
        "--top": "5",
        "--row": "mean",
        "--calibration-bins": "exact",
        "--sweep": "gamma:0,1.5",
        "--first-row": "7",
        "--sections": "top,sweep",
    }
    run(playback.url, "x.npy", "y.npy", *(part for option in options.items() for part in option))
    params = dict(playback.last.params)
    assert params.items() >= {
        ("gamma", "2.0"),
        ("alpha", "null"),
        ("top", "5"),
        ("row", "mean"),
        ("calibration_bins", "exact"),
        ("sweep", "gamma:0.0,1.5"),
        ("first_row", "7"),
        ("report", "top,sweep"),
        ("reduction", "sum"),
    }


def test_an_older_server_is_named(playback: Playback) -> None:
    error = message(run(playback.url, "x.npy", "y.npy"), 1)
    assert "the answer has no report" in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "r.txt"], "its name must end in .json or .json.gz"),
        (["--html", "r.json"], "its name must end in .html or .htm"),
        (["--sweep", "alpha:0,1"], "is not as gamma:0,1,2.5"),
        (["--sweep", "gamma"], "is not as gamma:0,1,2.5"),
        (["--calibration-bins", "many"], "neither a whole number nor exact"),
        (["--gamma", "2"], "goes with --loss focal"),
        (["--by", "x.npy", "--by", "x.npy"], "one is named twice"),
        (["--by", "camera.npy", "--by", "sub/camera.npy"], "two groups are called camera"),
        (["--out", "nowhere/r.json"], "cannot write nowhere/r.json"),
        (["--html", "nowhere/r.html"], "cannot write nowhere/r.html"),
        (["--baseline", "none.npy"], "--baseline none.npy: there is no such file"),
        (["--ids", "y.npy"], "has 2 dimensions there; ids have one"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_sent(
    playback: Playback, options: list[str], said: str
) -> None:
    Path("sub").mkdir()
    np.save("sub/camera.npy", CAMERA)
    before = sorted(Path().rglob("*"))
    assert said in refused(playback.url, "x.npy", "y.npy", *options)
    assert playback.arrivals == []
    assert sorted(Path().rglob("*")) == before


def test_an_input_is_never_overwritten(playback: Playback) -> None:
    Path("t.json").write_text('{"logits": 1, "targets": 1}\n')
    os.link("t.json", "t.jsonl")
    assert "which is read: name another file" in refused(playback.url, "t.jsonl", "--out", "t.json")
    assert playback.arrivals == []


def test_a_failure_leaves_no_file(playback: Playback) -> None:
    playback.answer = Answer.of_problem(422, "target_out_of_range")
    before = sorted(Path().iterdir())
    done = run(playback.url, "x.npy", "y.npy", "--out", "r.json", "--html", "r.html")
    assert done.exit_code == 1
    done = run("http://127.0.0.1:1", "x.npy", "y.npy", "--out", "r.json", "--html", "r.html")
    assert done.exit_code == 3
    assert sorted(Path().iterdir()) == before


def test_files_that_are_written(base_url: str) -> None:
    found = report(base_url, "x.npy", "y.npy")
    for name in ("r.json", "r.json.gz"):
        done = run(base_url, "x.npy", "y.npy", "--out", name, "--html", "r.html")
        assert (done.exit_code, done.stderr) == (0, "")
        assert f"{found.mean!r}" in done.stdout
        assert sections(Report.load(name)) == sections(found)
    assert Path("r.html").read_text().startswith("<!DOCTYPE html>")
    assert gzip.decompress(Path("r.json.gz").read_bytes()).endswith(b"}\n")


def test_a_pipe_is_written_to(base_url: str) -> None:
    os.mkfifo("pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_bytes()))
    reader.start()
    done = run(base_url, "x.npy", "y.npy", "--out", "pipe")
    reader.join(30)
    assert done.exit_code == 0
    assert json.loads(got[0])["totals"]["rows"] == N


def test_what_a_pipe_and_a_terminal_get(base_url: str) -> None:
    command = [sys.executable, "-m", "lossd", "report", "shards", "--by", "camera", "--url", base_url]
    piped = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert json.loads(piped.stdout)["totals"]["rows"] == N
    ours, its = pty.openpty()
    process = subprocess.Popen([*command, "--no-progress"], stdout=its, stderr=its, stdin=subprocess.DEVNULL)
    os.close(its)
    shown = read_all(ours)
    assert process.wait(60) == 0
    losses = bce(X, Y)
    for text in (
        f"{losses.mean():.12}"[:12],
        "95 % interval",
        "class 2",
        "camera",
        "AUROC",
        "worst rows",
        f"{losses.sum(axis=1).max():.6g}",
    ):
        assert text in shown


def read_all(terminal: int) -> str:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # the other end was closed
            part = b""
        if not part:
            os.close(terminal)
            return b"".join(parts).decode()
        parts.append(part)


def test_classes_have_the_names_of_a_file(base_url: str) -> None:
    Path("names.txt").write_text("cat\n dog \n<i>\n\n", encoding="utf-8-sig")
    found = report(base_url, "x.npy", "y.npy", "--class-names", "names.txt", "--html", "page.html")
    assert found.run["class_names"] == ["cat", "dog", "<i>"]
    assert found.class_names == ("cat", "dog", "<i>")
    assert sections(found) == sections(report(base_url, "x.npy", "y.npy"))
    page = Path("page.html").read_text()
    worst = ("cat", "dog", "&lt;i&gt;")[int(np.argmax(bce(X, Y).mean(axis=0)))]
    _, _, rows = page.partition("<caption>Classes</caption>")
    assert rows.partition("<tbody>")[2].startswith(f'<tr><th scope="row"><bdi>{worst}</bdi></th>')
    assert "<i>" not in page
    assert "class 0" not in page


@pytest.mark.parametrize("ids", [(), ("--ids", "ids.npy")])
def test_the_summary_names_the_classes_of_the_worst_elements(base_url: str, ids: tuple[str, ...]) -> None:
    Path("names.txt").write_text("cat\ndog\nbird\n")
    np.save("ids.npy", NAMES)
    done = run(base_url, "x.npy", "y.npy", *ids, "--class-names", "names.txt", "--out", "r.json")
    losses = bce(X, Y)
    row, place = divmod(int(losses.argmax()), 3)
    name = ("cat", "dog", "bird")[place]
    _, _, listed = done.stdout.partition("worst elements")
    first = listed.splitlines()[1].split()
    assert first[:3] == (["1", NAMES[row], name] if ids else ["1", f"{row},", name])
    assert f"{losses.max():.6g}" in first


def test_a_page_is_enough_and_the_document_is_printed_where_it_is_asked_for(base_url: str) -> None:
    done = run(base_url, "x.npy", "y.npy", "--html", "page.html")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("mean ")
    assert f"{bce(X, Y).mean():.12}"[:12] in done.stdout
    assert "schema" not in done.stdout
    assert report(base_url, "x.npy", "y.npy", "--html", "page.html").rows == N
    assert json.loads(run(base_url, "x.npy", "y.npy").stdout)["totals"]["rows"] == N


def test_of_one_row_nothing_is_said_that_needs_two(base_url: str) -> None:
    np.save("one.npy", X[:1])
    np.save("its.npy", Y[:1])
    done = run(base_url, "one.npy", "its.npy", "--html", "page.html")
    for text in (done.stdout, Path("page.html").read_text()):
        assert "NaN to NaN" not in text
        assert text.count("needs two rows") == 2


def test_names_of_other_classes_are_said_and_the_report_is_kept(base_url: str) -> None:
    Path("names.txt").write_text("cat\ndog\n")
    done = run(base_url, "x.npy", "y.npy", "--class-names", "names.txt", "--json")
    said = "note: --class-names names.txt: there are 2 names of classes, and 3 classes; the classes have"
    assert done.exit_code == 0
    assert done.stderr.startswith(said)
    assert "class_names" not in json.loads(done.stdout)["run"]


@pytest.mark.parametrize(
    ("data", "said"), [(None, "cannot be read"), (b"", "is empty"), (b"\xff\xfe", "is no text in UTF-8")]
)
def test_a_file_without_names_is_refused_before_anything_is_sent(data: bytes | None, said: str) -> None:
    if data is not None:
        Path("names.txt").write_bytes(data)
    done = run("http://127.0.0.1:9", "x.npy", "y.npy", "--class-names", "names.txt")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--class-names names.txt {said}" in " ".join(done.stderr.split())
