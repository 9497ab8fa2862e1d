from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from lossd_client import LossClient, Report
from lossd_client.loggers import log

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_what_cannot_be_logged_is_said(report: Report) -> None:
    with pytest.raises(TypeError, match="takes a Report, a Comparison or a LossResult, and got a float"):
        log(0.25, to="mlflow")


@pytest.mark.parametrize("to", ["tensorboard", "comet", 3, None, sys])
def test_where_nothing_can_be_logged_is_said(report: Report, to: object) -> None:
    with pytest.raises(TypeError, match=r'writes to "mlflow", "wandb".* and got'):
        log(report, to=to)


def test_a_logger_of_lightning_stands_for_its_writer(report: Report, tmp_path: Path) -> None:
    logger = TensorBoardLogger(str(tmp_path), name="", version="")
    log(report, to=logger, step=1)
    logger.experiment.close()
    assert Report.load(tmp_path / "lossd/step-1/report.json") == report
    with pytest.raises(TypeError, match=r"and got <.*(CSVLogger|ExperimentWriter)"):
        log(report, to=CSVLogger(str(tmp_path)))


def test_files_lie_beside_the_events_in_a_store_too(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with SummaryWriter("memory://bucket/run") as writer:
        log(report, to=writer, step=1)
    store = fsspec.filesystem("memory")
    assert any("tfevents" in name for name in store.ls("/bucket/run", detail=False))
    (tmp_path / "read.json").write_bytes(store.cat("/bucket/run/lossd/step-1/report.json"))
    assert Report.load(tmp_path / "read.json") == report
    assert [each.name for each in tmp_path.iterdir()] == ["read.json"]


def test_csv_files_run_nothing_in_a_spreadsheet(client: LossClient, tmp_path: Path) -> None:
    names = ["=1+1", "@cmd", "+a", "-b", "\tx", "-1.5", "1", "plain"]
    report = client.report("bce", [[float(row)] for row in range(8)], [[0]] * 8, groups={"=name": names})
    with SummaryWriter(str(tmp_path)) as writer:
        log(report, to=writer)
    with (tmp_path / "lossd/means.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    cells = {cell for row in rows for cell in row}
    assert {"'=1+1", "'@cmd", "'+a", "'-b", "'\tx", "-1.5", "1", "plain"} <= cells
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+", "\t"))]


def test_trackers_are_imported_when_they_are_used_and_missing_ones_are_named() -> None:
    script = """
import sys
from lossd_client import Report
from lossd_client.loggers import log
assert not {"mlflow", "pandas", "tensorboard", "tensorboardX", "torch", "wandb"} & set(sys.modules)
for name in ("mlflow", "wandb"):
    sys.modules[name] = None
    try:
        log(None, to=name)
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"log(to='{name}') needs {name}, which is not installed: pip install 'lossd[{name}]'"
        for name in ("mlflow", "wandb")
    ]
