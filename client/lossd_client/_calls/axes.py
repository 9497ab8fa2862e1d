"""The axes of a call's losses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lossd_client._calls.loss import Loss


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of the losses that are reduced over; and the inputs' axis along which the classes lie.

    Attributes:
        dimensions: The number of axes.
        inputs: The number of the inputs' axes, which are more where a row of them has one loss.
        reduction: "none", "sum" or "mean".
        reduced: The axes that `axis` names, counted from the first; all by default.
        classes: The axis of the classes, as given.
        has_classes: Whether rows of classes, losses of classes, class ids, or an `alpha` or a `pos_weight` of
            several numbers lie along it.
        is_over_rows: Whether a loss is over all samples, which cannot be scored apart then.
    """

    dimensions: int
    inputs: int
    reduction: str
    reduced: frozenset[int]
    classes: int
    has_classes: bool
    is_over_rows: bool

    @classmethod
    def of(cls, loss: Loss, inputs: int, params: Mapping[str, Any], pos_weight: object = None) -> Self:
        """Return the axes of a call with these parameters, of which defaults may be missing.

        Args:
            loss: The loss.
            inputs: The number of the inputs' axes.
            params: The parameters.
            pos_weight: The `pos_weight`, if there is one.
        """
        dimensions = loss.dimensions(params, inputs)
        axis = params.get("axis")
        axes = range(dimensions) if axis is None else axis if isinstance(axis, list) else [axis]
        has_classes = (
            loss.row == "classes"
            or loss.per(params) == "class"
            or params.get("targets_format") == "index"
            or isinstance(params.get("alpha"), list)
            or (np.ndim(pos_weight) == 1 and np.size(pos_weight) > 1)  # type: ignore[arg-type] # an array
        )
        return cls(
            dimensions,
            inputs,
            str(params.get("reduction", "mean")),
            frozenset(one + dimensions if one < 0 else one for one in axes),
            int(params.get("class_axis", -1)),
            has_classes,
            loss.per(params) in ("class", "all"),
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
    def can_split(self) -> bool:
        """Whether rows can be scored apart."""
        return self.dimensions > 0 and not (self.classes_are_rows or self.is_over_rows)

    @property
    def averages_rows(self) -> bool:
        """Whether the loss is a mean over rows: some of them are asked for sums, since they may be empty."""
        return self.reduction == "mean" and not self.joins_rows

    @property
    def classes_are_rows(self) -> bool:
        """Whether the classes lie along the rows, which cannot be scored apart then."""
        return self.has_classes and self.classes in (0, -self.inputs)
