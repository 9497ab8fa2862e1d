"""The losses of rows of class logits: cross entropy, as torch's CrossEntropyLoss defines it, and focal loss.

https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html; Lin et al., "Focal Loss for
Dense Object Detection" (https://arxiv.org/abs/1708.02002), with the softmax in place of the sigmoid.

With m the greatest logit of a row and t = m - x, a class costs ``-log p = t + log(1 + S)``, where S is the
exact sum of exp(-t) over all classes but the first of the greatest. So no tail is lost, and the order of the
other classes cannot matter. core/native/softmax.h has the same steps in C.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from lossd.core.losses.elements import Formula
from lossd.core.losses.exp_log import (
    FAR,
    SIMPLE_GAMMAS,
    exp_minus,
    fine_log,
    power,
    rounded_exp_minus,
    scaled,
)
from lossd.core.losses.pairs import (
    Pair,
    choice,
    over,
    pair,
    plus,
    product_of,
    sum_of,
    sum_of_ordered,
    times,
)
from lossd.core.losses.rows import RowLosses, Rows, exact_row_sums

_TINY_SUM: Final = 2.0**-60
"""Below it log(1 + S) is S to more digits than count."""
_LARGEST: Final = math.ldexp(2.0 - 2.0**-52, 1023)


def cross_entropy(how: Formula, rows: Rows) -> RowLosses:
    """Return ``-sum_c w_c y_c log p_c`` for each row, with class_weight w and targets y after smoothing."""
    return _row_losses(rows, _Softmax(rows.x, fine=False), how.label_smoothing, rows.class_weight, gamma=0.0)


def softmax_focal(how: Formula, rows: Rows) -> RowLosses:
    """Return ``-sum_c a_c y_c (1 - p_c)^gamma log p_c`` for each row, with alpha a and y after smoothing."""
    gamma = float(how.own["gamma"])  # type: ignore[arg-type] # checked
    softmax = _Softmax(rows.x, fine=gamma not in (0.0, *SIMPLE_GAMMAS))
    found = _row_losses(rows, softmax, how.label_smoothing, rows.alpha, gamma=gamma)
    return found._replace(weight=None)


def probabilities(x: Tensor) -> Tensor:
    """Return the softmax of rows of logits, [n, size]; NaN throughout a row that has a NaN."""
    softmax = _Softmax(x, fine=False)
    return softmax.e.hi / (1.0 + softmax.others.hi).unsqueeze(1)


class _Softmax:
    """The probabilities of rows, seen from the greatest logit of each.

    Args:
        x: The logits, [n, size].
        fine: Whether exp and its sum are wanted to the digits of a pair.

    Attributes:
        greatest: The greatest of each row, [n, 1].
        e: exp(x - greatest), [n, size].
        others: S, the sum of e over all classes but the first of the greatest, [n]; NaN where a logit is.
        log: log(1 + S), [n].
    """

    def __init__(self, x: Tensor, *, fine: bool) -> None:
        self.x: Final = x
        self.greatest: Final = torch.where(torch.isnan(x), -math.inf, x).amax(1, keepdim=True)
        self.e: Final = _exp_below(self.greatest, x, fine=fine)
        self.others: Final = _sum_of_others(self.e, fine=fine)
        self.log: Final = _log_of_sum(self.others)

    def of(self, classes: Tensor) -> _Classes:
        """Return what is known of one class of each row, whose places are int64, [n]."""
        place = classes.unsqueeze(1)
        e = Pair(self.e.hi.gather(1, place), self.e.lo.gather(1, place))
        return self._seen(self.x.gather(1, place), e)

    @property
    def all(self) -> _Classes:
        """What is known of all classes."""
        return self._seen(self.x, self.e)

    @property
    def first(self) -> Tensor:
        """The first class of the greatest, int64, [n]; 0 where a logit is NaN."""
        first = (self.x == self.greatest).to(torch.uint8).argmax(1)
        return torch.where(torch.isnan(self.others.hi), 0, first)

    def _seen(self, x: Tensor, e: Pair) -> _Classes:
        others = Pair(self.others.hi.unsqueeze(1), self.others.lo.unsqueeze(1))
        log = Pair(self.log.hi.unsqueeze(1), self.log.lo.unsqueeze(1))
        return _Classes(x == self.greatest, _below(self.greatest, x), e, others, log)


class _Classes(NamedTuple):
    """Some classes of rows, one or all: [n, 1] or [n, size]; of a row, [n, 1].

    Attributes:
        greatest: Whether the class has the greatest logit, bool.
        t: The greatest logit less the class's.
        e: exp(-t).
        others: S of the row.
        log: log(1 + S) of the row.
    """

    greatest: Tensor
    t: Pair
    e: Pair
    others: Pair
    log: Pair

    @property
    def cost(self) -> Pair:
        """-log p."""
        cost = plus(self.t, self.log)
        return Pair(cost.hi, torch.where(cost.hi > _LARGEST, 0.0, cost.lo))

    @property
    def miss(self) -> Pair:
        """1 - p: S / (1 + S) for the greatest, else (1 + (S - e)) / (1 + S)."""
        s, e = self.others, self.e
        difference, whole = sum_of(s.hi, -e.hi), sum_of(torch.ones_like(s.hi), s.hi)
        rest = Pair(difference.hi, difference.lo + (s.lo - e.lo))
        others = plus(pair(torch.ones_like(rest.hi)), rest)
        return over(choice(self.greatest, s, others), Pair(whole.hi, whole.lo + s.lo))

    def focal_cost(self, gamma: float) -> Pair:
        """Return ``(1 - p)^gamma (-log p)``."""
        cost = self.cost
        if gamma == 0.0:
            return cost
        factor = power(self.miss, gamma)
        product = product_of(factor, cost.hi)
        lost = torch.where(cost.hi > _LARGEST, 0.0, product.lo + factor * cost.lo)
        return Pair(product.hi, lost)


def _below(greatest: Tensor, x: Tensor) -> Pair:
    """Return ``greatest - x``, where an infinite one is as far from itself as any other."""
    t, same = sum_of(greatest, -x), x == greatest
    high = torch.where(same, 0.0, t.hi)
    return Pair(high, torch.where(same | (high > _LARGEST), 0.0, t.lo))


def _exp_below(greatest: Tensor, x: Tensor, *, fine: bool) -> Pair:
    """Return ``exp(x - greatest)``; unless it is to be fine, in one number."""
    t = _below(greatest, x)
    low = torch.where(t.hi > FAR, 0.0, t.lo)
    if not fine:
        return pair(rounded_exp_minus(t.hi, low))
    exp = exp_minus(t.hi, low, fine=True)
    one = sum_of_ordered(1.0, exp.q.hi)
    return Pair(scaled(one.hi, exp.n), scaled(one.lo + exp.q.lo, exp.n))


def _sum_of_others(e: Pair, *, fine: bool) -> Pair:
    """Return the exact sum of each row less 1, [n]: the greatest logit's e is exactly 1."""
    less = torch.full_like(e.hi[:, :1], -1.0)
    high = exact_row_sums(torch.cat((e.hi, less), 1))
    if not fine:
        return pair(high)
    lost = exact_row_sums(torch.cat((e.hi, less, -high.unsqueeze(1)), 1))
    return Pair(high, lost + exact_row_sums(e.lo))


