"""Losses as other libraries have them: numbers that they published, and their formulas in float64.

Where a library's definition is another, the test says how to get its number here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from core.scoring import Figures, Job, figures, sums, work

Array = NDArray[Any]

_KERAS_CLASSES = {"logits": [[8.0, 1.0, 1.0], [0.0, 9.0, 1.0], [2.0, 3.0, 5.0]], "targets": [0, 1, 2]}
_KERAS_MASKS = {
    "probabilities": [[[0.0, 1.0], [0.0, 1.0]], [[0.4, 0.0], [0.0, 0.9]]],
    "targets": [[[1.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]],
    "smooth": 0,
}
_KERAS_MARGINS = {"logits": [[0.6, 0.4], [0.4, 0.6]], "targets": [[0, 1], [0, 0]]}
_KERAS_SQUARES = {"logits": [[4, 8, 12], [8, 1, 3]], "targets": [[1, 9, 2], [-5, -2, 6]]}
_KERAS = "Keras, keras/src/losses/losses_test.py, "
_LARGE, _QUARTER, _BESIDE, _CORNER = [-1, -1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 2], [1, 1, 2, 2]
_TORCHVISION_BOXES = {
    "boxes": [_LARGE, _LARGE, _QUARTER, _QUARTER],
    "targets": [_LARGE, _QUARTER, _BESIDE, _CORNER],
}
_ADDONS_BOXES = {
    "boxes": [[4.0, 3.0, 7.0, 5.0], [5.0, 6.0, 10.0, 7.0]],
    "targets": [[3.0, 4.0, 6.0, 8.0], [14.0, 14.0, 15.0, 15.0]],
}


class Published(NamedTuple):
    source: str
    loss: str
    given: dict[str, Any]
    expected: list[float]
    rtol: float = 1e-6


CASES = [
    Published(
        _KERAS + "CategoricalCrossentropy",
        "cross_entropy",
        _KERAS_CLASSES,
        [0.001822, 0.000459, 0.169846],
        2e-3,
    ),
    Published(
        _KERAS + "CategoricalCrossentropy, label_smoothing",
        "cross_entropy",
        {"logits": [[100.0, -100.0, -100.0]], "targets": [0], "label_smoothing": 0.1},
        [40 / 3],
    ),
    Published(
        _KERAS + "CategoricalFocalCrossentropy, whose alpha is one number",
        "softmax_focal",
        {**_KERAS_CLASSES, "alpha": [0.25] * 3},
        [1.5096224e-09, 2.4136547e-11, 1.0360638e-03],
        5e-4,  # in float32, in which 1 - p has four digits
    ),
    Published(_KERAS + "Dice, without smooth", "dice", _KERAS_MASKS, [0.5, 0.75757575]),
    Published(
        _KERAS + "Tversky, whose alpha and beta are the other way round: alpha=0.2, beta=0.8",
        "tversky",
        {**_KERAS_MASKS, "alpha": 0.8, "beta": 0.2},
        [0.5, 0.7222222],
    ),
    Published(_KERAS + "Hinge", "hinge", _KERAS_MARGINS, [1.1, 1.5]),
    Published(_KERAS + "MeanSquaredError", "squared", _KERAS_SQUARES, [49.5]),
    Published(
        "torchvision, test/test_ops.py, generalized_box_iou_loss",
        "box",
        {**_TORCHVISION_BOXES, "variant": "giou"},
        [0, 0.75, 1, 1.5],
    ),
    Published(
        "torchvision, test/test_ops.py, complete_box_iou_loss",
        "box",
        {"boxes": [_LARGE] * 4, "targets": [_LARGE, _QUARTER, _BESIDE, _CORNER], "variant": "ciou"},
        [0, 0.8125, 1.1923, 1.25],
        1e-4,
    ),
    Published(
        "detectron2, tests/layers/test_losses.py, diou_loss",
        "box",
        {"boxes": [_LARGE], "targets": [[0, -1, 1, 1]], "variant": "diou"},
        [0.5 + 0.25 / 8],
    ),
    Published("TensorFlow Addons, giou_loss, mode iou", "box", _ADDONS_BOXES, [14 / 16, 1]),
    Published(
        "TensorFlow Addons, giou_loss", "box", {**_ADDONS_BOXES, "variant": "giou"}, [1.075, 1.9333333]
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.source)
def test_published_numbers(case: Published) -> None:
    names = ("logits", "probabilities", "boxes", "targets")
    tensors = {name: np.array(case.given[name]) for name in names if name in case.given}
    params = {name: value for name, value in case.given.items() if name not in names}
    got = _losses(case.loss, tensors, **params)
    means = got.reshape(len(case.expected), -1).mean(axis=1)
    np.testing.assert_allclose(means, case.expected, rtol=case.rtol, atol=1e-15)


def test_published_weighted_means() -> None:
    # Keras divides by the number of losses, weighted or not, as normalizer=count does.
    arrays = {name: np.array(value) for name, value in _KERAS_CLASSES.items()}
    found = _figures("cross_entropy", {**arrays, "weight": np.array([1.2, 3.4, 5.6])})
    assert found.sum.value / found.count == pytest.approx(0.31829, rel=1e-4)
    squares = {name: np.array(value, dtype=float) for name, value in _KERAS_SQUARES.items()}
    found = _figures("squared", {**squares, "weight": np.array([[1.2], [3.4]])})
    assert found.sum.value / found.count == pytest.approx(767.8 / 6, rel=1e-12)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(50, 7), (3, 7, 4, 5)])
def test_torchs_cross_entropy(
    rng: np.random.Generator, shape: tuple[int, ...], weighted: bool, smoothing: float
) -> None:
    logits = rng.normal(0, 3, shape)
    ids = rng.integers(0, 7, (shape[0], *shape[2:]))
    ids.reshape(-1)[::9] = -100
    weight = rng.uniform(0.1, 2, 7) if weighted else None
    given: dict[str, Any] = {"class_axis": 1, "ignore_index": -100, "label_smoothing": smoothing}
    found = _figures(
        "cross_entropy",
        {"logits": logits, "targets": ids},
        class_weight=None if weight is None else weight.tolist(),
        normalizer="weight",
        **given,
    )
    divisor = found.count if found.weight_sum is None else found.weight_sum.value
    expected = functional.cross_entropy(
        torch.from_numpy(logits),
        torch.from_numpy(ids),
        None if weight is None else torch.from_numpy(weight),
        label_smoothing=smoothing,
    )
    assert found.sum.value / divisor == pytest.approx(expected.item(), rel=1e-13)


def test_torchs_cross_entropy_of_soft_targets(rng: np.random.Generator) -> None:
    # torch's mean of soft targets is over the rows, with weights too: here normalizer=count.
    logits, targets = rng.normal(0, 3, (50, 7)), rng.dirichlet(np.ones(7), 50)
    weight = rng.uniform(0.1, 2, 7)
    given = {"logits": logits, "targets": targets}
    found = _losses("cross_entropy", given, class_weight=weight.tolist(), label_smoothing=0.2)
    theirs = functional.cross_entropy(
        torch.from_numpy(logits),
        torch.from_numpy(targets),
        torch.from_numpy(weight),
        reduction="none",
        label_smoothing=0.2,
    )
    np.testing.assert_allclose(found, theirs.numpy(), rtol=1e-12)


def test_the_asymmetric_loss_of_its_authors_and_timm(rng: np.random.Generator) -> None:
    # They clamp the probabilities of the logarithms at 1e-8, which tells from 18 on.
    x, y = rng.normal(0, 4, (50, 9)), (rng.random((50, 9)) < 0.2).astype(float)
    p = 1 / (1 + np.exp(-x))
    q = np.minimum(1 - p + 0.05, 1)
    logs = y * np.log(np.maximum(p, 1e-8)) + (1 - y) * np.log(np.maximum(q, 1e-8))
    p_t = p * y + q * (1 - y)
    expected = -logs * (1 - p_t) ** (1 * y + 4 * (1 - y))
    found = _losses("asymmetric", {"logits": x, "targets": y})
    np.testing.assert_allclose(found, expected.reshape(-1), rtol=1e-11, atol=1e-15)


def test_the_varifocal_loss_of_mmdetection(rng: np.random.Generator) -> None:
    x, y = rng.normal(0, 4, (50, 9)), rng.random((50, 9)) * (rng.random((50, 9)) < 0.2)
    p = 1 / (1 + np.exp(-x))
    factors = y * (y > 0) + 0.75 * np.abs(p - y) ** 2 * (y <= 0)
    plain = np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))
    found = _losses("varifocal", {"logits": x, "targets": y})
    np.testing.assert_allclose(found, (factors * plain).reshape(-1), rtol=1e-12)


@pytest.mark.parametrize(
    ("mode", "per", "axes"), [("binary", "all", (0, 1, 2)), ("multilabel", "class", (0, 2))]
)
def test_the_dice_loss_of_segmentation_models_pytorch(
    rng: np.random.Generator, mode: str, per: str, axes: tuple[int, ...]
) -> None:
    # It is over the whole batch, and its smooth is twice ours.
    x, y = rng.normal(0, 3, (4, 5, 30)), (rng.random((4, 5, 30)) < 0.3).astype(float)
    p = 1 / (1 + np.exp(-x))
    smooth = 3.0
    expected = 1 - (2 * (p * y).sum(axes) + smooth) / ((p + y).sum(axes) + smooth)
    found = _losses("dice", {"logits": x, "targets": y}, per=per, class_axis=1, smooth=smooth / 2)
    np.testing.assert_allclose(found, np.atleast_1d(expected), rtol=1e-12, err_msg=mode)


def test_what_an_empty_mask_costs() -> None:
    # segmentation_models_pytorch says 0, whatever is predicted.
    tensors = {"probabilities": np.array([[1.0] * 3, [0.0] * 3]), "targets": np.zeros((2, 3))}
    assert _losses("dice", tensors, smooth=0).tolist() == [1, 0]
    assert _losses("dice", tensors).tolist() == [1.5 / 2.5, 0]


def test_the_tversky_loss_of_segmentation_models_pytorch(rng: np.random.Generator) -> None:
    # Its alpha is that of false positives, as ours; smooth is added above and below the line.
    p, y = rng.random((1, 60)), (rng.random((1, 60)) < 0.3).astype(float)
    right, alarms, missed = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum()
    expected = 1 - (right + 2) / (right + 0.3 * alarms + 0.7 * missed + 2)
    found = _losses("tversky", {"probabilities": p, "targets": y}, alpha=0.3, beta=0.7, smooth=2)
    assert found[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("variant", ["iou", "giou", "diou", "ciou"])
def test_the_box_losses_of_torchvision(rng: np.random.Generator, variant: str) -> None:
    # Without its eps of 1e-7 in the divisors, which tells from boxes of a pixel in a million on.
    ours, theirs = (np.sort(rng.uniform(0, 9, (40, 2, 2)), axis=1).reshape(40, 4) for _ in range(2))
    a, b = torch.from_numpy(ours), torch.from_numpy(theirs)
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    size, other = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    union = size.prod(1) + other.prod(1) - common
    iou = common / union
    around = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    middle = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2
    apart = (middle**2).sum(1) / (around**2).sum(1)
    turn = torch.atan(other[:, 0] / other[:, 1]) - torch.atan(size[:, 0] / size[:, 1])
    v = 4 / torch.pi**2 * turn**2
    more = {
        "iou": torch.zeros_like(iou),
        "giou": (around.prod(1) - union) / around.prod(1),
        "diou": apart,
        "ciou": apart + v * v / (1 - iou + v),
    }
    found = _losses("box", {"boxes": ours, "targets": theirs}, variant=variant)
    np.testing.assert_allclose(found, (1 - iou + more[variant]).numpy(), rtol=1e-12)


def _losses(loss: str, tensors: dict[str, Array], **params: object) -> Array:
    """Return the losses, one behind the other."""
    return sums(_job(loss, tensors, reduction="none", **params)).reshape(-1)


def _figures(loss: str, tensors: dict[str, Array], **params: object) -> Figures:
    return figures(_job(loss, tensors, reduction="mean", **params))


def _job(loss: str, tensors: dict[str, Array], **params: object) -> Job:
    """Return a request; a list with a number for each class is a tensor to the kernels."""
    lists = {name: np.array(value) for name, value in params.items() if isinstance(value, list)}
    rest: dict[str, Any] = {name: value for name, value in params.items() if name not in lists}
    return work(loss, {**tensors, **lists}, **rest)
