"""Numbers that others published, with their inputs; a tolerance is what their source prints."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from core.scoring import elements, sums, total, work


class Published(NamedTuple):
    source: str
    loss: str
    given: dict[str, Any]
    expected: Any
    rtol: float
    divisor: float = 1.0  # of the sums
    axis: int | None = None


_KERAS_LOGITS = {"logits": [[-18.6, 0.51], [2.94, -12.8]], "targets": [[0, 1], [0, 0]]}
_KERAS_PROBABILITIES = {"probabilities": [[0.6, 0.4], [0.4, 0.6]], "targets": [[0, 1], [0, 0]]}
_KERAS = "Keras, keras/src/losses/losses.py, docstring of "

CASES = [
    Published(_KERAS + "BinaryCrossentropy", "bce", _KERAS_LOGITS, 0.8654, 1e-4, 4),
    Published(_KERAS + "BinaryCrossentropy", "bce", _KERAS_LOGITS, [0.235, 1.496], 1e-3, 2, axis=1),
    Published(
        _KERAS + "BinaryFocalCrossentropy",
        "focal",
        {**_KERAS_LOGITS, "gamma": 4, "alpha": None},
        1.222,
        1e-3,
        2,  # it adds up the means of rows of two
    ),
    Published(_KERAS + "binary_crossentropy", "bce", _KERAS_PROBABILITIES, [0.916, 0.714], 1e-3, 2, axis=1),
    Published(
        _KERAS + "binary_focal_crossentropy",
        "focal",
        {**_KERAS_PROBABILITIES, "gamma": 2, "alpha": None},
        [0.330, 0.206],
        2e-3,
        2,
        axis=1,
    ),
    Published(
        "Keras, keras/src/losses/losses_test.py, BinaryFocalCrossentropy",
        "focal",
        {"probabilities": [[0.9, 0.8], [0.7, 0.2]], "targets": [[1, 0], [1, 0]], "gamma": 2, "alpha": None},
        [0.515547, 0.020513],
        1e-4,
        2,
        axis=1,
    ),
    Published(
        "MMCV, tests/test_ops/test_focal_loss.py, divided by the rows",
        "focal",
        {"logits": [[1.0, 0.0], [0.0, 1.0]], "targets": [[1, 0], [0, 1]], "gamma": 2, "alpha": 0.25},
        0.13562961,
        1e-6,
        2,
    ),
    Published(
        "Paddle, documentation of BCEWithLogitsLoss",
        "bce",
        {"logits": [5.0, 1.0, 3.0], "targets": [1, 0, 1]},
        0.45618808,
        1e-6,
        3,
    ),
    Published(
        "TensorFlow, documentation of tf.nn.sigmoid_cross_entropy_with_logits",
        "bce",
        {"logits": [1.0, -1, 0, 1, -1, 0, 0], "targets": [0, 0, 0, 1, 1, 1, 0.5]},
        [1.3132617, 0.3132617, 0.6931472, 0.3132617, 1.3132617, 0.6931472, 0.6931472],
        1e-6,
    ),
    Published(
        "PyTorch, documentation of BCEWithLogitsLoss",
        "bce",
        {"logits": [1.5], "targets": [1]},
        0.2014133,
        1e-6,
    ),
    Published(
        "https://github.com/pytorch/pytorch/issues/54843",
        "bce",
        {
            "logits": [0.40005136, -0.19986265, -0.19986265],
            "targets": [1, 0, 0],
            "weight": [3.0, 1.0, 1.0],
        },
        0.9118,
        1e-4,
        3,
    ),
    Published(
        "scikit-learn, sklearn/metrics/tests/test_classification.py, test_log_loss",
        "bce",
        {"probabilities": [0.5, 0.9, 0.99, 0.1, 0.25, 0.999], "targets": [0, 0, 0, 1, 1, 1]},
        1.8817971,
        1e-6,
        6,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.source.split(",")[0])
def test_published_numbers(case: Published) -> None:
    names = ("logits", "probabilities", "targets", "weight")
    tensors = {name: np.array(case.given[name]) for name in names if name in case.given}
    params = {name: value for name, value in case.given.items() if name not in names}
    got: Any
    if case.axis is not None:
        got = sums(work(case.loss, tensors, reduction="sum", axis=case.axis, **params))
    elif isinstance(case.expected, list):
        got = elements(case.loss, **tensors, **params)
    else:
        got = total(work(case.loss, tensors, reduction="sum", **params))
    np.testing.assert_allclose(got / case.divisor, case.expected, rtol=case.rtol, atol=0)


@pytest.mark.parametrize(
    ("variant", "libraries", "value"),
    [
        ("sigmoid", "YOLOv5's FocalLoss, TensorFlow Addons, torchvision and optax", 0.0878727),
        ("quality", "YOLOv5's QFocalLoss", 0.0237615),
    ],
)
def test_soft_targets_as_in(variant: str, libraries: str, value: float) -> None:
    # segmentation_models_pytorch says 0.1940056, MONAI 0.0698693 and kornia 0.4962859: other losses
    got = elements("focal", [2.0], [0.7], gamma=2, alpha=None, variant=variant)[0]
    assert got == pytest.approx(value, abs=0.5e-7), libraries
