"""`lossd score` and `lossd report` of every loss against a real server: files, tables, and wrong usage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from client.cli import reported
from client.cli.compared import compared
from client.cli.compared import refused as not_compared
from client.cli.scored import answer, refused, run
from client.losses import PARAMS, ROWS, tensors_of
from client.playback import Playback
from command import app
from lossd_client import LossClient
from lossd_client._calls.parameters import LOSSES
from lossd_client._calls.shape_notes import BY_COUNT
from lossd_client.cli.inputs import blocks as inputs


@pytest.fixture
def client(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _in_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Makes blocks so small that every input has many."""
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 500)
    monkeypatch.chdir(tmp_path)


def options_of(name: str) -> list[str]:
    """The options of a loss's parameters."""
    found = []
    for parameter, value in PARAMS[name].items():
        text = value if isinstance(value, str) else ",".join(map(repr, np.ravel(value).tolist()))
        found += [f"--{parameter.replace('_', '-')}", text]
    return found


def saved(name: str) -> dict[str, Any]:
    """Save the tensors of a loss, each in a file of its own."""
    tensors = tensors_of(name)
    for each, array in tensors.items():
        np.save(f"{each}.npy", array)
    return tensors


@pytest.mark.parametrize("name", LOSSES)
def test_files_of_each_loss(client: LossClient, base_url: str, name: str) -> None:
    tensors, files = saved(name), [f"{LOSSES[name].inputs[0]}.npy", "targets.npy"]
    beside = ["--loss", name, "--weight", "weight.npy", "--mask", "mask.npy", *options_of(name)]
    ask: Any = getattr(client, name)
    whole = ask(**tensors, **PARAMS[name])
    found = answer(base_url, *files, *beside)
    assert (found["loss"], found["sum"], found["count"]) == (whole.loss, whole.sum, whole.count)
    done = run(base_url, *files, *beside, "--reduction", "none", "--out", "losses.npy")
    assert done.exit_code == 0, done.stderr
    each = ask(**tensors, **PARAMS[name], reduction="none").loss
    np.testing.assert_array_equal(np.load("losses.npy"), each)


@pytest.mark.parametrize("name", LOSSES)
def test_tables_and_shards_of_each_loss(client: LossClient, base_url: str, name: str) -> None:
    tensors = tensors_of(name)
    del tensors["mask"]
    weight = tensors["weight"] = tensors["weight"].reshape(ROWS, -1)[:, 0]
    columns = {each: array.tolist() for each, array in tensors.items()}
    half = pa.table(columns).slice(0, 11)
    parquet.write_table(half, "part-0.parquet")
    parquet.write_table(pa.table(columns).slice(11), "part-1.parquet")
    whole_weight = weight if LOSSES[name].row else weight[:, None]
    ask: Any = getattr(client, name)
    whole = ask(**{**tensors, "weight": whole_weight}, **PARAMS[name], normalizer="weight")
    beside = ["--loss", name, "--weight-column", "weight", *options_of(name), "--normalizer", "weight"]
    found = answer(base_url, "part-0.parquet", "part-1.parquet", *beside)
    assert (found["loss"], found["count"]) == (whole.loss, whole.count)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "box"])
def test_rows_by_group(client: LossClient, base_url: str, name: str) -> None:
    tensors = saved(name)
    groups = np.arange(ROWS) % 3
    np.save("camera.npy", groups)
    files = [f"{LOSSES[name].inputs[0]}.npy", "targets.npy"]
    found = answer(base_url, *files, "--loss", name, "--by", "camera.npy")
    ask: Any = getattr(client, name)
    for group in found["groups"]:
        rows = groups == group["group"]
        assert group["loss"] == ask(tensors[LOSSES[name].inputs[0]][rows], tensors["targets"][rows]).loss


