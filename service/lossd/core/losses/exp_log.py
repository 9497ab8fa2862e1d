"""exp, log and powers in float64, from + - * / and moves of bits alone: the same bits on all devices.

Each number that is wanted to more digits than one float64 holds is a `Pair`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossd.core.losses.pairs import (
    Pair,
    bits_of,
    choose,
    float_of,
    over,
    pair,
    product_of,
    sum_of,
    sum_of_ordered,
    times,
)


def hexadecimal(*numbers: str) -> tuple[float, ...]:
    """Return numbers written in C's hexadecimal form."""
    return tuple(float.fromhex(number) for number in numbers)


# scripts/coefficients.py derives and checks these.
_EXP_TAIL: Final = hexadecimal(
    "0x1.5555555555556p-3", "0x1.5555555555556p-5", "0x1.11111111109b5p-7", "0x1.6c16c16c15dbbp-10",
    "0x1.a01a01a7c311dp-13", "0x1.a01a01a93606fp-16", "0x1.71de0db299458p-19", "0x1.27e4d4dbdc846p-22",
    "0x1.af389f780df8dp-26", "0x1.1f7f108f9b2aap-29",
)  # fmt: skip
_LOG_TAIL: Final = hexadecimal(
    "0x1.5555555555555p-1", "0x1.999999999a455p-2", "0x1.24924923cd2a7p-2", "0x1.c71c72766dd16p-3",
    "0x1.745cefc11f145p-3", "0x1.3b18cafc5c9a1p-3", "0x1.10ab005e40b7dp-3", "0x1.ebaa64501402fp-4",
    "0x1.67fd4b5b53412p-4", "0x1.4b87822c076b8p-3",
)  # fmt: skip
_FINE_LOG_TAIL: Final = hexadecimal(
    "0x1.5555555555555p-1", "0x1.9999999999a39p-2", "0x1.249249247694ap-2", "0x1.c71c7201b280bp-3",
    "0x1.745cf8e2a0693p-3", "0x1.3b1c3bf61d111p-3", "0x1.0fbdf27fbfc74p-3", "0x1.0c09ce6dcf5ffp-3",
)  # fmt: skip

_SHORT_EXP_TAIL: Final = hexadecimal(
    "0x1.5555555555556p-3", "0x1.5555555519411p-5", "0x1.11111110ca013p-7", "0x1.6c17bb61d63c9p-10",
    "0x1.a01b3b1ae42a1p-13",
)  # fmt: skip
_ROOTS: Final = hexadecimal(
    "0x1.0000000000000p+0", "0x1.ea4afa2a490dap-1", "0x1.d5818dcfba487p-1", "0x1.c199bdd85529cp-1",
    "0x1.ae89f995ad3adp-1", "0x1.9c49182a3f090p-1", "0x1.8ace5422aa0dbp-1", "0x1.7a11473eb0187p-1",
    "0x1.6a09e667f3bcdp-1", "0x1.5ab07dd485429p-1", "0x1.4bfdad5362a27p-1", "0x1.3dea64c123422p-1",
    "0x1.306fe0a31b715p-1", "0x1.2387a6e756238p-1", "0x1.172b83c7d517bp-1", "0x1.0b5586cf9890fp-1",
)  # fmt: skip
"""2^-(i / 16)."""
_ROOTS_LOW: Final = hexadecimal(
    "0x0.0p+0", "-0x1.e9c23179c2893p-55", "0x1.2ed02d75b3707p-56", "0x1.11065895048ddp-56",
    "0x1.7a1cd345dcc81p-55", "0x1.c7c46b071f2bep-57", "0x1.6e9f156864b27p-55", "-0x1.41577ee04992fp-56",
    "-0x1.bdd3413b26456p-55", "0x1.6324c054647adp-55", "0x1.d4397afec42e2p-57", "0x1.ada0911f09ebcp-56",
    "0x1.6f46ad23182e4p-56", "0x1.9b07eb6c70573p-55", "-0x1.19041b9d78a76p-56", "0x1.8a62e4adc610bp-55",
)  # fmt: skip
"""What is lost of them."""

