"""Arithmetic with pairs of float64: numbers to about twice the digits of one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Pair(NamedTuple):
    """``hi + lo``, where lo is what was lost when hi was rounded."""

    hi: Tensor
    lo: Tensor


def pair(value: Tensor) -> Pair:
    """Return a number that is exact in one float64."""
    return Pair(value, torch.zeros_like(value))


def sum_of(a: Tensor, b: Tensor) -> Pair:
    """Return ``a + b``, exactly (Knuth)."""
    s = a + b
    v = s - a
    return Pair(s, (a - (s - v)) + (b - v))


def sum_of_ordered(a: Tensor | float, b: Tensor) -> Pair:
    """Return ``a + b``, exactly, for abs(a) >= abs(b) or a = 0 (Dekker)."""
    s = a + b
    return Pair(s, b - (s - a))


def product_of(a: Tensor, b: Tensor) -> Pair:
    """Return ``a b``, exactly but for the last bits of lo (Dekker, with halves cut off by bit masks)."""
    p = a * b
    a1, b1 = float_of(bits_of(a) & -0x8000000), float_of(bits_of(b) & -0x8000000)
    a2, b2 = a - a1, b - b1
    return Pair(p, (((a1 * b1 - p) + a1 * b2) + a2 * b1) + a2 * b2)


def plus(a: Pair, b: Pair) -> Pair:
    """Return ``a + b``."""
    s = sum_of(a.hi, b.hi)
    return Pair(s.hi, s.lo + (a.lo + b.lo))


def times(a: Pair, b: Pair) -> Pair:
    """Return ``a b``."""
    p = product_of(a.hi, b.hi)
    return Pair(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi))


def over(a: Pair, b: Pair) -> Pair:
    """Return ``a / b``, corrected by what a / b.hi leaves."""
    q = a.hi / b.hi
    p = product_of(q, b.hi)
    return Pair(q, (((a.hi - p.hi) - p.lo) + (a.lo - q * b.lo)) / b.hi)


def minus(a: Pair) -> Pair:
    """Return ``-a``."""
    return Pair(-a.hi, -a.lo)


def choice(first: Tensor, a: Pair, b: Pair) -> Pair:
    """Return ``a`` where ``first``, else ``b``."""
    return Pair(torch.where(first, a.hi, b.hi), torch.where(first, a.lo, b.lo))


def choose(first: Tensor, a: float, second: Tensor, b: float, c: float) -> Tensor:
    """Return ``a`` where ``first``, else ``b`` where ``second``, else ``c``."""
    return torch.where(first, a, torch.where(second, b, c).double())


def bits_of(value: Tensor) -> Tensor:
    """Return the bits of float64 numbers, as int64."""
    return value.contiguous().view(torch.int64)


def float_of(bits: Tensor) -> Tensor:
    """Return the float64 numbers of some bits."""
    return bits.view(torch.float64)
