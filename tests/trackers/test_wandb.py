from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger

from lossd_client import Comparison, LossClient, Report
from lossd_client.loggers import log
from trackers.wandb_file import finished

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # wandb leaves temporary folders to the end
]


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    """End wandb's process with these tests."""
    yield
    wandb.teardown()


class Run:
    """What an offline run has written, read from its file."""

    def __init__(self, folder: Path) -> None:
        self.history: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.artifacts: dict[str, list[dict[str, Path]]] = {}
        self.folder = folder
        self.id = folder.name.rpartition("-")[2]
        for record in finished(folder):
            kind = record.WhichOneof("record_type")
            if kind == "history":
                self.history.append(items(record.history.item))
            elif kind == "config":
                self.config |= items(record.config.update)
            elif kind == "artifact":
                files = {each.path: Path(each.local_path) for each in record.artifact.manifest.contents}
                self.artifacts.setdefault(record.artifact.name, []).append(files)

    def table(self, place: int, name: str) -> dict[str, Any]:
        text = (self.folder / "files" / self.history[place][f"{name}.path"]).read_text()
        found: dict[str, Any] = json.loads(text)
        return found


def items(pairs: Iterable[Any]) -> dict[str, Any]:
    return {".".join(each.nested_key) or each.key: json.loads(each.value_json) for each in pairs}


def logged(folder: Path, write: Callable[[wandb.Run], object]) -> Run:
    """Return what a run has after some writing."""
    with wandb.init(project="test", dir=folder) as run:
        write(run)
    (found,) = (folder / "wandb").glob("offline-run-*")
    return Run(found)


def test_figures_are_the_reports(tmp_path: Path, report: Report) -> None:
    run = logged(tmp_path, lambda run: log(report, to=run, step=4))
    (logged_at,) = run.history
    assert logged_at["_step"] == 4
    low, high = report.interval()
    figures = {"mean": report.mean, "low": low, "high": high, "stderr": report.stderr, "rows": 40}
    figures |= {f"class/{i}/mean": each.mean for i, each in enumerate(report.classes)}
    figures |= {"group/rear_left/mean": report.groups["rear_left"].mean}
    figures |= {"row_quantile/p99_9": report.row_quantile(0.999), "paired/difference": report.paired.mean}
    figures |= {
        f"calibration/{name}": getattr(report.calibration, name) for name in ("brier", "ece", "auroc")
    }
    assert {name: logged_at[f"lossd/{name}"] for name in figures} == figures
    groups = [value for name, value in logged_at.items() if name.startswith("lossd/group/")]
    assert sorted(groups) == sorted(each.mean for each in report.groups.values())
    params = run.config["lossd"]
    assert {name: params[name] for name in report.params} == json.loads(json.dumps(dict(report.params)))
    assert (params["loss"], params["kernel"]) == ("focal", report.kernel)


def test_tables_histograms_and_the_diagram_are_wandbs_own(tmp_path: Path, report: Report) -> None:
    run = logged(tmp_path, lambda run: log(report, to=wandb))
    table = run.table(0, "lossd/top_rows")
    assert table["columns"] == ["index", "id", "loss"]
    assert table["data"] == [[each.index, each.id, each.loss] for each in report.top_rows]
    assert run.history[0]["lossd/top_rows._type"] == "table-file"
    for name, histogram in (("losses", report.element_histogram), ("row_losses", report.row_histogram)):
        assert run.history[0][f"lossd/{name}._type"] == "histogram"
        counts, edges = (run.history[0][f"lossd/{name}.{part}"] for part in ("values", "bins"))
        assert [count for count in counts if count] == [count for *_, count in histogram.bins]
        assert (edges[0], edges[-1]) == (histogram.bins[0][0], histogram.bins[-1][1])
    diagram = run.table(0, "lossd/reliability_diagram_table")["data"]
    assert diagram == [
        [each.probability, each.rate] for each in report.calibration.reliability() if each.count
    ]


