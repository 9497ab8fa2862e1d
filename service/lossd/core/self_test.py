"""The known-answer check, which a kernel must pass before it may answer requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from lossd.core.catalog import LOSSES, Loss
from lossd.core.kernel import Kernel, WrongAnswerError
from lossd.core.parameters import check_params, losses_shape
from lossd.core.prepare import prepare
from lossd.types import Float64Array, Tensor


class Known(NamedTuple):
    """Losses that are known, with default parameters.

    Attributes:
        inputs: The inputs, a number or a row for each loss.
        targets: Its target, or targets.
        losses: The losses: computed to 50 digits with mpmath, rounded.
        units: How many units of the last place an answer may be off.
    """

    inputs: tuple[object, ...]
    targets: tuple[object, ...]
    losses: tuple[float, ...]
    units: float = 8.0


_LOGITS: Final = (-745.0, -40.0, -15.0, 0.0, 3.0, 100.0, -40.0, -1.25, 0.5, 17.0, 100.0, -1.25, 3.0)
_LABELS: Final = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 0.3)
_CLASSES: Final = (
    (0.0, 0.0, 0.0, 0.0, 0.0),
    (40.0, 0.0, -1.0, 3.0, 2.0),
    (1.0, 2.0, 3.0, 4.0, 5.0),
    (-745.0, 0.0, 1.0, 100.0, -3.0),
    (700.0, 0.5, -2.0, 3.0, 1.0),
    (0.1, -0.7, 0.25, 2.5, 1.75),
)
_IDS: Final = (2.0, 0.0, 0.0, 0.0, 0.0, 3.0)
_SAMPLES: Final = (
    (0.0, 0.0, 0.0, 0.0),
    (40.0, -40.0, 35.0, -50.0),
    (-2.0, 1.5, 0.25, -0.75),
    (-40.0, -41.0, -39.5, -38.0),
    (3.0, -1.0, 0.5, 2.0),
)
_MASKS: Final = (
    (0.0, 1.0, 0.0, 1.0),
    (1.0, 0.0, 1.0, 0.0),
    (0.0, 1.0, 1.0, 0.3),
    (0.0, 0.0, 0.0, 0.0),
    (0.0, 1.0, 1.0, 0.0),
)
_BOXES: Final = (
    (0.0, 0.0, 2.0, 2.0),
    (0.1, 0.2, 0.5, 0.9),
    (0.0, 0.0, 1.0, 1.0),
    (10.0, 20.0, 110.0, 220.0),
    (-5.0, -5.0, 5.0, 5.0),
)
_OBJECTS: Final = (
    (1.0, 1.0, 3.0, 3.0),
    (0.15, 0.1, 0.55, 0.8),
    (2.0, 2.0, 3.0, 3.0),
    (10.0, 20.0, 110.0, 220.0),
    (-1.0, -2.0, 1.0, 2.0),
)

KNOWN: Final[Mapping[str, Known]] = {
    "bce": Known(
        _LOGITS,
        _LABELS,
        (
            5e-324,
            4.248354255291589e-18,
            3.059022737137205e-07,
            0.6931471805599453,
            3.048587351573742,
            100.0,
            40.0,
            1.501929081345373,
            0.4740769841801067,
            4.139937633089748e-08,
            3.720075976020836e-44,
            0.6269290813453728,
            2.148587351573742,
        ),
        units=4.0,
    ),
    "focal": Known(
        _LOGITS,
        _LABELS,
        (
            0.0,
            2.7900569820156267e-44,
            3.8816638795310466e-17,
            0.1837984019003526,
            2.1257298879734954,
            75.0,
            10.0,
            0.25731927574310187,
            0.027493782411975046,
            8.718153108133883e-20,
            6.672975538853191e-110,
            0.09129103273325014,
            0.7245248675642761,
        ),
    ),
    "asymmetric": Known(
        _LOGITS,
        _LABELS,
        (
            0.0,
            0.0,
            0.0,
            0.02451505351223516,
            1.5453905387009437,
            2.4400426601364353,
            40.0,
            1.1674492664239897,
            0.1789833416691653,
            1.7139083251099059e-15,
            1.3838965267367376e-87,
            0.350352833672732,
            1.0824646663627917,
        ),
    ),
    "varifocal": Known(
        _LOGITS,
        _LABELS,
        (
            0.0,
            5.750736055291499e-53,
            2.1468872935671477e-20,
            0.12996509635498973,
            2.0747103307689465,
            75.0,
            40.0,
            1.501929081345373,
            0.4740769841801067,
            4.139937633089748e-08,
            3.720075976020836e-44,
            0.18807872440361187,
            0.6445762054721226,
        ),
    ),
    "squared": Known(
        _LOGITS,
        _LABELS,
        (
            555025.0,
            1600.0,
            225.0,
            0.0,
            9.0,
            10000.0,
            1681.0,
            5.0625,
            0.25,
            256.0,
            9801.0,
            2.4025,
            7.29,
        ),
    ),
    "hinge": Known(
        _LOGITS,
        _LABELS,
        (
            0.0,
            0.0,
            0.0,
            1.0,
            4.0,
            101.0,
            41.0,
            2.25,
            0.5,
            0.0,
            0.0,
            0.5,
            2.2,
        ),
    ),
    "cross_entropy": Known(
        _CLASSES,
        _IDS,
        (
            1.6094379124341003,
            1.2253304062254752e-16,
            4.451914395937593,
            845.0,
            2.424284974113513e-303,
            0.5360522993216817,
        ),
        units=16.0,
    ),
    "softmax_focal": Known(
        _CLASSES,
        _IDS,
        (
            1.0300402639578243,
            1.8397534737557874e-48,
            4.3487341826055195,
            845.0,
            0.0,
            0.09229788772734238,
        ),
        units=16.0,
    ),
    "dice": Known(
        _SAMPLES,
        _MASKS,
        (
            0.3333333333333333,
            1.0650142956671109e-16,
            0.19082081075242888,
            2.210345819563776e-17,
            0.43748256013399417,
        ),
        units=16.0,
    ),
    "tversky": Known(
        _SAMPLES,
        _MASKS,
        (
            0.3333333333333333,
            1.0650142956671109e-16,
            0.19082081075242888,
            2.210345819563776e-17,
            0.43748256013399417,
        ),
        units=16.0,
    ),
    "box": Known(
        _BOXES,
        _OBJECTS,
        (
            0.8571428571428571,
            0.4,
            1.0,
            0.0,
            0.92,
        ),
        units=16.0,
    ),
}
"""Known answers of every loss that the native kernel has, by name; the units are those that are promised."""
_LEAST: Final = 1100
"""More losses than a block of the native kernel has."""


def check_known_answers(kernel: Kernel) -> None:
    """Score the known cases of every loss that has some; a test demands them of all that are built in.

    Raises:
        WrongAnswerError: An answer is outside the promised bound.
    """
    for name, known in KNOWN.items():
        _check(kernel, LOSSES[name], known)


def _check(kernel: Kernel, loss: Loss, known: Known) -> None:
    got = _scored(kernel, loss, known)
    for place, value in enumerate(got.tolist()):
        case = place % len(known.losses)
        true = known.losses[case]
        if not abs(value - true) <= known.units * math.ulp(true):
            what = (known.inputs[case], known.targets[case])
            msg = f"{loss.name} of {what} on {kernel.device} came to {value!r}, not {true!r}"
            raise WrongAnswerError(msg)


def _scored(kernel: Kernel, loss: Loss, known: Known) -> Float64Array:
    """Return the losses of the cases, repeated until there are enough."""
    repeats = -(-_LEAST // len(known.losses))
    inputs = np.array(known.inputs * repeats, dtype=np.float64)
    targets = np.array(known.targets * repeats, dtype=np.float64)
    given: dict[str, object] = {"reduction": "none"}
    if loss.row == "classes":
        given["targets_format"] = "index"
    params = check_params(loss, given)
    tensors = {
        loss.inputs[0]: Tensor("float64", inputs.shape, 0),
        "targets": Tensor("float64", targets.shape, inputs.nbytes),
    }
    shape = losses_shape(loss, params, inputs.shape)
    got = np.empty(shape)
    work = prepare(loss.name, params, shape, (), len(got), tensors)
    kernel.score(work, inputs.tobytes() + targets.tobytes(), 0, 0, (got,))
    return got
