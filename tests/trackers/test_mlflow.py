from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from lightning.pytorch.loggers import MLFlowLogger
from mlflow.exceptions import MlflowException

from lossd_client import Comparison, LossClient, Report
from lossd_client.loggers import log

pytestmark = [
    pytest.mark.slow,
    # mlflow's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:For backward compatibility, 'str' dtypes are included"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database, which takes seconds to make, and a folder for artifacts."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("test", artifact_location=str(folder / "a")))
    return uri


@pytest.fixture
def run(store: str) -> Iterator[mlflow.ActiveRun]:
    with mlflow.start_run() as started:
        yield started


def data_of(run: mlflow.ActiveRun) -> mlflow.entities.RunData:
    return mlflow.get_run(run.info.run_id).data


def artifact(run: mlflow.ActiveRun, name: str, folder: Path) -> Path:
    return Path(
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=name, dst_path=folder)
    )


def test_figures_are_the_reports(run: mlflow.ActiveRun, report: Report) -> None:
    log(report, to=mlflow)
    metrics, (low, high) = data_of(run).metrics, report.interval()
    assert [metrics[f"lossd/{name}"] for name in ("mean", "low", "high", "stderr", "rows", "sum")] == [
        report.mean,
        low,
        high,
        report.stderr,
        40,
        report.sum,
    ]
    assert [metrics[f"lossd/class/{i}/mean"] for i in range(3)] == [each.mean for each in report.classes]
    groups = {name: value for name, value in metrics.items() if name.startswith("lossd/group/")}
    assert sorted(groups.values()) == sorted(each.mean for each in report.groups.values())
    assert groups["lossd/group/rear_left/mean"] == report.groups["rear_left"].mean
    assert metrics["lossd/quantile/p99"] == report.quantile(0.99)
    assert metrics["lossd/row_quantile/p99_9"] == report.row_quantile(0.999)
    for name in ("brier", "ece", "auroc", "average_precision"):
        assert metrics[f"lossd/calibration/{name}"] == getattr(report.calibration, name)
    assert metrics["lossd/calibration/auroc_high"] == report.calibration.auroc_bounds[1]
    assert metrics["lossd/paired/difference"] == report.paired.mean
    assert (metrics["lossd/paired/low"], metrics["lossd/paired/high"]) == report.paired.interval()


def test_the_run_has_the_parameters_and_the_report(
    run: mlflow.ActiveRun, report: Report, tmp_path: Path
) -> None:
    log(report, to="mlflow", prefix="val/best model")
    params = data_of(run).params
    (name,) = {key.rpartition("/")[0] for key in params}
    assert name.startswith("val/best_model_")
    assert params[f"{name}/loss"] == "focal"
    assert {key.rpartition("/")[2]: value for key, value in params.items() if not key.endswith("/loss")} == {
        key: str(value) for key, value in report.params.items()
    }
    assert data_of(run).tags[f"{name}/kernel"] == report.kernel
    loaded = Report.load(artifact(run, f"{name}/report.json", tmp_path))
    assert loaded == report
    assert loaded.run == report.run
    assert artifact(run, f"{name}/report.html", tmp_path).read_text().startswith("<!DOCTYPE html>")


def test_the_worst_rows_are_a_table_of_mlflow(run: mlflow.ActiveRun, report: Report, tmp_path: Path) -> None:
    log(report, to=run)
    table = mlflow.load_table("lossd/top_rows.json", run_ids=[run.info.run_id])
    assert list(table["loss"]) == pytest.approx([each.loss for each in report.top_rows], rel=1e-9)
    with artifact(run, "lossd/top_rows.csv", tmp_path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], float(row["loss"])) for row in rows] == [
        (each.id, each.loss) for each in report.top_rows
    ]


def test_each_step_is_a_point_and_keeps_its_report(
    run: mlflow.ActiveRun, client: LossClient, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(8, 2))
    epochs = [client.report("bce", x * step, x > 0) for step in (1, 2, 3)]
    for step, each in enumerate(epochs):
        log(each, to=mlflow, step=step)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "lossd/mean")
    assert [(each.step, each.value) for each in history] == [(i, each.mean) for i, each in enumerate(epochs)]
    for step, each in enumerate(epochs):
        assert Report.load(artifact(run, f"lossd/step-{step}/report.json", tmp_path)) == each


def test_a_second_report_without_a_step_keeps_the_first(
    run: mlflow.ActiveRun, report: Report, tmp_path: Path
) -> None:
    log(report, to=mlflow)
    log(report, to=mlflow, step=3)
    log(report, to=mlflow)
    for folder in ("lossd", "lossd-2", "lossd/step-3"):
        assert Report.load(artifact(run, f"{folder}/report.json", tmp_path / folder)) == report
    assert len(mlflow.load_table("lossd/top_rows.json", run_ids=[run.info.run_id])) == 5


