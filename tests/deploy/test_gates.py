"""actionlint and the schemas of GitHub and GitLab find nothing wrong with the workflows and the gates."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml  # type: ignore[import-untyped]

from deploy.rendering import ROOT, tool

ACTION: Final = "deploy/github-action"
GITLAB: Final = "deploy/gitlab"


def ran(*command: str | Path, folder: Path = ROOT) -> str:
    """Return what a program finds; nothing if all is well."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with the action in it, in whose workflows actionlint looks the action's inputs up."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".github/workflows").mkdir(parents=True)
    (tmp_path / ACTION).mkdir(parents=True)
    (tmp_path / ACTION / "action.yml").write_text((ROOT / ACTION / "action.yml").read_text())
    return tmp_path


def actionlint(project: Path, workflow: str) -> str:
    path = project / ".github/workflows/gate.yml"
    path.write_text(workflow)
    return ran(tool("actionlint"), "-no-color", "-shellcheck", tool("shellcheck"), path, folder=project)


@pytest.mark.parametrize(
    "workflow", sorted((ROOT / ".github/workflows").iterdir()), ids=lambda path: path.stem
)
def test_actionlint_takes_the_workflows(workflow: Path) -> None:
    assert ran(tool("actionlint"), "-no-color", workflow) == ""


def test_actionlint_takes_the_example_and_knows_the_actions_inputs(project: Path) -> None:
    example = re.sub(
        r"uses: \S+/(deploy/\S+)@\S+", r"uses: ./\1", (ROOT / ACTION / "example.yml").read_text()
    )
    assert f"uses: ./{ACTION}" in example
    assert actionlint(project, example) == ""
    assert '"maximum" is not defined' in actionlint(project, example.replace("max-regression", "maximum"))
    assert 'missing input "new"' in actionlint(project, example.replace("new: new.npz, ", ""))


def test_actionlint_and_shellcheck_take_the_actions_steps(project: Path) -> None:
    """They read workflows alone, so the steps are made a job of one with the same inputs."""
    action = yaml.safe_load((ROOT / ACTION / "action.yml").read_text())
    inputs = {name: {"type": "string", "default": ""} for name in action["inputs"]}
    job = {"runs-on": "ubuntu-latest", "steps": action["runs"]["steps"]}
    job["outputs"] = {name: each["value"] for name, each in action["outputs"].items()}
    workflow = {"on": {"workflow_call": {"inputs": inputs}}, "jobs": {"gate": job}}
    assert actionlint(project, yaml.safe_dump(workflow, width=1000)) == ""
    job["steps"][-1]["run"] += "\necho $BY ${{ inputs.gone }}"
    found = actionlint(project, yaml.safe_dump(workflow, width=1000))
    assert "SC2086" in found
    assert '"gone" is not defined' in found


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("github-actions", f"{ACTION}/action.yml"),
        ("github-workflows", f"{ACTION}/example.yml"),
        ("gitlab-ci", f"{GITLAB}/lossd-gate.yml"),
        ("gitlab-ci", f"{GITLAB}/example.gitlab-ci.yml"),
    ],
)
def test_the_schema_takes_it(schema: str, file: str) -> None:
    assert ran(tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", file) == ""


def test_shellcheck_takes_the_templates_script(tmp_path: Path) -> None:
    template = yaml.safe_load((ROOT / GITLAB / "lossd-gate.yml").read_text())[".lossd-gate"]
    script = tmp_path / "gate.sh"
    # The words of GATE_ARGS are options of their own.
    script.write_text("\n".join(["#!/bin/sh -e", "# shellcheck disable=SC2086", *template["script"]]))
    assert ran(tool("shellcheck"), script) == ""
