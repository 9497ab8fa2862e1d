"""One report however its rows come: shards by the command, shuffled requests, a stream; and its figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (  # type: ignore[import-untyped] # it has none
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)
from typer.testing import CliRunner

from command import app
from lossd_client import LossClient, Report

SHARDS, ROWS, ANCHORS, CLASSES = 8, 125, 6, 4
random = np.random.default_rng(8)
Y = random.random((SHARDS * ROWS, ANCHORS, CLASSES)) < 0.1
X = (random.normal(-2.0, 1.5, Y.shape) + 3.0 * Y).astype(np.float16)
CAMERA = random.choice(["front", "left", "rear"], size=len(X))
NAME = np.array([f"{row:04}.jpg" for row in random.permutation(len(X))])
PARAMS: dict[str, Any] = {"gamma": 2.0, "alpha": 0.3}
ASKED: dict[str, Any] = {"top": 20, "calibration_bins": "exact"}


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(client: LossClient) -> Report:
    return client.report("focal", X, Y, **PARAMS, **ASKED, groups={"camera": CAMERA}, ids=NAME)


def sections(report: Report | Mapping[str, Any]) -> bytes:
    document = report.to_dict() if isinstance(report, Report) else dict(report)
    del document["run"]
    return json.dumps(document).encode()


@pytest.mark.timeout(600)
def test_a_thousand_shuffled_requests_make_the_same_report(client: LossClient, whole: Report) -> None:
    batches: list[Any] = [
        {"logits": X[at], "targets": Y[at], "groups": {"camera": CAMERA[at]}, "ids": NAME[at]}
        for at in np.random.default_rng(1).permutation(len(X)).reshape(-1, 1)
    ]
    merged = client.score_batches("focal", batches, **PARAMS, **ASKED, sections="all").report
    assert len(batches) == 1000
    assert merged is not None
    assert sections(merged) == sections(whole)


def test_a_stream_makes_the_same_report(client: LossClient, whole: Report) -> None:
    flat: dict[str, Any] = {"logits": X.reshape(len(X), -1), "targets": Y.reshape(len(Y), -1)}
    tensors = {**flat, "groups": {"camera": CAMERA}, "ids": NAME}
    one = client.report("focal", **flat, **PARAMS, **ASKED, groups={"camera": CAMERA}, ids=NAME)
    order = np.random.default_rng(2).permutation(len(X))
    batches: list[Any] = [
        {
            name: {"camera": CAMERA[rows]} if name == "groups" else np.asarray(tensor)[rows]
            for name, tensor in tensors.items()
        }
        for rows in np.array_split(order, 13)
    ]
    streamed = client.score_stream("focal", batches, **PARAMS, **ASKED, sections="all").report
    assert streamed is not None
    assert sections(streamed) == sections(one)
    assert streamed.mean == whole.mean


def test_shards_make_the_same_report_by_one_command(base_url: str, whole: Report, tmp_path: Path) -> None:
    shards = []
    for number in range(SHARDS):
        at = slice(number * ROWS, (number + 1) * ROWS)
        shards.append(str(tmp_path / f"shard-{number}.npz"))
        np.savez(shards[-1], logits=X[at], targets=Y[at], camera=CAMERA[at], name=NAME[at])
    words = ["report", *shards[::-1], "--url", base_url, "--loss", "focal", "--gamma", "2", "--alpha", "0.3"]
    words += ["--by", "camera", "--ids", "name", "--top", "20", "--calibration-bins", "exact"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "report.json")])
    assert done.exit_code == 0, done.output
    made = Report.load(tmp_path / "report.json")
    assert sections(made) == sections(whole)
    assert [one["path"] for one in made.to_dict()["run"]["inputs"]] == shards[::-1]


def test_its_figures_are_those_of_others(client: LossClient, whole: Report) -> None:
    result = client.focal(X, Y, **PARAMS, reduction="none")
    losses, sums = (
        np.asarray(result.loss),
        [math.fsum(row) for row in np.asarray(result.loss).reshape(len(X), -1)],
    )
    total = sum((Fraction(loss) for loss in losses.reshape(-1).tolist()), Fraction())
    assert sum(map(Fraction, whole.to_dict()["totals"]["sum_terms"])) == total
    assert whole.mean == float(total) / losses.size
    spread = np.std(sums, ddof=1) / math.sqrt(len(sums)) / (ANCHORS * CLASSES)
    assert whole.stderr == pytest.approx(spread, rel=1e-12)
    for camera in np.unique(CAMERA):
        theirs = losses[camera == CAMERA]
        assert whole.groups[str(camera)].sum == math.fsum(theirs.reshape(-1))
        for number in range(CLASSES):
            its = whole.groups[str(camera)].classes[number]
            assert its.sum == math.fsum(theirs[..., number].reshape(-1))
    worst = sorted(zip([-each for each in sums], NAME.tolist(), strict=True))[:20]
    assert [(-row.loss, row.id) for row in whole.top_rows] == worst
    scores, truth = X.reshape(-1).astype(float), Y.reshape(-1)
    p = 1 / (1 + np.exp(-scores))
    assert whole.calibration.auroc == pytest.approx(roc_auc_score(truth, scores), rel=1e-12)
    expected = average_precision_score(truth, scores)
    assert whole.calibration.average_precision == pytest.approx(expected, rel=1e-12)
    assert whole.calibration.brier == pytest.approx(brier_score_loss(truth, p), rel=1e-12)
    rate = truth.mean()
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    assert whole.calibration.normalized_entropy == pytest.approx(log_loss(truth, p) / entropy, rel=1e-9)
