"""The element losses, defined: what each element of a request costs, in float64, step by step.

Every step is one of ``+ - * /``, a square root, a comparison or a move of bits, rounded on its own, and none
is left to a library or a compiler to choose. So the same element has the same 64 bits on any CPU and any CUDA
device. core/native/elements.h has the same steps in C, for speed; a test compares the two, bit for bit. Hence
no torch.exp, log, pow or sigmoid here, which differ between devices and versions, and nothing that may
multiply and add in one rounding (addcmul, lerp, ``alpha=``).

What is computed for an element of logit x and target y, with z for 1 - y and k for pos_weight:

- The cross entropy, ``k y (-log p) + z (-log q)`` with p = sigmoid(x) and q = sigmoid(-x), as torch's
  BCEWithLogitsLoss defines it (https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html).
  With e = exp(-|x|), the class that x speaks for costs log(1 + e), and the other |x| + log(1 + e): no
  overflow, and neither tail is lost (Mächler, "Accurately Computing log(1 - exp(-|a|))", 2012).
- Focal loss, ``a m^gamma`` times that, where m is small for an element that is already right:

========= ==================== =================== ==========================================================
variant   m                    a                   where
========= ==================== =================== ==========================================================
sigmoid   y q + z p            y alpha +           FocalLoss of YOLOv5's utils/loss.py
                               z (1 - alpha)
exp       1 + 1e-6 - exp(-BCE) alpha               the line that YOLOv5's FocalLoss comments out
quality   abs(y q - z p)       y alpha +           QFocalLoss of YOLOv5; Li et al., "Generalized Focal Loss",
                               z (1 - alpha)       https://arxiv.org/abs/2006.04388
========= ==================== =================== ==========================================================

https://github.com/ultralytics/yolov5/blob/master/utils/loss.py. m of ``sigmoid`` is 1 - p_t of Lin et al.,
"Focal Loss for Dense Object Detection" (https://arxiv.org/abs/1708.02002), extended to soft targets.

How exactly: a number that is wanted to more digits than one float64 has is two, `_Two`, of which the second
is what the first one's rounding has lost. An error of m counts gamma times in m^gamma, so m is two; where
m^gamma needs a logarithm, and in variant ``exp``, even exp is worked out in two throughout ("fine"). With
pos_weight, smoothing or soft targets more steps round, and the costs are two as well ("careful"); else the
first are exact enough, and the quickest. So the error stays below 4 units of the last place for the cross
entropy, and below 8 for focal loss with gamma up to 10, beyond that 8 + gamma.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor


def _hex(*numbers: str) -> tuple[float, ...]:
    return tuple(float.fromhex(number) for number in numbers)


# scripts/coefficients.py derives and checks these.
_EXP_TAIL: Final = _hex(
    "0x1.5555555555556p-3", "0x1.5555555555556p-5", "0x1.11111111109b5p-7", "0x1.6c16c16c15dbbp-10",
    "0x1.a01a01a7c311dp-13", "0x1.a01a01a93606fp-16", "0x1.71de0db299458p-19", "0x1.27e4d4dbdc846p-22",
    "0x1.af389f780df8dp-26", "0x1.1f7f108f9b2aap-29",
)  # fmt: skip
_LOG_TAIL: Final = _hex(
    "0x1.5555555555555p-1", "0x1.999999999a455p-2", "0x1.24924923cd2a7p-2", "0x1.c71c72766dd16p-3",
    "0x1.745cefc11f145p-3", "0x1.3b18cafc5c9a1p-3", "0x1.10ab005e40b7dp-3", "0x1.ebaa64501402fp-4",
    "0x1.67fd4b5b53412p-4", "0x1.4b87822c076b8p-3",
)  # fmt: skip
_FINE_LOG_TAIL: Final = _hex(
    "0x1.5555555555555p-1", "0x1.9999999999a39p-2", "0x1.249249247694ap-2", "0x1.c71c7201b280bp-3",
    "0x1.745cf8e2a0693p-3", "0x1.3b1c3bf61d111p-3", "0x1.0fbdf27fbfc74p-3", "0x1.0c09ce6dcf5ffp-3",
)  # fmt: skip

_LOG2_E: Final = float.fromhex("0x1.71547652b82fep+0")
_LN2_HIGH: Final = float.fromhex("0x1.62e42feep-1")
"""So few digits that its product with an exponent is exact."""
_LN2_LOW: Final = float.fromhex("0x1.a39ef35793c76p-33")
_TO_INTEGER: Final = 1.5 * 2.0**52
"""Adding it rounds to an integer, which then stands in the last bits."""
_FAR: Final = 800.0
"""exp(-800) is 0. A cost that is infinite is computed with as 800, and made infinite in the end."""
_LEAST_NORMAL: Final = 2.0**-1022
_SQRT_HALF: Final = 0x3FE6A09E667F3BCD
_ONE: Final = 0x3FF0000000000000
_MARGIN: Final = _hex("0x1.0c6f7a0b5ed8dp-20", "0x1.b5a63f9a49c2cp-75")
"""1e-6, the decimal number, in two doubles: YOLOv5's, in ``1.000001 - p_t``."""
_SIMPLE: Final = (0.5, 1.0, 1.5, 2.0, 3.0)
"""The gammas, besides 0, that need only products and a root."""


