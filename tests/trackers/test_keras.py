"""The callback of Keras, with a server that goes away and comes back while a model is trained."""
# ruff: noqa: ANN401 - Keras's own are of another environment

import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

# Keras reads both, and writes its settings, when it is imported.
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = HOME = tempfile.mkdtemp(prefix="keras-")

import keras
import numpy as np
import pytest
import torch
from keras.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from lossd_client import ConnectionFailed, InvalidRequest, LossClient, Report, Request, Response, Timeout
from lossd_client.callbacks.keras import ValidationReport
from lossd_client.local import free_port
from lossd_client.testing import FakeTransport
from trackers.outages import outage

# Of Keras's own: it asks a torch tensor for an array in a way that numpy 2 no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROWS, BATCH = 20, 6
CHANCE = np.random.default_rng(1)
X = CHANCE.normal(size=(ROWS, 4)).astype(np.float32)
Y = (X[:, :3] > 0.3).astype(np.float32)


class Watching(Callback):  # type: ignore[misc] # of another environment
    """Calls something before each epoch's validation, and notes the model's logits."""

    def __init__(self, before: Mapping[int, Callable[[], object]]) -> None:
        super().__init__()
        self.before = before
        self.seen: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.before.get(epoch, lambda: None)()
        batches = [X[start : start + BATCH] for start in range(0, ROWS, BATCH)]
        self.seen.append(np.concatenate([self.model.predict_on_batch(batch) for batch in batches]))


def fitted(callbacks: list[Any], epochs: int) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    return model.fit(X, Y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=callbacks)


def sections(report: Report) -> str:
    return json.dumps({name: value for name, value in report.to_dict().items() if name != "run"})


class Flaky(FakeTransport):
    """The fake, which is away when told so."""

    is_away = False
    asked = 0  # in vain

    def send(self, request: Request, timeout: Timeout) -> Response:
        if self.is_away:
            self.asked += 1
            raise ConnectionFailed("there is nobody")
        return super().send(request, timeout)


@pytest.fixture(scope="module", autouse=True)
def _home() -> Iterator[None]:
    yield
    shutil.rmtree(HOME)


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
    with (
        outage(tmp_path) as away,
        LossClient(away.url, retry=None) as client,
        SummaryWriter(str(tmp_path / "board")) as writer,
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        away.end()
        watching = Watching({1: away.begin, 3: away.end})
        report = ValidationReport((X, Y), "focal", client, gamma=2.0, batch_size=BATCH, to=writer)
        saving = keras.callbacks.ModelCheckpoint(
            str(tmp_path / "best.keras"), monitor="val_focal_mean", mode="min", save_best_only=True
        )
        stopping = keras.callbacks.EarlyStopping("val_focal_mean", mode="min", patience=10)
        history = fitted([watching, report, saving, stopping], epochs=4).history
        reports = [client.report("focal", seen, Y, gamma=2.0) for seen in watching.seen]
    said = [str(each.message) for each in told]
    assert sum("the server is away since" in text for text in said) == 1
    assert sum("waits for the server; it is logged at its own step" in text for text in said) == 2
    means = [each.mean for each in reports]
    assert [math.isnan(each) for each in history["val_focal_mean"]] == [False, True, True, False]
    assert [history["val_focal_mean"][epoch] for epoch in (0, 3)] == [means[0], means[3]]
    assert len(history["loss"]) == 4
    board = EventAccumulator(str(tmp_path / "board")).Reload()
    logged = {each.step: each.value for each in board.Scalars("val_focal/mean")}
    assert logged == {epoch: float(np.float32(mean)) for epoch, mean in enumerate(means)}
    files = {sections(Report.load(path)) for path in (tmp_path / "board").glob("**/report.json")}
    assert files == {sections(each) for each in reports}
    assert saving.best == min(means[0], means[3])


@pytest.mark.parametrize("form", ["arrays", "batches", "named"])
def test_data_of_every_form(client: LossClient, form: str) -> None:
    weight = np.linspace(0.5, 2.0, ROWS, dtype=np.float32)
    cuts = [slice(start, start + BATCH) for start in range(0, ROWS, BATCH)]
    cameras = np.array(["front", "rear"])[np.arange(ROWS) % 2]
    data: Any = (X, Y, weight)
    if form == "batches":
        data = [(X[rows], Y[rows], weight[rows]) for rows in cuts]
    if form == "named":
        data = [
            {
                "x": X[rows],
                "targets": Y[rows],
                "weight": weight[rows, None],
                "groups": {"camera": cameras[rows]},
            }
            for rows in cuts
        ]
    watching, got = Watching({}), []

    class Kept(ValidationReport):
        def _log(self, epoch: Any, report: Report) -> None:
            got.append(report)

    figures = {"auroc": lambda report: report.calibration.auroc}
    report = Kept(data, "bce", client, batch_size=BATCH, prefix="late", figures=figures)
    history = fitted([watching, report], epochs=2).history
    groups: dict[str, Any] = {"groups": {"camera": cameras}} if form == "named" else {}
    for epoch, seen in enumerate(watching.seen):
        wanted = client.report("bce", seen, Y, weight=weight[:, None], **groups)
        assert sections(got[epoch]) == sections(wanted)
        assert history["late_auroc"][epoch] == wanted.calibration.auroc


@pytest.mark.filterwarnings("ignore:the mean divides by the number of losses")
def test_a_loss_of_rows_has_one_weight_and_class_a_row(client: LossClient, tmp_path: Path) -> None:
    classes, weight = X[:, :3].argmax(axis=1), np.linspace(0.5, 2.0, ROWS, dtype=np.float32)
    watching = Watching({})
    factors = [1.0, 0.5, 2.0]
    with SummaryWriter(str(tmp_path)) as writer:
        report = ValidationReport(
            (X, classes, weight),
            "cross_entropy",
            client,
            batch_size=BATCH,
            class_weight=factors,
            label_smoothing=0.1,
            to=writer,
        )
        history = fitted([watching, report], epochs=2).history
    for epoch, seen in enumerate(watching.seen):
        got = Report.load(next(tmp_path.glob(f"**/step-{epoch}/report.json")))
        wanted = client.report(
            "cross_entropy", seen, classes, weight=weight, class_weight=factors, label_smoothing=0.1
        )
        assert sections(got) == sections(wanted)
        losses = torch.nn.functional.cross_entropy(
            torch.tensor(seen, dtype=torch.float64),
            torch.tensor(classes),
            torch.tensor(factors, dtype=torch.float64),
            reduction="none",
            label_smoothing=0.1,
        )
        mean = float((losses * torch.tensor(weight)).mean())
        assert history["val_cross_entropy_mean"][epoch] == pytest.approx(mean, rel=1e-12)


def test_probabilities(client: LossClient) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="sigmoid")])
    model.compile(loss="binary_crossentropy")
    report = ValidationReport((X, Y), "bce", client, probabilities=True, sections="classes")
    history = model.fit(X, Y, epochs=1, verbose=0, callbacks=[report]).history
    wanted = client.bce(probabilities=model.predict_on_batch(X), targets=Y)
    assert history["val_bce_mean"][0] == pytest.approx(float(wanted), rel=1e-5)


