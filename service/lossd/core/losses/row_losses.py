"""The losses of a block of rows, and what sums and reports are made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossd.core.catalog import LOSSES
from lossd.core.losses.blocks import LoadedRows
from lossd.core.losses.elements import Formula, function_of
from lossd.core.losses.rows import RowLosses, Rows
from lossd.core.prepare import Work


class ScoredRows(NamedTuple):
    """A block of rows that has been scored, those that are dropped with 0 everywhere.

    Attributes:
        losses: The weighted losses, [n].
        weight: The whole weights, [n], if there are any.
        row: What the loss's function found.
    """

    losses: Tensor
    weight: Tensor | None
    row: RowLosses


def score_rows(work: Work, how: Formula, loaded: LoadedRows, rows: Rows) -> ScoredRows:
    """Score rows that have been checked.

    Args:
        work: The request.
        how: The loss.
        loaded: The block.
        rows: Its rows, or those of the baseline.
    """
    row = _kept_alone(work, how, rows, loaded.kept)
    losses, weight = row.loss, loaded.weight
    if weight is not None:
        gone = (weight == 0.0) & ~torch.isnan(losses)  # no 0 times infinity
        losses = torch.where(gone, 0.0, weight * losses)
    if work.class_weight is not None:
        factor = torch.ones_like(losses) if row.weight is None else row.weight
        weight = factor if weight is None else weight * factor
    if loaded.kept is not None:
        losses = torch.where(loaded.kept, losses, 0.0)
        weight = None if weight is None else torch.where(loaded.kept, weight, 0.0)
    return ScoredRows(losses, weight, row)


def _kept_alone(work: Work, how: Formula, rows: Rows, kept: Tensor | None) -> RowLosses:
    """Return what the loss's function finds of the rows that are kept, and 0 for the others."""
    function = function_of(LOSSES[work.loss].function)
    if kept is None:
        everything: RowLosses = function(how, rows)
        return everything
    if not bool(kept.any()):
        zeros = torch.zeros_like(kept, dtype=torch.float64)
        return RowLosses(*[zeros] * len(RowLosses._fields))
    some = rows._replace(
        x=rows.x[kept],
        y=None if rows.y is None else rows.y[kept],
        ids=None if rows.ids is None else rows.ids[kept],
        kept=None if rows.kept is None else rows.kept[kept],
    )
    spread = [None if each is None else _spread(each, kept) for each in function(how, some)]
    return RowLosses(*spread)  # type: ignore[arg-type] # None only where it may be


def _spread(values: Tensor, kept: Tensor) -> Tensor:
    """Return values at the places that are kept, and 0 at the others."""
    spread = torch.zeros_like(kept, dtype=torch.float64)
    spread[kept] = values
    return spread