def test_classes_in_columns(client: LossClient, base_url: str) -> None:
    x, ids = np.random.default_rng(1).normal(size=(30, 3)), np.arange(30) % 3
    lines = [f"{','.join(map(repr, row))},{label}" for row, label in zip(x.tolist(), ids, strict=True)]
    Path("scores.csv").write_text("\n".join(["a,b,c,label", *lines]))
    table = ("scores.csv", "--logits-columns", "a,b,c", "--targets-column", "label")
    found = answer(base_url, *table, "--loss", "cross_entropy", "--label-smoothing", "0.1")
    assert found["loss"] == client.cross_entropy(x, ids, label_smoothing=0.1).loss
    np.savetxt("weights.csv", [1.0, 2.0, 4.0], header="weight", comments="")
    found = answer(base_url, *table, "--loss", "cross_entropy", "--class-weight", "weights.csv")
    assert found["loss"] == client.cross_entropy(x, ids, class_weight=[1, 2, 4]).loss


@pytest.mark.parametrize(
    ("loss", "name"), [("cross_entropy", "class_weight"), ("softmax_focal", "alpha"), ("focal", "alpha")]
)
def test_numbers_of_classes_in_a_file(client: LossClient, base_url: str, loss: str, name: str) -> None:
    x = np.linspace(-2, 2, 12).reshape(4, 3)
    ids = np.array([0, 2, 1, 0])
    np.save("x.npy", x)
    np.save("y.npy", ids)
    np.savez("w.npz", pos_weight=[5.0, 5, 5], **{name: [0.125, 0.5, 1]})  # type: ignore[arg-type] # of numpy 2
    option = f"--{name.replace('_', '-')}"
    options = ["--loss", loss, "--targets-format", "index", option, "w.npz"]
    found = answer(base_url, "x.npy", "y.npy", *options)
    ask: Any = getattr(client, loss)
    assert found["loss"] == ask(x, ids, targets_format="index", **{name: [0.125, 0.5, 1]}).loss
    assert found["inputs"][0][name] == "w.npz"
    np.save("w.npy", [0.125, 0.5, 1])
    error = refused(base_url, "x.npy", "y.npy", *options[:-1], "w.npy", "--out", "w.npy")
    assert "--out w.npy is w.npy, which is read" in error
    done = reported.report(base_url, "x.npy", "y.npy", *options[:-1], "w.npy")
    digest = sha256(Path("w.npy").read_bytes()).hexdigest()
    assert reported.inputs(done)[0][name] == {"path": "w.npy", "sha256": digest}
    np.savez("w.npz", pos_weight=[1.0, 2, 4])
    error = refused(base_url, "x.npy", "y.npy", *options)
    assert "w.npz has array pos_weight, which by its name is for --pos-weight, and not for" in error
    assert error.endswith(f"{option}: rename it {name} if that is what it holds")
    np.savez("w.npz", a=[1.0, 2, 4], b=[1.0, 2, 4])
    error = refused(base_url, "x.npy", "y.npy", *options)
    assert f"a file for {option} has one column, or one that is called {name}" in error


def test_boxes_in_columns(client: LossClient, base_url: str) -> None:
    Path("boxes.csv").write_text("x1,y1,x2,y2,tx1,ty1,tx2,ty2\n0,0,10,10,0,0,5,10\n2,2,4,6,2,2,4,6\n")
    columns = ("--logits-columns", "x1,y1,x2,y2", "--targets-columns", "tx1,ty1,tx2,ty2")
    assert answer(base_url, "boxes.csv", *columns, "--loss", "box")["loss"] == 0.25
    found = answer(base_url, "boxes.csv", *columns, "--loss", "box", "--format", "cxcywh")
    boxes = ([[0, 0, 10, 10], [2, 2, 4, 6]], [[0, 0, 5, 10], [2, 2, 4, 6]])
    assert found["loss"] == client.box(*boxes, format="cxcywh").loss


