"""A callback of Keras that logs a validation report an epoch: `pip install 'lossd[keras]'`.

report = ValidationReport((x_val, y_val), "bce", client, to="mlflow")
model.fit(x, y, epochs=10, callbacks=[report, EarlyStopping("val_bce_mean", mode="min")])
"""

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from keras import tree
from keras.callbacks import Callback
from keras.ops import convert_to_numpy

from lossd_client._calls.calls import batch_call, inputs_name
from lossd_client._calls.checks import check
from lossd_client._calls.conversion import checked_report
from lossd_client._calls.parameters import LOSSES, LossName
from lossd_client._deferred import KEEP_BYTES, Deferring, Kept, OnError, Room, given_or_own
from lossd_client._outage import Urgency
from lossd_client.callbacks._epochs import Epoch, Figures, Validations
from lossd_client.client import LossClient
from lossd_client.loggers import log
from lossd_client.report import Report, ReportMerger
from lossd_client.result import LossResult

Data: TypeAlias = tuple[Any, ...] | Iterable[tuple[Any, ...] | Mapping[str, Any]]
"""Arrays, or batches."""


class ValidationReport(Validations, Callback):  # type: ignore[misc] # Keras is in an environment of its own
    """A callback that logs the report of a validation after each epoch.

    The model predicts the data batch by batch, with any backend, and each batch is one request. The figures
    go into the epoch's logs as `{prefix}_mean` and `{prefix}_stderr`, where the callbacks behind this one in
    the list, and the history, find them; what monitors them needs `mode="min"`.

    While the server is away a training goes on; see `Validations`, which has the other arguments, too. Keras
    tells no callback of an exception or Ctrl-C: call `close()` in a `finally`.

    Args:
        data: Arrays (x, targets), or (x, targets, weight) with a weight a row, as for `fit`; or batches of
            such, to be gone through each epoch; or batches by name: "x", "targets", and any of "weight",
            "mask", "groups", "ids" and "baseline", as for `LossClient.report`. A model of several inputs has
            a list or a mapping of arrays as x.
        base_url: Without a client: the server's address, as for `LossClient`.
        api_key: Without a client: the key.
        probabilities: The model's outputs are probabilities, not logits.
        to: Where reports are logged; see `lossd_client.loggers.log`. By default nowhere.
        batch_size: The rows of a batch of arrays.
        parameters: Further ones of `LossClient.report`, such as gamma or sections.

    Raises:
        TypeError: There are both a client and a base_url or an api_key; there is no such parameter; or the
            data is an iterator, which is used up after an epoch.
        ValueError: There is no such section or on_error; batch_size or keep_bytes is too small; or arrays
            have unlike numbers of rows.
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
        Callback.__init__(self)
        self._parameters = {"sections": "all", **parameters, "reduction": "sum"}
        checked_report(batch_call(loss, {}, self._parameters).report)  # refuses what there is not
        LOSSES[loss].refuse_joining(parameters, "reports of batches")
        self._batches = _batches(data, batch_size)
        self._inputs = inputs_name(loss, are_probabilities=probabilities)
        self._to = to
        own = given_or_own(client, base_url, api_key)
        Validations.__init__(self, loss, own, prefix, figures, on_error, keep_bytes)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch's report, and those of earlier epochs that can be completed by now.

        Raises:
            TypeError: A batch is neither a tuple nor a mapping, or a dtype is not allowed.
            LossdError: The server refuses a batch.
        """
        made = _Report(self._client, self._room)
        for batch in self._batches:
            x, tensors = _named(batch)
            outputs = convert_to_numpy(self.model.predict_on_batch(x))
            weight = tensors.get("weight")
            if isinstance(weight, _RowWeight):
                losses = LOSSES[self._loss].dimensions(self._parameters, outputs.ndim)
                tensors = {**tensors, "weight": weight.with_axes(losses)}
            params = {**self._parameters, "first_row": made.rows}
            made.add(self._loss, {self._inputs: outputs, **tensors}, params)
        [figures] = self._end(Epoch(epoch, epoch, self._prefix, made.result))
        if logs is not None:
            logs |= {f"{self._prefix}_{name}": figure for name, figure in figures.items()}

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Log what is still to be logged, and warn of what cannot be."""
        self.close()

    def _log(self, epoch: Epoch, report: Report) -> None:
        if self._to is not None:
            log(report, to=self._to, step=epoch.step, prefix=epoch.prefix)


def _batches(data: Data, size: int) -> Iterable[Any]:
    """Return the batches of the data: those of arrays are cut out each time.

    Raises:
        TypeError: It is an iterator, or the size is no integer.
        ValueError: The size is not positive, or arrays have unlike numbers of rows.
    """
    if operator.index(size) < 1:
        raise ValueError(f"batch_size must be 1 or more, and is {size}")
    if isinstance(data, Iterator):
        raise TypeError(
            f"a {type(data).__name__} is used up after one epoch: give arrays, a list of batches, or another "
            "object that can be gone through again, such as a data loader"
        )
    is_arrays = isinstance(data, tuple) and len(data) in (2, 3) and hasattr(data[1], "shape")
    return _Cut(data, size) if is_arrays else data


class _Cut:
    """Arrays as batches."""

    def __init__(self, data: Any, size: int) -> None:  # noqa: ANN401 - any arrays
        self._data = data
        self._size = size
        rows = {len(each) for each in tree.flatten(data)}
        if len(rows) > 1:
            raise ValueError(f"arrays must have the same number of rows, and have {sorted(rows)}")
        [self._rows] = rows

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self._rows, self._size):
            rows = slice(start, start + self._size)
            yield tree.map_structure(lambda each: each[rows], self._data)  # noqa: B023 - it is called at once


def _named(batch: Any) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401 - what a user gives
    """Return the model's input and the other tensors of a batch."""
    if isinstance(batch, Mapping):
        return batch["x"], {name: tensor for name, tensor in batch.items() if name != "x"}
    if isinstance(batch, tuple | list) and len(batch) in (2, 3):
        weight = {"weight": _RowWeight(batch[2])} if len(batch) == 3 else {}
        return batch[0], {"targets": batch[1], **weight}
    raise TypeError(
        "a batch is (x, targets) or (x, targets, weight), or a mapping such as "
        f"{{'x': ..., 'targets': ...}}, and this is a {type(batch).__name__}"
    )


