"""What `lossd compare` refuses or says where files are mixed up, and that a log of it can be read."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cli.compared import compared, refused, run
from client.cli.reported import run as run_report
from lossd_client import Report, compare
from lossd_client.cli.comparing.summary import print_summary
from lossd_client.cli.inputs import blocks
from lossd_client.comparison import Change
from lossd_client.report._figures.groups import GroupId

N, C = 40, 3
random = np.random.default_rng(5)
Y = random.random((N, C)) < 0.3
OLD = random.normal(size=(N, C)).astype(np.float32)
NEW = (OLD + 0.2 * random.normal(size=(N, C))).astype(np.float32)
MASK = np.arange(N * C).reshape(N, C) % 5 > 0


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of their own, with all rows as arrays."""
    monkeypatch.chdir(tmp_path)
    targets = {"y": Y, "float_y": Y.astype(np.float32), "unknown_y": np.where(MASK, Y, np.nan)}
    chances = {f"p_{name}": 1 / (1 + np.exp(-each)) for name, each in (("new", NEW), ("old", OLD))}
    for name, array in {"new": NEW, "old": OLD, **targets, **chances}.items():
        np.save(f"{name}.npy", array)


def named(name: str, **arrays: Any) -> str:  # noqa: ANN401 - arrays
    np.savez(name, **arrays)
    return name


ORDER = "lossd compare takes NEW BASELINE TARGETS in this order"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["new.npy", "float_y.npy", "y.npy"], "float_y.npy, equals the targets in every element"),
        (["new.npz", "float_y.npy"], "float_y.npy, equals the targets in every element"),
        (
            ["new.npy", "unknown_y.npy", "unknown_y.npy", "--drop-unlabelled"],
            "unknown_y.npy, equals the targets in every element",
        ),
        (
            ["p_new.npy", "float_y.npy", "y.npy", "--probabilities"],
            "float_y.npy, equals the targets in every element: name the other model's probabilities",
        ),
        (
            ["p_new.npy", "float_y.npy", "p_old.npy", "--probabilities"],
            "float_y.npy, is 0 or 1 in every element, and the targets are not",
        ),
        (["new.npy", "y.npy", "old.npy"], "y.npy, holds bool, as targets do, and logits are floats"),
    ],
    ids=lambda args: " ".join(args) if isinstance(args, list) else "",
)
def test_targets_in_the_place_of_the_baseline_are_refused(
    base_url: str, monkeypatch: pytest.MonkeyPatch, args: list[str], said: str
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 150)
    named("new.npz", logits=NEW, targets=Y)
    message = refused(*args, url=base_url)
    assert said in message
    assert ORDER in message