@pytest.mark.parametrize("per", ["class", "all"])
def test_losses_over_all_samples_go_in_one_request(client: LossClient, base_url: str, per: str) -> None:
    tensors = saved("dice")
    files = ("logits.npy", "targets.npy", "--loss", "dice", "--per", per)
    whole = client.dice(tensors["logits"], tensors["targets"], per="class" if per == "class" else "all")
    assert answer(base_url, *files)["loss"] == whole.loss
    assert "no --per class or all" in refused(base_url, *files, "--by", "weight.npy")
    said = reported.refused(base_url, *files)
    assert f"--per {per}: a loss over all samples has no rows to report on; --per sample" in said


def test_losses_of_classes_that_are_rows_do_not_go_on_from_shard_to_shard(base_url: str) -> None:
    for name in ("a", "b"):
        np.savez(f"{name}.npz", logits=np.zeros((3, 4)), targets=np.ones((3, 4)))
    said = refused(base_url, "a.npz", "b.npz", "--loss", "dice", "--per", "class", "--class-axis", "0")
    assert "rows are classes then, which cannot go on from shard to shard" in said


SQUARE = "l0,l1,l2,t0,t1,t2,w,keep\n1,-2,3,1,0,1,1,1\n-1,2,-3,0,1,0,2,1\n1,2,3,1,1,0,3,0\n"
OF_COLUMNS = ("--logits-columns", "l", "--targets-columns", "t")


@pytest.mark.parametrize("engine", [[], ["--engine", "local"]])
@pytest.mark.parametrize(
    ("per", "name", "remedy"),
    [
        ("class", "mask", "leave rows that shall not count out of the files, or save one value for each"),
        ("class", "weight", "none for a row: save one value for each class as .npy, and give it by --w"),
        ("all", "mask", "one loss, none for a row: leave rows that shall not count out of the files"),
        ("all", "weight", "none for a row: leave the weight out"),
    ],
)
@pytest.mark.parametrize("rows", [3, 4])
def test_values_of_rows_are_none_of_losses_over_all_samples(
    base_url: str, engine: list[str], per: str, name: str, remedy: str, rows: int
) -> None:
    Path("sq.csv").write_text(SQUARE + "1,2,3,1,1,0,3,0\n" * (rows - 3))
    column = {"mask": "keep", "weight": "w"}[name]
    Path("own.csv").write_text("\n".join(["own", *"1100"[:rows]]))
    asked = ["sq.csv", *OF_COLUMNS, "--loss", "dice", "--per", per, f"--{name}"]
    where = engine or ["--url", base_url]
    for options, file in (([f"{asked[-1]}-column", column], "sq.csv"), ([asked[-1], "own.csv"], "own.csv")):
        done = CliRunner().invoke(app, ["score", *asked[:-1], *options, *where])
        assert (done.exit_code, done.stdout) == (2, "")
        said = " ".join(done.stderr.split())
        assert f"{file}: the {name} has a value for each row, and --per {per} has" in said
        assert remedy in said


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("name", ["weight", "mask"])
def test_values_of_classes_are_of_losses_of_classes(
    client: LossClient, base_url: str, shards: int, name: str
) -> None:
    x, y = np.random.default_rng(1).normal(size=(8, 3)), np.arange(24).reshape(8, 3) % 2
    for place, rows in enumerate(np.split(np.arange(8), shards)):
        np.savez(f"part-{place}.npz", logits=x[rows], targets=y[rows], own=np.array([1, 0, 1]))
    np.save("own.npy", own := np.array([1, 0, 1]))
    asked = ["--loss", "dice", "--per", "class"]
    given: Any = {name: own.astype(bool) if name == "mask" else own}
    whole = client.dice(x, y, per="class", **given)
    assert answer(base_url, "part-*.npz", *asked, f"--{name}", "own.npy")["loss"] == whole.loss
    if shards == 1:
        assert answer(base_url, "part-*.npz", *asked, f"--{name}-column", "own")["loss"] == whole.loss
    else:  # which would be those of which shard's losses?
        said = refused(base_url, "part-*.npz", *asked, f"--{name}-column", "own")
        assert f"part-0.npz: the {name} has values for each of 2 shards, and --per class has" in said
    np.save("own.npy", np.ones(8, dtype=int))
    said = refused(base_url, "part-*.npz", *asked, f"--{name}", "own.npy")
    assert f"own.npy: a {name} of shape [8] does not broadcast to losses of shape [3]: --per class" in said
    assert "save one value for each class as .npy" in said