def _log_of_sum(s: Pair) -> Pair:
    one = sum_of(torch.ones_like(s.hi), s.hi)
    return choice(s.hi < _TINY_SUM, s, fine_log(Pair(one.hi, one.lo + s.lo)))


def _term(coefficient: Pair, cost: Pair) -> Tensor:
    """Return the product, rounded; a coefficient of 0 makes 0 of infinity."""
    product = times(coefficient, cost)
    value = product.hi + torch.where(product.hi.abs() <= _LARGEST, product.lo, 0.0)
    return torch.where((coefficient.hi == 0.0) & (cost.hi > _LARGEST), 0.0, value)


def _row_losses(
    rows: Rows, softmax: _Softmax, smoothing: float, factors: Tensor | None, *, gamma: float
) -> RowLosses:
    """Return what is found of rows; `weight` is that of class_weight."""
    first = softmax.first
    if rows.ids is not None:
        classes = rows.ids.to(torch.int64)
        targets, correct = torch.ones_like(rows.ids), (first == classes).double()
        weight = None if factors is None else factors[classes]
        y = torch.zeros_like(rows.x)
        y.scatter_(1, classes.unsqueeze(1), 1.0)
    else:
        assert rows.y is not None
        y = rows.y
        classes = torch.where(torch.isnan(y), 0.0, y).argmax(1)
        targets, correct = exact_row_sums(y), y.gather(1, first.unsqueeze(1)).squeeze(1)
        weight = None if factors is None else exact_row_sums(y * factors)
    if rows.ids is not None and not smoothing:
        cost = softmax.of(classes).focal_cost(gamma)
        coefficient = torch.ones_like(cost.hi) if weight is None else weight.unsqueeze(1)
        loss = _term(pair(coefficient), cost).squeeze(1)
    else:
        share = _smoothed(y, smoothing)
        if factors is not None:
            share = times(share, pair(factors.expand_as(y)))
        loss = exact_row_sums(_term(share, softmax.all.focal_cost(gamma)))
    others = softmax.others.hi
    return RowLosses(
        loss=torch.where(torch.isnan(others), math.nan, loss),
        targets=targets,
        weight=weight,
        confidence=1.0 / (1.0 + others),
        correct=correct,
        classes=classes.double(),
        predicted=first.double(),
    )


def _smoothed(y: Tensor, smoothing: float) -> Pair:
    """Return targets after label smoothing e over C classes: ``y (1 - e) + e / C``."""
    if not smoothing:
        return pair(y)
    e = torch.full_like(y, smoothing)
    share = over(pair(e), pair(torch.full_like(y, float(y.shape[1]))))
    return plus(times(sum_of_ordered(1.0, -e), pair(y)), share)
