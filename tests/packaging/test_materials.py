"""What the image is made of: each package by its hash, each base by its digest, and the list of all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PathDistribution, distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lossd import __version__
from scripts.licences import refused

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "sha256:" + "0123456789abcdef" * 4
ENTRY = re.compile(r"^([\w.-]+)==([\w.]+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def locked(*, torch: bool = True) -> dict[str, str]:
    """The versions in requirements.lock, each with hashes; without torch's own if that is not wanted."""
    text = (ROOT / "requirements.lock").read_text()
    if not torch:
        text, _, _ = text.partition("# What torch needs")
    found: dict[str, str] = {canonicalize_name(name): version for name, version, _ in ENTRY.findall(text)}
    assert ENTRY.sub("", text).replace("#", "").strip().startswith("What the images install")
    assert len(found) == len(re.findall(r"^[^#\s]", text, re.MULTILINE)), "each entry has hashes"
    return found


def pinned() -> dict[str, str]:
    """The versions in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if "==" in line]
    return {canonicalize_name(name): version for name, version in pins}


def needed(name: str, *extras: str) -> set[str]:
    """What a distribution needs, and what that needs, by the metadata of what is installed."""
    found: set[str] = set()
    waiting = [(name, extras)]
    seen = set(waiting)
    while waiting:
        which, wanted = waiting.pop()
        for line in requires(which) or ():
            one = Requirement(line)
            environments = [{"extra": extra, "python_version": "3.11"} for extra in ("", *wanted)]
            if one.marker and not any(one.marker.evaluate(environment) for environment in environments):
                continue
            its = canonicalize_name(one.name)
            if its == "torch":
                continue
            found.add(its)
            if (its, tuple(one.extras)) not in seen:
                seen.add((its, tuple(one.extras)))
                waiting.append((its, tuple(one.extras)))
    return found


def test_the_lock_is_of_todays_constraints() -> None:
    pins = {"setuptools": locked()["setuptools"], **pinned()}  # torch's own, which constraints.txt leaves out
    stale = {name: version for name, version in locked().items() if pins.get(name) != version}
    assert not stale, "run make lock"


def test_the_lock_holds_all_that_the_server_needs_but_torch() -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the lock is for the image's Python, 3.11")
    missing = needed("lossd", "server", "otel", "quota", "postgres") - locked().keys()
    assert not missing, "run make lock"


def test_the_image_for_cpus_gets_nothing_that_only_torch_needs() -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the lock is for the image's Python, 3.11")
    needs = needed("lossd", "cpu", "otel", "quota", "postgres")
    assert {"fastapi", "uvicorn", "psycopg-binary", "redis"} <= needs
    assert locked(torch=False).keys() == needs
    assert {"sympy", "networkx"} <= locked().keys() - needs


def test_the_licences_of_all_packages_are_allowed() -> None:
    assert refused(distributions()) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("License-Expression: MIT AND (GPL-3.0-only OR Apache-2.0)", ["odd has the licence 'GPL-3.0-only'"]),
        (
            "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
            ["odd has the licence"],
        ),
        ("License: Proprietary", ["odd has the licence 'Proprietary'"]),
        ("Summary: odd", ["odd names no licence: read its files"]),
        ("License-Expression: Apache-2.0 WITH LLVM-exception OR MIT", []),
        ("Classifier: License :: OSI Approved\nClassifier: License :: OSI Approved :: BSD License", []),
        ("License: MPL-2.0 AND MIT", []),
    ],
)
def test_a_licence_that_is_not_allowed_is_named(tmp_path: Path, fields: str, said: list[str]) -> None:
    folder = tmp_path / "odd-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: odd\nVersion: 1.0\n{fields}\n")
    found = refused([PathDistribution(folder)])
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


def test_the_image_installs_by_hash() -> None:
    assert "ARG HASHES=1" in (ROOT / "Dockerfile").read_text()
    script = (ROOT / "scripts/install_runtime.sh").read_text()
    assert '--require-hashes --requirement "$root/requirements.lock"' in script
    assert "--require-hashes --requirement <(sed '/^# What torch needs/,$d'" in script


def test_the_bill_of_materials_lists_what_is_pinned(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts/sbom.sh", tmp_path / "sbom.json"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    its = bill["metadata"]["component"]
    assert (its["name"], its["version"]) == ("lossd", __version__)
    listed = {canonicalize_name(one["name"]): one["version"] for one in bill["components"]}
    assert listed == {**locked(), "torch": pinned()["torch"]}


# It answers as docker does, and writes down what it is asked to build.
DOCKER = f"""#!/bin/sh
if [ "$1 $2" = "buildx imagetools" ]; then echo {DIGEST}; else echo "$@" >>"$ASKED"; fi
"""


def test_the_image_is_built_from_digests_which_are_written_down(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ASKED": str(tmp_path / "asked")}
    command = [str(ROOT / "scripts/build_image.sh"), "lossd", str(tmp_path / "images.txt")]
    subprocess.run([*command, "--build-arg", "TORCH=cpu"], env=environment, check=True)
    bases = [f"python:3.11@{DIGEST}", f"python:3.11-slim@{DIGEST}"]
    written = (tmp_path / "images.txt").read_text().splitlines()
    assert written[:2] == bases
    subprocess.run(
        [*command, "--push"], env={**environment, "GITHUB_OUTPUT": str(tmp_path / "output")}, check=True
    )
    assert (tmp_path / "images.txt").read_text().splitlines() == [*written, f"lossd@{DIGEST}"]
    assert (tmp_path / "output").read_text() == f"digest={DIGEST}\n"
    assert [line.partition(":")[0] for line in written[2:]] == ["prom/prometheus", "grafana/grafana"]
    assert all(line.endswith("@" + DIGEST) for line in written)
    asked = (tmp_path / "asked").read_text()
    assert f"--build-arg BUILDER_IMAGE={bases[0]} --build-arg BASE_IMAGE={bases[1]}" in asked
    assert "--build-arg TORCH=cpu" in asked