def test_rows_that_are_classes_have_losses_of_classes(client: LossClient, base_url: str) -> None:
    Path("sq.csv").write_text(SQUARE)
    table = np.loadtxt("sq.csv", delimiter=",", skiprows=1)
    options = ["--loss", "dice", "--per", "class", "--class-axis", "0", "--weight-column", "w"]
    whole = client.dice(table[:, :3], table[:, 3:6], weight=table[:, 6], per="class", class_axis=0)
    assert answer(base_url, "sq.csv", *OF_COLUMNS, *options)["loss"] == whole.loss


def test_reports_of_losses_over_all_samples_have_one_refusal(playback: Playback) -> None:
    Path("sq.csv").write_text(SQUARE)
    options = [*OF_COLUMNS, "--loss", "dice", "--per", "class", "--mask-column", "keep"]
    remedy = "a loss over all samples has no rows to report on; --per sample"
    assert remedy in reported.refused(playback.url, "sq.csv", *options)
    assert remedy in not_compared("sq.csv", "sq.csv", *options, url=playback.url)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("giou", "Is --loss box --variant giou meant?"),
        ("CE", "Is --loss cross_entropy meant?"),
        ("sum", "'box'."),
    ],
)
def test_another_word_for_a_loss(playback: Playback, word: str, meant: str) -> None:
    said = refused(playback.url, "x.npy", "--loss", word)
    assert f"Invalid value for '--loss': '{word}' is not one of 'bce'," in said
    assert meant in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss", "hinge", "--gamma", "2"], "--gamma goes with --loss focal, varifocal or softmax_focal"),
        (["--loss", "box", "--class-axis", "1"], "--class-axis: box has no such parameter"),
        (["--loss", "squared", "--pos-weight", "2"], "--pos-weight: squared has no such parameter"),
        (["--loss", "varifocal", "--label-smoothing", "0.1"], "--label-smoothing: varifocal has no such"),
        (["--loss", "hinge", "--probabilities"], "--probabilities: hinge takes logits alone"),
        (["--loss", "focal", "--variant", "giou"], "'giou' is not one of focal's: sigmoid, exp, quality"),
        (["--loss", "box", "--variant", "exp"], "'exp' is not one of box's: iou, giou, diou, ciou"),
        (["--loss", "dice", "--smooth", "1,2"], "--smooth: '1,2' is not a number"),
        (["--loss", "softmax_focal", "--alpha", "no.npy"], "neither numbers nor none, and no file"),
    ],
)
def test_wrong_usage(playback: Playback, options: list[str], message: str) -> None:
    np.save("x.npy", np.zeros((3, 4)))
    np.save("y.npy", np.zeros((3, 4)))
    assert message in refused(playback.url, "x.npy", "y.npy", *options)
    assert message in reported.refused(playback.url, "x.npy", "y.npy", *options)
    assert playback.arrivals == []


