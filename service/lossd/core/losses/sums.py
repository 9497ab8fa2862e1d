"""Exact sums of tensors, on any device.

Each value is split at a power of two so large that the upper parts, multiples of one quantum, add up exactly
in whatever order the device adds them. The rests are split again, until nothing is left (Rump, Ogita
and Oishi, "Accurate floating-point summation part I", SIAM J. Sci. Comput. 31, 2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lossd.core.exact_sum import ExactSum
from lossd.types import Float64Array

_INFINITE: Final = 2047  # biased exponents
_SMALL: Final = 128
_UP: Final = 2.0**200


def planes_of(values: Tensor, axes: Sequence[int]) -> list[Float64Array]:
    """Return arrays that add up exactly to the sums over some axes.

    Args:
        values: float64, of any shape.
        axes: The axes to sum over; none for the values themselves.
    """
    if not axes:
        return [values.reshape(-1).cpu().numpy()]
    bits = math.prod(values.shape[axis] for axis in axes).bit_length()
    rest, planes = values, list[Float64Array]()
    while True:
        greatest = rest.abs().amax(tuple(axes), keepdim=True)
        top = _exponents(greatest)
        highest = int(top.max())
        if highest == _INFINITE:  # or NaN
            finite = torch.isfinite(rest)
            planes.append(torch.where(finite, 0.0, rest).sum(tuple(axes)).reshape(-1).cpu().numpy())
            rest = torch.where(finite, rest, 0.0)
            continue
        if highest + bits + 1 >= _INFINITE:  # so large that the power of two would be infinite
            return [*planes, *_on_host(rest, axes)]
        if highest < _SMALL and bool(rest.any()):  # else the last digits could not be split off
            return [*planes, *(plane / _UP for plane in planes_of(rest * _UP, axes))]
        # Each is below 2^(exponent - bias + 1) in magnitude, so their sum is below `cut`.
        cut = ((top + bits + 1).clamp(min=1) << 52).view(torch.float64)
        part = (rest + cut) - cut
        planes.append(part.sum(tuple(axes)).reshape(-1).cpu().numpy())
        rest = rest - part
        if not bool(rest.any()):
            return planes


def terms_of(values: Tensor) -> list[float]:
    """Return numbers that add up exactly to the sum of a tensor, float64, [n]."""
    return [float(plane[0]) for plane in planes_of(values, (0,))]


def _exponents(values: Tensor) -> Tensor:
    """Return the biased exponents of numbers that are not negative."""
    return values.view(torch.int64) >> 52


def _on_host(values: Tensor, axes: Sequence[int]) -> list[Float64Array]:
    """Return what `planes_of` does, computed number by number."""
    kept = [axis for axis in range(values.dim()) if axis not in axes]
    rows = values.permute(*kept, *axes).reshape(-1, math.prod(values.shape[axis] for axis in axes))
    sums = [ExactSum(row).terms for row in rows.tolist()]
    planes = np.zeros((max(map(len, sums)), len(sums)))
    for output, terms in enumerate(sums):
        planes[: len(terms), output] = terms
    return list(planes)
