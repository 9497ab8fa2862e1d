"""A long evaluation outlives its server's worker, and its server."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd_client import LossClient, LossdError, LossResult, Progress, Retry
from lossd_client.local import free_port

pytestmark = pytest.mark.slow

PATIENT = Retry(attempts=60, longest_wait=2.0)
PAIRS = [(np.full((500, 40), x), np.full((500, 40), x > 0)) for x in np.linspace(-3, 3, 40)]


@contextmanager
def server_at(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOSSD_")}
    environment |= {"LOSSD_DEVICE": "cpu", "LOSSD_USAGE_FILE": str(folder / "usage.sqlite3")}
    command = [sys.executable, "-m", "lossd", "serve", "--port", str(port)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _answers(client: LossClient) -> bool:
    try:
        return client.ready()
    except LossdError:
        return False


def _wait_until_ready(client: LossClient) -> None:
    ends = time.monotonic() + 60
    while not _answers(client):
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_batches_are_scored_to_the_end_and_each_once(tmp_path: Path) -> None:
    port = free_port()
    rows: list[int] = []
    going_on, found = threading.Event(), list[LossResult]()

    def batches() -> Iterator[Any]:
        for number, pair in enumerate(PAIRS):
            if number in (10, 20, 30):
                going_on.wait(60)
                going_on.clear()
            yield pair

    def show(progress: Progress) -> None:
        rows.append(progress.rows)

    with LossClient(f"http://127.0.0.1:{port}", retry=PATIENT, progress=show) as client:
        evaluation = threading.Thread(
            target=lambda: found.append(client.score_batches("focal", batches(), reduction="sum"))
        )
        with server_at(port, tmp_path):
            _wait_until_ready(client)
            evaluation.start()
            os.kill(client.info()["workers"][0]["pid"], signal.SIGKILL)
            going_on.set()  # while there is no worker
            while len(rows) < 15 and evaluation.is_alive():
                time.sleep(0.05)
        going_on.set()  # while there is no server
        with server_at(port, tmp_path):
            going_on.set()
            while evaluation.is_alive():
                going_on.set()
                evaluation.join(0.1)
            whole = client.focal(
                *(np.concatenate(side) for side in zip(*PAIRS, strict=True)), reduction="sum"
            )
    [result] = found
    assert rows[-2:] == [500 * len(PAIRS), 500 * len(PAIRS)]
    assert result.count == whole.count == 500 * 40 * len(PAIRS)
    assert result.sum == whole.sum
