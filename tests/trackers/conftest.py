"""Tests with trackers and trainers, which are in the environment of `make trackers` alone.

They reach no network but this machine's, and leave nothing behind: whatever writes to HOME or to the working
folder does so in a folder that is gone afterwards.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd_client import Comparison, LossClient, Report, compare

collect_ignore_glob = [] if find_spec("mlflow") else ["test_*.py", "*/test_*.py"]

QUIET = {
    "DO_NOT_TRACK": "1",
    "KERAS_BACKEND": "torch",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB__DISABLE_STATS": "true",
}
FOLDERS = ("HOME", "KERAS_HOME", "MPLCONFIGDIR", "WANDB_ARTIFACT_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
LOCAL = ("127.", "::1", "localhost")


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep trackers quiet, in folders of their own, and see that the working folder stays as it was."""
    working = Path.cwd()
    before = set(working.iterdir())
    made = tmp_path_factory.mktemp("trackers")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        for name in FOLDERS:
            (made / name).mkdir()
            patch.setenv(name, str(made / name))
        for name in ("WANDB_DATA_DIR", "WANDB_DIR"):
            patch.setenv(name, str(made))
        yield
    left = {each.name for each in set(working.iterdir()) - before}
    assert left <= {".pytest_cache", ".hypothesis", "__pycache__"}


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """See that nothing in this process connects to another machine, also where an error would be hidden."""
    reached: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: tuple[Any, ...] | str) -> None:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(LOCAL):
            reached.append(address)
            raise OSError(f"a test connects to {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", watched)
        yield
    assert reached == []


@pytest.fixture(scope="session")
def client(base_url: str) -> Iterator[LossClient]:
    """A client of a server."""
    with LossClient(base_url) as opened:
        yield opened


@pytest.fixture(scope="session")
def report(client: LossClient) -> Report:
    """A report with every section, and groups whose names trackers would confuse or refuse."""
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(40, 3)), rng.random((40, 3)) < 0.3
    names = np.array(["rear left", "rear_left", "käse", "../x:y", "1.5"] * 8)
    return client.report(
        "focal",
        logits,
        targets,
        gamma=2.0,
        groups=names,
        ids=[f"{number:03}" for number in range(40)],
        baseline=logits + 0.1,
        top=5,
    )


@pytest.fixture(scope="session")
def undefined(client: LossClient) -> Report:
    """A report with an infinite mean, a NaN, and standard errors that are not known."""
    logits = np.array([[np.inf, 1.0], [np.nan, 2.0]])
    return client.report("bce", logits, np.zeros((2, 2)), allow_nan=True, groups=[1, 2], top=2)


@pytest.fixture(scope="session")
def comparison(client: LossClient) -> Comparison:
    """A regression, by the same groups."""
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(200, 3)), rng.random((200, 3)) < 0.3
    names = np.array(["rear left", "rear_left", "käse", "../x:y", "1.5"] * 40)
    worse = logits + np.where(targets, -0.5, 0.5)
    return compare(
        client.report("bce", worse, targets, groups=names, baseline=logits), by="group", max_regression="0.1%"
    )
