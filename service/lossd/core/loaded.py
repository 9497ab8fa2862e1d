"""A block's tensors as the formulas take them: dropped elements stood in for, what must hold named."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossd.core.fetch import Read
from lossd.core.inputs import Probabilities, stand_in
from lossd.core.values import MASK, POS_WEIGHT, PROBABILITY, TARGET, WEIGHT, WHOLE, Check, class_id
from lossd.core.work import Work


@dataclass(slots=True)
class Loaded:
    """A block's tensors, float64, [n padded to whole vectors].

    Attributes:
        inputs: The logits or probabilities.
        y: The targets, before smoothing.
        weight: The weights, if any.
        pos_weight: What the positive class weighs, if not 1.
        alpha: The balance, if not one number.
        kept: Which elements count, if not all.
        ids: The class ids, 0 where elements are dropped or of no class, for targets that are ids.
        mask: The mask as it came, if any.
    """

    inputs: Tensor
    y: Tensor
    weight: Tensor | None
    pos_weight: Tensor | None
    alpha: Tensor | None
    kept: Tensor | None
    ids: Tensor | None
    mask: Tensor | None


def load(work: Work, read: Read) -> Loaded:
    """A block's tensors, with zeros where elements are dropped. Nothing is checked."""
    y = read(work.targets)
    mask = None if work.mask is None else read(work.mask)
    kept = _kept(work, mask, y)
    ids = None
    if work.classes is not None:
        ids = y if kept is None else torch.where(kept, y, 0.0)
        y = (ids == read(work.classes)).double()
        if work.background_index is not None:
            background = ids == work.background_index
            ids, y = torch.where(background, 0.0, ids), torch.where(background, 0.0, y)
    loaded = Loaded(
        inputs=read(work.inputs),
        y=y,
        weight=None if work.weight is None else read(work.weight),
        pos_weight=None if work.pos_weight is None else read(work.pos_weight),
        alpha=None if work.alpha is None else read(work.alpha),
        kept=kept,
        ids=ids,
        mask=mask,
    )
    if kept is not None:
        loaded.inputs = torch.where(kept, loaded.inputs, stand_in(work.kind))
        loaded.y = torch.where(kept, y, 0.0)
        if loaded.weight is not None:
            loaded.weight = torch.where(kept, loaded.weight, 0.0)
        if loaded.pos_weight is not None:
            loaded.pos_weight = torch.where(kept, loaded.pos_weight, 1.0)
    return loaded


def _kept(work: Work, mask: Tensor | None, y: Tensor) -> Tensor | None:
    """Which elements count, bool, [n]; None for all."""
    kept = None if mask is None else mask != 0.0
    if work.ignore_index is not None:
        other = ~torch.isnan(y) if math.isnan(work.ignore_index) else y != work.ignore_index
        kept = other if kept is None else kept & other
    return kept


def checks(work: Work, loaded: Loaded) -> list[Check]:
    """What must hold of a block, but that logits are no NaN, which shows in the losses.

    Dropped elements are stood in for by now, and pass.
    """
    nan = work.allow_nan
    found = []
    if work.mask is not None and loaded.mask is not None:
        found.append(Check(MASK, work.mask, loaded.mask, allow_nan=False))
    if loaded.ids is not None:
        found.append(Check(class_id(work.class_count), work.targets, loaded.ids, allow_nan=False))
        if work.targets.is_float:
            part = loaded.ids - loaded.ids.floor()
            found.append(Check(WHOLE, work.targets, part, allow_nan=False, shown=loaded.ids))
    else:
        found.append(Check(TARGET, work.targets, loaded.y, nan))
    if work.kind is Probabilities:
        found.append(Check(PROBABILITY, work.inputs, loaded.inputs, nan))
    if work.weight is not None and loaded.weight is not None:
        found.append(Check(WEIGHT, work.weight, loaded.weight, nan))
    if work.pos_weight is not None and loaded.pos_weight is not None:
        found.append(Check(POS_WEIGHT, work.pos_weight, loaded.pos_weight, nan))
    return found
