"""Each loss as it is written in torch, in float32, with numbers to score: for `bench.core`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lossd.types import Tensor

GAMMA, ALPHA = 1.5, 0.25
SIZE: Final = 1 << 24
"""Inputs, about: 16.7 M."""


class Numbers(NamedTuple):
    """Numbers to score: a body for lossd, and the same numbers as tensors for torch."""

    shape: tuple[int, ...]
    body: memoryview
    tensors: dict[str, Tensor]
    inputs: torch.Tensor
    targets: torch.Tensor


def packed(name: str, inputs: npt.NDArray[np.float32], targets: npt.NDArray[np.generic]) -> Numbers:
    """Return arrays as numbers to score; `name` is that of the inputs."""
    begin = -(-inputs.nbytes // 8) * 8
    body = bytearray(begin + targets.nbytes)
    given = np.frombuffer(body, np.float32, inputs.size).reshape(inputs.shape)
    known = np.frombuffer(body, targets.dtype, targets.size, begin).reshape(targets.shape)
    given[...], known[...] = inputs, targets
    tensors = {
        name: Tensor("float32", inputs.shape, 0),
        "targets": Tensor(targets.dtype.name, targets.shape, begin),
    }
    return Numbers(inputs.shape, memoryview(body), tensors, torch.from_numpy(given), torch.from_numpy(known))


@cache
def labels(shape: tuple[int, ...]) -> Numbers:
    """Return logits and 0/1 targets."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, shape).astype(np.float32)
    return packed("logits", logits, (rng.random(shape) < 0.1).astype(np.float32))


@cache
def scores(shape: tuple[int, ...]) -> Numbers:
    """Return logits, and targets of which one in ten is a score."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, shape).astype(np.float32)
    targets = np.where(rng.random(shape) < 0.1, rng.random(shape), 0.0)
    return packed("logits", logits, targets.astype(np.float32))


@cache
def ids(shape: tuple[int, ...]) -> Numbers:
    """Return logits of classes, and the id of each row's."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, shape).astype(np.float32)
    return packed("logits", logits, rng.integers(0, shape[1], shape[0]))


@cache
def boxes(shape: tuple[int, ...]) -> Numbers:
    """Return boxes by their corners, and others near them."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 500, (shape[0], 2))
    found = [
        np.concatenate([at, at + rng.uniform(5, 150, at.shape)], axis=1).astype(np.float32)
        for at in (corners, corners + rng.normal(0, 10, corners.shape))
    ]
    return packed("boxes", found[0], found[1])


def bce(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return torch's own."""
    return functional.binary_cross_entropy_with_logits(x, y)


def focal(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return focal loss as YOLOv5 writes it."""
    losses = functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    p = torch.sigmoid(x)
    p_t = y * p + (1 - y) * (1 - p)
    return (losses * (y * ALPHA + (1 - y) * (1 - ALPHA)) * (1.0 - p_t) ** GAMMA).mean()


def asymmetric(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return asymmetric loss as its authors write it."""
    p = torch.sigmoid(x)
    q = (1 - p + 0.05).clamp(max=1)
    losses = y * torch.log(p.clamp(min=1e-8)) + (1 - y) * torch.log(q.clamp(min=1e-8))
    p_t = p * y + q * (1 - y)
    return -(losses * torch.pow(1 - p_t, y + 4 * (1 - y))).mean()


def varifocal(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return varifocal loss as its authors write it."""
    p = torch.sigmoid(x)
    factors = y * (y > 0).float() + 0.75 * (p - y).abs().pow(2.0) * (y <= 0).float()
    return (functional.binary_cross_entropy_with_logits(x, y, reduction="none") * factors).mean()


def cross_entropy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return torch's own."""
    return functional.cross_entropy(x, y)


def softmax_focal(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return focal loss of classes by log_softmax."""
    log_p = functional.log_softmax(x, 1).gather(1, y[:, None])[:, 0]
    return -((1 - log_p.exp()) ** 2 * log_p).mean()


def dice(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return dice loss by the sums of products and of both."""
    p, axes = torch.sigmoid(x), tuple(range(1, x.ndim))
    return (1 - (2 * (p * y).sum(axes) + 2) / (p.sum(axes) + y.sum(axes) + 2)).mean()


def tversky(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return Tversky loss by its three sums."""
    p, axes = torch.sigmoid(x), tuple(range(1, x.ndim))
    right = (p * y).sum(axes)
    wrong = 0.5 * (p * (1 - y)).sum(axes) + 0.5 * ((1 - p) * y).sum(axes)
    return (wrong / (right + wrong + 1)).mean()


def squared(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return torch's own."""
    return functional.mse_loss(x, y)


def hinge(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return hinge loss of targets 0 and 1."""
    return (1 - (2 * y - 1) * x).clamp(min=0).mean()


def box(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return one less the overlap of boxes, as torchvision writes it."""
    low, high = torch.maximum(x[:, :2], y[:, :2]), torch.minimum(x[:, 2:], y[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    areas = ((each[:, 2:] - each[:, :2]).prod(1) for each in (x, y))
    return (1 - common / (sum(areas) - common + 1e-7)).mean()


@dataclass(frozen=True, slots=True)
class Rival:
    """A loss in torch.

    Attributes:
        formula: Returns the mean loss, in torch.
        title: Its name in the table.
        make: Returns numbers of a shape.
        shapes: The shapes: in the processor's cache, and of about 16.7 M inputs.
        params: lossd's parameters, where they are not the defaults.
    """

    formula: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    title: str
    make: Callable[[tuple[int, ...]], Numbers] = labels
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((4096, 80), (SIZE,))
    params: Mapping[str, object] = field(default_factory=dict)

    def mean(self, given: Numbers) -> float:
        """Return the mean of the losses."""
        return self.formula(given.inputs, given.targets).item()


_ROWS: Final = ((4096, 80), (SIZE // 80, 80))
_IMAGES: Final = ((20, 128, 128), (SIZE >> 18, 512, 512))
_BY_ID: Final = {"targets_format": "index"}

RIVALS: Final[Mapping[str, Rival]] = {
    "bce": Rival(bce, "torch's float32 BCE"),
    "focal": Rival(focal, "YOLOv5's formula in torch"),
    "asymmetric": Rival(asymmetric, "its authors' formula in torch"),
    "varifocal": Rival(varifocal, "its authors' formula in torch", scores),
    "cross_entropy": Rival(cross_entropy, "torch's float32 cross entropy", ids, _ROWS, _BY_ID),
    "softmax_focal": Rival(softmax_focal, "log_softmax in torch", ids, _ROWS, _BY_ID),
    "dice": Rival(dice, "two sums in torch", labels, _IMAGES),
    "tversky": Rival(tversky, "three sums in torch", labels, _IMAGES),
    "squared": Rival(squared, "torch's float32 MSE"),
    "hinge": Rival(hinge, "clamp in torch"),
    "box": Rival(box, "torchvision's formula in torch", boxes, ((81920, 4), (SIZE // 4, 4))),
}
"""The losses by name."""
