"""The page on scoring files: what it says to run is run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from command import app
from lossd_client.cli.compare import compare
from lossd_client.cli.report import report
from lossd_client.cli.score import score
from lossd_client.report import Report

PAGE = (Path(__file__).resolve().parents[3] / "docs/how-to/scoring-files.md").read_text()
REPORTS = {"run.json.gz": 1000, "joined.json": 1000, "both.json": 1000, "zero.json": 500, "one.json.gz": 500}
REPORTS["all.json"] = REPORTS["models.json"] = 1000
WRITTEN = {"rows.npy": 1000, "losses.csv": 4000, "classes.json": 4, "cameras.csv": 2, **REPORTS}
COMMANDS = re.findall(r"^\$ lossd (.+)$", PAGE, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, base_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page makes, in which the commands are run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSD_BASE_URL", base_url)
    [code] = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    exec(code, {})
    return tmp_path


def test_every_command_runs(folder: Path) -> None:
    assert COMMANDS
    for command in COMMANDS:  # in the page's order: some read what others wrote
        done = CliRunner().invoke(app, shlex.split(command))
        assert (done.exit_code, done.stderr) == (0, ""), command
        if "--json" in command:
            assert isinstance(json.loads(done.stdout), dict)
        if "--out" in command:
            out = folder / shlex.split(command)[-1]
            assert rows_of(out) == WRITTEN[out.name], command


def rows_of(out: Path) -> int:
    """The rows that a file is of, or its numbers."""
    if out.name in REPORTS:
        return Report.load(out).rows
    if out.suffix == ".npy":
        return len(np.load(out))
    if out.suffix == ".json":
        return len(json.loads(out.read_text())["loss"])
    return len(out.read_text().splitlines()) - 1


def test_the_page_has_every_option_that_is_about_files() -> None:
    known = {*score.__annotations__, *report.__annotations__, *compare.__annotations__}
    options = {name for name in known if "column" in name}
    options |= {"probabilities", "targets", "weight", "mask", "by", "out", "no_progress", "targets_format"}
    options |= {"background_index", "ignore_index", "drop_unlabelled"}
    options |= {"baseline", "first_row", "sections", "top", "row", "calibration_bins", "sweep", "html"}
    options |= {"max_regression", "strict", "markdown", "junit"}
    assert options <= known
    assert {"--id", "--ids", "--cluster"} <= set(re.findall(r"--[a-z-]+", PAGE))
    assert {f"--{name.replace('_', '-')}" for name in options} <= set(re.findall(r"--[a-z-]+", PAGE))