class Formula(NamedTuple):
    """Which loss, of what.

    Attributes:
        loss: ``bce`` or ``focal``.
        probabilities: Whether the inputs are probabilities, not logits.
        label_smoothing: e: y becomes y (1 - e) + e / 2.
        gamma: Focal loss's exponent, at least 0; 0 gives the alpha-balanced cross entropy.
        alpha: Focal loss's balance, in [0, 1], unless each element has its own; None for none.
        variant: Focal loss's m.
    """

    loss: str
    probabilities: bool
    label_smoothing: float = 0.0
    gamma: float = 1.5
    alpha: float | None = 0.25
    variant: str = "sigmoid"


def elements(
    how: Formula,
    x: Tensor,
    y: Tensor,
    k: Tensor | None = None,
    alpha: Tensor | None = None,
    *,
    hard: bool = False,
) -> Tensor:
    """The losses, without weights, [n]. NaN in any operand of an element gives NaN.

    Where an input is certain (an infinite logit, a probability of 0 or 1) its loss is the limit: infinite if
    anything speaks for the other class, else 0. A coefficient (k, y, z, a) of exactly 0 makes 0 of infinity.

    Args:
        how: Which loss.
        x: Logits, or probabilities in [0, 1], float64, [n].
        y: The targets before smoothing, in [0, 1], float64, [n].
        k: pos_weight, at least 0, [n]; None for 1.
        alpha: Each element's balance, [n], in place of the formula's.
        hard: Whether every target is known to be 0 or 1, which saves steps and changes no bit.
    """
    target, complement = _smoothed(y, how.label_smoothing)
    gamma = 0.0 if how.loss == "bce" else how.gamma
    fine = gamma != 0.0 and (gamma not in _SIMPLE or how.variant == "exp")
    # Where so few steps round that first doubles are exact enough, the second ones are left out.
    careful: Tensor | bool = True
    if gamma == 0.0 and not how.label_smoothing:
        careful = False if k is None else k != 1.0
    elif 0.0 < gamma <= 1.5 and how.variant == "sigmoid" and not fine:
        if not hard or k is not None or how.label_smoothing:
            careful = (target.hi != 0.0) & (target.hi != 1.0)
            careful = careful if k is None else careful | (k != 1.0)
        else:
            careful = False
    inputs = Inputs(x, probabilities=how.probabilities, fine=fine, careful=careful)
    losses = inputs.exact_cross_entropy(target, complement, k)
    if how.loss == "bce":
        return inputs.limit(losses, losses)

    value = losses
    if gamma != 0.0:
        if how.variant == "exp":
            miss = inputs.exp_miss(target, complement, k)
        elif how.variant == "quality":
            miss = inputs.exact_gap(target, complement)
        else:
            miss = inputs.exact_miss(target, complement)
        value = _share(power(miss, gamma), losses)
    balance: Tensor | float | None = how.alpha if alpha is None else alpha
    if balance is None:
        return inputs.limit(losses, value)
    if how.variant == "exp":
        balance = torch.zeros_like(y) + balance
    else:
        balance = target.hi * balance + complement.hi * (1.0 - balance)
    return inputs.limit(torch.where(balance > 0.0, losses, 0.0), _share(balance, value))


