"""A callback of Keras that logs a validation report an epoch: `pip install 'lossd[keras]'`.

report = ValidationReport((x_val, y_val), "bce", client, to="mlflow")
model.fit(x, y, epochs=10, callbacks=[report, EarlyStopping("val_bce_mean", mode="min")])
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from keras.callbacks import Callback
from keras.ops import convert_to_numpy

from lossd_client._calls.calls import batch_call
from lossd_client._calls.checks import check
from lossd_client._calls.conversion import checked_report
from lossd_client._calls.parameters import LossName
from lossd_client._deferred import KEEP_BYTES, Kept, OnError, Outbox, Room, checked_on_error
from lossd_client.callbacks._epochs import FIGURES, Epoch, Epochs, Figures, monitored
from lossd_client.client import LossClient
from lossd_client.errors import LossdError
from lossd_client.loggers import log
from lossd_client.report import Report, ReportMerger
from lossd_client.result import LossResult

Data: TypeAlias = tuple[Any, ...] | Iterable[tuple[Any, ...] | Mapping[str, Any]]
"""Arrays, or batches."""


class ValidationReport(Callback):  # type: ignore[misc] # Keras is in an environment of its own
    """A callback that logs the report of a validation after each epoch.

    The model predicts the data batch by batch, with any backend, and each batch is one request. The figures
    go into the epoch's logs as `{prefix}_mean` and `{prefix}_stderr`, where the callbacks behind this one in
    the list, and the history, find them; what monitors them needs `mode="min"`.

    While the server is away, batches are kept, the epoch's figures are NaN, and its report is logged later,
    at its own step: after another epoch, or at the end. To `EarlyStopping` such an epoch is one without
    improvement.

    Args:
        data: Arrays (x, targets), or (x, targets, weight) with a weight a row, as for `fit`; or batches of
            such, to be gone through each epoch; or batches by name: "x", "targets", and any of "weight",
            "mask", "groups", "ids" and "baseline", as for `LossClient.report`.
        loss: "bce" or "focal".
        client: A client, whose `retry` says how long the first batch of an outage waits.
        base_url: Without a client: the server's address, as for `LossClient`.
        api_key: Without a client: the key.
        probabilities: The model's outputs are probabilities, not logits.
        to: Where reports are logged; see `lossd_client.loggers.log`. By default nowhere.
        prefix: What the names begin with; by default "val_focal" for focal.
        figures: What goes into the epoch's logs, by name, instead of mean and stderr: a function of a
            `Report` each.
        batch_size: The rows of a batch of arrays.
        on_error: "warn" as above. "raise" raises errors of the network and of the server, which ends the
            training. What the server refuses is raised in any case.
        keep_bytes: How many bytes of batches are kept, of all epochs: 32 MiB in memory, the rest in a
            temporary file. What has no room is lost with a warning, and then there is no report of its epoch.
        parameters: Further ones of `LossClient.report`, such as gamma or sections.

    Raises:
        TypeError: There are both a client and a base_url or an api_key, or there is no such parameter.
        ValueError: There is no such section, or no such on_error.
    """

    def __init__(
        self,
        data: Data,
        loss: LossName,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        probabilities: bool = False,
        to: object = None,
        prefix: str | None = None,
        figures: Figures | None = None,
        batch_size: int = 32,
        on_error: OnError = "warn",
        keep_bytes: int = KEEP_BYTES,
        **parameters: Any,  # noqa: ANN401 - the client's
    ) -> None:
        super().__init__()
        if client is not None and (base_url is not None or api_key is not None):
            raise TypeError("give a client, or base_url and api_key for one of the callback's own, not both")
        self._parameters = {"sections": "all", **parameters, "reduction": "sum"}
        checked_report(batch_call(loss, {}, self._parameters).report)  # refuses what there is not
        self._keeps = checked_on_error(on_error)
        self._data = data
        self._loss = loss
        self._client = client if client is not None else LossClient(base_url, api_key=api_key)
        self._inputs = "probabilities" if probabilities else "logits"
        self._to = to
        self._prefix = f"val_{loss}" if prefix is None else prefix
        self._figures = FIGURES if figures is None else figures
        self._batch_size = batch_size
        self._room = Room(keep_bytes)
        self._epochs = Epochs(self._log)

    @property
    def client(self) -> LossClient:
        """The callback's client."""
        return self._client

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch's report, and those of earlier ones that can be completed by now.

        Raises:
            TypeError: A batch is neither a tuple nor a mapping, or a dtype is not allowed.
            LossdError: The server refuses a batch.
        """
        self._epochs.log_late()
        made = _Report(self._client, Outbox(self._client, self._room) if self._keeps else None)
        for x, tensors in self._batches():
            outputs = convert_to_numpy(self.model.predict_on_batch(x))
            weight = tensors.get("weight")
            if isinstance(weight, _RowWeight):
                tensors = {**tensors, "weight": weight.beside(outputs)}
            params = {**self._parameters, "first_row": made.rows}
            made.add(self._loss, {self._inputs: outputs, **tensors}, params)
        report = self._epochs.end(Epoch(epoch, epoch, self._prefix, made.result))
        if logs is not None:
            for name, figure in monitored(self._figures, report).items():
                logs[f"{self._prefix}_{name}"] = figure

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Log what is still to be logged, and warn of what cannot be."""
        self._epochs.close()

    def _log(self, epoch: Epoch, report: Report) -> None:
        if self._to is not None:
            log(report, to=self._to, step=epoch.step, prefix=epoch.prefix)

    def _batches(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield the model's input and the other tensors of each batch."""
        data = self._data
        if isinstance(data, tuple) and all(hasattr(each, "shape") for each in data):
            size, rows = self._batch_size, len(data[0])
            data = [tuple(each[start : start + size] for each in data) for start in range(0, rows, size)]
        for batch in data:
            if isinstance(batch, Mapping):
                yield batch["x"], {name: tensor for name, tensor in batch.items() if name != "x"}
            elif isinstance(batch, tuple | list) and len(batch) in (2, 3):
                weight = {"weight": _RowWeight(batch[2])} if len(batch) == 3 else {}
                yield batch[0], {"targets": batch[1], **weight}
            else:
                raise TypeError(
                    "a batch is (x, targets), (x, targets, weight) or a mapping, and this is a "
                    f"{type(batch).__name__}"
                )


class _RowWeight:
    """Keras's weight of each row, which goes along axis 0."""

    def __init__(self, weight: Any) -> None:  # noqa: ANN401 - any array
        self._weight = np.asarray(weight)

    def beside(self, outputs: Any) -> Any:  # noqa: ANN401
        """Return it in a shape that broadcasts to the outputs."""
        return self._weight.reshape(self._weight.shape + (1,) * (outputs.ndim - self._weight.ndim))


class _Report:
    """One epoch's report, of batches that may come late."""

    def __init__(self, client: LossClient, outbox: Outbox | None) -> None:
        self._client = client
        self._outbox = outbox
        self._merger = ReportMerger()
        self.rows = 0
        self._missing = 0

    def add(self, loss: LossName, tensors: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Add a batch by one request."""
        call = check(batch_call(loss, tensors, params))
        self.rows += call.rows
        if self._outbox is None:
            self._add(self._client._score_plan(self._client._plan(call)))
            return
        refused = self._send()
        result = self._outbox.score(call)
        if result is None:
            self._missing += 1
        else:
            self._add(result)
        if refused is not None:
            raise refused

    def result(self, patient: bool) -> Report | None:
        """Return the report; None while batches are missing."""
        refused = self._send(now=True, patient=patient)
        if refused is not None:
            raise refused
        return None if self._missing else self._merger.result()

    def _add(self, result: LossResult) -> None:
        assert result.report is not None
        self._merger.add(result.report)

    def _send(self, *, now: bool = False, patient: bool = False) -> LossdError | None:
        def add(kept: Kept, result: LossResult | None) -> None:
            if result is not None:
                self._add(result)
            self._missing -= 1

        return self._outbox.send(add, now=now, patient=patient) if self._outbox else None