def test_another_loss_under_the_same_names_is_refused_before_its_figures(
    run: mlflow.ActiveRun, report: Report, undefined: Report
) -> None:
    log(report, to=mlflow)
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        log(undefined, to=mlflow)
    assert data_of(run).metrics["lossd/mean"] == report.mean


def test_numbers_that_are_not_finite(run: mlflow.ActiveRun, undefined: Report, tmp_path: Path) -> None:
    log(undefined, to=mlflow)
    metrics = data_of(run).metrics
    assert math.isnan(metrics["lossd/mean"])
    assert metrics["lossd/group/1/mean"] == np.finfo(float).max  # a database has no infinity
    with artifact(run, "lossd/means.csv", tmp_path).open(newline="") as file:
        means = {row["id"]: float(row["mean"]) for row in csv.DictReader(file)}
    assert means["1"] == math.inf
    assert math.isnan(means["2"])
    assert '"Infinity"' in artifact(run, "lossd/top_rows.json", tmp_path).read_text()
    assert Report.load(artifact(run, "lossd/report.json", tmp_path)) == undefined


def test_more_series_than_a_request_of_mlflow_takes(run: mlflow.ActiveRun, client: LossClient) -> None:
    x = np.random.default_rng(0).normal(size=(600, 400)).astype(np.float32)
    found = client.report("bce", x, x > 0, groups=np.arange(600), sections=["classes", "groups"])
    log(found, to=mlflow)
    metrics = data_of(run).metrics
    assert metrics["lossd/group/599/mean"] == found.groups[599].mean
    assert metrics["lossd/class/399/mean"] == found.classes[399].mean


def test_too_many_series_are_in_the_files_alone(
    run: mlflow.ActiveRun, client: LossClient, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=1200)
    found = client.report("bce", x, x > 0, groups=np.arange(1200), sections=["groups"])
    with pytest.warns(UserWarning, match="the means of 1200 groups") as caught:
        log(found, to=mlflow)
    assert caught[0].filename == __file__
    assert not [name for name in data_of(run).metrics if "group" in name]
    with artifact(run, "lossd/means.csv", tmp_path).open(newline="") as file:
        assert sum(row["kind"] == "group" for row in csv.DictReader(file)) == 1200


def test_results_with_and_without_a_report(run: mlflow.ActiveRun, client: LossClient) -> None:
    x = np.random.default_rng(0).normal(size=(6, 2))
    plain = client.focal(x, x > 0, gamma=1.0)
    log(plain, to=mlflow)
    log(client.bce(x, x > 0, reduction="none"), to=mlflow, prefix="each")
    data = data_of(run)
    assert data.metrics["lossd/loss"] == float(plain)
    assert data.metrics["lossd/sum"] == plain.sum
    assert data.params["lossd/gamma"] == "1.0"
    assert data.metrics["each/count"] == 12
    assert "each/loss" not in data.metrics


def test_a_comparison_has_its_verdict(run: mlflow.ActiveRun, comparison: Comparison, tmp_path: Path) -> None:
    log(comparison, to=mlflow)
    data, whole = data_of(run), comparison.whole
    assert data.tags["lossd/verdict"] == "regressed"
    assert data.params["lossd/max_regression"] == "0.1%"
    assert data.metrics["lossd/comparison/relative_low"] == whole.relative_interval[0]
    assert data.metrics["lossd/comparison/new"] == whole.new
    assert data.metrics["lossd/comparison/group/1.5/difference"] == comparison.groups["1.5"].difference
    table = mlflow.load_table("lossd/changes.json", run_ids=[run.info.run_id])
    assert list(table["verdict"]) == [change.verdict for _, change in comparison.changes()]
    saved = json.loads(artifact(run, "lossd/comparison.json", tmp_path).read_text())
    assert saved == comparison.to_dict()


def test_a_finished_run_and_a_logger_of_lightning(store: str, report: Report) -> None:
    with mlflow.start_run() as finished:
        pass
    logger = MLFlowLogger("test", tracking_uri=store)
    log(report, to=mlflow.get_run(finished.info.run_id))
    log(report, to=logger)
    assert data_of(finished).metrics["lossd/mean"] == report.mean
    assert mlflow.get_run(logger.run_id).data.metrics["lossd/mean"] == report.mean


def test_a_run_is_started_where_none_is_active(store: str, report: Report) -> None:
    log(report, to=mlflow)
    started = mlflow.active_run()
    mlflow.end_run()
    assert data_of(started).metrics["lossd/mean"] == report.mean