def test_a_model_of_several_inputs(client: LossClient) -> None:
    inputs = [keras.Input((2,), name="a"), keras.Input((2,), name="b")]
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()(inputs)))
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    by_place = [X[:, :2], X[:, 2:]]
    for x in (by_place, dict(zip("ab", by_place, strict=True))):
        for data in ((x, Y), [(x, Y)], [{"x": x, "targets": Y}]):
            report = ValidationReport(data, "bce", client, batch_size=BATCH)
            history = model.fit(by_place, Y, epochs=1, verbose=0, callbacks=[report]).history
            wanted = client.bce(np.asarray(model.predict_on_batch(x)), Y)
            assert history["val_bce_mean"][0] == pytest.approx(float(wanted), rel=1e-6)


def test_one_asks_for_all_epochs_that_wait() -> None:
    transport = Flaky()
    with LossClient(transport=lambda: transport, retry=None) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transport.is_away = True
        report = ValidationReport((X, Y), "bce", client)
        fitted([report], epochs=8)
        asked = transport.asked
        report.close()
    assert asked <= 2 * 8 + 1  # when it is due, and at the end of a validation, and of the training
    assert transport.asked == asked + 1


class Later:
    """Batches, of which one has a target that the server refuses, in one epoch."""

    def __init__(self, bad: int) -> None:
        self.epoch, self.bad = -1, bad

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        yield X[:10], Y[:10]
        yield X[10:], Y[10:] + (5 if self.epoch == self.bad else 0)


def logged(folder: Path) -> list[int]:
    return sorted(int(path.parent.name.removeprefix("step-")) for path in folder.glob("**/report.json"))


