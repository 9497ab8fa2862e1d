"""The losses: what each element, or each row, of a request costs, in float64.

They are computed from + - * /, square roots, comparisons and moves of bits, each rounded on its own. So an
element has the same 64 bits on any CPU and any CUDA device. core/native has the same steps in C,
for speed; a test compares the two, bit for bit. Hence torch.exp, log, pow and sigmoid are not used, which
differ between devices and versions, nor functions that may multiply and add in one rounding (addcmul, lerp).

The catalog says which function has a loss's formula. Those of binary cross entropy and focal loss are here,
and their steps in modules of their own, with y for the target, z for 1 - y, and k for pos_weight.

A number that is wanted to more digits than one float64 holds is a `Pair`. With pos_weight, smoothing or soft
targets more steps round, so pairs are used throughout ("careful"); else single numbers are exact enough, and
fastest. The error stays below 4 units of the last place for binary cross entropy, and below 8 for focal loss
with gamma up to 10, beyond that 8 + gamma.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossd.core.catalog import LOSSES
from lossd.core.losses.bce import cross_entropy
from lossd.core.losses.exp_log import SIMPLE_GAMMAS
from lossd.core.losses.focal import focal as focal_of
from lossd.core.losses.focal import gap, miss, product_or_zero
from lossd.core.losses.likelihood import Likelihood
from lossd.core.losses.pairs import Pair, pair, plus, sum_of_ordered, times


class Formula(NamedTuple):
    """A loss and its parameters.

    Attributes:
        loss: Its name in the catalog.
        probabilities: Whether the inputs are probabilities.
        label_smoothing: e: y becomes y (1 - e) + e / 2.
        gamma: Focal loss's exponent, at least 0; 0 gives the alpha-balanced cross entropy.
        alpha: Focal loss's balance, in [0, 1], if all elements have the same; None for none.
        variant: Focal loss's formula of m.
        own: Its own parameters, by name.
    """

    loss: str
    probabilities: bool
    label_smoothing: float = 0.0
    gamma: float = 1.5
    alpha: float | None = 0.25
    variant: str = "sigmoid"
    own: Mapping[str, object] = MappingProxyType({})


def elements(
    how: Formula,
    x: Tensor,
    y: Tensor,
    k: Tensor | None = None,
    alpha: Tensor | None = None,
    *,
    hard: bool = False,
) -> Tensor:
    """Return the losses, without weights, [n]. NaN in any operand of an element gives NaN.

    The loss of a certain input (an infinite logit, a probability of 0 or 1) is the limit: infinite if it is
    wrong to any degree, else 0. A coefficient (k, y, z, a) of exactly 0 makes 0 of infinity.

    Args:
        how: The loss.
        x: Logits, or probabilities in [0, 1], float64, [n].
        y: The targets before smoothing, in [0, 1], float64, [n].
        k: pos_weight, at least 0, [n]; None for 1.
        alpha: Each element's balance, [n], in place of the formula's.
        hard: Whether every target is known to be 0 or 1, which saves steps and changes no bit.
    """
    function = function_of(LOSSES[how.loss].function)
    losses: Tensor = function(how, x, smoothed(y, how.label_smoothing), k, alpha, hard=hard)
    return losses


@cache
def function_of(place: str) -> Callable[..., Any]:
    """Return a loss's function, from ``module:name``.

    It is called as `elements` calls `bce` and `focal`; that of a row loss as ``function(how, rows)``, with
    `lossd.core.losses.rows.Rows`, of which it returns ``RowLosses``; that of a loss which an operator adds as
    `added` calls it.

    Raises:
        ImportError: There is no such module.
        AttributeError: The module has no such function.
    """
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def bce(
    how: Formula, x: Tensor, y: Smoothed, k: Tensor | None, _alpha: Tensor | None, *, hard: bool
) -> Tensor:
    """Return the binary cross entropy; see `elements`."""
    careful = _careful(how, 0.0, y.target, k, fine=False, hard=hard)
    inputs = Likelihood(x, probabilities=how.probabilities, careful=careful)
    losses = cross_entropy(inputs, y.target, y.complement, k)
    return inputs.limit(losses, losses)


def focal(
    how: Formula, x: Tensor, y: Smoothed, k: Tensor | None, alpha: Tensor | None, *, hard: bool
) -> Tensor:
    """Return focal loss; see `elements`."""
    gamma, balance = how.gamma, how.alpha if alpha is None else alpha
    fine = gamma != 0.0 and (gamma not in SIMPLE_GAMMAS or how.variant == "exp")
    careful = _careful(how, gamma, y.target, k, fine=fine, hard=hard)
    inputs = Likelihood(x, probabilities=how.probabilities, fine=fine, careful=careful)
    losses = cross_entropy(inputs, y.target, y.complement, k)
    return focal_of(
        inputs, y.target, y.complement, k, losses, gamma=gamma, alpha=balance, variant=how.variant
    )


def _careful(
    how: Formula, gamma: float, target: Pair, k: Tensor | None, *, fine: bool, hard: bool
) -> Tensor | bool:
    """Return where double-double arithmetic is needed."""
    if gamma == 0.0 and not how.label_smoothing:
        return False if k is None else k != 1.0
    if 0.0 < gamma <= 1.5 and how.variant == "sigmoid" and not fine:
        if hard and k is None and not how.label_smoothing:
            return False
        soft = (target.hi != 0.0) & (target.hi != 1.0)
        return soft if k is None else soft | (k != 1.0)
    return True


class Inputs(Likelihood):
    """The inputs as an operator's function sees them."""

    def cross_entropy(self, y: Tensor, z: Tensor, pos_weight: Tensor | None) -> Tensor:
        """Return ``k y (-log p) + z (-log q)``, with k = pos_weight, or 1 if it is None.

        Where an input is certain it is some number above 0 in the place of infinity.
        """
        return cross_entropy(self, pair(y), pair(z), pos_weight)

    def miss(self, y: Tensor, z: Tensor) -> Tensor:
        """Return ``y q + z p``: the probability of the wrong class, 1 - p_t for a hard target."""
        found = miss(self, pair(y), pair(z))
        return found.hi + found.lo

    def gap(self, y: Tensor, z: Tensor) -> Tensor:
        """Return ``|y q - z p|``, which is |y - p|."""
        found = gap(self, pair(y), pair(z))
        return found.hi + found.lo


