"""The callback of Lightning, with a server that goes away and comes back while a model is trained."""

# ruff: noqa: ANN401 - Lightning's own are of another environment

import csv
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from lossd_client import (
    ConnectionFailed,
    InvalidRequest,
    LossClient,
    Report,
    Request,
    Response,
    TimedOut,
    Timeout,
)
from lossd_client._deferred import Room
from lossd_client._outage import Urgency
from lossd_client.callbacks.lightning import ValidationReport, _EpochReport
from lossd_client.local import free_port
from lossd_client.testing import FakeTransport
from trackers.outages import outage
from trackers.wandb_file import finished

ROWS, BATCH = 21, 6
CHANCE = torch.Generator().manual_seed(1)
X = torch.randn(ROWS, 4, generator=CHANCE)
Y = (X[:, :3] > 0.3).float()


class Linear(LightningModule):  # type: ignore[misc] # of another environment
    """The smallest of models, which remembers the logits of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 3)
        self.seen: list[list[Any]] = []

    def training_step(self, batch: Any, _: int) -> Any:
        return torch.nn.functional.binary_cross_entropy_with_logits(self.layer(batch[0]), batch[1])

    def validation_step(self, batch: Any, number: int, dataloader_idx: int = 0) -> Any:
        if number == 0 and dataloader_idx == 0:
            self.seen.append([])
        logits = self.layer(batch[0])
        self.seen[-1].append(logits.clone())
        return {"logits": logits, "targets": batch[1], "ids": batch[2]}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)

    def loader(self) -> Any:
        return DataLoader(TensorDataset(X, Y, torch.arange(ROWS)), batch_size=BATCH)


class Watching(Callback):  # type: ignore[misc] # likewise
    """Calls something before the batches of some epochs, and notes what can be monitored after each."""

    def __init__(self, before: dict[tuple[int, int], Callable[[], object]]) -> None:
        self.before = before
        self.metrics: list[dict[str, float]] = []

    def on_validation_batch_start(self, trainer: Any, _: Any, __: Any, number: int, ___: int = 0) -> None:
        if not trainer.sanity_checking:
            self.before.get((trainer.current_epoch, number), lambda: None)()

    def on_validation_end(self, trainer: Any, _: Any) -> None:
        if not trainer.sanity_checking:
            self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def fitted(folder: Path, callbacks: list[Any], *, epochs: int, logger: Any = False, **options: Any) -> Any:
    model = Linear()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=callbacks,
        logger=logger,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(each, ModelCheckpoint) for each in callbacks),
        log_every_n_steps=1,
        **options,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*num_workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer.fit(model, model.loader(), model.loader())
    return model, trainer


def sections(report: Report) -> str:
    return json.dumps({name: value for name, value in report.to_dict().items() if name != "run"})


@pytest.fixture
def client() -> Iterator[LossClient]:
    with LossClient(transport=FakeTransport) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _nothing_left_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (folder := tmp_path / "working").mkdir()
    monkeypatch.chdir(folder)
    yield
    assert list(folder.iterdir()) == []


def test_a_training_outlasts_its_server(tmp_path: Path) -> None:
    with outage(tmp_path) as away, LossClient(away.url, retry=None) as client:
        away.end()
        watching = Watching({(1, 2): away.begin, (3, 0): away.end})
        report = ValidationReport("focal", client, gamma=2.0)
        loggers = [TensorBoardLogger(tmp_path / "board", name=""), CSVLogger(tmp_path / "csv", name="")]
        saving = ModelCheckpoint(tmp_path / "saved", monitor="val_focal/mean", save_top_k=1)
        stopping = EarlyStopping("val_focal/mean", check_finite=False, patience=10)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model, trainer = fitted(
                tmp_path,
                [watching, report, saving, stopping],
                epochs=4,
                logger=loggers,
                num_sanity_val_steps=0,
            )
        reports = [
            client.report("focal", torch.cat(seen), Y, gamma=2.0, ids=torch.arange(ROWS))
            for seen in model.seen
        ]
    assert trainer.current_epoch == 4
    said = [str(each.message) for each in told]
    assert sum("the server is away since" in text for text in said) == 1
    assert [text for text in said if "waits for the server" in text] == [
        f"the report of epoch {epoch} waits for the server; it is logged at its own step" for epoch in (1, 2)
    ]
    steps = [4, 8, 12, 16]
    folder = tmp_path / "board" / "version_0"
    for step, wanted in zip(steps, reports, strict=True):
        logged = Report.load(next(folder.glob(f"**/step-{step}/report.json")))
        assert sections(logged) == sections(wanted)
    board = EventAccumulator(str(folder)).Reload()
    assert sorted(each.step for each in board.Scalars("val_focal/mean")) == steps
    rows = csv.DictReader((tmp_path / "csv" / "version_0" / "metrics.csv").read_text().splitlines())
    means = {int(row["step"]): float(row["val_focal/mean"]) for row in rows if row["val_focal/mean"]}
    assert means == {step: each.mean for step, each in zip(steps, reports, strict=True)}
    monitored = [each["val_focal/mean"] for each in watching.metrics]
    assert [math.isnan(each) for each in monitored] == [False, True, True, False]
    assert [monitored[epoch] for epoch in (0, 3)] == [reports[epoch].mean for epoch in (0, 3)]
    assert float(saving.best_model_score) == min(reports[0].mean, reports[3].mean)


def test_what_can_be_monitored_and_the_names(client: LossClient, tmp_path: Path) -> None:
    watching = Watching({})
    report = ValidationReport(
        "bce",
        client,
        prefix="val/loss",
        figures={"auroc": lambda each: each.calibration.auroc, "worst": lambda each: each.top_rows[0].loss},
        probabilities=True,
        tensors=lambda outputs, batch: {
            "probabilities": torch.sigmoid(outputs["logits"]),
            "targets": batch[1],
            "groups": {"half": ["first" if row < 10 else "second" for row in batch[2].tolist()]},
        },
    )
    model, _ = fitted(tmp_path, [report, watching], epochs=1, num_sanity_val_steps=2)
    wanted = client.report("bce", probabilities=torch.sigmoid(torch.cat(model.seen[-1])), targets=Y)
    assert watching.metrics[0] == {
        "val/loss/auroc": pytest.approx(wanted.calibration.auroc, rel=1e-6),
        "val/loss/worst": pytest.approx(wanted.top_rows[0].loss, rel=1e-6),
    }


@pytest.mark.filterwarnings("ignore:the mean divides by the number of losses")
def test_a_loss_of_rows_has_one_id_and_class_a_row(client: LossClient, tmp_path: Path) -> None:
    factors = [1.0, 0.5, 2.0]
    watching = Watching({})
    report = ValidationReport(
        "cross_entropy",
        client,
        class_weight=factors,
        label_smoothing=0.1,
        tensors=lambda outputs, batch: {
            "logits": outputs["logits"],
            "targets": batch[0][:, :3].argmax(dim=1),
            "ids": batch[2],
        },
        figures={"mean": lambda each: each.mean, "worst": lambda each: float(str(each.top_rows[0].id))},
    )
    model, _ = fitted(tmp_path, [report, watching], epochs=2, num_sanity_val_steps=0)
    for seen, metrics in zip(model.seen, watching.metrics, strict=True):
        losses = torch.nn.functional.cross_entropy(
            torch.cat(seen).double(),
            X[:, :3].argmax(dim=1),
            torch.tensor(factors, dtype=torch.float64),
            reduction="none",
            label_smoothing=0.1,
        )
        assert metrics["val_cross_entropy/mean"] == pytest.approx(float(losses.mean()), rel=1e-6)
        assert metrics["val_cross_entropy/worst"] == int(losses.argmax())


def test_several_dataloaders(client: LossClient, tmp_path: Path) -> None:
    watching, report = Watching({}), ValidationReport("focal", client)
    model = Linear()
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[report, watching],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.validate(model, [model.loader(), model.loader()], verbose=False)
    [metrics] = watching.metrics
    assert metrics.keys() == {f"val_focal/{n}/{name}" for n in (0, 1) for name in ("mean", "stderr")}
    assert metrics["val_focal/0/mean"] == metrics["val_focal/1/mean"]


def test_what_the_server_refuses_ends_the_training(client: LossClient, tmp_path: Path) -> None:
    report = ValidationReport("bce", client, tensors=lambda out, _: {**out, "targets": out["targets"] + 1})
    with pytest.raises(InvalidRequest, match="target_out_of_range"):
        fitted(tmp_path, [report], epochs=1, num_sanity_val_steps=0)


def test_mistakes_are_told(client: LossClient, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no parameter 'gamma'"):
        ValidationReport("bce", client, gamma=2.0)
    with pytest.raises(ValueError, match="cannot be joined by per='class'"):
        ValidationReport("dice", client, per="class")
    with pytest.raises(ValueError, match="keep_bytes must be 0 or more"):
        ValidationReport("bce", client, keep_bytes=-1)
    with pytest.raises(ValueError, match="on_error must be"):
        ValidationReport("bce", client, on_error="ignore")  # type: ignore[arg-type] # as it says
    report = ValidationReport("bce", client, tensors=lambda out, _: out["logits"])
    with pytest.raises(TypeError, match="validation_step must return"):
        fitted(tmp_path, [report], epochs=1, num_sanity_val_steps=0)
    report = ValidationReport("bce", client)
    with pytest.warns(UserWarning, match="ends the training while the server is away"):
        fitted(tmp_path, [report, EarlyStopping("val_bce/mean")], epochs=1)


def test_a_server_that_does_not_come_back_is_told_at_the_end(tmp_path: Path) -> None:
    with LossClient(f"http://127.0.0.1:{free_port()}", retry=None) as client:
        report = ValidationReport("bce", client)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            _, trainer = fitted(tmp_path, [report], epochs=2, num_sanity_val_steps=0)
        assert trainer.current_epoch == 2
        said = [str(each.message) for each in told]
        assert sum("the server is away since" in text for text in said) == 1
        assert "epochs without a report, since the server is away or batches were lost: 0, 1" in said


class Flaky(FakeTransport):
    """The fake, which is away when told so."""

    is_away = False

    def send(self, request: Request, timeout: Timeout) -> Response:
        if self.is_away:
            raise ConnectionFailed("there is nobody")
        return super().send(request, timeout)


def test_what_is_late_at_the_end_is_logged_then(tmp_path: Path) -> None:
    transport = Flaky()

    class Ending(Watching):
        def on_fit_end(self, trainer: Any, _: Any) -> None:
            transport.is_away = False

    with LossClient(transport=lambda: transport, retry=None) as client:
        watching = Ending({(1, 1): lambda: setattr(transport, "is_away", True)})
        report = ValidationReport("bce", client, drop_duplicates=True)
        logger = CSVLogger(tmp_path / "csv", name="")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, _ = fitted(tmp_path, [watching, report], epochs=2, logger=logger, num_sanity_val_steps=0)
        wanted = [client.bce(torch.cat(seen), Y) for seen in model.seen]
    rows = csv.DictReader((tmp_path / "csv" / "version_0" / "metrics.csv").read_text().splitlines())
    means = {int(row["step"]): float(row["val_bce/mean"]) for row in rows if row["val_bce/mean"]}
    assert means == {4: float(wanted[0]), 8: float(wanted[1])}


class Hung(Flaky):
    """The fake, which answers nothing while it is away."""

    asked = 0

    def send(self, request: Request, timeout: Timeout) -> Response:
        self.asked += 1
        if self.is_away:
            time.sleep(1.05)
            raise TimedOut("no answer within 1.05 s")
        return super().send(request, timeout)


def test_a_server_that_hangs_does_not_hold_up_a_training(tmp_path: Path) -> None:
    transport = Hung()

    def hang() -> None:
        transport.is_away, transport.asked = True, 0

    with LossClient(transport=lambda: transport, retry=None) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = ValidationReport("bce", client)
        fitted(tmp_path, [Watching({(1, 0): hang}), report], epochs=6, num_sanity_val_steps=0)
    assert transport.asked <= 3  # one at first, one at the end, and one if four seconds have passed


def test_no_rank_has_a_report_without_a_refused_batch() -> None:
    transport = Flaky()
    with LossClient(transport=lambda: transport, retry=None) as client:
        report = _EpochReport("bce", client, Room())
        report.update(X[:6, :3], Y[:6])
        transport.is_away = True
        with pytest.warns(UserWarning, match="the server is away since"):
            report.update(X[6:, :3], Y[6:] + 1)
        transport.is_away = False
        with pytest.raises(InvalidRequest, match="target_out_of_range"):
            report.report(Urgency.SOON)
        assert int(report.metric_state["report_missing"][0]) == 1  # which ranks add up
        assert report.report(Urgency.SOON) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_loses_no_late_epoch(tmp_path: Path, error: type[BaseException]) -> None:
    transport = Flaky()

    def stop() -> None:
        transport.is_away = False
        raise error

    with LossClient(transport=lambda: transport, retry=None) as client:
        watching = Watching({(1, 0): lambda: setattr(transport, "is_away", True), (3, 0): stop})
        report = ValidationReport("bce", client)
        logger = CSVLogger(tmp_path / "csv", name="")
        before = signal.getsignal(signal.SIGINT)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with pytest.raises((SystemExit, RuntimeError)):
                    fitted(tmp_path, [watching, report], epochs=5, logger=logger, num_sanity_val_steps=0)
        finally:
            signal.signal(signal.SIGINT, before)  # Lightning ignores it while it ends
    rows = csv.DictReader((tmp_path / "csv" / "version_0" / "metrics.csv").read_text().splitlines())
    assert [int(row["step"]) for row in rows if row["val_bce/mean"]] == [4, 8, 12]


def test_an_exception_tells_of_epochs_without_a_report(tmp_path: Path) -> None:
    def stop() -> None:
        raise RuntimeError("enough")

    with LossClient(f"http://127.0.0.1:{free_port()}", retry=None) as client:
        report = ValidationReport("bce", client)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(RuntimeError, match="enough"):
                fitted(tmp_path, [report, Watching({(2, 0): stop})], epochs=3, num_sanity_val_steps=0)
    mine = [each for each in told if "epochs without a report" in str(each.message)]
    assert [str(each.message).rpartition(": ")[2] for each in mine] == ["0, 1"]
    assert mine[0].filename == __file__


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # wandb leaves temporary folders to the end
def test_wandb_has_late_reports_at_their_own_steps(tmp_path: Path) -> None:
    transport = Flaky()
    with LossClient(transport=lambda: transport, retry=None) as client:
        away: dict[tuple[int, int], Callable[[], object]] = {
            (1, 0): lambda: setattr(transport, "is_away", True),
            (2, 0): lambda: setattr(transport, "is_away", False),
        }
        logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
        report = ValidationReport("bce", client, sections=["totals"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, _ = fitted(
                tmp_path, [Watching(away), report], epochs=3, logger=logger, num_sanity_val_steps=0
            )
        wandb.finish()
        wanted = {4 * (n + 1): float(client.bce(torch.cat(seen), Y)) for n, seen in enumerate(model.seen)}
    try:
        (folder,) = (tmp_path / "wandb").glob("offline-run-*")
        rows = [
            {".".join(each.nested_key) or each.key: each.value_json for each in record.history.item}
            for record in finished(folder)
            if record.WhichOneof("record_type") == "history"
        ]
    finally:
        wandb.teardown()
    logged = {
        int(row["trainer/global_step"]): float(row["val_bce/mean"]) for row in rows if "val_bce/mean" in row
    }
    assert logged == wanted


def test_a_callback_is_pickled_for_ranks_that_are_spawned() -> None:
    report = ValidationReport("focal", LossClient(transport=FakeTransport), gamma=2.0)
    copied = pickle.loads(pickle.dumps(report))
    with report.client, copied.client:
        assert copied.client is not report.client


RANK = """
import json, os, sys, warnings
import torch
from pathlib import Path
from lightning.pytorch import Trainer
from trackers.test_lightning import Flaky, Linear, Watching
from lossd_client import LossClient
from lossd_client.callbacks.lightning import ValidationReport