def test_a_report_of_boxes(client: LossClient, base_url: str) -> None:
    tensors = saved("box")
    done = reported.run(base_url, "boxes.npy", "targets.npy", "--loss", "box", "--variant", "giou", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["totals"]["loss"] == "box"
    whole = client.report("box", tensors["boxes"], tensors["targets"], variant="giou").to_dict()
    assert found["totals"] == whole["totals"]


def test_one_number_a_row_is_no_row_of_classes(base_url: str) -> None:
    Path("one.csv").write_text("l_a,l_b,label\n0.5,1,0\n-1,2,1\n")
    table = ("one.csv", "--loss", "cross_entropy", "--targets-column", "label")
    said = refused(base_url, *table, "--logits-column", "l_a")
    assert "one.csv: l_a has one number a row, and cross_entropy takes one for each class" in said
    assert answer(base_url, *table, "--logits-columns", "l_a,l_b")["count"] == 2


def test_one_box_has_a_row(base_url: str) -> None:
    np.save("box.npy", box := np.array([0.0, 0.0, 10.0, 10.0]))
    np.save("target.npy", target := np.array([0.0, 0.0, 5.0, 10.0]))
    said = refused(base_url, "box.npy", "target.npy", "--loss", "box")
    assert said.endswith("box.npy has one dimension: boxes are [N, 4], also a single one")
    np.save("box.npy", box[None])
    np.save("target.npy", target[None])
    assert answer(base_url, "box.npy", "target.npy", "--loss", "box")["loss"] == 0.5


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_focal"])
def test_probabilities_are_no_logits_of_softmax(client: LossClient, base_url: str, loss: str) -> None:
    p, ids = np.random.default_rng(1).dirichlet([1, 1, 1], 30), np.arange(30) % 3
    np.save("p.npy", p)
    np.save("log-p.npy", np.log(p))
    np.save("ids.npy", ids)
    remedy = "give their logarithms, of which the softmax is these probabilities again"
    [note] = answer(base_url, "p.npy", "ids.npy", "--loss", loss)["notes"]
    assert note == f"all logits lie in [0, 1]: if they are probabilities, {remedy}"
    found = answer(base_url, "log-p.npy", "ids.npy", "--loss", loss)
    assert found["notes"] == []
    truth = -np.log(p[np.arange(30), ids])
    if loss == "cross_entropy":
        assert found["loss"] == pytest.approx(truth.mean(), rel=1e-14)
    rows = [[*row, label] for row, label in zip(p.tolist(), ids.tolist(), strict=True)]
    lines = [",".join(map(repr, row)) for row in rows]
    Path("p.csv").write_text("\n".join(["prob_a,prob_b,prob_c,label", *lines]))
    table = ("p.csv", "--loss", loss, "--logits-columns", "prob_", "--targets-column", "label")
    assert f"says that it holds probabilities: {remedy}, or rename" in refused(base_url, *table)


def test_squares_are_of_any_numbers(base_url: str) -> None:
    Path("p.csv").write_text("prob,target\n0.25,1\n0.5,0\n")
    table = ("p.csv", "--logits-column", "prob", "--targets-column", "target")
    found = answer(base_url, *table, "--loss", "squared")
    assert (found["loss"], found["notes"]) == ((0.75**2 + 0.5**2) / 2, [])
    assert "hinge is of logits alone: give those" in refused(base_url, *table, "--loss", "hinge")


def test_a_weight_of_losses_that_does_not_broadcast(base_url: str) -> None:
    x = np.random.default_rng(1).normal(size=(9, 4, 5, 6))
    np.save("x.npy", x)
    np.save("ids.npy", np.zeros((9, 5, 6), dtype=int))
    np.save("weight.npy", np.ones(4))
    files = ("x.npy", "ids.npy", "--loss", "cross_entropy", "--class-axis", "1", "--weight", "weight.npy")
    said = refused(base_url, *files)
    assert "does not broadcast to these: losses have [5, 6] a row" in said
    assert said.endswith("if it is one a row; --class-weight weighs classes")


def test_the_mean_of_losses_is_of_those_that_count(client: LossClient, base_url: str) -> None:
    x, ids = np.random.default_rng(1).normal(size=(30, 3)), np.arange(30) % 3
    ids[::2] = 255
    np.save("x.npy", x)
    np.save("ids.npy", ids)
    files = ("x.npy", "ids.npy", "--loss", "cross_entropy", "--ignore-index", "255")
    done = run(base_url, *files, "--reduction", "none")
    [mean] = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("loss mean")]
    assert float(mean) == client.cross_entropy(x, ids, ignore_index=255).loss