class Element(NamedTuple):
    """What the function of a loss that an operator adds returns: a product, [n] each.

    Two factors, so that a coefficient of 0 can count as 0 against infinity.

    Attributes:
        value: At least 0.
        coefficient: What it is multiplied by; None for 1.
    """

    value: Tensor
    coefficient: Tensor | None = None


def added(
    function: Callable[..., Element],
    own: Mapping[str, object],
    how: Formula,
    x: Tensor,
    y: Tensor,
    k: Tensor | None = None,
) -> Tensor:
    """The losses of a function that an operator adds: ``function(inputs, y, z, pos_weight, **own)``.

    The function gets `Inputs`, the targets after smoothing, what stands for 1 - y, and pos_weight or None.
    The limits of certain inputs, and all that every loss has, are not its concern.
    """
    target, complement = _smoothed(y, how.label_smoothing)
    inputs = Inputs(x, probabilities=how.probabilities)
    value, coefficient = function(inputs, target.hi, complement.hi, k, **own)
    against = inputs.cross_entropy(target.hi, complement.hi, k)
    if coefficient is None:
        return inputs.limit(against, value)
    return inputs.limit(torch.where(coefficient > 0.0, against, 0.0), _share(coefficient, value))


class Inputs:
    """Logits or probabilities, [n], each seen from the class that it speaks for: the likely one.

    Args:
        values: Logits, or probabilities, float64, [n].
        probabilities: Which.
        fine: Whether exp is worked out in two doubles.
        careful: Where the second doubles are wanted, which else are 0.
    """

    def __init__(
        self,
        values: Tensor,
        *,
        probabilities: bool,
        fine: bool = False,
        careful: Tensor | bool = True,
    ) -> None:
        self._probabilities, self._fine, self._careful = probabilities, fine, careful
        if probabilities:
            self._positive = values > 0.5
            # p, or 1 - p where that is exact
            small = _two(torch.where(self._positive, 1.0 - values, values.abs()))
            self._certain = (values == 0.0) | (values == 1.0)
            self._likely = self._if_careful(_minus(_log1p(-small.hi)))
            self._unlikely = self._if_careful(_minus_log(small.hi))
        else:
            self._positive = values > 0.0
            size = values.abs()
            self._certain = size == math.inf
            self._size = torch.where(self._certain, _FAR, size)
            exp = _exp_minus(self._size, fine=fine)
            one = _sum_of_ordered(1.0, exp.q.hi)
            small = _Two(_scaled(one.hi, exp.n), _scaled(one.lo + exp.q.lo, exp.n))
            small = self._if_careful(small)
            self._likely = self._if_careful(_log1p(*small))
            self._unlikely = self._if_careful(_plus(_two(self._size), self._likely))
        self._small = small

    def cross_entropy(self, y: Tensor, z: Tensor, pos_weight: Tensor | None) -> Tensor:
        """``k y (-log p) + z (-log q)``, k being pos_weight, 1 where it is None.

        Where an input is certain it is some number above 0 in the place of infinity.
        """
        return self.exact_cross_entropy(_two(y), _two(z), pos_weight)

    def exact_cross_entropy(self, y: _Two, z: _Two, pos_weight: Tensor | None) -> Tensor:
        """The same of targets in two doubles."""
        share = y
        if pos_weight is not None:
            product = _product(pos_weight, y.hi)
            share = _Two(product.hi, product.lo + pos_weight * y.lo)
        right, wrong = _choice(self._positive, share, z), _choice(self._positive, z, share)
        likely, unlikely = self._likely, self._unlikely
        cost = _sum(right.hi * likely.hi, wrong.hi * unlikely.hi)
        if self._careful is False:
            return cost.hi
        lost = right.lo * likely.hi + wrong.lo * unlikely.hi
        lost = cost.lo + (lost + (right.hi * likely.lo + wrong.hi * unlikely.lo))
        lost = torch.where(cost.hi < math.inf, lost, 0.0)  # infinity has lost nothing
        return cost.hi + self._if_careful(_Two(cost.hi, lost)).lo

    def miss(self, y: Tensor, z: Tensor) -> Tensor:
        """``y q + z p``: the probability given to the other class, 1 - p_t for a hard target."""
        miss = self.exact_miss(_two(y), _two(z))
        return miss.hi + miss.lo

    def gap(self, y: Tensor, z: Tensor) -> Tensor:
        """``|y q - z p|``, which is |y - p|."""
        gap = self.exact_gap(_two(y), _two(z))
        return gap.hi + gap.lo

    def exact_miss(self, y: _Two, z: _Two) -> _Two:
        """``y q + z p`` in two doubles."""
        return self._miss(_choice(self._positive, y, z), _choice(self._positive, z, y))

    def exact_gap(self, y: _Two, z: _Two) -> _Two:
        """``|y q - z p|`` in two doubles."""
        right, wrong = _choice(self._positive, y, z), _choice(self._positive, z, y)
        miss = _sum(*self._miss(_minus(right), wrong))
        return _choice(miss.hi < 0.0, _minus(miss), miss)

    def exp_miss(self, y: _Two, z: _Two, pos_weight: Tensor | None) -> _Two:
        """``1 + 1e-6 - exp(-BCE)`` in two doubles."""
        if self._probabilities:
            likely = _minus(_fine_log1p(_minus(self._small)))
            unlikely = _minus(_fine_log(self._small))
        else:
            likely = _fine_log1p(self._small)
            unlikely = _plus(_two(self._size), likely)
        share = _times(y, _two(torch.ones_like(y.hi) if pos_weight is None else pos_weight))
        right, wrong = _choice(self._positive, share, z), _choice(self._positive, z, share)
        loss = _plus(_times(right, likely), _times(wrong, unlikely))
        # 60 is beyond where exp(-BCE) counts
        near = (loss.hi < 60.0) & ~(self._certain & (loss.hi > 0.0))
        exp = _exp_minus(torch.where(near, loss.hi, 60.0), torch.where(near, loss.lo, 0.0), fine=True)
        scale = _float((1023 - exp.n) << 52)
        part = _Two(-scale * exp.q.hi, -scale * exp.q.lo)
        gone = _plus(_sum_of_ordered(1.0, -scale), part)  # 1 - scale (1 + q)
        high, low = _MARGIN
        return _plus(gone, _Two(torch.full_like(scale, high), torch.full_like(scale, low)))

    def limit(self, against: Tensor, losses: Tensor) -> Tensor:
        """The losses, or infinity where the input is certain and something speaks against it."""
        return torch.where(self._certain & (against > 0.0), math.inf, losses)

    def _miss(self, right: _Two, wrong: _Two) -> _Two:
        """``right`` times the other class's probability plus ``wrong`` times the likely one's."""
        if self._probabilities:
            return _plus(_times(wrong, _sum_of_ordered(1.0, -self._small.hi)), _times(right, self._small))
        if self._careful is False:  # the targets are 0 and 1, and what follows would come to the same
            return _two((wrong.hi + right.hi * self._small.hi) / (1.0 + self._small.hi))
        over = _plus(wrong, _times(right, self._small))
        under = _sum_of_ordered(1.0, self._small.hi)
        miss = over.hi / under.hi
        back = _product(miss, under.hi)
        rest = ((over.hi - back.hi) - back.lo) + (over.lo - miss * (under.lo + self._small.lo))
        # What the division has left, over 1 + e: its reciprocal to within a tenth is enough unless fine.
        low = rest / under.hi if self._fine else rest * (1.457 - 0.5 * under.hi)
        return self._if_careful(_Two(miss, low))

    def _if_careful(self, a: _Two) -> _Two:
        """The second double where it is wanted, else 0."""
        if isinstance(self._careful, bool):
            return a if self._careful else _two(a.hi)
        return _Two(a.hi, torch.where(self._careful, a.lo, 0.0))


