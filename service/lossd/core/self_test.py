"""The known-answer check, which a kernel must pass before it may answer requests."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from lossd.core.catalog import LOSSES
from lossd.core.kernel import Kernel, WrongAnswerError
from lossd.core.parameters import check_params
from lossd.core.prepare import prepare
from lossd.types import Tensor

KNOWN: Final = (
    # logit, target, BCE, focal with gamma 1.5 and alpha 0.25: computed to 60 digits with mpmath, rounded
    (-745.0, 0.0, 5e-324, 0.0),
    (-40.0, 0.0, 4.248354255291589e-18, 2.7900569820156267e-44),
    (-15.0, 0.0, 3.059022737137205e-07, 3.8816638795310466e-17),
    (0.0, 0.0, 0.6931471805599453, 0.1837984019003526),
    (3.0, 0.0, 3.048587351573742, 2.1257298879734954),
    (100.0, 0.0, 100.0, 75.0),
    (-40.0, 1.0, 40.0, 10.0),
    (-1.25, 1.0, 1.501929081345373, 0.25731927574310187),
    (0.5, 1.0, 0.4740769841801067, 0.027493782411975046),
    (17.0, 1.0, 4.139937633089748e-08, 8.718153108133883e-20),
    (100.0, 1.0, 3.720075976020836e-44, 6.672975538853191e-110),
    (-1.25, 0.3, 0.6269290813453728, 0.09129103273325014),
    (3.0, 0.3, 2.148587351573742, 0.7245248675642761),
)
_ELEMENTS: Final = 1100
"""More elements than a block of the native kernel has."""
_TOLERANCE: Final = {"bce": 4.0, "focal": 8.0}
"""Units of the last place, as docs/explanations/numerics.md promises."""


def check_known_answers(kernel: Kernel) -> None:
    """Score the known cases.

    Raises:
        WrongAnswerError: An answer is outside the promised bound.
    """
    cases = (KNOWN * _ELEMENTS)[:_ELEMENTS]
    body = np.array([[case[0] for case in cases], [case[1] for case in cases]]).tobytes()
    shape = (_ELEMENTS,)
    tensors = {
        "logits": Tensor("float64", shape, 0),
        "targets": Tensor("float64", shape, 8 * _ELEMENTS),
    }
    for place, loss in enumerate(("bce", "focal"), start=2):
        got = np.empty(_ELEMENTS)
        params = check_params(LOSSES[loss], {"reduction": "none"})
        kernel.score(prepare(loss, params, shape, (), _ELEMENTS, tensors), body, 0, 0, (got,))
        for case, value in zip(cases, got, strict=True):
            true = case[place]
            if not abs(float(value) - true) <= _TOLERANCE[loss] * math.ulp(true):
                msg = f"{loss} of {case[:2]} on {kernel.device} came to {value!r}, not {true!r}"
                raise WrongAnswerError(msg)
