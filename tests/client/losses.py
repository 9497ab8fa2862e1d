"""Tensors and parameters of every loss of the catalog."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.parameters import LOSSES

ROWS = 40
RNG = np.random.default_rng(23)
Tensors = dict[str, NDArray[Any]]

PARAMS: Mapping[str, Mapping[str, Any]] = {
    "bce": {"pos_weight": 2.0},
    "focal": {"gamma": 2.0, "alpha": [0.1, 0.2, 0.3, 0.4, 0.5]},
    "asymmetric": {"gamma_pos": 0.5, "clip": 0.1},
    "varifocal": {"alpha": 0.5},
    "cross_entropy": {"class_weight": [1, 2, 3, 4, 5], "label_smoothing": 0.1},
    "softmax_focal": {"gamma": 1.5, "alpha": np.arange(1.0, 6.0)},
    "dice": {"smooth": 0.5},
    "tversky": {"alpha": 0.3, "beta": 0.7},
    "squared": {},
    "hinge": {},
    "box": {"variant": "ciou"},
}
"""Parameters of each loss that are not its defaults."""


def tensors_of(name: str) -> Tensors:
    """Tensors of a loss, with a weight and a mask for each of its losses."""
    loss = LOSSES[name]
    inputs = RNG.normal(size=(ROWS, 5)) * 3
    targets: NDArray[Any] = RNG.random((ROWS, 5)) < 0.3
    if loss.targets == "box":
        inputs, targets = (np.sort(RNG.random((ROWS, 2, 2)), axis=1).reshape(ROWS, 4) for _ in range(2))
    elif loss.row == "classes":
        targets = RNG.integers(0, 5, ROWS)
    shape = loss.losses_shape({}, inputs.shape)
    weight, mask = RNG.random(shape), RNG.random(shape) < 0.8
    return {loss.inputs[0]: inputs, "targets": targets, "weight": weight, "mask": mask}
