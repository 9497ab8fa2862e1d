"""Code in the pages runs, here or in a page's own test; what cannot run here is listed, and at least read."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml  # type: ignore[import-untyped]

from command import app
from lossd.teams import parse_teams, read_teams
from pages import ROOT
from scripts.report_page import run

# What runs a page's blocks of Python, and its commands unless they are below.
RUN = {
    "README.md": "here",
    "docs/how-to/client.md": "contract/test_client_page.py",
    "docs/how-to/gating.md": "contract/test_gating_page.py",
    "docs/how-to/recipes.md": "contract/test_recipes_page.py",
    "docs/how-to/reports.md": "contract/test_reports_page.py",
    "docs/how-to/scaling.md": "here",
    "docs/how-to/scoring-files.md": "client/cli/test_scoring_page.py",
    "docs/how-to/teams.md": "here",
    "docs/how-to/training.md": "trackers/test_training_page.py",
    "docs/reference/api.md": "contract/test_readme.py",
    "docs/reference/metrics.md": "here",
    "clients/typescript/README.md": "typescript/test_package.py",
}
# What a command that cannot run here begins with, and why. Its syntax is checked, and of lossd its options.
NOT_RUN = {
    "make": "a target of this repository, which tests/packaging/test_commands.py looks at",
    "pip install": "needs an index; `make wheel` installs into clean environments",
    "docker compose": "needs Docker; tests/packaging/test_container.py reads the files",
    "haproxy": "needs HAProxy; tests/deploy checks the configuration where it is installed",
    "kubectl": "needs a cluster; `make charts` checks what is made of the chart",
    "helm": "needs a cluster; `make charts` renders the chart and checks the manifests",
    "ray start": "starts a node; `make engines` runs Ray",
    "lossd score 's3:": "needs a bucket and a cluster; tests/engines runs both kinds",
    "lossd serve": "does not end; every test against a server runs it",
    "lossd usage": "reads the usage of a server here; tests/cli/test_usage.py runs it",
    "serve run": "needs Ray Serve; `make engines` runs it",
    "export": "settings of the command below, which tests/test_settings.py knows",
}
COMMAND = typer.main.get_command(app)
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# Tutorials have a test of their own.
PAGES = [
    page
    for page in sorted(
        [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "clients/typescript/README.md"]
    )
    if "tutorials" not in page.parts
]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [
        re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
        for indent, kind, text in BLOCK.findall(page.read_text())
        if kind == language
    ]


def commands(page: Path) -> Iterator[str]:
    for block in blocks(page, "console"):
        yield from re.findall(r"^\$ (.+)$", block, re.MULTILINE)


def excuse(command: str) -> str | None:
    """What a command that is not run here begins with, its variables aside."""
    bare = re.sub(r"^(\w+=\S+ )+", "", command)
    return next((start for start in NOT_RUN if bare.startswith(start)), None)


def to_run(text: str) -> str:
    """A page's text without the commands that are not run here."""
    return re.sub(r"^\$ (.+)\n", lambda found: "" if excuse(found[1]) else found[0], text, flags=re.MULTILINE)


ALL = [(name(page), command) for page in PAGES for command in commands(page)]


def test_every_page_with_code_is_run_and_every_language_is_known() -> None:
    code = {"python", "js"}
    with_code = {
        name(page) for page in PAGES for _, kind, _ in BLOCK.findall(page.read_text()) if kind in code
    }
    with_code |= {page for page, command in ALL if excuse(command) is None}
    assert with_code == RUN.keys()
    kinds = {kind for page in PAGES for _, kind, _ in BLOCK.findall(page.read_text())}
    assert kinds <= code | {"console", "sh", "json", "toml", "yaml", "caddyfile", "", "include"}
    places = {place for place in RUN.values() if place != "here"}
    assert [place for place in places if not (ROOT / "tests" / place).is_file()] == []


def test_every_excuse_is_needed() -> None:
    assert {excuse(command) for _, command in ALL} - {None} == NOT_RUN.keys()


@pytest.mark.parametrize(("page", "command"), ALL)
def test_a_command_is_one_that_a_shell_and_lossd_can_read(page: str, command: str) -> None:
    subprocess.run(["bash", "-n", "-c", command], check=True, capture_output=True)
    found = re.match(r"(?:\w+=\S+ )*lossd (.*?)(?: +#.*)?$", command)
    if found is None:
        return
    chosen: Any = COMMAND
    rest = shlex.split(found[1])
    context = COMMAND.context_class(COMMAND, info_name="lossd")
    while hasattr(chosen, "commands"):
        chosen = chosen.commands[rest.pop(0)]
    chosen.make_context("lossd", rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_data_can_be_read(page: Path) -> None:
    for text in blocks(page, "json"):
        json.loads(text)
    for text in blocks(page, "yaml"):
        assert yaml.safe_load(text)
    for text in blocks(page, "toml"):
        assert tomllib.loads(text)
        assert parse_teams(text.replace("…", 64 * "a")).teams


def test_the_readme(base_url: str, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    page = tmp_path / "page.md"
    page.write_text(to_run(text))
    rng = np.random.default_rng(0)
    targets = rng.random((1000, 4)) < 0.2
    logits = rng.normal(size=(1000, 4)) + 2 * targets
    for file, array in {"new": logits, "baseline": logits - 2 * targets, "targets": targets}.items():
        np.save(tmp_path / f"{file}.npy", array)
    printed = list(run(base_url, tmp_path, page))
    assert len(printed) > 3
    assert (tmp_path / "report.json").is_file()
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("page", ["docs/how-to/teams.md", "docs/reference/metrics.md"])
def test_the_commands_of_teams(tmp_path: Path, base_url: str, page: str) -> None:
    text = (ROOT / page).read_text().replace("/etc/lossd", str(tmp_path))
    (tmp_path / "page.md").write_text(to_run(text))
    for shown, printed in run(base_url, tmp_path, tmp_path / "page.md"):
        assert fnmatchcase(printed, shown.strip().replace("_k3mv9x2q_…", "_*"))
    assert len(read_teams(tmp_path / "teams.toml").teams) == 1


def test_the_tables_on_many_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_url: str) -> None:
    page = ROOT / "docs/how-to/scaling.md"
    rng = np.random.default_rng(0)

    def table(camera: str) -> pa.Table:
        columns = {
            "pred": rng.normal(size=(100, 3)).tolist(),
            "targets": (rng.random((100, 3)) < 0.2).tolist(),
        }
        return pa.table({**columns, "camera": [camera] * 100})

    [code] = blocks(page, "python")
    exec(code, {"tables": [table("front"), table("rear")], "expected_rows": 200})
    [command] = [line for line in commands(page) if line.startswith("lossd report")]
    (tmp_path / "predictions").mkdir()
    for camera in ("front", "rear"):
        rows = table(camera).rename_columns(["logits", "targets", "camera"])
        pq.write_table(rows, tmp_path / f"predictions/{camera}.parquet")
    (tmp_path / "page.md").write_text(f"```console\n$ {command}\n```\n")
    assert list(run(base_url, tmp_path, tmp_path / "page.md")) == []
    assert (tmp_path / "report.json").is_file()