warnings.simplefilter("ignore")
rank = int(os.environ.get("LOCAL_RANK", 0))

def away(value):
    Flaky.is_away = value and rank == 1

class Reports(ValidationReport):
    def _log(self, epoch, report):
        got.append([epoch.number, epoch.step, {**report.to_dict(), "run": None}])

got = []
with LossClient(transport=Flaky, retry=None) as client:
    watching = Watching({(0, 1): lambda: away(True), (1, 0): lambda: away(False)})
    model = Linear()
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
        callbacks=[watching, Reports("focal", client, gamma=2.0)],
    )
    trainer.fit(model, model.loader(), model.loader())
    weights = [model.layer.weight.detach().tolist(), model.layer.bias.detach().tolist()]
    seen = [torch.cat(each).tolist() for each in model.seen]
    Path(sys.argv[1], f"{rank}.json").write_text(json.dumps([got, watching.metrics, seen]))
"""


def test_ranks_count_every_row_once(client: LossClient, tmp_path: Path) -> None:
    (script := tmp_path / "rank.py").write_text(RANK)
    paths = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    wanted = []
    for epoch in range(2):
        logits = torch.zeros(ROWS, 3)
        for rank, (_, _, seen) in enumerate(ranks):  # the last place of rank 1 is row 0's again
            logits[[*range(rank, ROWS, 2), 0][: len(seen[epoch])]] = torch.tensor(seen[epoch])
        wanted.append(client.report("focal", logits, Y, gamma=2.0, ids=torch.arange(ROWS)))
    for logged, monitored, _ in ranks:
        assert logged == [
            [epoch, step, {**each.to_dict(), "run": None}]
            for epoch, step, each in zip((0, 1), (2, 4), wanted, strict=True)
        ]
        assert math.isnan(monitored[0]["val_focal/mean"])
        assert monitored[1]["val_focal/mean"] == pytest.approx(wanted[1].mean, rel=1e-7)