def test_columns_with_a_prefix_are_called_what_they_are(base_url: str) -> None:
    Path("boxes.csv").write_text("p_x1,p_y1,p_x2,p_y2,t_x1,t_y1,t_x2,t_y2\n0,0,10,10,0,0,5,10\n")
    columns = ("--logits-columns", "p_", "--targets-columns", "t_")
    notes = answer(base_url, "boxes.csv", *columns, "--loss", "box")["notes"]
    assert "the columns that begin with p_ are the boxes' four numbers: p_x1, p_y1, p_x2, p_y2" in notes


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["x", "t"], "boxes.csv: --logits-columns x finds x1, x2; a box is four numbers: list their columns"),
        (["x1,y1,x2,y2", "tx"], "boxes.csv: --targets-columns tx finds tx1, tx2; a box is four numbers"),
        (["x1,y1", "t"], "boxes.csv: --logits-columns x1,y1 names x1, y1; a box is four numbers"),
        (["x1,y1,x2,y2", "ty1,tx1,ty2,tx2"], "column 1 of the boxes is x1, and of the targets ty1; boxes"),
    ],
)
def test_a_box_has_four_columns(base_url: str, columns: list[str], message: str) -> None:
    Path("boxes.csv").write_text("x1,y1,x2,y2,tx1,ty1,tx2,ty2\n0,0,10,10,0,0,5,10\n")
    asked = ["boxes.csv", "--logits-columns", columns[0], "--targets-columns", columns[1], "--loss", "box"]
    assert message in refused(base_url, *asked)


def test_the_numbers_of_boxes_may_have_any_names(base_url: str) -> None:
    Path("boxes.csv").write_text("p_x1,p_y1,p_x2,p_y2,t_a,t_b,t_c,t_d\n0,0,10,10,0,0,5,10\n")
    columns = ("--logits-columns", "p_", "--targets-columns", "t_")
    assert answer(base_url, "boxes.csv", *columns, "--loss", "box")["loss"] == 0.5


def save_ids() -> None:
    """Save logits of two models, class ids, and these as shares."""
    logits = np.random.default_rng(3).normal(size=(60, 4))
    np.save("x.npy", logits)
    np.save("other.npy", logits * 2)
    np.save("ids.npy", np.arange(60) % 4)
    np.save("dense.npy", np.eye(4)[np.arange(60) % 4])


@pytest.mark.parametrize(
    ("options", "is_noted"),
    [
        (["--class-weight", "1,2,3,4"], True),
        (["--class-weight", "1,2,3,4", "--normalizer", "weight"], False),
        (["--class-weight", "none"], False),
    ],
)
def test_a_mean_that_weights_of_classes_do_not_divide_is_noted(
    base_url: str, options: list[str], is_noted: bool
) -> None:
    save_ids()
    beside = ["--loss", "cross_entropy", *options]
    notes = [BY_COUNT] if is_noted else []
    assert answer(base_url, "x.npy", "ids.npy", *beside)["notes"] == notes
    done = reported.run(base_url, "x.npy", "ids.npy", *beside, "--json")
    assert [line.removeprefix("note: ") for line in done.stderr.splitlines()] == notes
    found = compared("x.npy", "other.npy", "ids.npy", *beside, "--max-regression", 9, url=base_url)
    assert found["notes"].count(BY_COUNT) == len(notes)


@pytest.mark.parametrize("args", [["ids.npy", "--reduction", "sum"], ["dense.npy"]])
def test_sums_and_shares_of_classes_have_no_such_note(base_url: str, args: list[str]) -> None:
    save_ids()
    beside = ["--loss", "cross_entropy", "--class-weight", "1,2,3,4"]
    assert answer(base_url, "x.npy", *args, *beside)["notes"] == []
