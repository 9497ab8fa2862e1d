"""Reports of as many groups as there may be: others' small requests do not wait for their documents."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

from arrow_stream import stream
from faults.asked import SMALL, pair
from faults.load import Load, Plan
from faults.observe import port_of
from live_server import live_server
from lossd.settings import Settings

pytestmark = pytest.mark.alone

ROWS = 1 << 19
SECONDS = 0.3
"""The longest wait of a small request. It was 0.7 to 1.2 where groups were tuples in a dict."""


def test_small_requests_beside_reports_of_many_groups(tmp_path: Path) -> None:
    cells = Settings.model_fields["max_report_cells"].default
    logits, targets = pair(ROWS, 4)
    numbers = np.random.default_rng(0).permutation(ROWS) % cells
    names = np.array([f"place/{number:07}" for number in range(cells)])
    body = stream({"logits": logits, "targets": targets, "group.place": names[numbers]}, 1 << 16)
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    with live_server(tmp_path) as server, Load() as load, httpx.Client(timeout=60) as client:
        load.start(Plan(port_of(server), SMALL, rate=200))
        for _ in range(3):
            answer = client.post(f"{server.url}/focal?report=groups", content=body, headers=headers)
            assert answer.status_code == 200, answer.text[:300]
        shots = load.finish(stop=True)
    groups = answer.json()["report"]["groups"]
    assert groups["ids"] == [names.tolist()]
    assert groups["rows"] == [ROWS // cells] * cells
    assert {shot.status for shot in shots} == {200}
    assert len(shots) > 200
    assert max(shot.seconds for shot in shots) < SECONDS
