"""`lossd merge`: reports of files, merged, are the report of all files."""

from __future__ import annotations

import gzip
import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cli.reported import inputs, merge, message, report, run, sections
from lossd_client.report import Report
from report_reference import Request, true_document

random = np.random.default_rng(20)
X = random.normal(size=(12, 3)).astype(np.float32)
Y = (random.random((12, 3)) < 0.4).astype(np.float32)
CUTS = (0, 5, 6, 12)
DAMAGE: list[Any] = [{}, [], [[]], "a", -1.5]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with three reports of different rows."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write(f"{number}.json", number)
    Path("2.json.gz").write_bytes(gzip.compress(Path("2.json").read_bytes()))
    Path("2.json").unlink()


def document(start: int, end: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    given = {"inputs": X[start:end], "targets": Y[start:end], "first_row": start, **fields}
    return true_document(Request(**{"sections": ("classes", "top", "histogram", "calibration"), **given}))


def write(name: str, number: int, **fields: Any) -> None:  # noqa: ANN401
    start, end = CUTS[number], CUTS[number + 1]
    shard = {"path": f"{number}.npz", "sha256": f"{number}" * 64, "rows": end - start}
    times = {
        "started": f"2026-07-0{number + 1}T22:00:00.000Z",
        "ended": f"2026-07-0{number + 1}T22:00:09.125Z",
    }
    ids = {"request_id": f"of {name}", "request_ids": [f"of {name}"], "client_version": "1"}
    run_ = {"version": "1", "first_row": start, "inputs": [shard], **ids, **times}
    Path(name).write_text(json.dumps({**document(start, end, **fields), "run": run_}))


def test_any_order_gives_the_report_of_all_rows() -> None:
    whole = document(0, 12)
    for order in permutations(["0.json", "1.json", "2.json.gz"]):
        done = merge(*order, "--json", "--expect-rows", 12)
        assert (done.exit_code, done.stderr) == (0, "")
        found = json.loads(done.stdout)
        assert {name: found[name] for name in found if name != "run"} == whole
        assert sorted(shard["path"] for shard in found["run"]["inputs"]) == ["0.npz", "1.npz", "2.npz"]
        assert found["run"]["first_row"] == 0
        assert found["run"]["started"] == "2026-07-01T22:00:00.000Z"
        assert found["run"]["ended"] == "2026-07-03T22:00:09.125Z"
        assert sorted(found["run"]["request_ids"]) == ["of 0.json", "of 1.json", "of 2.json"]


def test_files_that_are_written() -> None:
    done = merge("*.json", "2.json.gz", "--out", "all.json.gz", "--html", "all.html")
    assert (done.exit_code, done.stderr) == (0, "")
    found = Report.load("all.json.gz")
    assert f"{found.mean!r}" in done.stdout
    assert sections(found) == document(0, 12)
    assert Path("all.html").read_text().startswith("<!DOCTYPE html>")


def test_another_number_of_rows_is_refused() -> None:
    done = merge("0.json", "1.json", "--expect-rows", 12, "--out", "all.json")
    assert "the reports have 6 rows, and --expect-rows says 12" in message(done, 1)
    assert not Path("all.json").exists()


def test_a_shard_that_is_there_twice_is_refused() -> None:
    write("again.json", 1, params={})
    error = message(merge("0.json", "1.json", "again.json", "--out", "all.json"))
    assert "1.npz of again.json is the same as 1.npz of 1.json" in error
    merge("0.json", "1.json", "--out", "some.json")
    assert "1.npz of 1.json is the same as 1.npz of some.json" in message(merge("some.json", "1.json"))
    assert not Path("all.json").exists()


def test_a_request_that_is_there_twice_is_refused() -> None:
    for name in ("0.json", "1.json"):  # of no files
        found = json.loads(Path(name).read_text())
        del found["run"]["inputs"]
        Path(name).write_text(json.dumps(found))
    Path("copy.json").write_bytes(Path("1.json").read_bytes())
    error = message(merge("0.json", "1.json", "copy.json", "--out", "all.json"))
    assert "copy.json is the same as 1.json, by its request id, of 1.json" in error
    assert merge("0.json", "1.json", "--out", "some.json").exit_code == 0
    error = message(merge("some.json", "1.json", "--out", "all.json"))
    assert "1.json and some.json both have the rows of request of 1.json, which would count twice" in error
    assert not Path("all.json").exists()


def test_a_report_that_is_given_twice_is_refused() -> None:
    Path("link.json").symlink_to("0.json")
    assert "link.json is given twice" in message(merge("0.json", "link.json"))
    assert "1.json is given twice" in message(merge("[01].json", "1.json"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"params": {"label_smoothing": 0.5}}, "label_smoothing"),
        ({"loss": "focal"}, "totals.loss"),
        ({"row": "mean"}, "row"),
        ({"top": 3}, "top.k"),
        ({"bins": 32}, "calibration"),
        ({"sections": ("classes",)}, "only one has top"),
        ({"weight": np.ones((1, 3))}, "weight"),
    ],
)
def test_unlike_reports_are_refused_by_name(fields: dict[str, Any], said: str) -> None:
    write("other.json", 1, **fields)
    error = message(merge("0.json", "other.json", "--out", "all.json"))
    assert error.startswith("error: other.json: ")
    assert said in error
    assert not Path("all.json").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b"\x1f\x8bnothing",
        b'{"schema": "lossd.report/2", "totals": {}}',
        b'{"schema": "lossd.report/1", "totals": {}}',
        b'{"schema": "lossd.report/1", "totals": {"params": {}, "rows": "a", "count": []}}',
    ],
)
def test_what_is_no_report_is_refused(data: bytes) -> None:
    Path("bad.json").write_bytes(data)
    for files in (["bad.json"], ["0.json", "bad.json"]):
        assert "bad.json" in message(merge(*files))


