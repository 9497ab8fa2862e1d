"""The request of `lossd score`: a loss and its parameters."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from lossd_client import InvalidRequest, LossResult
from lossd_client._calls.axes import Axes
from lossd_client._calls.loss import Loss
from lossd_client._calls.parameters import LOSSES
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.options import FileOptions
from lossd_client.cli.inputs.parameters import axis_of, numbers_of, own_params


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
            BadParameter: An option's text is not what it should be, or another loss has its parameter.
            BadFile: The file of --pos-weight cannot be read.
        """
        loss = options.known_loss
        shared = {**options.shared(), "reduction": reduction, "axis": axis_of(axis)}
        params = {name: value for name, value in shared.items() if name in loss.parameters}
        if "targets_format" in loss.own and options.targets_format is None:
            del params["targets_format"]  # goes by the shape
        if options.pos_weight is not None:
            params["pos_weight"] = numbers_of(options.pos_weight, "pos_weight")
        return cls(loss.name, params | own_params(loss, options.own_texts()))

    @property
    def known_loss(self) -> Loss:
        """What the client knows of the loss."""
        return LOSSES[self.loss]

    def of_inputs(self, inputs: Inputs) -> Self:
        """Return the request for these inputs, whose shapes say whether the targets are class ids."""
        if "targets_format" not in self.known_loss.own or "targets_format" in self.params:
            return self
        by_index = inputs.tensors["targets"].dimensions == inputs.dimensions - 1
        return replace(self, params={**self.params, "targets_format": "index" if by_index else "dense"})

    @property
    def by_index(self) -> bool:
        """Whether the targets are class ids."""
        return bool(self.params.get("targets_format") == "index")

    def axes(self, dimensions: int) -> Axes:
        """Return the axes of the losses of inputs with this number of dimensions."""
        return Axes.of(self.known_loss, dimensions, self.params, self.params.get("pos_weight"))

    def can_split(self, dimensions: int) -> bool:
        """Return whether rows can be scored apart: no classes lie along them, and none has a pos_weight."""
        weights = np.shape(self.params.get("pos_weight", 0))
        weighs_rows = len(weights) == dimensions > 1 and weights[0] > 1
        return self.axes(dimensions).can_split and not weighs_rows

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
