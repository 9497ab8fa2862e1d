"""`--engine local`: shards in processes of this machine, with the bits and the words that a server gives."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from client.cli import reported, scored
from command import app
from lossd_client._calls.shape_notes import BY_COUNT
from lossd_client.cli import Here
from lossd_client.cli.engines import engine

ROWS, CLASSES, SHARDS = 3001, 5, 4
OF_THE_RUN = ("request_id", "timing", "device", "version")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of shards, one a format."""
    folder = tmp_path_factory.mktemp("shards")
    random = np.random.default_rng(7)
    x: np.ndarray[Any, Any] = random.normal(size=(ROWS, CLASSES)) * 4
    y: np.ndarray[Any, Any] = (random.random((ROWS, CLASSES)) < 0.25).astype(np.float32)
    weight = random.random((ROWS, CLASSES))
    camera = random.choice(["front", "rear", "left"], ROWS)
    names = random.permutation(ROWS)
    cuts = np.linspace(0, ROWS, SHARDS + 1).astype(int)
    for kind in ("parquet", "csv", "logits", "labels"):
        (folder / kind).mkdir()
    for number, (start, stop) in enumerate(pairwise(cuts)):
        rows = slice(start, stop)
        table = {name: lists(array[rows]) for name, array in {"logits": x, "targets": y, "w": weight}.items()}
        both = {"camera": pa.array(camera[rows]), "image": pa.array(names[rows])}
        pa.parquet.write_table(pa.table(table | both), folder / f"parquet/{number}.parquet")
        flat = {f"logit_{place}": x[rows, place] for place in range(CLASSES)}
        flat |= {f"target_{place}": y[rows, place] for place in range(CLASSES)}
        pa.csv.write_csv(pa.table(flat | both), folder / f"csv/{number}.csv")
        np.save(folder / f"logits/{number}.npy", x[rows])
        np.save(folder / f"labels/{number}.npy", y[rows])
    return folder


def lists(array: np.ndarray[Any, Any]) -> pa.Array[Any]:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])