_LOG2_E: Final = float.fromhex("0x1.71547652b82fep+0")
_LN2_HIGH: Final = float.fromhex("0x1.62e42feep-1")
"""Short enough that its product with an exponent is exact."""
_LN2_LOW: Final = float.fromhex("0x1.a39ef35793c76p-33")
_TO_INTEGER: Final = 1.5 * 2.0**52
"""Adding it rounds to an integer, and leaves that in the last bits."""
FAR: Final = 800.0
"""exp(-800) is 0: larger exponents are computed as this."""
_LEAST_NORMAL: Final = 2.0**-1022
_SQRT_HALF: Final = 0x3FE6A09E667F3BCD
_ONE: Final = 0x3FF0000000000000
SIMPLE_GAMMAS: Final = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Exponents, besides 0, that need only products and a root."""


class Exp(NamedTuple):
    """A power of e, as 2^-n (1 + q)."""

    q: Pair
    n: Tensor


def exp_minus(t: Tensor, low: Tensor | float = 0.0, *, fine: bool = False) -> Exp:
    """Return ``exp(-(t + low))`` for t >= -0.3.

    n is the integer nearest to t / ln(2), q a polynomial in what is left of t.

    Args:
        t: The number.
        low: Its second float64.
        fine: Whether q is wanted to the digits of a pair.
    """
    near = torch.where(t > FAR, FAR, t)
    shifted = near * _LOG2_E + _TO_INTEGER
    n = shifted - _TO_INTEGER
    large, little = n * _LN2_HIGH - near, n * _LN2_LOW - low
    if fine:
        r = sum_of(large, little)
        square = product_of(r.hi, r.hi)
        head = sum_of_ordered(r.hi, 0.5 * square.hi)
        tail = (r.hi * square.hi) * polynomial(_EXP_TAIL, r.hi)
        rest = 0.5 * square.lo + (r.lo + r.lo * r.hi)
        q = sum_of_ordered(head.hi, head.lo + (rest + tail))
    else:
        first = large + little
        square_and_on = (first * first) * (0.5 + first * polynomial(_EXP_TAIL, first))
        q = sum_of_ordered(first, square_and_on)
    return Exp(q, bits_of(shifted) & 0xFFF)


def rounded_exp_minus(t: Tensor, low: Tensor) -> Tensor:
    """Return ``exp(-(t + low))`` for t >= 0, to little more than half a unit of its last place.

    It is 2^-(n / 16) exp(r), with the integer n nearest to 16 t / ln(2), and a power from a table, as a pair.
    """
    near = torch.where(t > FAR, FAR, t)
    shifted = near * (16.0 * _LOG2_E) + _TO_INTEGER
    n = shifted - _TO_INTEGER
    r = (n * (_LN2_HIGH / 16.0) - near) + (n * (_LN2_LOW / 16.0) - low)
    c0, c1, c2, c3, c4 = _SHORT_EXP_TAIL
    square = r * r
    tail = (c0 + c1 * r) + ((c2 + c3 * r) + c4 * square) * square
    q = r + square * (0.5 + r * tail)
    bits = bits_of(shifted) & 0xFFFF
    place = bits & 15
    high = torch.tensor(_ROOTS, dtype=torch.float64, device=t.device)[place]
    value = high + (torch.tensor(_ROOTS_LOW, dtype=torch.float64, device=t.device)[place] + high * q)
    return scaled(value, bits >> 4)


def scaled(value: Tensor, n: Tensor) -> Tensor:
    """Return ``value 2^-n``, in two steps of which only the second may round."""
    half = n >> 1
    return value * float_of((1023 - half) << 52) * float_of((1023 - (n - half)) << 52)


def log1p(v: Tensor, low: Tensor | float = 0.0) -> Pair:
    """Return ``log(1 + v + low)`` for -1/2 <= v <= 1: 2 atanh(f) with f = v / (2 + v), and 2 f = v - f v."""
    f = v / (2.0 + v)
    w = f * f
    return sum_of_ordered(v, low - f * (v - w * polynomial(_LOG_TAIL, w)))


class _Split(NamedTuple):
    """A number > 0 as c 2^n, sqrt(1/2) <= c < sqrt(2); c is the number times ``up`` times ``scale``."""

    c: Tensor
    n: Tensor
    up: Tensor
    scale: Tensor


def _split(value: Tensor) -> _Split:
    subnormal = value < _LEAST_NORMAL
    up = torch.where(subnormal, 2.0**54, 1.0).double()
    raised = bits_of(value * up) + (_ONE - _SQRT_HALF)
    exponent = raised >> 52
    c = float_of((raised & 0xFFFFFFFFFFFFF) + _SQRT_HALF)
    n = exponent.double() - torch.where(subnormal, 1077.0, 1023.0).double()
    return _Split(c, n, up, float_of((2046 - exponent) << 52))


def minus_log(value: Tensor, low: Tensor | float = 0.0) -> Pair:
    """Return ``-log(value + low)`` for 0 < value <= 1/2; for 0 some number > 0."""
    split = _split(value)
    rest = split.n * _LN2_LOW + log1p(split.c - 1.0, low * split.up * split.scale).hi
    return sum_of_ordered(-(split.n * _LN2_HIGH), -rest)


def fine_log(value: Pair) -> Pair:
    """Return ``log(value)`` for a value > 0, to the digits of a pair; for 0 some number < 0."""
    split = _split(value.hi)
    low = value.lo * split.up * split.scale
    below, above = sum_of(split.c - 1.0, low), sum_of_ordered(1.0, split.c)
    return _fine_log_of_ratio(over(below, Pair(above.hi, above.lo + low)), split.n)


def fine_log1p(v: Pair) -> Pair:
    """Return ``log(1 + v)`` for -1/2 <= v <= 1, from half or twice 1 + v where that is nearer to 1."""
    halve, twice = v.hi > math.sqrt(2.0) - 1.0, v.hi < math.sqrt(0.5) - 1.0
    below = sum_of(v.hi, choose(halve, -1.0, twice, 0.5, 0.0))
    above = sum_of(v.hi, choose(halve, 3.0, twice, 1.5, 2.0))
    f = over(Pair(below.hi, below.lo + v.lo), Pair(above.hi, above.lo + v.lo))
    return _fine_log_of_ratio(f, choose(halve, 1.0, twice, -1.0, 0.0))


def _fine_log_of_ratio(f: Pair, n: Tensor) -> Pair:
    """Return ``log((1 + f) / (1 - f)) + n log(2)`` for abs(f) <= (sqrt(2) - 1) / (sqrt(2) + 1)."""
    w = f.hi * f.hi
    tail = f.hi * (w * polynomial(_FINE_LOG_TAIL, w))
    head = sum_of_ordered(n * _LN2_HIGH, 2.0 * f.hi)
    return sum_of_ordered(head.hi, head.lo + (n * _LN2_LOW + (2.0 * (f.lo + f.lo * w) + tail)))


def power(value: Pair, gamma: float) -> Tensor:
    """Return ``value ** gamma`` for a value >= 0 and gamma > 0."""
    if gamma == 0.5:
        return square_root((value.hi + value.lo).abs())
    if gamma in SIMPLE_GAMMAS:
        last = (value.hi + gamma * value.lo).abs()
        if gamma == 1.0:
            return last
        first = square_root(value.hi) if gamma == 1.5 else value.hi
        return (first * first if gamma == 3.0 else first) * last
    exponent = times(fine_log(value), pair(torch.full_like(value.hi, -gamma)))
    exp = exp_minus(exponent.hi, exponent.lo)
    return torch.where(value.hi > 0.0, scaled(1.0 + exp.q.hi, exp.n), 0.0)


def square_root(value: Tensor) -> Tensor:
    """Return the square root, correctly rounded: torch's is not on every CPU, numpy's is the CPU's own."""
    if value.is_cpu:
        with np.errstate(invalid="ignore"):  # of targets outside [0, 1], which are named later
            return torch.from_numpy(np.sqrt(value.numpy()))
    return torch.sqrt(value)


def polynomial(c: tuple[float, ...], v: Tensor) -> Tensor:
    """Return a polynomial, lowest power first, by Estrin's scheme, in which few steps wait for others."""
    terms: list[Tensor] = [c[i] + c[i + 1] * v for i in range(0, len(c), 2)]
    while len(terms) > 1:
        v = v * v
        pairs = [terms[i] + terms[i + 1] * v for i in range(0, len(terms) - 1, 2)]
        terms = pairs + terms[2 * len(pairs) :]
    return terms[0]