def test_one_refused_late_batch_loses_its_own_epoch_alone(tmp_path: Path) -> None:
    transport = Flaky()

    class Back(Callback):  # type: ignore[misc] # of another environment
        def on_train_end(self, logs: Any = None) -> None:
            transport.is_away = False

    with (
        LossClient(transport=lambda: transport, retry=None) as client,
        SummaryWriter(str(tmp_path)) as writer,
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        watching = Watching({1: lambda: setattr(transport, "is_away", True)})
        report = ValidationReport(Later(bad=2), "bce", client, to=writer)
        history = fitted([watching, Back(), report], epochs=5).history
    assert len(history["loss"]) == 5
    assert logged(tmp_path) == [0, 1, 3, 4]
    said = [str(each.message) for each in told]
    assert sum("the report of epoch 2 is not logged: InvalidRequest: 4" in text for text in said) == 1


def test_a_refused_late_batch_ends_a_training_that_goes_on(tmp_path: Path) -> None:
    transport = Flaky()
    with (
        LossClient(transport=lambda: transport, retry=None) as client,
        SummaryWriter(str(tmp_path)) as writer,
    ):
        away = {epoch: partial(setattr, transport, "is_away", epoch < 3) for epoch in (1, 3)}
        report = ValidationReport(Later(bad=1), "bce", client, to=writer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(InvalidRequest, match="target_out_of_range") as raised:
                fitted([Watching(away), report], epochs=5)
    assert "It is of the report of epoch 1, which is not logged." in raised.value.__notes__
    assert logged(tmp_path) == [0, 2, 3]


def test_an_epoch_waits_until_a_tracker_has_it(tmp_path: Path) -> None:
    transport, broken = Flaky(), [True]

    class Broken(SummaryWriter):
        def add_scalar(self, *arguments: Any, **options: Any) -> None:
            if arguments[2] == 2 and broken[0]:  # the step
                raise OSError("the tracker is away")
            super().add_scalar(*arguments, **options)

    class Back(Callback):  # type: ignore[misc] # likewise
        def on_train_end(self, logs: Any = None) -> None:
            transport.is_away = False

    with (
        LossClient(transport=lambda: transport, retry=None) as client,
        Broken(str(tmp_path)) as writer,
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        watching = Watching({1: lambda: setattr(transport, "is_away", True)})
        report = ValidationReport((X, Y), "bce", client, to=writer)
        fitted([watching, Back(), report], epochs=4)
        assert logged(tmp_path) == [0, 1, 3]
        broken[0] = False
        report.close()
        report.close()
    assert logged(tmp_path) == [0, 1, 2, 3]
    said = [str(each.message) for each in told]
    assert said.count("the report of epoch 2 is not logged: OSError: the tracker is away") == 1
    assert not [text for text in said if "epochs without a report" in text]


def test_after_ctrl_c_the_late_epochs_can_be_logged(tmp_path: Path) -> None:
    transport = Flaky()

    def stop() -> None:
        raise KeyboardInterrupt

    with (
        LossClient(transport=lambda: transport, retry=None) as client,
        SummaryWriter(str(tmp_path)) as writer,
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        report = ValidationReport((X, Y), "bce", client, to=writer)
        away = {1: lambda: setattr(transport, "is_away", True), 3: stop}
        with pytest.raises(KeyboardInterrupt):
            fitted([Watching(away), report], epochs=5)
        report.close()
        said = [str(each.message) for each in told]
        assert said[-1] == "epochs without a report, since the server is away or batches were lost: 1, 2"
        transport.is_away = False
        report.close()
    assert logged(tmp_path) == [0, 1, 2]
    assert {each.filename for each in told if "epoch" in str(each.message)} == {__file__}


def test_what_the_server_refuses_ends_the_training(client: LossClient) -> None:
    with pytest.raises(InvalidRequest, match="target_out_of_range"):
        fitted([ValidationReport((X, Y + 1), "bce", client)], epochs=1)


def test_mistakes_are_told(client: LossClient) -> None:
    with pytest.raises(TypeError, match="no parameter 'gama'"):
        ValidationReport((X, Y), "focal", client, gama=2.0)
    with pytest.raises(ValueError, match="on_error must be"):
        ValidationReport((X, Y), "bce", client, on_error="ignore")  # type: ignore[arg-type] # as it says
    for size in (0, -1):
        with pytest.raises(ValueError, match="batch_size must be 1 or more"):
            ValidationReport((X, Y), "bce", client, batch_size=size)
    with pytest.raises(TypeError, match="keep_bytes is a number of bytes"):
        ValidationReport((X, Y), "bce", client, keep_bytes="4G")  # type: ignore[arg-type] # as it says
    with pytest.raises(TypeError, match="a generator is used up after one epoch"):
        ValidationReport((each for each in [(X, Y)]), "bce", client)
    with pytest.raises(ValueError, match=r"the same number of rows, and have \[10, 20\]"):
        ValidationReport((X, Y[:10]), "bce", client)
    with pytest.raises(ValueError, match="cannot be joined by per='class'"):
        ValidationReport((X, Y), "dice", client, per="class")
    with pytest.raises(TypeError, match="not both"):
        ValidationReport((X, Y), "bce", client, base_url="http://127.0.0.1:1")
    with pytest.raises(TypeError, match="and this is a str"):
        fitted([ValidationReport(["x", "y"], "bce", client)], epochs=1)  # type: ignore[list-item]


def test_a_server_that_does_not_come_back_is_told_at_the_end() -> None:
    with LossClient(f"http://127.0.0.1:{free_port()}", retry=None) as client:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            history = fitted([ValidationReport((X, Y), "bce", client)], epochs=2).history
        assert all(map(math.isnan, history["val_bce_mean"]))
        said = [str(each.message) for each in told]
        assert sum("the server is away since" in text for text in said) == 1
        assert "epochs without a report, since the server is away or batches were lost: 0, 1" in said
    with (
        LossClient(f"http://127.0.0.1:{free_port()}", retry=None) as client,
        pytest.raises(Exception, match="cannot connect"),
    ):
        fitted([ValidationReport((X, Y), "bce", client, on_error="raise")], epochs=1)