def test_an_engine_refuses_them_when_all_shards_show_it() -> None:
    """One shard whose baseline is like its targets is no reason."""
    parts = {0: slice(0, 25), 1: slice(25, N)}
    for place, part in parts.items():
        arrays = {"x": NEW, "b": Y.astype(np.float32), "c": Y - 0.5 * (place == 1), "y": Y}
        for name, array in arrays.items():
            np.save(f"{name}-{place}.npy", array[part])
    options = ["y-*.npy", "--engine", "local", "--max-regression", "999"]
    done = [
        subprocess.run(
            [sys.executable, "-m", "lossd", "compare", "x-*.npy", baseline, *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for baseline in ("b-*.npy", "c-*.npy")
    ]
    assert [each.returncode for each in done] == [2, 0]
    assert "b-0.npy, equals the targets in every element" in done[0].stderr


def test_logits_in_the_place_of_the_targets_are_refused_with_the_order(base_url: str) -> None:
    message = refused("new.npy", "float_y.npy", "old.npy", url=base_url, code=1)
    assert "is outside [0, 1]" in message
    assert ORDER in message


def test_a_baseline_that_is_like_the_targets_is_none_of_these(base_url: str) -> None:
    """One element tells the two apart, and zeros beside soft targets are a model that knows nothing."""
    almost = Y.astype(np.float32)
    almost[-1, -1] = 0.5
    np.save("almost.npy", almost)
    assert compared("new.npy", "almost.npy", "y.npy", url=base_url, code=4)["verdict"] == "regressed"
    np.save("zeros.npy", np.zeros((N, C)))
    np.save("soft.npy", np.where(Y, 0.9, 0.1))
    assert compared("new.npy", "zeros.npy", "soft.npy", url=base_url, code=4)["whole"]["rows"] == N


def unused(*args: object, url: str) -> list[str]:
    """Give the notes of masks and weights."""
    notes = compared(*args, "--max-regression", 9, url=url)["notes"]
    return [note for note in notes if "'mask'" in note or "'weight'" in note]


@pytest.mark.parametrize("is_joined", [False, True], ids=["by place", "by id"])
def test_masks_that_are_not_used_are_said_whichever_file_has_them(base_url: str, is_joined: bool) -> None:
    order = random.permutation(N) if is_joined else np.arange(N)
    other = MASK.copy()
    other[4, 1] ^= True
    of_new: dict[str, Any] = {"logits": NEW, "targets": Y}
    of_old: dict[str, Any] = {"logits": OLD[order], "targets": Y[order]}
    if is_joined:
        of_new["id"], of_old["id"] = np.arange(N), order
    named("new.npz", **of_new)
    named("new_mask.npz", **of_new, mask=MASK)
    named("old.npz", **of_old)
    named("old_mask.npz", **of_old, mask=MASK[order])
    named("old_other.npz", **of_old, mask=other[order])
    hint = "which is not used; --mask-column mask uses it"
    assert unused("new.npz", "old.npz", url=base_url) == []
    assert unused("new.npz", "old_mask.npz", url=base_url) == [
        f"old_mask.npz has 'mask', {hint}",
        "old_mask.npz has 'mask', and new.npz has none: if it is used, it is of both models' rows",
    ]
    assert unused("new_mask.npz", "old.npz", url=base_url) == [
        f"new_mask.npz has 'mask', {hint}",
        "new_mask.npz has 'mask', and old.npz has none: if it is used, it is of both models' rows",
    ]
    both = [f"{name} has 'mask', {hint}" for name in ("new_mask.npz", "old_mask.npz")]
    assert unused("new_mask.npz", "old_mask.npz", url=base_url) == both
    found = unused("new_mask.npz", "old_other.npz", url=base_url)
    assert found[2:] == [
        "new_mask.npz and old_other.npz both have 'mask', which differs from row 4 on: are both models' rows "
        "the same?"
    ]
    assert unused("new_mask.npz", "old_mask.npz", "--mask-column", "mask", url=base_url) == []


def reports(url: str, *options: str) -> None:
    for name in ("new", "old"):
        assert run_report(url, f"{name}.npy", "y.npy", *options, "--out", f"{name}.json").exit_code == 0


def test_options_of_files_are_refused_beside_reports_though_they_are_the_defaults(base_url: str) -> None:
    reports(base_url, "--loss", "focal")
    found = compared("new.json", "old.json", "--loss", "focal", "--max-regression", 9)
    assert found["loss"] == "focal"
    message = refused("new.json", "old.json", "--loss", "bce")
    assert "--loss is for files that are scored, and the saved reports are of focal: leave it out" in message
    for option, text in (("--class-axis", "-1"), ("--normalizer", "count"), ("--first-row", "0")):
        message = refused("new.json", "old.json", option, text)
        assert f"{option} is for files that are scored, and new.json is a saved report" in message


def test_a_name_in_capitals_is_that_of_a_report(base_url: str) -> None:
    reports(base_url)
    Path("new.json").rename("NEW.JSON")
    assert compared("NEW.JSON", "old.json", "--max-regression", 9)["pairing"] == "none"


def test_no_rows_are_no_comparison(base_url: str) -> None:
    for name in ("new", "old", "y"):
        np.save(f"no_{name}.npy", np.load(f"{name}.npy")[:0])
    none = "has no rows that count: nothing can be compared"
    message = refused("no_new.npy", "no_old.npy", "no_y.npy", "--junit", "j.xml", url=base_url)
    assert f"no_new.npy {none}" in message
    assert not Path("j.xml").exists()
    np.save("nothing.npy", np.zeros((N, C), bool))
    message = refused("new.npy", "old.npy", "y.npy", "--mask", "nothing.npy", url=base_url)
    assert f"new.npy {none}" in message
    for name in ("new", "old"):
        done = run_report(base_url, f"no_{name}.npy", "no_y.npy", "--out", f"no_{name}.json")
        assert done.exit_code == 0
    assert f"no_new.json {none}" in refused("no_new.json", "no_old.json")


def command(*args: str, url: str) -> list[str]:
    """Give the command line of one that passes, as a process of its own."""
    files = ["new.npy", "old.npy", "y.npy", "--max-regression", "9", "--url", url]
    return [sys.executable, "-m", "lossd", "compare", *files, *args]


@pytest.mark.parametrize("option", ["--junit", "--markdown", "--out", "--html"])
@pytest.mark.parametrize("path", ["/dev/stdout", "link"])
def test_standard_output_is_written_as_it_is(base_url: str, option: str, path: str) -> None:
    """A file that it is keeps its name and what was printed; a pipe takes it."""
    Path("link").symlink_to("/dev/stdout")
    Path("log").write_text("before\n")
    inode = Path("log").stat().st_ino
    with Path("log").open("a") as log:
        subprocess.run(command("--json", option, path, url=base_url), stdout=log, timeout=60, check=True)
    assert Path("log").stat().st_ino == inode
    assert Path("link").is_symlink()
    *written, last = filter(None, Path("log").read_text().splitlines())
    assert json.loads(last)["verdict"] == "passed"
    assert written[0] == "before"
    piped = subprocess.run(
        command("--json", option, path, url=base_url), stdout=subprocess.PIPE, timeout=60, check=True
    )
    lines = piped.stdout.decode().splitlines()
    assert json.loads(lines[-1])["verdict"] == "passed"
    begins = {
        "--junit": "<?xml",
        "--markdown": "### ",
        "--out": '{"schema":"lossd.report/1"',
        "--html": "<!DO",
    }
    assert written[1].startswith(begins[option])
    assert lines[0].startswith(begins[option])


def test_a_pipe_behind_a_link_gets_its_file(base_url: str) -> None:
    os.mkfifo("pipe")
    Path("link").symlink_to("pipe")
    for option in ("--junit", "--markdown"):
        got: list[bytes] = []
        reader = threading.Thread(target=lambda got=got: got.append(Path("pipe").read_bytes()), daemon=True)
        reader.start()
        assert run("new.npy", "old.npy", "y.npy", option, "link", url=base_url).exit_code in (0, 4)
        reader.join(30)
        assert got[0].startswith(b"<?xml" if option == "--junit" else b"### ")
    assert Path("pipe").is_fifo()


def test_an_open_file_that_is_none_is_refused_before_anything_is_read() -> None:
    done = subprocess.run(
        command("--junit", "/dev/fd/87", url="http://127.0.0.1:9"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"cannot write /dev/fd/87" in done.stderr


def test_a_long_name_of_a_group_does_not_widen_the_summary(base_url: str) -> None:
    names = ["a" * 250, "b\nc", "\x1b[31mred", "d" * 60]
    np.save("camera.npy", np.array(names)[np.arange(N) % 4])
    done = run("new.npy", "old.npy", "y.npy", "--by", "camera.npy", url=base_url)
    lines = done.stdout.splitlines()
    assert all(line == line.rstrip() for line in lines)
    table = lines[lines.index("") + 1 :]
    assert len(table) == 6  # a head, all rows, and a line a group
    assert max(map(len, table)) < 190
    assert re.search("^camera a+…a+  ", done.stdout, re.MULTILINE)
    assert r"camera b\nc" in done.stdout
    assert r"camera \x1b[31mred" in done.stdout


def test_a_console_without_a_names_letters_gets_the_verdict_and_json_is_utf8(base_url: str) -> None:
    np.save("camera.npy", np.array(["vorne", "hinten ☂"])[np.arange(N) % 2])
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    plain, as_json = (
        subprocess.run(
            command("--by", "camera.npy", *options, url=base_url),
            env=environment,
            capture_output=True,
            timeout=60,
            check=True,
        ).stdout
        for options in ([], ["--json"])
    )
    assert plain.startswith(b"verdict        passed")
    assert rb"camera hinten \u2602" in plain
    assert [group["id"] for group in json.loads(as_json)["groups"]] == [["hinten ☂"], ["vorne"]]


@pytest.mark.alone
def test_the_summary_of_many_groups_takes_time_by_their_number_and_prints_the_worst(base_url: str) -> None:
    np.save("camera.npy", np.arange(N) // 20)
    options = ["--by", "camera.npy", "--out", "both.json"]
    assert run("new.npy", "old.npy", "y.npy", *options, url=base_url).exit_code in (0, 4)
    found = compare(Report.load("both.json"), by="camera", max_regression=9.0)
    change = replace(found.groups[0], verdict="passed")
    worst = replace(change, verdict="regressed", difference=10.0)
    groups: dict[GroupId, Change] = dict.fromkeys(range(30_000), change)
    many = replace(found, groups=groups | {7: worst})
    shown = io.StringIO()
    start = time.process_time()
    with redirect_stdout(shown):
        print_summary(many, ("new", "old"))
    assert time.process_time() - start < 5  # with the square of it: minutes
    lines = shown.getvalue().splitlines()
    assert lines[0].startswith("verdict        regressed: 1 of 30000 groups")
    assert sum(line.startswith("camera ") for line in lines) == 10 + 1  # the head
    assert [line for line in lines if line.startswith("camera ")][1].startswith("camera 7 ")
    assert lines[-1] == "And 29,990 more groups: 29,990 passed."
