"""The types of parameters' values."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Literal, TypeAlias

Reduction: TypeAlias = Literal["none", "sum", "mean"]
"""What becomes of the losses of the elements."""
Axis: TypeAlias = int | Sequence[int] | None
"""The axes that are reduced: None is all of them."""
Normalizer: TypeAlias = Literal["count", "weight", "positives"] | float
"""What a mean divides by."""
NORMALIZERS: Final = ("count", "weight", "positives")
"""The words for it."""
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