def _smoothed(y: Tensor, smoothing: float) -> tuple[_Two, _Two]:
    """The targets after smoothing, and what stands for 1 - y, in two doubles.

    That is smoothed from 1 - y, not taken from the smoothed y, whose rounding would drown it.
    """
    complement = _sum_of_ordered(1.0, -y)
    if not smoothing:
        return _two(y), complement
    keep = _sum_of_ordered(1.0, -torch.full_like(y, smoothing))
    half = _two(torch.full_like(y, smoothing / 2.0))
    return _plus(_times(keep, _two(y)), half), _plus(_times(keep, complement), half)


def _share(coefficient: Tensor, value: Tensor) -> Tensor:
    """Their product, 0 times infinity being 0."""
    return torch.where((coefficient == 0.0) & (value == math.inf), 0.0, coefficient * value)


# ---- exp, log, power ----


class _Exp(NamedTuple):
    """A power of e as 2^-n (1 + q)."""

    q: _Two
    n: Tensor


def _exp_minus(t: Tensor, low: Tensor | float = 0.0, *, fine: bool = False) -> _Exp:
    """``exp(-(t + low))`` for t >= -0.3: with n the nearest to t / ln(2), q from what is left of t."""
    near = torch.where(t > _FAR, _FAR, t)
    shifted = near * _LOG2_E + _TO_INTEGER
    n = shifted - _TO_INTEGER
    large, little = n * _LN2_HIGH - near, n * _LN2_LOW - low
    if fine:
        r = _sum(large, little)
        square = _product(r.hi, r.hi)
        head = _sum_of_ordered(r.hi, 0.5 * square.hi)
        tail = (r.hi * square.hi) * _polynomial(_EXP_TAIL, r.hi)
        rest = 0.5 * square.lo + (r.lo + r.lo * r.hi)
        q = _sum_of_ordered(head.hi, head.lo + (rest + tail))
    else:
        first = large + little
        square_and_on = (first * first) * (0.5 + first * _polynomial(_EXP_TAIL, first))
        q = _sum_of_ordered(first, square_and_on)
    return _Exp(q, _bits(shifted) & 0xFFF)


