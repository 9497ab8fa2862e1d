"""The programs of `make generators`, and how they are run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAMS: Final = Path(__file__).parent / "programs"
FOLDER: Final = ROOT / ".generators"
"""What `make generators` has installed."""
_PATH: Final = os.pathsep.join(
    [str(FOLDER / "venv/bin"), str(FOLDER / "node_modules/.bin"), os.environ.get("PATH", "")]
)
ANNOTATIONS: Final = Path("/usr/share/java/geronimo-annotation-1.3-spec.jar")
"""Has `javax.annotation.Generated`, which every class of a generated client bears."""


def require(*programs: str) -> None:
    """Skip a test without these programs, saying which one is missing."""
    for program in programs:
        if shutil.which(program, path=_PATH) is None:
            pytest.skip(f"{program} is not installed: make generators and .ci/tools install what is needed")


def generator_jar() -> Path:
    """openapi-generator itself, which has within it all that its Java clients need, that annotation aside."""
    found = sorted(FOLDER.glob("venv/lib/*/site-packages/openapi_generator_cli/openapi-generator.jar"))
    assert found, "openapi-generator-cli has no jar"
    return found[-1]


def run(*command: object, folder: Path, **environment: object) -> str:
    """What a program says on both outputs; it must succeed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, "PATH": _PATH, **{name: str(value) for name, value in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}"
    return done.stdout


def generate(document: Path, generator: str, out: Path, options: Sequence[str]) -> str:
    """Make a client by openapi-generator; what it says."""
    only_sources = "--global-property=apiDocs=false,modelDocs=false,apiTests=false,modelTests=false"
    words = ("openapi-generator-cli", "generate", "-i", document, "-g", generator, "-o", out, only_sources)
    return run(*words, *options, folder=out.parent)
