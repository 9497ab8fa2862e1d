"""docs/how-to/client.md: its examples, run as they stand but for the address, print what they say they do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from contract.test_readme import ADDRESS, examples
from lossd_client import LossClient

PAGE = "docs/how-to/client.md"
EXPECTED = re.compile(r"^ *print\(.*\)  # (.+)$", flags=re.MULTILINE)

# One process for all: each has a namespace of its own.
RUN = """
import json, sys
for number, code in enumerate(json.load(sys.stdin), 1):
    exec(compile(code, f"example {number}", "exec"), {"__name__": "__main__"})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples work on."""
    path = tmp_path_factory.mktemp("page")
    save = examples("python", PAGE)[0]
    subprocess.run([sys.executable, "-c", save], cwd=path, check=True, timeout=60)
    return path


def test_python(base_url: str, folder: Path) -> None:
    codes = [code.replace(ADDRESS, base_url) for code in examples("python", PAGE)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN],
        input=json.dumps(codes),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    expected = [text for code in codes for text in EXPECTED.findall(code)]
    assert len(expected) == sum(code.count("print(") for code in codes)
    printed = done.stdout.splitlines()
    assert len(printed) == len(expected)
    patterns = [text.replace("[", "[[]").replace("…", "*") for text in expected]
    wrong = [pair for pair in zip(printed, patterns, strict=True) if not fnmatchcase(*pair)]
    assert wrong == []


def test_curl(base_url: str, folder: Path) -> None:
    commands = [
        line[2:] for text in examples("console", PAGE) for line in text.splitlines() if line.startswith("$ ")
    ]
    answers = []
    for command in commands:
        here = command.replace("localhost:8000", base_url.removeprefix("http://"))
        done = subprocess.run(here, shell=True, cwd=folder, capture_output=True, check=True, timeout=60)
        answers += [json.loads(done.stdout)] if done.stdout else []
    (v2,) = answers
    outputs = {output["name"]: output["data"] for output in v2["outputs"]}
    with LossClient(base_url) as client:
        result = client.focal(np.load(folder / "x.npy"), np.load(folder / "y.npy"), gamma=2)
    assert outputs["count"] == [result.count] == [2560]
    assert outputs["loss"] == [result.loss]
