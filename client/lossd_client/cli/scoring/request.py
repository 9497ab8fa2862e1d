"""The request of `lossd score`: a loss and its parameters."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from lossd_client import InvalidRequest, LossResult
from lossd_client._calls.axes import Axes
from lossd_client.cli.inputs.options import FileOptions
from lossd_client.cli.inputs.parameters import alpha_of, axis_of, normalizer_of, pos_weight_of


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A loss and its parameters.

    Attributes:
        loss: The loss.
        params: Its parameters, as the client takes them.
    """

    loss: str
    params: Mapping[str, Any]

    @classmethod
    def of(cls, options: FileOptions, reduction: str, axis: str | None) -> Self:
        """Return the request that the command line says.

        Args:
            options: The options.
            reduction: What becomes of the elements' losses.
            axis: The text of --axis.

        Raises:
            BadParameter: An option's text is not what it should be.
            BadFile: The file of --pos-weight cannot be read.
        """
        params: dict[str, Any] = {
            "pos_weight": None if options.pos_weight is None else pos_weight_of(options.pos_weight),
            "reduction": reduction,
            "axis": axis_of(axis),
            "normalizer": normalizer_of(options.normalizer),
            "class_axis": options.class_axis,
            "targets_format": options.targets_format.value,
            "background_index": options.background_index,
            "label_smoothing": options.label_smoothing,
            "ignore_index": options.ignored(),
            "allow_nan": options.allow_nan,
        }
        if options.gamma is not None:
            params["gamma"] = options.gamma
        if options.alpha is not None:
            params["alpha"] = alpha_of(options.alpha)
        if options.variant is not None:
            params["variant"] = options.variant.value
        return cls(options.loss.value, params)

    @property
    def by_index(self) -> bool:
        """Whether the targets are class ids."""
        return bool(self.params["targets_format"] == "index")

    def axes(self, dimensions: int) -> Axes:
        """Return the axes of inputs with this number of dimensions."""
        return Axes.of(dimensions, self.params, self.params["pos_weight"])

    def can_split(self, dimensions: int) -> bool:
        """Return whether rows can be scored apart: no classes lie along them, and none has a pos_weight."""
        weights = np.shape(0 if self.params["pos_weight"] is None else self.params["pos_weight"])
        weighs_rows = len(weights) == dimensions > 1 and weights[0] > 1
        return dimensions > 0 and not (self.axes(dimensions).classes_are_rows or weighs_rows)

    def sums(self) -> "ScoreRequest":
        """Return the request of the sums that a mean is made of."""
        return replace(self, params={**self.params, "reduction": "sum"})


def mean_of(sums: LossResult) -> LossResult:
    """Return the mean that sums over all rows make.

    Raises:
        InvalidRequest: It is a mean over nothing.
    """
    try:
        return sums.as_mean()
    except InvalidRequest as error:
        raise InvalidRequest(422, "empty_mean", as_options(error.detail)) from None


def as_options(detail: str) -> str:
    """Return the detail of an empty mean with the command's own remedy, and the place as a pointer."""
    found = re.sub(r"use reduction='?sum'?, or leave [a-z ]+ out", "--reduction sum gives 0 there", detail)
    return re.sub(
        r"of output \[([\d, ]+)\] is", lambda match: f"at /loss/{match[1].replace(', ', '/')} is", found
    )