class Element(NamedTuple):
    """The result of an operator's function: a product, so that a coefficient of 0 makes 0 of infinity.

    Attributes:
        value: At least 0, [n].
        coefficient: Its factor, [n]; None for 1.
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
    """Return the losses of an operator's function, ``function(inputs, y, z, pos_weight, **own)``.

    The function gets `Inputs`, the targets after smoothing, 1 - y, and pos_weight or None. Limits of certain
    inputs, and the parameters that every loss has, are applied here.
    """
    target, complement = smoothed(y, how.label_smoothing)
    inputs = Inputs(x, probabilities=how.probabilities)
    value, coefficient = function(inputs, target.hi, complement.hi, k, **own)
    against = inputs.cross_entropy(target.hi, complement.hi, k)
    if coefficient is None:
        return inputs.limit(against, value)
    return inputs.limit(torch.where(coefficient > 0.0, against, 0.0), product_or_zero(coefficient, value))


class Smoothed(NamedTuple):
    """Targets after label smoothing.

    Attributes:
        target: y, [n].
        complement: 1 - y, [n], smoothed by itself: rounding of the smoothed y would hide it.
    """

    target: Pair
    complement: Pair


def smoothed(y: Tensor, smoothing: float) -> Smoothed:
    """Return targets after label smoothing e: ``y (1 - e) + e / 2``, and 1 - y likewise."""
    complement = sum_of_ordered(1.0, -y)
    if not smoothing:
        return Smoothed(pair(y), complement)
    keep = sum_of_ordered(1.0, -torch.full_like(y, smoothing))
    half = pair(torch.full_like(y, smoothing / 2.0))
    return Smoothed(plus(times(keep, pair(y)), half), plus(times(keep, complement), half))
