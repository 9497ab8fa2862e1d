"""The workflows of the hosted CI and the hooks before a commit: they call make's targets, on every Python."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def jobs(workflow: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(workflow.read_text())["jobs"]
    return found


def called(command: str) -> list[str]:
    return [word for word in command.removeprefix("make ").split() if "=" not in word]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_steps_run_makes_targets_and_the_projects_scripts(workflow: Path) -> None:
    commands = [step["run"] for job in jobs(workflow).values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        if command.startswith("make "):
            assert set(called(command)) <= TARGETS, command
        else:
            script = ROOT / command.removeprefix("sudo ")
            assert script.stat().st_mode & 0o111, command


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_jobs_end_and_may_do_little(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}
    known = jobs(workflow)
    for job in known.values():
        assert job["timeout-minutes"] <= 60
        needs = job.get("needs", [])
        assert {needs} if isinstance(needs, str) else set(needs) <= set(known)
        assert all(re.fullmatch(r"[\w./-]+@[\w./]+", step["uses"]) for step in job["steps"] if "uses" in step)


def test_every_supported_python_is_tested() -> None:
    versions = jobs(ROOT / ".github/workflows/ci.yml")["test"]["strategy"]["matrix"]["python"]
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert oldest == f">={versions[0]}"


def test_a_release_is_of_one_version_and_published_without_a_token() -> None:
    found = jobs(ROOT / ".github/workflows/release.yml")
    steps = {
        name: [step.get("run", step.get("uses", "")) for step in job["steps"]] for name, job in found.items()
    }
    checks = ["make release-check", "make test", "make release"]
    assert [step for step in steps["build"] if step in checks] == checks
    assert found["wheels"]["strategy"]["matrix"]["runner"] == ["ubuntu-latest", "ubuntu-24.04-arm"]
    for name in ("publish", "images"):
        job = found[name]
        assert job["if"].startswith("github.ref_type == 'tag'")
        assert (set(job["needs"]), job["environment"]) == ({"build", "wheels"}, "release")
        assert job["permissions"].items() >= {"id-token": "write", "attestations": "write"}.items()
        assert any(step.startswith("actions/attest-build-provenance@") for step in steps[name])
    assert steps["publish"][-1].startswith("pypa/gh-action-pypi-publish@")
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()


def test_wheels_are_tested_on_every_supported_python() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    versions = jobs(ROOT / ".github/workflows/ci.yml")["test"]["strategy"]["matrix"]["python"]
    assert tool["build"] == [f"cp{version.replace('.', '')}-manylinux_*" for version in versions]
    assert (ROOT / tool["test-command"].partition("{project}/")[2]).exists()


def test_the_hooks_are_makes_targets() -> None:
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"  # nothing is fetched
    assert all(set(called(hook["entry"])) <= TARGETS for hook in repository["hooks"])
