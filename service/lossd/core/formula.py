"""A block's losses: the loss's own function, and around it what no function need know of.

Smoothing, weights and dropped elements are the same for every loss, and so are the limits that infinite
logits and probabilities of 0 and 1 come to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

import torch
from torch import Tensor

from lossd.core.element import Element
from lossd.core.inputs import certainty, stand_in
from lossd.core.loaded import Loaded
from lossd.core.work import Work

Function: TypeAlias = Callable[..., Element]
"""A loss's function, such as `lossd.core.bce.bce`."""
_SHIFT: Final = 512


def element(function: Function, work: Work, inputs: Tensor, loaded: Loaded) -> Element:
    """The loss's own function of a block."""
    y = loaded.y
    if work.label_smoothing:
        keep, half = 1.0 - work.label_smoothing, work.label_smoothing / 2.0
        # z is smoothed from 1 - y, not taken from the smoothed y, whose rounding would drown it.
        y, z = y * keep + half, (1.0 - y) * keep + half
    else:
        z = 1.0 - y
    own = work.own if loaded.alpha is None else {**work.own, "alpha": loaded.alpha}
    return function(work.kind(inputs), y, z, loaded.pos_weight, **own)


def losses(function: Function, work: Work, loaded: Loaded) -> Tensor:
    """A block's element losses, weighted, [n padded], as far as they are finite."""
    value, coefficient = element(function, work, loaded.inputs, loaded)
    each = value if coefficient is None else coefficient * value
    if loaded.weight is not None:
        each = loaded.weight * each
    return each if loaded.kept is None else torch.where(loaded.kept, each, 0.0)


def with_limits(function: Function, work: Work, loaded: Loaded) -> Tensor:
    """Element losses of a block in which some are infinite or NaN.

    Where the inputs are certain of a class (an infinite logit, a probability of 0 or 1) the loss is its
    limit: 0 if the target has nothing of the other class, else infinite. A coefficient of 0 counts as 0
    against infinity. All other elements have the bits that they have in a block without these.
    """
    certain = certainty(work.kind, loaded.inputs)
    settled = torch.where(certain != 0.0, stand_in(work.kind), loaded.inputs)
    value, coefficient = element(function, work, settled, loaded)
    share, complement = _share(work, loaded), _complement(work, loaded)
    nothing = torch.where(certain > 0.0, complement == 0.0, _has_no_share(work, loaded))
    limit = torch.where(nothing, 0.0, math.inf)
    limit = torch.where(torch.isnan(share + complement), math.nan, limit)
    each = torch.where(certain != 0.0, limit, value)
    weight = loaded.weight
    if loaded.pos_weight is not None:
        # A large pos_weight may take the value beyond float64 though a small factor brings it back: it is
        # moved by a power of 2, and moved back with the weight. (Where that happens the other class's
        # cost is too small to count.)
        beyond = (certain == 0.0) & ~torch.isfinite(each) & ~torch.isnan(loaded.pos_weight + settled)
        lesser = replace(loaded, pos_weight=loaded.pos_weight * 2.0**-_SHIFT)
        each = torch.where(beyond, element(function, work, settled, lesser).value, each)
        weight = torch.ones_like(each) if weight is None else weight
        weight = torch.where(beyond, weight * 2.0**_SHIFT, weight)
    for factor in (coefficient, weight):
        if factor is not None:
            vanishes = (factor == 0.0) & ~torch.isnan(each)
            each = torch.where(vanishes, 0.0, factor * each)
    return each if loaded.kept is None else torch.where(loaded.kept, each, 0.0)


def _share(work: Work, loaded: Loaded) -> Tensor:
    """What the positive class's cost is multiplied by: k y."""
    y = loaded.y * (1.0 - work.label_smoothing) + work.label_smoothing / 2.0
    return y if loaded.pos_weight is None else loaded.pos_weight * y


def _has_no_share(work: Work, loaded: Loaded) -> Tensor:
    """Where k or y is exactly zero: their product may be so by underflow alone."""
    absent = (loaded.y == 0.0) & (work.label_smoothing == 0.0)
    return absent if loaded.pos_weight is None else absent | (loaded.pos_weight == 0.0)


def _complement(work: Work, loaded: Loaded) -> Tensor:
    """What the negative class's cost is multiplied by: 1 - y."""
    return (1.0 - loaded.y) * (1.0 - work.label_smoothing) + work.label_smoothing / 2.0
