"""`lossd[local]` is all that `--engine local` imports: a CI job installs neither torch nor a web server."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lossd_client import Report
from pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPORT = """
import sys
from importlib.abc import MetaPathFinder


class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"no module named {name!r}", name=name)


MISSING = set(sys.argv[1].split())
sys.meta_path.insert(0, Missing())
from lossd.__main__ import main

sys.argv = "lossd report x.npy y.npy --baseline x.npy --engine local --out report.json".split()
main()
"""


def with_theirs(needs: list[str]) -> set[str]:
    """The packages that pip installs for some requirements."""
    found: set[str] = set()
    ahead = [Requirement(need) for need in needs]
    while ahead:
        need = ahead.pop()
        name = canonicalize_name(need.name)
        if name in found or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        ahead += map(Requirement, requires(name) or [])
    return found


def test_an_engine_needs_no_other_package(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    np.save(tmp_path / "y.npy", np.eye(3, 2))
    extras = PROJECT["optional-dependencies"]
    there = with_theirs([*PROJECT["dependencies"], *extras["local"]]) | {"lossd"}
    homes = packages_distributions()
    missing = [name for name in homes if not there & set(map(canonicalize_name, homes[name]))]
    assert {"torch", "fastapi", "uvicorn"} <= set(missing)
    command = [sys.executable, "-c", REPORT, " ".join(missing)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert Report.load(tmp_path / "report.json").rows == 3
    assert set(extras["local"]) <= {*extras["cpu"], *extras["arrow"]}


def test_the_extra_brings_no_torch() -> None:
    assert "torch" not in with_theirs(PROJECT["optional-dependencies"]["local"])
