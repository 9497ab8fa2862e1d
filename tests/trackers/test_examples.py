"""The examples for cleanlab and FiftyOne, with the real packages."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossd_client import Report
from lossd_client.local import free_port

ROOT = Path(__file__).parents[2]
FIFTYONE = ROOT / ".trackers/fiftyone"
MONGOD = FIFTYONE / "database/fiftyone/db/bin/mongod"

pytestmark = pytest.mark.slow


def test_cleanlab_and_the_worst_rows_find_wrong_labels(base_url: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples/cleanlab_labels.py", base_url], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    worst, cleanlab, both = (
        list(map(int, re.findall(r"\d+", line)[-3:])) for line in done.stdout.splitlines()
    )
    assert (worst[1:], cleanlab[1], both[1]) == ([35, 89], 35, 35)
    assert min(worst[0], cleanlab[0]) >= both[0] >= 28
    assert both[2] < min(worst[2], cleanlab[2])  # which is worth it: fewer rows to look at


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """A MongoDB of FiftyOne's, on a free port of this machine."""
    if not MONGOD.exists():
        pytest.skip("FiftyOne is not installed: make fiftyone installs it on Linux")
    MONGOD.chmod(0o755)
    port = free_port()
    (tmp_path / "data").mkdir()
    process = subprocess.Popen(
        [
            MONGOD,
            "--dbpath",
            tmp_path / "data",
            "--port",
            str(port),
            "--bind_ip",
            "127.0.0.1",
            "--nounixsocket",
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until_open(port, process)
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("the database does not listen")


def test_fiftyone_shows_the_worst_rows(base_url: str, database: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "FIFTYONE_DATABASE_URI": database,
        "FIFTYONE_DATABASE_VALIDATION": "false",  # the database is an older one than the package's own
        "FIFTYONE_DO_NOT_TRACK": "true",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT / "client"),
    }
    script, example = Path(__file__).with_name("fiftyone_check.py"), ROOT / "examples/fiftyone_worst_rows.py"
    done = subprocess.run(
        [FIFTYONE / "bin/python", script, base_url, example, tmp_path],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "5 of 40 samples have the tag worst"
    figures = json.loads((tmp_path / "found.json").read_text())
    assert figures["view"] == figures["asked"]
    assert figures["asked"] == [[row.id, row.loss] for row in Report.load(tmp_path / "report.json").top_rows]
    assert figures["tags"] == {"worst": 5}
    assert sorted(figures["tagged"]) == sorted(row_id for row_id, _ in figures["asked"])
    assert figures["without"] == 35
