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
COMMANDS = re.findall(r"^\$ lossd (.+)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the page makes."""
    made = tmp_path_factory.mktemp("page")
    [code] = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        exec(code, {})
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(
    folder: Path, base_url: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LOSSD_BASE_URL", base_url)
    done = CliRunner().invoke(app, shlex.split(command))
    assert (done.exit_code, done.stderr) == (0, "")
    if "--json" in command:
        assert isinstance(json.loads(done.stdout), dict)
    if "--out" in command:
        out = folder / shlex.split(command)[-1]
        rows = {
            "rows.npy": lambda: len(np.load(out)),
            "losses.csv": lambda: len(out.read_text().splitlines()) - 1,
            "classes.json": lambda: len(json.loads(out.read_text())["loss"]),
            "cameras.csv": lambda: len(out.read_text().splitlines()) - 1,
            **dict.fromkeys(REPORTS, lambda: Report.load(out).rows),
        }
        written = {"rows.npy": 1000, "losses.csv": 4000, "classes.json": 4, "cameras.csv": 2, **REPORTS}
        assert rows[out.name]() == written[out.name]


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
