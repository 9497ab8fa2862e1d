"""What is asked of a report: its sections and their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECTIONS: Final = (
    "totals",
    "classes",
    "groups",
    "top",
    "histogram",
    "calibration",
    "sweep",
    "paired",
)
"""The sections of a report, in the order in which they are written."""
MOST_GROUP_COLUMNS: Final = 8


@dataclass(frozen=True, slots=True)
class ReportSpec:
    """The sections of a report and their parameters.

    Attributes:
        sections: The sections, ``totals`` always among them.
        top: How many rows and elements are listed; 0 without the section.
        row_mean: Whether a row's loss is the mean over its elements, instead of their sum.
        first_row: The index of the first row.
        bins: Bins of the calibration; 0 counts each value of 16-bit inputs.
        gammas: Those of the sweep; none for bce.
        group_names: A name for each column of group ids.
    """

    sections: frozenset[str]
    top: int = 0
    row_mean: bool = False
    first_row: int = 0
    bins: int = 64
    gammas: tuple[float, ...] = ()
    group_names: tuple[str, ...] = ()
