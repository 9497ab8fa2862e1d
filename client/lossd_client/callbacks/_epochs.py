"""What the callbacks have in common: epochs whose reports come late, and the figures to monitor."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from lossd_client._calls.parameters import LossName
from lossd_client._deferred import OnError, Room
from lossd_client._outage import Urgency, outage_of
from lossd_client._warning import warn
from lossd_client.client import LossClient
from lossd_client.report import Report

Figures: TypeAlias = Mapping[str, Callable[[Report], float]]
"""What is monitored, by name."""


def _mean(report: Report) -> float:
    return report.mean


def _stderr(report: Report) -> float:
    return report.stderr


_FIGURES: Final[Figures] = {"mean": _mean, "stderr": _stderr}  # with names, so that a callback can be pickled


@dataclass(slots=True, eq=False)
class Epoch:
    """One validation.

    Attributes:
        number: The epoch's.
        step: At which its report is logged.
        prefix: What the names in its log begin with.
        compute: Returns its report, None while the server is away.
        report: It, once it is complete. Ranks compute together, and only one may have failed to log it.
    """

    number: int
    step: int
    prefix: str
    compute: Callable[[Urgency], Report | None]
    report: Report | None = None


class Validations:
    """The base of the callbacks: reports of validations, each logged once it is complete.

    While the server is away, batches are kept, the epoch's figures are NaN, and its report is logged later,
    at its own step: after another validation, or at the end. To `EarlyStopping` such an epoch is one without
    improvement.

    What the server refuses, and what a tracker raises, is raised after the other epochs are logged, and ends
    the training; at its end it is a warning. An epoch that has a refused batch has no report.

    Args:
        loss: The loss, such as "bce".
        client: A client, whose `retry` says how long the first batch of an outage waits.
        prefix: What the names begin with; by default "val_focal" for focal.
        figures: What can be monitored, by name, instead of mean and stderr: a function of a `Report` each,
            such as `{"auroc": lambda report: report.calibration.auroc}`.
        on_error: "warn" as above. "raise" raises errors of the network and of the server, which ends the
            training.
        keep_bytes: How many bytes of batches are kept, of all epochs: 32 MiB in memory, the rest in a
            temporary file. What has no room is lost with a warning, and then there is no report of its epoch.

    Raises:
        TypeError: keep_bytes is no integer.
        ValueError: It is below 0, or there is no such on_error.
    """

    def __init__(
        self,
        loss: LossName,
        client: LossClient,
        prefix: str | None,
        figures: Figures | None,
        on_error: OnError,
        keep_bytes: int,
    ) -> None:
        self._loss: LossName = loss
        self._client = client
        self._prefix = f"val_{loss}" if prefix is None else prefix
        self._figures = _FIGURES if figures is None else figures
        self._room = Room.if_kept(on_error, keep_bytes)
        self._waiting: list[Epoch] = []  # whose reports are not logged

    @property
    def client(self) -> LossClient:
        """The callback's client."""
        return self._client

    def close(self) -> None:
        """Log the reports that are not logged yet, as far as the server answers, and warn of the rest.

        At the end of a training this is done. After an exception or Ctrl-C Lightning does it in a training of
        one rank; elsewhere do it in a `finally`, on all ranks. It can be done again, once the server is back.
        """
        self._close(Urgency.PATIENT)

    def _close(self, urgency: Urgency) -> None:
        if not self._waiting:
            return
        outage_of(self._client).ask_at_once()
        found = self._log_complete(urgency)
        for epoch, error in found.items():
            if isinstance(error, Exception):
                warn(f"the report of epoch {epoch.number} is not logged: {type(error).__name__}: {error}")
        self._warn_of([epoch for epoch in self._waiting if epoch not in found])

    def _warn_of(self, epochs: list[Epoch]) -> None:
        if epochs:
            numbers = ", ".join(str(epoch.number) for epoch in epochs)
            warn(f"epochs without a report, since the server is away or batches were lost: {numbers}")

    def _end(self, *epochs: Epoch) -> list[dict[str, float]]:
        """Log the reports of epochs, and of earlier ones, that are complete by now.

        Returns:
            The figures of each of the epochs, NaN while there is no report.

        Raises:
            Exception: The first that the server or a tracker raised, once the rest is logged.
        """
        self._waiting += epochs
        found = self._log_complete(Urgency.SOON)
        for epoch in epochs:
            if epoch not in found:
                warn(f"the report of epoch {epoch.number} waits for the server; it is logged at its own step")
        for epoch, error in found.items():
            if isinstance(error, Exception):
                error.add_note(f"It is of the report of epoch {epoch.number}, which is not logged.")
                raise error
        return [self._monitored(found.get(epoch)) for epoch in epochs]

    def _log_complete(self, urgency: Urgency) -> dict[Epoch, Report | Exception]:
        """Log what is complete; return it, and what was raised. An epoch waits until it is logged."""
        found: dict[Epoch, Report | Exception] = {}
        for epoch in tuple(self._waiting):
            try:
                if epoch.report is None:
                    epoch.report = epoch.compute(urgency)
                if epoch.report is None:
                    urgency = Urgency.ROUTINE  # one has asked for all
                else:
                    self._log(epoch, epoch.report)
                    self._waiting.remove(epoch)
                    found[epoch] = epoch.report
            except Exception as error:  # a tracker's may be any; it is raised or told later
                found[epoch] = error
        return found

    def _log(self, epoch: Epoch, report: Report) -> None:
        raise NotImplementedError

    def _monitored(self, report: Any) -> dict[str, float]:  # noqa: ANN401 - a report, or none
        """Return the figures of a report, each NaN while there is none."""
        return {
            name: float(of(report)) if isinstance(report, Report) else math.nan
            for name, of in self._figures.items()
        }