def _scaled(value: Tensor, n: Tensor) -> Tensor:
    """``value 2^-n``, in two steps, of which the second alone may round."""
    half = n >> 1
    return value * _float((1023 - half) << 52) * _float((1023 - (n - half)) << 52)


def _log1p(v: Tensor, low: Tensor | float = 0.0) -> _Two:
    """``log(1 + v + low)`` for -1/2 <= v <= 1: with f = v / (2 + v) it is 2 atanh(f), and 2 f is v - f v."""
    f = v / (2.0 + v)
    w = f * f
    return _sum_of_ordered(v, low - f * (v - w * _polynomial(_LOG_TAIL, w)))


class _Split(NamedTuple):
    """A number > 0 as c 2^n, sqrt(1/2) <= c < sqrt(2); c is the number times up, times scale."""

    c: Tensor
    n: Tensor
    up: Tensor
    scale: Tensor


def _split(value: Tensor) -> _Split:
    subnormal = value < _LEAST_NORMAL
    up = torch.where(subnormal, 2.0**54, 1.0).double()
    raised = _bits(value * up) + (_ONE - _SQRT_HALF)
    exponent = raised >> 52
    c = _float((raised & 0xFFFFFFFFFFFFF) + _SQRT_HALF)
    n = exponent.double() - torch.where(subnormal, 1077.0, 1023.0).double()
    return _Split(c, n, up, _float((2046 - exponent) << 52))


def _minus_log(value: Tensor) -> _Two:
    """``-log(value)`` for 0 < value <= 1/2; at 0 some number > 0."""
    split = _split(value)
    rest = split.n * _LN2_LOW + _log1p(split.c - 1.0).hi
    return _sum_of_ordered(-(split.n * _LN2_HIGH), -rest)


def _fine_log(value: _Two) -> _Two:
    """``log(value)`` for a value > 0; at 0 some number < 0."""
    split = _split(value.hi)
    low = value.lo * split.up * split.scale
    below, above = _sum(split.c - 1.0, low), _sum_of_ordered(1.0, split.c)
    return _fine_log_of_ratio(_over(below, _Two(above.hi, above.lo + low)), split.n)


def _fine_log1p(v: _Two) -> _Two:
    """``log(1 + v)`` for -1/2 <= v <= 1: from half or twice 1 + v where that is nearer to 1."""
    halve, twice = v.hi > math.sqrt(2.0) - 1.0, v.hi < math.sqrt(0.5) - 1.0
    below = _sum(v.hi, _choose(halve, -1.0, twice, 0.5, 0.0))
    above = _sum(v.hi, _choose(halve, 3.0, twice, 1.5, 2.0))
    f = _over(_Two(below.hi, below.lo + v.lo), _Two(above.hi, above.lo + v.lo))
    return _fine_log_of_ratio(f, _choose(halve, 1.0, twice, -1.0, 0.0))


