"""The package that `npm pack` makes: its files, its types, and the examples of its README."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from live_server import LiveServer, live_server
from lossd import __version__
from lossd_client import Report
from typescript.tools import NODES, PACKAGE, ROOT, node, run, tool

pytestmark = pytest.mark.timeout(300)

_STRICT: Final = ("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--noEmit")
_BLOCKS: Final = re.findall(
    r"^```js\n(.*?)^```$", (PACKAGE / "README.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has installed the package, packed from a copy of its sources as README says."""
    npm = tool("npm")
    folder = tmp_path_factory.mktemp("package")
    source = folder / "clients/typescript"
    shutil.copytree(
        PACKAGE, source, ignore=shutil.ignore_patterns("node_modules", "types", "LICENSE", "*.tgz")
    )
    shutil.copy(ROOT / "LICENSE", folder)
    bare = os.environ["PATH"]  # without the compiler of `make typescript`
    run(npm, "ci", "--silent", "--prefer-offline", "--no-audit", "--no-fund", folder=source, PATH=bare)
    run(npm, "pack", "--silent", folder=source, PATH=bare)
    (archive,) = source.glob("*.tgz")
    project = folder / "project"
    with tarfile.open(archive) as tar:
        tar.extractall(project / "node_modules", filter="data")
    (project / "node_modules/package").rename(project / "node_modules/lossd-client")
    (project / "package.json").write_text('{"type": "module"}')
    return project


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_the_sources_have_the_types_that_they_say() -> None:
    run(tool("tsc"), "-p", PACKAGE, folder=PACKAGE)


def test_the_package_has_sources_and_types_alone(installed: Path) -> None:
    package = installed / "node_modules/lossd-client"
    sources = {path.stem for path in (PACKAGE / "src").iterdir()}
    expected = {f"types/{name}.d.ts" for name in sources}
    expected |= {f"src/{name}.js" for name in sources - {"types", "losses"}}
    files = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    assert files == expected | {"package.json", "README.md", "LICENSE"}
    described: dict[str, Any] = json.loads((package / "package.json").read_text())
    assert "dependencies" not in described
    assert described["version"] == __version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert described["license"] == project["license"]


def test_sources_name_nothing_of_nodes() -> None:
    """So browsers load them; of the global names tsc knows only those that browsers have."""
    for path in (PACKAGE / "src").glob("*.js"):
        for name in re.findall(r"""(?:from|import)\s*\(?["']([^"']+)""", path.read_text()):
            assert re.fullmatch(r"\./[a-z-]+\.js", name), f"{path.name} imports {name}"


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((PACKAGE / "package-lock.json").read_text())
    assert all("resolved" not in package for package in lock["packages"].values())


@pytest.mark.parametrize(
    "resolution",
    [("--module", "nodenext"), ("--module", "esnext", "--moduleResolution", "bundler")],
    ids=["nodenext", "bundler"],
)
def test_types_help_those_who_use_it(installed: Path, resolution: tuple[str, ...]) -> None:
    shutil.copy(Path(__file__).parent / "uses.ts", installed)
    run(tool("tsc"), *_STRICT, *resolution, "--target", "es2022", "uses.ts", folder=installed)


@pytest.mark.parametrize("version", NODES)
@pytest.mark.parametrize("place", range(len(_BLOCKS)))
def test_examples_print_what_they_say(
    installed: Path, server: LiveServer, tmp_path: Path, place: int, version: str
) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(32, 80)).astype(np.float32))
    np.save(tmp_path / "y.npy", rng.random((32, 80)) < 0.1)
    (tmp_path / "node_modules").symlink_to(installed / "node_modules")
    text = _BLOCKS[place].replace("http://127.0.0.1:8000", server.url)
    (tmp_path / "example.mjs").write_text(text)
    said = run(node(version), "example.mjs", folder=tmp_path, NODE_NO_WARNINGS=1)
    promised = re.findall(r"console\.log\(.*\); // (.*)$", _BLOCKS[place], re.MULTILINE)
    assert promised
    pattern = r"\n".join(re.escape(line).replace("…", "(?s:.*?)") for line in promised)
    assert re.fullmatch(pattern, said.strip()), said


def test_a_saved_report_is_read_by_the_python_client(
    installed: Path, server: LiveServer, tmp_path: Path
) -> None:
    program = """
        import { LossClient } from "lossd-client";
        const request = { logits: [[Infinity, 1], [2, 3]], targets: [[0, 0], [1, 1]], ids: ["b", "a"] };
        console.log(JSON.stringify(await new LossClient(process.argv[2]).report("focal", request)));
    """
    (tmp_path / "save.mjs").write_text(program)
    (tmp_path / "node_modules").symlink_to(installed / "node_modules")
    (tmp_path / "report.json").write_text(run(node(NODES[0]), "save.mjs", server.url, folder=tmp_path))
    report = Report.load(tmp_path / "report.json")
    assert [row.id for row in report.top_rows] == ["b", "a"]
    assert report.mean == np.inf
