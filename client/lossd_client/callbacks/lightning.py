"""A callback of Lightning that logs a validation report an epoch: `pip install 'lossd[lightning]'`.

report = ValidationReport("focal", client, gamma=2.0)
trainer = Trainer(callbacks=[report, ModelCheckpoint(monitor="val_focal/mean")])
"""

from collections.abc import Callable, Mapping
from typing import Any

try:
    from lightning.pytorch.callbacks import Callback
except ModuleNotFoundError:  # its other package has the same
    from pytorch_lightning.callbacks import Callback  # type: ignore[import-not-found]

from lossd_client._calls.calls import inputs_name
from lossd_client._calls.parameters import LossName
from lossd_client._deferred import KEEP_BYTES, Kept, OnError, Outbox, Room
from lossd_client._outage import Urgency
from lossd_client._warning import warn
from lossd_client.callbacks._epochs import Epoch, Figures, Validations
from lossd_client.client import LossClient
from lossd_client.loggers import log
from lossd_client.loggers._log import _target
from lossd_client.report import Report
from lossd_client.result import LossResult
from lossd_client.torchmetrics import RemoteReport


class ValidationReport(Validations, Callback):  # type: ignore[misc] # Lightning is in an environment of its own
    """A callback that logs the report of each validation, to every logger of the trainer.

    `validation_step` returns the batch's tensors by name: `logits` (or `probabilities`, or `boxes`) and
    `targets`, and any of `weight`, `mask`, `groups`, `ids` and `baseline`. Each batch is one request, whose
    rows are those of `RemoteReport`: on several ranks the report is that of all rows, each once.

    Checkpoints and early stopping can monitor `{prefix}/mean` and `{prefix}/stderr`, in float64 where the
    device has it. mlflow, TensorBoard and Weights & Biases get all that `lossd_client.loggers.log` writes,
    other loggers the monitored figures.

    While the server is away a training goes on; see `Validations`, which has the other arguments, too.
    `EarlyStopping` needs `check_finite=False` then.

    Args:
        base_url: Without a client: the server's address, as for `LossClient`.
        api_key: Without a client: the key.
        tensors: Returns the batch's tensors by name, given what `validation_step` returned, and the batch.
        prefix: What the names begin with; by default "val_focal" for focal. With several dataloaders a number
            follows.
        drop_duplicates: Count rows of the same ids once; see `RemoteReport`. By default, on several ranks,
            whose samplers give some rows twice.
        parameters: Those of `RemoteReport`.

    Raises:
        TypeError: As in `RemoteReport`, or keep_bytes is no integer.
        ValueError: As in `RemoteReport`, or keep_bytes is below 0.
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
        Callback.__init__(self)
        first = RemoteReport(
            loss, client, base_url=base_url, api_key=api_key, **parameters
        )  # refuses mistakes
        Validations.__init__(self, loss, first.client, prefix, figures, on_error, keep_bytes)
        are_probabilities = bool(parameters.get("probabilities"))
        self._inputs = inputs_name(loss, are_probabilities=are_probabilities)
        self._parameters = parameters
        self._tensors = tensors
        self._drops = drop_duplicates
        self._metrics: list[_EpochReport] = []  # of this epoch, one a dataloader
        self._loggers: list[Any] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401 - Lightning's
        """Warn of an early stopping that an outage would trigger."""
        for callback in trainer.callbacks:
            monitor = getattr(callback, "monitor", None) or ""
            if (
                self._room is not None
                and monitor.startswith(f"{self._prefix}/")
                and getattr(callback, "check_finite", False)
            ):
                warn(
                    f"{type(callback).__name__}(monitor={monitor!r}) ends the training while the server is "
                    "away, for the figure is NaN then: give it check_finite=False"
                )

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        """Begin the epoch's reports."""
        self._metrics = [
            _EpochReport(
                self._loss,
                self._client,
                self._room,
                drop_duplicates=self._drops_duplicates(trainer),
                **self._parameters,
            ).to(pl_module.device)
            for _ in ([] if trainer.sanity_checking else trainer.num_val_batches)
        ]

    def _drops_duplicates(self, trainer: Any) -> bool:  # noqa: ANN401
        return trainer.world_size > 1 if self._drops is None else self._drops

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
        if self._drops_duplicates(trainer) and named.get("ids") is None:
            raise ValueError(
                "on several ranks a sampler gives some rows twice: give 'ids' beside 'targets', by which "
                "each is counted once, or drop_duplicates=False if there are no such rows"
            )
        rest = {name: tensor for name, tensor in named.items() if name not in (self._inputs, "targets")}
        self._metrics[dataloader_idx].update(named[self._inputs], named["targets"], **rest)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        """Log the epoch's reports, and those of earlier ones that can be completed by now."""
        metrics, self._metrics = self._metrics, []
        if not metrics:
            return
        self._loggers = list(trainer.loggers) if trainer.is_global_zero else []
        epochs = [
            Epoch(
                trainer.current_epoch,
                trainer.global_step,
                self._prefix if len(metrics) == 1 else f"{self._prefix}/{number}",
                metric.report,
            )
            for number, metric in enumerate(metrics)
            if trainer.num_val_batches[number]
        ]
        for epoch, figures in zip(epochs, self._end(*epochs), strict=True):
            for name, figure in figures.items():
                # All ranks have the same. The maximum is it; Lightning's mean could round it.
                pl_module.log(
                    f"{epoch.prefix}/{name}",
                    metrics[0].as_tensor(figure),
                    logger=False,
                    on_epoch=True,
                    sync_dist=True,
                    reduce_fx="max",
                    add_dataloader_idx=False,
                    batch_size=1,
                )

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ANN401
        """Log what is still to be logged, and warn of what cannot be."""
        self.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ANN401
        """Log what is still to be logged, and warn of what cannot be.

        On several ranks it only warns: a rank that failed would leave the others waiting.
        """
        if trainer.world_size == 1:
            self._close(Urgency.SOON)
        else:
            self._warn_of(self._waiting)

    def _log(self, epoch: Epoch, report: Report) -> None:
        for logger in self._loggers:
            tracker = _tracker_of(logger)
            if tracker is None:
                figures = {f"{epoch.prefix}/{name}": each for name, each in self._monitored(report).items()}
                logger.log_metrics(figures, epoch.step)
            elif tracker == "wandb":
                # It drops what is logged at a step before its own, so Lightning logs its steps as a metric.
                logger.experiment.log({"trainer/global_step": epoch.step}, commit=False)
                log(report, to=logger, prefix=epoch.prefix)
            else:
                log(report, to=logger, step=epoch.step, prefix=epoch.prefix)


