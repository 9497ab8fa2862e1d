"""The parameters of a loss and of its report: their types, names and defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Final, Literal, TypeAlias, TypedDict, get_args

from lossd_client._calls.arrays import Array

LossName: TypeAlias = Literal["bce", "focal"]
"""The losses that have methods of their own."""
Reduction: TypeAlias = Literal["none", "sum", "mean"]
"""What becomes of the losses of the elements."""
Axis: TypeAlias = int | Sequence[int] | None
"""The axes that are reduced: None is all of them."""
Normalizer: TypeAlias = Literal["count", "weight", "positives"] | float
"""What a mean divides by."""
TargetsFormat: TypeAlias = Literal["dense", "index"]
"""Whether targets are a number for each element, or class ids."""
IgnoreIndex: TypeAlias = float | Literal["nan"] | None
"""The target whose elements are dropped, "nan" being one without a value."""
Variant: TypeAlias = Literal["sigmoid", "exp", "quality"]
"""The focal loss's way of weighing what is easy."""
Section: TypeAlias = Literal[
    "totals", "classes", "groups", "top", "histogram", "calibration", "sweep", "paired"
]
Sections: TypeAlias = Section | Literal["all"] | Sequence[Section]
RowLoss: TypeAlias = Literal["sum", "mean"]
Bins: TypeAlias = int | Literal["exact"]
Sweep: TypeAlias = Mapping[Literal["gamma"], Sequence[float]]


class Default(Enum):
    """The type of `DEFAULT`."""

    DEFAULT = "the server's default"

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = Default.DEFAULT
"""Stands for a parameter that is not sent, where None has a meaning of its own."""


class _FocalOwn(TypedDict, total=False):
    gamma: float | Default
    alpha: Array | Default | None
    variant: Variant | Default


class BceReportParams(TypedDict, total=False):
    """The parameters of binary cross entropy for a report; see `LossClient.bce`."""

    pos_weight: Array | None
    normalizer: Normalizer
    class_axis: int
    targets_format: TargetsFormat
    background_index: int | None
    label_smoothing: float
    ignore_index: IgnoreIndex
    allow_nan: bool


class FocalReportParams(BceReportParams, _FocalOwn, total=False):
    """The parameters of focal loss for a report; see `LossClient.focal`."""


class BceParams(BceReportParams, total=False):
    """The parameters of binary cross entropy for batches; see `LossClient.bce` and `LossClient.report`."""

    reduction: Reduction
    axis: Axis
    sections: Sections | None
    top: int
    row: RowLoss
    first_row: int
    calibration_bins: Bins
    sweep: Sweep | None


class FocalParams(BceParams, _FocalOwn, total=False):
    """The parameters of focal loss for batches; see `LossClient.focal` and `LossClient.report`."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The parameters that every loss has, with the API's defaults. What equals its default is not sent.

    The clients' methods repeat these defaults, for readers of a signature.
    """

    reduction: Reduction = "mean"
    axis: Axis = None
    normalizer: Normalizer = "count"
    class_axis: int = -1
    targets_format: TargetsFormat = "dense"
    background_index: int | None = None
    label_smoothing: float = 0.0
    ignore_index: IgnoreIndex = None
    allow_nan: bool = False


SHARED: Final = tuple(each.name for each in fields(Shared))
OWN: Final[Mapping[str, tuple[str, ...]]] = {"bce": (), "focal": ("gamma", "alpha", "variant")}
"""The losses, and the names of each one's own parameters."""
OPTIONS: Final[Mapping[str, Any]] = {
    **{each.name: each.default for each in fields(Shared) if each.name != "reduction"},
    "pos_weight": None,
}
"""The other parameters, which all losses have, with the contract's defaults."""
SECTIONS: Final = get_args(Section)
REPORT: Final[Mapping[str, Any]] = {
    "sections": None,
    "top": 20,
    "row": "sum",
    "first_row": 0,
    "calibration_bins": 64,
    "sweep": None,
}
"""The parameters of a report, with their defaults."""
