"""`lossd compare`: its figures are numpy's, whatever the form of the files, and no mistake goes unsaid."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema_rs
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from client.cli.compared import Figures, by_cluster, by_row, compared, refused, run
from client.cli.reported import merge
from client.cli.reported import run as run_report
from client.cli.scored import bce
from client.playback import Playback
from lossd.wire.report import report_schema
from lossd_client.cli.inputs import blocks
from lossd_client.report import Report

N, C = 60, 3
random = np.random.default_rng(21)
Y = random.random((N, C)) < 0.3
OLD = (random.normal(size=(N, C)) + 3 * Y - 1.5).astype(np.float32)
NEW = (OLD + 0.2 * random.normal(size=(N, C)) - 0.3 * Y).astype(np.float32)
CAMERA = np.array(["front", "rear"])[random.integers(2, size=N)]
SCENE = random.integers(12, size=N)
IDS = np.array([f"image-{row:02}" for row in random.permutation(N)])
LOSSES, OTHERS = bce(NEW, Y).sum(axis=1), bce(OLD, Y).sum(axis=1)
SHUFFLED = random.permutation(N)
SHARDS = {0: slice(0, 25), 1: slice(25, 26), 2: slice(26, N)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of their own, with all rows as arrays."""
    monkeypatch.chdir(tmp_path)
    arrays = {"new": NEW, "old": OLD, "y": Y, "camera": CAMERA, "scene": SCENE}
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)


def lists(array: np.ndarray[Any, Any]) -> pa.Array[Any]:
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(array).reshape(-1)), array.shape[1]
    )


def table(name: str, scores: np.ndarray[Any, Any], rows: Any, **changed: Any) -> None:  # noqa: ANN401
    """Write rows as a table, perhaps with other columns; None leaves one out."""
    columns = {
        "image_id": IDS[rows],
        "logits": lists(scores[rows]),
        "targets": lists(Y[rows]),
        "camera": CAMERA[rows],
        "scene": SCENE[rows],
        **changed,
    }
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(
        pa.table({key: column for key, column in columns.items() if column is not None}), name
    )


def assert_is(found: dict[str, Any], expected: Figures) -> None:
    assert found["new"] == pytest.approx(expected.new, rel=1e-13)
    assert found["baseline"] == pytest.approx(expected.baseline, rel=1e-13)
    assert found["difference"] == pytest.approx(expected.new - expected.baseline, rel=1e-12)
    assert found["interval"] == pytest.approx(expected.interval, rel=1e-9)
    assert found["relative_interval"] == pytest.approx(expected.relative_interval, rel=1e-9)


def test_the_figures_by_row_are_numpys(base_url: str) -> None:
    found = compared("new.npy", "old.npy", "y.npy", "--max-regression", "50%", url=base_url)
    assert_is(found["whole"], by_row(LOSSES, OTHERS, C))
    whole = found["whole"]
    assert (whole["rows"], whole["clusters"], whole["equal"]) == (N, None, 0)
    assert (whole["better"], whole["worse"]) == (int((LOSSES < OTHERS).sum()), int((LOSSES > OTHERS).sum()))
    assert (found["verdict"], found["pairing"], found["notes"]) == ("passed", "rows", [])
    exact = [sum(map(Fraction, bce(each, Y).ravel().tolist())) / (N * C) for each in (NEW, OLD)]
    assert whole["difference"] == pytest.approx(float(exact[0] - exact[1]), rel=1e-12)


def test_the_figures_by_group_and_cluster_are_numpys(base_url: str) -> None:
    options = ["--by", "camera.npy", "--cluster", "scene.npy", "--confidence", 0.9]
    found = compared("new.npy", "old.npy", "y.npy", *options, "--max-regression", 1, url=base_url)
    assert (found["by"], found["clusters"]) == (["camera"], ["scene"])
    assert_is(found["whole"], by_cluster(LOSSES, OTHERS, SCENE, C, 0.9))
    assert [group["id"] for group in found["groups"]] == [["front"], ["rear"]]
    for group in found["groups"]:
        rows = group["id"][0] == CAMERA
        assert_is(group, by_cluster(LOSSES[rows], OTHERS[rows], SCENE[rows], C, 0.95))  # 1 - 0.1 / 2
        assert (group["rows"], group["confidence"]) == (rows.sum(), pytest.approx(0.95))


