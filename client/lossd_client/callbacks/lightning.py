"""A callback of Lightning that logs a validation report an epoch: `pip install 'lossd[lightning]'`.

report = ValidationReport("focal", client, gamma=2.0)
trainer = Trainer(callbacks=[report, ModelCheckpoint(monitor="val_focal/mean")])
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

try:
    from lightning.pytorch.callbacks import Callback
except ModuleNotFoundError:  # its other package has the same
    from pytorch_lightning.callbacks import Callback  # type: ignore[import-not-found]

from lossd_client._calls.parameters import LossName
from lossd_client._deferred import KEEP_BYTES, OnError, Outbox, Room
from lossd_client.callbacks._epochs import FIGURES, Epoch, Epochs, Figures, monitored
from lossd_client.client import LossClient
from lossd_client.loggers import log
from lossd_client.loggers._log import _target
from lossd_client.report import Report
from lossd_client.torchmetrics import RemoteReport


class ValidationReport(Callback):  # type: ignore[misc] # Lightning is in an environment of its own
    """A callback that logs the report of each validation, to every logger of the trainer.

    `validation_step` returns the batch's tensors by name: `logits` (or `probabilities`) and `targets`, and
    any of `weight`, `mask`, `groups`, `ids` and `baseline`. Each batch is one request, whose rows are those
    of `RemoteReport`: on several ranks the report is that of all rows, each once.

    Checkpoints and early stopping can monitor `{prefix}/mean` and `{prefix}/stderr`. mlflow, TensorBoard and
    Weights & Biases get all that `lossd_client.loggers.log` writes, other loggers the monitored figures.

    While the server is away, batches are kept, the epoch's figures are NaN, and its report is logged later,
    at its own step: after another validation, or at the end. `EarlyStopping` needs `check_finite=False` then,
    and counts the epoch as one without improvement.

    Args:
        loss: "bce" or "focal".
        client: A client, whose `retry` says how long the first batch of an outage waits.
        base_url: Without a client: the server's address, as for `LossClient`.
        api_key: Without a client: the key.
        tensors: Returns the batch's tensors by name, given what `validation_step` returned, and the batch.
        prefix: What the names begin with; by default "val_focal" for focal. With several dataloaders a number
            follows.
        figures: What can be monitored, by name, instead of mean and stderr: a function of a `Report` each,
            such as `{"auroc": lambda report: report.calibration.auroc}`.
        drop_duplicates: Count rows of the same ids once; see `RemoteReport`. By default, on several ranks,
            whose samplers give some rows twice.
        on_error: "warn" as above. "raise" raises errors of the network and of the server, which ends the
            training. What the server refuses is raised in any case.
        keep_bytes: How many bytes of batches are kept, of all epochs: 32 MiB in memory, the rest in a
            temporary file. What has no room is lost with a warning, and then there is no report of its epoch.
        parameters: Those of `RemoteReport`.

    Raises:
        TypeError: As in `RemoteReport`.
        ValueError: As in `RemoteReport`.
    """

    def __init__(
        self,
        loss: LossName,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        tensors: Callable[[Any, Any], Mapping[str, Any]] | None = None,
        prefix: str | None = None,
        figures: Figures | None = None,
        drop_duplicates: bool | None = None,
        on_error: OnError = "warn",
        keep_bytes: int = KEEP_BYTES,
        **parameters: Any,  # noqa: ANN401 - RemoteReport's
    ) -> None:
        super().__init__()
        first = RemoteReport(
            loss, client, base_url=base_url, api_key=api_key, on_error=on_error, **parameters
        )  # refuses what there is not
        self._loss: LossName = loss
        self._client = first.client
        self._inputs = "probabilities" if parameters.get("probabilities") else "logits"
        self._parameters = parameters
        self._tensors = tensors
        self._prefix = f"val_{loss}" if prefix is None else prefix
        self._figures = FIGURES if figures is None else figures
        self._drops = drop_duplicates
        self._on_error: OnError = on_error
        self._room = Room(keep_bytes)
        self._metrics: list[RemoteReport] = []  # of this epoch, one a dataloader
        self._loggers: list[Any] = []
        self._epochs = Epochs(self._log)

    @property
    def client(self) -> LossClient:
        """The callback's client."""
        return self._client

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401 - Lightning's
        """Warn of an early stopping that an outage would trigger."""
        for callback in trainer.callbacks:
            monitor = getattr(callback, "monitor", None) or ""
            if (
                self._on_error == "warn"
                and monitor.startswith(f"{self._prefix}/")
                and getattr(callback, "check_finite", False)
            ):
                warnings.warn(
                    f"{type(callback).__name__}(monitor={monitor!r}) ends the training while the server is "
                    "away, for the figure is NaN then: give it check_finite=False",
                    stacklevel=2,
                )

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        """Begin the epoch's reports."""
        drops = trainer.world_size > 1 if self._drops is None else self._drops
        self._metrics = []
        for _ in [] if trainer.sanity_checking else trainer.num_val_batches:
            metric = RemoteReport(
                self._loss,
                self._client,
                on_error=self._on_error,
                drop_duplicates=drops,
                **self._parameters,
            ).to(pl_module.device)
            metric._is_of_callback = True
            metric._sends_ids = metric._lists_ids  # on one rank, too, where else they would be refused
            if metric._outbox is not None:
                metric._outbox = Outbox(self._client, self._room)
            self._metrics.append(metric)

    def on_validation_batch_end(
        self,
        trainer: Any,  # noqa: ANN401
        pl_module: Any,  # noqa: ANN401
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch by one request.

        Raises:
            TypeError: There are no tensors by name, or their dtypes are not allowed.
            ValueError: Ids are missing.
            LossdError: The server refuses the batch.
        """
        if not self._metrics:
            return
        named = outputs if self._tensors is None else self._tensors(outputs, batch)
        if not isinstance(named, Mapping) or not {self._inputs, "targets"} <= named.keys():
            got = list(named) if isinstance(named, Mapping) else type(named).__name__
            raise TypeError(
                f"validation_step must return {{{self._inputs!r}: ..., 'targets': ...}}, or tensors= make "
                f"such of it, and this is {got}"
            )
        metric = self._metrics[dataloader_idx]
        if metric._drops and named.get("ids") is None:
            raise ValueError(
                "on several ranks a sampler gives some rows twice: give 'ids' beside 'targets', by which "
                "each is counted once, or drop_duplicates=False if there are no such rows"
            )
        rest = {name: tensor for name, tensor in named.items() if name not in (self._inputs, "targets")}
        metric.update(named[self._inputs], named["targets"], **rest)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        """Log the epoch's reports, and those of earlier ones that can be completed by now."""
        metrics, self._metrics = self._metrics, []
        self._loggers = list(trainer.loggers) if trainer.is_global_zero else []
        if metrics:
            self._epochs.log_late()
        for number, metric in enumerate(metrics):
            if not trainer.num_val_batches[number]:
                continue
            prefix = self._prefix if len(metrics) == 1 else f"{self._prefix}/{number}"
            epoch = Epoch(trainer.current_epoch, trainer.global_step, prefix, _computing(metric))
            for name, figure in monitored(self._figures, self._epochs.end(epoch)).items():
                # All ranks have the same. The maximum is it; Lightning's mean could round it.
                pl_module.log(
                    f"{prefix}/{name}",
                    figure,
                    logger=False,
                    on_epoch=True,
                    sync_dist=True,
                    reduce_fx="max",
                    add_dataloader_idx=False,
                    batch_size=1,
                )

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ANN401
        """Log what is still to be logged, and warn of what cannot be."""
        self._epochs.close()

    def _log(self, epoch: Epoch, report: Report) -> None:
        for logger in self._loggers:
            tracker = _tracker_of(logger)
            if tracker is None:
                figures = monitored(self._figures, report)
                logger.log_metrics(
                    {f"{epoch.prefix}/{name}": figure for name, figure in figures.items()}, epoch.step
                )
            elif tracker == "wandb":
                # It drops what is logged at a step before its own, so Lightning logs its steps as a metric.
                logger.experiment.log({"trainer/global_step": epoch.step}, commit=False)
                log(report, to=logger, prefix=epoch.prefix)
            else:
                log(report, to=logger, step=epoch.step, prefix=epoch.prefix)


def _computing(metric: RemoteReport) -> Callable[[bool], Report | None]:
    def compute(patient: bool) -> Report | None:
        metric._patient = patient
        return metric.compute()

    return compute


def _tracker_of(logger: object) -> str | None:
    """Return which tracker a logger writes to, if `lossd_client.loggers` knows it."""
    try:
        return _target(logger)[0]
    except TypeError:
        return None
