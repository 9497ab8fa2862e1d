"""A server whose CPU computes with torch says what that costs, and gives the native kernel's bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from live_server import live_server
from lossd_client import LossClient


def test_it_says_so_and_gives_the_same_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 6, (500, 9)).astype(np.float32), rng.random((500, 9))
    found = []
    for kernel in ("auto", "torch"):
        folder = tmp_path / kernel
        folder.mkdir()
        with live_server(folder, kernel=kernel) as server, LossClient(server.url) as client:
            found.append(
                [
                    client.focal(logits, targets, gamma=2.3).sum_terms,
                    client.bce(logits, targets, axis=0).loss.tolist(),  # type: ignore[union-attr]
                ]
            )
            notes = server.info()["notes"]
            doctor = subprocess.run(
                [sys.executable, "-m", "lossd", "doctor", "--url", server.url],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            log = server.log.read_text()
            for said in (str(notes), doctor, log):
                assert ("torch computes on the CPU" in said) is (kernel == "torch")
    assert found[0] == found[1]
