"""Metrics that outlast a real server, and ranks of which one does not reach it."""

import json
import math
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from client.test_away import BATCHES, NAMES, REPORT, X, Y, missing, sections, updated
from live_server import live_server
from lossd_client import LossClient
from lossd_client.local import free_port
from lossd_client.testing import FakeTransport
from lossd_client.torchmetrics import RemoteBCE, RemoteFocal, RemoteReport


@pytest.mark.slow
def test_a_server_that_was_ended_and_started_again(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with LossClient(url, retry=None) as client, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plain, focal = RemoteBCE(client, on_error="warn"), RemoteFocal(client, gamma=2.0, on_error="warn")
        report = RemoteReport("focal", client, **REPORT, on_error="warn")
        metrics = (plain, focal, report)
        with live_server(tmp_path, port=port) as server:
            for metric in metrics:
                updated(metric, BATCHES[:1])
            server.stop()
            for metric in metrics:
                updated(metric, BATCHES[1:3])
            assert math.isnan(plain.compute())
            assert math.isnan(plain.bce_sum)
            assert report.compute() is None
        with live_server(tmp_path, port=port):
            time.sleep(1.1)  # it is not asked at once again
            for metric in metrics:
                updated(metric, BATCHES[3:])
            assert [missing(metric) for metric in metrics] == [0, 0, 0]
            assert float(plain.compute()) == float(client.bce(X, Y))
            assert float(focal.compute()) == float(client.focal(X, Y, gamma=2.0))
            assert sections(report.compute()) == sections(client.report("focal", X, Y, **REPORT, ids=NAMES))
    said = [str(each.message) for each in told]
    assert sum("the server is away since" in text for text in said) == 1
    assert sum("batches are missing" in text for text in said) == 2


RANK = """
import json, sys, warnings
import torch
from torch import distributed
from client.test_away import BATCHES, NAMES, REPORT, Shared, X, Y
from lossd_client import LossClient
from lossd_client._outage import Urgency
from lossd_client._outage import Urgency
from lossd_client.torchmetrics import RemoteBCE, RemoteReport

warnings.simplefilter("ignore")
rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
with LossClient(transport=Shared, retry=None) as client:
    mean = RemoteBCE(client, on_error="warn")
    report = RemoteReport("focal", client, **REPORT, drop_duplicates=True, on_error="warn")
    rows = list(range(rank, 20, 2)) + [0]  # rank 1 has a row of rank 0's, as a sampler pads
    for number, part in enumerate([rows[:4], rows[4:]]):
        Shared.is_down = rank == 1 and number == 1
        mean.update(X[part], Y[part])
        report.update(X[part], Y[part], ids=[NAMES[row] for row in part])
    early = [str(float(mean.compute())), str(report.compute())]
    Shared.is_down = False
    report._send_kept(Urgency.SOON)
    Shared.is_down = rank == 1  # while rank 1 scores its last batch again
    early.append(str(report.compute()))
    Shared.is_down = False
    late = [float(mean.compute()).hex(), json.dumps({**report.compute().to_dict(), "run": None})]
print(json.dumps([early, late]))
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_ranks_know_what_another_lacks(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "meeting")],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=90) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    rows: Tensor = torch.tensor([*range(20), 0, 0])
    with LossClient(transport=FakeTransport) as client:
        expected = [
            float(client.bce(X[rows], Y[rows])).hex(),
            {**client.report("focal", X, Y, **REPORT, ids=NAMES).to_dict(), "run": None},
        ]
    for rank, (out, err) in zip(ranks, said, strict=True):
        assert rank.returncode == 0, err
        early, (mean, report) = json.loads(out)
        assert early == ["nan", "None", "None"]
        assert [mean, json.loads(report)] == expected