def test_the_verdicts_and_exit_codes(base_url: str) -> None:
    low, high = by_row(LOSSES, OTHERS, C).relative_interval
    assert low > 0
    files = ["new.npy", "old.npy", "y.npy"]
    cases = [
        (f"{100 * low - 0.01}%", "regressed", 4, 4),
        (f"{50 * (low + high)}%", "undecided", 0, 4),
        (f"{100 * high + 0.01}%", "passed", 0, 0),
    ]
    for bound, verdict, code, strict in cases:
        found = compared(*files, "--max-regression", bound, url=base_url, code=code)
        assert (found["verdict"], found["max_regression"]) == (verdict, bound)
        done = run(*files, "--max-regression", bound, "--strict", url=base_url)
        assert done.exit_code == strict
        assert done.stdout.startswith(f"verdict        {verdict}: ")
    assert compared(*files, url=base_url, code=4)["max_regression"] == "0"


def write_tables() -> None:
    """Write both models' tables, the baseline's in another order."""
    table("new.parquet", NEW, slice(None))
    table("old.parquet", OLD, SHUFFLED)


def write_shards(order: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> None:
    for number, rows in SHARDS.items():
        places = np.arange(N)[rows]
        table(f"new/part-{number}.parquet", NEW, places)
        table(f"old/part-{number}.parquet", OLD, order(places))
        for name, array in (("new", NEW), ("old", OLD), ("y", Y)):
            Path(f"{name}s").mkdir(exist_ok=True)
            np.save(f"{name}s/{number}.npy", array[places])
            np.save(f"{name}-{number}.npy", array[places])


FORMS: list[tuple[str, ...]] = [
    ("new.npy", "y.npy", "--baseline", "old.npy"),
    ("new.npy", "old.npy", "--targets", "y.npy"),
    ("new.npz", "old.npz"),
    ("new.npz", "old.npz", "y.npy"),
    ("new.parquet", "old.parquet"),
    ("new.parquet", "old.parquet", "y.npy"),
    ("new.parquet", "old.parquet", "old.parquet"),
    ("new.parquet", "old.parquet", "--id", "image_id"),
    ("both.parquet", "--baseline", "logits_old"),
    ("both.parquet", "--baseline-column", "logits_old"),
    ("new", "old"),
    ("new/", "old/"),
    ("new/*.parquet", "old/*.parquet"),
    ("new", "old/part-*.parquet"),
    ("news", "olds", "ys"),
    ("news", "old/", "ys", "--baseline-column", "logits"),
    ("new-?.npy", "old-*.npy", "y-*.npy"),
    ("new-?.npy", "olds", "y-*.npy"),
    ("new-?.npy", "old.npy", "y-*.npy"),
    ("new-?.npy", "old-*.npy", "--targets", "y-*.npy"),
]


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_every_form_gives_the_figures_of_arrays(
    base_url: str, form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 200)
    write_tables()
    write_shards(lambda rows: rows[::-1])
    if form[:2] == ("news", "old/"):  # names without suffixes go together, too
        for number, rows in SHARDS.items():  # the arrays have no ids
            Path(f"old/part-{number}.parquet").unlink()
            table(f"old/{number}.parquet", OLD, rows)
    np.savez("new.npz", logits=NEW, targets=Y)
    np.savez("old.npz", logits=OLD, targets=Y)
    table("both.parquet", NEW, slice(None), logits_old=lists(OLD))
    found = compared(*form, "--max-regression", "1%", url=base_url, code=4)
    whole = compared("new.npy", "old.npy", "y.npy", "--max-regression", "1%", url=base_url, code=4)
    assert {**found, "notes": []} == whole
    said = " ".join(found["notes"])
    has_ids = form[0] in ("new", "new/", "new/*.parquet") or form[:2] == ("new.parquet", "old.parquet")
    assert ("the baseline was joined to the rows by image_id" in said) == has_ids


def test_an_engine_gives_the_same(base_url: str) -> None:
    write_shards(lambda rows: rows[::-1])
    options = ["--by", "camera", "--cluster", "scene", "--max-regression", "1%"]
    served = compared("new", "old", *options, url=base_url, code=4)
    command = [sys.executable, "-m", "lossd", "compare", "new", "old", *options, "--engine", "local"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (4, "")
    assert json.loads(done.stdout) == served


def test_the_run_is_kept_and_compares_to_the_same(base_url: str) -> None:
    options = ["--by", "camera.npy", "--cluster", "scene.npy", "--max-regression", "1%"]
    first = compared("new.npy", "old.npy", "y.npy", *options, "--out", "run.json.gz", url=base_url, code=4)
    assert (
        compared("run.json.gz", "--by", "camera", "--cluster", "scene", "--max-regression", "1%", code=4)
        == first
    )
    kept = Report.load("run.json.gz")
    assert {"paired", "groups", "top", "calibration"} <= {*kept.sections}
    assert jsonschema_rs.is_valid(report_schema(), kept.to_dict())
    [shard] = kept.run["inputs"]
    assert [shard[name]["path"] for name in ("baseline", "targets")] == ["old.npy", "y.npy"]
    for number in SHARDS:
        write_shards(lambda rows: rows)
        files = [f"{name}-{number}.npy" for name in ("new", "old", "y")]
        start = SHARDS[number].start
        done = run(*files, "--out", f"r{number}.json", "--first-row", start, url=base_url)
        assert done.exit_code in (0, 4)
    assert merge("r2.json", "r0.json", "r1.json", "--out", "all.json", "--expect-rows", N).exit_code == 0
    plain = compared("new.npy", "old.npy", "y.npy", url=base_url, code=4)
    assert compared("all.json", code=4) == plain


def saved(base_url: str, name: str, *options: object) -> None:
    assert run_report(base_url, f"{name}.npy", "y.npy", *options, "--out", f"{name}.json").exit_code == 0


def test_two_reports(base_url: str) -> None:
    by = ["--by", "camera.npy", "--by", "scene.npy"]
    saved(base_url, "old", *by)
    saved(base_url, "new", *by)
    found = compared("new.json", "old.json", "--max-regression", "100%")
    assert (found["pairing"], found["whole"]["worse"]) == ("none", None)
    assert any(note.startswith("Not paired: ") for note in found["notes"])
    se = [each.std(ddof=1) / math.sqrt(N) / C for each in (LOSSES, OTHERS)]
    assert found["whole"]["stderr"] == pytest.approx(math.hypot(*se), rel=1e-12)
    found = compared(
        "new.json", "old.json", "--cluster", "scene", "--by", "camera", "--max-regression", "100%"
    )
    assert found["pairing"] == "clusters"
    assert_is(found["whole"], by_cluster(LOSSES, OTHERS, SCENE, C))


def test_a_report_of_both_and_that_of_the_baseline_pair_by_row(base_url: str) -> None:
    saved(base_url, "old")
    saved(base_url, "new", "--baseline", "old.npy")
    found = compared("new.json", "old.json", "--max-regression", 1)
    assert found["pairing"] == "rows"
    assert_is(found["whole"], by_row(LOSSES, OTHERS, C))


def test_two_reports_are_side_by_side_on_a_page(base_url: str) -> None:
    saved(base_url, "old")
    saved(base_url, "new", "--baseline", "old.npy")
    run("new.json", "old.json", "--html", "page.html")
    page = Path("page.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<h1>new.json against old.json</h1>" in page
    worse = int(((LOSSES - OTHERS) > 0).sum())
    assert f"rows: {N - worse} better, {worse} worse" in page
    for losses in (LOSSES, OTHERS):
        assert f">{losses.mean() / C:.6g}</td>" in page
    run("new.json", "--html", "page.html")
    assert "<h1>bce of logits</h1>" in Path("page.html").read_text()


@pytest.mark.parametrize("bound", ["0", "1%", "50%"])
def test_the_page_of_both_models_begins_with_the_verdict(base_url: str, bound: str) -> None:
    options = ["--by", "camera.npy", "--max-regression", bound, "--html", "page.html"]
    run("new.npy", "old.npy", "y.npy", *options, url=base_url)
    page = Path("page.html").read_text()
    figures = by_row(LOSSES, OTHERS, C)
    low, high = figures.relative_interval
    limit = float(bound.rstrip("%")) / (100 if "%" in bound else 1)
    verdict = "regressed" if low > limit else "passed" if high <= limit else "undecided"
    said = {"regressed": "is worse", "passed": "is not worse", "undecided": "is not surely worse"}[verdict]
    [first, *_] = re.findall(r"<section.*?</section>", page, re.DOTALL)
    lead = (
        f"<bdi>new.npy</bdi> <strong>{said}</strong> than <bdi>old.npy</bdi>, the baseline: the mean loss is "
    )
    assert "<h2>Verdict</h2>" in first
    assert f"{lead}{figures.new:.6g}, and the baseline&#x27;s {figures.baseline:.6g}" in first
    assert f"interval: {verdict}, as " in re.sub(r"interval [^:]*:", "interval:", first)
    assert f"{int((LOSSES < OTHERS).sum())} rows better" in first
    for camera in ("front", "rear"):
        rows = np.equal(camera, CAMERA)
        assert f"<bdi>camera {camera}</bdi>" in first
        assert f">{LOSSES[rows].sum() / rows.sum() / C:.6g}</td>" in first
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings[:2] == ["Verdict", "In short"]
    assert len(set(headings)) == len(headings)


def test_markdown_is_appended_and_junit_written(base_url: str) -> None:
    Path("summary.md").write_text("# Before")
    options = ["--markdown", "summary.md", "--junit", "junit.xml", "--by", "camera.npy"]
    for bound in ("1%", "50%"):
        run("new.npy", "old.npy", "y.npy", *options, "--max-regression", bound, url=base_url)
    text = Path("summary.md").read_text()
    assert text.startswith("# Before")
    assert "\n\n### bce: regressed\n" in text
    assert "\n\n### bce: passed\n" in text
    suite = ElementTree.parse("junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("3", "0")
    run("new.npy", "old.npy", "y.npy", *options, "--max-regression", "1%", url=base_url)
    root = ElementTree.parse("junit.xml").getroot()
    assert root.findall(".//testcase[@name='all rows']/failure")


def test_an_undecided_case_fails_junit_if_strict(base_url: str) -> None:
    low, high = by_row(LOSSES, OTHERS, C).interval
    options = ["--max-regression", (low + high) / 2, "--junit", "j.xml"]
    for strict, failures in (([], "0"), (["--strict"], "1")):
        run("new.npy", "old.npy", "y.npy", *options, *strict, url=base_url)
        suite = ElementTree.parse("j.xml").getroot().find("testsuite")
        assert suite is not None
        assert suite.get("failures") == failures


def test_the_summary_names_both_sides(base_url: str) -> None:
    done = run("new.npy", "old.npy", "y.npy", "--by", "camera.npy", "--max-regression", "1%", url=base_url)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0].startswith("verdict regressed: ")
    for line, losses, name in zip(lines[1:3], (LOSSES, OTHERS), ("new.npy", "old.npy"), strict=True):
        assert float(line.split()[1]) == pytest.approx(losses.sum() / (N * C), rel=1e-13)
        assert line.endswith(f" {name}")
    assert "bound +1 %" in lines
    assert any(line.startswith("camera rear ") for line in lines)


def test_a_group_alone_may_regress(base_url: str) -> None:
    worse = OLD.copy()
    worse[CAMERA == "rear"] -= (0.2 * Y)[CAMERA == "rear"]
    worse[CAMERA == "front"] += (0.2 * Y)[CAMERA == "front"]
    np.save("new.npy", worse.astype(np.float32))
    assert run("new.npy", "old.npy", "y.npy", url=base_url).exit_code == 0
    done = run("new.npy", "old.npy", "y.npy", "--by", "camera.npy", url=base_url)
    assert done.exit_code == 4
    assert "verdict regressed: 1 of 2 groups; all rows together" in " ".join(done.stdout.split())


# What is likely a mistake.


def notes(base_url: str, *args: object) -> str:
    done = run(*args, "--json", url=base_url)
    assert done.exit_code in (0, 4), done.output
    return "\n".join(json.loads(done.stdout)["notes"])


def test_a_model_compared_with_itself_is_said(base_url: str) -> None:
    Path("copy.npy").write_bytes(Path("new.npy").read_bytes())
    for other in ("new.npy", "copy.npy"):
        assert "Both models' files have the same content" in notes(base_url, "new.npy", other, "y.npy")
    np.save("double.npy", NEW.astype(np.float64))
    assert "Both models have the same loss in every row" in notes(base_url, "new.npy", "double.npy", "y.npy")
    np.savez("both.npz", logits=NEW, old=OLD, targets=Y)
    assert notes(base_url, "both.npz", "both.npz", "--baseline-column", "old") == ""
    saved(base_url, "new")
    assert "Both reports have the same figures" in notes(base_url, "new.json", "new.json")


def test_models_in_the_wrong_order_are_said(base_url: str) -> None:
    said = notes(base_url, "old.npy", "new.npy", "y.npy")
    assert "old.npy is taken as the new model, and new.npy as the baseline" in said
    saved(base_url, "old")
    saved(base_url, "new")
    os.rename("old.json", "a.json")  # noqa: PTH104 - whose names say nothing
    os.rename("new.json", "b.json")  # noqa: PTH104
    assert "The new report was made at" in notes(base_url, "a.json", "b.json")
    assert "The new report was made at" not in notes(base_url, "b.json", "a.json")


def test_probabilities_beside_logits_are_said(base_url: str) -> None:
    np.save("p.npy", 1 / (1 + np.exp(-OLD.astype(np.float64))))
    assert "all logits of the baseline lie in [0, 1]" in notes(base_url, "new.npy", "p.npy", "y.npy")
    table("p.parquet", OLD, slice(None), logits=None, probability=lists(OLD))
    write_tables()
    error = refused("new.parquet", "p.parquet", url=base_url)
    assert "give --probabilities" in error


def test_other_targets_are_refused(base_url: str) -> None:
    write_tables()
    changed = Y[SHUFFLED].copy()
    changed[7, 1] ^= True
    table("old.parquet", OLD, SHUFFLED, targets=lists(changed))
    error = refused("new.parquet", "old.parquet", url=base_url)
    assert f"both have targets, which is {changed[7, 1] ^ True} and {changed[7, 1]}" in error
    assert f"in row {SHUFFLED[7]} of the first" in error
    assert "both models must be scored on the same rows with the same targets" in error
    for dtype in (np.uint8, np.float64):  # equal numbers of another type are the same
        table("old.parquet", OLD, SHUFFLED, targets=lists(Y[SHUFFLED].astype(dtype)))
        compared("new.parquet", "old.parquet", "--max-regression", 1, url=base_url)
    table("old.parquet", OLD, SHUFFLED, targets=None)
    compared("new.parquet", "old.parquet", "--max-regression", 1, url=base_url)
    np.savez("new.npz", logits=NEW, targets=np.where(Y, np.nan, 0.0))
    np.savez("old.npz", logits=OLD, targets=np.where(Y, np.nan, 0.0))
    compared("new.npz", "old.npz", "--drop-unlabelled", "--max-regression", 1, url=base_url)


def test_rows_that_only_one_model_has_are_refused(base_url: str) -> None:
    write_tables()
    table("old.parquet", OLD, SHUFFLED[:-1])
    assert "is not in old.parquet" in refused("new.parquet", "old.parquet", url=base_url)
    np.save("old.npy", OLD[:-1])
    assert "old.npy has fewer rows than new.npy" in refused("new.npy", "old.npy", "y.npy", url=base_url)
    np.save("old.npy", np.vstack([OLD, OLD[:1]]))
    assert "new.npy has fewer rows than old.npy" in refused("new.npy", "old.npy", "y.npy", url=base_url)


def test_rows_taken_by_their_place_are_said(base_url: str) -> None:
    write_tables()
    said = notes(base_url, "new.parquet", "old.npy")
    assert "taken by their place: new.parquet has image_id, old.npy has no ids" in said
    table("old.parquet", OLD, slice(None), image_id=None, name_id=IDS)
    assert "rows were taken by their place" in notes(base_url, "new.parquet", "old.parquet")
    table("old.parquet", OLD, SHUFFLED, image_id=None)  # other columns show the order
    assert "with the same values in another order" in refused("new.parquet", "old.parquet", url=base_url)


def test_other_groups_in_the_baselines_file_are_refused(base_url: str) -> None:
    write_tables()
    table("old.parquet", OLD, SHUFFLED, camera=CAMERA)
    error = refused("new.parquet", "old.parquet", "--by", "camera", url=base_url)
    assert "new.parquet and old.parquet both have camera, which is" in error


def test_other_classes_are_refused(base_url: str) -> None:
    np.save("old.npy", OLD[:, :2])
    assert "baseline has shape [60, 2]" in refused("new.npy", "old.npy", "y.npy", url=base_url, code=1)
    for name, classes in (("new", "cat,dog"), ("old", "dog,cat")):
        head = ",".join(f"l_{each}" for each in classes.split(","))
        rows = [f"{a},{b},{int(c)},{int(d)}" for (a, b, _), (c, d, _) in zip(NEW, Y, strict=True)]
        Path(f"{name}.csv").write_text("\n".join([f"{head},y_cat,y_dog", *rows]))
    wide = ["--logits-columns", "l_", "--targets-columns", "y_"]
    error = refused("new.csv", "old.csv", *wide, url=base_url)
    assert "column 1 of the classes is l_cat, and of the baseline l_dog" in error


def test_a_shard_that_is_missing_is_named(base_url: str) -> None:
    write_shards(lambda rows: rows)
    for missing, form, said in (
        ("old/part-1.parquet", ("new", "old"), "new/part-1.parquet has no partner among the baseline"),
        ("new-1.npy", ("new-?.npy", "old-*.npy", "y-*.npy"), "y-1.npy has no partner among the logits"),
        ("ys/2.npy", ("news", "olds", "ys"), "news/2.npy has no partner among the targets"),
    ):
        data = Path(missing).read_bytes()
        Path(missing).unlink()
        assert said in refused(*form, url=base_url)
        Path(missing).write_bytes(data)


def test_one_file_beside_shards_may_have_no_targets_of_its_own(base_url: str) -> None:
    write_tables()
    write_shards(lambda rows: rows)
    assert "old.parquet has targets of its own" in refused("new", "old.parquet", url=base_url)
    table("old.parquet", OLD, SHUFFLED, targets=None)
    assert "takes rows by their place" in refused("new", "old.parquet", url=base_url)
    table("old.parquet", OLD, slice(None), targets=None)
    compared("new", "old.parquet", "--max-regression", 1, url=base_url)


def test_unlike_reports_are_refused(base_url: str) -> None:
    saved(base_url, "new")
    saved(base_url, "old", "--label-smoothing", 0.1)
    assert "the parameter label_smoothing is 0.0 in the new report" in refused("new.json", "old.json")
    assert "new.json: the new report has no section paired" in refused("new.json")
    assert "no groups" in refused("new.json", "new.json", "--cluster", "scene")


def test_reports_of_other_data_are_said(base_url: str) -> None:
    saved(base_url, "new")
    np.save("y.npy", ~Y)
    saved(base_url, "old")
    said = notes(base_url, "new.json", "old.json")
    assert (
        f"The new report has {float(Y.sum())} positives, and that of the baseline {float((~Y).sum())}" in said
    )
    assert "the difference of the losses contains the difference of the data" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no report, or damaged"),
        ("[]", "it is no JSON object"),
        ('{"schema": "lossd.comparison/1"}', "its schema is 'lossd.comparison/1'"),
        ('{"loss": 0.5, "loss_name": "bce"}', "it is an answer of lossd score"),
        ('{"logits": 1.5, "targets": 1}\n{"logits": 2, "targets": 0}\n', "data of this form is named .jsonl"),
    ],
    ids=["empty", "list", "comparison", "score", "lines"],
)
def test_what_is_no_report_is_said_plainly(base_url: str, text: str, said: str) -> None:
    saved(base_url, "new")
    Path("other.json").write_text(text)
    for files in (("new.json", "other.json"), ("other.json", "new.json"), ("other.json",)):
        error = refused(*files)
        assert "other.json" in error
        assert said in error


WRONG: list[tuple[list[object], str]] = [
    (["new.npy", "old.npy", "y.npy", "camera.npy"], "Put patterns in quotes"),
    (["new.npy"], "name the baseline"),
    (["new.npy", "old.npy"], "new.npy holds one array: name a third file, with the targets"),
    (["new.npy", "old.npy", "y.npy", "--targets", "y.npy"], "the targets are given twice"),
    (["new.npy", "-", "y.npy"], "can be NEW alone"),
    (["new.npy", "none.npy", "y.npy"], "BASELINE none.npy: there is no such file"),
    (["none.npy", "old.npy", "y.npy"], "there is no file none.npy"),
    (["new.npy", "old.npy", "none.npy"], "there is no file none.npy"),
    (["new.npy", "none-*.npy", "y.npy"], "none-*.npy stands for no file"),
    (["none.json", "none.json"], "there is no file none.json"),
    (["https://a.org/new.json"], "download it"),
    (["*.json"], "*.json stands for 0 reports"),
    (["new.npy", "old.json"], "old.json is a saved report by its name, and new.npy is none"),
    (["a.json", "--baseline", "old.npy"], "a.json is a saved report by its name, and old.npy is none"),
    (["a.json", "b.json", "c.json"], "3 reports are named"),
    (["a.json", "--gamma", "2", "--loss", "focal"], "--gamma is for files that are scored"),
    (["a.json", "--id", "x"], "--id is for files that are scored"),
    (["a.json", "--ids", "x"], "--ids is for files that are scored"),
    (["a.json", "--engine", "local"], "--engine is for files that are scored"),
    (["a.json", "--out", "b.json"], "--out is for files that are scored"),
    (["new.npy", "old.npy", "y.npy", "--max-regression", "much"], "--max-regression is 'much'"),
    (["new.npy", "old.npy", "y.npy", "--confidence", "95"], "--confidence 95 is not between 0 and 1"),
    (["new.npy", "old.npy", "y.npy", "--cluster", "a", "--cluster", "a"], "one is named twice"),
    (["new.npy", "old.npy", "y.npy", "--cluster", "y.npy"], "has 2 dimensions there; clusters have one"),
    (["new.npy", "old.npy", "y.npy", "--by", "none"], "--by none: there is no such file"),
    (["new.npy", "old.npy", "y.npy", "--out", "r.txt"], "must end in .json or .json.gz"),
    (["new.npy", "old.npy", "y.npy", "--markdown", "-"], "name a file"),
    (
        ["new.npy", "old.npy", "y.npy", "--markdown", "a", "--junit", "a"],
        "--markdown and --junit both name a",
    ),
    (["new.npy", "old.npy", "y.npy", "--markdown", "no/a.md"], "cannot write no/a.md"),
    (["new.npy", "old.npy", "y.npy", "--junit", "no/a.xml"], "cannot write no/a.xml"),
    (["new.npy", "old.npy", "y.npy", "--markdown", "y.npy"], "--markdown y.npy is y.npy, which is read"),
    (["new.npy", "old.npy", "y.npy", "--junit", "old.npy"], "--junit old.npy is old.npy, which is read"),
    (["new.npy", "old.npy", "y.npy", "--gamma", "2"], "--gamma goes with --loss focal, varifocal or"),
    (["new.npy", "y.npy", "--baseline", "logits"], "--baseline logits: there is no such file"),
    (["-", "old.npy", "--engine", "local"], "can be read by one"),
]


@pytest.mark.parametrize(("args", "said"), WRONG, ids=[" ".join(map(str, args)) for args, _ in WRONG])
def test_wrong_usage_is_refused_before_anything_is_sent(
    playback: Playback, args: list[object], said: str
) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    url = None if "--engine" in args else playback.url
    assert said in refused(*args, url=url)
    assert playback.arrivals == []
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_a_report_is_not_written_over(base_url: str) -> None:
    saved(base_url, "new", "--baseline", "old.npy")
    before = Path("new.json").read_bytes()
    for option in ("--markdown", "--junit"):
        assert "new.json is one of the reports" in refused("new.json", option, "new.json")
    assert Path("new.json").read_bytes() == before


def test_a_damaged_report_gives_a_message(base_url: str) -> None:
    saved(base_url, "new", "--baseline", "old.npy", "--by", "camera.npy")
    whole = json.loads(Path("new.json").read_text())
    for section in ("totals", "paired", "groups", "run"):
        for name in whole[section]:
            values: list[Any] = [[], "a"]
            for value in values:
                Path("bad.json").write_text(json.dumps({**whole, section: {**whole[section], name: value}}))
                for files in (["bad.json"], ["new.json", "bad.json"]):
                    done = run(*files, "--by", "camera")
                    assert done.exit_code in (0, 2, 4)
                    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_standard_input_is_named_so(base_url: str) -> None:
    write_tables()
    done = run("-", "old.parquet", url=base_url, given=Path("new.parquet").read_bytes())
    assert done.exit_code == 4
    assert "standard input" in done.stdout.splitlines()[1]


def test_the_sections_that_are_asked_for(playback: Playback) -> None:
    for options, asked in (
        ([], "paired"),
        (["--by", "camera.npy"], "paired,groups"),
        (["--sections", "top,paired"], "top,paired"),
        (["--out", "r.json"], "all"),
    ):
        run("new.npy", "old.npy", "y.npy", *options, url=playback.url)
        assert dict(playback.last.params)["report"] == asked


def test_a_server_that_is_away(base_url: str) -> None:
    del base_url
    done = run(
        "new.npy", "old.npy", "y.npy", "--markdown", "s.md", "--junit", "j.xml", url="http://127.0.0.1:9"
    )
    assert (done.exit_code, done.stdout) == (3, "")
    assert not Path("s.md").exists()
    assert not Path("j.xml").exists()
