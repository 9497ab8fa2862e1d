"""The TypeScript client scores by a real server what Python scores, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from live_server import LiveServer, live_server
from lossd_client import LossClient
from teams_file import make_key, team_table, write_teams
from typescript.cases import write_cases
from typescript.tools import NODES, PACKAGE, node, run

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def slow_key() -> str:
    return make_key()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, slow_key: str) -> Iterator[LiveServer]:
    """A server that asks for keys, takes small bodies, and lets pages of any origin in."""
    folder, key = tmp_path_factory.mktemp("server"), make_key()
    slow = team_table("slow", slow_key, limits={"requests_per_second": 2})
    write_teams(folder / "teams.toml", team_table("vision", key), slow)
    teams = folder / "teams.toml"
    with live_server(folder, teams=teams, max_body_bytes=1 << 20, cors_origins="*") as server:
        server.key = key
        yield server


@pytest.mark.parametrize("version", NODES)
def test_the_packages_own_tests_pass(server: LiveServer, slow_key: str, tmp_path: Path, version: str) -> None:
    program = node(version)
    with LossClient(server.url, api_key=server.key) as client:
        write_cases(tmp_path, client)
    environment = {
        "LOSSD_TEST_FOLDER": tmp_path,
        "LOSSD_TEST_URL": server.url,
        "LOSSD_TEST_KEY": server.key,
        "LOSSD_TEST_SLOW_KEY": slow_key,
    }
    tests = sorted((PACKAGE / "test").glob("*.test.js"))
    said = run(program, "--test", "--test-reporter=spec", *tests, folder=PACKAGE, **environment)
    assert "fail 0" in said
    assert "pass 0" not in said
    assert f"v{version}" == run(program, "--version", folder=tmp_path).strip()
    _check_files(tmp_path)


def _check_files(folder: Path) -> None:
    """Read what the client has written with numpy."""
    floats = [0, -0.0, 1.5, -2.25, 65504, 6.1e-5]
    whole = {f"int{8 * size}": size for size in (1, 2, 4, 8)} | {
        f"uint{8 * size}": size for size in (1, 2, 4, 8)
    }
    expected = {
        "float32": np.array(floats, np.float32),
        "float64": np.array(floats),
        **{name: np.array([np.iinfo(name).min, np.iinfo(name).max], name) for name in whole},
        "bool": np.array([True, False, True]),
        "float16": np.array([1, -2], np.float16),
        "bfloat16": np.array([b"\x80\x3f", b"\x00\xc0"], "V2"),
        "part": np.array([[1, 2], [3, 4]], np.float32),
        "scalar": np.array(7.0),
        "many": np.zeros((0, 123456789, 1, 1, 1, 1, 1, 1), np.float32),
    }
    assert {path.stem for path in folder.glob("made-*.npy")} == {f"made-{name}" for name in expected}
    for name, array in expected.items():
        read = np.load(folder / f"made-{name}.npy")
        assert (read.dtype, read.shape) == (array.dtype, array.shape), name
        assert read.tobytes() == array.tobytes(), name
