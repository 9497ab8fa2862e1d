"""The examples of the README and of docs/reference/api.md run as they stand, but for the server's address."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "http://127.0.0.1:8000"


def examples(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


@pytest.fixture
def folder(base_url: str, tmp_path: Path) -> Path:
    """A folder in which the Python examples have run."""
    code = "\n".join(examples("python"))
    assert ADDRESS in code
    done = subprocess.run(
        [sys.executable, "-c", code.replace(ADDRESS, base_url)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert (printed[1], printed[-1]) == ("(80,)", "True")
    return tmp_path


def test_curl(base_url: str, folder: Path) -> None:
    lines = [line for text in examples("console") for line in text.splitlines()]
    shown = {line[2:]: lines[number + 1] for number, line in enumerate(lines) if line.startswith("$ curl")}
    for command, answer in shown.items():
        here = command.replace("localhost:8000", base_url.removeprefix("http://"))
        done = subprocess.run(here, shell=True, cwd=folder, capture_output=True, check=True, timeout=60)
        json.loads(done.stdout)
        assert fnmatchcase(done.stdout.decode(), answer.replace("[", "[[]").replace("…", "*"))
    assert len(shown) == 2


def test_the_command(base_url: str, folder: Path) -> None:
    (command,) = (
        line[2:]
        for text in examples("console")
        for line in text.splitlines()
        if line.startswith("$ lossd score")
    )
    words = [sys.executable, "-m", *command.replace(ADDRESS, base_url).split()]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    assert "2560" in done.stdout.replace(",", "")
    assert np.load(folder / "x.npy").shape == (32, 80)


def test_tritonclient(base_url: str, folder: Path) -> None:
    (code,) = examples("python", "docs/reference/api.md")
    address = ADDRESS.removeprefix("http://")
    assert address in code
    done = subprocess.run(
        [sys.executable, "-c", code.replace(address, base_url.removeprefix("http://"))],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "[2560]"


def test_curl_with_every_kind_of_file(base_url: str, folder: Path) -> None:
    commands = [
        line[2:]
        for text in examples("console", "docs/reference/api.md")
        for line in text.splitlines()
        if line.startswith("$ ")
    ]
    assert len(commands) == 7
    np.save(folder / "cameras.npy", np.arange(32) % 3)
    np.save(folder / "old.npy", np.load(folder / "x.npy") - 1)
    losses = []
    for command in commands:
        here = command.replace("localhost:8000", base_url.removeprefix("http://"))
        here = here.replace("python", sys.executable, 1) if here.startswith("python") else here
        done = subprocess.run(here, shell=True, cwd=folder, capture_output=True, check=True, timeout=60)
        losses += [json.loads(done.stdout)["loss"]] if done.stdout else []
    assert len(set(losses)) == 1
    assert len(losses) == 6
