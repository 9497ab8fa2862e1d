"""What the callbacks have in common: epochs whose reports come late, and the figures to monitor."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from lossd_client.report import Report

Figures: TypeAlias = Mapping[str, Callable[[Report], float]]
"""What is monitored, by name."""


def _mean(report: Report) -> float:
    return report.mean


def _stderr(report: Report) -> float:
    return report.stderr


FIGURES: Final[Figures] = {"mean": _mean, "stderr": _stderr}  # with names, so that a callback can be pickled


def monitored(figures: Figures, report: Report | None) -> dict[str, float]:
    """Return the figures of a report, each NaN while there is none."""
    return {name: math.nan if report is None else float(of(report)) for name, of in figures.items()}


@dataclass(frozen=True, slots=True)
class Epoch:
    """One validation.

    Attributes:
        number: The epoch's.
        step: At which its report is logged.
        prefix: What the names in its log begin with.
        compute: Returns its report, None while the server is away; given True, it waits as the client's
            `Retry` says.
    """

    number: int
    step: int
    prefix: str
    compute: Callable[[bool], Report | None]


class Epochs:
    """Epochs whose reports are not complete yet.

    Args:
        log: Logs an epoch's report.
    """

    def __init__(self, log: Callable[[Epoch, Report], None]) -> None:
        self._log = log
        self._late: list[Epoch] = []

    def end(self, epoch: Epoch) -> Report | None:
        """Log an epoch's report, or put it off; return it if it is there."""
        report = epoch.compute(False)
        if report is not None:
            self._log(epoch, report)
            return report
        self._late.append(epoch)
        warnings.warn(
            f"the report of epoch {epoch.number} waits for the server; it is logged at its own step",
            stacklevel=2,
        )
        return None

    def log_late(self, *, patient: bool = False) -> None:
        """Log the reports that can be completed by now."""
        late, self._late = self._late, []
        for epoch in late:
            report = epoch.compute(patient)
            if report is None:
                self._late.append(epoch)
            else:
                self._log(epoch, report)

    def close(self) -> None:
        """Log what can be completed, and give up the rest."""
        self.log_late(patient=True)
        if self._late:
            numbers = ", ".join(str(epoch.number) for epoch in self._late)
            warnings.warn(
                f"epochs without a report, since the server is away or batches were lost: {numbers}",
                stacklevel=2,
            )
        self._late = []
