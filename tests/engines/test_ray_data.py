"""`lossd.batch.ray` and `lossd score --engine ray` on a cluster of three nodes: the bits of one request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import ray
import ray.data

from engines.cluster import add_node, ray_cluster
from engines.dying import MortalScorer, die_once, slowly, without_image
from lossd.batch import Partial, RowsMissing, Scorer
from lossd.batch import ray as on_ray
from lossd_client import LossClient, LossResult, Report

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = [
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*"),
    pytest.mark.timeout(300),
]

ROWS, CLASSES, SHARDS = 20_000, 6, 8
ASKED: dict[str, Any] = {"gamma": 2.0, "alpha": 0.3}
SECTIONS: Final = ("totals", "classes", "groups", "histogram", "calibration")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    random = np.random.default_rng(20)
    return {
        "logits": random.normal(size=(ROWS, CLASSES)) * 5,
        "targets": (random.random((ROWS, CLASSES)) < 0.2).astype(np.float32),
        "camera": random.choice(["front", "rear", "left", "right"], ROWS),
        "image": random.permutation(ROWS),
    }


@pytest.fixture(scope="module")
def shards(arrays: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for number in range(SHARDS):
        rows = slice(number * ROWS // SHARDS, (number + 1) * ROWS // SHARDS)
        pa.parquet.write_table(table(arrays, rows), folder / f"{number}.parquet", row_group_size=1000)
    return folder


def table(arrays: dict[str, Any], rows: slice) -> pa.Table:
    return pa.table(
        {
            name: pa.FixedSizeListArray.from_arrays(pa.array(array[rows].reshape(-1)), array.shape[1])
            if array.ndim == 2
            else pa.array(array[rows])
            for name, array in arrays.items()
        }
    )


@pytest.fixture(scope="module")
def wanted(arrays: dict[str, Any], base_url: str) -> LossResult:
    """What one request to a server gives."""
    with LossClient(base_url, request_bytes=1 << 30) as client:
        report = client.report(
            "focal",
            arrays["logits"],
            arrays["targets"],
            groups={"camera": arrays["camera"]},
            sections=SECTIONS,
            **ASKED,
        )
        score = client.focal(arrays["logits"], arrays["targets"], **ASKED)
    return replace(score, report=report)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer("focal", sections=SECTIONS, by="camera", **ASKED)


def assert_equal(found: Partial, wanted: LossResult) -> None:
    for name in ("loss", "sum", "count", "sum_terms", "weight_sum_terms", "positives_terms"):
        assert getattr(found.result, name) == getattr(wanted, name), name
    assert without_run(found.report) == without_run(wanted.report)


def without_run(report: Report | None) -> dict[str, Any]:
    assert report is not None
    return {name: each for name, each in report.to_dict().items() if name != "run"}


def test_shards_give_the_bits_of_one_request(
    cluster: Cluster, shards: Path, scorer: Scorer, wanted: LossResult
) -> None:
    assert_equal(on_ray.score(ray.data.read_parquet(str(shards)), scorer), wanted)


@pytest.mark.parametrize("blocks", [1, 13])
def test_blocks_and_their_order_change_no_bit(
    cluster: Cluster, shards: Path, scorer: Scorer, wanted: LossResult, blocks: int
) -> None:
    data = ray.data.read_parquet(str(shards)).repartition(blocks).random_shuffle(seed=blocks)
    assert_equal(on_ray.score(data, scorer, rows=ROWS), wanted)


def test_ids_name_the_worst_rows_whatever_their_order(
    cluster: Cluster, shards: Path, arrays: dict[str, Any]
) -> None:
    scorer = Scorer("bce", ids="image", top=5)
    whole = scorer.score(table(arrays, slice(None)))
    data = ray.data.read_parquet(str(shards)).random_shuffle(seed=3)
    assert on_ray.score(data, scorer, rows=ROWS) == whole


def test_rows_without_ids_are_named_by_their_place(
    cluster: Cluster, shards: Path, arrays: dict[str, Any]
) -> None:
    scorer = Scorer("bce", sections="top", top=5)
    assert on_ray.score(ray.data.read_parquet(str(shards)), scorer) == scorer.score(
        table(arrays, slice(None))
    )


def test_a_lost_block_is_noticed(cluster: Cluster, shards: Path, scorer: Scorer) -> None:
    data = ray.data.read_parquet(str(shards))
    how = {"batch_format": "pyarrow", "batch_size": None, "fn_args": (7,)}
    with pytest.raises(RowsMissing, match=f"rows were scored, and there are {ROWS}"):
        on_ray.score(data.map_batches(without_image, **how), scorer, rows=data.count())


def test_a_killed_task_changes_no_bit(
    cluster: Cluster, shards: Path, scorer: Scorer, wanted: LossResult, tmp_path: Path
) -> None:
    marker = tmp_path / "died"
    how = {"batch_format": "pyarrow", "batch_size": None, "fn_args": (str(marker),)}
    data = ray.data.read_parquet(str(shards)).map_batches(die_once, **how)
    assert_equal(on_ray.score(data, scorer, rows=ROWS), wanted)
    assert marker.exists()


def test_actors_and_a_killed_one_change_no_bit(
    cluster: Cluster, shards: Path, wanted: LossResult, tmp_path: Path
) -> None:
    marker = tmp_path / "died"
    scorer = MortalScorer(str(marker), loss="focal", sections=SECTIONS, by="camera", **ASKED)
    assert_equal(on_ray.score(ray.data.read_parquet(str(shards)), scorer, gpus=1), wanted)
    assert marker.exists()


def test_a_killed_node_changes_no_bit(
    cluster: Cluster, shards: Path, scorer: Scorer, wanted: LossResult, tmp_path: Path
) -> None:
    node = (
        cluster.worker_nodes[-1] if isinstance(cluster.worker_nodes, list) else list(cluster.worker_nodes)[-1]
    )

    def kill() -> None:
        until = time.monotonic() + 100
        while len(list(tmp_path.iterdir())) < 8 and time.monotonic() < until:
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)

    how = {"batch_format": "pyarrow", "batch_size": None, "fn_args": (str(tmp_path),)}
    data = ray.data.read_parquet(str(shards)).repartition(40).map_batches(slowly, **how)
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = on_ray.score(data, scorer, rows=ROWS)
    finally:
        killer.join()
        add_node(cluster)
    assert_equal(found, wanted)


def command(cluster: Cluster, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a command on the cluster."""
    return subprocess.run(
        [sys.executable, "-m", "lossd", *map(str, args)],
        env={**os.environ, "RAY_ADDRESS": cluster.address},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


FOCAL = ("--loss", "focal", "--gamma", "2", "--alpha", "0.3", "--json")


def test_the_command_scores_shards_on_the_cluster(cluster: Cluster, shards: Path, wanted: LossResult) -> None:
    done = command(cluster, "score", shards, "--engine", "ray", *FOCAL)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loss"] == wanted.loss


def test_the_command_reports_shards_on_the_cluster(
    cluster: Cluster, shards: Path, wanted: LossResult
) -> None:
    asked = ("--by", "camera", "--sections", ",".join(SECTIONS))
    done = command(cluster, "report", shards, "--engine", "ray", *asked, *FOCAL)
    assert done.returncode == 0, done.stderr
    assert without_run(Report(json.loads(done.stdout))) == without_run(wanted.report)


def test_a_cluster_that_is_not_there_is_said(cluster: Cluster, shards: Path) -> None:
    done = command(cluster, "score", shards, "--engine", "ray://127.0.0.1:1", *FOCAL)
    assert (done.returncode, done.stdout) == (3, "")
    assert "--engine ray://127.0.0.1:1 cannot be reached" in done.stderr