class _EpochReport(RemoteReport):
    """One epoch's report; its callback says itself what is missing.

    Args:
        room: Where batches are kept.
    """

    def __init__(self, loss: LossName, client: LossClient, room: Room | None, **parameters: Any) -> None:  # noqa: ANN401
        super().__init__(loss, client, **parameters)
        self._outbox = None if room is None else Outbox(client, room)
        self._sends_ids = self._lists_ids  # on one rank, too, where else they would be refused

    def report(self, urgency: Urgency) -> Report | None:
        """Return the report; None while batches are missing."""
        self._urgency = urgency
        return self.compute()

    def as_tensor(self, figure: float) -> Any:  # noqa: ANN401 - torch's
        """Return a number on the report's device, in float64 where that is known."""
        state = self.report_document
        return (state.float() if state.device.type == "mps" else state.double()).new_tensor(figure)

    def _add_late(self, kept: Kept, result: LossResult | None) -> None:
        super()._add_late(kept, result)
        if result is None:
            self._count_missing(1)  # for good: no rank may log a report without it

    def _tell_incomplete(self) -> None:
        pass


def _tracker_of(logger: object) -> str | None:
    """Return which tracker a logger writes to, if `lossd_client.loggers` knows it."""
    try:
        return _target(logger)[0]
    except TypeError:
        return None