def local(folder: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a command with --engine local, as a shell does."""
    command = [sys.executable, "-m", "lossd", *map(str, args), "--engine", "local"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


NAMED = ("--logits-columns", "logit_", "--targets-columns", "target_")
PAIRS = ("logits", "--targets", "labels/*.npy")


@pytest.mark.parametrize(
    "args",
    [
        pytest.param((*PAIRS, "--loss", "focal", "--gamma", "2"), id="npy"),
        pytest.param(("parquet", "--weight-column", "w", "--normalizer", "weight"), id="parquet"),
        pytest.param(("csv", *NAMED, "--by", "camera"), id="csv by camera"),
        pytest.param((*PAIRS, "--axis", "0", "--pos-weight", "1,2,3,4,5.5"), id="npy by class"),
    ],
)
def test_a_score_is_that_of_a_server(
    folder: Path, base_url: str, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    served = scored.run(base_url, *args, "--json")
    done = local(folder, "score", *args, "--json")
    assert (done.returncode, done.stderr) == (served.exit_code, served.stderr) == (0, "")
    found, wanted = (
        {**json.loads(text), **dict.fromkeys(OF_THE_RUN)} for text in (done.stdout, served.stdout)
    )
    assert found == wanted


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("parquet", "--by", "camera", "--loss", "focal", "--sweep", "gamma:0,2"), id="parquet"),
        pytest.param(("parquet", "--ids", "image", "--top", "7"), id="ids"),
        pytest.param(("csv", *NAMED, "--first-row", "40"), id="csv"),
    ],
)
def test_a_report_is_that_of_a_server(
    folder: Path, base_url: str, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    wanted = reported.report(base_url, *args)
    done = local(folder, "report", *args, "--json")
    assert done.returncode == 0, done.stderr
    found = type(wanted)(json.loads(done.stdout))
    assert reported.sections(found) == reported.sections(wanted)
    runs = [report.to_dict()["run"] for report in (found, wanted)]
    for name in ("inputs", "first_row", "top_index"):
        assert runs[0].get(name) == runs[1].get(name)


def test_a_report_says_what_was_passed_over_in_a_file(tmp_path: Path) -> None:
    camera = np.array(["front", "rear"])
    np.savez(tmp_path / "new.npz", logits=np.array([0.5, -1.0]), targets=np.array([1, 0]), camera=camera)
    done = local(tmp_path, "report", "new.npz")
    assert (done.returncode, done.stderr) == (0, "note: new.npz: passed over camera (text)\n")
    assert json.loads(done.stdout)["totals"]["rows"] == 2


def test_an_error_is_that_of_a_server_and_the_first(
    folder: Path, base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        targets = np.zeros((9, 2))
        targets[number, 1] = 2.0 if number in (1, 3) else 1.0
        np.savez(tmp_path / f"{number}.npz", logits=np.ones((9, 2)), targets=targets)
    monkeypatch.chdir(tmp_path)
    served, done = scored.run(base_url, "."), local(tmp_path, "score", ".")
    assert (done.returncode, done.stdout) == (served.exit_code, served.stdout) == (1, "")
    assert without_id(done.stderr) == without_id(served.stderr)
    assert "(row 1 of ./1.npz)" in done.stderr


def shards(folder: Path, *arrays: dict[str, Any]) -> None:
    for number, each in enumerate(arrays):
        np.savez(folder / f"{number}.npz", **each)


@pytest.mark.parametrize(
    "command", [("score",), ("score", "--axis", "0"), ("report", "--json")], ids=" ".join
)
@pytest.mark.parametrize("shapes", [((4,), (2,)), ((2, 3), (3, 2))], ids=["classes", "places"])
def test_rows_of_another_shape_are_refused_as_through_a_server(
    base_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    shapes: tuple[tuple[int, ...], ...],
) -> None:
    shards(tmp_path, *({"logits": np.ones((6, *row)), "targets": np.ones((6, *row))} for row in shapes))
    assert_refused_alike(base_url, tmp_path, monkeypatch, command, "1.npz has logits of ")


@pytest.mark.parametrize("command", ["score", "report"])
def test_another_number_of_classes_is_refused_as_through_a_server(
    base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    shards(tmp_path, *({"logits": np.ones((6, n)), "targets": np.arange(6) % 3} for n in (4, 3)))
    args = command, "--targets-format", "index"
    assert_refused_alike(base_url, tmp_path, monkeypatch, args, "1.npz has logits of [3] a row")


@pytest.mark.parametrize("command", ["score", "report"])
def test_a_column_of_fewer_rows_is_refused_as_through_a_server(
    base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    ones = {"logits": np.ones((6, 2)), "targets": np.ones((6, 2))}
    shards(tmp_path, *({**ones, "g": np.arange(rows)} for rows in (5, 7)))
    wanted = "0.npz: logits has 6 rows, and g 5:"
    assert_refused_alike(base_url, tmp_path, monkeypatch, (command, "--by", "g"), wanted)


def assert_refused_alike(
    base_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], wanted: str
) -> None:
    monkeypatch.chdir(folder)
    served = CliRunner().invoke(app, [*args, ".", "--url", base_url])
    done = local(folder, *args, ".")
    assert (done.returncode, done.stdout, done.stderr) == (served.exit_code, served.stdout, served.stderr)
    assert (done.returncode, done.stdout) == (2, "")
    assert wanted in done.stderr


def test_groups_of_a_shard_without_rows(
    base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The column of the groups, of text, is not said to be passed over."""
    x = np.linspace(-2, 2, 12).reshape(6, 2)
    camera = np.array(["front", "rear"])[np.arange(6) % 2]
    both = {"logits": x, "targets": np.sign(x) / 2 + 0.5, "camera": camera}
    shards(tmp_path, both, {name: array[:0] for name, array in both.items()}, {**both, "logits": x - 1})
    monkeypatch.chdir(tmp_path)
    served = scored.run(base_url, ".", "--by", "camera", "--json")
    done = local(tmp_path, "score", ".", "--by", "camera", "--json")
    assert (done.returncode, done.stderr) == (served.exit_code, served.stderr) == (0, "")
    found, wanted = (
        {**json.loads(text), **dict.fromkeys(OF_THE_RUN)} for text in (done.stdout, served.stdout)
    )
    assert found == wanted
    assert found["notes"] == []


def without_id(text: str) -> list[str]:
    return [line for line in text.splitlines() if "request id" not in line]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("--engine", "local", "--url", "http://127.0.0.1:1"), "leave --url out, or --engine"),
        (("--engine", "spark"), "there are local, ray and ray://HOST:PORT"),
        (("--engine", "local", "--reduction", "none"), "gives no loss per row"),
        (("--engine", "local", "--axis", "1"), "gives no loss per row"),
        (("--engine", "local", "--weight", "../weights.npy"), "put them into the shards as a column"),
        (("--engine", "local", "--class-axis", "0", "--pos-weight", "1,2"), "needs all rows at once"),
    ],
)
def test_what_shards_cannot_give_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], why: str
) -> None:
    monkeypatch.chdir(folder / "logits")
    np.save("../weights.npy", np.ones((ROWS, 1)))
    done = CliRunner().invoke(app, ["score", ".", "--targets", "../labels/*.npy", *args])
    assert (done.exit_code, done.stdout) == (2, "")
    assert why in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", ["score", "report"])