def _fine_log_of_ratio(f: _Two, n: Tensor) -> _Two:
    """``log((1 + f) / (1 - f)) + n log(2)`` for abs(f) <= (sqrt(2) - 1) / (sqrt(2) + 1)."""
    w = f.hi * f.hi
    tail = f.hi * (w * _polynomial(_FINE_LOG_TAIL, w))
    head = _sum_of_ordered(n * _LN2_HIGH, 2.0 * f.hi)
    return _sum_of_ordered(head.hi, head.lo + (n * _LN2_LOW + (2.0 * (f.lo + f.lo * w) + tail)))


def power(value: _Two, gamma: float) -> Tensor:
    """``value ** gamma`` for a value >= 0 and gamma > 0."""
    if gamma == 0.5:
        return square_root((value.hi + value.lo).abs())
    if gamma in _SIMPLE:
        last = (value.hi + gamma * value.lo).abs()
        if gamma == 1.0:
            return last
        first = square_root(value.hi) if gamma == 1.5 else value.hi
        return (first * first if gamma == 3.0 else first) * last
    exponent = _times(_fine_log(value), _two(torch.full_like(value.hi, -gamma)))
    exp = _exp_minus(exponent.hi, exponent.lo)
    return torch.where(value.hi > 0.0, _scaled(1.0 + exp.q.hi, exp.n), 0.0)


def square_root(value: Tensor) -> Tensor:
    """The square root, correctly rounded: torch's is not on every CPU, and numpy's is the CPU's own."""
    if value.is_cpu:
        return torch.from_numpy(np.sqrt(value.numpy()))
    return torch.sqrt(value)


def _polynomial(c: tuple[float, ...], v: Tensor) -> Tensor:
    """A polynomial, lowest power first, in pairs, then pairs of pairs (Estrin's scheme): few steps wait."""
    terms: list[Tensor] = [c[i] + c[i + 1] * v for i in range(0, len(c), 2)]
    while len(terms) > 1:
        v = v * v
        pairs = [terms[i] + terms[i + 1] * v for i in range(0, len(terms) - 1, 2)]
        terms = pairs + terms[2 * len(pairs) :]
    return terms[0]


# ---- numbers in two doubles ----


class _Two(NamedTuple):
    """``hi + lo``, of which lo is what hi's rounding has lost."""

    hi: Tensor
    lo: Tensor


def _two(value: Tensor) -> _Two:
    return _Two(value, torch.zeros_like(value))


def _sum(a: Tensor, b: Tensor) -> _Two:
    """``a + b``, exactly (Knuth)."""
    s = a + b
    v = s - a
    return _Two(s, (a - (s - v)) + (b - v))


def _sum_of_ordered(a: Tensor | float, b: Tensor) -> _Two:
    """``a + b``, exactly, where abs(a) >= abs(b), or a is 0 (Dekker)."""
    s = a + b
    return _Two(s, b - (s - a))


def _product(a: Tensor, b: Tensor) -> _Two:
    """``a b``, exactly but for the last bits of lo (Dekker, the halves cut off bit by bit)."""
    p = a * b
    a1, b1 = _float(_bits(a) & -0x8000000), _float(_bits(b) & -0x8000000)
    a2, b2 = a - a1, b - b1
    return _Two(p, (((a1 * b1 - p) + a1 * b2) + a2 * b1) + a2 * b2)


def _plus(a: _Two, b: _Two) -> _Two:
    s = _sum(a.hi, b.hi)
    return _Two(s.hi, s.lo + (a.lo + b.lo))


def _times(a: _Two, b: _Two) -> _Two:
    p = _product(a.hi, b.hi)
    return _Two(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi))


def _over(a: _Two, b: _Two) -> _Two:
    """``a / b``, from what a / b.hi leaves."""
    q = a.hi / b.hi
    p = _product(q, b.hi)
    return _Two(q, (((a.hi - p.hi) - p.lo) + (a.lo - q * b.lo)) / b.hi)


def _minus(a: _Two) -> _Two:
    return _Two(-a.hi, -a.lo)


def _choice(first: Tensor, a: _Two, b: _Two) -> _Two:
    return _Two(torch.where(first, a.hi, b.hi), torch.where(first, a.lo, b.lo))


def _choose(first: Tensor, a: float, second: Tensor, b: float, c: float) -> Tensor:
    """``a`` where first, else ``b`` where second, else ``c``."""
    return torch.where(first, a, torch.where(second, b, c).double())


def _bits(value: Tensor) -> Tensor:
    return value.contiguous().view(torch.int64)


def _float(bits: Tensor) -> Tensor:
    return bits.view(torch.float64)