class _RowWeight:
    """Keras's weight of each row, which goes along axis 0."""

    def __init__(self, weight: Any) -> None:  # noqa: ANN401 - any array
        self._weight = np.asarray(weight)

    def with_axes(self, number: int) -> Any:  # noqa: ANN401
        """Return it in a shape that broadcasts to losses with this number of axes."""
        return self._weight.reshape(self._weight.shape + (1,) * (number - self._weight.ndim))


class _Report(Deferring):
    """One epoch's report, of batches that may come late."""

    def __init__(self, client: LossClient, room: Room | None) -> None:
        super().__init__(client, room)
        self._merger = ReportMerger()
        self._missing = 0
        self.rows = 0

    def add(self, loss: LossName, tensors: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Add a batch by one request."""
        call = check(batch_call(loss, tensors, params))
        self.rows += call.rows
        self._send_kept()
        result = self._scored(call)
        if result is not None:
            self._merge(result)
        self._raise_refused()

    def result(self, urgency: Urgency) -> Report | None:
        """Return the report; None while batches are missing."""
        self._send_kept(urgency)
        self._raise_refused()
        return None if self._missing else self._merger.result()

    def _merge(self, result: LossResult) -> None:
        assert result.report is not None
        self._merger.add(result.report)

    def _add_late(self, kept: Kept, result: LossResult | None) -> None:
        if result is not None:
            self._merge(result)
        else:
            self._missing += 1  # for good: there is no report without it

    def _count_missing(self, number: int) -> None:
        self._missing += number
