"""What is asked of a report: its sections and their parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from lossd.core.catalog import Loss
from lossd.types import GROUP_PREFIX

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
        gammas: Those of the sweep; none for a loss without gamma.
        group_names: A name for each column of group ids.
    """

    sections: frozenset[str]
    top: int = 0
    row_mean: bool = False
    first_row: int = 0
    bins: int = 64
    gammas: tuple[float, ...] = ()
    group_names: tuple[str, ...] = ()


def spec_of(
    loss: Loss, params: Mapping[str, object], tensors: Collection[str], *, has_classes: bool
) -> ReportSpec | None:
    """Return what is asked of a request's report; None if there is to be none.

    ``all`` stands for every section that the loss has and whose needs are met.

    Args:
        loss: The loss.
        params: The request's checked parameters; see `lossd.core.report.parameters` for those of reports.
        tensors: The names of its tensors.
        has_classes: Whether each of its losses is of a class.
    """
    asked = cast("Sequence[str] | None", params.get("report"))
    if asked is None:
        return None
    columns = [name.removeprefix(GROUP_PREFIX) for name in tensors if name.startswith(GROUP_PREFIX)]
    grouped, gammas = bool(columns) or "groups" in tensors, params.get("sweep")
    sections = {"totals", *asked}
    if gammas is not None:
        sections.add("sweep")
    if "all" in sections:
        met = {"classes": has_classes, "groups": grouped, "paired": "baseline" in tensors, "sweep": False}
        sections.update(each for each in SECTIONS if met.get(each, True) and each not in loss.without)
        sections.remove("all")
    bins = params.get("calibration_bins", 64)
    return ReportSpec(
        sections=frozenset(sections),
        top=cast(int, params.get("top", 20)) if "top" in sections else 0,
        row_mean=params.get("row") == "mean",
        first_row=cast(int, params.get("first_row", 0)),
        bins=0 if bins == "exact" else cast(int, bins),
        gammas=tuple(cast("Sequence[float]", gammas or ())),
        group_names=tuple(columns or cast("Sequence[str]", params.get("group_names", ()))),
    )
