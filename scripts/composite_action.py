"""Runs a composite action as GitHub's runner does: inputs, expressions, bash, outputs and the step summary.

It knows what the actions of this repository use, and refuses the rest.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
_REFERENCE = re.compile(r"inputs\.([\w-]+)|steps\.([\w-]+)\.outputs\.([\w-]+)")
_COMPARISON = re.compile(r"(\S+) (==|!=) '([^']*)'")
_SECONDS = 300
_SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")


@dataclass
class Ran:
    """What an action's steps left.

    Attributes:
        code: The exit code of the last step that ran.
        log: What all of them printed, standard error too.
        outputs: The action's.
        summary: The step summary, Markdown.
        steps: The names of the steps that ran.
    """

    code: int = 0
    log: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    steps: list[str] = field(default_factory=list)


def run_action(
    action: Path, inputs: Mapping[str, str], workspace: Path, scratch: Path, environment: Mapping[str, str]
) -> Ran:
    """Run the steps of a composite action one after the other, until one fails.

    Args:
        action: Its action.yml.
        inputs: Those of the step that uses it, without `${{ }}`.
        workspace: The folder in which its steps run.
        scratch: An empty folder for the runner's own files.
        environment: The job's.

    Raises:
        ValueError: An input, or an expression, is unknown.
    """
    found: dict[str, Any] = yaml.safe_load(action.read_text())
    unknown = inputs.keys() - found["inputs"].keys()
    if unknown or found["runs"]["using"] != "composite":
        raise ValueError(f"unknown inputs {unknown}, or no composite action")
    values = _Values({name: str(each.get("default", "")) for name, each in found["inputs"].items()})
    values.inputs.update(inputs)
    (scratch / "temp").mkdir()
    summary = scratch / "summary.md"
    summary.touch()
    ran = Ran()
    for number, step in enumerate(found["runs"]["steps"]):
        if not values.holds(step.get("if", "'' == ''")):
            continue
        output = scratch / f"output-{number}"
        output.touch()
        script = scratch / f"step-{number}.sh"
        script.write_text(values.filled(step["run"]))
        if step["shell"] != "bash":
            raise ValueError(f"shell {step['shell']}")
        done = subprocess.run(  # noqa: S603 - this repository's actions
            [*_SHELL, script],
            cwd=workspace,
            env={
                **environment,
                **{name: values.filled(str(text)) for name, text in step.get("env", {}).items()},
                "GITHUB_ACTION_PATH": str(action.parent),
                "GITHUB_OUTPUT": str(output),
                "GITHUB_STEP_SUMMARY": str(summary),
                "GITHUB_WORKSPACE": str(workspace),
                "RUNNER_TEMP": str(scratch / "temp"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        ran.steps.append(step["name"])
        ran.log += done.stdout
        ran.code = done.returncode
        values.steps[step.get("id", "")] = dict(
            line.split("=", 1) for line in output.read_text().splitlines()
        )
        if ran.code:
            break
    ran.summary = summary.read_text()
    ran.outputs = {name: values.filled(each["value"]) for name, each in found["outputs"].items()}
    return ran


class _Values:
    """The contexts of expressions."""

    def __init__(self, inputs: dict[str, str]) -> None:
        self.inputs = inputs
        self.steps: dict[str, dict[str, str]] = {}

    def filled(self, text: str) -> str:
        """Put values into a text, as text: a script with an expression in it would run what it holds."""
        return _EXPRESSION.sub(lambda match: self._value(match[1]), text)

    def holds(self, condition: str) -> bool:
        """Return whether a step's condition holds.

        Raises:
            ValueError: It is of another form.
        """
        found = _COMPARISON.fullmatch(condition)
        if found is None:
            raise ValueError(f"if: {condition}")
        left = found[1].strip("'") if found[1].startswith("'") else self._value(found[1])
        return (left == found[3]) is (found[2] == "==")

    def _value(self, reference: str) -> str:
        found = _REFERENCE.fullmatch(reference)
        if found is None:
            raise ValueError(f"${{{{ {reference} }}}}")
        name, step, output = found.groups()
        return self.inputs[name] if name else self.steps.get(step, {}).get(output, "")