def test_the_report_is_an_artifact_with_a_version_a_step(
    tmp_path: Path, report: Report, client: LossClient
) -> None:
    other = client.report("bce", [0.0, 1.0], [0, 1])

    def write(run: wandb.Run) -> None:
        log(report, to="wandb", step=1)
        log(other, to=run, step=2)
        log(other, to=run, step=3, prefix="test set/b")

    run = logged(tmp_path, write)
    loaded = [Report.load(files["report.json"]) for files in run.artifacts[f"lossd-{run.id}"]]
    assert loaded == [report, other]
    assert loaded[0].run == report.run
    assert set(run.artifacts[f"lossd-{run.id}"][0]) >= {"report.html", "top_rows.csv", "means.csv"}
    (name,) = (
        name for name in run.artifacts if name.startswith("test_set_") and name.endswith(f"-b-{run.id}")
    )
    assert Report.load(run.artifacts[name][0]["report.json"]) == other
    assert [each["_step"] for each in run.history] == [1, 2, 3]
    assert run.history[1]["lossd/mean"] == other.mean
    assert run.config["lossd"]["loss"] == "bce"


def test_numbers_that_are_not_finite(tmp_path: Path, undefined: Report) -> None:
    run = logged(tmp_path, lambda run: log(undefined, to=run))
    assert math.isnan(run.history[0]["lossd/mean"])
    assert run.history[0]["lossd/group/1/mean"] == math.inf
    assert "lossd/losses._type" in run.history[0]
    assert "lossd/row_losses._type" not in run.history[0]  # none is finite
    assert [row[1] for row in run.table(0, "lossd/top_rows")["data"]] == ["NaN", "Infinity"]
    (files,) = run.artifacts[f"lossd-{run.id}"]
    assert Report.load(files["report.json"]) == undefined


def test_a_histogram_of_more_bins_than_wandb_takes(tmp_path: Path, client: LossClient) -> None:
    x = np.geomspace(1e-30, 1e30, 4000)
    found = client.report("bce", x, np.zeros(4000))
    assert len(found.element_histogram.bins) > 512
    run = logged(tmp_path, lambda run: log(found, to=run))
    counts, edges = (run.history[0][f"lossd/losses.{part}"] for part in ("values", "bins"))
    assert len(counts) <= 512
    assert sum(counts) == 4000
    assert all(low <= high for low, high in pairwise(edges))
    losses = sorted(np.asarray(client.bce(x, np.zeros(4000), reduction="none").loss).tolist())
    assert edges[0] <= losses[0]
    assert losses[-1] <= edges[-1]
    reached = 0
    for count, edge in zip(counts, edges[1:], strict=True):
        reached += count
        assert sum(loss <= edge for loss in losses) == reached


def test_long_tables_are_cut_and_whole_in_the_artifact(tmp_path: Path, client: LossClient) -> None:
    x = np.random.default_rng(0).normal(size=1500)
    found = client.report("bce", x, x > 0, top=1500)
    run = logged(tmp_path, lambda run: log(found, to=run))
    assert len(run.table(0, "lossd/top_rows")["data"]) == 1000
    (files,) = run.artifacts[f"lossd-{run.id}"]
    assert len(files["top_rows.csv"].read_text().splitlines()) == 1501


def test_a_logger_of_lightning(tmp_path: Path, report: Report) -> None:
    run = logged(tmp_path, lambda run: log(report, to=WandbLogger(experiment=run)))
    assert run.history[0]["lossd/mean"] == report.mean


def test_without_a_run_it_says_what_to_do(report: Report) -> None:
    with pytest.raises(RuntimeError, match=r"call wandb\.init\(\) first"):
        log(report, to=wandb)


def test_a_comparison_has_its_verdict(tmp_path: Path, comparison: Comparison) -> None:
    run = logged(tmp_path, lambda run: log(comparison, to=run))
    whole = comparison.whole
    (found,) = run.history
    assert [found[f"lossd/comparison/{name}"] for name in ("difference", "low", "high", "worse_rows")] == [
        whole.difference,
        *whole.interval,
        whole.worse,
    ]
    assert found["lossd/comparison/regressed"] == 1
    assert run.config["lossd"]["verdict"] == "regressed"
    columns = run.table(0, "lossd/changes")["columns"]
    verdicts = [row[columns.index("verdict")] for row in run.table(0, "lossd/changes")["data"]]
    assert verdicts == [change.verdict for _, change in comparison.changes()]
    (files,) = run.artifacts[f"lossd-{run.id}"]
    assert json.loads(files["comparison.json"].read_text()) == comparison.to_dict()
    assert files["comparison.md"].read_text() == comparison.to_markdown()
