"""The axes of a call's inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of the inputs: which ones a loss reduces over, and which one the classes lie along.

    Attributes:
        dimensions: The number of axes.
        reduction: "none", "sum" or "mean".
        reduced: The axes that `axis` names, counted from the first; all by default.
        classes: The axis of the classes, as given.
        has_classes: Whether class ids, or an `alpha` or a `pos_weight` of several numbers, lie along it.
    """

    dimensions: int
    reduction: str
    reduced: frozenset[int]
    classes: int
    has_classes: bool

    @classmethod
    def of(cls, dimensions: int, params: Mapping[str, Any], pos_weight: object = None) -> Self:
        """Return the axes of a call with these parameters, of which defaults may be missing."""
        axis = params.get("axis")
        axes = range(dimensions) if axis is None else axis if isinstance(axis, list) else [axis]
        has_classes = (
            params.get("targets_format") == "index"
            or isinstance(params.get("alpha"), list)
            or (np.ndim(pos_weight) == 1 and np.size(pos_weight) > 1)  # type: ignore[arg-type] # an array
        )
        return cls(
            dimensions,
            str(params.get("reduction", "mean")),
            frozenset(one + dimensions if one < 0 else one for one in axes),
            int(params.get("class_axis", -1)),
            has_classes,
        )

    @property
    def left(self) -> list[int]:
        """The axes that the loss has."""
        return [one for one in range(self.dimensions) if self.reduction == "none" or one not in self.reduced]

    @property
    def is_scalar(self) -> bool:
        """Whether the loss is one number."""
        return self.reduction != "none" and len(self.reduced) == self.dimensions

    @property
    def joins_rows(self) -> bool:
        """Whether each row has losses of its own."""
        return self.reduction == "none" or not (self.is_scalar or 0 in self.reduced)

    @property
    def averages_rows(self) -> bool:
        """Whether the loss is a mean over rows: some of them are asked for sums, since they may be empty."""
        return self.reduction == "mean" and not self.joins_rows

    @property
    def classes_are_rows(self) -> bool:
        """Whether the classes lie along the rows, which cannot be scored apart then."""
        return self.has_classes and self.classes in (0, -self.dimensions)