def test_the_help_says_which_cluster_ray_is(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"]).stdout.replace("│", " ")
    assert "ray takes that of RAY_ADDRESS, else one that runs on this machine" in " ".join(shown.split())


def test_the_client_alone_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["score", *PAIRS, "--engine", "local"])
    assert done.exit_code == 2
    assert "pip install 'lossd[local]'" in done.stderr


def test_a_package_that_is_missing_is_named_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> Here:
        raise ModuleNotFoundError("lossd.batch needs pyarrow: pip install 'lossd[local]'", name="pyarrow")

    monkeypatch.chdir(folder)
    monkeypatch.setattr(engine, "_providers", [lacking])
    done = CliRunner().invoke(app, ["score", *PAIRS, "--engine", "local"])
    assert done.exit_code == 2
    assert "without a server, and so needs pyarrow: pip install 'lossd[local]'" in done.stderr
    assert done.stderr.count("pip install") == 1


@pytest.mark.waits
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Nor does Python's own process warn of semaphores, which it clears up."""
    command = [sys.executable, "-m", "lossd", "score", *PAIRS, "--engine", "local"]
    with (
        (tmp_path / "stderr").open("wb") as stderr,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=stderr) as started,
    ):
        until = time.monotonic() + 60
        while len(inner := children(started.pid)) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        started.send_signal(number)
        started.wait(60)
    assert len(inner) >= 2  # the process for semaphores, and one that scores
    until = time.monotonic() + 30
    while any(map(is_there, inner)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(is_there, inner))
    assert "leaked" not in (tmp_path / "stderr").read_text()


def children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_process_is_said(folder: Path) -> None:
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    code = f"""
import sys
from lossd_client.cli.exits import EngineFailed
from lossd_client.cli.engines.processes import processes
if __name__ == "__main__":
    with processes(1) as engine:
        try:
            list(engine.map(exec, [{kill!r}]))
        except EngineFailed as error:
            sys.exit(f"said: {{error}}")
"""
    (folder / "killed.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "killed.py"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("said: a process of --engine local was killed")


def test_a_mean_that_weights_of_classes_do_not_divide_is_noted(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(3))
    np.save(tmp_path / "ids.npy", np.arange(3))
    done = local(
        tmp_path, "score", "x.npy", "ids.npy", "--loss", "cross_entropy", "--class-weight", "1,2,3", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["notes"].count(BY_COUNT) == 1