@pytest.mark.parametrize("section", ["totals", "classes", "top", "histogram", "calibration", "run"])
def test_a_damaged_report_gives_a_message(section: str) -> None:
    whole = json.loads(Path("0.json").read_text())
    for name in whole[section]:
        for value in DAMAGE:
            damaged = {**whole, section: {**whole[section], name: value}}
            Path("bad.json").write_text(json.dumps(damaged))
            for files in (["bad.json"], ["bad.json", "1.json"], ["1.json", "bad.json"]):
                done = merge(*files, "--html", "all.html", "--out", "all.json")
                assert done.exit_code in (0, 2)
                assert done.exception is None or isinstance(done.exception, SystemExit)


def test_what_cannot_be_merged_or_written() -> None:
    assert "there is no file none.json" in message(merge("none.json"))
    assert "none-*.json stands for no file" in message(merge("none-*.json"))
    assert "--out 0.json is one of the reports" in message(merge("0.json", "1.json", "--out", "0.json"))
    assert "cannot write nowhere/all.json" in message(merge("0.json", "--out", "nowhere/all.json"))
    assert "must end in .json or .json.gz" in message(merge("0.json", "--out", "all.csv"))


def test_rows_that_cannot_be_told_apart_are_noted() -> None:
    write("again.json", 1, first_row=0)
    for name in ("0.json", "again.json"):
        found = json.loads(Path(name).read_text())
        found["run"] = {"first_row": 0}
        Path(name).write_text(json.dumps(found))
    done = merge("0.json", "again.json", "--json")
    assert done.exit_code == 0
    assert "0.json and again.json both number their rows from 0" in done.stderr
    assert "0.json and 1 more: without digests of inputs" in done.stderr


def test_reports_of_files_merge_to_the_report_of_all_files(base_url: str) -> None:
    for number in range(3):
        part = slice(CUTS[number], CUTS[number + 1])
        np.savez(f"{number}.npz", logits=X[part], targets=Y[part], camera=np.arange(12)[part] % 2)
        options = ["--by", "camera", "--first-row", CUTS[number], "--out", f"r{number}.json"]
        assert run(base_url, f"{number}.npz", *options).exit_code == 0
    done = merge("r2.json", "r0.json", "r1.json", "--json", "--expect-rows", 12)
    assert (done.exit_code, done.stderr) == (0, "")
    whole = report(base_url, "0.npz", "1.npz", "2.npz", "--by", "camera")
    merged = Report(json.loads(done.stdout))
    assert sections(merged) == sections(whole)
    assert {shard["sha256"] for shard in inputs(merged)} == {shard["sha256"] for shard in inputs(whole)}


def test_names_of_classes_are_kept_if_all_agree() -> None:
    for name in ("0.json", "1.json"):
        named = Report.load(name).with_class_names(["a", "b", "c"])
        named.save(name)
    assert Report(json.loads(merge("0.json", "1.json", "--json").stdout)).class_names == ("a", "b", "c")
    Report.load("1.json").with_class_names(["a", "b", "d"]).save("1.json")
    found = Report(json.loads(merge("0.json", "1.json", "--json").stdout))
    assert (found.class_names, found.run["class_names"]) == ((), None)
    with pytest.raises(ValueError, match="there are 2 names of classes, and 3 classes"):
        found.with_class_names(["a", "b"])
